// SPDX-License-Identifier: GPL-2.0-or-later
//! Energies, forces, virials and extrapolation grades of atoms with neighbour lists.

mod biased;
mod results;
mod threads;
mod worker;

use crate::bias::{Bias, SHARE};
use crate::error::{Error, Result};
use crate::gamma::Track;
use crate::kernel::{Kernels, Packed};
use crate::potential::Potential;
use crate::profile::Stage;
use crate::simd::{Isa, OCT};
use results::{Direct, Record, Requested};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use threads::{MAX_THREADS, Pool};
use worker::{Job, Task, Worker};

/// Atoms and their neighbours. Periodic images are separate atoms.
#[derive(Clone, Copy)]
pub struct System<'a, F> {
    /// Positions of all `n` atoms, images included, in Å.
    pub positions: &'a [[f64; 3]],
    /// Type of each atom, `n` indices into `element_of_type`.
    pub types: &'a [i32],
    /// Element index of each type; negative for types without an element.
    pub element_of_type: &'a [i32],
    /// Factor of the energies, and so of forces and virials, of atoms of each type, as for thermodynamic integration. Empty
    /// means one. Grades do not depend on it.
    pub scales: &'a [f64],
    /// Indices of the atoms to evaluate.
    pub atoms: &'a [i32],
    /// Neighbours of the k-th of `atoms`: indices into `positions` after the bitwise and with `mask`. May include atoms
    /// beyond the cutoff; must not include the atom itself.
    pub neighbours: F,
    /// Bit mask of neighbour indices.
    pub mask: i32,
}

/// Output arrays. Forces and virials are added to the present values, the others are set.
///
/// Arrays per atom are indexed like [`System::positions`] and at least as long.
#[derive(Default)]
pub struct Output<'a> {
    /// Forces in eV/Å.
    pub forces: &'a mut [[f64; 3]],
    /// Energy of each evaluated atom in eV.
    pub energies: Option<&'a mut [f64]>,
    /// Virial of each atom in eV (xx, yy, zz, xy, xz, yz); each atom of a pair gets half.
    pub virials: Option<&'a mut [[f64; 6]]>,
    /// Fraction of each evaluated atom's many-body energy that the core repulsion has switched off, 0 to 1.
    pub core_shares: Option<&'a mut [f64]>,
    /// The largest share of a neighbour's radial functions, for each evaluated atom, that the inner cutoff has switched off, 0 to 1;
    /// 0 with ZBL repulsion, which switches off the many-body energy instead.
    pub inner_shares: Option<&'a mut [f64]>,
    /// Extrapolation grade γ of each evaluated atom, dimensionless.
    pub grades: Option<&'a mut [f64]>,
    /// Each evaluated atom's projections as a linear combination of the rows of its element's active set: one coefficient per
    /// row. The grade is the largest absolute value. Requires `grades`.
    pub coefficients: Option<&'a mut [Vec<f64>]>,
    /// Forces of the bias ([`Evaluator::set_bias`]) alone, per unit of its strength, in 1/Å; added to. They are in `forces` too,
    /// times the strength. Takes another backward pass.
    pub bias_forces: Option<&'a mut [[f64; 3]]>,
}

/// Sums over all evaluated atoms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Totals {
    /// Energy in eV, without the bias.
    pub energy: f64,
    /// Energy of the bias in eV.
    pub bias: f64,
    /// With a bias, the smallest distance of two atoms as a share of the sum of their covalent radii, up to the cutoff; infinite
    /// without one, and if none is known.
    pub closest: f64,
    /// Virial in eV, with that of the bias: xx, yy, zz, xy, xz, yz.
    pub virial: [f64; 6],
}

impl Default for Totals {
    fn default() -> Self {
        Totals { energy: 0.0, bias: 0.0, closest: f64::INFINITY, virial: [0.0; 6] }
    }
}

/// Evaluates a potential, on one thread unless [`set_threads`](Self::set_threads) is called. Has buffers of its own.
pub struct Evaluator {
    potential: Arc<Potential>,
    kernels: Kernels,
    isa: Isa,
    /// One per thread.
    workers: Vec<Worker>,
    /// The threads but the one that calls, if there are several.
    pool: Option<Pool>,
    /// Buffers of the threads.
    records: Vec<Record>,
    /// All atoms, images included.
    packed: Vec<Packed>,
    by_element: Vec<Vec<u32>>,
    bias: Option<Bias>,
    /// Of each atom, the smooth maximum of the bias; zero if its grade is far below the onset.
    smooth: Vec<f64>,
    /// Per element, earlier estimates of the grades of batches.
    tracks: Vec<Vec<Mutex<Track>>>,
}

