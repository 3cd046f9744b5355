// SPDX-License-Identifier: GPL-2.0-or-later
//! The learning loop with actual parts: the soft potential of aluminium learns from EAM, undisturbed and under `kill
//! -9`.
//!
//! `OTF_KILLS=30 OTF_SEED=7` makes the kill test longer (`ci/stress`).

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::{aluminium, dependency, eam_file, json, lammps_otf, python, root, succeed, text, write};
use lammps_otf::candidates::{Phase, Round, RoundOutcome, RoundSeconds, Status, Store};

/// The data to which the soft potential was fitted: `training.extxyz` and `testing.extxyz`, created once.
fn data() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let make = || {
        let folder = tempfile::tempdir().unwrap();
        succeed(python().arg(root().join("potentials/al/fit.py")).arg("--data").arg(folder.path()));
        folder
    };
    FOLDER.get_or_init(make).path()
}

/// Heats the soft potential until γ exceeds the threshold; EAM labels, and python-ace fits the new potential.
fn config(folder: &Path, resume_from: &str, rounds: u32) -> PathBuf {
    write(folder, "al.extxyz", &aluminium(5));
    let (potential, eam) = (root().join("potentials/al-soft/Al.yaml"), eam_file());
    let (python, trainer) = (dependency("bin/python3"), root().join("examples/trainers/pace_linear.py"));
    let (base, test) = (data().join("training.extxyz"), data().join("testing.extxyz"));
    let toml = format!(
        "structure = \"al.extxyz\"\ntemperature = [500, 1200]\nsteps = 1500\nsampling_interval = 10\nseed = 12345\n\
         [potential]\nfile = {potential:?}\n[embedding]\nradius = 4.0\n\
         [loop]\nbatch = 2\nselect = 3\nmax_rounds = {rounds}\nresume_from = \"{resume_from}\"\n\
         [loop.oracle]\ntype = \"lammps\"\npair_style = \"eam/fs\"\npair_coeff = [\"* * {} Al\"]\n\
         [loop.trainer]\ncommand = [{python:?}, {trainer:?}, \"--base\", {base:?}, \"--test\", {test:?}, \"--labelled\", \
         \"{{labelled}}\", \"--potential\", \"{{potential}}\", \"--active-set\", \"{{active_set}}\", \"--output\", \
         \"{{output}}\"]\ntimeout = 3000\n",
        eam.display()
    );
    write(folder, "loop.toml", &toml)
}

fn command(folder: &Path, output: &str) -> Command {
    let mut command = lammps_otf();
    command.current_dir(folder).args(["loop", "loop.toml", "-q", "-o", output]).env("OMP_NUM_THREADS", "1");
    command
}

/// The state of a loop, without times and process ids.
fn state(output: &Path) -> Vec<String> {
    let store = Store::open_existing(&output.join("candidates.db")).unwrap();
    let timeless = |round: Round| Round { seconds: RoundSeconds::default(), ..round };
    let rounds = store.rounds().unwrap().into_iter();
    let mut state: Vec<String> = rounds.map(|round| format!("{:?}", timeless(round))).collect();
    for row in store.iter(None).unwrap() {
        let row = row.unwrap();
        let labels = row.candidate.labels.as_ref().map(|l| (l.energy.to_bits(), l.forces.clone()));
        let positions: Vec<u64> = row.candidate.structure.positions.iter().map(|x| x.to_bits()).collect();
        state.push(format!("{} {:?} {:?} {labels:?} {positions:?}", row.id, row.status, row.keys()));
    }
    state
}

