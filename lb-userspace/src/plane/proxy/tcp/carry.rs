//! Bytes between a client and a task, both ways, until both have said all.
//!
//! While nothing moves a connection has its two sockets and nothing else: no pipe, no buffer, no timer, and no task of the runtime is
//! woken for it. What comes in small portions goes through the one buffer of its worker (a read and a write); where a portion is
//! large the kernel moves pages by `splice` through a pipe of the pool, until the sender has nothing more for now. A sender whose
//! portions are large goes on with a pipe the next time. Without a pipe (no descriptor is left, or the kernel refuses `splice`) what
//! is large goes through the buffer, too.

use std::cell::RefCell;
use std::io::{self, Read};
use std::mem;
use std::net::{Shutdown, TcpStream};

use bytes::{Buf, Bytes};
use nix::sys::epoll::EpollFlags;
use socket2::SockRef;

use super::pipe::{self, Pipe};
use crate::plane::proxy::socket::attempt;

/// The buffer of a worker.
const BUFFER: usize = 64 << 10;
/// A portion as large as this announces more: from here on `splice` costs less than copying.
const LARGE: usize = 16 << 10;
/// Portions of one way in a turn: others wait as well.
const PORTIONS: usize = 16;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// What has gone through a connection so far, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    pub to_task: u64,
    pub to_client: u64,
}

/// Who ended a connection before it was through.
#[derive(Debug)]
pub enum Broken {
    Client(io::Error),
    Task(io::Error),
    /// This node has no descriptor or memory left for it.
    Here(io::Error),
}

/// How a turn has ended.
#[derive(Debug)]
pub enum Turn {
    /// Nothing moves until there is news.
    Rests,
    /// There is more to do, and no news will come of it.
    GoesOn,
    /// Each side has said all and heard all. The last end is passed on by whoever closes both, which is to be done at once.
    Over,
}

/// One side, and what the kernel has told of it, which it does once (EPOLLET).
#[derive(Debug)]
pub struct Side {
    socket: TcpStream,
    /// There may be something to read.
    is_readable: bool,
    /// There may be room for more.
    is_writable: bool,
    /// It has ended, for good or not: whoever has read what there is reads that, too.
    has_closed: bool,
    /// It has been reset, or is missed.
    has_failed: bool,
}

impl Side {
    /// What is told of a side.
    pub const NEWS: EpollFlags = EpollFlags::EPOLLIN
        .union(EpollFlags::EPOLLOUT)
        .union(EpollFlags::EPOLLRDHUP)
        .union(EpollFlags::EPOLLET);

    /// One that nothing is known of.
    pub const fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            is_readable: false,
            is_writable: false,
            has_closed: false,
            has_failed: false,
        }
    }

    pub const fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Takes news.
    pub fn hear(&mut self, news: EpollFlags) {
        let is_over = news.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
        self.has_failed |= news.contains(EpollFlags::EPOLLERR);
        self.has_closed |= is_over || news.contains(EpollFlags::EPOLLRDHUP);
        self.is_readable |= self.has_closed || news.contains(EpollFlags::EPOLLIN);
        self.is_writable |= is_over || news.contains(EpollFlags::EPOLLOUT);
    }

    /// Whether it is connected, or will never be.
    pub const fn is_decided(&self) -> bool {
        self.is_writable
    }

    /// Nothing: there is nothing to read for now.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let read = attempt(|| (&self.socket).read(buffer))?;
        self.is_readable = read.is_some();
        Ok(read)
    }

    /// What has become of it, for one that is not read from any more. The kernel says so once.
    fn failure(&self) -> Option<io::Error> {
        if !self.has_failed {
            return None;
        }
        self.socket.take_error().unwrap_or_else(Some)
    }

    /// A short read took all there was: the next look waits for news, and the kernel is not asked in vain.
    const fn drained(&mut self) {
        self.is_readable = self.has_closed;
    }

    /// How many bytes it has taken.
    pub fn send(&mut self, bytes: &[u8], flags: libc::c_int) -> io::Result<usize> {
        let flags = flags | libc::MSG_NOSIGNAL;
        let sent = attempt(|| SockRef::from(&self.socket).send_with_flags(bytes, flags))?;
        self.is_writable = sent.is_some();
        Ok(sent.unwrap_or(0))
    }
}

