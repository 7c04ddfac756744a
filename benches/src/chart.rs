//! Charts as SVG files under `target/bench/`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

/// Told apart without colour vision too (Okabe and Ito's palette).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
];
const SIZE: (u32, u32) = (1120, 420);
/// The part of the width that bars have; beside them is what their colours mean.
const BARS: f64 = 0.83;

/// One colour of bars: a value and its extremes for each group.
#[derive(Clone, Debug)]
pub struct Bars {
    pub name: String,
    /// Lowest, median and highest; `None` leaves a gap.
    pub values: Vec<Option<[f64; 3]>>,
}

/// Where charts go.
pub fn directory() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own
        .ancestors()
        .find(|path| path.join("CACHEDIR.TAG").is_file())
        .unwrap_or(Path::new("target"));
    let directory = target.join("bench");
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// Bars in groups with whiskers, and a line at 1 that ratios are read against.
pub fn ratios(file: &Path, title: &str, groups: &[&str], bars: &[Bars]) -> Result<()> {
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    draw(&area, title, groups, bars, Some(1.0))
        .map_err(|error| anyhow!("cannot draw {}: {error}", file.display()))
}

/// The same of figures that stand for themselves.
pub fn figures(file: &Path, title: &str, groups: &[&str], bars: &[Bars]) -> Result<()> {
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    draw(&area, title, groups, bars, None).map_err(|error| anyhow!("cannot draw {}: {error}", file.display()))
}

fn draw(
    area: &DrawingArea<SVGBackend, Shift>,
    title: &str,
    groups: &[&str],
    bars: &[Bars],
    line: Option<f64>,
) -> Result<(), Box<dyn std::error::Error>> {
    let values = bars.iter().flat_map(|bars| bars.values.iter().flatten());
    let top = values.map(|[_, _, highest]| *highest).fold(1.0, f64::max) * 1.15;
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(50)
        .build_cartesian_2d(0.0..groups.len() as f64 / BARS, 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .y_label_formatter(&|value| format!("{value:.1}"))
        .draw()?;
    let width = 0.8 / bars.len() as f64;
    for (number, bars) in bars.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let left = |group: usize| group as f64 + 0.1 + number as f64 * width;
        let present = || {
            bars.values
                .iter()
                .enumerate()
                .filter_map(|(at, value)| Some((at, (*value)?)))
        };
        chart
            .draw_series(present().map(|(group, [_, median, _])| {
                Rectangle::new(
                    [(left(group), 0.0), (left(group) + width * 0.9, median)],
                    colour.filled(),
                )
            }))?
            .label(bars.name.as_str())
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], colour.filled()));
        chart.draw_series(present().map(|(group, [lowest, _, highest])| {
            let middle = left(group) + width * 0.45;
            PathElement::new([(middle, lowest), (middle, highest)], BLACK)
        }))?;
        chart.draw_series(present().map(|(group, [_, median, highest])| {
            let at = (left(group), highest.max(median) + top * 0.045);
            Text::new(format!("{median:.2}"), at, ("sans-serif", 12))
        }))?;
    }
    chart.draw_series(
        line.map(|at| PathElement::new([(0.0, at), (groups.len() as f64, at)], BLACK.mix(0.6))),
    )?;
    for (number, group) in groups.iter().enumerate() {
        let (x, y) = chart.backend_coord(&(number as f64 + 0.5, 0.0));
        let style = ("sans-serif", 14).into_text_style(area);
        let (wide, _) = area.estimate_text_size(group, &style)?;
        area.draw_text(group, &style, (x - wide as i32 / 2, y + 8))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_names_its_groups_and_its_bars() {
        let file = std::env::temp_dir().join(format!("portico-chart-{}.svg", std::process::id()));
        let bars = Bars {
            name: "one".into(),
            values: vec![Some([0.9, 1.0, 1.1]), None],
        };
        ratios(&file, "title", &["left", "right"], &[bars]).expect("a chart");
        let text = fs::read_to_string(&file).expect("the file");
        fs::remove_file(&file).expect("the file");
        for word in ["title", "left", "right", "one", "1.00"] {
            assert!(text.contains(word), "{word} is missing");
        }
    }
}
