// SPDX-License-Identifier: GPL-2.0-or-later
//! Mean square displacements, and diffusion coefficients from their slope.

use super::choose;
use crate::structure::{AtomId, Cell, Element, Structure, Vec3};
use crate::vector::dot;

/// Blocks of the trajectory from which the error of a diffusion coefficient is estimated.
const BLOCKS: usize = 5;
/// Smallest number of frames with which the slope within a block is fitted.
const MIN_FRAMES: usize = 60;
/// Smallest mean square displacement in Å² at the end of the fit. Vibrations in a crystal stay below, up to its melting point.
const MIN_DISPLACEMENT: f64 = 1.0;
/// Range of the exponent p of `MSD ~ t^p` in which a curve counts as linear.
const LINEAR: std::ops::RangeInclusive<f64> = 0.8..=1.2;
/// Largest fraction of a cell that an atom may move between two frames without image flags.
const MAX_MOVE: f64 = 0.25;

/// Why displacements are not known.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UnwrapError {
    /// The ids of the atoms differ between frames.
    #[error("the frames do not contain the same atoms")]
    Atoms,
    /// There are no image flags, and atoms move too far between frames.
    #[error("atoms cross a large part of the cell between two frames, and the file has no image flags")]
    TooFar,
    /// An image flag or position is missing or not finite.
    #[error("a position is not finite")]
    NotFinite,
}

/// Why there is no diffusion coefficient.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NoDiffusion {
    /// There are too few frames.
    #[error("too few frames: {frames} of at least {MIN_FRAMES}")]
    TooShort {
        /// Number of frames at equal distances.
        frames: usize,
    },
    /// Atoms do not move farther than in vibrations.
    #[error(
        "the mean square displacement is {reached:.2} Å² at the end of the fitted range, below {MIN_DISPLACEMENT} Å², as in a crystal or \
         a short run"
    )]
    Bound {
        /// The mean square displacement at the end of the fit, Å².
        reached: f64,
    },
    /// The mean square displacement is not proportional to the time.
    #[error("the displacement is not linear in time: it grows as t^{exponent:.2}")]
    NotLinear {
        /// The exponent.
        exponent: f64,
    },
    /// The blocks of the trajectory differ too much.
    #[error("the coefficient is smaller than twice its standard error: a longer run is required")]
    Noise,
}

/// A diffusion coefficient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Diffusion {
    /// The coefficient, Å²/ps (1 Å²/ps is 1e-8 m²/s). Not corrected for the size of the cell.
    pub coefficient: f64,
    /// Its standard error from five consecutive blocks of the trajectory, Å²/ps.
    pub error: f64,
    /// The range of times in which the slope was fitted, ps.
    pub fit: [f64; 2],
}

/// The mean square displacement of the atoms of an element.
#[derive(Debug, Clone, PartialEq)]
pub struct ElementDisplacement {
    /// The element.
    pub element: Element,
    /// Number of atoms in the average.
    pub atoms: usize,
    /// The mean square displacement at each of [`Displacements::times`], Å².
    pub msd: Vec<f64>,
    /// The diffusion coefficient, or why there is none.
    pub diffusion: Result<Diffusion, NoDiffusion>,
}

/// Collects the paths of atoms from frames at equal distances in time.
///
/// Positions are unwrapped along periodic vectors, by image flags, or by the shortest path from the frame before. They are stored as
/// fractional coordinates; the displacement between two frames is the fractional one in the mean of their cells, so that a change of the
/// cell does not count as motion (compare J. T. Bullerjahn et al., J. Chem. Theory Comput. 19, 3406 (2023)). The motion of the centre of
/// mass is subtracted.
#[derive(Debug, Clone)]
pub struct Displacements {
    most: usize,
    ids: Vec<AtomId>,
    chosen: Vec<(Element, Vec<usize>)>,
    frames: Vec<Frame>,
    /// Wrapped fractional coordinates of all atoms of the last frame, and the cells that they have crossed; only without image flags.
    last: Vec<(Vec3, Vec3)>,
    pbc: [bool; 3],
}

#[derive(Debug, Clone)]
struct Frame {
    slot: usize,
    /// The cell vectors; along open directions, unit vectors.
    vectors: [Vec3; 3],
    /// Unwrapped coordinates of the chosen atoms relative to the centre of mass: fractional, or in Å along open directions.
    paths: Vec<Vec3>,
}

