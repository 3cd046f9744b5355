// SPDX-License-Identifier: GPL-2.0-or-later
//! Writes the main plots as SVG and PNG files for publications.

use std::fmt::Display;

use plotters::prelude::*;
use resvg::{tiny_skia, usvg};

use super::{Part, Point, Report};

/// A plot that could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw {name}: {message}")]
pub struct PlotError {
    pub(super) name: String,
    pub(super) message: String,
}

/// Size of the SVG in pixels. The PNG is [`PNG_SCALE`] times larger in each direction, sufficient for a column of a journal.
pub(super) const SIZE: (u32, u32) = (640, 400);
const PNG_SCALE: f32 = 3.0;
/// A subset with Latin letters, digits and the symbols on the axes, so that no fonts need to be installed.
const FONT: &[u8] = include_bytes!("../../templates/report/DejaVuSans-subset.ttf");
pub(super) const FAMILY: &str = "DejaVu Sans";
/// Colours that can be distinguished with colour vision deficiency (Okabe and Ito, "Color Universal Design", 2008).
pub(super) const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(204, 121, 167),
    RGBColor(110, 110, 110),
];
/// Values above this limit are omitted, as those that are not finite, because tick marks cannot be placed there.
const MAX_VALUE: f64 = 1e30;
pub(super) const LIMIT: RGBColor = RGBColor(213, 94, 0);

/// A plot of lines.
struct Plot<'t> {
    name: &'t str,
    /// Labels of the axes.
    axes: [&'t str; 2],
    lines: Vec<(String, Vec<(f64, f64)>)>,
    /// Values of horizontal lines, at the thresholds.
    limits: Vec<f64>,
    /// Whether the vertical axis starts at 0, unless it is logarithmic.
    from_zero: bool,
}

/// Draws all plots of a report. Returns the name and the content of each file.
pub(super) fn draw(report: &Report) -> Result<Vec<(String, Vec<u8>)>, PlotError> {
    let thresholds: Vec<f64> = [report.low, report.high].into_iter().flatten().collect();
    let several = report.parts.len() > 1;
    let mut files = Vec::new();
    if several {
        let lines = report.parts.iter().map(|part| (part.name.clone(), column(part, |p| p.gamma_max))).collect();
        let axes = ["time / ps", "largest γ"];
        let limits = thresholds.clone();
        files.extend(save(&Plot { name: "gamma-all", axes, lines, limits, from_zero: true }, "")?);
    }
    for part in &report.parts {
        // The suffix distinguishes the files of different parts.
        let suffix = if several { format!("-{}", part.name.replace(' ', "-")) } else { String::new() };
        for plot in of_part(part, &thresholds).iter().chain(&of_exploration(part)) {
            files.extend(save(plot, &suffix)?);
        }
        files.extend(save(&histogram(part, &thresholds), &suffix)?);
        for plot in of_trajectory(part) {
            files.extend(save(&plot, &suffix)?);
        }
    }
    for plot in report.errors.plots(report.tolerated())? {
        files.extend([(format!("{}.svg", plot.name), plot.svg.into_bytes()), (format!("{}.png", plot.name), plot.png)]);
    }
    Ok(files)
}

fn column(part: &Part, read: fn(&Point) -> f64) -> Vec<(f64, f64)> {
    let points = part.series.points().iter().map(|p| (p.time, read(p)));
    points.filter(|(x, y)| x.abs() < MAX_VALUE && y.abs() < MAX_VALUE).collect()
}

