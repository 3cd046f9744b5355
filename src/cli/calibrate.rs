// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf calibrate`: force errors and γ of labelled structures.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use lammps_otf::calibration::{
    Bin, Calibration, CalibrationError, Group, Observed, Pair, QUANTILES, Threshold, bins, is_trained_on, min_regions,
    pairs_of_candidate,
};
use lammps_otf::candidates::{Candidate, Labels, Status, Store, StoreError, Trigger};
use lammps_otf::config::Potential;
use lammps_otf::io::{self, extxyz};
use lammps_otf::potential::fingerprint;
use lammps_otf::prediction::{PredictionError, Predictor, predictor};
use lammps_otf::report::{PlotError, calibration_plot};
use serde_json::{Value, json};

use super::files::{WriteError, write_atomically};
use super::table::{Align, table, texts};
use super::{Verbosity, print_line, print_warning};

/// Convert γ to a force error in eV/Å with labelled structures, and recommend a threshold.
///
/// Compares the forces of an ACE potential with the labels of candidate stores, or of extended XYZ files. Prints the force error
/// that an atom with a given γ does not exceed with the coverage, and the γ at which it passes a tolerated error. Structures on which
/// the potential was trained give errors that are too small: use audits or other held-back structures.
#[derive(Debug, clap::Args)]
pub(super) struct CalibrateArguments {
    /// Candidate stores, output folders of runs, or extended XYZ files with forces in eV/Å. Each frame of a file is a region; a
    /// column `force_mask` with 0 excludes atoms
    #[arg(required = true, value_name = "STORE|FILE")]
    from: Vec<PathBuf>,
    /// ACE potential (.yaml) with its active set (.asi) [default: the newest potential of the loop in the store]
    #[arg(short, long, value_name = "P.yaml")]
    potential: Option<PathBuf>,
    /// Active set [default: the potential with the extension .asi]
    #[arg(long, value_name = "P.asi", requires = "potential")]
    active_set: Option<PathBuf>,
    /// Share of the atoms whose force error is at most the bound
    #[arg(long, value_name = "C", default_value_t = 0.9, value_parser = parse_coverage)]
    coverage: f64,
    /// Tolerated force error, eV/Å, for which the threshold on γ is printed
    #[arg(long, value_name = "F", default_value_t = 0.15, value_parser = parse_positive, allow_negative_numbers = true)]
    force_error: f64,
    /// Only candidates with these triggers, e.g. audit or gamma,flag
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    trigger: Vec<String>,
    /// Of stores of a loop, only audits and candidates that were found with this potential, on which it was not trained
    #[arg(long)]
    held_out: bool,
    /// Instead of calibrating, compare with a calibration that --json has written: how many atoms have a force error within its
    /// bound. Give structures that were not used for it
    #[arg(long, value_name = "FILE", conflicts_with = "plot")]
    check: Option<PathBuf>,
    /// Write the calibration, the tables and the settings to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the force errors against γ; the extension is .svg, .png or .html
    #[arg(long, value_name = "FILE", value_parser = parse_plot)]
    plot: Option<PathBuf>,
}

/// There is no calibration.
#[derive(Debug, thiserror::Error)]
pub(super) enum CalibrateError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is a folder without candidates.db: give a candidate store or an extended XYZ file", .0.display())]
    NoStore(PathBuf),
    #[error("cannot use the potential {}: {source}", path.display())]
    Potential { path: PathBuf, source: PredictionError },
    #[error("cannot use the potential {}: there is no active set {}, so γ cannot be computed. Make it with `pace_activeset`, or give it with --active-set", path.display(), active_set.display())]
    ActiveSet { path: PathBuf, active_set: PathBuf },
    #[error("no potential is given, and none of the stores belongs to a loop: give it with --potential P.yaml")]
    NoPotential,
    #[error("the newest potential of the loop, {}, does not exist: give its place with --potential", .0.display())]
    Moved(PathBuf),
    #[error("there are no labelled structures to calibrate with: {0}")]
    Nothing(String),
    #[error("{} is not a calibration that --json has written: {source}", path.display())]
    NotCalibration { path: PathBuf, source: serde_json::Error },
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
    #[error(transparent)]
    Plot(#[from] PlotError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

fn parse_coverage(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.01..=0.999).contains(&value) => Ok(value),
        _ => Err("give a number from 0.01 to 0.999".to_owned()),
    }
}

