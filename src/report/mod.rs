// SPDX-License-Identifier: GPL-2.0-or-later
//! Reports of runs and loops: one HTML page with plots and pictures of the candidates, and plots as files for publications.
//!
//! [`Report::read`] also reads the folders of runs that are in progress, were killed or were written by older versions, and of
//! all replicas of a run. No file is changed. For a replica, the shared store in the parent folder is read as well.
//!
//! [`Report::live_html`] is a page that reloads itself, for a folder in which a process works ([`Activity`]); [`Content`] tells whether
//! a new page is required.

mod activity;
mod calibration;
mod candidate;
mod errors;
mod page;
mod plots;
mod series;
mod trajectory;

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

pub use activity::{Activity, Content, has_result};
pub use calibration::{CalibrationPlot, calibration_plot};
pub use candidate::View;
pub use plots::PlotError;
pub use series::{Point, Series};

use crate::active_learning::{round_folders, run_folders};
use crate::candidates::{KeyValue, Phase, Round, RoundOutcome, Store, StoreError, StoredCandidate, Trigger};
use crate::io::{LineEnd, read_line};
use crate::runner::{files, poll_files};
use crate::simulation::{Guard, Poll};
use candidate::{ROWS, sort_and_cut};

/// Total number of points of all parts.
const POINTS: usize = 1500;
/// Maximum length in bytes of a line of `polls.jsonl`, and of `run.json` and `result.json`. Longer ones are not from this program.
const MAX_BYTES: u64 = 16 << 20;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The folder or a file in it.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The folder does not contain a run.
    #[error(
        "{} does not contain a run: there is neither polls.jsonl nor round-001/ nor replica-00/ in it. Give the folder that \
         `run` or `loop` wrote",
        .0.display()
    )]
    NoRun(PathBuf),
    /// The candidates cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The data of a report on a run or a loop.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Name of the folder.
    pub name: String,
    /// What the folder contains: a run, a loop, or replicas of a run.
    pub kind: Kind,
    /// Whether a process works in the folder.
    pub activity: Activity,
    /// The status, in a few words.
    pub status: String,
    /// Details of how the run ended, in one sentence; may be empty.
    pub ending: String,
    /// γ above which a poll is flagged; `None` if unknown.
    pub low: Option<f64>,
    /// γ above which a poll is an event; `None` if unknown.
    pub high: Option<f64>,
    /// The run, the rounds of the loop, or the replicas.
    pub parts: Vec<Part>,
    /// Rounds of a loop.
    pub rounds: Vec<Round>,
    /// The candidates in order of decreasing γ, limited in number.
    pub candidates: Vec<View>,
    /// Number of all candidates.
    pub stored: usize,
    /// Force errors of labelled candidates.
    #[serde(skip)]
    errors: errors::ForceErrors,
    /// Notes for the reader, such as lines that could not be read.
    pub notes: Vec<String>,
    /// `run.json`: settings, versions, number of ranks; null if there is none.
    pub provenance: Value,
    /// `result.json` of a run; null if there is none.
    pub result: Value,
    /// Version of lammps-otf that made the report.
    pub made_by: &'static str,
}

/// The content of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A run.
    Run,
    /// A loop.
    Loop,
    /// Several simulations with a shared store.
    Replicas,
}

/// A run, a round or a replica.
#[derive(Debug, Serialize)]
pub struct Part {
    /// `run`, `round 3`, `replica-00`.
    pub name: String,
    /// How it ended.
    pub status: String,
    /// Number of atoms, if known.
    pub atoms: Option<u64>,
    /// Its polls.
    pub series: Series,
    /// Steps of its candidates, except for audits, in order: the distinct environments that it has found.
    pub found: Vec<i64>,
    /// Its trajectory, if there is one.
    trajectory: Option<trajectory::View>,
}

impl Part {
    /// Whether it is a run of an exploration.
    fn is_biased(&self) -> bool {
        self.series.points().iter().any(|p| !p.bias.is_nan())
    }
}

