//! The machines of the swarm, and what they are called: every manager must come to the same names.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::super::lists;
use crate::model::DesiredNode;
use crate::model::validate::is_host_name;
use crate::source::Note;

/// What a node is called where its host's name does not do.
pub const LABEL: &str = "portico.node";

/// Those that can be reached.
pub struct Nodes<'l> {
    by_id: HashMap<&'l str, Known>,
    pub leader: Option<Arc<str>>,
}

pub struct Known {
    pub name: Arc<str>,
    pub node: DesiredNode,
    /// When something of it was changed last.
    pub updated: u64,
}

impl Nodes<'_> {
    pub fn get(&self, id: &str) -> Option<&Known> {
        self.by_id.get(id)
    }

    pub fn desired(&self) -> BTreeMap<Arc<str>, DesiredNode> {
        let nodes = self.by_id.values();
        nodes.map(|known| (Arc::clone(&known.name), known.node)).collect()
    }
}

/// All that have an address, by their names.
pub fn nodes<'l>(listed: &'l [lists::Node], notes: &mut Vec<Note>) -> Nodes<'l> {
    let mut sorted: Vec<&lists::Node> = listed.iter().collect();
    sorted.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    let mut addressed: Vec<(&lists::Node, Ipv4Addr)> = Vec::new();
    // One that has just been made has not said yet what it is called.
    for node in sorted.into_iter().filter(|node| is_described(node)) {
        match address(node) {
            Some(address) => addressed.push((node, address)),
            None => notes.extend(unaddressed(node)),
        }
    }
    let mut taken: BTreeMap<Arc<str>, &lists::Node> = BTreeMap::new();
    let (mut by_id, mut leader) = (HashMap::new(), None);
    for &(node, address) in &addressed {
        // One that left the swarm and joined it again: the list has what it was until somebody removes that.
        let is_successor =
            |other: &&(&lists::Node, Ipv4Addr)| other.1 == address && supersedes(other.0, node);
        if addressed.iter().any(|other| is_successor(&other)) {
            continue;
        }
        let wanted = wanted_name(node, notes);
        let name: Arc<str> = match taken.get(wanted) {
            None => wanted.into(),
            Some(first) => {
                let id = node.id.get(..8).unwrap_or(&node.id);
                let name = format!("{wanted}-{id}");
                notes.push(double(node, wanted, &name, first));
                name.into()
            }
        };
        taken.insert(Arc::clone(&name), node);
        if node.manager_status.as_ref().is_some_and(|manager| manager.leader) {
            leader = Some(Arc::clone(&name));
        }
        let known = Known {
            name,
            node: DesiredNode {
                address,
                draining: is_draining(node),
            },
            updated: node.updated_at.0,
        };
        by_id.insert(&*node.id, known);
    }
    Nodes { by_id, leader }
}

/// Where other nodes reach it. A manager that was the first one is seen by itself under an address that says nothing.
fn address(node: &lists::Node) -> Option<Ipv4Addr> {
    let status = node.status.addr.parse().ok();
    let manager = node.manager_status.as_ref();
    let manager = manager.and_then(|manager| manager.addr.rsplit_once(':')?.0.parse().ok());
    let useful = |address: &Ipv4Addr| !address.is_unspecified() && !address.is_loopback();
    status.filter(useful).or(manager.filter(useful))
}

/// Two machines cannot have one address: one of the two entries is of the past.
fn supersedes(one: &lists::Node, other: &lists::Node) -> bool {
    let rank = |node: &lists::Node| (node.status.state != "down", node.created_at);
    one.id != other.id && (rank(one), &one.id) > (rank(other), &other.id)
}

/// A new leader knows nothing of a node until it has heard it (`unknown`), which takes some seconds after every election:
/// that takes no task out of service.
fn is_draining(node: &lists::Node) -> bool {
    node.spec.availability == "drain" || matches!(&*node.status.state, "down" | "disconnected")
}

fn is_described(node: &lists::Node) -> bool {
    !node.description.hostname.is_empty() || node.spec.labels.contains_key(LABEL)
}

fn wanted_name<'l>(node: &'l lists::Node, notes: &mut Vec<Note>) -> &'l str {
    let host = &node.description.hostname;
    let host = if is_host_name(host) { host } else { &node.id };
    match node.spec.labels.get(LABEL) {
        Some(label) if is_host_name(label) => label,
        Some(label) => {
            notes.push(Note {
                service: None,
                what: format!(
                    "node {host} ({}): label {LABEL}=\"{label}\" is no name of a host",
                    node.id
                ),
                consequence: format!("the node is called {host}"),
                fix: format!("docker node update --label-add {LABEL}=NAME {}", node.id),
            });
            host
        }
        None => host,
    }
}

fn double(node: &lists::Node, wanted: &str, name: &str, first: &lists::Node) -> Note {
    Note {
        service: None,
        what: format!(
            "nodes {} and {} ({}) are both called {wanted}",
            first.id, node.id, node.status.addr
        ),
        consequence: format!(
            "the second one is called {name}, and its agent must be told so: node = \"{name}\""
        ),
        fix: format!(
            "give it another host name, or docker node update --label-add {LABEL}=NAME {}; if one of them is gone for \
             good, docker node rm ID",
            node.id
        ),
    }
}

/// One that has not joined completely yet has neither name nor address.
fn unaddressed(node: &lists::Node) -> Option<Note> {
    let address = node.status.addr.parse::<IpAddr>().ok()?;
    let why = match address {
        IpAddr::V6(_) => "an IPv6 underlay is not available yet",
        IpAddr::V4(_) => "that address leads nowhere from other nodes",
    };
    Some(Note {
        service: None,
        what: format!("node {} is at {address}: {why}", node.description.hostname),
        consequence: "its tasks get nothing".to_owned(),
        fix: "let it join the swarm with --advertise-addr and its IPv4 address".to_owned(),
    })
}
