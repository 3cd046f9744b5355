// SPDX-License-Identifier: GPL-2.0-or-later
//! The centres of several cut-outs from one frame.
use crate::comm::Comm;
use crate::structure::{AtomId, Cell, Vec3};
use otf_atoms::vector::sub;

/// An atom that can be the centre of a cut-out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Center {
    /// Its id.
    pub id: AtomId,
    /// Its extrapolation grade.
    pub gamma: f64,
    /// Its position, Å.
    pub position: Vec3,
}

/// Selects at most `limit` of `candidates` (the atoms above the threshold, each rank its own), in descending order of γ: repeatedly
/// the one with the largest γ that is farther than `separation` (Å, the radius of the core) from all selected before.
///
/// NaN counts as infinite. Of equal values the lowest id comes first, so that the result
/// depends neither on the order of `candidates` nor on the number of ranks. Distances are to the nearest periodic image,
/// in any cell. Candidates whose position is not finite are ignored.
///
/// # MPI
/// Collective; the same answer on all ranks. The size of messages does not depend on the number of candidates.
#[must_use]
pub fn worst_regions(candidates: &[Center], cell: &Cell, separation: f64, limit: usize, comm: &Comm) -> Vec<Center> {
    let finite = |center: &Center| center.position.iter().all(|x| x.is_finite());
    let definite =
        |center: &Center| Center { gamma: if center.gamma.is_nan() { f64::INFINITY } else { center.gamma }, ..*center };
    let mut left: Vec<Center> = candidates.iter().filter(|c| finite(c)).map(definite).collect();
    // A reduced cell has few periodic images within reach, also if it was strongly tilted.
    let (cell, _) = cell.reduced();
    let mut taken = Vec::new();
    while taken.len() < limit {
        let best = left.iter().copied().max_by(|a, b| a.gamma.total_cmp(&b.gamma).then(b.id.cmp(&a.id)));
        let mut most = [best.map_or(f64::NEG_INFINITY, |b| b.gamma), f64::from(u8::from(best.is_some()))];
        comm.max(&mut most);
        let [gamma, any] = most;
        if any == 0.0 {
            break;
        }
        let first = best.filter(|b| b.gamma == gamma);
        let id = comm.min_i64(first.map_or(AtomId::MAX, |b| b.id));
        // The other ranks add zeros.
        let mut position = first.filter(|b| b.id == id).map_or([0.0; 3], |b| b.position);
        comm.sum(&mut position);
        left.retain(|other| other.id != id && cell.distance_reduced(sub(other.position, position)) > separation);
        taken.push(Center { id, gamma, position });
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn center(id: AtomId, gamma: f64, x: f64) -> Center {
        Center { id, gamma, position: [x, 0.0, 0.0] }
    }

    #[test]
    fn the_worst_come_first_and_keep_their_distance_through_the_boundary() {
        let cell = Cell::orthorhombic([20.0; 3], [true; 3]);
        let candidates = [center(1, 9.0, 0.5), center(2, 8.0, 19.0), center(3, 7.0, 10.0), center(4, f64::NAN, 6.0)];
        let ids = |limit| {
            worst_regions(&candidates, &cell, 4.5, limit, &Comm::single()).iter().map(|c| c.id).collect::<Vec<_>>()
        };
        // 4 is NaN; 3 is 4 Å from it; 2 is 1.5 Å from 1 through the face.
        assert_eq!(ids(10), [4, 1]);
        assert_eq!(ids(1), [4]);
    }

    #[test]
    fn equal_grades_go_by_id() {
        let cell = Cell::orthorhombic([20.0; 3], [false; 3]);
        let candidates = [center(7, 5.0, 0.0), center(2, 5.0, 1.0), center(9, 5.0, 12.0)];
        let ids: Vec<AtomId> =
            worst_regions(&candidates, &cell, 3.0, 5, &Comm::single()).iter().map(|c| c.id).collect();
        assert_eq!(ids, [2, 9]);
        // The highest id that LAMMPS can have is not taken for the absence of one.
        let last = [center(AtomId::MAX, 5.0, 0.0), center(AtomId::MAX - 1, 6.0, 9.0)];
        let ids: Vec<AtomId> = worst_regions(&last, &cell, 3.0, 5, &Comm::single()).iter().map(|c| c.id).collect();
        assert_eq!(ids, [AtomId::MAX - 1, AtomId::MAX]);
    }

    proptest::proptest! {
        #[test]
        fn any_numbers_give_at_most_as_many_as_asked_for(
            atoms in proptest::collection::vec((proptest::num::f64::ANY, proptest::array::uniform3(proptest::num::f64::ANY)), 0..40),
            edge in 1e-3..1e6, separation in proptest::num::f64::ANY, pbc in proptest::array::uniform3(proptest::bool::ANY),
        ) {
            let candidates: Vec<Center> =
                (1..).zip(&atoms).map(|(id, &(gamma, position))| Center { id, gamma, position }).collect();
            let cell = Cell::orthorhombic([edge; 3], pbc);
            let found = worst_regions(&candidates, &cell, separation, 3, &Comm::single());
            proptest::prop_assert!(found.len() <= 3.min(atoms.len()));
        }
    }
}
