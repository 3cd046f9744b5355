// SPDX-License-Identifier: GPL-2.0-or-later
//! Several simulations in one job: `lammps-otf run --replicas R`.

mod common;

use std::path::Path;
use std::process::{Output, Stdio};

use common::{aluminium, eam_config, json, lines, mpiexec, text, write};
use lammps_otf::candidates::Store;
use serde_json::Value;

/// γ exceeds the threshold within some 30 steps at 3000 K, and never at 300 K.
const KINETIC: &str = "temperature = 3000\nsteps = 60\nsampling_interval = 10\nseed = 4\n\
                       uncertainty = { compute = \"u\" }\nuncertainty_threshold = 1.0\nuncertainty_low = 1.0\n\
                       setup = [\"compute u all ke/atom\"]\nverify = false\n";

fn run(folder: &Path, ranks: usize, replicas: usize) -> Output {
    mpiexec(ranks)
        .arg(env!("CARGO_BIN_EXE_lammps-otf"))
        .args(["run", "run.toml", "-o", "out", "--json", "--replicas", &replicas.to_string()])
        .current_dir(folder)
        .output()
        .unwrap()
}

fn result(folder: &Path, replica: usize) -> Value {
    json(&folder.join(format!("out/replica-{replica:02}/result.json")))
}

fn store(folder: &Path) -> Store {
    Store::open_existing(&folder.join("out/candidates.db")).unwrap()
}

fn add_to_config(folder: &Path, more: &str) {
    let path = folder.join("run.toml");
    std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + more).unwrap();
}

#[test]
fn replicas_have_their_own_temperature_folder_and_ranks_and_share_one_store() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    eam_config(folder, 3, KINETIC);
    add_to_config(folder, "[replicas]\ntemperatures = [3000, [250, 300]]\n");
    let output = run(folder, 4, 2);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    let said = String::from_utf8_lossy(&output.stdout);
    let printed: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (replica, status) in ["UNCERTAIN", "COMPLETED"].into_iter().enumerate() {
        let stored = result(folder, replica);
        assert_eq!((&stored["status"], stored["ranks"].as_u64()), (&status.into(), Some(2)), "{stored}");
        assert_eq!(printed[replica]["trigger_step"], stored["trigger_step"]);
        let out = folder.join(format!("out/replica-{replica:02}"));
        assert!(out.join("log.lammps").is_file() && !out.join("candidates.db").exists());
        assert_eq!(lines(&out.join("polls.jsonl")).last().unwrap()["step"], stored["steps"]);
    }
    let store = store(folder);
    let candidate = store.get(1).unwrap();
    assert_eq!(store.ids(None).unwrap(), [1]);
    assert_eq!(candidate.keys().run_id.as_deref(), Some("replica-00"));
    assert!(folder.join("out/replica-00/candidates/candidate-000001.extxyz").is_file());
}

#[test]
fn first_replica_equals_the_single_run_and_the_others_differ() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    eam_config(folder, 3, &format!("{KINETIC}novelty = 0.0\n"));
    let output = run(folder, 3, 3);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    let alone =
        common::lammps_otf().current_dir(folder).args(["run", "run.toml", "-q", "-o", "alone"]).output().unwrap();
    assert_eq!(alone.status.code(), Some(4), "{}", text(&alone));
    let polls = |path: &str| lines(&folder.join(path).join("polls.jsonl")).last().unwrap()["gamma"]["max"].clone();
    let largest = [0, 1, 2].map(|k| polls(&format!("out/replica-{k:02}")));
    assert_eq!(largest[0], polls("alone"));
    assert!(largest[0] != largest[1] && largest[1] != largest[2] && largest[0] != largest[2], "{largest:?}");
    // Without a novelty threshold each replica stores its candidate under its own id.
    let mut ids: Vec<i64> = (0..3).map(|k| result(folder, k)["candidates"][0].as_i64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!((ids, store(folder).ids(None).unwrap()), (vec![1, 2, 3], vec![1, 2, 3]));
}

#[test]
fn candidates_stored_by_one_replica_are_not_stored_by_others() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // All environments in a crystal are equal at this threshold.
    eam_config(folder, 3, &format!("{KINETIC}novelty = 1.0\n"));
    let output = run(folder, 4, 4);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    let results: Vec<Value> = (0..4).map(|k| result(folder, k)).collect();
    let count = |name: &str| {
        results
            .iter()
            .map(|r| r[name].as_array().map_or(r[name].as_u64().unwrap_or(0), |a| a.len() as u64))
            .sum::<u64>()
    };
    assert_eq!((count("candidates"), count("known")), (1, 3), "{results:?}");
    assert_eq!(store(folder).ids(None).unwrap(), [1]);
}

#[test]
fn number_of_ranks_and_length_of_lists_must_match_the_replicas() {
    let folder = tempfile::tempdir().unwrap();
    eam_config(folder.path(), 3, KINETIC);
    let refused = |ranks, replicas, words: &[&str]| {
        let output = run(folder.path(), ranks, replicas);
        let message = text(&output);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(words.iter().all(|w| message.contains(w)), "{message}");
        assert_eq!(message.matches("error:").count(), 1, "{message}");
        assert!(!folder.path().join("out").exists());
    };
    refused(3, 2, &["--replicas 2", "multiple of 2", "there are 3"]);
    // Also consecutively on one rank, for which a job is started.
    refused(1, 2, &["--replicas 2", "there are 1"]);
    refused(1, 0, &["must be 1 or more"]);
    add_to_config(folder.path(), "[replicas]\ntemperatures = [300, 400, 500]\n");
    refused(2, 2, &["`replicas.temperatures`", "a list of length 3", "one entry per replica"]);
}

