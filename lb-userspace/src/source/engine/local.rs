//! What the engine of this node says of itself and of its containers.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use crate::model::{Protocol, Readiness};
use crate::source::Note;

/// On a container that a swarm started: the id of the task that it is.
pub const TASK: &str = "com.docker.swarm.task.id";
/// The bridge that tasks of a swarm have beside their overlay networks, for what leads out of these: nobody is found there.
pub const GATEWAY: &str = "docker_gwbridge";
/// The network of a swarm's published ports.
pub const INGRESS: &str = "ingress";

/// All of it; the next one replaces it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// `None` where the engine is in no swarm.
    pub swarm: Option<Membership>,
    /// The engine has not said yet whether it is in a swarm.
    pub unclear: bool,
    /// Where the engine keeps its state, as the engine sees the file system: `/var/lib/docker`.
    pub root: PathBuf,
    /// By id. Those that the engine has, whatever they do; shared with the picture before where nothing changed.
    pub containers: BTreeMap<Arc<str>, Arc<Container>>,
    /// What the engine does not say although it was asked; the rest of it is followed.
    pub notes: Vec<Note>,
}

/// The engine as a node of a swarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    pub node: Arc<str>,
    /// Under which other nodes reach it.
    pub address: Option<Ipv4Addr>,
    /// Whether it answers for the whole swarm.
    pub manager: bool,
    /// Those that it knows, itself included where it is one.
    pub managers: Vec<Manager>,
    /// What the engine says is wrong with it.
    pub error: Option<String>,
}

/// A manager of the swarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    pub node: Arc<str>,
    /// Where it is reached by other nodes' engines: not the port of its agent.
    pub address: SocketAddr,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub id: Arc<str>,
    pub name: Arc<str>,
    /// Nanoseconds since 1970.
    pub created: i64,
    pub labels: BTreeMap<String, String>,
    pub run: Run,
    /// Of the image's or the container's own health check; `None` where it has none.
    pub health: Option<Health>,
    /// It has been told to end, and has not yet.
    pub stopping: bool,
    /// It has the node's own network.
    pub host: bool,
    /// By the name of the network. `docker_gwbridge` is among them where a task of a swarm is on it.
    pub networks: BTreeMap<Arc<str>, Joined>,
    /// Ports that its image or its configuration names.
    pub exposed: Vec<(u16, Protocol)>,
    /// Ports of the node that the engine itself leads to it.
    pub published: Vec<Published>,
}

impl Container {
    /// How it is; `None` where it is not there: created, restarting, ended.
    pub fn readiness(&self) -> Option<Readiness> {
        let unready = |why: &str| Some(Readiness::Unready(why.into()));
        match (self.run, &self.health) {
            (Run::Created | Run::Restarting | Run::Ended, _) => None,
            _ if self.stopping => Some(Readiness::Draining),
            (Run::Paused, _) => unready("paused"),
            (Run::Running, Some(Health::Starting)) => unready("starting"),
            (Run::Running, Some(Health::Unhealthy(line))) if line.is_empty() => unready("unhealthy"),
            (Run::Running, Some(Health::Unhealthy(line))) => unready(&format!("unhealthy: {line}")),
            (Run::Running, None | Some(Health::Healthy)) => Some(Readiness::Ready),
        }
    }

    /// Networks that others may find it on, in the order in which they would be its way out.
    pub fn ways(&self) -> Vec<(&Arc<str>, &Joined)> {
        let networks = self.networks.iter().filter(|(name, _)| ***name != *GATEWAY);
        let mut ways: Vec<_> = networks.collect();
        ways.sort_by_key(|(name, joined)| (Reverse(joined.gateway), Reverse(joined.priority), *name));
        ways
    }

    /// What the engine shows of its id where it shows little.
    pub fn short_id(&self) -> &str {
        short(&self.id)
    }
}

/// The beginning of an id that engines show where they show little.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    Created,
    Running,
    Paused,
    Restarting,
    /// It ends, is being removed, or cannot be started again.
    Ended,
}

/// What an engine's own health check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Starting,
    Healthy,
    /// With the last line that its probe printed.
    Unhealthy(Arc<str>),
}

/// A container's place on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// One of each family at most.
    pub addresses: Vec<IpAddr>,
    /// What it is called there beside its own name.
    pub aliases: Vec<Arc<str>>,
    /// Whether its default route may lead there.
    pub gateway: bool,
    /// Decides between several that may: the highest wins, then the first by name.
    pub priority: i64,
}

/// A port of the node that the engine leads to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// `None`: all of the node's addresses.
    pub address: Option<IpAddr>,
    /// `None`: whichever was free when it started.
    pub port: Option<u16>,
    pub protocol: Protocol,
    pub target_port: u16,
}
