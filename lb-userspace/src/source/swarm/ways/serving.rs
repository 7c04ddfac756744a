//! A manager's side of the stream: open as long as this node has something to tell.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Stream;
use crate::door::Openness;
use crate::model::Desired;
use crate::source::Note;
use crate::source::engine::Local;
use crate::source::stream::{self, Certificates, Publisher, serve};

/// Where this node tells them nothing.
const CONSEQUENCE: &str = "agents on other nodes follow another manager, or keep what they have";
/// Before a stream that has ended is served anew.
const AGAIN: Duration = Duration::from_secs(2);

/// Dropping it ends it.
pub struct Serving {
    publisher: Publisher,
    wanted: watch::Sender<bool>,
    hindrance: Arc<Mutex<Option<Note>>>,
    keeping: JoinHandle<()>,
}

/// A stream that is served with certificates of one place.
struct Served {
    directory: PathBuf,
    serving: stream::Serving,
    certificates: Certificates,
}

impl Serving {
    pub fn start(local: watch::Receiver<Option<Arc<Local>>>, stream: Arc<Stream>) -> Self {
        let publisher = Publisher::new();
        let (wanted, wishes) = watch::channel(false);
        let hindrance = Arc::<Mutex<Option<Note>>>::default();
        let keeper = Keeper {
            local,
            standing: stream.door.openness(),
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
    /// Of the port.
    standing: watch::Receiver<Openness>,
    stream: Arc<Stream>,
    wanted: watch::Receiver<bool>,
    publisher: Publisher,
    hindrance: Arc<Mutex<Option<Note>>>,
}

impl Keeper {
    async fn run(mut self) {
        let mut served: Option<Served> = None;
        loop {
            let Some(directory) = self.directory() else {
                // The port is free before anything is waited for, unless something else is served there.
                served = None;
                self.hinder(None);
                self.news().await;
                continue;
            };
            let same = served.take().filter(|served| served.directory == directory);
            let mut now = same.unwrap_or_else(|| self.open(directory));
            let unopened = self.unopened();
            self.hinder(unopened.or_else(|| untrusted(&now.certificates)));
            let ended = tokio::select! {
                () = now.serving.ended() => true,
                () = now.certificates.changed() => false,
                () = self.news() => false,
            };
            if ended {
                drop(now);
                tokio::time::sleep(AGAIN).await;
            } else {
                served = Some(now);
            }
        }
    }

    async fn news(&mut self) {
        tokio::select! {
            Ok(()) = self.local.changed() => {}
            Ok(()) = self.wanted.changed() => {}
            Ok(()) = self.standing.changed() => {}
            else => std::future::pending().await,
        }
    }

    /// Of the certificates that are shown to others, if any are to be told.
    fn directory(&mut self) -> Option<PathBuf> {
        let local = self.local.borrow_and_update().clone()?;
        let wanted = *self.wanted.borrow_and_update();
        let in_swarm = local.swarm.is_some();
        (wanted && in_swarm).then(|| self.stream.directory(&local))
    }

    fn open(&self, directory: PathBuf) -> Served {
        let certificates = Certificates::watch(directory.clone());
        let (publisher, figures) = (self.publisher.clone(), Arc::clone(&self.stream.figures));
        let serving = serve(&self.stream.door, certificates.clone(), publisher, figures);
        tracing::info!(at = %self.stream.door.listen(), "other agents are told what the swarm wants");
        Served {
            directory,
            serving,
            certificates,
        }
    }

    fn unopened(&mut self) -> Option<Note> {
        match &*self.standing.borrow_and_update() {
            Openness::Hindered(error) => Some(unserved(self.stream.door.listen(), error)),
            Openness::Open(_) | Openness::Closed => None,
        }
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
    let port = listen.port();
    let fix = match error.kind() {
        ErrorKind::AddrInUse => {
            format!(
                "end what has the port (ss -ltnp sport = :{port}), or set [peer] port, the same on every node"
            )
        }
        ErrorKind::PermissionDenied => {
            format!(
                "set [peer] port to one above 1023, the same on every node, or see what forbids tcp/{port} here"
            )
        }
        _ => format!("see that this node may listen on tcp/{port}"),
    };
    Note {
        service: None,
        what: format!("cannot tell other agents what the swarm wants on tcp {listen}: {error}"),
        consequence: CONSEQUENCE.to_owned(),
        fix,
    }
}

/// Those who call are shown the last good certificates; without any, all are refused.
fn untrusted(certificates: &Certificates) -> Option<Note> {
    let trouble = certificates.trouble()?;
    if certificates.identity().is_some() {
        return Some(super::outdated(&trouble));
    }
    let fix = match &*trouble {
        // It says what to do itself.
        stream::Trouble::Locked(_) => {
            "docker swarm update --autolock=false, or leave it to the other managers"
        }
        _ => "see that the agent can read what the engine has in [sources.swarm] certificates",
    };
    Some(Note {
        service: None,
        what: format!("cannot show other agents that this node is of the swarm: {trouble}"),
        consequence: CONSEQUENCE.to_owned(),
        fix: fix.to_owned(),
    })
}

#[cfg(test)]
mod tests;