fn parse_positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("give a positive number".to_owned()),
    }
}

fn parse_plot(name: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(name);
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("svg" | "png" | "html") => Ok(path),
        _ => Err("end the name with .svg, .png or .html".into()),
    }
}

/// γ at which the bound is printed.
const GAMMAS: [f64; 7] = [0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0];

/// Largest number of messages about single structures.
const MAX_MESSAGES: usize = 5;

/// Version of the JSON file.
const FORMAT: u32 = 1;

/// Pairs from all sources, and what was left out.
#[derive(Default)]
struct Collected {
    pairs: Vec<Pair>,
    /// Number of the next region.
    next_region: i64,
    structures: usize,
    unlabelled: usize,
    other_triggers: usize,
    trained: usize,
    /// Messages about structures that cannot be used.
    unusable: Vec<String>,
}

impl Collected {
    /// Adds the pairs of a labelled structure.
    fn add(
        &mut self,
        name: impl Fn() -> String,
        candidate: &Candidate,
        predictor: &mut Predictor,
    ) -> Result<(), PredictionError> {
        self.structures += 1;
        let region = self.next_region;
        match pairs_of_candidate(region, candidate, predictor) {
            Ok(found) if found.is_empty() => {
                self.unusable.push(format!("{}: no atom has a force mask above 0", name()))
            }
            Ok(found) => {
                self.next_region += 1;
                self.pairs.extend(found);
            }
            Err(error @ PredictionError::NoActiveSet) => return Err(error),
            Err(error) => self.unusable.push(format!("{}: {error}", name())),
        }
        Ok(())
    }

