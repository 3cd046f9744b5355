// SPDX-License-Identifier: GPL-2.0-or-later
//! The environments of the candidates in a store.

use crate::candidates::{StoredCandidate, Trigger};
use crate::embedding::{Environment, Novelty};

/// Environments of the centres of the candidates that were read from a store.
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
        let structure = &row.candidate.structure;
        let comparable = row.mismatch.is_none() && row.keys().trigger != Some(Trigger::Audit);
        let center = row.keys().center.filter(|center| comparable && *center < structure.len());
        if let (Some(center), Some(cutoff)) = (center, self.cutoff) {
            self.novelty.insert(row.id, Environment::in_structure(structure, center, cutoff));
        }
        self.last = self.last.max(row.id);
    }

    /// Adds the environment of a candidate.
    pub(crate) fn insert(&mut self, id: i64, environment: Environment) {
        self.novelty.insert(id, environment);
        self.last = self.last.max(id);
    }

    /// Whether a candidate has this environment.
    pub(crate) fn contains(&self, environment: &Environment) -> bool {
        self.novelty.find_duplicate(environment).is_some()
    }
}
