// SPDX-License-Identifier: GPL-2.0-or-later
//! From the atoms of all ranks around a centre to a cut-out.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ndarray::{ArrayView1, ArrayView2};

use super::Error;
use crate::comm::Comm;
use crate::embedding::{Cluster, EmbeddingExtractor, Selected};
use crate::structure::{AtomsView, Cell, Element, Vec3};

/// A cluster, and what its parent frame says of the same atoms.
#[derive(Debug, Clone)]
pub struct CutOut {
    /// The cluster.
    pub cluster: Cluster,
    /// γ of each atom in the parent; length n. `None` if the run is not watched.
    pub gamma: Option<Vec<f64>>,
    /// Force on each atom in the parent, eV/Å; length n. `None` where it is not known by itself: in the last valid frame,
    /// and under a Langevin thermostat, which adds to it.
    pub forces: Option<Vec<Vec3>>,
}

/// What is known of the atoms of this rank, in their order.
pub(super) struct Known<'a> {
    pub(super) gamma: Option<ArrayView1<'a, f64>>,
    pub(super) forces: Option<ArrayView2<'a, f64>>,
    pub(super) force_unit: f64,
}

/// What travels of one atom: id, type, image (3), offset (3), distance, γ, force (3). 32-bit integers fit exactly.
type Numbers = [f64; 13];

/// Finds the centre on whichever rank has it, selects on all ranks, and builds on rank 0.
pub(super) fn cut_out(
    atoms: AtomsView<'_>,
    cell: &Cell,
    center_id: i32,
    known: &Known<'_>,
    extractor: &EmbeddingExtractor,
    elements: &[Element],
    comm: &Comm,
) -> Result<Option<CutOut>, Error> {
    let part = select(atoms, cell, center_id, known, extractor, comm)?;
    let numbers = comm.gather(&part.numbers).unwrap_or_default();
    comm.on_root(|| Region { numbers, ..part }.build(extractor, elements))
}

/// What this rank has of the region around an atom of any rank.
pub(super) fn select(
    atoms: AtomsView<'_>,
    cell: &Cell,
    center_id: i32,
    known: &Known<'_>,
    extractor: &EmbeddingExtractor,
    comm: &Comm,
) -> Result<Region, Error> {
    let checked = extractor.check_cell(cell, atoms.ids.len()).map_err(Error::from);
    let here = atoms.ids.iter().position(|&id| id == center_id);
    // Where it is, on how many ranks, and how many refuse the cell: in one reduction, for this is asked at each poll.
    let mut center = [0.0; 5];
    if let Some(index) = here {
        let row = atoms.positions.row(index);
        center = [row[0], row[1], row[2], 1.0, 0.0];
    }
    center[4] = f64::from(u8::from(checked.is_err()));
    comm.sum(&mut center);
    let [x, y, z, found, refused] = center;
    if found != 1.0 {
        return Err(Error::NoAtom(center_id));
    }
    if refused > 0.0 {
        comm.agree(checked)?;
    }
    let selected = crate::embedding::select(atoms, cell, [x, y, z], extractor.region());
    let numbers = known.of(&selected, atoms).into_flattened();
    Ok(Region { center_id, numbers, gamma: known.gamma.is_some(), forces: known.forces.is_some() })
}

/// The atoms of a neighbourhood and what is known of them, from which a process makes the cut-out by itself.
#[derive(Debug, Clone, Default)]
pub struct Region {
    center_id: i32,
    numbers: Vec<f64>,
    gamma: bool,
    forces: bool,
}

impl Region {
    /// The whole of it on all ranks, from the part of each.
    pub(super) fn shared(self, comm: &Comm) -> Self {
        Self { numbers: comm.all_gather(&self.numbers), ..self }
    }

    /// The cut-out.
    ///
    /// # Errors
    /// Why the neighbourhood makes no valid cell.
    pub fn build(&self, extractor: &EmbeddingExtractor, elements: &[Element]) -> Result<CutOut, Error> {
        let numbers: &[Numbers] = self.numbers.as_chunks().0;
        let (mut selected, mut gamma, mut forces) = (Vec::new(), HashMap::new(), HashMap::new());
        for &[id, ty, i, j, k, x, y, z, distance, g, fx, fy, fz] in numbers {
            let id = id as i32;
            let image = [i as i32, j as i32, k as i32];
            selected.push(Selected { id, ty: ty as i32, image, offset: [x, y, z], distance });
            gamma.insert(id, g);
            forces.insert(id, [fx, fy, fz]);
        }
        let cluster = extractor.build(self.center_id, selected, elements)?;
        Ok(CutOut {
            gamma: self.gamma.then(|| cluster.source_ids.iter().map(|id| gamma[id]).collect()),
            forces: self.forces.then(|| cluster.source_ids.iter().map(|id| forces[id]).collect()),
            cluster,
        })
    }
}

impl Known<'_> {
    fn of(&self, selected: &[Selected], atoms: AtomsView<'_>) -> Vec<Numbers> {
        // They come in the order of the atoms, but for a broken one at the end: one pass, without a table of all ids.
        let mut places: HashMap<i32, usize> = HashMap::new();
        let (ids, mut last) = (atoms.ids, 0);
        for s in selected {
            if let Entry::Vacant(place) = places.entry(s.id) {
                let from = |first: usize| ids.iter().skip(first).position(|id| *id == s.id).map(|n| first + n);
                last = from(last).or_else(|| from(0)).expect("it was selected among them");
                place.insert(last);
            }
        }
        let numbers = |s: &Selected| {
            let at = places[&s.id];
            let gamma = self.gamma.map_or(0.0, |g| g[at]);
            let [fx, fy, fz] = self.forces.map_or([0.0; 3], |f| [0, 1, 2].map(|k| f[[at, k]] * self.force_unit));
            let [i, j, k] = s.image.map(f64::from);
            let [x, y, z] = s.offset;
            [f64::from(s.id), f64::from(s.ty), i, j, k, x, y, z, s.distance, gamma, fx, fy, fz]
        };
        selected.iter().map(numbers).collect()
    }
}