/// Largest size of all earlier estimates of grades, in bytes.
const TRACKS: usize = 1 << 29;

impl Evaluator {
    /// Creates an evaluator with the fastest instruction set of this processor, or that of the environment variable
    /// `PACE_OPT_ISA` (`avx512`, `avx2`, `portable`) if the processor supports it.
    pub fn new(potential: Arc<Potential>) -> Self {
        let named = std::env::var("PACE_OPT_ISA").ok().and_then(|n| Isa::named(&n));
        Self::with_isa(potential, named.unwrap_or_else(Isa::detect))
    }

    /// Creates an evaluator with the given instruction set, or the portable one if the processor lacks it.
    pub fn with_isa(potential: Arc<Potential>, isa: Isa) -> Self {
        let isa = if Isa::available().contains(&isa) { isa } else { Isa::Portable };
        Self::with_kernels(potential, isa, Kernels::new(isa))
    }

    fn with_kernels(potential: Arc<Potential>, isa: Isa, kernels: Kernels) -> Self {
        Evaluator {
            kernels,
            isa,
            workers: vec![Worker::new(&potential, kernels)],
            pool: None,
            records: Vec::new(),
            packed: Vec::new(),
            by_element: vec![Vec::new(); potential.plan.species.len()],
            bias: None,
            smooth: Vec::new(),
            tracks: potential.plan.species.iter().map(|_| Vec::new()).collect(),
            potential,
        }
    }

    /// Sets the number of threads that evaluate the atoms of a system, 1 to 1024; the calling thread is one of them. The others wait between
    /// evaluations, and end with the evaluator. Results are the same to the last bit for any number.
    ///
    /// A child process after `fork` has no such threads: there, set the number to 1 first, or make another evaluator.
    ///
    /// # Errors
    /// [`Error::Argument`] if the number is out of range, [`Error::Threads`] if the operating system cannot start them. The number is
    /// then unchanged.
    pub fn set_threads(&mut self, threads: usize) -> Result<()> {
        if !(1..=MAX_THREADS).contains(&threads) {
            return Err(Error::Argument(format!("the number of threads is {threads}; required is 1 to {MAX_THREADS}")));
        }
        if threads != self.workers.len() {
            self.pool = (threads > 1).then(|| Pool::new(threads - 1)).transpose().map_err(Error::Threads)?;
            self.workers.resize_with(threads, || Worker::new(&self.potential, self.kernels));
        }
        Ok(())
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.workers.len()
    }

