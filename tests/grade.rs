// SPDX-License-Identifier: GPL-2.0-or-later
//! `grade`, `potential` and `candidates add`, and files in formats that ASE reads.

mod common;

use std::path::Path;
use std::process::Output;

use common::{lammps_otf, python, root, script, succeed, text, write};
use lammps_otf::candidates::{Status, Store};
use lammps_otf::io::extxyz::{Labelled, for_each_labelled};
use lammps_otf::{io, prediction};
use ndarray::Array2;
use serde_json::Value;

fn potential() -> String {
    root().join("potentials/al/Al.yaml").display().to_string()
}

/// The structures, and what python-ace finds for them.
fn structures() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    succeed(python().arg(script("grade_structures.py")).arg(folder.path()).arg(potential()));
    folder
}

fn grade(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = lammps_otf();
    command.current_dir(folder).env("LAMMPS_OTF_PYTHON", common::dependency("bin/python3"));
    command.args(["grade", "--potential", &potential()]).args(arguments).output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn frames(path: &Path) -> Vec<Labelled> {
    let mut all = Vec::new();
    for_each_labelled(path, |frame| {
        all.push(frame);
        Ok::<_, io::Error>(())
    })
    .unwrap();
    all
}

/// The column `ace_forces` of a frame.
fn written_forces(path: &Path, frame: usize) -> Array2<f64> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    for k in 0.. {
        let atoms: usize = lines.next().unwrap().parse().unwrap();
        let header = lines.next().unwrap();
        let rows: Vec<&str> = lines.by_ref().take(atoms).collect();
        if k < frame {
            continue;
        }
        let properties = header.split("Properties=").nth(1).unwrap().split_whitespace().next().unwrap();
        let parts: Vec<&str> = properties.split(':').collect();
        let mut at = 0;
        for column in parts.chunks(3) {
            if column[0] == "ace_forces" {
                break;
            }
            at += column[2].parse::<usize>().unwrap();
        }
        let number = |i: usize, c: usize| rows[i].split_whitespace().nth(at + c).unwrap().parse().unwrap();
        return Array2::from_shape_fn((atoms, 3), |(i, c)| number(i, c));
    }
    unreachable!()
}

#[test]
fn numbers_are_those_of_python_ace_and_formats_of_others_are_read() {
    let folder = structures();
    let at = folder.path();
    let found = json(&grade(at, &["large.traj", "frames.traj", "frames.db", "--output", "out.extxyz", "--json"]));
    let written = frames(&at.join("out.extxyz"));
    let of_file = |name: &str| name.trim_end_matches(".traj").trim_end_matches(".db").to_owned();
    assert_eq!(written.len(), 9);
    for (k, frame) in found["frames"].as_array().unwrap().iter().enumerate() {
        let name = match of_file(frame["file"].as_str().unwrap()).as_str() {
            "large" => "large.txt".to_owned(),
            _ => format!("frame-{}.txt", frame["frame"]),
        };
        let table = std::fs::read_to_string(at.join(name)).unwrap();
        let mut lines = table.lines();
        let energy: f64 = lines.next().unwrap().trim_start_matches("# ").parse().unwrap();
        let rows: Vec<Vec<f64>> =
            lines.map(|line| line.split_whitespace().map(|x| x.parse().unwrap()).collect()).collect();
        // As python-ace and pace-opt agree elsewhere: energies to rounding of their sum, forces and γ to that of the active set, whose
        // condition number is 6e7.
        assert!((frame["energy"].as_f64().unwrap() - energy).abs() < 1e-11 * energy.abs(), "{frame} {energy}");
        let largest = rows.iter().map(|row| row[3]).fold(0.0, f64::max);
        assert!((frame["gamma_max"].as_f64().unwrap() - largest).abs() < 1e-8 * largest, "{frame} {largest}");
        assert_eq!(written[k].results, Default::default(), "predictions are not labels");
        let forces = written_forces(&at.join("out.extxyz"), k);
        assert_eq!(forces.nrows(), rows.len());
        for (force, row) in forces.rows().into_iter().zip(&rows) {
            assert!((0..3).all(|c| (force[c] - row[c]).abs() < 1e-9 * row[c].abs().max(1.0)), "{force} {row:?}");
        }
    }
    let (gamma, largest) = (&found["gamma"]["Al"], &found["largest_gamma"]);
    assert_eq!(gamma["atoms"], 2048 + 2 * (108 + 107 + 106 + 105));
    assert_eq!(gamma["max"], largest["value"]);
    // The columns are those of the same structures without a detour.
    let mut own =
        prediction::Predictor::read(Path::new(&potential()), Some(&root().join("potentials/al/Al.asi"))).unwrap();
    let again = own.evaluate(&written[1].structure).unwrap();
    let forces = written_forces(&at.join("out.extxyz"), 1);
    // The positions are wrapped and read from text, which is exact; sums over neighbours may have another order.
    assert!((&forces - &again.forces).iter().all(|d| d.abs() < 1e-10));

    // Velocities, and formats without frames.
    let more = json(&grade(at, &["fixed.traj", "POSCAR", "XDATCAR", "-o", "more.extxyz", "--json"]));
    let count: Vec<&Value> = more["frames"].as_array().unwrap().iter().map(|frame| &frame["atoms"]).collect();
    assert_eq!(count, [106, 107, 108, 108]);
    let [moving, held] = [0, 1].map(|k| frames(&at.join("more.extxyz")).swap_remove(k).structure);
    // Selective dynamics: one atom is fixed along z, one along all axes.
    let fixed: Vec<(usize, [bool; 3])> = held.fixed.iter().map(|group| (group.ids.len(), group.axes)).collect();
    assert!(fixed.contains(&(1, [false, false, true])) && fixed.contains(&(1, [true; 3])), "{fixed:?}");
    // ASE's constants differ from others in the eighth digit. It sets the velocities of fixed atoms to zero.
    let velocities = moving.velocities.as_ref().unwrap();
    for (i, row) in velocities.rows().into_iter().enumerate() {
        let expected = if [1, 5].contains(&i) { 0.0 } else { 1.0 };
        assert!(row.iter().all(|v| (v - expected).abs() < 1e-6), "{i} {row}");
    }
}

