// SPDX-License-Identifier: GPL-2.0-or-later
//! Any fix, compute or variable with per-atom values can be the source of γ; behaviour below, between and above the
//! thresholds.

mod common;

use std::path::Path;

use common::{eam_config, json, lammps_otf, lines, text};
use serde_json::Value;

/// Runs Al with EAM and returns the exit code, the result and the polls.
fn run(more: &str) -> (i32, Value, Vec<Value>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    eam_config(folder.path(), 3, more);
    let output = lammps_otf().current_dir(&folder).args(["run", "run.toml", "-q", "-o", "out"]).output().unwrap();
    let out = folder.path().join("out");
    assert!(out.join("result.json").is_file(), "{}", text(&output));
    (output.status.code().unwrap(), json(&out.join("result.json")), lines(&out.join("polls.jsonl")), folder)
}

/// Step, id and value of the largest value of each frame of a dump with the columns `id value`.
fn largest(dump: &Path) -> Vec<(i64, i64, f64)> {
    let text = std::fs::read_to_string(dump).unwrap();
    text.split("ITEM: TIMESTEP\n")
        .skip(1)
        .map(|frame| {
            let step = frame.lines().next().unwrap().parse().unwrap();
            let rows = frame.lines().skip(8).map(|l| l.split_once(' ').unwrap());
            let values = rows.map(|(id, v)| (id.parse::<i64>().unwrap(), v.trim().parse::<f64>().unwrap()));
            let (id, value) = values.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
            (step, id, value)
        })
        .collect()
}

/// Heats Al until a quantity that grows with temperature exceeds the threshold, and compares each poll with a dump
/// written by LAMMPS.
fn drives_a_stop(source: &str, column: &str, setup: &str, threshold: f64) {
    let (code, result, polls, folder) = run(&format!(
        "temperature = [300, 3000]\nsteps = 1000\nsampling_interval = 10\nseed = 2\nuncertainty = {source}\n\
         uncertainty_threshold = {threshold}\nuncertainty_low = {threshold}\n\
         setup = [{setup}, \"dump d all custom 10 dump id {column}\", \"dump_modify d format float %.17g\"]\n"
    ));
    let seen = largest(&folder.path().join("dump"));
    assert_eq!((code, &result["status"]), (4, &"UNCERTAIN".into()), "{result}");
    assert_eq!(polls.len(), seen.len());
    assert!(polls.len() > 3, "a few polls below the threshold come first");
    for (poll, (step, id, value)) in polls.iter().zip(&seen) {
        let gamma = &poll["gamma"];
        assert_eq!(poll["step"].as_i64(), Some(*step));
        // The JSON reader of this test can differ in the last digit.
        assert!((gamma["max"].as_f64().unwrap() - value).abs() <= 1e-15 * value.abs(), "step {step}: {gamma}, {value}");
        // In the initial crystal all values are equal up to rounding.
        assert!(*step == 0 || gamma["worst_id"].as_i64() == Some(*id), "step {step}: {gamma}, {id}");
    }
    let above: Vec<_> = seen.iter().filter(|(_, _, value)| *value > threshold).collect();
    assert_eq!(above.len(), 1, "it stops at the first");
    assert_eq!(result["trigger_step"].as_i64(), Some(above[0].0));
    assert_eq!(result["atom_id"].as_i64(), Some(above[0].1));
    assert_eq!(result["candidates"], serde_json::json!([1]));
    println!("{source}: stopped at step {} by atom {}, {}", above[0].0, above[0].1, above[0].2);
}

#[test]
fn compute_triggers_a_stop() {
    drives_a_stop("{ compute = \"u\" }", "c_u", "\"compute u all ke/atom\"", 0.5);
}

#[test]
fn compute_tallied_by_the_pair_style_triggers_a_stop() {
    drives_a_stop("{ compute = \"u\" }", "c_u", "\"compute u all centro/atom fcc\"", 6.0);
    drives_a_stop("{ variable = \"u\" }", "v_u", "\"compute pe all pe/atom\", \"variable u atom c_pe+3.41\"", 0.35);
}

#[test]
fn fix_triggers_a_stop() {
    drives_a_stop("{ fix = \"u\" }", "f_u", "\"compute ke all ke/atom\", \"fix u all ave/atom 1 10 10 c_ke\"", 0.4);
}

#[test]
fn variable_triggers_a_stop() {
    drives_a_stop("{ variable = \"u\" }", "v_u", "\"variable u atom sqrt(vx^2+vy^2+vz^2)\"", 16.0);
}

