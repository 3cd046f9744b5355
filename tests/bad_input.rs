// SPDX-License-Identifier: GPL-2.0-or-later
//! Bad input ends with one clear paragraph, exit code 2, and nothing written. Tried on the real binary.

mod common;

use std::path::Path;

use common::{al_config, aluminium, lammps_otf, root, text, write};

/// Runs in `folder`, and checks the code, the absence of any new file, and that the message names `words`.
fn refused(folder: &Path, words: &[&str], environment: &[(&str, &str)]) -> String {
    let names = |f: &Path| {
        let mut all: Vec<_> = std::fs::read_dir(f).unwrap().map(|e| e.unwrap().file_name()).collect();
        all.sort();
        all
    };
    let before = names(folder);
    let mut command = lammps_otf();
    command.current_dir(folder).args(["run", "run.toml", "-o", "out"]).envs(environment.iter().copied());
    let output = command.output().unwrap();
    let message = text(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert_eq!(before, names(folder), "something was written");
    for word in words {
        assert!(message.contains(word), "the message does not say {word:?}:\n{message}");
    }
    assert!(message.starts_with("error: ") && !message.contains("panicked"), "{message}");
    assert_eq!(message.matches("error:").count(), 1, "said once:\n{message}");
    println!("{message}");
    message
}

fn with_config(more: &str, words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    al_config(folder.path(), more);
    refused(folder.path(), words, &[]);
}

#[test]
fn a_missing_configuration() {
    refused(tempfile::tempdir().unwrap().path(), &["run.toml", "No such file"], &[]);
}

#[test]
fn malformed_toml_names_the_line() {
    with_config("temperature = = 300\n", &["line 2", "run.toml"]);
}

#[test]
fn an_unknown_field_names_the_nearest() {
    with_config("temprature = 300\n", &["temprature", "Did you mean `temperature`?"]);
}

#[test]
fn a_negative_temperature_names_field_value_and_range() {
    with_config("temperature = -300\n", &["`temperature`", "-300", "between 0 and"]);
}

#[test]
fn other_values_out_of_range() {
    with_config("temperature = 300\ntimestep = 0.0\n", &["`timestep`", "above 0"]);
    with_config("temperature = 300\nsampling_interval = 0\n", &["`sampling_interval`", "between 1"]);
    with_config("temperature = 300\nuncertainty_low = 9.0\n", &["`uncertainty_low`", "9.0", "not above"]);
    with_config("temperature = 300\nsteps = 0\n", &["`steps`", "1 or more"]);
    with_config("temperature = nan\n", &["`temperature`", "NaN"]);
}

/// A run of the Al crystal with copies of the potential, which `spoil` may change.
fn with_potential(spoil: impl Fn(&Path), words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    for file in ["Al.yaml", "Al.asi", "Al.yace"] {
        std::fs::copy(root().join("potentials/al").join(file), folder.path().join(file)).unwrap();
    }
    write(folder.path(), "al.extxyz", &aluminium(3));
    write(
        folder.path(),
        "run.toml",
        "structure = \"al.extxyz\"\ntemperature = 300\nsteps = 10\n[potential]\nfile = \"Al.yaml\"\n",
    );
    spoil(folder.path());
    refused(folder.path(), words, &[]);
}

#[test]
fn a_missing_potential() {
    with_potential(|f| std::fs::remove_file(f.join("Al.yaml")).unwrap(), &["potential.file", "Al.yaml", "exists"]);
}

#[test]
fn a_missing_active_set() {
    with_potential(|f| std::fs::remove_file(f.join("Al.asi")).unwrap(), &["Al.asi", "pace_activeset"]);
}

#[test]
fn a_corrupt_potential() {
    // Cut in half, and not YAML at all: both throw exceptions that are not LAMMPS's.
    with_potential(
        |f| {
            let text = std::fs::read_to_string(f.join("Al.yaml")).unwrap();
            std::fs::write(f.join("Al.yaml"), &text[..text.len() / 2]).unwrap();
        },
        &["Al.yaml"],
    );
    with_potential(|f| std::fs::write(f.join("Al.yaml"), "rcut: 5.5\n]{ not: [yaml").unwrap(), &["Al.yaml"]);
}

#[test]
fn a_corrupt_active_set() {
    with_potential(
        |f| {
            let bytes = std::fs::read(f.join("Al.asi")).unwrap();
            std::fs::write(f.join("Al.asi"), &bytes[..bytes.len() / 3]).unwrap();
        },
        &["Al.asi"],
    );
}

#[test]
fn a_yace_file_where_gamma_is_needed() {
    with_potential(
        |f| {
            write(f, "run.toml", "structure = \"al.extxyz\"\ntemperature = 300\n[potential]\nfile = \"Al.yace\"\n");
        },
        &["Al.yace", ".yaml", ".asi"],
    );
}

#[test]
fn an_element_that_the_potential_does_not_know() {
    with_potential(
        |f| {
            let text = std::fs::read_to_string(f.join("al.extxyz")).unwrap();
            std::fs::write(f.join("al.extxyz"), text.replacen("Al ", "Cu ", 1)).unwrap();
        },
        &["Cu"],
    );
}

#[test]
fn overlapping_atoms() {
    with_potential(
        |f| {
            let text = std::fs::read_to_string(f.join("al.extxyz")).unwrap();
            std::fs::write(f.join("al.extxyz"), text.replacen("Al 0 2.0225 2.0225", "Al 0 0 0.2", 1)).unwrap();
        },
        &["al.extxyz", "0.2"],
    );
}

#[test]
fn a_structure_cut_in_half() {
    with_potential(
        |f| {
            let text = std::fs::read_to_string(f.join("al.extxyz")).unwrap();
            std::fs::write(f.join("al.extxyz"), &text[..text.len() / 2]).unwrap();
        },
        &["al.extxyz"],
    );
}

#[test]
fn a_liblammps_without_ml_pace() {
    let folder = tempfile::tempdir().unwrap();
    al_config(folder.path(), "temperature = 300\n");
    let nothing = tempfile::tempdir().unwrap();
    let nothing = nothing.path().to_str().unwrap();
    refused(
        folder.path(),
        &["pace/extrapolation", "PKG_ML-PACE", "LAMMPS_PLUGIN_PATH"],
        &[("LAMMPS_OTF_PLUGINS", nothing), ("LAMMPS_PLUGIN_PATH", "")],
    );
}

#[test]
fn a_folder_that_holds_a_run() {
    let folder = tempfile::tempdir().unwrap();
    al_config(folder.path(), "temperature = 300\n");
    std::fs::create_dir(folder.path().join("out")).unwrap();
    write(&folder.path().join("out"), "candidates.db", "precious");
    refused(folder.path(), &["out", "already holds a run", "--output"], &[]);
    assert_eq!(std::fs::read_to_string(folder.path().join("out/candidates.db")).unwrap(), "precious");
}
