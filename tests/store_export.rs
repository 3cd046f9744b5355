// SPDX-License-Identifier: GPL-2.0-or-later
//! Every export is read back by the library of its trainer, and the command is tested.

#[path = "../crates/otf-store/tests/common/candidate.rs"]
mod common_candidate;
#[path = "common/python.rs"]
mod common_python;

use common_candidate::{candidate, labels};
use common_python::run;
use lammps_otf::candidates::export::{Format, export};
use lammps_otf::candidates::{Candidate, Labels, Status, Store, StoredCandidate};
use lammps_otf::embedding::{EmbeddingConfig, EmbeddingExtractor};
use lammps_otf::structure::{Cell, Element, Structure};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A store with two labelled cut-outs of one composition, one of another, a whole frame (weights 1), and a pending
/// one.
fn example_store(folder: &Path) -> (PathBuf, Vec<StoredCandidate>) {
    let path = folder.join("candidates.db");
    let labelled = |n: usize, seed: u32| {
        let mut new = candidate(n, seed);
        new.structure.cell.pbc = [true; 3];
        new.labels = Some(Labels { energy: -f64::from(seed) / 3.0, ..labels(n) });
        new
    };
    let mut frame = labelled(6, 4);
    frame.keys.energy_weight = Some(1.0);
    frame.keys.stress_weight = Some(1.0);
    frame.force_mask = vec![1.0; 6];
    let mut shifted = labelled(6, 2);
    shifted.structure.cell.origin = [1.0, -2.0, 0.5];
    let mut store = Store::open(&path).unwrap();
    store.add(&[labelled(6, 1), shifted, labelled(9, 3), frame, candidate(6, 5)]).unwrap();
    let rows = store.iter(None).unwrap().collect::<Result<_, _>>().unwrap();
    (path, rows)
}

/// The reference for the Python side: the store as read by ASE.
const REFERENCE: &str = r#"
import sys, numpy as np, ase.db
rows = [row for row in ase.db.connect(sys.argv[1]).select("energy", sort="id")]
assert len(rows) == 4
def same(a, b, tolerance=0.0):
    a, b = np.asarray(a, float), np.asarray(b, float)
    assert a.shape == b.shape and np.allclose(a, b, rtol=0, atol=tolerance), (a, b)
"#;

fn check(what: &str, db: &Path, target: &Path) -> String {
    run(&format!("{REFERENCE}{what}"), &[db.to_str().unwrap(), target.to_str().unwrap()])
}

#[test]
fn extended_xyz_is_read_by_ase() {
    let folder = tempfile::tempdir().unwrap();
    let (db, rows) = example_store(folder.path());
    let target = folder.path().join("all.extxyz");
    let report = export(Format::Extxyz, &rows, &target).unwrap();
    assert_eq!((report.written, report.without_labels.len()), (5, 0));
    check(
        r#"
from ase.io import read
frames = read(sys.argv[2], index=":")
assert len(frames) == 5 and frames[4].calc is None and frames[4].info["status"] == "PENDING_DFT"
for frame, row in zip(frames, rows):
    origin = row.data.get("origin", np.zeros(3))
    same(frame.positions, row.positions + origin); same(frame.cell, row.cell); same(frame.pbc, row.pbc)
    same(frame.numbers, row.numbers)
    same(frame.get_potential_energy(), row.energy); same(frame.get_forces(), row.forces)
    same(frame.get_stress(), row.stress)
    assert frame.arrays["force_mask"].dtype == float and frame.arrays["source_id"].dtype.kind == "i"
    same(frame.arrays["force_mask"], row.data.force_mask); same(frame.arrays["source_id"], row.data.source_id)
    same(frame.arrays["source_image"], row.data.source_image)
    assert frame.info["candidate"] == row.id and frame.info["energy_weight"] == row.energy_weight
    assert frame.info["gamma"] == 7.25 and frame.info["trigger"] == "gamma" and frame.info["note"] == row.note
"#,
        &db,
        &target,
    );
}

