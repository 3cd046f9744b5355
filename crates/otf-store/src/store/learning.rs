// SPDX-License-Identifier: GPL-2.0-or-later
//! The state of a learning loop, in additional tables of the database, so that rows and state change in one transaction.

use std::path::PathBuf;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::{Candidate, Store, StoreError, ase_db};

/// A potential of the loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PotentialRecord {
    /// SHA-256 of its files.
    pub hash: String,
    /// Hash of the potential that it replaced; `None` for the first.
    pub parent: Option<String>,
    /// The round in which it was trained; 0 for the first.
    pub round: u32,
    /// The file of the B-basis (`.yaml`).
    pub file: PathBuf,
    /// The file of the active set (`.asi`).
    pub active_set: PathBuf,
}

/// The phase of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The run continues until it has events or ends.
    Explore,
    /// The candidates of the run are stored; those to be labelled are not yet selected.
    Select,
    /// The selected candidates are being labelled.
    Label,
    /// All selected candidates are labelled or have failed.
    Train,
    /// The next round has begun, or the loop has ended.
    Done,
}

/// The outcome of the run of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoundOutcome {
    /// The run had events.
    Events,
    /// The run crashed.
    Crash,
    /// The run had no event for the required time, or until the last step.
    Quiet,
}

impl std::fmt::Display for RoundOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Events => "γ above the threshold",
            Self::Crash => "broke",
            Self::Quiet => "nothing unknown",
        })
    }
}

/// Wall time of the parts of a round on rank 0, in seconds. The sum is the total time, except for the work of a process that
/// was killed.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RoundSeconds {
    /// Set-up of the run, or swap of the potential.
    #[serde(deserialize_with = "crate::json::or_nan")]
    pub setup: f64,
    /// Time steps of LAMMPS.
    #[serde(deserialize_with = "crate::json::or_nan")]
    pub run: f64,
    /// Polls of γ, and extraction, check and storage of candidates.
    #[serde(deserialize_with = "crate::json::or_nan")]
    pub watch: f64,
    /// Selection of the candidates to be labelled.
    #[serde(deserialize_with = "crate::json::or_nan")]
    pub select: f64,
    /// The oracle.
    #[serde(deserialize_with = "crate::json::or_nan")]
    pub label: f64,
    /// The trainer.
    #[serde(deserialize_with = "crate::json::or_nan")]
    pub train: f64,
    /// Trial of the new potential, also on candidates that were not labelled.
    #[serde(deserialize_with = "crate::json::or_nan")]
    pub trial: f64,
}

/// Force errors of a potential on audits: regions drawn at random, which it was not trained on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AuditResult {
    /// Number of regions.
    pub regions: usize,
    /// Number of their core atoms.
    pub atoms: usize,
    /// Root mean square of the force errors on the core atoms, eV/Å.
    pub force_rmse: f64,
    /// Largest force error on a core atom, eV/Å.
    pub force_max: f64,
    /// Force error that a random atom does not exceed with the coverage in `uncertainty_threshold`, eV/Å; `None` if no force error is
    /// tolerated there, or if the regions are too few.
    pub force_bound: Option<f64>,
    /// Whether the loop accepts the potential: neither the bound, if there is one, nor the root mean square is larger than the
    /// tolerated force error.
    pub accepted: bool,
}

/// The difference between the energy of a structure and that of the same atoms in the reference structures, eV.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EnergyDifference {
    /// By the labels.
    pub label: f64,
    /// By the potential.
    pub prediction: f64,
}

impl EnergyDifference {
    /// |prediction − label| / |label|.
    #[must_use]
    pub fn relative_error(&self) -> f64 {
        ((self.prediction - self.label) / self.label).abs()
    }
}

