// SPDX-License-Identifier: GPL-2.0-or-later
//! Audits: atoms below the threshold, drawn at random.
//!
//! Which polls are audited, and which atom, follows from hashes of the seed, the round, the step and the ids. The result is therefore
//! the same on any number of ranks and in a resumed run, and every atom has the same probability.

use super::{Center, Error, Simulation};
use crate::calibration::mix;
use crate::structure::AtomId;

/// A number in [0, 1) from the leading 53 bits.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// The draws of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Audits {
    /// Expected number for each ps.
    pub(super) rate: f64,
    pub(super) seed: u64,
}

impl Audits {
    /// The number from which all draws at a step follow; `None` if the step is not audited. `interval` is the time between two
    /// polls in ps.
    fn key(self, round: u32, step: i64, interval: f64) -> Option<u64> {
        let key = mix(mix(mix(self.seed) ^ u64::from(round)) ^ step as u64);
        (unit(mix(key)) < self.rate * interval).then_some(key)
    }
}

/// The rank of an atom in the draw: the smallest is drawn. Different ids have different ranks.
fn rank(key: u64, id: AtomId) -> i64 {
    mix(key ^ id as u64) as i64
}

impl Simulation {
    /// The atom to audit at the present step, as the setting `audits_per_ps` requires; `None` at most steps. `round` makes the draws
    /// of the rounds of a loop independent.
    ///
    /// # Errors
    /// [`Error::Lammps`] if γ cannot be read.
    ///
    /// # MPI
    /// Collective; the same answer on all ranks.
    pub fn draw_audit(&self, round: u32) -> Result<Option<Center>, Error> {
        let interval = self.lammps.timestep() * self.interval as f64 * self.units.time;
        let Some(key) = self.audits.key(round, self.lammps.step(), interval) else { return Ok(None) };
        let Some(values) = self.uncertainty.values(&self.lammps)? else { return Ok(None) };
        let atoms = self.lammps.atoms();
        let n = values.len().min(atoms.ids.len());
        let first = (0..n).map(|at| (rank(key, atoms.ids.get(at)), at)).min();
        let least = self.comm.min_i64(first.map_or(i64::MAX, |(rank, _)| rank));
        let drawn = first.filter(|(rank, _)| *rank == least).map(|(_, at)| at);
        let mut found = [0.0; 5];
        let mut id = [0];
        if let Some(at) = drawn {
            let [x, y, z] = [0, 1, 2].map(|k| atoms.positions[[at, k]]);
            found = [1.0, values[at], x, y, z];
            id = [atoms.ids.get(at)];
        }
        self.comm.sum(&mut found);
        self.comm.sum_i64(&mut id);
        let [any, gamma, x, y, z] = found;
        Ok((any > 0.0).then_some(Center { id: id[0], gamma, position: [x, y, z] }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_number_of_audits_per_ps() {
        let audits = Audits { rate: 0.5, seed: 7 };
        // 100,000 polls, one each 0.01 ps.
        let drawn = (0..100_000).filter(|step| audits.key(1, 10 * step, 0.01).is_some()).count();
        // 500 expected; the standard deviation is 22.
        assert!((400..600).contains(&drawn), "{drawn}");
    }

    #[test]
    fn every_atom_is_drawn_equally_often_and_rounds_differ() {
        let audits = Audits { rate: 1e9, seed: 1 };
        let drawn = |round, step| {
            let key = audits.key(round, step, 1.0).unwrap();
            (1..=8).min_by_key(|&id| rank(key, id)).unwrap()
        };
        let mut counts = [0; 8];
        (0..8000).for_each(|step| counts[(drawn(1, step) - 1) as usize] += 1);
        // 1,000 each; the standard deviation is 30.
        assert!(counts.iter().all(|n| (850..1150).contains(n)), "{counts:?}");
        let same = (0..8000).filter(|&step| drawn(1, step) == drawn(2, step)).count();
        assert!((850..1150).contains(&same), "{same}");
    }
}
