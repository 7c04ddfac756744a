//! `portico.toml`: every key, its default and its bounds. `docs/configuration.md` is the same for people.

mod bounds;
mod cgroup;
mod cluster;
mod dns;
mod error;
mod interfaces;
mod limits;
mod networks;
mod plain;
mod proxy;
mod sources;
pub mod suggest;
pub mod time;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::outside;

pub use cgroup::Cgroup;
pub use cluster::{Cluster, ClusterConfig, Secret};
pub use dns::Dns;
pub use error::ConfigError;
pub use interfaces::{Interface, Interfaces, XdpMode};
pub use limits::Limits;
pub use networks::{Networks, Vip};
pub use plain::plain;
pub use proxy::Proxy;
pub use sources::{DockerSource, Enabled, FileSource, Sources, SwarmSource};

/// Where the configuration is looked for unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/portico/portico.toml";

/// The whole of `portico.toml`. An empty file is a complete configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// This node's name in the services file: the host's name by default.
    pub node: String,
    /// IPv4 address under which other nodes reach this one, for sources that are asked on this node alone: found out by
    /// default.
    #[serde(deserialize_with = "sources::address")]
    pub address: Option<Ipv4Addr>,
    pub mode: Mode,
    /// The devices clients arrive at.
    pub interfaces: Interfaces,
    pub sources: Sources,
    pub cluster: ClusterConfig,
    pub vip: Vip,
    pub networks: Networks,
    pub dns: Dns,
    pub cgroup: Cgroup,
    pub limits: Limits,
    pub proxy: Proxy,
    pub paths: Paths,
    pub peer: Peer,
    pub metrics: Metrics,
}

/// Which plane serves the frontends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// eBPF where the kernel allows it.
    #[default]
    Auto,
    Ebpf,
    Proxy,
}

/// Directories and sockets. Several agents on one kernel need a set each.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Paths {
    /// Where maps and links are pinned: a directory inside a bpffs.
    pub pins: PathBuf,
    /// Where the agent keeps what shall outlive it: drain marks.
    pub runtime: PathBuf,
    /// The control socket; `portico.sock` in the runtime directory by default.
    pub socket: Option<PathBuf>,
}

/// Heartbeats between agents.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Peer {
    /// UDP port of the heartbeats, the same on every node.
    #[serde(deserialize_with = "bounds::port")]
    pub port: u16,
}

/// Figures for Prometheus, and whether the agent is alive and ready.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Where `/metrics`, `/healthz` and `/readyz` answer; an empty list switches them off.
    pub listen: Vec<SocketAddr>,
}

impl Config {
    /// Reads `path`, or the default file where none is named; a default file that is not there is an empty one.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH));
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(ConfigError::unreadable(file, error)),
        };
        let mut config = Self::parse(file, &text)?;
        let fix = "let it be a file with the secret, as a container engine makes of a secret, or set cluster.secret instead";
        let read = config.cluster.read_secret();
        read.map_err(|reason| ConfigError::contradictory(file, reason, fix))?;
        Ok(config)
    }

    /// Reads `text`; `file` is for messages only.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::invalid(file, text, &error))?;
        if config.node.is_empty() {
            return Err(ConfigError::nameless(file));
        }
        if let Some(reason) = config.lost_server() {
            let fix = "take another address, 169.254.20.10 to listen on, say, or another network as vip.pool";
            return Err(ConfigError::contradictory(file, reason, fix));
        }
        Ok(config)
    }

    /// A name server at an address that may be given to a service, and leads nowhere else.
    fn lost_server(&self) -> Option<String> {
        let dns = &self.dns;
        let listen = dns.listen.iter().map(|address| ("listen", address));
        let upstreams = dns
            .upstreams
            .iter()
            .flatten()
            .map(|address| ("upstreams", address));
        let routes = dns.routes.values().flatten().map(|address| ("routes", address));
        listen.chain(upstreams).chain(routes).find_map(|(key, address)| {
            let mut pools = self.vip.pool.iter();
            let pool = pools.find(|pool| pool.contains(&address.ip()))?;
            Some(format!(
                "dns.{key}: {} lies in vip.pool {pool}, whose addresses are given to services",
                address.ip()
            ))
        })
    }
}

impl Paths {
    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.socket
            .clone()
            .unwrap_or_else(|| self.runtime.join("portico.sock"))
    }

    /// Where the next agent finds this one, beside the control socket.
    pub fn handover(&self) -> PathBuf {
        self.socket().with_file_name("handover.sock")
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: nix::unistd::gethostname()
                .ok()
                .and_then(|name| name.into_string().ok())
                .unwrap_or_default(),
            address: None,
            mode: Mode::default(),
            interfaces: Interfaces::default(),
            sources: Sources::default(),
            cluster: ClusterConfig::default(),
            vip: Vip::default(),
            networks: Networks::default(),
            dns: Dns::default(),
            cgroup: Cgroup::default(),
            limits: Limits::default(),
            proxy: Proxy::default(),
            paths: Paths::default(),
            peer: Peer::default(),
            metrics: Metrics::default(),
        }
    }
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            pins: outside::place("/sys/fs/bpf").join("portico"),
            runtime: "/run/portico".into(),
            socket: None,
        }
    }
}

impl Default for Peer {
    fn default() -> Self {
        Self { port: 7950 }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            listen: vec![(Ipv4Addr::LOCALHOST, 9180).into()],
        }
    }
}

#[cfg(test)]
mod tests;
