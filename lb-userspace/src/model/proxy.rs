//! What a service asks of the planes: which of them shall serve it, and how the proxy does.

use std::fmt;
use std::time::Duration;

use ipnet::IpNet;

/// By which plane a service wants to be served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plane {
    /// eBPF, and the proxy for what eBPF cannot do.
    #[default]
    Auto,
    /// eBPF or nobody: who is served sees clients' own addresses.
    Ebpf,
    Proxy,
}

/// Which task a new connection gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// That of its slot.
    #[default]
    Hash,
    /// Of the slot's two highest tasks the one with fewer connections for its weight. TCP alone, and the proxy alone: it knows
    /// its connections.
    LeastConnections,
}

/// Versions of the PROXY protocol, as HAProxy's proxy-protocol.txt has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// How a service is proxied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyRules {
    pub plane: Plane,
    pub algorithm: Algorithm,
    /// What a task is told of its client in front of the data. TCP alone.
    pub send: Option<ProxyVersion>,
    /// Who in front of us begins its connections with a PROXY header, which then says whose they are; nobody else's is
    /// believed. TCP alone.
    pub accept: Vec<IpNet>,
    /// Tasks are connected to from the client's own address, where the way back leads through the node.
    pub transparent: bool,
    /// For a task to accept a connection, before another one is tried.
    pub connect_timeout: Duration,
    /// Further tasks that are tried before the client's first byte has gone anywhere.
    pub retries: u32,
    /// After this much silence in both directions a connection ends; `None`: never. More than nothing.
    pub idle: Option<Duration>,
    /// How long connections to a draining task may go on before they are reset; `None`: as long as the task lives.
    pub drain: Option<Duration>,
}

/// What of a service's rules eBPF cannot do. All of it is about TCP alone: of datagrams eBPF keeps the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    LeastConnections,
    Send(ProxyVersion),
    Accept,
    Transparent,
}

impl Default for ProxyRules {
    fn default() -> Self {
        Self {
            plane: Plane::default(),
            algorithm: Algorithm::default(),
            send: None,
            accept: Vec::new(),
            transparent: false,
            connect_timeout: Self::CONNECT_TIMEOUT,
            retries: Self::RETRIES,
            idle: None,
            drain: None,
        }
    }
}

impl ProxyRules {
    /// Where nobody says: a SYN that was lost is sent once more within it.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
    pub const RETRIES: u32 = 2;

    /// All that only the proxy can do.
    pub fn needs(&self) -> impl Iterator<Item = Need> {
        let least = self.algorithm == Algorithm::LeastConnections;
        let least = least.then_some(Need::LeastConnections);
        let send = self.send.map(Need::Send);
        let accept = (!self.accept.is_empty()).then_some(Need::Accept);
        let transparent = self.transparent.then_some(Need::Transparent);
        [least, send, accept, transparent].into_iter().flatten()
    }

    /// What only the proxy can do although eBPF alone is wanted.
    pub fn contradiction(&self) -> Option<Need> {
        self.needs().next().filter(|_| self.plane == Plane::Ebpf)
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeastConnections => {
                f.write_str("of a slot's two highest tasks the one with fewer connections is asked for")
            }
            Self::Send(version) => write!(f, "tasks are sent the PROXY protocol, {}", version.label()),
            Self::Accept => f.write_str("the PROXY protocol is accepted"),
            Self::Transparent => f.write_str("transparent connections are asked for"),
        }
    }
}

impl Algorithm {
    /// As it is written in configuration and output.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::LeastConnections => "least-connections",
        }
    }
}

impl Plane {
    /// As it is written in configuration and output.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ebpf => "ebpf",
            Self::Proxy => "proxy",
        }
    }
}

impl ProxyVersion {
    /// As it is written in configuration and output.
    pub const fn label(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_nothing_is_asked_for_and_idle_connections_live() {
        let rules = ProxyRules::default();
        assert_eq!(rules.needs().count(), 0);
        assert_eq!((rules.plane, rules.idle, rules.drain), (Plane::Auto, None, None));
    }

    #[test]
    fn what_only_the_proxy_does_contradicts_ebpf_alone() {
        let mut rules = ProxyRules {
            algorithm: Algorithm::LeastConnections,
            send: Some(ProxyVersion::V2),
            accept: vec!["192.0.2.0/24".parse().unwrap()],
            transparent: true,
            ..ProxyRules::default()
        };
        let needs = [
            Need::LeastConnections,
            Need::Send(ProxyVersion::V2),
            Need::Accept,
            Need::Transparent,
        ];
        assert_eq!(rules.needs().collect::<Vec<_>>(), needs);
        assert_eq!(rules.contradiction(), None);
        rules.plane = Plane::Ebpf;
        assert_eq!(rules.contradiction(), Some(needs[0]));
    }
}