/// A client, and what is on its way between it and its task.
#[derive(Debug)]
pub struct Exchange {
    pub client: Side,
    up: Way,
    down: Way,
}

impl Exchange {
    pub fn new(client: Side) -> Self {
        Self {
            client,
            up: Way::default(),
            down: Way::default(),
        }
    }

    pub const fn moved(&self) -> Moved {
        Moved {
            to_task: self.up.moved,
            to_client: self.down.moved,
        }
    }

    /// Moves what there is. Where it fails both sides are to be cut off, so that nobody takes half an answer for a whole one.
    ///
    /// A side that says no more (FIN) goes on listening; its end is passed on once everything before it has been.
    pub fn turn(&mut self, task: &mut Side) -> Result<Turn, Broken> {
        let Self { client, up, down } = self;
        let upward = up.turn(client, task, down.has_ended());
        if let Err(Fault::Receiver(_)) = upward {
            down.last_words(task, client);
        }
        let upward = upward.map_err(|fault| fault.told(Broken::Client, Broken::Task))?;
        let downward = down
            .turn(task, client, up.has_ended())
            .map_err(|fault| fault.told(Broken::Task, Broken::Client))?;
        if up.has_ended() && down.has_ended() {
            return Ok(Turn::Over);
        }
        // One that has said all fails without a word, while the other one may take its time.
        if up.has_ended()
            && let Some(error) = client.failure()
        {
            return Err(Broken::Client(error));
        }
        if down.has_ended()
            && let Some(error) = task.failure()
        {
            return Err(Broken::Task(error));
        }
        Ok(if upward || downward {
            Turn::GoesOn
        } else {
            Turn::Rests
        })
    }
}

/// One of the two ways.
#[derive(Debug, Default)]
struct Way {
    load: Load,
    /// The sender has said all.
    said: bool,
    /// The last portion was large.
    is_bulk: bool,
    /// Bytes.
    moved: u64,
}

/// What is on its way.
#[derive(Debug, Default)]
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
}

impl Fault {
    fn told(self, sender: fn(io::Error) -> Broken, receiver: fn(io::Error) -> Broken) -> Broken {
        match self {
            Self::Sender(error) => sender(error),
            Self::Receiver(error) => receiver(error),
        }
    }
}

impl Way {
    const fn has_ended(&self) -> bool {
        matches!(self.load, Load::End)
    }

    /// Moves what there is; true: there is more, but others wait. `is_last`: the other way has ended.
    fn turn(&mut self, from: &mut Side, to: &mut Side, is_last: bool) -> Result<bool, Fault> {
        let mut portions = PORTIONS;
        loop {
            match &mut self.load {
                Load::End => return Ok(false),
                Load::Nothing if self.said => {
                    if !is_last {
                        // One that is gone meanwhile is told of by its own way.
                        let _ = to.socket.shutdown(Shutdown::Write);
                    }
                    self.load = Load::End;
                }
                Load::Nothing if !from.is_readable => return Ok(false),
                Load::Nothing if self.is_bulk => {
                    self.is_bulk = false;
                    self.take_pipe();
                }
                Load::Nothing if portions == 0 => return Ok(true),
                Load::Nothing => {
                    portions -= 1;
                    self.portion(from, to)?;
                }
                Load::Rest(_) | Load::Pages(_) if !to.is_writable => return Ok(false),
                Load::Rest(rest) => {
                    let sent = to.send(rest, 0).map_err(Fault::Receiver)?;
                    self.moved += sent as u64;
                    rest.advance(sent);
                    if rest.is_empty() {
                        self.load = Load::Nothing;
                    }
                }
                Load::Pages(_) if portions == 0 => return Ok(true),
                Load::Pages(_) => {
                    portions -= 1;
                    self.pages(from, to)?;
                }
            }
        }
    }

