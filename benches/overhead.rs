// SPDX-License-Identifier: GPL-2.0-or-later
//! What it costs to be watched: `lammps-otf run` against plain `lmp` on the same `md.in`.
//!
//! `cargo bench --bench overhead`, or `ci/bench overhead`. 500 atoms of Al, both engines, γ every 10 and every 100 steps in
//! both programs; then without any γ. The two programs run in turn, and each pair gives one ratio of wall time per step
//! (`lmp`: its loop time; `lammps-otf`: everything between the first force evaluation and the end). Last, what a
//! checkpoint costs. `LAMMPS_OTF_ROUNDS` is the number of pairs, 7 if absent.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

fn main() {
    let rounds: usize = std::env::var("LAMMPS_OTF_ROUNDS").map_or(7, |n| n.parse().expect("a number of rounds"));
    println!("| engine | γ | interval | steps | lmp, ms/step | lammps-otf, ms/step | ratio: median | min | max |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for (engine, steps) in [("ml-pace", 300), ("opt", 2000)] {
        for watched in [true, false] {
            for interval in [10, 100] {
                compare(engine, watched, interval, steps, rounds);
            }
        }
    }
    for engine in ["ml-pace", "opt"] {
        checkpoints(engine, rounds);
    }
}

struct Case {
    folder: tempfile::TempDir,
}

impl Case {
    fn new(engine: &str, watched: bool, interval: u32, steps: u32, checkpoints: u32) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let gamma = if watched { "" } else { "uncertainty = \"none\"\n" };
        let text = format!(
            "structure = {:?}\ntemperature = 300\nsteps = {steps}\nseed = 7\nsampling_interval = {interval}\n{gamma}\
             uncertainty_low = 1e9\nuncertainty_threshold = 1e9\ncheckpoint_interval = {checkpoints}\n\
             [potential]\nfile = {:?}\nengine = {engine:?}\n[embedding]\nradius = 4.0\n",
            root.join("examples/al-500.extxyz"),
            root.join("potentials/al/Al.yaml"),
        );
        std::fs::write(folder.path().join("run.toml"), text).expect("it can be written");
        Self { folder }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// Seconds for each step, in our program.
    fn ours(&self) -> f64 {
        let _ = std::fs::remove_dir_all(self.out());
        let mut command = Command::new(env!("CARGO_BIN_EXE_lammps-otf"));
        command.args(["run", "run.toml", "-o", "out", "-q"]).current_dir(&self.folder);
        assert!(command.status().expect("it runs").success());
        let result: Value = read(&self.out().join("result.json"));
        let polls = std::fs::read_to_string(self.out().join("polls.jsonl")).expect("it is there");
        let first: Value = serde_json::from_str(polls.lines().next().expect("a poll")).expect("JSON");
        // The set-up of the run is not part of LAMMPS's loop time either.
        let number = |value: &Value| value.as_f64().expect("a number");
        (number(&result["seconds"]) - number(&first["seconds"])) / number(&result["steps"])
    }

    /// The same in plain `lmp`.
    fn plain(&self) -> f64 {
        let deps = Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps");
        let mut command = Command::new(deps.join("bin/lmp"));
        command.env("LAMMPS_PLUGIN_PATH", deps.join("lib/lammps/plugins"));
        command.args(["-in", "md.in", "-log", "plain.log"]).current_dir(self.out()).stdout(Stdio::null());
        assert!(command.status().expect("it runs").success());
        let log = std::fs::read_to_string(self.out().join("plain.log")).expect("it is there");
        let line = log.lines().rfind(|l| l.starts_with("Loop time of")).expect("LAMMPS says how long it took");
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<f64>().expect("a number");
        number(3) / number(8)
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("it is there")).expect("JSON")
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn compare(engine: &str, watched: bool, interval: u32, steps: u32, rounds: usize) {
    let case = Case::new(engine, watched, interval, steps, 0);
    // Makes md.in, and warms up.
    case.ours();
    case.plain();
    let (mut ours, mut plain, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        // `ours` makes the folder anew, with the md.in that `plain` takes.
        let (a, b) = if round % 2 == 0 {
            let a = case.ours();
            (a, case.plain())
        } else {
            let b = case.plain();
            (case.ours(), b)
        };
        ours.push(a * 1e3);
        plain.push(b * 1e3);
        ratios.push(a / b);
    }
    let ratio = median(&mut ratios);
    println!(
        "| {engine} | {} | {interval} | {steps} | {:.4} | {:.4} | {ratio:.4} | {:.4} | {:.4} |",
        if watched { "yes" } else { "no" },
        median(&mut plain),
        median(&mut ours),
        ratios[0],
        ratios[rounds - 1]
    );
}

/// What one checkpoint costs, as a number of steps.
fn checkpoints(engine: &str, rounds: usize) {
    let steps = 300;
    let (without, with) = (Case::new(engine, true, 10, steps, 0), Case::new(engine, true, 10, steps, 10));
    let mut costs: Vec<f64> = (0..rounds)
        .map(|_| {
            let (a, b) = (without.ours(), with.ours());
            (b - a) * f64::from(steps) / f64::from(steps / 10) / a
        })
        .collect();
    let cost = median(&mut costs);
    println!(
        "\nA checkpoint ({engine}) costs as much as {cost:.1} steps (median; {:.1} to {:.1}).",
        costs[0],
        costs[rounds - 1]
    );
}
