// SPDX-License-Identifier: GPL-2.0-or-later
//! Energy, forces and γ of structures with the potential of a configuration, without LAMMPS: the crate `otf-prediction`.

pub use otf_prediction::{Prediction, PredictionError, Predictor, Projected, condition_number, select};

use crate::config::Potential;

/// Reads an ACE potential, and its active set if the file exists.
///
/// # Errors
/// If the potential is given by LAMMPS commands, or if a file cannot be read.
pub fn predictor(potential: &Potential) -> Result<Predictor, PredictionError> {
    let (file, active_set) = potential.pace_files().ok_or(PredictionError::NotAce)?;
    // A missing file that the configuration names is an error.
    let active_set = (potential.active_set.is_some() || active_set.is_file()).then_some(active_set);
    Predictor::read(&file, active_set.as_deref())
}
