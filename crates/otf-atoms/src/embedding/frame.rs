// SPDX-License-Identifier: GPL-2.0-or-later
//! Whole frames instead of cut-outs, for systems that DFT can treat directly.
use super::{Cluster, EmbeddingExtractor, Error, Region, select};
use crate::structure::{AtomId, Structure};
use ndarray::{Array1, Axis};

impl EmbeddingExtractor {
    /// Whether a frame with this number of atoms is stored whole ([`EmbeddingConfig::whole_frames_below`]).
    ///
    /// [`EmbeddingConfig::whole_frames_below`]: super::EmbeddingConfig::whole_frames_below
    #[must_use]
    pub fn takes_whole(&self, atoms: u64) -> bool {
        atoms <= self.whole_frames_below as u64
    }

    /// The whole frame in place of a cut-out: its own cell, all forces are learned, and its energy and stress are those of the
    /// simulated system. Atoms are in the order of their ids and inside the cell.
    ///
    /// # Errors
    /// [`Error::Structure`] for an inconsistent frame, [`Error::NoCenter`], [`Error::Overlap`].
    pub fn whole_frame(&self, center_id: AtomId, mut frame: Structure) -> Result<Cluster, Error> {
        frame.check_arrays()?;
        let mut order: Vec<usize> = (0..frame.len()).collect();
        order.sort_by_key(|&i| frame.ids[i]);
        frame.ids = frame.ids.select(Axis(0), &order);
        frame.types = frame.types.select(Axis(0), &order);
        frame.positions = frame.positions.select(Axis(0), &order);
        frame.velocities = None;
        let n = frame.len();
        let center = frame.ids.iter().position(|&id| id == center_id);
        let center = center.ok_or(Error::NoCenter { id: center_id, found: n })?;
        for i in 0..n {
            let wrapped = frame.cell.wrap(frame.position(i));
            (0..3).for_each(|k| frame.positions[[i, k]] = wrapped[k]);
        }
        // A box that LAMMPS shrink-wraps follows the atoms with a delay. Periodic directions are unchanged.
        let beyond = |i: usize| {
            let at = frame.cell.fractional(frame.position(i));
            (0..3).any(|k| !frame.cell.pbc[k] && !(0.0..1.0).contains(&at[k]))
        };
        if (0..n).any(beyond) {
            frame.cell = frame.cell.enclosing(frame.positions.view());
        }
        self.check_distances(&frame)?;
        let source_ids = frame.ids.to_vec();
        frame.ids = Array1::from_iter(1..=n as AtomId);
        let middle = frame.position(center);
        Ok(Cluster {
            force_mask: vec![1.0; n],
            source_ids,
            source_images: vec![[0; 3]; n],
            distances: (0..n).map(|i| frame.cell.distance(frame.position(i), middle)).collect(),
            center,
            shape: None,
            radius: self.radius,
            buffer: self.buffer.max(self.cutoff),
            cutoff: self.cutoff,
            max_atoms: self.max_atoms.max(n),
            removed: 0,
            min_distance: frame.closest_pair().map_or(f64::INFINITY, |pair| pair.distance),
            structure: frame,
        })
    }

    /// Checks that no two atoms are closer than their limit, images included.
    fn check_distances(&self, frame: &Structure) -> Result<(), Error> {
        let limit = |a, b| self.limits.get(frame.elements[a as usize - 1], frame.elements[b as usize - 1]);
        let types = 1..=frame.elements.len() as i32;
        let largest = types.clone().flat_map(|a| types.clone().map(move |b| limit(a, b))).fold(0.0, f64::max);
        for i in 0..frame.len() {
            let (id, kind) = (frame.ids[i], frame.types[i]);
            let near = select(frame.atoms(), &frame.cell, frame.position(i), Region::Sphere { radius: largest });
            let others = near.iter().filter(|atom| (atom.id, atom.image) != (id, [0; 3]));
            if let Some(atom) = others.into_iter().find(|atom| atom.distance < limit(kind, atom.ty)) {
                let (distance, limit) = (atom.distance, limit(kind, atom.ty));
                return Err(Error::Overlap { a: id.min(atom.id), b: id.max(atom.id), distance, limit });
            }
        }
        Ok(())
    }
}
