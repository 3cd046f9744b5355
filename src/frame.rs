// SPDX-License-Identifier: GPL-2.0-or-later
//! The last valid frame of a run, in memory: each rank holds its own atoms.

use std::ops::Range;

use ndarray::{ArrayView, ArrayView1, ArrayView2, Dimension};

use crate::comm::Comm;
use crate::comm::message::message;
use crate::config::Sanity;
use crate::lammps::{Error, ImagePacking, Lammps, State};
use crate::structure::{AtomId, AtomsView, Cell, Integers, Vec3};
use crate::uncertainty::Extremes;

/// Positions, velocities, image flags, types, ids, groups and γ of this rank's atoms, with the box, at one step.
///
/// Each atom takes 72 bytes (positions and velocities 48, γ 8, the rest 16), in LAMMPS's own units, or 80 bytes if LAMMPS stores
/// ids and image flags with 64 bits. The arrays are reused from frame to frame, and have little spare capacity.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    step: i64,
    time: f64,
    cell: Option<Cell>,
    positions: Vec<f64>,
    velocities: Vec<f64>,
    images: IntegerVec,
    types: Vec<i32>,
    ids: IntegerVec,
    groups: Vec<i32>,
    gamma: Vec<f64>,
    has_gamma: bool,
}

/// A copy of [`Integers`], in the same width.
#[derive(Debug, Clone)]
enum IntegerVec {
    I32(Vec<i32>),
    I64(Vec<i64>),
}

impl Default for IntegerVec {
    fn default() -> Self {
        Self::I32(Vec::new())
    }
}

impl IntegerVec {
    fn view(&self) -> Integers<'_> {
        match self {
            Self::I32(values) => values.as_slice().into(),
            Self::I64(values) => values.as_slice().into(),
        }
    }

    fn capture(&mut self, from: Integers<'_>) {
        match (&mut *self, from) {
            (Self::I32(to), Integers::I32(from)) => copy(to, from),
            (Self::I64(to), Integers::I64(from)) => copy(to, from),
            // The first frame, where LAMMPS has 64 bits.
            (_, from) => {
                *self = match from {
                    Integers::I32(_) => Self::I32(Vec::new()),
                    Integers::I64(_) => Self::I64(Vec::new()),
                };
                self.capture(from);
            }
        }
    }
}

/// Replaces the content of an array.
fn copy<T: Copy, D: Dimension>(to: &mut Vec<T>, from: ArrayView<'_, T, D>) {
    to.clear();
    // The number of atoms varies a little as they migrate; growing by `extend` would double the capacity.
    if to.capacity() < from.len() {
        to.reserve_exact(from.len() + from.len() / 64);
    }
    match from.as_slice() {
        Some(values) => to.extend_from_slice(values),
        None => to.extend(from.iter()),
    }
}

/// Whether both are equal in a range of indices; `false` if one is shorter. Vectorised.
fn is_equal(was: Integers<'_>, is: Integers<'_>, at: &Range<usize>) -> bool {
    fn same<T>(was: ArrayView1<'_, T>, is: ArrayView1<'_, T>, at: &Range<usize>) -> Option<bool>
    where
        T: Copy + Default + PartialEq + std::ops::BitXor<Output = T> + std::ops::BitOr<Output = T>,
    {
        let (was, is) = (was.as_slice()?.get(at.clone())?, is.as_slice()?.get(at.clone())?);
        Some(was.iter().zip(is).fold(T::default(), |d, (a, b)| d | (*a ^ *b)) == T::default())
    }
    let same = match (was, is) {
        (Integers::I32(was), Integers::I32(is)) => same(was, is, at),
        (Integers::I64(was), Integers::I64(is)) => same(was, is, at),
        _ => None,
    };
    same.unwrap_or(false)
}

/// Why a frame is not valid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FrameFault {
    /// A coordinate, velocity or force is NaN or infinite.
    NotFinite,
    /// A force is larger than [`Sanity::max_force`].
    Force,
    /// An atom has moved this far, in Å, since the last valid frame: more than [`Sanity::max_displacement`].
    Displacement(f64),
}

