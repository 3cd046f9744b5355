// SPDX-License-Identifier: GPL-2.0-or-later
//! The last valid frame of a run, kept in memory: each rank its own atoms.

use ndarray::{ArrayView, ArrayView1, ArrayView2, Dimension};

use crate::comm::Comm;
use crate::config::Sanity;
use crate::lammps::{Error, Lammps, State};
use crate::structure::{AtomsView, Cell};
use crate::uncertainty::Extremes;

/// Positions, velocities, image flags, types, ids, groups and γ of this rank's atoms, with the box, at one step.
///
/// 72 bytes for each atom (positions and velocities 48, γ 8, the rest 16), in LAMMPS's own units. The arrays are reused
/// from frame to frame, and hold little more than what is in them.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    step: i64,
    time: f64,
    cell: Option<Cell>,
    positions: Vec<f64>,
    velocities: Vec<f64>,
    images: Vec<i32>,
    types: Vec<i32>,
    ids: Vec<i32>,
    groups: Vec<i32>,
    gamma: Vec<f64>,
    watched: bool,
}

/// Why a frame cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Flaw {
    /// A coordinate, velocity or force is NaN or infinite.
    NotFinite,
    /// A force is larger than [`Sanity::max_force`].
    Force,
    /// An atom has gone this far, in Å, since the last valid frame: farther than [`Sanity::max_displacement`].
    Displacement(f64),
}

impl Frame {
    /// Looks for what the next valid frame after this one must not hold, on all ranks; the same answer on all of them.
    ///
    /// LAMMPS does not look itself: it goes on with NaN, or stops on one rank while the others wait.
    ///
    /// What each rank knows of γ travels with the answer, which saves a communication: the second result is that of all ranks.
    ///
    /// # MPI
    /// Collective. Only atoms that have changed ranks since this frame travel.
    #[must_use]
    pub fn flaw(
        &self,
        now: &State<'_>,
        sanity: &Sanity,
        force_unit: f64,
        Extremes([max, highest, lowest]): Extremes,
        comm: &Comm,
    ) -> (Option<Flaw>, Extremes) {
        let limit = sanity.max_force / force_unit;
        // A force within the limit is a number: where all are, the forces are read once.
        let moderate = all_within(now.forces, limit);
        let finite = all_finite(now.positions) && all_finite(now.velocities);
        let code = match (finite, moderate) {
            (true, true) => 0.0,
            (true, false) if all_finite(now.forces) => 1.0,
            _ => 2.0,
        };
        // Where LAMMPS has turned a tilted box over, it has changed all image flags: this once nothing can be said.
        let same_box = self.cell.as_ref().is_some_and(|then| !turned_over(then, &now.cell));
        let wanted = sanity.max_displacement.filter(|_| same_box);
        let (distance, strangers) = match wanted {
            Some(limit) => self.displacement(now, limit),
            None => (0.0, Vec::new()),
        };
        let mut codes = [code, distance, if strangers.is_empty() { 0.0 } else { 1.0 }, max, highest, lowest];
        comm.max(&mut codes);
        if codes[2] > 0.0 {
            // The two halves of an atom meet on the rank that its id says, so that no rank gets all of them.
            let mut halves = vec![Vec::new(); comm.size()];
            for stranger in strangers {
                halves[(stranger[0] as i64).rem_euclid(comm.size() as i64) as usize].push(stranger);
            }
            codes[1] = codes[1].max(farthest(&comm.exchange(&halves), &now.cell));
            comm.max(&mut codes);
        }
        let flaw = match (codes[0], wanted) {
            (2.0.., _) => Some(Flaw::NotFinite),
            (1.0.., _) => Some(Flaw::Force),
            (_, Some(limit)) if codes[1] > limit => Some(Flaw::Displacement(codes[1])),
            _ => None,
        };
        (flaw, Extremes([codes[3], codes[4], codes[5]]))
    }

