// SPDX-License-Identifier: GPL-2.0-or-later
//! Pauses within a run: LAMMPS gives the same results as without them, whatever is done in a pause. Without the
//! plugin only the log differs.

mod common;

use std::path::Path;

use common::{dependency, eam_config, eam_file, json, lammps_otf, lines, lmp, succeed, text};
use lammps_otf::comm::Comm;
use lammps_otf::lammps::{Lammps, Severity};

const RUN: &str = "temperature = 600\nseed = 3\nuncertainty = { compute = \"u\" }\nuncertainty_threshold = 1e9\n";

/// Runs the configuration in `folder`.
fn run(folder: &Path, out: &str, pauses: bool) {
    let mut command = lammps_otf();
    command.current_dir(folder).args(["run", "run.toml", "-q", "-o", out]);
    if !pauses {
        command.env("LAMMPS_OTF_PLUGINS", folder).env_remove("LAMMPS_PLUGIN_PATH");
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

/// The tables of a log as rows.
fn tables(log: &Path) -> Vec<Vec<String>> {
    let log = std::fs::read_to_string(log).unwrap();
    let rows = |table: &str| {
        let rows = table.lines().skip(1).take_while(|line| !line.starts_with("Loop time"));
        rows.filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned).collect()
    };
    log.split("   Step ").skip(1).map(rows).collect()
}

#[test]
fn log_has_the_table_of_a_single_run() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    eam_config(folder, 3, &format!("steps = 200\nsampling_interval = 10\nsetup = [\"compute u all ke/atom\"]\n{RUN}"));
    run(folder, "out", true);
    succeed(lmp().current_dir(folder.join("out")).args(["-in", "md.in", "-log", "plain"]));
    let (ours, plain) = (tables(&folder.join("out/log.lammps")), tables(&folder.join("out/plain")));
    assert_eq!(plain.len(), 1);
    assert_eq!(plain[0].len(), 21);
    // The poll before the first step is a run of zero steps.
    assert_eq!(ours, [&plain[0][..1], &plain[0]], "the same numbers, to the last digit");

    // Without the plugin, each chunk is a run.
    run(folder, "chunks", false);
    assert_eq!(tables(&folder.join("chunks/log.lammps")).len(), 21);
    let polls = |out: &str| {
        let mut polls = lines(&folder.join(out).join("polls.jsonl"));
        polls.iter_mut().for_each(common::without_times);
        polls
    };
    assert_eq!(polls("out").len(), 21);
    assert_eq!(polls("out"), polls("chunks"));
}

#[test]
fn rows_due_between_two_polls_are_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let steps = |out: &str| -> Vec<i64> {
        let table = tables(&folder.join(out).join("log.lammps")).pop().unwrap();
        table.iter().map(|row| row.split_whitespace().next().unwrap().parse().unwrap()).collect()
    };
    for (number, (thermo, rows)) in [
        ("thermo 7", vec![0, 7, 10, 14, 20, 21, 28, 30, 35, 36]),
        ("thermo 0", vec![0, 10, 20, 30, 36]),
        ("thermo 1000", vec![0, 10, 20, 30, 36]),
        // 1, 2, 4, 8, 16, 32
        ("variable rows equal logfreq(1,1,2)\", \"thermo v_rows", vec![0, 1, 2, 4, 8, 10, 16, 20, 30, 32, 36]),
    ]
    .into_iter()
    .enumerate()
    {
        // Energies and pressures are available at each of them; otherwise LAMMPS would end the run.
        let setup = format!("setup = [\"compute u all ke/atom\", \"{thermo}\"]\n");
        let template = std::fs::read_to_string(common::root().join("templates/md.in.j2")).unwrap();
        let fixed = "thermo          {{ interval }}\n";
        assert!(template.contains(fixed));
        common::write(folder, "own.j2", &template.replace(fixed, ""));
        eam_config(folder, 3, &format!("template = \"own.j2\"\nsteps = 36\nsampling_interval = 10\n{setup}{RUN}"));
        let out = format!("out{number}");
        run(folder, &out, true);
        assert_eq!(steps(&out), rows, "{thermo}");
        let polls = lines(&folder.join(&out).join("polls.jsonl"));
        let at: Vec<_> = polls.iter().map(|poll| poll["step"].as_i64().unwrap()).collect();
        assert_eq!(at, [0, 10, 20, 30, 36]);
        assert!(polls.iter().all(|p| p["potential_energy"].is_f64() && p["pressure"].is_f64()), "{polls:?}");
    }
}

#[test]
fn run_ended_by_the_setup_is_a_crash() {
    for pauses in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let setup = "setup = [\"compute u all ke/atom\", \"fix h all halt 1 tlimit > -1 error soft\"]\n";
        eam_config(folder.path(), 3, &format!("steps = 200\nsampling_interval = 10\n{setup}{RUN}"));
        let mut command = std::process::Command::new("timeout");
        command
            .args([&common::HANG.to_string(), env!("CARGO_BIN_EXE_lammps-otf")])
            .args(["run", "run.toml", "-q", "-o", "out"]);
        command.current_dir(&folder);
        if !pauses {
            command.env("LAMMPS_OTF_PLUGINS", folder.path()).env_remove("LAMMPS_PLUGIN_PATH");
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", text(&output));
        let crash = &json(&folder.path().join("out/result.json"))["crash"];
        assert!(crash["reason"].as_str().unwrap().contains("LAMMPS does not continue beyond step"), "{crash}");
    }
}

