// SPDX-License-Identifier: GPL-2.0-or-later
//! What a run or a loop has left in its folder, for people: one page with plots and pictures of the candidates, and plots for
//! papers.
//!
//! [`Report::read`] takes what is there: a run that goes on still, one that was killed, one of an older version, the folder
//! of all replicas of a run. Nothing is changed, and nothing but the folder is looked at.

mod candidate;
mod page;
mod plots;
mod series;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

pub use candidate::View;
pub use plots::PlotError;
pub use series::{Point, Series};

use crate::active_learning::round_folders;
use crate::candidates::{KeyValue, Phase, Round, Seen, Store, StoreError, StoredCandidate};
use crate::runner::{files, poll_files};
use crate::simulation::Poll;
use candidate::{ROWS, sort_and_cut};

/// Points of all parts together.
const POINTS: usize = 1500;
/// Bytes of a line of `polls.jsonl`, and of `run.json` and `result.json`. What is longer was not written by this program.
const LONGEST: u64 = 16 << 20;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The folder or a file in it.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// There is no run in the folder.
    #[error(
        "{} holds no run: there is neither polls.jsonl nor round-001/ nor replica-00/ in it; give the folder that `run` or \
         `loop` wrote",
        .0.display()
    )]
    Nothing(PathBuf),
    /// The candidates cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a run, or a loop, has seen and stored.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Name of the folder.
    pub name: String,
    /// What it is: a run, a loop, or replicas of a run.
    pub kind: Kind,
    /// How it ended, in a word or two.
    pub status: String,
    /// How it ended, in a sentence, where there is more to say.
    pub ending: String,
    /// γ above which a step is flagged; none if that is not known.
    pub low: Option<f64>,
    /// γ above which the potential is not to be trusted; none if that is not known.
    pub high: Option<f64>,
    /// The run; or each round of the loop, or each replica.
    pub parts: Vec<Part>,
    /// Rounds of a loop.
    pub rounds: Vec<Round>,
    /// The candidates, those with the largest γ first.
    pub candidates: Vec<View>,
    /// Number of all candidates.
    pub stored: usize,
    /// What else a reader should know, such as lines that could not be read.
    pub notes: Vec<String>,
    /// `run.json`: settings, versions, number of ranks; null if there is none.
    pub provenance: Value,
    /// `result.json` of a run; null if there is none.
    pub result: Value,
    /// Of this program, which makes the report.
    pub made_by: &'static str,
}

/// What a folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A run.
    Run,
    /// A loop.
    Loop,
    /// Several simulations with one store.
    Replicas,
}

/// A run, a round or a replica.
#[derive(Debug, Serialize)]
pub struct Part {
    /// `run`, `round 3`, `replica-00`.
    pub name: String,
    /// How it ended.
    pub status: String,
    /// Number of atoms, where known.
    pub atoms: Option<u64>,
    /// What it saw.
    pub series: Series,
}

impl Report {
    /// Reads all that a page needs.
    ///
    /// # Errors
    /// [`Error`]. Lines of polls that cannot be read are counted in [`Report::notes`].
    pub fn read(folder: &Path) -> Result<Self, Error> {
        folder.read_dir().map_err(|source| Error::Read { path: folder.to_owned(), source })?;
        let replicas = || (0..).map_while(|n| Some(folder.join(format!("replica-{n:02}"))).filter(|f| f.is_dir()));
        let (kind, folders): (_, Vec<PathBuf>) = if round_folders(folder).next().is_some() {
            (Kind::Loop, round_folders(folder).collect())
        } else if replicas().next().is_some() {
            (Kind::Replicas, replicas().collect())
        } else {
            (Kind::Run, vec![folder.to_owned()])
        };
        let mut notes = Vec::new();
        let limit = (POINTS / folders.len()).max(50);
        let mut parts = Vec::new();
        for (index, path) in folders.iter().enumerate() {
            let Some(series) = read_polls(path, limit, &mut notes)? else { continue };
            let name = match kind {
                Kind::Run => "run".to_owned(),
                Kind::Loop => round_name(index as u32 + 1),
                Kind::Replicas => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            };
            let status = if kind == Kind::Loop { String::new() } else { status_of(&json(&path.join(files::RESULT))?) };
            let (series, atoms) = series;
            parts.push(Part { name, status, atoms, series });
        }
        if parts.is_empty() {
            return Err(Error::Nothing(folder.to_owned()));
        }
        let of_first = |name: &str| if kind == Kind::Replicas { folders[0].join(name) } else { folder.join(name) };
        let provenance = json(&of_first(files::PROVENANCE))?;
        let result = if kind == Kind::Run { json(&folder.join(files::RESULT))? } else { Value::Null };
        let setting = |key: &str| provenance["config"][key].as_f64();
        let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let mut report = Self {
            name: absolute.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            kind,
            status: String::new(),
            ending: String::new(),
            low: setting("uncertainty_low"),
            high: setting("uncertainty_threshold"),
            parts,
            rounds: Vec::new(),
            candidates: Vec::new(),
            stored: 0,
            notes,
            provenance,
            result,
            made_by: env!("CARGO_PKG_VERSION"),
        };
        let own = folder.join(files::CANDIDATES);
        // A replica's candidates are in the store of all.
        let shared = folder.join("..").join(files::CANDIDATES);
        let replica = report.name.starts_with("replica-").then(|| report.name.clone());
        if own.is_file() {
            report.read_store(&own, None)?;
        } else if replica.is_some() && shared.is_file() {
            report.read_store(&shared, replica.as_deref())?;
        }
        report.tell_ending();
        Ok(report)
    }