    /// The longest way that an atom of this rank has gone since this frame, in Å, or less where that is within `limit`, and
    /// the atoms, then or now, whose other half another rank has.
    fn displacement(&self, now: &State<'_>, limit: f64) -> (f64, Vec<Stranger>) {
        let State { ids, positions, images, cell, .. } = now;
        let then = |at: usize| stranger(self.ids[at], &self.positions[3 * at..], self.images[at]);
        let now = |at: usize| {
            let row = positions.row(at);
            stranger(ids[at], &[row[0], row[1], row[2]], images[at])
        };
        let mut squared = 0.0_f64;
        // LAMMPS keeps its order for hundreds of steps, but for atoms that come and go.
        let (mut before, mut after) = (Vec::new(), Vec::new());
        // All that a block of atoms needs that have stayed and went through no boundary; the compiler takes several at once.
        let simple = |at: std::ops::Range<usize>| {
            let (ids, images, positions) = (ids.as_slice()?, images.as_slice()?, positions.as_slice()?);
            let same = |was: &[i32], is: &[i32]| was.iter().zip(is).fold(0, |d, (a, b)| d | (a ^ b)) == 0;
            if !(same(self.ids.get(at.clone())?, ids.get(at.clone())?)
                && same(&self.images[at.clone()], &images[at.clone()]))
            {
                return None;
            }
            let (was, is) = (&self.positions[3 * at.start..3 * at.end], &positions[3 * at.start..3 * at.end]);
            // No way is longer than this, which is enough to know of most frames.
            if 3.0 * farthest_along_an_axis(was, is) <= limit * limit {
                return Some(0.0);
            }
            let pairs = was.as_chunks::<3>().0.iter().zip(is.as_chunks::<3>().0);
            // `max` takes the other one of a NaN.
            Some(pairs.fold(0.0_f64, |most, (a, b)| {
                let [x, y, z] = [b[0] - a[0], b[1] - a[1], b[2] - a[2]];
                most.max(x * x + y * y + z * z)
            }))
        };
        let mut next = 0;
        let atoms = self.ids.len().max(ids.len());
        while next < atoms {
            let block = next..(next + BLOCK).min(atoms);
            next = block.end;
            if let Some(farthest) = simple(block.clone()) {
                squared = squared.max(farthest);
                continue;
            }
            for at in block {
                match (self.ids.get(at), ids.get(at)) {
                    (Some(a), Some(b)) if a == b => squared = squared.max(way(&then(at), &now(at), cell)),
                    (a, b) => {
                        before.extend(a.map(|&id| (id, at)));
                        after.extend(b.map(|&id| (id, at)));
                    }
                }
            }
        }
        before.sort_unstable();
        after.sort_unstable();
        let (mut i, mut j, mut strangers) = (0, 0, Vec::new());
        while i < before.len() || j < after.len() {
            match (before.get(i), after.get(j)) {
                (Some(a), Some(b)) if a.0 == b.0 => {
                    squared = squared.max(way(&then(a.1), &now(b.1), cell));
                    (i, j) = (i + 1, j + 1);
                }
                (Some(a), b) if b.is_none_or(|b| a.0 < b.0) => {
                    strangers.push(then(a.1));
                    i += 1;
                }
                (_, b) => {
                    strangers.extend(b.map(|b| now(b.1)));
                    j += 1;
                }
            }
        }
        (squared.sqrt(), strangers)
    }

    /// Copies the present state of this rank's atoms.
    pub fn capture(&mut self, now: &State<'_>, gamma: Option<ArrayView1<'_, f64>>) {
        fn copy<T: Copy, D: Dimension>(to: &mut Vec<T>, from: ArrayView<'_, T, D>) {
            to.clear();
            // A vector that grows by itself doubles, and atoms come and go between ranks.
            if to.capacity() < from.len() {
                to.reserve_exact(from.len() + from.len() / 64);
            }
            match from.as_slice() {
                Some(values) => to.extend_from_slice(values),
                None => to.extend(from.iter()),
            }
        }
        (self.step, self.time) = (now.step, now.time);
        self.cell = Some(now.cell.clone());
        copy(&mut self.positions, now.positions);
        copy(&mut self.velocities, now.velocities);
        copy(&mut self.images, now.images);
        copy(&mut self.types, now.types);
        copy(&mut self.ids, now.ids);
        copy(&mut self.groups, now.groups);
        self.watched = gamma.is_some();
        match gamma {
            Some(values) => copy(&mut self.gamma, values),
            None => self.gamma.clear(),
        }
    }

