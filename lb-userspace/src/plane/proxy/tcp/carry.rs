//! Bytes between a client and a task, both ways, until both have said all.
//!
//! While nothing moves a connection has its two sockets and nothing else: no pipe, no buffer, no timer. What comes in small
//! portions goes through the one buffer of its worker (a read and a write); where a portion is large the kernel moves
//! pages by `splice` through a pipe of the pool, until the sender has nothing more for now. A sender whose portions are large goes
//! on with a pipe the next time.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use nix::sys::socket::{MsgFlags, recv};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::pipe::Pipe;
use crate::plane::proxy::socket::attempt;

/// The buffer of a worker.
const BUFFER: usize = 64 << 10;
/// A portion as large as this announces more: from here on `splice` costs less than copying.
const LARGE: usize = 16 << 10;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// What has gone through a connection so far, in bytes.
#[derive(Debug, Default)]
pub struct Moved {
    pub to_task: Cell<u64>,
    pub to_client: Cell<u64>,
}

/// Who ended a connection before it was through.
#[derive(Debug)]
pub enum Broken {
    Client(io::Error),
    Task(io::Error),
    /// This node has no pipe or memory left for it.
    Here(io::Error),
}

/// Carries until each side has said all, or one is broken: then both are to be reset, so that nobody takes half an answer for a
/// whole one.
///
/// A side that says no more (FIN) goes on listening; its end is passed on once everything before it has been. The last end is passed on
/// by whoever closes both, which is to be done at once.
pub async fn carry(client: &TcpStream, task: &TcpStream, moved: &Moved) -> Result<(), Broken> {
    let (mut up, mut down) = (Way::new(&moved.to_task), Way::new(&moved.to_client));
    poll_fn(|cx| {
        let up = up.poll(cx, client, task, down.has_ended());
        if let Poll::Ready(Err(Fault::Receiver(_))) = up {
            down.last_words(task, client);
        }
        let up = up.map_err(|fault| fault.told(Broken::Client, Broken::Task))?;
        let down = down
            .poll(cx, task, client, up.is_ready())
            .map_err(|fault| fault.told(Broken::Task, Broken::Client))?;
        if up.is_ready() && down.is_ready() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await
}

/// One of the two ways.
struct Way<'m> {
    load: Load,
    /// The sender has said all.
    said: bool,
    /// The last portion was large.
    is_bulk: bool,
    moved: &'m Cell<u64>,
}

/// What is on its way.
#[derive(Default)]
enum Load {
    #[default]
    Nothing,
    /// What the receiver could not take yet of a portion.
    Rest(Bytes),
    Pages(Pipe),
    /// The end, passed on.
    End,
}

/// Where a way is broken.
enum Fault {
    Sender(io::Error),
    Receiver(io::Error),
    Here(io::Error),
}

impl Fault {
    fn told(self, sender: fn(io::Error) -> Broken, receiver: fn(io::Error) -> Broken) -> Broken {
        match self {
            Self::Sender(error) => sender(error),
            Self::Receiver(error) => receiver(error),
            Self::Here(error) => Broken::Here(error),
        }
    }
}

impl<'m> Way<'m> {
    fn new(moved: &'m Cell<u64>) -> Self {
        Self {
            load: Load::Nothing,
            said: false,
            is_bulk: false,
            moved,
        }
    }

    const fn has_ended(&self) -> bool {
        matches!(self.load, Load::End)
    }

    /// Moves what there is; ready once the end has been passed on. `is_last`: the other way has ended.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
        is_last: bool,
    ) -> Poll<Result<(), Fault>> {
        loop {
            match &mut self.load {
                Load::End => return Poll::Ready(Ok(())),
                Load::Nothing if self.said => {
                    if !is_last {
                        // One that is gone meanwhile is told of by its own way.
                        let _ = SockRef::from(to).shutdown(Shutdown::Write);
                    }
                    self.load = Load::End;
                }
                Load::Nothing => {
                    ready!(from.poll_read_ready(cx)).map_err(Fault::Sender)?;
                    if self.is_bulk {
                        self.load = Load::Pages(Pipe::take().map_err(Fault::Here)?);
                    } else {
                        self.portion(from, to)?;
                    }
                }
                Load::Rest(rest) => {
                    ready!(to.poll_write_ready(cx)).map_err(Fault::Receiver)?;
                    let Some(sent) = attempt(|| to.try_write(rest)).map_err(Fault::Receiver)? else {
                        continue;
                    };
                    self.moved.set(self.moved.get() + sent as u64);
                    rest.advance(sent);
                    if rest.is_empty() {
                        self.load = Load::Nothing;
                    }
                }
                Load::Pages(_) => ready!(self.pages(cx, from, to))?,
            }
        }
    }

    /// Reads and writes once.
    fn portion(&mut self, from: &TcpStream, to: &TcpStream) -> Result<(), Fault> {
        SHARED.with_borrow_mut(|buffer| {
            let Some(mut read) = attempt(|| from.try_read(buffer)).map_err(Fault::Sender)? else {
                return Ok(());
            };
            if read == 0 {
                self.said = true;
                return Ok(());
            }
            let mut broken = None;
            // Of a short connection this is half of its packets; one that goes on shall not pay for the look.
            let is_first = self.moved.get() == 0;
            if is_first && read < buffer.len() && has_closed(from) {
                match attempt(|| from.try_read(&mut buffer[read..])) {
                    Ok(Some(0)) => self.said = true,
                    Ok(more) => read += more.unwrap_or(0),
                    // The kernel says so once.
                    Err(error) => broken = Some(Fault::Sender(error)),
                }
            }
            let portion = &buffer[..read];
            let sent = if self.said {
                // With the end that follows in one segment.
                let flags = libc::MSG_MORE | libc::MSG_NOSIGNAL;
                let send = || SockRef::from(to).send_with_flags(portion, flags);
                attempt(|| to.try_io(Interest::WRITABLE, send))
            } else {
                attempt(|| to.try_write(portion))
            };
            let sent = sent.map_err(Fault::Receiver)?.unwrap_or(0);
            self.moved.set(self.moved.get() + sent as u64);
            if let Some(broken) = broken {
                return Err(broken);
            }
            if sent < read {
                self.load = Load::Rest(Bytes::copy_from_slice(&buffer[sent..read]));
            } else if self.said {
                // Nothing is behind it.
            } else if read >= LARGE {
                self.load = Load::Pages(Pipe::take().map_err(Fault::Here)?);
            } else {
                drained(from);
            }
            Ok(())
        })
    }

    /// Passes on what a sender has said that does not hear the other one out, as servers refuse what is too large: whoever writes to it
    /// learns of its reset, and may do so before the runtime knows that there is something to read.
    fn last_words(&mut self, from: &TcpStream, to: &TcpStream) {
        if !matches!(self.load, Load::Nothing) {
            return;
        }
        SHARED.with_borrow_mut(|buffer| {
            let read = recv(from.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT).unwrap_or(0);
            // Nobody is left to tell of an error.
            let sent = to.try_write(&buffer[..read]).unwrap_or(0);
            self.moved.set(self.moved.get() + sent as u64);
        });
    }

    /// Fills and empties the pipe; ready when it is given back.
    fn pages(&mut self, cx: &mut Context<'_>, from: &TcpStream, to: &TcpStream) -> Poll<Result<(), Fault>> {
        let Load::Pages(pipe) = &mut self.load else {
            return Poll::Ready(Ok(()));
        };
        loop {
            let mut silent = self.said;
            if !self.said && pipe.has_room() {
                match from.poll_read_ready(cx) {
                    Poll::Pending => silent = true,
                    Poll::Ready(ready) => {
                        ready.map_err(Fault::Sender)?;
                        let empty = pipe.is_empty();
                        match attempt(|| pipe.fill(from)).map_err(Fault::Sender)? {
                            Some(0) => self.said = true,
                            Some(_) => {}
                            // With bytes in it, it may be the pipe that is full: many small segments take all of its places.
                            None if empty => {
                                drained(from);
                                silent = true;
                            }
                            None => {}
                        }
                    }
                }
            }
            if pipe.is_empty() {
                if !silent && !self.said {
                    continue;
                }
                self.is_bulk = pipe.through() >= LARGE;
                if let Load::Pages(pipe) = mem::take(&mut self.load) {
                    pipe.give();
                }
                return Poll::Ready(Ok(()));
            }
            ready!(to.poll_write_ready(cx)).map_err(Fault::Receiver)?;
            match to.try_io(Interest::WRITABLE, || pipe.empty(to)) {
                Ok(sent) => self.moved.set(self.moved.get() + sent as u64),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(Fault::Receiver(error))),
            }
        }
    }
}

/// Whether the sender's end has come, as far as the kernel has told.
fn has_closed(stream: &TcpStream) -> bool {
    let ready = stream.ready(Interest::READABLE).now_or_never();
    matches!(ready, Some(Ok(ready)) if ready.is_read_closed())
}

/// A short read took all there was: the next look waits for news, and the kernel is not asked in vain. The end of a stream is
/// remembered all the same.
fn drained(stream: &TcpStream) {
    let _ = stream.try_io(Interest::READABLE, || Err::<(), _>(ErrorKind::WouldBlock.into()));
}