impl Displacements {
    /// No frames yet. At most `most` atoms of each element are used, evenly chosen.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, ids: Vec::new(), chosen: Vec::new(), frames: Vec::new(), last: Vec::new(), pbc: [true; 3] }
    }

    /// Adds a frame. `slot` counts the time in units of the distance of the frames and must increase; slots may be missing. `images`
    /// are the image flags of the atoms.
    ///
    /// # Errors
    /// [`UnwrapError`]. The collected paths must then not be used.
    pub fn add(&mut self, slot: usize, structure: &Structure, images: Option<&[[i32; 3]]>) -> Result<(), UnwrapError> {
        let n = structure.len();
        // In the order of the ids, which need not be that of the file.
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by_key(|&i| structure.ids[i]);
        let ids = order.iter().map(|&i| structure.ids[i]);
        if self.frames.is_empty() {
            self.ids = ids.collect();
            self.pbc = structure.cell.pbc;
            let place: std::collections::HashMap<usize, usize> =
                order.iter().enumerate().map(|(k, &i)| (i, k)).collect();
            self.chosen = choose(structure, self.most);
            // Places in the order of the ids.
            self.chosen.iter_mut().flat_map(|(_, atoms)| atoms.iter_mut()).for_each(|i| *i = place[i]);
        } else if n != self.ids.len() || !ids.eq(self.ids.iter().copied()) || self.pbc != structure.cell.pbc {
            return Err(UnwrapError::Atoms);
        }
        let vectors = match self.frames.last() {
            Some(frame) => unflipped(structure.cell.vectors, frame.vectors, self.pbc),
            None => structure.cell.vectors,
        };
        let cell = Cell { vectors, ..structure.cell.clone() };
        let inverse = cell.inverse();
        let mut mass = 0.0;
        let mut centre = [0.0; 3];
        let mut all = Vec::with_capacity(n);
        for (k, &i) in order.iter().enumerate() {
            let position = structure.position(i);
            // Image flags count the vectors of the file.
            let turns = images.map_or([0.0; 3], |images| structure.cell.combine(images[i].map(f64::from)));
            let offset: Vec3 = std::array::from_fn(|x| position[x] + turns[x] - cell.origin[x]);
            let mut fractional = inverse.map(|row| dot(row, offset));
            if images.is_none() {
                let turns = self.shortest_path(k, fractional)?;
                (0..3).for_each(|x| fractional[x] += turns[x]);
            }
            // Along open directions, lengths are Cartesian: a shrink-wrapped cell follows the atoms.
            let path: Vec3 = std::array::from_fn(|x| if self.pbc[x] { fractional[x] } else { position[x] });
            if !path.iter().all(|x| x.is_finite()) {
                return Err(UnwrapError::NotFinite);
            }
            let own = structure.mass(i);
            mass += own;
            (0..3).for_each(|x| centre[x] += own * path[x]);
            all.push(path);
        }
        let relative = |k: usize| -> Vec3 { std::array::from_fn(|x| all[k][x] - centre[x] / mass) };
        let paths = self.chosen.iter().flat_map(|(_, atoms)| atoms.iter().map(|&k| relative(k))).collect();
        let vectors = std::array::from_fn(|k| match self.pbc[k] {
            true => vectors[k],
            false => std::array::from_fn(|x| f64::from(x == k)),
        });
        self.frames.push(Frame { slot, vectors, paths });
        Ok(())
    }

    /// The number of cells that an atom has crossed, by the shortest path from the last frame.
    fn shortest_path(&mut self, k: usize, wrapped: Vec3) -> Result<Vec3, UnwrapError> {
        let Some((before, turns)) = self.last.get(k).copied() else {
            self.last.push((wrapped, [0.0; 3]));
            return Ok([0.0; 3]);
        };
        let mut now = turns;
        for x in (0..3).filter(|&x| self.pbc[x]) {
            let moved = wrapped[x] - before[x];
            if (moved - moved.round()).abs() > MAX_MOVE {
                return Err(UnwrapError::TooFar);
            }
            now[x] -= moved.round();
        }
        self.last[k] = (wrapped, now);
        Ok(now)
    }

    /// Largest number of atoms of an element.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.most
    }

    /// Number of slots from the first to the last frame.
    fn slots(&self) -> usize {
        match (self.frames.first(), self.frames.last()) {
            (Some(first), Some(last)) => last.slot - first.slot + 1,
            _ => 0,
        }
    }

    /// The times of the displacements in ps, for frames at a distance of `spacing` (ps): from 0 to half of the trajectory.
    #[must_use]
    pub fn times(&self, spacing: f64) -> Vec<f64> {
        (0..=self.slots() / 2).map(|lag| lag as f64 * spacing).collect()
    }

    /// The mean square displacement of each element in the order of atomic numbers, averaged over all origins of time. `spacing` is
    /// the distance of the frames in ps.
    #[must_use]
    pub fn by_element(&self, spacing: f64) -> Vec<ElementDisplacement> {
        let Some(first) = self.frames.first() else { return Vec::new() };
        // `None` where a frame is missing.
        let mut frames: Vec<Option<&Frame>> = vec![None; self.slots()];
        for frame in &self.frames {
            frames[frame.slot - first.slot] = Some(frame);
        }
        let mut at = 0;
        let of_element = |(element, atoms): &(Element, Vec<usize>)| {
            let range = at..at + atoms.len();
            at = range.end;
            let msd = msd(&frames, range.clone(), frames.len() / 2);
            let diffusion = diffusion(&frames, range, &msd, spacing);
            ElementDisplacement { element: *element, atoms: atoms.len(), msd, diffusion }
        };
        self.chosen.iter().map(of_element).collect()
    }
}

