// SPDX-License-Identifier: GPL-2.0-or-later
//! The bias towards large extrapolation grades: in plain LAMMPS, and in runs with `[explore]`.

mod common;

use std::path::Path;

use common::{al_config, json, lammps_otf, lines, mpiexec, root, run_lmp, text, write};

/// 256 vibrating atoms of Al in NVE. Prints the total energy, the energy of the bias and their sum.
fn input(strength: f64, timestep: f64, steps: u32) -> String {
    let potential = root().join("potentials/al");
    format!(
        "units metal\nnewton on\nlattice fcc 4.05\nregion b block 0 4 0 4 0 4\ncreate_box 1 b\ncreate_atoms 1 box\n\
         mass 1 26.98\npair_style pace/extrapolation/opt bias {strength} 0.0 10.0 0.65\n\
         pair_coeff * * {0}/Al.yaml {0}/Al.asi Al\nvelocity all create 600 12 mom yes rot no loop geom\n\
         timestep {timestep}\nfix 1 all nve\ncompute b all pair pace/extrapolation/opt\n\
         variable h equal etotal+c_b[1]\nthermo_style custom step etotal c_b[1] v_h press\n\
         thermo_modify format float %.10g\nthermo {1}\nrun {steps}\n",
        potential.display(),
        steps / 10
    )
}

/// The rows of the thermo table: step, total energy, energy of the bias, their sum, pressure.
fn rows(output: &str) -> Vec<[f64; 5]> {
    let numbers = |line: &str| line.split_whitespace().map(|w| w.parse().ok()).collect::<Option<Vec<f64>>>();
    output.lines().filter_map(numbers).filter_map(|row| row.try_into().ok()).collect()
}

fn plain(strength: f64, timestep: f64, steps: u32) -> Vec<[f64; 5]> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "in.lammps", &input(strength, timestep, steps));
    let output = run_lmp(folder.path());
    assert!(output.status.success(), "{}", text(&output));
    rows(&text(&output))
}

#[test]
fn the_biased_hamiltonian_is_conserved() {
    let drift = |rows: &[[f64; 5]], column: usize| {
        rows.iter().map(|row| (row[column] - rows[0][column]).abs()).fold(0.0, f64::max)
    };
    let (long, short) = (plain(0.01, 0.001, 300), plain(0.01, 0.0005, 600));
    assert_eq!((long.len(), short.len()), (11, 11));
    // The work of the bias is a hundred times the error of the integration, which falls with the square of the time step.
    let (error, finer) = (drift(&long, 3), drift(&short, 3));
    assert!(error < 0.02 && drift(&long, 1) > 50.0 * error, "{error} {}", drift(&long, 1));
    assert!((3.0..5.0).contains(&(error / finer)), "{error} {finer}");
    // The error is that of the potential alone.
    let unbiased = drift(&plain(0.0, 0.001, 300), 3);
    assert!(error < 2.0 * unbiased, "{error} {unbiased}");
}

#[test]
fn ranks_agree() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "in.lammps", &input(0.01, 0.001, 40));
    let run = |ranks: usize| {
        let output = mpiexec(ranks)
            .arg(common::dependency("bin/lmp"))
            .args(["-in", "in.lammps", "-log", "none", "-nocite"])
            .env("LAMMPS_PLUGIN_PATH", common::dependency("lib/lammps/plugins"))
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        rows(&text(&output))
    };
    let (one, two) = (run(1), run(2));
    assert_eq!((one.len(), two.len()), (11, 11));
    for (a, b) in one.iter().flatten().zip(two.iter().flatten()) {
        // Printed with ten digits; rounding errors grow little in 40 steps.
        assert!((a - b).abs() < 1e-7 * a.abs().max(1.0), "{a} {b}");
    }
}

const LANGEVIN: &str = "temperature = 300\nensemble = \"nvt\"\nthermostat = \"langevin\"\ntemperature_damping = 0.05\n\
                        sampling_interval = 10\n";

/// A configuration with a table `[explore]`.
fn explore_config(folder: &Path, more: &str, explore: &str) -> std::path::PathBuf {
    let config = al_config(folder, more);
    let text = std::fs::read_to_string(&config).unwrap();
    write(folder, "run.toml", &format!("{text}[explore]\n{explore}\n"))
}

fn run(config: &Path, output: &Path, code: i32) -> String {
    let done = lammps_otf().arg("run").arg(config).arg("--output").arg(output).output().unwrap();
    assert_eq!(done.status.code(), Some(code), "{}", text(&done));
    text(&done)
}

