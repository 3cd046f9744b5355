// SPDX-License-Identifier: GPL-2.0-or-later
//! What is simulated.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::section::check;
use super::{Determines, Error, Section};

/// What is simulated: the atoms, the potential, and additional LAMMPS commands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemConfig {
    /// The initial structure: extended XYZ, or a LAMMPS data or dump file, also compressed with gzip. Relative to the
    /// configuration file. Masses in it replace the standard atomic weights. Read on rank 0, which holds all its atoms; for more
    /// than one rank can hold, see `create`. Atoms that its column `move_mask` (extended XYZ; ASE's `FixAtoms` and
    /// `FixCartesian`) fixes stay where they are; under a barostat they stay where they are in the cell.
    #[serde(default)]
    pub structure: PathBuf,
    /// In place of `structure`: LAMMPS commands that make the box and the atoms, e.g. `["read_data /path/big.data"]`,
    /// `["read_restart /path/big.restart"]`, or `boundary`, `lattice`, `region`, `create_box`, `create_atoms` and `mass`.
    /// LAMMPS deals the atoms out to the ranks at once, so that no rank ever holds all of them. `elements` has to name the
    /// types; nothing is checked beforehand (`min_distance`), and the ids
    /// that `create_atoms` gives depend on the number of ranks. File names are relative to where the program runs. A loop has
    /// to begin at step 0: let them end with `reset_timestep 0`. They are trusted, like `setup`.
    #[serde(default)]
    pub create: Vec<String>,
    /// Chemical symbols in the order of the types of a LAMMPS file that names none, or of what `create` makes. They go before
    /// a dump's column `element` that is C for all atoms, which LAMMPS writes by itself.
    #[serde(default)]
    pub elements: Vec<String>,
    /// The potential.
    pub potential: Potential,
    /// LAMMPS units of the set-up.
    #[serde(default)]
    pub units: Units,
    /// A template to use instead of the built-in one, `templates/md.in.j2`; trusted like `setup`.
    pub template: Option<PathBuf>,
    /// LAMMPS commands to run after the set-up, before the first step: computes, fixes, variables, `thermo_modify`. They are
    /// trusted and run as they stand, also `shell` and `include`: take a configuration of somebody else's as you take a
    /// program. Those that end or replace the commands around them (`quit`, `clear`, `jump`, `label`, `next`, `log`, `shell cd`)
    /// are refused. A `thermo_style` has to be `custom` with temp, press, pe and etotal, which each poll reads. A run that is
    /// resumed leaves those out that change the atoms (`velocity`, `displace_atoms` and their like) or make groups, and appends
    /// to the files of `dump` and of fixes. File names are relative to where the program runs.
    #[serde(default)]
    pub setup: Vec<String>,
}

impl Section for SystemConfig {
    const DETERMINES: Determines = Determines::Trajectory;
}

impl SystemConfig {
    pub(super) fn validate(&self) -> Result<(), Error> {
        let named = !self.structure.as_os_str().is_empty();
        check(
            named == self.create.is_empty(),
            "structure",
            &self.structure,
            "a file, or absent where `create` is given; `lammps-otf init` writes a configuration with all that is needed",
        )?;
        let missing = !self.create.is_empty() && self.elements.is_empty();
        check(!missing, "elements", &self.elements, "the chemical symbol of each type that `create` makes")?;
        self.potential.validate()
    }
}

/// A potential: ML-PACE by its files, or any other by LAMMPS commands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Potential {
    /// The ML-PACE potential: `.yaml` (B-basis, which γ needs) or, without γ, `.yace`.
    pub file: Option<PathBuf>,
    /// The active set, `.asi`; the same name as `file` if absent.
    pub active_set: Option<PathBuf>,
    /// Which evaluator of ML-PACE potentials to use. Both give the same numbers, but where elements differ in their number of
    /// densities: ML-PACE's are wrong there, and refused. Each reads some files that the other does not.
    #[serde(default)]
    pub engine: Engine,
    /// Arguments of `pair_style` for any other potential, e.g. `"eam/fs"`.
    pub pair_style: Option<String>,
    /// Arguments of `pair_coeff`, e.g. `["* * Al_mm.eam.fs Al"]`.
    #[serde(default)]
    pub pair_coeff: Vec<String>,
    /// Cutoff in Å, for the checks of the cut-out. Read from the file for ML-PACE, else from LAMMPS, if absent.
    pub cutoff: Option<f64>,
}