    fn read_store(&mut self, path: &Path, run_id: Option<&str>) -> Result<(), Error> {
        let store = Store::open_read_only(path)?;
        if self.kind == Kind::Loop {
            self.rounds = store.rounds()?;
            for part in &mut self.parts {
                let round = self.rounds.iter().find(|round| part.name == round_name(round.number));
                let Some(round) = round else { continue };
                part.status = round.ending();
            }
        }
        let mut shown: Vec<View> = Vec::new();
        for row in store.iter(None)? {
            let row = row?;
            if run_id.is_some_and(|id| row.keys().run_id.as_deref() != Some(id)) {
                continue;
            }
            self.stored += 1;
            let part = self.part_of(&row);
            shown.push(View::of(&row, part));
            // Pictures are large; now and then all but the worst go.
            if shown.len() >= 2 * ROWS {
                sort_and_cut(&mut shown);
            }
        }
        sort_and_cut(&mut shown);
        self.candidates = shown;
        Ok(())
    }

    /// The part that a candidate comes from.
    fn part_of(&self, row: &StoredCandidate) -> usize {
        let name = match self.kind {
            Kind::Run => return 0,
            Kind::Loop => {
                let round = row.keys().extra.get("round").and_then(KeyValue::as_i64);
                round_name(round.and_then(|n| u32::try_from(n).ok()).unwrap_or(1))
            }
            Kind::Replicas => row.keys().run_id.clone().unwrap_or_default(),
        };
        self.parts.iter().position(|part| part.name == name).unwrap_or(0)
    }

    fn tell_ending(&mut self) {
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        (self.status, self.ending) = match self.kind {
            Kind::Run => (status_of(&self.result), self.ending_of_run()),
            Kind::Replicas => (count(self.parts.len(), "replica"), String::new()),
            Kind::Loop => {
                let done = self.rounds.last().is_some_and(|r| r.phase == Phase::Done && r.seen == Some(Seen::Quiet));
                let labelled: usize = self.rounds.iter().map(|r| r.labelled).sum();
                let ending =
                    format!("{}, {}", count(self.rounds.len(), "round"), count(labelled, "candidate") + " labelled");
                if done {
                    ("learned".into(), format!("The run holds nothing that the potential does not know: {ending}."))
                } else {
                    ("not over".into(), format!("{ending} so far."))
                }
            }
        };
    }

    fn ending_of_run(&self) -> String {
        let result = &self.result;
        let step = &result["trigger_step"];
        match result["status"].as_str() {
            Some("UNCERTAIN") => {
                let gamma = result["gamma_max"].as_f64().map_or("not finite".to_owned(), |g| format!("{g:.2}"));
                let high = self.high.map_or(String::new(), |high| format!(" {high}"));
                format!("γ passed{high} at step {step}: {gamma} at atom {}.", result["atom_id"])
            }
            Some("CRASHED") => {
                format!(
                    "It broke at step {step}: {}.",
                    result["crash"]["reason"].as_str().unwrap_or("").trim_end_matches('.')
                )
            }
            Some("COMPLETED") => format!("All {} steps were done.", result["steps"]),
            Some("INTERRUPTED") => format!("A signal or the wall-time limit, after {} steps.", result["steps"]),
            _ => {
                let last = self.parts[0].series.points().last().map_or(0, |p| p.step);
                format!(
                    "There is no result.json: it goes on still, or was killed. The last point begins at step {last}."
                )
            }
        }
    }

    /// The page: HTML that needs nothing but itself.
    #[must_use]
    pub fn html(&self) -> String {
        page::render(self)
    }

    /// Draws the main plots as SVG and PNG: name of the file, without a folder, and its content.
    ///
    /// # Errors
    /// [`PlotError`].
    pub fn plots(&self) -> Result<Vec<(String, Vec<u8>)>, PlotError> {
        plots::draw(self)
    }
}

fn round_name(number: u32) -> String {
    format!("round {number}")
}

fn status_of(result: &Value) -> String {
    match result["status"].as_str() {
        Some("UNCERTAIN") => "stopped for uncertainty".into(),
        Some(other) => other.to_lowercase(),
        None => "no result yet".into(),
    }
}

/// A file of JSON, or null if there is none or it is none.
fn json(path: &Path) -> Result<Value, Error> {
    let reading = |source| Error::Read { path: path.to_owned(), source };
    let mut text = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(LONGEST).read_to_end(&mut text).map_err(reading)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Value::Null),
        Err(error) => return Err(reading(error)),
    };
    Ok(serde_json::from_slice(&text).unwrap_or(Value::Null))
}

/// The polls of a run, and its number of atoms; `None` if there are none.
fn read_polls(folder: &Path, limit: usize, notes: &mut Vec<String>) -> Result<Option<(Series, Option<u64>)>, Error> {
    let (mut series, mut atoms) = (Series::new(limit), None);
    let paths = poll_files(folder).map_err(|source| Error::Read { path: folder.to_owned(), source })?;
    for path in &paths {
        let reading = |source| Error::Read { path: path.clone(), source };
        let mut file = BufReader::new(File::open(path).map_err(reading)?);
        let (mut line, mut bad, mut why) = (Vec::new(), 0_u64, String::new());
        loop {
            line.clear();
            let n = file.by_ref().take(LONGEST).read_until(b'\n', &mut line).map_err(reading)?;
            // A line without its end is being written.
            if n == 0 || line.last() != Some(&b'\n') && n as u64 != LONGEST {
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
