// SPDX-License-Identifier: GPL-2.0-or-later
//! Several cut-outs from one frame.
use crate::structure::cell::sub;
use crate::structure::{Cell, Vec3};
use std::cmp::Ordering;

/// An atom that could be the centre of a cut-out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Center {
    /// Its identity.
    pub id: i32,
    /// Its extrapolation grade.
    pub gamma: f64,
    /// Its position, Å.
    pub position: Vec3,
}

/// The worst regions of a frame: of `candidates` (the atoms above the threshold), greedily, the one with the highest
/// γ that is farther than `separation` (Å, the radius of the core) from all that were taken before, at most `limit`.
///
/// A γ that is NaN is the worst there is. Of equal ones the lowest id comes first, so that the answer does not depend
/// on the order of `candidates`. Distances are to the nearest periodic image, in any cell. Candidates whose position
/// is not finite are left out: there is nothing around them.
#[must_use]
pub fn worst_regions(candidates: &[Center], cell: &Cell, separation: f64, limit: usize) -> Vec<Center> {
    let finite = |center: &&Center| center.position.iter().all(|x| x.is_finite());
    let mut order: Vec<&Center> = candidates.iter().filter(finite).collect();
    order.sort_unstable_by(|a, b| worse(a.gamma, b.gamma).then(a.id.cmp(&b.id)));
    // A compact cell has few images to look at, however tilted it was.
    let (cell, _) = cell.reduced();
    let mut taken: Vec<Center> = Vec::new();
    for center in order {
        if taken.len() >= limit {
            break;
        }
        if !taken.iter().any(|other| cell.distance_reduced(sub(center.position, other.position)) <= separation) {
            taken.push(*center);
        }
    }
    taken
}

/// Order of falling γ, NaN first.
fn worse(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (a, b) if a != b => b.cmp(&a),
        _ => b.total_cmp(&a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn center(id: i32, gamma: f64, x: f64) -> Center {
        Center { id, gamma, position: [x, 0.0, 0.0] }
    }

    #[test]
    fn the_worst_come_first_and_keep_their_distance_through_the_boundary() {
        let cell = Cell::orthorhombic([20.0; 3], [true; 3]);
        let candidates = [center(1, 9.0, 0.5), center(2, 8.0, 19.0), center(3, 7.0, 10.0), center(4, f64::NAN, 6.0)];
        let ids = |limit| worst_regions(&candidates, &cell, 4.5, limit).iter().map(|c| c.id).collect::<Vec<_>>();
        // 4 is NaN; 3 is 4 Å from it; 2 is 1.5 Å from 1 through the face.
        assert_eq!(ids(10), [4, 1]);
        assert_eq!(ids(1), [4]);
    }

    #[test]
    fn equal_grades_go_by_id() {
        let cell = Cell::orthorhombic([20.0; 3], [false; 3]);
        let candidates = [center(7, 5.0, 0.0), center(2, 5.0, 1.0), center(9, 5.0, 12.0)];
        let ids: Vec<i32> = worst_regions(&candidates, &cell, 3.0, 5).iter().map(|c| c.id).collect();
        assert_eq!(ids, [2, 9]);
    }
}
