//! The manager's side: takes connections of nodes of the swarm, and tells them the newest picture.

mod crowd;
mod door;
mod teller;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::certificates::Certificates;
use super::figures::Figures;
use super::limits;
use super::publisher::Publisher;
use super::wire::mesh_server::MeshServer;
use door::Door;
use teller::Teller;

/// A stream that is being served. Dropping it ends all its connections.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    /// Connections end when nobody holds it any more.
    _open: watch::Sender<()>,
    tasks: JoinSet<()>,
}

/// Serves what is published to nodes of the same swarm. Fails where the port cannot be had.
pub async fn serve(
    listen: SocketAddr,
    certificates: Certificates,
    publisher: Publisher,
    figures: Arc<Figures>,
) -> io::Result<Serving> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let (open, closed) = watch::channel(());
    let (admitted, links) = mpsc::channel(1);
    let door = Door::new(certificates, Arc::clone(&figures), closed);
    let teller = MeshServer::new(Teller::new(publisher, figures))
        .max_decoding_message_size(limits::REQUEST)
        .max_encoding_message_size(limits::UPDATE);
    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(limits::KEEPALIVE))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE))
        .http2_max_header_list_size(limits::HEADERS)
        .max_concurrent_streams(limits::STREAMS)
        .add_service(teller);
    let mut tasks = JoinSet::new();
    tasks.spawn(door.admit(listener, admitted));
    tasks.spawn(async move {
        let links = ReceiverStream::new(links).map(Ok::<_, io::Error>);
        // Single connections end for themselves; the whole ends with the door.
        if let Err(error) = server.serve_with_incoming(links).await {
            tracing::error!("the stream to other agents has ended: {error}");
        }
    });
    Ok(Serving {
        address,
        _open: open,
        tasks,
    })
}

impl Serving {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// When nobody is served any more, which is not to happen.
    pub async fn ended(&mut self) {
        self.tasks.join_next().await;
    }
}