/// The evaluators of ML-PACE potentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// The one of this project, several times as fast: `pace/opt`, `pace/extrapolation/opt`.
    #[default]
    Opt,
    /// ML-PACE's own, which the other is tested against: `pace`, `pace/extrapolation`.
    MlPace,
}

/// LAMMPS units of the set-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Units {
    /// Å, ps, eV, bar.
    #[default]
    Metal,
    /// Å, fs, kcal/mol, atm.
    Real,
}

impl Units {
    /// As LAMMPS calls them.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Metal => "metal",
            Self::Real => "real",
        }
    }
}

impl Potential {
    /// The files of an ML-PACE potential and its active set; `None` for another kind of potential.
    #[must_use]
    pub fn pace_files(&self) -> Option<(PathBuf, PathBuf)> {
        let file = self.file.clone()?;
        let active_set = self.active_set.clone().unwrap_or_else(|| file.with_extension("asi"));
        Some((file, active_set))
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let refuse = |field, value: &dyn std::fmt::Debug, allowed| {
            Err(Error::Range { field, value: format!("{value:?}"), allowed })
        };
        match (&self.file, &self.pair_style) {
            (None, None) => {
                return refuse(
                    "potential",
                    &format_args!("{{}}"),
                    "given by `file` (ML-PACE), or by `pair_style` and `pair_coeff`",
                );
            }
            (Some(file), Some(_)) => {
                return refuse("potential.file", file, "absent where `pair_style` is given: one potential at a time");
            }
            (None, Some(_)) if self.pair_coeff.is_empty() => {
                return refuse(
                    "potential.pair_coeff",
                    &self.pair_coeff,
                    "given with `pair_style`, e.g. [\"* * file Al\"]",
                );
            }
            _ => {}
        }
        for (field, file) in [("potential.file", &self.file), ("potential.active_set", &self.active_set)] {
            if let Some(path) = file.as_deref().filter(|p| !p.is_file()) {
                return refuse(field, &path, "a file that exists");
            }
        }
        let leaves_its_line = |t: &&String| t.contains(['\n', '\r', '&', '$']) || t.contains("\"\"\"");
        if let Some(text) = self.pair_style.iter().chain(&self.pair_coeff).find(leaves_its_line) {
            return refuse("potential.pair_style or pair_coeff", text, "on one line, without `&`, `$` and `\"\"\"`");
        }
        if let Some(cutoff) = self.cutoff.filter(|c| !(0.5..=100.0).contains(c)) {
            return refuse("potential.cutoff", &cutoff, "between 0.5 and 100 Å");
        }
        Ok(())
    }

    /// γ needs the B-basis and its active set.
    pub(super) fn check_for_gamma(&self) -> Result<(), Error> {
        let refuse = |field, path: &Path, allowed| Err(Error::Range { field, value: format!("{path:?}"), allowed });
        let Some((file, active_set)) = self.pace_files() else {
            return Err(Error::Range {
                field: "uncertainty",
                value: "\"pace\"".into(),
                allowed: "\"none\", or { fix | compute | variable = \"name\" } where the potential is not ML-PACE",
            });
        };
        match file.extension().and_then(|e| e.to_str()) {
            Some("yaml" | "yml") => {}
            Some("yace") => {
                return refuse(
                    "potential.file",
                    &file,
                    "the .yaml file of the same fit: a .yace holds the C-tilde basis, from which the extrapolation grade \
                     cannot be computed and which cannot be turned back. γ needs the B-basis (.yaml) and its active set \
                     (.asi), which pacemaker writes as output_potential.yaml and `pace_activeset` makes from it; or set \
                     uncertainty = \"none\" to run without γ",
                );
            }
            _ => {
                return refuse("potential.file", &file, "a .yaml file (B-basis), with its active set (.asi) beside it");
            }
        }
        if !active_set.is_file() {
            return refuse(
                "potential.active_set",
                &active_set,
                "an .asi file that exists: make it with `pace_activeset -d <fitting data> <potential>.yaml`",
            );
        }
        Ok(())
    }
}
