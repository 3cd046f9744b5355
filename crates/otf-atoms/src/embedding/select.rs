// SPDX-License-Identifier: GPL-2.0-or-later
//! Which atoms, and which of their periodic images, lie around a centre.
use std::array::from_fn;

use crate::structure::{AtomsView, Cell, Vec3};
use crate::vector::{dot, norm, sub};

/// A region around a centre.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Region {
    /// Everything nearer than `radius`.
    Sphere {
        /// Å.
        radius: f64,
    },
    /// Everything whose offset along each of x, y and z is smaller than `half_edge`.
    Cube {
        /// Å.
        half_edge: f64,
    },
}

/// An atom, or a periodic image of one, in a [`Region`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Selected {
    /// Identity of the atom.
    pub id: i32,
    /// Its type, from 1.
    pub ty: i32,
    /// How many cells along each vector this image is away from the atom's stored position.
    pub image: [i32; 3],
    /// From the centre to the image, Å.
    pub offset: Vec3,
    /// Length of `offset`, Å.
    pub distance: f64,
}

impl Region {
    /// Half the extent along x, y and z, Å.
    #[must_use]
    pub fn half_extent(self) -> f64 {
        match self {
            Self::Sphere { radius } => radius,
            Self::Cube { half_edge } => half_edge,
        }
    }

    /// Radius of the smallest sphere that holds the region, Å.
    #[must_use]
    pub fn reach(self) -> f64 {
        match self {
            Self::Sphere { radius } => radius,
            Self::Cube { half_edge } => half_edge * 3.0_f64.sqrt(),
        }
    }

    /// Volume, Å³.
    #[must_use]
    pub fn volume(self) -> f64 {
        match self {
            Self::Sphere { radius } => 4.0 / 3.0 * std::f64::consts::PI * radius.powi(3),
            Self::Cube { half_edge } => (2.0 * half_edge).powi(3),
        }
    }

    /// How far the region reaches along a unit vector, Å (its support function).
    fn support(self, direction: Vec3) -> f64 {
        match self {
            Self::Sphere { radius } => radius,
            Self::Cube { half_edge } => half_edge * direction.iter().map(|x| x.abs()).sum::<f64>(),
        }
    }

    /// Whether the region holds a point at this offset from its centre. The surface does not belong to it.
    #[must_use]
    pub fn contains(self, offset: Vec3) -> bool {
        match self {
            Self::Sphere { radius } => dot(offset, offset) < radius * radius,
            Self::Cube { half_edge } => offset.iter().all(|x| x.abs() < half_edge),
        }
    }
}

/// Whether an offset is one that an atom can have: finite, and less than ten centimetres (in Å). Beyond, coordinates
/// of an exploded frame are no better than NaN: folding them back into a cell would give any answer.
pub(super) fn is_somewhere(offset: Vec3) -> bool {
    // False for NaN.
    offset[0].abs() + offset[1].abs() + offset[2].abs() < 1e9
}

/// The nearest whole number of any |x| < 2^51, without a library call.
#[inline]
fn nearest(x: f64) -> f64 {
    const ROUND: f64 = 6_755_399_441_055_744.0;
    (x + ROUND) - ROUND
}

fn ceil(x: f64) -> f64 {
    let whole = nearest(x);
    whole + f64::from(u8::from(whole < x))
}

fn floor(x: f64) -> f64 {
    let whole = nearest(x);
    whole - f64::from(u8::from(whole > x))
}

/// What does not depend on the atom: the region, and how far it reaches in a compact form of the cell.
struct Search<'a> {
    cell: &'a Cell,
    region: Region,
    /// Rows of the inverse cell matrix, 1/Å.
    inverse: [Vec3; 3],
    /// Whether the compact vectors lie along x, y and z.
    upright: bool,
    /// Half width of the region in fractional coordinates, a little wider than exact.
    width: Vec3,
    /// The compact vectors in terms of the cell's own: `compact_i = Σ_j numbers[i][j] own_j`.
    numbers: [Vec3; 3],
}

