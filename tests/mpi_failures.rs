// SPDX-License-Identifier: GPL-2.0-or-later
//! What goes wrong on one rank ends the job on all of them, soon: a hang is the worst bug there is.

mod common;

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::{al_config, dependency, text};
use lammps_otf::comm::Session;
use lammps_otf::config::InferenceConfig;
use lammps_otf::runner::LammpsRunner;

const FOLDER: &str = "LAMMPS_OTF_TEST_FOLDER";
const STEPS: &str = "temperature = 300\nsteps = 100\nsampling_interval = 10\n";

/// Runs under `mpiexec -n 2`; a hang ends with code 124.
fn on_two_ranks(program: impl FnOnce(&mut Command)) -> (Output, Duration) {
    let mut command = Command::new("timeout");
    command.arg("120").arg(dependency("bin/mpiexec")).args(["-n", "2"]);
    program(&mut command);
    let started = Instant::now();
    let output = command.output().unwrap();
    (output, started.elapsed())
}

/// Not a test of its own: what the test below runs on two ranks.
#[test]
fn child_whose_observer_panics_on_rank_1() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let session = Session::initialize();
    let world = session.world();
    let config = InferenceConfig::read(Path::new(&folder).join("run.toml")).unwrap();
    let rank = world.rank();
    let mut runner = LammpsRunner::new(&world, Path::new(&folder).join("out")).observe(move |poll| {
        assert!(rank != 1 || poll.step < 50, "the observer of rank 1 gives up");
    });
    let error = runner.run(&config).unwrap_err();
    println!("rank {rank} was told: {error}");
    assert!(error.to_string().contains("rank 1"), "{error}");
}

#[test]
fn a_panic_in_one_ranks_observer_ends_all_ranks() {
    let folder = tempfile::tempdir().unwrap();
    al_config(folder.path(), STEPS);
    let (output, time) = on_two_ranks(|command| {
        command.arg(std::env::current_exe().unwrap());
        command.args(["--exact", "child_whose_observer_panics_on_rank_1", "--nocapture"]).env(FOLDER, folder.path());
    });
    let said = text(&output);
    assert!(!output.status.success() && output.status.code() != Some(124), "{:?} {said}", output.status);
    assert!(
        said.contains("the observer of rank 1 gives up") && said.contains("rank 0 was told: rank 1 failed"),
        "{said}"
    );
    println!("both ranks ended after {time:?}");
    // Everything until then is there.
    let polls = common::lines(&folder.path().join("out/polls.jsonl"));
    assert_eq!(polls.last().unwrap()["step"], 50);
}

#[test]
fn a_full_disk_on_rank_0_ends_all_ranks_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    common::write(folder.path(), "al.extxyz", &common::aluminium(3));
    let eam = dependency("share/lammps/potentials/Al_mm.eam.fs");
    let text_of = format!(
        "structure = \"al.extxyz\"\ntemperature = 300\nsteps = 1000000\nsampling_interval = 1\nuncertainty = \"none\"\n\
         [potential]\npair_style = \"eam/fs\"\npair_coeff = [\"* * {} Al\"]\ncutoff = 6.5\n[embedding]\nradius = 4.0\nbuffer = 3.5\n",
        eam.display()
    );
    common::write(folder.path(), "run.toml", &text_of);
    // A limit on the size of files stands for the disk: 8 MB, which the lines of the polls reach after some 10,000 steps,
    // and MPI's own start does not.
    let (output, _) = on_two_ranks(|command| {
        let limited = "trap '' XFSZ; ulimit -f 8192; exec \"$0\" run run.toml -q -o out";
        command.args(["bash", "-c", limited]).arg(env!("CARGO_BIN_EXE_lammps-otf")).current_dir(folder.path());
    });
    let said = text(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    let result = common::json(&folder.path().join("out/result.json"));
    assert_eq!(result["crash"]["kind"], "unwritable", "{result}");
    let reason = result["crash"]["reason"].as_str().unwrap();
    assert!(reason.contains("cannot write") && reason.contains("polls.jsonl"), "{reason}");
    let store = lammps_otf::candidates::Store::open_existing(&folder.path().join("out/candidates.db")).unwrap();
    store.check().unwrap();
    assert_eq!(store.ids(None).unwrap(), [1], "the last valid frame gives a candidate");
}

#[test]
fn bad_input_is_said_once_and_ends_all_ranks() {
    let folder = tempfile::tempdir().unwrap();
    al_config(folder.path(), "temperature = -1\n");
    let (output, _) = on_two_ranks(|command| {
        command.arg(env!("CARGO_BIN_EXE_lammps-otf")).args(["run", "run.toml"]).current_dir(folder.path());
    });
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert_eq!(text(&output).matches("error:").count(), 1, "{}", text(&output));
}
