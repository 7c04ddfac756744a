//! Tables for people, JSON for programs.

use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::api::Problem;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns.
    #[default]
    Table,
    /// What the agent answered.
    Json,
    /// As table, with every column.
    Wide,
}

/// Prints JSON if that was asked for, else what `text` makes of the view.
pub fn print<T: Serialize>(format: Format, view: &T, text: impl FnOnce(&T) -> String) -> Result<(), Problem> {
    let text = match format {
        Format::Json => {
            serde_json::to_string_pretty(view).map_err(|error| Problem::new("cannot print").because(error))?
        }
        Format::Table | Format::Wide => text(view),
    };
    // A pager that was closed is no failure.
    match writeln!(io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Problem::new("cannot print").because(error))
        }
        _ => Ok(()),
    }
}

/// Aligned columns under their names, without lines or colour.
pub fn table<const N: usize>(names: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(names);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = table.to_string();
    lines
        .lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}

/// Each line of a block moved to the right.
pub fn indent(block: &str) -> String {
    block
        .lines()
        .map(|line| format!("  {line}").trim_end().to_owned() + "\n")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_where_their_text_does() {
        let rows = [["web".into(), "3".into()], ["database".into(), "".into()]];
        assert_eq!(
            table(["NAME", "BACKENDS"], rows),
            "NAME      BACKENDS\nweb       3\ndatabase\n"
        );
    }
}
