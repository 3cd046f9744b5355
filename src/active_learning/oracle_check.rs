// SPDX-License-Identifier: GPL-2.0-or-later
//! Comparison of the oracle with the initial potential, before anything is trained on its labels.
//!
//! Wrong units, a wrong sign, or elements in the wrong order give labels that a trainer fits as well as it can. Forces of a structure
//! that the potential describes show them.

use crate::calibration::mix;
use crate::candidates::Candidate;
use crate::embedding::EmbeddingExtractor;
use crate::prediction::Prediction;
use crate::structure::Structure;

/// Largest displacement along an axis, Å. Near a perfect crystal all forces vanish, with any units and any sign.
const DISPLACEMENT: f64 = 0.15;

/// Largest difference of energies that is not an error, eV per atom. Potentials may be fitted to energies relative to other atoms than
/// those of the oracle, but then their energies cannot be trained on together.
const ENERGY_DIFFERENCE: f64 = 0.5;

/// Correlation of forces above which they differ by a factor only.
const PROPORTIONAL: f64 = 0.9;

/// The factor of a force in eV/Å, and the unit.
const UNITS: [(f64, &str); 7] = [
    (1.0 / 25.711, "Ry/Bohr"),
    (1.0 / 51.422, "Hartree/Bohr"),
    (1.0 / 13.606, "Ry/Å"),
    (1.0 / 27.211, "Hartree/Å"),
    (0.529_18, "eV/Bohr"),
    (23.061, "kcal/mol/Å"),
    (96.485, "kJ/mol/Å"),
];

/// The initial structure with atoms displaced at random, or a region of it if it has more than `max_atoms` atoms; `None` if the
/// region has no valid cell.
pub(super) fn displaced(
    structure: &Structure,
    max_atoms: usize,
    extractor: &EmbeddingExtractor,
    seed: u64,
) -> Option<Candidate> {
    let mut structure = structure.clone();
    for (at, x) in structure.positions.iter_mut().enumerate() {
        let uniform = (mix(mix(seed).wrapping_add(at as u64)) >> 11) as f64 / (1_u64 << 53) as f64;
        *x += DISPLACEMENT * (2.0 * uniform - 1.0);
    }
    structure.velocities = None;
    if structure.len() <= max_atoms {
        return Some(Candidate::new(structure));
    }
    let cluster = extractor.extract_cluster(&structure, 0).ok()?;
    Some(Candidate {
        force_mask: cluster.force_mask,
        source_ids: cluster.source_ids,
        source_images: cluster.source_images,
        ..Candidate::new(cluster.structure)
    })
}

/// Compares the forces of a label with a prediction.
///
/// # Errors
/// Why they do not belong together, if their difference, relative to the larger ones, is above `limit`.
pub(super) fn compare_forces(candidate: &Candidate, prediction: &Prediction, limit: f64) -> Result<(), String> {
    let Some(labels) = &candidate.labels else { return Ok(()) };
    let core: Vec<usize> = (0..candidate.force_mask.len()).filter(|&i| candidate.force_mask[i] > 0.0).collect();
    let product = |a: &ndarray::Array2<f64>, b: &ndarray::Array2<f64>| -> f64 {
        core.iter().map(|&i| a.row(i).dot(&b.row(i))).sum()
    };
    let (own, theirs) = (product(&prediction.forces, &prediction.forces), product(&labels.forces, &labels.forces));
    let both = product(&prediction.forces, &labels.forces);
    let difference = ((own + theirs - 2.0 * both).max(0.0) / own.max(theirs)).sqrt();
    if difference > limit {
        let rms = |sum: f64| (sum / core.len() as f64).sqrt();
        let (own_rms, their_rms) = (rms(own), rms(theirs));
        return Err(format!(
            "the forces of the oracle in the initial structure, with atoms displaced at random, are not those of the initial potential: \
             {their_rms:.3} eV/Å (root mean square) instead of {own_rms:.3} eV/Å, relative difference {difference:.2}, limit {limit} \
             (loop.oracle_difference). {}",
            cause(both / (own * theirs).sqrt(), (theirs / own).sqrt())
        ));
    }
    Ok(())
}

/// Compares the energy of a label with a prediction.
///
/// # Errors
/// That they are relative to different references.
pub(super) fn compare_energies(candidate: &Candidate, prediction: &Prediction) -> Result<(), String> {
    let Some(labels) = &candidate.labels else { return Ok(()) };
    let energy = (labels.energy - prediction.energy) / candidate.structure.len() as f64;
    if energy.abs() > ENERGY_DIFFERENCE {
        return Err(format!(
            "the energy of a check that is trained on differs by {energy:.3} eV/atom from that of the initial potential. Both must be \
             relative to the same reference, such as isolated atoms: check the unit, and subtract the energies of the reference from \
             those of the oracle"
        ));
    }
    Ok(())
}

/// What to look at: `correlation` of the forces, and their ratio.
fn cause(correlation: f64, ratio: f64) -> String {
    let unit = UNITS.iter().find(|(factor, _)| (ratio / factor).ln().abs() < 0.2).map(|(_, unit)| unit);
    match unit {
        _ if correlation < -PROPORTIONAL => "The sign is wrong: forces are minus the gradient of the energy".into(),
        Some(unit) if correlation > PROPORTIONAL => {
            format!("They are {ratio:.3} times those of the potential, as if the unit were {unit}; it must be eV/Å")
        }
        None if correlation > PROPORTIONAL => {
            format!(
                "They are {ratio:.3} times those of the potential: check the unit, which must be eV/Å, and the cell"
            )
        }
        _ => format!(
            "Their correlation is {correlation:.2}: check the order of the elements, the cell, and whether potential and oracle \
             describe the same material"
        ),
    }
}
