// SPDX-License-Identifier: GPL-2.0-or-later
//! Labelling of several candidates of a loop: programs in parallel, batches, and external workers, some of which are killed.

mod common;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use common::{aluminium, dependency, lammps_otf, root, script, text, wait_for, write};
use lammps_otf::candidates::{KeyValue, Phase, Round, Status, Store, StoredCandidate};

/// Labels one structure and appends the id of its candidate to the file `calls`: label.sh INPUT OUTPUT. The forces are a hundredth of
/// the positions. Lines in place of `# before` run before it, with the id in `$id`.
const LABEL: &str = r##"#!/bin/sh
id=$(sed -n '2s/.* candidate=\([0-9]*\).*/\1/p' "$1")
echo "$id" >>calls
# before
awk 'left == 0 { left = $1 + 1; header = 1; print; next }
     { left-- }
     header { header = 0; sub(/Properties=[^ ]*/, "&:forces:R:3"); print $0 " energy=-1.5"; next }
     { print $0, $2 * 0.01, $3 * 0.01, $4 * 0.01 }' "$1" >"$2"
"##;

/// Copies the current potential to the output, which the trial of the loop rejects.
const COPY: &str = r#"command = ["sh", "-c", "cp \"$0\" \"$2/potential.yaml\" && cp \"$1\" \"$2/potential.asi\" && echo '{\"accepted\": true}' > \"$2/report.json\" # {labelled}", "{potential}", "{active_set}", "{output}"]"#;

/// A loop that ends after the labels of its first round, with the table `oracle`.
fn config(folder: &Path, oracle: &str) -> PathBuf {
    write(folder, "al.extxyz", &aluminium(4));
    let potential = root().join("potentials/al/Al.yaml");
    let toml = format!(
        "structure = \"al.extxyz\"\ntemperature = 1500\nsteps = 400\nsampling_interval = 10\nseed = 3\n\
         uncertainty_low = 1.5\nuncertainty_threshold = 2.0\n[potential]\nfile = {potential:?}\n\
         [embedding]\nradius = 3.0\n[loop]\nbatch = 5\nevent_spacing = 50\nselect = 4\nmax_rounds = 1\noracle_difference = 0\n[loop.oracle]\n{oracle}\n\
         [loop.trainer]\n{COPY}\n"
    );
    write(folder, "loop.toml", &toml)
}

/// An oracle that runs [`LABEL`] with lines before the label.
fn labelled_by(folder: &Path, before: &str, more: &str) {
    write(folder, "label.sh", &LABEL.replace("# before", before));
    config(
        folder,
        &format!("type = \"command\"\ncommand = [\"sh\", \"label.sh\", \"{{input}}\", \"{{output}}\"]\n{more}"),
    );
}