/// What the ranks reduce to their maxima to check a frame.
#[derive(Debug, Clone, Copy)]
struct Maxima {
    /// The most serious fault among forces, positions and velocities.
    fault: LocalFault,
    /// The largest displacement, Å.
    displacement: f64,
    /// Whether atoms have changed ranks.
    migrated: bool,
    extremes: Extremes,
}

/// A fault that a rank can find by itself; the larger the more serious.
#[derive(Debug, Clone, Copy, PartialEq)]
enum LocalFault {
    None,
    Force,
    NotFinite,
}

impl Maxima {
    fn reduce(self, comm: &Comm) -> Self {
        let fault = match self.fault {
            LocalFault::None => 0.0,
            LocalFault::Force => 1.0,
            LocalFault::NotFinite => 2.0,
        };
        let Extremes { max, highest_bin, lowest_bin, core, sparse } = self.extremes;
        let migrated = f64::from(u8::from(self.migrated));
        let mut values = [fault, self.displacement, migrated, max, highest_bin, -lowest_bin, core, sparse];
        comm.max(&mut values);
        let [fault, displacement, migrated, max, highest_bin, negative_lowest, core, sparse] = values;
        let fault = match fault {
            0.0 => LocalFault::None,
            1.0 => LocalFault::Force,
            _ => LocalFault::NotFinite,
        };
        let extremes = Extremes { max, highest_bin, lowest_bin: -negative_lowest, core, sparse };
        Self { fault, displacement, migrated: migrated > 0.0, extremes }
    }
}

impl Frame {
    /// Checks whether the present state can be the next valid frame after this one; the same answer on all ranks.
    ///
    /// LAMMPS itself continues with NaN, or stops on one rank while the others wait.
    ///
    /// The second result is the reduction of `extremes` over all ranks, which shares the communication.
    ///
    /// # MPI
    /// Collective. Only atoms that have changed ranks since this frame are sent.
    #[must_use]
    pub fn check(
        &self,
        now: &State<'_>,
        sanity: &Sanity,
        force_unit: f64,
        extremes: Extremes,
        comm: &Comm,
    ) -> (Option<FrameFault>, Extremes) {
        let limit = sanity.max_force / force_unit;
        // A force within the limit is finite, so that one pass over the forces is enough where all are.
        let moderate = all_within(now.forces, limit);
        let finite = all_finite(now.positions) && all_finite(now.velocities);
        let fault = match (finite, moderate) {
            (true, true) => LocalFault::None,
            (true, false) if all_finite(now.forces) => LocalFault::Force,
            _ => LocalFault::NotFinite,
        };
        // When LAMMPS flips a tilted box, it changes all image flags: displacements are unknown at this frame.
        let same_box = self.cell.as_ref().is_some_and(|then| !is_flipped(then, &now.cell));
        let max_displacement = sanity.max_displacement.filter(|_| same_box);
        let (displacement, migrated) = match max_displacement {
            Some(limit) => self.displacement(now, limit),
            None => (0.0, Vec::new()),
        };
        let mut maxima = Maxima { fault, displacement, migrated: !migrated.is_empty(), extremes }.reduce(comm);
        if maxima.migrated {
            // The two records of an atom are matched on the rank that follows from its id, so that no rank gets all of them.
            let mut records = vec![Vec::new(); comm.size()];
            for atom in migrated {
                records[atom.id.rem_euclid(comm.size() as i64) as usize].push(atom);
            }
            let matched = match_migrated(comm.exchange(&records), &now.cell, ImagePacking::of(now.images));
            maxima.displacement = maxima.displacement.max(matched);
            maxima = maxima.reduce(comm);
        }
        let fault = match (maxima.fault, max_displacement) {
            (LocalFault::NotFinite, _) => Some(FrameFault::NotFinite),
            (LocalFault::Force, _) => Some(FrameFault::Force),
            (LocalFault::None, Some(limit)) if maxima.displacement > limit => {
                Some(FrameFault::Displacement(maxima.displacement))
            }
            _ => None,
        };
        (fault, maxima.extremes)
    }