#[test]
fn unknown_name_is_rejected_before_anything_is_written() {
    for (source, setup, words) in [
        ("{ fix = \"nothing\" }", "", ["no fix `nothing`", "setup"]),
        ("{ compute = \"nothing\" }", "", ["no compute `nothing`", "setup"]),
        ("{ variable = \"nothing\" }", "", ["no variable `nothing`", "setup"]),
        // An existing name of another kind of command.
        ("{ variable = \"x\" }", "\"variable x equal 3\"", ["x", "atom-style"]),
        ("{ fix = \"xy\" }", "\"fix xy all ave/atom 1 1 5 x y\"", ["fix `xy`", "array"]),
        ("{ fix = \"v\" }", "\"fix v all ave/time 1 1 5 c_thermo_temp\"", ["per-atom", "`v`"]),
        ("{ compute = \"thermo_temp\" }", "", ["thermo_temp", "per-atom"]),
        ("\"pace\"", "", ["uncertainty", "not ML-PACE"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        eam_config(folder.path(), 3, &format!("temperature = 300\nuncertainty = {source}\nsetup = [{setup}]\n"));
        let output = lammps_otf().current_dir(&folder).args(["run", "run.toml", "-o", "out"]).output().unwrap();
        let message = text(&output);
        assert_eq!(output.status.code(), Some(2), "{source}: {message}");
        assert!(!folder.path().join("out").exists());
        for word in words {
            assert!(message.contains(word), "{source}: the message does not say {word:?}:\n{message}");
        }
    }
}

#[test]
fn run_without_uncertainty_completes_with_a_note() {
    let folder = tempfile::tempdir().unwrap();
    eam_config(folder.path(), 3, "temperature = 300\nsteps = 50\nsampling_interval = 10\nuncertainty = \"none\"\n");
    let output = lammps_otf().current_dir(&folder).args(["run", "run.toml", "-o", "out"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("not monitored"), "{}", text(&output));
    let polls = lines(&folder.path().join("out/polls.jsonl"));
    assert_eq!(polls.len(), 6);
    assert!(polls.iter().all(|p| p["gamma"].is_null() && p["verdict"] == "unwatched"), "{polls:?}");
    assert!(json(&folder.path().join("out/result.json"))["gamma_max"].is_null());
}

/// γ of atom 7 is 0.1 per step, of the others 0; at the polls 0, 1, 2, ….
fn with_steady_growth(more: &str) -> (i32, Value, Vec<Value>, tempfile::TempDir) {
    run(&format!(
        "temperature = 300\nsteps = 100\nsampling_interval = 10\nseed = 3\nuncertainty = {{ variable = \"u\" }}\n\
         uncertainty_low = 2.0\nuncertainty_threshold = 5.0\nsetup = [\"variable u atom 0.1*step*(id==7)\"]\n{more}"
    ))
}

#[test]
fn values_equal_to_the_thresholds_do_not_trigger() {
    let (code, result, polls, _folder) = with_steady_growth("");
    let verdicts: Vec<_> = polls.iter().map(|p| p["verdict"].as_str().unwrap()).collect();
    assert_eq!(
        verdicts,
        ["reliable", "reliable", "reliable", "flagged", "flagged", "flagged", "extrapolating"],
        "0 1 2 | 3 4 5 | 6"
    );
    assert_eq!((code, result["trigger_step"].as_i64(), result["atom_id"].as_i64()), (4, Some(60), Some(7)));
    assert_eq!((result["flagged"].as_i64(), &result["candidates"]), (Some(3), &serde_json::json!([1])));
}

fn steps_stored(folder: &Path) -> Vec<(i64, String)> {
    use lammps_otf::candidates::Store;
    let store = Store::open_existing(&folder.join("out/candidates.db")).unwrap();
    store.check().unwrap();
    let of = |id| {
        let candidate = store.get(id).unwrap();
        let keys = candidate.keys();
        (keys.step.unwrap(), keys.trigger.as_ref().unwrap().as_str().to_owned())
    };
    store.ids(None).unwrap().into_iter().map(of).collect()
}

#[test]
fn flagging_continues_and_stores_up_to_the_limit() {
    let (code, result, polls, folder) = with_steady_growth("mode = \"flag\"\nnovelty = 0.0\n");
    assert_eq!((code, &result["status"], polls.len()), (0, &"COMPLETED".into(), 11));
    assert_eq!(result["trigger_step"].as_i64(), Some(60), "the first");
    let steps: Vec<i64> = steps_stored(folder.path()).into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, [60, 70, 80, 90, 100]);

    let (code, result, polls, folder) = with_steady_growth("mode = \"flag\"\nnovelty = 0.0\nmax_candidates = 2\n");
    assert_eq!((code, polls.len()), (0, 11));
    assert_eq!(result["candidates"], serde_json::json!([1, 2]));
    assert_eq!(steps_stored(folder.path()).len(), 2);
}

#[test]
fn region_like_a_stored_one_is_counted_and_not_stored() {
    let (code, result, _, folder) = with_steady_growth("mode = \"flag\"\nnovelty = 2.0\n");
    assert_eq!((code, result["known"].as_i64()), (0, Some(4)), "{result}");
    assert_eq!(steps_stored(folder.path()), [(60, "gamma".to_owned())]);
}

#[test]
fn candidates_between_the_thresholds_are_stored_at_most_once_per_interval() {
    let (code, result, _, folder) = with_steady_growth("flag_interval = 20\nnovelty = 0.0\n");
    assert_eq!(code, 4, "{result}");
    let stored = steps_stored(folder.path());
    assert_eq!(stored.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [30, 50, 60]);
    assert_eq!((&stored[0].1, &stored[2].1), (&"flag".to_owned(), &"gamma".to_owned()));
}

#[test]
fn value_that_is_nan_counts_as_above_the_threshold() {
    // Infinity minus infinity from step 40, for atom 7.
    for formula in ["(1e308*v_grow)-(1e308*v_grow)", "1e308*v_grow"] {
        let (code, result, polls, _folder) = run(&format!(
            "temperature = 300\nsteps = 100\nsampling_interval = 10\nseed = 3\nuncertainty = {{ variable = \"u\" }}\n\
             uncertainty_threshold = 1e300\nuncertainty_low = 1e300\n\
             setup = [\"variable grow atom (1+99*(step>35)*(id==7))*(id==7)\", \"variable u atom ({formula})*1e-10\"]\n"
        ));
        assert_eq!((code, &result["status"]), (4, &"UNCERTAIN".into()), "{formula}: {result}");
        assert_eq!((result["trigger_step"].as_i64(), result["atom_id"].as_i64()), (Some(40), Some(7)), "{formula}");
        assert!(result["gamma_max"].is_null());
        let last = &polls.last().unwrap()["gamma"];
        assert_eq!((last["not_finite"].as_i64(), last["above_high"].as_i64()), (Some(1), Some(1)), "{last}");
        assert_eq!(result["candidates"], serde_json::json!([1]));
    }
}
