//! What a cluster shall be like, and its making.

use std::fs;

use anyhow::{Result, bail};

use crate::cluster::Cluster;
use crate::lag::Versions;
use crate::state::{Node, Service, State};
use crate::supervisor::{self, Supervisor};
use crate::{cgroup, names, topology};

/// What a cluster shall be like.
#[derive(Debug)]
pub struct Builder {
    state: State,
    detached: bool,
    count: u8,
    tasks: Vec<(String, u32)>,
}

impl Cluster {
    /// A cluster whose namespaces are called `PREFIX-…`: three nodes, agents on all of them, one underlay.
    pub fn builder(prefix: &str) -> Builder {
        Builder {
            state: State {
                prefix: prefix.to_owned(),
                offloads: true,
                uplinks: 1,
                mode: Some("auto".to_owned()),
                ..State::default()
            },
            detached: false,
            count: 3,
            tasks: Vec::new(),
        }
    }
}

impl Builder {
    /// What the names of its namespaces start with.
    pub fn prefix(&self) -> &str {
        &self.state.prefix
    }

    pub(crate) fn needs_engines(&self) -> bool {
        self.state.engines
    }

    pub fn nodes(mut self, count: u8) -> Self {
        self.count = count;
        self
    }

    /// Underlays, each with a device on every node: one or two.
    pub fn uplinks(mut self, count: usize) -> Self {
        self.state.uplinks = count;
        self
    }

    /// Off: wires carry whole checksums and no super-packets, as native XDP needs.
    pub fn offloads(mut self, on: bool) -> Self {
        self.state.offloads = on;
        self
    }

    /// `auto`, `ebpf` or `proxy`; `mixed`: proxy on `node2` alone.
    pub fn mode(mut self, mode: &str) -> Self {
        self.state.mode = Some(mode.to_owned());
        self
    }

    /// XDP on the uplinks: `native`, `generic`, `off`; agents choose unless told. Native needs wires without offloads.
    pub fn xdp(mut self, xdp: &str) -> Self {
        self.state.xdp = Some(xdp.to_owned());
        self.offloads(xdp != "native")
    }

    /// Only machines, wires and tasks.
    pub fn without_agents(mut self) -> Self {
        self.state.mode = None;
        self
    }

    /// A container engine on every node, started before its agent: what it runs is what the agents serve.
    pub fn engines(mut self) -> Self {
        self.state.engines = true;
        self
    }

    /// Sets a key of every engine's `daemon.json`, as `("live-restore", true)`.
    pub fn engine(mut self, key: &str, value: impl Into<serde_json::Value>) -> Self {
        self.state.engine.insert(key.to_owned(), value.into());
        self.engines()
    }

    /// Adds lines to every agent's configuration. Tables only: top-level keys are the lab's.
    pub fn configuration(mut self, lines: &str) -> Self {
        self.state.configuration.push_str(lines);
        self.state.configuration.push('\n');
        self
    }

    /// Adds a service with a number of tasks, spread over the nodes.
    pub fn service(mut self, name: &str, service: Service, tasks: u32) -> Self {
        self.state.services.insert(name.to_owned(), service);
        self.tasks.push((name.to_owned(), tasks));
        self
    }

    /// A services file given by a person.
    pub fn file(mut self, text: String) -> Self {
        self.state.file = Some(text);
        self
    }

    /// The cluster stays when this process ends, until [`Cluster::remove`].
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// Removes what an earlier cluster of this name left, builds the new one and waits until it serves.
    pub fn build(self) -> Result<Cluster> {
        if nix::unistd::geteuid().as_raw() != 0 {
            bail!("the lab makes network namespaces and loads programs: it needs root");
        }
        let mut state = self.state;
        for prefix in supervisor::orphans().iter().chain([&state.prefix]) {
            Cluster::remove(prefix)?;
        }
        for index in 1..=self.count {
            let node = Node {
                index,
                draining: false,
                dead: false,
                agent: None,
                engine: None,
            };
            state.nodes.insert(format!("node{index}"), node);
        }
        supervisor::note(&state.prefix, &[])?;
        let supervisor = Supervisor::start(&state.prefix, self.detached)?;
        let mut cluster = Cluster {
            state,
            supervisor: Some(supervisor),
            versions: Versions::default(),
        };
        cluster.fill(&self.tasks)?;
        if self.detached
            && let Some(supervisor) = cluster.supervisor.take()
        {
            supervisor.leave();
        }
        Ok(cluster)
    }
}

impl Cluster {
    fn fill(&mut self, tasks: &[(String, u32)]) -> Result<()> {
        for node in self.nodes() {
            fs::create_dir_all(self.state.node_directory(&node))?;
        }
        cgroup::create(&self.state.prefix, self.state.nodes.keys())?;
        topology::build(&self.state)?;
        if self.state.mode.is_some() {
            for node in self.nodes() {
                names::write(&self.state, &node)?;
            }
            self.start_upstream()?;
        }
        for (service, count) in tasks {
            for _ in 0..*count {
                self.add_task(service, None)?;
            }
        }
        self.publish()?;
        if self.state.engines {
            self.start_engines()?;
        }
        if self.state.mode.is_some() {
            for node in self.nodes() {
                self.start_agent(&node)?;
            }
            self.wait_agents()?;
        }
        self.save()
    }
}
