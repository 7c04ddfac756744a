//! Who carries the bytes, and which processors everybody has.

use std::fmt;
use std::ops::Range;

use clap::ValueEnum;
use serde::Serialize;

use crate::load::Load;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Contender {
    /// No proxy: the client knows the backend's address, and the node forwards. What both ends themselves can do.
    Direct,
    /// The agent, in proxy mode.
    Portico,
    Haproxy,
    Nginx,
    Envoy,
    DockerProxy,
}

impl Contender {
    pub const ALL: [Self; 6] = [
        Self::Direct,
        Self::Portico,
        Self::Haproxy,
        Self::Nginx,
        Self::Envoy,
        Self::DockerProxy,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Self::Direct => "harness alone",
            Self::Portico => "Portico",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx stream",
            Self::Envoy => "Envoy",
            Self::DockerProxy => "docker-proxy",
        }
    }

    /// Someone else's proxy.
    pub fn is_peer(self) -> bool {
        !matches!(self, Self::Direct | Self::Portico)
    }

    /// The port of the proxy's node that leads to the backend, TCP and UDP.
    pub fn port(self) -> u16 {
        9000 + self as u16
    }

    /// HAProxy carries no datagrams but those of DNS, QUIC and logs.
    pub fn can(self, load: Load) -> bool {
        !(self == Self::Haproxy && load == Load::Datagrams)
    }

    /// Of so many idle connections, those that it can have with the descriptors that a process may have.
    pub fn room(self, idle: usize, descriptors: usize) -> usize {
        let each = match self {
            // Two sockets, and a pipe for each direction: its runtime keeps them while it waits for bytes to splice.
            Self::DockerProxy => 6,
            _ => 2,
        };
        idle.min(descriptors.saturating_sub(OTHERS) / each).max(1)
    }
}

/// Descriptors that a process has for other things than connections.
const OTHERS: usize = 1000;

/// Who runs where. Every proxy gets the same processors, the last of the machine; its client and its backend get others,
/// as far as there are any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Processors {
    pub proxy: Range<usize>,
    pub client: usize,
    pub backend: usize,
}

impl Processors {
    /// `budget` of the machine's `all` processors for the proxy; without a budget half of them.
    pub fn share(all: usize, budget: Option<usize>) -> Self {
        let budget = budget.unwrap_or(all / 2).clamp(1, all.max(1));
        let rest = all.max(1) - budget;
        Self {
            proxy: rest..all.max(1),
            client: 0,
            backend: match rest {
                0 => (all.max(1) - 1).min(1),
                _ => 1 % rest,
            },
        }
    }

    /// Threads that a proxy shall carry bytes with.
    pub fn workers(&self) -> usize {
        self.proxy.len()
    }

    /// As taskset and HAProxy read it.
    pub fn list(&self) -> String {
        format!("{}-{}", self.proxy.start, self.proxy.end - 1)
    }

    /// As nginx reads it: the highest processor first.
    pub fn mask(&self) -> String {
        let digit = |processor| if self.proxy.contains(&processor) { '1' } else { '0' };
        (0..self.proxy.end).rev().map(digit).collect()
    }
}

impl fmt::Display for Processors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            proxy,
            client,
            backend,
        } = self;
        let word = if proxy.len() == 1 {
            "processor"
        } else {
            "processors"
        };
        write!(
            f,
            "every proxy has {word} {} and {} workers; the client has {client}, the backend {backend}",
            self.list(),
            self.workers()
        )?;
        if proxy.contains(client) || proxy.contains(backend) {
            write!(f, ", which they share with it")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_bound_the_idle_connections() {
        assert_eq!(Contender::Envoy.room(5_000, 20_000), 5_000);
        assert_eq!(Contender::DockerProxy.room(5_000, 20_000), 3_166);
    }

    #[test]
    fn the_ends_run_beside_the_proxy_where_there_is_room() {
        let of = |all, budget| {
            let shared = Processors::share(all, budget);
            (shared.list(), shared.mask(), shared.client, shared.backend)
        };
        assert_eq!(of(2, None), ("1-1".into(), "10".into(), 0, 0));
        assert_eq!(of(2, Some(2)), ("0-1".into(), "11".into(), 0, 1));
        assert_eq!(of(4, None), ("2-3".into(), "1100".into(), 0, 1));
        assert_eq!(of(4, Some(9)), ("0-3".into(), "1111".into(), 0, 1));
        assert_eq!(of(1, None), ("0-0".into(), "1".into(), 0, 0));
    }
}
