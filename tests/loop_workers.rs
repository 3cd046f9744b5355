// SPDX-License-Identifier: GPL-2.0-or-later
//! External workers during a learning loop: plain `ase.db`, while the loop writes its rounds and candidates.

#[path = "../crates/otf-store/tests/common/candidate.rs"]
#[allow(dead_code)]
mod candidate;
mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use lammps_otf::candidates::{Candidate, Round, Status, Store};

const ROWS: usize = 500;
const WORKERS: usize = 4;

#[test]
fn four_python_workers_label_500_rows_during_a_loop_without_loss() {
    let shm = Path::new("/dev/shm");
    let folder = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap();
    let path = folder.path().join("candidates.db");
    let mut store = Store::open(&path).unwrap();
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            common::python().arg(common::script("ase_worker.py")).arg(&path).stdout(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    common::wait_for("the workers", || common::files_with(&path, ".ready-") == WORKERS);
    let mut added = BTreeSet::new();
    for number in 1..=ROWS as u32 / 10 {
        let ten: Vec<Candidate> = (0..10).map(|_| candidate::candidate(40, 7)).collect();
        let round = Round::begin(number, "sha256:0", None, 0);
        added.extend(store.record(&[&round], None, &ten).unwrap());
    }
    std::fs::write(path.with_extension("db.done"), "").unwrap();
    let (mut labelled, mut shares) = (Vec::new(), Vec::new());
    for worker in workers {
        let output = worker.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", common::text(&output));
        let ids = String::from_utf8(output.stdout).unwrap();
        let ids = ids.lines().filter_map(|line| line.strip_prefix("@LABELLED "));
        let ids: Vec<i64> = ids.map(|words| words.split(' ').next().unwrap().parse().unwrap()).collect();
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
