// SPDX-License-Identifier: GPL-2.0-or-later
//! Properties of a structure and a potential, for `doctor` and `init`.

use std::path::Path;

use lammps_otf::embedding::{self, EmbeddingExtractor};
use lammps_otf::structure::Structure;
use pace_opt::{ActiveSet, Model};

/// Formats the composition, e.g. "32 Al, 4 Cu".
pub(super) fn composition(structure: &Structure) -> String {
    let mut counts = vec![0_usize; structure.elements.len()];
    structure.types.iter().for_each(|&t| counts[t as usize - 1] += 1);
    let parts = structure.elements.iter().zip(counts).filter(|(_, n)| *n > 0);
    parts.map(|(element, n)| format!("{n} {}", element.symbol())).collect::<Vec<_>>().join(", ")
}

/// Symbols of the elements that occur, each once.
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

/// Describes an ML-PACE potential in one line.
pub(super) fn describe_model(model: &Model) -> String {
    let functions = model.elements.iter().zip(&model.functions).map(|(e, f)| format!("{e} {} functions", f.len()));
    let basis = if model.is_b_basis { "B-basis" } else { "C-tilde basis" };
    format!("{basis}, {}, cutoff {} Å", functions.collect::<Vec<_>>().join(", "), model.cutoff())
}

/// Describes an active set in one line.
pub(super) fn describe_active_set(set: &ActiveSet, model: &Model) -> String {
    let rows = model.elements.iter().zip(&set.size).map(|(e, n)| format!("{e} {n} × {n}"));
    let kind = if set.linear { "linear" } else { "non-linear" };
    format!("{kind}, {}, fits the potential", rows.collect::<Vec<_>>().join(", "))
}

/// Elements of the structure that the potential does not cover.
pub(super) fn unknown_elements(structure: &Structure, model: &Model) -> Vec<&'static str> {
    symbols(structure).into_iter().filter(|s| !model.elements.iter().any(|e| e == s)).collect()
}

/// Number of repetitions along each vector that make the cell at least `length` (Å) thick. 1 along open directions.
pub(super) fn repeats(structure: &Structure, length: f64) -> [u32; 3] {
    let heights = structure.cell.heights();
    std::array::from_fn(|k| if structure.cell.pbc[k] { (length / heights[k] - 1e-9).ceil().max(1.0) as u32 } else { 1 })
}

/// Formats repetitions, e.g. "3 × 3 × 1".
pub(super) fn format_repeats(n: [u32; 3]) -> String {
    n.map(|n| n.to_string()).join(" × ")
}

/// Properties of trial cut-outs of a structure.
#[derive(Debug, Default, Clone)]
pub(super) struct CutOutSummary {
    /// Minimum and maximum number of atoms.
    pub(super) atoms: (usize, usize),
    /// Maximum edge of the cell, Å.
    pub(super) edge: f64,
    /// Whether a cut-out contains several images of the same atom.
    pub(super) repeated: bool,
}

impl CutOutSummary {
    /// Formats the number of atoms, e.g. "202" or "190 to 202".
    pub(super) fn range(&self) -> String {
        let (low, high) = self.atoms;
        if low == high { low.to_string() } else { format!("{low} to {high}") }
    }
}

/// Extracts cut-outs around a few atoms, evenly spaced in the file.
///
/// # Errors
/// The first error of an extraction.
pub(super) fn extract_trials(
    structure: &Structure,
    extractor: &EmbeddingExtractor,
) -> Result<CutOutSummary, embedding::Error> {
    let mut summary = CutOutSummary { atoms: (usize::MAX, 0), ..CutOutSummary::default() };
    for cluster in extractor.trials(structure) {
        let cluster = cluster?;
        let atoms = cluster.structure.len();
        summary.atoms = (summary.atoms.0.min(atoms), summary.atoms.1.max(atoms));
        summary.edge = summary.edge.max(cluster.edge());
        let mut ids = cluster.source_ids;
        ids.sort_unstable();
        summary.repeated |= ids.windows(2).any(|pair| pair[0] == pair[1]);
    }
    Ok(summary)
}

/// Whether the extension is that of a C-tilde basis, from which γ cannot be computed.
pub(super) fn is_c_tilde(file: &Path) -> bool {
    matches!(file.extension().and_then(|e| e.to_str()), Some("yace" | "ace"))
}
