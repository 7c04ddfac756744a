//! The rows of the table, and what a turn says for them.

use serde::Serialize;

use crate::load::Load;
use crate::traffic::Outcome;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    Download,
    Upload,
    Streams,
    Connections,
    Requests,
    Datagrams,
    Median,
    P99,
    DownloadCost,
    UploadCost,
    StreamsCost,
    ConnectionCost,
    RequestCost,
    DatagramCost,
    Own,
    Resident,
    Kernel,
}

impl Figure {
    pub const ALL: [Self; 17] = [
        Self::Download,
        Self::Upload,
        Self::Streams,
        Self::Connections,
        Self::Requests,
        Self::Datagrams,
        Self::Median,
        Self::P99,
        Self::DownloadCost,
        Self::UploadCost,
        Self::StreamsCost,
        Self::ConnectionCost,
        Self::RequestCost,
        Self::DatagramCost,
        Self::Own,
        Self::Resident,
        Self::Kernel,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Self::Download => "one stream to the client, Gbit/s",
            Self::Upload => "one stream to the backend, Gbit/s",
            Self::Streams => "several streams to the client, Gbit/s",
            Self::Connections => "new connections, k/s",
            Self::Requests => "keep-alive requests, k/s",
            Self::Datagrams => "datagrams there and back, k/s",
            Self::Median => "half of the requests within, µs",
            Self::P99 => "99 of 100 requests within, µs",
            Self::DownloadCost => "CPU, one stream to the client, ms/Gbit",
            Self::UploadCost => "CPU, one stream to the backend, ms/Gbit",
            Self::StreamsCost => "CPU, several streams, ms/Gbit",
            Self::ConnectionCost => "CPU, a connection, µs",
            Self::RequestCost => "CPU, a request, µs",
            Self::DatagramCost => "CPU, a datagram there and back, µs",
            Self::Own => "memory of an idle connection (PSS), KiB",
            Self::Resident => "the same as RSS, KiB",
            Self::Kernel => "kernel's objects for it, KiB",
        }
    }

    /// Below a group of bars.
    pub fn name(self) -> &'static str {
        match self {
            Self::Download => "stream down",
            Self::Upload => "stream up",
            Self::Streams => "several streams",
            Self::Connections => "connections",
            Self::Requests => "requests",
            Self::Datagrams => "datagrams",
            Self::Median => "p50",
            Self::P99 => "p99",
            Self::DownloadCost => "CPU, stream",
            Self::UploadCost => "CPU, stream up",
            Self::StreamsCost => "CPU, streams",
            Self::ConnectionCost => "CPU, connection",
            Self::RequestCost => "CPU, request",
            Self::DatagramCost => "CPU, datagram",
            Self::Own => "memory",
            Self::Resident => "RSS",
            Self::Kernel => "kernel",
        }
    }

    /// Less of it is better.
    pub fn is_cost(self) -> bool {
        self >= Self::Median
    }

    /// What it was measured by.
    pub fn load(self) -> Load {
        match self {
            Self::Download | Self::DownloadCost => Load::Download,
            Self::Upload | Self::UploadCost => Load::Upload,
            Self::Streams | Self::StreamsCost => Load::Streams,
            Self::Connections | Self::ConnectionCost => Load::Connections,
            Self::Requests | Self::RequestCost => Load::Requests,
            Self::Datagrams | Self::DatagramCost => Load::Datagrams,
            Self::Median | Self::P99 => Load::Latency,
            Self::Own | Self::Resident | Self::Kernel => Load::Idle,
        }
    }

    /// What a turn says: `used` is the proxy's processor time in it, in seconds, where there is a proxy.
    pub fn of(load: Load, outcome: &Outcome, used: Option<f64>) -> Vec<(Self, f64)> {
        let gigabits = |bytes: f64| bytes * 8.0 / 1e9;
        let (rate, cost, rate_of, each) = match load {
            Load::Download | Load::Upload | Load::Streams => {
                let (rate, cost) = match load {
                    Load::Download => (Self::Download, Self::DownloadCost),
                    Load::Upload => (Self::Upload, Self::UploadCost),
                    _ => (Self::Streams, Self::StreamsCost),
                };
                (rate, cost, gigabits(outcome.rate()), 1e3 / gigabits(outcome.done))
            }
            Load::Connections | Load::Requests | Load::Datagrams => {
                let (rate, cost) = match load {
                    Load::Connections => (Self::Connections, Self::ConnectionCost),
                    Load::Requests => (Self::Requests, Self::RequestCost),
                    _ => (Self::Datagrams, Self::DatagramCost),
                };
                (rate, cost, outcome.rate() / 1e3, 1e6 / outcome.done)
            }
            Load::Latency => return vec![(Self::Median, outcome.median), (Self::P99, outcome.p99)],
            // Weighed, not timed.
            Load::Idle => return Vec::new(),
        };
        let cost = used.map(|used| (cost, used * each));
        [(rate, rate_of)].into_iter().chain(cost).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_per_second_and_per_thing() {
        let outcome = Outcome {
            done: 2e9,
            seconds: 2.0,
            ..Outcome::default()
        };
        assert_eq!(
            Figure::of(Load::Upload, &outcome, Some(1.6)),
            [(Figure::Upload, 8.0), (Figure::UploadCost, 100.0)]
        );
        let outcome = Outcome {
            done: 10_000.0,
            seconds: 2.0,
            ..Outcome::default()
        };
        assert_eq!(
            Figure::of(Load::Connections, &outcome, None),
            [(Figure::Connections, 5.0)]
        );
        assert_eq!(
            Figure::of(Load::Requests, &outcome, Some(0.5))[1],
            (Figure::RequestCost, 50.0)
        );
    }
}