#[test]
fn selected_frames_span_the_others() {
    let folder = structures();
    let at = folder.path();
    // Twice the same frames: of equal ones, one is selected.
    let files = ["frames.traj", "frames.db"];
    let found = json(&grade(at, &[&files[..], &["--select", "3", "-o", "s.extxyz", "--json"]].concat()));
    let selected = found["selected"].as_array().unwrap();
    let chosen: Vec<i64> = selected.iter().map(|frame| frame["frame"].as_i64().unwrap()).collect();
    assert_eq!(chosen.len(), 3);
    let mut distinct = chosen.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 3, "{chosen:?}");
    let most = found["frames"].as_array().unwrap().iter().map(|f| f["gamma_max"].as_f64().unwrap()).fold(0.0, f64::max);
    assert_eq!(selected[0]["gamma_max"].as_f64(), Some(most));
    let written = frames(&at.join("s.extxyz"));
    let atoms: Vec<usize> = written.iter().map(|frame| frame.structure.len()).collect();
    assert_eq!(atoms, selected.iter().map(|f| f["atoms"].as_u64().unwrap() as usize).collect::<Vec<_>>());

    // Any number of threads gives the same file.
    for threads in ["1", "3"] {
        let name = format!("t{threads}.extxyz");
        assert!(grade(at, &["frames.traj", "-o", &name, "--threads", threads]).status.success());
    }
    let [one, three] = ["t1.extxyz", "t3.extxyz"].map(|name| std::fs::read(at.join(name)).unwrap());
    assert!(one == three && !one.is_empty());
}

#[test]
fn files_that_cannot_be_graded_are_refused_with_the_reason_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(at, "old.extxyz", "what was there\n");
    write(at, "gold.extxyz", "2\npbc=\"F F F\" Properties=species:S:1:pos:R:3\nAl 0 0 0\nAu 3 0 0\n");
    write(at, "close.extxyz", "2\npbc=\"F F F\" Properties=species:S:1:pos:R:3\nAl 0 0 0\nAl 0 0 0\n");
    write(at, "notes", "nothing that a program reads\n");
    let asi = root().join("potentials/al/Al.asi").display().to_string();
    for (arguments, expected) in [
        (vec!["gold.extxyz"], "gold.extxyz, frame 0 (from 0): the potential does not contain the element Au"),
        (vec!["close.extxyz"], "close.extxyz, frame 0"),
        (vec!["missing.extxyz"], "cannot read missing.extxyz"),
        (vec!["notes"], "Convert it with `ase convert notes notes.extxyz`"),
        (vec!["gold.extxyz", "--active-set", "none.asi"], "none.asi"),
        (vec!["gold.extxyz", "--select", "0"], "0 is not in"),
    ] {
        let out = grade(at, &[&["-o", "old.extxyz"], &arguments[..]].concat());
        assert_eq!(out.status.code(), Some(2), "{}", text(&out));
        assert!(text(&out).contains(expected), "{}", text(&out));
        assert_eq!(std::fs::read_to_string(at.join("old.extxyz")).unwrap(), "what was there\n");
    }
    // Without ASE.
    let mut command = lammps_otf();
    command.current_dir(at).env("LAMMPS_OTF_PYTHON", "/nonexistent/python").args([
        "grade",
        "-p",
        &potential(),
        "notes",
    ]);
    let out = command.output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out).contains("/nonexistent/python cannot be started"), "{}", text(&out));

    // Without an active set there is no γ, which is said.
    std::fs::copy(potential(), at.join("bare.yaml")).unwrap();
    write(at, "one.extxyz", "2\npbc=\"F F F\" Properties=species:S:1:pos:R:3\nAl 0 0 0\nAl 3 0 0\n");
    let bare = |more: &[&str]| {
        lammps_otf().current_dir(at).args(["grade", "-p", "bare.yaml", "one.extxyz"]).args(more).output().unwrap()
    };
    let out = bare(&[]);
    assert!(out.status.success() && text(&out).contains("so γ is not computed"), "{}", text(&out));
    let out = bare(&["--select", "1"]);
    assert!(out.status.code() == Some(2) && text(&out).contains("bare.asi"), "{}", text(&out));
    assert!(bare(&["--active-set", &asi]).status.success());
}

