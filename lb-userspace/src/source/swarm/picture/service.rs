//! One service.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::super::lists;
use super::nodes::Nodes;
use super::ports::{Published, published};
use super::{Network, Networks, tasks};
use crate::model::{DesiredService, Endpoint, Naming};
use crate::source::engine::local::INGRESS;
use crate::source::labels::{self, Fault, Front, Settings};
use crate::source::{Note, ports};

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
        let (settings, mut faults) = labels::read(labels_of(listed));
        faults.extend(idle(&settings));
        let networks = self.networks_of(listed);
        let ports = published(listed, |port| notes.push(unserved(name, port)));
        let published = ports.iter().any(|port| port.port.is_some());
        let isolated = !networks.is_empty() && networks.iter().all(|network| network.internal) && !published;
        // Its tasks find each other, and that is all that there is.
        let front = if isolated {
            Front::default()
        } else {
            front(&settings, &ports)
        };
        let health = settings.health(&front.exposed).unwrap_or_else(|fault| {
            faults.push(fault);
            None
        });
        let object = format!("service {name}");
        notes.extend(faults.iter().map(|fault| fault.note(&object, Some(name.into()))));
        if !settings.enable {
            return None;
        }
        notes.extend(paused(name, listed));
        let mut naming = naming(listed, &settings, &networks, published);
        if isolated {
            naming.endpoint = Endpoint::Dnsrr;
        }
        Some(DesiredService {
            naming,
            vips: front.vips,
            assigned: self.assigned(listed),
            exposed: front.exposed,
            frontends: front.frontends,
            slots: settings.slots,
            affinity: settings.affinity,
            health,
            proxy: settings.proxy.clone(),
            backends: tasks::backends(name, tasks, self.nodes, self.networks),
        })
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

/// Those of the service, and of its containers where it has none of the same name: a stack file has the ones under
/// `deploy`, and the others beside it.
fn labels_of(listed: &lists::Service) -> BTreeMap<&str, &str> {
    let spec = &listed.spec;
    let containers = spec.task_template.container_spec.labels.iter();
    let all = containers.chain(&spec.labels);
    all.map(|(label, value)| (label.as_str(), value.as_str()))
        .collect()
}

/// Labels that say something of single containers, which here all are alike.
fn idle(settings: &Settings) -> Vec<Fault> {
    let fault = |label: &str, value: &str, reason| {
        Fault::new(&format!("{}{label}", labels::PREFIX), value, reason, "remove it")
    };
    let weight = (settings.weight != 1).then(|| settings.weight.to_string());
    let weight = weight.map(|weight| {
        fault(
            "weight",
            &weight,
            "all tasks of a service of a swarm weigh the same",
        )
    });
    let service = settings.service.as_deref();
    let service = service.map(|name| fault("service", name, "the swarm has named the service"));
    let network = settings.network.as_deref();
    let network =
        network.map(|name| fault("network", name, "tasks are reached over their node's own bridge"));
    [weight, service, network].into_iter().flatten().collect()
}

fn naming(listed: &lists::Service, settings: &Settings, networks: &[Network<'_>], published: bool) -> Naming {
    let spec = &listed.spec;
    let stack = spec.labels.get(STACK).map(|stack| Arc::from(stack.as_str()));
    let short = stack
        .as_deref()
        .and_then(|stack| spec.name.strip_prefix(stack)?.strip_prefix('_'));
    let written = targets(listed).flat_map(|target| target.aliases.iter().map(String::as_str));
    let labelled = settings.aliases.iter().map(|alias| &**alias);
    let mut aliases: Vec<Arc<str>> = Vec::new();
    for alias in short.into_iter().chain(written).chain(labelled) {
        let same = |known: &str| known.eq_ignore_ascii_case(alias);
        if !same(&spec.name) && !aliases.iter().any(|known| same(known)) {
            aliases.push(alias.into());
        }
    }
    let mut on: Vec<Arc<str>> = networks.iter().map(|network| network.name.into()).collect();
    if on.is_empty() {
        on.push(if published { INGRESS } else { BRIDGE }.into());
    }
    on.sort();
    on.dedup();
    let endpoint = match &*spec.endpoint_spec.mode {
        "dnsrr" => Endpoint::Dnsrr,
        _ => Endpoint::Vip,
    };
    Naming {
        stack,
        networks: on,
        aliases,
        endpoint: settings.endpoint.unwrap_or(endpoint),
        ttl: settings.ttl,
    }
}

/// A port of the task's node alone is that engine's own business: inside the cluster it answers as the others do.
fn front(settings: &Settings, all: &[Published]) -> Front {
    let (mut published, mut targets) = (Vec::new(), Vec::new());
    for &Published {
        protocol,
        target_port,
        port,
    } in all
    {
        match port {
            Some(port) => published.push(ports::Published {
                port,
                target_port,
                protocol,
            }),
            None => targets.push((target_port, protocol)),
        }
    }
    // The swarm lists those that it has chosen itself in any order.
    published.sort_by_key(|port| (port.port, port.protocol));
    settings.front(&published, &targets)
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
