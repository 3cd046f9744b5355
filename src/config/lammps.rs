// SPDX-License-Identifier: GPL-2.0-or-later
//! `LammpsConfig`: plugins and accelerators.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::section::check;
use super::{Determines, Error, Section};

/// LAMMPS start-up: plugins and accelerators.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LammpsConfig {
    /// Plugin files to load before the set-up.
    #[serde(default)]
    pub plugins: Vec<PathBuf>,
    /// Accelerated variants of LAMMPS styles, used where available: `"opt"`, `"omp"`, `"intel"`, `"gpu"`, `"kk"`, or
    /// `"hybrid intel opt"`. Equivalent to the LAMMPS switch `-suffix`; `"kk"` also enables KOKKOS, and needs `engine = "ml-pace"`
    /// for an effect on the potential.
    pub suffix: Option<String>,
    /// Settings of accelerator packages, each in the form of the LAMMPS switch `-package`, e.g. `["omp 4"]`, which is also the number of
    /// threads of `engine = "opt"` in each MPI process, or `["kokkos newton on neigh half"]`, which ML-PACE needs on a GPU.
    #[serde(default)]
    pub package: Vec<String>,
    /// Additional LAMMPS command-line arguments, e.g. `["-kokkos", "on", "gpus", "2"]`.
    #[serde(default)]
    pub lammps_args: Vec<String>,
}

impl Section for LammpsConfig {
    const DETERMINES: Determines = Determines::Nothing;
}

impl LammpsConfig {
    pub(super) fn validate(&self) -> Result<(), Error> {
        let words = |text: &str| !text.trim().is_empty() && !text.split_whitespace().any(|w| w.starts_with('-'));
        let switch = "the arguments of the LAMMPS switch of that name; other switches belong in `lammps_args`";
        check(self.suffix.as_deref().is_none_or(words), "suffix", &self.suffix, switch)?;
        check(self.package.iter().all(|p| words(p)), "package", &self.package, switch)
    }
}