impl Report {
    /// Reads the data of a report from a folder.
    ///
    /// # Errors
    /// [`Error`]. Lines of polls that cannot be read are counted in [`Report::notes`].
    pub fn read(folder: &Path) -> Result<Self, Error> {
        folder.read_dir().map_err(|source| Error::Read { path: folder.to_owned(), source })?;
        // Before the files, so that everything that a process wrote before it ended is read.
        let activity = Activity::of(folder);
        let (kind, folders) = part_folders(folder);
        let mut notes = Vec::new();
        let limit = (POINTS / folders.len()).max(50);
        let mut parts = Vec::new();
        let mut part_paths = Vec::new();
        for (path, name) in &folders {
            let Some(series) = read_polls(path, limit, &mut notes)? else { continue };
            let status = match kind {
                Kind::Loop => String::new(),
                Kind::Run => status_of(&json(&path.join(files::RESULT))?, activity),
                Kind::Replicas => status_of(&json(&path.join(files::RESULT))?, Activity::of(path)),
            };
            let (series, atoms) = series;
            parts.push(Part { name: name.clone(), status, atoms, series, found: Vec::new(), trajectory: None });
            part_paths.push(path);
        }
        if parts.is_empty() {
            return Err(Error::NoRun(folder.to_owned()));
        }
        let of_first = |name: &str| if kind == Kind::Replicas { folders[0].0.join(name) } else { folder.join(name) };
        let provenance = json(&of_first(files::PROVENANCE))?;
        let result = if kind == Kind::Run { json(&folder.join(files::RESULT))? } else { Value::Null };
        let setting = |key: &str| provenance["config"][key].as_f64();
        let count = parts.len();
        for (part, path) in parts.iter_mut().zip(part_paths) {
            // A mean over a ramp of the temperature is no property of the material.
            let ramp = match kind {
                Kind::Replicas => is_ramp(&json(&path.join(files::PROVENANCE))?["config"]["temperature"]),
                _ => is_ramp(temperature_of(&provenance["config"], path)),
            };
            part.trajectory = trajectory::View::read(path, &part.series, count, ramp, &mut notes);
        }
        let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let mut report = Self {
            name: absolute.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            kind,
            activity,
            status: String::new(),
            ending: String::new(),
            low: setting("uncertainty_low"),
            // That of a run whose threshold follows from a calibration is in its result.
            high: setting("uncertainty_threshold").or_else(|| result["threshold"].as_f64()),
            parts,
            rounds: Vec::new(),
            candidates: Vec::new(),
            stored: 0,
            errors: errors::ForceErrors::default(),
            notes,
            provenance,
            result,
            made_by: env!("CARGO_PKG_VERSION"),
        };
        let own = folder.join(files::CANDIDATES);
        // The candidates of a replica are in the shared store.
        let shared = folder.join("..").join(files::CANDIDATES);
        let replica = report.name.starts_with("replica-").then(|| report.name.clone());
        if own.is_file() {
            report.read_store(&own, None)?;
        } else if replica.is_some() && shared.is_file() {
            report.read_store(&shared, replica.as_deref())?;
        }
        report.set_ending(folder);
        Ok(report)
    }

    /// Reads the rounds and candidates of a store. `run_id` restricts the candidates to those of a replica.
    fn read_store(&mut self, path: &Path, run_id: Option<&str>) -> Result<(), Error> {
        let store = Store::open_read_only(path)?;
        if self.kind == Kind::Loop {
            self.rounds = store.rounds()?;
            for round in &self.rounds {
                let runs = round.runs.iter().map(|run| {
                    let status = run.outcome.map_or_else(|| "not over".into(), |outcome| outcome.to_string());
                    (part_name(round.number, Some(&run.name)), status)
                });
                for (name, status) in runs.chain([(part_name(round.number, None), round.ending())]) {
                    self.parts
                        .iter_mut()
                        .filter(|part| part.name == name)
                        .for_each(|part| part.status.clone_from(&status));
                }
            }
        }
        let mut shown: Vec<View> = Vec::new();
        for row in store.iter(None)? {
            let row = row?;
            // Checks are in a table of their own.
            if row.is_check() {
                continue;
            }
            if run_id.is_some_and(|id| row.keys().run_id.as_deref() != Some(id)) {
                continue;
            }
            self.stored += 1;
            self.errors.add(&row);
            let part = self.part_of(&row);
            if row.keys().trigger != Some(Trigger::Audit)
                && let (Some(step), Some(part)) = (row.keys().step, self.parts.get_mut(part))
            {
                part.found.push(step);
            }
            shown.push(View::of(&row, part));
            // Pictures are large, so all but the candidates with the largest γ are removed regularly.
            if shown.len() >= 2 * ROWS {
                sort_and_cut(&mut shown);
            }
        }
        sort_and_cut(&mut shown);
        self.candidates = shown;
        self.parts.iter_mut().for_each(|part| part.found.sort_unstable());
        Ok(())
    }

    /// The part that a candidate comes from.
    fn part_of(&self, row: &StoredCandidate) -> usize {
        let name = match self.kind {
            Kind::Run => return 0,
            Kind::Loop => {
                let round = row.keys().extra.get("round").and_then(KeyValue::as_i64);
                let run = row.keys().extra.get("run").and_then(KeyValue::as_text);
                part_name(round.and_then(|n| u32::try_from(n).ok()).unwrap_or(1), run)
            }
            Kind::Replicas => row.keys().run_id.clone().unwrap_or_default(),
        };
        self.parts.iter().position(|part| part.name == name).unwrap_or(0)
    }

