//! The ways: node 1 with a wire that packets come in by and one that they leave by.
//!
//! ```text
//!  router node1-1 ─────── eth1 node1 eth0 ─────── node1 router
//!  made here              carried                 counted and dropped here
//! ```
//!
//! The wires are those of a cluster, taken out of the router's bridges. Node 2, where the task runs, is not asked: what
//! is sent to it ends at the other end of node 1's wire.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::programs::xdp::XdpLinkId;
use lb_common::checksum;
use lb_ebpf::plan::{FRAME, Hop};
use netns::address::node;
use netns::{Cluster, Namespace, Service, tool, wait};

use super::Way;
use super::frames::{Frames, Run};

/// Port of node 1 that leads to the task.
const PORT: u16 = 8080;
/// The task's address where no agent knows it, from the range for benchmarks (RFC 2544).
const TASK: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 1);
const TABLE: &str = "portico_bench";
/// Packets that show whether a way is open.
const FEW: u32 = 1000;

/// Three clusters alike: agents with native XDP, agents with tc alone, no agents.
pub struct Course {
    frames: Frames,
    native: Cluster,
    tc: Cluster,
    bare: Cluster,
    /// What is attached where the bare node takes packets in.
    middle: Option<(&'static str, XdpLinkId)>,
}

impl Course {
    pub fn build() -> Result<Self> {
        let mut frames = Frames::load()?;
        let service = || Service::new(&["8080:80/udp"]);
        let builder = |prefix| Cluster::builder(prefix).nodes(2).uplinks(2);
        let mut clusters = [
            builder("portico-rate").xdp("native"),
            builder("portico-ratetc").xdp("off").offloads(false),
            builder("portico-ratebare").without_agents().offloads(false),
        ]
        .map(|builder| builder.service("task", service(), 0).build());
        for cluster in clusters.iter_mut().flatten() {
            cluster.add_task("task", Some("node2"))?;
            cluster.publish()?;
            cluster.settle()?;
            unbridge(cluster)?;
            let router = cluster.router();
            // The device that packets are made in the name of must be one that XDP knows.
            for device in ["node1", "node1-1"] {
                frames.attach("arrive_xdp", &router, device)?;
            }
        }
        let [native, tc, bare] = clusters;
        let course = Self {
            frames,
            native: native?,
            tc: tc?,
            bare: bare?,
            middle: None,
        };
        course.route()
    }

    /// The bare node's way to the task, for its kernel and for the plain forwarder.
    fn route(mut self) -> Result<Self> {
        let node1 = self.bare.place("node1");
        let far = mac(&self.bare.router(), "node1")?;
        let lines = [
            format!("route add {TASK} dev eth0"),
            format!("neigh replace {TASK} lladdr {} dev eth0 nud permanent", far.text),
        ];
        tool::ip(Some(node1.name()), &lines)?;
        let mut addresses = [0; 12];
        addresses[..6].copy_from_slice(&far.bytes);
        addresses[6..].copy_from_slice(&mac(&node1, "eth0")?.bytes);
        let device = index(&node1, "eth0")?;
        self.frames.set_hop(Hop { addresses, device })?;
        Ok(self)
    }

    /// One turn of one way.
    pub fn run(&mut self, way: Way, packets: u32) -> Result<Run> {
        let program = match way {
            Way::Wire => Some("arrive_xdp"),
            Way::Redirect => Some("forward_xdp"),
            _ => None,
        };
        self.put_in_the_middle(program)?;
        if way == Way::Nftables {
            let rule = format!("udp dport {PORT} dnat to {TASK}:80");
            self.nft(&format!(
                "table ip {TABLE} {{ chain in {{ type nat hook prerouting priority dstnat; {rule}; }}; }}"
            ))?;
        }
        let run = self.send(way, packets);
        if way == Way::Nftables {
            self.nft(&format!("delete table ip {TABLE}"))?;
        }
        run
    }

    /// What became of the packets that Portico's node saw, by verdict.
    pub fn verdicts(&self) -> Result<Vec<String>> {
        let counted = |(name, cluster): (&str, &Cluster)| {
            let verdicts = cluster.verdicts("node1")?;
            let seen = verdicts.iter().filter(|(_, packets)| **packets > 0);
            let words: Vec<String> = seen
                .map(|(verdict, packets)| format!("{verdict} {packets}"))
                .collect();
            Ok(format!("packets at node 1 of {name}: {}", words.join(", ")))
        };
        [("Portico in XDP", &self.native), ("Portico in tc", &self.tc)]
            .into_iter()
            .map(counted)
            .collect()
    }

