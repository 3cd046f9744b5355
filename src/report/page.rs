// SPDX-License-Identifier: GPL-2.0-or-later
//! The page: a template, filled; its style, its scripts and its data stand in it.

use serde_json::{Value, json};
use tera::{Context, Tera};

use super::Report;
use crate::runner::files;

const TEMPLATE: &str = include_str!("../../templates/report/report.html.j2");
const STYLE: &str = include_str!("../../templates/report/report.css");
const SCRIPTS: [&str; 3] = [
    include_str!("../../vendor/uplot/uPlot.iife.min.js"),
    include_str!("../../templates/report/cluster.js"),
    include_str!("../../templates/report/report.js"),
];
const PLOT_STYLE: &str = include_str!("../../vendor/uplot/uPlot.min.css");

pub(super) fn render(report: &Report) -> String {
    let mut context = Context::new();
    context.insert("report", &json!(report));
    context.insert("facts", &facts(report));
    context.insert("settings", &settings(&report.provenance["config"]));
    context.insert("versions", &versions(report));
    context.insert("provenance_file", files::PROVENANCE);
    context.insert("style", &format!("{PLOT_STYLE}\n{STYLE}"));
    context.insert("script", &SCRIPTS.join("\n"));
    // The one way out of a script element is `</`; nothing else in it is read as HTML.
    context.insert("data", &json!(report).to_string().replace('<', "\\u003c"));
    let mut tera = Tera::default();
    // The ending of the name is what makes Tera escape all that is filled in.
    tera.add_raw_template("report.html", TEMPLATE).expect("a template that the tests have filled");
    tera.render("report.html", &context).expect("a template that the tests have filled")
}

/// What stands at the top, as pairs.
fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let finite = |x: f64| if x.is_finite() { format!("{x:.3}") } else { "not finite".into() };
    let points = || report.parts.iter().flat_map(|part| part.series.points());
    let gamma = points().map(|p| p.gamma_max).filter(|g| !g.is_nan()).fold(f64::NAN, f64::max);
    facts.push(("largest γ", if gamma.is_nan() { "not watched".to_owned() } else { finite(gamma) }));
    if let (Some(low), Some(high)) = (report.low, report.high) {
        facts.push(("thresholds", format!("{low} and {high}")));
    }
    facts.push(("candidates", report.stored.to_string()));
    let atoms = report.parts.iter().find_map(|part| part.atoms).or(report.result["atoms"].as_u64());
    facts.extend(atoms.map(|n| ("atoms", n.to_string())));
    let end = report.parts.iter().filter_map(|p| p.series.points().last()).map(|p| p.time).fold(0.0, f64::max);
    facts.push(("simulated", format!("{end:.3} ps")));
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

/// The settings as TOML; empty if they are not known.
fn settings(config: &Value) -> String {
    let mut config = config.clone();
    drop_null(&mut config);
    match &config {
        Value::Object(_) => toml::to_string_pretty(&config).unwrap_or_else(|_| format!("{config:#}")),
        _ => String::new(),
    }
}

/// TOML has no null: what is not set is not there.
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

fn versions(report: &Report) -> Vec<(&'static str, String)> {
    let known = &report.provenance;
    let text = |key: &str| known[key].as_str().map(str::to_owned);
    let mut versions = Vec::new();
    versions.extend(text("version").map(|v| ("lammps-otf", v)));
    versions.extend(known["lammps"].as_i64().map(|v| ("LAMMPS", v.to_string())));
    versions.extend(text("mpi").map(|v| ("MPI", v)));
    versions.extend(text("potential_hash").map(|v| ("potential (fingerprint)", v)));
    versions.extend(known["started"].as_u64().map(|seconds| ("begun", date(seconds))));
    versions.push(("this page", format!("lammps-otf {}", report.made_by)));
    versions
}

/// Days since 1970 as a date; the algorithm is `civil_from_days` of H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn date(seconds: u64) -> String {
    let z = (seconds / 86_400) as i64 + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400 + 86_399), "2000-02-29 23:59 UTC");
        assert_eq!(date(1_795_528_800), "2026-11-24 14:00 UTC");
        assert_eq!(date(4_107_542_400), "2100-03-01 00:00 UTC");
    }

    #[test]
    fn settings_are_toml_without_what_is_not_set() {
        let text = settings(&json!({"a": null, "t": {"x": [1, null]}, "b": 2.5, "c": "<script>"}));
        assert_eq!(text.parse::<toml::Table>().expect("TOML")["b"].as_float(), Some(2.5), "{text}");
        assert!(!text.contains("null") && text.contains("[t]"), "{text}");
        assert_eq!(settings(&Value::Null), "");
    }
}
