//! What the server is told before it starts, and what can be wrong with it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_server::proto::rr::Name;

use crate::name::Grammar;

/// Everything has a default but the addresses; [`Config::validate`] is called by [`crate::Server::start`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// UDP and TCP. A wildcard address answers from the address that was asked.
    pub listen: Vec<SocketAddr>,
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
    /// How long one attempt by UDP is waited for.
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
            attempt: Duration::from_millis(1500),
            in_flight: 5000,
            cache_bytes: 16 << 20,
            max_ttl: 86_400,
            stale: Duration::from_secs(86_400),
            mix_case: false,
            single_labels: false,
        }
    }
}

/// Says what is wrong, where, and why it matters.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{key} = {value:?}: not a domain name ({reason})")]
    Domain {
        key: &'static str,
        value: String,
        reason: &'static str,
    },
    #[error(
        "search = {search:?}: lies within the zone {zone:?}, where every name is answered already; leave it out"
    )]
    SearchWithinZone { search: String, zone: String },
    #[error(
        "cluster = {cluster:?}: is or lies within domain = {domain:?}, or the other way round; the zones must be apart"
    )]
    ZonesOverlap { cluster: String, domain: String },
    #[error("{key}: {upstream} is an address this server listens on; questions would go round in circles")]
    OwnUpstream { key: String, upstream: SocketAddr },
    #[error("{key}: {upstream} cannot be asked ({reason})")]
    Upstream {
        key: String,
        upstream: SocketAddr,
        reason: &'static str,
    },
    #[error("forward.domains: {domain:?} has no upstreams; its names could never be resolved")]
    NoUpstreams { domain: String },
    #[error("{key} = {value}: must be {bounds}")]
    Number {
        key: &'static str,
        value: u64,
        bounds: &'static str,
    },
    #[error("listen: no address; the server could not be asked")]
    NoListener,
}

impl Config {
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<Grammar, ConfigError> {
        if self.listen.is_empty() {
            return Err(ConfigError::NoListener);
        }
        number(
            "max_udp",
            self.max_udp.into(),
            (512..=4096).contains(&self.max_udp),
            "512 to 4096 bytes",
        )?;
        let tcp = &self.tcp;
        number(
            "tcp.connections",
            tcp.connections as u64,
            tcp.connections > 0,
            "at least 1",
        )?;
        number(
            "tcp.pipeline",
            tcp.pipeline as u64,
            tcp.pipeline > 0,
            "at least 1",
        )?;
        if let Some(limit) = &self.limit {
            number(
                "limit.per_second",
                limit.per_second.into(),
                limit.per_second > 0,
                "at least 1",
            )?;
            number("limit.burst", limit.burst.into(), limit.burst > 0, "at least 1")?;
            number(
                "limit.clients",
                limit.clients as u64,
                limit.clients > 0,
                "at least 1",
            )?;
        }
        self.validate_forward()?;
        self.grammar()
    }

    fn grammar(&self) -> Result<Grammar, ConfigError> {
        let domain = domain("domain", &self.domain)?;
        let cluster = self
            .cluster
            .as_deref()
            .map(|text| self::domain("cluster", text))
            .transpose()?;
        if let Some(cluster) = &cluster
            && (within(cluster, &domain) || within(&domain, cluster))
        {
            return Err(ConfigError::ZonesOverlap {
                cluster: cluster.to_string(),
                domain: domain.to_string(),
            });
        }
        let mut search = Vec::new();
        for text in &self.search {
            let text = self::domain("search", text)?;
            // Resolvers of containers list the zones themselves too; that is no mistake worth refusing, but for one that
            // is below a zone the answer would depend on which is tried first.
            let zones = [Some(&domain), cluster.as_ref()];
            if zones.into_iter().flatten().any(|zone| *zone == text) {
                continue;
            }
            if let Some(zone) = [Some(&domain), cluster.as_ref()]
                .into_iter()
                .flatten()
                .find(|zone| within(&text, zone))
            {
                return Err(ConfigError::SearchWithinZone {
                    search: text.into(),
                    zone: zone.to_string(),
                });
            }
            search.push(text);
        }
        Ok(Grammar {
            domain,
            cluster,
            search: search.into(),
        })
    }

