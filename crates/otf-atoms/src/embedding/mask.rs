// SPDX-License-Identifier: GPL-2.0-or-later
//! Which forces of a cut-out are trusted.
use super::EDGE;

/// 1 for atoms nearer to the centre than `radius`, 0 for the others (d ≥ radius), which are only there to give the
/// former their environment. Å.
pub(super) fn force_mask(distances: &[f64], radius: f64) -> Vec<f64> {
    distances.iter().map(|&d| if d < radius - EDGE { 1.0 } else { 0.0 }).collect()
}
