// SPDX-License-Identifier: GPL-2.0-or-later
//! Construction of the new cell: a sphere surrounded by vacuum, or a cube without vacuum.
use super::validate::{PairTable, boundary_limits, closest_pairs, squared_across};
use super::{BOX_MARGIN, CUBE_GROWTH, EDGE_TOLERANCE, EmbeddingExtractor, Error, Selected, largest};
use crate::structure::{Element, Vec3};
use crate::vector::{dot, sub};

/// Increment by which a cell grows, Å.
const STEP: f64 = 0.05;

/// The atoms and the edge of the new cell.
pub(super) struct Shaped {
    pub edge: f64,
    pub atoms: Vec<Selected>,
    pub removed: usize,
}

impl EmbeddingExtractor {
    /// The spherical cut-out and the smallest distance of two atoms in it, Å.
    pub(super) fn sphere(&self, atoms: &[Selected], elements: &[Element]) -> Result<(Shaped, f64), Error> {
        let reach = self.radius + self.buffer;
        let atoms: Vec<Selected> =
            atoms.iter().filter(|atom| atom.distance < reach - EDGE_TOLERANCE).copied().collect();
        let (closest, smallest) = closest_pairs(&atoms, elements, &self.limits)?;
        let limits = boundary_limits(&closest, smallest, self.boundary_scale, elements, &self.limits);
        let start = self.smallest_edge().max(2.0 * self.cutoff + BOX_MARGIN);
        // A gap as wide as the largest limit is always sufficient, so the loop terminates. Distances across the faces
        // increase with the edge, because no offset is longer than the edge.
        let most = start + limits.largest() + STEP;
        let mut edge = start;
        let mut step = 0.0;
        while edge < most && !conflicts(&atoms, edge, &limits).is_empty() {
            step += 1.0;
            edge = start + step * STEP;
        }
        let smallest = smallest.min(smallest_across(&atoms, edge));
        Ok((Shaped { edge, atoms, removed: 0 }, smallest))
    }

    /// The cubic cut-out and the smallest distance of two atoms in it, Å.
    pub(super) fn cube(&self, atoms: &[Selected], elements: &[Element]) -> Result<(Shaped, f64), Error> {
        let start = self.smallest_edge();
        let within =
            |edge: f64| -> Vec<Selected> { atoms.iter().filter(|atom| in_cube(atom.offset, edge)).copied().collect() };
        let (closest, smallest) = closest_pairs(&within(start + CUBE_GROWTH), elements, &self.limits)?;
        let limits = boundary_limits(&closest, smallest, self.boundary_scale, elements, &self.limits);
        // The atoms needed by the core lie within radius + buffer of the centre, so two of them are at least as far
        // apart across a face as the cube has grown, and the loop terminates.
        let most = start + limits.largest() + STEP;
        let mut step = 0.0;
        loop {
            let edge = start + step * STEP;
            step += 1.0;
            // The selection contains no atoms beyond this growth.
            let candidates = within(edge.min(start + CUBE_GROWTH));
            let needed = self.needed_by_core(&candidates);
            let pairs = conflicts(&candidates, edge, &limits);
            if edge < most && pairs.iter().any(|&(i, j)| needed[i] && needed[j]) {
                continue;
            }
            let kept = without_conflicts(&candidates, &needed, pairs);
            let removed = candidates.len() - kept.len();
            let (_, inside) = closest_pairs(&kept, elements, &self.limits)?;
            let smallest = inside.min(smallest_across(&kept, edge));
            return Ok((Shaped { edge, atoms: kept, removed }, smallest));
        }
    }

    /// Whether each atom belongs to the core or influences the forces on a core atom: its neighbours and their
    /// neighbours, within the buffer.
    fn needed_by_core(&self, atoms: &[Selected]) -> Vec<bool> {
        let range = self.buffer.min(2.0 * self.cutoff);
        let core: Vec<&Selected> = atoms.iter().filter(|atom| atom.distance < self.radius - EDGE_TOLERANCE).collect();
        let in_range = |atom: &Selected| {
            core.iter().any(|c| {
                let d = sub(c.offset, atom.offset);
                dot(d, d) < range * range
            })
        };
        atoms.iter().map(|atom| atom.distance < self.radius - EDGE_TOLERANCE || in_range(atom)).collect()
    }
}

/// Whether the cube contains an atom. The lower of two opposite faces belongs to the cube, so that the atoms on the
/// faces of a commensurate crystal occur once.
pub(super) fn in_cube(offset: Vec3, edge: f64) -> bool {
    let half = edge / 2.0;
    offset.iter().all(|&x| x >= -half - EDGE_TOLERANCE && x < half - EDGE_TOLERANCE)
}

/// Pairs of atoms (indices) that are too close across a face.
fn conflicts(atoms: &[Selected], edge: f64, limits: &PairTable) -> Vec<(usize, usize)> {
    let far = edge - limits.largest();
    let mut pairs = Vec::new();
    for (i, a) in atoms.iter().enumerate() {
        for (j, b) in atoms[..i].iter().enumerate() {
            let d = sub(a.offset, b.offset);
            // Atoms that are close across a face are nearly one edge apart along that axis.
            if largest(d) > far {
                let limit = limits.get(a.ty, b.ty);
                if squared_across(d, edge) < limit * limit {
                    pairs.push((i, j));
                }
            }
        }
    }
    pairs
}

/// Removes the outermost atom that is in a conflict and not needed, until no such atom is left.
fn without_conflicts(atoms: &[Selected], needed: &[bool], mut pairs: Vec<(usize, usize)>) -> Vec<Selected> {
    let mut removed = vec![false; atoms.len()];
    // The atoms are ordered by distance, so the outermost one is the last.
    while let Some(outermost) = pairs.iter().flat_map(|&(i, j)| [i, j]).filter(|&i| !needed[i]).max() {
        removed[outermost] = true;
        pairs.retain(|&(i, j)| i != outermost && j != outermost);
    }
    atoms.iter().zip(removed).filter(|&(_, removed)| !removed).map(|(atom, _)| *atom).collect()
}

/// Smallest distance of two atoms across a face, and of an atom to its own image, Å.
fn smallest_across(atoms: &[Selected], edge: f64) -> f64 {
    let mut smallest = edge * edge;
    for (i, a) in atoms.iter().enumerate() {
        for b in &atoms[..i] {
            smallest = smallest.min(squared_across(sub(a.offset, b.offset), edge));
        }
    }
    smallest.sqrt()
}
