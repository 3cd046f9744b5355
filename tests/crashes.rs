// SPDX-License-Identifier: GPL-2.0-or-later
//! Crashes of a run: the last valid frame gives a candidate, the exit code reports the crash, no rank waits forever,
//! and the instance can continue from that frame.

mod common;

use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use common::breaking::{self, WAYS, Way};
use common::{aluminium, dependency, eam_config, json, lammps_otf, lines, text, write};
use lammps_otf::candidates::Store;
use lammps_otf::comm::Comm;
use lammps_otf::config::InferenceConfig;
use lammps_otf::frame::Frame;
use lammps_otf::runner::LammpsRunner;
use lammps_otf::simulation::{CrashKind, Event, Simulation};
use lammps_otf::structure::AtomId;

fn configure(way: &Way, folder: &Path) {
    eam_config(folder, 3, &way.keys());
}

fn configure_table(folder: &Path) {
    let table = write(folder, "morse.table", &breaking::morse_table(2.3));
    write(folder, "al.extxyz", &aluminium(3));
    write(folder, "run.toml", &breaking::table_config(&table));
}

/// Checks the files after a crash and returns the step of the candidate.
fn check_crash_output(folder: &Path, way: &str, last_valid: i64) -> i64 {
    let out = folder.join("out");
    let result = json(&out.join("result.json"));
    println!("{way}: {} candidates {}", result["crash"], result["candidates"]);
    assert_eq!(result["status"], "CRASHED", "{way}: {result}");
    assert!(!result["crash"]["reason"].as_str().unwrap().is_empty());
    let polls = lines(&out.join("polls.jsonl"));
    assert_eq!(polls.last().unwrap()["step"].as_i64(), Some(last_valid), "{way}: {polls:?}");
    assert!(result["trigger_step"].as_i64().unwrap() > last_valid, "{way}: {result}");
    let store = Store::open_existing(&out.join("candidates.db")).unwrap();
    store.check().unwrap();
    assert_eq!(store.ids(None).unwrap(), [1], "{way}: {result}");
    let stored = store.get(1).unwrap();
    let keys = stored.keys();
    assert_eq!(keys.trigger.as_ref().unwrap().as_str(), "crash");
    assert_eq!(keys.center_id, result["atom_id"].as_i64(), "{way}");
    let structure = &stored.candidate.structure;
    assert!(structure.len() > 10 && structure.positions.iter().all(|x| x.is_finite()), "{way}");
    structure.validate(1.5).unwrap_or_else(|e| panic!("{way}: the candidate is not valid: {e}"));
    assert!(out.join("candidates/candidate-000001.extxyz").is_file());
    keys.step.unwrap()
}

#[test]
fn crash_of_any_kind_stores_a_candidate_and_exits_with_3() {
    for way in &WAYS {
        let folder = tempfile::tempdir().unwrap();
        configure(way, folder.path());
        let output = lammps_otf().current_dir(&folder).args(["run", "run.toml", "-o", "out"]).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}: {}", way.name, text(&output));
        assert!(text(&output).contains("Crashed at step"), "{}: {}", way.name, text(&output));
        assert_eq!(check_crash_output(folder.path(), way.name, way.last_valid), way.last_valid, "{}", way.name);
    }
}

/// Runs on two ranks. A hang is a failure.
fn run_on_two_ranks(folder: &Path) -> Output {
    Command::new("timeout")
        .arg(common::HANG.to_string())
        .arg(dependency("bin/mpiexec"))
        .args(["-n", "2"])
        .arg(env!("CARGO_BIN_EXE_lammps-otf"))
        .args(["run", "run.toml", "-o", "out"])
        .current_dir(folder)
        .output()
        .unwrap()
}

#[test]
fn crash_of_any_kind_ends_all_ranks() {
    for way in &WAYS {
        let folder = tempfile::tempdir().unwrap();
        configure(way, folder.path());
        let started = Instant::now();
        let output = run_on_two_ranks(folder.path());
        let code = output.status.code();
        println!("{}: exit {code:?} after {:.1} s", way.name, started.elapsed().as_secs_f64());
        println!("{}", text(&output));
        assert_eq!(code, Some(3), "{}: {}", way.name, text(&output));
        assert_eq!(check_crash_output(folder.path(), way.name, way.last_valid), way.last_valid, "{}", way.name);
    }
}

