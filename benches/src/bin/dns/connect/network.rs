//! Two nodes alike, one with an agent, each with a task of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns::address::{BRIDGE, vip};
use netns::{Cluster, Service, tool, wait};

use super::process::accept;
use super::{Socket, Way};
use crate::contender::processor;

/// At which the task takes connections, and the service has its VIP.
const PORT: u16 = 9000;
const TASK: &str = "task.1";
const TABLE: &str = "portico_bench";
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Network {
    mesh: Cluster,
    bare: Cluster,
}

impl Network {
    pub fn build() -> Result<Self> {
        let ports = [PORT.to_string(), format!("{PORT}/udp")];
        let build = |prefix| {
            let service = Service::new(&[&ports[0], &ports[1]]).vip(1);
            Cluster::builder(prefix).nodes(1).service("task", service, 1)
        };
        let mesh = build("portico-connect").build()?;
        mesh.settle()?;
        let bare = build("portico-connectbare").without_agents().build()?;
        for cluster in [&mesh, &bare] {
            accept(&cluster.place(TASK), PORT)?;
        }
        let network = Self { mesh, bare };
        // Tasks are found a moment after they are known; until then connections are left to the packets.
        wait::until("connect() leads to the task", PATIENCE, || {
            network.measure(Way::Hook, Socket::Tcp, 1).is_ok()
        })?;
        Ok(network)
    }

    /// One turn of one way, in nanoseconds for each socket.
    pub fn measure(&self, way: Way, socket: Socket, count: u32) -> Result<f64> {
        let task = |cluster: &Cluster| -> Result<_> { Ok(cluster.task(TASK)?.address.v4) };
        let (cluster, target): (_, Option<Ipv4Addr>) = match way {
            Way::Alone => (&self.bare, None),
            Way::Plain => (&self.bare, Some(task(&self.bare)?)),
            Way::Nftables => (&self.bare, Some(vip(1).v4)),
            Way::Bystander => (&self.mesh, Some(task(&self.mesh)?)),
            Way::Hook | Way::Packets => (&self.mesh, Some(vip(1).v4)),
        };
        // The node's cgroup is where its agent has attached the programs.
        let mut command = match way {
            Way::Packets => cluster.place("node1").command("taskset")?,
            _ => cluster.command("node1", "taskset")?,
        };
        command
            .args(["--cpu-list", &processor(0)])
            .arg(std::env::current_exe()?)
            .args(["connect", "--count", &count.to_string()])
            .arg(match socket {
                Socket::Tcp => "--socket=tcp",
                Socket::Udp => "--socket=udp",
            });
        if let Some(target) = target {
            command.arg(format!("--target={}", SocketAddr::from((target, PORT))));
        }
        if way == Way::Nftables {
            let rule = format!(
                "ip daddr {} meta l4proto {{ tcp, udp }} th dport {PORT}",
                vip(1).v4
            );
            let rule = format!("{rule} dnat to {}:{PORT}", task(&self.bare)?);
            self.nft(&format!(
                "table ip {TABLE} {{ chain out {{ type nat hook output priority -100; {rule}; }}; }}"
            ))?;
        }
        let answer = tool::run(&mut command);
        if way == Way::Nftables {
            self.nft(&format!("delete table ip {TABLE}"))?;
        }
        let answer = answer?;
        let (cost, own) = answer.trim().split_once(' ').context("no figure")?;
        // Led to the task a socket has the bridge's address, as one that goes there by itself.
        let led = own == BRIDGE.v4.to_string();
        ensure!(
            socket == Socket::Udp || led == !matches!(way, Way::Alone | Way::Packets | Way::Nftables),
            "not the way that was meant: the socket has the address {own}"
        );
        cost.parse().with_context(|| format!("no figure: {answer}"))
    }

    fn nft(&self, text: &str) -> Result<()> {
        tool::run(self.bare.place("node1").command("nft")?.arg(text)).map(drop)
    }
}
