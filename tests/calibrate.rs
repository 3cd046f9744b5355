// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf calibrate` with forces of the EAM potential to which the test potential was fitted.

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;

use common::{aluminium, eam_file, lammps_otf, one_at_a_time, root, text, write};
use lammps_otf::calibration::{Calibration, Kind};
use lammps_otf::candidates::{Candidate, Labels, PotentialRecord, Store, Trigger};
use lammps_otf::config::InferenceConfig;
use lammps_otf::io::extxyz::{self, Column, ColumnData};
use lammps_otf::script::Script;
use lammps_otf::{io, potential, verify};
use ndarray::Array2;
use serde_json::Value;

const FRAMES: usize = 16;

/// Cells of 32 atoms that are displaced more and more, with forces of the EAM potential.
fn candidates(folder: &Path) -> Vec<Candidate> {
    write(folder, "start.extxyz", &aluminium(2));
    let toml = format!(
        "structure = \"start.extxyz\"\ntemperature = 300\nsteps = 1\nuncertainty = \"none\"\n[potential]\n\
         pair_style = \"eam/fs\"\npair_coeff = [\"* * {} Al\"]\n[embedding]\nradius = 3.0\n",
        eam_file().display()
    );
    let config = InferenceConfig::read(write(folder, "eam.toml", &toml)).unwrap();
    let start = io::read(&config.system.structure, None).unwrap();
    let script = Script::new(&config, &start, Path::new("data")).unwrap();
    let labelled = |k: usize| {
        let mut structure = start.clone();
        for (at, x) in structure.positions.iter_mut().enumerate() {
            let random = ((at * 7919 + k * 104_729) % 1009) as f64 / 1009.0 - 0.5;
            *x += (0.1 + 0.06 * k as f64) * random;
        }
        let found = verify::evaluate(&structure, &script).unwrap();
        let forces = Array2::from_shape_fn((structure.len(), 3), |(i, axis)| found.forces[i][axis]);
        let mut candidate = Candidate::new(structure);
        candidate.labels =
            Some(Labels { energy: found.energy, free_energy: None, forces, stress: None, calculator: None });
        candidate.keys.trigger = Some(if k.is_multiple_of(2) { Trigger::Gamma } else { Trigger::from("audit") });
        candidate
    };
    (0..FRAMES).map(labelled).collect()
}

fn write_frames(path: &Path, candidates: &[Candidate], with_mask: bool) {
    let mut file = std::fs::File::create(path).unwrap();
    for candidate in candidates {
        let mut columns = Vec::new();
        if with_mask {
            columns.push(Column::real("force_mask", &candidate.force_mask));
        }
        columns.extend(
            candidate
                .labels
                .as_ref()
                .map(|labels| Column { name: "forces", data: ColumnData::RealRows(labels.forces.view()) }),
        );
        extxyz::write(&mut file, &candidate.structure, &columns, &[]).unwrap();
    }
}

fn al() -> PathBuf {
    root().join("potentials/al/Al.yaml")
}

fn calibrate(folder: &Path, arguments: &[&str]) -> Output {
    lammps_otf().current_dir(folder).arg("calibrate").args(arguments).output().unwrap()
}

fn json(folder: &Path, arguments: &[&str]) -> (Value, String) {
    let al = al();
    let mut all = vec!["--potential", al.to_str().unwrap(), "--json", "out.json"];
    all.extend(arguments);
    let output = calibrate(folder, &all);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    (serde_json::from_str(&std::fs::read_to_string(folder.join("out.json")).unwrap()).unwrap(), text(&output))
}

