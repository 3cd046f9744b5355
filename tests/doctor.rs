// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf doctor` with valid and invalid installations and configurations.

mod common;

use std::path::Path;
use std::process::Command;

use common::{al_config, aluminium, dependency, lammps_otf, root, text, write};
use serde_json::Value;

fn command(folder: &Path) -> Command {
    let mut command = lammps_otf();
    command.current_dir(folder).env("LAMMPS_OTF_PYTHON", dependency("bin/python3")).args(["doctor", "run.toml"]);
    command
}

/// The report and the exit code.
fn examine(command: &mut Command) -> (Value, Option<i32>) {
    let output = command.arg("--json").output().unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output)));
    (report, output.status.code())
}

fn findings<'a>(report: &'a Value, what: &str) -> Vec<&'a Value> {
    report["findings"].as_array().unwrap().iter().filter(|f| f["what"] == what).collect()
}

/// The single finding about `what`. It must have this level and contain all of `words` in its message or remedy.
fn expect_finding<'a>(report: &'a Value, what: &str, level: &str, words: &[&str]) -> &'a Value {
    let all = findings(report, what);
    assert_eq!(all.len(), 1, "{what}: {report:#}");
    assert_eq!(all[0]["level"], level, "{report:#}");
    let said = format!("{} {}", all[0]["message"], all[0]["remedy"]);
    for word in words {
        assert!(said.contains(word), "{what} does not say {word:?}: {said}");
    }
    all[0]
}

fn expect_failure(more: &str, spoil: impl Fn(&Path), what: &str, words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    al_config(folder.path(), more);
    spoil(folder.path());
    let (report, code) = examine(&mut command(folder.path()));
    assert_eq!((code, &report["ok"]), (Some(2), &Value::Bool(false)), "{report:#}");
    expect_finding(&report, what, "failure", words);
    assert!(findings(&report, "trial run").is_empty(), "no run after a failure: {report:#}");
}

#[test]
fn test_potential_passes_all_checks() {
    let folder = tempfile::tempdir().unwrap();
    al_config(folder.path(), "temperature = 300\n");
    let before = std::fs::read_dir(folder.path()).unwrap().count();
    let (report, code) = examine(&mut command(folder.path()));
    assert_eq!((code, &report["failures"], &report["warnings"]), (Some(0), &0.into(), &0.into()), "{report:#}");
    assert_eq!(before, std::fs::read_dir(folder.path()).unwrap().count(), "doctor leaves no files");

    let lammps = &expect_finding(&report, "liblammps", "ok", &["liblammps"])["details"];
    assert!(lammps["build"]["version"].as_i64().unwrap() > 20_230_802 && lammps["build"]["id_bits"] == 32);
    assert!(Path::new(lammps["files"][0].as_str().unwrap()).is_file());
    assert_eq!(expect_finding(&report, "mpi", "ok", &["libmpi"])["details"]["ranks"], 1);
    let styles = &expect_finding(&report, "pair styles", "ok", &["pace/extrapolation/opt"])["details"];
    assert_eq!(styles.as_array().unwrap().len(), 4);
    let device = expect_finding(&report, "device", "ok", &["pace/extrapolation/opt", "CPU"]);
    assert_eq!(device["details"]["pair_style"], "cpu");
    let potential = &expect_finding(&report, "potential", "ok", &["B-basis"])["details"];
    assert_eq!((&potential["elements"][0], &potential["cutoff"]), (&"Al".into(), &5.5.into()));
    assert_eq!(
        expect_finding(&report, "active set", "ok", &["linear"])["details"]["rows"][0],
        potential["functions"][0]
    );
    assert_eq!(expect_finding(&report, "structure", "ok", &["500 Al"])["details"]["atoms"], 500);
    let cut = &expect_finding(&report, "cut-out", "ok", &[])["details"]["atoms"];
    assert!(cut[0].as_u64().unwrap() > 100 && cut[1].as_u64().unwrap() <= 250, "{cut}");
    let gamma = expect_finding(&report, "trial run", "ok", &[])["details"]["gamma_max"].as_f64().unwrap();
    assert!(gamma > 0.1 && gamma < 5.0, "{gamma}");
    expect_finding(&report, "event", "ok", &["extracted, compared with its frame and stored"]);
    let speed = &expect_finding(&report, "speed", "ok", &["ns/day on 1 rank", "MB"])["details"];
    assert!(speed["ns_per_day"].as_f64().unwrap() > 0.0 && speed["memory_mb"].as_f64().unwrap() > 1.0, "{speed}");
    expect_finding(&report, "python", "ok", &["ASE"]);
}

