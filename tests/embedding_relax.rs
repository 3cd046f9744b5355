// SPDX-License-Identifier: GPL-2.0-or-later
//! Relaxation of the buffer of a cube with an actual potential and the compiled program.

mod common;

use common::{al_config, lammps_otf, text as text_of};

/// Hot from the start, without a thermostat.
const HOT: &str = "temperature = 6000\nensemble = \"nve\"\nsteps = 200\nsampling_interval = 10\nseed = 3\n";

/// Runs with a cube and returns the stored candidate.
fn cube(relax: bool) -> lammps_otf::candidates::Candidate {
    let folder = tempfile::tempdir().unwrap();
    let config = al_config(folder.path(), &format!("{HOT}relax = {relax}\n"));
    let changed = std::fs::read_to_string(&config).unwrap().replace("radius = 4.0", "shape = \"cube\"\nradius = 2.0");
    std::fs::write(&config, changed).unwrap();
    let output = lammps_otf().current_dir(&folder).arg("run").arg(&config).args(["-o", "out", "-q"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", text_of(&output));
    let store = lammps_otf::candidates::Store::open_existing(&folder.path().join("out/candidates.db")).unwrap();
    store.get(store.ids(None).unwrap()[0]).unwrap().candidate
}

#[test]
fn relaxation_moves_the_outer_buffer_alone_and_keeps_gamma() {
    let (before, after) = (cube(false), cube(true));
    assert_eq!(before.source_ids, after.source_ids);
    let center = before.keys.center.unwrap();
    let middle = before.structure.positions.row(center).to_owned();
    let (mut moved, mut kept) = (0, 0);
    for (a, b) in before.structure.positions.outer_iter().zip(after.structure.positions.outer_iter()) {
        let distance = (&a - &middle).mapv(|x| x * x).sum().sqrt();
        if distance < 5.5 {
            kept += 1;
            assert_eq!(a, b, "an atom {distance} Å from the centre has moved");
        } else if a != b {
            moved += 1;
        }
    }
    assert!(moved > 20 && kept > 20, "{moved} moved, {kept} kept");
    let (parent, cluster) = (after.keys.gamma_parent.unwrap(), after.keys.gamma_cluster.unwrap());
    println!("{moved} atoms moved, {kept} kept; γ {parent:.6} and {cluster:.6}");
    assert!((parent / cluster - 1.0).abs() < 1e-8);
}

#[test]
fn failed_relaxation_stores_the_original_region() {
    let folder = tempfile::tempdir().unwrap();
    let built_in = std::fs::read_to_string(common::root().join("templates/md.in.j2")).unwrap();
    let read = "read_data       {{ data }}\n";
    assert!(built_in.contains(read));
    // The separate LAMMPS instance for the cut-out lacks the names of the types, so it cannot use the potential.
    let named = built_in.replace(read, &format!("{read}labelmap atom 1 Aluminium\n"));
    common::write(folder.path(), "named.j2", &named);
    common::write(folder.path(), "al.extxyz", &common::aluminium(4));
    let text = "structure = \"al.extxyz\"\ntemplate = \"named.j2\"\ntemperature = 300\nsteps = 40\nsampling_interval = 10\n\
                relax = true\nsetup = [\"compute u all ke/atom\"]\nuncertainty = { compute = \"u\" }\n\
                uncertainty_low = 1e-5\nuncertainty_threshold = 1e-4\n[potential]\npair_style = \"lj/cut 5.5\"\n\
                pair_coeff = [\"Aluminium Aluminium 0.392 2.62\"]\ncutoff = 5.5\n[embedding]\nradius = 3.0\n";
    common::write(folder.path(), "run.toml", text);
    let output = lammps_otf().current_dir(&folder).args(["run", "run.toml", "-q", "-o", "out"]).output().unwrap();
    let said = text_of(&output);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("the buffer is stored without relaxation"), "{said}");
    let store = lammps_otf::candidates::Store::open_existing(&folder.path().join("out/candidates.db")).unwrap();
    assert_eq!(store.ids(None).unwrap(), [1]);
}
