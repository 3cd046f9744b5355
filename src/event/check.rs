// SPDX-License-Identifier: GPL-2.0-or-later
//! Relaxation and verification of cut-outs, and the resulting warnings.

use crate::config::InferenceConfig;
use crate::embedding::CutOut;
use crate::script::Script;
use crate::verify::{Verification, relax, verify};

/// Relaxes and verifies a cut-out, as configured. If either fails, a warning is added and the cut-out is not changed.
pub(super) fn relax_and_verify(
    cut_out: &mut CutOut,
    config: &InferenceConfig,
    script: &Script,
    step: i64,
    warnings: &mut Vec<String>,
) -> Verification {
    warn_about_size(cut_out, config, step, warnings);
    if config.candidates.relax
        && !cut_out.cluster.is_whole()
        && let Err(error) = relax(cut_out, script)
    {
        let center = cut_out.cluster.source_ids[cut_out.cluster.center];
        warnings.push(format!("step {step}, atom {center}: the buffer is stored without relaxation: {error}"));
    }
    if config.candidates.verify {
        check(cut_out, config.candidates.relax, script, step, warnings)
    } else {
        Verification::default()
    }
}

/// Adds a warning if the cut-out is larger than `max_atoms`, or if its core is smaller than configured.
fn warn_about_size(cut_out: &CutOut, config: &InferenceConfig, step: i64, warnings: &mut Vec<String>) {
    let cluster = &cut_out.cluster;
    let (center, atoms, limit) = (cluster.source_ids[cluster.center], cluster.structure.len(), cluster.max_atoms);
    let (radius, configured) = (cluster.radius, config.candidates.embedding.radius);
    if cluster.is_oversized() {
        warnings.push(format!(
            "step {step}, atom {center}: the cut-out has {atoms} atoms, more than max_atoms = {limit}, even with the smallest \
             core; it is stored with the key `oversized`. Reduce `buffer` or raise `max_atoms` in [embedding]"
        ));
    } else if radius < configured {
        warnings.push(format!(
            "step {step}, atom {center}: the radius of the core was reduced from {configured} Å to {radius} Å, so that the \
             cut-out has at most max_atoms = {limit} atoms"
        ));
    }
}

/// Compares neighbours, γ and forces of the core in the cut-out with those in the parent frame, and adds a warning for a difference
/// that should not occur. `relaxed`: the buffer was relaxed, except atoms within the cutoff of the centre.
fn check(cut_out: &CutOut, relaxed: bool, script: &Script, step: i64, warnings: &mut Vec<String>) -> Verification {
    let cluster = &cut_out.cluster;
    let center = cluster.source_ids[cluster.center];
    let mut warn = |text: String| warnings.push(format!("step {step}, atom {center}: {text}"));
    let found = match verify(cut_out, script) {
        Ok(found) => found,
        Err(error) => {
            warn(format!("the cut-out could not be verified: {error}"));
            return Verification::default();
        }
    };
    let (buffer, cutoff) = (cluster.buffer, cluster.cutoff);
    if !cluster.is_complete() {
        let forces =
            found.max_force_difference.map_or(String::new(), |d| format!(" and forces differ by up to {d:.1e} eV/Å"));
        warn(format!(
            "the buffer of {buffer} Å is thinner than the cutoff of {cutoff} Å, so that neighbours of core atoms are \
             missing{forces}; set `buffer = {cutoff}` in [embedding]"
        ));
        return found;
    }
    // The cell of a whole frame is that of the simulation.
    let compared = if cluster.is_whole() { 0 } else { cluster.structure.len() };
    let core = (0..compared).filter(|&i| cluster.force_mask[i] == 1.0);
    let changed = core
        .filter(|&i| i == cluster.center || !relaxed)
        .map(|i| (i, cluster.changed_neighbours(i, &cut_out.surroundings)))
        .find(|(_, changed)| *changed > 0);
    // Other neighbours imply other γ and forces, so only the first difference is reported.
    if let Some((at, changed)) = changed {
        warn(format!(
            "{changed} neighbours of atom {} differ between the cut-out and the frame, although the buffer is at least as \
             thick as the cutoff. Do not use this candidate, and report this as a bug of lammps-otf",
            cluster.source_ids[at]
        ));
    } else if let (false, Some(parent), Some(here)) = (found.same_gamma(), found.gamma_parent, found.gamma_cluster) {
        warn(format!(
            "γ of the centre is {here:.10} in the cut-out and {parent:.10} in the frame, although the neighbours are the same \
             and rounding accounts for only {:.1e}. Do not use this candidate, and report this as a bug of lammps-otf",
            found.gamma_rounding.unwrap_or(0.0)
        ));
    } else if let (true, false, false, Some(difference)) = (
        buffer >= 2.0 * cutoff || cluster.is_whole(),
        relaxed && !cluster.is_whole(),
        found.same_forces(),
        found.max_force_difference,
    ) {
        warn(format!(
            "forces in the core differ by {difference:.1e} eV/Å from those in the frame, although {}",
            if cluster.is_whole() { "it is the whole frame" } else { "the buffer is twice the cutoff" }
        ));
    }
    found
}
