//! Frames through a connection, both ways at once: what waits in the queue goes out in as few writes as the connection takes,
//! and what has come in is handed over together.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::queue::Queue;

/// A connection to another node.
pub trait Link: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Link for T {}

/// Bytes that are handed over together: what is read goes on before there is more.
const BATCH: usize = 128 << 10;
/// Room for one read: a record of TLS.
const READ: usize = 16 << 10;

pub struct Pump<S> {
    link: S,
    /// Taken from the queue, and how much of it the connection has.
    sending: Vec<u8>,
    sent: usize,
    /// Arrived, and not consumed.
    arrived: Vec<u8>,
}

impl<S: Link> Pump<S> {
    pub fn new(link: S) -> Self {
        Self {
            link,
            sending: Vec::new(),
            sent: 0,
            arrived: Vec::new(),
        }
    }

    /// Sends until something has arrived; false: the other side has said all. Can be dropped and called again.
    pub async fn turn(&mut self, queue: &Queue) -> io::Result<bool> {
        poll_fn(|context| self.poll(context, queue)).await
    }

    pub fn arrived(&self) -> &[u8] {
        &self.arrived
    }

    /// So much of what has arrived is done with.
    pub fn consume(&mut self, length: usize) {
        self.arrived.drain(..length);
    }

    /// Says that nothing more comes.
    pub async fn end(mut self) -> io::Result<()> {
        self.link.shutdown().await
    }

    fn poll(&mut self, context: &mut Context<'_>, queue: &Queue) -> Poll<io::Result<bool>> {
        self.send(context, queue)?;
        if queue.is_overfull() {
            // Woken when the connection has taken something.
            return Poll::Pending;
        }
        let before = self.arrived.len();
        while self.arrived.len() - before < BATCH {
            self.arrived.reserve(READ);
            match pin!(self.link.read_buf(&mut self.arrived)).poll(context)? {
                Poll::Ready(0) if self.arrived.len() == before => return Poll::Ready(Ok(false)),
                // An end is met again.
                Poll::Ready(0) | Poll::Pending => break,
                Poll::Ready(_) => {}
            }
        }
        if self.arrived.len() > before {
            Poll::Ready(Ok(true))
        } else {
            Poll::Pending
        }
    }

    /// As much as goes now.
    fn send(&mut self, context: &mut Context<'_>, queue: &Queue) -> io::Result<()> {
        loop {
            if self.sent == self.sending.len() {
                self.sending.clear();
                self.sent = 0;
                if !queue.take(context, &mut self.sending) {
                    break;
                }
            }
            let rest = &self.sending[self.sent..];
            match Pin::new(&mut self.link).poll_write(context, rest)? {
                Poll::Ready(0) => return Err(ErrorKind::WriteZero.into()),
                Poll::Ready(sent) => self.sent += sent,
                Poll::Pending => return Ok(()),
            }
        }
        match Pin::new(&mut self.link).poll_flush(context) {
            Poll::Ready(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }
}
