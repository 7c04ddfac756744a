//! The TCP connection below the TLS of a relayed one.

use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::limits;
use crate::plane::proxy::socket::cut_off;

/// Shared with whoever waits for its end while TLS reads and writes.
#[derive(Clone, Debug)]
pub struct Wire(Arc<TcpStream>);

impl Wire {
    pub fn new(socket: TcpStream, keepalive: &TcpKeepalive) -> Self {
        let _ = socket.set_nodelay(true);
        let _ = SockRef::from(&socket).set_tcp_keepalive(keepalive);
        Self(Arc::new(socket))
    }

    /// For datagrams: what waits in it is late, and one that the other side does not hear any more is soon known to be dead.
    pub fn hasten(&self) {
        let socket = SockRef::from(&*self.0);
        let _ = socket.set_tcp_notsent_lowat(limits::UNSENT);
        let _ = socket.set_tcp_user_timeout(Some(limits::UNHEARD));
    }

    /// Until it is reset or breaks. A side that has said all is not told of that by reading.
    pub async fn broken(self) {
        broken(&self.0).await;
    }

    /// The other side shall see that it was cut off: it takes effect when the last handle is dropped.
    pub fn cut_off(&self) {
        cut_off(&self.0);
    }

    /// Nothing more comes in.
    #[cfg(test)]
    pub fn kill(&self) {
        let _ = SockRef::from(&*self.0).shutdown(Shutdown::Both);
    }
}

/// Until a connection is reset or breaks.
pub async fn broken(socket: &TcpStream) {
    let _ = socket.ready(Interest::ERROR).await;
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Wire {
    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        mut send: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match send(&self.0) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, |socket| socket.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, |socket| socket.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match SockRef::from(&*self.0).shutdown(Shutdown::Write) {
            Err(error) if error.kind() != ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}
