//! The rows as charts.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::{NAMES, Row};

/// Charts: file name, title, what the names of their rows start with.
const CHARTS: [(&str, &str, &[&str]); 2] = [
    (
        "packet-xdp.svg",
        "XDP: ns per packet over the number of flows",
        &["xdp", "harness, and"],
    ),
    (
        "packet-tc.svg",
        "tc: ns per packet over the number of flows",
        &["tc", "harness alone (tc)"],
    ),
];

/// Draws the charts under `target/bench/` and says where.
pub fn draw(rows: &[Row]) -> Result<Vec<PathBuf>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    std::fs::create_dir_all(&directory)?;
    let directory = directory.canonicalize()?;
    let mut paths = Vec::new();
    for (file, title, starts) in CHARTS {
        let rows: Vec<&Row> = rows
            .iter()
            .filter(|row| starts.iter().any(|start| row.name.starts_with(start)))
            .collect();
        let path = directory.join(file);
        // plotters' errors borrow the drawing.
        chart(&path, title, &rows).map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))?;
        paths.push(path);
    }
    Ok(paths)
}

fn chart(path: &Path, title: &str, rows: &[&Row]) -> Result<()> {
    let root = SVGBackend::new(path, (960, 540)).into_drawing_area();
    root.fill(&WHITE)?;
    let x: Range<f64> = -0.1..NAMES.len() as f64 - 0.9;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 22))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(x, 0.0..highest(rows))?;
    chart
        .configure_mesh()
        .x_labels(NAMES.len())
        .x_label_formatter(&|x| {
            NAMES
                .get(x.round() as usize)
                .map_or_else(String::new, |name| (*name).to_owned())
        })
        .y_desc("ns")
        .disable_x_mesh()
        .draw()?;
    for (index, row) in rows.iter().enumerate() {
        let style = Palette99::pick(index).stroke_width(2);
        let points = || {
            let numbered = row.medians.iter().enumerate();
            numbered.filter_map(|(x, median)| Some((x as f64, median.as_ref()?.nanoseconds)))
        };
        chart
            .draw_series(LineSeries::new(points(), style).point_size(3))?
            .label(row.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    root.present()?;
    Ok(())
}

/// A little above all points.
fn highest(rows: &[&Row]) -> f64 {
    let points = rows.iter().flat_map(|row| row.medians.iter().flatten());
    points.map(|median| median.nanoseconds).fold(10.0, f64::max) * 1.4
}
