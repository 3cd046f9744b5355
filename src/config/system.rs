// SPDX-License-Identifier: GPL-2.0-or-later
//! `SystemConfig`: atoms, potential and LAMMPS commands.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::section::check;
use super::{Determines, Error, Section};

/// The simulated system: atoms, potential, and additional LAMMPS commands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemConfig {
    /// The initial structure: extended XYZ, LAMMPS data, or LAMMPS dump, optionally compressed with gzip. Relative to the
    /// configuration file. Masses in it replace the standard atomic weights. Rank 0 reads the whole file; for structures too
    /// large for one rank, see `create`. Atoms fixed by a column `move_mask` (extended XYZ; written by ASE for `FixAtoms` and `FixCartesian`) keep their
    /// positions, or their relative positions in the cell under a barostat.
    #[serde(default)]
    pub structure: PathBuf,
    /// LAMMPS commands that create the box and the atoms, instead of `structure`: e.g. `["read_data /path/big.data"]`,
    /// `["read_restart /path/big.restart"]`, or `boundary`, `lattice`, `region`, `create_box`, `create_atoms` and `mass`.
    /// LAMMPS distributes the atoms over the ranks, so that no rank holds all of them. Requires `elements`. `min_distance` is
    /// not checked, and the ids from `create_atoms` depend on the number of ranks. File names are relative to the working
    /// directory. A loop must begin at step 0: end the list with `reset_timestep 0`. Commands are executed without
    /// restriction, as in `setup`.
    #[serde(default)]
    pub create: Vec<String>,
    /// Chemical symbols of the atom types, in order, for a LAMMPS file without symbols or for `create`. They take precedence
    /// over a dump column `element` that is C for all atoms, the LAMMPS default.
    #[serde(default)]
    pub elements: Vec<String>,
    /// The potential.
    pub potential: Potential,
    /// LAMMPS units of the set-up. All other keys keep their units.
    #[serde(default)]
    pub units: Units,
    /// Template of the LAMMPS set-up, instead of the built-in `templates/md.in.j2`. Its commands are executed without
    /// restriction, as in `setup`.
    pub template: Option<PathBuf>,
    /// LAMMPS commands executed after the set-up and before the first step: computes, fixes, variables, `thermo_modify`.
    /// They are executed without restriction, including `shell` and `include`, so treat a configuration from another person
    /// like a program. Commands that interfere with the set-up (`quit`, `clear`, `jump`, `label`, `next`, `log`, `shell cd`)
    /// are rejected. A `thermo_style` must be `custom` with temp, press, pe and etotal, which each poll reads. A resumed run
    /// skips commands that change atoms (`velocity`, `displace_atoms` and similar) or define groups, and appends to the
    /// files of `dump` and of fixes. File names are relative to the working directory.
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
            "a file, or absent if `create` is set; `lammps-otf init` writes a complete configuration",
        )?;
        let missing = !self.create.is_empty() && self.elements.is_empty();
        check(!missing, "elements", &self.elements, "the chemical symbol of each atom type that `create` defines")?;
        self.potential.validate()
    }
}

/// A potential: the files of an ML-PACE potential, or the LAMMPS commands of any other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Potential {
    /// File of the ML-PACE potential: `.yaml` (B-basis, required for γ), or `.yace` (C-tilde basis, without γ).
    pub file: Option<PathBuf>,
    /// File of the active set, `.asi`. If absent, `file` with the extension `.asi`.
    pub active_set: Option<PathBuf>,
    /// Evaluator of ML-PACE potentials. Both give the same results, except for potentials whose elements differ in their
    /// number of densities: `ml-pace` evaluates these incorrectly and is rejected for them. Each reads some files that the
    /// other does not.
    #[serde(default)]
    pub engine: Engine,
    /// Arguments of `pair_style` for any other potential, e.g. `"eam/fs"`.
    pub pair_style: Option<String>,
    /// Arguments of `pair_coeff`, e.g. `["* * Al_mm.eam.fs Al"]`.
    #[serde(default)]
    pub pair_coeff: Vec<String>,
    /// Cutoff in Å, for the size of cut-outs. If absent, it is read from the ML-PACE file or obtained from LAMMPS.
    pub cutoff: Option<f64>,
}

