// SPDX-License-Identifier: GPL-2.0-or-later
//! An uncertainty other than γ with a potential other than ACE: the centro-symmetry parameter of the atoms in EAM aluminium. It is
//! close to 0 in a perfect crystal and large at vacancies, stacking faults and surfaces.
//!
//! ```sh
//! cargo run --example own_uncertainty -- examples/al-500.extxyz .deps/share/lammps/potentials/Al_mm.eam.fs by-symmetry
//! ```
//! Any per-atom quantity of LAMMPS can be used: a fix, a compute, or an atom-style variable, such as the deviation of several models.

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
        # Å², as computed by `compute centro/atom`; thermal motion contributes a few Å².
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
