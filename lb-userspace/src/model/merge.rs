//! Several sources as one: what two of them claim goes to the one configured first.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Desired, DesiredBackend, Frontend};

/// What a later source wanted and did not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Name of the source that yields.
    pub source: Arc<str>,
    pub claim: Claim,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Another address or state of a node that an earlier source has.
    Node(Arc<str>),
    /// A service that an earlier source has.
    Service(Arc<str>),
    /// A frontend that another service of an earlier source answers.
    Frontend { service: Arc<str>, frontend: Frontend },
    /// A backend on a node that no source has.
    Backend { service: Arc<str>, node: Arc<str> },
}

/// All sources in the order of the configuration, as one, and what had to yield.
pub fn merge<'d>(sources: impl IntoIterator<Item = (&'d Arc<str>, &'d Desired)>) -> (Desired, Vec<Conflict>) {
    let (mut merged, mut conflicts) = (Desired::default(), Vec::new());
    let sources: Vec<_> = sources.into_iter().collect();
    for (source, desired) in &sources {
        for (name, node) in &desired.nodes {
            let kept = merged.nodes.entry(Arc::clone(name)).or_insert(*node);
            if kept != node {
                conflicts.push(Conflict {
                    source: Arc::clone(source),
                    claim: Claim::Node(Arc::clone(name)),
                });
            }
        }
    }
    // A single source has been validated as a whole: nothing can collide, and everything stays shared.
    if let [(_, only)] = sources[..] {
        return (only.clone(), conflicts);
    }
    let mut taken = HashSet::new();
    for (source, desired) in sources {
        for (address, networks) in &desired.guests {
            merged
                .guests
                .entry(*address)
                .or_insert_with(|| Arc::clone(networks));
        }
        let mut belongs = HashSet::new();
        for (name, service) in &desired.services {
            let mut refuse = |claim| {
                conflicts.push(Conflict {
                    source: Arc::clone(source),
                    claim,
                })
            };
            if merged.services.contains_key(name) {
                refuse(Claim::Service(Arc::clone(name)));
                for backend in &service.backends {
                    merged.guests.extend(unserved(backend));
                }
                continue;
            }
            let mut kept = Arc::clone(service);
            for frontend in &service.frontends {
                if !taken.insert((frontend.address, frontend.port, frontend.protocol)) {
                    refuse(Claim::Frontend {
                        service: Arc::clone(name),
                        frontend: *frontend,
                    });
                    Arc::make_mut(&mut kept)
                        .frontends
                        .retain(|other| other != frontend);
                }
            }
            for backend in &service.backends {
                if !merged.nodes.contains_key(&backend.node) {
                    refuse(Claim::Backend {
                        service: Arc::clone(name),
                        node: Arc::clone(&backend.node),
                    });
                    Arc::make_mut(&mut kept).backends.retain(|other| other != backend);
                }
            }
            merged.services.insert(Arc::clone(name), kept);
            belongs.insert(name);
        }
        // A later source's services come after all of an earlier one's, whoever was first.
        let known: HashSet<&Arc<str>> = desired.order.iter().collect();
        let unknown = desired.services.keys().filter(|name| !known.contains(name));
        let order = desired.order.iter().chain(unknown);
        let kept = order.filter(|name| belongs.contains(name));
        merged.order.extend(kept.cloned());
    }
    (merged, conflicts)
}

/// A task of a service that is not served asks for names all the same: from each of its addresses, as one on its networks.
fn unserved(backend: &DesiredBackend) -> impl Iterator<Item = (IpAddr, Arc<[Arc<str>]>)> {
    let at = &backend.attachments;
    let networks: Arc<[Arc<str>]> = at.iter().map(|at| Arc::clone(&at.network)).collect();
    at.iter().map(move |at| (at.address, Arc::clone(&networks)))
}

impl Conflict {
    /// What to do next.
    pub fn fix(&self) -> String {
        match &self.claim {
            Claim::Node(node) => format!(
                "give node {node} one address in all sources; that of containers of this node is address in portico.toml"
            ),
            Claim::Service(service) => {
                format!(
                    "call one of the two otherwise (a container by portico.service), or remove {service} from one source"
                )
            }
            Claim::Frontend { .. } => "publish one of the two on another port, protocol or VIP".into(),
            Claim::Backend { node, .. } => format!("add node {node} and its address to a source"),
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, claim } = self;
        match claim {
            Claim::Node(node) => write!(
                f,
                "source {source}: node {node} is described differently by an earlier source"
            ),
            Claim::Service(service) => write!(
                f,
                "source {source}: service {service} belongs to an earlier source"
            ),
            Claim::Frontend { service, frontend } => {
                write!(
                    f,
                    "source {source}: {frontend} of service {service} is taken by an earlier service"
                )
            }
            Claim::Backend { service, node } => {
                write!(
                    f,
                    "source {source}: service {service} has a backend on node {node}, which no source knows"
                )
            }
        }
    }
}