#[test]
fn a_biased_run_finds_an_event() {
    let folder = tempfile::tempdir().unwrap();
    let config = explore_config(folder.path(), &format!("{LANGEVIN}steps = 20000\n"), "");
    let output = folder.path().join("out");
    run(&config, &output, 4);
    let result = json(&output.join("result.json"));
    assert_eq!(result["status"], "UNCERTAIN", "{result}");
    assert!(result["candidates"].as_array().is_some_and(|ids| !ids.is_empty()));
    assert!(result["warnings"].as_array().is_some_and(Vec::is_empty), "verified with the potential alone: {result}");
    let polls = lines(&output.join("polls.jsonl"));
    let strength = |k: usize| polls[k]["bias"]["strength"].as_f64().unwrap();
    // Zero during the warm-up of three polls; then it rises, and grows.
    assert!((0..3).all(|k| strength(k) == 0.0) && strength(3) > 0.0 && strength(8) > strength(3));
    let onset = |k: usize| polls[k]["bias"]["onset"].as_f64().unwrap();
    assert!((1..polls.len()).all(|k| (0.7..1.0).contains(&onset(k))), "near the 99 % quantile of the crystal");
    let last = polls.last().unwrap();
    assert!(last["bias"]["energy"].as_f64().is_some_and(|energy| energy < 0.0));
    // The averages of a poll differ from those that the strength follows from.
    let relative = |k: usize| polls[k]["bias"]["relative"].as_f64().unwrap();
    assert!((1.8..2.2).contains(&relative(8)), "{}", relative(8));
    assert!(relative(polls.len() - 1) > 1.03 * relative(8));
    let set_up = std::fs::read_to_string(output.join("md.in")).unwrap();
    assert!(set_up.contains("But not the bias of [explore]"), "{set_up}");

    let report =
        common::succeed(lammps_otf().arg("report").arg(&output).arg("--plots").arg(folder.path().join("plots")));
    assert_eq!(report.lines().count(), 1 + 18, "the page, seven plots and two of the bias, twice each: {report}");
    let page = std::fs::read_to_string(output.join("report.html")).unwrap();
    assert!(page.contains("environments found per ps"));
}

/// A bias of constant strength is in `md.in`, with which plain LAMMPS runs the same trajectory.
#[test]
fn plain_lammps_repeats_a_run_of_constant_strength() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "temperature = 300\nensemble = \"nve\"\nsampling_interval = 10\nsteps = 50\n";
    let config = explore_config(folder.path(), settings, "fixed_strength = 0.02\nonset = 0.7");
    let output = folder.path().join("out");
    run(&config, &output, 0);
    let set_up = std::fs::read_to_string(output.join("md.in")).unwrap();
    assert!(set_up.contains("pace/extrapolation/opt bias 0.02 0.7 6.25 0.65\n"), "{set_up}");
    let (before, run) = set_up.rsplit_once("\nrun ").unwrap();
    let plain = format!(
        "{before}\ncompute otf_b all pair pace/extrapolation/opt\nthermo_style custom step etotal c_otf_b[1]\n\
         thermo_modify format float %.12g\nrun {run}\n"
    );
    write(&output, "in.lammps", &plain);
    let done = run_lmp(&output);
    assert!(done.status.success(), "{}", text(&done));
    let said = text(&done);
    let last = said.lines().find(|line| line.split_whitespace().next() == Some("50"));
    let numbers: Vec<f64> =
        last.unwrap_or_else(|| panic!("{said}")).split_whitespace().map(|word| word.parse().unwrap()).collect();
    let polls = lines(&output.join("polls.jsonl"));
    let poll = polls.last().unwrap();
    let close = |a: f64, b: &serde_json::Value| assert!((a - b.as_f64().unwrap()).abs() < 1e-7 * a.abs(), "{a} {b}");
    close(numbers[1], &poll["total_energy"]);
    close(numbers[2], &poll["bias"]["energy"]);
    assert!(numbers[2] < 0.0);
}

/// With a Nosé–Hoover thermostat; the random numbers of a Langevin thermostat depend on the number of ranks.
#[test]
fn ranks_find_the_same_event() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "temperature = 600\nensemble = \"nvt\"\nsampling_interval = 10\nsteps = 3000\n";
    let config = explore_config(folder.path(), settings, "");
    let last = |ranks: usize| {
        let output = folder.path().join(format!("on-{ranks}"));
        let program = env!("CARGO_BIN_EXE_lammps-otf");
        let done = mpiexec(ranks).arg(program).arg("run").arg(&config).arg("--output").arg(&output).output().unwrap();
        assert_eq!(done.status.code(), Some(4), "{}", text(&done));
        json(&output.join("result.json"))["last"].clone()
    };
    let one = last(1);
    for ranks in [2, 4] {
        let other = last(ranks);
        assert_eq!((&one["step"], &one["gamma"]["worst_id"]), (&other["step"], &other["gamma"]["worst_id"]));
        let near = |read: fn(&serde_json::Value) -> f64| {
            let (a, b) = (read(&one), read(&other));
            // Rounding errors of the sums grow in the steps before the event.
            assert!((a - b).abs() < 1e-6 * a.abs(), "{a} {b}");
        };
        near(|poll| poll["gamma"]["max"].as_f64().unwrap());
        near(|poll| poll["bias"]["energy"].as_f64().unwrap());
        near(|poll| poll["bias"]["strength"].as_f64().unwrap());
        near(|poll| poll["bias"]["onset"].as_f64().unwrap());
    }
}

