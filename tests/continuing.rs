// SPDX-License-Identifier: GPL-2.0-or-later
//! `run --from`: a new run from the last state of another one, with another potential or other settings.

mod common;

use std::path::Path;

use common::{al_config, eam_config, json, lines, root, run_toml as run, succeed, text};
use serde_json::Value;

fn run_to(code: i32, folder: &Path, ranks: usize, more: &[&str]) {
    let output = run(folder, ranks, more);
    assert_eq!(output.status.code(), Some(code), "{more:?}: {}", text(&output));
}

/// The polls of a run without wall times.
fn polls(out: &Path) -> Vec<Value> {
    let mut polls = lines(&out.join("polls.jsonl"));
    polls.iter_mut().for_each(common::without_times);
    polls
}

/// All files of a folder with their content.
fn content(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let entries = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let mut files: Vec<_> = entries.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn a_run_in_two_folders_is_that_in_one() {
    let folder = tempfile::tempdir().unwrap();
    // An event at step 1000, unless the threshold is above it.
    let config = |threshold: f64| {
        let more = format!(
            "steps = 2000\ncheckpoint_interval = 250\ntemperature = [300, 900]\nsampling_interval = 50\nverify = false\n\
             uncertainty = {{ variable = \"g\" }}\nuncertainty_threshold = {threshold}\nuncertainty_low = 1\n\
             setup = [\"variable g atom 8*(step>=1000)\", \"dump end all custom 1000 dump id x y z vx vy vz\", \
             \"dump_modify end sort id format float %.17g\"]\n"
        );
        eam_config(folder.path(), 3, &more);
    };
    let last_frame = |folder: &Path| {
        let text = std::fs::read_to_string(folder.join("dump")).unwrap();
        text.lines().rev().take(108).map(str::to_owned).collect::<Vec<_>>()
    };
    for ranks in [1, 2] {
        let [whole, first, second] = ["whole", "first", "second"].map(|name| format!("{name}-{ranks}"));
        config(10.0);
        run_to(0, folder.path(), ranks, &["-o", &whole]);
        let expected = last_frame(folder.path());
        let parent = folder.path().join(&first);
        config(5.0);
        run_to(4, folder.path(), ranks, &["-o", &first]);
        let (step, before) = (1000, content(&parent));
        config(10.0);
        run_to(0, folder.path(), ranks, &["-o", &second, "--from", &first]);
        assert!(before == content(&parent), "the run that is continued has changed");

        let (whole, out) = (folder.path().join(&whole), folder.path().join(&second));
        let after: Vec<Value> = polls(&whole).into_iter().filter(|poll| poll["step"].as_i64() >= Some(step)).collect();
        let made = polls(&out);
        assert_eq!(made[0]["step"], step);
        assert_eq!(json(&out.join("result.json"))["steps"], 2000);
        // The step of the checkpoint is polled after a set-up, not at the end of a part of the run.
        assert!(made[1..] == after[1..], "{:?}", made[1..].iter().zip(&after[1..]).find(|(a, b)| a != b));
        let name = "checkpoint-2000.restart";
        assert!(std::fs::read(whole.join(name)).unwrap() == std::fs::read(out.join(name)).unwrap());
        assert!(last_frame(folder.path()) == expected);
        if ranks == 1 {
            // Plain LAMMPS makes the same run from `md.in`.
            succeed(common::lmp().current_dir(&out).args(["-in", "md.in", "-log", "none"]));
            assert!(last_frame(&out) == expected, "md.in is not the run that was made");
        }
        // Its records name the run that it continues.
        for file in ["run.json", "result.json"] {
            let parent = &json(&out.join(file))["continues"];
            assert_eq!((&parent["step"], &parent["steps"]), (&step.into(), &step.into()), "{file}: {parent}");
            assert!(Path::new(parent["folder"].as_str().unwrap()).ends_with(&first), "{file}: {parent}");
        }
    }
}

#[test]
fn the_script_of_a_run_that_continues_at_any_step_is_that_run() {
    let folder = tempfile::tempdir().unwrap();
    let config = |steps: u64| {
        let more = format!(
            "steps = {steps}\ncheckpoint_interval = 250\ntemperature = 300\nuncertainty = \"none\"\nsampling_interval = 10\n\
             setup = [\"dump end all custom 700 dump id x y z vx vy vz\", \
             \"dump_modify end sort id format float %.17g\"]\n"
        );
        eam_config(folder.path(), 3, &more);
    };
    config(330);
    run_to(0, folder.path(), 1, &["-o", "first"]);
    config(700);
    run_to(0, folder.path(), 1, &["-o", "second", "--from", "first"]);
    let out = folder.path().join("second");
    succeed(common::lmp().current_dir(&out).args(["-in", "md.in", "-log", "none"]));
    let last = |folder: &Path| {
        let text = std::fs::read_to_string(folder.join("dump")).unwrap();
        text.lines().rev().take(108).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(last(&out) == last(folder.path()), "{}", std::fs::read_to_string(out.join("md.in")).unwrap());
}

#[test]
fn another_potential_continues_the_trajectory() {
    let folder = tempfile::tempdir().unwrap();
    let ramp = "temperature = [300, 1500]\nsteps = 3000\ncheckpoint_interval = 500\nsampling_interval = 20\nseed = 3\n";
    al_config(folder.path(), &format!("uncertainty_threshold = 2.0\n{ramp}"));
    run_to(4, folder.path(), 1, &["-o", "first"]);
    let first = folder.path().join("first");
    let event = polls(&first).pop().unwrap();
    let step = event["step"].as_i64().unwrap();
    assert!(step > 0 && step < 3000, "{event}");

    // The same potential meets the same event in the same state.
    run_to(4, folder.path(), 1, &["-o", "same", "--from", "first"]);
    let same = polls(&folder.path().join("same"));
    assert_eq!(same.len(), 1);
    // The order of the atoms, and so of sums, is that after a set-up.
    let close = |a: &Value, b: &Value| (a.as_f64().unwrap() / b.as_f64().unwrap() - 1.0).abs() < 1e-9;
    for key in ["step", "steps", "time", "temperature", "volume", "potential_energy"] {
        assert!(close(&same[0][key], &event[key]), "{key}: {} {event}", same[0]);
    }
    assert!(close(&same[0]["gamma"]["max"], &event["gamma"]["max"]), "{} {event}", same[0]);

    // Another potential: the same positions and velocities, and the energy that the potential has there.
    let other = root().join("potentials/al-nonlinear/Al.yaml");
    let other = other.to_str().unwrap();
    al_config(folder.path(), &format!("uncertainty_threshold = 1e6\n{ramp}"));
    run_to(0, folder.path(), 1, &["-o", "other", "--from", "first", "--potential", other]);
    let (out, made) = (folder.path().join("other"), polls(&folder.path().join("other")));
    assert!(close(&made[0]["step"], &event["step"]) && close(&made[0]["temperature"], &event["temperature"]));
    assert_eq!(made.last().unwrap()["step"], 3000);
    assert_ne!(made[0]["potential_energy"], event["potential_energy"]);
    succeed(common::lmp().args(["-in", "check.in", "-log", "none"]).current_dir({
        let input = format!(
            "units metal\natom_style atomic\natom_modify map array\nnewton on\nread_restart start.restart\n\
             pair_style pace\npair_coeff * * {} Al\nthermo_style custom pe\nrun 0 post no\n\
             variable e equal pe\nprint \"$(pe:%.12g)\" file energy\n",
            other.replace(".yaml", ".yace")
        );
        common::write(&out, "check.in", &input);
        &out
    }));
    let energy: f64 = std::fs::read_to_string(out.join("energy")).unwrap().trim().parse().unwrap();
    let polled = made[0]["potential_energy"].as_f64().unwrap();
    assert!((energy - polled).abs() < 1e-6 * energy.abs(), "{energy} {polled}");
    // The record has both potentials, and the ramp was not begun again.
    let (run, parent) = (json(&out.join("run.json")), json(&first.join("run.json")));
    assert_eq!(run["continues"]["potential_hash"], parent["potential_hash"]);
    assert_ne!(run["potential_hash"], parent["potential_hash"]);
    let warm: Vec<f64> = made.iter().rev().take(10).map(|poll| poll["temperature"].as_f64().unwrap()).collect();
    let mean = warm.iter().sum::<f64>() / 10.0;
    assert!((1200.0..1800.0).contains(&mean), "{mean}");
    // A job script can have both options: the second process resumes the new run.
    run_to(0, folder.path(), 1, &["-o", "other", "--from", "first", "--potential", other, "--resume"]);
    assert_eq!(polls(&out), made);
    assert_eq!(json(&out.join("result.json"))["continues"], run["continues"]);
}

#[test]
fn a_continued_run_that_is_killed_at_its_start_begins_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let config = |steps: u64| {
        let more =
            format!("temperature = 300\nsteps = {steps}\ncheckpoint_interval = 100000\nuncertainty = \"none\"\n");
        eam_config(folder.path(), 3, &more);
    };
    config(300);
    run_to(0, folder.path(), 1, &["-o", "first"]);
    config(100_000);
    let out = folder.path().join("second");
    let written = || std::fs::read_to_string(out.join("polls.jsonl")).unwrap_or_default().lines().count();
    common::kill_when(folder.path(), &["-o", "second", "--from", "first"], || written() > 2);
    config(500);
    run_to(0, folder.path(), 1, &["-o", "second", "--resume"]);
    let steps: Vec<i64> = polls(&out).iter().map(|poll| poll["step"].as_i64().unwrap()).collect();
    assert_eq!((steps.first(), steps.last()), (Some(&300), Some(&500)), "{steps:?}");
    assert_eq!(json(&out.join("result.json"))["continues"]["step"], 300);
}

#[test]
fn runs_that_cannot_be_continued_are_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let config = |cells: usize, more: &str| {
        eam_config(folder.path(), cells, &format!("temperature = 300\nsteps = 20\nuncertainty = \"none\"\n{more}"))
    };
    let refused = |from: &str, more: &[&str], words: &[&str]| {
        let output = run(folder.path(), 1, &[&["-o", "new", "--from", from], more].concat());
        let said = text(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?} are not in: {said}");
        assert!(!folder.path().join("new").exists());
    };
    let refused_untouched = |from: &str, words: &[&str]| {
        let before = content(&folder.path().join(from));
        refused(from, &[], words);
        assert!(content(&folder.path().join(from)) == before, "{from} has changed");
    };
    std::fs::create_dir(folder.path().join("data")).unwrap();
    config(3, "");
    refused_untouched("data", &["data", "no checkpoint"]);
    config(3, "checkpoint_interval = 0\n");
    run_to(0, folder.path(), 1, &["-o", "none"]);
    refused("none", &[], &["none", "no checkpoint", "checkpoint_interval"]);
    refused("missing", &[], &["missing", "no checkpoint"]);
    config(3, "");
    run_to(0, folder.path(), 1, &["-o", "first"]);
    config(4, "");
    refused("first", &[], &["it has other atoms", "structure"]);
    // All steps are done, or more.
    config(3, "");
    refused_untouched("first", &["first", "20 steps", "Increase it"]);
    let steps =
        |more: &str| eam_config(folder.path(), 3, &format!("temperature = 300\nuncertainty = \"none\"\n{more}"));
    steps("steps = 10\n");
    refused_untouched("first", &["20 steps", "`steps` is 10"]);
    // What acts at the start of a run would be ignored.
    steps("steps = 40\nminimize = true\n");
    refused_untouched("first", &["`minimize`"]);
    steps("steps = 40\nsetup = [\"change_box all x scale 1.02 remap\", \"compute p all pe/atom\"]\n");
    refused_untouched("first", &["`change_box all x scale 1.02 remap`"]);
    steps("steps = 40\n");
    let missing = ["--potential", "no.yaml"];
    refused("first", &missing, &["no.yaml"]);
    // It is under way.
    let lock = std::fs::File::options().append(true).open(folder.path().join("first/run.lock")).unwrap();
    lock.lock().unwrap();
    refused("first", &[], &["another process is running in first"]);
    drop(lock);
    let here = run(folder.path(), 1, &["-o", "first", "--from", "first"]);
    assert!(text(&here).contains("already holds a run"), "{}", text(&here));
    run_to(0, folder.path(), 1, &["-o", "new", "--from", "first"]);
    run_to(0, folder.path(), 1, &["-o", "other", "--from", "first"]);
    let resumed = run(folder.path(), 1, &["-o", "new", "--from", "other", "--resume"]);
    assert!(text(&resumed).contains("new does not continue the run in other"), "{}", text(&resumed));
}
