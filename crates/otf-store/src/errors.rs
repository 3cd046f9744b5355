// SPDX-License-Identifier: GPL-2.0-or-later
//! Errors of a potential on a labelled candidate.

use super::blob::Data;
use super::{AUDIT_TRAINED, KeyValue, Keys, StoredCandidate, Summary, data_names};

/// The potential whose errors are stored with a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorOf {
    /// The potential of the run that the candidate is from, before it was trained on the label.
    Run,
    /// The newest potential of the loop.
    Newest,
}

impl ErrorOf {
    /// Name of the array in `row.data`.
    pub(super) fn array(self) -> &'static str {
        match self {
            Self::Run => data_names::FORCE_ERROR,
            Self::Newest => data_names::FORCE_ERROR_NEWEST,
        }
    }

    /// The keys of the root mean square and the maximum of the force error, and of the energy error.
    pub(super) fn keys(self) -> [&'static str; 3] {
        match self {
            Self::Run => ["force_rmse_core", "force_max_core", "energy_error"],
            Self::Newest => ["force_rmse_newest", "force_max_newest", "energy_error_newest"],
        }
    }

    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Run, Self::Newest];
}

/// Differences between the label of a candidate and the prediction of a potential.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelErrors {
    /// Norm of the difference of the forces on each atom, eV/Å; NaN for atoms of the buffer. Shape (n).
    pub forces: Vec<f64>,
    /// Energy per atom of the label minus that of the prediction, eV; `None` for a cut-out, whose energy is not that of the bulk.
    pub energy: Option<f64>,
}

impl LabelErrors {
    /// Errors on the core atoms, eV/Å.
    fn core(&self) -> impl Iterator<Item = f64> {
        self.forces.iter().copied().filter(|error| !error.is_nan())
    }

    /// Root mean square over the core atoms, eV/Å; `None` without core atoms.
    #[must_use]
    pub fn rmse(&self) -> Option<f64> {
        let (n, sum) = self.core().fold((0.0, 0.0), |(n, sum), error| (n + 1.0, sum + error * error));
        (n > 0.0).then(|| (sum / n).sqrt())
    }

    /// Maximum over the core atoms, eV/Å; `None` without core atoms.
    #[must_use]
    pub fn max(&self) -> Option<f64> {
        self.core().reduce(f64::max)
    }

    pub(super) fn set_keys(&self, of: ErrorOf, pairs: &mut Keys) {
        for (key, value) in of.keys().into_iter().zip([self.rmse(), self.max(), self.energy]) {
            match value.filter(|value| value.is_finite()) {
                Some(value) => pairs.insert(key.to_owned(), KeyValue::Float(value)),
                None => pairs.remove(key),
            };
        }
    }

    pub(super) fn data(&self) -> Data {
        Data::floats(self.forces.clone())
    }
}

/// Removes the errors of an earlier label.
pub(super) fn remove_keys(pairs: &mut Keys) {
    for key in ErrorOf::ALL.into_iter().flat_map(ErrorOf::keys) {
        pairs.remove(key);
    }
    pairs.remove(SUSPECT);
}

/// The key of a label that does not fit the others: 1 if it is not trained on, 0 if a person has accepted it.
pub(super) const SUSPECT: &str = "suspect";

/// A label is suspect if the error of a potential that was trained on it is this many times the median over all labels,
const MANY_TIMES: f64 = 5.0;

/// and at least this part of the error before training.
const NOT_LEARNED: f64 = 0.5;

/// Number of labels below which none is suspect, because their median is uncertain.
const ENOUGH: usize = 8;

