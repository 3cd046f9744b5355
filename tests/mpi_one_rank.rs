// SPDX-License-Identifier: GPL-2.0-or-later
//! Rank failures: one rank fails while the others wait for it. The job ends with the documented exit code and
//! message, and no stored data are lost. `ci/stress` repeats each case 20 times and reports the time; here each is
//! run twice.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{al_config, aluminium, eam_config, json, mpiexec, text, write};
use lammps_otf::candidates::Store;
use lammps_otf::comm::Session;
use lammps_otf::config::InferenceConfig;
use lammps_otf::runner::LammpsRunner;

const FOLDER: &str = "LAMMPS_OTF_TEST_FOLDER";

fn times() -> usize {
    std::env::var("LAMMPS_OTF_TIMES").ok().and_then(|n| n.parse().ok()).unwrap_or(2)
}

/// Runs repeatedly until one rank fails, and checks the files after each run.
fn repeat(
    name: &str,
    prepare: impl Fn(&Path),
    run: impl Fn(&Path) -> Output,
    code: i32,
    words: &[&str],
    look: impl Fn(&Path),
) {
    let mut longest = Duration::ZERO;
    for _ in 0..times() {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let started = Instant::now();
        let output = run(folder.path());
        let time = started.elapsed();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(code), "{name}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{name}: {words:?} are not in\n{said}");
        longest = longest.max(time);
        look(folder.path());
    }
    println!("{name}: {} times exit code {code}, the longest after {:.1} s", times(), longest.as_secs_f64());
}

fn command(folder: &Path) -> Output {
    mpiexec(2)
        .arg(env!("CARGO_BIN_EXE_lammps-otf"))
        .args(["run", "run.toml", "-q", "-o", "out"])
        .current_dir(folder)
        .output()
        .unwrap()
}

fn check_crash_output(folder: &Path) {
    let result = json(&folder.join("out/result.json"));
    assert_eq!(result["status"], "CRASHED");
    let store = Store::open_existing(&folder.join("out/candidates.db")).unwrap();
    store.check().unwrap();
    assert_eq!(store.ids(None).unwrap(), [1], "{result}");
    // Without a suspicious poll, the region shared by all ranks can be some steps older than the last poll, but its γ
    // is similar.
    let keys = store.get(1).unwrap().candidate.keys;
    let (step, gamma) = (keys.step.unwrap(), keys.gamma.unwrap());
    let last = result["steps"].as_i64().unwrap();
    assert!(step <= last, "{step}: {result}");
    let polls = common::lines(&folder.join("out/polls.jsonl"));
    let since = polls.iter().filter(|poll| poll["step"].as_i64().unwrap() >= step);
    let largest = since.map(|poll| poll["gamma"]["max"].as_f64().unwrap()).fold(0.0, f64::max);
    assert!(largest <= 1.25 * gamma, "{gamma} at step {step} and later {largest}: {result}");
}

/// The run crashes after step 20; polls are every 10 steps.
const COMMON: &str = "temperature = 300\nsteps = 1000\nsampling_interval = 10\nseed = 11\n\
                      uncertainty = { compute = \"u\" }\nuncertainty_threshold = 1e9\n";

#[test]
fn nan_on_one_rank() {
    // Atom 1 belongs to one rank. LAMMPS detects its NaN on that rank only, at the next exchange of atoms, unless a
    // poll detects it before.
    let setup = "setup = [\"compute u all ke/atom\", \"group one id 1\", \
                 \"variable big atom 1e308*(1+99*(step>22))\", \"variable nan atom v_big-v_big\", \
                 \"variable nought equal 0\", \"fix bad one move variable v_nan NULL NULL v_nought NULL NULL\"";
    for (name, more) in [
        ("NaN on one rank, seen by the poll", "]\n"),
        ("NaN on one rank, seen by LAMMPS", ", \"neigh_modify every 1 delay 0 check no\"]\n"),
    ] {
        let prepare = |folder: &Path| {
            eam_config(folder, 3, &format!("{COMMON}{setup}{more}"));
        };
        repeat(name, prepare, command, 3, &[], |folder| {
            assert_eq!(json(&folder.join("out/result.json"))["crash"]["kind"], "not_finite");
            check_crash_output(folder);
        });
    }
}

