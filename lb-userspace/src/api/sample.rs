//! Facts for the views' tests: three nodes, `web` with a task on each, seen from node1.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use lb_common::placement::{Candidate, State};

use super::Facts;
use super::facts::{Peer, Plane, Source};
use crate::config::Mode;
use crate::model::{
    Affinity, Backend, Family, Frontend, Identity, Member, Naming, Node, Pool, Protocol, Service, Snapshot,
    Standing,
};
use crate::plane::choice::Here;
use crate::plane::{FlowReport, PlaneReport};

const TASK: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 18, 0, 2));

pub fn facts() -> Facts {
    let identity = Identity::new([1; 32]);
    let snapshot = snapshot(&identity, 3);
    Facts {
        node: "node1".into(),
        seed: 7,
        flows: FlowReport {
            generation: Some(5),
            members: BTreeMap::from([(identity.member("web", "web.1", 80, Family::V4), 14)]),
            ..FlowReport::default()
        },
        identity,
        snapshot: Arc::new(snapshot),
        planes: vec![Plane {
            name: "ebpf".into(),
            problem: None,
            report: PlaneReport {
                generation: 5,
                ..PlaneReport::default()
            },
        }],
        here: Here {
            mode: Mode::Auto,
            without_ebpf: None,
        },
        sources: vec![Source {
            name: "file".into(),
            place: "/etc/portico/services.yaml".into(),
            age_ms: Some(1500),
            error: None,
            notes: Vec::new(),
        }],
        conflicts: Vec::new(),
        peers: ["node2", "node3"].map(peer).into(),
        names: None,
        stream: None,
        health: HashMap::new(),
    }
}

/// `web` with `tasks` tasks, one on each node.
pub fn snapshot(identity: &Identity, tasks: usize) -> Snapshot {
    let names: Vec<(Arc<str>, Arc<str>)> = (1..=tasks)
        .map(|n| (format!("web.{n}").into(), format!("node{n}").into()))
        .collect();
    let frontend = Frontend {
        address: None,
        port: 8080,
        protocol: Protocol::Tcp,
        target_port: 80,
        inside: false,
        held: false,
    };
    let service = Service {
        name: "web".into(),
        naming: Naming::default(),
        vips: Vec::new(),
        assigned: Vec::new(),
        missed_vips: Vec::new(),
        exposed: Vec::new(),
        frontends: vec![frontend],
        slots: 4096,
        affinity: Affinity::None,
        wanted: None,
        health: None,
        proxy: Default::default(),
        backends: names
            .iter()
            .map(|(task, node)| backend_of(identity, task, node))
            .collect(),
    };
    let pool = Pool {
        id: identity.pool("web", 80, Family::V4),
        service: "web".into(),
        target_port: 80,
        family: Family::V4,
        slots: 4096,
        affinity: Affinity::None,
        frontends: vec![frontend],
        members: names
            .iter()
            .enumerate()
            .map(|(n, (task, node))| member_of(identity, task, node, n))
            .collect(),
    };
    Snapshot {
        generation: 5,
        nodes: names
            .iter()
            .enumerate()
            .map(|(n, (_, node))| (Arc::clone(node), node_of(node, n)))
            .collect(),
        services: [(Arc::from("web"), Arc::new(service))].into(),
        pools: vec![Arc::new(pool)],
        guests: Default::default(),
    }
}

/// Changes the snapshot of `facts`.
pub fn change(facts: &mut Facts, how: impl FnOnce(&mut Snapshot)) {
    how(Arc::make_mut(&mut facts.snapshot));
}

/// A backend of `web`, to be changed.
pub fn backend<'s>(snapshot: &'s mut Snapshot, task: &str) -> &'s mut Backend {
    let service = Arc::make_mut(snapshot.services.get_mut("web").unwrap());
    service
        .backends
        .iter_mut()
        .find(|backend| &*backend.task == task)
        .unwrap()
}

/// A node, to be changed.
pub fn node<'s>(snapshot: &'s mut Snapshot, name: &str) -> &'s mut Node {
    snapshot.nodes.get_mut(name).unwrap()
}

/// `web`'s one pool, to be changed.
pub fn service(snapshot: &mut Snapshot) -> &mut Service {
    Arc::make_mut(snapshot.services.get_mut("web").unwrap())
}

pub fn pool(snapshot: &mut Snapshot) -> &mut Pool {
    Arc::make_mut(&mut snapshot.pools[0])
}

fn peer(node: &str) -> Peer {
    Peer {
        node: node.into(),
        heard_ms: Some(80),
        suspected: false,
        away: false,
    }
}

fn node_of(name: &Arc<str>, n: usize) -> Node {
    Node {
        name: Arc::clone(name),
        tag: n as u16 + 1,
        address: Ipv4Addr::new(192, 0, 2, 11 + n as u8),
        draining: false,
        suspected: false,
        by_proxy: false,
    }
}

fn backend_of(identity: &Identity, task: &Arc<str>, node: &Arc<str>) -> Backend {
    Backend {
        tag: identity.backend("web", task),
        task: Arc::clone(task),
        names: Vec::new(),
        node: Arc::clone(node),
        addresses: vec![TASK],
        attachments: Vec::new(),
        weight: 1,
        standing: Standing::Active,
        unready: None,
    }
}

fn member_of(identity: &Identity, task: &Arc<str>, node: &Arc<str>, n: usize) -> Member {
    Member {
        task: Arc::clone(task),
        node: Arc::clone(node),
        address: TASK,
        candidate: Candidate {
            tag: identity.member("web", task, 80, Family::V4),
            node: n as u16 + 1,
            weight: 1,
            peak: 1,
            state: State::Active,
            first: 0,
            last: u64::MAX,
            seen_first: 0,
            seen_last: u64::MAX,
        },
    }
}
