//! What a plane tells about itself: the same types in the agent, over the control socket and in the command line.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::proxy::ProxyReport;
use crate::model::Protocol;

/// The plane's state at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlaneReport {
    /// Generation of the snapshot that the kernel's tables show; 0 before the first.
    pub generation: u64,
    /// How long applying it took, in microseconds.
    pub applied_in: u64,
    pub interfaces: Vec<InterfaceReport>,
    #[serde(default)]
    pub portico0: Portico0Report,
    /// This node's addresses that tasks see in place of a client's where they could not answer that, one of each family.
    #[serde(default)]
    pub masks: Vec<IpAddr>,
    /// Networks whose clients are seen as they are, wherever they are.
    #[serde(default)]
    pub flat: Vec<IpNet>,
    /// Tasks of this node, by address, whose device is not found yet: they get no connections so far.
    #[serde(default)]
    pub unhooked: Vec<IpAddr>,
    /// One for each verdict, in the order of [`lb_common::Verdict::ALL`].
    pub counters: Vec<CounterReport>,
    pub flows: FlowReport,
    #[serde(default)]
    pub sockets: SocketReport,
    /// Of the proxy plane alone.
    #[serde(default)]
    pub proxy: Option<ProxyReport>,
    /// What does not work, and what to do about it.
    pub problems: Vec<Problem>,
}

/// An uplink and how it is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceReport {
    pub name: String,
    pub index: u32,
    /// `None`: tc alone.
    pub xdp: Option<XdpAttachment>,
    /// Whether the tc program is attached.
    pub tc: bool,
    /// Why this way, in words.
    pub why: String,
}

/// The device by which this node's own processes reach VIPs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Portico0Report {
    pub there: bool,
    pub up: bool,
    /// Whether the tc program is attached behind it.
    pub attached: bool,
    /// Those that the agent has put on it.
    pub addresses: Vec<IpAddr>,
    /// Of the routes `wanted`, those that are there.
    pub routes: usize,
    pub wanted: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpAttachment {
    Native,
    Generic,
}

/// Packets that met one verdict, since the tables were first made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterReport {
    pub verdict: String,
    pub packets: u64,
    pub bytes: u64,
}

/// Flows of this node's tasks, as the last round of expiry counted them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowReport {
    /// Generation in force when that round began; none until a round is complete, and then nothing else here says anything.
    #[serde(default)]
    pub generation: Option<u64>,
    pub established: u64,
    pub closing: u64,
    /// Live flows by member tag.
    #[serde(default)]
    pub members: BTreeMap<u64, u64>,
}

/// The programs at sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketReport {
    /// The cgroup that they are attached to.
    pub cgroup: Option<String>,
    /// Whether they shall be attached at all.
    pub wanted: bool,
    /// Name servers from which other namespaces' sockets are led to ours.
    pub steered: Vec<String>,
    /// Why nobody can be led to the proxy past other programs that have its ports; none: whoever has to be is.
    #[serde(default)]
    pub lookup_refused: Option<String>,
}

/// Something that does not work as it should: what, on which object, the system's reason, what it means for traffic,
/// what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    pub error: String,
    pub traffic: String,
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { error, traffic, fix } = self;
        write!(f, "error: {error}\n  traffic: {traffic}\n  fix: {fix}")
    }
}

/// Where the kernel's tables are not what the snapshot asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Map and entry.
    pub entry: String,
    pub wanted: String,
    pub found: String,
    pub repaired: bool,
}

/// A packet to be traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub protocol: Protocol,
    /// TCP: the first packet of a connection, else one in the middle of it.
    pub opens: bool,
}

/// What the loaded program does with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceReport {
    /// Label of the verdict.
    pub verdict: String,
    /// The same in words.
    pub words: String,
    pub service: Option<String>,
    pub slot: Option<u32>,
    /// The task chosen.
    pub task: Option<String>,
    /// The node it is sent to, or this one.
    pub node: Option<String>,
    /// The device it leaves by.
    pub device: Option<String>,
    pub steps: Vec<TraceStep>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceStep {
    pub step: String,
    pub words: String,
}
