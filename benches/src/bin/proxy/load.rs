//! What is put on a proxy.

use std::net::SocketAddrV4;

use clap::ValueEnum;
use serde::Serialize;

use crate::Sizes;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// Connections that say nothing: memory
    Idle,
    /// One stream from the backend
    Download,
    /// One stream to the backend
    Upload,
    /// Several streams from the backend
    Streams,
    /// A connection for each request
    Connections,
    /// Requests on connections that stay
    Requests,
    /// The same at a steady rate: how long each takes
    Latency,
    /// Small datagrams
    Datagrams,
}

impl Load {
    pub const ALL: [Self; 8] = [
        Self::Idle,
        Self::Download,
        Self::Upload,
        Self::Streams,
        Self::Connections,
        Self::Requests,
        Self::Latency,
        Self::Datagrams,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Self::Idle => "idle connections",
            Self::Download => "one stream to the client",
            Self::Upload => "one stream to the backend",
            Self::Streams => "several streams",
            Self::Connections => "new connections",
            Self::Requests => "keep-alive requests",
            Self::Latency => "requests at a steady rate",
            Self::Datagrams => "datagrams",
        }
    }

    /// Arguments of this program's own client.
    pub fn arguments(self, target: SocketAddrV4, sizes: &Sizes) -> Vec<String> {
        let bulk = |way: &str, streams: usize| {
            vec![
                "bulk".to_owned(),
                format!("--way={way}"),
                format!("--streams={streams}"),
            ]
        };
        let connections = format!("--connections={}", sizes.connections);
        let mut arguments = match self {
            Self::Idle => vec!["idle".to_owned(), format!("--count={}", sizes.idle)],
            Self::Download => bulk("down", 1),
            Self::Upload => bulk("up", 1),
            Self::Streams => bulk("down", sizes.streams),
            Self::Connections => vec![
                "connections".to_owned(),
                format!("--at-once={}", sizes.connections),
            ],
            Self::Requests => vec!["requests".to_owned(), connections],
            Self::Latency => vec![
                "requests".to_owned(),
                connections,
                format!("--rate={}", sizes.rate),
            ],
            Self::Datagrams => vec![
                "datagrams".to_owned(),
                format!("--flows={}", sizes.flows),
                format!("--window={}", sizes.window),
            ],
        };
        arguments.push(format!("--target={target}"));
        if self != Self::Idle {
            arguments.push(format!("--seconds={}", sizes.seconds));
        }
        arguments
    }
}
