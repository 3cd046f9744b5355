// SPDX-License-Identifier: GPL-2.0-or-later
//! Fault injection: each call into LAMMPS and each communication fails on one rank, and the job always ends, with the documented code
//! and a message that names the rank. The faults are in `src/fault.rs`, in debug builds alone.
//!
//! Here a few points of each kind; `ci/stress` does all (`LAMMPS_OTF_FAULTS=all`) and makes the table in docs/reliability.md.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::{aluminium, eam_file, lammps_otf, mpiexec, root, text, write};
use lammps_otf::comm::Session;
use tempfile::TempDir;

/// How a job ends in which one rank has failed alone.
const RECORDED: i32 = 3;
const ABORTED: i32 = 5;

/// What is run, after `prepare`, in a folder of its own.
struct Program {
    name: &'static str,
    arguments: &'static [&'static str],
    /// The code without a fault.
    code: i32,
    /// The codes of a job in which one rank has failed alone.
    alone: &'static [i32],
    prepare: fn(&Path),
}

const PROGRAMS: [Program; 4] = [
    Program {
        name: "run",
        arguments: &["run", "run.toml", "-q", "-o", "out"],
        code: 4,
        alone: &[RECORDED, ABORTED],
        prepare: |folder| config(folder, "steps = 60\n"),
    },
    Program {
        name: "resume",
        arguments: &["run", "run.toml", "-q", "-o", "out", "--resume"],
        code: 4,
        alone: &[RECORDED, ABORTED],
        prepare: |folder| {
            config(folder, "steps = 10\n");
            let begun = lammps_otf().args(["run", "run.toml", "-q", "-o", "out"]).current_dir(folder).output().unwrap();
            assert_eq!(begun.status.code(), Some(0), "{}", text(&begun));
            config(folder, "steps = 60\n");
        },
    },
    Program {
        name: "loop",
        arguments: &["loop", "loop.toml", "-q", "-o", "out"],
        code: 4,
        alone: &[ABORTED],
        prepare: learning,
    },
    Program {
        name: "doctor",
        arguments: &["doctor", "run.toml", "-q"],
        code: 0,
        alone: &[2, ABORTED],
        prepare: |folder| config(folder, "steps = 60\n"),
    },
];

/// 108 hot atoms of aluminium, whose γ passes the threshold after a few polls.
fn config(folder: &Path, steps: &str) {
    write(folder, "al.extxyz", &aluminium(3));
    let text = format!(
        "structure = \"al.extxyz\"\ntemperature = 800\n{steps}sampling_interval = 5\nseed = 7\ncheckpoint_interval = 10\n\
         uncertainty_low = 0.9\nuncertainty_threshold = 1.2\n[potential]\nfile = {:?}\n[embedding]\nradius = 4.0\nbuffer = 1.5\n",
        root().join("potentials/al/Al.yaml").display().to_string()
    );
    write(folder, "run.toml", &text);
}

/// One round: the trainer gives a potential that was fitted to more, so that a swap follows.
fn learning(folder: &Path) {
    write(folder, "al.extxyz", &aluminium(3));
    let (soft, known) = (root().join("potentials/al-soft/Al.yaml"), root().join("potentials/al"));
    let train =
        format!("cp {}/Al.yaml {}/Al.asi \"$2\" && echo {{}} > \"$2/report.json\"", known.display(), known.display());
    let text = format!(
        "structure = \"al.extxyz\"\ntemperature = 800\nsteps = 40\nsampling_interval = 5\nseed = 7\nuncertainty_low = 0.9\n\
         uncertainty_threshold = 1.2\n[potential]\nfile = {soft:?}\n[embedding]\nradius = 4.0\nbuffer = 1.5\n\
         [loop]\nbatch = 1\nselect = 1\nmax_rounds = 1\n\
         [loop.oracle]\ntype = \"lammps\"\npair_style = \"eam/fs\"\npair_coeff = [\"* * {} Al\"]\n\
         [loop.trainer]\ncommand = [\"sh\", \"-c\", {train:?}, \"sh\", \"{{labelled}}\", \
         \"{{output}}\"]\n",
        eam_file().display()
    );
    write(folder, "loop.toml", &text);
}

