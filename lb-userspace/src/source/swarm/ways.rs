//! The real ways out: the engine's socket, and the stream between agents.

mod serving;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::fetch::Socket;
use super::follow::Ways;
use super::role::Heard;
use crate::door::Door;
use crate::model::Desired;
use crate::source::Note;
use crate::source::engine::{Engine, Local, Membership};
use crate::source::stream::{self, Certificates, Connection, Figures, Follow, FollowReport};
use serving::Serving;

/// Below the directory in which an engine keeps its state.
const CERTIFICATES: &str = "swarm/certificates";

/// What the stream is made with.
pub struct Stream {
    /// Where agents on managers listen, the same on every node.
    pub port: u16,
    /// Of this node.
    pub door: Door,
    /// Where this node's certificates are, unless they are where its engine has them.
    pub certificates: Option<PathBuf>,
    pub figures: Arc<Figures>,
}

/// Out of this machine.
pub struct Outside {
    engine: Engine,
    node: Arc<str>,
    stream: Arc<Stream>,
    serving: Serving,
}

impl Outside {
    /// `node`: this one, for the logs of others.
    pub fn new(engine: Engine, node: Arc<str>, stream: Stream) -> Self {
        let stream = Arc::new(stream);
        Self {
            serving: Serving::start(engine.local(), Arc::clone(&stream)),
            engine,
            node,
            stream,
        }
    }
}

impl Outside {
    /// `None` as long as the engine has not said where it is.
    fn directory(&self) -> Option<PathBuf> {
        let local = self.engine.local();
        let local = local.borrow();
        local.as_deref().map(|local| self.stream.directory(local))
    }
}

impl Stream {
    fn directory(&self, local: &Local) -> PathBuf {
        let configured = self.certificates.clone();
        configured.unwrap_or_else(|| local.root.join(CERTIFICATES))
    }

    /// Where the agents of the managers listen. That of this node is none of them.
    fn managers(&self, member: &Membership) -> Vec<SocketAddr> {
        let others = member
            .managers
            .iter()
            .filter(|manager| manager.node != member.node);
        others
            .map(|manager| SocketAddr::new(manager.address.ip(), self.port))
            .collect()
    }
}

impl Ways for Outside {
    type Lists = Socket;

    fn lists(&self) -> Socket {
        Socket::new(Arc::from(self.engine.socket()))
    }

    fn stream(
        &self,
        member: &Membership,
        known: Option<Arc<Desired>>,
    ) -> (watch::Receiver<Heard>, JoinHandle<()>) {
        let (tell, told) = watch::channel(Heard::default());
        let (managers, listed) = watch::channel(self.stream.managers(member));
        let certificates = Certificates::watch(self.directory().unwrap_or_default());
        let following = stream::follow(Follow {
            node: Arc::clone(&self.node),
            managers: listed,
            certificates: certificates.clone(),
            figures: Arc::clone(&self.stream.figures),
            known,
        });
        let bridge = Bridge {
            following,
            certificates,
            local: self.engine.local(),
            stream: Arc::clone(&self.stream),
            managers,
            tell,
        };
        (told, tokio::spawn(bridge.run()))
    }

    fn publish(&self, desired: Option<&Arc<Desired>>) {
        self.serving.publish(desired);
    }

    fn hindrance(&self) -> Option<Note> {
        self.serving.hindrance()
    }

    fn cluster(&self, node: &str) -> Option<Arc<str>> {
        let own = stream::own(&self.directory()?).ok()?;
        (own.node == node).then(|| own.cluster.into())
    }

    fn is_uncertified(&self) -> bool {
        let directory = self.directory();
        directory.is_some_and(|directory| stream::is_uncertified(&directory))
    }

    fn is_answered(&self) -> bool {
        self.engine.problem().borrow().is_none()
    }
}

/// Hands on what is told, and who may tell it.
struct Bridge {
    following: stream::Following,
    certificates: Certificates,
    local: watch::Receiver<Option<Arc<Local>>>,
    stream: Arc<Stream>,
    managers: watch::Sender<Vec<SocketAddr>>,
    tell: watch::Sender<Heard>,
}

impl Bridge {
    async fn run(mut self) {
        loop {
            self.hand_on();
            tokio::select! {
                Ok(()) = self.following.desired.changed() => {}
                Ok(()) = self.following.report.changed() => {}
                () = self.certificates.changed() => {}
                Ok(()) = self.local.changed() => self.list(),
                else => return,
            }
        }
    }

    /// An engine that has lost its place in the swarm for a moment knows no managers; those that it knew are still there.
    fn list(&mut self) {
        let local = self.local.borrow_and_update().clone();
        let member = local.as_ref().and_then(|local| local.swarm.as_ref());
        let now = member
            .map(|member| self.stream.managers(member))
            .unwrap_or_default();
        self.managers.send_if_modified(|before| {
            let news = !now.is_empty() && *before != now;
            if news {
                *before = now;
            }
            news
        });
    }

    fn hand_on(&mut self) {
        let report = self.following.report.borrow_and_update().clone();
        let desired = self.following.desired.borrow_and_update().clone();
        let problem = problem(&report, desired.is_some(), self.stream.port);
        let from = report.connected.as_ref();
        let from = from.map(|connection| name(connection, desired.as_deref().unwrap_or(&Desired::default())));
        let trouble = self.certificates.trouble();
        // Where there are none at all, that is the problem already.
        let trouble = trouble.filter(|_| self.certificates.identity().is_some());
        self.tell.send_replace(Heard {
            desired,
            at: report.updated,
            from,
            problem,
            notes: trouble.map(|trouble| outdated(&trouble)).into_iter().collect(),
        });
    }
}

/// What is wrong with the certificates while the last good ones are in use.
fn outdated(trouble: &stream::Trouble) -> Note {
    Note {
        service: None,
        what: format!("the swarm's certificates of this node cannot be used as they are now: {trouble}"),
        consequence: "the last good ones are used until they expire, or this agent ends".to_owned(),
        fix: "see that the agent can read what the engine has in [sources.swarm] certificates".to_owned(),
    }
}

/// As its node is called; before that is known, by its id as the engine's own commands show it.
fn name(connection: &Connection, desired: &Desired) -> String {
    let address = connection.manager.ip();
    let mut nodes = desired.nodes.iter();
    let known = nodes.find(|(_, node)| address == node.address);
    let id = connection.node.get(..12).unwrap_or(&connection.node);
    format!("{} ({address})", known.map_or(id, |(name, _)| name))
}

fn problem(report: &FollowReport, served: bool, port: u16) -> Option<String> {
    let why = report.error.as_ref()?;
    let traffic = if served {
        "flows on as the swarm was told last; what changes meanwhile is not followed"
    } else {
        "flows on as it did when this agent started; what changes meanwhile is not followed"
    };
    Some(format!(
        "no manager's agent tells this node what the swarm wants: {why}\n  traffic: {traffic}\n  fix: see that an agent runs \
         on each manager (portico status there), and that nodes reach tcp/{port} of each other"
    ))
}
