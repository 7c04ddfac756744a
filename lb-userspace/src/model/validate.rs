//! What a source may not want. Pure; says everything that is wrong, and where, and the source knows the lines.

mod problem;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::desired::{MAX_WEIGHT, SLOTS};
use super::marks::MAX_NAME;
use super::{Desired, DesiredBackend, DesiredService, Family, Naming};

pub use problem::Problem;

/// What a problem is with; indices count in the order of the desired state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Node(Arc<str>),
    Service(Arc<str>),
    Vip { service: Arc<str>, index: usize },
    Exposed { service: Arc<str>, index: usize },
    Frontend { service: Arc<str>, index: usize },
    Backend { service: Arc<str>, index: usize },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub place: Place,
    pub problem: Problem,
}

/// Most backends of a service: slots hold 16-bit member numbers, of which one means "none".
const MAX_BACKENDS: usize = 65_534;

/// Everything wrong with what a source wants; nothing where it can be carried out.
pub fn validate(desired: &Desired) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut addresses: HashMap<IpAddr, &Arc<str>> = HashMap::new();
    for (name, node) in &desired.nodes {
        let mut fault = |problem| {
            faults.push(Fault {
                place: Place::Node(Arc::clone(name)),
                problem,
            })
        };
        if !is_name(name) {
            fault(Problem::Name);
        }
        if let Some(why) = unusable(node.address.into()) {
            fault(Problem::Address {
                address: node.address.into(),
                why,
            });
        } else if let Some(other) = addresses.insert(node.address.into(), name) {
            fault(Problem::SharedNodeAddress {
                other: Arc::clone(other),
            });
        }
    }
    let mut frontends = HashMap::new();
    for (name, service) in &desired.services {
        check_service(name, service, &mut faults);
        for (index, &address) in service.vips.iter().enumerate() {
            if let Some(problem) = wrong_vip(address, &addresses) {
                let place = Place::Vip {
                    service: Arc::clone(name),
                    index,
                };
                faults.push(Fault { place, problem });
            }
        }
        check_exposed(name, service, &mut faults);
        for (index, frontend) in service.frontends.iter().enumerate() {
            let mut fault = |problem| {
                let place = Place::Frontend {
                    service: Arc::clone(name),
                    index,
                };
                faults.push(Fault { place, problem });
            };
            if frontend.port == 0 || frontend.target_port == 0 {
                fault(Problem::Port);
            }
            // What is wrong with a VIP has been said once.
            let other = frontend.address.filter(|address| !service.vips.contains(address));
            if let Some(problem) = other.and_then(|address| wrong_vip(address, &addresses)) {
                fault(problem);
            }
            let key = (frontend.address, frontend.port, frontend.protocol);
            if let Some(other) = frontends.insert(key, name) {
                fault(Problem::DuplicateFrontend {
                    frontend: *frontend,
                    other: Arc::clone(other),
                });
            }
        }
        check_backends(desired, name, service, &mut faults);
    }
    faults
}

fn wrong_vip(address: IpAddr, nodes: &HashMap<IpAddr, &Arc<str>>) -> Option<Problem> {
    if let Some(why) = unusable(address) {
        return Some(Problem::Address { address, why });
    }
    let node = Arc::clone(nodes.get(&address)?);
    Some(Problem::VipOfNode { node })
}

fn check_exposed(name: &Arc<str>, service: &DesiredService, faults: &mut Vec<Fault>) {
    let mut ports = HashSet::new();
    let mut names = HashMap::new();
    for (index, exposed) in service.exposed.iter().enumerate() {
        let mut fault = |problem| {
            let place = Place::Exposed {
                service: Arc::clone(name),
                index,
            };
            faults.push(Fault { place, problem });
        };
        let (port, protocol) = (exposed.port, exposed.protocol);
        if port == 0 {
            fault(Problem::Port);
        }
        if !ports.insert((port, protocol)) {
            fault(Problem::DuplicateExposed { port, protocol });
        }
        let Some(called) = &exposed.name else { continue };
        if !is_label(called) {
            fault(Problem::HostName {
                name: Arc::clone(called),
            });
        }
        if let Some(other) = names.insert((called.to_ascii_lowercase(), protocol), port) {
            fault(Problem::DuplicatePortName {
                name: Arc::clone(called),
                other,
                protocol,
            });
        }
    }
}

fn check_naming(service: &DesiredService, mut fault: impl FnMut(Problem)) {
    let Naming {
        stack,
        networks,
        aliases,
        ..
    } = &service.naming;
    let backends = service.backends.iter().flat_map(|backend| &backend.names);
    let names = stack.iter().chain(networks).chain(aliases).chain(backends);
    for name in names.filter(|name| !is_host_name(name)) {
        fault(Problem::HostName {
            name: Arc::clone(name),
        });
    }
    if networks.is_empty() {
        fault(Problem::NoNetwork);
    }
}