#[test]
fn frames_and_stores_give_the_same_calibration() {
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut candidates = candidates(folder);
    for candidate in &mut candidates {
        candidate.force_mask[5..].fill(0.0);
    }
    write_frames(&folder.join("masked.extxyz"), &candidates, true);
    write_frames(&folder.join("all.extxyz"), &candidates, false);
    Store::open(&folder.join("candidates.db")).unwrap().add(&candidates).unwrap();

    let (all, printed) = json(folder, &["all.extxyz", "--plot", "plot.svg", "--force-error", "0.3"]);
    assert_eq!((&all["regions"], &all["pairs"]), (&16.into(), &(16 * 32).into()));
    assert!(printed.contains("Threshold on γ for a force error of 0.3 eV/Å with coverage 0.9"), "{printed}");
    let svg = std::fs::read_to_string(folder.join("plot.svg")).unwrap();
    assert!(svg.contains("bound, coverage 0.9") && svg.matches("<circle").count() > 400, "{svg:.500}");

    let (masked, _) = json(folder, &["masked.extxyz"]);
    assert_eq!(masked["pairs"], 16 * 5);
    // A folder with a store, as a run writes it.
    let (stored, printed) = json(folder, &[".", "--plot", "plot.html"]);
    assert_eq!(stored["bins"], masked["bins"]);
    assert_eq!(stored["bounds"][0], masked["bounds"][0]);
    let triggers: Vec<_> = stored["triggers"].as_array().unwrap().iter().map(|t| t["trigger"].as_str()).collect();
    assert_eq!(triggers, [Some("audit"), Some("gamma")]);
    assert!(printed.contains("all, audit") && printed.contains("all, event"), "{printed}");
    assert!(std::fs::read_to_string(folder.join("plot.html")).unwrap().contains("<svg"));
    let (audits, _) = json(folder, &["candidates.db", "--trigger", "audit"]);
    assert_eq!(audits["regions"], 8);
    // Two sources are different regions.
    let (both, _) = json(folder, &["candidates.db", "all.extxyz"]);
    assert_eq!(both["regions"], 32);

    // A program reads the calibration from the file.
    let calibration: Calibration = serde_json::from_value(stored["calibration"].clone()).unwrap();
    let bounds = &stored["bounds"][0]["bounds"];
    assert_eq!(calibration.group(None, None, 0.9).bound(1.0, 0.9), bounds[2]["bound"].as_f64());
    // Eight audits are too few.
    assert_eq!(calibration.group(None, Some(Kind::Audit), 0.9).name(), "all");
    assert_eq!(calibration.group(None, Some(Kind::Audit), 0.8).name(), "all, audit");
}

#[test]
fn stored_calibration_is_checked_with_other_data() {
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let candidates = candidates(folder);
    write_frames(&folder.join("all.extxyz"), &candidates, false);
    // Displacements are larger than in all others.
    write_frames(&folder.join("worst.extxyz"), &candidates[14..], false);
    json(folder, &["all.extxyz"]);
    std::fs::rename(folder.join("out.json"), folder.join("calibration.json")).unwrap();
    let (checked, printed) = json(folder, &["worst.extxyz", "--check", "calibration.json"]);
    assert!(printed.contains("Share of the atoms within the bound"), "{printed}");
    let row = checked["checked"].as_array().unwrap().iter().find(|row| row["nominal"] == 0.9).unwrap();
    assert_eq!((&row["group"], &row["observed"]["regions"]), (&"all".into(), &2.into()));
    let observed = row["observed"]["coverage"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&observed));

    let al = al();
    let output = calibrate(folder, &["all.extxyz", "-p", al.to_str().unwrap(), "--check", "all.extxyz"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("is not a calibration"), "{}", text(&output));
}

