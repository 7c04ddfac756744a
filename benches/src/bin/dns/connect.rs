//! What it costs a process of the node to connect to a task on it: directly, by a VIP and the socket programs, by a VIP
//! and packets, and by nftables.

mod network;
pub mod process;

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use benches::chart::{self, Bars};
use benches::machine::{self, Machine};
use benches::sample::Sample;
use clap::ValueEnum;
use comfy_table::{Table, presets};
use serde::Serialize;

use crate::What;
use network::Network;

/// Connections of one turn.
const TURN: u32 = 5_000;

/// What is opened and closed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Socket {
    /// A TCP connection, ended by a reset: no port stays taken.
    Tcp,
    /// A connected UDP socket; nothing is sent, so it is the system call alone.
    Udp,
}

impl Socket {
    const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    fn title(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP, nothing sent",
        }
    }
}

/// How the process gets to the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// socket() and close(), which are in every figure.
    Alone,
    /// To the task's own address, without an agent.
    Plain,
    /// The same, with the socket programs attached.
    Bystander,
    /// To the VIP: connect() itself goes to the task.
    Hook,
    /// To the VIP from outside the cgroup: every packet is translated.
    Packets,
    /// To an address that nftables translates as packets leave the process.
    Nftables,
}

impl Way {
    const ALL: [Self; 6] = [
        Self::Alone,
        Self::Plain,
        Self::Bystander,
        Self::Hook,
        Self::Packets,
        Self::Nftables,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Alone => "harness alone: socket() and close()",
            Self::Plain => "to the task's address, no agent",
            Self::Bystander => "the same beside the socket programs",
            Self::Hook => "to the VIP, by the socket programs",
            Self::Packets => "to the VIP, packet by packet",
            Self::Nftables => "nftables DNAT in output",
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Report {
    machine: Machine,
    rounds: u32,
    /// The machine's load average before and after.
    load: [f64; 2],
    /// Nanoseconds per socket(), connect() and close().
    figures: BTreeMap<Way, BTreeMap<Socket, Sample>>,
}

pub fn measure(what: &What) -> Result<Report> {
    let network = Network::build()?;
    let mut figures: BTreeMap<Way, BTreeMap<Socket, Sample>> = BTreeMap::new();
    let before = machine::load();
    for round in 0..what.rounds {
        eprintln!("connections: round {} of {}", round + 1, what.rounds);
        for socket in Socket::ALL {
            let mut ways = Way::ALL;
            // Nobody is always the first after something else.
            ways.rotate_left(round as usize % Way::ALL.len());
            for way in ways {
                let cost = network.measure(way, socket, TURN);
                let cost = cost.with_context(|| format!("{}, {}", way.title(), socket.title()))?;
                figures
                    .entry(way)
                    .or_default()
                    .entry(socket)
                    .or_default()
                    .add(cost);
            }
        }
    }
    Ok(Report {
        machine: Machine::here(),
        rounds: what.rounds,
        load: [before, machine::load()],
        figures,
    })
}

impl Report {
    pub fn print(&self) {
        println!(
            "\nA process of the node opens and closes {TURN} sockets to a task on it, {} rounds; load average {:.1} before, {:.1} after",
            self.rounds, self.load[0], self.load[1]
        );
        println!("ns for each: median (lowest to highest)");
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_header(
            ["".to_owned()]
                .into_iter()
                .chain(Socket::ALL.map(|socket| socket.title().to_owned())),
        );
        for (way, samples) in &self.figures {
            let cells = Socket::ALL.map(|socket| {
                let sample = samples.get(&socket).cloned().unwrap_or_default();
                format!(
                    "{:.0} ({:.0}–{:.0})",
                    sample.median(),
                    sample.lowest(),
                    sample.highest()
                )
            });
            table.add_row([way.title().to_owned()].into_iter().chain(cells));
        }
        println!("{table}");
    }

    /// Chart and samples, under `target/bench/`.
    pub fn save(&self) -> Result<()> {
        let directory = chart::directory()?;
        let file = directory.join("connect.svg");
        let groups = Socket::ALL.map(Socket::title);
        let bars: Vec<Bars> = self
            .figures
            .iter()
            .map(|(way, samples)| Bars {
                name: way.title().to_owned(),
                values: Socket::ALL
                    .iter()
                    .map(|socket| {
                        let sample = samples.get(socket)?;
                        Some([sample.lowest(), sample.median(), sample.highest()].map(|time| time / 1e3))
                    })
                    .collect(),
            })
            .collect();
        chart::figures(&file, "socket(), connect() and close(), µs", &groups, &bars)?;
        println!("chart: {}", file.display());
        let file = directory.join("connect.json");
        fs::write(&file, serde_json::to_string_pretty(self)?)?;
        println!("samples: {}", file.display());
        Ok(())
    }
}