#[test]
fn gap_mask_excludes_the_buffer() {
    let folder = tempfile::tempdir().unwrap();
    let (db, rows) = example_store(folder.path());
    let target = folder.path().join("gap.xyz");
    let report = export(Format::Gap, &rows, &target).unwrap();
    assert_eq!((report.written, &report.without_labels[..]), (4, &[5][..]));
    check(
        r#"
from ase.io import read
frames = read(sys.argv[2], index=":")
assert len(frames) == 4
assert "force_mask:L:1" in open(sys.argv[2]).read()
for frame, row in zip(frames, rows):
    mask = frame.arrays["force_mask"]
    assert mask.dtype == bool and list(mask) == [w == 0 for w in row.data.force_mask]
    same(frame.get_forces(), row.forces)
    whole = row.energy_weight > 0
    assert ("energy" in frame.calc.results) == whole and ("virial" in frame.info) == whole
    if whole:
        same(frame.get_potential_energy(), row.energy)
        xx, yy, zz, yz, xz, xy = row.stress
        stress = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        same(np.reshape(frame.info["virial"], (3, 3)), -stress * frame.get_volume(), 1e-9)
"#,
        &db,
        &target,
    );
}

#[test]
fn mace_export_has_weights() {
    let folder = tempfile::tempdir().unwrap();
    let (db, rows) = example_store(folder.path());
    let target = folder.path().join("mace.xyz");
    let report = export(Format::Mace, &rows, &target).unwrap();
    assert!(report.warnings[0].contains("REF_forces_atomic_weights"));
    check(
        r#"
from ase.io import read
frames = read(sys.argv[2], index=":")
assert len(frames) == 4
for frame, row in zip(frames, rows):
    same(frame.arrays["REF_forces"], row.forces); same(frame.info["REF_energy"], row.energy)
    same(frame.arrays["REF_forces_atomic_weights"], row.data.force_mask)
    for name in "energy", "stress", "virials":
        assert frame.info["config_%s_weight" % name] == row.energy_weight
    assert frame.info["config_forces_weight"] == 1
    xx, yy, zz, yz, xz, xy = row.stress
    same(np.reshape(frame.info["REF_stress"], (3, 3)), [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
"#,
        &db,
        &target,
    );
}

#[test]
fn pacemaker_data_frame_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let (db, rows) = example_store(folder.path());
    let target = folder.path().join("candidates.pckl.gzip");
    let report = export(Format::Pacemaker, &rows, &target).unwrap();
    assert_eq!((report.written, report.warnings.len()), (4, 0));
    check(
        r#"
import pandas as pd
from pyace import preparedata
df = preparedata.load_dataframe(sys.argv[2])
assert isinstance(df, pd.DataFrame) and len(df) == 4 and list(df.index) == [0, 1, 2, 3]
for (_, entry), row in zip(df.iterrows(), rows):
    atoms = entry["ase_atoms"]
    same(atoms.positions, row.positions); same(atoms.cell, row.cell); same(atoms.pbc, row.pbc)
    same(atoms.numbers, row.numbers)
    same(entry["energy"], row.energy); same(entry["energy_corrected"], row.energy)
    same(entry["forces"], row.forces); same(entry["w_forces"], row.data.force_mask)
    assert entry["w_energy"] == row.energy_weight and entry["name"] == "candidate-%d" % row.id
# pacemaker's own way from the file to weights and neighbour lists, alone and beside another file.
from pyace.const import PYACE_EVAL
for files, share in (sys.argv[2], 1), ([sys.argv[2], sys.argv[2]], 2):
    data = preparedata.ACEDataset({"filename": files}, cutoff=5.0, elements=["Al", "Cu"], evaluator_name=PYACE_EVAL)
    out = data.fitting_data
    assert len(out) == 4 * share
    assert abs(out["w_energy"].sum() - 1) < 1e-12 and out["w_energy"].iloc[0] == 0
    total = sum(sum(row.data.force_mask) for row in rows) * share
    same(out["w_forces"].iloc[0], np.array(rows[0].data.force_mask) / total, 1e-15)
    same(out["ase_atoms"].iloc[0].get_forces(), rows[0].forces)
"#,
        &db,
        &target,
    );
    // The same rows give the same file.
    let first = std::fs::read(&target).unwrap();
    export(Format::Pacemaker, &rows, &target).unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), first);
    let mut cut_outs = rows[..2].to_vec();
    cut_outs[0].candidate.structure.cell.pbc = [true, true, false];
    let report = export(Format::Pacemaker, &cut_outs, &folder.path().join("x.pckl")).unwrap();
    assert_eq!(report.warnings.len(), 3, "{report:?}");
}