    /// Adds the labelled candidates of a store.
    fn add_store(
        &mut self,
        path: &Path,
        predictor: &mut Predictor,
        own: &str,
        args: &CalibrateArguments,
    ) -> Result<(), CalibrateError> {
        let store = Store::open_read_only(path)?;
        let own_round = store.potential(own)?.map(|record| record.round);
        for row in store.iter(None)? {
            let row = match row {
                Ok(row) => row,
                Err(error @ StoreError::InvalidRow { .. }) => {
                    self.unusable.push(error.to_string());
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if !row.is_labelled() || row.status == Some(Status::Rejected) {
                self.unlabelled += 1;
                continue;
            }
            let trigger = row.candidate.keys.trigger.as_ref().map_or("none", Trigger::as_str);
            // Checks are chosen by the user, and represent no population.
            let is_wanted =
                if args.trigger.is_empty() { !row.is_check() } else { args.trigger.iter().any(|t| t == trigger) };
            if !is_wanted {
                self.other_triggers += 1;
                continue;
            }
            let trained = is_trained_on(&row, &store, own_round)?;
            if trained {
                self.trained += 1;
                if args.held_out {
                    continue;
                }
            }
            let name = || format!("{}, candidate {}", path.display(), row.id);
            self.add(name, &row.candidate, predictor).map_err(|source| Self::potential_error(args, source))?;
        }
        Ok(())
    }

    /// Adds the frames of an extended XYZ file.
    fn add_frames(
        &mut self,
        path: &Path,
        predictor: &mut Predictor,
        args: &CalibrateArguments,
    ) -> Result<(), CalibrateError> {
        extxyz::for_each_labelled(path, |frame| {
            let Some(forces) = frame.results.forces else {
                self.unlabelled += 1;
                return Ok(());
            };
            let mut candidate = Candidate::new(frame.structure);
            // The energy is not used.
            let energy = frame.results.energy.unwrap_or(0.0);
            candidate.labels = Some(Labels { energy, free_energy: None, forces, stress: None, calculator: None });
            candidate.keys.trigger = Some(Trigger::Other("frame".into()));
            if let Some(mask) = frame.force_mask {
                candidate.force_mask = mask;
            }
            let name = || format!("{}, the frame at line {}", path.display(), frame.line);
            self.add(name, &candidate, predictor).map_err(|source| Self::potential_error(args, source))
        })
    }

    fn potential_error(args: &CalibrateArguments, source: PredictionError) -> CalibrateError {
        CalibrateError::Potential { path: args.potential.clone().unwrap_or_default(), source }
    }

    /// Why there are no pairs.
    fn nothing(&self) -> String {
        let reasons = [
            (self.unlabelled, "without labels"),
            (self.other_triggers, "with other triggers"),
            (self.trained, "on which the potential was trained"),
        ];
        let mut parts: Vec<String> =
            reasons.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        parts.extend(self.unusable.first().cloned());
        if parts.is_empty() { "the sources are empty".into() } else { parts.join(", ") }
    }

    fn warnings(&self, args: &CalibrateArguments, calibration: &Calibration) -> Vec<String> {
        let mut warnings: Vec<String> = self.unusable.iter().take(MAX_MESSAGES).cloned().collect();
        if self.unusable.len() > MAX_MESSAGES {
            warnings.push(format!("{} structures in total cannot be used", self.unusable.len()));
        }
        if self.trained > 0 && !args.held_out {
            warnings.push(format!(
                "{} of {} structures were found with earlier potentials of the loop, so this potential was probably trained on \
                 them: its errors there are too small. Leave them out with --held-out",
                self.trained, self.structures
            ));
        }
        let least = min_regions(args.coverage);
        if calibration.regions() < least {
            warnings.push(format!(
                "{} regions are too few for a bound with coverage {}: label at least {least}, or lower --coverage",
                calibration.regions(),
                args.coverage
            ));
        }
        for group in calibration.groups_used(args.coverage).filter(|_| calibration.regions() >= least) {
            if group.exponent == 0.0 {
                warnings.push(format!(
                    "{}: the force error does not increase with γ, so the bound is the same for all γ",
                    group.name()
                ));
            }
        }
        warnings
    }
}

/// Reads the sources, calibrates, and prints the tables.
///
/// # Errors
/// [`CalibrateError`]. Nothing is written, unless writing itself fails.
pub(super) fn run(args: &CalibrateArguments, verbosity: Verbosity) -> Result<(), CalibrateError> {
    let sources: Vec<(PathBuf, bool)> = args.from.iter().map(|path| source(path)).collect::<Result<_, _>>()?;
    let potential = potential(args, &sources)?;
    let (file, active_set) = potential.pace_files().ok_or(CalibrateError::NoPotential)?;
    let unusable = |source| CalibrateError::Potential { path: file.clone(), source };
    let mut predictor = predictor(&potential).map_err(unusable)?;
    let hash = fingerprint(&potential).map_err(|source| CalibrateError::Read { path: file.clone(), source })?;
    if !predictor.potential().has_grade() {
        return Err(CalibrateError::ActiveSet { path: file, active_set });
    }
    let mut found = Collected::default();
    for (path, is_store) in &sources {
        if *is_store {
            found.add_store(path, &mut predictor, &hash, args)?;
        } else {
            found.add_frames(path, &mut predictor, args)?;
        }
    }
    if found.pairs.is_empty() {
        return Err(CalibrateError::Nothing(found.nothing()));
    }
    if let Some(path) = &args.check {
        return check(path, args, &found, &hash);
    }
    let calibration = Calibration::fit(&found.pairs)?;
    let warnings = found.warnings(args, &calibration);
    let bins = bins(&found.pairs);
    if let Some(path) = &args.plot {
        let plot = calibration_plot(&found.pairs, &calibration, args.coverage, Some(args.force_error))?;
        let content = match path.extension().and_then(|ending| ending.to_str()) {
            Some("png") => plot.png,
            Some("html") => page(&plot.svg).into_bytes(),
            _ => plot.svg.into_bytes(),
        };
        write_atomically(path, |out| out.write_all(&content))?;
    }
    if let Some(path) = &args.json {
        let report = json!({
            "format": FORMAT,
            "potential": { "file": file, "active_set": active_set, "hash": hash },
            "sources": sources.iter().map(|(path, _)| path).collect::<Vec<_>>(),
            "coverage": args.coverage,
            "force_error": args.force_error,
            "regions": calibration.regions(),
            "pairs": calibration.pairs(),
            "triggers": triggers(&found.pairs),
            "bins": bins,
            "bounds": calibration.groups().iter().map(|group| bounds(group, args)).collect::<Vec<_>>(),
            "threshold": calibration.threshold(args.force_error, args.coverage),
            "warnings": warnings,
            "calibration": calibration,
        });
        write_atomically(path, |out| writeln!(out, "{report:#}"))?;
    }
    if verbosity != Verbosity::Quiet {
        print_line(&format!(
            "{}: {} regions with {} atoms\n",
            file.display(),
            calibration.regions(),
            calibration.pairs()
        ));
        print_line(&trigger_table(&found.pairs));
        print_line(&bin_table(&bins, &calibration, args.coverage));
        print_line(&bound_table(&calibration, args));
    }
    print_line(&conclusion(&calibration, args));
    warnings.iter().for_each(|warning| print_warning(warning));
    Ok(())
}

/// Coverages that are compared with the observed ones.
const COVERAGES: [f64; 3] = [0.8, 0.9, 0.95];

/// Compares the errors with the bounds of a stored calibration.
fn check(path: &Path, args: &CalibrateArguments, found: &Collected, hash: &str) -> Result<(), CalibrateError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| CalibrateError::Read { path: path.to_owned(), source })?;
    let stored: Stored = serde_json::from_str(&text)
        .map_err(|source| CalibrateError::NotCalibration { path: path.to_owned(), source })?;
    if stored.potential.hash != hash {
        print_warning(&format!("{} was made for another potential, whose errors differ", path.display()));
    }
    let calibration = stored.calibration;
    let mut rows = vec![texts(&["atoms", "regions", "number", "coverage", "observed", "deviation"])];
    let mut values = Vec::new();
    for group in calibration.groups() {
        for coverage in COVERAGES {
            let members = found.pairs.iter().filter(|pair| group.contains(pair));
            let bound = |pair: &Pair| group.bound(pair.gamma, coverage);
            let Some(observed) = Observed::of(members, coverage, group.scored_regions, bound) else { continue };
            rows.push(vec![
                group.name(),
                observed.regions.to_string(),
                observed.pairs.to_string(),
                coverage.to_string(),
                format!("{:.3}", observed.coverage),
                format!("{:.3}", observed.deviation),
            ]);
            values.push(json!({ "group": group.name(), "nominal": coverage, "observed": observed }));
        }
    }
    if let Some(path) = &args.json {
        let report = json!({ "format": FORMAT, "checked": values });
        write_atomically(path, |out| writeln!(out, "{report:#}"))?;
    }
    print_line(&format!(
        "Share of the atoms within the bound, and the deviation from the coverage that is expected at most for so few regions\n{}",
        table(&rows, Align::Right).trim_end()
    ));
    found.unusable.iter().take(MAX_MESSAGES).for_each(|message| print_warning(message));
    Ok(())
}

