//! The cluster's agents: one `portico run` on each node, with files, pins and a socket of its own.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::cluster::Cluster;
use crate::namespace::disguise;
use crate::process::Process;
use crate::supervisor::{BPFFS, mounts};
use crate::{cgroup, names, services, tool, topology, wait};

/// The mode of a cluster whose nodes have different ones.
pub const MIXED: &str = "mixed";

/// How long an agent may take to load its programs on a busy machine.
const START: Duration = Duration::from_secs(30);

impl Cluster {
    /// Starts the agent of a node; it adopts what an earlier one left pinned.
    pub fn start_agent(&mut self, node: &str) -> Result<()> {
        self.start_agent_by(node, &[])
    }

    /// The same, in a time namespace: for this agent everything that the programs noted so far is longer ago.
    fn start_agent_ahead(&mut self, node: &str, ahead: Duration) -> Result<()> {
        let ahead = ahead.as_secs().to_string();
        self.start_agent_by(node, &["unshare", "--time", "--monotonic", &ahead])
    }

    /// Ends every agent at once and starts it again so.
    pub fn restart_agents_ahead(&mut self, ahead: Duration) -> Result<()> {
        for node in self.nodes() {
            self.kill_agent(&node)?;
            self.start_agent_ahead(&node, ahead)?;
        }
        self.wait_agents()
    }

