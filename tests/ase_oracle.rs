// SPDX-License-Identifier: GPL-2.0-or-later
//! `examples/oracles/ase_oracle.py` with an actual calculator: as workers on one store, and for a single structure.

#[path = "../crates/otf-store/tests/common/candidate.rs"]
#[allow(dead_code)]
mod common_candidate;
#[path = "common/python.rs"]
mod common_python;

use common_candidate::candidate;
use common_python::{python, run};
use lammps_otf::candidates::{Status, Store};
use std::path::Path;
use std::process::{Command, Stdio};

fn oracle() -> Command {
    let mut command = Command::new(python());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/oracles/ase_oracle.py"));
    command.args(["--calculator", "ase.calculators.emt:EMT"]).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

#[test]
fn four_workers_label_every_row_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("candidates.db");
    let rows: Vec<_> = (0..40).map(|seed| candidate(8, seed)).collect();
    let ids = Store::open(&path).unwrap().add(&rows).unwrap();
    let workers: Vec<_> = (0..4).map(|_| oracle().arg(&path).spawn().unwrap()).collect();
    let mut labelled = Vec::new();
    for worker in workers {
        let output = worker.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        labelled.extend(text.lines().map(|line| line[4..line.find(':').unwrap()].parse::<i64>().unwrap()));
    }
    labelled.sort_unstable();
    assert_eq!(labelled, ids);
    let store = Store::open(&path).unwrap();
    store.check().unwrap();
    for (id, original) in ids.into_iter().zip(rows) {
        let row = store.get(id).unwrap();
        assert_eq!(row.status, Some(Status::Done));
        assert_eq!(row.candidate.force_mask, original.force_mask);
        assert_eq!(row.candidate.labels.unwrap().forces.dim(), (8, 3));
    }
}

#[test]
fn single_structure_gets_the_results_of_the_calculator() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.extxyz"), folder.path().join("out.extxyz"));
    let (input, output) = (input.to_str().unwrap(), output.to_str().unwrap());
    run(
        "import sys; from ase.build import bulk; from ase.io import write; import numpy as np\n\
         a = bulk('Al', cubic=True); a.rattle(0.1); a.arrays['force_mask'] = np.array([1., 0, 0, 0])\n\
         write(sys.argv[1], a)",
        &[input],
    );
    let done = oracle().args(["--input", input, "--output", output]).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    run(
        "import sys; from ase.io import read; from ase.calculators.emt import EMT; import numpy as np\n\
         a, b = read(sys.argv[1]), read(sys.argv[2]); b2 = a.copy(); b2.calc = EMT()\n\
         assert abs(b.get_potential_energy() - b2.get_potential_energy()) < 1e-9\n\
         assert np.abs(b.get_forces() - b2.get_forces()).max() < 1e-7\n\
         assert list(b.arrays['force_mask']) == [1, 0, 0, 0]",
        &[input, output],
    );
}
