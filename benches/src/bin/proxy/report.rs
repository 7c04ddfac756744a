//! The figures: a table for people, charts, and every sample as JSON.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Result;
use benches::chart::{self, Bars};
use benches::machine::Machine;
use benches::sample::Sample;
use comfy_table::{Table, presets};
use serde::Serialize;

use crate::What;
use crate::contender::{Contender, Processors};
use crate::figure::Figure;
use crate::load::Load;
use crate::turn::Turn;

/// A proxy that wanted less of its processors than this was waiting for the harness.
const BUSY: f64 = 0.9;

#[derive(Debug, Serialize)]
pub struct Report {
    machine: Machine,
    rounds: u32,
    seconds: u64,
    processors: Processors,
    /// The machine's load average before and after.
    pub load: [f64; 2],
    notes: Vec<String>,
    figures: BTreeMap<Figure, BTreeMap<Contender, Sample>>,
    /// The part of its processors' time that a proxy used, or waited for because somebody else had it.
    busy: BTreeMap<Load, BTreeMap<Contender, Sample>>,
    /// What was not answered, in all rounds.
    failed: BTreeMap<Load, BTreeMap<Contender, u64>>,
}

/// The charts: name of the file, title, groups.
const CHARTS: [(&str, &str, &[Figure]); 2] = [
    (
        "proxy-rates.svg",
        "how much a proxy carries, over the best of the others",
        &[
            Figure::Download,
            Figure::Upload,
            Figure::Streams,
            Figure::Connections,
            Figure::Requests,
            Figure::Datagrams,
        ],
    ),
    (
        "proxy-costs.svg",
        "what it takes, the best of the others over each",
        &[
            Figure::Median,
            Figure::P99,
            Figure::DownloadCost,
            Figure::ConnectionCost,
            Figure::RequestCost,
            Figure::Own,
        ],
    ),
];

