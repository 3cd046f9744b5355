// SPDX-License-Identifier: GPL-2.0-or-later
//! The trial of a new potential, before it is swapped into a running simulation.

use crate::candidates::StoredCandidate;
use crate::lammps::Lammps;
use crate::script::Script;
use crate::structure::Element;
use crate::verify::{evaluate, load};

/// Evaluates the labelled candidates with the potential of `script`, in a LAMMPS instance of its own.
///
/// For each candidate, energy and forces must be finite, and γ of all core atoms must not exceed `threshold`.
///
/// Returns an instance with the potential. While this instance exists, `engine = "opt"` does not read the files again.
///
/// # Errors
/// The reason why the potential cannot be used.
pub(super) fn trial(
    script: &Script,
    elements: &[Element],
    labelled: &[StoredCandidate],
    threshold: f64,
) -> Result<Lammps, String> {
    let loaded = load(script, elements).map_err(|e| e.to_string())?;
    for row in labelled {
        let id = row.id;
        // Labels of other loops may contain elements that the runs of this one lack.
        let Ok(structure) = row.candidate.structure.with_elements(elements) else { continue };
        let found = evaluate(&structure, script).map_err(|e| e.to_string())?;
        if !(found.energy.is_finite() && found.forces.as_flattened().iter().all(|f| f.is_finite())) {
            return Err(format!("energy or forces of candidate {id}, which it was trained on, are not finite"));
        }
        let gamma = found.gamma.ok_or("LAMMPS returned no γ")?;
        let core = gamma.iter().zip(&row.candidate.force_mask).filter(|(_, mask)| **mask > 0.0);
        let worst = core.map(|(gamma, _)| if gamma.is_nan() { f64::INFINITY } else { *gamma }).fold(0.0, f64::max);
        if worst > threshold {
            return Err(format!("γ is {worst:.2}, above {threshold}, in candidate {id}, which it was trained on"));
        }
    }
    Ok(loaded)
}
