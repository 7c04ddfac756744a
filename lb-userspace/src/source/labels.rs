//! Labels `portico.*`: what the people who write containers and services want of them. The same on Docker's containers, in
//! Compose files and on services of a swarm; `docs/docker.md` has the table.
//!
//! A label that cannot be read is a [`Fault`] and has no effect; all the others do.

mod fault;
mod front;
mod health;
mod proxy;
#[cfg(test)]
mod tests;
mod value;

use std::net::IpAddr;
use std::sync::Arc;

use super::ports;
use crate::config::suggest;
use crate::model::desired::DEFAULT_SLOTS;
use crate::model::{Affinity, Endpoint, Naming, ProxyRules};

pub use fault::Fault;
pub use front::Front;

/// What every label of ours begins with.
pub const PREFIX: &str = "portico.";

/// All of them, without the prefix.
pub const KNOWN: [&str; 27] = [
    "affinity",
    "algorithm",
    "aliases",
    "enable",
    "endpoint",
    "expose",
    "health",
    "health.failures",
    "health.interval",
    "health.port",
    "health.successes",
    "health.timeout",
    "network",
    "plane",
    "ports",
    "proxy.accept",
    "proxy.connect_timeout",
    "proxy.drain",
    "proxy.idle",
    "proxy.retries",
    "proxy.send",
    "proxy.transparent",
    "service",
    "slots",
    "ttl",
    "vips",
    "weight",
];

/// On a node of a swarm alone; on anything else it means nothing, and is no mistake either.
const ELSEWHERE: [&str; 1] = ["node"];

/// What the labels of one container or service say, with the defaults in place of those that are not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `portico.enable=false`: left alone.
    pub enable: bool,
    /// The service that a container belongs to.
    pub service: Option<Arc<str>>,
    /// Published ports, in place of those that the engine publishes.
    pub ports: Option<Vec<ports::Entry>>,
    pub expose: Vec<ports::Entry>,
    pub affinity: Affinity,
    /// 1 to 256.
    pub weight: u16,
    pub slots: u32,
    pub vips: Vec<IpAddr>,
    pub aliases: Vec<Arc<str>>,
    /// `None`: as the orchestrator has it.
    pub endpoint: Option<Endpoint>,
    /// Seconds.
    pub ttl: u32,
    /// The network over which tasks are reached.
    pub network: Option<Arc<str>>,
    pub proxy: ProxyRules,
    health: Option<health::Written>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enable: true,
            service: None,
            ports: None,
            expose: Vec::new(),
            affinity: Affinity::None,
            weight: 1,
            slots: DEFAULT_SLOTS,
            vips: Vec::new(),
            aliases: Vec::new(),
            endpoint: None,
            ttl: Naming::TTL,
            network: None,
            proxy: ProxyRules::default(),
            health: None,
        }
    }
}

/// Reads all labels of one object, ours and others', in any order.
pub fn read<'l>(labels: impl IntoIterator<Item = (&'l str, &'l str)>) -> (Settings, Vec<Fault>) {
    let (mut settings, mut faults) = (Settings::default(), Vec::new());
    let mut health = health::Labels::default();
    for (label, value) in labels {
        let Some(name) = label.strip_prefix(PREFIX) else {
            // `Portico.ports`, say.
            if label
                .get(..PREFIX.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
            {
                faults.push(unknown(label, value));
            }
            continue;
        };
        let mut sink = value::Sink {
            label,
            faults: &mut faults,
        };
        let value = value.trim();
        match name {
            "enable" => settings.enable = sink.flag(value).unwrap_or(true),
            "service" => settings.service = sink.host_name(value),
            "ports" => settings.ports = Some(sink.entries(value, ports::parse)),
            "expose" => settings.expose = sink.entries(value, ports::parse_exposed),
            "algorithm" => settings.proxy.algorithm = sink.algorithm(value).unwrap_or_default(),
            "affinity" => settings.affinity = sink.affinity(value).unwrap_or_default(),
            "weight" => settings.weight = sink.weight(value).unwrap_or(1),
            "slots" => settings.slots = sink.slots(value).unwrap_or(DEFAULT_SLOTS),
            "vips" => settings.vips = sink.addresses(value),
            "aliases" => settings.aliases = sink.host_names(value),
            "endpoint" => settings.endpoint = sink.endpoint(value),
            "ttl" => settings.ttl = sink.ttl(value).unwrap_or(Naming::TTL),
            "network" => settings.network = Some(value.into()).filter(|name: &Arc<str>| !name.is_empty()),
            "plane" => settings.proxy.plane = sink.plane(value).unwrap_or_default(),
            _ if name.starts_with("proxy.") && KNOWN.contains(&name) => {
                sink.rule(name, value, &mut settings.proxy)
            }
            _ if name == "health" || name.starts_with("health.") && KNOWN.contains(&name) => {
                health.take(name, value)
            }
            _ if ELSEWHERE.contains(&name) => {}
            _ => faults.push(unknown(label, value)),
        }
    }
    settings.health = health.read(&mut faults);
    proxy::agree(&mut settings.proxy, settings.affinity, &mut faults);
    // The order of labels is nobody's.
    faults.sort_by(|a, b| (&a.label, &a.value).cmp(&(&b.label, &b.value)));
    (settings, faults)
}

fn unknown(label: &str, value: &str) -> Fault {
    let lower = label.to_ascii_lowercase();
    let name = lower.strip_prefix(PREFIX).unwrap_or(&lower);
    let fix = match suggest::nearest(name, KNOWN) {
        Some(meant) => format!("did you mean {PREFIX}{meant}?"),
        None => format!("remove it; known are {PREFIX}{{{}}}", KNOWN.join(",")),
    };
    Fault::new(label, value, "there is no such label", fix)
}