/// The vectors of the same lattice that continue those of the frame before. LAMMPS adds multiples of earlier vectors to later ones if
/// they become too oblique. They are counted in planes of the earlier vectors, because these are not orthogonal (L. Babai,
/// Combinatorica 6, 1 (1986)).
fn unflipped(mut vectors: [Vec3; 3], before: [Vec3; 3], pbc: [bool; 3]) -> [Vec3; 3] {
    let [a, b, _] = vectors;
    let along_a = if pbc[0] { dot(b, a) / dot(a, a) } else { 0.0 };
    let normal: Vec3 = std::array::from_fn(|x| b[x] - along_a * a[x]);
    for (k, other, direction) in [(2, 1, normal), (2, 0, a), (1, 0, a)] {
        if pbc[k] && pbc[other] {
            let step = vectors[other];
            let change: Vec3 = std::array::from_fn(|x| vectors[k][x] - before[k][x]);
            let turns = (dot(change, direction) / dot(direction, direction)).round();
            vectors[k] = std::array::from_fn(|x| vectors[k][x] - turns * step[x]);
        }
    }
    vectors
}

/// The mean square displacement of a range of atoms in Å², for the times from 0 to `longest` slots.
fn msd(frames: &[Option<&Frame>], atoms: std::ops::Range<usize>, longest: usize) -> Vec<f64> {
    let of_lag = |lag: usize| {
        let (mut sum, mut pairs) = (0.0, 0_usize);
        for (from, to) in frames.iter().zip(&frames[lag..]) {
            let (Some(from), Some(to)) = (from, to) else { continue };
            let [a, b, c]: [Vec3; 3] =
                std::array::from_fn(|k| std::array::from_fn(|x| 0.5 * (from.vectors[k][x] + to.vectors[k][x])));
            for (p, q) in from.paths[atoms.clone()].iter().zip(&to.paths[atoms.clone()]) {
                let s = [q[0] - p[0], q[1] - p[1], q[2] - p[2]];
                let d: Vec3 = std::array::from_fn(|x| s[0] * a[x] + s[1] * b[x] + s[2] * c[x]);
                sum += dot(d, d);
            }
            pairs += 1;
        }
        sum / (pairs * atoms.len()) as f64
    };
    (0..=longest).map(of_lag).collect()
}

/// The diffusion coefficient from the slopes in consecutive blocks, if the displacement is linear in time.
fn diffusion(
    frames: &[Option<&Frame>],
    atoms: std::ops::Range<usize>,
    whole: &[f64],
    spacing: f64,
) -> Result<Diffusion, NoDiffusion> {
    let slots = frames.len();
    if slots < MIN_FRAMES {
        return Err(NoDiffusion::TooShort { frames: slots });
    }
    let block = slots / BLOCKS;
    // From a quarter to half of a block: later times have few origins.
    let (from, to) = (block.div_ceil(4), block / 2);
    let reached = whole[to];
    if reached.is_nan() || reached < MIN_DISPLACEMENT {
        return Err(NoDiffusion::Bound { reached });
    }
    // In the fit, and beyond it to a quarter of the trajectory.
    for (a, b) in [(from, to), (to, slots / 4)] {
        let exponent = (whole[b] / whole[a]).ln() / (b as f64 / a as f64).ln();
        if !LINEAR.contains(&exponent) {
            return Err(NoDiffusion::NotLinear { exponent });
        }
    }
    let coefficients: Vec<f64> = (0..BLOCKS)
        .map(|k| {
            let msd = msd(&frames[k * block..(k + 1) * block], atoms.clone(), to);
            slope(&msd[from..=to]) / (6.0 * spacing)
        })
        .collect();
    let mean = coefficients.iter().sum::<f64>() / BLOCKS as f64;
    let variance = coefficients.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (BLOCKS - 1) as f64;
    let error = (variance / BLOCKS as f64).sqrt();
    // Also false for NaN, where frames are missing.
    if mean > 2.0 * error {
        Ok(Diffusion { coefficient: mean, error, fit: [from, to].map(|lag| lag as f64 * spacing) })
    } else {
        Err(NoDiffusion::Noise)
    }
}