#[test]
fn a_guard_ends_a_run_in_good_order() {
    let folder = tempfile::tempdir().unwrap();
    let config = explore_config(folder.path(), &format!("{LANGEVIN}steps = 500\n"), "max_temperature = 100");
    let output = folder.path().join("out");
    let text = run(&config, &output, 4);
    assert!(text.contains("by a guard of the exploration"), "{text}");
    let result = json(&output.join("result.json"));
    assert_eq!(result["status"], "GUARDED");
    assert!(result["last"]["bias"]["guard"]["temperature"].is_number(), "{result}");
    common::succeed(lammps_otf().arg("report").arg(&output));
    let page = std::fs::read_to_string(output.join("report.html")).unwrap();
    assert!(page.contains("A guard of the exploration ended the run at step 0: the temperature is 300 K"), "{result}");
}

#[test]
fn a_resumed_run_continues_with_the_same_strength() {
    let settings = "temperature = 500\nensemble = \"nvt\"\nsampling_interval = 10\ncheckpoint_interval = 200\n";
    let explore = "strength = 0.5\ngrowth = 0.01\nmax_temperature = 5000";
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    run(&explore_config(folder.path(), &format!("{settings}steps = 400\n"), explore), &whole, 0);
    run(&explore_config(folder.path(), &format!("{settings}steps = 200\n"), explore), &parts, 0);
    let config = explore_config(folder.path(), &format!("{settings}steps = 400\n"), explore);
    let resumed = lammps_otf().args(["run", "--resume"]).arg(&config).arg("--output").arg(&parts).output().unwrap();
    assert!(resumed.status.success(), "{}", text(&resumed));
    let (whole, parts) = (lines(&whole.join("polls.jsonl")), lines(&parts.join("polls.jsonl")));
    assert_eq!(whole.len(), parts.len());
    for (a, b) in whole.iter().zip(&parts) {
        assert_eq!((&a["step"], &a["bias"], &a["total_energy"]), (&b["step"], &b["bias"], &b["total_energy"]));
    }
    // Another strength is another trajectory.
    let config =
        explore_config(folder.path(), &format!("{settings}steps = 600\n"), "strength = 0.06\nwarmup = 3\nramp = 5");
    let refused =
        lammps_otf().args(["run", "--resume"]).arg(&config).arg("--output").arg(folder.path().join("parts")).output();
    let refused = refused.unwrap();
    assert!(refused.status.code() == Some(2) && text(&refused).contains("`explore`"), "{}", text(&refused));
}

#[test]
fn settings_without_effect_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("strength = -1", "explore.strength"),
        ("warmup = 0", "explore.warmup"),
        ("volume = [1.1, 1.2]", "explore.volume"),
        ("onset = 5", "explore.onset"),
        ("growth = 2", "explore.growth"),
        ("strenght = 1", "strenght"),
    ];
    for (explore, words) in cases {
        let config = explore_config(folder.path(), LANGEVIN, explore);
        let said = run(&config, &folder.path().join("out"), 2);
        assert!(said.contains(words), "{said}");
    }
    let config = explore_config(folder.path(), &format!("{LANGEVIN}uncertainty = \"none\"\n"), "");
    assert!(run(&config, &folder.path().join("out"), 2).contains("uncertainty"));
    let config = al_config(folder.path(), LANGEVIN);
    let text =
        std::fs::read_to_string(&config).unwrap().replace("[potential]", "[replicas]\nexplore = [0.1]\n[potential]");
    let config = write(folder.path(), "run.toml", &text);
    let out = folder.path().join("out");
    let replicas =
        lammps_otf().arg("run").arg(&config).args(["--replicas", "1"]).arg("--output").arg(out).output().unwrap();
    assert_eq!(replicas.status.code(), Some(2), "{}", common::text(&replicas));
    assert!(common::text(&replicas).contains("[explore]"), "{}", common::text(&replicas));
}
