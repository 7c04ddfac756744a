//! `cargo xtask bench packet`: nanoseconds per packet of the loaded programs, over the number of flows.
//!
//! BPF_PROG_TEST_RUN repeats the harness of `lb-ebpf/src/bench.rs`, which gives every repeat a fresh packet of another
//! flow and calls the program under test. Its own cost is measured beside the rest, and is in every figure.

mod chart;
mod measure;
mod rows;
mod tables;
mod task;

use anyhow::Result;
use benches::machine::{Machine, load};
use comfy_table::{CellAlignment, Table, presets};

use measure::{Median, Runs};

/// Numbers of flows.
const FLOWS: [u32; 5] = [1, 1 << 10, 1 << 16, 1 << 19, 1 << 22];
const NAMES: [&str; 5] = ["1 flow", "1k", "64k", "512k", "4M flows"];

/// One line of the result.
pub struct Row {
    name: &'static str,
    /// One for each of [`FLOWS`]; `None` where there is nothing to measure.
    medians: [Option<Median>; FLOWS.len()],
    target: &'static str,
}

fn main() -> Result<()> {
    let runs = Runs::from_arguments()?;
    println!("{}; load before: {:.1}", Machine::here(), load());
    let rows = rows::all(&runs)?;
    println!("load after: {:.1}\n", load());
    println!("{}", table(&rows));
    println!(
        "\nnanoseconds per packet, harness included: median of {runs}; beside it half the distance of the quartiles"
    );
    for path in chart::draw(&rows)? {
        println!("chart: {}", path.display());
    }
    Ok(())
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["program, packet"].into_iter().chain(NAMES).chain(["target"]));
    for row in rows {
        let medians = row
            .medians
            .iter()
            .map(|median| median.map_or_else(String::new, |median| median.to_string()));
        table.add_row(
            [row.name.to_owned()]
                .into_iter()
                .chain(medians)
                .chain([row.target.to_owned()]),
        );
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
