//! A client's connection as it leaves for another node.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::carry::{Breach, Passed, carry};
use super::wire::Wire;

/// A connection to a task on another node. Its end is told by reading nothing; the end of this side by shutting it down, and
/// reading goes on. One that is dropped before both sides have ended is reset, and so is the task's.
#[derive(Debug)]
pub struct Relayed {
    tls: TlsStream<Wire>,
    /// This side has said all.
    said: bool,
    /// The other one has.
    heard: bool,
}

impl Relayed {
    pub(super) fn new(tls: TlsStream<Wire>) -> Self {
        Self {
            tls,
            said: false,
            heard: false,
        }
    }

    /// Carries between the client and the task until both have said all. Where that is not how it ends, both are reset.
    pub async fn carry(mut self, client: &TcpStream, moved: &Passed) -> Result<(), Breach> {
        let outcome = carry(&mut self.tls, client, moved).await;
        (self.said, self.heard) = (outcome.is_ok(), outcome.is_ok());
        outcome
    }

    #[cfg(test)]
    pub fn is_resumed(&self) -> bool {
        self.tls.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }
}

impl AsyncRead for Relayed {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.tls).poll_read(cx, buffer);
        if let Poll::Ready(Ok(())) = read {
            this.heard |= buffer.filled().len() == before && buffer.remaining() > 0;
        }
        // It has ended without a word.
        read.map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => ErrorKind::ConnectionReset.into(),
            _ => error,
        })
    }
}

impl AsyncWrite for Relayed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tls).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tls).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.tls).poll_shutdown(cx);
        this.said |= matches!(shut, Poll::Ready(Ok(())));
        shut
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        if !(self.said && self.heard) {
            self.tls.get_ref().0.cut_off();
        }
    }
}