impl Report {
    pub fn new(what: &What, processors: &Processors, versions: Vec<String>) -> Self {
        let sizes = &what.sizes;
        Self {
            machine: Machine::here(),
            rounds: what.rounds,
            seconds: sizes.seconds,
            processors: processors.clone(),
            load: [0.0; 2],
            notes: vec![
                processors.to_string(),
                format!(
                    "{} connections; several streams are {}; waiting times at {} requests/s; {} senders with {} datagrams each under way; memory of {} connections",
                    sizes.connections, sizes.streams, sizes.rate, sizes.flows, sizes.window, sizes.idle
                ),
                versions.join(", "),
            ],
            figures: BTreeMap::new(),
            busy: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, contender: Contender, figure: Figure, value: f64) {
        let row = self.figures.entry(figure).or_default();
        row.entry(contender).or_default().add(value);
    }

    /// What one turn says.
    pub fn take(&mut self, contender: Contender, load: Load, turn: &Turn) {
        let used = turn.time.map(|[used, _]| used);
        for (figure, value) in Figure::of(load, &turn.outcome, used) {
            self.add(contender, figure, value);
        }
        if let Some(time) = turn.time {
            let there_was = turn.outcome.seconds * self.processors.workers() as f64;
            let row = self.busy.entry(load).or_default();
            let busy = time.iter().sum::<f64>() / there_was;
            row.entry(contender).or_default().add(busy);
        }
        let row = self.failed.entry(load).or_default();
        *row.entry(contender).or_default() += turn.outcome.failed;
    }

    pub fn print(&self) {
        println!(
            "\n{} rounds, each turn {} s; load average {:.1} before, {:.1} after",
            self.rounds, self.seconds, self.load[0], self.load[1]
        );
        for note in self.notes.iter().filter(|note| !note.is_empty()) {
            println!("  {note}");
        }
        println!(
            "\nMedian (lowest to highest); * the proxy had processor time left, so the harness was the bound"
        );
        println!("{}", self.table());
        for (load, row) in &self.failed {
            for (contender, failed) in row.iter().filter(|(_, failed)| **failed > 0) {
                println!(
                    "{}: {} left {failed} without an answer",
                    load.title(),
                    contender.title()
                );
            }
        }
    }

    /// Charts and samples, under `target/bench/`.
    pub fn save(&self) -> Result<()> {
        let directory = chart::directory()?;
        for (name, title, figures) in CHARTS {
            let figures: Vec<Figure> = figures
                .iter()
                .copied()
                .filter(|figure| self.best(*figure).is_some())
                .collect();
            if figures.is_empty() {
                continue;
            }
            let groups: Vec<&str> = figures.iter().map(|figure| figure.name()).collect();
            let file = directory.join(name);
            chart::ratios(&file, title, &groups, &self.bars(&figures))?;
            println!("chart: {}", file.display());
        }
        let file = directory.join("proxy.json");
        fs::write(&file, serde_json::to_string_pretty(self)?)?;
        println!("samples: {}", file.display());
        Ok(())
    }

    fn contenders(&self) -> Vec<Contender> {
        let takes_part = |contender: &Contender| self.figures.values().any(|row| row.contains_key(contender));
        Contender::ALL.into_iter().filter(takes_part).collect()
    }

    /// The others' proxy whose median is the best.
    fn best(&self, figure: Figure) -> Option<(Contender, &Sample)> {
        let row = self.figures.get(&figure)?.iter();
        let peers = row
            .map(|(contender, sample)| (*contender, sample))
            .filter(|(contender, _)| contender.is_peer());
        let order =
            |a: &(Contender, &Sample), b: &(Contender, &Sample)| a.1.median().total_cmp(&b.1.median());
        if figure.is_cost() {
            peers.min_by(order)
        } else {
            peers.max_by(order)
        }
    }

    /// How much better than the best of the others, round by round: above 1 is better, whatever is measured.
    fn ratio(&self, figure: Figure, contender: Contender) -> Option<Sample> {
        let own = self.figures.get(&figure)?.get(&contender)?;
        let (_, best) = self.best(figure)?;
        Some(if figure.is_cost() {
            best.over(own)
        } else {
            own.over(best)
        })
    }

    fn table(&self) -> Table {
        let contenders = self.contenders();
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        let titles = contenders.iter().map(|contender| contender.title().to_owned());
        let last = "Portico × the best of the others".to_owned();
        table.set_header([String::new()].into_iter().chain(titles).chain([last]));
        for figure in Figure::ALL {
            let Some(row) = self.figures.get(&figure) else {
                continue;
            };
            let cells = contenders
                .iter()
                .map(|contender| {
                    row.get(contender)
                        .map(|sample| self.cell(figure, *contender, sample))
                })
                .map(Option::unwrap_or_default);
            let beside = self
                .ratio(figure, Contender::Portico)
                .zip(self.best(figure))
                .map(|(ratio, (best, _))| format!("{:.2} ({})", ratio.median(), best.title()));
            let title = [figure.title().to_owned()];
            table.add_row(title.into_iter().chain(cells).chain([beside.unwrap_or_default()]));
        }
        table
    }

    fn cell(&self, figure: Figure, contender: Contender, sample: &Sample) -> String {
        let text = format!(
            "{} ({}–{})",
            short(sample.median()),
            short(sample.lowest()),
            short(sample.highest())
        );
        let busy = self.busy.get(&figure.load()).and_then(|row| row.get(&contender));
        let bound = figure < Figure::Median && busy.is_some_and(|busy| busy.median() < BUSY);
        if bound { format!("{text} *") } else { text }
    }

    fn bars(&self, figures: &[Figure]) -> Vec<Bars> {
        self.contenders()
            .into_iter()
            .filter(|contender| *contender != Contender::Direct)
            .map(|contender| Bars {
                name: contender.title().to_owned(),
                values: figures
                    .iter()
                    .map(|figure| {
                        let ratio = self.ratio(*figure, contender)?;
                        Some([ratio.lowest(), ratio.median(), ratio.highest()])
                    })
                    .collect(),
            })
            .collect()
    }
}

/// Three digits that say something.
fn short(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::Arguments;

    #[test]
    fn better_than_the_best_of_the_others_is_above_one() {
        let what = Arguments::parse_from(["proxy"]).what;
        let mut report = Report::new(&what, &Processors::share(2, None), Vec::new());
        for (contender, rate, memory) in [
            (Contender::Direct, 90.0, 0.0),
            (Contender::Portico, 30.0, 2.0),
            (Contender::Haproxy, 20.0, 8.0),
            (Contender::Envoy, 10.0, 4.0),
        ] {
            report.add(contender, Figure::Requests, rate);
            report.add(contender, Figure::Own, memory);
        }
        let ratio = |figure, contender| report.ratio(figure, contender).map(|sample| sample.median());
        assert_eq!(ratio(Figure::Requests, Contender::Portico), Some(1.5));
        assert_eq!(ratio(Figure::Own, Contender::Portico), Some(2.0));
        assert_eq!(ratio(Figure::Own, Contender::Haproxy), Some(0.5));
        let table = report.table().to_string();
        assert!(
            table.contains("1.50 (HAProxy)") && table.contains("2.00 (Envoy)"),
            "{table}"
        );
    }
}
