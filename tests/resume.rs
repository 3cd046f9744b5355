// SPDX-License-Identifier: GPL-2.0-or-later
//! Interrupted and resumed runs: no data are lost or duplicated, and the final state is that of an uninterrupted run.

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{dependency, eam_config, json, lammps_otf, lines, run_toml as run, succeed, text, write};
use lammps_otf::candidates::Store;

/// A run of 108 atoms with occasional flags.
const FLAGS: &str = "temperature = 600\nsampling_interval = 10\nseed = 5\nsetup = [\"compute u all ke/atom\"]\n\
                     uncertainty = { compute = \"u\" }\nuncertainty_low = 0.3\nuncertainty_threshold = 0.55\n\
                     mode = \"flag\"\nflag_interval = 100\nnovelty = 0\nverify = false\n";

fn run_to_end(folder: &Path, ranks: usize, more: &[&str]) {
    let output = run(folder, ranks, more);
    assert_eq!(output.status.code(), Some(0), "{more:?}: {}", text(&output));
}

/// All output of a run without wall times and the name of its folder.
fn output_of(out: &Path) -> (Vec<serde_json::Value>, serde_json::Value, Vec<String>) {
    let files = lammps_otf::runner::poll_files(out).unwrap();
    let mut polls: Vec<serde_json::Value> = files.iter().flat_map(|file| lines(file)).collect();
    polls.iter_mut().for_each(common::without_times);
    let mut result = json(&out.join("result.json"));
    (result["event_seconds"], result["commit_seconds"]) = (0.into(), 0.into());
    // The cost of polling is counted by each process separately.
    result["cost"] = 0.into();
    (result["seconds"], result["output"]) = (0.into(), 0.into());
    common::without_times(&mut result["last"]);
    // A run that is continued with more steps averages over other polls.
    result["averages"] = 0.into();
    let store = Store::open_existing(&out.join("candidates.db")).unwrap();
    store.check().unwrap();
    let rows = store.ids(None).unwrap();
    let rows = rows.iter().map(|&id| {
        let file = std::fs::read_to_string(out.join(format!("candidates/candidate-{id:06}.extxyz"))).unwrap();
        format!("{id} {:?} {file}", store.get(id).unwrap().candidate)
    });
    (polls, result, rows.collect())
}

/// Checks that polls, candidates, result and the last state of LAMMPS are identical, including the thermostat.
fn assert_same(folder: &Path, one: &str, other: &str, step: i64) {
    let [one, other] = [one, other].map(|name| folder.join(name));
    let (polls, result, rows) = output_of(&one);
    let (polls_too, result_too, rows_too) = output_of(&other);
    let differ = polls.iter().zip(&polls_too).find(|(a, b)| a != b);
    assert!(differ.is_none() && polls.len() == polls_too.len(), "{} {} {differ:?}", polls.len(), polls_too.len());
    assert_eq!(result, result_too);
    assert!(rows == rows_too, "the candidates differ");
    let state = |out: &Path| std::fs::read(out.join(format!("checkpoint-{step}.restart"))).unwrap();
    assert!(state(&one) == state(&other), "the restart files at step {step} differ");
    // Times have texts of different lengths, so that the same polls can fill one file more or less.
    let names = |out: &Path| -> BTreeSet<_> {
        let names = out.read_dir().unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.starts_with("polls.") || name == "polls.jsonl").collect()
    };
    assert_eq!(names(&one), names(&other), "something was left behind");
    let numbers: Vec<_> = lammps_otf::runner::poll_files(&other).unwrap();
    let expected =
        (1..numbers.len()).map(|n| other.join(format!("polls.{n}.jsonl"))).chain([other.join("polls.jsonl")]);
    assert!(numbers.iter().cloned().eq(expected), "the files of the polls are not numbered in sequence: {numbers:?}");
}

#[test]
fn resume_of_nve_and_nose_hoover_is_exact() {
    for ensemble in ["ensemble = \"nve\"\n", "ensemble = \"nvt\"\n"] {
        for ranks in [1, 2] {
            let folder = tempfile::tempdir().unwrap();
            let config = |steps| {
                let more = format!("steps = {steps}\ncheckpoint_interval = 300\n{ensemble}{FLAGS}");
                eam_config(folder.path(), 3, &more);
            };
            config(1200);
            run_to_end(folder.path(), ranks, &["-o", "whole"]);
            // Without a ramp, a run can be extended. One of 600 steps ends where the long one has a checkpoint.
            config(600);
            run_to_end(folder.path(), ranks, &["-o", "parts"]);
            config(1200);
            run_to_end(folder.path(), ranks, &["-o", "parts", "--resume"]);
            assert_same(folder.path(), "whole", "parts", 1200);
            let rows = Store::open_existing(&folder.path().join("whole/candidates.db")).unwrap().ids(None).unwrap();
            assert!(!rows.is_empty());
        }
    }
}

