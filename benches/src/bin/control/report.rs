//! Tables and the chart.

use anyhow::Result;
use benches::chart::{Bars, directory, figures};
use benches::sample::Sample;
use comfy_table::{CellAlignment, Table, presets};

use crate::agent::Memory;
use crate::stream::Bytes;

/// One line of the result, in milliseconds.
pub struct Row {
    name: String,
    sample: Sample,
    target: &'static str,
    /// One change out of many: it is drawn.
    drawn: bool,
}

impl Row {
    pub fn new(name: &str, sample: Sample, target: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            sample,
            target,
            drawn: false,
        }
    }

    pub fn of_a_change(name: &str, sample: Sample, target: &'static str) -> Self {
        Self {
            drawn: true,
            ..Self::new(name, sample, target)
        }
    }
}

/// How long things took.
pub fn times(rows: &[Row]) -> Table {
    let head = ["step", "median", "lowest", "p99", "highest", "target"];
    let mut table = table(&head);
    for Row {
        name, sample, target, ..
    } in rows
    {
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
    align(&mut table, 4);
    table
}

/// What agents weigh.
pub fn weights(weights: &[(String, Memory)]) -> Table {
    let head = [
        "memory of the agent, MiB",
        "resident",
        "of it tables of the kernel",
        "its own",
        "at most",
        "all tables in the kernel",
    ];
    let mut table = table(&head);
    for (name, memory) in weights {
        let Memory {
            resident,
            mapped,
            tables,
            peak,
        } = memory;
        let figures = [*resident, *mapped, resident - mapped, *peak, *tables];
        let figures = figures.iter().map(|figure| format!("{figure:.0}"));
        table.add_row([name.clone()].into_iter().chain(figures));
    }
    align(&mut table, 5);
    table
}

/// What agents send each other.
pub fn messages(messages: &[Bytes]) -> Table {
    let mut table = table(&["message to each agent", "bytes"]);
    for Bytes { name, bytes } in messages {
        table.add_row([name.clone(), bytes.to_string()]);
    }
    align(&mut table, 1);
    table
}

/// Draws the rows of changes, and says where.
pub fn chart(rows: &[Row]) -> Result<()> {
    let changes: Vec<&Row> = rows.iter().filter(|row| row.drawn).collect();
    if changes.is_empty() {
        return Ok(());
    }
    let path = directory()?.join("control.svg");
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
    figures(&path, "One change among many: milliseconds", &names, &bars)?;
    println!("chart: {}", path.display());
    Ok(())
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(head);
    table
}

fn align(table: &mut Table, figures: usize) {
    for column in table.column_iter_mut().skip(1).take(figures) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}
