//! From the model to messages. Nothing can fail: what a message cannot hold does not occur in the model.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::rules;
use crate::model::{self, Desired, DesiredBackend, DesiredNode, DesiredService};
use crate::source::stream::wire;

pub fn picture(desired: &Desired) -> wire::Picture {
    let nodes = desired.nodes.iter().map(|(name, known)| node(name, known));
    let services = desired.services.iter().map(|(name, known)| service(name, known));
    wire::Picture {
        nodes: nodes.collect(),
        services: services.collect(),
        order: strings(&desired.order),
    }
}

pub fn node(name: &str, node: &DesiredNode) -> wire::Node {
    wire::Node {
        name: name.into(),
        address: node.address.octets().to_vec(),
        draining: node.draining,
    }
}

pub fn service(name: &str, service: &DesiredService) -> wire::Service {
    let naming = &service.naming;
    wire::Service {
        name: name.into(),
        stack: naming.stack.as_deref().map(str::to_owned),
        networks: strings(&naming.networks),
        aliases: strings(&naming.aliases),
        endpoint: endpoint(naming.endpoint).into(),
        ttl: naming.ttl,
        vips: service.vips.iter().copied().map(octets).collect(),
        assigned: service
            .assigned
            .iter()
            .map(|address| address.octets().to_vec())
            .collect(),
        exposed: service.exposed.iter().map(exposed).collect(),
        frontends: service.frontends.iter().map(frontend).collect(),
        slots: service.slots,
        affinity: affinity(service.affinity).into(),
        health: service.health.as_ref().map(health),
        backends: service.backends.iter().map(backend).collect(),
        proxy: rules::encode(&service.proxy),
    }
}

fn exposed(exposed: &model::Exposed) -> wire::Exposed {
    wire::Exposed {
        port: exposed.port.into(),
        protocol: protocol(exposed.protocol).into(),
        name: exposed.name.as_deref().map(str::to_owned),
    }
}

fn frontend(frontend: &model::Frontend) -> wire::Frontend {
    wire::Frontend {
        address: frontend.address.map(octets),
        port: frontend.port.into(),
        protocol: protocol(frontend.protocol).into(),
        target_port: frontend.target_port.into(),
        inside: frontend.inside,
        held: frontend.held,
    }
}

fn health(health: &model::HealthCheck) -> wire::HealthCheck {
    wire::HealthCheck {
        http_path: match &health.probe {
            model::Probe::Tcp => None,
            model::Probe::Http { path } => Some(path.clone()),
        },
        port: health.port.into(),
        interval_ns: nanoseconds(health.interval),
        timeout_ns: nanoseconds(health.timeout),
        failures: health.failures,
        successes: health.successes,
    }
}

pub fn backend(backend: &DesiredBackend) -> wire::Backend {
    let (readiness, reason) = match &backend.readiness {
        model::Readiness::Ready => (wire::Readiness::Ready, ""),
        model::Readiness::Draining => (wire::Readiness::Draining, ""),
        model::Readiness::Unready(reason) => (wire::Readiness::Unready, &**reason),
    };
    wire::Backend {
        task: backend.task.to_string(),
        names: strings(&backend.names),
        node: backend.node.to_string(),
        addresses: backend.addresses.iter().copied().map(octets).collect(),
        attachments: backend.attachments.iter().map(attachment).collect(),
        weight: backend.weight.into(),
        readiness: readiness.into(),
        reason: reason.into(),
        first: backend.stamps.first,
        last: backend.stamps.last,
    }
}

fn attachment(attachment: &model::Attachment) -> wire::Attachment {
    wire::Attachment {
        network: attachment.network.to_string(),
        address: octets(attachment.address),
    }
}

const fn endpoint(endpoint: model::Endpoint) -> wire::Endpoint {
    match endpoint {
        model::Endpoint::Vip => wire::Endpoint::Vip,
        model::Endpoint::Dnsrr => wire::Endpoint::Dnsrr,
    }
}

const fn affinity(affinity: model::Affinity) -> wire::Affinity {
    match affinity {
        model::Affinity::None => wire::Affinity::None,
        model::Affinity::ClientIp => wire::Affinity::ClientIp,
    }
}

const fn protocol(protocol: model::Protocol) -> wire::Protocol {
    match protocol {
        model::Protocol::Tcp => wire::Protocol::Tcp,
        model::Protocol::Udp => wire::Protocol::Udp,
    }
}

pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// 584 years and more are one.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn strings(names: &[Arc<str>]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}
