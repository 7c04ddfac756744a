//! One backend.

use std::net::IpAddr;
use std::sync::Arc;

use serde_saphyr::Spanned;

use super::super::addresses::Written;
use super::super::fault::Fault;
use super::super::raw;
use super::naming;
use crate::model::{DesiredBackend, Readiness, Stamps};

/// The backend, unless something of it cannot be read.
pub fn backend(written: Spanned<raw::Backend>, faults: &mut Vec<Fault>) -> Option<DesiredBackend> {
    let Spanned {
        value: written,
        referenced: place,
        ..
    } = written;
    let before = faults.len();
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in &written.address.0 {
        let (text, place) = match address {
            Written::Single(text) => (text, place),
            Written::Listed(listed) => (&listed.value, listed.referenced),
        };
        match text.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => {
                let reason = format!("`{text}` is not an IP address");
                faults.push(Fault::at(
                    place,
                    reason,
                    "write one like 172.18.0.2 or 2001:db8::2",
                ));
            }
        }
    }
    let Some(node) = written.node else {
        let reason = "a backend without a node (a foreign backend) is not available yet";
        faults.push(Fault::at(place, reason, "add node: NAME, or remove this backend"));
        return None;
    };
    if let Some(port) = written.port {
        let reason = "a backend on a node has no port of its own";
        faults.push(Fault::at(
            port.referenced,
            reason,
            "write the port in ports:, as PUBLISHED:TARGET",
        ));
    }
    let weight = written.weight.map_or(Some(1), |weight| {
        let fits = u16::try_from(weight.value)
            .ok()
            .filter(|value| (1..=256).contains(value));
        if fits.is_none() {
            let reason = format!("weight {} is not within 1 to 256", weight.value);
            faults.push(Fault::at(
                weight.referenced,
                reason,
                "write a weight from 1 to 256",
            ));
        }
        fits
    })?;
    let mut names = naming::names(&written.aliases, faults);
    if let Some(name) = written.name.as_ref().and_then(|name| naming::name(name, faults)) {
        names.retain(|alias| !alias.eq_ignore_ascii_case(&name));
        names.insert(0, name);
    }
    if faults.len() > before {
        return None;
    }
    let task: Arc<str> = match (written.task, addresses.first()) {
        (Some(task), _) => task.value.into(),
        (None, Some(address)) => format!("{}/{address}", node.value).into(),
        (None, None) => node.value.as_str().into(),
    };
    Some(DesiredBackend {
        task,
        names,
        node: node.value.into(),
        addresses,
        attachments: Vec::new(),
        weight,
        readiness: match written.state {
            raw::State::Active => Readiness::Ready,
            raw::State::Draining => Readiness::Draining,
        },
        stamps: Stamps::UNKNOWN,
    })
}
