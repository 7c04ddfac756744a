//! Two clusters alike: one with agents, and a bare one in which the kernel alone carries packets, so that neither
//! pays for the other's hooks.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use netns::address::node;
use netns::{Cluster, Namespace, Service, tool, topology, wait};

use crate::contender::{Contender, Place, TASK_PORTS, address};
use crate::load::{Load, pinned, processor};

/// The DNAT that nftables does in node 1; loaded for its turn only, because connection tracking slows whoever passes.
const TABLE: &str = "portico_bench";

#[derive(Debug)]
pub struct Network {
    mesh: Cluster,
    bare: Cluster,
    servers: Vec<Child>,
}

impl Network {
    pub fn build(offloads: bool, xdp: Option<&str>) -> Result<Self> {
        let builder = |prefix| {
            let mut builder = Cluster::builder(prefix).nodes(2);
            for place in Place::ALL {
                let ports = place.ports();
                let ports = [0, 1].map(|at| format!("{}:{}", ports[at], TASK_PORTS[at]));
                let service = Service::new(&[&ports[0], &ports[1]]);
                builder = builder.service(place.service().0, service, 0);
            }
            builder
        };
        let mut mesh = builder("portico-path");
        if let Some(xdp) = xdp {
            mesh = mesh.xdp(xdp);
        }
        let mut network = Self {
            mesh: mesh.offloads(offloads).build()?,
            bare: builder("portico-bare")
                .without_agents()
                .offloads(offloads)
                .build()?,
            servers: Vec::new(),
        };
        for cluster in [&mut network.mesh, &mut network.bare] {
            network.servers.extend(populate(cluster)?);
        }
        network.mesh.publish()?;
        network.mesh.settle()?;
        route(&network.bare)?;
        Ok(network)
    }

    /// One turn of one contender.
    pub fn measure(&self, contender: Contender, place: Place, load: Load, time: Duration) -> Result<f64> {
        let client = match contender {
            Contender::Portico => self.mesh.client(),
            _ => self.bare.client(),
        };
        if contender == Contender::Nftables {
            self.translate()?;
        }
        let figure = load
            .run(&client, target(contender, place, load), time)
            .with_context(|| format!("{}, {}, {}", contender.title(), place.title(), load.title()));
        if contender == Contender::Nftables {
            self.nft(&format!("delete table ip {TABLE}"))?;
        }
        figure
    }

    /// What a reader must know of both clusters.
    pub fn notes(&self) -> Result<Vec<String>> {
        let mut notes = vec![
            "two clusters of the same making, one with agents, one without; turns are interleaved".to_owned(),
            format!(
                "client on processor {}, task on processor {}; the agent is {}",
                processor(0),
                processor(1),
                tool::program("portico")?.display()
            ),
        ];
        for cluster in [&self.mesh, &self.bare] {
            let places = [
                ("client", "eth0"),
                ("router", "client0"),
                ("router", "node1"),
                ("node1", "eth0"),
                ("node1", "v-local.1"),
                ("local.1", "eth0"),
            ];
            let described: Result<Vec<String>> = places
                .iter()
                .map(|(place, device)| {
                    Ok(format!(
                        "{place}/{device} {}",
                        offloads(&cluster.place(place), device)?
                    ))
                })
                .collect();
            notes.push(format!(
                "offloads of {}: {}",
                cluster.state.prefix,
                described?.join("; ")
            ));
        }
        let status = self.mesh.portico_json("node1", &["status"])?;
        let interfaces = status["planes"][0]["report"]["interfaces"].as_array();
        for interface in interfaces.into_iter().flatten() {
            notes.push(format!(
                "the agent of node1 serves {} with XDP {} and tc {}: {}",
                interface["name"], interface["xdp"], interface["tc"], interface["why"]
            ));
        }
        Ok(notes)
    }

    /// What became of the packets that Portico's nodes saw, by verdict.
    pub fn verdicts(&self) -> Result<Vec<String>> {
        let counted = |node: String| {
            let verdicts = self.mesh.verdicts(&node)?;
            let seen = verdicts.iter().filter(|(_, packets)| **packets > 0);
            let words: Vec<String> = seen
                .map(|(verdict, packets)| format!("{verdict} {packets}"))
                .collect();
            Ok(format!("packets at {node}: {}", words.join(", ")))
        };
        self.mesh.nodes().into_iter().map(counted).collect()
    }

    fn translate(&self) -> Result<()> {
        let rules: String = Place::ALL
            .into_iter()
            .flat_map(|place| {
                let to = address(Contender::Nftables, place);
                let ports = place.ports().into_iter().zip(TASK_PORTS);
                ports.map(move |(from, port)| format!("tcp dport {from} dnat to {to}:{port}; "))
            })
            .collect();
        self.nft(&format!(
            "table ip {TABLE} {{ chain in {{ type nat hook prerouting priority dstnat; {rules}}}; }}"
        ))
    }

