//! From messages to the model.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::intern::Names;
use super::{Fault, Problem, rules};
use crate::model::{self, Desired, DesiredBackend, DesiredNode, DesiredService};
use crate::source::stream::wire;

/// Decodes one message beside the picture that was there before.
pub struct Decoder<'a> {
    base: Option<&'a Desired>,
    names: Names,
}

impl<'a> Decoder<'a> {
    pub fn new(base: Option<&'a Desired>) -> Self {
        Self {
            base,
            names: Names::of(base),
        }
    }

    pub fn picture(mut self, picture: wire::Picture) -> Result<Desired, Fault> {
        let mut nodes = BTreeMap::new();
        for node in picture.nodes {
            let (name, node) = self.node(node)?;
            if let Some(_twice) = nodes.insert(Arc::clone(&name), node) {
                return Err(Fault::from(Problem::Twice).within("node", &name));
            }
        }
        let mut services = BTreeMap::new();
        for service in picture.services {
            let (name, service) = self.service(service)?;
            if let Some(_twice) = services.insert(Arc::clone(&name), service) {
                return Err(Fault::from(Problem::Twice).within("service", &name));
            }
        }
        Ok(Desired {
            nodes,
            services,
            order: self.names(&picture.order),
            guests: BTreeMap::new(),
        })
    }

    pub fn node(&mut self, node: wire::Node) -> Result<(Arc<str>, DesiredNode), Fault> {
        let address = ipv4(&node.address).map_err(|fault| fault.within("node", &node.name))?;
        let draining = node.draining;
        Ok((self.names.get(&node.name), DesiredNode { address, draining }))
    }

    /// The base's own where it is the same.
    pub fn service(&mut self, service: wire::Service) -> Result<(Arc<str>, Arc<DesiredService>), Fault> {
        let name = self.names.get(&service.name);
        let new = self
            .new_service(service)
            .map_err(|fault| fault.within("service", &name))?;
        let known = self.base.and_then(|base| base.services.get(&name));
        let service = match known {
            Some(known) if **known == new => Arc::clone(known),
            _ => Arc::new(new),
        };
        Ok((name, service))
    }

    fn new_service(&mut self, service: wire::Service) -> Result<DesiredService, Fault> {
        let naming = model::Naming {
            stack: service.stack.as_deref().map(|stack| self.names.get(stack)),
            networks: self.names(&service.networks),
            aliases: service
                .aliases
                .iter()
                .map(|alias| alias.as_str().into())
                .collect(),
            endpoint: endpoint(service.endpoint)?,
            ttl: service.ttl,
        };
        let mut backends = Vec::with_capacity(service.backends.len());
        for backend in service.backends {
            backends.push(self.backend(backend)?);
        }
        Ok(DesiredService {
            naming,
            vips: service
                .vips
                .iter()
                .map(|vip| address(vip))
                .collect::<Result<_, _>>()?,
            assigned: service
                .assigned
                .iter()
                .map(|vip| ipv4(vip))
                .collect::<Result<_, _>>()?,
            exposed: service
                .exposed
                .into_iter()
                .map(exposed)
                .collect::<Result<_, _>>()?,
            frontends: service
                .frontends
                .into_iter()
                .map(frontend)
                .collect::<Result<_, _>>()?,
            slots: service.slots,
            affinity: affinity(service.affinity)?,
            health: service.health.map(health).transpose()?,
            proxy: service.proxy.map(rules::decode).transpose()?.unwrap_or_default(),
            backends,
        })
    }

    pub fn backend(&mut self, backend: wire::Backend) -> Result<DesiredBackend, Fault> {
        let place = |fault: Fault| fault.within("backend", &backend.task);
        let addresses = backend.addresses.iter().map(|octets| address(octets));
        Ok(DesiredBackend {
            task: backend.task.as_str().into(),
            names: backend.names.iter().map(|name| name.as_str().into()).collect(),
            node: self.names.get(&backend.node),
            addresses: addresses.collect::<Result<_, _>>().map_err(place)?,
            attachments: backend
                .attachments
                .iter()
                .map(|attachment| self.attachment(attachment))
                .collect::<Result<_, _>>()
                .map_err(place)?,
            weight: number("weight", backend.weight).map_err(place)?,
            readiness: readiness(backend.readiness, &backend.reason).map_err(place)?,
            stamps: model::Stamps {
                first: backend.first,
                last: backend.last,
            },
        })
    }

