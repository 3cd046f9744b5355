// SPDX-License-Identifier: GPL-2.0-or-later
//! The candidate store. Tests with ASE are in `tests/store_ase.rs` of the workspace, those under load and `kill -9` in
//! `tests/store_stress.rs`.
#[path = "common/candidate.rs"]
mod common_candidate;

use common_candidate::{candidate, labels};
use otf_store::{Candidate, Status, Store, StoreError};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn fresh() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("candidates.db");
    (folder, path)
}

#[test]
fn add_and_get_round_trip() {
    let (_folder, path) = fresh();
    let mut store = Store::open(&path).unwrap();
    let original = candidate(20, 1);
    // The resolution of ASE's years is about 1e-6 s.
    let before = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64() - 1e-3;
    let ids = store.add(&[original.clone(), candidate(5, 2)]).unwrap();
    assert_eq!(ids, [1, 2]);
    let found = store.get(1).unwrap();
    assert_eq!(found.status, Some(Status::PendingDft));
    assert_eq!(found.unique_id.as_ref().unwrap().len(), 32);
    let after = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    assert!((before..=after + 1e-3).contains(&found.created.unwrap()));
    let mut expected = original;
    // Momenta are stored, so velocities come back with a rounding error.
    let (before, after) = (expected.structure.velocities.take().unwrap(), found.candidate.structure.velocities.clone());
    for (x, y) in before.iter().zip(after.as_ref().unwrap()) {
        assert!((x - y).abs() <= 1e-14 * x.abs(), "{x} {y}");
    }
    expected.structure.velocities = after;
    assert_eq!(found.candidate, expected);
    assert!(store.get(3).is_err());
    store.check().unwrap();
}

#[test]
fn ids_of_64_bits_are_exact() {
    let (_folder, path) = fresh();
    let mut store = Store::open(&path).unwrap();
    for (row, first) in (1..).zip([i64::from(i32::MAX) - 3, 3_000_000_000, (1 << 53) + 1, i64::MAX - 3]) {
        let mut big = candidate(4, 1);
        big.structure.velocities = None;
        big.structure.ids = (0..4).map(|i| first + i).collect();
        big.source_ids = big.structure.ids.to_vec();
        big.keys.center_id = Some(first + 3);
        // Rows must differ.
        big.keys.step = Some(row);
        store.add(std::slice::from_ref(&big)).unwrap();
        assert_eq!(store.get(row).unwrap().candidate, big);
        // Also after the keys and the data were written again.
        assert!(store.claim_id(row, "a").unwrap().is_some());
        store.finish(row, "a", &labels(4)).unwrap();
        let labelled = store.get(row).unwrap().candidate;
        assert_eq!((labelled.source_ids, labelled.keys.center_id), (big.source_ids, big.keys.center_id));
    }
}

#[test]
fn claims_and_transitions_are_checked() {
    let (_folder, path) = fresh();
    let mut store = Store::open(&path).unwrap();
    store.add(&[candidate(4, 1), candidate(4, 2), candidate(4, 3)]).unwrap();
    assert!(store.claim_id(2, "a").unwrap().is_some());
    assert!(store.claim_id(2, "b").unwrap().is_none());
    assert!(matches!(store.finish(2, "b", &labels(4)), Err(StoreError::ClaimLost { .. })));
    assert!(matches!(store.finish(2, "a", &labels(5)), Err(StoreError::InvalidLabels { .. })));
    assert!(matches!(store.set_status(2, Status::Done), Err(StoreError::Transition { .. })));
    store.heartbeat(2, "a").unwrap();
    assert_eq!(store.release_stale(Duration::from_secs(100_000)).unwrap(), [0; 0]);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(store.release_stale(Duration::from_millis(10)).unwrap(), [2]);
    // A worker reports after its claim was released.
    assert!(store.claim_id(2, "b").unwrap().is_some());
    assert!(matches!(store.finish(2, "a", &labels(4)), Err(StoreError::ClaimLost { .. })));
    store.finish(2, "b", &labels(4)).unwrap();
    let done = store.get(2).unwrap();
    assert_eq!((done.attempts, done.worker.as_deref(), done.claimed_at), (2, Some("b"), None));
    // A rejected label is dropped when the candidate becomes pending.
    store.set_status(2, Status::Rejected).unwrap();
    store.set_status(2, Status::PendingDft).unwrap();
    assert_eq!(store.get(2).unwrap().candidate.labels, None);
    store.import_labels(2, &labels(4)).unwrap();
    assert_eq!(store.get(2).unwrap().status, Some(Status::Done));
    assert_eq!(store.ids(Some(Status::PendingDft)).unwrap(), [1, 3]);
    let lines = store.summaries(Some(Status::Done)).unwrap();
    assert_eq!((lines.len(), lines[0].formula.as_str(), lines[0].natoms), (1, "Al2Cu2", 4));
    store.set_meta("loop", "{}").unwrap();
    assert_eq!(store.meta("loop").unwrap().as_deref(), Some("{}"));
    assert!(store.set_meta("store_version", "7").is_err());
    let copy = path.with_file_name("copy.db");
    store.backup(&copy).unwrap();
    assert!(store.backup(&copy).is_err());
    assert_eq!(Store::open_read_only(&copy).unwrap().ids(None).unwrap(), [1, 2, 3]);
}