#[test]
fn resume_after_an_event_stops_at_the_next_one_and_reports_it() {
    let folder = tempfile::tempdir().unwrap();
    let stops = FLAGS.replace("mode = \"flag\"\nflag_interval = 100\n", "max_candidates = 1\n");
    eam_config(folder.path(), 3, &format!("steps = 100000\n{stops}"));
    let stop = |more: &[&str]| {
        let output =
            lammps_otf().current_dir(&folder).args(["run", "run.toml", "-o", "out"]).args(more).output().unwrap();
        assert_eq!(output.status.code(), Some(4), "{}", text(&output));
        let result = json(&folder.path().join("out/result.json"));
        let (step, gamma) = (result["last"]["step"].as_i64().unwrap(), &result["last"]["gamma"]);
        let (max, worst) = (gamma["max"].as_f64().unwrap(), gamma["worst_id"].as_i64().unwrap());
        let said = text(&output);
        assert!(said.contains(&format!("at step {step} at ")), "{said}");
        assert!(said.contains(&format!(": {max:.2} at atom {worst}.")), "{said}");
        (step, said, result)
    };
    let (first, said, result) = stop(&[]);
    assert!(result["candidates"] == serde_json::json!([1]) && !said.contains("no candidate was stored"), "{said}");
    let (second, said, result) = stop(&["--resume"]);
    assert!(second > first && result["trigger_step"] == first, "{result}");
    assert!(said.contains("no more candidates are stored: max_candidates = 1 is reached"), "{said}");
}

/// Kills a run on one rank as soon as `ready` returns `true`.
fn kill_when(folder: &Path, out: &str, ready: impl Fn(&Path) -> bool) {
    common::kill_when(folder, &["-o", out], || ready(&folder.join(out)));
}

/// The step of a checkpoint; 0 if there is none.
fn checkpoint(out: &Path) -> i64 {
    let Ok(text) = std::fs::read(out.join("checkpoint.json")) else { return 0 };
    serde_json::from_slice::<serde_json::Value>(&text).expect("never half a file")["step"].as_i64().unwrap()
}

#[test]
fn resume_of_a_ramp_is_exact() {
    let folder = tempfile::tempdir().unwrap();
    let ramp = FLAGS.replace("temperature = 600", "temperature = [300, 900]");
    eam_config(folder.path(), 3, &format!("steps = 4000\ncheckpoint_interval = 200\n{ramp}"));
    kill_when(folder.path(), "parts", |out| checkpoint(out) >= 400);
    assert!(checkpoint(&folder.path().join("parts")) < 4000);
    run_to_end(folder.path(), 1, &["-o", "parts", "--resume"]);
    run_to_end(folder.path(), 1, &["-o", "whole"]);
    assert_same(folder.path(), "whole", "parts", 4000);
}

#[test]
fn run_with_checkpoints_equals_plain_lmp() {
    let folder = tempfile::tempdir().unwrap();
    let dump = "setup = [\"compute u all ke/atom\", \"dump end all custom 400 dump id x y z vx vy vz\", \
                \"dump_modify end sort id format float %.17g\"]\n";
    let more = FLAGS.replace("setup = [\"compute u all ke/atom\"]\n", dump);
    eam_config(folder.path(), 3, &format!("steps = 800\ncheckpoint_interval = 250\n{more}"));
    run_to_end(folder.path(), 1, &["-o", "out"]);
    let out = folder.path().join("out");
    succeed(common::lmp().current_dir(&out).args(["-in", "md.in", "-log", "none"]));
    let dump = |folder: &Path| std::fs::read_to_string(folder.join("dump")).unwrap();
    assert_eq!(dump(folder.path()).lines().count(), 3 * 117);
    assert!(dump(folder.path()) == dump(&out), "md.in is not the run that was made");
}

#[test]
fn resume_of_a_barostat_is_within_the_stated_tolerance() {
    let folder = tempfile::tempdir().unwrap();
    let config = |steps| {
        let more = format!(
            "steps = {steps}\ncheckpoint_interval = 300\nensemble = \"npt\"\npressure = 1000\ntemperature = 600\n\
             sampling_interval = 10\nuncertainty = \"none\"\nsetup = [\"dump end all custom 600 dump id xu yu zu\", \
             \"dump_modify end sort id format float %.17g\"]\n"
        );
        eam_config(folder.path(), 3, &more);
    };
    let last = || -> Vec<f64> {
        let dump = std::fs::read_to_string(folder.path().join("dump")).unwrap();
        let lines: Vec<&str> = dump.lines().collect();
        lines[lines.len() - 108..].iter().flat_map(|l| l.split(' ').skip(1).map(|w| w.parse().unwrap())).collect()
    };
    config(600);
    run_to_end(folder.path(), 1, &["-o", "whole"]);
    let whole = last();
    config(300);
    run_to_end(folder.path(), 1, &["-o", "parts"]);
    let half = last();
    config(600);
    run_to_end(folder.path(), 1, &["-o", "parts", "--resume"]);
    let furthest = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
    let apart = furthest(&whole, &last());
    println!("after 300 steps {apart:.1e} Å apart, having moved by {:.2} Å", furthest(&whole, &half));
    assert!(furthest(&whole, &half) > 0.1 && apart < 1e-8, "{apart}");
}

