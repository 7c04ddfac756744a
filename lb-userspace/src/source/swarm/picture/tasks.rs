//! From the tasks of one service to its backends.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::super::lists::{self, State};
use super::Networks;
use super::nodes::{Known, Nodes};
use crate::model::{Attachment, DesiredBackend, Readiness, Stamps};

/// Those that a connection may be on: what has not started yet is not among them, and what ends has already been told so.
pub fn backends(
    service: &str,
    tasks: &[&lists::Task],
    nodes: &Nodes<'_>,
    networks: &Networks<'_>,
) -> Vec<DesiredBackend> {
    let running = tasks.iter().filter(|task| task.status.state == State::Running);
    let mut backends: Vec<(bool, u64, DesiredBackend)> = running
        .filter_map(|task| {
            let node = nodes.get(&task.node)?;
            let readiness = readiness(task)?;
            let on_host = on_host(task);
            let backend = DesiredBackend {
                task: identity(service, task),
                names: names(service, task),
                node: Arc::clone(&node.name),
                addresses: vec![IpAddr::V4(placeholder(task, node))],
                attachments: attachments(task, networks),
                weight: 1,
                readiness,
                stamps: stamps(task, node),
            };
            Some((on_host, task.created_at.0, backend))
        })
        .collect();
    // Two that share the node's own address are told apart by nobody: the youngest that is not on its way out has it.
    let rank = |(_, created, backend): &(bool, u64, DesiredBackend)| {
        (
            backend.readiness == Readiness::Ready,
            *created,
            Arc::clone(&backend.task),
        )
    };
    let hosts: Vec<_> = backends
        .iter()
        .filter(|(on_host, ..)| *on_host)
        .cloned()
        .collect();
    backends.retain(|one| {
        let same_place = |other: &&(bool, u64, DesiredBackend)| other.2.node == one.2.node;
        !one.0
            || !hosts
                .iter()
                .filter(same_place)
                .any(|other| rank(other) > rank(one))
    });
    let mut backends: Vec<DesiredBackend> = backends.into_iter().map(|(.., backend)| backend).collect();
    backends.sort_by(|a, b| a.task.cmp(&b.task));
    backends
}

/// `None`: it has ended, or is not there yet.
const fn readiness(task: &lists::Task) -> Option<Readiness> {
    match task.desired_state {
        State::Running => Some(Readiness::Ready),
        // The engine may not have heard of it yet, and its node may be gone: both are told by this state first.
        State::Shutdown | State::Remove => Some(Readiness::Draining),
        _ => None,
    }
}

/// A successor in the same slot is another instance; the id makes it one, and is how its own node finds its container.
fn identity(service: &str, task: &lists::Task) -> Arc<str> {
    if task.slot == 0 {
        format!("{service}.{}.{}", task.node, task.id).into()
    } else {
        format!("{service}.{}.{}", task.slot, task.id).into()
    }
}

/// The container is called as the task is.
fn names(service: &str, task: &lists::Task) -> Vec<Arc<str>> {
    let slot = (task.slot != 0).then(|| format!("{service}.{}", task.slot).into());
    slot.into_iter().chain([identity(service, task)]).collect()
}

/// By the clock of the leader, which is the one who writes both: no later than the activation, and no earlier.
fn stamps(task: &lists::Task, node: &Known) -> Stamps {
    let first = task.created_at.0;
    Stamps {
        first,
        last: first.max(task.updated_at.0).max(node.updated),
    }
}

/// Says that it is served over IPv4, as every task is: docker_gwbridge has no other addresses.
fn placeholder(task: &lists::Task, node: &Known) -> Ipv4Addr {
    let mut addresses = task.networks_attachments.iter().flat_map(addresses);
    let v4 = addresses.find_map(|address| match address {
        IpAddr::V4(v4) if !on_host(task) => Some(v4),
        _ => None,
    });
    v4.unwrap_or(node.node.address)
}

fn on_host(task: &lists::Task) -> bool {
    let mut networks = task.networks_attachments.iter();
    networks.any(|attached| attached.network.spec.name == super::service::HOST)
}

/// The ingress network is not one that tasks find each other on, unless they have nothing else.
fn attachments(task: &lists::Task, networks: &Networks<'_>) -> Vec<Attachment> {
    let of = |ingress: bool| {
        let attached = task.networks_attachments.iter();
        let wanted = attached.filter(move |attached| {
            networks
                .get(&attached.network.id)
                .is_some_and(|network| network.ingress)
                == ingress
        });
        let attachments = wanted.flat_map(|attached| {
            let network: Arc<str> = attached.network.spec.name.as_str().into();
            addresses(attached).map(move |address| Attachment {
                network: Arc::clone(&network),
                address,
            })
        });
        attachments.collect::<Vec<_>>()
    };
    let own = of(false);
    if own.is_empty() { of(true) } else { own }
}

fn addresses(attached: &lists::Attached) -> impl Iterator<Item = IpAddr> {
    let addresses = attached.addresses.iter();
    addresses.filter_map(|address| {
        address
            .split_once('/')
            .map_or(&**address, |(ip, _)| ip)
            .parse()
            .ok()
    })
}
