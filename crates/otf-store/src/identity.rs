// SPDX-License-Identifier: GPL-2.0-or-later
//! Comparison of a labelled structure with the stored one.
//!
//! The force mask, the source ids, γ and the index of the centre belong to the stored atoms in their order. DFT codes and
//! their interfaces can sort atoms by element, wrap them into the cell, relax them or change the cell. The order can be
//! recovered. A label of other atoms or of another cell is not valid for the candidate.

use super::Candidate;
use otf_atoms::structure::{Cell, Structure, Vec3};
use otf_atoms::vector::{cross, dot, norm, sub};

/// Tolerance for the comparison of positions and cell vectors, Å. Some programs write eight digits only.
pub const POSITION_TOLERANCE: f64 = 1e-4;

/// The index in `found` of each atom of `stored`: atom `i` of `stored` is atom `order[i]` of `found`. Positions can
/// differ by a lattice vector.
///
/// # Errors
/// A message with the first difference, or with the reason why the order is ambiguous; its subject is `found`.
pub fn recover_order(stored: &Structure, found: &Structure) -> Result<Vec<usize>, String> {
    let n = stored.len();
    if found.len() != n {
        return Err(format!("it has {} atoms instead of {n}", found.len()));
    }
    check_cell(&stored.cell, &found.cell)?;
    let lattice = Lattice::new(&stored.cell);
    let same = |i: usize, j: usize| {
        stored.element(i) == found.element(j)
            && lattice.distance(stored.position(i), found.position(j)) <= POSITION_TOLERANCE
    };
    if (0..n).all(|i| same(i, i)) {
        return Ok((0..n).collect());
    }
    // Sorted by the first fractional coordinate; atoms near one end also occur as images at the other end.
    let mut sorted: Vec<(f64, usize)> = Vec::new();
    let width = POSITION_TOLERANCE * norm(lattice.inverse[0]);
    for j in 0..n {
        let s = lattice.first(found.position(j));
        let images = if stored.cell.pbc[0] { [-1.0, 0.0, 1.0].as_slice() } else { [0.0].as_slice() };
        sorted.extend(
            images
                .iter()
                .map(|image| (s + image, j))
                .filter(|(s, _)| !stored.cell.pbc[0] || (-2.0 * width..=1.0 + 2.0 * width).contains(s)),
        );
    }
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut taken = vec![false; n];
    let mut order = Vec::with_capacity(n);
    for i in 0..n {
        let (symbol, s) = (stored.element(i).symbol(), lattice.first(stored.position(i)));
        let from = sorted.partition_point(|(other, _)| *other < s - width);
        let near = sorted[from..].iter().take_while(|(other, _)| *other <= s + width).map(|(_, j)| *j);
        let mut matching: Vec<usize> = near.filter(|&j| same(i, j)).collect();
        matching.sort_unstable();
        matching.dedup();
        match matching[..] {
            [j] if !taken[j] => {
                taken[j] = true;
                order.push(j);
            }
            [] => {
                return Err(format!(
                    "it has no {symbol} within {POSITION_TOLERANCE} Å of {:?}, where atom {i} (from 0) was stored",
                    stored.position(i).map(|x| (x * 1e4).round() / 1e4)
                ));
            }
            _ => {
                return Err(format!(
                    "its atoms are in another order, which cannot be recovered: several {symbol} are at the position of \
                     atom {i} (from 0)"
                ));
            }
        }
    }
    Ok(order)
}

/// Checks that two cells are the same. The vectors of non-periodic cells are not compared.
///
/// # Errors
/// A message with the first difference.
fn check_cell(stored: &Cell, found: &Cell) -> Result<(), String> {
    if stored.pbc != found.pbc {
        let text = |pbc: [bool; 3]| pbc.map(|flag| if flag { "T" } else { "F" }).join(" ");
        return Err(format!("its cell is periodic along {} instead of {}", text(found.pbc), text(stored.pbc)));
    }
    if stored.pbc == [false; 3] {
        return Ok(());
    }
    for (name, (a, b)) in ["a", "b", "c"].iter().zip(stored.vectors.iter().zip(&found.vectors)) {
        // `false` for NaN.
        let same = norm(sub(*a, *b)) <= POSITION_TOLERANCE;
        if !same {
            return Err(format!("its cell vector {name} is {b:?} Å instead of {a:?} Å"));
        }
    }
    Ok(())
}

/// A lattice for the distances of points that coincide up to a lattice vector. Other distances can be too long.
struct Lattice {
    cell: Cell,
    inverse: [Vec3; 3],
}

impl Lattice {
    fn new(cell: &Cell) -> Self {
        let mut cell = Cell { origin: [0.0; 3], ..cell.clone() };
        // Vectors along non-periodic directions can be zero: replace them by unit vectors that complete the others.
        for k in (0..3).filter(|&k| !cell.pbc[k]) {
            cell.vectors[k] = [0.0; 3];
        }
        for k in (0..3).filter(|&k| !cell.pbc[k]) {
            let [v, w] = [cell.vectors[(k + 1) % 3], cell.vectors[(k + 2) % 3]];
            let axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
            let normals = axes.map(|axis| match (norm(v) > 0.0, norm(w) > 0.0) {
                (true, true) => cross(v, w),
                (true, false) => cross(v, axis),
                (false, true) => cross(w, axis),
                (false, false) => axis,
            });
            let longest = normals.into_iter().max_by(|a, b| norm(*a).total_cmp(&norm(*b))).unwrap_or(axes[0]);
            cell.vectors[k] = longest.map(|x| x / norm(longest));
        }
        let inverse = cell.inverse();
        Self { cell, inverse }
    }