#[test]
fn resume_after_the_wall_time_limit_equals_a_checkpoint_there() {
    let folder = tempfile::tempdir().unwrap();
    eam_config(folder.path(), 3, &format!("steps = 1000000\nwall_time = 0.2\n{FLAGS}"));
    let output = run(folder.path(), 1, &["-o", "parts"]);
    assert_eq!(output.status.code(), Some(6), "{}", text(&output));
    let result = json(&folder.path().join("parts/result.json"));
    assert_eq!(result["status"], "INTERRUPTED");
    let step = result["steps"].as_i64().unwrap();
    assert!(step > 0 && checkpoint(&folder.path().join("parts")) == step, "{result}");
    eam_config(folder.path(), 3, &format!("steps = {}\ncheckpoint_interval = {step}\n{FLAGS}", 2 * step));
    run_to_end(folder.path(), 1, &["-o", "parts", "--resume"]);
    run_to_end(folder.path(), 1, &["-o", "whole"]);
    assert_same(folder.path(), "whole", "parts", 2 * step);
}

#[test]
fn resume_of_ml_pace_with_gamma_is_exact() {
    let folder = tempfile::tempdir().unwrap();
    let config = |steps, engine| {
        write(folder.path(), "al.extxyz", &common::aluminium(3));
        let potential = common::root().join("potentials/al/Al.yaml");
        let text = format!(
            "structure = \"al.extxyz\"\nsteps = {steps}\ntemperature = 900\nsampling_interval = 10\nseed = 2\n\
             checkpoint_interval = 30\nuncertainty_low = 1.1\nuncertainty_threshold = 50\nflag_interval = 20\n\
             novelty = 0.05\nsetup = [\"displace_atoms all random 0.02 0.02 0.02 7\"]\n\
             [potential]\nengine = \"{engine}\"\nfile = {:?}\n[embedding]\nradius = 4.0\nbuffer = 1.0\n",
            potential.display().to_string()
        );
        write(folder.path(), "run.toml", &text);
    };
    // The evaluator of ML-PACE gives forces that differ in the last digits at a step with γ.
    for (engine, whole, parts) in [("opt", "opt", "opt-parts"), ("ml-pace", "ml-pace", "ml-pace-parts")] {
        config(150, engine);
        run_to_end(folder.path(), 1, &["-o", whole]);
        config(60, engine);
        run_to_end(folder.path(), 1, &["-o", parts]);
        config(150, engine);
        run_to_end(folder.path(), 1, &["-o", parts, "--resume"]);
        assert_same(folder.path(), whole, parts, 150);
        let result = json(&folder.path().join(whole).join("result.json"));
        assert!(
            result["flagged"].as_i64().unwrap() > 3 && !result["candidates"].as_array().unwrap().is_empty(),
            "{result}"
        );
    }
}

/// A reproducible pseudo-random sequence.
fn random(seed: &mut u64) -> f64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 11) as f64 / (1_u64 << 53) as f64
}

