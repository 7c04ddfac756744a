//! One connection to one manager's agent, from the first packet to the last.

use std::convert::Infallible;
use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use super::{Connection, FollowReport};
use crate::model::Desired;
use crate::source::stream::certificates::Certificates;
use crate::source::stream::figures::Figures;
use crate::source::stream::held::{Held, Unusable};
use crate::source::stream::identity::Identity;
use crate::source::stream::limits;
use crate::source::stream::link::Link;
use crate::source::stream::peer::Role;
use crate::source::stream::publisher::bytes_of;
use crate::source::stream::refusal::Refusal;
use crate::source::stream::wire::mesh_client::MeshClient;
use crate::source::stream::wire::{FollowRequest, Update};

/// Within which followers come back with a renewed certificate, each at another moment.
const LEISURE: Duration = Duration::from_secs(30);

pub struct Attempt<'a> {
    pub manager: SocketAddr,
    pub node: &'a str,
    pub identity: Arc<Identity>,
    pub certificates: &'a Certificates,
    pub managers: &'a watch::Receiver<Vec<SocketAddr>>,
    pub figures: &'a Figures,
    pub tell: &'a watch::Sender<Option<Arc<Desired>>>,
    pub say: &'a watch::Sender<FollowReport>,
}

/// Why it is over.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Refusal(Refusal),
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("no answer within {} s", .0.as_secs())]
    Slow(Duration),
    #[error("an update that cannot be used: {0}")]
    Unusable(Unusable),
    #[error("{0}")]
    Status(String),
    #[error("it has ended the stream")]
    Ended,
    #[error("it is not a manager any more")]
    Unlisted,
    #[error("this node has a new certificate")]
    Leisure,
}

impl Attempt<'_> {
    /// Follows until it is over.
    pub async fn run(&self, held: &mut Held) -> Failure {
        let link = match self.connect().await {
            Ok(link) => link,
            Err(failure) => return failure,
        };
        let broken = link.broken();
        let Err(failure) = self.follow(link, held).await;
        match broken.get() {
            Some(refusal) => Failure::Refusal(refusal.clone()),
            None => failure,
        }
    }

    async fn follow(&self, link: Link, held: &mut Held) -> Result<Infallible, Failure> {
        let peer = Arc::clone(link.peer());
        let mut client = client(link).await.map_err(|error| of_transport(&error))?;
        let request = FollowRequest {
            epoch: held.epoch,
            generation: held.generation,
            node: self.node.into(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let slow = |_| Failure::Slow(limits::FIRST);
        let first = async {
            let mut updates = client.follow(request).await?.into_inner();
            let first = updates.message().await?;
            Ok((updates, first))
        };
        let (mut updates, first) = timeout(limits::FIRST, first)
            .await
            .map_err(slow)?
            .map_err(|status| of_status(&status))?;
        self.take(held, first.ok_or(Failure::Ended)?)?;
        let _present = self.figures.connection();
        self.say.send_modify(|report| {
            report.error = None;
            report.connected = Some(Connection {
                manager: self.manager,
                node: peer.node.clone(),
                since: SystemTime::now(),
            });
        });
        tracing::info!(manager = %self.manager, id = peer.node, "following a manager's agent");
        let mut over = std::pin::pin!(self.over());
        loop {
            let update = tokio::select! {
                update = updates.message() => update.map_err(|status| of_status(&status))?,
                failure = &mut over => return Err(failure),
            };
            self.take(held, update.ok_or(Failure::Ended)?)?;
        }
    }

    async fn connect(&self) -> Result<Link, Failure> {
        let slow = |_| Failure::Slow(limits::HANDSHAKE);
        let socket = timeout(limits::HANDSHAKE, TcpStream::connect(self.manager)).await;
        let socket = socket.map_err(slow)?.map_err(Failure::Connect)?;
        let connector = TlsConnector::from(Arc::clone(&self.identity.client));
        let name = Role::Manager
            .label()
            .try_into()
            .map_err(|_| Failure::Refusal(Refusal::Role))?;
        let stream = timeout(limits::HANDSHAKE, connector.connect(name, socket)).await;
        let stream = stream
            .map_err(slow)?
            .map_err(|error| match Refusal::behind(&error) {
                Some(refusal) => Failure::Refusal(refusal),
                None => Failure::Connect(error),
            })?;
        let (identity, certificates) = (Arc::clone(&self.identity), self.certificates.clone());
        Link::new(stream.into(), identity, certificates, std::future::pending(), ()).map_err(Failure::Refusal)
    }

    fn take(&self, held: &mut Held, update: Update) -> Result<(), Failure> {
        self.figures.received(update.body.as_ref(), bytes_of(&update));
        let next = held.after(update).map_err(Failure::Unusable)?;
        let news = !Arc::ptr_eq(&held.desired, &next.desired) || self.tell.borrow().is_none();
        *held = next;
        if news {
            self.tell.send_replace(Some(Arc::clone(&held.desired)));
        }
        self.say
            .send_modify(|report| report.updated = Some(SystemTime::now()));
        Ok(())
    }

    /// Reasons of this side to leave.
    async fn over(&self) -> Failure {
        let mut managers = self.managers.clone();
        let listed = |list: &Vec<SocketAddr>| list.is_empty() || list.contains(&self.manager);
        let unlisted = async {
            if managers.wait_for(|list| !listed(list)).await.is_err() {
                std::future::pending().await
            }
        };
        let renewed = async {
            let mut certificates = self.certificates.clone();
            let other = |now: Option<Arc<Identity>>| now.is_some_and(|now| now.shown != self.identity.shown);
            while !other(certificates.identity()) {
                certificates.changed().await;
            }
            let part = u32::try_from(RandomState::new().hash_one(0) % 1024).unwrap_or(0);
            tokio::time::sleep(LEISURE * part / 1024).await;
        };
        tokio::select! {
            () = unlisted => Failure::Unlisted,
            () = renewed => Failure::Leisure,
        }
    }
}

/// HTTP/2 over a connection that is there already; it is never made again behind our back.
async fn client(link: Link) -> Result<MeshClient<tonic::transport::Channel>, tonic::transport::Error> {
    let link = Arc::new(Mutex::new(Some(link)));
    let connector = tower::service_fn(move |_| {
        let link = link.lock().map_or(None, |mut link| link.take());
        std::future::ready(
            link.map(TokioIo::new)
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)),
        )
    });
    // Where it leads is decided already; the scheme would have tonic add a TLS of its own.
    let channel = Endpoint::from_static("http://swarm-manager")
        .http2_keep_alive_interval(limits::KEEPALIVE)
        .keep_alive_timeout(limits::KEEPALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(limits::WINDOW)
        .initial_connection_window_size(limits::WINDOW)
        .http2_max_header_list_size(limits::HEADERS)
        .connect_timeout(limits::HANDSHAKE)
        .connect_with_connector(connector)
        .await?;
    Ok(MeshClient::new(channel)
        .max_decoding_message_size(limits::UPDATE)
        .max_encoding_message_size(limits::REQUEST))
}

fn of_transport(error: &(dyn Error + 'static)) -> Failure {
    Failure::Status(format!("the connection broke: {}", innermost(error)))
}

fn of_status(status: &Status) -> Failure {
    if status.source().is_some() || status.code() == Code::Unknown {
        of_transport(status)
    } else {
        Failure::Status(status.message().escape_debug().to_string())
    }
}

/// The cause of it all: what is around it are the layers of the stack.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
