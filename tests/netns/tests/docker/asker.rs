//! The task program as a client that asks by name, where names are asked for: inside a container, or on a node.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use netns::client::asker;
use netns::client::report::Report;
use netns::engine::IMAGE;
use netns::process::Process;
use netns::{Cluster, tool, wait};
use nix::sys::signal::Signal;

const PATIENCE: Duration = Duration::from_secs(60);

/// A client that runs until it is stopped.
pub struct Asker {
    place: Place,
    directory: PathBuf,
}

enum Place {
    Container { node: String, name: String },
    Process(Process),
}

impl Asker {
    /// In a container of its own, on one of the engine's networks.
    pub fn in_container(
        cluster: &Cluster,
        node: &str,
        name: &str,
        network: &str,
        url: &str,
        rate: u32,
    ) -> Self {
        let directory = directory(cluster, name);
        let volume = format!("{}:/out", directory.display());
        let options = [
            "run",
            "--detach",
            "--name",
            name,
            "--network",
            network,
            "--volume",
            &volume,
        ];
        let quiet = ["--no-healthcheck", "--label", "portico.enable=false", IMAGE];
        let rate = rate.to_string();
        let ask = ["ask", url, "--rate", &rate, "--progress", "/out/progress"];
        cluster
            .docker(node, &[&options[..], &quiet, &ask].concat())
            .unwrap();
        Self {
            place: Place::Container {
                node: node.to_owned(),
                name: name.to_owned(),
            },
            directory,
        }
    }

    /// As a process of the node, with the node's name server.
    pub fn on_node(cluster: &Cluster, node: &str, url: &str, rate: u32) -> Self {
        let directory = directory(cluster, &format!("asker-{node}"));
        let mut command = cluster.command(node, tool::program(IMAGE).unwrap()).unwrap();
        command
            .args(["ask", url, "--rate", &rate.to_string(), "--progress"])
            .arg(directory.join("progress"));
        let process = Process::start(&mut command, &directory.join("log")).unwrap();
        Self {
            place: Place::Process(process),
            directory,
        }
    }

    /// Requests that ended so far, well or not.
    pub fn done(&self) -> u64 {
        let text = fs::read_to_string(self.directory.join("progress"));
        text.ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Waits until so many more requests have ended.
    pub fn wait_for(&self, more: u64) {
        let goal = self.done() + more;
        wait::until("the asker goes on", PATIENCE, || self.done() >= goal).unwrap();
    }

    pub fn stop(self, cluster: &Cluster) -> Report {
        let text = match &self.place {
            Place::Container { node, name } => {
                cluster.docker(node, &["stop", "--time", "20", name]).unwrap();
                let text = cluster.docker(node, &["logs", name]).unwrap();
                cluster.docker(node, &["rm", name]).unwrap();
                text
            }
            Place::Process(process) => {
                process.signal(Signal::SIGTERM).unwrap();
                process.wait_gone(Duration::from_secs(20)).unwrap();
                fs::read_to_string(self.directory.join("log")).unwrap()
            }
        };
        let line = text.lines().last().unwrap_or_default();
        asker::hear(line).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

fn directory(cluster: &Cluster, name: &str) -> PathBuf {
    let directory = cluster.state.directory().join(name);
    fs::create_dir_all(&directory).unwrap();
    directory
}
