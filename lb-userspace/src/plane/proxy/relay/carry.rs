//! Bytes between the TLS of another node and a task, both ways, until both have said all.
//!
//! An end (close_notify there, FIN here) is passed on after everything before it, and the other way goes on. A reset, or a TCP
//! connection that ends without close_notify, becomes a reset of the other side: nobody takes half an answer for a whole one.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::wire::{Wire, broken, cut_off};

/// Read from a task at a time: two records of TLS.
const PORTION: usize = 32 << 10;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; PORTION].into());
}

/// Who ended a connection before it was through.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("the other node: {0}")]
    Node(io::Error),
    #[error("the task: {0}")]
    Task(io::Error),
}

/// Carries to the end. Where it is not a good one, both sides are reset when they are dropped.
pub async fn carry(node: &mut TlsStream<Wire>, task: &TcpStream) -> Result<(), Broken> {
    let wire = node.get_ref().0.clone();
    let mut carrying = Carrying {
        node,
        task,
        said: false,
        held: Bytes::new(),
        ended: [false; 2],
    };
    let both = poll_fn(|cx| carrying.poll(cx));
    let outcome = tokio::select! {
        // What arrived before a reset is read before it.
        biased;
        outcome = both => outcome,
        () = wire.clone().broken() => Err(Broken::Node(ErrorKind::ConnectionReset.into())),
        () = broken(task) => Err(Broken::Task(ErrorKind::ConnectionReset.into())),
    };
    if outcome.is_err() {
        wire.cut_off();
        cut_off(task);
    }
    outcome
}

struct Carrying<'a> {
    node: &'a mut TlsStream<Wire>,
    task: &'a TcpStream,
    /// The task has said all.
    said: bool,
    /// Of what it has said, what TLS could not take yet.
    held: Bytes,
    /// To the task, to the other node.
    ended: [bool; 2],
}

impl Carrying<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if !self.ended[0] {
            self.ended[0] = self.tell_task(cx)?.is_ready();
        }
        if !self.ended[1] {
            self.ended[1] = self.tell_node(cx)?.is_ready();
        }
        if self.ended == [true; 2] {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// Ready when the end has been passed on.
    fn tell_task(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            let bytes = ready!(Pin::new(&mut *self.node).poll_fill_buf(cx)).map_err(Broken::Node)?;
            if bytes.is_empty() {
                // One that is gone meanwhile is told of by its own way.
                let _ = SockRef::from(self.task).shutdown(Shutdown::Write);
                return Poll::Ready(Ok(()));
            }
            ready!(self.task.poll_write_ready(cx)).map_err(Broken::Task)?;
            if let Some(sent) = attempt(|| self.task.try_write(bytes)).map_err(Broken::Task)? {
                Pin::new(&mut *self.node).consume(sent);
            }
        }
    }

    /// As [`tell_task`](Self::tell_task).
    fn tell_node(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            if !self.held.is_empty() {
                let node = Pin::new(&mut *self.node);
                let sent = ready!(node.poll_write(cx, &self.held)).map_err(Broken::Node)?;
                self.held.advance(sent);
                continue;
            }
            if self.said {
                return Pin::new(&mut *self.node).poll_shutdown(cx).map_err(Broken::Node);
            }
            match self.task.poll_read_ready(cx) {
                Poll::Ready(ready) => ready.map_err(Broken::Task)?,
                Poll::Pending => {
                    // What TLS has taken and the wire has not.
                    if let Poll::Ready(Err(error)) = Pin::new(&mut *self.node).poll_flush(cx) {
                        return Poll::Ready(Err(Broken::Node(error)));
                    }
                    return Poll::Pending;
                }
            }
            self.portion(cx)?;
        }
    }

    /// Reads once and writes once.
    fn portion(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        SHARED.with_borrow_mut(|buffer| {
            let Some(read) = attempt(|| self.task.try_read(buffer)).map_err(Broken::Task)? else {
                return Ok(());
            };
            if read == 0 {
                self.said = true;
                return Ok(());
            }
            let sent = match Pin::new(&mut *self.node).poll_write(cx, &buffer[..read]) {
                Poll::Ready(sent) => sent.map_err(Broken::Node)?,
                Poll::Pending => 0,
            };
            self.held = Bytes::copy_from_slice(&buffer[sent..read]);
            Ok(())
        })
    }
}

/// Nothing: it would block.
fn attempt<T>(io: impl FnOnce() -> io::Result<T>) -> io::Result<Option<T>> {
    match io() {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
