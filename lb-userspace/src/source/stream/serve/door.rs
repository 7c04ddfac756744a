//! Who comes in: nodes of the swarm, in bounded numbers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::crowd::{Counted, Crowd};
use crate::source::stream::certificates::Certificates;
use crate::source::stream::complaints::Complaints;
use crate::source::stream::figures::Figures;
use crate::source::stream::limits;
use crate::source::stream::link::Link;
use crate::source::stream::peer::Peer;
use crate::source::stream::refusal::Refusal;

/// After an error that is the machine's, not the caller's.
const BREATH: Duration = Duration::from_millis(100);
/// How long a refused caller may take to read why.
const FAREWELL: Duration = Duration::from_millis(500);

pub struct Door(Arc<Keeper>);

struct Keeper {
    certificates: Certificates,
    figures: Arc<Figures>,
    complaints: Complaints,
    closed: watch::Receiver<()>,
    places: Arc<Semaphore>,
    /// Handshakes that are under way, by address.
    strangers: Arc<Crowd<IpAddr>>,
    /// Connections of those who have shown who they are, by the swarm's id of the node.
    nodes: Arc<Crowd<String>>,
}

impl Door {
    pub fn new(certificates: Certificates, figures: Arc<Figures>, closed: watch::Receiver<()>) -> Self {
        Self(Arc::new(Keeper {
            certificates,
            figures,
            complaints: Complaints::default(),
            closed,
            places: Arc::new(Semaphore::new(limits::CONNECTIONS)),
            strangers: Arc::new(Crowd::of(limits::HANDSHAKES)),
            nodes: Arc::new(Crowd::of(limits::LINKS)),
        }))
    }

    /// Ends when nobody takes the links any more.
    pub async fn admit(self, listener: TcpListener, admitted: mpsc::Sender<Link>) {
        let mut handshakes = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = admitted.closed() => return,
                Some(_ended) = handshakes.join_next() => continue,
            };
            let Ok((socket, from)) = accepted else {
                // Out of file descriptors, mostly.
                tokio::time::sleep(BREATH).await;
                continue;
            };
            let place = match self.0.place(from.ip()) {
                Ok(place) => place,
                Err(refusal) => {
                    self.0.refuse(from, &refusal);
                    continue;
                }
            };
            let (keeper, admitted) = (Arc::clone(&self.0), admitted.clone());
            handshakes.spawn(async move {
                match keeper.greet(socket, place).await {
                    Ok(link) => {
                        tracing::debug!(%from, peer = %link.peer(), "an agent comes to follow");
                        // Nobody takes it any more: the stream has ended.
                        let _ = admitted.send(link).await;
                    }
                    Err((refusal, socket)) => {
                        keeper.refuse(from, &refusal);
                        if let Some(socket) = socket {
                            part(socket).await;
                        }
                    }
                }
            });
        }
    }
}

impl Keeper {
    fn place(&self, address: IpAddr) -> Result<(OwnedSemaphorePermit, Counted<IpAddr>), Refusal> {
        let place = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| Refusal::Crowd)?;
        Ok((place, Crowd::enter(&self.strangers, address)?))
    }

    /// The handshake; who is refused may still read why from its socket.
    async fn greet(
        &self,
        socket: TcpStream,
        (place, stranger): (OwnedSemaphorePermit, Counted<IpAddr>),
    ) -> Result<Link, (Refusal, Option<TcpStream>)> {
        let Some(identity) = self.certificates.identity() else {
            return Err((Refusal::Unready, None));
        };
        // Each update is written as a whole.
        let _ = socket.set_nodelay(true);
        let acceptor = TlsAcceptor::from(Arc::clone(&identity.server));
        let handshake = acceptor.accept(socket).into_fallible();
        let stream = match tokio::time::timeout(limits::HANDSHAKE, handshake).await {
            Err(_) => return Err((Refusal::Silent, None)),
            Ok(Err((error, socket))) => {
                let refusal = Refusal::behind(&error).unwrap_or_else(|| Refusal::Other(error.to_string()));
                return Err((refusal, Some(socket)));
            }
            Ok(Ok(stream)) => stream,
        };
        drop(stranger);
        let shown = stream.get_ref().1.peer_certificates();
        let shown = shown.and_then(<[_]>::first).ok_or(Refusal::NoCertificate);
        let node = shown.and_then(|shown| Peer::of(shown)).map(|peer| peer.node);
        let counted = node.and_then(|node| Crowd::enter(&self.nodes, node));
        let token = (place, counted.map_err(|refusal| (refusal, None))?);
        let mut closed = self.closed.clone();
        let end = async move { while closed.changed().await.is_ok() {} };
        let link = Link::new(stream.into(), identity, self.certificates.clone(), end, token);
        link.map_err(|refusal| (refusal, None))
    }

    fn refuse(&self, from: SocketAddr, refusal: &Refusal) {
        self.figures.refused(refusal);
        if self.complaints.due(from.ip(), Instant::now()) {
            tracing::warn!(%from, "refused to tell an agent what the swarm wants: {refusal}");
        }
    }
}

/// Closing at once would take back what was written: the reason.
async fn part(mut socket: TcpStream) {
    let farewell = async {
        socket.shutdown().await?;
        let mut rest = [0; 1024];
        // Bounded by the time it may take.
        while socket.read(&mut rest).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}
