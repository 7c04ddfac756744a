//! What the name server tells about itself, and about one question: the same types in the agent, over the control
//! socket and in the command line.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::plane::Problem;

/// The name server at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NamesReport {
    pub domain: String,
    pub cluster_domain: Option<String>,
    /// Of the snapshot whose names are told; 0 before the first.
    pub generation: u64,
    pub listening: Vec<Listening>,
    pub upstreams: Vec<Upstream>,
    /// Every counter with its name, since the agent started.
    pub counters: BTreeMap<String, u64>,
    pub took: Times,
    pub problems: Vec<Problem>,
}

/// How long queries took, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// From the arrival of datagrams to what could be answered at once, for each of those that came together.
    pub here: Took,
    /// Of those that an upstream was asked for, from the query to its answer.
    pub upstream: Took,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Took {
    pub queries: u64,
    /// Sum over the queries.
    pub seconds: f64,
}

impl NamesReport {
    pub fn count(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or_default()
    }
}

/// One address of `[dns] listen`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    pub address: SocketAddr,
    /// Why names cannot be asked for there.
    pub error: Option<String>,
    /// Whether what is sent there reaches this node: a device has it, or the proxy has made a route to it.
    pub present: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    pub address: SocketAddr,
    /// Asked for names in and below this domain; none: for all others.
    pub domain: Option<String>,
    pub state: UpstreamState,
    /// Usual time to an answer, in microseconds.
    pub usual_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpstreamState {
    Untried,
    Answers,
    Silent,
    /// What it is asked comes back here.
    Loops,
}

/// `portico dns query`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsQuestion {
    pub name: String,
    /// A record type, as `AAAA` or `TYPE65`.
    pub kind: String,
    pub from: IpAddr,
}

/// What a client is answered, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DnsAnswer {
    pub question: DnsQuestion,
    /// `NOERROR`, `NXDOMAIN`, …
    pub status: String,
    pub authoritative: bool,
    pub answers: Vec<DnsRecord>,
    pub authority: Vec<DnsRecord>,
    pub additional: Vec<DnsRecord>,
    pub source: AnswerSource,
    /// Services whose name it is.
    pub services: Vec<String>,
    pub upstream: Option<SocketAddr>,
    pub why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerSource {
    /// A service of the mesh.
    Mesh,
    /// What the server itself knows: its zones, and names that have a meaning everywhere.
    Server,
    Upstream,
    /// An upstream's earlier answer.
    Cache,
    /// The same after its time, because no upstream answers.
    Stale,
    Nobody,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsRecord {
    pub name: String,
    /// Seconds.
    pub ttl: u32,
    pub kind: String,
    pub data: String,
}
