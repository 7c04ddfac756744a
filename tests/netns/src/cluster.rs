//! The virtual cluster: built, asked and taken down.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::namespace::{Namespace, disguise};
use crate::state::{self, Node, Service, State};
use crate::supervisor::{self, Supervisor};
use crate::{services, tool, topology};

/// A cluster, and the right to remove it unless it was only [attached](Cluster::attach) to.
#[derive(Debug)]
pub struct Cluster {
    pub state: State,
    supervisor: Option<Supervisor>,
}

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

    /// Goes on with a cluster that an earlier command left running.
    pub fn attach(prefix: &str) -> Result<Self> {
        let path = state::directory(prefix).join("cluster.json");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("no lab is up: `portico-lab up` makes one ({})", path.display()))?;
        Ok(Self {
            state: serde_json::from_str(&text)?,
            supervisor: None,
        })
    }

    /// Removes a cluster by name, whoever made it.
    pub fn remove(prefix: &str) -> Result<()> {
        supervisor::sweep(prefix)?;
        supervisor::dismiss(prefix);
        Ok(())
    }

    /// The namespace of `client`, `router`, `node1`, `web.1`.
    pub fn place(&self, name: &str) -> Namespace {
        topology::place(&self.state, name)
    }

    /// A command at a place. On a node it sees what the agent sees: its pins, and its host name.
    pub fn command(&self, place: &str, program: &str) -> Result<Command> {
        let namespace = self.place(place);
        let mut command = namespace.command(program)?;
        if self.state.nodes.contains_key(place) {
            disguise(&mut command, supervisor::mounts(&self.state.prefix)?, place);
        }
        Ok(command)
    }

    pub fn client(&self) -> Namespace {
        self.place("client")
    }

    pub fn router(&self) -> Namespace {
        self.place("router")
    }

    pub fn nodes(&self) -> Vec<String> {
        self.state.nodes.keys().cloned().collect()
    }

    /// A port on every node, both families: what a client may ask.
    pub fn ports(&self, port: u16) -> Vec<SocketAddr> {
        let nodes = self.state.nodes.values().filter(|node| !node.dead);
        nodes
            .flat_map(|node| node.address(0).both())
            .map(|address| SocketAddr::new(address, port))
            .collect()
    }

    /// Adds or changes a service; [`publish`](Self::publish) makes it known.
    pub fn set_service(&mut self, name: &str, service: Service) {
        self.state.services.insert(name.to_owned(), service);
    }

    /// Writes the services file of every node.
    pub fn publish(&self) -> Result<()> {
        self.publish_to(&self.nodes())
    }

    /// Writes the services file of some nodes: the others' view lags behind.
    pub fn publish_to<N: AsRef<str>>(&self, nodes: &[N]) -> Result<()> {
        let text = services::render(&self.state);
        for node in nodes {
            services::replace(&self.services_file(node.as_ref()), &text)?;
        }
        self.save()
    }

    /// Where a node's agent reads its services from.
    pub fn services_file(&self, node: &str) -> std::path::PathBuf {
        self.state.node_directory(node).join("services.yaml")
    }

    /// Lets the router send the VIPs to some nodes only.
    pub fn send_vips(&self, nodes: &[&str]) -> Result<()> {
        topology::send_vips(
            &self.state,
            &nodes.iter().map(|&node| node.to_owned()).collect::<Vec<_>>(),
        )
    }

    /// Marks a node as leaving service, or back in it.
    pub fn set_node_draining(&mut self, node: &str, draining: bool) -> Result<()> {
        self.node_mut(node)?.draining = draining;
        self.publish()
    }

    /// The machine dies: wires cut, processes gone. Its tasks stay in the services file; nobody told the source yet.
    pub fn kill_node(&mut self, node: &str) -> Result<()> {
        self.node_mut(node)?.dead = true;
        let router = self.place("router");
        let cut: Vec<String> = (0..self.state.uplinks)
            .map(|number| format!("link set {} down", topology::wire(node, number)))
            .collect();
        tool::ip(Some(router.name()), &cut)?;
        self.kill_agent(node)?;
        for task in self.state.tasks.values().filter(|task| task.node == node) {
            if let Some(process) = &task.process {
                process.kill()?;
            }
        }
        self.save()
    }

    pub(crate) fn node_mut(&mut self, node: &str) -> Result<&mut Node> {
        let known = self.nodes().join(", ");
        self.state
            .nodes
            .get_mut(node)
            .with_context(|| format!("no node {node}; there are {known}"))
    }

    /// Keeps the state for the next command.
    pub fn save(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.state)?;
        services::replace(&self.state.directory().join("cluster.json"), &text)
    }
}

impl Builder {
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

    /// `auto`, `ebpf` or `proxy`.
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
            };
            state.nodes.insert(format!("node{index}"), node);
        }
        supervisor::note(&state.prefix, &[])?;
        let supervisor = Supervisor::start(&state.prefix, self.detached)?;
        let mut cluster = Cluster {
            state,
            supervisor: Some(supervisor),
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
        topology::build(&self.state)?;
        for (service, count) in tasks {
            for _ in 0..*count {
                self.add_task(service, None)?;
            }
        }
        self.publish()?;
        if self.state.mode.is_some() {
            for node in self.nodes() {
                self.start_agent(&node)?;
            }
            self.wait_agents()?;
        }
        self.save()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let Some(supervisor) = self.supervisor.take() else {
            return;
        };
        if std::thread::panicking() {
            self.print_logs();
        }
        match supervisor::sweep(&self.state.prefix) {
            // It sees the pipe close and tries again.
            Err(error) => eprintln!(
                "cannot remove the cluster {} at once: {error:#}",
                self.state.prefix
            ),
            Ok(()) => supervisor.end(),
        }
    }
}
