// SPDX-License-Identifier: GPL-2.0-or-later
//! Candidates on the page: their properties, and their atoms in three dimensions.

use serde::Serialize;

use super::series::short;
use crate::candidates::{Labels, StoredCandidate};
use crate::structure::{AtomId, Element, Structure};
use crate::verify::Verification;

/// Maximum number of candidates with a picture: those with the largest γ.
const PICTURES: usize = 60;
/// Maximum number of candidates in the table.
pub(super) const ROWS: usize = 1000;

/// The properties of a candidate that the page shows.
#[derive(Debug, Serialize)]
pub struct View {
    id: i64,
    status: String,
    formula: String,
    natoms: usize,
    core: usize,
    gamma: Option<f64>,
    core_share: Option<f64>,
    step: Option<i64>,
    /// Index of the part that the candidate belongs to.
    part: usize,
    center: Option<usize>,
    center_id: Option<Id>,
    radius: Option<f64>,
    buffer: Option<f64>,
    shape: Option<String>,
    trigger: Option<String>,
    gamma_parent: Option<f64>,
    gamma_cluster: Option<f64>,
    /// Whether `gamma_parent` and `gamma_cluster` agree to rounding.
    same_gamma: bool,
    max_force_difference: Option<f64>,
    energy: Option<f64>,
    largest_force: Option<f64>,
    message: Option<String>,
    picture: Option<Picture>,
}

/// The id of an atom for JavaScript, whose numbers have 53 bits: as text if it has more.
#[derive(Debug, Serialize, PartialEq)]
#[serde(untagged)]
enum Id {
    Number(AtomId),
    Text(String),
}

impl From<AtomId> for Id {
    fn from(id: AtomId) -> Self {
        if id < 1 << 53 { Self::Number(id) } else { Self::Text(id.to_string()) }
    }
}

/// Atoms in three dimensions.
#[derive(Debug, Serialize)]
pub(super) struct Picture {
    origin: [f64; 3],
    cell: [[f64; 3]; 3],
    /// x, y, z of each atom, Å.
    positions: Vec<f64>,
    /// Symbols, colours (#rrggbb) and radii (Å) of the elements.
    elements: Vec<(&'static str, String, f64)>,
    /// For each atom, the index of its element in `elements`.
    element: Vec<usize>,
    core: Vec<u8>,
    gamma: Option<Vec<Option<f64>>>,
    ids: Vec<Id>,
}

impl View {
    pub(super) fn of(row: &StoredCandidate, part: usize) -> Self {
        let (candidate, keys) = (&row.candidate, row.keys());
        let structure = &candidate.structure;
        let labels = candidate.labels.as_ref();
        let checked = Verification {
            gamma_parent: keys.gamma_parent,
            gamma_cluster: keys.gamma_cluster,
            gamma_rounding: keys.gamma_rounding,
            ..Verification::default()
        };
        Self {
            id: row.id,
            status: row.status.map_or("none", crate::candidates::Status::as_str).to_owned(),
            formula: structure.formula(),
            natoms: structure.len(),
            core: candidate.force_mask.iter().filter(|m| **m > 0.0).count(),
            gamma: keys.gamma,
            core_share: keys.core_share,
            step: keys.step,
            part,
            center: keys.center.filter(|c| *c < structure.len()),
            center_id: keys.center_id.map(Id::from),
            radius: keys.radius,
            buffer: keys.buffer,
            shape: keys.shape.clone(),
            trigger: keys.trigger.as_ref().map(|t| t.as_str().to_owned()),
            gamma_parent: keys.gamma_parent,
            gamma_cluster: keys.gamma_cluster,
            same_gamma: checked.same_gamma(),
            max_force_difference: keys.max_force_difference,
            energy: labels.map(|l| l.energy),
            largest_force: labels.map(Labels::largest_force),
            message: row.mismatch.clone().or_else(|| row.message.clone()),
            // If the atoms were changed, core and γ would be shown on the wrong atoms.
            picture: row.mismatch.is_none().then(|| Picture::of(row)),
        }
    }
}

/// Symbols, colours and radii of elements.
fn looks(elements: &[Element]) -> Vec<(&'static str, String, f64)> {
    elements.iter().map(|e| (e.symbol(), colour(*e), radius(*e))).collect()
}

/// A length in Å with three decimal places.
fn round(x: f64) -> f64 {
    (x * 1e3).round() / 1e3
}

impl Picture {
    /// The atoms with these indices of a frame, wrapped into the cell. `gamma` is that of all atoms.
    pub(super) fn of_frame(structure: &Structure, atoms: &[usize], gamma: Option<&[f64]>) -> Self {
        let cell = &structure.cell;
        Self {
            origin: cell.origin.map(round),
            cell: cell.vectors.map(|v| v.map(round)),
            positions: atoms.iter().flat_map(|&i| cell.wrap(structure.position(i)).map(round)).collect(),
            elements: looks(&structure.elements),
            element: atoms.iter().map(|&i| structure.types[i] as usize - 1).collect(),
            core: vec![1; atoms.len()],
            gamma: gamma.map(|gamma| atoms.iter().map(|&i| short(gamma[i])).collect()),
            ids: atoms.iter().map(|&i| Id::from(structure.ids[i])).collect(),
        }
    }

    fn of(row: &StoredCandidate) -> Self {
        let candidate = &row.candidate;
        let structure = &candidate.structure;
        Self {
            origin: structure.cell.origin.map(round),
            cell: structure.cell.vectors.map(|v| v.map(round)),
            positions: structure.positions.iter().map(|x| round(*x)).collect(),
            elements: looks(&structure.elements),
            element: structure.types.iter().map(|t| *t as usize - 1).collect(),
            core: candidate.force_mask.iter().map(|m| u8::from(*m > 0.0)).collect(),
            gamma: candidate.atom_gamma.as_ref().map(|g| g.iter().map(|g| short(*g)).collect()),
            ids: candidate.source_ids.iter().copied().map(Id::from).collect(),
        }
    }
}

/// The usual colour of an element in visualisation programs.
fn colour(element: Element) -> String {
    let colour = element.jmol_color().or(element.cpk_color());
    colour.map_or_else(|| "#c8a2c8".into(), |c| format!("#{:02x}{:02x}{:02x}", c.r, c.g, c.b))
}

/// The radius of an element in pictures, Å.
fn radius(element: Element) -> f64 {
    element.atomic_radius().map_or(1.3, |r| r.0 / 100.0)
}

/// Sorts by decreasing γ, with infinite and NaN values first and unknown values last, and truncates to [`ROWS`] candidates.
pub(super) fn sort_and_cut(views: &mut Vec<View>) {
    views.sort_by(|a, b| b.gamma.unwrap_or(-1.0).total_cmp(&a.gamma.unwrap_or(-1.0)).then(a.id.cmp(&b.id)));
    views.truncate(ROWS);
    views.iter_mut().skip(PICTURES).for_each(|view| view.picture = None);
}