    /// The potential.
    pub fn potential(&self) -> &Arc<Potential> {
        &self.potential
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Sets or removes a bias towards large extrapolation grades. Its forces and virials are added to those of the potential; its
    /// energy is [`Totals::bias`] alone. [`System::scales`] do not apply to it.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no active set, or a number is out of range.
    pub fn set_bias(&mut self, bias: Option<Bias>) -> Result<()> {
        if let Some(b) = &bias {
            if self.potential.grade.is_none() {
                return Err(Error::Argument("a bias requires an active set".into()));
            }
            let positive = b.limit.is_finite() && b.limit > 0.0;
            let valid = b.strength.is_finite() && b.onset >= 0.0 && b.has_range();
            if !(valid && positive && b.shortest.is_finite() && b.shortest >= 0.0) {
                return Err(Error::Argument(format!(
                    "the bias has strength {}, onset {}, limit {} and shortest distance {}; the limit must be positive and at least 1.5625 \
                     times the onset, the others not negative",
                    b.strength, b.onset, b.limit, b.shortest
                )));
            }
        }
        self.bias = bias;
        Ok(())
    }

    /// Enables or disables the measurement of times per stage and sets them to zero. Measuring slows evaluation by a few per
    /// cent.
    pub fn time_stages(&mut self, on: bool) {
        self.workers.iter_mut().for_each(|worker| worker.scratch.clock.set(on));
    }

    /// Time spent in each stage since [`time_stages`](Self::time_stages), less the overhead of the measurement; the sum over threads.
    pub fn stages(&self) -> Vec<(Stage, Duration)> {
        let of_stage = |stage: Stage, worker: &Worker| worker.scratch.clock.stages()[stage as usize].1;
        Stage::ALL.into_iter().map(|stage| (stage, self.workers.iter().map(|w| of_stage(stage, w)).sum())).collect()
    }

    /// Evaluates the atoms of a system. Returns the sums over all evaluated atoms.
    ///
    /// # Errors
    /// - [`Error::Overlap`] if two atoms are too close, [`Error::NotFinite`] if a coordinate is not finite;
    /// - [`Error::Argument`] if an array is too short, an index or type is out of range, an atom has no element of the
    ///   potential, or grades are requested without an active set.
    ///
    /// After an error the output contains the contributions of the atoms evaluated before it.
    pub fn evaluate<'a, F>(&mut self, system: &System<'a, F>, output: &mut Output) -> Result<Totals>
    where
        F: Fn(usize) -> &'a [i32] + Sync,
    {
        let n = system.positions.len();
        if system.types.len() < n || output.forces.len() < n {
            return Err(Error::Argument("types and forces must be as long as the positions".into()));
        }
        let short = |len: Option<usize>| len.is_some_and(|l| l < n);
        if short(output.energies.as_ref().map(|v| v.len()))
            || short(output.virials.as_ref().map(|v| v.len()))
            || short(output.core_shares.as_ref().map(|v| v.len()))
            || short(output.inner_shares.as_ref().map(|v| v.len()))
            || short(output.grades.as_ref().map(|v| v.len()))
            || short(output.coefficients.as_ref().map(|v| v.len()))
            || short(output.bias_forces.as_ref().map(|v| v.len()))
        {
            return Err(Error::Argument("outputs per atom must be as long as the positions".into()));
        }
        if !system.scales.is_empty() && system.scales.len() < system.element_of_type.len() {
            return Err(Error::Argument("scales must be as long as the elements of the types".into()));
        }
        if output.coefficients.is_some() && output.grades.is_none() {
            return Err(Error::Argument("coefficients are computed together with grades".into()));
        }
        if output.grades.is_some() && self.potential.grade.is_none() {
            return Err(Error::Argument("no active set was read, so there is no extrapolation grade".into()));
        }
        if output.bias_forces.is_some() && self.bias.is_none() {
            return Err(Error::Argument("no bias was set, so there are no bias forces".into()));
        }
        // Without strength, the results are those without bias to the last bit.
        let bias = self.bias.filter(|bias| bias.strength != 0.0 || output.bias_forces.is_some());
        let ne = self.potential.plan.species.len();
        self.by_element.iter_mut().for_each(Vec::clear);
        self.workers[0].scratch.clock.start();
        for (k, &i) in system.atoms.iter().enumerate() {
            let element = usize::try_from(i).ok().and_then(|i| element_of(system, i)).filter(|&e| e < ne);
            match element {
                Some(e) => self.by_element[e].push(k as u32),
                None => return Err(Error::Argument(format!("atom {i} has no element of the potential"))),
            }
        }
        self.packed.clear();
        self.packed.extend(system.positions.iter().zip(system.types).enumerate().map(|(i, (&x, &t))| {
            let element = usize::try_from(t).ok().and_then(|t| system.element_of_type.get(t)).copied();
            Packed { x, index: i as u32, element: element.and_then(|e| u32::try_from(e).ok()).unwrap_or(u32::MAX) }
        }));
        if let (true, None, Some(grade)) = (output.grades.is_some(), bias, &self.potential.grade) {
            let mut space = TRACKS;
            for (element, (tracks, list)) in self.tracks.iter_mut().zip(&self.by_element).enumerate() {
                let Some(bytes) = grade.track_bytes(element) else { continue };
                tracks.resize_with(list.len().div_ceil(OCT).min(space / bytes), Mutex::default);
                space -= tracks.len() * bytes;
            }
        }
        self.workers[0].scratch.clock.lap(Stage::Rest);
        // With fewer atoms, the other threads have nothing to do.
        let threads = self.workers.len().min(system.atoms.len().div_ceil(OCT)).max(1);
        let Evaluator { potential, workers, pool, records, packed, by_element, smooth, tracks, .. } = self;
        let workers = &mut workers[..threads];
        let expected = |list: &Vec<u32>| list.len().div_ceil(threads);
        workers.iter_mut().for_each(|worker| worker.begin(by_element.iter().map(expected)));
        let mut pass = |job: &Job<'_, 'a, F>, by_element: &[Vec<u32>], mut direct: Direct| -> Result<Totals> {
            if let (Some(pool), [_, _, ..]) = (&*pool, &*workers) {
                let chunks = threads::divide(by_element, threads);
                return threads::run(pool, workers, job, &chunks, records, direct);
            }
            for (element, list) in by_element.iter().enumerate() {
                workers[0].run(job, (element, 0), list, &mut direct)?;
            }
            Ok(direct.totals)
        };
        let requested = Requested::of(output);
        let unknown_element = packed.iter().any(|p| p.element as usize >= ne);
        let distances = bias.is_some();
        let job = |task, requested, smooth_from| Job {
            system,
            potential,
            packed,
            unknown_element,
            task,
            tracks,
            requested,
            smooth_from,
            distances,
        };
        match bias {
            None => pass(&job(Task::Potential, requested, None), by_element, Direct::new(output, &mut [])),
            Some(bias) if bias.onset == 0.0 => {
                pass(&job(Task::Both(bias), requested, None), by_element, Direct::new(output, &mut []))
            }
            // Few atoms are above the onset. Evaluating them again takes less time than the grades of all atoms before their forces.
            Some(bias) => {
                smooth.resize(n, 0.0);
                // The smooth maximum is below γ / `SHARE`.
                let first = job(Task::Potential, Requested { grades: true, ..requested }, Some(SHARE * bias.onset));
                let first = pass(&first, by_element, Direct::new(output, smooth))?;
                let is_pushed = |k: &u32| smooth[system.atoms[*k as usize] as usize] > bias.onset;
                by_element.iter_mut().for_each(|list| list.retain(is_pushed));
                let second = job(Task::Bias(bias), Requested { grades: false, coefficients: false, ..requested }, None);
                let second = pass(&second, by_element, Direct::new(output, &mut []))?;
                Ok(Totals {
                    energy: first.energy,
                    bias: second.bias,
                    closest: first.closest,
                    virial: std::array::from_fn(|k| first.virial[k] + second.virial[k]),
                })
            }
        }
    }
}