    fn attachment(&mut self, attachment: &wire::Attachment) -> Result<model::Attachment, Fault> {
        Ok(model::Attachment {
            network: self.names.get(&attachment.network),
            address: address(&attachment.address)
                .map_err(|fault| fault.within("network", &attachment.network))?,
        })
    }

    pub fn names(&mut self, names: &[String]) -> Vec<Arc<str>> {
        names.iter().map(|name| self.names.get(name)).collect()
    }
}

fn exposed(exposed: wire::Exposed) -> Result<model::Exposed, Fault> {
    Ok(model::Exposed {
        port: number("port", exposed.port)?,
        protocol: protocol(exposed.protocol)?,
        name: exposed.name.map(Into::into),
    })
}

fn frontend(frontend: wire::Frontend) -> Result<model::Frontend, Fault> {
    Ok(model::Frontend {
        address: frontend.address.as_deref().map(address).transpose()?,
        port: number("port", frontend.port)?,
        protocol: protocol(frontend.protocol)?,
        target_port: number("target port", frontend.target_port)?,
        inside: frontend.inside,
        held: frontend.held,
    })
}

fn health(health: wire::HealthCheck) -> Result<model::HealthCheck, Fault> {
    Ok(model::HealthCheck {
        probe: match health.http_path {
            None => model::Probe::Tcp,
            Some(path) => model::Probe::Http { path },
        },
        port: number("port of the health check", health.port)?,
        interval: Duration::from_nanos(health.interval_ns),
        timeout: Duration::from_nanos(health.timeout_ns),
        failures: health.failures,
        successes: health.successes,
    })
}

fn readiness(value: i32, reason: &str) -> Result<model::Readiness, Fault> {
    match wire::Readiness::try_from(value) {
        Ok(wire::Readiness::Ready) => Ok(model::Readiness::Ready),
        Ok(wire::Readiness::Draining) => Ok(model::Readiness::Draining),
        Ok(wire::Readiness::Unready) => Ok(model::Readiness::Unready(reason.into())),
        Ok(wire::Readiness::Unspecified) | Err(_) => Err(unknown("its readiness", value)),
    }
}

fn endpoint(value: i32) -> Result<model::Endpoint, Fault> {
    match wire::Endpoint::try_from(value) {
        Ok(wire::Endpoint::Vip) => Ok(model::Endpoint::Vip),
        Ok(wire::Endpoint::Dnsrr) => Ok(model::Endpoint::Dnsrr),
        Ok(wire::Endpoint::Unspecified) | Err(_) => Err(unknown("its endpoint mode", value)),
    }
}

fn affinity(value: i32) -> Result<model::Affinity, Fault> {
    match wire::Affinity::try_from(value) {
        Ok(wire::Affinity::None) => Ok(model::Affinity::None),
        Ok(wire::Affinity::ClientIp) => Ok(model::Affinity::ClientIp),
        Ok(wire::Affinity::Unspecified) | Err(_) => Err(unknown("its affinity", value)),
    }
}

fn protocol(value: i32) -> Result<model::Protocol, Fault> {
    match wire::Protocol::try_from(value) {
        Ok(wire::Protocol::Tcp) => Ok(model::Protocol::Tcp),
        Ok(wire::Protocol::Udp) => Ok(model::Protocol::Udp),
        Ok(wire::Protocol::Unspecified) | Err(_) => Err(unknown("a protocol", value)),
    }
}

pub fn unknown(what: &'static str, value: i32) -> Fault {
    Problem::Value { what, value }.into()
}

fn number(what: &'static str, value: u32) -> Result<u16, Fault> {
    let most = u16::MAX.into();
    u16::try_from(value).map_err(|_| Problem::Number { what, value, most }.into())
}

pub fn address(octets: &[u8]) -> Result<IpAddr, Fault> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Ok(v4.into());
    }
    let v6 = <[u8; 16]>::try_from(octets).map_err(|_| Problem::Address(octets.len()))?;
    Ok(v6.into())
}

fn ipv4(octets: &[u8]) -> Result<Ipv4Addr, Fault> {
    let octets = <[u8; 4]>::try_from(octets).map_err(|_| Problem::NotIpv4(octets.len()))?;
    Ok(octets.into())
}