#[test]
fn add_rejects_invalid_candidates_and_stores_none() {
    let (_folder, path) = fresh();
    let mut store = Store::open(&path).unwrap();
    let break_it: [fn(&mut Candidate); 9] = [
        |c| c.structure.positions[[2, 1]] = f64::NAN,
        |c| c.structure.cell.vectors[0][0] = f64::INFINITY,
        |c| c.force_mask.truncate(3),
        |c| c.force_mask[0] = -1.0,
        |c| c.structure.types[0] = 3,
        |c| c.structure.types[0] = -3,
        |c| c.keys.center = Some(4),
        |c| drop(c.keys.extra.insert("energy".into(), 1.0.into())),
        |c| drop(c.keys.extra.insert("status".into(), "DONE".into())),
    ];
    for change in break_it {
        let mut bad = candidate(4, 1);
        change(&mut bad);
        let error = store.add(&[candidate(4, 2), bad]).unwrap_err().to_string();
        assert!(error.contains("cannot be stored"), "{error}");
    }
    assert_eq!(store.ids(None).unwrap(), [0; 0]);
    // A candidate from an invalid frame, without a finite γ, is stored.
    let mut crash = candidate(4, 1);
    crash.keys.gamma = Some(f64::NAN);
    store.add(&[crash]).unwrap();
    assert_eq!(store.get(1).unwrap().candidate.keys.gamma, None);
}

#[test]
fn moved_deleted_or_replaced_store_is_reported() {
    for what in ["moved", "deleted", "replaced", "in a folder that is deleted"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out/candidates.db");
        std::fs::create_dir(folder.path().join("out")).unwrap();
        let mut store = Store::open(&path).unwrap();
        store.add(&[candidate(4, 1)]).unwrap();
        match what {
            "moved" => std::fs::rename(&path, folder.path().join("elsewhere.db")).unwrap(),
            "deleted" => std::fs::remove_file(&path).unwrap(),
            "replaced" => {
                std::fs::remove_file(&path).unwrap();
                drop(Store::open(&path).unwrap());
            }
            _ => std::fs::remove_dir_all(folder.path().join("out")).unwrap(),
        }
        for error in [store.add(&[candidate(4, 2)]).unwrap_err(), store.claim("w").unwrap_err()] {
            assert!(matches!(error, StoreError::Moved { .. }), "{what}: {error:?}");
            assert!(error.to_string().contains("moved, deleted or replaced"), "{what}: {error}");
        }
    }
}