    /// Sets the status and the ending.
    fn set_ending(&mut self, folder: &Path) {
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        (self.status, self.ending) = match self.kind {
            Kind::Run => (status_of(&self.result, self.activity), self.ending_of_run(folder)),
            Kind::Replicas => {
                let with = |status: &str| self.parts.iter().filter(|part| part.status == status).count();
                let all = count(self.parts.len(), "replica");
                let lost = match with(LOST) {
                    0 => String::new(),
                    n => format!("{n} ended without a result: killed, or ended with an error."),
                };
                match with(RUNNING) {
                    0 => (all, lost),
                    n => (format!("{all}, {n} {RUNNING}"), lost),
                }
            }
            Kind::Loop => {
                let done = self
                    .rounds
                    .last()
                    .is_some_and(|r| r.phase == Phase::Done && r.outcome == Some(RoundOutcome::Quiet));
                let labelled: usize = self.rounds.iter().map(|r| r.labelled).sum();
                let ending =
                    format!("{}, {}", count(self.rounds.len(), "round"), count(labelled, "candidate") + " labelled");
                let phase = activity::phase(&self.rounds);
                match self.activity {
                    _ if done => ("learned".into(), format!("The last run completed without an event: {ending}.")),
                    Activity::Running => (RUNNING.into(), format!("In {phase}: {ending} so far.")),
                    Activity::Ended => (
                        "not finished".into(),
                        format!(
                            "The loop has ended in {phase}: a limit was reached, it was interrupted or killed, or it failed. {ending} \
                             so far. The same command continues it."
                        ),
                    ),
                    Activity::Unknown => ("not finished".into(), format!("{ending} so far.")),
                }
            }
        };
    }

    fn ending_of_run(&self, folder: &Path) -> String {
        let result = &self.result;
        let step = &result["trigger_step"];
        match result["status"].as_str() {
            Some("UNCERTAIN") => {
                let gamma = result["gamma_max"].as_f64().map_or("not finite".to_owned(), |g| format!("{g:.2}"));
                let high = self.high.map_or(String::new(), |high| format!(" {high}"));
                let (last, atom) = (&result["last"], &result["atom_id"]);
                match last["trigger"].as_str() {
                    Some("core") => {
                        let share = last["core"]["max"].as_f64().unwrap_or_default();
                        format!(
                            "Core repulsion switched off {share:.3} of the terms of atom {atom} at step {step}; largest γ {gamma}."
                        )
                    }
                    Some("sparse") => {
                        format!("Atom {atom} had too few neighbours at step {step}: {}.", last["sparse"]["fewest"])
                    }
                    _ => format!("γ passed{high} at step {step}: {gamma} at atom {atom}."),
                }
            }
            Some("CRASHED") => {
                format!(
                    "The run crashed at step {step}: {}.",
                    result["crash"]["reason"].as_str().unwrap_or("").trim_end_matches('.')
                )
            }
            Some("GUARDED") => {
                let last = &result["last"];
                let guard = serde_json::from_value::<Guard>(last["bias"]["guard"].clone());
                let why = guard.map_or_else(|_| "its guard is unknown".to_owned(), |guard| guard.to_string());
                format!("A guard of the exploration ended the run at step {}: {why}.", last["step"])
            }
            Some("COMPLETED") => format!("All {} steps were done.", result["steps"]),
            Some("INTERRUPTED") => {
                format!("Stopped by a signal or by the wall-time limit after {} steps.", result["steps"])
            }
            _ => {
                let last = self.parts[0].series.points().last().map_or(0, |p| p.step);
                let at = format!("The last point starts at step {last}.");
                match self.activity {
                    Activity::Running => format!("The run is in progress. {at}"),
                    Activity::Ended => {
                        let error = activity::last_error(folder)
                            .map_or(String::new(), |e| format!(" LAMMPS's log ends with: {e}."));
                        format!(
                            "There is no result.json, and no process holds run.lock: the run was killed, or ended with an \
                             error.{error} {at}"
                        )
                    }
                    Activity::Unknown => {
                        format!("There is no result.json: the run is still in progress, or was killed. {at}")
                    }
                }
            }
        }
    }

    /// The tolerated force error in eV/Å and its coverage, if the threshold follows from one.
    fn tolerated(&self) -> Option<(f64, f64)> {
        let threshold = &self.provenance["config"]["uncertainty_threshold"];
        threshold["force_error"].as_f64().zip(threshold["coverage"].as_f64())
    }

    /// Renders the page as HTML without external resources.
    #[must_use]
    pub fn html(&self) -> String {
        page::render(self, None)
    }

    /// As [`Report::html`], for a folder whose report is made again: the page reloads itself at this interval, and keeps its position,
    /// zoom and selections.
    #[must_use]
    pub fn live_html(&self, interval: Duration) -> String {
        page::render(self, Some(interval))
    }

