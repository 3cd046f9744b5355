// SPDX-License-Identifier: GPL-2.0-or-later
//! Cut-outs from the atoms that the ranks have around a centre.

use std::collections::{HashMap, HashSet};

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

use super::Error;
use crate::comm::Comm;
use crate::comm::message::message;
use crate::embedding::{self, CutOut, EmbeddingExtractor, indices_in_region, select};
use crate::structure::{AtomId, AtomsView, Cell, Element, Structure, Vec3};

/// This rank's atoms at one step, and the quantities that are known for them, in the same order.
pub(super) struct LocalAtoms<'a> {
    pub(super) atoms: AtomsView<'a>,
    pub(super) cell: &'a Cell,
    pub(super) gamma: Option<ArrayView1<'a, f64>>,
    /// NaN if the pair style does not know them.
    pub(super) core_share: Option<ArrayView1<'a, f64>>,
    pub(super) forces: Option<ArrayView2<'a, f64>>,
    pub(super) force_unit: f64,
    /// Ids of atoms whose forces are not those of the potential.
    pub(super) fixed: HashSet<AtomId>,
}

/// The atoms around a centre, from which one process can build the cut-out.
#[derive(Debug, Clone)]
pub struct Neighbourhood {
    center_id: AtomId,
    cell: Cell,
    atoms: Vec<NeighbourAtom>,
    /// Whether these are all atoms of the frame, of which no cut-out is made.
    is_whole: bool,
}

/// An atom of a [`Neighbourhood`]. γ is known for all of its atoms or for none, and so are core shares and forces.
#[derive(Debug, Clone, Copy)]
struct NeighbourAtom {
    id: AtomId,
    /// Type of the atom, from 1.
    kind: i32,
    position: Vec3,
    gamma: Option<f64>,
    core_share: Option<f64>,
    /// eV/Å; NaN where the force is not that of the potential.
    force: Option<Vec3>,
}
message!(NeighbourAtom {
    id: AtomId,
    kind: i32,
    position: Vec3,
    gamma: Option<f64>,
    core_share: Option<f64>,
    force: Option<Vec3>
});

impl Neighbourhood {
    /// The atoms of this rank in the neighbourhood of the point `center`, or all of them if a frame of `total` atoms is taken whole.
    pub(super) fn local(
        center_id: AtomId,
        center: Vec3,
        here: &LocalAtoms<'_>,
        total: u64,
        extractor: &EmbeddingExtractor,
    ) -> Self {
        let is_whole = extractor.takes_whole(total);
        let atoms = if is_whole {
            (0..here.atoms.ids.len()).map(|at| here.atom(at)).collect()
        } else {
            let near = indices_in_region(here.atoms, here.cell, center, extractor.region());
            near.into_iter().map(|at| here.atom(at)).collect()
        };
        Self { center_id, cell: here.cell.clone(), atoms, is_whole }
    }

    /// The atoms of all ranks, on rank 0; `None` on the others.
    ///
    /// # MPI
    /// Collective.
    pub(super) fn gathered(self, comm: &Comm) -> Option<Self> {
        let atoms = comm.gather(&self.atoms)?;
        Some(Self { atoms, ..self })
    }

    /// The atoms of all ranks, on each of them.
    ///
    /// # MPI
    /// Collective.
    pub(super) fn shared(self, comm: &Comm) -> Self {
        Self { atoms: comm.all_gather(&self.atoms), ..self }
    }

    /// The cut-out, with standard masses.
    ///
    /// # Errors
    /// If no valid cell can be built from the neighbourhood.
    pub(super) fn build(&self, extractor: &EmbeddingExtractor, elements: &[Element]) -> Result<CutOut, Error> {
        let ids = Array1::from_iter(self.atoms.iter().map(|atom| atom.id));
        let types = Array1::from_iter(self.atoms.iter().map(|atom| atom.kind));
        let positions = Array2::from_shape_fn((self.atoms.len(), 3), |(i, k)| self.atoms[i].position[k]);
        let atoms = AtomsView { positions: positions.view(), ids: ids.view().into(), types: types.view() };
        let by_id: HashMap<AtomId, &NeighbourAtom> = self.atoms.iter().map(|atom| (atom.id, atom)).collect();
        let no_center = embedding::Error::NoCenter { id: self.center_id, found: self.atoms.len() };
        let center = by_id.get(&self.center_id).ok_or(no_center)?.position;
        let selected = |region| select(atoms, &self.cell, center, region);
        let cluster = if self.is_whole {
            let frame = Structure {
                cell: self.cell.clone(),
                elements: elements.to_vec(),
                masses: None,
                types: types.clone(),
                ids: ids.clone(),
                fixed: Vec::new(),
                positions: positions.clone(),
                velocities: None,
            };
            extractor.whole_frame(self.center_id, frame)?
        } else {
            extractor.build_fitting(self.center_id, elements, selected)?
        };
        let source = || cluster.source_ids.iter().map(|id| by_id[id]);
        Ok(CutOut {
            gamma: source().map(|atom| atom.gamma).collect(),
            core_share: source().map(|atom| atom.core_share).collect(),
            forces: source().map(|atom| atom.force).collect(),
            cluster,
            center,
            surroundings: selected(extractor.region()),
        })
    }
}

impl LocalAtoms<'_> {
    /// The position of an atom of any rank.
    ///
    /// # Errors
    /// [`Error::NoAtom`] if no rank has it, or several.
    ///
    /// # MPI
    /// Collective.
    pub(super) fn find(&self, id: AtomId, comm: &Comm) -> Result<Vec3, Error> {
        // A sum to which the ranks without the atom add zero, with the number of ranks that have it.
        let mut sum = [0.0; 4];
        if let Some(at) = self.atoms.ids.position(id) {
            let [x, y, z] = self.position(at);
            sum = [x, y, z, 1.0];
        }
        comm.sum(&mut sum);
        let [x, y, z, ranks] = sum;
        if ranks == 1.0 { Ok([x, y, z]) } else { Err(Error::NoAtom(id)) }
    }

    fn position(&self, at: usize) -> Vec3 {
        [0, 1, 2].map(|k| self.atoms.positions[[at, k]])
    }

    fn atom(&self, at: usize) -> NeighbourAtom {
        let id = self.atoms.ids.get(at);
        let unit = if self.fixed.contains(&id) { f64::NAN } else { self.force_unit };
        NeighbourAtom {
            id,
            kind: self.atoms.types[at],
            position: self.position(at),
            gamma: self.gamma.map(|gamma| gamma[at]),
            core_share: self.core_share.map(|shares| shares[at]).filter(|share| share.is_finite()),
            force: self.forces.map(|forces| [0, 1, 2].map(|k| forces[[at, k]] * unit)),
        }
    }
}
