// SPDX-License-Identifier: GPL-2.0-or-later
//! The examples run and produce the documented output.

mod common;

#[path = "../examples/pause_and_continue.rs"]
mod pause_and_continue;

use std::path::PathBuf;
use std::process::Command;

use common::{dependency, eam_file, json, root, succeed};

/// The path of the example in a build of all targets.
fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().and_then(|p| p.parent()).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --examples`", path.display());
    path
}

#[test]
fn two_runs_in_one_mpi_job() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(root().join("examples/al-melt.toml")).unwrap();
    let files = root().join("potentials/al/Al.yaml").display().to_string();
    let text: String = text
        .lines()
        .map(|line| match line.split(" = ").next() {
            Some("structure") => format!("structure = {:?}\n", root().join("examples/al-500.extxyz")),
            Some("file") => format!("file = {files:?}\n"),
            Some("temperature") => "temperature = [300, 2500]\n".to_owned(),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = common::write(folder.path(), "melt.toml", &text);
    let mut command = Command::new("timeout");
    command
        .arg(common::HANG.to_string())
        .arg(dependency("bin/mpiexec"))
        .args(["-n", "2"])
        .arg(example("mpi"))
        .arg(config);
    let said = succeed(command.arg(folder.path().join("out")));
    assert!(said.contains("half 0: Uncertain") && said.contains("half 1: Uncertain"), "{said}");
    let step =
        |seed| json(&folder.path().join(format!("out/seed-{seed}/result.json")))["trigger_step"].as_i64().unwrap();
    assert!(step(12345) != step(12346), "two seeds, two trajectories");
}

#[test]
fn other_uncertainty_source_and_other_potential() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(example("own_uncertainty"));
    command.arg(root().join("examples/al-500.extxyz")).arg(eam_file()).arg("out");
    let said = succeed(command.current_dir(folder.path()));
    assert!(said.starts_with("Uncertain at step") && said.contains("1 candidate"), "{said}");
    let result = json(&folder.path().join("out/result.json"));
    assert!(result["gamma_max"].as_f64().unwrap() > 12.0 && result["status"] == "UNCERTAIN", "{result:#}");
}

#[test]
fn simulation_pauses_and_continues_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let summary = pause_and_continue::run(folder.path()).unwrap();
    println!("{summary:?}");
    assert!(!summary.pauses.is_empty() && summary.cut_out_sizes.len() == summary.pauses.len());
    // A core of 3 Å with a buffer of 5.5 Å around it.
    assert!(summary.cut_out_sizes.iter().all(|&atoms| (120..220).contains(&atoms)), "{:?}", summary.cut_out_sizes);
    assert_eq!(summary.last_step, 300);
}

#[test]
fn python_monitor_follows_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let config = common::al_config(folder.path(), "temperature = [1200, 1500]\nsteps = 600\nseed = 12345\n");
    let mut run = common::lammps_otf();
    run.current_dir(folder.path()).args(["-q", "run", "--json"]).arg(&config).args(["-o", "out"]);
    let mut run = run.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut monitor = common::python();
    monitor.arg(root().join("examples/monitor.py")).args(["--above", "1.2"]).stdin(run.stdout.take().unwrap());
    let said = succeed(&mut monitor);
    run.wait().unwrap();
    let highest = json(&folder.path().join("out/result.json"))["gamma_max"].as_f64().unwrap();
    assert!(highest > 1.2 && said.ends_with(&format!("the highest γ was {highest:.2}\n")), "{highest}: {said}");
    assert!(said.lines().next().unwrap().contains(" ps, "), "{said}");
}
