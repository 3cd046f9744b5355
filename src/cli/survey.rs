// SPDX-License-Identifier: GPL-2.0-or-later
//! What can be said of a structure and a potential before anything runs: for `doctor` and `init`.

use std::path::Path;

use lammps_otf::embedding::{self, EmbeddingExtractor};
use lammps_otf::structure::Structure;
use pace_opt::{ActiveSet, Model};

/// "32 Al, 4 Cu".
pub(super) fn composition(structure: &Structure) -> String {
    let mut counts = vec![0_usize; structure.elements.len()];
    structure.types.iter().for_each(|&t| counts[t as usize - 1] += 1);
    let parts = structure.elements.iter().zip(counts).filter(|(_, n)| *n > 0);
    parts.map(|(element, n)| format!("{n} {}", element.symbol())).collect::<Vec<_>>().join(", ")
}

/// Symbols of the elements that have atoms, each once.
pub(super) fn symbols(structure: &Structure) -> Vec<&'static str> {
    let mut found: Vec<&str> = Vec::new();
    for i in 0..structure.len() {
        let symbol = structure.element(i).symbol();
        if !found.contains(&symbol) {
            found.push(symbol);
        }
    }
    found
}

/// What the file of an ML-PACE potential says, in one line.
pub(super) fn describe_model(model: &Model) -> String {
    let functions = model.elements.iter().zip(&model.functions).map(|(e, f)| format!("{e} {} functions", f.len()));
    let basis = if model.is_b_basis { "B-basis" } else { "C-tilde basis" };
    format!("{basis}, {}, cutoff {} Å", functions.collect::<Vec<_>>().join(", "), model.cutoff())
}

/// What an active set says, in one line.
pub(super) fn describe_active_set(set: &ActiveSet, model: &Model) -> String {
    let rows = model.elements.iter().zip(&set.size).map(|(e, n)| format!("{e} {n} × {n}"));
    let kind = if set.linear { "linear" } else { "non-linear" };
    format!("{kind}, {}, fits the potential", rows.collect::<Vec<_>>().join(", "))
}

/// The elements of the structure that the potential does not know.
pub(super) fn unknown_elements(structure: &Structure, model: &Model) -> Vec<&'static str> {
    symbols(structure).into_iter().filter(|s| !model.elements.iter().any(|e| e == s)).collect()
}

/// How often a cell must be repeated along each vector to be at least `length` (Å) thick; 1 where it is, or is open.
pub(super) fn repeats(structure: &Structure, length: f64) -> [u32; 3] {
    let heights = structure.cell.heights();
    std::array::from_fn(|k| if structure.cell.pbc[k] { (length / heights[k] - 1e-9).ceil().max(1.0) as u32 } else { 1 })
}

/// "3 × 3 × 1".
pub(super) fn times(n: [u32; 3]) -> String {
    n.map(|n| n.to_string()).join(" × ")
}

/// What cut-outs of a structure are like.
#[derive(Debug, Default, Clone)]
pub(super) struct Trial {
    /// Fewest and most atoms.
    pub(super) atoms: (usize, usize),
    /// Largest edge of the cell, Å.
    pub(super) edge: f64,
    /// Whether one atom of the structure is in the same cut-out several times.
    pub(super) repeated: bool,
}

impl Trial {
    /// "202" or "190 to 202".
    pub(super) fn range(&self) -> String {
        let (low, high) = self.atoms;
        if low == high { low.to_string() } else { format!("{low} to {high}") }
    }
}

/// Cuts around a few atoms that lie evenly in the file.
///
/// # Errors
/// The first that any of them meets.
pub(super) fn try_cuts(structure: &Structure, extractor: &EmbeddingExtractor) -> Result<Trial, embedding::Error> {
    let mut trial = Trial { atoms: (usize::MAX, 0), ..Trial::default() };
    for cluster in extractor.trials(structure) {
        let cluster = cluster?;
        let atoms = cluster.structure.len();
        trial.atoms = (trial.atoms.0.min(atoms), trial.atoms.1.max(atoms));
        trial.edge = trial.edge.max(cluster.edge());
        let mut ids = cluster.source_ids;
        ids.sort_unstable();
        trial.repeated |= ids.windows(2).any(|pair| pair[0] == pair[1]);
    }
    Ok(trial)
}

/// Whether the name says that the file holds a C-tilde basis, from which γ cannot be computed.
pub(super) fn is_c_tilde(file: &Path) -> bool {
    matches!(file.extension().and_then(|e| e.to_str()), Some("yace" | "ace"))
}