/// Errors of a potential on a check: structures that are labelled once and evaluated with each potential of a loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    /// Name of the check.
    pub name: String,
    /// Number of structures.
    pub structures: usize,
    /// Root mean square of the force errors, eV/Å; NaN if the potential cannot evaluate a structure.
    #[serde(deserialize_with = "crate::json::or_nan")]
    pub force_rmse: f64,
    /// Largest force error, eV/Å; NaN if the potential cannot evaluate a structure.
    #[serde(deserialize_with = "crate::json::or_nan")]
    pub force_max: f64,
    /// Largest γ of an atom; `None` if it is not finite.
    pub gamma_max: Option<f64>,
    /// Energy per atom of the label minus that of the prediction, eV, of the structure for which it is largest; `None` for a cut-out.
    pub energy_error: Option<f64>,
    /// The energy difference with the largest relative error; `None` for reference structures and cut-outs.
    pub difference: Option<EnergyDifference>,
    /// The errors that are larger than their limits, as text; empty if the check is passed.
    pub failures: Vec<String>,
}

impl CheckResult {
    /// Whether no error is larger than its limit.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// One of several runs of a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Its name.
    pub name: String,
    /// Whether it had no event in an earlier round, with an earlier potential. It is then repeated only if the other runs have no event.
    pub is_learned: bool,
    /// The LAMMPS restart file from which it starts, in the folder of the loop; `None` for its start.
    pub restart: Option<String>,
    /// The step at which it starts.
    pub from: i64,
    /// Its outcome; `None` if it has not been started, or is not over.
    pub outcome: Option<RoundOutcome>,
    /// Its last step.
    pub reached: i64,
    /// The step of its first event.
    pub first_event: Option<i64>,
    /// Number of its events.
    pub events: u32,
    /// Its largest γ; `None` if it is not finite.
    pub gamma_max: Option<f64>,
    /// The restart file and the step from which it starts in the next round.
    pub next_restart: Option<String>,
    /// The step at which it starts in the next round.
    pub next_from: i64,
}

impl RunState {
    /// A run at its start.
    #[must_use]
    pub fn begin(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            is_learned: false,
            restart: None,
            from: 0,
            outcome: None,
            reached: 0,
            first_event: None,
            events: 0,
            gamma_max: None,
            next_restart: None,
            next_from: 0,
        }
    }

    /// The same run in the next round.
    #[must_use]
    pub fn next(&self) -> Self {
        let (restart, from) = match self.outcome {
            Some(_) => (self.next_restart.clone(), self.next_from),
            None => (self.restart.clone(), self.from),
        };
        let is_learned = self.outcome.map_or(self.is_learned, |outcome| outcome == RoundOutcome::Quiet);
        Self { is_learned, restart, from, reached: from, ..Self::begin(&self.name) }
    }
}

/// One round of a learning loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Number of the round, from 1.
    pub number: u32,
    /// The phase.
    pub phase: Phase,
    /// Hash of the potential of its run.
    pub potential: String,
    /// The LAMMPS restart file from which it starts, in the folder of the loop; `None` for the start of the run.
    pub restart: Option<String>,
    /// The step at which it starts.
    pub from: i64,
    /// The outcome of its run; `None` for a round without a run, which labels candidates left by the round before.
    #[serde(rename = "seen")]
    pub outcome: Option<RoundOutcome>,
    /// The last step of its run.
    pub reached: i64,
    /// The step of its first event.
    pub first_event: Option<i64>,
    /// Number of events.
    pub events: u32,
    /// The largest γ of its run; `None` if it is not finite.
    pub gamma_max: Option<f64>,
    /// Number of candidates stored.
    pub stored: usize,
    /// Number of pending candidates at the selection, including those of earlier rounds.
    pub pool: usize,
    /// Row ids of the candidates selected for labelling.
    pub selected: Vec<i64>,
    /// Number of its runs that were over when candidates were last selected during the runs (`overlap`).
    #[serde(default)]
    pub runs_selected_from: usize,
    /// Number of selected candidates that were labelled.
    pub labelled: usize,
    /// Number of selected candidates that failed.
    pub failed: usize,
    /// Row ids of labels of this round that do not fit the others, so that they were not trained on.
    #[serde(default)]
    pub suspects: Vec<i64>,
    /// The LAMMPS restart file from which the next round starts, in the folder of the loop.
    pub next_restart: Option<String>,
    /// The step at which the next round starts.
    pub next_from: i64,
    /// The report of the trainer.
    pub report: serde_json::Value,
    /// Threshold of γ of its run.
    #[serde(default)]
    pub threshold: Option<f64>,
    /// Root mean square force error in eV/Å on the core atoms of the candidates labelled in this round, without audits, of the
    /// potential that ran.
    #[serde(default)]
    pub force_rmse_before: Option<f64>,
    /// The same of the potential that the round has trained on these labels.
    #[serde(default)]
    pub force_rmse_after: Option<f64>,
    /// Errors of the potential that ran on all audits up to now that no potential was trained on.
    #[serde(default)]
    pub audit: Option<AuditResult>,
    /// The runs, if there are several. `outcome`, `events` and `gamma_max` of the round are those of all runs; `restart` and `from`,
    /// `next_restart` and `next_from` are not used.
    #[serde(default)]
    pub runs: Vec<RunState>,
    /// Errors of the potential that ran on the checks, in the order of the configuration.
    #[serde(default)]
    pub checks: Vec<CheckResult>,
    /// Wall time of its parts.
    #[serde(default)]
    pub seconds: RoundSeconds,
}

