//! A proxy while it runs: started, asked whether it serves, ended.

use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use netns::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::contender::Contender;
use crate::load::Load;
use crate::network::{NODE, Network, pinned, quiet};
use crate::process::Processes;
use crate::{peers, traffic};

/// How long a proxy may take to start on a busy machine.
const START: Duration = Duration::from_secs(30);
/// How long one may take to end when it is asked to.
const END: Duration = Duration::from_secs(2);

/// What runs for one contender; it ends with this. The agent ends with its cluster.
#[derive(Debug)]
pub struct Running {
    children: Vec<Child>,
    /// None without a proxy.
    pub processes: Option<Processes>,
}

impl Running {
    /// Starts one anew, on its processors, and waits until it serves what it will be given.
    pub fn start(network: &mut Network, contender: Contender, loads: &[Load]) -> Result<Self> {
        let mut running = match contender {
            Contender::Direct => Self {
                children: Vec::new(),
                processes: None,
            },
            Contender::Portico => Self::agent(network)?,
            _ => Self::peer(network, contender)?,
        };
        running
            .wait(network, contender, loads)
            .with_context(|| contender.title().to_owned())?;
        if contender.is_peer() {
            let roots: Vec<u32> = running.children.iter().map(Child::id).collect();
            running.processes = Some(Processes::of(&roots)?);
        }
        Ok(running)
    }

    fn agent(network: &mut Network) -> Result<Self> {
        let processors = network.processors.list();
        let mesh = network.mesh.as_mut().context("there is no agent")?;
        mesh.kill_agent(NODE)?;
        mesh.start_agent_by(NODE, &["taskset", "--cpu-list", &processors])?;
        mesh.wait_agents()?;
        mesh.settle()?;
        let agent = mesh.state.nodes[NODE].agent.context("the node has no agent")?;
        Ok(Self {
            children: Vec::new(),
            processes: Some(Processes::of(&[u32::try_from(agent.pid)?])?),
        })
    }

    fn peer(network: &Network, contender: Contender) -> Result<Self> {
        let directory = network.directory(contender)?;
        let commands = peers::commands(contender, network.backend(), &network.processors, &directory)?;
        let mut running = Self {
            children: Vec::new(),
            processes: None,
        };
        for words in commands {
            let mut command = pinned(&network.node(contender), &network.processors.list())?;
            command.args(&words).current_dir(&directory);
            quiet(&mut command, &directory.join("log"))?;
            let child = command.spawn();
            running
                .children
                .push(child.with_context(|| format!("cannot run {words:?}"))?);
        }
        Ok(running)
    }

    fn wait(&mut self, network: &Network, contender: Contender, loads: &[Load]) -> Result<()> {
        let (client, target) = (network.client(contender), network.target(contender));
        let datagrams = loads.contains(&Load::Datagrams) && contender.can(Load::Datagrams);
        wait::until_some("it answers", START, || {
            for child in &mut self.children {
                if let Some(status) = child.try_wait()? {
                    let log = end_of(network.directory(contender)?.join("log"));
                    // Waiting longer helps nobody.
                    return Ok(Some(Err(anyhow!("it has ended, {status}:\n{log}"))));
                }
            }
            client.run(|| traffic::probe(target, datagrams))??;
            Ok::<_, anyhow::Error>(Some(Ok(())))
        })?
        .0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &self.children {
            // nginx's workers end with their master only if it is asked.
            let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
        }
        for child in &mut self.children {
            let _ = wait::until("it ends", END, || !matches!(child.try_wait(), Ok(None)));
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn end_of(log: PathBuf) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
