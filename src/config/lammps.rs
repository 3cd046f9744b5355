// SPDX-License-Identifier: GPL-2.0-or-later
//! How LAMMPS is started.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::section::check;
use super::{Determines, Error, Section};

/// How LAMMPS is started: plugins and accelerators.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LammpsConfig {
    /// Plugin files to load before the set-up.
    #[serde(default)]
    pub plugins: Vec<PathBuf>,
    /// Variants of LAMMPS's styles to use where there are such: `"opt"`, `"omp"`, `"intel"`, `"gpu"`, `"kk"`, or
    /// `"hybrid intel opt"`. The same as LAMMPS's switch `-suffix`; `"kk"` also switches KOKKOS on.
    pub suffix: Option<String>,
    /// Settings of accelerator packages, each as LAMMPS's switch `-package` takes it, e.g. `["omp 4"]`.
    #[serde(default)]
    pub package: Vec<String>,
    /// More command-line arguments of LAMMPS, e.g. `["-kokkos", "on", "gpus", "2"]`.
    #[serde(default)]
    pub lammps_args: Vec<String>,
}

impl Section for LammpsConfig {
    const DETERMINES: Determines = Determines::Nothing;
}

impl LammpsConfig {
    pub(super) fn validate(&self) -> Result<(), Error> {
        let words = |text: &str| !text.trim().is_empty() && !text.split_whitespace().any(|w| w.starts_with('-'));
        let switch =
            "what stands behind LAMMPS's switch of that name, without other switches; those go into lammps_args";
        check(self.suffix.as_deref().is_none_or(words), "suffix", &self.suffix, switch)?;
        check(self.package.iter().all(|p| words(p)), "package", &self.package, switch)
    }
}