fn element_of<F>(system: &System<F>, atom: usize) -> Option<usize> {
    let t = usize::try_from(*system.types.get(atom)?).ok()?;
    usize::try_from(*system.element_of_type.get(t)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Tests eight lanes, and tables whose number of columns is not a multiple of eight, also without AVX-512.
    #[test]
    fn four_and_eight_lanes_agree() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/two.yaml");
        let potential = Potential::read(&data, None).unwrap();
        let tables = potential.plan.species.iter().flat_map(|s| s.segments()).filter_map(|s| s.table.as_ref());
        assert!(tables.map(|t| t.ncol() % OCT).any(|left| left != 0));
        // A distorted grid of 27 atoms that are all neighbours of each other.
        let positions: Vec<[f64; 3]> = (0..27)
            .map(|i| [i % 3, i / 3 % 3, i / 9].map(|c| f64::from(c) * 2.3).map(|c| c + 0.1 * (c + f64::from(i)).sin()))
            .collect();
        let types: Vec<i32> = (0..27).map(|i| i % 2).collect();
        let atoms: Vec<i32> = (0..27).collect();
        let lists: Vec<Vec<i32>> = (0..27).map(|i| (0..27).filter(|&j| j != i).collect()).collect();
        let system = System {
            positions: &positions,
            types: &types,
            element_of_type: &[0, 1],
            scales: &[],
            atoms: &atoms,
            neighbours: |k: usize| &lists[k][..],
            mask: i32::MAX,
        };
        let evaluate = |kernels| {
            let mut evaluator = Evaluator::with_kernels(potential.clone(), Isa::Portable, kernels);
            let mut forces = vec![[0.0; 3]; 27];
            let totals = evaluator.evaluate(&system, &mut Output { forces: &mut forces, ..Output::default() }).unwrap();
            (totals, forces)
        };
        let ((four, f), (eight, g)) = (evaluate(Kernels::new(Isa::Portable)), evaluate(Kernels::wide()));
        // The order of the sums over neighbours differs.
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-11 * (1.0 + a.abs()), "{a} and {b}");
        close(four.energy, eight.energy);
        four.virial.iter().zip(&eight.virial).for_each(|(a, b)| close(*a, *b));
        f.iter().flatten().zip(g.iter().flatten()).for_each(|(a, b)| close(*a, *b));
    }
}
