// SPDX-License-Identifier: GPL-2.0-or-later
//! Errors of a potential on a labelled candidate.

use super::blob::Data;
use super::{KeyValue, Keys, StoredCandidate, data_names};

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
