// SPDX-License-Identifier: GPL-2.0-or-later
//! Renders the HTML page, which contains its style, scripts and data.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tera::{Context, Tera};

use super::{Part, Report};
use crate::candidates::Round;
use crate::runner::files;

const TEMPLATE: &str = include_str!("../../templates/report/report.html.j2");
const STYLE: &str = include_str!("../../templates/report/report.css");
const SCRIPTS: [&str; 3] = [
    include_str!("../../vendor/uplot/uPlot.iife.min.js"),
    include_str!("../../templates/report/cluster.js"),
    include_str!("../../templates/report/report.js"),
];
const PLOT_STYLE: &str = include_str!("../../vendor/uplot/uPlot.min.css");

/// The page. With `reload`, it reloads itself at this interval.
pub(super) fn render(report: &Report, reload: Option<Duration>) -> String {
    let mut data = json!(report);
    data["reload"] = json!(reload.map(|interval| interval.as_secs_f64()));
    // The template gets text only, because the files of a run may contain any values.
    let mut context = Context::new();
    for key in ["name", "kind", "status", "ending", "made_by", "stored", "notes"] {
        context.insert(key, &data[key]);
    }
    context.insert("parts", &report.parts.iter().map(|part| [&part.name, &part.status]).collect::<Vec<_>>());
    context.insert("shown", &report.candidates.len());
    context.insert("warnings", &texts(&report.result["warnings"]));
    context.insert("rounds", &report.rounds.iter().map(round).collect::<Vec<_>>());
    context.insert("checks", &report.rounds.iter().flat_map(check_rows).collect::<Vec<_>>());
    context.insert("errors", &report.errors.rows());
    // A page without these plots is better than none.
    let plots = report.errors.plots(report.tolerated()).unwrap_or_default();
    context.insert("error_plots", &plots.iter().map(|plot| [plot.caption, &plot.svg]).collect::<Vec<_>>());
    context.insert("ensemble", &report.provenance["config"]["ensemble"].as_str().unwrap_or(""));
    context.insert("reload", &reload.map(|interval| format!("{}", interval.as_secs_f64())));
    context.insert("made", &now());
    context.insert("trajectory", &report.parts.iter().any(|part| part.trajectory.is_some()));
    context.insert("facts", &facts(report));
    context.insert("settings", &settings(&report.provenance["config"]));
    context.insert("versions", &versions(report));
    context.insert("provenance_file", files::PROVENANCE);
    context.insert("style", &format!("{PLOT_STYLE}\n{STYLE}"));
    context.insert("script", &SCRIPTS.join("\n"));
    // Only `</` can end a script element; other content of it is not parsed as HTML.
    context.insert("data", &data.to_string().replace('<', "\\u003c"));
    let mut tera = Tera::default();
    // Tera escapes values because the name of the template ends with `.html`.
    tera.add_raw_template("report.html", TEMPLATE).expect("a template that the tests have filled");
    tera.render("report.html", &context).expect("a template that the tests have filled")
}

/// The strings of a JSON array; empty if it is not an array.
fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// A row of the table of rounds.
fn round(round: &Round) -> [String; 14] {
    let known = |value: Option<String>| value.unwrap_or_default();
    // The report of a trainer may contain any values.
    let error = |key: &str, digits: usize| known(round.report[key].as_f64().map(|x| format!("{x:.digits$}")));
    let milli = |error: Option<f64>| known(error.map(|error| format!("{:.1}", 1e3 * error)));
    [
        round.number.to_string(),
        round.from.to_string(),
        round.reached.to_string(),
        round.events.to_string(),
        known(round.first_event.map(|step| step.to_string())),
        known(round.gamma_max.map(|gamma| format!("{gamma:.2}"))),
        round.stored.to_string(),
        round.labelled.to_string(),
        round.failed.to_string(),
        milli(round.force_rmse_before),
        milli(round.force_rmse_after),
        milli(round.audit.map(|audit| audit.force_rmse)),
        error("force_rmse_mev_per_angstrom", 1),
        round.ending(),
    ]
}

/// Rows of the table of checks: the errors of the potential of a round.
fn check_rows(round: &Round) -> impl Iterator<Item = [String; 9]> {
    let number = round.number;
    round.checks.iter().map(move |check| {
        let known = |value: Option<f64>, digits: usize| value.map_or(String::new(), |x| format!("{x:.digits$}"));
        [
            number.to_string(),
            check.name.clone(),
            format!("{:.1}", 1e3 * check.force_rmse),
            format!("{:.1}", 1e3 * check.force_max),
            check.gamma_max.map_or("inf".into(), |gamma| format!("{gamma:.2}")),
            known(check.difference.map(|d| d.label), 4),
            known(check.difference.map(|d| d.prediction), 4),
            known(check.difference.map(|d| 100.0 * d.relative_error()), 1),
            check.failures.join("; "),
        ]
    })
}

