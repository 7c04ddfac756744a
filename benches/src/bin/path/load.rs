//! What is put on a path, and the figure that comes out.

use std::net::SocketAddrV4;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use netns::{Namespace, tool};
use serde::Serialize;

/// Connections that wrk holds, or makes at a time.
const CONNECTIONS: &str = "16";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// One TCP stream from the client, Gbit/s.
    Upload,
    /// One TCP stream from the task, Gbit/s.
    Download,
    /// A connection for every request, thousands per second.
    Connections,
    /// Requests on connections that stay, thousands per second.
    Requests,
}

impl Load {
    pub const ALL: [Self; 4] = [Self::Upload, Self::Download, Self::Connections, Self::Requests];

    pub fn title(self) -> &'static str {
        match self {
            Self::Upload => "client→task, Gbit/s",
            Self::Download => "task→client, Gbit/s",
            Self::Connections => "new connections, k/s",
            Self::Requests => "keep-alive, k/s",
        }
    }

    /// The title without its unit.
    pub fn name(self) -> &'static str {
        self.title().split(',').next().unwrap_or_default()
    }

    pub fn is_bulk(self) -> bool {
        matches!(self, Self::Upload | Self::Download)
    }

    /// Puts the load on a target for a while.
    pub fn run(self, from: &Namespace, target: SocketAddrV4, time: Duration) -> Result<f64> {
        let seconds = time.as_secs().to_string();
        let mut command = pinned(from, 0)?;
        if self.is_bulk() {
            command.args(["iperf3", "--json", "--time", &seconds]);
            command.args(["--client", &target.ip().to_string()]);
            command.args(["--port", &target.port().to_string()]);
            if self == Self::Download {
                command.arg("--reverse");
            }
            return bulk(&tool::run(&mut command)?);
        }
        command.args(["wrk", "--threads", "1", "--connections", CONNECTIONS]);
        command.args(["--duration", &format!("{seconds}s")]);
        if self == Self::Connections {
            command.args(["--header", "Connection: close"]);
        }
        command.arg(format!("http://{target}/"));
        requests(&tool::run(&mut command)?)
    }
}

/// A command on a processor of its own, as far as there are enough: where the scheduler puts the two ends is most of
/// what two runs of a pair differ by.
pub fn pinned(place: &Namespace, end: usize) -> Result<Command> {
    let mut command = place.command("taskset")?;
    command.args(["--cpu-list", &processor(end)]);
    Ok(command)
}

/// The processor of the client's end (0) or the task's (1).
pub fn processor(end: usize) -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (end % processors).to_string()
}

fn bulk(answer: &str) -> Result<f64> {
    let answer: serde_json::Value = serde_json::from_str(answer)?;
    let bits = answer["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(bits.with_context(|| format!("iperf3 gave no figure: {}", answer["error"]))? / 1e9)
}

fn requests(answer: &str) -> Result<f64> {
    let figure = |name: &str| answer.lines().find_map(|line| line.trim().strip_prefix(name));
    let faults = figure("Socket errors:").or_else(|| figure("Non-2xx"));
    ensure!(faults.is_none(), "requests failed:\n{answer}");
    let rate = figure("Requests/sec:").and_then(|rate| rate.trim().parse::<f64>().ok());
    Ok(rate.with_context(|| format!("wrk gave no figure:\n{answer}"))? / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_tools_answers() {
        let answer = "Running 2s test @ http://192.0.2.11:8080/\n  1 threads and 16 connections\nRequests/sec:  43210.00\n";
        assert_eq!(requests(answer).ok(), Some(43.21));
        let failed = format!("{answer}  Socket errors: connect 0, read 7, write 0, timeout 0\n");
        assert!(requests(&failed).is_err(), "failed requests are no figure");
        let answer = r#"{"end":{"sum_received":{"bits_per_second":16.3e9}}}"#;
        assert_eq!(bulk(answer).ok(), Some(16.3));
    }
}