#[test]
fn potential_is_described() {
    let output = lammps_otf().args(["potential", &potential(), "--json"]).output().unwrap();
    let found = json(&output);
    let element = &found["elements"][0];
    assert_eq!(
        (&element["element"], &element["functions"], &element["active_set_rows"]),
        (&"Al".into(), &74.into(), &74.into())
    );
    // The inverse of the active set, by numpy.
    let program = "import sys, numpy as np; a = np.load(sys.argv[1])['Al']; print(repr(float(np.linalg.cond(a, 1))))";
    let asi = root().join("potentials/al/Al.asi");
    let expected: f64 = succeed(python().args(["-c", program]).arg(asi)).trim().parse().unwrap();
    let condition = element["condition_number"].as_f64().unwrap();
    assert!(condition <= expected * 1.01 && condition >= expected / 3.0, "{condition} {expected}");
    let hash = found["hash"].as_str().unwrap().to_owned();
    let table = text(&lammps_otf().args(["potential", &potential()]).output().unwrap());
    assert!(table.contains(&hash) && table.contains("cutoff: 5.5 Å"), "{table}");
    let out = lammps_otf().args(["potential", "missing.yaml"]).output().unwrap();
    assert_eq!(out.status.code(), Some(2), "{}", text(&out));
}

#[test]
fn structures_are_added_to_a_store() {
    let folder = structures();
    let at = folder.path();
    let add = |files: &[&str]| {
        let mut command = lammps_otf();
        command.current_dir(at).env("LAMMPS_OTF_PYTHON", common::dependency("bin/python3"));
        command.args(["candidates", "add", "new.db"]).args(files).output().unwrap()
    };
    write(at, "al.extxyz", &common::aluminium(5));
    succeed(lammps_otf().current_dir(at).args([
        "extract",
        "al.extxyz",
        "--center",
        "17",
        "--radius",
        "3",
        "--buffer",
        "5.5",
        "-o",
        "cut.extxyz",
    ]));
    let out = add(&["cut.extxyz", "frames.traj"]);
    assert!(out.status.success(), "{}", text(&out));
    let rows: Vec<_> =
        Store::open_existing(&at.join("new.db")).unwrap().iter(None).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 5);
    let weights = |k: usize| (rows[k].keys().energy_weight, rows[k].candidate.force_mask.iter().sum::<f64>());
    // The core of a cut-out; whole frames.
    assert_eq!((weights(0), weights(1)), ((Some(0.0), 13.0), (Some(1.0), 108.0)));
    assert!(rows.iter().all(|row| row.status == Some(Status::PendingDft)));
    // Labels are taken on request only.
    let frame = "1\npbc=\"F F F\" energy=-1.5 Properties=species:S:1:pos:R:3:forces:R:3\nAl 0 0 0 0.1 0 0\n";
    write(at, "labelled.extxyz", frame);
    assert!(add(&["labelled.extxyz"]).status.success() && add(&["labelled.extxyz", "--labelled"]).status.success());
    let rows: Vec<_> =
        Store::open_existing(&at.join("new.db")).unwrap().iter(None).unwrap().map(Result::unwrap).collect();
    assert_eq!((rows[5].status, rows[6].status), (Some(Status::PendingDft), Some(Status::Done)));
    assert_eq!(rows[6].keys().stress_weight, Some(0.0), "it is not periodic");
    let out = add(&["missing.extxyz"]);
    assert_eq!(out.status.code(), Some(2), "{}", text(&out));
}