    /// The step at which it was taken.
    #[must_use]
    pub fn step(&self) -> i64 {
        self.step
    }

    /// The simulated time at which it was taken, in the unit of the set-up.
    #[must_use]
    pub fn time(&self) -> f64 {
        self.time
    }

    /// The box; `None` before the first frame was taken.
    #[must_use]
    pub fn cell(&self) -> Option<&Cell> {
        self.cell.as_ref()
    }

    /// This rank's atoms.
    ///
    /// # Panics
    /// Never: the arrays have the shapes that they were copied with.
    #[must_use]
    pub fn atoms(&self) -> AtomsView<'_> {
        AtomsView {
            positions: ArrayView2::from_shape((self.ids.len(), 3), &self.positions).expect("three for each atom"),
            ids: ArrayView1::from(&self.ids),
            types: ArrayView1::from(&self.types),
        }
    }

    /// γ of this rank's atoms, shape (n); `None`, on all ranks, if it was not known at this step.
    #[must_use]
    pub fn gamma(&self) -> Option<ArrayView1<'_, f64>> {
        self.watched.then(|| ArrayView1::from(&self.gamma))
    }

    /// Id of the fastest atom of all ranks, the lowest id of several.
    ///
    /// # MPI
    /// Collective.
    #[must_use]
    pub fn fastest_atom(&self, comm: &Comm) -> i32 {
        let speed = |v: &[f64]| v.iter().map(|c| c * c).sum::<f64>();
        let speeds = self.velocities.chunks_exact(3).map(speed);
        let (fastest, id) = speeds.zip(&self.ids).fold((-1.0, i32::MAX), |best, (s, &id)| {
            if s > best.0 || (s == best.0 && id < best.1) { (s, id) } else { best }
        });
        let mut global = [fastest];
        comm.max(&mut global);
        comm.min_i64(if fastest == global[0] { i64::from(id) } else { i64::MAX }) as i32
    }

    /// Puts the atoms into `lammps`, which has a set-up and any atoms: those are deleted. The groups of the set-up are to be
    /// those of the one that the frame was taken from, in the same order.
    ///
    /// Each rank's part goes round by itself, so that no rank ever holds all atoms, and the decomposition may differ from
    /// the one that the frame was taken with.
    ///
    /// # Errors
    /// What LAMMPS says; [`Error::Preflight`] if an atom found no owner.
    ///
    /// # MPI
    /// Collective.
    pub fn restore(&self, lammps: &mut Lammps) -> Result<(), Error> {
        let comm = lammps.comm().clone();
        lammps.command("delete_atoms group all compress no")?;
        if let Some(cell) = &self.cell {
            lammps.reset_box(cell)?;
        }
        let mut wanted = 0;
        let mut taken = 0;
        for rank in 0..comm.size() {
            let part = Part::unpack(&comm.broadcast(rank, if comm.rank() == rank { self.pack() } else { Vec::new() }));
            wanted += part.ids.len() as i64;
            let here = lammps.create_atoms(&part.ids, &part.types, &part.positions, &part.velocities, &part.images)?;
            lammps.set_groups(here, &part.ids, &part.groups);
            taken += here as i64;
        }
        let mut total = [taken];
        comm.sum_i64(&mut total);
        if total[0] != wanted {
            return Err(Error::Preflight(format!(
                "only {} of {wanted} atoms of the last valid frame could be put back: an atom lies outside the box",
                total[0]
            )));
        }
        // The set-up says the step already, unless its template does not. Not twice: LAMMPS refuses it where a fix counts
        // steps.
        if lammps.step() != self.step {
            lammps.command(&format!("reset_timestep {}", self.step))?;
        }
        // From the step alone LAMMPS would take a time step that was always the same.
        lammps.set_time(self.time);
        Ok(())
    }

    fn pack(&self) -> Vec<u8> {
        let integers = self.ids.iter().chain(&self.types).chain(&self.images).chain(&self.groups);
        let floats = self.positions.iter().chain(&self.velocities);
        integers.flat_map(|i| i.to_le_bytes()).chain(floats.flat_map(|f| f.to_le_bytes())).collect()
    }
}

/// Whether no number is NaN or infinite.
fn all_finite(view: ArrayView2<'_, f64>) -> bool {
    // Times 0 they stay NaN, and all others are 0.
    in_lanes(view, |sum, x| sum + x * 0.0) == 0.0
}

