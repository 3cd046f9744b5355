// SPDX-License-Identifier: GPL-2.0-or-later
//! The state of a learning loop, in tables of our own beside ASE's, so that rows and state change together.

use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use super::{Candidate, Store, StoreError, ase_db};

/// A potential that the loop has run with, or will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PotentialRecord {
    /// SHA-256 of its files.
    pub hash: String,
    /// Hash of the one that it replaced; none for the first.
    pub parent: Option<String>,
    /// The round that made it; 0 for the first.
    pub round: u32,
    /// The B-basis, `.yaml`.
    pub file: PathBuf,
    /// The active set, `.asi`.
    pub active_set: PathBuf,
}

/// How far a round has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The run goes on until its potential does not know what it sees.
    Explore,
    /// Its candidates are stored; which of them to label is not decided.
    Select,
    /// The selected ones are being labelled.
    Label,
    /// All are labelled, or have failed.
    Train,
    /// Over: the next round has begun, or the loop has ended.
    Done,
}

/// How the run of a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// Enough events.
    Events,
    /// It broke.
    Crash,
    /// No event for long enough, or to the last step.
    Quiet,
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Events => "γ above the threshold",
            Self::Crash => "broke",
            Self::Quiet => "nothing unknown",
        })
    }
}

/// Where the wall time of a round went, in seconds, on rank 0. They add up to all of it, but for what a process had done of a
/// step in which it was killed.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RoundSeconds {
    /// Until the run stood with its potential: swapped in, or set up anew.
    #[serde(deserialize_with = "crate::json::or_nan")]
    pub setup: f64,
    /// In LAMMPS's steps.
    #[serde(deserialize_with = "crate::json::or_nan")]
    pub run: f64,
    /// Looking at γ, cutting out, checking, and storing.
    #[serde(deserialize_with = "crate::json::or_nan")]
    pub watch: f64,
    /// Choosing what to label.
    #[serde(deserialize_with = "crate::json::or_nan")]
    pub select: f64,
    /// The oracle.
    #[serde(deserialize_with = "crate::json::or_nan")]
    pub label: f64,
    /// The trainer.
    #[serde(deserialize_with = "crate::json::or_nan")]
    pub train: f64,
    /// Trying the new potential, and asking it about what was not labelled.
    #[serde(deserialize_with = "crate::json::or_nan")]
    pub trial: f64,
}

/// One round of a learning loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// From 1.
    pub number: u32,
    /// How far it has come.
    pub phase: Phase,
    /// Hash of the potential that it runs with.
    pub potential: String,
    /// The LAMMPS restart file, in the folder of the loop, that it begins from; none for the start of the run.
    pub restart: Option<String>,
    /// The step that it begins at.
    pub from: i64,
    /// How its run ended; none for a round without one, which labels what is left of the round before.
    pub seen: Option<Seen>,
    /// The last step of its run.
    pub reached: i64,
    /// The step of its first event.
    pub first_event: Option<i64>,
    /// Number of its events.
    pub events: u32,
    /// The largest γ that it saw; none if it is not finite.
    pub gamma_max: Option<f64>,
    /// Candidates that it stored.
    pub stored: usize,
    /// Candidates that waited for a label when some were selected, those of earlier rounds too.
    pub pool: usize,
    /// Those to be labelled, by their number.
    pub selected: Vec<i64>,
    /// How many of them were labelled.
    pub labelled: usize,
    /// How many of them failed.
    pub failed: usize,
    /// The LAMMPS restart file that the next round begins from, in the folder of the loop.
    pub next_restart: Option<String>,
    /// The step that the next round begins at.
    pub next_from: i64,
    /// What the trainer said of its potential.
    pub report: serde_json::Value,
    /// Where its time went.
    #[serde(default)]
    pub seconds: RoundSeconds,
}

impl Round {
    /// A round that is to begin.
    #[must_use]
    pub fn begin(number: u32, potential: &str, restart: Option<String>, from: i64) -> Self {
        Self {
            number,
            phase: Phase::Explore,
            potential: potential.to_owned(),
            restart,
            from,
            seen: None,
            reached: from,
            first_event: None,
            events: 0,
            gamma_max: None,
            stored: 0,
            pool: 0,
            selected: Vec::new(),
            labelled: 0,
            failed: 0,
            next_restart: None,
            next_from: 0,
            report: serde_json::Value::Null,
            seconds: RoundSeconds::default(),
        }
    }

    /// How its run ended, in a few words.
    #[must_use]
    pub fn ending(&self) -> String {
        match (self.seen, self.phase) {
            (Some(seen), _) => seen.to_string(),
            (None, Phase::Explore) => "not over".into(),
            (None, _) => "no run: labels what was left".into(),
        }
    }
}

impl Store {
    /// Writes down how far a loop has come, all or nothing: rounds as they stand now, a potential that there was not, and
    /// candidates, whose numbers it gives.
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
            // The same files again are the same potential.
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

    /// The rounds of a loop, in order; none if there was no loop.
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

    /// The potential with this hash.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn potential(&self, hash: &str) -> Result<Option<PotentialRecord>, StoreError> {
        let query = "SELECT hash, parent, round, file, active_set FROM otf_potentials WHERE hash = ?1";
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
        self.conn.query_row(query, [hash], read).optional().map_err(|e| self.error("read", e))
    }
}

#[cfg(test)]
mod tests {
    use super::{Round, RoundSeconds};

    #[test]
    fn a_round_is_read_back_whichever_of_its_numbers_is_not_finite() {
        let seconds =
            RoundSeconds { setup: 0.5, run: 1.5, watch: 2.5, select: 3.5, label: 4.5, train: 5.5, trial: 6.5 };
        let report = serde_json::json!({ "energy_rmse_mev_per_atom": 0.5 });
        let round = Round { gamma_max: Some(1.5), seconds, report, ..Round::begin(1, "hash", None, 0) };
        crate::json::reads_back::reads_back(&round);
    }
}