#[test]
fn atoms_that_lammps_creates_are_examined_in_the_trial_run() {
    let folder = tempfile::tempdir().unwrap();
    let create = "create = [\"lattice fcc 4.045\", \"region box block 0 5 0 5 0 5\", \"create_box 1 box\", \
                  \"create_atoms 1 box\", \"mass 1 26.982\"]\ntemperature = 300\nelements = [\"Al\"]\n";
    let config = |embedding: &str| {
        let file = root().join("potentials/al/Al.yaml");
        let text = format!("{create}[potential]\nfile = {:?}\n[embedding]\n{embedding}", file.display().to_string());
        write(folder.path(), "run.toml", &text);
    };
    config("radius = 4.0\n");
    let (report, code) = examine(&mut command(folder.path()));
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(expect_finding(&report, "trial run", "ok", &[])["details"]["atoms"], 500);
    expect_finding(&report, "event", "ok", &[]);
    expect_finding(&report, "speed", "ok", &["ns/day"]);
    // No cut-out of these settings can be stored.
    config("radius = 4.0\nmax_atoms = 20\n");
    let (report, code) = examine(&mut command(folder.path()));
    assert_eq!(code, Some(2), "{report:#}");
    expect_finding(&report, "event", "failure", &["max_atoms"]);
}

#[test]
fn output_on_two_ranks_is_printed_once() {
    let folder = tempfile::tempdir().unwrap();
    al_config(folder.path(), "temperature = 300\n");
    let mut command = Command::new("timeout");
    command.arg(common::HANG.to_string()).arg(dependency("bin/mpiexec")).args([
        "-n",
        "2",
        env!("CARGO_BIN_EXE_lammps-otf"),
        "doctor",
    ]);
    let (report, code) = examine(command.current_dir(folder.path()).arg("run.toml"));
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(expect_finding(&report, "mpi", "ok", &["2 ranks"])["details"]["ranks"], 2);
    expect_finding(&report, "trial run", "ok", &[]);
}

#[test]
fn ranks_started_by_another_mpi_are_detected() {
    let folder = tempfile::tempdir().unwrap();
    al_config(folder.path(), "temperature = 300\n");
    // Variables set by Open MPI's mpiexec, which MPICH, used by this program, does not read.
    let (report, code) = examine(command(folder.path()).env("OMPI_COMM_WORLD_SIZE", "4"));
    assert_eq!(code, Some(2));
    expect_finding(&report, "mpi", "failure", &["4 processes", "alone", "mpiexec"]);
}

#[test]
fn liblammps_without_ml_pace() {
    let folder = tempfile::tempdir().unwrap();
    al_config(folder.path(), "temperature = 300\n");
    let nothing = tempfile::tempdir().unwrap();
    let bare = || {
        let mut command = command(folder.path());
        command.env("LAMMPS_OTF_PLUGINS", nothing.path()).env("LAMMPS_PLUGIN_PATH", "");
        examine(&mut command)
    };
    let (report, code) = bare();
    assert_eq!(code, Some(2));
    expect_finding(&report, "pair styles", "failure", &["pace/extrapolation/opt", "ml-pace", "LAMMPS_PLUGIN_PATH"]);
    expect_finding(&report, "ml-pace", "ok", &["not required"]);

    let text = std::fs::read_to_string(folder.path().join("run.toml")).unwrap();
    write(folder.path(), "run.toml", &text.replace("[potential]", "[potential]\nengine = \"ml-pace\""));
    let (report, code) = bare();
    assert_eq!(code, Some(2));
    expect_finding(&report, "ml-pace", "failure", &["PKG_ML-PACE", "LAMMPS_PLUGIN_PATH"]);
}

