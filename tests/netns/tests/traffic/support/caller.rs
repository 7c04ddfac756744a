//! Processes that call services from places of a cluster: inside their node's cgroup, so that programs at sockets see them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use netns::{Cluster, tool};
use serde_json::Value;

const SCRIPT: &str = include_str!("caller.py");

/// One process with one socket.
pub struct Caller {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// What it said first: whom it sees as its peer, or why there is none.
    pub first: Value,
}

impl Caller {
    /// Connects by TCP.
    pub fn connect(cluster: &Cluster, place: &str, host: &str, port: u16) -> Self {
        Self::start(cluster, place, &[host, &port.to_string(), "tcp"])
    }

    pub fn start(cluster: &Cluster, place: &str, arguments: &[&str]) -> Self {
        let mut command = cluster.command(place, "python3").unwrap();
        let mut child = command
            .args(["-c", SCRIPT])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let first = read(&mut output);
        Self {
            child,
            input,
            output,
            first,
        }
    }

    /// Whom the process sees as its peer.
    pub fn peer(&self) -> (&str, u64) {
        let Some(peer) = self.first["peer"].as_str() else {
            panic!("no connection: {}", self.first)
        };
        (peer, self.first["port"].as_u64().unwrap())
    }

    /// Asks the task.
    pub fn ask(&mut self) -> Value {
        self.tell("ask");
        self.hear()
    }

    /// The task that answers.
    pub fn task(&mut self) -> String {
        let said = self.ask();
        said["answer"]["task"]
            .as_str()
            .unwrap_or_else(|| panic!("{said}"))
            .to_owned()
    }

    pub fn tell(&mut self, what: &str) {
        self.input.write_all(format!("{what}\n").as_bytes()).unwrap();
    }

    pub fn hear(&mut self) -> Value {
        read(&mut self.output)
    }

    /// Where its socket leads, as `ss` has it: address and port.
    pub fn leads_to(&self, cluster: &Cluster, place: &str) -> String {
        self.leads(cluster, place, "-Htn", 4)
    }

    /// The same of a connected UDP socket.
    pub fn leads_by(&self, cluster: &Cluster, place: &str) -> String {
        self.leads(cluster, place, "-Hun", 3)
    }

    fn leads(&self, cluster: &Cluster, place: &str, kind: &str, column: usize) -> String {
        let own = self.first["own"].as_u64().unwrap();
        let mut ss = cluster.command(place, "ss").unwrap();
        let text = tool::run(ss.args([kind, "sport", "=", &format!(":{own}")])).unwrap();
        let line = text
            .lines()
            .next()
            .unwrap_or_else(|| panic!("no socket with port {own}"));
        line.split_ascii_whitespace().nth(column).unwrap().to_owned()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(output: &mut BufReader<ChildStdout>) -> Value {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
}
