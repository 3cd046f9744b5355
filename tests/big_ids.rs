// SPDX-License-Identifier: GPL-2.0-or-later
//! Atom ids above 2³¹: refused before anything is written if LAMMPS has 32-bit ids, and kept everywhere if it has 64-bit ids. All
//! tests run with both builds of LAMMPS. They use ML-PACE's own evaluator, which needs no plugin of this project.

mod common;

use std::path::Path;

use common::{aluminium, json, lammps_otf, lines, root, text, write};
use lammps_otf::candidates::{Candidate, Store};
use lammps_otf::comm::Comm;
use lammps_otf::config::InferenceConfig;
use lammps_otf::io::{self, lammps_data};
use lammps_otf::lammps::max_id;
use lammps_otf::runner::LammpsRunner;
use lammps_otf::simulation::{Event, Simulation};
use lammps_otf::structure::{AtomId, Structure};

/// Number of atoms.
const ATOMS: AtomId = 108;

/// The first id of the atoms that is compared with the highest ones. Ids from 1 would give other initial velocities.
const LOW: AtomId = 1000;

/// Whether this liblammps has 64-bit ids.
fn is_wide() -> bool {
    max_id() == AtomId::MAX
}

/// The first of the largest ids that this liblammps can store, and that of ids that only 64 bits can store.
fn firsts() -> Vec<AtomId> {
    if is_wide() { vec![3_000_000_000, 1 << 60] } else { vec![2_000_000_000] }
}

/// Hot aluminium whose atoms have ids from `first` on, as a data file.
fn configure(folder: &Path, first: AtomId) -> Structure {
    let start = write(folder, "al.extxyz", &aluminium(3));
    let mut structure = io::read(start, None).unwrap();
    structure.ids = (0..ATOMS).map(|i| first + i).collect();
    lammps_data::write(&structure, std::fs::File::create(folder.join("al.data")).unwrap()).unwrap();
    let potential = root().join("potentials/al/Al.yaml");
    write(
        folder,
        "run.toml",
        &format!(
            "structure = \"al.data\"\nelements = [\"Al\"]\ntemperature = 6000\nensemble = \"nve\"\nsteps = 200\n\
             sampling_interval = 10\nseed = 3\nregions_per_event = 2\nnovelty = 0.0\n[potential]\nengine = \"ml-pace\"\nfile = {:?}\n\
             [embedding]\nradius = 4.0\n",
            potential.display().to_string()
        ),
    );
    structure
}

/// The result, the polls and the candidates of a run with ids from `first` on.
fn run(first: AtomId) -> (serde_json::Value, Vec<serde_json::Value>, Vec<Candidate>) {
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), first);
    let output = lammps_otf().current_dir(&folder).args(["run", "run.toml", "-o", "out", "-q"]).output().unwrap();
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(4), ""), "first id {first}");
    let out = folder.path().join("out");
    let store = Store::open_existing(&out.join("candidates.db")).unwrap();
    let candidates = store.iter(None).unwrap().map(|row| row.unwrap().candidate).collect();
    // Extended XYZ has the same ids.
    let written = std::fs::read_to_string(out.join("candidates/candidate-000001.extxyz")).unwrap();
    assert!(written.lines().skip(2).all(|line| {
        let id: AtomId = line.split_whitespace().last().unwrap().parse().unwrap();
        (first..first + ATOMS).contains(&id)
    }));
    (json(&out.join("result.json")), lines(&out.join("polls.jsonl")), candidates)
}

#[test]
fn ids_that_liblammps_cannot_store_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = 3_000_000_000;
    configure(folder.path(), first);
    let output = lammps_otf().current_dir(&folder).args(["run", "run.toml", "-o", "out", "-q"]).output().unwrap();
    if is_wide() {
        assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    } else {
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        let message = format!(
            "al.data: atom id {} is above 2147483647, the highest id of this liblammps, which has 32-bit atom ids: build LAMMPS \
             with -DLAMMPS_SIZES=bigbig",
            first + ATOMS - 1
        );
        assert!(text(&output).contains(&message), "{}", text(&output));
        assert!(!folder.path().join("out").exists());
    }
}