    /// Draws the main plots as SVG and PNG. Returns the name, without a folder, and the content of each file.
    ///
    /// # Errors
    /// [`PlotError`].
    pub fn plots(&self) -> Result<Vec<(String, Vec<u8>)>, PlotError> {
        plots::draw(self)
    }
}

/// The name of a round of a loop, or of one of its runs.
fn part_name(round: u32, run: Option<&str>) -> String {
    run.map_or_else(|| format!("round {round}"), |run| format!("round {round}, {run}"))
}

/// Status of a run in progress, and of one whose process has ended without a result.
const RUNNING: &str = "running";
const LOST: &str = "ended without a result";

fn status_of(result: &Value, activity: Activity) -> String {
    match (result["status"].as_str(), activity) {
        (Some("UNCERTAIN"), _) => "stopped for uncertainty".into(),
        (Some(other), _) => other.to_lowercase(),
        (None, Activity::Running) => RUNNING.into(),
        (None, Activity::Ended) => LOST.into(),
        (None, Activity::Unknown) => "no result yet".into(),
    }
}

/// The folders `PREFIX00`, `PREFIX01`, … that exist in a folder.
fn folders(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    (0..).map(|n| folder.join(format!("{prefix}{n:02}"))).take_while(|path| path.is_dir()).collect()
}

/// What a folder contains, and the folder and the name of each part of it.
fn part_folders(folder: &Path) -> (Kind, Vec<(PathBuf, String)>) {
    let file_name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if round_folders(folder).next().is_some() {
        let of_round = |(round, number): (PathBuf, u32)| {
            let folders = run_folders(&round);
            let named = move |path: PathBuf| {
                let name = (path != round).then(|| file_name(&path));
                (path, part_name(number, name.as_deref()))
            };
            folders.into_iter().map(named)
        };
        return (Kind::Loop, round_folders(folder).zip(1..).flat_map(of_round).collect());
    }
    let replicas = folders(folder, "replica-");
    if replicas.is_empty() {
        (Kind::Run, vec![(folder.to_owned(), "run".into())])
    } else {
        (Kind::Replicas, replicas.into_iter().map(|path| (path.clone(), file_name(&path))).collect())
    }
}

/// The temperature of the run in a folder of a loop, or of the only run, in the settings.
fn temperature_of<'c>(config: &'c Value, folder: &Path) -> &'c Value {
    let name = folder.file_name().and_then(|name| name.to_str());
    let runs = config["loop"]["run"].as_array().into_iter().flatten();
    let mut own = runs.filter(|run| run["name"].as_str() == name).map(|run| &run["temperature"]);
    own.find(|temperature| !temperature.is_null()).unwrap_or(&config["temperature"])
}

fn is_ramp(temperature: &Value) -> bool {
    temperature.as_array().is_some_and(|ends| ends.windows(2).any(|t| t[0] != t[1]))
}

/// Reads a JSON file. Returns null if it does not exist or is not valid JSON.
fn json(path: &Path) -> Result<Value, Error> {
    let reading = |source| Error::Read { path: path.to_owned(), source };
    let mut text = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(MAX_BYTES).read_to_end(&mut text).map_err(reading)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Value::Null),
        Err(error) => return Err(reading(error)),
    };
    Ok(serde_json::from_slice(&text).unwrap_or(Value::Null))
}

/// Reads the polls and the number of atoms of a run. `None` if there are no files with polls.
fn read_polls(folder: &Path, limit: usize, notes: &mut Vec<String>) -> Result<Option<(Series, Option<u64>)>, Error> {
    let (mut series, mut atoms) = (Series::new(limit), None);
    let paths = poll_files(folder).map_err(|source| Error::Read { path: folder.to_owned(), source })?;
    for path in &paths {
        let reading = |source| Error::Read { path: path.clone(), source };
        let file = match File::open(path) {
            Ok(file) => file,
            // The oldest file is removed while the run continues.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(reading(error)),
        };
        let mut file = BufReader::new(file);
        let (mut line, mut bad, mut why) = (Vec::new(), 0_u64, String::new());
        loop {
            line.clear();
            // A line without a newline is still being written.
            if read_line(&mut file, &mut line).map_err(reading)? == LineEnd::EndOfInput {
                break;
            }
            match serde_json::from_slice::<Poll>(&line) {
                Ok(poll) => {
                    atoms = atoms.or(poll.gamma.as_ref().map(|g| g.atoms));
                    series.push(&poll);
                }
                Err(error) => {
                    bad += 1;
                    why = error.to_string();
                }
            }
        }
        if bad > 0 {
            notes.push(format!("{}: {bad} lines could not be read ({why})", path.display()));
        }
    }
    Ok((!paths.is_empty()).then_some((series, atoms)))
}
