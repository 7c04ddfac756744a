//! The figures: a table for people, charts, and every sample as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::Result;
use benches::chart::{self, Bars};
use benches::machine::Machine;
use benches::sample::Sample;
use comfy_table::{Table, presets};
use serde::Serialize;

use crate::contender::{Contender, Place};
use crate::load::Load;

#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub offloads: &'static str,
    pub rounds: u32,
    pub seconds: u64,
    /// The machine's load average before and after.
    pub load: [f64; 2],
    pub notes: Vec<String>,
    pub rows: Vec<Row>,
}

/// One load on the ways to one task.
#[derive(Debug, Serialize)]
pub struct Row {
    pub place: Place,
    pub load: Load,
    samples: BTreeMap<Contender, Sample>,
}

impl Row {
    pub fn new(place: Place, load: Load) -> Self {
        Self {
            place,
            load,
            samples: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, contender: Contender, value: f64) {
        self.samples.entry(contender).or_default().add(value);
    }

    /// Round by round over another contender of the same row.
    fn ratio(&self, of: Contender, to: Contender) -> Sample {
        match (self.samples.get(&of), self.samples.get(&to)) {
            (Some(of), Some(to)) => of.over(to),
            _ => Sample::default(),
        }
    }
}

impl Report {
    pub fn print(&self) {
        println!(
            "\nOffloads of the wires {}; {} rounds of {} s; load average {:.1} before, {:.1} after",
            self.offloads, self.rounds, self.seconds, self.load[0], self.load[1]
        );
        for note in &self.notes {
            println!("  {note}");
        }
        for place in self.places() {
            println!(
                "\n{}: median (lowest to highest), and the median ratio to plain routing in the same round",
                place.title()
            );
            println!("{}", self.table(place));
        }
        println!(
            "\nPortico over kernel VXLAN, task on another node: {}",
            self.over_vxlan()
        );
    }

    /// Charts and samples, under `target/bench/`.
    pub fn save(&self) -> Result<()> {
        let directory = chart::directory()?;
        for place in self.places() {
            let groups: Vec<&str> = self.rows(place).map(|row| row.load.name()).collect();
            let name = format!("path-{}-offloads-{}.svg", place.service().0, self.offloads);
            let title = format!(
                "{}, offloads {}: ratio to plain routing",
                place.title(),
                self.offloads
            );
            let file = directory.join(name);
            chart::ratios(&file, &title, &groups, &self.bars(place))?;
            println!("chart: {}", file.display());
        }
        let file = directory.join(format!("path-offloads-{}.json", self.offloads));
        fs::write(&file, serde_json::to_string_pretty(self)?)?;
        println!("samples: {}", file.display());
        Ok(())
    }

    fn places(&self) -> BTreeSet<Place> {
        self.rows.iter().map(|row| row.place).collect()
    }

    fn rows(&self, place: Place) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.place == place)
    }

    fn has(&self, contender: Contender) -> bool {
        self.rows.iter().any(|row| row.samples.contains_key(&contender))
    }

    fn table(&self, place: Place) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_header(
            ["".to_owned()]
                .into_iter()
                .chain(self.rows(place).map(|row| row.load.title().to_owned())),
        );
        for &contender in Contender::at(place).iter().filter(|&&who| self.has(who)) {
            let cells = self.rows(place).map(|row| {
                let Some(sample) = row.samples.get(&contender) else {
                    return String::new();
                };
                let figure = format!(
                    "{:.2} ({:.2}–{:.2})",
                    sample.median(),
                    sample.lowest(),
                    sample.highest()
                );
                match contender {
                    Contender::Routing => figure,
                    _ => format!(
                        "{figure} ×{:.2}",
                        row.ratio(contender, Contender::Routing).median()
                    ),
                }
            });
            table.add_row([contender.title().to_owned()].into_iter().chain(cells));
        }
        table
    }

    fn over_vxlan(&self) -> String {
        let ratios: Vec<String> = self
            .rows(Place::Remote)
            .map(|row| {
                let ratio = row.ratio(Contender::Portico, Contender::Vxlan);
                format!("{} {:.2}", row.load.name(), ratio.median())
            })
            .collect();
        ratios.join(", ")
    }

    fn bars(&self, place: Place) -> Vec<Bars> {
        let others = Contender::at(place)
            .iter()
            .filter(|&&contender| contender != Contender::Routing && self.has(contender));
        others
            .map(|&contender| Bars {
                name: contender.title().to_owned(),
                values: self
                    .rows(place)
                    .map(|row| {
                        let ratio = row.ratio(contender, Contender::Routing);
                        Some([ratio.lowest(), ratio.median(), ratio.highest()])
                    })
                    .collect(),
            })
            .collect()
    }
}
