//! A manager's side of the stream: open as long as this node has something to tell.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Stream;
use crate::model::Desired;
use crate::source::Note;
use crate::source::engine::Local;
use crate::source::stream::{Certificates, Publisher, serve};

/// Before a port that could not be had is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Dropping it ends it.
pub struct Serving {
    publisher: Publisher,
    wanted: watch::Sender<bool>,
    hindrance: Arc<Mutex<Option<Note>>>,
    keeping: JoinHandle<()>,
}

/// What a stream is served with; another one ends it and is served anew.
#[derive(Clone, PartialEq, Eq)]
struct Place {
    listen: SocketAddr,
    certificates: PathBuf,
}

impl Serving {
    pub fn start(local: watch::Receiver<Option<Arc<Local>>>, stream: Arc<Stream>) -> Self {
        let publisher = Publisher::new();
        let (wanted, wishes) = watch::channel(false);
        let hindrance = Arc::<Mutex<Option<Note>>>::default();
        let keeper = Keeper {
            local,
            stream,
            wanted: wishes,
            publisher: publisher.clone(),
            hindrance: Arc::clone(&hindrance),
        };
        Self {
            publisher,
            wanted,
            hindrance,
            keeping: tokio::spawn(keeper.run()),
        }
    }

    /// `None`: this node is none to ask.
    pub fn publish(&self, desired: Option<&Arc<Desired>>) {
        if let Some(desired) = desired {
            self.publisher.publish(Arc::clone(desired));
        }
        let now = desired.is_some();
        self.wanted
            .send_if_modified(|wanted| std::mem::replace(wanted, now) != now);
    }

    pub fn hindrance(&self) -> Option<Note> {
        let hindrance = self.hindrance.lock();
        hindrance.unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

struct Keeper {
    local: watch::Receiver<Option<Arc<Local>>>,
    stream: Arc<Stream>,
    wanted: watch::Receiver<bool>,
    publisher: Publisher,
    hindrance: Arc<Mutex<Option<Note>>>,
}

impl Keeper {
    async fn run(mut self) {
        let mut served = None;
        loop {
            let place = self.place();
            if served.as_ref().map(|(place, _)| place) != place.as_ref() {
                // The port is free before it is taken again.
                drop(served.take());
                let Some(place) = place else {
                    self.hinder(None);
                    self.news().await;
                    continue;
                };
                match self.open(&place).await {
                    Ok(serving) => {
                        tracing::info!(address = %place.listen, "other agents are told what the swarm wants");
                        self.hinder(None);
                        served = Some((place, serving));
                    }
                    Err(error) => {
                        self.hinder(Some(unserved(place.listen, &error)));
                        let _ = tokio::time::timeout(AGAIN, self.news()).await;
                        continue;
                    }
                }
            }
            self.news().await;
        }
    }

    async fn news(&mut self) {
        tokio::select! {
            Ok(()) = self.local.changed() => {}
            Ok(()) = self.wanted.changed() => {}
            else => std::future::pending().await,
        }
    }

    /// Where it is to be served, if anywhere.
    fn place(&mut self) -> Option<Place> {
        let local = self.local.borrow_and_update().clone()?;
        let wanted = *self.wanted.borrow_and_update();
        let member = local.swarm.as_ref().filter(|_| wanted)?;
        let address = member.address.unwrap_or(Ipv4Addr::UNSPECIFIED);
        Some(Place {
            listen: SocketAddr::new(address.into(), self.stream.port),
            certificates: self.stream.directory(&local),
        })
    }

    async fn open(&self, place: &Place) -> std::io::Result<crate::source::stream::Serving> {
        let certificates = Certificates::watch(place.certificates.clone());
        let figures = Arc::clone(&self.stream.figures);
        serve(place.listen, certificates, self.publisher.clone(), figures).await
    }

    fn hinder(&self, note: Option<Note>) {
        let mut hindrance = self
            .hindrance
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(note) = note.as_ref().filter(|note| hindrance.as_ref() != Some(note)) {
            tracing::error!("{}; {}", note.what, note.consequence);
        }
        *hindrance = note;
    }
}

fn unserved(listen: SocketAddr, error: &std::io::Error) -> Note {
    Note {
        service: None,
        what: format!("cannot tell other agents what the swarm wants on tcp {listen}: {error}"),
        consequence: "agents on other nodes follow another manager, or keep what they have".to_owned(),
        fix: format!(
            "end what has the port (ss -ltnp sport = :{}), or set [peer] port, the same on every node",
            listen.port()
        ),
    }
}