/// The part of the JSON file that is read again.
#[derive(serde::Deserialize)]
struct Stored {
    potential: StoredPotential,
    calibration: Calibration,
}

#[derive(serde::Deserialize)]
struct StoredPotential {
    hash: String,
}

/// A source and whether it is a candidate store.
fn source(path: &Path) -> Result<(PathBuf, bool), CalibrateError> {
    if path.is_dir() {
        let store = path.join("candidates.db");
        return if store.is_file() { Ok((store, true)) } else { Err(CalibrateError::NoStore(path.to_owned())) };
    }
    let wrap = |source| CalibrateError::Read { path: path.to_owned(), source };
    let mut start = Vec::new();
    File::open(path).map_err(wrap)?.take(16).read_to_end(&mut start).map_err(wrap)?;
    Ok((path.to_owned(), start.starts_with(b"SQLite format 3")))
}

/// The given potential, or the newest one of a loop.
fn potential(args: &CalibrateArguments, sources: &[(PathBuf, bool)]) -> Result<Potential, CalibrateError> {
    if let Some(file) = &args.potential {
        return Ok(Potential::ace(file.clone(), args.active_set.clone()));
    }
    for (path, _) in sources.iter().filter(|(_, is_store)| *is_store) {
        if let Some(record) = Store::open_read_only(path)?.newest_potential()? {
            // The folder of the loop may have been moved, or the path may be relative to another folder.
            let beside = |file: &Path, names: usize| {
                let mut last = file.components().rev().take(names).collect::<Vec<_>>();
                last.reverse();
                path.parent().unwrap_or(Path::new("")).join(last.into_iter().collect::<PathBuf>())
            };
            // `start/potential.yaml` or `round-001/potential/potential.yaml`.
            let places = [None, Some(2), Some(3)].map(|names| {
                let place = |file: &PathBuf| names.map_or_else(|| file.clone(), |names| beside(file, names));
                Potential::ace(place(&record.file), Some(place(&record.active_set)))
            });
            // Another loop may have taken the place.
            let same = |potential: &Potential| fingerprint(potential).is_ok_and(|hash| hash == record.hash);
            return places.into_iter().find(same).ok_or(CalibrateError::Moved(record.file));
        }
    }
    Err(CalibrateError::NoPotential)
}

