//! The proxy plane beside HAProxy, nginx, Envoy and docker-proxy: streams, connections, requests, datagrams, waiting times,
//! processor time and memory, round by round.

mod contender;
mod figure;
mod load;
mod network;
mod peers;
mod process;
mod report;
mod running;
mod traffic;
mod turn;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use benches::machine::{self, Machine};
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use contender::{Contender, Processors};
use figure::Figure;
use load::Load;
use network::Network;
use report::Report;
use running::Running;
use traffic::Role;

/// Measures Portico's proxy plane beside other proxies, each with the same processors.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask bench proxy", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    what: What,
}

#[derive(clap::Args, Debug)]
struct What {
    /// How often each contender has its turn
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Load::ALL)]
    loads: Vec<Load>,
    /// Proxies that take part; the harness alone always does
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Contender::ALL)]
    contenders: Vec<Contender>,
    /// Processors that every proxy gets, the machine's last; half of them unless given
    #[arg(long)]
    processors: Option<usize>,
    /// The agent's mode
    #[arg(long, default_value = "proxy")]
    mode: String,
    #[command(flatten)]
    sizes: Sizes,
}

/// How much of everything.
#[derive(clap::Args, Clone, Debug)]
pub struct Sizes {
    /// How long each turn lasts, in seconds
    #[arg(long, default_value_t = 2)]
    pub seconds: u64,
    /// Streams where there are several
    #[arg(long, default_value_t = 8)]
    pub streams: usize,
    /// Connections that ask, or are opened, at the same time
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// Requests a second while waiting times are taken
    #[arg(long, default_value_t = 10_000)]
    pub rate: u32,
    /// Senders of datagrams
    #[arg(long, default_value_t = 32)]
    pub flows: usize,
    /// Datagrams of each that may be under way: all together fit the buffer of one socket
    #[arg(long, default_value_t = 8)]
    pub window: usize,
    /// Idle connections whose memory is taken
    #[arg(long, default_value_t = 5_000)]
    pub idle: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(role) = arguments.role {
        return role.run();
    }
    println!("{}", Machine::here());
    if cfg!(debug_assertions) {
        println!("This is a debug build; `cargo xtask bench proxy` builds with optimisation.");
    }
    let report = measure(arguments.what)?;
    report.print();
    report.save()
}

fn measure(mut what: What) -> Result<Report> {
    if !what.contenders.contains(&Contender::Direct) {
        what.contenders.insert(0, Contender::Direct);
    }
    // Connections have two ends at a proxy; every process inherits this.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let mut versions = Vec::new();
    for peer in what.contenders.iter().filter(|contender| contender.is_peer()) {
        versions.push(peers::version(*peer)?);
    }
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let processors = Processors::share(all, what.processors);
    let mut report = Report::new(&what, &processors, versions);
    report.load[0] = machine::load();
    let mut network = Network::build(&what.contenders, &what.mode, processors)?;
    // Before all else: connections that are closed stay in the kernel for a minute.
    if what.loads.contains(&Load::Idle) {
        weigh(&mut network, &what, &mut report)?;
    }
    run(&mut network, &what, &mut report)?;
    report.load[1] = machine::load();
    Ok(report)
}

/// Idle connections of each, in proxies that were just started.
fn weigh(network: &mut Network, what: &What, report: &mut Report) -> Result<()> {
    for round in 0..what.rounds {
        eprintln!("memory: round {} of {}", round + 1, what.rounds);
        let mut weights = BTreeMap::new();
        for contender in turns(what, round) {
            let running = Running::start(network, contender, &[Load::Idle])?;
            let weight = turn::weigh(network, contender, &running, &what.sizes);
            weights.insert(contender, weight.with_context(|| contender.title().to_owned())?);
        }
        let ends = weights[&Contender::Direct].kernel;
        for (contender, weight) in weights {
            let Some(memory) = weight.memory else {
                report.add(contender, Figure::Kernel, ends);
                continue;
            };
            report.add(contender, Figure::Own, memory.own);
            report.add(contender, Figure::Resident, memory.resident);
            // The ends' own objects are there with and without a proxy.
            report.add(contender, Figure::Kernel, weight.kernel - ends);
        }
    }
    Ok(())
}

/// Everything else: in each round new processes, and each load on one after the other.
fn run(network: &mut Network, what: &What, report: &mut Report) -> Result<()> {
    let loads: Vec<Load> = what
        .loads
        .iter()
        .copied()
        .filter(|load| *load != Load::Idle)
        .collect();
    let rounds = if loads.is_empty() { 0 } else { what.rounds };
    for round in 0..rounds {
        eprintln!("loads: round {} of {rounds}", round + 1);
        let mut running = BTreeMap::new();
        for &contender in &what.contenders {
            running.insert(contender, Running::start(network, contender, &loads)?);
        }
        for &load in &loads {
            for contender in turns(what, round).into_iter().filter(|who| who.can(load)) {
                let turn = turn::load(network, contender, &running[&contender], load, &what.sizes);
                let turn = turn.with_context(|| format!("{}, {}", contender.title(), load.title()))?;
                report.take(contender, load, &turn);
            }
        }
    }
    Ok(())
}

/// Nobody is always the first after something else.
fn turns(what: &What, round: u32) -> Vec<Contender> {
    let mut contenders = what.contenders.clone();
    contenders.rotate_left(round as usize % what.contenders.len());
    contenders
}