fn check_service(name: &Arc<str>, service: &DesiredService, faults: &mut Vec<Fault>) {
    let mut fault = |problem| {
        faults.push(Fault {
            place: Place::Service(Arc::clone(name)),
            problem,
        })
    };
    if !is_name(name) {
        fault(Problem::Name);
    }
    check_naming(service, &mut fault);
    if !service.slots.is_power_of_two() || !SLOTS.contains(&service.slots) {
        fault(Problem::Slots { slots: service.slots });
    }
    if service.backends.len() > MAX_BACKENDS {
        fault(Problem::TooManyBackends {
            count: service.backends.len(),
        });
    }
    if let Some(need) = service.proxy.contradiction() {
        fault(Problem::OnlyProxied { need });
    }
    if service.proxy.connect_timeout.is_zero() || service.proxy.idle == Some(Duration::ZERO) {
        fault(Problem::NoTime);
    }
    if let Some(health) = &service.health {
        if health.port == 0 {
            fault(Problem::HealthPort);
        }
        if health.interval.is_zero() || health.timeout.is_zero() || health.timeout > health.interval {
            fault(Problem::HealthTimeout);
        }
        if health.failures == 0 || health.successes == 0 {
            fault(Problem::HealthThreshold);
        }
    }
}

fn check_backends(desired: &Desired, name: &Arc<str>, service: &DesiredService, faults: &mut Vec<Fault>) {
    let mut tasks = HashSet::new();
    let mut endpoints = HashSet::new();
    for (index, backend) in service.backends.iter().enumerate() {
        let mut fault = |problem| {
            let place = Place::Backend {
                service: Arc::clone(name),
                index,
            };
            faults.push(Fault { place, problem });
        };
        if !desired.nodes.contains_key(&backend.node) {
            let known = desired.nodes.keys().map(|name| &**name);
            let nearest = crate::config::suggest::nearest(&backend.node, known).map(str::to_owned);
            fault(Problem::UnknownNode {
                node: Arc::clone(&backend.node),
                nearest,
            });
        }
        if !is_name(&backend.task) {
            fault(Problem::Name);
        }
        if !(1..=MAX_WEIGHT).contains(&backend.weight) {
            fault(Problem::Weight {
                weight: backend.weight.into(),
            });
        }
        let repeated = !tasks.insert(&backend.task)
            | backend.addresses.iter().fold(false, |repeated, address| {
                repeated | !endpoints.insert((&backend.node, address))
            });
        if repeated {
            fault(Problem::DuplicateBackend {
                task: Arc::clone(&backend.task),
            });
        }
        check_addresses(backend, fault);
    }
}

fn check_addresses(backend: &DesiredBackend, mut fault: impl FnMut(Problem)) {
    let of = |family| {
        backend
            .addresses
            .iter()
            .filter(|address| Family::of(**address) == family)
            .count()
    };
    if backend.addresses.is_empty() {
        fault(Problem::NoAddress);
    }
    if of(Family::V4) > 1 || of(Family::V6) > 1 {
        fault(Problem::TwoAddresses);
    }
    for &address in &backend.addresses {
        if let Some(why) = unusable(address) {
            fault(Problem::Address { address, why });
        }
    }
}

/// Names appear in logs, tables and heartbeats.
fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && !name.contains(|c: char| c.is_control() || c.is_whitespace())
}

/// What can be asked for: labels between dots (RFC 1123, 2.1), 253 bytes at most. Underscores are what Docker has in names.
pub fn is_host_name(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_label)
}

/// One part of it. An underscore in front would be the name of a port (RFC 2782).
pub fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let ends = label.starts_with(['-', '_']) || label.ends_with('-');
    (1..=63).contains(&label.len()) && label.bytes().all(inner) && !ends
}

/// Why no packet can be sent to this address.
fn unusable(address: IpAddr) -> Option<&'static str> {
    let always = [
        (address.is_unspecified(), "is no address of a machine"),
        (
            address.is_loopback(),
            "is a loopback address, which every machine has for itself",
        ),
        (address.is_multicast(), "is a multicast address"),
    ];
    let by_family = match address {
        IpAddr::V4(v4) => (v4 == Ipv4Addr::BROADCAST, "is the broadcast address"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            (true, "is an IPv4 address in disguise: write it as IPv4")
        }
        IpAddr::V6(v6) => (
            v6.is_unicast_link_local(),
            "is link-local, which says nothing without a device",
        ),
    };
    always
        .into_iter()
        .chain([by_family])
        .find(|(wrong, _)| *wrong)
        .map(|(_, why)| why)
}