/// A simulation that has crashed in this way, and the reported cause.
fn run_until_crash(folder: &Path, way: &Way) -> (Simulation, CrashKind) {
    configure(way, folder);
    let config = InferenceConfig::read(folder.join("run.toml")).unwrap();
    let mut simulation = LammpsRunner::new(&Comm::single(), folder.join("out")).simulation(&config).unwrap();
    loop {
        match simulation.advance().unwrap() {
            Event::Polled(_) => {}
            Event::Crashed(crash) => return (simulation, crash.kind),
            Event::Finished => panic!("{} did not break the run", way.name),
        }
    }
}

/// The bits of the position of each atom, by id.
fn by_id(ids: impl Iterator<Item = AtomId>, rows: ndarray::ArrayView2<'_, f64>) -> Vec<(AtomId, [u64; 3])> {
    let mut all: Vec<_> =
        ids.zip(rows.outer_iter()).map(|(id, r)| (id, [r[0].to_bits(), r[1].to_bits(), r[2].to_bits()])).collect();
    all.sort_unstable();
    all
}

#[test]
fn restore_continues_from_the_last_valid_frame_after_a_crash() {
    let _one = common::one_at_a_time();
    for way in &WAYS {
        let folder = tempfile::tempdir().unwrap();
        let (mut simulation, kind) = run_until_crash(folder.path(), way);
        assert!(way.kinds.contains(&kind), "{}: {kind:?}", way.name);
        simulation.restore().unwrap_or_else(|e| panic!("{}: {e}", way.name));
        let frame: &Frame = simulation.last_valid();
        let lammps = simulation.lammps();
        assert_eq!((frame.step(), lammps.step()), (way.last_valid, way.last_valid), "{}", way.name);
        assert_eq!(lammps.total_atoms(), 108);
        assert_eq!(frame.cell(), Some(&lammps.cell()), "{}", way.name);
        let wanted = by_id(frame.atoms().ids.iter(), frame.atoms().positions);
        let found = by_id(lammps.ids().iter(), lammps.positions());
        assert_eq!(wanted.len(), found.len());
        let moved = wanted.iter().zip(&found).find(|(a, b)| a != b);
        assert!(moved.is_none(), "{}: {moved:?}", way.name);
        simulation.lammps_mut().command(way.undo).unwrap();
        let mut steps = Vec::new();
        loop {
            match simulation.advance().unwrap() {
                Event::Polled(poll) => {
                    assert!(poll.temperature > 10.0 && poll.temperature < 2000.0, "{}: {poll:?}", way.name);
                    steps.push(poll.step);
                }
                Event::Finished => break,
                Event::Crashed(crash) => panic!("{}: {crash:?}", way.name),
            }
        }
        assert_eq!(steps, [20, 30, 40, 50, 60, 70, 80, 90, 100], "{}", way.name);
    }
}