    /// The first fractional coordinate, wrapped into the cell if the direction is periodic.
    fn first(&self, point: Vec3) -> f64 {
        let s = dot(self.inverse[0], point);
        if self.cell.pbc[0] { s - s.floor() } else { s }
    }

    fn distance(&self, a: Vec3, b: Vec3) -> f64 {
        let offset = sub(a, b);
        // This is valid in any cell, also in one without a volume.
        if norm(offset) <= POSITION_TOLERANCE {
            return norm(offset);
        }
        let s = self.inverse.map(|row| dot(row, offset));
        norm(self.cell.combine(std::array::from_fn(|k| if self.cell.pbc[k] { s[k] - s[k].round() } else { s[k] })))
    }
}

/// Checks a candidate without a copy of its atoms, from an older version: the core atoms must lie within the radius of the
/// core.
///
/// # Errors
/// A message with the difference.
pub fn check_core(candidate: &Candidate) -> Result<(), String> {
    let (structure, keys) = (&candidate.structure, &candidate.keys);
    let (Some(center), Some(radius), Some("sphere" | "cube")) = (keys.center, keys.radius, keys.shape.as_deref())
    else {
        return Ok(());
    };
    if center >= structure.len() {
        return Err(format!("its centre is atom {center} (from 0) of {}", structure.len()));
    }
    let (cell, _) = structure.cell.reduced();
    let at = structure.position(center);
    let core = candidate.force_mask.iter().enumerate().filter(|(_, weight)| **weight > 0.0);
    let farthest = core.map(|(i, _)| cell.distance_reduced(sub(structure.position(i), at))).fold(0.0, f64::max);
    if farthest > radius + POSITION_TOLERANCE {
        return Err(format!(
            "atoms with force_mask 1 are up to {farthest:.1} Å from the centre, but the radius of the core is {radius} Å"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, Array2, Axis};
    use otf_atoms::structure::Element;

    /// A tilted cell with atoms on both sides of its faces.
    fn structure(pbc: [bool; 3]) -> Structure {
        let n = 60;
        let cell = Cell { origin: [0.0; 3], vectors: [[9.0, 0.0, 0.0], [3.0, 8.0, 0.0], [-2.0, 1.0, 10.0]], pbc };
        let fraction = |i: usize, k: usize| ((i * [7, 11, 13][k] + 3 * k) % n) as f64 / n as f64;
        let positions: Vec<Vec3> =
            (0..n).map(|i| cell.cartesian([fraction(i, 0), fraction(i, 1), fraction(i, 2)])).collect();
        Structure {
            cell,
            elements: vec![Element::Cu, Element::Al],
            types: (0..n).map(|i| i as i32 % 2 + 1).collect(),
            ids: (1..=n as i64).collect(),
            masses: None,
            fixed: Vec::new(),
            positions: Array2::from(positions),
            velocities: None,
        }
    }

    /// The atoms in another order, each in another image and slightly displaced.
    fn permuted(structure: &Structure, order: &[usize]) -> Structure {
        let mut found = structure.clone();
        found.types = order.iter().map(|&i| structure.types[i]).collect::<Array1<i32>>();
        found.positions = structure.positions.select(Axis(0), order);
        let cell = &structure.cell;
        for (at, mut row) in found.positions.rows_mut().into_iter().enumerate() {
            let images: Vec3 =
                std::array::from_fn(|k| if cell.pbc[k] { (at * (k + 1)) as f64 % 5.0 - 2.0 } else { 0.0 });
            let shift = cell.combine(images);
            for k in 0..3 {
                row[k] += shift[k] + 3e-5 * [1.0, -1.0][at % 2];
            }
        }
        found
    }

    #[test]
    fn recover_order_works_in_any_cell() {
        for pbc in [[true; 3], [true, true, false], [false, true, true], [false, false, true], [false; 3]] {
            let mut stored = structure(pbc);
            for k in (0..3).filter(|&k| !pbc[k]) {
                // As in ASE for molecules and slabs.
                stored.cell.vectors[k] = [0.0; 3];
            }
            let n = stored.len();
            let order: Vec<usize> = (0..n).map(|i| i * 37 % n).collect();
            let found = permuted(&stored, &order);
            let recovered = recover_order(&stored, &found).unwrap();
            assert!((0..n).all(|i| order[recovered[i]] == i), "{pbc:?}");
            let identity: Vec<usize> = (0..n).collect();
            assert_eq!(recover_order(&stored, &permuted(&stored, &identity)).unwrap(), identity);
        }
    }

    #[test]
    fn recover_order_rejects_moved_atoms_and_other_cells() {
        let stored = structure([true; 3]);
        let rejects = |change: &dyn Fn(&mut Structure), what: &str| {
            let mut found = stored.clone();
            change(&mut found);
            let why = recover_order(&stored, &found).unwrap_err();
            assert!(why.contains(what), "{why}");
        };
        rejects(&|s| s.positions[[5, 1]] += 0.01, "no Al within 0.0001 Å");
        rejects(&|s| s.positions[[5, 1]] = f64::NAN, "no Al within");
        rejects(&|s| s.types[4] = 2, "no Cu within");
        rejects(&|s| s.cell.vectors[2][2] *= 1.001, "cell vector c");
        rejects(&|s| s.cell.vectors[0] = [f64::NAN; 3], "cell vector a");
        rejects(&|s| s.cell.pbc[1] = false, "periodic along T F T instead of T T T");
        // Two atoms of one element at the same position, and the others in another order.
        let mut twice = stored.clone();
        for k in 0..3 {
            twice.positions[[3, k]] = twice.positions[[1, k]];
        }
        assert!(recover_order(&twice, &twice).is_ok());
        let order: Vec<usize> = (0..twice.len()).rev().collect();
        assert!(recover_order(&twice, &permuted(&twice, &order)).unwrap_err().contains("cannot be recovered"));
    }
}