    fn nft(&self, text: &str) -> Result<()> {
        tool::run(self.bare.place("node1").command("nft")?.arg(text)).map(drop)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// Whom the client addresses.
fn target(contender: Contender, place: Place, load: Load) -> SocketAddrV4 {
    let at = usize::from(load.is_bulk());
    match contender {
        Contender::Portico | Contender::Nftables => SocketAddrV4::new(node(0, 1).v4, place.ports()[at]),
        Contender::Routing | Contender::Vxlan => SocketAddrV4::new(address(contender, place), TASK_PORTS[at]),
    }
}

/// Starts a task with both servers at each place.
fn populate(cluster: &mut Cluster) -> Result<Vec<Child>> {
    // Every new connection takes a port of the client's.
    cluster
        .client()
        .sysctl(&[("net/ipv4/ip_local_port_range", "1024 65535")])?;
    let mut servers = Vec::new();
    for place in Place::ALL {
        let (service, node) = place.service();
        let task = cluster.add_task(service, Some(node))?;
        if let Some(process) = cluster.task(&task)?.process {
            let mut pin = std::process::Command::new("taskset");
            let pid = process.pid.to_string();
            tool::run(pin.args(["--all-tasks", "--pid", "--cpu-list", &processor(1), &pid]))?;
        }
        let namespace = cluster.place(&task);
        let mut command = pinned(&namespace, 1)?;
        command.args(["iperf3", "--server", "--port", &TASK_PORTS[1].to_string()]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        servers.push(command.spawn().context("cannot run iperf3")?);
        wait::until("iperf3 listens", Duration::from_secs(10), || {
            let line = format!(":{:04X} ", TASK_PORTS[1]);
            ["tcp", "tcp6"]
                .iter()
                .any(|file| namespace.proc_net(file).is_ok_and(|text| text.contains(&line)))
        })?;
    }
    Ok(servers)
}

/// The kernel's ways to the tasks. Those to the other node go through node 1 in both directions, as a relayed
/// connection does.
fn route(cluster: &Cluster) -> Result<()> {
    let lines = |place: &str, lines: &[String]| tool::ip(Some(cluster.place(place).name()), lines);
    let [node1, node2] = [1, 2].map(|index| node(0, index).v4);
    let (uplink, port) = (topology::uplink(0), 4789);
    let tunnel = |own: Ipv4Addr, other: Ipv4Addr, number: u8| {
        [
            format!("link add vx0 type vxlan id 42 local {own} remote {other} dstport {port} dev {uplink}"),
            format!("addr add 198.18.4.{number}/24 dev vx0"),
            "link set vx0 up".to_owned(),
        ]
    };
    lines("node1", &tunnel(node1, node2, 1))?;
    lines("node2", &tunnel(node2, node1, 2))?;
    for place in Place::ALL {
        let (service, _) = place.service();
        for &contender in Contender::at(place)
            .iter()
            .filter(|&&who| who != Contender::Portico)
        {
            let to = address(contender, place);
            lines(&format!("{service}.1"), &[format!("addr add {to}/32 dev eth0")])?;
            lines("router", &[format!("route add {to} via {node1}")])?;
            if place == Place::Local {
                lines("node1", &[format!("route add {to} dev docker0")])?;
                continue;
            }
            let (there, back) = match contender {
                Contender::Vxlan => ("198.18.4.2".to_owned(), "198.18.4.1".to_owned()),
                _ => (node2.to_string(), node1.to_string()),
            };
            let table = 100 + contender as u8;
            lines("node1", &[format!("route add {to} via {there}")])?;
            lines(
                "node2",
                &[
                    format!("route add {to} dev docker0"),
                    format!("rule add from {to} lookup {table}"),
                    format!("route add default via {back} table {table}"),
                ],
            )?;
        }
    }
    // In and out by one device: a router would tell the sender of a shorter way.
    cluster.place("node1").sysctl(&[
        ("net/ipv4/conf/all/send_redirects", "0"),
        ("net/ipv4/conf/eth0/send_redirects", "0"),
    ])
}

/// What a device leaves to others: checksums, cutting, joining.
fn offloads(place: &Namespace, device: &str) -> Result<String> {
    let text = tool::run(place.command("ethtool")?.args(["-k", device]))?;
    let state = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().split(' ').next())
            .unwrap_or("?")
    };
    Ok(format!(
        "tx {} tso {} gso {} gro {}",
        state("tx-checksumming:"),
        state("tcp-segmentation-offload:"),
        state("generic-segmentation-offload:"),
        state("generic-receive-offload:")
    ))
}
