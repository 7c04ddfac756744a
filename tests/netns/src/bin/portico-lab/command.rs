//! What a person may ask of the lab.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use netns::{Cluster, Service, supervisor};

use crate::{guided, place};

/// A virtual cluster in network namespaces: a client behind a router, nodes, tasks on each node's bridge.
#[derive(Parser, Debug)]
#[command(name = "portico-lab", version)]
pub struct Lab {
    /// Namespaces are called PREFIX-PLACE: two labs need two prefixes
    #[arg(long, global = true, default_value = "portico")]
    prefix: String,
    /// Without one: the guided run, which shows the mesh at work and checks every claim
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    Auto,
    Ebpf,
    Proxy,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Bring a cluster up and leave it running
    Up {
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
        nodes: u8,
        /// Devices with an underlay of their own on every node
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
        uplinks: u8,
        /// Services and their numbers of tasks; api is there besides
        #[arg(long, default_value = "web=3", value_parser = scale)]
        scale: Vec<(String, u32)>,
        #[arg(long, value_enum, default_value = "auto")]
        mode: Mode,
        /// A services file of your own
        #[arg(long)]
        file: Option<PathBuf>,
        /// Only machines, wires and tasks
        #[arg(long)]
        no_agent: bool,
        /// Whole checksums and no super-packets on the wires, as native XDP needs
        #[arg(long)]
        plain_wires: bool,
    },
    /// Nodes, tasks, namespaces, addresses
    Status {
        #[arg(short, long, default_value = "table")]
        output: place::Output,
    },
    /// Change the number of a service's tasks
    Scale {
        #[arg(value_parser = scale)]
        service: (String, u32),
    },
    /// Take a node's tasks out of service
    Drain { node: String },
    /// Bring them back
    Undrain { node: String },
    /// End a task without draining it
    StopTask { task: String },
    /// Cut a node's wires and end its processes
    KillNode { node: String },
    /// End a node's agent with SIGKILL
    KillAgent { node: String },
    /// Start a node's agent anew, with the configuration that `up` wrote
    StartAgent { node: String },
    /// Run a command at a place: client, router, node1, web.1
    Exec {
        place: String,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Remove everything
    Down,
    /// Clean up after an owner that was killed (started by the lab itself)
    #[command(hide = true)]
    Supervise {
        cluster: String,
        #[arg(long)]
        detached: bool,
    },
}

impl Lab {
    pub fn run(self) -> Result<ExitCode> {
        let Some(command) = self.command else {
            return guided::run(&self.prefix);
        };
        let prefix = self.prefix;
        let attach = || Cluster::attach(&prefix);
        match command {
            Command::Up {
                nodes,
                uplinks,
                scale,
                mode,
                file,
                no_agent,
                plain_wires,
            } => {
                let mut builder = Cluster::builder(&prefix)
                    .nodes(nodes)
                    .uplinks(uplinks.into())
                    .offloads(!plain_wires);
                for (name, service, count) in services(scale) {
                    builder = builder.service(&name, service, count);
                }
                if let Some(path) = file {
                    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                    builder = builder.file(text);
                }
                builder = match mode {
                    _ if no_agent => builder.without_agents(),
                    Mode::Auto => builder.mode("auto"),
                    Mode::Ebpf => builder.mode("ebpf"),
                    Mode::Proxy => builder.mode("proxy"),
                };
                let cluster = builder.detached().build()?;
                cluster.masquerade()?;
                place::show(&cluster, place::Output::Table)?;
            }
            Command::Status { output } => place::show(&attach()?, output)?,
            Command::Scale {
                service: (name, count),
            } => attach()?.scale(&name, count)?,
            Command::Drain { node } => attach()?.set_node_draining(&node, true)?,
            Command::Undrain { node } => attach()?.set_node_draining(&node, false)?,
            Command::StopTask { task } => attach()?.stop_task(&task)?,
            Command::KillNode { node } => attach()?.kill_node(&node)?,
            Command::KillAgent { node } => attach()?.kill_agent(&node)?,
            Command::StartAgent { node } => {
                let mut cluster = attach()?;
                cluster.kill_agent(&node)?;
                cluster.start_agent(&node)?;
                cluster.wait_agents()?;
            }
            Command::Exec { place, command } => return place::exec(&attach()?, &place, &command),
            Command::Down => Cluster::remove(&prefix)?,
            Command::Supervise { cluster, detached } => supervisor::supervise(&cluster, detached)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The lab's service: HTTP and UDP echo behind one port number.
pub fn web() -> Service {
    Service::new(&["8080:80", "8080:80/udp", "8007:7"])
}

/// The service that only those inside ask, by its name.
pub fn api() -> Service {
    Service::default()
        .with(r#"expose: ["http=80", "80/udp"]"#)
        .with("health: { http: /healthz, interval: 200ms }")
}

/// The services of a lab.
fn services(scale: Vec<(String, u32)>) -> Vec<(String, Service, u32)> {
    let inside = ("api".to_owned(), 3);
    let more = (!scale.iter().any(|(name, _)| *name == inside.0)).then_some(inside);
    let service = |(name, count): (String, u32)| {
        let service = if name == "api" { api() } else { web() };
        (name, service, count)
    };
    scale.into_iter().chain(more).map(service).collect()
}

fn scale(text: &str) -> Result<(String, u32), String> {
    let (name, count) = text.split_once('=').ok_or("expected SERVICE=COUNT, as web=3")?;
    let count = count
        .parse()
        .map_err(|_| format!("{count:?} is no number of tasks"))?;
    Ok((name.to_owned(), count))
}