#[test]
fn replica_that_cannot_begin_does_not_affect_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    eam_config(folder, 3, &format!("{KINETIC}novelty = 0.0\n"));
    write(folder, "larger.extxyz", &aluminium(4));
    add_to_config(folder, "[replicas]\nstructures = [\"al.extxyz\", \"nowhere.extxyz\", \"larger.extxyz\"]\n");
    let output = run(folder, 3, 3);
    let message = text(&output);
    // The most serious of the three.
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("replica-01: ") && message.contains("nowhere.extxyz"), "{message}");
    assert_eq!((&result(folder, 0)["atoms"], &result(folder, 2)["atoms"]), (&108.into(), &256.into()));
    assert!(!folder.join("out/replica-01").exists());
    assert_eq!(store(folder).ids(None).unwrap().len(), 2);
}

#[test]
fn rank_failure_ends_the_job_and_keeps_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // The hot replica moves into a hole of its potential, where the pair style throws on one rank. The other replica,
    // which would run for hours, has stored a candidate at its first polls.
    write(folder, "morse.table", &common::breaking::morse_table(2.3));
    write(folder, "al.extxyz", &aluminium(3));
    let config = format!(
        "structure = \"al.extxyz\"\ntemperature = 300\nsteps = 20000\nsampling_interval = 5\n\
         uncertainty = {{ compute = \"u\" }}\nuncertainty_threshold = 1e-6\nuncertainty_low = 1e-6\nmode = \"flag\"\n\
         verify = false\nnovelty = 0.0\nmax_candidates = 3\nsetup = [\"compute u all ke/atom\"]\n\
         sanity = {{ max_temperature = 1e9, max_force = 1e9 }}\n\
         [potential]\npair_style = \"table linear 2000\"\npair_coeff = [\"* * {} MORSE\"]\ncutoff = 6.0\n\
         [embedding]\nradius = 4.0\nbuffer = 3.5\n[replicas]\ntemperatures = [300, [300, 1000000]]\n",
        folder.join("morse.table").display()
    );
    write(folder, "run.toml", &config);
    let output = run(folder, 4, 2);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("failed alone at step"), "{}", text(&output));
    let store = store(folder);
    store.check().unwrap();
    let keys: Vec<_> = store.iter(None).unwrap().map(|row| row.unwrap().keys().clone()).collect();
    let of = |name: &str| keys.iter().filter(|k| k.run_id.as_deref() == Some(name)).count();
    assert!(of("replica-00") >= 1, "{keys:?}");
    assert!(of("replica-01") >= 1, "{keys:?}");
    assert_eq!(result(folder, 1)["status"], "CRASHED");
}

#[test]
fn signal_to_one_rank_stops_its_replica_only() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // During the set-up, rank 0 of each replica waits for a line of a separate pipe.
    let gate = "setup = [\"variable r getenv PMI_RANK\", \"variable g file gate-${r}\", ";
    let gated = KINETIC.replace("threshold = 1.0", "threshold = 1e9").replace("setup = [", gate);
    eam_config(folder, 3, &gated);
    let opened = |rank: usize| folder.join(format!("opened-{rank}"));
    let mut pipes: Vec<_> = [0, 2]
        .map(|rank| {
            let line = "mkfifo gate-$0 && exec 3>gate-$0 && touch opened-$0 && until [ -e go ]; do sleep 0.02; done; echo 1 >&3";
            common::limited("sh").args(["-c", line, &rank.to_string()]).current_dir(folder).spawn().unwrap()
        })
        .into();
    common::wait_for("the pipes", || [0, 2].iter().all(|rank| folder.join(format!("gate-{rank}")).exists()));
    let job = mpiexec(4)
        .arg(env!("CARGO_BIN_EXE_lammps-otf"))
        .args(["run", "run.toml", "-q", "-o", "out", "--replicas", "2"])
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A shell can open a pipe for writing once LAMMPS reads from it.
    common::wait_for("the set-up", || [0, 2].iter().all(|rank| opened(*rank).exists()));
    let pid = common::process(folder, 1).expect("rank 1 is running");
    assert!(std::process::Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap().success());
    write(folder, "go", "");
    let output = job.wait_with_output().unwrap();
    for pipe in &mut pipes {
        assert!(pipe.wait().unwrap().success());
    }
    assert_eq!(output.status.code(), Some(6), "{}", text(&output));
    let [first, second] = [0, 1].map(|k| result(folder, k));
    assert_eq!((&first["status"], &second["status"]), (&"INTERRUPTED".into(), &"COMPLETED".into()));
    assert!(first["steps"].as_i64().unwrap() < 60 && second["steps"] == 60, "{first} {second}");
}

#[test]
fn replicas_write_their_own_files() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let setup = "ke/atom\", \"dump d all custom 20 atoms.dump id x\", \"fix t all print 20 '$(step)' file told.txt";
    eam_config(folder, 3, &KINETIC.replace("temperature = 3000", "temperature = 300").replace("ke/atom", setup));
    let output = run(folder, 2, 2);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    for name in ["atoms.dump", "told.txt"] {
        assert!(!folder.join(name).exists());
        let [one, other] =
            [0, 1].map(|n| std::fs::read_to_string(folder.join(format!("replica-{n:02}-{name}"))).unwrap());
        assert!(!one.is_empty() && one.lines().count() == other.lines().count(), "{one} {other}");
    }
    // A file that would be written by all replicas is rejected before it is opened.
    write(folder, "more.in", "dump d all custom 20 shared.dump id x\n");
    eam_config(folder, 3, &KINETIC.replace("compute u all ke/atom", "compute u all ke/atom\", \"include more.in"));
    std::fs::remove_dir_all(folder.join("out")).unwrap();
    let output = run(folder, 2, 2);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("include more.in") && !folder.join("shared.dump").exists(), "{}", text(&output));
}
