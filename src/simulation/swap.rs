// SPDX-License-Identifier: GPL-2.0-or-later
//! Replacing the potential of a running simulation.

use super::{Error, SetupState, Simulation};
use crate::config::Potential;
use crate::lammps::{self, Lammps, PairDevice};
use crate::script::Script;
use crate::{potential, verify};
use potential::BasisSize;

impl Simulation {
    /// Replaces the present potential by `new`. Positions, velocities, thermostat and step stay bitwise the same. The next
    /// [`Simulation::advance`] polls the same step again, with the new γ.
    ///
    /// Every rank loads the files in a separate LAMMPS instance first, so that the running one is not changed if they are
    /// invalid.
    ///
    /// # Errors
    /// [`Error::Swap`] for a potential of another pair style, or with a larger cutoff than the present one, for which regions are
    /// cut out; with a pair style of KOKKOS also for a larger basis. [`Error::Lammps`] for files that cannot be used. The present potential then stays in use.
    ///
    /// # MPI
    /// Collective.
    pub fn swap_potential(&mut self, new: &Potential) -> Result<(), Error> {
        self.commit_frame();
        let comm = self.comm.clone();
        // The instance lives to the end of this function, so that the files are read once.
        let (script, _loaded) = comm.agree(self.check_for_swap(new))?;
        if let Err(error) = self.set_pair_coefficients(&script.pair_coeff) {
            // No collective call may follow.
            if error.is_rank_failure() {
                return Err(error.into());
            }
            // The separate instance accepted the files. The old ones are loaded again, because the pair style may have
            // discarded them.
            let old = self.script.pair_coeff.clone();
            self.set_pair_coefficients(&old)?;
            return Err(error.into());
        }
        // `fix pair` and `fix ave/atom` do not evaluate the same step again, and would keep the old values. A new fix does.
        self.uncertainty.watch(&mut self.lammps, self.interval, self.gamma_fix.as_ref())?;
        self.blind_spots.watch(&mut self.lammps, self.interval)?;
        self.script = script;
        self.basis = self.basis.and_then(|_| BasisSize::of(new));
        self.setup = SetupState::NeedsPoll;
        Ok(())
    }

    /// Checks the new potential on this rank, without changing the running instance.
    fn check_for_swap(&self, new: &Potential) -> Result<(Script, Lammps), Error> {
        let unreadable = |e: std::io::Error| Error::Swap(format!("its file cannot be read: {e}"));
        let script = self.script.with_potential(new, &self.elements)?;
        if script.pair_style != self.script.pair_style {
            let (new, old) = (&script.pair_style, &self.script.pair_style);
            return Err(Error::Swap(format!("its pair_style is {new}, that of the running one is {old}")));
        }
        let reach = potential::reach(new).map_err(unreadable)?;
        if let (Some(new), Some(old)) = (reach, self.cutoff)
            && new > old
        {
            return Err(Error::Swap(format!(
                "it reaches {new} Å, the running one {old} Å, for which regions are cut out: start a new run with it"
            )));
        }
        self.check_basis(new)?;
        let loaded = verify::load(&script, &self.elements)?;
        Ok((script, loaded))
    }

    /// Checks that the arrays of a pair style of KOKKOS are large enough for the basis of `new`. ML-PACE's styles allocate them for
    /// the basis in use, and enlarge them only for more atoms or neighbours.
    fn check_basis(&self, new: &Potential) -> Result<(), Error> {
        let style = self.script.pair_style.as_str();
        if self.device == PairDevice::Cpu || !style.starts_with("pace") {
            return Ok(());
        }
        let why = match (self.basis, BasisSize::of(new)) {
            (Some(running), Some(new)) => match new.larger_than(&running) {
                Some(why) => format!("it has {why}"),
                None => return Ok(()),
            },
            _ => "this program cannot read the size of its basis or of the running one".to_owned(),
        };
        Err(Error::Swap(format!(
            "{why}, and the arrays of the pair style {style}/kk do not grow with the basis: start a new run with it, or run without \
             the suffix `kk`"
        )))
    }

    /// Runs `pair_coeff` without `pair_style`: fixes hold pointers to the pair style, which must stay the same object.
    fn set_pair_coefficients(&mut self, lines: &[String]) -> Result<(), lammps::Error> {
        self.setup = SetupState::NeedsPoll;
        for line in lines {
            self.lammps.command(&format!("pair_coeff {line}"))?;
        }
        Ok(())
    }
}