#[test]
fn active_set_of_another_potential() {
    let active_set = |f: &Path| {
        let text = std::fs::read_to_string(f.join("run.toml")).unwrap();
        let other = root().join("potentials/alcu/AlCu.asi");
        write(f, "run.toml", &text.replace("[potential]", &format!("[potential]\nactive_set = {other:?}")));
    };
    expect_failure(
        "temperature = 300\n",
        active_set,
        "active set",
        &["AlCu.asi", "2 array", "1 element", "pace_activeset"],
    );
}

#[test]
fn element_missing_in_the_potential() {
    let copper = |f: &Path| {
        write(f, "al.extxyz", &aluminium(5).replacen("Al ", "Cu ", 3));
    };
    expect_failure("temperature = 300\n", copper, "structure", &["Cu", "does not cover", "Al"]);
}

#[test]
fn cut_out_that_is_too_large() {
    let few = |f: &Path| {
        let text = std::fs::read_to_string(f.join("run.toml")).unwrap();
        write(f, "run.toml", &(text + "max_atoms = 50\n"));
    };
    expect_failure("temperature = 300\n", few, "cut-out", &["max_atoms", "radius"]);
}

#[test]
fn invalid_configuration() {
    expect_failure("temprature = 300\n", |_| (), "config", &["temprature", "Did you mean"]);
}

#[test]
fn settings_without_effect_are_warnings_of_doctor_and_run() {
    let folder = tempfile::tempdir().unwrap();
    let more = "temperature = [300, 400]\nensemble = \"nve\"\npressure = 10\nsteps = 2\nsampling_interval = 30\n";
    let path = al_config(folder.path(), more);
    let thin = std::fs::read_to_string(&path).unwrap() + "buffer = 4.0\n";
    write(folder.path(), "run.toml", &thin);
    let words = [
        "only the first value of `temperature = [300.0, 400.0]`",
        "`pressure` has no effect",
        "only the initial frame",
    ];
    let (report, code) = examine(&mut command(folder.path()));
    assert_eq!(code, Some(0), "{report:#}");
    let said = format!("{:?}", findings(&report, "settings"));
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
    expect_finding(&report, "buffer", "warning", &["less than the cutoff"]);
    let output = lammps_otf().current_dir(&folder).args(["run", "run.toml", "-q", "-o", "out"]).output().unwrap();
    let said = text(&output);
    assert!(output.status.success() && words.iter().all(|word| said.contains(word)), "{said}");
}

#[test]
fn doubtful_settings_are_warnings() {
    let folder = tempfile::tempdir().unwrap();
    // Every thermal atom is above this threshold, and the unit cell is smaller than any cut-out.
    al_config(folder.path(), "temperature = 300\nuncertainty_threshold = 0.1\nuncertainty_low = 0.1\n");
    write(folder.path(), "al.extxyz", &aluminium(1));
    let (report, code) = examine(command(folder.path()).env("LAMMPS_OTF_PYTHON", "/nowhere/python3"));
    assert_eq!((code, &report["ok"]), (Some(0), &Value::Bool(true)), "{report:#}");
    expect_finding(&report, "cell", "warning", &["own images", "3 × 3 × 3"]);
    expect_finding(&report, "cut-out", "warning", &["more than once", "5 × 5 × 5"]);
    expect_finding(&report, "trial run", "warning", &["above the threshold of 0.1"]);
    expect_finding(&report, "python", "warning", &["/nowhere/python3", "pip install ase"]);

    let plain = command(folder.path()).output().unwrap();
    let plain = String::from_utf8(plain.stdout).unwrap();
    assert!(plain.starts_with("ok ") && plain.contains("\nwarning ") && plain.contains("→ "), "{plain}");
    assert!(plain.trim_end().ends_with("warnings") && !plain.contains('\x1b'), "{plain}");
    let quiet = command(folder.path()).arg("-q").output().unwrap();
    let quiet = String::from_utf8(quiet.stdout).unwrap();
    assert!(quiet.starts_with("warning ") && !quiet.contains("\nok "), "{quiet}");
    let verbose = String::from_utf8(command(folder.path()).arg("-v").output().unwrap().stdout).unwrap();
    assert!(verbose.contains("packages: ") && verbose.contains("PLUGIN"), "{verbose}");
    let forced = command(folder.path()).env("CLICOLOR_FORCE", "1").output().unwrap();
    assert!(text(&forced).contains("\x1b["), "colours where they are asked for");
    let refused = command(folder.path()).env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1").output().unwrap();
    assert!(!text(&refused).contains('\x1b'), "NO_COLOR wins");
}