/// Number of regions and of pairs, and force errors, by trigger and element.
fn triggers(pairs: &[Pair]) -> Vec<Value> {
    let mut groups: BTreeMap<(&str, &str), Vec<&Pair>> = BTreeMap::new();
    for pair in pairs {
        groups.entry((pair.trigger.as_str(), pair.element.symbol())).or_default().push(pair);
    }
    let summary = |((trigger, element), members): ((&str, &str), Vec<&Pair>)| {
        let squares: f64 = members.iter().map(|p| p.error * p.error).sum();
        let regions: std::collections::BTreeSet<i64> = members.iter().map(|p| p.region).collect();
        json!({
            "trigger": trigger,
            "element": element,
            "regions": regions.len(),
            "pairs": members.len(),
            "force_rmse": (squares / members.len() as f64).sqrt(),
            "force_max": members.iter().map(|p| p.error).fold(0.0, f64::max),
            "gamma_max": members.iter().map(|p| p.gamma).fold(0.0, f64::max),
        })
    };
    groups.into_iter().map(summary).collect()
}

/// The bounds of a group.
fn bounds(group: &Group, args: &CalibrateArguments) -> Value {
    let bound = |&gamma: &f64| json!({ "gamma": gamma, "bound": group.bound(gamma, args.coverage) });
    json!({
        "group": group.name(),
        "element": group.element,
        "kind": group.kind,
        "regions": group.regions,
        "scored_regions": group.scored_regions,
        "pairs": group.pairs,
        "gamma_max": group.gamma_max,
        "exponent": group.exponent,
        "bounds": GAMMAS.iter().filter(|gamma| **gamma <= group.gamma_max).map(bound).collect::<Vec<_>>(),
        "threshold": group.threshold(args.force_error, args.coverage),
    })
}