    /// The largest displacement of an atom of this rank since this frame, in Å, or a smaller number where it is within `limit`;
    /// and the records, from this frame or from now, of atoms that have left this rank or come to it.
    fn displacement(&self, now: &State<'_>, limit: f64) -> (f64, Vec<MigratedAtom>) {
        let State { ids, positions, images, cell, .. } = now;
        let (old_ids, old_images, packing) = (self.ids.view(), self.images.view(), ImagePacking::of(*images));
        let then = |at: usize| {
            let position = [0, 1, 2].map(|k| self.positions[3 * at + k]);
            MigratedAtom { id: old_ids.get(at), image: old_images.get(at), position }
        };
        let now = |at: usize| {
            let position = [0, 1, 2].map(|k| positions[[at, k]]);
            MigratedAtom { id: ids.get(at), image: images.get(at), position }
        };
        let mut squared = 0.0_f64;
        // Atoms keep their order for hundreds of steps, except where some have migrated.
        let (mut before, mut after) = (Vec::new(), Vec::new());
        // The fast path, vectorised: no atom of the block has migrated or crossed a periodic boundary.
        let unmoved = |at: Range<usize>| {
            let positions = positions.as_slice()?;
            if !(is_equal(old_ids, *ids, &at) && is_equal(old_images, *images, &at)) {
                return None;
            }
            let (was, is) = (&self.positions[3 * at.start..3 * at.end], &positions[3 * at.start..3 * at.end]);
            // An upper bound, which is sufficient for most frames.
            if 3.0 * max_axis_displacement_squared(was, is) <= limit * limit {
                return Some(0.0);
            }
            let pairs = was.as_chunks::<3>().0.iter().zip(is.as_chunks::<3>().0);
            // `max` ignores a NaN.
            Some(pairs.fold(0.0_f64, |most, (a, b)| {
                let [x, y, z] = [b[0] - a[0], b[1] - a[1], b[2] - a[2]];
                most.max(x * x + y * y + z * z)
            }))
        };
        let mut next = 0;
        let atoms = old_ids.len().max(ids.len());
        while next < atoms {
            let block = next..(next + BLOCK).min(atoms);
            next = block.end;
            if let Some(most) = unmoved(block.clone()) {
                squared = squared.max(most);
                continue;
            }
            for at in block {
                let id = |ids: &Integers<'_>| (at < ids.len()).then(|| ids.get(at));
                match (id(&old_ids), id(ids)) {
                    (Some(a), Some(b)) if a == b => {
                        squared = squared.max(displacement_squared(&then(at), &now(at), cell, packing))
                    }
                    (a, b) => {
                        before.extend(a.map(|id| (id, at)));
                        after.extend(b.map(|id| (id, at)));
                    }
                }
            }
        }
        before.sort_unstable();
        after.sort_unstable();
        let (mut i, mut j, mut migrated) = (0, 0, Vec::new());
        while i < before.len() || j < after.len() {
            match (before.get(i), after.get(j)) {
                (Some(a), Some(b)) if a.0 == b.0 => {
                    squared = squared.max(displacement_squared(&then(a.1), &now(b.1), cell, packing));
                    (i, j) = (i + 1, j + 1);
                }
                (Some(a), b) if b.is_none_or(|b| a.0 < b.0) => {
                    migrated.push(then(a.1));
                    i += 1;
                }
                (_, b) => {
                    migrated.extend(b.map(|b| now(b.1)));
                    j += 1;
                }
            }
        }
        (squared.sqrt(), migrated)
    }

