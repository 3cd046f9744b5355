// SPDX-License-Identifier: GPL-2.0-or-later
//! The centres of several cut-outs from one frame.
use crate::comm::Comm;
use crate::structure::{AtomId, Cell, Vec3};
use crate::uncertainty::Cause;
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

/// The centre of a region to cut out at an event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EventCenter {
    /// Its id.
    pub id: AtomId,
    /// Its extrapolation grade, if known.
    pub gamma: Option<f64>,
    /// Why the region is cut out.
    pub cause: Cause,
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
    let definite =
        |center: &Center| Center { gamma: if center.gamma.is_nan() { f64::INFINITY } else { center.gamma }, ..*center };
    let candidates: Vec<_> = candidates.iter().map(definite).map(|center| (center.gamma, center)).collect();
    let mut taken = Vec::new();
    add_regions(&mut taken, &candidates, cell, separation, limit, comm);
    taken
}

/// Adds candidates to `taken`, up to `limit` in all, in descending order of the number before each of them, which is not NaN. All
/// centres are farther apart than `separation`.
///
/// # MPI
/// Collective; `taken` is the same on all ranks.
pub(super) fn add_regions(
    taken: &mut Vec<Center>,
    candidates: &[(f64, Center)],
    cell: &Cell,
    separation: f64,
    limit: usize,
    comm: &Comm,
) {
    // A reduced cell has few periodic images within reach, also if it was strongly tilted.
    let (cell, _) = cell.reduced();
    let is_apart = |center: &Center, from: &Center| {
        center.id != from.id && cell.distance_reduced(sub(center.position, from.position)) > separation
    };
    let finite = |center: &Center| center.position.iter().all(|x| x.is_finite());
    let mut left: Vec<(f64, Center)> = candidates.to_vec();
    left.retain(|(_, center)| finite(center) && taken.iter().all(|from| is_apart(center, from)));
    while taken.len() < limit {
        let best = left.iter().copied().max_by(|(a, x), (b, y)| a.total_cmp(b).then(y.id.cmp(&x.id)));
        let mut most = [best.map_or(f64::NEG_INFINITY, |(value, _)| value), f64::from(u8::from(best.is_some()))];
        comm.max(&mut most);
        let [largest, any] = most;
        if any == 0.0 {
            break;
        }
        let first = best.filter(|(value, _)| *value == largest).map(|(_, center)| center);
        let id = comm.min_i64(first.map_or(AtomId::MAX, |center| center.id));
        // The other ranks add zeros.
        let mut numbers = first.filter(|center| center.id == id).map_or([0.0; 4], |center| {
            let [x, y, z] = center.position;
            [x, y, z, center.gamma]
        });
        comm.sum(&mut numbers);
        let [x, y, z, gamma] = numbers;
        let center = Center { id, gamma, position: [x, y, z] };
        left.retain(|(_, other)| is_apart(other, &center));
        taken.push(center);
    }
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
