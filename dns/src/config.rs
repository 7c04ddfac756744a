//! What the server is told before it starts, and what can be wrong with it.

mod validate;

use std::net::SocketAddr;
use std::time::Duration;

pub use validate::ConfigError;

/// Everything has a default but the addresses; [`Config::validate`] is called by [`crate::Server::start`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// UDP and TCP, from the start; [`crate::Server::listen`] adds others. A wildcard address answers from the address that
    /// was asked.
    pub listen: Vec<SocketAddr>,
    /// Addresses may be listened on before this machine has them.
    pub freebind: bool,
    /// UDP sockets per address, each served by a task of its own. 0: as many as there are CPUs.
    pub sockets: usize,
    /// The mesh's own zone.
    pub domain: String,
    /// The zone of Kubernetes names; none where there is no Kubernetes.
    pub cluster: Option<String>,
    /// Domains that clients have in `search`: a name of the mesh is answered below them too.
    pub search: Vec<String>,
    /// TTL of SOA records, NODATA and NXDOMAIN of our own, in seconds.
    pub negative_ttl: u32,
    /// The largest answer by UDP, whatever the client says it can take, in bytes.
    pub max_udp: u16,
    pub tcp: TcpConfig,
    pub limit: Option<LimitConfig>,
    pub forward: ForwardConfig,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpConfig {
    pub connections: usize,
    pub connections_per_client: usize,
    /// Queries of one connection that wait for upstreams; above it, nothing more is read from it.
    pub pipeline: usize,
    /// A connection without a query for so long is closed (RFC 7766 §6.2.3).
    pub idle: Duration,
}

/// Answers by UDP to one client address. TCP needs none: its sender is proven, and it has connection limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitConfig {
    pub per_second: u32,
    pub burst: u32,
    /// Client addresses that are remembered; more than so many share what is left.
    pub clients: usize,
}

/// Where what is not ours is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardConfig {
    pub upstreams: Vec<SocketAddr>,
    /// Upstreams for names in and below a domain, instead of the others; the longest domain that matches wins.
    pub domains: Vec<(String, Vec<SocketAddr>)>,
    /// From the client's question to SERVFAIL.
    pub deadline: Duration,
    /// How long an upstream may take for one question before it counts as failed.
    pub attempt: Duration,
    /// Questions that wait for upstreams at the same time.
    pub in_flight: usize,
    /// Bytes of answers that are remembered. 0: none.
    pub cache_bytes: u64,
    /// No answer is remembered for longer.
    pub max_ttl: u32,
    /// How long after its end an answer may still be given while upstreams do not answer (RFC 8767). 0: never.
    pub stale: Duration,
    /// Random letter case in questions to upstreams, that must come back. Some servers do not keep it.
    pub mix_case: bool,
    /// Ask upstreams for addresses of unknown names of a single label. They then learn every service name that somebody
    /// asks for before it exists, or after it is gone.
    pub single_labels: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            freebind: false,
            sockets: 0,
            domain: "portico.internal".to_owned(),
            cluster: None,
            search: Vec::new(),
            negative_ttl: 5,
            // No fragments on any path (DNS flag day 2020).
            max_udp: 1232,
            tcp: TcpConfig::default(),
            limit: Some(LimitConfig::default()),
            forward: ForwardConfig::default(),
        }
    }
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_client: 32,
            pipeline: 64,
            idle: Duration::from_secs(10),
        }
    }
}

impl Default for LimitConfig {
    fn default() -> Self {
        Self {
            // Far above what a task asks, far below what makes an attack worth it.
            per_second: 5_000,
            burst: 10_000,
            clients: 65_536,
        }
    }
}

impl Default for ForwardConfig {
    fn default() -> Self {
        Self {
            upstreams: Vec::new(),
            domains: Vec::new(),
            // glibc asks again after 5 s.
            deadline: Duration::from_millis(4500),
            attempt: Duration::from_millis(2500),
            in_flight: 5000,
            cache_bytes: 16 << 20,
            max_ttl: 86_400,
            stale: Duration::from_secs(86_400),
            mix_case: false,
            single_labels: false,
        }
    }
}
