//! A client and a task in namespaces: Portico beside plain routing, nftables DNAT and kernel VXLAN, round by round. And
//! the smallest packets, as many as one processor carries, beside plain XDP, the kernel's forwarding and nftables DNAT.

mod contender;
mod load;
mod network;
mod rate;
mod report;

use std::time::Duration;

use anyhow::Result;
use benches::machine::{self, Machine};
use clap::{Parser, ValueEnum};

use contender::{Contender, Place};
use load::Load;
use network::Network;
use report::{Report, Row};

/// Measures what a path through Portico costs, beside other ways from the same client to the same task.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask bench path")]
struct Arguments {
    /// Streams and requests of real sockets, or packets per second
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Part::Packets, Part::Streams])]
    parts: Vec<Part>,
    /// Packets that each way carries in its turn
    #[arg(long, default_value_t = 2_000_000)]
    packets: u32,
    /// How often each contender has its turn
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// How long each turn lasts, in seconds
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Offloads of the wires between router and nodes: checksums and super-packets left to the receiver, or not
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Offloads::On, Offloads::Off])]
    offloads: Vec<Offloads>,
    /// Where the task runs
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Place::ALL)]
    places: Vec<Place>,
    /// What is measured
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Load::ALL)]
    loads: Vec<Load>,
    /// Who takes part; plain routing always does
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Contender::ALL)]
    contenders: Vec<Contender>,
    /// XDP on Portico's uplinks: native, generic, off; the agent chooses unless told
    #[arg(long)]
    xdp: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Packets,
    Streams,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Offloads {
    On,
    Off,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    println!("{}", Machine::here());
    if cfg!(debug_assertions) {
        println!("This is a debug build; `cargo xtask bench path` builds with optimisation.");
    }
    if arguments.parts.contains(&Part::Packets) {
        // On a thread of its own, which it binds to a processor.
        let measured = std::thread::scope(|scope| {
            let runner = scope.spawn(|| rate::measure(arguments.rounds, arguments.packets));
            runner
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        measured.print();
        measured.save()?;
    }
    let streams = arguments.parts.contains(&Part::Streams);
    for &offloads in arguments.offloads.iter().filter(|_| streams) {
        let report = measure(&arguments, offloads)?;
        report.print();
        report.save()?;
    }
    Ok(())
}

fn measure(arguments: &Arguments, offloads: Offloads) -> Result<Report> {
    let network = Network::build(offloads == Offloads::On, arguments.xdp.as_deref())?;
    let name = match offloads {
        Offloads::On => "on",
        Offloads::Off => "off",
    };
    let mut rows: Vec<Row> = Vec::new();
    for &place in &arguments.places {
        rows.extend(arguments.loads.iter().map(|&load| Row::new(place, load)));
    }
    let mut notes = network.notes()?;
    let before = machine::load();
    for round in 0..arguments.rounds {
        eprintln!("offloads {name}: round {} of {}", round + 1, arguments.rounds);
        for row in &mut rows {
            let mut contenders = Contender::at(row.place).to_vec();
            contenders.retain(|who| *who == Contender::Routing || arguments.contenders.contains(who));
            // Nobody is always the first after something else.
            let first = round as usize % contenders.len();
            contenders.rotate_left(first);
            for contender in contenders {
                let time = Duration::from_secs(arguments.seconds);
                row.add(contender, network.measure(contender, row.place, row.load, time)?);
            }
        }
    }
    notes.extend(network.verdicts()?);
    Ok(Report {
        machine: Machine::here(),
        offloads: name,
        rounds: arguments.rounds,
        seconds: arguments.seconds,
        load: [before, machine::load()],
        notes,
        rows,
    })
}