    /// Without one the next portion goes through the buffer.
    fn take_pipe(&mut self) {
        if let Some(pipe) = Pipe::take() {
            self.load = Load::Pages(pipe);
        }
    }

    /// Reads and writes once.
    fn portion(&mut self, from: &mut Side, to: &mut Side) -> Result<(), Fault> {
        SHARED.with_borrow_mut(|buffer| {
            let Some(mut read) = from.read(buffer).map_err(Fault::Sender)? else {
                return Ok(());
            };
            if read == 0 {
                self.said = true;
                return Ok(());
            }
            let mut broken = None;
            // Of a short connection this is half of its packets; one that goes on shall not pay for the look.
            let is_first = self.moved == 0;
            if is_first && read < buffer.len() && from.has_closed {
                match from.read(&mut buffer[read..]) {
                    Ok(Some(0)) => self.said = true,
                    Ok(more) => read += more.unwrap_or(0),
                    // The kernel says so once.
                    Err(error) => broken = Some(Fault::Sender(error)),
                }
            }
            let portion = &buffer[..read];
            // With the end that follows in one segment.
            let flags = if self.said { libc::MSG_MORE } else { 0 };
            let sent = to.send(portion, flags).map_err(Fault::Receiver)?;
            self.moved += sent as u64;
            if let Some(broken) = broken {
                return Err(broken);
            }
            if sent < read {
                self.load = Load::Rest(Bytes::copy_from_slice(&portion[sent..]));
            } else if self.said {
                // Nothing is behind it.
            } else if read >= LARGE {
                self.take_pipe();
            } else {
                from.drained();
            }
            Ok(())
        })
    }

    /// Passes on what a sender has said that does not hear the other one out, as servers refuse what is too large: whoever writes to it
    /// learns of its reset, and may do so before there is news of something to read.
    fn last_words(&mut self, from: &mut Side, to: &mut Side) {
        if !matches!(self.load, Load::Nothing) {
            return;
        }
        SHARED.with_borrow_mut(|buffer| {
            // Nobody is left to tell of an error.
            if let Ok(Some(read)) = from.read(buffer) {
                self.moved += to.send(&buffer[..read], 0).unwrap_or(0) as u64;
            }
        });
    }

    /// Fills and empties the pipe once, and gives it back when nothing more is to go through it.
    fn pages(&mut self, from: &mut Side, to: &mut Side) -> Result<(), Fault> {
        let Load::Pages(pipe) = &mut self.load else {
            return Ok(());
        };
        if !self.said && from.is_readable && pipe.has_room() {
            match attempt(|| pipe.fill(&from.socket)) {
                Ok(Some(0)) => self.said = true,
                Ok(Some(_)) => {}
                // With bytes in it, it may be the pipe that is full: many small segments take all of its places.
                Ok(None) if pipe.is_empty() => from.is_readable = false,
                Ok(None) => {}
                Err(error) if pipe.is_empty() && pipe::is_refusal(&error) => {
                    self.load = Load::Nothing;
                    return Ok(());
                }
                Err(error) => return Err(Fault::Sender(error)),
            }
        }
        if !pipe.is_empty() {
            match attempt(|| pipe.empty(&to.socket)).map_err(Fault::Receiver)? {
                Some(sent) => self.moved += sent as u64,
                None => to.is_writable = false,
            }
        }
        if pipe.is_empty() && (self.said || !from.is_readable) {
            self.is_bulk = pipe.through() >= LARGE;
            if let Load::Pages(pipe) = mem::take(&mut self.load) {
                pipe.give();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