fn of_part(part: &Part, thresholds: &[f64]) -> [Plot<'static>; 6] {
    let line = |label: &str, read| (label.to_owned(), column(part, read));
    let (unit, factor) = part.atoms.map_or(("ΔE / eV", 1.0), |n| ("ΔE / meV/atom", 1000.0 / n.max(1) as f64));
    let energy = column(part, |p| p.total_energy);
    let first = energy.first().map_or(0.0, |(_, energy)| *energy);
    let energy = energy.into_iter().map(|(t, e)| (t, (e - first) * factor)).collect();
    let pressure = column(part, |p| p.pressure).into_iter().map(|(t, p)| (t, p * 1e-4)).collect();
    let time = "time / ps";
    [
        Plot {
            name: "gamma",
            axes: [time, "γ"],
            lines: vec![
                line("largest", |p| p.gamma_max),
                line("99 %", |p| p.q99),
                line("90 %", |p| p.q90),
                line("median", |p| p.q50),
            ],
            limits: thresholds.to_vec(),
            from_zero: true,
        },
        Plot {
            name: "above",
            axes: [time, "atoms above the thresholds"],
            lines: vec![
                line("above the threshold", |p| p.above_high as f64),
                line("above the lower one", |p| p.above_low as f64),
            ],
            limits: Vec::new(),
            from_zero: true,
        },
        Plot {
            name: "temperature",
            axes: [time, "T / K"],
            lines: vec![line("", |p| p.temperature)],
            limits: Vec::new(),
            from_zero: false,
        },
        Plot {
            name: "pressure",
            axes: [time, "p / GPa"],
            lines: vec![(String::new(), pressure)],
            limits: Vec::new(),
            from_zero: false,
        },
        Plot {
            name: "volume",
            axes: [time, "V / Å³"],
            lines: vec![line("", |p| p.volume)],
            limits: Vec::new(),
            from_zero: false,
        },
        Plot {
            name: "energy",
            axes: [time, unit],
            lines: vec![(String::new(), energy)],
            limits: Vec::new(),
            from_zero: false,
        },
    ]
}

/// The strength of the bias, and the number of environments found, of an exploration.
fn of_exploration(part: &Part) -> Vec<Plot<'static>> {
    if !part.is_biased() {
        return Vec::new();
    }
    let time = "time / ps";
    let mut steps = vec![(part.series.points().first().map_or(0.0, |p| p.time), 0.0)];
    for (before, at) in part.found.iter().filter_map(|step| part.series.time_of(*step)).enumerate() {
        steps.extend([(at, before as f64), (at, before as f64 + 1.0)]);
    }
    steps.extend(part.series.points().last().map(|p| (p.time, part.found.len() as f64)));
    let plot =
        |name, axes, line| Plot { name, axes, lines: vec![(String::new(), line)], limits: Vec::new(), from_zero: true };
    vec![
        plot("bias", [time, "strength of the bias / eV"], column(part, |p| p.bias)),
        plot("found", [time, "environments found"], steps),
    ]
}

/// The radial distribution functions and the mean square displacements, if there is a trajectory.
fn of_trajectory(part: &Part) -> Vec<Plot<'static>> {
    let Some(trajectory) = &part.trajectory else { return Vec::new() };
    let curve = |x: &[Option<f64>], y: &[Option<f64>]| -> Vec<(f64, f64)> {
        x.iter().zip(y).filter_map(|(x, y)| Some(((*x)?, (*y)?))).collect()
    };
    let mut plots = Vec::new();
    let mut push = |name, axes, lines| plots.push(Plot { name, axes, lines, limits: Vec::new(), from_zero: true });
    if let Some(radial) = trajectory.radial() {
        let lines = radial.pairs.iter().map(|(name, g)| (name.clone(), curve(&radial.r, g))).collect();
        push("radial", ["r / Å", "g(r)"], lines);
    }
    if let Some(displacement) = trajectory.displacement() {
        let of_element = |e: &super::trajectory::ElementView| (e.name.to_owned(), curve(&displacement.time, &e.msd));
        push("displacement", ["time / ps", "MSD / Å²"], displacement.elements.iter().map(of_element).collect());
    }
    plots
}