/// A run of a potential without γ. `file` is for atoms of these elements.
fn unwatched(folder: &Path, file: &str, text: &str, more: &str) {
    write(folder, file, text);
    write(folder, "al.extxyz", &aluminium(3).replacen("Al ", "Cu ", 20));
    let config = format!(
        "structure = \"al.extxyz\"\nuncertainty = \"none\"\ntemperature = 300\nsteps = 2\n[potential]\nfile = \
         \"{file}\"\n{more}\n"
    );
    write(folder, "run.toml", &config);
}

fn run_refuses(folder: &Path, words: &[&str]) {
    let output = lammps_otf().current_dir(folder).args(["run", "run.toml", "-q", "-o", "out"]).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
}

#[test]
fn ml_pace_is_rejected_for_potentials_that_it_evaluates_incorrectly() {
    let mixed = std::fs::read_to_string(root().join("crates/pace-opt/tests/data/mixeddens.yaml")).unwrap();
    let words = ["mixeddens.yaml", "Al 2, Cu 1", "wrong", "Set `engine ="];
    let folder = tempfile::tempdir().unwrap();
    unwatched(folder.path(), "mixeddens.yaml", &mixed, "engine = \"ml-pace\"");
    let (report, code) = examine(&mut command(folder.path()));
    assert_eq!(code, Some(2), "{report:#}");
    expect_finding(&report, "potential", "failure", &words);
    run_refuses(folder.path(), &words);
    // The same evaluator under its name in LAMMPS.
    let own = "structure = \"al.extxyz\"\nuncertainty = \"none\"\ntemperature = 300\nsteps = 2\n[potential]\n\
               pair_style = \"pace product\"\npair_coeff = [\"* * mixeddens.yaml Al Cu\"]\ncutoff = 5.0\n";
    write(folder.path(), "run.toml", own);
    run_refuses(folder.path(), &words);
    // The default engine evaluates it correctly.
    unwatched(folder.path(), "mixeddens.yaml", &mixed, "");
    let (report, code) = examine(&mut command(folder.path()));
    assert_eq!(code, Some(0), "{report:#}");
}

#[test]
fn potential_truncated_before_the_functions_of_an_element() {
    let whole = std::fs::read_to_string(root().join("potentials/alcu/AlCu.yace")).unwrap();
    let at = whole.rfind("  1:").unwrap();
    for engine in ["opt", "ml-pace"] {
        let folder = tempfile::tempdir().unwrap();
        unwatched(folder.path(), "AlCu.yace", &whole[..at], &format!("engine = \"{engine}\""));
        let (report, code) = examine(&mut command(folder.path()));
        assert_eq!(code, Some(2), "{report:#}");
        expect_finding(&report, "potential", "failure", &["AlCu.yace", "no basis functions for Cu", "Copy the file"]);
        run_refuses(folder.path(), &["AlCu.yace", "no basis functions for", "Cu"]);
    }
}

