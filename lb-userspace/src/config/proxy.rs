//! `[proxy]`: what this node gives to the proxy plane. What a service wants of it is written with the service.

use std::time::Duration;

use serde::Deserialize;

use super::bounds::{time, within};

/// `[proxy]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Proxy {
    /// Threads that carry connections, each with its own listeners; 0: as many as there are processors.
    #[serde(deserialize_with = "within::<_, 0, 1024>")]
    pub workers: u32,
    /// Connections that wait at one listener of one worker to be accepted; the kernel has a bound of its own
    /// (`net.core.somaxconn`).
    #[serde(deserialize_with = "within::<_, 1, 65_535>")]
    pub backlog: u32,
    /// TCP connections of clients that are carried at once, two open files each; 0: as many as the process may open files for, less
    /// what others need.
    #[serde(deserialize_with = "within::<_, 0, 67_108_864>")]
    pub max_connections: u32,
    /// Silence after which the kernel asks whether the other side of a TCP connection is still there. One that has vanished is
    /// missed after twice as long.
    #[serde(deserialize_with = "time::<_, 6, 86_400>")]
    pub keepalive: Duration,
    /// UDP flows at once, an open file each.
    #[serde(deserialize_with = "within::<_, 1, 16_777_216>")]
    pub udp_flows: u32,
    /// Of these, flows of one client address: nobody takes all.
    #[serde(deserialize_with = "within::<_, 1, 16_777_216>")]
    pub udp_flows_per_source: u32,
    /// A UDP flow that has been silent for so long is over.
    #[serde(deserialize_with = "time::<_, 1, 86_400>")]
    pub udp_idle: Duration,
    /// Established connections of an agent that is replaced by another one are reset after so long.
    #[serde(deserialize_with = "time::<_, 0, 604_800>")]
    pub handover: Duration,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            workers: 0,
            backlog: 4096,
            max_connections: 0,
            keepalive: Duration::from_secs(60),
            udp_flows: 1 << 14,
            udp_flows_per_source: 1 << 10,
            // As in the tables of the eBPF plane.
            udp_idle: Duration::from_secs(180),
            handover: Duration::from_secs(3600),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;

    use super::*;
    use crate::config::{Config, ConfigError};

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("portico.toml"), &format!("node = 'a'\n[proxy]\n{text}"))
    }

    #[test]
    fn all_of_it_can_be_said() {
        let text = "workers = 4\nbacklog = 128\nmax_connections = 9000\nkeepalive = '30s'\nudp_flows = 512\nudp_flows_per_source = 16\n\
                    udp_idle = '30s'\nhandover = '10m'";
        let expected = Proxy {
            workers: 4,
            backlog: 128,
            max_connections: 9000,
            keepalive: Duration::from_secs(30),
            udp_flows: 512,
            udp_flows_per_source: 16,
            udp_idle: Duration::from_secs(30),
            handover: Duration::from_secs(600),
        };
        assert_eq!(parse(text).unwrap().proxy, expected);
        assert_eq!(parse("").unwrap().proxy, Proxy::default());
    }

    #[rstest]
    #[case("workers = 1025", "portico.toml:3:11: 1025 is not within 0 to 1024")]
    #[case("workers = -1", "portico.toml:3:11: -1 is not within 0 to 1024")]
    #[case("backlog = 0", "portico.toml:3:11: 0 is not within 1 to 65535")]
    #[case("udp_flows = 0", "portico.toml:3:13: 0 is not within 1 to 16777216")]
    #[case("udp_flows_per_source = 0", "portico.toml:3:24: 0 is not within 1 to ")]
    #[case("udp_idle = '30'", "portico.toml:3:12: `30` is not a time from 1s to 24h")]
    #[case("keepalive = '5s'", "portico.toml:3:13: `5s` is not a time from 6s to 24h")]
    #[case("udp_idle = '10ms'", "portico.toml:3:12: `10ms` is not a time from 1s to 24h")]
    #[case(
        "udp_idle = 30",
        "portico.toml:3:12: invalid type: integer `30`, expected a string"
    )]
    #[case(
        "handover = '169h'",
        "portico.toml:3:12: `169h` is not a time from 0s to 168h"
    )]
    #[case("worker = 1", "portico.toml:3:1: unknown key `worker`")]
    fn a_mistake_is_named_with_its_place(#[case] text: &str, #[case] start: &str) {
        let complaint = parse(text).unwrap_err().to_string();
        assert!(complaint.starts_with(start), "{complaint}");
    }
}