/// Evaluator of ML-PACE potentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// The evaluator of this project, several times faster: `pace/opt`, `pace/extrapolation/opt`.
    #[default]
    Opt,
    /// The evaluator of ML-PACE, the reference in tests: `pace`, `pace/extrapolation`.
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
    /// The argument of the LAMMPS command `units`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Metal => "metal",
            Self::Real => "real",
        }
    }
}

impl Potential {
    /// An ACE potential in files, with the default evaluator. Without `active_set`, it is `file` with the extension `.asi`.
    #[must_use]
    pub fn ace(file: PathBuf, active_set: Option<PathBuf>) -> Self {
        let engine = Engine::default();
        Self { file: Some(file), active_set, engine, pair_style: None, pair_coeff: Vec::new(), cutoff: None }
    }

    /// The files of an ML-PACE potential and its active set; `None` for another kind of potential.
    #[must_use]
    pub fn pace_files(&self) -> Option<(PathBuf, PathBuf)> {
        let file = self.file.clone()?;
        let active_set = self.active_set.clone().unwrap_or_else(|| file.with_extension("asi"));
        Some((file, active_set))
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let error = |field, value: &dyn std::fmt::Debug, allowed| {
            Err(Error::Range { field, value: format!("{value:?}"), allowed })
        };
        match (&self.file, &self.pair_style) {
            (None, None) => {
                return error(
                    "potential",
                    &format_args!("{{}}"),
                    "given by `file` (ML-PACE), or by `pair_style` and `pair_coeff`",
                );
            }
            (Some(file), Some(_)) => {
                return error("potential.file", file, "absent if `pair_style` is set; give only one of them");
            }
            (None, Some(_)) if self.pair_coeff.is_empty() => {
                return error(
                    "potential.pair_coeff",
                    &self.pair_coeff,
                    "set together with `pair_style`, e.g. [\"* * file Al\"]",
                );
            }
            _ => {}
        }
        for (field, file) in [("potential.file", &self.file), ("potential.active_set", &self.active_set)] {
            if let Some(path) = file.as_deref().filter(|p| !p.is_file()) {
                return error(field, &path, "an existing file");
            }
        }
        let spans_lines = |t: &&String| t.contains(['\n', '\r', '&', '$']) || t.contains("\"\"\"");
        if let Some(text) = self.pair_style.iter().chain(&self.pair_coeff).find(spans_lines) {
            return error("potential.pair_style or pair_coeff", text, "a single line without `&`, `$` and `\"\"\"`");
        }
        if let Some(cutoff) = self.cutoff.filter(|c| !(0.5..=100.0).contains(c)) {
            return error("potential.cutoff", &cutoff, "between 0.5 and 100 Å");
        }
        Ok(())
    }

    /// Checks that the potential provides γ: B-basis and active set.
    pub(super) fn check_for_gamma(&self) -> Result<(), Error> {
        let error = |field, path: &Path, allowed| Err(Error::Range { field, value: format!("{path:?}"), allowed });
        let Some((file, active_set)) = self.pace_files() else {
            return Err(Error::Range {
                field: "uncertainty",
                value: "\"pace\"".into(),
                allowed: "\"none\" or { fix | compute | variable = \"name\" } if the potential is not ML-PACE",
            });
        };
        match file.extension().and_then(|e| e.to_str()) {
            Some("yaml" | "yml") => {}
            Some("yace") => {
                return error(
                    "potential.file",
                    &file,
                    "the .yaml file of the same fit: a .yace holds the C-tilde basis, from which the extrapolation grade \
                     cannot be computed. γ requires the B-basis (pacemaker writes it as output_potential.yaml) and its \
                     active set (.asi, made from it by `pace_activeset`). To run without γ, set uncertainty = \"none\"",
                );
            }
            _ => {
                return error(
                    "potential.file",
                    &file,
                    "a .yaml file (B-basis), with its active set (.asi) in the same folder",
                );
            }
        }
        if !active_set.is_file() {
            return error(
                "potential.active_set",
                &active_set,
                "an existing .asi file: make it with `pace_activeset -d <fitting data> <potential>.yaml`",
            );
        }
        Ok(())
    }
}