/// A place where a rank can fail.
#[derive(Debug, Clone)]
struct Point {
    number: usize,
    /// Of the instance that is called; 0 for a communication.
    ranks: usize,
    name: String,
}

fn job(program: &Program, ranks: usize, folder: &Path) -> Command {
    let mut command = mpiexec(ranks);
    command.arg(env!("CARGO_BIN_EXE_lammps-otf")).args(program.arguments).current_dir(folder);
    command
}

/// A folder in which the program can be run; each job runs in a copy of it.
fn prepared(program: &Program) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    (program.prepare)(folder.path());
    folder
}

fn copy_of(folder: &TempDir) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    common::succeed(Command::new("cp").arg("-a").arg(folder.path().join(".")).arg(copy.path()));
    copy
}

/// The points of each rank, in a run without a fault.
fn points(program: &Program, ranks: usize, prepared: &TempDir) -> Vec<Vec<Point>> {
    let folder = copy_of(prepared);
    let log = folder.path().join("points");
    let output = job(program, ranks, folder.path()).env("LAMMPS_OTF_FAULT_LOG", &log).output().unwrap();
    assert_eq!(output.status.code(), Some(program.code), "{}: {}", program.name, text(&output));
    let point = |line: &str| {
        let mut words = line.splitn(3, ' ');
        Some(Point {
            number: words.next()?.parse().ok()?,
            ranks: words.next()?.parse().ok()?,
            name: words.next()?.to_owned(),
        })
    };
    let read = |rank: usize| std::fs::read_to_string(log.with_extension(rank.to_string())).unwrap();
    (0..ranks).map(|rank| read(rank).lines().filter_map(point).collect()).collect()
}

/// The first and the last point of each kind.
fn some(points: &[Point]) -> Vec<Point> {
    let mut kinds: BTreeMap<(usize, &str), Vec<&Point>> = BTreeMap::new();
    points.iter().for_each(|point| kinds.entry((point.ranks, &point.name)).or_default().push(point));
    let chosen = kinds.values().flat_map(|of| [of[0], of[of.len() - 1]]);
    let mut chosen: Vec<Point> = chosen.cloned().collect();
    chosen.sort_by_key(|point| point.number);
    chosen.dedup_by_key(|point| point.number);
    chosen
}

/// Makes one point fail, and looks at how the job ends; how long that took.
fn fail(program: &Program, prepared: &TempDir, ranks: usize, rank: usize, point: &Point, kind: &str) -> Duration {
    let folder = copy_of(prepared);
    let fault = format!("{rank}:{}:{kind}", point.number);
    let begun = Instant::now();
    let output: Output = job(program, ranks, folder.path()).env("LAMMPS_OTF_FAULT", &fault).output().unwrap();
    let took = begun.elapsed();
    let (code, said) = (output.status.code(), text(&output));
    let what = format!("{} on {ranks} ranks, {kind} at {point:?} of rank {rank}: {code:?}\n{said}", program.name);
    // mpiexec's own limit, which stands for a job that hangs.
    assert!(code != Some(124) && code != Some(137), "a hang: {what}");
    if point.ranks == 1 {
        // An instance of this rank alone: the program continues without it, or all ranks receive the error.
        assert!([program.code, 1, 2, 4].map(Some).contains(&code), "{what}");
        assert!(code == Some(program.code) || said.contains("an injected fault"), "{what}");
    } else {
        // Nothing follows the end of an instance, and a plugin that one rank cannot load counts as missing on all.
        let has_no_effect = point.name == "lammps_close" || (point.name == "load_plugin" && kind == "foreign");
        let is_unaffected = has_no_effect && code == Some(program.code);
        assert!(program.alone.iter().any(|alone| code == Some(*alone)) || is_unaffected, "{what}");
        assert!(said.contains(&format!("rank {rank}")) || is_unaffected, "{what}");
    }
    took
}

