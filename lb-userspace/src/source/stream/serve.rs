//! The manager's side: takes connections of nodes of the swarm, and tells them the newest picture.

mod lobby;
mod teller;

use std::io;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::certificates::Certificates;
use super::figures::Figures;
use super::limits;
use super::publisher::Publisher;
use super::wire::mesh_server::MeshServer;
use crate::door::{Door, Offer};
use lobby::Lobby;
use teller::Teller;

/// A stream that is being served. Dropping it ends all its connections.
pub struct Serving {
    _offer: Offer,
    /// Connections end when nobody holds it any more.
    _open: watch::Sender<()>,
    tasks: JoinSet<()>,
}

/// Serves what is published to nodes of the same swarm.
pub fn serve(
    door: &Door,
    certificates: Certificates,
    publisher: Publisher,
    figures: Arc<Figures>,
) -> Serving {
    let (open, closed) = watch::channel(());
    let (admitted, links) = mpsc::channel(1);
    let lobby = Lobby::new(certificates, Arc::clone(&figures), closed, admitted);
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
    tasks.spawn(async move {
        let links = ReceiverStream::new(links).map(Ok::<_, io::Error>);
        // Single connections end for themselves; the whole ends with the door.
        if let Err(error) = server.serve_with_incoming(links).await {
            tracing::error!("the stream to other agents has ended: {error}");
        }
    });
    Serving {
        _offer: door.offer(Arc::new(lobby)),
        _open: open,
        tasks,
    }
}

impl Serving {
    /// When nobody is served any more, which is not to happen.
    pub async fn ended(&mut self) {
        self.tasks.join_next().await;
    }
}
