//! How many of the smallest packets a second each way carries past node 1, all of it on one processor.

mod course;
mod frames;
mod report;

use anyhow::{Context, Result, ensure};
use benches::machine::{self, Machine};
use benches::sample::Sample;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;

use course::Course;
pub use report::Report;

/// What carries the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// One wire: what making and taking the packets costs.
    Wire,
    /// The least that a router in XDP does.
    Redirect,
    /// The agent's XDP program, to a task on another node.
    Portico,
    /// The agent's tc program, the same.
    PorticoTc,
    /// The kernel's forwarding.
    Kernel,
    /// The same after DNAT; the flows are known.
    Nftables,
}

impl Way {
    pub const ALL: [Self; 6] = [
        Self::Wire,
        Self::Redirect,
        Self::Portico,
        Self::PorticoTc,
        Self::Kernel,
        Self::Nftables,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Self::Wire => "one wire, nothing between",
            Self::Redirect => "plain XDP redirect",
            Self::Portico => "Portico, relay in native XDP",
            Self::PorticoTc => "Portico, relay in tc",
            Self::Kernel => "kernel forwarding",
            Self::Nftables => "nftables DNAT",
        }
    }
}

/// What one way did.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub way: Way,
    /// Packets that arrived, millions per second.
    pub rates: Sample,
    /// Of those sent, the part that arrived.
    pub arrived: Sample,
}

/// Lets every way have its turn, round by round.
pub fn measure(rounds: u32, packets: u32) -> Result<Report> {
    let mut course = Course::build()?;
    let mut rows = Way::ALL.map(|way| Row {
        way,
        rates: Sample::default(),
        arrived: Sample::default(),
    });
    let before = machine::load();
    alone_on(0)?;
    for round in 0..rounds {
        eprintln!("packets: round {} of {rounds}", round + 1);
        let first = round as usize % rows.len();
        for turn in 0..rows.len() {
            let row = &mut rows[(first + turn) % Way::ALL.len()];
            let run = course
                .run(row.way, packets)
                .with_context(|| row.way.title().to_owned())?;
            ensure!(run.arrived > 0, "{}: no packet arrived", row.way.title());
            row.rates.add(run.arrived as f64 / run.time.as_secs_f64() / 1e6);
            row.arrived.add(run.arrived as f64 / f64::from(packets));
        }
    }
    Ok(Report {
        machine: Machine::here(),
        rounds,
        packets,
        load: [before, machine::load()],
        notes: course.verdicts()?,
        rows: rows.into(),
    })
}

/// Packets are made, carried and taken by the processor that runs this thread.
fn alone_on(processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}
