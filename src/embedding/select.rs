// SPDX-License-Identifier: GPL-2.0-or-later
//! Which atoms, and which of their periodic images, lie around a centre.
use crate::structure::cell::{dot, norm, sub};
use crate::structure::{AtomsView, Cell, Vec3};

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

/// Adding and taking away this number rounds any |x| < 2^51 to the nearest whole number, without a library call.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// What does not depend on the atom: the cell in compact form and how far the region reaches in it.
struct Search {
    /// Rows of the inverse cell matrix, 1/Å.
    inverse: [Vec3; 3],
    /// Half width of the region in fractional coordinates, a little wider than exact.
    width: Vec3,
    pbc: [bool; 3],
    /// The compact vectors in terms of the cell's own: `compact_i = Σ_j numbers[i][j] own_j`.
    numbers: [Vec3; 3],
}

impl Search {
    fn new(cell: &Cell, region: Region) -> Self {
        let (compact, numbers) = cell.reduced();
        let inverse = compact.inverse();
        let width = inverse.map(|row| {
            let length = norm(row);
            // Rounding must not lose an image at the edge of the region; each image is tested on its own anyway.
            region.support(row.map(|x| x / length)) * length * (1.0 + 1e-9) + 1e-9
        });
        Self { inverse, width, pbc: cell.pbc, numbers }
    }

    /// Number of images that have to be looked at for each atom, at most.
    fn images(&self) -> f64 {
        (0..3).map(|k| if self.pbc[k] { 2.0 * self.width[k] + 1.0 } else { 1.0 }).product()
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
    assert!(
        atoms.positions.dim() == (atoms.ids.len(), 3) && atoms.types.len() == atoms.ids.len(),
        "positions, ids and types have one row for each atom"
    );
    let search = Search::new(cell, region);
    let mut found = Finder { atoms, cell, region, search: &search, selected: Vec::new() };
    // A direction that does not repeat is not folded: by a whole number of cells times 0.
    let fold = search.pbc.map(f64::from);
    let [u, v, w] = search.inverse;
    let width = search.width;
    let diagonal = u[1] == 0.0 && u[2] == 0.0 && v[0] == 0.0 && v[2] == 0.0 && w[0] == 0.0 && w[1] == 0.0;
    // Whether even the nearest image is outside, along one vector. Most atoms are, along the first.
    let outside = |s: f64, k: usize| {
        let nearest = s - fold[k] * ((s + ROUND) - ROUND);
        nearest.abs() > width[k]
    };
    // An atom at NaN is rejected by its other coordinates as a rule, so it is looked for in passing.
    let mut all_somewhere = true;
    match atoms.positions.as_slice() {
        Some(rows) if diagonal => {
            for (i, x) in rows.as_chunks::<3>().0.iter().enumerate() {
                let d = sub(*x, center);
                all_somewhere &= is_somewhere(d);
                if !(outside(d[0] * u[0], 0) || outside(d[1] * v[1], 1) || outside(d[2] * w[2], 2)) {
                    found.examine(i, d);
                }
            }
        }
        Some(rows) => {
            for (i, x) in rows.as_chunks::<3>().0.iter().enumerate() {
                let d = sub(*x, center);
                all_somewhere &= is_somewhere(d);
                if !(outside(dot(u, d), 0) || outside(dot(v, d), 1) || outside(dot(w, d), 2)) {
                    found.examine(i, d);
                }
            }
        }
        None => {
            for (i, row) in atoms.positions.rows().into_iter().enumerate() {
                let d = sub([row[0], row[1], row[2]], center);
                all_somewhere &= is_somewhere(d);
                found.examine(i, d);
            }
        }
    }
    if !all_somewhere {
        found.report_broken(center);
    }
    found.selected
}

struct Finder<'a, 'v> {
    atoms: AtomsView<'v>,
    cell: &'a Cell,
    region: Region,
    search: &'a Search,
    selected: Vec<Selected>,
}

impl Finder<'_, '_> {
    /// Looks at every image of the atom at `offset` from the centre that can be within the region.
    #[inline(never)]
    fn examine(&mut self, index: usize, offset: Vec3) {
        let search = self.search;
        if !is_somewhere(offset) {
            return;
        }
        let mut low = [0_i64; 3];
        let mut high = [0_i64; 3];
        for k in 0..3 {
            let s = dot(search.inverse[k], offset);
            // Far away from the centre s has fewer digits left.
            let width = search.width[k] + 1e-14 * s.abs();
            if search.pbc[k] {
                low[k] = (-width - s).ceil() as i64;
                high[k] = (width - s).floor() as i64;
            } else if s.abs() > width {
                return;
            }
        }
        let numbers = &search.numbers;
        for p in low[0]..=high[0] {
            for q in low[1]..=high[1] {
                for r in low[2]..=high[2] {
                    // `as` saturates: an atom 2^31 cells away is no atom, and its wrong image is not in the region.
                    let image: [i32; 3] = std::array::from_fn(|k| {
                        (p as f64 * numbers[0][k] + q as f64 * numbers[1][k] + r as f64 * numbers[2][k]) as i32
                    });
                    let shift = self.cell.combine(image.map(f64::from));
                    let moved: Vec3 = std::array::from_fn(|k| offset[k] + shift[k]);
                    if self.region.contains(moved) {
                        self.push(index, image, moved);
                    }
                }
            }
        }
    }

    /// Selects the first atom that is nowhere.
    #[cold]
    fn report_broken(&mut self, center: Vec3) {
        let offsets = self.atoms.positions.rows().into_iter().map(|row| sub([row[0], row[1], row[2]], center));
        let mut broken = offsets.enumerate().filter(|(_, d)| !is_somewhere(*d));
        if let Some((index, offset)) = broken.next() {
            self.push(index, [0; 3], offset);
        }
    }

    fn push(&mut self, index: usize, image: [i32; 3], offset: Vec3) {
        let (id, ty) = (self.atoms.ids[index], self.atoms.types[index]);
        self.selected.push(Selected { id, ty, image, offset, distance: norm(offset) });
    }
}