#[test]
fn exception_in_the_pair_style_of_one_rank() {
    let prepare = |folder: &Path, watched: &str| {
        write(folder, "morse.table", &common::breaking::morse_table(2.3));
        write(folder, "al.extxyz", &aluminium(3));
        let text = format!(
            "structure = \"al.extxyz\"\n{}setup = [\"compute u all ke/atom\", \"group two id 2\", \
             \"variable rising atom c_u*(1+step)\", \"fix hit two move linear 0 -20 -20\"]\n\
             [potential]\npair_style = \"table linear 2000\"\npair_coeff = [\"* * {} MORSE\"]\ncutoff = 6.0\n[embedding]\nradius = 4.0\nbuffer = 3.5\n",
            COMMON.replace("sampling_interval = 10", "sampling_interval = 5").replace("compute = \"u\"", watched),
            folder.join("morse.table").display()
        );
        write(folder, "run.toml", &text);
    };
    let words = ["failed alone at step", "table inner cutoff", "The job is aborted"];
    for (name, watched) in [
        ("an exception in the pair style of one rank", "compute = \"u\""),
        ("an exception in the pair style of one rank while γ rises", "variable = \"rising\""),
    ] {
        repeat(name, |folder| prepare(folder, watched), command, 3, &words, check_crash_output);
    }
}

#[test]
fn fallback_region_is_shared_every_hundred_steps_without_events() {
    let folder = tempfile::tempdir().unwrap();
    eam_config(
        folder.path(),
        3,
        "temperature = 300\nsteps = 400\nsampling_interval = 10\nsetup = [\"variable u atom 1.0\"]\n\
         uncertainty = { variable = \"u\" }\nuncertainty_threshold = 1e9\n",
    );
    let output = command(folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    // At steps 0, 100, 200, 300 and 400.
    assert_eq!(json(&folder.path().join("out/result.json"))["cost"]["shares"], 5);
}

#[test]
fn setup_error_on_rank_0_only() {
    let prepare = |folder: &Path| {
        let path = eam_config(folder, 2, "temperature = 300\nsteps = 10\nuncertainty = \"none\"\n");
        let text = std::fs::read_to_string(path).unwrap();
        write(folder, "run.toml", &text.replace("Al_mm.eam.fs", "nowhere.eam.fs"));
    };
    let nothing = |folder: &Path| assert!(!folder.join("out").exists());
    let words = ["nowhere.eam.fs", "The job is aborted"];
    repeat("a file that rank 0 alone looks for", prepare, command, 5, &words, nothing);
    let doctor = |folder: &Path| {
        let program = env!("CARGO_BIN_EXE_lammps-otf");
        mpiexec(2).arg(program).args(["doctor", "run.toml"]).current_dir(folder).output().unwrap()
    };
    repeat("the same, before doctor", prepare, doctor, 2, &words[..1], nothing);
}

/// Not an independent test: run on two ranks by the test below.
#[test]
#[ignore = "a process of another test"]
fn child_whose_work_on_rank_0_panics() {
    let session = Session::initialize();
    let world = session.world();
    let work = || world.on_root(|| -> Result<(), lammps_otf::runner::Error> { panic!("rank 0 gives up") });
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    let told = outcome.map_or("its own panic".to_owned(), |told| told.unwrap_err().to_string());
    println!("rank {} has {told}", world.rank());
}

#[test]
fn panic_in_work_of_rank_0_for_all() {
    let folder = tempfile::tempdir().unwrap();
    let output = mpiexec(2)
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child_whose_work_on_rank_0_panics", "--nocapture"])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("rank 0 has its own panic"), "{said}");
    assert!(said.contains("rank 1 has rank 0 failed: ") && said.contains("it panicked"), "{said}");
}

/// Not an independent test: run on two ranks by the test below.
#[test]
#[ignore = "a process of another test"]
fn child_whose_handler_panics_on_rank_1() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).expect("set by the other test"));
    let session = Session::initialize();
    let world = session.world();
    let config = InferenceConfig::read(folder.join("run.toml")).unwrap();
    let rank = world.rank();
    let mut runner = LammpsRunner::new(&world, folder.join("out"))
        .observe(move |poll| assert!(rank != 1 || poll.step < 20, "the handler of rank 1 gives up"));
    let error = runner.run(&config).unwrap_err();
    println!("rank {rank} was told: {error}");
    // As in the command: one exit code for the job, from the ranks that can still communicate.
    std::process::exit(1);
}

