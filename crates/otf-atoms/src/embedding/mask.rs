// SPDX-License-Identifier: GPL-2.0-or-later
//! The force mask of a cut-out.
use super::EDGE_TOLERANCE;

/// 1 for core atoms (distance from the centre below `radius`), 0 for buffer atoms. `distances` and `radius` are in Å.
pub(super) fn force_mask(distances: &[f64], radius: f64) -> Vec<f64> {
    distances.iter().map(|&d| if d < radius - EDGE_TOLERANCE { 1.0 } else { 0.0 }).collect()
}