fn trigger_table(pairs: &[Pair]) -> String {
    let mut rows = vec![texts(&["trigger", "element", "regions", "atoms", "force rmse", "largest", "largest γ"])];
    for group in triggers(pairs) {
        let text = |key: &str| group[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str, digits: usize| format!("{:.digits$}", group[key].as_f64().unwrap_or(f64::NAN));
        rows.push(vec![
            text("trigger"),
            text("element"),
            number("regions", 0),
            number("pairs", 0),
            number("force_rmse", 3),
            number("force_max", 3),
            number("gamma_max", 2),
        ]);
    }
    format!("Force errors, eV/Å\n{}", table(&rows, Align::Right))
}

fn bin_table(bins: &[Bin], calibration: &Calibration, coverage: f64) -> String {
    let mut header = texts(&["γ", "regions", "atoms", "force rmse"]);
    header.extend(QUANTILES.map(|q| format!("{} %", 100.0 * q)));
    header.push("bound".into());
    let mut rows = vec![header];
    for bin in bins {
        let range = bin.to.map_or_else(|| format!("above {}", bin.from), |to| format!("{} to {to}", bin.from));
        let mut row = vec![range, bin.regions.to_string(), bin.pairs.to_string(), format!("{:.3}", bin.force_rmse)];
        row.extend(bin.quantiles.map(|q| format!("{q:.3}")));
        let bound = |gamma| calibration.bound(gamma, coverage).map(|bound| format!("{bound:.3}"));
        row.push(match (bound(bin.from), bin.to.and_then(bound)) {
            (Some(from), Some(to)) => format!("{from} to {to}"),
            (Some(from), None) => format!("above {from}"),
            _ => "-".into(),
        });
        rows.push(row);
    }
    format!(
        "Force errors in intervals of γ, eV/Å: quantiles over the atoms, and the bound with coverage {coverage}\n{}",
        table(&rows, Align::Right)
    )
}

fn bound_table(calibration: &Calibration, args: &CalibrateArguments) -> String {
    let mut header = texts(&["atoms", "regions", "number"]);
    header.extend(GAMMAS.map(|gamma| format!("γ = {gamma}")));
    header.push(format!("γ for {}", args.force_error));
    let mut rows = vec![header];
    for group in calibration.groups() {
        let mut row = vec![group.name(), group.regions.to_string(), group.pairs.to_string()];
        row.extend(GAMMAS.map(|gamma| {
            let bound = group.bound(gamma, args.coverage).filter(|_| gamma <= group.gamma_max);
            bound.map_or_else(|| "-".to_owned(), |bound| format!("{bound:.3}"))
        }));
        row.push(match group.threshold(args.force_error, args.coverage) {
            Some(Threshold::Gamma(gamma)) => format!("{gamma:.2}"),
            Some(Threshold::LargestGamma(gamma)) => format!("{gamma:.2} (largest)"),
            Some(Threshold::AboveAtZero(_)) => "none".into(),
            None => "too few regions".into(),
        });
        rows.push(row);
    }
    format!(
        "Force error that an atom with this γ does not exceed with coverage {}, eV/Å (- where there are no data)\n{}",
        args.coverage,
        table(&rows, Align::Right)
    )
}

/// The threshold in one sentence.
fn conclusion(calibration: &Calibration, args: &CalibrateArguments) -> String {
    let (error, coverage) = (args.force_error, args.coverage);
    let names: Vec<String> = calibration.groups_used(coverage).map(Group::name).collect();
    let with = if names.len() > 1 { format!(", the lowest of {}", names.join(", ")) } else { String::new() };
    match calibration.threshold(error, coverage) {
        Some(Threshold::Gamma(gamma)) => {
            format!("Threshold on γ for a force error of {error} eV/Å with coverage {coverage}: {gamma:.2}{with}.")
        }
        Some(Threshold::LargestGamma(gamma)) => format!(
            "Threshold on γ for a force error of {error} eV/Å with coverage {coverage}: {gamma:.2}{with}. It is the largest γ of the \
             data, at which the bound is still lower."
        ),
        Some(Threshold::AboveAtZero(bound)) => format!(
            "No threshold on γ for a force error of {error} eV/Å with coverage {coverage}: the bound is {bound:.3} eV/Å already at γ = 0."
        ),
        None => format!("No threshold on γ: there are too few regions for coverage {coverage}."),
    }
}

/// A page with the plot.
fn page(svg: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Calibration of γ</title></head>\n<body>\n{svg}\n\
         </body></html>\n"
    )
}