#[test]
fn panic_in_the_handler_of_one_rank() {
    let prepare = |folder: &Path| {
        eam_config(folder, 3, &format!("{COMMON}setup = [\"compute u all ke/atom\"]\n"));
    };
    let run = |folder: &Path| {
        mpiexec(2)
            .arg(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "child_whose_handler_panics_on_rank_1", "--nocapture"])
            .env(FOLDER, folder)
            .output()
            .unwrap()
    };
    let name = "a panic in the handler of one rank";
    for _ in 0..times() {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let output = run(folder.path());
        let said = text(&output);
        // The test harness converts the panic of rank 1 to the exit code 101, and mpiexec combines the two codes.
        let code = output.status.code();
        assert!(!output.status.success() && code != Some(124), "{code:?} {said}");
        assert!(said.contains("the handler of rank 1 gives up"), "{said}");
        assert!(said.contains("rank 0 was told: rank 1 failed: its observer panicked"), "{said}");
        assert_eq!(common::lines(&folder.path().join("out/polls.jsonl")).last().unwrap()["step"], 20);
    }
    println!("{name}: {} times a code that is not 0, no hang", times());
}

#[test]
fn full_disk_on_rank_0() {
    let name = "a full disk on rank 0";
    let mut longest = Duration::ZERO;
    for _ in 0..times() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        eam_config(folder, 2, "temperature = 300\nsteps = 10000000\nsampling_interval = 1\nuncertainty = \"none\"\n");
        // A limit on the file size simulates a full disk: after it is set, rank 0 cannot write.
        let ignoring = "trap '' XFSZ; exec \"$0\" run run.toml -q -o out";
        let job = mpiexec(2)
            .args(["bash", "-c", ignoring])
            .arg(env!("CARGO_BIN_EXE_lammps-otf"))
            .current_dir(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        common::wait_for("polls", || {
            std::fs::metadata(folder.join("out/polls.jsonl")).map_or(0, |m| m.len()) >= 400_000
        });
        let pid = common::process(folder, 0).expect("rank 0 is running").to_string();
        common::succeed(Command::new("prlimit").args(["--pid", &pid, "--fsize=400000"]));
        let started = Instant::now();
        let output = job.wait_with_output().unwrap();
        let (said, time) = (text(&output), started.elapsed());
        assert_eq!(output.status.code(), Some(3), "{said}");
        let result = json(&folder.join("out/result.json"));
        assert_eq!(result["crash"]["kind"], "unwritable", "{result}");
        let reason = result["crash"]["reason"].as_str().unwrap();
        assert!(reason.contains("cannot write") && reason.contains("polls.jsonl"), "{reason}");
        longest = longest.max(time);
        Store::open_existing(&folder.join("out/candidates.db")).unwrap().check().unwrap();
    }
    println!("{name}: {} times exit code 3, the longest after {:.1} s", times(), longest.as_secs_f64());
}

#[test]
fn bad_input_is_reported_once_and_ends_all_ranks() {
    let folder = tempfile::tempdir().unwrap();
    al_config(folder.path(), "temperature = -1\n");
    let output = command(folder.path());
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert_eq!(text(&output).matches("error:").count(), 1, "{}", text(&output));
}