/// The key figures at the top of the page: name and value.
fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let finite = |x: f64| if x.is_finite() { format!("{x:.3}") } else { "not finite".into() };
    let points = || report.parts.iter().flat_map(|part| part.series.points());
    let gamma = points().map(|p| p.gamma_max).filter(|g| !g.is_nan()).fold(f64::NAN, f64::max);
    facts.push(("largest γ", if gamma.is_nan() { "not monitored".to_owned() } else { finite(gamma) }));
    if let (Some(low), Some(high)) = (report.low, report.high) {
        facts.push(("thresholds", format!("{low} and {high}")));
    }
    facts.push(("candidates", report.stored.to_string()));
    let atoms = report.parts.iter().find_map(|part| part.atoms).or(report.result["atoms"].as_u64());
    facts.extend(atoms.map(|n| ("atoms", n.to_string())));
    let end = report.parts.iter().filter_map(|p| p.series.points().last()).map(|p| p.time).fold(0.0, f64::max);
    facts.push(("simulated", format!("{end:.3} ps")));
    // Only for explorations, which are compared by it.
    let found: usize = report.parts.iter().map(|part| part.found.len()).sum();
    let duration = |part: &Part| Some(part.series.points().last()?.time - part.series.points().first()?.time);
    let simulated: f64 = report.parts.iter().filter_map(duration).sum();
    if report.parts.iter().any(Part::is_biased) && simulated > 0.0 {
        facts.push(("environments found per ps", format!("{:.3}", found as f64 / simulated)));
    }
    facts.push(("polls", report.parts.iter().map(|p| p.series.polls()).sum::<u64>().to_string()));
    let (low, high) =
        points().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), p| (low.min(p.coldest), high.max(p.hottest)));
    if low <= high {
        facts.push(("temperature", format!("{low:.0} to {high:.0} K")));
    }
    facts.extend(report.result["seconds"].as_f64().map(|s| ("wall time", format!("{s:.1} s"))));
    let ranks = report.provenance["ranks"].as_u64().or(report.result["ranks"].as_u64());
    facts.extend(ranks.map(|n| ("MPI ranks", n.to_string())));
    facts
}

/// The present time in UTC.
fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// The settings as TOML; empty if they are unknown.
fn settings(config: &Value) -> String {
    let mut config = config.clone();
    drop_null(&mut config);
    match &config {
        Value::Object(_) => toml::to_string_pretty(&config).unwrap_or_else(|_| format!("{config:#}")),
        _ => String::new(),
    }
}

/// Removes null values, because TOML has none.
fn drop_null(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_null);
        }
        Value::Array(list) => {
            list.retain(|value| !value.is_null());
            list.iter_mut().for_each(drop_null);
        }
        _ => {}
    }
}

/// Versions and other properties of the run: name and value.
fn versions(report: &Report) -> Vec<(&'static str, String)> {
    let known = &report.provenance;
    let text = |key: &str| known[key].as_str().map(str::to_owned);
    let mut versions = Vec::new();
    versions.extend(text("version").map(|v| ("lammps-otf", v)));
    versions.extend(known["lammps"].as_i64().map(|v| ("LAMMPS", v.to_string())));
    versions.extend(text("mpi").map(|v| ("MPI", v)));
    versions.extend(text("potential_hash").map(|v| ("potential (fingerprint)", v)));
    versions.extend(known["started"].as_u64().map(|seconds| {
        // Limited to the range of dates that can be formatted.
        let started = UNIX_EPOCH + Duration::from_secs(seconds.min(1 << 36));
        ("started", humantime::format_rfc3339_seconds(started).to_string())
    }));
    versions.push(("this page", format!("lammps-otf {}, {}", report.made_by, now())));
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_trainers_may_contain_any_values() {
        let report = json!({"energy_rmse_mev_per_atom": "n/a", "force_rmse_mev_per_angstrom": [1]});
        let line = round(&Round { report, ..Round::begin(1, "hash", None, 0) });
        assert_eq!((line[9].as_str(), line[10].as_str()), ("", ""));
        assert_eq!(texts(&json!(3)), [""; 0]);
    }

    #[test]
    fn settings_are_toml_without_unset_keys() {
        let text = settings(&json!({"a": null, "t": {"x": [1, null]}, "b": 2.5, "c": "<script>"}));
        assert_eq!(text.parse::<toml::Table>().expect("TOML")["b"].as_float(), Some(2.5), "{text}");
        assert!(!text.contains("null") && text.contains("[t]"), "{text}");
        assert_eq!(settings(&Value::Null), "");
    }
}
