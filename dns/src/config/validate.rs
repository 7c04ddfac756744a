//! What can be wrong with a configuration.

use std::net::{IpAddr, SocketAddr};

use hickory_server::proto::rr::Name;

use super::Config;
use crate::name::Grammar;

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
    #[error(
        "forward.domains: {domain:?} lies within the zone {zone:?}, where every name is answered here; its upstreams would never be asked"
    )]
    DomainWithinZone { domain: String, zone: String },
    #[error("forward.domains: {domain:?} is there twice")]
    DomainTwice { domain: String },
    #[error("{key} = {value}: must be {bounds}")]
    Number {
        key: &'static str,
        value: u64,
        bounds: &'static str,
    },
}

impl Config {
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.checked().map(drop)
    }

    pub(crate) fn checked(&self) -> Result<Grammar, ConfigError> {
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
        let grammar = self.grammar()?;
        self.validate_forward(&grammar)?;
        Ok(grammar)
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

    fn validate_forward(&self, grammar: &Grammar) -> Result<(), ConfigError> {
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
        let mut seen = Vec::new();
        for (text, upstreams) in &forward.domains {
            let text = domain("forward.domains", text)?;
            if upstreams.is_empty() {
                return Err(ConfigError::NoUpstreams { domain: text.into() });
            }
            let mut zones = [Some(&grammar.domain), grammar.cluster.as_ref()]
                .into_iter()
                .flatten();
            if let Some(zone) = zones.find(|zone| within(&text, zone)) {
                return Err(ConfigError::DomainWithinZone {
                    domain: text.into(),
                    zone: zone.to_string(),
                });
            }
            if seen.contains(&text) {
                return Err(ConfigError::DomainTwice { domain: text.into() });
            }
            seen.push(text.clone());
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
mod tests;
