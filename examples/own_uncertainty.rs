// SPDX-License-Identifier: GPL-2.0-or-later
//! Another uncertainty than γ, and another potential than ACE: the centro-symmetry of each atom in a crystal of EAM aluminium,
//! which is near 0 in a perfect crystal and large where a vacancy, a fault or a surface is.
//!
//! ```sh
//! cargo run --example own_uncertainty -- examples/al-500.extxyz .deps/share/lammps/potentials/Al_mm.eam.fs by-symmetry
//! ```
//! Whatever LAMMPS can compute for each atom will do: a fix, a compute, an atom-style variable (the deviation of several models).

use std::path::Path;

use lammps_otf::comm::Session;
use lammps_otf::config::InferenceConfig;
use lammps_otf::runner::LammpsRunner;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mpi = Session::initialize();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [structure, potential, output] = &arguments[..] else {
        return Err("usage: own_uncertainty STRUCTURE EAM_FILE OUTPUT".into());
    };
    let coefficients = format!("* * {} Al", std::path::absolute(potential)?.display());
    let text = format!(
        r#"
        structure = {structure:?}
        temperature = [300, 1500]
        steps = 4000
        sampling_interval = 20
        # Å², as `compute centro/atom` has it; thermal motion alone gives a few.
        uncertainty = {{ compute = "symmetry" }}
        uncertainty_threshold = 12.0
        uncertainty_low = 8.0
        setup = ["compute symmetry all centro/atom fcc"]
        [potential]
        pair_style = "eam/fs"
        pair_coeff = [{coefficients:?}]
        cutoff = 6.5
        [embedding]
        radius = 3.0
        "#
    );
    let config = InferenceConfig::parse(&text, Path::new("own_uncertainty.toml"))?;
    let result = LammpsRunner::new(&mpi.world(), output).run(&config)?;
    println!(
        "{:?} at step {:?}: {:.1} Å² at atom {:?}, {} candidate(s)",
        result.status,
        result.trigger_step,
        result.gamma_max.unwrap_or(f64::INFINITY),
        result.atom_id,
        result.candidates.len()
    );
    Ok(())
}