/// A hot crystal of 108 atoms, before set-up.
fn crystal() -> Lammps {
    let mut lammps = Lammps::open(&["-screen", "none", "-log", "none"], &Comm::single()).unwrap();
    lammps
        .command(&format!(
            "units metal\nlattice fcc 4.045\nregion box block 0 3 0 3 0 3\ncreate_box 1 box\ncreate_atoms 1 box\n\
         pair_style eam/fs\npair_coeff * * {} Al\nvelocity all create 900 5 loop geom\nfix md all nve\nthermo 7",
            eam_file().display()
        ))
        .unwrap();
    lammps
}

fn ready(lammps: &mut Lammps) {
    assert!(lammps.load_pause_fix().unwrap());
    lammps.pause_every(10).unwrap();
    lammps.run(0, true, 0..100).unwrap();
}

fn state(lammps: &Lammps) -> (i64, Vec<f64>, Vec<f64>, Option<f64>) {
    let rows = |view: ndarray::ArrayView2<'_, f64>| view.iter().copied().collect::<Vec<_>>();
    (lammps.step(), rows(lammps.positions()), rows(lammps.velocities()), lammps.last_thermo("PotEng").unwrap())
}

#[test]
fn trajectory_is_unchanged_whatever_is_done_in_a_pause() {
    let _one = common::one_at_a_time();
    let mut plain = crystal();
    plain.run(0, true, 0..100).unwrap();
    plain.run(100, false, 0..100).unwrap();
    let wanted = state(&plain);

    let mut lammps = crystal();
    ready(&mut lammps);
    let (mut going, mut seen) = (lammps.begin_run(100, 0..100).unwrap(), Vec::new());
    while going {
        let step = lammps.step();
        assert!(lammps.is_paused());
        assert_eq!(lammps.last_thermo("Step").unwrap(), Some(step as f64));
        seen.push(step);
        // Commands end the run, and a new one continues. A second instance does not affect the first.
        going = match step {
            20 => {
                lammps.command("print nothing").unwrap();
                assert!(!lammps.is_paused() && lammps.step() == 20);
                lammps.begin_run(80, 0..100).unwrap()
            }
            50 => {
                let mut other = crystal();
                ready(&mut other);
                assert!(other.begin_run(30, 0..30).unwrap());
                other.continue_run().unwrap();
                lammps.continue_run().unwrap();
                assert_eq!((other.step(), lammps.step()), (20, 60));
                true
            }
            70 => {
                lammps.end_run().unwrap();
                lammps.run(10, false, 0..100).unwrap();
                assert!(!lammps.continue_run().unwrap() && lammps.step() == 80);
                lammps.begin_run(20, 0..100).unwrap()
            }
            _ => lammps.continue_run().unwrap(),
        };
    }
    assert_eq!(seen, [10, 20, 30, 40, 50, 60, 70, 90, 100]);
    assert_eq!(state(&lammps), wanted);
}

#[test]
fn an_error_in_a_paused_run_is_an_error_of_that_run() {
    let _one = common::one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let mut lammps = crystal();
    lammps.load_plugin(&common::throwing::plugin(folder.path())).unwrap();
    for (kind, severity) in
        [("lammps", Severity::AllRanks), ("standard", Severity::Foreign), ("number", Severity::Foreign)]
    {
        let step = lammps.step();
        lammps.command(&format!("fix t all otf/throw end_of_step {kind} {}", step + 15)).unwrap();
        ready(&mut lammps);
        assert!(lammps.begin_run(100, 0..1000).unwrap());
        let error = lammps.continue_run().unwrap_err();
        assert_eq!(error.severity(), Some(severity), "{error}");
        assert!(error.to_string().contains("at `run 100 pre no post no"), "{error}");
        assert!(!lammps.is_paused() && !lammps.continue_run().unwrap());
        lammps.command("unfix t").unwrap();
    }
}

#[test]
fn instance_that_goes_away_in_a_pause_frees_its_resources() {
    let _one = common::one_at_a_time();
    let mapped = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().count()
    };
    let mut before = 0;
    for round in 0..30 {
        if round == 10 {
            before = mapped();
        }
        let mut lammps = crystal();
        ready(&mut lammps);
        assert!(lammps.begin_run(100, 0..100).unwrap());
    }
    // A stack that is not freed would add two mappings for each instance.
    assert!(mapped() < before + 20, "{before} places of memory became {}", mapped());
}

#[test]
fn fix_is_rejected_in_input_files() {
    let folder = tempfile::tempdir().unwrap();
    let input =
        common::write(folder.path(), "in", "region b block 0 1 0 1 0 1\ncreate_box 1 b\nfix p all otf/pause 10\n");
    let plugins = dependency("lib/lammps/plugins/otfpauseplugin.so");
    assert!(plugins.exists());
    let output = lmp().current_dir(&folder).arg("-in").arg(input).args(["-log", "none"]).output().unwrap();
    assert!(
        !output.status.success() && text(&output).contains("fix otf/pause is for the program lammps-otf"),
        "{}",
        text(&output)
    );
}