/// Runs until `polls` lines were printed and `pause` has passed, then sends `kill -9`. Returns the candidates
/// announced before, and whether the run had already ended.
fn killed_after(folder: &Path, polls: usize, pause: Duration) -> (Vec<i64>, bool) {
    let mut child = lammps_otf()
        .current_dir(folder)
        .args(["run", "run.toml", "-q", "-o", "killed", "--resume", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let printed = BufReader::new(child.stdout.take().unwrap());
    let seen = Arc::new(AtomicUsize::new(0));
    let reader = std::thread::spawn({
        let seen = Arc::clone(&seen);
        move || {
            let mut stored = Vec::new();
            let whole = printed.lines().map_while(Result::ok).filter_map(|l| serde_json::from_str(&l).ok());
            for line in whole {
                let line: serde_json::Value = line;
                match line["event"].as_str() {
                    Some("poll") => drop(seen.fetch_add(1, Ordering::Relaxed)),
                    Some("candidate") => stored.push(line["candidate"].as_i64().unwrap()),
                    _ => {}
                }
            }
            stored
        }
    });
    let mut through = false;
    common::wait_for("polls", || {
        if let Some(status) = child.try_wait().unwrap() {
            assert_eq!(status.code(), Some(0));
            through = true;
        }
        through || seen.load(Ordering::Relaxed) >= polls
    });
    std::thread::sleep(pause);
    let _ = child.kill();
    // It may have ended by itself.
    through |= child.wait().unwrap().success();
    (reader.join().unwrap(), through)
}

/// Number of kills in the next test; `ci/stress` sets a larger one.
fn number_of_kills() -> u32 {
    std::env::var("LAMMPS_OTF_KILLS").map_or(50, |n| n.parse().expect("a number"))
}

#[test]
fn database_left_by_a_process_killed_at_its_creation_is_an_empty_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("candidates.db");
    std::fs::write(&path, "").unwrap();
    let store = Store::open_existing(&path).unwrap();
    store.check().unwrap();
    assert!(store.ids(None).unwrap().is_empty());
}

#[test]
fn run_killed_at_random_loses_nothing_and_ends_the_same() {
    let folder = tempfile::tempdir().unwrap();
    eam_config(folder.path(), 3, &format!("steps = 3000\ncheckpoint_interval = 300\n{FLAGS}"));
    run_to_end(folder.path(), 1, &["-o", "whole"]);
    let out = folder.path().join("killed");
    let (mut seed, mut killed, mut through, mut announced) = (2026, 0, 0, BTreeSet::new());
    let (mut inside, mut torn) = (0, 0);
    while killed < number_of_kills() {
        // Of 300 polls; there is a checkpoint after every thirty. Before the first poll, the run is set up.
        let polls = (180.0 * random(&mut seed)) as usize;
        let pause = Duration::from_secs_f64(random(&mut seed) * if polls < 10 { 0.2 } else { 0.01 });
        let (told, done) = killed_after(folder.path(), polls, pause);
        announced.extend(told);
        killed += u32::from(!done);
        inside += u32::from(!done && checkpoint(&out) > 0);
        if out.join("candidates.db").exists() {
            // Opened as by another program while no process writes.
            let store = Store::open_existing(&out.join("candidates.db")).unwrap();
            store.check().unwrap();
            let rows: BTreeSet<i64> = store.ids(None).unwrap().into_iter().collect();
            assert!(announced.is_subset(&rows), "announced {announced:?}, stored {rows:?}");
            torn += u32::from(rows.len() > announced.len());
        } else {
            assert!(announced.is_empty());
        }
        if done {
            assert_same(folder.path(), "whole", "killed", 3000);
            std::fs::remove_dir_all(&out).unwrap();
            announced.clear();
            through += 1;
        }
    }
    println!(
        "{killed} kills, {inside} of them after a checkpoint, {torn} between storing and telling; {through} runs done"
    );
    run_to_end(folder.path(), 1, &["-o", "killed", "--resume"]);
    assert_same(folder.path(), "whole", "killed", 3000);
    assert!(inside > killed / 4, "most were killed before they began");
}

#[test]
fn rotated_poll_files_continue_and_the_oldest_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    // Some twenty lines in a file: a checkpoint is several files behind the current one when the run is killed.
    let many = "polls_file_size = 0.01\npolls_files = 100\ncheckpoint_interval = 1000\nsteps = 4000\n";
    eam_config(folder.path(), 3, &format!("{many}{FLAGS}"));
    run_to_end(folder.path(), 1, &["-o", "whole"]);
    let numbered = |out: &str| lammps_otf::runner::poll_files(&folder.path().join(out)).unwrap();
    assert!(numbered("whole").len() > 8, "{:?}", numbered("whole"));
    assert!(numbered("whole").iter().all(|file| file.metadata().unwrap().len() <= 10_000));
    for (behind, out) in [(1000, "one"), (2000, "two")] {
        kill_when(folder.path(), out, |out| {
            checkpoint(out) >= behind && lammps_otf::runner::poll_files(out).unwrap().len() > behind as usize / 1000 * 3
        });
        run_to_end(folder.path(), 1, &["-o", out, "--resume"]);
        assert_same(folder.path(), "whole", out, 4000);
    }
    // Only a few files remain, with the last lines.
    eam_config(
        folder.path(),
        3,
        &format!("polls_file_size = 0.01\npolls_files = 3\ncheckpoint_interval = 1000\nsteps = 4000\n{FLAGS}"),
    );
    run_to_end(folder.path(), 1, &["-o", "few"]);
    let (all, few) = (output_of(&folder.path().join("whole")).0, output_of(&folder.path().join("few")).0);
    assert!(numbered("few").len() == 3 && few[..] == all[all.len() - few.len()..], "{:?}", numbered("few"));
}