    fn validate_forward(&self) -> Result<(), ConfigError> {
        let forward = &self.forward;
        number(
            "forward.in_flight",
            forward.in_flight as u64,
            forward.in_flight > 0,
            "at least 1",
        )?;
        let milliseconds = forward.deadline.as_millis() as u64;
        number(
            "forward.deadline",
            milliseconds,
            milliseconds >= 10,
            "at least 10 ms",
        )?;
        let milliseconds = forward.attempt.as_millis() as u64;
        number(
            "forward.attempt",
            milliseconds,
            milliseconds >= 10,
            "at least 10 ms",
        )?;
        for upstream in &forward.upstreams {
            self.validate_upstream("forward.upstreams".to_owned(), *upstream)?;
        }
        for (text, upstreams) in &forward.domains {
            let text = domain("forward.domains", text)?;
            if upstreams.is_empty() {
                return Err(ConfigError::NoUpstreams { domain: text.into() });
            }
            for upstream in upstreams {
                self.validate_upstream(format!("forward.domains.{text:?}"), *upstream)?;
            }
        }
        Ok(())
    }

    /// A loop through other servers is found when it is running, by a probe; this is the one that can be seen now.
    fn validate_upstream(&self, key: String, upstream: SocketAddr) -> Result<(), ConfigError> {
        let refuse = |reason| {
            Err(ConfigError::Upstream {
                key: key.clone(),
                upstream,
                reason,
            })
        };
        if upstream.port() == 0 {
            return refuse("port 0");
        }
        if upstream.ip().is_unspecified() {
            return refuse("the unspecified address");
        }
        if upstream.ip().is_multicast() {
            return refuse("a multicast address");
        }
        let own = self.listen.iter().any(|listen| {
            listen.port() == upstream.port()
                && (listen.ip() == upstream.ip() || listen.ip().is_unspecified() && is_here(upstream.ip()))
        });
        if own {
            return Err(ConfigError::OwnUpstream { key, upstream });
        }
        Ok(())
    }
}

/// Whether an address is one of this machine: only those can be bound.
fn is_here(address: IpAddr) -> bool {
    std::net::UdpSocket::bind((address, 0)).is_ok()
}

fn within(name: &str, zone: &str) -> bool {
    name == zone || crate::name::below(name, zone).is_some()
}

fn number(key: &'static str, value: u64, good: bool, bounds: &'static str) -> Result<(), ConfigError> {
    if good {
        return Ok(());
    }
    Err(ConfigError::Number { key, value, bounds })
}

/// Lower-case, without dots at the ends.
fn domain(key: &'static str, text: &str) -> Result<Box<str>, ConfigError> {
    let trimmed = text.trim_matches('.').to_ascii_lowercase();
    let refuse = |reason| {
        Err(ConfigError::Domain {
            key,
            value: text.to_owned(),
            reason,
        })
    };
    if trimmed.is_empty() {
        return refuse("it is empty");
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !trimmed.bytes().all(plain) {
        return refuse(
            "only letters, digits, hyphens and underscores; write others in their ASCII form, xn--…",
        );
    }
    if Name::from_labels(trimmed.split('.').map(str::as_bytes)).is_err() {
        return refuse("a label is empty or longer than 63 bytes, or the whole longer than 255");
    }
    Ok(trimmed.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            listen: vec!["127.0.0.1:5300".parse().unwrap()],
            ..Config::default()
        }
    }

    #[test]
    fn the_default_is_good() {
        let grammar = config().validate().unwrap();
        assert_eq!(&*grammar.domain, "portico.internal");
    }

    #[test]
    fn names_are_normalised() {
        let grammar = Config {
            domain: "Mesh.Example.".into(),
            ..config()
        };
        assert_eq!(&*grammar.validate().unwrap().domain, "mesh.example");
    }

    #[test]
    fn own_addresses_are_refused_as_upstreams() {
        let mut config = config();
        config.forward.upstreams = vec!["127.0.0.1:5300".parse().unwrap()];
        assert!(matches!(config.validate(), Err(ConfigError::OwnUpstream { .. })));
        config.listen = vec!["0.0.0.0:5300".parse().unwrap()];
        let error = config.validate().unwrap_err();
        assert!(
            error
                .to_string()
                .contains("127.0.0.1:5300 is an address this server listens on"),
            "{error}"
        );
        config.listen = vec!["0.0.0.0:5301".parse().unwrap()];
        assert!(config.validate().is_ok());
    }

    #[test]
    fn mistakes_are_named() {
        let with = |change: fn(&mut Config)| {
            let mut config = config();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(with(|config| config.domain = "a..b".into()).contains("domain = \"a..b\""));
        assert!(with(|config| config.domain = "b\u{fc}ro".into()).contains("xn--"));
        assert!(with(|config| config.search = vec!["x.portico.internal".into()]).contains("leave it out"));
        assert!(with(|config| config.cluster = Some("k.portico.internal".into())).contains("must be apart"));
        assert!(with(|config| config.max_udp = 100).contains("max_udp = 100: must be 512 to 4096 bytes"));
        assert!(with(|config| config.listen.clear()).contains("listen"));
        assert!(
            with(|config| config.forward.domains = vec![("corp.example".into(), vec![])])
                .contains("no upstreams")
        );
    }
}