/// Histogram of γ of all atoms at all polls, as a step function. The numbers are shown on a logarithmic axis.
fn histogram(part: &Part, thresholds: &[f64]) -> Plot<'static> {
    let mut steps: Vec<(f64, f64)> = Vec::new();
    for (low, high, n) in part.series.histogram().filter(|bin| bin.0 >= 0.0 && bin.1 < MAX_VALUE) {
        if let Some((end, _)) = steps.last().copied().filter(|(end, _)| *end < low) {
            steps.extend([(end, 0.5), (low, 0.5)]);
        }
        steps.extend([(low, n as f64), (high, n as f64)]);
    }
    let top = steps.iter().fold(1.0_f64, |top, (_, n)| top.max(*n));
    let mut lines = vec![("atoms at all polls".to_owned(), steps)];
    // Thresholds are vertical lines here.
    lines.extend(thresholds.iter().map(|t| (format!("threshold {t}"), vec![(*t, 0.5), (*t, top)])));
    Plot { name: "histogram", axes: ["γ", "atoms"], lines, limits: Vec::new(), from_zero: false }
}

/// Renders a plot as SVG and PNG.
fn save(plot: &Plot<'_>, suffix: &str) -> Result<[(String, Vec<u8>); 2], PlotError> {
    let name = format!("{}{suffix}", plot.name);
    let failed = |message: &dyn Display| PlotError { name: name.clone(), message: message.to_string() };
    let svg = render(plot).map_err(|error| failed(&error))?;
    let png = rasterise(&svg).map_err(|error| failed(&error))?;
    Ok([(format!("{name}.svg"), svg.into_bytes()), (format!("{name}.png"), png)])
}

/// A PNG of an SVG of the size [`SIZE`].
pub(super) fn rasterise(svg: &str) -> Result<Vec<u8>, String> {
    let mut options = usvg::Options { font_family: FAMILY.into(), ..usvg::Options::default() };
    options.fontdb_mut().load_font_data(FONT.to_vec());
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| error.to_string())?;
    let (width, height) = (SIZE.0 as f32 * PNG_SCALE, SIZE.1 as f32 * PNG_SCALE);
    let mut image = tiny_skia::Pixmap::new(width as u32, height as u32).ok_or("it is too large")?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(PNG_SCALE, PNG_SCALE), &mut image.as_mut());
    image.encode_png().map_err(|error| error.to_string())
}

fn render(plot: &Plot<'_>) -> Result<String, String> {
    let mut svg = String::new();
    draw_on(&SVGBackend::with_string(&mut svg, SIZE).into_drawing_area(), plot).map_err(|error| error.to_string())?;
    Ok(svg)
}

fn draw_on<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    plot: &Plot<'_>,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    area.fill(&WHITE)?;
    let all = || plot.lines.iter().flat_map(|(_, points)| points.iter().copied());
    let span = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high { (0.0, 1.0) } else { (low, high) }
    };
    let (left, right) = span(&mut all().map(|(x, _)| x));
    let (low, high) = span(&mut all().map(|(_, y)| y).chain(plot.limits.iter().copied()));
    // Logarithmic if the values span several decades: γ that diverges, and counts of a histogram.
    let counts = plot.name == "histogram";
    let log = low > 0.0 && (counts || plot.from_zero && !plot.limits.is_empty() && high > 100.0);
    let at = |y: f64| if log { y.max(1e-300).log10() } else { y };
    let (bottom, top) = match (log, plot.from_zero) {
        (true, _) => (at(low) - 0.1, at(high) + 0.1),
        (false, true) => (0.0, if high > 0.0 { high * 1.08 } else { 1.0 }),
        (false, false) => {
            let margin = 0.05 * (high - low).max(1e-9 * high.abs()).max(1e-12);
            (low - margin, high + margin)
        }
    };
    let right = if right > left { right } else { left + 1.0 };
    let font = |size: u32| (FAMILY, size).into_font();
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(20)
        .x_label_area_size(46)
        .y_label_area_size(70)
        .build_cartesian_2d(left..right, bottom..top)?;
    chart
        .configure_mesh()
        .x_desc(plot.axes[0])
        .y_desc(plot.axes[1])
        .axis_desc_style(font(16))
        .label_style(font(13))
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(228, 228, 228))
        .y_label_formatter(&|y| match log {
            // Labels at integer powers of ten only.
            true if (y - y.round()).abs() > 1e-6 => String::new(),
            true => label(10_f64.powf(y.round())),
            false => label(*y),
        })
        .x_label_formatter(&|x| label(*x))
        .draw()?;
    for limit in &plot.limits {
        chart.draw_series(DashedLineSeries::new(
            [(left, at(*limit)), (right, at(*limit))],
            6,
            4,
            LIMIT.stroke_width(1),
        ))?;
    }
    for (k, (name, points)) in plot.lines.iter().enumerate() {
        let colour = if counts && k > 0 { LIMIT } else { COLOURS[k % COLOURS.len()] };
        let points = points.iter().map(|&(x, y)| (x, at(y)));
        let drawn = chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
        if !name.is_empty() {
            drawn
                .label(name.as_str())
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
    }
    if plot.lines.iter().any(|(name, _)| !name.is_empty()) {
        chart
            .configure_series_labels()
            .position(match plot.name {
                "histogram" | "radial" => SeriesLabelPosition::UpperRight,
                "displacement" => SeriesLabelPosition::LowerRight,
                _ => SeriesLabelPosition::UpperLeft,
            })
            .label_font(font(13))
            .background_style(WHITE.mix(0.8))
            .draw()?;
    }
    area.present()
}

