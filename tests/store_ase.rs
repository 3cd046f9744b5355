// SPDX-License-Identifier: GPL-2.0-or-later
//! The candidate store and ASE work on one database.

#[path = "../crates/otf-store/tests/common/candidate.rs"]
mod common_candidate;
#[path = "common/python.rs"]
mod common_python;

use common_candidate::{candidate, labels};
use common_python::{python, run, script};
use lammps_otf::candidates::{Candidate, Status, Store, StoreError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn fresh() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("candidates.db");
    (folder, path)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn masses_are_stored_and_read_back() {
    let (_folder, path) = fresh();
    let mut store = Store::open(&path).unwrap();
    let mut still = candidate(6, 1);
    still.structure.masses = Some(vec![64.5, 28.25]);
    let mut moving = still.clone();
    still.structure.velocities = None;
    // From another seed; otherwise it would be the same candidate.
    moving.structure.positions = candidate(6, 2).structure.positions;
    store.add(&[still.clone(), moving.clone()]).unwrap();
    assert_eq!(store.get(1).unwrap().candidate, still);
    let found = store.get(2).unwrap().candidate.structure;
    assert_eq!(found.masses, moving.structure.masses);
    let (is, was) = (found.velocities.unwrap(), moving.structure.velocities.unwrap());
    assert!(is.iter().zip(&was).all(|(x, y)| (x - y).abs() <= 1e-14 * y.abs()));
    run(
        "import sys, ase.db, numpy as np\nfor row in ase.db.connect(sys.argv[1]).select():\n    a = row.toatoms()\n    \
         assert np.array_equal(a.get_masses(), np.where(a.numbers == 29, 64.5, 28.25)), a.get_masses()\n    \
         assert abs(row.mass - a.get_masses().sum()) < 1e-9",
        &[text(&path)],
    );
}

#[test]
fn ase_reads_all_data() {
    let (_folder, path) = fresh();
    let mut store = Store::open(&path).unwrap();
    let added = candidate(20, 1);
    store.add(std::slice::from_ref(&added)).unwrap();
    run(
        r#"
import sys, json, numpy as np, ase.db, ase.units
db = ase.db.connect(sys.argv[1])
assert len(db) == 1 and db.count(status="PENDING_DFT") == 1
assert db.count("gamma>5,step<2000,trigger=gamma,Al") == 1 and db.count("gamma>8") == 0
row = db.get(status="PENDING_DFT")
assert row.gamma == 7.25 and row.step == 1350 and row.center_id == 1000 and row.energy_weight == 0
assert row.source == '"2024"' and row.note == 'ß "quoted"' and row.temperature == 717.5
mask = row.data["force_mask"]
assert mask.dtype == np.float64 and list(mask) == [1.0] * 10 + [0.0] * 10, mask
assert row.data.source_id.dtype == np.int32 and list(row.data.source_id) == [1000 - 3 * i for i in range(20)]
assert row.data.source_image.shape == (20, 3) and list(row.data.source_image[3]) == [1, -1, 0]
assert row.data.atom_gamma.shape == (20,)
assert row.get("energy") is None and row.get("calculator") is None
atoms = row.toatoms()
numbers = [29 if i % 3 == 0 else 13 for i in range(20)]
assert list(atoms.numbers) == numbers and row.natoms == 20 and row.formula == "Al13Cu7", row.formula
assert np.array_equal(atoms.cell, [[12.1, 0, 0], [1.3, 11.7, 0], [-2.1, 0.4, 12.9]])
assert list(atoms.pbc) == [True, True, False]
expected = json.loads(sys.argv[2])
assert np.array_equal(atoms.positions, np.array(expected["positions"]).reshape(-1, 3))
velocities = np.array(expected["velocities"]).reshape(-1, 3) / (1000 * ase.units.fs)
assert np.allclose(atoms.get_velocities(), velocities, rtol=1e-13, atol=0)
assert abs(row.volume - abs(np.linalg.det(atoms.cell))) < 1e-9
assert db.metadata["key_descriptions"]["gamma"][0] == "γ"
# A copy of the row must pass ASE's own checks of the keys.
copy = ase.db.connect(sys.argv[1].replace(".db", "-copy.db"))
copy.write(row, key_value_pairs=row.key_value_pairs, data=row.data)
"#,
        &[
            text(&path),
            &serde_json::json!({
                "positions": added.structure.positions.iter().collect::<Vec<_>>(),
                "velocities": added.structure.velocities.as_ref().unwrap().iter().collect::<Vec<_>>(),
            })
            .to_string(),
        ],
    );
    // The copy written by ASE is the same candidate.
    let copy = Store::open(&path.with_file_name("candidates-copy.db")).unwrap().get(1).unwrap();
    assert_eq!(copy.candidate.keys, added.keys);
    assert_eq!(copy.candidate.force_mask, added.force_mask);
    assert_eq!(copy.candidate.structure.types, added.structure.types);
    assert_eq!(copy.candidate.structure.positions, added.structure.positions);
    assert_eq!(copy.status, Some(Status::PendingDft));
}

#[test]
fn ase_reads_and_copies_ids_of_64_bits() {
    let (_folder, path) = fresh();
    let mut store = Store::open(&path).unwrap();
    let firsts = [i64::from(i32::MAX) - 3, 3_000_000_000, (1 << 53) + 1, i64::MAX - 3];
    let of = |first: i64| {
        let mut big = candidate(4, 1);
        big.structure.velocities = None;
        big.structure.ids = (0..4).map(|i| first + i).collect();
        big.source_ids = big.structure.ids.to_vec();
        big.keys.center_id = Some(first + 3);
        big
    };
    for first in firsts {
        store.add(&[of(first)]).unwrap();
    }
    run(
        r#"
import sys, json, numpy as np, ase.db
db = ase.db.connect(sys.argv[1])
copy = ase.db.connect(sys.argv[1].replace(".db", "-copy.db"))
for first, row in zip(json.loads(sys.argv[2]), db.select(sort="id"), strict=True):
    ids = row.data["source_id"]
    assert ids.dtype == (np.int32 if first < 2**31 else np.int64), ids.dtype
    assert ids.tolist() == row.data["atom_id"].tolist() == [first + i for i in range(4)]
    assert row.center_id == first + 3 and isinstance(row.center_id, int), row.center_id
    assert row.id in [found.id for found in db.select(center_id=row.center_id)]
    copy.write(row, key_value_pairs=row.key_value_pairs, data=row.data)
    # A worker writes other keys of the same row.
    copy.update(row.id, worker="a")
"#,
        &[text(&path), &serde_json::json!(firsts).to_string()],
    );
    let copy = Store::open(&path.with_file_name("candidates-copy.db")).unwrap();
    for (row, first) in (1..).zip(firsts) {
        let found = copy.get(row).unwrap().candidate;
        let added = of(first);
        assert_eq!((found.structure.ids, found.source_ids), (added.structure.ids, added.source_ids));
        assert_eq!(found.keys.center_id, added.keys.center_id);
    }
}

#[test]
fn ase_command_lists_the_store() {
    let (_folder, path) = fresh();
    Store::open(&path).unwrap().add(&[candidate(8, 1)]).unwrap();
    let ase = |arguments: &[&str]| {
        let output = Command::new(python()).args(["-m", "ase", "db"]).arg(&path).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let table = ase(&["-c", "id,formula,status,gamma,step"]);
    assert!(table.contains("Al5Cu3") && table.contains("PENDING_DFT") && table.contains("7.25"), "{table}");
    assert!(table.contains("Rows: 1"), "{table}");
    assert!(ase(&["status=DONE"]).contains("Rows: 0"));
    assert!(ase(&["1", "-l"]).contains("potential_hash"));
}

#[test]
fn labels_are_results_in_ase() {
    let (_folder, path) = fresh();
    let mut store = Store::open(&path).unwrap();
    store.add(&[candidate(6, 1), candidate(6, 2), Candidate { labels: Some(labels(6)), ..candidate(6, 3) }]).unwrap();
    let claimed = store.claim("w").unwrap().unwrap();
    assert_eq!((claimed.id, claimed.attempts, claimed.worker.as_deref()), (1, 1, Some("w")));
    store.finish(1, "w", &labels(6)).unwrap();
    store.claim("w").unwrap();
    store.fail(2, "w", "\n  SCF did not converge \nlong story\n").unwrap();
    let script = r#"
import sys, numpy as np, ase.db
db = ase.db.connect(sys.argv[1])
for id in 1, 3:
    row = db.get(id)
    assert row.status == "DONE" and row.energy == -123.45678901234567 and row.free_energy == -123.5
    forces = [[(i - 1) * 0.1 + k / 3 for k in range(3)] for i in range(6)]
    assert np.allclose(row.forces, forces, rtol=1e-15) and row.calculator == "emt"
    assert list(row.stress) == [0.1, -0.2, 0.3, 0.01, -0.02, 0.03]
    atoms = row.toatoms()
    assert atoms.get_potential_energy() == -123.45678901234567
    assert np.array_equal(atoms.get_forces(), row.forces)
    assert abs(row.fmax - np.linalg.norm(row.forces, axis=1).max()) < 1e-14
    assert db.count("fmax>1.35,fmax<1.36,energy<-123,id=%d" % id) == 1
row = db.get(status="FAILED")
assert row.id == 2 and row.message == "SCF did not converge" and "long story" in row.data["error_log"]
assert len(row.data["force_mask"]) == 6
"#;
    run(script, &[text(&path)]);
    assert_eq!(
        store.get(1).unwrap().candidate.labels,
        Some(labels(6)).map(|mut l| {
            l.calculator = Some("emt".into());
            l
        })
    );
    let failed = store.get(2).unwrap();
    assert_eq!(failed.message.as_deref(), Some("SCF did not converge"));
    assert!(failed.error_log.unwrap().contains("long story"));
}

#[test]
fn ase_database_becomes_a_store() {
    let (_folder, path) = fresh();
    run(
        r#"
import sys, numpy as np, ase.db
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
db = ase.db.connect(sys.argv[1])
atoms = bulk("Cu", cubic=True)
atoms.set_masses([1, 2, 3, 4])
atoms.set_velocities(np.arange(12).reshape(4, 3))
atoms.set_tags([1, 2, 3, 4])
atoms.set_constraint(FixAtoms([0]))
atoms.calc = SinglePointCalculator(atoms, energy=-1.5, forces=np.ones((4, 3)))
db.write(atoms, status="DONE", gamma=3, note="x", flag=True,
         data={"x": np.arange(6).reshape(2, 3), "nan": float("nan"), "c": 1j, "b": np.array([True, False]),
               "nested": {"list": [1, 2.5, None, "t"]}, "s": np.array([1.5, 2.5], np.float32)})
db.write(molecule("H2O"))
db.write(bulk("Al"), status="PENDING_DFT", gamma=float("inf"))
"#,
        &[text(&path)],
    );
    let mut store = Store::open(&path).unwrap();
    let cu = store.get(1).unwrap();
    assert_eq!(cu.status, Some(Status::Done));
    assert_eq!(cu.candidate.keys.gamma, Some(3.0));
    assert_eq!(cu.candidate.labels.as_ref().unwrap().energy, -1.5);
    assert_eq!(cu.candidate.labels.as_ref().unwrap().stress, None);
    assert_eq!(cu.candidate.structure.cell.pbc, [true; 3]);
    assert_eq!(cu.candidate.force_mask, [1.0; 4]);
    let velocities = cu.candidate.structure.velocities.unwrap();
    let ase_time_unit = 98.226_947_884_640_64;
    for (i, v) in velocities.iter().enumerate() {
        assert!((v - i as f64 * ase_time_unit).abs() < 1e-10, "{v}");
    }
    let water = store.get(2).unwrap();
    assert_eq!(water.status, None);
    assert_eq!(water.candidate.structure.elements.len(), 2);
    assert_eq!(water.candidate.structure.cell.vectors, [[0.0; 3]; 3]);
    assert!(matches!(store.set_status(2, Status::Rejected), Err(StoreError::Transition { from: None, .. })));
    // Changing one row preserves all other data in it.
    assert_eq!(store.claim("w").unwrap().unwrap().id, 3);
    store.fail(3, "w", "1234").unwrap();
    store.set_status(1, Status::Rejected).unwrap();
    store.check().unwrap();
    run(
        r#"
import sys, math, numpy as np, ase.db
db = ase.db.connect(sys.argv[1])
row = db.get(1)
assert row.status == "REJECTED" and row.note == "x" and row.flag is True and row.gamma == 3
assert row.data["x"].shape == (2, 3) and math.isnan(row.data["nan"]) and row.data["c"] == 1j
assert list(row.data["s"]) == [1.5, 2.5] and list(row.data["b"]) == [True, False] and row.data["nested"]["list"] == [1, 2.5, None, "t"]
assert list(row.toatoms().get_tags()) == [1, 2, 3, 4] and len(row.constraints) == 1
assert db.get(3).status == "FAILED" and db.get(3).message == '"1234"' and db.get(3).gamma == math.inf
assert db.count("gamma>2") == 2 and db.count("flag=1") == 1 and len(db) == 3
db.update(3, message="again")
"#,
        &[text(&path)],
    );
}

#[test]
fn row_changed_by_ase_is_read() {
    let (_folder, path) = fresh();
    let mut store = Store::open(&path).unwrap();
    store.add(&[candidate(6, 1), candidate(6, 2)]).unwrap();
    let worker = r#"
import sys
from ase.db import connect
from ase.calculators.lj import LennardJones
db, plain = connect(sys.argv[1]), connect(sys.argv[1], use_lock_file=False)
with db.lock:
    row = next(plain.select(status="PENDING_DFT", limit=1, sort="id"), None)
    plain.update(row.id, status="RUNNING_DFT", worker="me-1")
assert row.id == 1
print("claimed", flush=True)
atoms = row.toatoms()
atoms.calc = LennardJones()
atoms.get_forces()
db.update(row.id, atoms=atoms, status="DONE")
"#;
    assert_eq!(run(worker, &[text(&path)]), "claimed\n");
    let done = store.get(1).unwrap();
    assert_eq!((done.status, done.worker.as_deref()), (Some(Status::Done), Some("me-1")));
    let labels = done.candidate.labels.unwrap();
    assert_eq!(labels.calculator.as_deref(), Some("lennardjones"));
    assert_eq!(labels.forces.dim(), (6, 3));
    // Replacing the atoms preserves the additional data.
    assert_eq!(done.candidate.force_mask, candidate(6, 1).force_mask);
    assert_eq!(done.candidate.keys, candidate(6, 1).keys);
    assert_eq!(done.candidate.structure.types, candidate(6, 1).structure.types);
    assert_eq!(store.counts().unwrap()[&Status::Done], 1);
    assert_eq!(store.claim("w").unwrap().unwrap().id, 2);
}

#[test]
fn ase_lock_is_respected() {
    let (_folder, path) = fresh();
    let mut store = Store::open(&path).unwrap();
    store.add(&[candidate(6, 1)]).unwrap();
    // Holds the lock until a line arrives on standard input, and records this before the release.
    let mut holder = script(
        "import sys\nfrom ase.db import connect\nwith connect(sys.argv[1]).lock:\n print('held', flush=True)\n \
         sys.stdin.readline()\n open(sys.argv[1] + '.released', 'w').close()",
        &[text(&path)],
    )
    .stdin(std::process::Stdio::piped())
    .stdout(std::process::Stdio::piped())
    .spawn()
    .unwrap();
    let mut line = [0; 5];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut line).unwrap();
    // Adding does not wait; changing does.
    store.add(&[candidate(6, 2)]).unwrap();
    let released = PathBuf::from(format!("{}.released", path.display()));
    let claim = std::thread::spawn({
        let (path, released) = (path.clone(), released.clone());
        move || {
            let claimed = Store::open(&path).unwrap().claim("w").unwrap();
            (claimed.is_some(), released.exists())
        }
    });
    // A longer time makes it more certain that a claim that does not wait is detected.
    std::thread::sleep(Duration::from_millis(300));
    assert!(!released.exists());
    drop(holder.stdin.take());
    assert_eq!(claim.join().unwrap(), (true, true), "claimed while ASE held its lock");
    assert!(holder.wait().unwrap().success());
    // ASE was killed while it held the lock file.
    std::fs::write(format!("{}.lock", path.display()), "").unwrap();
    let options = |timeout: u64, stale: u64| lammps_otf::candidates::StoreOptions {
        lock_timeout: Duration::from_secs(timeout),
        stale_lock_after: Duration::from_millis(stale),
        ..Default::default()
    };
    let mut store = Store::open_with(&path, options(1, 100_000_000)).unwrap();
    let error = store.claim("w").unwrap_err();
    assert!(error.to_string().contains("candidates.db.lock"), "{error}");
    let mut store = Store::open_with(&path, options(100_000, 300)).unwrap();
    assert_eq!(store.claim("w").unwrap().unwrap().id, 2);
}
