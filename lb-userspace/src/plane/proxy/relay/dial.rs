//! The ingress' side: a connection to a member on another node.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Shared;
use super::book::Book;
use super::identity;
use super::refusal::Refusal;
use super::relayed::Relayed;
use super::shelf::Shelves;
use super::wire::Wire;
use crate::model::Node;
use crate::plane::proxy::answer::Answer;
use crate::plane::proxy::header::Transport;
use crate::plane::proxy::header::relay_header::{self, Wanted};

/// Asks other nodes to connect members of theirs. For one runtime: it keeps finished handshakes for its clients.
#[derive(Clone)]
pub struct Dialer {
    pub(super) caller: Arc<Caller>,
    pub(super) shelves: Shelves,
}

/// Makes connections to other nodes.
pub(super) struct Caller {
    shared: Arc<Shared>,
}

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Destination {
    pub node: Arc<str>,
    pub address: Ipv4Addr,
}

/// Why a member is not reached. Nothing of what the client says has been sent in any of these cases.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Its node has answered: this member cannot be had now.
    #[error("{0}")]
    Answered(Answer),
    /// No member of that node can be had.
    #[error("the node's agent cannot be reached: {0}")]
    Unreachable(io::Error),
    /// As that: one of the two does not believe the other.
    #[error("the node's agent is not believed, or does not believe this one: {0}")]
    Untrusted(Refusal),
    /// It is not known which of the two is slow.
    #[error("no answer in time")]
    Silent,
}

impl Dialer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shelves: Shelves::default(),
            caller: Arc::new(Caller { shared }),
        }
    }

    /// A connection to a member that `node` runs, for `client`, who has connected to `front`.
    pub async fn dial(
        &self,
        node: &Node,
        member: u64,
        client: SocketAddr,
        front: SocketAddr,
        patience: Duration,
    ) -> Result<Relayed, Failure> {
        let destination = Destination::of(node);
        let mut header = Vec::with_capacity(128);
        let wanted = Wanted {
            member,
            transport: Transport::Stream,
            client,
            front,
        };
        relay_header::write(&wanted, &mut header);
        let asking = self.ask(&destination, &header);
        let outcome = timeout(patience, asking).await.unwrap_or(Err(Failure::Silent));
        self.note(&outcome);
        outcome
    }

    /// Counts what became of something that another node was asked for.
    pub(super) fn note<T>(&self, outcome: &Result<T, Failure>) {
        let figures = &self.caller.shared.figures;
        match outcome {
            Ok(_) => figures.heard(Answer::Connected),
            Err(Failure::Answered(answer)) => figures.heard(*answer),
            Err(_) => figures.unreached(),
        }
    }

    #[cfg(test)]
    pub fn spares(&self) -> usize {
        self.shelves.spares()
    }

    #[cfg(test)]
    pub fn kill_spares(&self) {
        self.shelves.kill();
    }

    async fn ask(&self, destination: &Destination, header: &[u8]) -> Result<Relayed, Failure> {
        let figures = &self.caller.shared.figures;
        if let Some(spare) = self.shelves.take(&self.caller, destination) {
            // One that has died since it was looked at is no reason to fail; the next one would have died of the same.
            match ask(spare, header).await {
                Err(Failure::Unreachable(_) | Failure::Untrusted(_)) => self.shelves.clear(destination),
                answered => {
                    figures.spared();
                    return answered;
                }
            }
        }
        figures.waited();
        ask(self.shelves.make(&self.caller, destination).await?, header).await
    }
}

async fn ask(tls: TlsStream<Wire>, header: &[u8]) -> Result<Relayed, Failure> {
    let mut relayed = Relayed::new(tls);
    say(&mut relayed, header).await?;
    Ok(relayed)
}

/// Says what is wanted, and hears whether it is to be had.
pub(super) async fn say<S>(node: &mut S, header: &[u8]) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let conversation = async {
        node.write_all(header).await?;
        node.flush().await?;
        node.read_u8().await
    };
    let byte = conversation.await.map_err(Failure::of)?;
    match Answer::of(byte) {
        Some(Answer::Connected) => Ok(()),
        Some(answer) => Err(Failure::Answered(answer)),
        None => Err(Failure::Unreachable(io::Error::new(
            ErrorKind::InvalidData,
            format!("it answers {byte}, which has no meaning"),
        ))),
    }
}

impl Destination {
    pub fn of(node: &Node) -> Self {
        Self {
            node: Arc::clone(&node.name),
            address: node.address,
        }
    }

    /// Whether it is a node of the cluster.
    pub fn is_in(&self, book: &Book) -> bool {
        book.has_node(&self.node, self.address.into())
    }
}

impl Caller {
    pub async fn connect(&self, destination: &Destination) -> Result<TlsStream<Wire>, Failure> {
        let host = identity::host(&destination.node).ok_or(Failure::Untrusted(Refusal::Name))?;
        let socket = self.socket().map_err(Failure::Unreachable)?;
        let to = SocketAddr::from((destination.address, self.shared.port));
        let socket = socket.connect(to).await.map_err(Failure::Unreachable)?;
        let connector = TlsConnector::from(Arc::clone(&self.shared.identity.client));
        let connected = connector
            .connect(host, Wire::new(socket, &self.shared.keepalive))
            .await;
        let connected = connected.map_err(Failure::of)?;
        self.shared.reach.reached(destination);
        Ok(connected)
    }

    /// Remembers that a try that `began` then has failed.
    pub fn note(&self, destination: &Destination, began: Instant, failure: &Failure) {
        let Shared { reach, port, .. } = &*self.shared;
        reach.failed(destination, began, failure, *port);
    }

    /// Whether it is a node of the cluster that cannot be reached. An agent to which no clients come misses none.
    pub fn misses(&self, destination: &Destination) -> bool {
        let Shared { reach, library, .. } = &*self.shared;
        !self.shared.is_retired.load(SeqCst)
            && reach.is_failing(destination)
            && destination.is_in(&library.book())
    }

    /// From the address that other nodes know this one by.
    fn socket(&self) -> io::Result<TcpSocket> {
        let socket = TcpSocket::new_v4()?;
        if let Some(home) = self.shared.library.book().home {
            // A port is chosen when it is known where to: the same one serves connections to several nodes.
            let _ = setsockopt(&socket, IpBindAddressNoPort, &true);
            // Where it is an address of something in front of this machine, the kernel chooses.
            let _ = socket.bind((home, 0).into());
        }
        Ok(socket)
    }
}

impl Failure {
    fn of(error: io::Error) -> Self {
        match Refusal::behind(&error) {
            Some(refusal) => Self::Untrusted(refusal),
            None => Self::Unreachable(error),
        }
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        let kind = match &failure {
            Failure::Answered(Answer::Silent) | Failure::Silent => ErrorKind::TimedOut,
            Failure::Answered(_) => ErrorKind::ConnectionRefused,
            Failure::Unreachable(error) => error.kind(),
            Failure::Untrusted(_) => ErrorKind::PermissionDenied,
        };
        Self::new(kind, failure)
    }
}
