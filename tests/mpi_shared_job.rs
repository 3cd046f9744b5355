// SPDX-License-Identifier: GPL-2.0-or-later
//! Several simulations of the library share a job, each on a group of ranks; a process holds a small simulation
//! inside a large one; and two MPI libraries in one process are rejected.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{dependency, eam_config, mpiexec, text};
use lammps_otf::comm::{Comm, Session};
use lammps_otf::config::InferenceConfig;
use lammps_otf::io;
use lammps_otf::lammps::Lammps;
use lammps_otf::simulation::{Event, Simulation};

const FOLDER: &str = "LAMMPS_OTF_TEST_FOLDER";
const MORE: &str = "temperature = 300\nsteps = 40\nsampling_interval = 10\nuncertainty = \"none\"\n";

/// Runs to the end and returns the last total energy.
fn run(folder: &Path, seed: u32, comm: &Comm) -> f64 {
    let mut config = InferenceConfig::read(folder.join("run.toml")).unwrap();
    config.md.seed = seed;
    config.md.steps = 20 * u64::from(seed);
    let structure = io::read(&config.system.structure, None).unwrap();
    let data = folder.join("data.lammps");
    let mut simulation = Simulation::new(&config, &structure, &data, None, comm).unwrap();
    let mut energy = f64::NAN;
    loop {
        match simulation.advance().unwrap() {
            Event::Polled(poll) => energy = poll.total_energy,
            Event::Finished => return energy,
            Event::Crashed(crash) => panic!("{crash:?}"),
        }
    }
}

/// Not an independent test: run on four ranks by the test below.
#[test]
#[ignore = "a process of another test"]
fn child_that_shares_a_job() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).expect("set by the other test"));
    let session = Session::initialize();
    let world = session.world();
    // Groups of 1 and 3 ranks, with runs of different length.
    let group = usize::from(world.rank() > 0);
    let comm = world.split(group);
    assert_eq!(comm.size(), [1, 3][group]);
    let seed = [1, 3][group];
    let shared = run(&folder, seed, &comm);
    // The same simulation on this rank alone, while the groups still exist.
    let alone = run(&folder, seed, &Comm::single());
    assert!((shared - alone).abs() < 1e-9 * alone.abs(), "{shared} {alone}");
    // Bytes sent by one group are not counted by the other, and a group of one rank sends nothing.
    assert_eq!(comm.bytes_sent() > 0, group == 1);
    let mut sum = [seed as f64];
    world.sum(&mut sum);
    assert_eq!(sum, [10.0]);
    if world.is_root() {
        println!("both groups are done");
    }
}

#[test]
fn simulations_share_a_job() {
    let folder = tempfile::tempdir().unwrap();
    eam_config(folder.path(), 3, MORE);
    let config = InferenceConfig::read(folder.path().join("run.toml")).unwrap();
    let structure = io::read(&config.system.structure, None).unwrap();
    let file = std::fs::File::create(folder.path().join("data.lammps")).unwrap();
    io::lammps_data::write(&structure, file).unwrap();
    let output = mpiexec(4)
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child_that_shares_a_job", "--nocapture"])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("both groups are done"), "{}", text(&output));
}

/// Runs the test `child` of this file on `ranks` ranks and returns what it printed.
fn on_ranks(ranks: usize, child: &str) -> std::process::Output {
    mpiexec(ranks)
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", child, "--nocapture"])
        .env(FOLDER, "none")
        .output()
        .unwrap()
}

/// Not an independent test: what the test below runs on two ranks.
#[test]
#[ignore = "a process of another test"]
fn child_whose_communicators_outlive_the_session() {
    let (world, single) = {
        let session = Session::initialize();
        (session.world(), Comm::single())
    };
    let half = world.split(world.rank());
    drop(world);
    let mut lammps = Lammps::open(&["-log", "none", "-screen", "none"], &half).unwrap();
    lammps.command("region b block 0 1 0 1 0 1\ncreate_box 1 b").unwrap();
    drop((lammps, half));
    // MPI is still there for another session and for an instance on this rank alone.
    let again = Session::initialize().world();
    let mut sum = [1.0];
    again.sum(&mut sum);
    assert_eq!(sum, [2.0]);
    drop(again);
    drop(Lammps::open(&["-log", "none", "-screen", "none"], &single).unwrap());
    drop(single);
    // It was finalised with the last communicator.
    let error = std::panic::catch_unwind(Comm::single).unwrap_err();
    let message = error.downcast_ref::<&str>().unwrap();
    assert!(message.contains("MPI has been finalised"), "{message}");
    println!("MPI was there to the end");
}

#[test]
fn mpi_is_finalised_when_the_last_communicator_is_gone() {
    let output = on_ranks(2, "child_whose_communicators_outlive_the_session");
    let printed = text(&output);
    assert!(output.status.success() && printed.matches("MPI was there to the end").count() == 2, "{printed}");
}

/// Not an independent test: what the test below runs on two ranks.
#[test]
#[ignore = "a process of another test"]
fn child_that_splits_again_and_again() {
    let session = Session::initialize();
    let world = session.world();
    // MPICH has 2048 communicators.
    for round in 0..3000 {
        let all = world.split(0);
        assert_eq!(all.min_i64(round + all.rank() as i64), round);
    }
    println!("the communicators were enough");
}

#[test]
fn groups_give_their_communicators_back() {
    let output = on_ranks(2, "child_that_splits_again_and_again");
    let printed = text(&output);
    assert!(output.status.success() && printed.matches("the communicators were enough").count() == 2, "{printed}");
}

/// Not an independent test: what the test below runs on two ranks.
#[test]
#[ignore = "a process of another test"]
fn child_one_rank_of_which_panics() {
    let session = Session::initialize();
    let world = session.world();
    assert!(world.is_root(), "rank 1 gives up");
    // Rank 1 never comes.
    let _ = world.any(true);
}

#[test]
fn a_rank_that_unwinds_ends_the_job() {
    let output = on_ranks(2, "child_one_rank_of_which_panics");
    let printed = text(&output);
    // `mpiexec` in the tests ends a job that hangs with code 124.
    assert_eq!(output.status.code(), Some(5), "{printed}");
    assert!(printed.contains("rank 1 panicked. The job is aborted."), "{printed}");
}

/// Not an independent test: a process into which a second MPI library is loaded.
#[test]
#[ignore = "a process of another test"]
fn child_with_two_mpi_libraries() {
    let error = Lammps::open(&["-log", "none", "-screen", "none"], &Comm::single()).unwrap_err();
    println!("refused: {error}");
}

#[test]
fn second_mpi_library_is_rejected_and_both_are_reported() {
    // A library with the name of the other family and the function by which one is recognised, which the loader loads first.
    let folder = tempfile::tempdir().unwrap();
    let source = common::write(folder.path(), "other.c", "int PMPI_Init(void) { return 40; }\n");
    let other = folder.path().join("libmpi.so.40");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&other).arg(source).status().unwrap();
    assert!(compiled.success());
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child_with_two_mpi_libraries", "--nocapture"])
        .env("LAMMPS_OTF_TEST_TWO", "1")
        .env("LD_PRELOAD", &other)
        .output()
        .unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let one = dependency("lib/libmpi.so.12").canonicalize().unwrap();
    let named = [other.canonicalize().unwrap(), one];
    assert!(said.contains("several MPI libraries"), "{said}");
    assert!(named.iter().all(|library| said.contains(&library.display().to_string())), "{named:?}: {said}");
}