/// Whether all are numbers, none farther from 0 than `limit`.
fn all_within(view: ArrayView2<'_, f64>, limit: f64) -> bool {
    in_lanes(view, |worst, x| if x.abs() <= limit { worst } else { 1.0 }) == 0.0
}

/// Folds all numbers, eight side by side, which the compiler takes at once, and adds the eight up.
fn in_lanes(view: ArrayView2<'_, f64>, fold: impl Fn(f64, f64) -> f64) -> f64 {
    let Some(numbers) = view.as_slice() else { return view.iter().fold(0.0, |so_far, &x| fold(so_far, x)) };
    let (blocks, rest) = numbers.as_chunks::<8>();
    let lanes = blocks.iter().fold([0.0; 8], |lanes, block| std::array::from_fn(|k| fold(lanes[k], block[k])));
    rest.iter().fold(lanes.iter().sum(), |so_far, &x| fold(so_far, x))
}

/// The square of the largest change of a coordinate, eight side by side as above; NaN counts as none.
fn farthest_along_an_axis(was: &[f64], is: &[f64]) -> f64 {
    let larger = |most: f64, a: f64, b: f64| {
        let squared = (b - a) * (b - a);
        if squared > most { squared } else { most }
    };
    let ((was, was_rest), (is, is_rest)) = (was.as_chunks::<8>(), is.as_chunks::<8>());
    let lanes =
        was.iter().zip(is).fold([0.0; 8], |lanes, (a, b)| std::array::from_fn(|k| larger(lanes[k], a[k], b[k])));
    let most = lanes.into_iter().fold(0.0, f64::max);
    was_rest.iter().zip(is_rest).fold(most, |most, (a, b)| larger(most, *a, *b))
}

/// So many atoms are compared with the last frame at once.
const BLOCK: usize = 256;

fn turned_over(then: &Cell, now: &Cell) -> bool {
    let tilts = |cell: &Cell| [cell.vectors[1][0], cell.vectors[2][0], cell.vectors[2][1]];
    let edges = [now.vectors[0][0], now.vectors[0][0], now.vectors[1][1]];
    tilts(then).iter().zip(tilts(now)).zip(edges).any(|((then, now), edge)| (then - now).abs() > 0.5 * edge)
}

/// An atom as it travels to meet its other half: id, position (3), image flags as LAMMPS packs them.
type Stranger = [f64; 5];

fn stranger(id: i32, x: &[f64], image: i32) -> Stranger {
    [f64::from(id), x[0], x[1], x[2], f64::from(image)]
}

/// Square of the way between two places of an atom, through the periodic boundaries that it went through; 0 if it is no
/// number.
fn way(from: &Stranger, to: &Stranger, cell: &Cell) -> f64 {
    let mut d = [0, 1, 2].map(|k| to[k + 1] - from[k + 1]);
    if from[4] != to[4] {
        let turns = |packed: f64, k: usize| ((packed as i32 as u32) >> (10 * k)) & 1023;
        for (k, vector) in cell.vectors.iter().enumerate() {
            // Ten bits that wrap.
            let turned = turns(to[4], k).wrapping_sub(turns(from[4], k)) & 1023;
            let turned = f64::from(turned) - if turned > 511 { 1024.0 } else { 0.0 };
            d.iter_mut().zip(vector).for_each(|(d, v)| *d += turned * v);
        }
    }
    // `max` takes the other one of a NaN.
    (d[0] * d[0] + d[1] * d[1] + d[2] * d[2]).max(0.0)
}

/// The longest way, in Å, between two that have the same id.
fn farthest(all: &[Stranger], cell: &Cell) -> f64 {
    let mut all: Vec<&Stranger> = all.iter().collect();
    all.sort_unstable_by(|a, b| a[0].total_cmp(&b[0]));
    let pairs = all.windows(2).filter(|pair| pair[0][0] == pair[1][0]);
    pairs.map(|pair| way(pair[0], pair[1], cell)).fold(0.0, f64::max).sqrt()
}

/// One rank's atoms on their way.
struct Part {
    ids: Vec<i32>,
    types: Vec<i32>,
    images: Vec<i32>,
    groups: Vec<i32>,
    positions: Vec<f64>,
    velocities: Vec<f64>,
}

