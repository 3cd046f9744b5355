// SPDX-License-Identifier: GPL-2.0-or-later
//! A new potential on trial, before a running simulation gets it.

use crate::candidates::StoredCandidate;
use crate::lammps::Lammps;
use crate::script::Script;
use crate::structure::Element;
use crate::verify::{evaluate, load};

/// Evaluates the candidates with the potential of `script`, in an instance of its own; the text says why it cannot be used.
///
/// It must know what it was trained on: γ of every core atom of a labelled candidate below the threshold, and energy and
/// forces finite.
///
/// Gives an instance with the potential: as long as it lives, `engine = "opt"` does not read the files again.
pub(super) fn trial(
    script: &Script,
    elements: &[Element],
    labelled: &[StoredCandidate],
    threshold: f64,
) -> Result<Lammps, String> {
    let loaded = load(script, elements).map_err(|e| e.to_string())?;
    for row in labelled {
        let id = row.id;
        let structure =
            row.candidate.structure.with_elements(elements).map_err(|why| format!("candidate {id}: {why}"))?;
        let found = evaluate(&structure, script).map_err(|e| e.to_string())?;
        if !(found.energy.is_finite() && found.forces.as_flattened().iter().all(|f| f.is_finite())) {
            return Err(format!("energy or forces of candidate {id}, which it was trained on, are not finite"));
        }
        let gamma = found.gamma.ok_or("it gives no γ")?;
        let core = gamma.iter().zip(&row.candidate.force_mask).filter(|(_, mask)| **mask > 0.0);
        let worst = core.map(|(gamma, _)| if gamma.is_nan() { f64::INFINITY } else { *gamma }).fold(0.0, f64::max);
        if worst > threshold {
            return Err(format!("γ is {worst:.2} in candidate {id}, which it was trained on, above {threshold}"));
        }
    }
    Ok(loaded)
}