impl<'a> Search<'a> {
    fn new(cell: &'a Cell, region: Region) -> Self {
        let (compact, numbers) = cell.reduced();
        let inverse = compact.inverse();
        let width = inverse.map(|row| {
            let length = norm(row);
            // Rounding must not lose an image at the edge of the region; each image is tested on its own anyway.
            region.support(row.map(|x| x / length)) * length * (1.0 + 1e-9) + 1e-9
        });
        let upright = (0..3).all(|i| (0..3).all(|k| i == k || inverse[i][k] == 0.0));
        Self { cell, region, inverse, upright, width, numbers }
    }

    /// Number of images that have to be looked at for each atom, at most.
    fn images(&self) -> f64 {
        (0..3).map(|k| if self.cell.pbc[k] { 2.0 * self.width[k] + 1.0 } else { 1.0 }).product()
    }

    /// The image so many compact cells away from where an atom is, in the cell's own vectors, and its offset.
    fn image(&self, offset: Vec3, away: Vec3) -> ([i32; 3], Vec3) {
        let numbers = &self.numbers;
        let [p, q, r] = away;
        // `as` saturates: an atom 2^31 cells away is no atom, and its wrong image is not in the region.
        let image: [i32; 3] = from_fn(|k| (p * numbers[0][k] + q * numbers[1][k] + r * numbers[2][k]) as i32);
        let shift = self.cell.combine(from_fn(|k| f64::from(image[k])));
        (image, from_fn(|k| offset[k] + shift[k]))
    }

    /// Calls `found` with every image in the region of an atom at this offset from the centre.
    #[inline(never)]
    fn each_image(&self, offset: Vec3, mut found: impl FnMut([i32; 3], Vec3)) {
        let mut low = [0.0; 3];
        let mut high = [0.0; 3];
        for k in 0..3 {
            let s = dot(self.inverse[k], offset);
            // Far away from the centre s has fewer digits left.
            let width = self.width[k] + 1e-14 * s.abs();
            if self.cell.pbc[k] {
                low[k] = ceil(-width - s);
                high[k] = floor(width - s);
            } else if s.abs() > width {
                return;
            }
        }
        let all = |k: usize| (low[k] as i64..=high[k] as i64).map(|cells| cells as f64);
        for p in all(0) {
            for q in all(1) {
                for r in all(2) {
                    let (image, moved) = self.image(offset, [p, q, r]);
                    if self.region.contains(moved) {
                        found(image, moved);
                    }
                }
            }
        }
    }

    /// Whether there is any; at the very surface it may say so of one that rounding leaves outside.
    #[inline]
    fn has_image(&self, offset: Vec3) -> bool {
        let inside = |closest: Vec3| self.region.contains(closest.map(|x| x * (1.0 - 1e-9)));
        if self.upright {
            let [u, v, w] = [self.inverse[0][0], self.inverse[1][1], self.inverse[2][2]];
            let closest = |x: f64, k: usize, u: f64| if self.cell.pbc[k] { x - nearest(x * u) / u } else { x };
            return inside([closest(offset[0], 0, u), closest(offset[1], 1, v), closest(offset[2], 2, w)]);
        }
        let mut any = inside(offset);
        if !any {
            self.each_image(offset, |_, _| any = true);
        }
        any
    }

    /// Calls `candidate` with place and offset of the atoms that may have an image in the region, and tells the first
    /// that is nowhere.
    fn scan(&self, atoms: AtomsView<'_>, center: Vec3, mut candidate: impl FnMut(usize, Vec3)) -> Option<usize> {
        assert!(
            atoms.positions.dim() == (atoms.ids.len(), 3) && atoms.types.len() == atoms.ids.len(),
            "positions, ids and types have one row for each atom"
        );
        // A direction that does not repeat is not folded: by a whole number of cells times 0.
        let fold = self.cell.pbc.map(f64::from);
        let [u, v, w] = self.inverse;
        let width = self.width;
        // Whether even the nearest image is outside, along one vector. Most atoms are, along the first.
        let outside = |s: f64, k: usize| (s - fold[k] * nearest(s)).abs() > width[k];
        // An atom at NaN is rejected by its other coordinates as a rule, so it is looked for in passing.
        let mut all_somewhere = true;
        let mut look = |at: usize, d: Vec3, is_outside: bool| {
            let somewhere = is_somewhere(d);
            all_somewhere &= somewhere;
            if !is_outside && somewhere {
                candidate(at, d);
            }
        };
        match atoms.positions.as_slice() {
            Some(rows) if self.upright => {
                for (i, x) in rows.as_chunks::<3>().0.iter().enumerate() {
                    let d = sub(*x, center);
                    look(i, d, outside(d[0] * u[0], 0) || outside(d[1] * v[1], 1) || outside(d[2] * w[2], 2));
                }
            }
            Some(rows) => {
                for (i, x) in rows.as_chunks::<3>().0.iter().enumerate() {
                    let d = sub(*x, center);
                    look(i, d, outside(dot(u, d), 0) || outside(dot(v, d), 1) || outside(dot(w, d), 2));
                }
            }
            None => {
                for (i, row) in atoms.positions.rows().into_iter().enumerate() {
                    look(i, sub([row[0], row[1], row[2]], center), false);
                }
            }
        }
        if all_somewhere {
            return None;
        }
        atoms.positions.rows().into_iter().position(|row| !is_somewhere(sub([row[0], row[1], row[2]], center)))
    }
}