    fn send(&mut self, way: Way, packets: u32) -> Result<Run> {
        let cluster = match way {
            Way::Portico => &self.native,
            Way::PorticoTc => &self.tc,
            _ => &self.bare,
        };
        let to = match way {
            Way::Kernel => TASK,
            _ => node(0, 1).v4,
        };
        let (router, node1) = (cluster.router(), cluster.place("node1"));
        let frame = frame(&node1, &router, to)?;
        let device = index(&router, "node1-1")?;
        let frames = &mut self.frames;
        wait::until_some("packets arrive", Duration::from_secs(10), || {
            let run = frames.run(&router, device, &frame, FEW)?;
            anyhow::Ok((run.arrived >= u64::from(FEW / 2)).then_some(()))
        })?;
        frames.run(&router, device, &frame, packets)
    }

    fn put_in_the_middle(&mut self, program: Option<&'static str>) -> Result<()> {
        if self.middle.as_ref().map(|(name, _)| *name) == program {
            return Ok(());
        }
        if let Some((name, link)) = self.middle.take() {
            self.frames.detach(name, link)?;
        }
        if let Some(name) = program {
            let link = self.frames.attach(name, &self.bare.place("node1"), "eth1")?;
            self.middle = Some((name, link));
        }
        Ok(())
    }

    fn nft(&self, text: &str) -> Result<()> {
        tool::run(self.bare.place("node1").command("nft")?.arg(text)).map(drop)
    }
}

/// Takes node 1's wires out of the bridges, and makes the end of the first one the way to node 2.
fn unbridge(cluster: &Cluster) -> Result<()> {
    let router = cluster.router();
    let lines = ["node1", "node1-1"].map(|device| format!("link set {device} nomaster"));
    tool::ip(Some(router.name()), &lines)?;
    let far = mac(&router, "node1")?.text;
    let line = format!(
        "neigh replace {} lladdr {far} dev eth0 nud permanent",
        node(0, 2).v4
    );
    tool::ip(Some(cluster.place("node1").name()), &[line])
}

/// A UDP packet to the frontend or the task: source and identification are the generator's to write.
fn frame(node1: &Namespace, router: &Namespace, to: Ipv4Addr) -> Result<[u8; FRAME]> {
    let mut frame = [0; FRAME];
    frame[..6].copy_from_slice(&mac(node1, "eth1")?.bytes);
    frame[6..12].copy_from_slice(&mac(router, "node1-1")?.bytes);
    frame[12..14].copy_from_slice(&[8, 0]);
    let length = ((FRAME - 14) as u16).to_be_bytes();
    // Identification and the end of the source add up to all ones, which the sum does not see.
    frame[14..26].copy_from_slice(&[0x45, 0, length[0], length[1], 0xff, 0xff, 0x40, 0, 60, 17, 0, 0]);
    frame[26..28].copy_from_slice(&[10, 0]);
    frame[30..34].copy_from_slice(&to.octets());
    let sum = !checksum::fold(checksum::sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&sum.to_ne_bytes());
    frame[34..36].copy_from_slice(&40_000u16.to_be_bytes());
    frame[36..38].copy_from_slice(&PORT.to_be_bytes());
    frame[38..40].copy_from_slice(&((FRAME - 34) as u16).to_be_bytes());
    Ok(frame)
}

/// A device's Ethernet address.
struct Mac {
    text: String,
    bytes: [u8; 6],
}

fn mac(place: &Namespace, device: &str) -> Result<Mac> {
    let text = show(place, device)?["address"]
        .as_str()
        .context("a device without an address")?
        .to_owned();
    let mut bytes = [0; 6];
    for (byte, word) in bytes.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(word, 16)?;
    }
    Ok(Mac { text, bytes })
}

fn index(place: &Namespace, device: &str) -> Result<u32> {
    let index = show(place, device)?["ifindex"].as_u64();
    Ok(index.context("a device without an index")? as u32)
}

fn show(place: &Namespace, device: &str) -> Result<serde_json::Value> {
    let text = tool::run(place.command("ip")?.args(["-json", "link", "show", device]))?;
    let mut devices: Vec<serde_json::Value> = serde_json::from_str(&text)?;
    devices.pop().with_context(|| format!("no device {device}"))
}