#[test]
fn potential_readable_by_ml_pace_only_is_reported() {
    let whole = std::fs::read_to_string(root().join("potentials/alcu/AlCu.yace")).unwrap();
    // A potential stub from the tests of ML-PACE.
    let stub = whole.replacen("radbasename: SBessel", "radbasename: TEST_zero", 1);
    assert_ne!(whole, stub);
    let folder = tempfile::tempdir().unwrap();
    unwatched(folder.path(), "AlCu.yace", &stub, "");
    let (report, _) = examine(&mut command(folder.path()));
    expect_finding(&report, "potential", "failure", &["TEST_zero", "engine = \\\"ml-pace\\\""]);
    run_refuses(folder.path(), &["TEST_zero", "ml-pace"]);
    unwatched(folder.path(), "AlCu.yace", &stub, "engine = \"ml-pace\"");
    let (report, code) = examine(&mut command(folder.path()));
    assert_eq!(code, Some(0), "{report:#}");
    expect_finding(&report, "potential", "ok", &["TEST_zero", "ML-PACE reads it"]);
}

#[test]
fn parts_of_a_loop_are_checked_without_starting_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    al_config(at, "temperature = 300\n");
    let python = dependency("bin/python3");
    write(
        at,
        "trainer.py",
        "import argparse\nimport a_package_that_is_missing\nargparse.ArgumentParser().parse_args()\n",
    );
    write(at, "label.py", "import argparse\nargparse.ArgumentParser().parse_args()\n");
    let run = std::fs::read_to_string(at.join("run.toml")).unwrap();
    let with = |oracle: &str, trainer: &str, more: &str| {
        let table = format!(
            "{run}[loop]\n{more}\n[loop.oracle]\n{oracle}\n[loop.trainer]\ncommand = [{python:?}, \"{trainer}\", \"{{labelled}}\", \
             \"{{output}}\"]\n"
        );
        write(at, "run.toml", &table);
        examine(&mut command(at))
    };
    let program =
        |name: &str| format!("type = \"command\"\ncommand = [\"{name}\", \"label.py\", \"{{input}}\", \"{{output}}\"]");
    let eam = |file: &Path| {
        format!("type = \"lammps\"\npair_style = \"eam/fs\"\npair_coeff = [\"* * {} Al\"]", file.display())
    };

    let (report, code) =
        with(&program("no-such-program"), "trainer.py", "[[loop.check]]\nname = \"slab\"\nstructure = \"no.xyz\"");
    assert_eq!(code, Some(2), "{report:#}");
    expect_finding(&report, "oracle", "failure", &["no-such-program", "PATH"]);
    expect_finding(&report, "trainer", "failure", &["a_package_that_is_missing", "Install"]);
    expect_finding(&report, "check", "failure", &["slab", "no.xyz"]);
    assert!(!at.join("run").exists() && findings(&report, "trial run").is_empty(), "{report:#}");

    write(at, "run.toml", &format!("{run}[loop]\n"));
    let (report, code) = examine(&mut command(at));
    assert_eq!(code, Some(2), "{report:#}");
    expect_finding(&report, "oracle", "failure", &["[loop] has no oracle"]);
    expect_finding(&report, "trainer", "failure", &["[loop] has no trainer", "[loop.trainer]"]);

    let (report, code) = with(&eam(Path::new("no.eam")), "label.py", "labels = [\"other/candidates.db\"]");
    assert_eq!(code, Some(2), "{report:#}");
    expect_finding(&report, "oracle", "failure", &["no.eam"]);
    expect_finding(&report, "trainer", "ok", &["label.py starts"]);
    expect_finding(&report, "labels", "failure", &["cannot find the folder", "other"]);

    let (report, code) =
        with(&eam(&common::eam_file()), "label.py", "[[loop.check]]\nname = \"al\"\nstructure = \"al.extxyz\"");
    assert_eq!(code, Some(0), "{report:#}");
    expect_finding(&report, "oracle", "ok", &["eam/fs"]);
    expect_finding(&report, "check", "ok", &["al: 500 atoms"]);
    expect_finding(&report, "disk", "ok", &["MiB"]);
}
