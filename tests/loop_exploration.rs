// SPDX-License-Identifier: GPL-2.0-or-later
//! A learning loop whose runs are biased towards large γ, and its guards.

mod common;

use std::path::Path;

use common::{aluminium, dependency, eam_file, lammps_otf, lines, mpiexec, python, root, succeed, text, write};
use lammps_otf::candidates::{Phase, Round, RoundOutcome, Store};

/// A loop with EAM as the oracle and a linear fit as the trainer; `top` precedes the tables, `runs` follows `[loop]`.
fn config(folder: &Path, top: &str, explore: &str, runs: &str) {
    let data = folder.join("data");
    succeed(python().arg(root().join("potentials/al/fit.py")).arg("--data").arg(&data));
    write(folder, "al.extxyz", &aluminium(4));
    let (potential, eam) = (root().join("potentials/al/Al.yaml"), eam_file());
    let (python, trainer) = (dependency("bin/python3"), root().join("examples/trainers/pace_linear.py"));
    let (base, test) = (data.join("training.extxyz"), data.join("testing.extxyz"));
    let toml = format!(
        "structure = \"al.extxyz\"\nensemble = \"nvt\"\ntemperature = 300\nsampling_interval = 10\nseed = 12345\n{top}\n\
         [potential]\nfile = {potential:?}\n[embedding]\nradius = 4.0\n[explore]\n{explore}\n\
         [loop]\nbatch = 2\nselect = 4\nmax_rounds = 1\nresume_from = \"start\"\n{runs}\n\
         [loop.oracle]\ntype = \"lammps\"\npair_style = \"eam/fs\"\npair_coeff = [\"* * {} Al\"]\n\
         [loop.trainer]\ncommand = [{python:?}, {trainer:?}, \"--base\", {base:?}, \"--test\", {test:?}, \"--labelled\", \
         \"{{labelled}}\", \"--potential\", \"{{potential}}\", \"--active-set\", \"{{active_set}}\", \"--output\", \
         \"{{output}}\"]\n",
        eam.display()
    );
    write(folder, "loop.toml", &toml);
}

/// Runs the loop to the limit of one round, and returns that round.
fn first_round(folder: &Path, output: &str, ranks: usize) -> (Round, String) {
    let mut command = if ranks == 1 { lammps_otf() } else { mpiexec(ranks) };
    if ranks > 1 {
        command.arg(lammps_otf().get_program());
    }
    command.current_dir(folder).args(["loop", "loop.toml", "-o", output]).env("OMP_NUM_THREADS", "1");
    let done = command.output().unwrap();
    assert_eq!(done.status.code(), Some(4), "{}", text(&done));
    let store = Store::open_existing(&folder.join(output).join("candidates.db")).unwrap();
    (store.rounds().unwrap().swap_remove(0), text(&done))
}

#[test]
fn biased_run_of_a_loop_has_events_and_the_unbiased_one_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    // A Nosé–Hoover thermostat, because the random numbers of a Langevin thermostat depend on the number of ranks.
    let runs = "[[loop.run]]\nname = \"calm\"\nsteps = 200\nexplore = 0\n\
                [[loop.run]]\nname = \"pushed\"\ntemperature = 600\nexplore = 3.0\n";
    config(at, "steps = 2000", "growth = 0.1", runs);
    let (round, _) = first_round(at, "out", 1);
    assert_eq!((round.phase, round.outcome), (Phase::Done, Some(RoundOutcome::Events)), "{round:?}");
    let [calm, pushed] = &round.runs[..] else { panic!("{round:?}") };
    assert_eq!((calm.outcome, calm.events, calm.reached), (Some(RoundOutcome::Quiet), 0, 200));
    assert!(pushed.outcome == Some(RoundOutcome::Events) && pushed.events > 0, "{round:?}");
    assert!(round.labelled > 0 && round.force_rmse_after < round.force_rmse_before, "{round:?}");
    let polls = |name: &str| lines(&at.join(format!("out/round-001/{name}/polls.jsonl")));
    assert!(polls("calm").iter().all(|poll| poll["bias"].is_null()));
    let pushed_polls = polls("pushed");
    let strength = |poll: &serde_json::Value| poll["bias"]["strength"].as_f64().unwrap();
    assert!(pushed_polls.len() > 5 && strength(&pushed_polls[0]) == 0.0 && strength(&pushed_polls[5]) > 0.0);
    succeed(lammps_otf().current_dir(at).args(["report", "out", "--plots", "plots"]));
    assert!(at.join("plots/bias-round-1,-pushed.svg").is_file() && !at.join("plots/bias-round-1,-calm.svg").exists());
    let (parallel, _) = first_round(at, "two", 2);
    let [_, other] = &parallel.runs[..] else { panic!("{parallel:?}") };
    assert_eq!((pushed.first_event, pushed.events), (other.first_event, other.events));
}

#[test]
fn guard_of_a_loop_ends_the_run_and_its_region_is_learned() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let top = "steps = 2000\nuncertainty_threshold = 1000";
    config(
        at,
        &top.replace("steps", "temperature_damping = 0.05\nsteps"),
        "gamma_limit = 6\nmax_temperature = 250",
        "halt = 2000",
    );
    // The crystal has half of its initial temperature after a few steps, and passes the guard when the thermostat has heated it.
    let toml = std::fs::read_to_string(at.join("loop.toml")).unwrap();
    write(at, "loop.toml", &toml.replace("temperature = 300", "temperature = [100, 600]"));
    let (round, said) = first_round(at, "out", 1);
    assert_eq!((round.outcome, round.events, round.labelled), (Some(RoundOutcome::Crash), 0, 1), "{round:?}");
    assert!(round.reached > 0 && said.contains("explore.max_temperature"), "{said}");
    let polls = lines(&at.join("out/round-001/polls.jsonl"));
    let last = polls.last().unwrap();
    assert!(last["bias"]["guard"]["temperature"].as_f64().is_some_and(|kelvin| kelvin > 250.0), "{last}");
    assert!(polls.iter().rev().skip(1).all(|poll| poll["bias"]["guard"].is_null()));
}
