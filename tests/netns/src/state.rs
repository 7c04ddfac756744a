//! What the lab knows of its cluster; kept as JSON, so that one command can go on where another stopped.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::address::{self, Pair};
use crate::process::Process;

/// Everything that the lab keeps lies below; one directory for each cluster.
pub const HOME: &str = "/run/portico-lab";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Its namespaces are called `PREFIX-PLACE`.
    pub prefix: String,
    /// The wires leave checksums and segments to the receiver, as virtual devices do.
    pub offloads: bool,
    /// Underlays, one or two.
    pub uplinks: usize,
    /// `auto`, `ebpf`, `proxy` or `mixed`; none: no agents at all.
    pub mode: Option<String>,
    /// What the agents are told about XDP on their uplinks; none: they choose.
    pub xdp: Option<String>,
    /// Lines added to every agent's configuration.
    pub configuration: String,
    pub nodes: BTreeMap<String, Node>,
    pub services: BTreeMap<String, Service>,
    pub tasks: BTreeMap<String, Task>,
    /// A services file given by a person, in place of the one made from the above.
    pub file: Option<String>,
    /// Container engines on the nodes: their tasks are what the agents serve, in place of a services file.
    #[serde(default)]
    pub engines: bool,
    /// Keys added to every engine's `daemon.json`.
    #[serde(default)]
    pub engine: serde_json::Map<String, serde_json::Value>,
    /// How many tasks of each name there were: a new one is never taken for an old one.
    pub instances: BTreeMap<String, u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// From 1.
    pub index: u8,
    pub draining: bool,
    /// Its wires are cut and its processes dead.
    pub dead: bool,
    pub agent: Option<Process>,
    #[serde(default)]
    pub engine: Option<Process>,
}

impl Node {
    /// Its address on an underlay.
    pub fn address(&self, uplink: usize) -> Pair {
        address::node(uplink, self.index)
    }
}

/// A service as a person would write it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Service {
    pub ports: Vec<String>,
    /// Numbers of its VIPs, see [`address::vip`]. Without any it answers on every node's own addresses.
    pub vips: Vec<u8>,
    /// Its tasks run in their nodes' own network namespace and have this port there, one on each node.
    #[serde(default)]
    pub on_host: Option<u16>,
    /// Further lines of the services file, without indentation.
    pub more: Vec<String>,
}

impl Service {
    pub fn new(ports: &[&str]) -> Self {
        Self {
            ports: ports.iter().map(|&port| port.to_owned()).collect(),
            ..Self::default()
        }
    }

    pub fn vip(mut self, number: u8) -> Self {
        self.vips.push(number);
        self
    }

    /// Its tasks run in their nodes' own network namespace, as containers on the host's network do, and listen there on
    /// `port`, and for streams on the next one.
    pub fn on_host(mut self, port: u16) -> Self {
        self.on_host = Some(port);
        self
    }

    /// Adds a line, as `health: { http: /healthz, interval: 200ms }`.
    pub fn with(mut self, line: &str) -> Self {
        self.more.push(line.to_owned());
        self
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub service: String,
    pub number: u32,
    /// What the services file calls it: never the same twice.
    pub identity: String,
    pub node: String,
    pub address: Pair,
    pub draining: bool,
    pub weight: Option<u16>,
    pub process: Option<Process>,
}

impl Task {
    pub fn is_running(&self) -> bool {
        self.process.is_some_and(|process| process.is_alive())
    }
}

impl State {
    pub fn directory(&self) -> PathBuf {
        directory(&self.prefix)
    }

    pub fn node_directory(&self, node: &str) -> PathBuf {
        self.directory().join(node)
    }

    /// The port that a task has in its node's own network namespace, if it runs there.
    pub fn host_port(&self, task: &str) -> Option<u16> {
        self.services.get(&self.tasks.get(task)?.service)?.on_host
    }

    /// Tasks of a service, lowest number first.
    pub fn tasks_of(&self, service: &str) -> Vec<(String, Task)> {
        let mut tasks: Vec<_> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.service == service)
            .map(|(name, task)| (name.clone(), task.clone()))
            .collect();
        tasks.sort_by_key(|(_, task)| task.number);
        tasks
    }

    /// The node in service that runs the fewest tasks, the first of them by name.
    pub fn emptiest_node(&self) -> Option<String> {
        let count = |node: &str| self.tasks.values().filter(|task| task.node == node).count();
        self.nodes
            .iter()
            .filter(|(_, node)| !node.draining && !node.dead)
            .min_by_key(|(name, _)| count(name))
            .map(|(name, _)| name.clone())
    }

    /// The lowest address that is free on a node's bridge: addresses are used again, as Docker does.
    pub fn free_address(&self, node: &str) -> Option<Pair> {
        (2..=254).map(address::task).find(|pair| {
            !self
                .tasks
                .values()
                .any(|task| task.node == node && task.address == *pair)
        })
    }
}

pub fn directory(prefix: &str) -> PathBuf {
    PathBuf::from(HOME).join(prefix)
}
