//! Where a service answers: `vips`, `ports` and `expose`.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::net::{IpAddr, Ipv4Addr};

use serde_saphyr::{Location, Spanned};

use super::super::fault::Fault;
use super::super::raw;
use super::places::ServicePlaces;
use crate::model::{Exposed, Frontend, Protocol};
use crate::source::ports;

#[derive(Default)]
pub struct Front {
    pub vips: Vec<IpAddr>,
    pub assigned: Vec<Ipv4Addr>,
    pub exposed: Vec<Exposed>,
    pub frontends: Vec<Frontend>,
}

/// Everything about it that can be read.
pub fn front(written: &raw::Service, places: &mut ServicePlaces, faults: &mut Vec<Fault>) -> Front {
    if written.ports.is_empty() && written.expose.is_empty() {
        faults.push(Fault::at(
            places.service,
            "the service publishes no port",
            "add ports: [\"8080:80\"], or expose: [80] to answer inside the cluster alone",
        ));
    }
    let mut front = Front {
        vips: vips(&written.vips, places, faults),
        assigned: assigned(&written.assigned, faults),
        ..Front::default()
    };
    let addresses = match &front.vips[..] {
        [] => vec![None],
        vips => vips.iter().copied().map(Some).collect(),
    };
    let mut known = HashMap::new();
    for entry in &written.ports {
        let Some(parsed) = read(entry, ports::parse, faults) else {
            continue;
        };
        for &ports::Published {
            port,
            target_port,
            protocol,
        } in &parsed.ports
        {
            for &address in &addresses {
                front.frontends.push(Frontend {
                    address,
                    port,
                    protocol,
                    target_port,
                    inside: false,
                    held: false,
                });
                places.frontends.push(entry.referenced);
            }
        }
        expose(
            &parsed,
            entry.referenced,
            &mut front.exposed,
            &mut known,
            places,
            faults,
        );
    }
    for entry in &written.expose {
        if let Some(parsed) = read(entry, ports::parse_exposed, faults) {
            expose(
                &parsed,
                entry.referenced,
                &mut front.exposed,
                &mut known,
                places,
                faults,
            );
        }
    }
    front
}

fn vips(written: &[Spanned<String>], places: &mut ServicePlaces, faults: &mut Vec<Fault>) -> Vec<IpAddr> {
    let mut vips = Vec::new();
    for vip in written {
        match vip.value.parse() {
            Ok(address) if vips.contains(&address) => {}
            Ok(address) => {
                vips.push(address);
                places.vips.push(vip.referenced);
            }
            Err(_) => faults.push(Fault::at(
                vip.referenced,
                format!("`{}` is not an IP address", vip.value),
                "write one like 10.254.0.1 or 2001:db8::1",
            )),
        }
    }
    vips
}

fn assigned(written: &[Spanned<String>], faults: &mut Vec<Fault>) -> Vec<Ipv4Addr> {
    let mut assigned = Vec::new();
    for entry in written {
        match entry.value.parse::<Ipv4Addr>() {
            Ok(address) if !address.is_loopback() && !address.is_unspecified() => assigned.push(address),
            _ => faults.push(Fault::at(
                entry.referenced,
                format!(
                    "`{}` is not an IPv4 address that another mesh could have given",
                    entry.value
                ),
                "write one like 10.0.1.2",
            )),
        }
    }
    assigned
}

fn read(
    entry: &Spanned<String>,
    parse: fn(&str) -> Result<ports::Entry, ports::BadPort>,
    faults: &mut Vec<Fault>,
) -> Option<ports::Entry> {
    let parsed = parse(&entry.value);
    parsed
        .map_err(|bad| faults.push(Fault::at(entry.referenced, bad.to_string(), bad.fix())))
        .ok()
}

/// A port of the tasks that is written more than once is one port, with the name that it has in one of the places.
fn expose(
    entry: &ports::Entry,
    place: Location,
    exposed: &mut Vec<Exposed>,
    known: &mut HashMap<(u16, Protocol), usize>,
    places: &mut ServicePlaces,
    faults: &mut Vec<Fault>,
) {
    for published in &entry.ports {
        let (port, protocol) = (published.target_port, published.protocol);
        let slot = match known.entry((port, protocol)) {
            Slot::Occupied(slot) => &mut exposed[*slot.get()],
            Slot::Vacant(slot) => {
                slot.insert(exposed.len());
                places.exposed.push(place);
                exposed.push(Exposed {
                    port,
                    protocol,
                    name: entry.name.clone(),
                });
                continue;
            }
        };
        match (&slot.name, &entry.name) {
            (Some(one), Some(other)) if one != other => {
                let reason = format!("port {port}/{} is called {one} already", protocol.label());
                faults.push(Fault::at(place, reason, "give it one name"));
                return;
            }
            (None, Some(_)) => slot.name.clone_from(&entry.name),
            _ => {}
        }
    }
}
