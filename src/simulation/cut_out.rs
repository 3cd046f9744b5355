// SPDX-License-Identifier: GPL-2.0-or-later
//! From the atoms of all ranks around a centre to a cut-out.

use std::collections::{HashMap, HashSet};

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

use super::Error;
use crate::comm::Comm;
use crate::embedding::{self, CutOut, EmbeddingExtractor, near, select};
use crate::structure::{AtomsView, Cell, Element, Vec3};

/// A frame as this rank has it: its atoms, and what is known of them, in their order.
pub(super) struct Known<'a> {
    pub(super) atoms: AtomsView<'a>,
    pub(super) cell: &'a Cell,
    pub(super) gamma: Option<ArrayView1<'a, f64>>,
    pub(super) forces: Option<ArrayView2<'a, f64>>,
    pub(super) force_unit: f64,
    /// Ids of atoms whose forces are not those of the potential.
    pub(super) fixed: HashSet<i32>,
}

/// The atoms around a centre and what is known of them, from which a process makes the cut-out by itself.
#[derive(Debug, Clone)]
pub struct Neighbourhood {
    center_id: i32,
    cell: Cell,
    gamma: bool,
    forces: bool,
    /// One row for each atom: id, type, position (3), then γ and force (3) where they are known. 32-bit integers fit
    /// exactly.
    numbers: Vec<f64>,
}

impl Neighbourhood {
    /// What this rank has of the neighbourhood of an atom at `center`, of any rank.
    pub(super) fn part(center_id: i32, center: Vec3, known: &Known<'_>, extractor: &EmbeddingExtractor) -> Self {
        let near = near(known.atoms, known.cell, center, extractor.region());
        Self {
            center_id,
            cell: known.cell.clone(),
            gamma: known.gamma.is_some(),
            forces: known.forces.is_some(),
            numbers: known.rows(&near),
        }
    }

    /// All of it, from the parts of the ranks, on rank 0; the others get `None`.
    ///
    /// # MPI
    /// Collective.
    pub(super) fn gathered(self, comm: &Comm) -> Option<Self> {
        let numbers = comm.gather(&self.numbers)?;
        Some(Self { numbers, ..self })
    }

    /// All of it, from the parts of the ranks, on each of them.
    ///
    /// # MPI
    /// Collective.
    pub(super) fn shared(self, comm: &Comm) -> Self {
        Self { numbers: comm.all_gather(&self.numbers), ..self }
    }

    /// The cut-out, with the standard masses.
    ///
    /// # Errors
    /// Why the neighbourhood makes no valid cell.
    pub(super) fn build(&self, extractor: &EmbeddingExtractor, elements: &[Element]) -> Result<CutOut, Error> {
        let width = columns(self.gamma, self.forces);
        let rows = self.numbers.chunks_exact(width);
        let integers = |column: usize| Array1::from_iter(rows.clone().map(|row| row[column] as i32));
        let (ids, types) = (integers(0), integers(1));
        let positions = Array2::from_shape_fn((rows.len(), 3), |(i, k)| self.numbers[i * width + 2 + k]);
        let atoms = AtomsView { positions: positions.view(), ids: ids.view(), types: types.view() };
        let places: HashMap<i32, usize> = ids.iter().copied().zip(0..).collect();
        let no_center = embedding::Error::NoCenter { id: self.center_id, found: rows.len() };
        let &center = places.get(&self.center_id).ok_or(no_center)?;
        let center = [0, 1, 2].map(|k| positions[[center, k]]);
        let selected = |region| select(atoms, &self.cell, center, region);
        let cluster = extractor.build_fitting(self.center_id, elements, selected)?;
        let row = |id: &i32| &self.numbers[places[id] * width..][..width];
        Ok(CutOut {
            gamma: self.gamma.then(|| cluster.source_ids.iter().map(|id| row(id)[5]).collect()),
            forces: self.forces.then(|| {
                let force = |id| row(id).last_chunk::<3>().copied().expect("a row ends with the force");
                cluster.source_ids.iter().map(force).collect()
            }),
            cluster,
            center,
            surroundings: selected(extractor.region()),
        })
    }
}

fn columns(gamma: bool, forces: bool) -> usize {
    5 + usize::from(gamma) + 3 * usize::from(forces)
}

impl Known<'_> {
    /// Where an atom of any rank is.
    ///
    /// # MPI
    /// Collective.
    pub(super) fn find(&self, id: i32, comm: &Comm) -> Result<Vec3, Error> {
        // With the number of ranks that have it.
        let mut place = [0.0; 4];
        if let Some(at) = self.atoms.ids.iter().position(|own| *own == id) {
            let row = self.atoms.positions.row(at);
            place = [row[0], row[1], row[2], 1.0];
        }
        comm.sum(&mut place);
        let [x, y, z, found] = place;
        if found == 1.0 { Ok([x, y, z]) } else { Err(Error::NoAtom(id)) }
    }

    fn rows(&self, chosen: &[usize]) -> Vec<f64> {
        let Self { atoms, gamma, forces, fixed, .. } = self;
        let mut rows = Vec::with_capacity(chosen.len() * columns(gamma.is_some(), forces.is_some()));
        for &at in chosen {
            let unit = if fixed.contains(&atoms.ids[at]) { f64::NAN } else { self.force_unit };
            rows.extend([f64::from(atoms.ids[at]), f64::from(atoms.types[at])]);
            rows.extend(atoms.positions.row(at));
            rows.extend(gamma.map(|gamma| gamma[at]));
            rows.extend(forces.iter().flat_map(|forces| forces.row(at).into_iter().map(move |f| f * unit)));
        }
        rows
    }
}