#[test]
fn changed_settings_are_reported_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let config = |more: &str| eam_config(folder.path(), 3, more);
    config(&format!("steps = 200\ncheckpoint_interval = 100\n{FLAGS}"));
    run_to_end(folder.path(), 1, &["-o", "out"]);
    let out = folder.path().join("out");
    let before = output_of(&out);
    let refused = |words: &[&str]| {
        let output = run(folder.path(), 1, &["-o", "out", "--resume"]);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?} are not in: {said}");
        assert!(output_of(&out) == before, "something has changed");
    };
    config(&format!("steps = 200\ntimestep = 0.002\n{FLAGS}").replace("600", "700"));
    refused(&["`temperature` was 600.0 and is now 700.0", "`timestep` was 0.001 and is now 0.002", "out"]);
    config(&format!("steps = 200\nensemble = \"nve\"\n{FLAGS}"));
    refused(&["`ensemble` was \"nvt\" and is now \"nve\""]);
    let path = config(&format!("steps = 200\n{FLAGS}"));
    write(folder.path(), "al.extxyz", &common::aluminium(3).replacen("Al 0 0 0", "Al 0 0 0.1", 1));
    refused(&["the content of `structure`"]);
    let text_of = std::fs::read_to_string(path).unwrap();
    config(&format!("steps = 200\n{FLAGS}"));
    // Another potential of the same kind.
    let other = dependency("share/lammps/potentials/AlCu.eam.alloy");
    let line = format!("pair_coeff = [\"* * {} Al\"]", other.display());
    let another: String = text_of
        .lines()
        .map(|l| if l.starts_with("pair_coeff") { line.clone() } else { l.replace("eam/fs", "eam/alloy") } + "\n")
        .collect();
    write(folder.path(), "run.toml", &another);
    refused(&["the content of `potential`"]);
    // Settings that do not affect the trajectory can change, and a completed run remains completed.
    config(&format!("steps = 200\n{FLAGS}").replacen("novelty = 0\n", "novelty = 0.5\n", 1));
    run_to_end(folder.path(), 1, &["-o", "out", "--resume"]);
    assert!(output_of(&out) == before, "something has changed");
    // Another number of ranks is allowed and reported.
    run_to_end(folder.path(), 2, &["-o", "out", "--resume"]);
    let warnings = json(&out.join("result.json"))["warnings"].to_string();
    assert!(warnings.contains("started on 1 ranks and resumed on 2"), "{warnings}");
}

#[test]
fn existing_run_requires_resume_and_resume_can_begin_a_run() {
    let folder = tempfile::tempdir().unwrap();
    eam_config(folder.path(), 3, &format!("steps = 50\n{FLAGS}"));
    // In an empty folder the run begins, so that a job script can always use --resume.
    run_to_end(folder.path(), 1, &["-o", "out", "--resume"]);
    let output = run(folder.path(), 1, &["-o", "out"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("--resume"), "{}", text(&output));
    // A folder with other content is rejected.
    std::fs::create_dir(folder.path().join("other")).unwrap();
    write(&folder.path().join("other"), "thesis.tex", "");
    let output = run(folder.path(), 1, &["-o", "other", "--resume"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("no checkpoint.json"), "{}", text(&output));
    for (content, word) in
        [("{", "EOF"), ("{\"format\": 99, \"version\": \"7.0\"}", "format 99, written by version \"7.0\"")]
    {
        write(&folder.path().join("out"), "checkpoint.json", content);
        let output = run(folder.path(), 1, &["-o", "out", "--resume"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output).contains(word) && !text(&output).contains("panicked"), "{}", text(&output));
    }
}

#[test]
fn second_process_in_one_folder_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    eam_config(folder.path(), 3, &format!("steps = 10000000\n{FLAGS}"));
    let polls: PathBuf = folder.path().join("out/polls.jsonl");
    let mut first = lammps_otf().current_dir(&folder).args(["run", "run.toml", "-q", "-o", "out"]).spawn().unwrap();
    common::wait_for("polls", || polls.metadata().is_ok_and(|m| m.len() > 0));
    let output = run(folder.path(), 1, &["-o", "out", "--resume"]);
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("another process is running"), "{}", text(&output));
}

