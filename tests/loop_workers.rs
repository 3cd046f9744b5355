// SPDX-License-Identifier: GPL-2.0-or-later
//! Workers of others beside a learning loop: plain `ase.db`, while the loop writes its rounds and candidates.

#[path = "common/candidate.rs"]
#[allow(dead_code)]
mod candidate;
mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use lammps_otf::candidates::{Candidate, Round, Status, Store};

const ROWS: usize = 500;
const WORKERS: usize = 4;

/// The recipe of the documentation; it ends when nothing has come for a while.
const WORKER: &str = r#"
import os, sys, time
from ase.db import connect
from ase.calculators.singlepoint import SinglePointCalculator
import numpy as np
db, plain = connect(sys.argv[1]), connect(sys.argv[1], use_lock_file=False)
last = time.time()
while time.time() - last < 2.5:
    with db.lock:
        row = next(plain.select(status="PENDING_DFT", limit=1, sort="id"), None)
        if row is not None:
            plain.update(row.id, status="RUNNING_DFT", worker="python-%d" % os.getpid())
    if row is None:
        time.sleep(0.02)
        continue
    last = time.time()
    time.sleep(0.02)  # what a label takes at the very least
    atoms = row.toatoms()
    atoms.calc = SinglePointCalculator(atoms, energy=float(row.id), forces=np.zeros((len(atoms), 3)))
    db.update(row.id, atoms=atoms, status="DONE")
    print(row.id, flush=True)
"#;

#[test]
fn four_python_workers_label_500_rows_beside_a_loop_and_nothing_is_lost() {
    let shm = Path::new("/dev/shm");
    let folder = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap();
    let path = folder.path().join("candidates.db");
    let mut store = Store::open(&path).unwrap();
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| common::python().args(["-c", WORKER]).arg(&path).stdout(Stdio::piped()).spawn().unwrap())
        .collect();
    let mut added = BTreeSet::new();
    for number in 1..=ROWS as u32 / 10 {
        let ten: Vec<Candidate> = (0..10).map(|_| candidate::candidate(40, 7)).collect();
        let round = Round::begin(number, "sha256:0", None, 0);
        added.extend(store.record(&[&round], None, &ten).unwrap());
    }
    let (mut labelled, mut shares) = (Vec::new(), Vec::new());
    for worker in workers {
        let output = worker.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", common::text(&output));
        let ids = String::from_utf8(output.stdout).unwrap();
        let ids: Vec<i64> = ids.lines().map(|id| id.parse().unwrap()).collect();
        shares.push(ids.len());
        labelled.extend(ids);
    }
    println!("rows of each worker: {shares:?}");
    assert!(shares.iter().filter(|n| **n > 0).count() >= 2, "they did not work at the same time: {shares:?}");
    let once: BTreeSet<i64> = labelled.iter().copied().collect();
    assert_eq!((added.len(), labelled.len()), (ROWS, ROWS), "each row is labelled once");
    assert_eq!(once, added);
    store.check().unwrap();
    for row in store.iter(None).unwrap() {
        let row = row.unwrap();
        assert_eq!(row.status, Some(Status::Done));
        assert_eq!(row.candidate.labels.unwrap().energy, row.id as f64);
        assert_eq!(row.candidate.force_mask, candidate::candidate(40, 7).force_mask);
    }
    assert_eq!(store.rounds().unwrap().len(), ROWS / 10);
}