/// Starts the loop.
fn spawn(folder: &Path) -> Child {
    let mut command = lammps_otf();
    command.current_dir(folder).args(["loop", "loop.toml", "-o", "out", "--json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until a process ends.
fn finish(mut process: Child) -> Output {
    wait_for("a process", || process.try_wait().unwrap().is_some());
    process.wait_with_output().unwrap()
}

/// Runs the loop, which must end with this outcome and code.
fn run_until(folder: &Path, outcome: &str, code: i32) {
    let output = finish(spawn(folder));
    assert_eq!(output.status.code(), Some(code), "{}", text(&output));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let result: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let found = &result["outcome"];
    assert!(found == outcome || found.get(outcome).is_some(), "{result}");
}

fn store(folder: &Path) -> Store {
    Store::open_existing(&folder.join("out/candidates.db")).unwrap()
}

fn first_round(folder: &Path) -> Round {
    store(folder).rounds().unwrap().swap_remove(0)
}

/// The selected candidates.
fn selected(folder: &Path) -> Vec<StoredCandidate> {
    let store = store(folder);
    let ids = first_round(folder).selected;
    assert!(ids.len() >= 4 && store.ids(None).unwrap().len() > ids.len(), "{ids:?}");
    ids.iter().map(|&id| store.get(id).unwrap()).collect()
}

fn statuses(folder: &Path) -> Vec<Option<Status>> {
    selected(folder).iter().map(|row| row.status).collect()
}

/// All rows without their times and workers.
fn state(folder: &Path) -> Vec<String> {
    let store = store(folder);
    let rows = store.iter(None).unwrap().map(Result::unwrap).map(|row| {
        let labels = row.candidate.labels.as_ref().map(|labels| {
            let forces: Vec<u64> = labels.forces.iter().map(|x| x.to_bits()).collect();
            (labels.energy.to_bits(), forces, labels.stress, labels.calculator.clone())
        });
        let what = (&row.status, row.attempts, &row.message, &row.error_log, row.keys());
        format!("{} {what:?} {labels:?} {:?}", row.id, row.candidate.structure.positions)
    });
    rows.collect()
}

/// How often each candidate was labelled.
fn calls(folder: &Path) -> BTreeMap<i64, usize> {
    let mut calls = BTreeMap::new();
    for id in std::fs::read_to_string(folder.join("calls")).unwrap_or_default().split_whitespace() {
        *calls.entry(id.parse().unwrap()).or_default() += 1;
    }
    calls
}

fn signal(name: &str, process: u32) {
    common::succeed(Command::new("kill").args([&format!("-{name}"), &process.to_string()]));
}

#[test]
fn labels_in_parallel_equal_those_one_after_another() {
    let run_with = |before: &str, more: &str| {
        let folder = tempfile::tempdir().unwrap();
        labelled_by(folder.path(), before, more);
        run_until(folder.path(), "refused", 4);
        assert!(calls(folder.path()).values().all(|&times| times == 1));
        (state(folder.path()), first_round(folder.path()), folder)
    };
    let first = run_with("", "");
    let ids = first.1.selected;
    assert!(ids.len() >= 3 && first.1.failed == 0, "{ids:?}");
    let fails = format!("[ $id != {} ] || {{ echo no convergence; exit 7; }}", ids[1]);
    let (one, round, _) = run_with(&fails, "");
    assert_eq!((round.labelled, round.failed), (ids.len() - 1, 1));
    // The first candidate is finished after the last one.
    let (first, last) = (ids[0], ids[ids.len() - 1]);
    let reversed = format!(
        "{fails}\n[ $id != {first} ] || while [ ! -e last ]; do sleep 0.05; done\n[ $id != {last} ] || (sleep 0.2; touch last) &"
    );
    let (three, round, _) = run_with(&reversed, "parallel = 3");
    assert_eq!((round.labelled, round.failed), (ids.len() - 1, 1));
    for (a, b) in one.iter().zip(&three) {
        assert_eq!(a, b);
    }
    assert_eq!(one.len(), three.len());
}

#[test]
fn interrupt_ends_all_programs_and_releases_their_candidates() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    labelled_by(folder, "echo $$ >>programs; sleep 100000", "parallel = 3");
    let mut job = spawn(folder);
    let programs = || std::fs::read_to_string(folder.join("programs")).unwrap_or_default();
    wait_for("three programs", || programs().lines().count() == 3 || job.try_wait().unwrap().is_some());
    // Only the candidates that are being labelled are claimed.
    assert_eq!(statuses(folder).iter().filter(|status| **status == Some(Status::RunningDft)).count(), 3);
    signal("TERM", job.id());
    let output = finish(job);
    assert_eq!(output.status.code(), Some(6), "{}", text(&output));
    for process in programs().lines() {
        assert!(!Path::new("/proc").join(process).exists(), "{process} still runs");
    }
    assert!(statuses(folder).iter().all(|status| *status == Some(Status::PendingDft)));
    labelled_by(folder, "", "parallel = 3");
    run_until(folder, "refused", 4);
    assert!(statuses(folder).iter().all(|status| *status == Some(Status::Done)));
}

/// A batch oracle with EMT that changes its frames.
fn batch(folder: &Path, change: &str, more: &str) {
    let (python, oracle) = (dependency("bin/python3"), script("batch_oracle.py"));
    let command = format!("command = [{python:?}, {oracle:?}, \"{{input}}\", \"{{output}}\", \"calls\", {change:?}]");
    config(folder, &format!("type = \"command\"\n{command}\nbatch = true\n{more}"));
}

#[test]
fn batch_is_labelled_by_one_program_in_any_order() {
    for (change, more, programs) in [
        ("frames.reverse()", "", 1),
        ("[atoms.info.clear() for atoms in frames]", "", 1),
        // Of two frames of a candidate, the last is used.
        ("frames.insert(0, frames[0].copy())", "parallel = 2", 2),
    ] {
        let folder = tempfile::tempdir().unwrap();
        batch(folder.path(), change, more);
        run_until(folder.path(), "refused", 4);
        assert!(statuses(folder.path()).iter().all(|status| *status == Some(Status::Done)), "{change}");
        let calls = std::fs::read_to_string(folder.path().join("calls")).unwrap();
        let ids: Vec<i64> = calls.split_whitespace().map(|id| id.parse().unwrap()).collect();
        assert_eq!(calls.lines().count(), programs, "{change}");
        let mut wanted = first_round(folder.path()).selected;
        let mut found = ids.clone();
        wanted.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, wanted);
        let database = folder.path().join("out/candidates.db");
        common::succeed(common::python().arg(script("check_emt.py")).arg(database));
    }
}

#[test]
fn bad_frames_of_a_batch_fail_alone_and_are_repeated() {
    // The first frame has no energy, the second is missing, and the third has other atoms.
    let change = "from ase.calculators.singlepoint import SinglePointCalculator as Results; first, _, third = frames[:3]; \
                  first.calc = Results(first, forces=first.get_forces()); \
                  energy, forces = third.get_potential_energy(), third.get_forces(); third.positions[0] += 0.1; \
                  third.calc = Results(third, energy=energy, forces=forces); del frames[1]";
    for (more, tries) in [("", 1), ("retries = 1", 2)] {
        let folder = tempfile::tempdir().unwrap();
        batch(folder.path(), change, more);
        // The frames of the second try, of which there are three, are bad for the same reasons.
        run_until(folder.path(), "refused", 4);
        let rows = selected(folder.path());
        let (failed, done): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.status == Some(Status::Failed));
        assert_eq!((failed.len(), done.len()), (3, rows.len() - 3));
        assert!(done.iter().all(|row| row.status == Some(Status::Done)));
        for (row, words) in rows.iter().zip([
            "the frame of candidate ID in output.extxyz has no energy= in its comment line",
            "output.extxyz has no frame of candidate ID",
            "the frame of candidate ID in output.extxyz does not hold the atoms of the candidate: ",
        ]) {
            let message = row.message.as_ref().unwrap();
            assert!(message.contains(&words.replace("ID", &row.id.to_string())), "{message}");
            assert!(row.error_log.as_ref().unwrap().contains(message), "{:?}", row.error_log);
        }
        let calls = std::fs::read_to_string(folder.path().join("calls")).unwrap();
        let sizes: Vec<usize> = calls.lines().map(|line| line.split(' ').count()).collect();
        assert_eq!(sizes, [rows.len(), 3][..tries]);
        let database = folder.path().join("out/candidates.db");
        common::succeed(common::python().arg(script("check_emt.py")).arg(database));
    }
}

