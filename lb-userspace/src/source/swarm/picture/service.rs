//! One service.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::super::lists;
use super::nodes::Nodes;
use super::ports::{Published, published};
use super::{Network, Networks, tasks};
use crate::model::desired::DEFAULT_SLOTS;
use crate::model::{Affinity, DesiredService, Endpoint, Exposed, Frontend, Naming};
use crate::source::Note;

/// What a stack's services are marked with.
const STACK: &str = "com.docker.stack.namespace";
/// The node's own network.
pub const HOST: &str = "host";
/// Of containers that are on no other network.
const BRIDGE: &str = "bridge";

/// What a service's description refers to.
pub struct Surroundings<'l> {
    pub nodes: &'l Nodes<'l>,
    pub networks: &'l Networks<'l>,
}

impl Surroundings<'_> {
    /// The service, unless it is not to be served.
    pub fn service(
        &self,
        listed: &lists::Service,
        tasks: &[&lists::Task],
        notes: &mut Vec<Note>,
    ) -> Option<DesiredService> {
        let name = &*listed.spec.name;
        let networks = self.networks_of(listed);
        let ports = published(listed, |port| notes.push(unserved(name, port)));
        let isolated = !networks.is_empty()
            && networks.iter().all(|network| network.internal)
            && ports.iter().all(|port| port.port.is_none());
        let mut service = DesiredService {
            naming: naming(listed, &networks, &ports),
            vips: Vec::new(),
            assigned: self.assigned(listed),
            exposed: Vec::new(),
            frontends: Vec::new(),
            slots: DEFAULT_SLOTS,
            affinity: Affinity::None,
            health: None,
            backends: tasks::backends(name, tasks, self.nodes, self.networks),
        };
        if isolated {
            // Its tasks find each other, and that is all that there is.
            service.naming.endpoint = Endpoint::Dnsrr;
        } else {
            front(&mut service, &ports);
        }
        notes.extend(paused(name, listed));
        Some(service)
    }

    fn networks_of<'l>(&'l self, listed: &lists::Service) -> Vec<Network<'l>> {
        targets(listed)
            .filter_map(|target| self.networks.get(&target.target))
            .filter(|network| !network.ingress)
            .collect()
    }

    /// Containers that are on an internal network have no way to any other address.
    fn assigned(&self, listed: &lists::Service) -> Vec<Ipv4Addr> {
        let addresses = listed.endpoint.virtual_ips.iter();
        let led = addresses.filter(|vip| {
            let network = self.networks.get(&vip.network);
            network.is_none_or(|network| !network.ingress && !network.internal)
        });
        let led =
            led.filter_map(
                |vip| match vip.addr.split_once('/').map_or(&*vip.addr, |(ip, _)| ip).parse() {
                    Ok(IpAddr::V4(address)) => Some(address),
                    _ => None,
                },
            );
        led.collect()
    }
}

fn targets(listed: &lists::Service) -> impl Iterator<Item = &lists::Target> {
    let spec = &listed.spec;
    spec.task_template.networks.iter().chain(&spec.networks)
}

fn naming(listed: &lists::Service, networks: &[Network<'_>], ports: &[Published]) -> Naming {
    let spec = &listed.spec;
    let stack = spec.labels.get(STACK).map(|stack| Arc::from(stack.as_str()));
    let short = stack
        .as_deref()
        .and_then(|stack| spec.name.strip_prefix(stack)?.strip_prefix('_'));
    let written = targets(listed).flat_map(|target| target.aliases.iter().map(String::as_str));
    let mut aliases: Vec<Arc<str>> = Vec::new();
    for alias in short.into_iter().chain(written) {
        if alias != spec.name && !aliases.iter().any(|known| **known == *alias) {
            aliases.push(alias.into());
        }
    }
    let mut on: Vec<Arc<str>> = networks.iter().map(|network| network.name.into()).collect();
    if on.is_empty() {
        let published = ports.iter().any(|port| port.port.is_some());
        on.push(if published { "ingress" } else { BRIDGE }.into());
    }
    on.sort();
    on.dedup();
    Naming {
        stack,
        networks: on,
        aliases,
        endpoint: match &*spec.endpoint_spec.mode {
            "dnsrr" => Endpoint::Dnsrr,
            _ => Endpoint::Vip,
        },
        ttl: Naming::TTL,
    }
}

/// A port of the task's node alone is that engine's own business: inside the cluster it answers as the others do.
fn front(service: &mut DesiredService, ports: &[Published]) {
    let mut frontends = BTreeMap::new();
    for &Published {
        protocol,
        target_port,
        port,
    } in ports
    {
        let known = |exposed: &Exposed| (exposed.port, exposed.protocol) == (target_port, protocol);
        if !service.exposed.iter().any(known) {
            service.exposed.push(Exposed {
                port: target_port,
                protocol,
                name: None,
            });
        }
        let Some(port) = port else { continue };
        frontends.entry((port, protocol)).or_insert(Frontend {
            address: None,
            port,
            protocol,
            target_port,
            inside: false,
        });
    }
    service.frontends = frontends.into_values().collect();
}

fn unserved(service: &str, port: &lists::Port) -> Note {
    let lists::Port {
        protocol,
        target_port,
        published_port,
        ..
    } = port;
    Note {
        service: Some(service.into()),
        what: format!(
            "service {service}: port {published_port}:{target_port}/{protocol}: {protocol} is not available yet"
        ),
        consequence: "that port does not answer; the others do".to_owned(),
        fix: format!(
            "publish it in host mode, or docker service update --publish-rm {target_port}/{protocol} {service}"
        ),
    }
}

/// Not an error of ours, but why two versions answer.
fn paused(service: &str, listed: &lists::Service) -> Option<Note> {
    let status = listed.update_status.as_ref()?;
    let what = match &*status.state {
        "paused" => "update",
        "rollback_paused" => "rollback",
        _ => return None,
    };
    Some(Note {
        service: Some(service.into()),
        what: format!(
            "service {service}: the swarm has paused its {what}: {}",
            status.message
        ),
        consequence: "tasks of both versions that run are served".to_owned(),
        fix: format!(
            "see docker service ps {service}; then docker service update {service} to go on, or --rollback"
        ),
    })
}