    /// Copies the present state of this rank's atoms.
    pub fn capture(&mut self, now: &State<'_>, gamma: Option<ArrayView1<'_, f64>>) {
        (self.step, self.time) = (now.step, now.time);
        self.cell = Some(now.cell.clone());
        copy(&mut self.positions, now.positions);
        copy(&mut self.velocities, now.velocities);
        self.images.capture(now.images);
        copy(&mut self.types, now.types);
        self.ids.capture(now.ids);
        copy(&mut self.groups, now.groups);
        self.has_gamma = gamma.is_some();
        match gamma {
            Some(values) => copy(&mut self.gamma, values),
            None => self.gamma.clear(),
        }
    }

    /// The time step.
    #[must_use]
    pub fn step(&self) -> i64 {
        self.step
    }

    /// The simulated time, in the unit of the set-up.
    #[must_use]
    pub fn time(&self) -> f64 {
        self.time
    }

    /// The box; `None` before the first frame.
    #[must_use]
    pub fn cell(&self) -> Option<&Cell> {
        self.cell.as_ref()
    }

    /// This rank's atoms.
    ///
    /// # Panics
    /// Never: the arrays are copied together.
    #[must_use]
    pub fn atoms(&self) -> AtomsView<'_> {
        AtomsView {
            positions: ArrayView2::from_shape((self.types.len(), 3), &self.positions).expect("three for each atom"),
            ids: self.ids.view(),
            types: ArrayView1::from(&self.types),
        }
    }

    /// γ of this rank's atoms, shape (n); `None`, on all ranks, if it was not evaluated at this step.
    #[must_use]
    pub fn gamma(&self) -> Option<ArrayView1<'_, f64>> {
        self.has_gamma.then(|| ArrayView1::from(&self.gamma))
    }

    /// Id of the fastest atom of all ranks; of several, the lowest id.
    ///
    /// # MPI
    /// Collective.
    #[must_use]
    pub fn fastest_atom(&self, comm: &Comm) -> AtomId {
        let speed = |v: &[f64]| v.iter().map(|c| c * c).sum::<f64>();
        let speeds = self.velocities.chunks_exact(3).map(speed);
        let (fastest, id) = speeds.zip(self.ids.view().iter()).fold((-1.0, AtomId::MAX), |best, (s, id)| {
            if s > best.0 || (s == best.0 && id < best.1) { (s, id) } else { best }
        });
        let mut global = [fastest];
        comm.max(&mut global);
        comm.min_i64(if fastest == global[0] { id } else { AtomId::MAX })
    }

    /// Replaces the atoms of `lammps`, which must be set up, by those of this frame. The groups of the set-up must be
    /// the same, in the same order, as those of the instance that the frame was captured from.
    ///
    /// The atoms of each rank are broadcast in turn, so that no rank holds all atoms, and the decomposition may differ from
    /// the one at the time of the frame.
    ///
    /// # Errors
    /// LAMMPS's own text; [`Error::Preflight`] if no rank owns the position of an atom.
    ///
    /// # MPI
    /// Collective.
    pub fn restore(&self, lammps: &mut Lammps) -> Result<(), Error> {
        let comm = lammps.comm().clone();
        lammps.command("delete_atoms group all compress no")?;
        if let Some(cell) = &self.cell {
            lammps.reset_box(cell)?;
        }
        let (mut sent, mut created) = (0, [0]);
        for rank in 0..comm.size() {
            let own = if comm.rank() == rank { self.records().collect() } else { Vec::new() };
            let atoms = comm.broadcast(rank, own);
            sent += atoms.len() as i64;
            let integers = |of: fn(&AtomRecord) -> i32| atoms.iter().map(of).collect::<Vec<_>>();
            let wide = |of: fn(&AtomRecord) -> i64| atoms.iter().map(of).collect::<Vec<_>>();
            let vectors = |of: fn(&AtomRecord) -> Vec3| atoms.iter().flat_map(of).collect::<Vec<_>>();
            let ids = wide(|atom| atom.id);
            let here = lammps.create_atoms(
                &ids,
                &integers(|atom| atom.kind),
                &vectors(|atom| atom.position),
                &vectors(|atom| atom.velocity),
                &wide(|atom| atom.image),
            )?;
            lammps.set_groups(here, &ids, &integers(|atom| atom.groups));
            created[0] += here as i64;
        }
        comm.sum_i64(&mut created);
        if created[0] != sent {
            return Err(Error::Preflight(format!(
                "only {} of {sent} atoms of the last valid frame could be restored: an atom lies outside the box",
                created[0]
            )));
        }
        // A set-up from the default template has set the step. Not twice: LAMMPS refuses it where a fix counts steps.
        if lammps.step() != self.step {
            lammps.command(&format!("reset_timestep {}", self.step))?;
        }
        // LAMMPS computes the time from the step as if the time step had never changed.
        lammps.set_time(self.time);
        Ok(())
    }

    /// This rank's atoms, one by one.
    fn records(&self) -> impl Iterator<Item = AtomRecord> {
        let (ids, images) = (self.ids.view(), self.images.view());
        (0..ids.len()).map(move |at| AtomRecord {
            id: ids.get(at),
            kind: self.types[at],
            image: images.get(at),
            groups: self.groups[at],
            position: [0, 1, 2].map(|k| self.positions[3 * at + k]),
            velocity: [0, 1, 2].map(|k| self.velocities[3 * at + k]),
        })
    }
}