#[test]
fn gracemaker_data_frame_has_its_weights() {
    let folder = tempfile::tempdir().unwrap();
    let (db, rows) = example_store(folder.path());
    let target = folder.path().join("candidates.pckl.gzip");
    let report = export(Format::Gracemaker, &rows, &target).unwrap();
    assert_eq!((report.written, report.warnings.len()), (4, 0));
    check(
        r#"
import pandas as pd
# As gracemaker reads it; tests/python/read_gracemaker.py uses its own reader, which requires TensorFlow.
df = pd.read_pickle(sys.argv[2], compression="gzip")
for (_, entry), row in zip(df.iterrows(), rows):
    same(entry["force_weight"], row.data.force_mask); same(entry["forces"], row.forces)
    assert entry["energy_weight"] == row.energy_weight
    stress = row.get("stress")
    if stress is None:
        assert entry["stress"] is None and entry["virial_weight"] == 0
    else:
        same(entry["stress"], stress); assert entry["virial_weight"] == row.stress_weight
assert not {"w_energy", "w_forces"} & set(df.columns), df.columns
"#,
        &db,
        &target,
    );
    let report = export(Format::Gracemaker, &rows[..2], &folder.path().join("x.pckl.gzip")).unwrap();
    assert_eq!(report.warnings.len(), 1, "{report:?}");
}

#[test]
fn deepmd_folder_is_read_by_dpdata() {
    let folder = tempfile::tempdir().unwrap();
    let (db, rows) = example_store(folder.path());
    let target = folder.path().join("deepmd");
    export(Format::Deepmd, &rows, &target).unwrap();
    assert!(export(Format::Deepmd, &rows, &target).unwrap_err().to_string().contains("exists"));
    check(
        r#"
import os, dpdata
systems = sorted(os.listdir(sys.argv[2]))
assert systems == ["Al4Cu2", "Al4Cu2-energy-virial", "Al6Cu3"], systems
def expected(row):
    order = np.argsort([{13: 0, 29: 1}[z] for z in row.numbers], kind="stable")
    return order, row
for name, members in zip(systems, [rows[:2], rows[3:], rows[2:3]]):
    folder = os.path.join(sys.argv[2], name)
    whole = name.endswith("virial")
    kind = dpdata.LabeledSystem if whole else dpdata.System
    system = kind(folder, fmt="deepmd/npy")
    assert system.get_nframes() == len(members) and list(system["atom_names"]) == ["Al", "Cu"]
    force = np.load(folder + "/set.000/force.npy"); mask = np.load(folder + "/set.000/atom_pref.npy")
    assert force.shape == (len(members), 3 * system.get_natoms()) and mask.shape == (len(members), system.get_natoms())
    assert os.path.exists(folder + "/set.000/energy.npy") == whole
    for i, row in enumerate(members):
        order, row = expected(row)
        assert [["Al", "Cu"][t] for t in system["atom_types"]] == [row.symbols[k] for k in order]
        same(system["cells"][i], row.cell)
        same(system["coords"][i], row.positions[order], 1e-15)
        same(force[i].reshape(-1, 3), row.forces[order])
        same(mask[i], np.array(row.data.force_mask)[order])
        if whole:
            same(system["energies"][i], row.energy); same(system["forces"][i], row.forces[order])
            xx, yy, zz, yz, xz, xy = row.stress
            stress = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
            same(system["virials"][i], -stress * row.volume, 1e-9)
"#,
        &db,
        &target,
    );
}

#[test]
fn export_without_candidates_reports_the_status() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("empty.db");
    drop(Store::open(&db).unwrap());
    for (format, word) in [("pacemaker", "no candidate is DONE"), ("extxyz", "no candidate was selected")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lammps-otf"));
        command.args(["candidates", "export"]).arg(&db).args([format, "-o", "x"]).current_dir(&folder);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(word), "{said}");
    }
}

#[test]
fn export_of_nothing_is_an_error_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (_, rows) = example_store(folder.path());
    for format in Format::ALL {
        let target = folder.path().join("none");
        let error = export(format, &rows[..0], &target).unwrap_err().to_string();
        assert!(error.contains("no candidate"), "{error}");
        assert_eq!(export(format, &rows[4..], &target).is_ok(), !format.needs_labels());
        assert_eq!(target.exists(), !format.needs_labels());
        let _ = if target.is_dir() { std::fs::remove_dir_all(&target) } else { std::fs::remove_file(&target) };
        let nowhere = folder.path().join("no/such/folder");
        assert!(export(format, &rows, &nowhere).unwrap_err().to_string().contains("no/such"));
    }
}