impl Round {
    /// A new round in the phase [`Phase::Explore`].
    #[must_use]
    pub fn begin(number: u32, potential: &str, restart: Option<String>, from: i64) -> Self {
        Self {
            number,
            phase: Phase::Explore,
            potential: potential.to_owned(),
            restart,
            from,
            outcome: None,
            reached: from,
            first_event: None,
            events: 0,
            gamma_max: None,
            stored: 0,
            pool: 0,
            selected: Vec::new(),
            runs_selected_from: 0,
            labelled: 0,
            failed: 0,
            suspects: Vec::new(),
            next_restart: None,
            next_from: 0,
            report: serde_json::Value::Null,
            threshold: None,
            force_rmse_before: None,
            force_rmse_after: None,
            audit: None,
            runs: Vec::new(),
            checks: Vec::new(),
            seconds: RoundSeconds::default(),
        }
    }

    /// The indices of the runs to be started next, in order: those that are not learned, and then, if no run had an event, the others
    /// once more. Empty if the runs of the round are over, or if it has a single run.
    #[must_use]
    pub fn next_runs(&self) -> Vec<usize> {
        let open = |learned: bool| {
            let runs = self.runs.iter().enumerate();
            runs.filter(move |(_, run)| run.outcome.is_none() && run.is_learned == learned).map(|(at, _)| at).collect()
        };
        let all_quiet = self.runs.iter().all(|run| run.outcome.is_none_or(|outcome| outcome == RoundOutcome::Quiet));
        let runs: Vec<usize> = open(false);
        if runs.is_empty() && all_quiet { open(true) } else { runs }
    }

    /// Sets the results of the round to those of its runs, once they are over.
    pub fn combine_runs(&mut self) {
        let over = || self.runs.iter().filter(|run| run.outcome.is_some());
        let any = |outcome| over().any(|run| run.outcome == Some(outcome));
        self.outcome = Some(if any(RoundOutcome::Crash) {
            RoundOutcome::Crash
        } else if any(RoundOutcome::Events) {
            RoundOutcome::Events
        } else {
            RoundOutcome::Quiet
        });
        self.events = over().map(|run| run.events).sum();
        self.reached = over().map(|run| run.reached).max().unwrap_or(0);
        // `None` is larger than all numbers.
        self.gamma_max = over().try_fold(0.0, |most: f64, run| Some(most.max(run.gamma_max?)));
        self.first_event = over().filter_map(|run| run.first_event).min();
    }

    /// The outcome of its run as text.
    #[must_use]
    pub fn ending(&self) -> String {
        match (self.outcome, self.phase) {
            (Some(outcome), _) => outcome.to_string(),
            (None, Phase::Explore) => "not over".into(),
            (None, _) => "no run: labels what was left".into(),
        }
    }
}

