//! Values of single labels.

use std::net::IpAddr;
use std::sync::Arc;

use super::Fault;
use crate::config::{suggest, time};
use crate::model::desired::{MAX_WEIGHT, SLOTS};
use crate::model::validate::is_host_name;
use crate::model::{Affinity, Algorithm, Endpoint};
use crate::source::checks::TTL;
use crate::source::ports;

/// Most characters of a label that are read: what is longer is nobody's ports.
const MAX_LIST: usize = 64 * 1024;

/// Most ports of one label.
const MAX_PORTS: usize = 4096;

/// Takes the faults of one label.
pub struct Sink<'f> {
    pub label: &'f str,
    pub faults: &'f mut Vec<Fault>,
}

impl Sink<'_> {
    pub(super) fn refuse(&mut self, value: &str, reason: impl Into<String>, fix: impl Into<String>) {
        self.faults.push(Fault::new(self.label, value, reason, fix));
    }

    pub(super) fn word<T: Copy>(&mut self, value: &str, known: &[(&str, T)]) -> Option<T> {
        let lower = value.to_ascii_lowercase();
        let found = known.iter().find(|(word, _)| *word == lower);
        if found.is_none() {
            let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
            self.refuse(value, "there is no such value", suggest::advice(&lower, &words));
        }
        found.map(|(_, meaning)| *meaning)
    }

    pub fn flag(&mut self, value: &str) -> Option<bool> {
        let known = [
            ("true", true),
            ("false", false),
            ("yes", true),
            ("no", false),
            ("on", true),
            ("off", false),
            ("1", true),
            ("0", false),
        ];
        self.word(value, &known)
    }

    pub fn algorithm(&mut self, value: &str) -> Option<Algorithm> {
        let known = [
            ("hash", Some(Algorithm::Hash)),
            ("maglev", Some(Algorithm::Hash)),
            ("round-robin", None),
            ("least-connections", Some(Algorithm::LeastConnections)),
        ];
        let algorithm = self.word(value, &known)?;
        if algorithm.is_none() {
            self.refuse(
                value,
                "this algorithm is not available yet",
                "write hash or least-connections, or leave the label out",
            );
        }
        algorithm
    }

    pub fn affinity(&mut self, value: &str) -> Option<Affinity> {
        self.word(
            value,
            &[("none", Affinity::None), ("client-ip", Affinity::ClientIp)],
        )
    }

    pub fn endpoint(&mut self, value: &str) -> Option<Endpoint> {
        self.word(value, &[("vip", Endpoint::Vip), ("dnsrr", Endpoint::Dnsrr)])
    }

    pub fn weight(&mut self, value: &str) -> Option<u16> {
        let weight = value
            .parse()
            .ok()
            .filter(|weight| (1..=MAX_WEIGHT).contains(weight));
        if weight.is_none() {
            self.refuse(
                value,
                format!("not a number from 1 to {MAX_WEIGHT}"),
                "write 1 for an ordinary share, 2 for twice as much",
            );
        }
        weight
    }

    pub fn slots(&mut self, value: &str) -> Option<u32> {
        let number: Option<u32> = value.parse().ok();
        let slots = number.filter(|slots| slots.is_power_of_two() && SLOTS.contains(slots));
        if slots.is_none() {
            let (least, most) = (*SLOTS.start(), *SLOTS.end());
            let near = number.unwrap_or(4096).clamp(least, most).next_power_of_two();
            self.refuse(
                value,
                format!("not a power of two from {least} to {most}"),
                format!("write {near}"),
            );
        }
        slots
    }

    /// Seconds.
    pub fn ttl(&mut self, value: &str) -> Option<u32> {
        let ttl = time::parse(value).filter(|time| TTL.contains(time) && time.subsec_nanos() == 0);
        if ttl.is_none() {
            self.refuse(
                value,
                "not a time of whole seconds from 0s to 1h",
                "write a number and s, m or h, such as 5s",
            );
        }
        ttl.and_then(|ttl| u32::try_from(ttl.as_secs()).ok())
    }

    pub fn host_name(&mut self, value: &str) -> Option<Arc<str>> {
        if is_host_name(value) {
            return Some(value.into());
        }
        self.refuse(
            value,
            "it cannot be asked for as a name",
            "write letters, digits, hyphens and underscores, 1 to 63 between two dots",
        );
        None
    }

    /// Each once.
    pub fn host_names(&mut self, value: &str) -> Vec<Arc<str>> {
        let mut names: Vec<Arc<str>> = Vec::new();
        for name in items(value) {
            if let Some(name) = self.host_name(name).filter(|name| !names.contains(name)) {
                names.push(name);
            }
        }
        names
    }

    pub fn addresses(&mut self, value: &str) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        for item in items(value) {
            match item.parse() {
                Ok(address) if addresses.contains(&address) => {}
                Ok(address) => addresses.push(address),
                Err(_) => self.refuse(
                    item,
                    "not an IP address",
                    "write one like 10.254.0.1 or 2001:db8::1",
                ),
            }
        }
        addresses
    }

    pub fn entries(
        &mut self,
        value: &str,
        parse: fn(&str) -> Result<ports::Entry, ports::BadPort>,
    ) -> Vec<ports::Entry> {
        let (mut entries, mut ports) = (Vec::new(), 0);
        for item in items(value) {
            match parse(item) {
                Ok(entry) if ports + entry.ports.len() > MAX_PORTS => {
                    let count = entry.ports.len();
                    self.refuse(
                        item,
                        format!("{count} ports would be more than the {MAX_PORTS} that a label can have"),
                        "write fewer",
                    );
                    break;
                }
                Ok(entry) => {
                    ports += entry.ports.len();
                    entries.push(entry);
                }
                Err(bad) => self.refuse(item, bad.to_string(), bad.fix()),
            }
        }
        entries
    }
}

/// Between commas and spaces.
pub(super) fn items(value: &str) -> impl Iterator<Item = &str> {
    let end = value
        .char_indices()
        .map(|(at, _)| at)
        .find(|at| *at >= MAX_LIST)
        .unwrap_or(value.len());
    let separates = |c: char| c == ',' || c == ';' || c.is_whitespace();
    value[..end].split(separates).filter(|item| !item.is_empty())
}
