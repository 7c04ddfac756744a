//! `cargo xtask bench control`: how soon a change among 10,000 services of 10 backends is in the kernel, how long the
//! first load takes, and what an agent weighs that serves them.
//!
//! It works in a network namespace and on a bpf file system of its own. Programs are loaded for the weighing only.

mod agent;
mod steps;

use anyhow::{Context, Result, bail};
use benches::chart::{Bars, directory, figures};
use benches::input::{BACKENDS, SERVICES};
use benches::machine::{Machine, load};
use benches::sample::Sample;
use comfy_table::{CellAlignment, Table, presets};
use nix::sched::{CloneFlags, unshare};

use steps::Bench;

const PINS: &str = "/tmp/portico-bench-control";

/// One line of the result, in milliseconds.
pub struct Row {
    name: String,
    sample: Sample,
    target: &'static str,
}

impl Row {
    pub fn new(name: &str, sample: Sample, target: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            sample,
            target,
        }
    }
}

struct Arguments {
    rounds: usize,
    changes: usize,
    slots: Vec<u32>,
    memory: bool,
}

fn main() -> Result<()> {
    let arguments = arguments()?;
    // Before there are threads, so that all of them are inside.
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("this needs root")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    println!(
        "{}; {SERVICES} services of {BACKENDS} backends; load before: {:.1}",
        Machine::here(),
        load()
    );
    let measured = measure(&arguments, &runtime);
    let _ = nix::mount::umount(PINS);
    let _ = std::fs::remove_dir(PINS);
    let _ = std::fs::remove_dir_all(format!("{PINS}-run"));
    measured
}

fn measure(arguments: &Arguments, runtime: &tokio::runtime::Runtime) -> Result<()> {
    let (mut rows, mut weights) = (Vec::new(), Vec::new());
    for (at, &slots) in arguments.slots.iter().enumerate() {
        let bench = Bench {
            runtime,
            rounds: arguments.rounds,
            changes: arguments.changes,
            slots,
            limits: limits(slots),
        };
        if at == 0 {
            rows.extend(bench.reading()?);
        }
        rows.extend(bench.all()?);
        if arguments.memory {
            weights.push((slots, agent::weigh(slots, &bench.limits)?));
        }
    }
    println!("load after: {:.1}\n\n{}", load(), table(&rows));
    println!(
        "\nmilliseconds from the event to the kernel's tables; {} rounds, {} changes",
        arguments.rounds, arguments.changes
    );
    if !weights.is_empty() {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_header([
            "memory of the agent, MiB",
            "resident",
            "of it tables of the kernel",
            "its own",
            "at most",
            "all tables in the kernel",
        ]);
        for (slots, memory) in &weights {
            let agent::Memory {
                resident,
                mapped,
                tables,
                peak,
            } = memory;
            let figures = [*resident, *mapped, resident - mapped, *peak, *tables];
            let name = format!("{slots} slots");
            table.add_row(
                [name]
                    .into_iter()
                    .chain(figures.iter().map(|figure| format!("{figure:.0}"))),
            );
        }
        println!("\n{table}");
    }
    let path = directory()?.join("control.svg");
    let changes: Vec<&Row> = rows.iter().filter(|row| row.target.starts_with("p99")).collect();
    let names: Vec<&str> = changes.iter().map(|row| row.name.as_str()).collect();
    let values = |of: fn(&Sample) -> f64| changes.iter().map(|row| Some([of(&row.sample); 3])).collect();
    let bars = [
        Bars {
            name: "median".into(),
            values: values(Sample::median),
        },
        Bars {
            name: "p99".into(),
            values: values(|sample| sample.percentile(99)),
        },
    ];
    figures(
        &path,
        "One change among 10,000 services: ms to the kernel",
        &names,
        &bars,
    )?;
    println!("chart: {}", path.display());
    Ok(())
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["step", "median", "lowest", "p99", "highest", "target"]);
    for Row { name, sample, target } in rows {
        let figures = [
            sample.median(),
            sample.lowest(),
            sample.percentile(99),
            sample.highest(),
        ];
        let figures = figures.map(|figure| format!("{figure:.1}"));
        table.add_row(
            [name.clone()]
                .into_iter()
                .chain(figures)
                .chain([(*target).to_owned()]),
        );
    }
    for column in table.column_iter_mut().skip(1).take(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Room for all of them.
fn limits(slots: u32) -> String {
    format!(
        "[limits]\nslots = {}\nhosted_slots = {}\npools = 16384\nmembers = 262144\n",
        SERVICES * slots,
        SERVICES / 10 * slots
    )
}

/// `[--rounds N] [--changes N] [--slots N] [--memory yes|no]`
fn arguments() -> Result<Arguments> {
    let mut arguments = Arguments {
        rounds: 5,
        changes: 500,
        slots: vec![256, 4096],
        memory: true,
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
            _ => bail!("unknown argument {name}; there are --rounds, --changes, --slots and --memory"),
        }
    }
    Ok(arguments)
}
