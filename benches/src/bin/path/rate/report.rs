//! The rates: a table for people, a chart, and every sample as JSON.

use std::fs;

use anyhow::Result;
use benches::chart::{self, Bars};
use benches::machine::Machine;
use benches::sample::Sample;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::{Row, Way};

#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub rounds: u32,
    /// Sent in each turn.
    pub packets: u32,
    /// The machine's load average before and after.
    pub load: [f64; 2],
    pub notes: Vec<String>,
    pub rows: Vec<Row>,
}

impl Report {
    pub fn print(&self) {
        println!(
            "\nPackets of 64 bytes past node 1 to a task on another node, made, carried and taken by one processor; \
             {} rounds of {} packets; load average {:.1} before, {:.1} after",
            self.rounds, self.packets, self.load[0], self.load[1]
        );
        for note in &self.notes {
            println!("  {note}");
        }
        println!(
            "million packets per second: median (lowest to highest); ratios are medians of the rounds' own\n"
        );
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_header(["", "M/s", "of plain XDP redirect", "of nftables DNAT", "arrived"]);
        for row in &self.rows {
            table.add_row([
                row.way.title().to_owned(),
                format!(
                    "{:.2} ({:.2}–{:.2})",
                    row.rates.median(),
                    row.rates.lowest(),
                    row.rates.highest()
                ),
                format!("{:.0} %", 100.0 * self.over(row, Way::Redirect).median()),
                format!("×{:.1}", self.over(row, Way::Nftables).median()),
                format!("{:.0} %", 100.0 * row.arrived.median()),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("{table}");
    }

    /// Chart and samples, under `target/bench/`.
    pub fn save(&self) -> Result<()> {
        let directory = chart::directory()?;
        let bars: Vec<Bars> = self
            .rows
            .iter()
            .map(|row| Bars {
                name: row.way.title().to_owned(),
                values: vec![Some([
                    row.rates.lowest(),
                    row.rates.median(),
                    row.rates.highest(),
                ])],
            })
            .collect();
        let file = directory.join("path-packets.svg");
        let title = "64-byte packets to a task on another node, on one processor";
        chart::figures(&file, title, &["million packets per second"], &bars)?;
        println!("chart: {}", file.display());
        let file = directory.join("path-packets.json");
        fs::write(&file, serde_json::to_string_pretty(self)?)?;
        println!("samples: {}", file.display());
        Ok(())
    }

    fn over(&self, row: &Row, other: Way) -> Sample {
        let other = self.rows.iter().find(|row| row.way == other);
        other.map_or_else(Sample::default, |other| row.rates.over(&other.rates))
    }
}
