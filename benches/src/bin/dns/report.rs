//! The figures: tables for people, charts, and every sample as JSON.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Result;
use benches::chart::{self, Bars};
use benches::machine::Machine;
use benches::sample::Sample;
use comfy_table::{Table, presets};
use serde::Serialize;

use crate::contender::Contender;
use crate::load::{Question, Transport, Turn};

#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub rounds: u32,
    pub seconds: u64,
    pub rate: u32,
    /// The machine's load average before and after.
    pub load: [f64; 2],
    pub notes: Vec<String>,
    pub rows: Vec<Row>,
}

/// One kind of question over one transport.
#[derive(Debug, Serialize)]
pub struct Row {
    pub question: Question,
    pub transport: Transport,
    figures: BTreeMap<Contender, Figures>,
}

#[derive(Debug, Default, Serialize)]
struct Figures {
    /// Answers, thousands per second.
    answers: Sample,
    /// The same per second of the server's processor time: dnsperf's own limit is not in it.
    per_busy_second: Sample,
    /// What an answer costs dnsperf, in microseconds of its processor time.
    asking: Sample,
    /// Of a hundred questions at a steady rate, the second slowest, in microseconds.
    p99: Sample,
    /// Questions without an answer, in all.
    lost: f64,
}

/// One of the figures.
#[derive(Clone, Copy)]
struct Kind {
    title: &'static str,
    file: &'static str,
    of: fn(&Figures) -> &Sample,
    decimals: usize,
}

const KINDS: [Kind; 4] = [
    Kind {
        title: "answers, thousands per second",
        file: "rate",
        of: |figures| &figures.answers,
        decimals: 0,
    },
    Kind {
        title: "answers, thousands per second of the server's processor time",
        file: "per-busy-second",
        of: |figures| &figures.per_busy_second,
        decimals: 0,
    },
    Kind {
        title: "99 of 100 answers come within, µs",
        file: "p99",
        of: |figures| &figures.p99,
        decimals: 0,
    },
    Kind {
        title: "dnsperf's own processor time for each, µs",
        file: "asking",
        of: |figures| &figures.asking,
        decimals: 2,
    },
];

impl Row {
    pub fn new(question: Question, transport: Transport) -> Self {
        Self {
            question,
            transport,
            figures: BTreeMap::new(),
        }
    }

    /// `busy` is the server's processor time in the turn, in seconds; `p99` is in microseconds.
    pub fn add(&mut self, contender: Contender, turn: &Turn, busy: f64, p99: f64) {
        let figures = self.figures.entry(contender).or_default();
        figures.answers.add(turn.rate / 1e3);
        // Never less than a tick of the kernel's clock.
        figures.per_busy_second.add(turn.answers / busy.max(0.01) / 1e3);
        figures.asking.add(turn.used / turn.answers.max(1.0) * 1e6);
        figures.p99.add(p99);
        figures.lost += turn.lost;
    }

    fn title(&self) -> String {
        format!("{}, {}", self.question.title(), self.transport.title())
    }
}

impl Report {
    pub fn print(&self) {
        println!(
            "\n{} rounds, each turn {} s as fast as answers come, then {} s at {} questions/s; load average {:.1} before, {:.1} after",
            self.rounds, self.seconds, self.seconds, self.rate, self.load[0], self.load[1]
        );
        for note in &self.notes {
            println!("  {note}");
        }
        for kind in KINDS {
            println!("\n{}: median (lowest to highest)", kind.title);
            println!("{}", self.table(kind));
        }
        for row in &self.rows {
            for (contender, figures) in row.figures.iter().filter(|(_, figures)| figures.lost > 0.0) {
                println!(
                    "{}: {} left {} questions without an answer",
                    row.title(),
                    contender.title(),
                    figures.lost
                );
            }
        }
    }

    /// Charts and samples, under `target/bench/`.
    pub fn save(&self) -> Result<()> {
        let directory = chart::directory()?;
        let titles: Vec<String> = self.rows.iter().map(Row::title).collect();
        let groups: Vec<&str> = titles.iter().map(String::as_str).collect();
        for kind in &KINDS[..3] {
            let file = directory.join(format!("dns-{}.svg", kind.file));
            chart::figures(&file, kind.title, &groups, &self.bars(*kind))?;
            println!("chart: {}", file.display());
        }
        let file = directory.join("dns.json");
        fs::write(&file, serde_json::to_string_pretty(self)?)?;
        println!("samples: {}", file.display());
        Ok(())
    }

    fn contenders(&self) -> impl Iterator<Item = Contender> {
        let has = |contender: &Contender| self.rows.iter().any(|row| row.figures.contains_key(contender));
        Contender::ALL.into_iter().filter(has)
    }

    fn table(&self, kind: Kind) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        let titles = self.contenders().map(|contender| contender.title().to_owned());
        table.set_header([String::new()].into_iter().chain(titles));
        for row in &self.rows {
            let cells = self.contenders().map(|contender| {
                let figures = row.figures.get(&contender).map(kind.of);
                figures.map_or(String::new(), |sample| {
                    format!(
                        "{:.*} ({:.*}–{:.*})",
                        kind.decimals,
                        sample.median(),
                        kind.decimals,
                        sample.lowest(),
                        kind.decimals,
                        sample.highest()
                    )
                })
            });
            table.add_row([row.title()].into_iter().chain(cells));
        }
        table
    }

    fn bars(&self, kind: Kind) -> Vec<Bars> {
        let bar = |row: &Row, contender: Contender| {
            let sample = (kind.of)(row.figures.get(&contender)?);
            Some([sample.lowest(), sample.median(), sample.highest()])
        };
        self.contenders()
            .map(|contender| Bars {
                name: contender.title().to_owned(),
                values: self.rows.iter().map(|row| bar(row, contender)).collect(),
            })
            .collect()
    }
}
