// SPDX-License-Identifier: GPL-2.0-or-later
//! `Predictor` compared with LAMMPS: energies, forces and γ.

mod common;

use std::path::Path;

use common::{aluminium, root, write};
use lammps_otf::config::{Engine, InferenceConfig};
use lammps_otf::prediction::{Prediction, PredictionError, predictor as read};
use lammps_otf::script::Script;
use lammps_otf::structure::{Cell, Structure, Vec3};
use lammps_otf::verify::{self, Evaluation};
use lammps_otf::{io, structure::Element};

/// A configuration with a potential of the repository and this structure.
fn config(folder: &Path, potential: &str, structure: &str) -> InferenceConfig {
    write(folder, "start.extxyz", structure);
    let potential = root().join("potentials").join(potential);
    let toml = format!(
        "structure = \"start.extxyz\"\ntemperature = 300\nsteps = 1\n[potential]\nfile = {potential:?}\n[embedding]\nradius = 3.0\n"
    );
    InferenceConfig::read(write(folder, "run.toml", &toml)).unwrap()
}

/// The structure displaced by up to `amplitude` (Å), and shifted out of the cell along periodic vectors.
fn displaced(mut structure: Structure, amplitude: f64) -> Structure {
    let shift: Vec3 = structure.cell.combine(structure.cell.pbc.map(|p| if p { -0.37 } else { 0.0 }));
    for (at, x) in structure.positions.iter_mut().enumerate() {
        *x += amplitude * ((at * 7919 % 101) as f64 / 50.5 - 1.0) + shift[at % 3];
    }
    structure
}

fn compare(name: &str, found: &Prediction, expected: &Evaluation, tolerance: f64) {
    let n = expected.forces.len();
    assert!(
        (found.energy - expected.energy).abs() < tolerance * n as f64,
        "{name}: {} {}",
        found.energy,
        expected.energy
    );
    let largest = expected.forces.iter().flatten().fold(1.0_f64, |most, f| most.max(f.abs()));
    for (i, force) in expected.forces.iter().enumerate() {
        for (a, b) in found.forces.row(i).iter().zip(force) {
            assert!((a - b).abs() < tolerance * largest, "{name}, atom {i}: {a} {b} eV/Å, largest {largest}");
        }
    }
    let (found, expected) = (found.gamma.as_ref().unwrap(), expected.gamma.as_ref().unwrap());
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        // Rounding errors of γ are amplified by the condition number of the active set.
        assert!((a - b).abs() < 1e-7 * b.max(1.0), "{name}, atom {i}: γ {a} {b}");
    }
}

#[test]
fn forces_and_gamma_are_those_of_lammps() {
    let _one = common::one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let small = "2\nLattice=\"4.0 0 0 1.1 3.9 0 -0.7 0.4 5.2\" Properties=species:S:1:pos:R:3 pbc=\"T T T\"\n\
                 Al 0.1 0.2 0.3\nCu 2.0 2.1 2.7\n";
    let alloy = || aluminium(4).replacen("Al 8", "Cu 8", 17);
    let slab = || {
        alloy()
            .replace("pbc=\"T T T\"", "pbc=\"T T F\"")
            .replace("0 0 16.18\"", "0 0 30\"")
            .replace("Lattice", "Origin=\"0 0 -2\" Lattice")
    };
    let cluster =
        || alloy().replace("T T T", "F F F").replace("Lattice", "Origin=\"-2 -2 -2\" Lattice").replace("16.18", "20.0");
    let cases = [
        ("al/Al.yaml", aluminium(3), 0.2),
        ("alcu/AlCu.yaml", alloy(), 0.25),
        ("alcu/AlCu.yaml", slab(), 0.25),
        ("alcu/AlCu.yaml", cluster(), 0.25),
        // Smaller than the cutoff, and tilted.
        ("alcu/AlCu.yaml", small.to_owned(), 0.1),
    ];
    for (file, text, amplitude) in cases {
        let mut config = config(folder.path(), file, &text);
        let structure = displaced(io::read(&config.system.structure, None).unwrap(), amplitude);
        let name = format!("{file}, {:?}, {} atoms", structure.cell.pbc, structure.len());
        let found = read(&config.system.potential).unwrap().evaluate(&structure).unwrap();
        for engine in [Engine::Opt, Engine::MlPace] {
            config.system.potential.engine = engine;
            let script = Script::new(&config, &structure, Path::new("data")).unwrap();
            // ML-PACE interpolates with other tables.
            let tolerance = if engine == Engine::Opt { 1e-10 } else { 1e-6 };
            compare(&name, &found, &verify::evaluate(&structure, &script).unwrap(), tolerance);
        }
        let sum = found.forces.sum_axis(ndarray::Axis(0));
        assert!(sum.iter().all(|f| f.abs() < 1e-9), "{name}: {sum}");
        assert!(found.core_share.iter().all(|share| (0.0..=1.0).contains(share)));
    }
}

#[test]
fn unusable_structures_and_potentials_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "al/Al.yaml", &aluminium(3));
    let structure = io::read(&config.system.structure, None).unwrap();
    let mut predictor = read(&config.system.potential).unwrap();
    let mut other = structure.clone();
    other.elements[0] = Element::Fe;
    assert!(matches!(predictor.evaluate(&other), Err(PredictionError::Element("Fe"))));
    let mut overlapping = structure.clone();
    (0..3).for_each(|k| overlapping.positions[[1, k]] = overlapping.positions[[0, k]]);
    assert!(predictor.evaluate(&overlapping).unwrap_err().to_string().contains("too close"));
    let mut flat = structure;
    flat.cell = Cell::orthorhombic([1.0, 1.0, 0.0], [true; 3]);
    assert!(matches!(predictor.evaluate(&flat), Err(PredictionError::Structure(_))));
    let mut eam = config.system.potential.clone();
    (eam.file, eam.pair_style) = (None, Some("eam/fs".into()));
    assert!(matches!(read(&eam), Err(PredictionError::NotAce)));
    // Without an active set there is no γ.
    let mut bare = config.system.potential.clone();
    let copy = folder.path().join("Al.yaml");
    std::fs::copy(bare.file.unwrap(), &copy).unwrap();
    bare.file = Some(copy);
    let mut config = config.clone();
    config.system.potential = bare;
    let structure = io::read(&config.system.structure, None).unwrap();
    assert_eq!(read(&config.system.potential).unwrap().evaluate(&structure).unwrap().gamma, None);
}