/// A worker that runs [`LABEL`] with lines before the label.
fn worker(folder: &Path, name: &str, before: &str, more: &[&str]) -> Child {
    write(folder, name, &LABEL.replace("# before", before));
    std::fs::create_dir_all(folder.join("scratch")).unwrap();
    common::python()
        .current_dir(folder)
        .arg(root().join("examples/oracles/worker.py"))
        .args(["out/candidates.db", "--poll", "0.1", "--scratch", "scratch"])
        .args(more)
        .args(["--", "sh", name, "{input}", "{output}"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Ends a worker, which must have left nothing in its scratch folder.
fn end(folder: &Path, worker: Child) {
    signal("TERM", worker.id());
    let output = finish(worker);
    // It may have been ended before it began.
    let is_late = output.status.signal() == Some(15) && output.stdout.is_empty();
    assert!(output.status.code() == Some(128 + 15) || is_late, "{}", text(&output));
    assert_eq!(std::fs::read_dir(folder.join("scratch")).unwrap().count(), 0);
}

/// A loop whose labels are computed by workers.
fn external(folder: &Path, more: &str) {
    config(folder, &format!("type = \"external\"\n{more}"));
}

/// Starts the loop, and waits until it waits for workers.
fn start(folder: &Path) -> Child {
    let mut job = spawn(folder);
    let database = folder.join("out/candidates.db");
    let is_marked = |row: StoredCandidate| row.keys().extra.contains_key("selected");
    let is_waiting = || {
        let Ok(store) = Store::open_read_only(&database) else { return false };
        store.iter(None).is_ok_and(|mut rows| rows.any(|row| row.is_ok_and(is_marked)))
    };
    wait_for("selected candidates", || is_waiting() || job.try_wait().unwrap().is_some());
    job
}

/// All selected candidates have a label, no other has one, and each was computed once.
fn check_labels(folder: &Path) {
    let rows = selected(folder);
    let round = first_round(folder);
    assert_eq!((round.phase, round.labelled, round.failed), (Phase::Train, rows.len(), 0));
    for row in &rows {
        assert!(row.status == Some(Status::Done) && row.is_labelled(), "{row:?}");
        assert_eq!(row.keys().extra.get("selected").and_then(KeyValue::as_i64), Some(1));
        let labels = row.candidate.labels.as_ref().unwrap();
        assert_eq!(labels.energy, -1.5);
        // awk prints six digits.
        let positions = row.candidate.structure.positions.iter();
        assert!(positions.zip(&labels.forces).all(|(x, f)| (x * 0.01 - f).abs() < 1e-5), "{row:?}");
    }
    assert_eq!(store(folder).ids(Some(Status::Done)).unwrap().len(), rows.len());
    store(folder).check().unwrap();
}

#[test]
fn loop_waits_for_several_workers() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    external(folder, "");
    let job = start(folder);
    // Each waits until two have begun.
    let before = "while [ $(wc -l <calls) -lt 2 ]; do sleep 0.05; done";
    let workers: Vec<_> = (0..3).map(|_| worker(folder, "label.sh", before, &["--idle", "inf"])).collect();
    let output = finish(job);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    assert!(text(&output).contains("waiting for external workers to label"), "{}", text(&output));
    check_labels(folder);
    assert!(calls(folder).values().all(|&times| times == 1) && calls(folder).len() == selected(folder).len());
    workers.into_iter().for_each(|worker| end(folder, worker));
}

#[test]
fn row_of_a_killed_worker_is_labelled_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    external(folder, "claim_timeout = 10");
    let job = start(folder);
    let mut killed = worker(folder, "hang.sh", "echo $$ >program; sleep 100000", &["--heartbeat", "0.5"]);
    wait_for("a claim", || calls(folder).len() == 1 && folder.join("program").metadata().is_ok_and(|m| m.len() > 1));
    let claimed = *calls(folder).keys().next().unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();
    let program = std::fs::read_to_string(folder.join("program")).unwrap();
    common::succeed(Command::new("kill").args(["-KILL", "--", &format!("-{}", program.trim())]));
    assert_eq!(store(folder).get(claimed).unwrap().status, Some(Status::RunningDft));
    assert_eq!(std::fs::read_dir(folder.join("scratch")).unwrap().count(), 1, "left by the killed worker");
    let other = worker(folder, "label.sh", "", &["--heartbeat", "0.5", "--idle", "inf"]);
    let output = finish(job);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    assert!(text(&output).contains(&format!("released candidate {claimed}")), "{}", text(&output));
    check_labels(folder);
    assert!(store(folder).get(claimed).unwrap().attempts >= 2);
    end(folder, other);
}

#[test]
fn killed_loop_continues_with_the_labels_of_its_workers() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    external(folder, "");
    let mut job = start(folder);
    // Each waits until the loop has been killed.
    let before = "while [ ! -e go ]; do sleep 0.05; done";
    let workers: Vec<_> = (0..2).map(|_| worker(folder, "label.sh", before, &["--idle", "inf"])).collect();
    wait_for("two claims", || calls(folder).len() == 2);
    job.kill().unwrap();
    job.wait().unwrap();
    write(folder, "go", "");
    wait_for("a label", || statuses(folder).contains(&Some(Status::Done)));
    run_until(folder, "refused", 4);
    check_labels(folder);
    assert!(calls(folder).values().all(|&times| times == 1) && calls(folder).len() == selected(folder).len());
    workers.into_iter().for_each(|worker| end(folder, worker));
}