impl Store {
    /// Stores the state of a loop in one transaction: rounds (new or updated), a new potential, and new candidates. Returns
    /// the row ids of the candidates.
    ///
    /// # Errors
    /// As [`Store::add`].
    pub fn record(
        &mut self,
        rounds: &[&Round],
        potential: Option<&PotentialRecord>,
        candidates: &[Candidate],
    ) -> Result<Vec<i64>, StoreError> {
        let rows = self.checked(candidates)?;
        let transaction = self.begin("add to")?;
        let ids = self.insert(&transaction, &rows)?;
        let err = |e| self.error("add to", e);
        if let Some(p) = potential {
            let path = |path: &PathBuf| path.to_string_lossy().into_owned();
            let row = (&p.hash, &p.parent, p.round, path(&p.file), path(&p.active_set), ase_db::unix_now());
            // The same files are the same potential.
            let add = "INSERT OR IGNORE INTO otf_potentials VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            transaction.execute(add, row).map_err(err)?;
        }
        for round in rounds {
            let body = serde_json::to_string(round).expect("numbers and names");
            let phase = serde_json::to_value(round.phase).expect("a name");
            let put = "INSERT OR REPLACE INTO otf_rounds VALUES (?1, ?2, ?3, ?4)";
            transaction.execute(put, (round.number, phase.as_str(), &round.potential, body)).map_err(err)?;
        }
        transaction.commit().map_err(err)?;
        Ok(ids)
    }

    /// The rounds of the loop in order; empty if there was no loop.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn rounds(&self) -> Result<Vec<Round>, StoreError> {
        let read = |conn: &Connection| -> rusqlite::Result<Vec<String>> {
            let mut statement = conn.prepare_cached("SELECT body FROM otf_rounds ORDER BY round")?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        let bodies = read(&self.conn).map_err(|e| self.error("read", e))?;
        let corrupt = |e: serde_json::Error| StoreError::Corrupt {
            path: self.path.clone(),
            detail: format!("a row of otf_rounds: {e}"),
        };
        bodies.iter().map(|body| serde_json::from_str(body).map_err(corrupt)).collect()
    }

    /// The potential with this hash; `None` if there is none.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn potential(&self, hash: &str) -> Result<Option<PotentialRecord>, StoreError> {
        self.find_potential("WHERE hash = ?1", &[&hash])
    }

    /// All potentials of the loop in the order of their rounds; empty if there was no loop.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn potentials(&self) -> Result<Vec<PotentialRecord>, StoreError> {
        self.find_potentials("ORDER BY round, created", &[])
    }

    /// The potential of the loop that was trained last; `None` if there was no loop.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn newest_potential(&self) -> Result<Option<PotentialRecord>, StoreError> {
        self.find_potential("ORDER BY round DESC, created DESC LIMIT 1", &[])
    }

    fn find_potential(
        &self,
        which: &str,
        values: &[&dyn rusqlite::ToSql],
    ) -> Result<Option<PotentialRecord>, StoreError> {
        Ok(self.find_potentials(which, values)?.into_iter().next())
    }

    fn find_potentials(
        &self,
        which: &str,
        values: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<PotentialRecord>, StoreError> {
        // A store that was never opened for writing by this version may lack the table.
        if !ase_db::has_table(&self.conn, "otf_potentials").map_err(|e| self.error("read", e))? {
            return Ok(Vec::new());
        }
        let query = format!("SELECT hash, parent, round, file, active_set FROM otf_potentials {which}");
        let read = |row: &rusqlite::Row<'_>| {
            let path = |text: String| PathBuf::from(text);
            Ok(PotentialRecord {
                hash: row.get(0)?,
                parent: row.get(1)?,
                round: row.get(2)?,
                file: path(row.get(3)?),
                active_set: path(row.get(4)?),
            })
        };
        let read_all = || -> rusqlite::Result<Vec<PotentialRecord>> {
            self.conn.prepare(&query)?.query_map(values, read)?.collect()
        };
        read_all().map_err(|e| self.error("read", e))
    }
}

#[cfg(test)]
mod tests {
    use super::{Round, RoundSeconds};

    #[test]
    fn round_is_read_back_if_a_number_is_not_finite() {
        let seconds =
            RoundSeconds { setup: 0.5, run: 1.5, watch: 2.5, select: 3.5, label: 4.5, train: 5.5, trial: 6.5 };
        let report = serde_json::json!({ "energy_rmse_mev_per_atom": 0.5 });
        let round = Round { gamma_max: Some(1.5), seconds, report, ..Round::begin(1, "hash", None, 0) };
        crate::json::reads_back::reads_back(&round);
    }
}