#[test]
fn template_without_restart_is_rejected_with_the_missing_line() {
    let folder = tempfile::tempdir().unwrap();
    let template = std::fs::read_to_string(common::root().join("templates/md.in.j2")).unwrap();
    let choice =
        "{%- if restart %}\nread_restart    {{ restart }}\n{%- else %}\nread_data       {{ data }}\n{%- endif %}";
    assert!(template.contains(choice));
    let without = template.replace(choice, "read_data       {{ data }}");
    write(folder.path(), "my.j2", &without);
    let config = |steps| eam_config(folder.path(), 3, &format!("steps = {steps}\ntemplate = \"my.j2\"\n{FLAGS}"));
    config(50);
    run_to_end(folder.path(), 1, &["-o", "out"]);
    config(100);
    let output = run(folder.path(), 1, &["-o", "out", "--resume"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("read_restart {{ restart }}"), "{}", text(&output));
}

#[test]
fn resume_keeps_fixed_atoms_and_groups_of_the_start() {
    // Atoms fixed by the structure, and a group by position, which atoms leave and enter.
    let folder = tempfile::tempdir().unwrap();
    let config = |steps: u64| {
        let own = "\"region low block INF INF INF INF -1 4\", \"group low region low\", \"fix push low addforce 0.05 0 0.05\", \
                   \"compute u all ke/atom\"";
        let more = FLAGS.replace("\"compute u all ke/atom\"", own).replace("0.55", "9.9");
        eam_config(folder.path(), 3, &format!("steps = {steps}\ncheckpoint_interval = 300\n{more}"));
        let crystal = common::aluminium(3).replace("pos:R:3", "pos:R:3:move_mask:L:1");
        let rows = crystal.lines().enumerate().map(|(i, line)| match i {
            0 | 1 => format!("{line}\n"),
            _ => format!("{line} {}\n", if i % 4 == 3 { 'F' } else { 'T' }),
        });
        write(folder.path(), "al.extxyz", &rows.collect::<String>());
    };
    config(900);
    run_to_end(folder.path(), 1, &["-o", "whole"]);
    config(600);
    run_to_end(folder.path(), 1, &["-o", "parts"]);
    config(900);
    run_to_end(folder.path(), 1, &["-o", "parts", "--resume"]);
    assert_same(folder.path(), "whole", "parts", 900);
    // With other fixed atoms it is another run.
    let moved = std::fs::read_to_string(folder.path().join("al.extxyz")).unwrap().replacen(" F\n", " T\n", 1);
    write(folder.path(), "al.extxyz", &moved);
    let output = run(folder.path(), 1, &["-o", "parts", "--resume"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("`structure` is different"), "{}", text(&output));
}

/// Commands of `setup` that write files beside the run, one in a line. LAMMPS would overwrite each file.
const WRITES: &str = "dump atoms all custom 20 atoms.dump id x y z vx\", \"dump_modify atoms sort id\", \"dump frames all xyz 40 frames.xyz\", \
                      \"fix average all ave/time 10 2 20 c_thermo_temp file average.txt\", \
                      \"fix each all ave/time 1 1 10 c_thermo_temp file each.txt\", \
                      \"fix told all print 20 'step $(step) T $(temp)' file told.txt screen no\", \"write_data begin.data nocoeff";
const WRITTEN: [&str; 6] = ["atoms.dump", "frames.xyz", "average.txt", "each.txt", "told.txt", "begin.data"];

fn writing(folder: &Path, steps: u32, every: u32) {
    let setup = format!("setup = [\"compute u all ke/atom\", \"{WRITES}\"]\n");
    let more = FLAGS.replace("setup = [\"compute u all ke/atom\"]\n", &setup);
    assert_ne!(more, FLAGS);
    eam_config(folder, 3, &format!("steps = {steps}\ncheckpoint_interval = {every}\n{more}"));
}

#[test]
fn files_of_the_setup_continue_at_the_checkpoint() {
    let files = |folder: &Path| WRITTEN.map(|name| (name, std::fs::read_to_string(folder.join(name)).unwrap()));
    let same = |one: &Path, other: &Path| {
        for ((name, one), (_, other)) in files(one).into_iter().zip(files(other)) {
            let differ = one.lines().zip(other.lines()).enumerate().find(|(_, (a, b))| a != b);
            assert!(one == other, "{name}: {} and {} lines, {differ:?}", one.lines().count(), other.lines().count());
        }
    };
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    writing(whole.path(), 600, 200);
    run_to_end(whole.path(), 1, &["-o", "out"]);
    assert!(files(whole.path())[0].1.contains("TIMESTEP\n600\n"), "nothing was written");
    // A completed run that is extended twice.
    for steps in [200, 400, 600] {
        writing(parts.path(), steps, 200);
        run_to_end(parts.path(), 1, &["-o", "out", "--resume"]);
    }
    same(whole.path(), parts.path());

    // Killed before the first checkpoint and after one: the output after the checkpoint is written again.
    writing(whole.path(), 3000, 1000);
    run_to_end(whole.path(), 1, &["-o", "long"]);
    let killed = tempfile::tempdir().unwrap();
    let kill_after = |step: u32| {
        let mut child =
            lammps_otf().current_dir(&killed).args(["run", "run.toml", "-q", "-o", "out", "--resume"]).spawn().unwrap();
        let frame = format!("TIMESTEP\n{step}\n");
        let dumped =
            || std::fs::read_to_string(killed.path().join("atoms.dump")).is_ok_and(|text| text.contains(&frame));
        // It may end before, on a busy machine.
        common::wait_for("the frame", || dumped() || child.try_wait().unwrap().is_some());
        let _ = child.kill();
        child.wait().unwrap();
    };
    writing(killed.path(), 100_000_000, 0);
    kill_after(300);
    writing(killed.path(), 1000, 1000);
    let output = run(killed.path(), 1, &["-o", "out", "--resume"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("out has no checkpoint; the run starts again at its first step"), "{said}");
    writing(killed.path(), 3000, 1000);
    kill_after(1300);
    run_to_end(killed.path(), 1, &["-o", "out", "--resume"]);
    same(whole.path(), killed.path());
}

#[test]
fn files_of_the_setup_in_other_folders_are_rejected_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "more.in", "fix told all print 20 hello file told.txt\n");
    let config = |steps: u32| {
        let more = FLAGS.replace("ke/atom\"]\n", "ke/atom\", \"include more.in\"]\n");
        eam_config(folder.path(), 3, &format!("steps = {steps}\n{more}"));
    };
    config(100);
    run_to_end(folder.path(), 1, &["-o", "out"]);
    let told = std::fs::read_to_string(folder.path().join("told.txt")).unwrap();
    config(200);
    let output = run(folder.path(), 1, &["-o", "out", "--resume"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("include more.in") && text(&output).contains("append"), "{}", text(&output));
    assert_eq!(std::fs::read_to_string(folder.path().join("told.txt")).unwrap(), told);
    // As the message recommends.
    write(folder.path(), "more.in", "fix told all print 20 hello append told.txt\n");
    run_to_end(folder.path(), 1, &["-o", "out", "--resume"]);
    assert!(std::fs::read_to_string(folder.path().join("told.txt")).unwrap().starts_with(&told));
}

#[test]
fn doctor_overwrites_no_files() {
    let folder = tempfile::tempdir().unwrap();
    writing(folder.path(), 100, 0);
    WRITTEN.iter().for_each(|name| drop(write(folder.path(), name, "precious")));
    let output = lammps_otf().current_dir(&folder).args(["doctor", "run.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("steps succeeded; at the start"), "{}", text(&output));
    for name in WRITTEN {
        assert_eq!(std::fs::read_to_string(folder.path().join(name)).unwrap(), "precious", "{name}");
    }
}

#[test]
fn gamma_that_is_not_finite_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let config = |steps: u32| {
        let setup = "setup = [\"variable g atom exp(1000*(id<=3)*(step>15))\"]\nuncertainty = { variable = \"g\" }\n";
        let more =
            format!("temperature = 300\nsampling_interval = 20\nmode = \"flag\"\ncheckpoint_interval = 20\n{setup}");
        eam_config(folder.path(), 3, &format!("steps = {steps}\n{more}"));
    };
    config(40);
    run_to_end(folder.path(), 1, &["-o", "out"]);
    let out = folder.path().join("out");
    let gamma = &lines(&out.join("polls.jsonl"))[2]["gamma"];
    assert!(gamma["max"].is_null() && gamma["q99"].is_null() && gamma["not_finite"] == 3, "{gamma}");
    // The poll of the event is shown.
    let watched = succeed(lammps_otf().current_dir(&folder).args(["watch", "--once", "out"]));
    assert!(watched.contains("step 40") && watched.contains("γ_max inf at atom 1"), "{watched}");
    let reported = lammps_otf().current_dir(&folder).args(["report", "out"]).output().unwrap();
    assert_eq!(reported.status.code(), Some(0));
    assert!(!text(&reported).contains("could not be read"), "{}", text(&reported));
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(!page.contains("could not be read"));
    config(80);
    run_to_end(folder.path(), 1, &["-o", "out", "--resume"]);
    assert_eq!(lines(&out.join("polls.jsonl")).len(), 5);
}

#[test]
fn time_of_a_resumed_run_is_that_of_lammps() {
    for setup in ["fix dr all dt/reset 10 1.0e-5 0.0005 0.001 units box", "timestep 0.0002"] {
        let folder = tempfile::tempdir().unwrap();
        let config = |steps: u32| {
            let more = FLAGS.replace(
                "setup = [",
                &format!("setup = [\"{setup}\", \"fix t all print 20 '$(step) $(time:%.17g)' append times.txt\", "),
            );
            eam_config(folder.path(), 3, &format!("steps = {steps}\ncheckpoint_interval = 100\n{more}"));
        };
        config(200);
        run_to_end(folder.path(), 1, &["-o", "whole"]);
        let polled: Vec<(i64, f64)> = lines(&folder.path().join("whole/polls.jsonl"))
            .iter()
            .map(|poll| (poll["step"].as_i64().unwrap(), poll["time"].as_f64().unwrap()))
            .collect();
        assert_eq!((polled[0], polled.len()), ((0, 0.0), 21));
        assert!(polled[20].1 < 0.1, "{setup}: {polled:?}");
        let printed = std::fs::read_to_string(folder.path().join("times.txt")).unwrap();
        let printed: Vec<(i64, f64)> = printed
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_once(' ').unwrap())
            .map(|(step, time)| (step.parse().unwrap(), time.parse().unwrap()))
            .collect();
        assert!(printed.len() >= 10, "{printed:?}");
        for (step, time) in printed {
            let poll = polled.iter().find(|(at, _)| *at == step).unwrap();
            assert!((poll.1 - time).abs() < 1e-12, "{setup}: {poll:?} {time}");
        }
        config(100);
        run_to_end(folder.path(), 1, &["-o", "parts"]);
        config(200);
        run_to_end(folder.path(), 1, &["-o", "parts", "--resume"]);
        for (poll, (step, time)) in lines(&folder.path().join("parts/polls.jsonl")).iter().zip(&polled) {
            assert_eq!(poll["step"].as_i64(), Some(*step));
            assert!((poll["time"].as_f64().unwrap() - time).abs() < 1e-12, "{setup}: {poll} {time}");
        }
    }
}

/// Stops at its first event.
fn stopping(folder: &Path, embedding: &str) {
    let stops = FLAGS.replace("mode = \"flag\"\nflag_interval = 100\n", "");
    let path = eam_config(folder, 3, &format!("steps = 1000\n{stops}"));
    let config = std::fs::read_to_string(&path).unwrap() + embedding;
    write(folder, "run.toml", &config);
}

#[test]
fn event_whose_extraction_failed_is_processed_after_resume() {
    let folder = tempfile::tempdir().unwrap();
    let go_on = |code: i32, more: &[&str]| {
        let output = run(folder.path(), 1, more);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        json(&folder.path().join("out/result.json"))
    };
    // Nearest neighbours are treated as overlapping.
    stopping(folder.path(), "min_distance = 3.5\n");
    let first = go_on(4, &["-o", "out"]);
    let warnings = first["warnings"].to_string();
    assert!(
        first["candidates"].as_array().unwrap().is_empty() && warnings.contains("closer than the limit"),
        "{first}"
    );
    stopping(folder.path(), "");
    let second = go_on(0, &["-o", "out", "--resume"]);
    assert_eq!(second["candidates"], serde_json::json!([1]), "{second}");
    let store = Store::open_existing(&folder.path().join("out/candidates.db")).unwrap();
    assert_eq!(store.get(1).unwrap().keys().step, first["trigger_step"].as_i64(), "{first}");
    // Only once.
    let third = go_on(0, &["-o", "out", "--resume"]);
    assert_eq!(third["candidates"], serde_json::json!([1]), "{third}");
}

#[test]
fn event_with_too_many_atoms_stores_a_candidate() {
    let stored = |embedding: &str| {
        let folder = tempfile::tempdir().unwrap();
        stopping(folder.path(), embedding);
        let output = run(folder.path(), 1, &["-o", "out"]);
        assert_eq!(output.status.code(), Some(4), "{}", text(&output));
        let store = Store::open_existing(&folder.path().join("out/candidates.db")).unwrap();
        (store.get(1).unwrap(), json(&folder.path().join("out/result.json"))["warnings"].to_string())
    };
    let (whole, warnings) = stored("");
    assert_eq!((whole.keys().radius, warnings.as_str()), (Some(4.0), "[]"));
    // In the initial crystal, fewer atoms are within the radius.
    let atoms = whole.candidate.structure.len();
    let (smaller, warnings) = stored(&format!("max_atoms = {}\n", atoms - 1));
    assert!(smaller.candidate.structure.len() < atoms && smaller.keys().radius.unwrap() < 4.0, "{:?}", smaller.keys());
    assert_eq!(smaller.keys().buffer, whole.keys().buffer);
    assert!(warnings.contains("so that the cut-out has at most max_atoms"), "{warnings}");
    assert!(!smaller.keys().extra.contains_key("oversized"));
}

#[test]
fn a_glance_at_the_lock_does_not_refuse_a_run() {
    let folder = tempfile::tempdir().unwrap();
    eam_config(folder.path(), 3, "steps = 20\ntemperature = 300\nuncertainty = \"none\"\n");
    run_to_end(folder.path(), 1, &["-o", "out"]);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // As a report that follows the run, but longer and more often.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let lock = std::fs::File::open(folder.path().join("out/run.lock")).unwrap();
                let _ = lock.try_lock_shared();
                std::thread::sleep(Duration::from_millis(1));
                drop(lock);
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        let outputs: Vec<Output> = (0..10).map(|_| run(folder.path(), 1, &["-o", "out", "--resume"])).collect();
        done.store(true, Ordering::Relaxed);
        outputs.iter().for_each(|output| assert_eq!(output.status.code(), Some(0), "{}", text(output)));
    });
}
