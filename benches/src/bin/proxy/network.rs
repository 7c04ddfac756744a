//! Two clusters alike, each a client, a node and a backend: the agent serves in one, the other proxies in the other, so that
//! nobody pays for what an agent hangs into its node. The client has a wire to the node of its own: forwarding by the
//! router would be counted as the proxy's time, because a packet that a process sends over virtual wires is carried on
//! in that process's time.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use netns::address::task;
use netns::{Cluster, Namespace, Service, tool};

use crate::contender::{Contender, Processors};

/// At which the backend serves.
pub const PORT: u16 = 7000;
pub const NODE: &str = "node1";
const BACKEND: &str = "backend.1";
/// The wire between client and node, from the range for benchmarks (RFC 2544).
const WIRE: &str = "short";
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 8, 1);
const FRONT: Ipv4Addr = Ipv4Addr::new(198, 18, 8, 2);

#[derive(Debug)]
pub struct Network {
    /// With an agent, where the agent takes part.
    pub mesh: Option<Cluster>,
    bare: Cluster,
    pub processors: Processors,
    backends: Vec<Child>,
}

impl Network {
    pub fn build(contenders: &[Contender], mode: &str, processors: Processors) -> Result<Self> {
        let port = Contender::Portico.port();
        let ports = [format!("{port}:{PORT}"), format!("{port}:{PORT}/udp")];
        let builder = |prefix| {
            let service = Service::new(&[&ports[0], &ports[1]]);
            Cluster::builder(prefix).nodes(1).service("backend", service, 1)
        };
        let mesh = contenders
            .contains(&Contender::Portico)
            .then(|| builder("portico-proxy").mode(mode).build());
        let mut network = Self {
            mesh: mesh.transpose()?,
            bare: builder("portico-peers").without_agents().build()?,
            processors,
            backends: Vec::new(),
        };
        let clusters: Vec<&Cluster> = network.mesh.iter().chain([&network.bare]).collect();
        let mut backends = Vec::new();
        for cluster in clusters {
            prepare(cluster)?;
            backends.push(serve(cluster, network.processors.backend)?);
        }
        network.backends = backends;
        Ok(network)
    }

    pub fn client(&self, contender: Contender) -> Namespace {
        self.cluster(contender).client()
    }

    pub fn node(&self, contender: Contender) -> Namespace {
        self.cluster(contender).place(NODE)
    }

    /// Whom the client asks.
    pub fn target(&self, contender: Contender) -> SocketAddrV4 {
        match contender {
            Contender::Direct => self.backend(),
            _ => SocketAddrV4::new(FRONT, contender.port()),
        }
    }

    /// Whom a proxy asks.
    pub fn backend(&self) -> SocketAddrV4 {
        SocketAddrV4::new(task(2).v4, PORT)
    }

    /// Where a contender's files are; gone with the cluster.
    pub fn directory(&self, contender: Contender) -> Result<PathBuf> {
        let directory = self
            .cluster(contender)
            .state
            .directory()
            .join(format!("{contender:?}").to_lowercase());
        fs::create_dir_all(&directory)?;
        Ok(directory)
    }

    fn cluster(&self, contender: Contender) -> &Cluster {
        match (contender, &self.mesh) {
            (Contender::Portico, Some(mesh)) => mesh,
            _ => &self.bare,
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for backend in &mut self.backends {
            let _ = backend.kill();
            let _ = backend.wait();
        }
    }
}

/// A program on some processors; the list is taskset's.
pub fn pinned(place: &Namespace, processors: &str) -> Result<Command> {
    let mut command = place.command("taskset")?;
    command.args(["--cpu-list", processors]);
    Ok(command)
}

/// This program, which plays the ends.
pub fn own() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find this program")
}

/// The wire, and room for many connections.
fn prepare(cluster: &Cluster) -> Result<()> {
    let (client, node) = (cluster.client(), cluster.place(NODE));
    tool::ip(
        None,
        &[format!(
            "link add {WIRE} netns {} type veth peer name {WIRE} netns {}",
            client.name(),
            node.name()
        )],
    )?;
    for (place, address) in [(&client, CLIENT), (&node, FRONT)] {
        let lines = [
            format!("addr add {address}/24 dev {WIRE}"),
            format!("link set {WIRE} up"),
        ];
        tool::ip(Some(place.name()), &lines)?;
    }
    let backend = task(2).v4;
    tool::ip(
        Some(client.name()),
        &[format!("route add {backend}/32 via {FRONT}")],
    )?;
    // Every new connection takes a port, of the client and of the proxy; the proxies listen below this range.
    for place in [&client, &node] {
        place.sysctl(&[("net/ipv4/ip_local_port_range", "10240 65535")])?;
    }
    for place in [&node, &cluster.place(BACKEND)] {
        place.sysctl(&[
            ("net/core/somaxconn", "4096"),
            ("net/ipv4/tcp_max_syn_backlog", "4096"),
        ])?;
    }
    Ok(())
}

fn serve(cluster: &Cluster, processor: usize) -> Result<Child> {
    let log = cluster.state.directory().join("backend.log");
    let mut command = pinned(&cluster.place(BACKEND), &processor.to_string())?;
    command.arg(own()?).args(["backend", &format!("--port={PORT}")]);
    quiet(&mut command, &log)?;
    command.spawn().context("cannot start the backend")
}

/// Nothing in, and what comes out goes to a file.
pub fn quiet(command: &mut Command, log: &Path) -> Result<()> {
    let log = fs::OpenOptions::new().create(true).append(true).open(log)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(())
}
