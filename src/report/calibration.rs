// SPDX-License-Identifier: GPL-2.0-or-later
//! Plot of a calibration: force error against γ, with quantiles of the data and the bound.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::plots::{COLOURS, FAMILY, LIMIT, PlotError, SIZE, label, rasterise};
use crate::calibration::{Calibration, Kind, Pair, QUANTILES, bins};

/// Largest number of points of a plot. Of more pairs, equally spaced ones are drawn.
const MAX_POINTS: usize = 4000;

/// A plot of the force error against γ.
#[derive(Debug, Clone)]
pub struct CalibrationPlot {
    /// The plot as SVG.
    pub svg: String,
    /// The plot as PNG.
    pub png: Vec<u8>,
}

/// Draws the pairs, the median and a quantile of their errors in intervals of γ, and the bound with this coverage. `force_error` is a
/// tolerated error in eV/Å, for which the threshold on γ is drawn.
///
/// # Errors
/// [`PlotError`].
pub fn calibration_plot(
    pairs: &[Pair],
    calibration: &Calibration,
    coverage: f64,
    force_error: Option<f64>,
) -> Result<CalibrationPlot, PlotError> {
    let failed = |message: String| PlotError { name: "calibration".into(), message };
    let mut svg = String::new();
    draw(&SVGBackend::with_string(&mut svg, SIZE).into_drawing_area(), pairs, calibration, coverage, force_error)
        .map_err(|error| failed(error.to_string()))?;
    let png = rasterise(&svg).map_err(failed)?;
    Ok(CalibrationPlot { svg, png })
}

/// A range that contains all values, on a logarithmic axis.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) =
        values.filter(|v| *v > 0.0 && v.is_finite()).fold((f64::INFINITY, 0.0_f64), |(l, h), v| (l.min(v), h.max(v)));
    if low > high { (0.1, 1.0) } else { (low / 1.3, high * 1.3) }
}

fn draw<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    pairs: &[Pair],
    calibration: &Calibration,
    coverage: f64,
    force_error: Option<f64>,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    area.fill(&WHITE)?;
    let shown = || pairs.iter().step_by(pairs.len().div_ceil(MAX_POINTS).max(1));
    let (left, right) = range(shown().map(|p| p.gamma));
    let bound: Vec<(f64, f64)> = (0..=100)
        .map(|k| left * (right / left).powf(f64::from(k) / 100.0))
        .filter_map(|gamma| Some((gamma, calibration.bound(gamma, coverage)?)))
        .collect();
    // Errors far below all others would leave little room for the rest.
    let mut errors: Vec<f64> = shown().map(|p| p.error).collect();
    errors.sort_by(f64::total_cmp);
    let floor = errors.get(errors.len() / 200).copied().unwrap_or(0.0);
    let (bottom, top) =
        range(errors.iter().map(|e| e.max(floor)).chain(bound.iter().map(|(_, e)| *e)).chain(force_error));
    let font = |size: u32| (FAMILY, size).into_font();
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(20)
        .x_label_area_size(46)
        .y_label_area_size(70)
        .build_cartesian_2d((left..right).log_scale(), (bottom..top).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("γ")
        .y_desc("force error / eV/Å")
        .axis_desc_style(font(16))
        .label_style(font(13))
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(228, 228, 228))
        .x_label_formatter(&|x| label(*x))
        .y_label_formatter(&|y| label(*y))
        .draw()?;
    let several = pairs.iter().any(|p| Kind::of(&p.trigger) != Kind::of(&pairs[0].trigger));
    for (kind, colour, name) in [(Kind::Event, COLOURS[0], "events"), (Kind::Audit, COLOURS[1], "audits")] {
        let members = shown().filter(|p| Kind::of(&p.trigger) == kind);
        let points: Vec<(f64, f64)> = members.map(|p| (p.gamma.max(left), p.error.max(bottom))).collect();
        if points.is_empty() {
            continue;
        }
        let pale = colour.mix(0.35);
        chart
            .draw_series(points.into_iter().map(|at| Circle::new(at, 2, pale.filled())))?
            .label(if several { name } else { "atoms" })
            .legend(move |(x, y)| Circle::new((x + 9, y), 3, pale.filled()));
    }
    let bins = bins(pairs);
    let nearest = |a: &usize, b: &usize| (QUANTILES[*a] - coverage).abs().total_cmp(&(QUANTILES[*b] - coverage).abs());
    let quantile = (1..QUANTILES.len()).min_by(nearest).unwrap_or(0);
    for (k, colour) in [(0, COLOURS[5]), (quantile, COLOURS[2])] {
        let steps = bins.iter().flat_map(|bin| {
            let ends = [bin.from.max(left), bin.to.unwrap_or(right).min(right)];
            ends.map(|x| (x, bin.quantiles[k].max(bottom)))
        });
        let name = if k == 0 { "median".to_owned() } else { format!("{} % of the atoms", 100.0 * QUANTILES[k]) };
        chart
            .draw_series(LineSeries::new(steps, colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    if !bound.is_empty() {
        chart
            .draw_series(LineSeries::new(bound, BLACK.stroke_width(2)))?
            .label(format!("bound, coverage {coverage}"))
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], BLACK.stroke_width(2)));
    }
    if let Some(error) = force_error {
        let mut lines = vec![[(left, error), (right, error)]];
        if let Some(gamma) = calibration.threshold(error, coverage).and_then(|t| t.gamma()).filter(|g| *g > left) {
            lines.push([(gamma, bottom), (gamma, top)]);
        }
        for line in lines {
            chart.draw_series(DashedLineSeries::new(line, 6, 4, LIMIT.stroke_width(1)))?;
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .label_font(font(13))
        .background_style(WHITE.mix(0.8))
        .draw()?;
    area.present()
}
