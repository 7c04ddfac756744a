//! What only a task's own node knows: where it is delivered, and how it is this very moment. Pure.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::model::{Desired, DesiredBackend, DesiredService, Readiness};
use crate::source::engine::local::{GATEWAY, INGRESS, Joined, TASK};
use crate::source::engine::{Container, Local, Membership, Run};

/// The picture as the node `own` carries it out, sharing with `before` what is the same.
///
/// A task whose container is not there is left out: nobody could be led to it, and its connections are over.
pub fn localize(desired: &Desired, local: &Local, own: &str, before: &Desired) -> Desired {
    let here = Here {
        own,
        address: desired.nodes.get(own).map(|node| node.address),
        containers: containers(local),
    };
    let services = desired.services.iter().map(|(name, service)| {
        let localized = here.service(service, before.services.get(name));
        (Arc::clone(name), localized)
    });
    Desired {
        nodes: desired.nodes.clone(),
        services: services.collect(),
        order: desired.order.clone(),
        guests: here.guests(desired),
    }
}

/// What the swarm calls this node: by its address, which the engine knows, or else as it is configured.
pub fn own_name(desired: &Desired, member: Option<&Membership>, configured: &Arc<str>) -> Arc<str> {
    let address = member.and_then(|member| member.address);
    let at = |address| {
        desired
            .nodes
            .iter()
            .find(move |(_, node)| node.address == address)
    };
    let own = address.and_then(at).map(|(name, _)| Arc::clone(name));
    own.unwrap_or_else(|| Arc::clone(configured))
}

/// This node and its tasks' containers.
struct Here<'l> {
    own: &'l str,
    address: Option<Ipv4Addr>,
    /// By the id of the task.
    containers: HashMap<&'l str, &'l Container>,
}

fn containers(local: &Local) -> HashMap<&str, &Container> {
    let containers = local.containers.values();
    containers
        .filter_map(|container| Some((container.labels.get(TASK)?.as_str(), &**container)))
        .collect()
}

/// A task's name ends with its id.
fn task_id(backend: &DesiredBackend) -> &str {
    backend.task.rsplit('.').next().unwrap_or(&backend.task)
}

impl Here<'_> {
    fn service(
        &self,
        service: &Arc<DesiredService>,
        before: Option<&Arc<DesiredService>>,
    ) -> Arc<DesiredService> {
        let is_here = |backend: &DesiredBackend| *backend.node == *self.own;
        if !service.backends.iter().any(is_here) {
            return Arc::clone(service);
        }
        let delivered = !service.exposed.is_empty() || !service.frontends.is_empty();
        let backends = service.backends.iter().filter_map(|backend| {
            if is_here(backend) {
                self.backend(backend, delivered)
            } else {
                Some(backend.clone())
            }
        });
        let localized = DesiredService {
            backends: backends.collect(),
            ..(**service).clone()
        };
        let kept = [Some(service), before].into_iter().flatten();
        let mut kept = kept.filter(|kept| ***kept == localized);
        kept.next().cloned().unwrap_or_else(|| Arc::new(localized))
    }

    /// `delivered`: whether anybody may be led to it, and not its name alone asked for.
    fn backend(&self, backend: &DesiredBackend, delivered: bool) -> Option<DesiredBackend> {
        let container = self.containers.get(task_id(backend))?;
        let addresses = match self.address_of(container) {
            Some(address) => vec![address.into()],
            None if delivered => return None,
            None => backend.addresses.clone(),
        };
        Some(DesiredBackend {
            addresses,
            readiness: readiness(container, &backend.readiness)?,
            ..backend.clone()
        })
    }

    /// Where this node delivers. IPv4 alone: the other nodes count on it, and would send nothing of the other family.
    fn address_of(&self, container: &Container) -> Option<Ipv4Addr> {
        if container.host {
            return self.address;
        }
        let gateway = container.networks.get(GATEWAY).and_then(v4);
        gateway.or_else(|| {
            // On a network of this node alone, and so on its default one where the service has none.
            let way = container.ways().into_iter().next();
            way.filter(|(_, joined)| joined.gateway)
                .and_then(|(_, joined)| v4(joined))
        })
    }

    /// Containers of tasks that the swarm does not count yet, or no more: they ask for names while they start.
    fn guests(&self, desired: &Desired) -> BTreeMap<IpAddr, Arc<[Arc<str>]>> {
        let backends = desired.services.values().flat_map(|service| &service.backends);
        let counted = backends.filter(|backend| *backend.node == *self.own).map(task_id);
        let counted: std::collections::HashSet<&str> = counted.collect();
        let guests = self
            .containers
            .iter()
            .filter(|(task, _)| !counted.contains(**task));
        let guests = guests.filter(|(_, container)| !container.host && container.run != Run::Ended);
        let guests = guests.filter_map(|(_, container)| {
            let address = self.address_of(container)?;
            Some((IpAddr::V4(address), networks(container)))
        });
        guests.collect()
    }
}

fn v4(joined: &Joined) -> Option<Ipv4Addr> {
    let mut addresses = joined.addresses.iter();
    addresses.find_map(|address| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    })
}

/// On which it may ask for names, as its service would be: nobody is found on the network of published ports who has another.
fn networks(container: &Container) -> Arc<[Arc<str>]> {
    let names = container.networks.keys().filter(|name| ***name != *GATEWAY);
    let (ingress, own): (Vec<_>, Vec<_>) = names.cloned().partition(|name| **name == *INGRESS);
    if own.is_empty() { ingress } else { own }.into()
}

/// `None`: it has ended. The node hears of its tasks seconds before a manager does; only what the managers alone know, that
/// the task shall end, is theirs to say.
fn readiness(container: &Container, said: &Readiness) -> Option<Readiness> {
    let own = container.readiness()?;
    Some(match said {
        Readiness::Draining => Readiness::Draining,
        _ => own,
    })
}

#[cfg(test)]
mod tests;