/// Of labels that a potential was trained on, those that do not fit the others: their errors (root mean square over the core, eV/Å) are
/// large, and training has not reduced them. A calculation that has not converged, or another electronic state, are possible causes. The
/// potential may also lack the functions for these environments.
///
/// `labels` are the id, the error before training, and that after. Returns ids.
#[must_use]
pub fn outliers(labels: &[(i64, f64, f64)]) -> Vec<i64> {
    let mut after: Vec<f64> = labels.iter().map(|(.., after)| *after).collect();
    after.sort_by(f64::total_cmp);
    let Some(median) = after.get(after.len() / 2).filter(|_| labels.len() >= ENOUGH) else { return Vec::new() };
    let is_outlier = |before: f64, after: f64| after > MANY_TIMES * median && after > NOT_LEARNED * before;
    labels.iter().filter(|(_, before, after)| is_outlier(*before, *after)).map(|(id, ..)| *id).collect()
}

/// The ids of candidates with suspect labels: those that the loop has marked, and the [`outliers`] of the newest potential, except for
/// those that were accepted.
#[must_use]
pub fn suspects(rows: &[Summary]) -> Vec<i64> {
    let number = |row: &Summary, key: &str| row.keys.get(key).and_then(KeyValue::as_f64);
    // Audits and checks are evaluated too, but not trained on.
    let is_trained = |row: &Summary| match row.keys.get("trigger").and_then(KeyValue::as_text) {
        Some("check") => false,
        Some("audit") => number(row, AUDIT_TRAINED).is_some(),
        _ => true,
    };
    let errors = |row: &Summary| {
        let (before, after) = (number(row, "force_rmse_core")?, number(row, "force_rmse_newest")?);
        is_trained(row).then_some((row.id, before, after))
    };
    let marked = |row: &Summary| row.keys.get(SUSPECT).and_then(KeyValue::as_i64);
    let all: Vec<(i64, f64, f64)> = rows.iter().filter(|row| marked(row) != Some(1)).filter_map(errors).collect();
    let found = outliers(&all);
    let is_suspect = |row: &&Summary| marked(row).map_or_else(|| found.contains(&row.id), |mark| mark == 1);
    rows.iter().filter(is_suspect).map(|row| row.id).collect()
}

impl StoredCandidate {
    /// Removes the errors of the newest potential from this copy of the row.
    pub fn remove_errors_of_newest(&mut self) {
        self.force_error_newest = None;
        for key in ErrorOf::Newest.keys() {
            self.candidate.keys.extra.remove(key);
        }
    }

    /// The errors stored by [`Store::set_errors`](super::Store::set_errors).
    #[must_use]
    pub fn errors(&self, of: ErrorOf) -> Option<LabelErrors> {
        let forces = match of {
            ErrorOf::Run => self.force_error.clone()?,
            ErrorOf::Newest => self.force_error_newest.clone()?,
        };
        let [_, _, energy] = of.keys();
        Some(LabelErrors { forces, energy: self.keys().extra.get(energy).and_then(KeyValue::as_f64) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_training_does_not_fit_are_suspect() {
        let row = |id: i64, before: f64, after: f64| Summary {
            id,
            status: None,
            formula: "Al".into(),
            natoms: 1,
            created: None,
            energy: None,
            keys: [("force_rmse_core", before), ("force_rmse_newest", after)]
                .map(|(key, value)| (key.to_owned(), KeyValue::Float(value)))
                .into(),
        };
        let mut rows = vec![row(1, 0.5, 0.1), row(2, 0.4, 0.09), row(3, 0.6, 0.12), row(4, 3.0, 2.9), row(5, 8.0, 1.0)];
        assert_eq!(suspects(&rows), [0_i64; 0], "too few");
        rows.extend([row(6, 0.5, 0.1), row(7, 0.5, 0.11), row(8, 0.3, 0.1)]);
        assert_eq!(suspects(&rows), [4], "the fifth was reduced by training");
        rows[3].keys.insert("suspect".into(), KeyValue::Int(0));
        assert_eq!(suspects(&rows), [0_i64; 0], "accepted");
        rows[0].keys.insert("suspect".into(), KeyValue::Int(1));
        assert_eq!(suspects(&rows), [1], "marked by the loop");
        rows[0].keys.clear();
        rows[3].keys.clear();
        assert_eq!(suspects(&rows), [0_i64; 0]);
        assert_eq!(suspects(&[]), [0_i64; 0]);
    }
}
