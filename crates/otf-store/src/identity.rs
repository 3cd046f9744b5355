// SPDX-License-Identifier: GPL-2.0-or-later
//! Whether a labelled structure is the one that was stored.
//!
//! The force mask, the source ids, γ and the index of the centre belong to the atoms that were stored, in their order.
//! DFT codes and their interfaces sort atoms by element, wrap them into the cell, relax them or change the cell. An
//! order can be recovered; a label of other atoms or of another cell is a label of something else.

use super::Candidate;
use otf_atoms::structure::{Cell, Structure, Vec3};
use otf_atoms::vector::{cross, dot, norm, sub};

/// Two positions, or two cell vectors, nearer than this are the same, Å. Programs write as few as eight digits.
pub const SAME_POSITION: f64 = 1e-4;

/// The place in `found` of each atom of `stored`: atom `i` of `stored` is atom `order[i]` of `found`. Positions may
/// differ by a vector of the lattice.
///
/// # Errors
/// A text that says in what the two differ, or why the order is ambiguous; `found` is its subject.
pub fn order_of(stored: &Structure, found: &Structure) -> Result<Vec<usize>, String> {
    let n = stored.len();
    if found.len() != n {
        return Err(format!("it has {} atoms instead of {n}", found.len()));
    }
    check_cell(&stored.cell, &found.cell)?;
    let lattice = Lattice::new(&stored.cell);
    let same = |i: usize, j: usize| {
        stored.element(i) == found.element(j)
            && lattice.distance(stored.position(i), found.position(j)) <= SAME_POSITION
    };
    if (0..n).all(|i| same(i, i)) {
        return Ok((0..n).collect());
    }
    // Sorted by their first fractional coordinate, with those of both ends at the other end too.
    let mut sorted: Vec<(f64, usize)> = Vec::new();
    let width = SAME_POSITION * norm(lattice.inverse[0]);
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
                    "it has no {symbol} within {SAME_POSITION} Å of {:?}, where atom {i} (from 0) was stored",
                    stored.position(i).map(|x| (x * 1e4).round() / 1e4)
                ));
            }
            _ => {
                return Err(format!(
                    "its atoms are in another order, which cannot be recovered: several {symbol} are at the place of \
                     atom {i} (from 0)"
                ));
            }
        }
    }
    Ok(order)
}

/// Checks that two cells are the same; without periodic directions a cell has no meaning.
fn check_cell(stored: &Cell, found: &Cell) -> Result<(), String> {
    if stored.pbc != found.pbc {
        let text = |pbc: [bool; 3]| pbc.map(|flag| if flag { "T" } else { "F" }).join(" ");
        return Err(format!("its cell is periodic along {} instead of {}", text(found.pbc), text(stored.pbc)));
    }
    if stored.pbc == [false; 3] {
        return Ok(());
    }
    for (name, (a, b)) in ["a", "b", "c"].iter().zip(stored.vectors.iter().zip(&found.vectors)) {
        // NaN is another vector.
        let same = norm(sub(*a, *b)) <= SAME_POSITION;
        if !same {
            return Err(format!("its cell vector {name} is {b:?} Å instead of {a:?} Å"));
        }
    }
    Ok(())
}

/// For distances of points that coincide up to a vector of the lattice; other distances may be too long.
struct Lattice {
    cell: Cell,
    inverse: [Vec3; 3],
}

impl Lattice {
    fn new(cell: &Cell) -> Self {
        let mut cell = Cell { origin: [0.0; 3], ..cell.clone() };
        // Vectors along open directions have no meaning and may be zero: unit vectors that complete the others.
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

    /// The first fractional coordinate, within the cell if it repeats.
    fn first(&self, point: Vec3) -> f64 {
        let s = dot(self.inverse[0], point);
        if self.cell.pbc[0] { s - s.floor() } else { s }
    }

    fn distance(&self, a: Vec3, b: Vec3) -> f64 {
        let offset = sub(a, b);
        // In any cell, also in one without a volume.
        if norm(offset) <= SAME_POSITION {
            return norm(offset);
        }
        let s = self.inverse.map(|row| dot(row, offset));
        norm(self.cell.combine(std::array::from_fn(|k| if self.cell.pbc[k] { s[k] - s[k].round() } else { s[k] })))
    }
}

/// Checks a candidate of a version that did not store its atoms a second time: the core lies within its radius of the
/// centre.
///
/// # Errors
/// A text that says what is wrong.
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
    if farthest > radius + SAME_POSITION {
        return Err(format!(
            "atoms with force_mask 1 lie up to {farthest:.1} Å from the centre, and the radius of the core is {radius} Å"
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
            ids: (1..=n as i32).collect(),
            masses: None,
            fixed: Vec::new(),
            positions: Array2::from(positions),
            velocities: None,
        }
    }

    /// Its atoms in another order, each in another image and off by a little.
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
    fn an_order_is_recovered_in_any_cell() {
        for pbc in [[true; 3], [true, true, false], [false, true, true], [false, false, true], [false; 3]] {
            let mut stored = structure(pbc);
            for k in (0..3).filter(|&k| !pbc[k]) {
                // As ASE has it for molecules and slabs.
                stored.cell.vectors[k] = [0.0; 3];
            }
            let n = stored.len();
            let order: Vec<usize> = (0..n).map(|i| i * 37 % n).collect();
            let found = permuted(&stored, &order);
            let recovered = order_of(&stored, &found).unwrap();
            assert!((0..n).all(|i| order[recovered[i]] == i), "{pbc:?}");
            let identity: Vec<usize> = (0..n).collect();
            assert_eq!(order_of(&stored, &permuted(&stored, &identity)).unwrap(), identity);
        }
    }

    #[test]
    fn moved_atoms_and_other_cells_are_refused() {
        let stored = structure([true; 3]);
        let says = |change: &dyn Fn(&mut Structure), what: &str| {
            let mut found = stored.clone();
            change(&mut found);
            let why = order_of(&stored, &found).unwrap_err();
            assert!(why.contains(what), "{why}");
        };
        says(&|s| s.positions[[5, 1]] += 0.01, "no Al within 0.0001 Å");
        says(&|s| s.positions[[5, 1]] = f64::NAN, "no Al within");
        says(&|s| s.types[4] = 2, "no Cu within");
        says(&|s| s.cell.vectors[2][2] *= 1.001, "cell vector c");
        says(&|s| s.cell.vectors[0] = [f64::NAN; 3], "cell vector a");
        says(&|s| s.cell.pbc[1] = false, "periodic along T F T instead of T T T");
        // Two of one element at one place, and the others in another order.
        let mut twice = stored.clone();
        for k in 0..3 {
            twice.positions[[3, k]] = twice.positions[[1, k]];
        }
        assert!(order_of(&twice, &twice).is_ok());
        let order: Vec<usize> = (0..twice.len()).rev().collect();
        assert!(order_of(&twice, &permuted(&twice, &order)).unwrap_err().contains("cannot be recovered"));
    }
}
