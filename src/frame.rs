// SPDX-License-Identifier: GPL-2.0-or-later
//! The last valid frame of a run, kept in memory: each rank its own atoms.

use ndarray::{ArrayView, ArrayView1, ArrayView2, Dimension};

use crate::comm::Comm;
use crate::config::Sanity;
use crate::lammps::{Error, Lammps};
use crate::structure::{AtomsView, Cell};

/// Positions, velocities, image flags, types, ids and γ of this rank's atoms, with the box, at one step.
///
/// 68 bytes for each atom, in LAMMPS's own units. The arrays are reused from frame to frame, and hold little more than
/// what is in them.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    step: i64,
    cell: Option<Cell>,
    positions: Vec<f64>,
    velocities: Vec<f64>,
    images: Vec<i32>,
    types: Vec<i32>,
    ids: Vec<i32>,
    gamma: Vec<f64>,
}

/// Why a frame cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// A coordinate, velocity or force is NaN or infinite.
    NotFinite,
    /// A force is larger than [`Sanity::max_force`].
    Force,
}

impl Frame {
    /// Looks for what a valid frame must not hold, on all ranks; the same answer on all of them.
    ///
    /// LAMMPS does not look itself: it goes on with NaN, or stops on one rank while the others wait.
    ///
    /// # MPI
    /// Collective.
    #[must_use]
    pub fn flaw(lammps: &Lammps, sanity: &Sanity, force_unit: f64) -> Option<Flaw> {
        // Without a branch for each number, so that the compiler takes several at once.
        fn all(view: ArrayView2<'_, f64>, ok: impl Fn(f64) -> bool) -> bool {
            match view.as_slice() {
                Some(numbers) => numbers.iter().fold(true, |so_far, &x| so_far & ok(x)),
                None => view.iter().all(|&x| ok(x)),
            }
        }
        let limit = sanity.max_force / force_unit;
        let code = if ![lammps.positions(), lammps.velocities(), lammps.forces()]
            .into_iter()
            .all(|v| all(v, f64::is_finite))
        {
            2.0
        } else if !all(lammps.forces(), |f| f.abs() <= limit) {
            1.0
        } else {
            0.0
        };
        let mut codes = [code];
        lammps.comm().max(&mut codes);
        match codes[0] {
            0.0 => None,
            1.0 => Some(Flaw::Force),
            _ => Some(Flaw::NotFinite),
        }
    }

    /// Copies the present state of this rank's atoms.
    pub fn capture(&mut self, lammps: &Lammps, gamma: Option<ArrayView1<'_, f64>>) {
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
        self.step = lammps.step();
        self.cell = Some(lammps.cell());
        copy(&mut self.positions, lammps.positions());
        copy(&mut self.velocities, lammps.velocities());
        copy(&mut self.images, lammps.images());
        copy(&mut self.types, lammps.types());
        copy(&mut self.ids, lammps.ids());
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

    /// γ of this rank's atoms, shape (n); empty if the run is not watched.
    #[must_use]
    pub fn gamma(&self) -> ArrayView1<'_, f64> {
        ArrayView1::from(&self.gamma)
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

    /// Puts the atoms into `lammps`, which has a set-up and any atoms: those are deleted.
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
            taken +=
                lammps.create_atoms(&part.ids, &part.types, &part.positions, &part.velocities, &part.images)? as i64;
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
        Ok(())
    }

    fn pack(&self) -> Vec<u8> {
        let integers = self.ids.iter().chain(&self.types).chain(&self.images);
        let floats = self.positions.iter().chain(&self.velocities);
        integers.flat_map(|i| i.to_le_bytes()).chain(floats.flat_map(|f| f.to_le_bytes())).collect()
    }
}

/// One rank's atoms on their way.
struct Part {
    ids: Vec<i32>,
    types: Vec<i32>,
    images: Vec<i32>,
    positions: Vec<f64>,
    velocities: Vec<f64>,
}

impl Part {
    fn unpack(bytes: &[u8]) -> Self {
        let n = bytes.len() / (3 * 4 + 6 * 8);
        let (integers, floats) = bytes.split_at(n * 3 * 4);
        let mut integers = integers.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let mut floats =
            floats.chunks_exact(8).map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]));
        let mut take = || integers.by_ref().take(n).collect();
        let (ids, types, images) = (take(), take(), take());
        let mut take = || floats.by_ref().take(3 * n).collect();
        Self { ids, types, images, positions: take(), velocities: take() }
    }
}