#[test]
fn open_rejects_other_versions_and_files_and_keeps_them() {
    let (folder, path) = fresh();
    Store::open(&path).unwrap().add(&[candidate(4, 1)]).unwrap();
    let change = |sql: &str| rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    let refused = |path: &Path| {
        let before = std::fs::read(path).unwrap();
        let error = Store::open(path).unwrap_err();
        assert_eq!(Store::open_read_only(path).unwrap_err().to_string(), error.to_string());
        assert_eq!(std::fs::read(path).unwrap(), before, "changed in spite of {error}");
        error
    };
    change("UPDATE otf_meta SET value = '99' WHERE key = 'store_version'");
    let error = refused(&path);
    assert!(matches!(error, StoreError::StoreVersion { found: 99, .. }), "{error}");
    change("UPDATE information SET value = '10' WHERE name = 'version'");
    let error = refused(&path);
    assert!(error.to_string().contains("version 10") && error.to_string().contains("update"), "{error}");
    change("UPDATE information SET value = '8' WHERE name = 'version'");
    assert!(refused(&path).to_string().contains("ase.db.convert"));

    let other = folder.path().join("other.db");
    rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(matches!(refused(&other), StoreError::NotAse { .. }));
    let text = folder.path().join("text.db");
    std::fs::write(&text, "not a database ".repeat(100)).unwrap();
    assert!(matches!(refused(&text), StoreError::NotADatabase { .. }));
    let missing = folder.path().join("missing.db");
    assert!(matches!(Store::open_existing(&missing), Err(StoreError::Missing { .. })));
    assert!(!missing.exists());
    let error = Store::open(&folder.path().join("no/such.db")).unwrap_err().to_string();
    assert!(error.contains("folder"), "{error}");
    assert!(Store::open(folder.path()).is_err());
    // An empty file is accepted.
    std::fs::write(&missing, "").unwrap();
    Store::open(&missing).unwrap().check().unwrap();
}

#[test]
fn damaged_file_is_reported_as_damaged() {
    let (_folder, path) = fresh();
    let mut store = Store::open(&path).unwrap();
    store.add(&(0..100).map(|seed| candidate(60, seed)).collect::<Vec<_>>()).unwrap();
    store.check().unwrap();
    drop(store);
    let good = std::fs::read(&path).unwrap();
    let pages = good.len() / 4096;
    let mut found = 0;
    for page in 1..pages {
        let mut bad = good.clone();
        bad[page * 4096..(page + 1) * 4096].fill(0xa5);
        std::fs::write(&path, bad).unwrap();
        match Store::open(&path).and_then(|store| store.check()) {
            Err(error @ StoreError::Corrupt { .. }) => {
                let text = error.to_string();
                assert!(text.contains(path.to_str().unwrap()) && text.contains(".recover"), "{text}");
                found += 1;
            }
            // A page inside a large blob, without structures of SQLite: the row is invalid.
            Err(
                StoreError::InvalidRow { .. }
                | StoreError::Mismatch { .. }
                | StoreError::NotAse { .. }
                | StoreError::AseVersion { .. },
            ) => found += 1,
            Err(other) => panic!("page {page}: {other:?}"),
            Ok(_) => {}
        }
    }
    // Garbage within the numbers of an array, for example, cannot be detected.
    assert!(found * 10 > pages * 6, "{found} of {pages} damaged pages found");
    std::fs::write(&path, &good[..good.len() / 2]).unwrap();
    let error = Store::open(&path).and_then(|store| store.check()).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
}

#[test]
fn invalid_rows_do_not_affect_other_rows() {
    let (_folder, path) = fresh();
    let mut store = Store::open(&path).unwrap();
    store.add(&[candidate(4, 1), candidate(4, 2), candidate(4, 3), candidate(4, 4)]).unwrap();
    let sql = "UPDATE systems SET positions = x'0000' WHERE id = 1; \
               UPDATE systems SET key_value_pairs = '{' WHERE id = 2; \
               UPDATE systems SET data = x'ffffffffffffffff' WHERE id = 3";
    rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    for id in 1..4 {
        let error = store.get(id).unwrap_err();
        assert!(matches!(error, StoreError::InvalidRow { .. }), "{error:?}");
    }
    assert_eq!(store.claim("w").unwrap().unwrap().id, 4);
    assert_eq!(store.ids(Some(Status::Failed)).unwrap(), [1, 3]);
    assert!(store.check().is_err());
}
