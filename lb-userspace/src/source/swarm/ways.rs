//! The real ways out: the engine's socket, and the stream between agents.

mod serving;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::fetch::Socket;
use super::follow::Ways;
use super::role::Told;
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

    fn stream(&self, member: &Membership) -> (watch::Receiver<Told>, JoinHandle<()>) {
        let (tell, told) = watch::channel(Told::default());
        let (managers, listed) = watch::channel(self.stream.managers(member));
        let local = self.engine.local();
        let directory = local
            .borrow()
            .as_deref()
            .map(|local| self.stream.directory(local));
        let following = stream::follow(Follow {
            node: Arc::clone(&self.node),
            managers: listed,
            certificates: Certificates::watch(directory.unwrap_or_default()),
            figures: Arc::clone(&self.stream.figures),
            known: None,
        });
        let stream = Arc::clone(&self.stream);
        let bridging = tokio::spawn(bridge(following, local, stream, managers, tell));
        (told, bridging)
    }

    fn publish(&self, desired: Option<&Arc<Desired>>) {
        self.serving.publish(desired);
    }

    fn hindrance(&self) -> Option<Note> {
        self.serving.hindrance()
    }
}

/// Hands on what is told, and who may tell it.
async fn bridge(
    mut following: stream::Following,
    mut local: watch::Receiver<Option<Arc<Local>>>,
    stream: Arc<Stream>,
    managers: watch::Sender<Vec<SocketAddr>>,
    tell: watch::Sender<Told>,
) {
    loop {
        tokio::select! {
            Ok(()) = following.desired.changed() => {}
            Ok(()) = following.report.changed() => {}
            Ok(()) = local.changed() => {
                let local = local.borrow_and_update().clone();
                if let Some(member) = local.as_ref().and_then(|local| local.swarm.as_ref()) {
                    let now = stream.managers(member);
                    managers.send_if_modified(|before| {
                        let news = *before != now;
                        *before = now;
                        news
                    });
                }
                continue;
            }
            else => return,
        }
        let report = following.report.borrow_and_update().clone();
        let desired = following.desired.borrow_and_update().clone();
        let problem = problem(&report, desired.is_some(), stream.port);
        let from = report.connected.as_ref();
        let from = from.map(|connection| name(connection, desired.as_deref().unwrap_or(&Desired::default())));
        tell.send_replace(Told {
            desired,
            at: report.updated,
            from,
            problem,
        });
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
