// SPDX-License-Identifier: GPL-2.0-or-later
//! Termination of a run from outside, and the output available during the run.

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{dependency, eam_config, json, lammps_otf, lines, text, wait_for};
use lammps_otf::candidates::Store;

/// More steps than a test can wait for.
const LONG: &str = "temperature = 600\nsteps = 100000000\nseed = 5\nsetup = [\"compute u all ke/atom\"]\n\
                    uncertainty = { compute = \"u\" }\nuncertainty_low = 0.2\nuncertainty_threshold = 1e9\n\
                    flag_interval = 100\nverify = false\n";

fn start(folder: &Path, ranks: usize, more: &[&str]) -> Child {
    let mut command = match ranks {
        1 => lammps_otf(),
        _ => {
            let mut command = Command::new(dependency("bin/mpiexec"));
            command.args(["-n", &ranks.to_string()]).arg(env!("CARGO_BIN_EXE_lammps-otf"));
            command
        }
    };
    command.current_dir(folder).args(["run", "run.toml", "-o", "out"]).args(more);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap().success());
}

/// The exit code.
fn exit_code(mut child: Child) -> (Option<i32>, String) {
    wait_for("the end", || child.try_wait().unwrap().is_some());
    let output = child.wait_with_output().unwrap();
    (output.status.code(), text(&output))
}

/// Checks that everything is written and belongs to one step.
fn check_output(out: &Path) -> i64 {
    let result = json(&out.join("result.json"));
    assert_eq!(result["status"], "INTERRUPTED", "{result}");
    let step = result["steps"].as_i64().unwrap();
    let polls = lines(&out.join("polls.jsonl"));
    let steps: Vec<i64> = polls.iter().map(|p| p["step"].as_i64().unwrap()).collect();
    assert!(steps.windows(2).all(|w| w[1] == w[0] + 10), "{steps:?}");
    assert_eq!(steps.last(), Some(&step));
    assert_eq!(json(&out.join("checkpoint.json"))["step"], step);
    assert!(out.join(format!("checkpoint-{step}.restart")).is_file());
    let store = Store::open_existing(&out.join("candidates.db")).unwrap();
    store.check().unwrap();
    let ids: Vec<i64> = result["candidates"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
    assert!(!ids.is_empty());
    assert_eq!(store.ids(None).unwrap(), ids);
    step
}

#[test]
fn signal_stops_at_the_next_poll_with_everything_written() {
    for ranks in [1, 2] {
        for name in ["INT", "TERM"] {
            let folder = tempfile::tempdir().unwrap();
            eam_config(folder.path(), 3, &format!("sampling_interval = 10\n{LONG}"));
            let out = folder.path().join("out");
            let child = start(folder.path(), ranks, &["-q"]);
            wait_for("the first candidate", || out.join("candidates/candidate-000001.extxyz").is_file());
            signal(&child, name);
            let (code, said) = exit_code(child);
            assert_eq!(code, Some(6), "{name} on {ranks} ranks: {said}");
            let step = check_output(&out);
            // The run can be resumed.
            let short = format!("sampling_interval = 10\n{LONG}").replace("100000000", &(step + 20).to_string());
            eam_config(folder.path(), 3, &short);
            let child = start(folder.path(), ranks, &["-q", "--resume"]);
            let (code, said) = exit_code(child);
            assert_eq!(code, Some(0), "{said}");
            let polls = lines(&out.join("polls.jsonl"));
            assert_eq!(polls.len() as i64, step / 10 + 3, "no poll is missing, none is there twice");
        }
    }
}

#[test]
fn wall_time_limit_stops_like_a_signal() {
    for ranks in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        eam_config(folder.path(), 3, &format!("sampling_interval = 10\nwall_time = 0.5\n{LONG}"));
        let (code, said) = exit_code(start(folder.path(), ranks, &[]));
        assert_eq!(code, Some(6), "{said}");
        assert!(said.contains("Interrupted after"), "{said}");
        check_output(&folder.path().join("out"));
    }
}

#[test]
fn second_signal_ends_immediately() {
    for ranks in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        // No poll for hours, and nothing to store at the first one.
        let never = LONG.replace("uncertainty_low = 0.2", "uncertainty_low = 1e9");
        eam_config(folder.path(), 3, &format!("sampling_interval = 50000000\n{never}"));
        let polls = folder.path().join("out/polls.jsonl");
        let mut child = start(folder.path(), ranks, &["-q"]);
        wait_for("the first poll", || polls.metadata().is_ok_and(|m| m.len() > 0));
        std::thread::sleep(Duration::from_millis(300));
        signal(&child, "TERM");
        // Two signals sent immediately after each other can arrive as one.
        std::thread::sleep(Duration::from_millis(300));
        assert!(child.try_wait().unwrap().is_none(), "the first signal waits for a poll");
        signal(&child, "TERM");
        let (code, said) = exit_code(child);
        assert_eq!(code, Some(128 + 15), "on {ranks} ranks: {said}");
        assert!(!folder.path().join("out/result.json").exists());
        // The run can be resumed: the first checkpoint is written at its start.
        assert_eq!(json(&folder.path().join("out/checkpoint.json"))["step"], 0);
    }
}

#[test]
fn events_are_printed_as_json_lines_during_the_run() {
    for ranks in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        eam_config(folder.path(), 3, &format!("sampling_interval = 10\n{LONG}"));
        let mut child = start(folder.path(), ranks, &["--json"]);
        let mut printed = BufReader::new(child.stdout.take().unwrap()).lines().map(|l| l.unwrap());
        let mut events: Vec<serde_json::Value> = Vec::new();
        // The events are printed during the run, which would not end by itself.
        while events.iter().filter(|e| e["event"] == "poll").count() < 20
            || !events.iter().any(|e| e["event"] == "candidate")
        {
            events.push(serde_json::from_str(&printed.next().unwrap()).expect("nothing but JSON on standard output"));
        }
        signal(&child, "INT");
        events.extend(
            printed.filter(|l| ranks == 1 || !l.starts_with("[mpiexec")).map(|l| serde_json::from_str(&l).unwrap()),
        );
        assert_eq!(exit_code(child).0, Some(6));
        let of = |name: &str| -> Vec<serde_json::Value> {
            let mut some: Vec<_> = events.iter().filter(|e| e["event"] == name).cloned().collect();
            some.iter_mut().for_each(|e| drop(e.as_object_mut().unwrap().remove("event")));
            some
        };
        let out = folder.path().join("out");
        assert_eq!(of("poll"), lines(&out.join("polls.jsonl")));
        let result = json(&out.join("result.json"));
        assert_eq!(of("result"), std::slice::from_ref(&result));
        assert_eq!(events.last().unwrap()["event"], "result");
        let stored = of("candidate");
        let ids: Vec<_> = stored.iter().map(|e| e["candidate"].clone()).collect();
        assert_eq!(ids, *result["candidates"].as_array().unwrap());
        for event in &stored {
            assert!(folder.path().join(event["file"].as_str().unwrap()).is_file(), "{event}");
            assert!(event["trigger"] == "flag" && event["gamma"].as_f64().unwrap() > 0.2, "{event}");
        }
    }
}

#[test]
fn closed_output_pipe_does_not_stop_the_run() {
    let folder = tempfile::tempdir().unwrap();
    eam_config(folder.path(), 3, &format!("sampling_interval = 10\n{LONG}").replace("100000000", "500"));
    let mut child = start(folder.path(), 1, &["--json"]);
    drop(child.stdout.take());
    let (code, said) = exit_code(child);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(lines(&folder.path().join("out/polls.jsonl")).len(), 51);
}
