// SPDX-License-Identifier: GPL-2.0-or-later
//! The environments that a store holds.

use crate::candidates::StoredCandidate;
use crate::embedding::{Environment, Novelty};

/// Environments of the centres of all candidates of a store, as far as it was read.
pub(crate) struct KnownEnvironments {
    novelty: Novelty,
    /// Cutoff of the potential, Å; `None` if nothing is ever extracted.
    cutoff: Option<f64>,
    last: i64,
}

impl KnownEnvironments {
    /// None yet. `threshold` is the distance below which two environments are the same.
    pub(crate) fn new(threshold: f64, cutoff: Option<f64>) -> Self {
        Self { novelty: Novelty::new(threshold), cutoff, last: 0 }
    }

    /// Id of the last row that was read.
    pub(crate) fn last(&self) -> i64 {
        self.last
    }

    /// Adds a row of the store. A row whose atoms were changed is counted as read only.
    pub(crate) fn read(&mut self, row: &StoredCandidate) {
        let structure = &row.candidate.structure;
        let center = row.keys().center.filter(|center| row.mismatch.is_none() && *center < structure.len());
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
        self.novelty.seen(environment).is_some()
    }
}
