//! `cargo xtask bench control`: how soon a change is in the kernel, how long the first load takes, and what an agent weighs:
//! with a file of 10,000 services of 10 backends, and with a container engine; and what agents send each other.
//!
//! It works in a network namespace and on a bpf file system of its own. Programs are loaded for the weighing only.

mod agent;
mod containers;
mod report;
mod steps;
mod stream;

use anyhow::{Context, Result, bail};
use benches::input::{BACKENDS, SERVICES};
use benches::machine::{Machine, load};
use nix::sched::{CloneFlags, unshare};
use tokio::runtime::Runtime;

use steps::Bench;

const PINS: &str = "/tmp/portico-bench-control";

/// Containers among which one changes, and of the larger of the agents that are weighed.
const CONTAINERS: [u32; 2] = [1_000, 10_000];

struct Arguments {
    rounds: usize,
    changes: usize,
    slots: Vec<u32>,
    memory: bool,
    parts: Vec<Part>,
}

/// What there is to measure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// A file of many services.
    File,
    /// A container engine.
    Engine,
    /// What agents send each other.
    Stream,
}

/// All that came of it.
#[derive(Default)]
struct Results {
    rows: Vec<report::Row>,
    weights: Vec<(String, agent::Memory)>,
    messages: Vec<stream::Bytes>,
}

fn main() -> Result<()> {
    let arguments = arguments()?;
    // Before there are threads, so that all of them are inside.
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("this needs root")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    println!("{}; load before: {:.1}", Machine::here(), load());
    let mut results = Results::default();
    let measured = arguments
        .parts
        .iter()
        .try_for_each(|part| part.measure(&arguments, &runtime, &mut results));
    let _ = nix::mount::umount(PINS);
    let _ = std::fs::remove_dir(PINS);
    let _ = std::fs::remove_dir_all(format!("{PINS}-run"));
    measured?;
    println!(
        "load after: {:.1}; {} rounds, {} changes",
        load(),
        arguments.rounds,
        arguments.changes
    );
    if !results.rows.is_empty() {
        println!(
            "\nmilliseconds from the event\n\n{}",
            report::times(&results.rows)
        );
    }
    if !results.weights.is_empty() {
        println!("\n{}", report::weights(&results.weights));
    }
    if !results.messages.is_empty() {
        println!("\n{}", report::messages(&results.messages));
    }
    report::chart(&results.rows)
}

impl Part {
    fn measure(self, arguments: &Arguments, runtime: &Runtime, results: &mut Results) -> Result<()> {
        match self {
            Self::File => file(arguments, runtime, results),
            Self::Engine => engine(arguments, runtime, results),
            Self::Stream => {
                results.messages = stream::measure()?;
                Ok(())
            }
        }
    }
}

/// A services file, with tables of several sizes.
fn file(arguments: &Arguments, runtime: &Runtime, results: &mut Results) -> Result<()> {
    for (at, &slots) in arguments.slots.iter().enumerate() {
        let bench = Bench {
            runtime,
            rounds: arguments.rounds,
            changes: arguments.changes,
            slots,
            limits: limits(slots),
        };
        if at == 0 {
            results.rows.extend(bench.reading()?);
        }
        results.rows.extend(bench.all()?);
        if arguments.memory {
            let name = format!("file, {SERVICES} services of {BACKENDS}, {slots} slots");
            results
                .weights
                .push((name, agent::of_file(slots, &bench.limits)?));
        }
    }
    Ok(())
}

/// A container engine; tables are those of the default configuration.
fn engine(arguments: &Arguments, runtime: &Runtime, results: &mut Results) -> Result<()> {
    let [among, ..] = CONTAINERS;
    results
        .rows
        .extend(containers::measure(runtime, among, arguments.changes)?);
    if arguments.memory {
        for count in CONTAINERS {
            let name = format!("engine, {count} containers");
            results.weights.push((name, agent::of_engine(count)?));
        }
    }
    Ok(())
}

/// Room for all of them.
fn limits(slots: u32) -> String {
    format!(
        "[limits]\nslots = {}\nhosted_slots = {}\npools = 16384\nmembers = 262144\n",
        SERVICES * slots,
        SERVICES / 10 * slots
    )
}

/// `[--rounds N] [--changes N] [--slots N] [--memory yes|no] [--parts file,engine,stream]`
fn arguments() -> Result<Arguments> {
    let mut arguments = Arguments {
        rounds: 5,
        changes: 500,
        slots: vec![256, 4096],
        memory: true,
        parts: vec![Part::File, Part::Engine, Part::Stream],
    };
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        let value = words.next().with_context(|| format!("{name} needs a value"))?;
        let number = || value.parse().with_context(|| format!("{value} is no number"));
        match name.as_str() {
            "--rounds" => arguments.rounds = number()?,
            "--changes" => arguments.changes = number()?,
            "--slots" => arguments.slots = vec![number()? as u32],
            "--memory" => arguments.memory = value == "yes",
            "--parts" => arguments.parts = value.split(',').map(part).collect::<Result<_>>()?,
            _ => {
                bail!("unknown argument {name}; there are --rounds, --changes, --slots, --memory and --parts")
            }
        }
    }
    Ok(arguments)
}

fn part(name: &str) -> Result<Part> {
    match name {
        "file" => Ok(Part::File),
        "engine" => Ok(Part::Engine),
        "stream" => Ok(Part::Stream),
        _ => bail!("there is no part {name}; there are file, engine and stream"),
    }
}
