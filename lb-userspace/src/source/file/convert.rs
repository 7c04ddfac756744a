//! From what is written to what is wanted, keeping the place of everything that can turn out wrong.

mod backend;
mod front;
mod health;
mod naming;
mod places;
mod proxy;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde_saphyr::{Location, Spanned};

use super::fault::Fault;
use super::raw;
use crate::model::desired::DEFAULT_SLOTS;
use crate::model::validate::validate;
use crate::model::{Affinity, Desired, DesiredNode, DesiredService};
use front::Front;
use places::{Places, ServicePlaces};

/// All of the file, or all that is wrong with it.
pub fn desired(file: raw::File) -> Result<Desired, Vec<Fault>> {
    let Some(services) = file.services else {
        let reason = "the file has no services";
        return Err(vec![Fault::whole(reason, "write `services: {}` to mean none")]);
    };
    let mut faults = Vec::new();
    let mut places = Places::default();
    let mut desired = Desired::default();
    for (name, written) in file.nodes.0 {
        let key: Arc<str> = name.value.as_str().into();
        places.nodes.insert(Arc::clone(&key), name.referenced);
        if let Some(node) = node(&name, &written, &mut faults) {
            desired.nodes.insert(key, node);
        }
    }
    for (name, written) in services.0 {
        let key: Arc<str> = name.value.as_str().into();
        let (service, found) = service(name.referenced, written, &mut faults);
        places.services.insert(Arc::clone(&key), found);
        desired.order.push(Arc::clone(&key));
        desired.services.insert(key, Arc::new(service));
    }
    // What could not be read would only make further trouble: the rest is judged when all of it was.
    if faults.is_empty() {
        let judged = validate(&desired);
        faults.extend(judged.iter().map(|fault| {
            Fault::at(
                places.of(&fault.place),
                fault.problem.to_string(),
                fault.problem.fix(),
            )
        }));
    }
    if faults.is_empty() {
        Ok(desired)
    } else {
        Err(faults)
    }
}

fn node(name: &Spanned<String>, written: &raw::Node, faults: &mut Vec<Fault>) -> Option<DesiredNode> {
    let draining = written.state == raw::State::Draining;
    match written.address.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => Some(DesiredNode { address, draining }),
        Ok(IpAddr::V6(_)) => {
            let reason = format!("node {}: an IPv6 underlay is not available yet", name.value);
            faults.push(Fault::at(
                name.referenced,
                reason,
                "write the node's IPv4 address",
            ));
            None
        }
        Err(_) => {
            let reason = format!("node {}: `{}` is not an IP address", name.value, written.address);
            faults.push(Fault::at(
                name.referenced,
                reason,
                format!("write one like {}", Ipv4Addr::new(192, 0, 2, 11)),
            ));
            None
        }
    }
}

fn service(
    place: Location,
    written: raw::Service,
    faults: &mut Vec<Fault>,
) -> (DesiredService, ServicePlaces) {
    let mut places = ServicePlaces::new(place);
    let naming = naming::naming(&written, faults);
    let Front {
        vips,
        assigned,
        exposed,
        frontends,
    } = front::front(&written, &mut places, faults);
    let affinity = match written.affinity {
        raw::Affinity::None => Affinity::None,
        raw::Affinity::ClientIp => Affinity::ClientIp,
    };
    let proxy = proxy::rules(&written, affinity, faults);
    let slots = written.slots.as_ref().map_or(DEFAULT_SLOTS, |slots| {
        u32::try_from(slots.value).unwrap_or(u32::MAX)
    });
    let health = written
        .health
        .and_then(|written| health::check(&written, &exposed, faults));
    let backends = written
        .backends
        .into_iter()
        .filter_map(|written| {
            let place = written.referenced;
            let backend = backend::backend(written, faults)?;
            places.backends.push(place);
            Some(backend)
        })
        .collect();
    (
        DesiredService {
            naming,
            vips,
            assigned,
            exposed,
            frontends,
            slots,
            affinity,
            health,
            proxy,
            backends,
        },
        places,
    )
}