fn command(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lammps-otf")).arg("candidates").args(arguments).output().unwrap()
}

fn succeed(arguments: &[&str]) -> String {
    let output = command(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn candidates_command_supports_all_operations() {
    let folder = tempfile::tempdir().unwrap();
    let (db, _) = example_store(folder.path());
    let db = db.to_str().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();

    let table = succeed(&["list", db]);
    assert!(
        table.lines().count() == 7 && table.contains("Al4Cu2") && table.contains("1 PENDING_DFT, 4 DONE"),
        "{table}"
    );
    assert_eq!(succeed(&["list", db, "--status", "pending"]).lines().count(), 3);
    let list: serde_json::Value = serde_json::from_str(&succeed(&["list", db, "--json"])).unwrap();
    assert_eq!(list["counts"]["DONE"], 4);
    assert_eq!(list["candidates"][0]["keys"]["gamma"], 7.25);
    assert!(succeed(&["show", db, "1"]).contains("potential_hash"));
    let row: serde_json::Value = serde_json::from_str(&succeed(&["show", db, "3", "--json"])).unwrap();
    assert_eq!(row["force_mask"].as_array().unwrap().len(), 9);
    assert_eq!(row["labels"]["energy"], -1.0);

    assert!(succeed(&["export", db, "gap", "-o", &file("a.xyz")]).contains("4 candidates"));
    assert!(succeed(&["export", db, "extxyz", "-o", &file("b.xyz")]).contains("5 candidates"));
    assert!(succeed(&["export", db, "extxyz", "-o", &file("b.xyz"), "--ids", "2,5"]).contains("2 candidates"));
    let report: serde_json::Value =
        serde_json::from_str(&succeed(&["export", db, "deepmd", "-o", &file("c"), "--json"])).unwrap();
    assert_eq!(report["written"], 4);

    succeed(&["set-status", db, "rejected", "1", "5"]);
    assert!(succeed(&["list", db]).contains("3 DONE, 2 REJECTED"));
    let output = command(&["set-status", db, "done", "5"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot become DONE"));
    succeed(&["set-status", db, "pending_dft", "5"]);

    succeed(&["import", &file("new.db"), db, db]);
    let new = Store::open_existing(Path::new(&file("new.db"))).unwrap();
    assert_eq!((new.ids(None).unwrap().len(), new.ids(Some(Status::Done)).unwrap().len()), (10, 6));
    // Velocities are stored as momenta and can change in the last digit.
    let third = |store: &Store| {
        let mut candidate = store.get(3).unwrap().candidate;
        assert!(candidate.structure.velocities.take().is_some());
        candidate
    };
    assert_eq!(third(&new), third(&Store::open_read_only(Path::new(db)).unwrap()));
    assert!(succeed(&["release", db, "--older-than", "0"]).contains("0 released"));
    assert!(succeed(&["check", db]).contains("5 rows, all valid"));
    succeed(&["backup", db, &file("copy.db")]);

    for (bad, says) in [
        (vec!["list", "missing.db"], "no candidate store"),
        (vec!["show", db, "77"], "no candidate 77"),
        (vec!["export", db, "vasp", "-o", "x"], "extxyz, pacemaker"),
        (vec!["list", db, "--status", "happy"], "PENDING_DFT"),
        (vec!["release", db, "--older-than", "-1"], "number of hours"),
        (vec!["backup", db, &file("copy.db")], "exists"),
        (vec!["check", file!()], "not an SQLite database"),
    ] {
        let output = command(&bad);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{bad:?}: {error}");
        assert!(error.contains(says), "{bad:?}: {error}");
        assert!(output.stdout.is_empty());
    }
}

/// A worker that writes row 1 back as DFT codes and their interfaces do. `change` is Python code with `atoms`,
/// `forces` and an order `p`.
fn write_back(path: &Path, change: &str) {
    let program = format!(
        r#"
import sys, numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
db = connect(sys.argv[1])
atoms = db.get(1).toatoms()
# Told apart by their positions, whatever becomes of the order.
forces = np.sin(atoms.positions)
p = np.argsort(atoms.numbers, kind="stable")
{change}
atoms.calc = SinglePointCalculator(atoms, energy=-1.25, forces=forces)
db.update(1, atoms=atoms, status="DONE")
"#
    );
    run(&program, &[path.to_str().unwrap()]);
}

/// All exports of a store, by name: the bytes of their files.
fn exports(path: &Path) -> Vec<(Format, Vec<u8>)> {
    let store = Store::open(path).unwrap();
    let rows: Vec<StoredCandidate> = store.iter(None).unwrap().collect::<Result<_, _>>().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bytes = |format: Format| {
        let target = folder.path().join(format.as_str());
        export(format, &rows, &target).unwrap();
        let mut files = vec![target];
        let mut all = Vec::new();
        while let Some(file) = files.pop() {
            if file.is_dir() {
                files.extend(std::fs::read_dir(file).unwrap().map(|entry| entry.unwrap().path()));
                files.sort();
            } else {
                all.extend(std::fs::read(file).unwrap());
            }
        }
        all
    };
    Format::ALL.into_iter().map(|format| (format, bytes(format))).collect()
}

#[test]
fn atoms_in_another_order_keep_their_mask_forces_and_ids() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    for (name, change) in [
        ("in-order", ""),
        ("by-element", "atoms, forces = atoms[p], forces[p]"),
        ("wrapped", "atoms, forces = atoms[p[::-1]], forces[p[::-1]]; atoms.wrap()"),
        ("rounded", "atoms.positions = np.round(atoms.positions, 6); atoms, forces = atoms[p], forces[p]"),
    ] {
        let path = folder.path().join(format!("{name}.db"));
        // The worker labels the first row; the second is unchanged.
        let mut plain = candidate(30, 1);
        plain.structure.velocities = None;
        Store::open(&path).unwrap().add(&[plain.clone(), candidate(6, 2)]).unwrap();
        write_back(&path, change);
        let store = Store::open(&path).unwrap();
        let row = store.get(1).unwrap();
        assert_eq!(row.mismatch, None, "{name}");
        assert_eq!(row.row_order.is_some(), name != "in-order");
        assert_eq!(row.candidate.structure, plain.structure, "{name}");
        assert_eq!(row.candidate.force_mask, plain.force_mask);
        let labels = row.candidate.labels.as_ref().unwrap();
        for (force, position) in labels.forces.iter().zip(&plain.structure.positions) {
            assert_eq!(*force, position.sin(), "{name}");
        }
        let said = succeed(&["check", path.to_str().unwrap(), "--json"]);
        assert_eq!(said.contains("\"reordered\": [\n    1\n  ]"), name != "in-order", "{said}");
        // Copied to another store in the stored order.
        let other = folder.path().join(format!("{name}-imported.db"));
        succeed(&["import", other.to_str().unwrap(), path.to_str().unwrap()]);
        let imported = Store::open(&other).unwrap().get(1).unwrap();
        assert_eq!((imported.row_order, imported.candidate.labels), (None, row.candidate.labels));
        seen.push(exports(&path));
    }
    for other in &seen[1..] {
        for ((format, in_order), (_, found)) in seen[0].iter().zip(other) {
            assert!(in_order == found, "{format:?}");
        }
    }
}

#[test]
fn labels_are_written_in_the_order_of_a_reordered_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("candidates.db");
    let mut store = Store::open(&path).unwrap();
    let plain = candidate(30, 1);
    store.add(std::slice::from_ref(&plain)).unwrap();
    run(
        "import sys\nfrom ase.db import connect\ndb = connect(sys.argv[1])\ndb.update(1, atoms=db.get(1).toatoms()[::-1])",
        &[path.to_str().unwrap()],
    );
    assert_eq!(store.claim("w").unwrap().unwrap().candidate.structure.positions, plain.structure.positions);
    let own = Labels { forces: plain.structure.positions.mapv(f64::sin), ..labels(30) };
    store.finish(1, "w", &own).unwrap();
    assert_eq!(store.get(1).unwrap().candidate.labels.unwrap().forces, own.forces);
    run(
        "import sys, numpy as np\nfrom ase.db import connect\natoms = connect(sys.argv[1]).get(1).toatoms()\n\
         assert np.allclose(atoms.get_forces(), np.sin(atoms.positions), rtol=0, atol=1e-12)",
        &[path.to_str().unwrap()],
    );
}

#[test]
fn labels_of_other_atoms_or_another_cell_are_not_used() {
    for (change, word) in [
        ("atoms.positions[3, 1] += 0.01", "within 0.0001 Å"),
        ("atoms.set_cell(atoms.cell * 1.001)", "its cell vector a is"),
        ("atoms.pbc = True", "periodic along T T T instead of T T F"),
        ("atoms.numbers[1] = 29", "has no Al within"),
        ("del atoms[3]; forces = forces[:-1]", "29 atoms instead of 30"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("candidates.db");
        let (db, out) = (path.to_str().unwrap(), folder.path().join("out"));
        let mut store = Store::open(&path).unwrap();
        store.add(&[candidate(30, 1)]).unwrap();
        write_back(&path, change);
        let row = store.get(1).unwrap();
        assert!(row.mismatch.as_ref().is_some_and(|why| why.contains(word)), "{change}: {:?}", row.mismatch);
        assert!(!row.is_labelled() && row.candidate.labels.is_none(), "{change}");
        assert_eq!(row.candidate.structure.positions, candidate(30, 1).structure.positions);
        assert!(store.import_labels(1, &labels(30)).is_err());
        for arguments in [
            &["check", db][..],
            &["export", db, "extxyz", "-o", out.to_str().unwrap()],
            &["export", db, "mace", "-o", out.to_str().unwrap()],
            &["export", db, "pacemaker", "--ids", "1", "-o", out.to_str().unwrap()],
            &["import", folder.path().join("other.db").to_str().unwrap(), db],
        ] {
            let said = command(arguments);
            assert_eq!(said.status.code(), Some(2), "{change}: {arguments:?}");
            let said = String::from_utf8_lossy(&said.stderr).into_owned();
            assert!(said.contains("candidate 1 ") && said.contains(word), "{change}: {said}");
            assert!(!out.exists(), "{change}");
        }
        // Another row is exported without it.
        let mut second = candidate(30, 2);
        second.labels = Some(labels(30));
        store.add(&[second]).unwrap();
        let rows: Vec<_> = store.iter(None).unwrap().map(Result::unwrap).collect();
        let report = export(Format::Mace, &rows, &out).unwrap();
        assert_eq!((report.written, &report.without_labels[..]), (1, &[1][..]));
        assert!(report.warnings.iter().any(|warning| warning.contains("candidate 1 was skipped")), "{report:?}");
        // Labelled again with the stored atoms.
        store.set_status(1, Status::Rejected).unwrap();
        store.set_status(1, Status::PendingDft).unwrap();
        let restored = store.claim_id(1, "w").unwrap().unwrap();
        assert_eq!((restored.mismatch, restored.row_order), (None, None), "{change}");
        assert_eq!(restored.candidate.structure.positions, candidate(30, 1).structure.positions);
        store.finish(1, "w", &labels(30)).unwrap();
        assert_eq!(store.check().unwrap().rows, 2);
        let natoms = "import sys\nfrom ase.db import connect\ndb = connect(sys.argv[1])\natoms = db.get(1).toatoms()\n\
                      assert len(atoms) == 30 and db.count('Al=20,Cu=10,id=1') == 1 and list(atoms.pbc) == [1, 1, 0]\n\
                      assert atoms.get_forces().shape == (30, 3)";
        if change.starts_with("del") {
            run(natoms, &[db]);
        }
    }
}

#[test]
fn pending_row_that_was_changed_is_not_labelled() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("candidates.db");
    let mut store = Store::open(&path).unwrap();
    store.add(&[candidate(30, 1), candidate(30, 2)]).unwrap();
    let change = "import sys\nfrom ase.db import connect\ndb = connect(sys.argv[1])\natoms = db.get(1).toatoms()\n\
                  atoms.positions[0] += 1\ndb.update(1, atoms=atoms)";
    run(change, &[path.to_str().unwrap()]);
    assert_eq!(store.claim("w").unwrap().unwrap().id, 2);
    let failed = store.get(1).unwrap();
    assert_eq!(failed.status, Some(Status::Failed));
    assert!(failed.message.unwrap().contains("has no Cu within"));
    store.set_status(1, Status::PendingDft).unwrap();
    assert_eq!(store.claim("w").unwrap().unwrap().id, 1);
}

/// Removes the data that older versions did not write.
fn remove_stored_atoms(path: &Path) {
    use lammps_otf::candidates::blob;
    let conn = rusqlite::Connection::open(path).unwrap();
    let rows: Vec<(i64, Vec<u8>)> = conn
        .prepare("SELECT id, data FROM systems")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    for (id, data) in rows {
        let mut data = blob::decode(&data).unwrap();
        assert!(data.remove("stored_atoms").is_some());
        conn.execute("UPDATE systems SET data = ?1 WHERE id = ?2", (blob::encode(&data), id)).unwrap();
    }
}

#[test]
fn rows_of_older_versions_are_read_and_checked() {
    let cut_out = |elements: Vec<Element>| {
        let positions = ndarray::Array2::from_shape_fn((216, 3), |(i, k)| {
            3.35 * (i / 6_usize.pow(k as u32) % 6) as f64 + 0.1 * ((i * 7 + k) as f64).sin()
        });
        let kinds = elements.len();
        let bulk = Structure {
            cell: Cell::orthorhombic([20.1; 3], [true; 3]),
            elements,
            types: (0..216).map(|i| (i % kinds) as i32 + 1).collect(),
            ids: (1..=216).collect(),
            fixed: Vec::new(),
            masses: None,
            positions,
            velocities: None,
        };
        let config = EmbeddingConfig { radius: 4.0, ..EmbeddingConfig::default() };
        let cluster = EmbeddingExtractor::new(&config, 4.5).unwrap().extract_cluster(&bulk, 7).unwrap();
        let mut candidate = Candidate::new(cluster.structure);
        candidate.force_mask = cluster.force_mask;
        candidate.keys.center = Some(cluster.center);
        candidate.keys.radius = Some(cluster.radius);
        candidate.keys.shape = cluster.shape.map(|shape| shape.to_string());
        candidate
    };
    for (elements, change, wrong) in [
        (vec![Element::Po], "", None),
        (vec![Element::Po], "p = p[::-1]; atoms, forces = atoms[p], forces[p]", Some("force_mask 1 are up to")),
        (vec![Element::Po, Element::Al], "atoms, forces = atoms[p], forces[p]", Some("was stored as")),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("candidates.db");
        Store::open(&path).unwrap().add(&[cut_out(elements)]).unwrap();
        remove_stored_atoms(&path);
        write_back(&path, change);
        let store = Store::open(&path).unwrap();
        let row = store.get(1).unwrap();
        let Some(wrong) = wrong else {
            assert!(row.is_labelled(), "{:?}", row.mismatch);
            store.check().unwrap();
            exports(&path);
            continue;
        };
        let error = store.check().unwrap_err().to_string();
        assert!(error.contains("candidate 1 ") && error.contains(wrong), "{error}");
        assert!(row.candidate.labels.is_none());
        for format in Format::ALL {
            let error = export(format, std::slice::from_ref(&row), &folder.path().join("out")).unwrap_err();
            assert!(error.to_string().contains(wrong), "{error}");
        }
    }
}

#[test]
fn structures_for_calculations_are_read_by_ase() {
    let folder = tempfile::tempdir().unwrap();
    let (db, rows) = example_store(folder.path());
    for (format, name) in [(Format::Poscar, "poscar"), (Format::LammpsData, "data")] {
        let target = folder.path().join(name);
        let report = export(format, &rows, &target).unwrap();
        assert_eq!((report.written, report.without_labels.len()), (5, 0));
        check(
            r#"
import pathlib
from ase.io import read
found = sorted(pathlib.Path(sys.argv[2]).iterdir())
assert len(found) == 5, found
for path, row in zip(found, ase.db.connect(sys.argv[1]).select(sort="id")):
    assert path.name.startswith(f"candidate-{row.id:06d}"), path
    if path.is_dir():
        atoms = read(path / "POSCAR")
    else:
        atoms = read(path, format="lammps-data", atom_style="atomic")
    stored = row.toatoms()
    stored.pbc = atoms.pbc = True
    assert sorted(atoms.symbols) == sorted(stored.symbols)
    # Distances depend neither on the frame nor on the order of elements.
    same(np.sort(atoms.get_all_distances(mic=True), axis=None), np.sort(stored.get_all_distances(mic=True), axis=None), 1e-9)
    same(atoms.cell.lengths(), stored.cell.lengths(), 1e-12)
"#,
            &db,
            &target,
        );
        assert!(export(format, &rows, &target).is_err(), "a folder is not overwritten");
    }
}