    /// Starts it by a program that changes something about itself and then becomes the agent.
    pub fn start_agent_by(&mut self, node: &str, by: &[&str]) -> Result<()> {
        services::replace(&self.configuration_file(node), &self.configuration(node))?;
        let program = tool::program("portico")?;
        let mut command = match by {
            [] => self.place(node).command(program)?,
            [first, more @ ..] => {
                let mut command = self.place(node).command(first)?;
                command.args(more).arg(program);
                command
            }
        };
        self.count_among(&mut command, node)?;
        command
            .arg("run")
            .arg("--config")
            .arg(self.configuration_file(node));
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "info");
        }
        disguise(&mut command, mounts(&self.state.prefix)?, node);
        let process = Process::start(&mut command, &self.agent_log(node))?;
        self.node_mut(node)?.agent = Some(process);
        self.save()
    }

    /// Starts another agent beside that of a node and waits until it has taken over: gives the one that was replaced, which
    /// lives as long as its connections.
    pub fn replace_agent(&mut self, node: &str) -> Result<Process> {
        let lives = self.lives(node);
        let old = self.node_mut(node)?.agent;
        self.start_agent(node)?;
        self.wait_life(node, lives)?;
        old.with_context(|| format!("{node} had no agent"))
    }

    /// Has an agent start its successor itself.
    pub fn reload_agent(&mut self, node: &str) -> Result<()> {
        let lives = self.lives(node);
        let old = self.node_mut(node)?.agent.take();
        old.with_context(|| format!("{node} had no agent"))?
            .signal(Signal::SIGHUP)?;
        self.wait_life(node, lives)?;
        self.save()
    }

    /// An agent's end and another one's begin, so that connections live on: where the kernel carries them all it is killed, where
    /// agents carry some it is replaced.
    pub fn restart_agent(&mut self, node: &str) -> Result<()> {
        if matches!(self.state.mode.as_deref(), Some("proxy" | MIXED)) {
            return self.replace_agent(node).map(drop);
        }
        self.kill_agent(node)?;
        self.start_agent(node)
    }

    /// How often an agent has begun to serve on this node.
    pub fn lives(&self, node: &str) -> usize {
        let text = std::fs::read_to_string(self.agent_log(node)).unwrap_or_default();
        text.matches("the agent runs").count()
    }

    fn wait_life(&self, node: &str, before: usize) -> Result<()> {
        let begins = format!("another agent of {node} serves");
        wait::until(&begins, START, || self.lives(node) > before)
            .with_context(|| format!("its log ends with:\n{}", self.log_end(node)))?;
        Ok(())
    }

    /// Ends an agent without a chance to say goodbye. Programs and maps stay.
    pub fn kill_agent(&mut self, node: &str) -> Result<()> {
        if let Some(agent) = self.node_mut(node)?.agent.take() {
            agent.kill()?;
        }
        self.save()
    }

    /// Asks an agent to end, and waits until it has.
    pub fn stop_agent(&mut self, node: &str) -> Result<()> {
        if let Some(agent) = self.node_mut(node)?.agent.take() {
            agent.signal(Signal::SIGTERM)?;
            agent.wait_gone(START)?;
        }
        self.save()
    }

    /// Waits until every agent answers on its socket.
    pub fn wait_agents(&self) -> Result<()> {
        for (name, node) in self.state.nodes.iter().filter(|(_, node)| node.agent.is_some()) {
            wait::until_some(&format!("the agent of {name} answers"), START, || {
                if !node.agent.is_some_and(|agent| agent.is_alive()) {
                    // Waiting longer helps nobody.
                    return Ok(Some(Err(anyhow::anyhow!(
                        "the agent of {name} has ended:\n{}",
                        self.log_end(name)
                    ))));
                }
                self.portico(name, &["status"]).map(|_| Some(Ok(())))
            })
            .with_context(|| format!("its log ends with:\n{}", self.log_end(name)))?
            .0?;
        }
        Ok(())
    }

    /// Asks the agent of a node: `portico ARGUMENTS`.
    pub fn portico(&self, node: &str, arguments: &[&str]) -> Result<String> {
        let mut command: Command = self.place(node).command(tool::program("portico")?)?;
        disguise(&mut command, mounts(&self.state.prefix)?, node);
        tool::run(
            command
                .args(arguments)
                .arg("--config")
                .arg(self.configuration_file(node)),
        )
    }

    /// Asks the agent of a node for JSON: `portico ARGUMENTS -o json`.
    pub fn portico_json(&self, node: &str, arguments: &[&str]) -> Result<serde_json::Value> {
        let answer = self.portico(node, &[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&answer)
            .with_context(|| format!("portico {arguments:?} on {node} answered: {answer}"))
    }

    /// What the cluster's keys are derived from.
    pub fn secret(&self) -> String {
        format!("the lab's secret, of {}", self.state.prefix)
    }

    pub fn agent_log(&self, node: &str) -> PathBuf {
        self.state.node_directory(node).join("agent.log")
    }

    pub fn configuration_file(&self, node: &str) -> PathBuf {
        self.state.node_directory(node).join("portico.toml")
    }

    /// Shows what a failed test wants to know.
    pub(crate) fn print_logs(&self) {
        for node in self.nodes() {
            eprintln!(
                "---- {node}'s agent, the end of its log:\n{}",
                self.log_end(&node)
            );
            if self.state.engines {
                eprintln!("---- its engine's:\n{}", self.engine_log_end(&node));
            }
            if let Ok(status) = self.portico(&node, &["status"]) {
                eprintln!("---- its status:\n{status}");
            }
        }
        eprintln!(
            "---- look around with: nsenter --net=/run/netns/{}-node1",
            self.state.prefix
        );
    }

    fn log_end(&self, node: &str) -> String {
        let text = std::fs::read_to_string(self.agent_log(node)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// Of a node; in a mixed cluster `node2` is the one without packet programs.
    fn mode(&self, node: &str) -> &str {
        match self.state.mode.as_deref() {
            Some(MIXED) if node == "node2" => "proxy",
            None | Some(MIXED) => "auto",
            Some(mode) => mode,
        }
    }

    fn configuration(&self, node: &str) -> String {
        let uplinks: Vec<String> = (0..self.state.uplinks)
            .map(|number| match &self.state.xdp {
                Some(xdp) => format!("{{ name = {:?}, xdp = {xdp:?} }}", topology::uplink(number)),
                None => format!("{:?}", topology::uplink(number)),
            })
            .collect();
        let directory = self.state.node_directory(node);
        // The machine's root would be everybody's.
        let cgroup = match cgroup::of(&self.state.prefix, node) {
            Some(path) => format!("[cgroup]\npath = {path:?}\n"),
            None => "[cgroup]\nattach = false\n".into(),
        };
        // A table that the cluster's maker has written himself replaces the lab's.
        let own = |table, text| {
            let given = self.state.configuration.lines().any(|line| line.trim() == table);
            if given { String::new() } else { text }
        };
        let source = if self.state.engines {
            format!("[sources.docker]\nsocket = {:?}\n", self.engine_socket(node))
        } else {
            format!("[sources.file]\npath = {:?}\n", self.services_file(node))
        };
        format!(
            r#"node = "{node}"
mode = "{mode}"
interfaces = [{uplinks}]

{source}
[cluster]
secret = {secret:?}

[paths]
pins = "{BPFFS}/portico-lab/{prefix}/{node}"
runtime = {directory:?}

{cgroup}
{names}
{more}"#,
            mode = self.mode(node),
            uplinks = uplinks.join(", "),
            source = own("[sources.docker]", source),
            prefix = self.state.prefix,
            secret = self.secret(),
            cgroup = own("[cgroup]", cgroup),
            names = own("[dns]", names::configuration(&self.state)),
            more = self.state.configuration,
        )
    }
}
