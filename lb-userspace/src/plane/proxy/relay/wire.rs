//! The TCP connection below the TLS of a relayed one.

use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use nix::sys::socket::{MsgFlags, recv};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::limits;
use crate::plane::proxy::socket::{attempt, cut_off};

/// Shared with whoever waits for its end while TLS reads and writes.
#[derive(Clone, Debug)]
pub struct Wire(Arc<Line>);

#[derive(Debug)]
struct Line {
    socket: TcpStream,
    /// The other side takes nothing more.
    is_cut: AtomicBool,
}

impl Wire {
    pub fn new(socket: TcpStream, keepalive: &TcpKeepalive) -> Self {
        let _ = socket.set_nodelay(true);
        let _ = SockRef::from(&socket).set_tcp_keepalive(keepalive);
        Self(Arc::new(Line {
            socket,
            is_cut: AtomicBool::new(false),
        }))
    }

    /// For datagrams: what waits in it is late, and one that the other side does not hear any more is soon known to be dead.
    pub fn hasten(&self) {
        let socket = SockRef::from(&self.0.socket);
        let _ = socket.set_tcp_notsent_lowat(limits::UNSENT);
        let _ = socket.set_tcp_user_timeout(Some(limits::UNHEARD));
    }

    /// Until it is reset or breaks. A side that has said all is not told of that by reading.
    pub async fn broken(self) {
        broken(&self.0.socket).await;
    }

    /// The other side shall see that it was cut off: it takes effect when the last handle is dropped.
    pub fn cut_off(&self) {
        cut_off(&self.0.socket);
    }

    /// Nothing more comes in.
    #[cfg(test)]
    pub fn kill(&self) {
        let _ = SockRef::from(&self.0.socket).shutdown(Shutdown::Both);
    }
}

/// Reads without waiting what the runtime does not know to be there: whoever writes to a connection may learn of its reset before that.
pub fn unannounced(socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?)
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
        let Line { socket, is_cut } = &*self.0;
        loop {
            let read = match socket.poll_read_ready(cx) {
                Poll::Ready(ready) => {
                    ready?;
                    attempt(|| socket.try_read(buffer.initialize_unfilled()))?
                }
                // What came before the reset.
                Poll::Pending if is_cut.load(Ordering::Relaxed) => {
                    Some(unannounced(socket, buffer.initialize_unfilled())?)
                }
                Poll::Pending => return Poll::Pending,
            };
            if let Some(read) = read {
                buffer.advance(read);
                return Poll::Ready(Ok(()));
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
        let Line { socket, is_cut } = &*self.0;
        loop {
            ready!(socket.poll_write_ready(cx))?;
            let sent = attempt(|| send(socket)).inspect_err(|_| is_cut.store(true, Ordering::Relaxed));
            if let Some(sent) = sent? {
                return Poll::Ready(Ok(sent));
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
        match SockRef::from(&self.0.socket).shutdown(Shutdown::Write) {
            Err(error) if error.kind() != ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;
    use crate::plane::proxy::socket::keepalive;

    #[tokio::test]
    async fn nodes_are_told_at_once_and_missed_when_they_vanish() {
        let silence = Duration::from_secs(77);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let connected = TcpStream::connect(listener.local_addr().unwrap()).await;
        let wire = Wire::new(connected.unwrap(), &keepalive(silence));
        let socket = SockRef::from(&wire.0.socket);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), silence);
    }
}