impl Part {
    fn unpack(bytes: &[u8]) -> Self {
        let n = bytes.len() / (4 * 4 + 6 * 8);
        let (integers, floats) = bytes.split_at(n * 4 * 4);
        let mut integers = integers.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let mut floats =
            floats.chunks_exact(8).map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]));
        let mut take = || integers.by_ref().take(n).collect();
        let (ids, types, images, groups) = (take(), take(), take(), take());
        let mut take = || floats.by_ref().take(3 * n).collect();
        Self { ids, types, images, groups, positions: take(), velocities: take() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(turns: [i32; 3]) -> i32 {
        let [i, j, k] = turns.map(|t| ((t + 512) & 1023) as u32);
        (i | (j << 10) | (k << 20)) as i32
    }

    #[test]
    fn a_way_goes_through_the_boundaries() {
        let cell =
            Cell { origin: [0.0; 3], vectors: [[10.0, 0.0, 0.0], [1.0, 20.0, 0.0], [2.0, 3.0, 30.0]], pbc: [true; 3] };
        let from = stranger(7, &[9.9, 0.2, 1.0], packed([0, 0, 0]));
        // 0.3 Å farther along x, and so once round; then against y: out at the bottom and in at the top.
        let to = stranger(7, &[0.2, 0.2, 1.0], packed([1, 0, 0]));
        assert!((way(&from, &to, &cell).sqrt() - 0.3).abs() < 1e-12);
        let to = stranger(7, &[9.9 + 1.0, 20.1, 1.0], packed([0, -1, 0]));
        assert!((way(&from, &to, &cell).sqrt() - 0.1).abs() < 1e-12);
        // The flags themselves go round.
        let (from, to) =
            (stranger(7, &[9.9, 0.0, 0.0], packed([511, 0, 0])), stranger(7, &[0.1, 0.0, 0.0], packed([-512, 0, 0])));
        assert!((way(&from, &to, &cell).sqrt() - 0.2).abs() < 1e-12);
        // No number is no way: that is found elsewhere.
        assert_eq!(way(&from, &stranger(7, &[f64::NAN, 0.0, 0.0], packed([0; 3])), &cell), 0.0);
    }

    #[test]
    fn one_broken_number_anywhere_is_seen() {
        let sound: Vec<f64> = (0..33).map(|i| f64::from(i) - 16.0).collect();
        let view = |numbers: &[f64]| -> (bool, bool) {
            let view = ArrayView2::from_shape((11, 3), numbers).expect("33 numbers");
            (all_finite(view), all_within(view, 16.0))
        };
        assert_eq!(view(&sound), (true, true));
        for at in 0..sound.len() {
            for (broken, finite) in
                [(f64::NAN, false), (f64::INFINITY, false), (-f64::INFINITY, false), (f64::MAX, true), (-16.5, true)]
            {
                let mut numbers = sound.clone();
                numbers[at] = broken;
                assert_eq!(view(&numbers), (finite, false), "{broken} at {at}");
            }
        }
        assert_eq!((all_finite(ArrayView2::from_shape((0, 3), &[]).expect("none")), view(&sound).1), (true, true));
    }

    #[test]
    fn the_largest_change_of_a_coordinate_is_found_anywhere() {
        let was: Vec<f64> = (0..33).map(f64::from).collect();
        for at in 0..was.len() {
            let mut is = was.clone();
            is[at] -= 3.0;
            is[(at + 1) % 33] = f64::NAN;
            assert_eq!(farthest_along_an_axis(&was, &is), 9.0, "at {at}");
        }
    }

    #[test]
    fn halves_of_an_atom_find_each_other() {
        let cell = Cell::orthorhombic([10.0; 3], [true; 3]);
        let at = |id, x| stranger(id, &[x, 0.0, 0.0], packed([0; 3]));
        // Those of 5 are 2 Å apart; 3 has no other half.
        let all = [at(9, 1.0), at(5, 4.0), at(3, 9.0), at(9, 1.5), at(5, 2.0)];
        assert_eq!(farthest(&all, &cell), 2.0);
        assert_eq!(farthest(&[], &cell), 0.0);
    }
}