#[test]
fn candidates_of_earlier_potentials_of_a_loop_are_not_held_out() {
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut candidates = candidates(folder);
    let of = |file: PathBuf| lammps_otf::config::Potential {
        active_set: None,
        file: Some(file),
        engine: lammps_otf::config::Engine::default(),
        pair_style: None,
        pair_coeff: Vec::new(),
        cutoff: None,
    };
    let record = |file: &Path, round| PotentialRecord {
        hash: potential::fingerprint(&of(file.to_owned())).unwrap(),
        parent: None,
        round,
        file: file.to_owned(),
        active_set: file.with_extension("asi"),
    };
    let (first, second) = (record(&root().join("potentials/al-soft/Al.yaml"), 0), record(&al(), 1));
    for (k, candidate) in candidates.iter_mut().enumerate() {
        let found_by = if k < 10 { &first } else { &second };
        candidate.keys.potential_hash = Some(found_by.hash.clone());
    }
    let mut store = Store::open(&folder.join("candidates.db")).unwrap();
    store.record(&[], Some(&first), &[]).unwrap();
    store.record(&[], Some(&second), &candidates).unwrap();
    // Without --potential, the newest one.
    let output = calibrate(folder, &["candidates.db", "--json", "out.json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("5 of 16 structures were found with earlier potentials"), "{}", text(&output));
    let out: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("out.json")).unwrap()).unwrap();
    assert_eq!(out["potential"]["hash"], second.hash.as_str());
    // Six of the second potential, and the five audits of the first.
    let output = calibrate(folder, &["candidates.db", "--held-out", "--coverage", "0.8"]);
    assert!(text(&output).contains("11 regions with"), "{}", text(&output));
}

#[test]
fn unusable_input_is_a_message() {
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let candidates = candidates(folder);
    write_frames(&folder.join("few.extxyz"), &candidates[..3], false);
    write(folder, "bare.extxyz", &aluminium(2));
    write(folder, "empty.extxyz", "");
    let with = |text: String, column: &str, value: &str| -> String {
        let text = text.replace("pos:R:3", &format!("pos:R:3:{column}"));
        let atom = |line: &str| line.starts_with("Al").then(|| format!("{line} {value}\n"));
        text.lines().map(|line| atom(line).unwrap_or(format!("{line}\n"))).collect()
    };
    write(folder, "logical.extxyz", &with(aluminium(2), "force_mask:L:1", "T"));
    write(folder, "copper.extxyz", &with(aluminium(2), "forces:R:3", "0 0 0").replace("Al ", "Cu "));
    std::fs::copy(al(), folder.join("Bare.yaml")).unwrap();
    Store::open(&folder.join("candidates.db")).unwrap();
    std::fs::create_dir(folder.join("nothing")).unwrap();
    let al = al();
    let p = al.to_str().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["few.extxyz"], "no potential is given"),
        (&["candidates.db"], "no potential is given"),
        (&["candidates.db", "-p", p], "there are no labelled structures to calibrate with: the sources are empty"),
        (&["few.extxyz", "-p", "Bare.yaml"], "there is no active set Bare.asi"),
        (&["few.extxyz", "-p", "missing.yaml"], "cannot use the potential missing.yaml"),
        (&["few.extxyz", "-p", "eam.toml"], "cannot use the potential eam.toml"),
        (&["bare.extxyz", "-p", p], "1 without labels"),
        (&["empty.extxyz", "-p", p], "the sources are empty"),
        (&["logical.extxyz", "-p", p], "force_mask:R:1"),
        (&["copper.extxyz", "-p", p], "the potential does not contain the element Cu"),
        (&["missing.extxyz", "-p", p], "cannot read missing.extxyz"),
        (&["nothing", "-p", p], "folder without candidates.db"),
        (&["few.extxyz", "-p", p, "--coverage", "1.5"], "from 0.01 to 0.999"),
        (&["few.extxyz", "-p", p, "--force-error", "-1"], "a positive number"),
        (&["few.extxyz", "-p", p, "--plot", "plot.pdf"], ".svg, .png or .html"),
        (&["few.extxyz", "-p", p, "--json", "missing/out.json"], "the folder missing does not exist"),
    ];
    for (arguments, message) in cases {
        let output = calibrate(folder, arguments);
        let text = text(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(message) && !text.contains("panicked"), "{arguments:?}: {text}");
    }
    let output = calibrate(folder, &["few.extxyz", "-p", p, "--plot", "few.png"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("3 regions are too few for a bound with coverage 0.9: label at least 13"));
}