#[test]
fn loop_trains_until_no_event_remains() {
    let folder = tempfile::tempdir().unwrap();
    config(folder.path(), "start", 5);
    let toml = std::fs::read_to_string(folder.path().join("loop.toml")).unwrap();
    let dump = "setup = [\"dump d all custom 500 ramps.dump id x\"]\n";
    write(folder.path(), "loop.toml", &format!("{dump}{toml}"));
    let started = Instant::now();
    let out = command(folder.path(), "out").arg("--json").output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    let output = folder.path().join("out");
    // The ramp is continued in the next round.
    let ramps = std::fs::read_to_string(folder.path().join("ramps.dump")).unwrap();
    let begun = lammps_otf::active_learning::round_folders(&output).filter(|round| round.join("log.lammps").is_file());
    assert_eq!(
        (ramps.matches("TIMESTEP\n0\n").count(), ramps.matches("TIMESTEP\n1500\n").count() >= 1),
        (begun.count(), true)
    );
    // The new potential and the initial one cannot be confused.
    let read = |path: &Path| std::fs::read(path).unwrap();
    assert!(read(&output.join("start/potential.yaml")) == read(&root().join("potentials/al-soft/Al.yaml")));
    assert!(read(&output.join("final/potential.yaml")) != read(&output.join("start/potential.yaml")));
    assert!(!output.join("potential").exists() && text(&out).contains("out/final/potential.yaml"), "{}", text(&out));
    let store = Store::open_existing(&output.join("candidates.db")).unwrap();
    let rounds = store.rounds().unwrap();
    let (last, learning) = rounds.split_last().unwrap();
    assert!(!learning.is_empty() && learning.iter().all(|r| r.phase == Phase::Done && r.labelled > 0), "{rounds:?}");
    // The whole ramp from the start, without an event.
    assert_eq!((last.outcome, last.from, last.reached, last.events), (Some(RoundOutcome::Quiet), 0, 1500, 0));
    assert!(learning[0].gamma_max.unwrap() > 5.0 && last.gamma_max.unwrap() <= 5.0, "{rounds:?}");
    for round in learning {
        let report = json(&output.join(format!("round-{:03}/potential/report.json", round.number)));
        assert_eq!(report, round.report);
        assert!(store.potential(&round.potential).unwrap().unwrap().file.is_file(), "the old files stay");
    }
    let newest = store.potential(&last.potential).unwrap().unwrap();
    assert!(read(&newest.file) == read(&output.join("final/potential.yaml")));
    assert_eq!(newest.parent.as_ref(), Some(&learning.last().unwrap().potential));
    let done = store.ids(Some(Status::Done)).unwrap();
    println!(
        "{} rounds, {} labels, γ_max {:?} in the last, {:.1} s",
        learning.len(),
        done.len(),
        last.gamma_max,
        started.elapsed().as_secs_f64()
    );
    for id in done {
        assert!(store.get(id).unwrap().candidate.structure.len() <= 250);
    }
    let parts = rounds.iter().flat_map(|r| {
        let s = r.seconds;
        [s.setup, s.run, s.watch, s.select, s.label, s.train, s.trial]
    });
    let (known, whole) = (parts.sum::<f64>(), started.elapsed().as_secs_f64());
    assert!(known < whole, "the rounds account for {known} s of {whole} s");
    let first = learning[0].seconds;
    let all = [first.setup, first.run, first.watch, first.select, first.label, first.train, first.trial];
    assert!(all.iter().all(|seconds| *seconds > 0.0), "{first:?}");
    // A loop that has ended is unchanged.
    let before = state(&output);
    assert_eq!(command(folder.path(), "out").status().unwrap().code(), Some(0));
    assert!(before == state(&output));
}

