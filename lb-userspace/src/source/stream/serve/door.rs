//! Who comes in: nodes of the swarm, in bounded numbers.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::source::stream::certificates::Certificates;
use crate::source::stream::complaints::Complaints;
use crate::source::stream::figures::Figures;
use crate::source::stream::limits;
use crate::source::stream::link::Link;
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
    strangers: Mutex<HashMap<IpAddr, usize>>,
}

impl Door {
    pub fn new(certificates: Certificates, figures: Arc<Figures>, closed: watch::Receiver<()>) -> Self {
        Self(Arc::new(Keeper {
            certificates,
            figures,
            complaints: Complaints::default(),
            closed,
            places: Arc::new(Semaphore::new(limits::CONNECTIONS)),
            strangers: Mutex::default(),
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
    fn place(self: &Arc<Self>, address: IpAddr) -> Result<(OwnedSemaphorePermit, Stranger), Refusal> {
        let place = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| Refusal::Crowd)?;
        let mut strangers = self
            .strangers
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let count = strangers.entry(address).or_default();
        if *count >= limits::HANDSHAKES {
            return Err(Refusal::Crowd);
        }
        *count += 1;
        Ok((place, Stranger(Arc::clone(self), address)))
    }

    /// The handshake; who is refused may still read why from its socket.
    async fn greet(
        &self,
        socket: TcpStream,
        (place, stranger): (OwnedSemaphorePermit, Stranger),
    ) -> Result<Link, (Refusal, Option<TcpStream>)> {
        let Some(identity) = self.certificates.identity() else {
            let own = "this node has no certificates of a swarm to show";
            return Err((Refusal::Other(own.into()), None));
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
        let mut closed = self.closed.clone();
        let end = async move { while closed.changed().await.is_ok() {} };
        let link = Link::new(stream.into(), identity, self.certificates.clone(), end, place);
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

/// Counts an address as long as it has not shown who it is.
struct Stranger(Arc<Keeper>, IpAddr);

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut strangers = self
            .0
            .strangers
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(count) = strangers.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                strangers.remove(&self.1);
            }
        }
    }
}