#[test]
fn loop_that_does_not_wait_ends_and_is_continued() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    external(folder, "wait = 0");
    run_until(folder, "waiting", 7);
    let before = state(folder);
    assert!(statuses(folder).iter().all(|status| *status == Some(Status::PendingDft)));
    assert!(folder.join("out/final/potential.yaml").is_file());
    run_until(folder, "waiting", 7);
    assert!(before == state(folder));
    // The same on two ranks, of which one sleeps.
    let output = common::mpiexec(2)
        .arg(env!("CARGO_BIN_EXE_lammps-otf"))
        .args(["loop", "loop.toml", "-o", "out", "-q"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", text(&output));
    // Without --idle, a worker ends when no row is left. A failed program is repeated.
    let fails = "[ -e failed ] || { touch failed; echo no convergence; exit 3; }";
    let output = finish(worker(folder, "label.sh", fails, &["--retries", "1"]));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("ended with exit code 3"), "{}", text(&output));
    run_until(folder, "refused", 4);
    check_labels(folder);
}

#[test]
fn interrupt_ends_the_wait_and_failed_rows_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    external(folder, "");
    let job = start(folder);
    signal("TERM", job.id());
    let output = finish(job);
    assert_eq!(output.status.code(), Some(6), "{}", text(&output));
    assert!(text(&output).contains("\"interrupted\""), "{}", text(&output));
    // Every program exceeds its time limit, and is ended with its child processes.
    let slow = "sleep 100000 & echo $! >>sleeping; wait";
    let output = finish(worker(folder, "slow.sh", slow, &["--timeout", "1"]));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    for process in std::fs::read_to_string(folder.join("sleeping")).unwrap().lines() {
        let state = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }
    let failed = selected(folder);
    for row in &failed {
        assert_eq!(row.status, Some(Status::Failed));
        assert!(row.message.as_ref().unwrap().contains("was killed after 1 s"), "{:?}", row.message);
    }
    // The loop selects others.
    external(folder, "wait = 0");
    run_until(folder, "waiting", 7);
    let round = first_round(folder);
    assert_eq!((round.labelled, round.failed), (0, failed.len()));
    assert!(failed.iter().all(|row| !round.selected.contains(&row.id)));
}
