//! A connection between two agents that know each other. It ends by itself when the trust it was made on does.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;
use tonic::transport::server::Connected;

use super::certificates::Certificates;
use super::identity::Identity;
use super::peer::Peer;
use super::refusal::Refusal;

pub struct Link {
    stream: TlsStream<TcpStream>,
    peer: Arc<Peer>,
    /// What the connection must not outlive.
    end: Pin<Box<dyn Future<Output = &'static str> + Send>>,
    broken: Broken,
}

/// Why a connection broke, as far as that is about trust: the layers above do not pass it on.
pub type Broken = Arc<OnceLock<Refusal>>;

impl Link {
    /// A connection that ends with `end`, with the validity of the other side's certificate, or when the authorities that it
    /// was made with are not believed any more. `token` is dropped with it.
    pub fn new(
        stream: TlsStream<TcpStream>,
        identity: Arc<Identity>,
        certificates: Certificates,
        end: impl Future<Output = ()> + Send + 'static,
        token: impl Send + 'static,
    ) -> Result<Self, Refusal> {
        let shown = stream.get_ref().1.peer_certificates();
        let first = shown.and_then(<[_]>::first).ok_or(Refusal::NoCertificate)?;
        let peer = Arc::new(Peer::of(first)?);
        let until = peer.until;
        let end = async move {
            let _held = token;
            tokio::select! {
                () = end => "this end of it is closed",
                () = certificates.distrusted(identity) => "the swarm has other authorities now",
                () = expired(until) => "the certificate it was made with has expired",
            }
        };
        Ok(Self {
            stream,
            peer,
            end: Box::pin(end),
            broken: Broken::default(),
        })
    }

    pub fn broken(&self) -> Broken {
        Arc::clone(&self.broken)
    }

    /// Where the other side refuses, it does so after the handshake (RFC 8446, 4.4.2.4).
    fn note<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result
            && let Some(refusal) = Refusal::behind(error)
        {
            // The first is the reason for all later ones.
            let _ = self.broken.set(refusal);
        }
        result
    }

    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }
}

/// By the clock of the machine, which may be set.
async fn expired(until: SystemTime) {
    const LOOK: Duration = Duration::from_secs(60);
    while let Ok(left) = until.duration_since(SystemTime::now()) {
        tokio::time::sleep(left.min(LOOK) + Duration::from_millis(1)).await;
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(why) = self.end.as_mut().poll(context) {
            // It is not to be asked again.
            self.end = Box::pin(std::future::ready(why));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, why)));
        }
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        // Agents that stop do so without a word: TLS makes more of it than it is.
        let read = read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "the other side has closed it"),
            _ => error,
        });
        self.note(read)
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connected for Link {
    type ConnectInfo = Arc<Peer>;

    fn connect_info(&self) -> Self::ConnectInfo {
        Arc::clone(&self.peer)
    }
}
