//! What the views are made from: the snapshot, and what planes, sources, peers and health checks report.
//!
//! Plain data, gathered by `app`, so that every view is a pure function of it.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Problem;
use crate::model::merge::Conflict;
use crate::model::{Identity, Member, Node, Pool, Service, Snapshot};
use crate::names::report::NamesReport;
use crate::plane::choice::{Here, Serving};
use crate::plane::{FlowReport, PlaneReport};
use crate::source::stream::StreamReport;

/// One moment of an agent.
#[derive(Clone)]
pub struct Facts {
    /// This node's name.
    pub node: Arc<str>,
    /// The cluster's placement seed.
    pub seed: u64,
    /// Gives the tags of tasks that are not there yet.
    pub identity: Identity,
    pub snapshot: Arc<Snapshot>,
    pub planes: Vec<Plane>,
    /// What frontends have to choose from.
    pub here: Here,
    pub sources: Vec<Source>,
    /// What a source wanted and an earlier one has.
    pub conflicts: Vec<Conflict>,
    pub peers: Vec<Peer>,
    /// The name server, where one is configured.
    pub names: Option<NamesReport>,
    /// The stream between agents, where this node is one of a swarm's.
    pub stream: Option<StreamReport>,
    /// Last words of the health check, by backend tag. Only of tasks on this node.
    pub health: HashMap<u64, String>,
    /// Flows of tasks on this node.
    pub flows: FlowReport,
}

impl Facts {
    /// Live flows of a task over all its ports and families; none for a task on another node, whose agent counts them, and
    /// before the first round of counting is complete.
    pub fn live(&self, service: &str, task: &str, node: &str) -> Option<u64> {
        let members = self.pools(service).flat_map(|pool| &pool.members);
        let own = members.filter(|member| &*member.task == task);
        let live = |member: &Member| self.flows.members.get(&member.candidate.tag).copied();
        self.counts(node).then(|| own.filter_map(live).sum())
    }

    /// Live flows of one member on `node`; none as in [`live`](Self::live).
    pub fn live_of(&self, member: u64, node: &str) -> Option<u64> {
        self.counts(node)
            .then(|| self.flows.members.get(&member).copied().unwrap_or(0))
    }

    /// What serves at a node, as far as its agent has said; a node of which nothing is known is taken to have packet programs.
    fn plane_of(&self, node: &Node) -> Option<Serving> {
        let has_spoken = || {
            let mut peers = self.peers.iter();
            peers.any(|peer| peer.node == *node.name && peer.heard_ms.is_some())
        };
        match node.name == self.node {
            true if self.here.is_proxy_alone() => Some(Serving::Proxy),
            true => Some(Serving::Ebpf),
            false if node.by_proxy => Some(Serving::Proxy),
            false => has_spoken().then_some(Serving::Ebpf),
        }
    }

    /// The same in a word, as views show it.
    pub fn plane_shown(&self, node: &Node) -> Option<String> {
        self.plane_of(node).map(|plane| plane.label().into())
    }

    /// Whether some of the service's tasks run where there are no packet programs.
    pub fn has_bare(&self, service: &Service) -> bool {
        service.backends.iter().any(|backend| {
            let node = self.snapshot.nodes.get(&backend.node);
            node.and_then(|node| self.plane_of(node)) == Some(Serving::Proxy)
        })
    }

    fn counts(&self, node: &str) -> bool {
        node == &*self.node && self.flows.generation.is_some()
    }

    /// What sources could not take of this service as it is written.
    pub fn notes(&self, service: &str) -> impl Iterator<Item = &Note> {
        let notes = self.sources.iter().flat_map(|source| &source.notes);
        notes.filter(move |note| note.service.as_deref() == Some(service))
    }

    /// The service's pools. They stand together, for pools are sorted by service.
    pub fn pools(&self, service: &str) -> impl Iterator<Item = &Pool> + use<'_> {
        self.snapshot.pools_of(service).iter().map(|pool| &**pool)
    }
}

/// A plane, as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plane {
    pub name: String,
    /// Why it does not run, or could not carry out the latest snapshot.
    pub problem: Option<Problem>,
    pub report: PlaneReport,
}

/// Where the desired state comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    pub name: String,
    /// Where it reads.
    pub place: String,
    /// Milliseconds since it last gave a picture that was accepted; none before the first.
    pub age_ms: Option<u64>,
    /// Why its latest picture was refused. The last good one goes on.
    pub error: Option<String>,
    /// What is wrong with single objects of its picture.
    #[serde(default)]
    pub notes: Vec<Note>,
}

/// Something that a source could not take as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// The service that lacks it, where there is one.
    pub service: Option<String>,
    pub problem: Problem,
}

/// Another node's agent, as this one hears it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    pub node: String,
    /// Milliseconds since its last heartbeat; none if it was never heard.
    pub heard_ms: Option<u64>,
    /// The node shows no sign of life: new connections go elsewhere.
    pub suspected: bool,
    /// The node answers that no agent hears there: what one has programmed goes on.
    pub away: bool,
}