fn all_of(program: &Program, ranks: usize) {
    let everything = std::env::var("LAMMPS_OTF_FAULTS").is_ok_and(|which| which == "all");
    let (mut jobs, mut longest) = (0, Duration::ZERO);
    let prepared = prepared(program);
    for (rank, points) in points(program, ranks, &prepared).iter().enumerate() {
        let chosen = if everything { points.clone() } else { some(points) };
        for (at, point) in chosen.iter().enumerate() {
            // Those that LAMMPS does not ascribe to one rank are waited for, and so are fewer.
            let kind = match at % 8 {
                3 => "all",
                7 => "foreign",
                _ => "one",
            };
            longest = longest.max(fail(program, &prepared, ranks, rank, point, kind));
            jobs += 1;
        }
    }
    let which = if everything { "every point" } else { "the first and last point of each kind" };
    println!("| {} | {ranks} | {which} | {jobs} | none | {:.1} s |", program.name, longest.as_secs_f64());
}

#[test]
fn a_fault_of_one_rank_ends_a_run() {
    all_of(&PROGRAMS[0], 2);
}

#[test]
fn a_fault_of_one_rank_ends_a_resumed_run() {
    all_of(&PROGRAMS[1], 2);
}

#[test]
fn a_fault_of_one_rank_ends_a_loop() {
    all_of(&PROGRAMS[2], 2);
}

#[test]
fn a_fault_of_one_rank_ends_doctor() {
    all_of(&PROGRAMS[3], 2);
}

/// For `ci/stress`, which asks for ignored tests too: more ranks than a small machine has cores.
#[test]
#[ignore = "takes long; ci/stress runs it"]
fn a_fault_of_one_of_three_ranks_ends_each_program() {
    PROGRAMS.iter().for_each(|program| all_of(program, 3));
}

#[test]
fn a_log_that_rank_0_cannot_open_ends_all_ranks() {
    let folder = tempfile::tempdir().unwrap();
    config(folder.path(), "steps = 60\nlammps_args = [\"-log\", \"/nonexistent/x.log\"]\n");
    for (program, code) in [(&PROGRAMS[0], ABORTED), (&PROGRAMS[3], 2)] {
        let output = job(program, 2, folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        assert!(text(&output).contains("/nonexistent/x.log"), "{}", text(&output));
    }
}

#[test]
fn a_signal_ends_a_job_whose_ranks_wait() {
    let program = &PROGRAMS[0];
    let prepared = prepared(program);
    let points = points(program, 2, &prepared);
    // In the middle of the run, and not before the flag is there to be set.
    let point = points[1].iter().filter(|point| point.ranks == 2).nth_back(20).unwrap();
    let folder = copy_of(&prepared);
    let fault = format!("1:{}:hang", point.number);
    let log = folder.path().join("points");
    let job = job(program, 2, folder.path())
        .env("LAMMPS_OTF_FAULT", fault)
        .env("LAMMPS_OTF_FAULT_LOG", &log)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let reached = || std::fs::read_to_string(log.with_extension("1")).map_or(0, |text| text.lines().count());
    common::wait_for("the point", || reached() > point.number);
    for rank in 0..2 {
        let pid = common::process(folder.path(), rank).unwrap().to_string();
        common::succeed(Command::new("kill").args(["-TERM", &pid]));
    }
    let output = job.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(6), "{}", text(&output));
    assert!(text(&output).contains("asked to stop, but no progress since"), "{}", text(&output));
}

/// Not a test of its own: what the test below runs on three ranks.
#[test]
#[ignore = "a process of another test"]
fn child_that_collects() {
    let session = Session::initialize();
    // In parts: no message of more than seven numbers.
    let world = session.world().with_max_message(7);
    let part = |rank: usize| -> Vec<f64> { (0..10 * rank + 3).map(|k| (100 * rank + k) as f64).collect() };
    let whole: Vec<f64> = (0..world.size()).flat_map(part).collect();
    let own = part(world.rank());
    assert_eq!(world.gather(&own), world.is_root().then(|| whole.clone()));
    assert_eq!(world.all_gather(&own), whole);
    println!("rank {} has all", world.rank());
}

#[test]
fn what_is_too_long_for_one_message_is_sent_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let output = mpiexec(3)
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child_that_collects", "--nocapture"])
        .env("LAMMPS_OTF_TEST_FOLDER", folder.path())
        .output()
        .unwrap();
    let said = text(&output);
    assert!(output.status.success() && said.matches("has all").count() == 3, "{said}");
}
