// SPDX-License-Identifier: GPL-2.0-or-later
//! Relaxation and verification of a cut-out by the potential, and the warnings that follow.

use crate::config::InferenceConfig;
use crate::embedding::CutOut;
use crate::script::Script;
use crate::verify::{Verification, relax, verify};

/// Relaxes and verifies a cut-out, as far as the configuration asks for it. If the potential fails at either, that is a warning, and
/// the cut-out stays as it is.
pub(super) fn relax_and_verify(
    cut_out: &mut CutOut,
    config: &InferenceConfig,
    script: &Script,
    step: i64,
    warnings: &mut Vec<String>,
) -> Verification {
    note_size(cut_out, config, step, warnings);
    if config.candidates.relax
        && let Err(error) = relax(cut_out, script)
    {
        let center = cut_out.cluster.source_ids[cut_out.cluster.center];
        warnings.push(format!("step {step}, atom {center}: the buffer is stored as it was, not relaxed: {error}"));
    }
    if config.candidates.verify {
        check(cut_out, config.candidates.relax, script, step, warnings)
    } else {
        Verification::default()
    }
}

/// Warns of a cut-out that is not as large as the configuration asks, or larger.
fn note_size(cut_out: &CutOut, config: &InferenceConfig, step: i64, warnings: &mut Vec<String>) {
    let cluster = &cut_out.cluster;
    let (center, atoms, most) = (cluster.source_ids[cluster.center], cluster.structure.len(), cluster.max_atoms);
    let (radius, wanted) = (cluster.radius, config.candidates.embedding.radius);
    if cluster.is_oversized() {
        warnings.push(format!(
            "step {step}, atom {center}: the cut-out has {atoms} atoms, more than max_atoms = {most}, because the buffer alone \
             has; it is stored with the key `oversized`"
        ));
    } else if radius < wanted {
        warnings.push(format!(
            "step {step}, atom {center}: the core has a radius of {radius} Å instead of {wanted} Å, so that the cut-out has no \
             more atoms than max_atoms = {most}"
        ));
    }
}

/// Neighbours, γ and forces of the core in the cut-out against the parent; what should agree and does not is a warning.
/// `relaxed`: the buffer has been moved, but for what the centre sees.
fn check(cut_out: &CutOut, relaxed: bool, script: &Script, step: i64, warnings: &mut Vec<String>) -> Verification {
    let cluster = &cut_out.cluster;
    let center = cluster.source_ids[cluster.center];
    let mut warn = |text: String| warnings.push(format!("step {step}, atom {center}: {text}"));
    let found = match verify(cut_out, script) {
        Ok(found) => found,
        Err(error) => {
            warn(format!("the cut-out could not be checked by the potential: {error}"));
            return Verification::default();
        }
    };
    let (buffer, cutoff) = (cluster.buffer, cluster.cutoff);
    if !cluster.is_complete() {
        let forces =
            found.max_force_difference.map_or(String::new(), |d| format!(" and forces differ by up to {d:.1e} eV/Å"));
        warn(format!(
            "the buffer of {buffer} Å is thinner than the cutoff of {cutoff} Å, so that the core does not see all its \
             neighbours{forces}; give `buffer = {cutoff}` in [embedding]"
        ));
        return found;
    }
    let core = (0..cluster.structure.len()).filter(|&i| cluster.force_mask[i] == 1.0);
    let changed = core
        .filter(|&i| i == cluster.center || !relaxed)
        .map(|i| (i, cluster.changed_neighbours(i, &cut_out.surroundings)))
        .find(|(_, changed)| *changed > 0);
    // The first difference explains those that follow from it.
    if let Some((at, changed)) = changed {
        warn(format!(
            "{changed} neighbours of atom {} differ between the cut-out and the frame, although the buffer is not thinner \
             than the cutoff; do not use this candidate, and report this as a fault of lammps-otf",
            cluster.source_ids[at]
        ));
    } else if let (false, Some(parent), Some(here)) = (found.same_gamma(), found.gamma_parent, found.gamma_cluster) {
        warn(format!(
            "γ of the centre is {here:.10} in the cut-out and {parent:.10} in the frame, where it has the same neighbours; \
             rounding accounts for {:.1e}. Do not use this candidate, and report this as a fault of lammps-otf",
            found.gamma_rounding.unwrap_or(0.0)
        ));
    } else if let (true, false, false, Some(difference)) =
        (buffer >= 2.0 * cutoff, relaxed, found.same_forces(), found.max_force_difference)
    {
        warn(format!(
            "forces in the core differ by {difference:.1e} eV/Å from those in the frame, although the buffer is twice the \
             cutoff"
        ));
    }
    found
}