/// The number of periodic images of each atom that [`select`] may have to look at, at most.
///
/// It is 1 to 8 where the region is smaller than the cell, and grows as the ratio of their volumes where it is
/// larger. Callers that take cells from outside should refuse absurd numbers.
#[must_use]
pub fn image_count(cell: &Cell, region: Region) -> f64 {
    Search::new(cell, region).images()
}

/// Every atom, and every periodic image of one, within `region` around `center` (Å): also the atom at the centre
/// itself, with distance 0, and its own images. In the order of `atoms`.
///
/// Atoms may lie outside the cell. The cell must span a volume and not be absurdly small against the region
/// ([`Cell::check`], [`image_count`]; `EmbeddingExtractor::check_cell` does both). The surface of the region does not belong to it (`distance < radius`), as in ASE's
/// `neighbor_list`. The images are complete for any cell (tilted, left-handed, smaller than the region) and any mix
/// of periodic and fixed directions: their number along each vector is bounded by the distance between faces, in a
/// form of the cell made compact first. Nothing is allocated but the result.
///
/// A plain scan, and no tree: of 1,000,188 atoms it takes 1.6 ms (orthogonal) or 1.9 ms (triclinic), where building a
/// k-d tree takes 41 ms (`cargo bench --bench cut_out`; on a busy machine both grow). So a tree pays from about 25
/// centres in one frame on, and only in orthogonal cells larger than the region; an event has a few.
///
/// The first atom whose coordinates are not finite, or beyond 1e9 Å, is part of the result as it is: the caller must
/// be able to see it ([`EmbeddingExtractor::build`](super::EmbeddingExtractor::build) does).
///
/// # MPI
/// Not collective: each rank selects among its own local atoms, and the results together are the selection.
///
/// # Panics
/// If the arrays of `atoms` differ in length.
#[must_use]
pub fn select(atoms: AtomsView<'_>, cell: &Cell, center: Vec3, region: Region) -> Vec<Selected> {
    let search = Search::new(cell, region);
    let mut selected = Vec::new();
    let mut push = |at: usize, image, offset| {
        selected.push(Selected { id: atoms.ids[at], ty: atoms.types[at], image, offset, distance: norm(offset) });
    };
    let broken = search.scan(atoms, center, |at, d| search.each_image(d, |image, offset| push(at, image, offset)));
    if let Some(at) = broken {
        push(at, [0; 3], [0, 1, 2].map(|k| atoms.positions[[at, k]] - center[k]));
    }
    selected
}

/// The atoms that [`select`] finds an image of, with the first that is nowhere: their places in `atoms`. It may hold a few
/// at the surface of the region that [`select`] does not find.
///
/// # MPI
/// Not collective, as [`select`].
///
/// # Panics
/// If the arrays of `atoms` differ in length.
#[must_use]
pub fn near(atoms: AtomsView<'_>, cell: &Cell, center: Vec3, region: Region) -> Vec<usize> {
    let search = Search::new(cell, region);
    let mut near = Vec::new();
    let broken = search.scan(atoms, center, |at, d| {
        if search.has_image(d) {
            near.push(at);
        }
    });
    near.extend(broken);
    near
}
