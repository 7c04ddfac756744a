//! Who comes in: nodes of the swarm, in bounded numbers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout_at;

use crate::door::{Caller, Complaints, Crowd, Refused, Room, part};
use crate::source::stream::certificates::Certificates;
use crate::source::stream::figures::Figures;
use crate::source::stream::identity::PROTOCOL;
use crate::source::stream::limits;
use crate::source::stream::link::Link;
use crate::source::stream::peer::Peer;
use crate::source::stream::refusal::Refusal;

/// The stream behind the door.
pub struct Lobby {
    keeper: Arc<Keeper>,
    admitted: mpsc::Sender<Link>,
}

struct Keeper {
    certificates: Certificates,
    figures: Arc<Figures>,
    complaints: Complaints,
    closed: watch::Receiver<()>,
    places: Arc<Semaphore>,
    /// Connections of those who have shown who they are, by the swarm's id of the node.
    nodes: Arc<Crowd<String>>,
}

impl Lobby {
    /// Sends links as long as somebody takes them. `closed` when its sender is dropped.
    pub fn new(
        certificates: Certificates,
        figures: Arc<Figures>,
        closed: watch::Receiver<()>,
        admitted: mpsc::Sender<Link>,
    ) -> Self {
        let keeper = Keeper {
            certificates,
            figures,
            complaints: Complaints::default(),
            closed,
            places: Arc::new(Semaphore::new(limits::CONNECTIONS)),
            nodes: Arc::default(),
        };
        Self {
            keeper: Arc::new(keeper),
            admitted,
        }
    }
}

impl Room for Lobby {
    fn protocol(&self) -> &'static [u8] {
        PROTOCOL
    }

    fn expects(&self, _: IpAddr) -> bool {
        false
    }

    fn admit(&self, caller: Caller) {
        let (keeper, admitted) = (Arc::clone(&self.keeper), self.admitted.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = keeper.receive(caller, admitted) => {}
                () = keeper.end() => {}
            }
        });
    }

    fn refuse(&self, from: SocketAddr, refused: Refused) {
        let refusal = match refused {
            Refused::Silent => Refusal::Silent,
            Refused::Crowd => Refusal::Crowd,
            Refused::Broken(error) => {
                Refusal::behind(&error).unwrap_or_else(|| Refusal::Other(error.to_string()))
            }
        };
        self.keeper.refuse(from, &refusal);
    }
}

impl Keeper {
    async fn receive(&self, caller: Caller, admitted: mpsc::Sender<Link>) {
        let from = caller.from;
        let greeted = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => self.greet(caller, place).await,
            Err(_) => Err((Refusal::Crowd, None)),
        };
        match greeted {
            Ok(link) => {
                tracing::debug!(%from, peer = %link.peer(), "an agent comes to follow");
                // Nobody takes it any more: the stream has ended.
                let _ = admitted.send(link).await;
            }
            Err((refusal, socket)) => {
                self.refuse(from, &refusal);
                if let Some(socket) = socket {
                    part(socket).await;
                }
            }
        }
    }

    /// The handshake; who is refused may still read why from its socket.
    async fn greet(
        &self,
        caller: Caller,
        place: OwnedSemaphorePermit,
    ) -> Result<Link, (Refusal, Option<TcpStream>)> {
        let Some(identity) = self.certificates.identity() else {
            return Err((Refusal::Unready, None));
        };
        // Each update is written as a whole.
        let _ = caller.hello.io.set_nodelay(true);
        let handshake = caller
            .hello
            .into_stream(Arc::clone(&identity.server))
            .into_fallible();
        let stream = match timeout_at(caller.deadline, handshake).await {
            Err(_) => return Err((Refusal::Silent, None)),
            Ok(Err((error, socket))) => {
                let refusal = Refusal::behind(&error).unwrap_or_else(|| Refusal::Other(error.to_string()));
                return Err((refusal, Some(socket)));
            }
            Ok(Ok(stream)) => stream,
        };
        drop(caller.stranger);
        let shown = stream.get_ref().1.peer_certificates();
        let shown = shown.and_then(<[_]>::first).ok_or(Refusal::NoCertificate);
        let node = shown.and_then(|shown| Peer::of(shown)).map(|peer| peer.node);
        let enter = |node| Crowd::enter(&self.nodes, node, limits::LINKS).ok_or(Refusal::Crowd);
        let counted = node.and_then(enter);
        let token = (place, counted.map_err(|refusal| (refusal, None))?);
        let mut closed = self.closed.clone();
        let end = async move { while closed.changed().await.is_ok() {} };
        let link = Link::new(stream.into(), identity, self.certificates.clone(), end, token);
        link.map_err(|refusal| (refusal, None))
    }

    async fn end(&self) {
        let mut closed = self.closed.clone();
        while closed.changed().await.is_ok() {}
    }

    fn refuse(&self, from: SocketAddr, refusal: &Refusal) {
        self.figures.refused(refusal);
        if self.complaints.due(from.ip(), Instant::now()) {
            tracing::warn!(%from, "refused to tell an agent what the swarm wants: {refusal}");
        }
    }
}
