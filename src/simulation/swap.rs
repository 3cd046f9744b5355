// SPDX-License-Identifier: GPL-2.0-or-later
//! Another potential for a simulation that is on its way.

use super::{Error, Setup, Simulation};
use crate::config::Potential;
use crate::lammps::{self, Lammps};
use crate::script::{GAMMA_FIX, Script};
use crate::{potential, verify};

impl Simulation {
    /// Takes `new` in place of the present potential, where the atoms stand: positions, velocities, thermostat and step
    /// stay as they are, bit for bit. The next [`Simulation::advance`] looks at the same step again, with the new γ.
    ///
    /// The files are loaded in a LAMMPS instance of its own first, on every rank, so that the running one is not touched
    /// before they are known to be good.
    ///
    /// # Errors
    /// [`Error::Swap`] for a potential of another kind, or one that reaches farther than the present one: regions are cut
    /// out for that cutoff. [`Error::Lammps`] for files that cannot be used. The present potential then goes on.
    ///
    /// # MPI
    /// Collective.
    pub fn swap_potential(&mut self, new: &Potential) -> Result<(), Error> {
        self.keep();
        let comm = self.comm.clone();
        // The instance that has tried it lives to the end, so that its files are read once.
        let (script, _tried) = comm.agree(self.checked_for_swap(new))?;
        if let Err(error) = self.take_pair_coefficients(&script.pair_coeff) {
            // A rank that fails alone does nothing together with the others any more.
            if error.is_rank_failure() {
                return Err(error.into());
            }
            // What took the file a moment ago refuses it now. The old one is loaded again, because a pair style may have
            // thrown it away by then.
            let old = self.script.pair_coeff.clone();
            self.take_pair_coefficients(&old)?;
            return Err(error.into());
        }
        if script.gamma {
            // The fix skips a second evaluation at the same step and would keep the old γ; given again, it begins anew.
            let fix = format!("fix {GAMMA_FIX} all pair {} {} gamma 1", self.interval, script.pair_style);
            self.lammps.command(&fix)?;
        }
        // The same of a fix that asks for another uncertainty.
        self.uncertainty.watch(&mut self.lammps, self.interval)?;
        self.script = script;
        self.setup = Setup::Look;
        Ok(())
    }

    /// What can be found out on this rank, without touching the running instance.
    fn checked_for_swap(&self, new: &Potential) -> Result<(Script, Lammps), Error> {
        let unreadable = |e: std::io::Error| Error::Swap(format!("its file cannot be read: {e}"));
        let script = self.script.with_potential(new, &self.elements)?;
        if script.pair_style != self.script.pair_style {
            let (new, old) = (&script.pair_style, &self.script.pair_style);
            return Err(Error::Swap(format!("it is of pair_style {new}, the running one of {old}")));
        }
        let reach = potential::reach(new).map_err(unreadable)?;
        if let (Some(new), Some(old)) = (reach, self.cutoff)
            && new > old
        {
            return Err(Error::Swap(format!(
                "it reaches {new} Å, the running one {old} Å, for which regions are cut out: start another run with it"
            )));
        }
        let tried = verify::load(&script, &self.elements)?;
        Ok((script, tried))
    }

    /// `pair_coeff` alone, without `pair_style`: the pair style stays the same object, to which fixes hold pointers.
    fn take_pair_coefficients(&mut self, lines: &[String]) -> Result<(), lammps::Error> {
        self.setup = Setup::Look;
        for line in lines {
            self.lammps.command(&format!("pair_coeff {line}"))?;
        }
        Ok(())
    }
}