#[test]
fn crash_by_an_exception_in_the_pair_style() {
    let folder = tempfile::tempdir().unwrap();
    configure_table(folder.path());
    let output = lammps_otf().current_dir(&folder).args(["run", "run.toml", "-o", "out"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    let result = json(&folder.path().join("out/result.json"));
    assert_eq!(result["crash"]["kind"], "lammps_error", "{result}");
    assert!(result["crash"]["reason"].as_str().unwrap().contains("table inner cutoff"), "{result}");
    let last = result["last"]["step"].as_i64().unwrap();
    assert_eq!(check_crash_output(folder.path(), "an exception in the pair style", last), last);

    // The exception is thrown on one rank only, while the other waits for it.
    let folder = tempfile::tempdir().unwrap();
    configure_table(folder.path());
    let output = run_on_two_ranks(folder.path());
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    // It stores the region that was last sent to all ranks, some steps before.
    let stored = check_crash_output(folder.path(), "an exception in the pair style of one rank", last);
    assert!(stored <= last, "{stored}");
}

#[test]
fn crash_when_an_atom_moves_too_far_between_polls() {
    // All atoms drift across the faces of the box and from rank to rank, by 0.5 Å between two polls.
    let run = |limit: f64, ranks: usize| {
        let folder = tempfile::tempdir().unwrap();
        let more = format!(
            "temperature = 100\nsteps = 400\nensemble = \"nve\"\nsampling_interval = 10\nseed = 3\nuncertainty = \"none\"\n\
             setup = [\"velocity all set 50 30 10 sum yes\"]\nsanity = {{ max_displacement = {limit} }}\n"
        );
        eam_config(folder.path(), 3, &more);
        let output = match ranks {
            1 => lammps_otf().current_dir(&folder).args(["run", "run.toml", "-o", "out"]).output().unwrap(),
            _ => run_on_two_ranks(folder.path()),
        };
        (output.status.code(), json(&folder.path().join("out/result.json")), text(&output))
    };
    for ranks in [1, 2] {
        let (code, result, said) = run(0.8, ranks);
        assert_eq!(code, Some(0), "{said} {result}");
        let (code, result, said) = run(0.4, ranks);
        assert_eq!(code, Some(3), "{said}");
        assert_eq!(result["crash"]["kind"], "limit_exceeded");
        let reason = result["crash"]["reason"].as_str().unwrap();
        assert!(reason.contains("an atom has moved 0.6 Å since step 0, more than 0.4 Å"), "{reason}");
        assert!(reason.contains("sanity.max_displacement"), "{reason}");
    }
}

#[test]
fn restore_resets_the_time_to_that_of_the_frame() {
    let _one = common::one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let more = "temperature = 300\nsteps = 100\nsampling_interval = 10\nuncertainty = \"none\"\n\
                setup = [\"fix dr all dt/reset 10 1.0e-5 0.0005 0.001 units box\"]\n";
    eam_config(folder.path(), 3, more);
    let config = InferenceConfig::read(folder.path().join("run.toml")).unwrap();
    let mut simulation = LammpsRunner::new(&Comm::single(), folder.path().join("out")).simulation(&config).unwrap();
    let polled = |simulation: &mut Simulation| match simulation.advance().unwrap() {
        Event::Polled(poll) => (poll.step, poll.time),
        other => panic!("{other:?}"),
    };
    let seen: Vec<(i64, f64)> = (0..8).map(|_| polled(&mut simulation)).collect();
    assert!(seen[7].0 == 70 && seen[7].1 > 0.0 && seen[7].1 < 0.05, "{seen:?}");
    simulation.restore().unwrap();
    assert_eq!(polled(&mut simulation), seen[7]);
    let next = polled(&mut simulation);
    assert!(next.0 == 80 && next.1 > seen[7].1 && next.1 < seen[7].1 + 0.01, "{next:?} {seen:?}");
}

#[test]
fn restore_keeps_fixed_atoms_and_groups() {
    let _one = common::one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    // Groups by position: those of the first frame, not of the restored one.
    let own = "\"region low block INF INF INF INF -1 7\", \"group low region low\", \"compute u all ke/atom\", \
               \"fix push low addforce 0.5 0 0.5\"";
    let more =
        format!("temperature = 300\nsteps = 200\nsampling_interval = 20\nuncertainty = \"none\"\nsetup = [{own}]\n");
    eam_config(folder.path(), 3, &more);
    let crystal = common::aluminium(3).replace("pos:R:3", "pos:R:3:move_mask:L:1").replace("T T T", "T T F");
    let rows = crystal.lines().enumerate().map(|(i, line)| match i {
        0 | 1 => format!("{line}\n"),
        _ => format!("{line} {}\n", if i % 4 == 3 { 'F' } else { 'T' }),
    });
    common::write(folder.path(), "al.extxyz", &rows.collect::<String>());
    let config = InferenceConfig::read(folder.path().join("run.toml")).unwrap();
    let mut simulation = LammpsRunner::new(&Comm::single(), folder.path().join("out")).simulation(&config).unwrap();
    let groups = |simulation: &Simulation| {
        let lammps = simulation.lammps();
        let mut all: Vec<(AtomId, i32)> = lammps.ids().iter().zip(lammps.groups().iter().copied()).collect();
        all.sort_unstable();
        all
    };
    let fixed = |simulation: &Simulation| {
        let lammps = simulation.lammps();
        let mut places = by_id(lammps.ids().iter(), lammps.positions());
        places.retain(|(id, _)| id % 4 == 2);
        places
    };
    let next = |simulation: &mut Simulation| match simulation.advance().unwrap() {
        Event::Polled(poll) => poll,
        other => panic!("{other:?}"),
    };
    let first = next(&mut simulation);
    let (start, in_groups) = (fixed(&simulation), groups(&simulation));
    assert_eq!(start.len(), 27);
    (0..5).for_each(|_| drop(next(&mut simulation)));
    let before = next(&mut simulation);
    simulation.restore().unwrap();
    assert_eq!(groups(&simulation), in_groups);
    let again = next(&mut simulation);
    assert_eq!((again.step, before.step), (120, 120));
    assert!(
        (again.temperature / before.temperature - 1.0).abs() < 1e-9,
        "{} {}",
        again.temperature,
        before.temperature
    );
    (0..2).for_each(|_| drop(next(&mut simulation)));
    assert!(fixed(&simulation) == start, "a fixed atom has moved");
    assert!(first.temperature > 299.0);
}
