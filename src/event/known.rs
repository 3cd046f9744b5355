// SPDX-License-Identifier: GPL-2.0-or-later
//! The environments of the candidates in a store.

use serde::{Deserialize, Serialize};

use crate::candidates::{Candidate, StoredCandidate, Trigger};
use crate::embedding::{Environment, Novelty};

/// Environments of the centres of the candidates that were read from a store.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct KnownEnvironments {
    novelty: Novelty,
    /// Cutoff of the potential in Å; `None` if nothing is extracted.
    cutoff: Option<f64>,
    /// Id of the last row that was read.
    last: i64,
}

impl KnownEnvironments {
    /// An empty set. Environments at a distance below `threshold` are considered the same.
    pub(crate) fn new(threshold: f64, cutoff: Option<f64>) -> Self {
        Self { novelty: Novelty::new(threshold), cutoff, last: 0 }
    }

    /// Id of the last row that was read.
    pub(crate) fn last(&self) -> i64 {
        self.last
    }

    /// Adds a row of the store. If its atoms were changed, or if it is an audit, which does not replace an event in a similar
    /// environment, only its id is recorded.
    pub(crate) fn read(&mut self, row: &StoredCandidate) {
        if row.mismatch.is_none() {
            self.add(row.id, &row.candidate);
        }
        self.last = self.last.max(row.id);
    }

    /// Adds the environment of a candidate, unless it is an audit.
    pub(crate) fn add(&mut self, id: i64, candidate: &Candidate) {
        if let Some(environment) = self.environment_of(candidate) {
            self.insert(id, environment);
        }
    }

    /// The environment of the centre of a candidate; `None` for an audit, and if nothing is compared.
    fn environment_of(&self, candidate: &Candidate) -> Option<Environment> {
        let structure = &candidate.structure;
        let center = candidate.keys.center.filter(|center| *center < structure.len())?;
        let is_audit = candidate.keys.trigger == Some(Trigger::Audit);
        Some(Environment::in_structure(structure, center, self.cutoff.filter(|_| !is_audit)?))
    }

    /// Adds an environment.
    pub(crate) fn insert(&mut self, id: i64, environment: Environment) {
        self.novelty.insert(id, environment);
        self.last = self.last.max(id);
    }

    /// Whether another candidate has the environment of this one.
    pub(crate) fn contains_center(&self, candidate: &Candidate) -> bool {
        self.environment_of(candidate).is_some_and(|environment| self.contains(&environment))
    }

    /// Whether a candidate has this environment.
    pub(crate) fn contains(&self, environment: &Environment) -> bool {
        self.novelty.find_duplicate(environment).is_some()
    }
}
