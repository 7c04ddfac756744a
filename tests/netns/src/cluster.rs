//! The virtual cluster: built, asked and taken down.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result};

use crate::lag::Versions;
use crate::namespace::{Namespace, disguise};
use crate::state::{self, Node, Service, State};
use crate::supervisor::{self, Supervisor};
use crate::{cgroup, names, services, tool, topology};

/// A cluster, and the right to remove it unless it was only [attached](Cluster::attach) to.
#[derive(Debug)]
pub struct Cluster {
    pub state: State,
    pub(crate) supervisor: Option<Supervisor>,
    pub(crate) versions: Versions,
}

impl Cluster {
    /// Goes on with a cluster that an earlier command left running.
    pub fn attach(prefix: &str) -> Result<Self> {
        let path = state::directory(prefix).join("cluster.json");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("no lab is up: `portico-lab up` makes one ({})", path.display()))?;
        Ok(Self {
            state: serde_json::from_str(&text)?,
            supervisor: None,
            versions: Versions::default(),
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

    /// A command at a place, in its node's cgroup, with its node's name server. On a node it sees what the agent sees:
    /// its pins, and its host name.
    pub fn command(&self, place: &str, program: impl AsRef<OsStr>) -> Result<Command> {
        let namespace = self.place(place);
        let mut command = namespace.command(program)?;
        self.count_among(&mut command, place)?;
        if self.state.nodes.contains_key(place) {
            disguise(&mut command, supervisor::mounts(&self.state.prefix)?, place);
        }
        names::direct(&mut command, &self.state, place)?;
        Ok(command)
    }

    /// Lets the command run in the cgroup of its node.
    pub(crate) fn count_among(&self, command: &mut Command, place: &str) -> Result<()> {
        let node = self.state.tasks.get(place).map_or(place, |task| &task.node);
        let known = self.state.nodes.contains_key(node);
        let path = known.then(|| cgroup::of(&self.state.prefix, node)).flatten();
        path.map_or(Ok(()), |path| cgroup::join(command, &path))
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
        let version = self.versions.next();
        for node in nodes {
            let node = node.as_ref();
            let write = || services::replace(&self.services_file(node), &text);
            self.versions.write(node, version, write)?;
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

    /// Lets tasks reach the world as Docker does, under their node's address. Without it only replies leave a node,
    /// which is all that most tests need, and connections are not tracked.
    pub fn masquerade(&self) -> Result<()> {
        self.nodes()
            .iter()
            .try_for_each(|node| topology::masquerade(&self.state, node))
    }

    /// Marks a node as leaving service, or back in it.
    pub fn set_node_draining(&mut self, node: &str, draining: bool) -> Result<()> {
        self.node_mut(node)?.draining = draining;
        self.publish()
    }

    /// The machine dies: wires cut, processes gone. Its tasks stay in the services file; nobody told the source yet.
    pub fn kill_node(&mut self, node: &str) -> Result<()> {
        self.node_mut(node)?.dead = true;
        self.set_wires(node, "down")?;
        self.kill_agent(node)?;
        for task in self.state.tasks.values().filter(|task| task.node == node) {
            if let Some(process) = &task.process {
                process.kill()?;
            }
        }
        self.save()
    }

    /// Takes a node off all underlays; everything on it runs on.
    pub fn cut_node(&self, node: &str) -> Result<()> {
        self.set_wires(node, "down")
    }

    /// Puts a node that was cut off back on its underlays.
    pub fn mend_node(&self, node: &str) -> Result<()> {
        self.set_wires(node, "up")
    }

    fn set_wires(&self, node: &str, state: &str) -> Result<()> {
        let lines: Vec<String> = (0..self.state.uplinks)
            .map(|number| format!("link set {} {state}", topology::wire(node, number)))
            .collect();
        tool::ip(Some(self.place("router").name()), &lines)
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