/// Whether no number is NaN or infinite.
fn all_finite(view: ArrayView2<'_, f64>) -> bool {
    // NaN and infinity times 0 are NaN, all other numbers times 0 are 0.
    fold_lanes(view, |sum, x| sum + x * 0.0) == 0.0
}

/// Whether all numbers are finite and none exceeds `limit` in absolute value.
fn all_within(view: ArrayView2<'_, f64>, limit: f64) -> bool {
    fold_lanes(view, |worst, x| if x.abs() <= limit { worst } else { 1.0 }) == 0.0
}

/// Folds all numbers in eight lanes, which the compiler vectorises, and adds the lanes up.
fn fold_lanes(view: ArrayView2<'_, f64>, fold: impl Fn(f64, f64) -> f64) -> f64 {
    let Some(numbers) = view.as_slice() else { return view.iter().fold(0.0, |so_far, &x| fold(so_far, x)) };
    let (blocks, rest) = numbers.as_chunks::<8>();
    let lanes = blocks.iter().fold([0.0; 8], |lanes, block| std::array::from_fn(|k| fold(lanes[k], block[k])));
    rest.iter().fold(lanes.iter().sum(), |so_far, &x| fold(so_far, x))
}

/// The square of the largest change of a coordinate, in eight lanes like [`fold_lanes`]; NaN is ignored.
fn max_axis_displacement_squared(was: &[f64], is: &[f64]) -> f64 {
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

/// Number of atoms that are compared with the last frame at once.
const BLOCK: usize = 256;

/// Whether LAMMPS has flipped a tilted box between two frames.
fn is_flipped(then: &Cell, now: &Cell) -> bool {
    let tilts = |cell: &Cell| [cell.vectors[1][0], cell.vectors[2][0], cell.vectors[2][1]];
    let edges = [now.vectors[0][0], now.vectors[0][0], now.vectors[1][1]];
    tilts(then).iter().zip(tilts(now)).zip(edges).any(|((then, now), edge)| (then - now).abs() > 0.5 * edge)
}

/// An atom that one rank had at the last frame, or has now, but not both.
#[derive(Debug, Clone, Copy)]
struct MigratedAtom {
    id: AtomId,
    /// Image flags as LAMMPS packs them.
    image: i64,
    position: Vec3,
}
message!(MigratedAtom { id: AtomId, image: i64, position: Vec3 });

/// An atom of a frame that is restored.
#[derive(Debug, Clone, Copy)]
struct AtomRecord {
    id: AtomId,
    /// Type of the atom, from 1.
    kind: i32,
    /// Image flags as LAMMPS packs them.
    image: i64,
    /// Group bits.
    groups: i32,
    position: Vec3,
    velocity: Vec3,
}
message!(AtomRecord { id: AtomId, kind: i32, image: i64, groups: i32, position: Vec3, velocity: Vec3 });

/// The squared displacement of an atom, across the periodic boundaries that it crossed; 0 if it is NaN.
fn displacement_squared(from: &MigratedAtom, to: &MigratedAtom, cell: &Cell, packing: ImagePacking) -> f64 {
    let mut d = [0, 1, 2].map(|k| to.position[k] - from.position[k]);
    if from.image != to.image {
        for (crossings, vector) in packing.crossings(from.image, to.image).into_iter().zip(&cell.vectors) {
            d.iter_mut().zip(vector).for_each(|(d, v)| *d += crossings * v);
        }
    }
    // `max` ignores a NaN.
    (d[0] * d[0] + d[1] * d[1] + d[2] * d[2]).max(0.0)
}

/// The largest displacement, in Å, between two records with the same id.
fn match_migrated(mut atoms: Vec<MigratedAtom>, cell: &Cell, packing: ImagePacking) -> f64 {
    atoms.sort_unstable_by_key(|atom| atom.id);
    let pairs = atoms.windows(2).filter(|pair| pair[0].id == pair[1].id);
    pairs.map(|pair| displacement_squared(&pair[0], &pair[1], cell, packing)).fold(0.0, f64::max).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn atom(id: AtomId, position: Vec3, crossings: [i64; 3]) -> MigratedAtom {
        MigratedAtom { id, image: ImagePacking::WIDE.pack(crossings), position }
    }

    #[test]
    fn displacements_go_through_the_boundaries() {
        let cell =
            Cell { origin: [0.0; 3], vectors: [[10.0, 0.0, 0.0], [1.0, 20.0, 0.0], [2.0, 3.0, 30.0]], pbc: [true; 3] };
        for (packing, half) in [(ImagePacking::NARROW, 1 << 9), (ImagePacking::WIDE, 1 << 20)] {
            let displacement =
                |from: &MigratedAtom, to: &MigratedAtom| displacement_squared(from, to, &cell, packing).sqrt();
            let atom = |position, crossings| MigratedAtom { id: 7, image: packing.pack(crossings), position };
            let from = atom([9.9, 0.2, 1.0], [0; 3]);
            // 0.3 Å along x, through the boundary; then against y: out at the bottom and in at the top.
            assert!((displacement(&from, &atom([0.2, 0.2, 1.0], [1, 0, 0])) - 0.3).abs() < 1e-12);
            assert!((displacement(&from, &atom([9.9 + 1.0, 20.1, 1.0], [0, -1, 0])) - 0.1).abs() < 1e-12);
            // The flags wrap around.
            let (from, to) = (atom([9.9, 0.0, 0.0], [half - 1, 0, 0]), atom([0.1, 0.0, 0.0], [-half, 0, 0]));
            assert!((displacement(&from, &to) - 0.2).abs() < 1e-12);
            // NaN is found by another check.
            assert_eq!(displacement(&from, &atom([f64::NAN, 0.0, 0.0], [0; 3])), 0.0);
        }
    }

    #[test]
    fn one_invalid_number_is_found_anywhere() {
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
            assert_eq!(max_axis_displacement_squared(&was, &is), 9.0, "at {at}");
        }
    }

    #[test]
    fn records_of_the_same_atom_are_matched() {
        let cell = Cell::orthorhombic([10.0; 3], [true; 3]);
        let at = |id, x| atom(id, [x, 0.0, 0.0], [0; 3]);
        // Those of 5 + 2³² are 2 Å apart; 5 has only one record.
        let five = 5 + (1 << 32);
        let all = vec![at(AtomId::MAX, 1.0), at(five, 4.0), at(5, 9.0), at(AtomId::MAX, 1.5), at(five, 2.0)];
        assert_eq!(match_migrated(all, &cell, ImagePacking::WIDE), 2.0);
        assert_eq!(match_migrated(Vec::new(), &cell, ImagePacking::WIDE), 0.0);
    }
}
