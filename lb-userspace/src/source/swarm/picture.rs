//! From a manager's lists to what is wanted, the same on every manager. Pure.

mod nodes;
mod ports;
mod restless;
mod service;
mod tasks;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::lists::{self, Lists};
use crate::model::Desired;
use crate::source::Note;

pub use restless::is_restless;

/// What the lists come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Addresses of tasks mean nothing here but their family: where a task is delivered its own node knows.
    pub desired: Desired,
    pub notes: Vec<Note>,
    /// What the manager is called that the others follow.
    pub leader: Option<Arc<str>>,
}

/// All of it, sharing with the picture before what is the same.
pub fn picture(lists: &Lists, before: &Desired) -> Picture {
    let mut notes = Vec::new();
    let nodes = nodes::nodes(&lists.nodes, &mut notes);
    let networks = Networks::new(lists);
    let mut tasks: HashMap<&str, Vec<&lists::Task>> = HashMap::new();
    for task in &lists.tasks {
        tasks.entry(&task.service).or_default().push(task);
    }
    let mut services: Vec<_> = lists
        .services
        .iter()
        .filter(|service| !service.is_job())
        .collect();
    services.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    let surroundings = service::Surroundings {
        nodes: &nodes,
        networks: &networks,
    };
    let mut desired = Desired::default();
    for listed in services {
        let tasks = tasks.get(&*listed.id).map_or(&[][..], Vec::as_slice);
        let Some(service) = surroundings.service(listed, tasks, &mut notes) else {
            continue;
        };
        let name: Arc<str> = listed.spec.name.as_str().into();
        let former = before.services.get(&name).filter(|former| ***former == service);
        let service = former.map_or_else(|| Arc::new(service), Arc::clone);
        desired.order.push(Arc::clone(&name));
        desired.services.insert(name, service);
    }
    let leader = nodes.leader.clone();
    desired.nodes = nodes.desired();
    Picture {
        desired,
        notes,
        leader,
    }
}

impl lists::Service {
    /// Its tasks end by themselves: nobody is to be led to them.
    const fn is_job(&self) -> bool {
        self.spec.mode.replicated_job.is_some() || self.spec.mode.global_job.is_some()
    }
}

/// What is known of networks, by id and by name.
struct Networks<'l>(BTreeMap<&'l str, Network<'l>>);

#[derive(Clone, Copy)]
struct Network<'l> {
    name: &'l str,
    /// Its tasks reach nothing outside, and their nodes do not reach them.
    internal: bool,
    ingress: bool,
}

impl<'l> Networks<'l> {
    fn new(lists: &'l Lists) -> Self {
        let mut known = BTreeMap::new();
        // Networks of the node itself (host, bridge) are in no manager's list under the ids that tasks have.
        let attached = lists.tasks.iter().flat_map(|task| &task.networks_attachments);
        for lists::Attached { network, .. } in attached {
            let entry = Network {
                name: &network.spec.name,
                internal: network.spec.internal,
                ingress: network.spec.ingress,
            };
            known.insert(&*network.id, entry);
        }
        for network in &lists.networks {
            let entry = Network {
                name: &network.name,
                internal: network.internal,
                ingress: network.ingress,
            };
            known.insert(&*network.id, entry);
            known.entry(&*network.name).or_insert(entry);
        }
        Self(known)
    }

    fn get(&self, target: &str) -> Option<Network<'l>> {
        self.0.get(target).copied()
    }
}