/// The slope of the straight line through equidistant values, by least squares.
fn slope(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let (middle, mean) = ((n - 1.0) / 2.0, values.iter().sum::<f64>() / n);
    let (mut above, mut below) = (0.0, 0.0);
    for (k, value) in values.iter().enumerate() {
        let x = k as f64 - middle;
        above += x * (value - mean);
        below += x * x;
    }
    above / below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flips_of_oblique_cells_are_undone() {
        // Hexagonal, flat, and ordinary, each slightly strained between the two frames.
        for b in [[5.0, 8.66, 0.0], [5.0, 5.0, 0.0], [-4.9, 9.0, 0.0], [3.0, 11.0, 0.0]] {
            let before = [[10.0, 0.0, 0.0], b, [4.9, -3.0, 12.0]];
            let strained: [Vec3; 3] = before.map(|v| [v[0] * 1.01 + 0.002 * v[2], v[1] * 0.99, v[2] * 1.005]);
            let [a, b, c] = strained;
            for (p, q, r) in
                [(0, 0, 0), (-1, 0, 0), (1, 0, 0), (0, 1, 0), (-1, -1, 0), (0, 0, 1), (-1, 1, -1), (1, -1, 1)]
            {
                let [p, q, r] = [p, q, r].map(f64::from);
                let flipped_b: Vec3 = std::array::from_fn(|x| b[x] + r * a[x]);
                let flipped_c: Vec3 = std::array::from_fn(|x| c[x] + p * a[x] + q * flipped_b[x]);
                let found = unflipped([a, flipped_b, flipped_c], before, [true; 3]);
                for (found, expected) in found.iter().flatten().zip(strained.iter().flatten()) {
                    assert!((found - expected).abs() < 1e-9, "{found} {expected} {p} {q} {r}");
                }
            }
        }
    }
    use crate::structure::Cell;
    use ndarray::Array2;

    /// Random numbers between -1 and 1 with a period of 2⁶⁴ (Knuth's generator).
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
        }
    }

    fn structure(cell: &Cell, positions: &[Vec3]) -> Structure {
        let n = positions.len();
        Structure {
            cell: cell.clone(),
            elements: vec![Element::Al],
            masses: None,
            types: vec![1; n].into(),
            ids: (1..=n as i64).collect(),
            fixed: Vec::new(),
            positions: Array2::from_shape_vec((n, 3), positions.concat()).unwrap(),
            velocities: None,
        }
    }

    /// 200 atoms in a tilted cell of changing volume that make random steps of ⟨d²⟩ = 3 `step`²/3 in 300 frames, with a drift.
    fn walk(step: f64, images: bool, breathe: f64) -> Vec<ElementDisplacement> {
        let cell = Cell::from_lammps([-1.0, 0.5, 2.0], [9.0, 11.5, 14.0], [3.0, -2.0, 4.0], [true; 3]);
        let mut random = Random(7);
        let mut paths: Vec<Vec3> = (0..200).map(|_| std::array::from_fn(|_| random.next() * 9.0)).collect();
        let mut displacements = Displacements::new(1000);
        for slot in 0..300 {
            for path in &mut paths {
                *path = path.map(|x| x + step * random.next() + 0.05);
            }
            let scale = 1.0 + breathe * (slot as f64).sin();
            let mut now = Cell { vectors: cell.vectors.map(|v| v.map(|x| scale * x)), ..cell.clone() };
            if breathe > 0.0 && slot / 50 % 2 == 1 {
                // Other vectors of the same lattice.
                let [a, b, c] = now.vectors;
                now.vectors = [a, std::array::from_fn(|x| b[x] - a[x]), std::array::from_fn(|x| c[x] + a[x] - b[x])];
            }
            // The atoms follow the cell.
            let moved = |path: &Vec3| {
                now.origin.map(|o| o * (1.0 - scale)).iter().zip(path).map(|(o, x)| o + scale * x).collect::<Vec<_>>()
            };
            let fractional: Vec<Vec3> = paths.iter().map(|p| now.fractional(moved(p).try_into().unwrap())).collect();
            let turns: Vec<[i32; 3]> = fractional.iter().map(|s| s.map(|s| s.floor() as i32)).collect();
            let positions: Vec<Vec3> = fractional.iter().map(|s| now.cartesian(s.map(|s| s - s.floor()))).collect();
            displacements.add(slot, &structure(&now, &positions), images.then_some(&turns[..])).unwrap();
        }
        displacements.by_element(0.5)
    }

    #[test]
    fn random_walk_diffuses_as_its_steps_say() {
        let reference = walk(0.6, true, 0.0);
        // A step of uniform numbers has the variance 0.6²/3 along each axis, every 0.5 ps.
        let expected = 0.6_f64.powi(2) / 3.0 / (2.0 * 0.5);
        let found = reference[0].diffusion.clone().unwrap();
        assert!((found.coefficient - expected).abs() < 4.0 * found.error, "{found:?} instead of {expected}");
        assert!(found.error < 0.05 * expected, "{found:?}");
        let lag = 20;
        assert!((reference[0].msd[lag] / (6.0 * expected * 0.5 * lag as f64) - 1.0).abs() < 0.05);
        // Without image flags, and in a cell that breathes: the same paths.
        for (images, breathe) in [(false, 0.0), (true, 0.03), (false, 0.03)] {
            let same = &walk(0.6, images, breathe)[0];
            let largest = same.msd.iter().zip(&reference[0].msd).map(|(a, b)| (a / b.max(1e-9) - 1.0).abs());
            // The mean over whole periods of the sine is nearly 0.
            let largest = largest.skip(1).fold(0.0, f64::max);
            assert!(largest < if breathe > 0.0 { 5e-3 } else { 1e-9 }, "{images} {breathe}: {largest}");
        }
    }

    #[test]
    fn bound_atoms_and_short_runs_have_no_diffusion_coefficient() {
        let cell = Cell::orthorhombic([10.0; 3], [true; 3]);
        let mut random = Random(3);
        let run = |frames: usize, displace: &mut dyn FnMut(usize) -> f64| {
            let mut displacements = Displacements::new(1000);
            for slot in 0..frames {
                let positions: Vec<Vec3> = (0..50).map(|k| [0.2 * k as f64 + displace(slot), 5.0, 5.0]).collect();
                displacements.add(slot, &structure(&cell, &positions), None).unwrap();
            }
            displacements.by_element(1.0)[0].diffusion.clone()
        };
        assert_eq!(run(59, &mut |_| 0.0), Err(NoDiffusion::TooShort { frames: 59 }));
        assert!(matches!(run(100, &mut |_| random.next()), Err(NoDiffusion::Bound { reached }) if reached > 0.1));
        let mut sign = 1.0;
        let flight = run(100, &mut |slot| {
            sign = -sign;
            sign * 0.3 * slot as f64
        });
        assert!(matches!(flight, Err(NoDiffusion::NotLinear { exponent }) if exponent > 1.9), "{flight:?}");
    }

    #[test]
    fn paths_that_cannot_be_unwrapped_are_rejected() {
        let cell = Cell::orthorhombic([10.0; 3], [true; 3]);
        let mut displacements = Displacements::new(10);
        displacements.add(0, &structure(&cell, &[[1.0; 3], [2.0; 3]]), None).unwrap();
        assert_eq!(displacements.add(1, &structure(&cell, &[[1.0; 3], [5.0; 3]]), None), Err(UnwrapError::TooFar));
        assert_eq!(displacements.add(1, &structure(&cell, &[[1.0; 3]]), None), Err(UnwrapError::Atoms));
        let open = Cell::orthorhombic([10.0; 3], [true, true, false]);
        let mut displacements = Displacements::new(10);
        displacements.add(0, &structure(&open, &[[9.9, 1.0, 1.0], [2.0; 3]]), None).unwrap();
        displacements.add(1, &structure(&open, &[[0.1, 1.0, 8.0], [2.0; 3]]), None).unwrap();
        // Relative to the centre of mass, each atom moves by half of the difference.
        let msd = displacements.by_element(1.0)[0].msd[1];
        assert!((msd - (0.1_f64.powi(2) + 3.5_f64.powi(2))).abs() < 1e-9, "{msd}");
    }
}
