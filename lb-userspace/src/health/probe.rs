//! One question to one task.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};

use crate::model::Probe;

/// Most bytes of a response that are looked at; the status stands in the first.
const MAX_RESPONSE: usize = 16 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("no connection: {0}")]
    Connect(io::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("no HTTP answer: {0}")]
    Http(hyper::Error),
    #[error("cannot ask for this path: {0}")]
    Request(hyper::http::Error),
    #[error("answered {0}")]
    Status(u16),
}

/// Asks once; all of it has `timeout`.
pub async fn probe(target: SocketAddr, probe: &Probe, timeout: Duration) -> Result<(), ProbeError> {
    let asked = async {
        let stream = connect(target).await.map_err(ProbeError::Connect)?;
        match probe {
            Probe::Tcp => Ok(()),
            Probe::Http { path } => get(stream, target, path).await,
        }
    };
    tokio::time::timeout(timeout, asked)
        .await
        .unwrap_or(Err(ProbeError::Timeout(timeout)))
}

/// A task at an address of this node itself is asked by the loopback: Portico leaves a socket that is bound there alone, which
/// it might otherwise lead to another of the service's tasks when this one does not listen.
async fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let (socket, loopback): (_, IpAddr) = match target {
        SocketAddr::V4(_) => (TcpSocket::new_v4()?, Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(_) => (TcpSocket::new_v6()?, Ipv6Addr::LOCALHOST.into()),
    };
    if is_own(target.ip()) {
        socket.bind((loopback, 0).into())?;
    }
    socket.connect(target).await
}

/// Whether it is an address of this node: then that is what the kernel would ask from, too. Nothing is sent.
fn is_own(address: IpAddr) -> bool {
    const DISCARD: u16 = 9;
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((address, DISCARD))?;
        socket.local_addr()
    };
    source().is_ok_and(|source| source.ip() == address)
}

async fn get(stream: TcpStream, target: SocketAddr, path: &str) -> Result<(), ProbeError> {
    let request = Request::get(path)
        .header(header::HOST, target.to_string())
        .header(
            header::USER_AGENT,
            concat!("portico-health/", env!("CARGO_PKG_VERSION")),
        )
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(ProbeError::Request)?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_RESPONSE)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(ProbeError::Http)?;
    let response = sender.send_request(request);
    tokio::pin!(response);
    // The connection is driven here rather than in a task of its own, so that it ends with the probe. Where it ends
    // first, the answer or the reason why there is none has been handed over.
    let response = tokio::select! {
        response = &mut response => response,
        _ = connection => response.await,
    };
    let status = response.map_err(ProbeError::Http)?.status();
    match status.as_u16() {
        200..=399 => Ok(()),
        other => Err(ProbeError::Status(other)),
    }
}