/// Runs the trainer with these labelled rows. Returns its exit code and its output.
fn train(labelled: &Path, output: &Path, more: &[&str]) -> (Option<i32>, serde_json::Value) {
    let status = python()
        .arg(root().join("examples/trainers/pace_linear.py"))
        .args(["--base".as_ref(), data().join("training.extxyz").as_os_str()])
        .args(["--test".as_ref(), data().join("testing.extxyz").as_os_str()])
        .args(["--potential".as_ref(), root().join("potentials/al-soft/Al.yaml").as_os_str()])
        .args(["--active-set".as_ref(), root().join("potentials/al-soft/Al.asi").as_os_str()])
        .args(["--labelled".as_ref(), labelled.as_os_str(), "--output".as_ref(), output.as_os_str()])
        .args(more)
        .env("OMP_NUM_THREADS", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    (status.code(), json(&output.join("report.json")))
}

#[test]
fn trainer_is_reproducible_and_rejects_worse_potentials() {
    let folder = tempfile::tempdir().unwrap();
    let labelled = folder.path().join("labelled.extxyz");
    // Three frames of the test set are used as cut-outs, with every fourth atom in the core.
    succeed(
        python()
            .args([
                "-c",
                "import sys; from ase.io import read, write; frames = read(sys.argv[1], index=':3')\n\
                 for a in frames: a.arrays['force_mask'] = (a.arrays['numbers'] * 0 + (sum(a.positions.T) % 4 < 1)) * 1.0\n\
                 write(sys.argv[2], frames)",
            ])
            .arg(data().join("testing.extxyz"))
            .arg(&labelled),
    );
    let (one, two, worse) = (folder.path().join("one"), folder.path().join("two"), folder.path().join("worse"));
    let (code, report) = train(&labelled, &one, &[]);
    assert_eq!((code, &report["accepted"]), (Some(0), &true.into()), "{report}");
    assert_eq!((train(&labelled, &two, &[]).0, &report["cutouts"]), (Some(0), &3.into()));
    for file in ["potential.yaml", "potential.asi"] {
        assert!(std::fs::read(one.join(file)).unwrap() == std::fs::read(two.join(file)).unwrap(), "{file} differs");
    }
    // A limit that no fit can meet: the errors on the test set would have to decrease by 1 eV/Å.
    let (code, report) = train(&labelled, &worse, &["--worse-force", "-1000"]);
    assert_eq!((code, &report["accepted"]), (Some(3), &false.into()), "{report}");
    assert!(report["reason"].as_str().unwrap().starts_with("force error"), "{report}");
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a whole number"))
}

/// The next number of a pseudo-random sequence (xorshift).
fn random(state: &mut u64, below: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % below
}

#[test]
fn loop_killed_anywhere_ends_in_the_same_state() {
    let (kills, mut seed) = (setting("OTF_KILLS", 3), setting("OTF_SEED", 20_261_124));
    let folder = tempfile::tempdir().unwrap();
    // The thermostat must also continue exactly.
    config(folder.path(), "pause", 2);
    let started = Instant::now();
    let undisturbed = command(folder.path(), "undisturbed").status().unwrap().code();
    let whole = started.elapsed();
    let expected = state(&folder.path().join("undisturbed"));
    assert!(expected.len() > 4, "{expected:?}");

    let (mut killed, mut loops) = (0, 0);
    while killed < kills {
        let output = format!("killed-{loops}");
        loops += 1;
        let ended = loop {
            let mut process = command(folder.path(), &output).stderr(Stdio::null()).spawn().unwrap();
            let longest = if killed < kills { whole.as_millis() as u64 / 2 } else { u64::MAX };
            let moment = Duration::from_millis(random(&mut seed, longest.max(1)).max(1));
            let begun = Instant::now();
            let ended = loop {
                if let Some(status) = process.try_wait().unwrap() {
                    break Some(status);
                }
                if killed < kills && begun.elapsed() >= moment {
                    process.kill().unwrap();
                    let status = process.wait().unwrap();
                    // It may have ended by itself just before.
                    break status.code().is_some().then_some(status);
                }
                std::thread::sleep(Duration::from_millis(2));
            };
            match ended {
                Some(status) => break status,
                None => killed += 1,
            }
        };
        assert_eq!(ended.code(), undisturbed);
        let found = state(&folder.path().join(&output));
        for (found, expected) in found.iter().zip(&expected) {
            assert!(found == expected, "after {killed} kills:\n{found:.600}\ninstead of\n{expected:.600}");
        }
        assert_eq!(found.len(), expected.len());
    }
    println!(
        "{killed} kills in {loops} loops of {:.1} s, each with the end of an undisturbed one",
        whole.as_secs_f64()
    );
}