/// Formats a number on an axis with as few digits as possible.
pub(super) fn label(value: f64) -> String {
    let rounded: f64 = format!("{value:.3e}").parse().unwrap_or(value);
    if rounded != 0.0 && !(1e-3..1e5).contains(&rounded.abs()) { format!("{rounded:e}") } else { rounded.to_string() }
}

/// Largest number of points of a scatter plot. Of more, equally spaced ones are drawn.
const MAX_POINTS: usize = 4000;

/// A scatter plot with two logarithmic axes of the same range, and the line of equal values. Returns SVG and PNG.
///
/// # Errors
/// [`PlotError`].
pub(super) fn diagonal(name: &str, axes: [&str; 2], points: &[(f64, f64)]) -> Result<(String, Vec<u8>), PlotError> {
    let failed = |message: &dyn Display| PlotError { name: name.to_owned(), message: message.to_string() };
    let mut svg = String::new();
    draw_diagonal(&SVGBackend::with_string(&mut svg, SIZE).into_drawing_area(), axes, points)
        .map_err(|error| failed(&error))?;
    let png = rasterise(&svg).map_err(|error| failed(&error))?;
    Ok((svg, png))
}

fn draw_diagonal<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    axes: [&str; 2],
    points: &[(f64, f64)],
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    area.fill(&WHITE)?;
    let shown = || points.iter().step_by(points.len().div_ceil(MAX_POINTS).max(1));
    let values = || shown().flat_map(|&(x, y)| [x, y]).filter(|v| *v > 0.0 && *v < MAX_VALUE);
    let top = values().fold(f64::MIN_POSITIVE, f64::max) * 1.3;
    // Errors far below all others would leave little room for the rest.
    let bottom = (values().fold(top, f64::min) / 1.3).max(top * 1e-5);
    let font = |size: u32| (FAMILY, size).into_font();
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(20)
        .x_label_area_size(46)
        .y_label_area_size(70)
        .build_cartesian_2d((bottom..top).log_scale(), (bottom..top).log_scale())?;
    chart
        .configure_mesh()
        .x_desc(axes[0])
        .y_desc(axes[1])
        .axis_desc_style(font(16))
        .label_style(font(13))
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(228, 228, 228))
        .x_label_formatter(&|x| label(*x))
        .y_label_formatter(&|y| label(*y))
        .draw()?;
    let pale = COLOURS[0].mix(0.35);
    chart.draw_series(
        shown().map(|&(x, y)| Circle::new((x.clamp(bottom, top), y.clamp(bottom, top)), 2, pale.filled())),
    )?;
    chart.draw_series(DashedLineSeries::new([(bottom, bottom), (top, top)], 6, 4, LIMIT.stroke_width(1)))?;
    area.present()
}