#[test]
fn event_and_candidates_do_not_depend_on_the_size_of_ids() {
    let (small, polls, candidates) = run(LOW);
    assert!(small["trigger_step"].as_i64().unwrap() > 0 && !candidates.is_empty(), "{small}");
    for first in firsts() {
        let (big, big_polls, big_candidates) = run(first);
        let shifted = |id: &serde_json::Value| id.as_i64().unwrap() - LOW + first;
        assert_eq!(big["trigger_step"], small["trigger_step"]);
        assert_eq!(big["gamma_max"], small["gamma_max"], "bitwise");
        assert_eq!(big["atom_id"].as_i64(), Some(shifted(&small["atom_id"])));
        assert_eq!(big_polls.len(), polls.len());
        for (big, small) in big_polls.iter().zip(&polls) {
            assert_eq!(big["gamma"]["worst_id"].as_i64(), Some(shifted(&small["gamma"]["worst_id"])));
            assert_eq!((&big["gamma"]["max"], &big["step"]), (&small["gamma"]["max"], &small["step"]));
        }
        assert_eq!(big_candidates.len(), candidates.len());
        for (big, small) in big_candidates.iter().zip(&candidates) {
            assert_eq!((&big.structure, &big.force_mask), (&small.structure, &small.force_mask));
            assert_eq!((&big.source_images, &big.atom_gamma), (&small.source_images, &small.atom_gamma));
            let expected: Vec<AtomId> = small.source_ids.iter().map(|id| id - LOW + first).collect();
            assert_eq!(big.source_ids, expected);
            assert_eq!(big.keys.center_id, small.keys.center_id.map(|id| id - LOW + first));
            assert_eq!(big.keys.center_id, big.keys.center.map(|center| big.source_ids[center]));
            assert_eq!((big.keys.gamma, big.keys.gamma_cluster), (small.keys.gamma, small.keys.gamma_cluster));
        }
    }
}

/// Step, positions, image flags and groups of all atoms, by id.
fn state(simulation: &Simulation) -> Vec<(AtomId, [u64; 3], i64, i32)> {
    let lammps = simulation.lammps();
    let (positions, images, groups) = (lammps.positions(), lammps.images(), lammps.groups());
    let mut all: Vec<_> = (lammps.ids().iter().enumerate())
        .map(|(at, id)| (id, [0, 1, 2].map(|k| positions[[at, k]].to_bits()), images.get(at), groups[at]))
        .collect();
    all.sort_unstable();
    all
}

#[test]
fn restored_atoms_keep_ids_images_and_groups() {
    let _one = common::one_at_a_time();
    for first in [LOW].into_iter().chain(firsts()) {
        let folder = tempfile::tempdir().unwrap();
        configure(folder.path(), first);
        let path = folder.path().join("run.toml");
        let held = format!("setup = [\"group held id {first}:{}\"]\nsteps", first + 5);
        let monitored = std::fs::read_to_string(&path).unwrap().replace("\nsteps", &format!("\n{held}"));
        // Atoms cross the boundaries without an event.
        let calm = monitored.replace("[potential]", "uncertainty_threshold = 1e9\nuncertainty_low = 1e9\n[potential]");
        std::fs::write(&path, calm).unwrap();
        let config = InferenceConfig::read(&path).unwrap();
        let mut simulation = LammpsRunner::new(&Comm::single(), folder.path().join("out")).simulation(&config).unwrap();
        for _ in 0..12 {
            assert!(matches!(simulation.advance().unwrap(), Event::Polled(_)));
        }
        let before = state(&simulation);
        let distinct: std::collections::BTreeSet<i64> = before.iter().map(|atom| atom.2).collect();
        assert!(distinct.len() > 3, "atoms have crossed boundaries: {distinct:?}");
        assert_eq!(before.iter().map(|atom| atom.0).collect::<Vec<_>>(), (first..first + ATOMS).collect::<Vec<_>>());
        simulation.restore().unwrap();
        assert_eq!(state(&simulation), before);
        // The displacements since the last valid frame account for the image flags.
        assert!(matches!(simulation.advance().unwrap(), Event::Polled(_)));
        assert!(matches!(simulation.advance().unwrap(), Event::Polled(_)));
    }
}
