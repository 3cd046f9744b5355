// SPDX-License-Identifier: GPL-2.0-or-later
//! The main job on actual input: run, poll, stop, extract and store, compared with python-ace, plain `lmp` and ASE.

mod common;

use std::path::Path;

use common::{al_config, dependency, json, lammps_otf, lines, lmp, python, root, script, succeed, text};
use lammps_otf::comm::Comm;
use lammps_otf::config::InferenceConfig;
use lammps_otf::io;
use lammps_otf::simulation::{Event, Simulation};
use lammps_otf::uncertainty::Verdict;

/// Melts Al until γ exceeds 5. The run takes some 20 s and serves several checks.
/// The default of `core_share` would stop the run before γ passes its threshold.
const RAMP: &str = "temperature = [300, 1500]\nsteps = 4000\nsampling_interval = 10\nseed = 12345\ncore_share = 1\n";

fn melt(folder: &Path) -> serde_json::Value {
    let config = al_config(folder, RAMP);
    let output =
        lammps_otf().current_dir(folder).arg("run").arg(&config).args(["-o", "out", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    let printed = String::from_utf8(output.stdout).unwrap();
    let printed: serde_json::Value = serde_json::from_str(printed.lines().last().unwrap()).expect("the result is last");
    let stored = json(&folder.join("out/result.json"));
    assert_eq!(printed["trigger_step"], stored["trigger_step"]);
    stored
}

#[test]
fn melting_crystal_stops_and_stores_a_candidate_readable_by_ase() {
    let folder = tempfile::tempdir().unwrap();
    let result = melt(folder.path());
    assert_eq!(result["status"], "UNCERTAIN");
    let (step, gamma) = (result["trigger_step"].as_i64().unwrap(), result["gamma_max"].as_f64().unwrap());
    assert!(step % 10 == 0 && gamma > 5.0, "{result}");
    assert_eq!(result["candidates"].as_array().unwrap().len(), 1);

    let out = folder.path().join("out");
    let polls = lines(&out.join("polls.jsonl"));
    let (last, earlier) = polls.split_last().unwrap();
    assert_eq!(last["step"].as_i64(), Some(step));
    assert_eq!(last["gamma"]["worst_id"], result["atom_id"]);
    assert!(earlier.iter().all(|p| p["gamma"]["max"].as_f64().unwrap() <= 5.0), "it stops at the first poll above");

    let listed = succeed(
        python().args(["-m", "ase", "db"]).arg(out.join("candidates.db")).args(["-c", "id,formula,status,gamma"]),
    );
    assert!(listed.contains("PENDING_DFT"), "{listed}");
    succeed(python().arg(script("read_candidate.py")).arg(&out));

    // The same trajectory in plain lmp with fix halt stops at the same step.
    let mut input = std::fs::read_to_string(out.join("md.in")).unwrap();
    let run = input.rfind("\nrun ").expect("md.in ends with a run");
    input.insert_str(
        run,
        "\ncompute halt_max all reduce max f_otf_gamma\nvariable halt_max equal c_halt_max\n\
         fix halt all halt 10 v_halt_max > 5.0 error continue\n",
    );
    let plain = folder.path().join("plain");
    std::fs::create_dir(&plain).unwrap();
    std::fs::copy(out.join("data.lammps"), plain.join("data.lammps")).unwrap();
    std::fs::write(plain.join("in"), input).unwrap();
    let log = succeed(lmp().current_dir(&plain).args(["-in", "in", "-log", "none"]));
    assert!(log.contains(&format!("met on step {step} ")), "lammps-otf stopped at step {step}, lmp says:\n{log}");
}

#[test]
fn gamma_energy_and_forces_equal_those_of_python_ace() {
    let _one = common::one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let config = InferenceConfig::read(al_config(folder.path(), RAMP)).unwrap();
    let structure = io::read(&config.system.structure, None).unwrap();
    let data = folder.path().join("data.lammps");
    io::lammps_data::write(&structure, std::fs::File::create(&data).unwrap()).unwrap();
    let mut simulation = Simulation::new(&config, &structure, &data, None, &Comm::single()).unwrap();
    let poll = loop {
        match simulation.advance().unwrap() {
            Event::Polled(poll) if poll.verdict == Verdict::Extrapolating => break poll,
            Event::Polled(_) => {}
            other => panic!("{other:?}"),
        }
    };
    let lammps = simulation.lammps();
    let gamma = config.watch.uncertainty.values(lammps).unwrap().unwrap();
    let rows = |view: ndarray::ArrayView2<'_, f64>| view.outer_iter().map(|r| r.to_vec()).collect::<Vec<_>>();
    let frame = serde_json::json!({
        "cell": lammps.cell().vectors,
        "positions": rows(lammps.positions()),
        "forces": rows(lammps.forces()),
        "gamma": gamma.to_vec(),
        "energy": poll.potential_energy,
        "potential": config.system.potential.file,
    });
    let path = folder.path().join("frame.json");
    std::fs::write(&path, frame.to_string()).unwrap();
    println!("{}", succeed(python().arg(script("compare_pace.py")).arg(&path)));
}

#[test]
fn energy_is_conserved_and_gamma_stays_low_in_a_crystal_at_300_k() {
    let folder = tempfile::tempdir().unwrap();
    // Starting from a perfect lattice, half of the kinetic energy becomes potential energy: 600 K become 300 K.
    let config = al_config(
        folder.path(),
        "ensemble = \"nve\"\ntemperature = 600\nsteps = 2000\nsampling_interval = 10\nseed = 7\n",
    );
    let output = lammps_otf().current_dir(&folder).arg("run").arg(&config).args(["-o", "out", "-q"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let result = json(&folder.path().join("out/result.json"));
    assert_eq!((&result["status"], result["steps"].as_i64()), (&"COMPLETED".into(), Some(2000)));
    assert!(result["gamma_max"].as_f64().unwrap() < 2.0, "{result}");

    let polls = lines(&folder.path().join("out/polls.jsonl"));
    let numbers = |name: &str| polls.iter().map(|p| p[name].as_f64().unwrap()).collect::<Vec<_>>();
    let (time, energy) = (numbers("time"), numbers("total_energy"));
    let drift = slope(&time, &energy) * 1000.0 / 500.0;
    let late = &numbers("temperature")[50..];
    let temperature = late.iter().sum::<f64>() / late.len() as f64;
    println!("drift {drift:.2e} meV/atom/ps at {temperature:.0} K, γ_max {}", result["gamma_max"]);
    assert!(drift.abs() < 0.01, "the total energy drifts by {drift} meV/atom/ps");
    assert!((250.0..350.0).contains(&temperature), "{temperature} K");
}

/// Slope of the least-squares line.
fn slope(x: &[f64], y: &[f64]) -> f64 {
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (mx, my) = (mean(x), mean(y));
    let covariance: f64 = x.iter().zip(y).map(|(a, b)| (a - mx) * (b - my)).sum();
    covariance / x.iter().map(|a| (a - mx).powi(2)).sum::<f64>()
}

#[test]
fn event_and_cut_out_do_not_depend_on_the_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    // γ exceeds this low threshold within some 300 steps, before the order of summation has separated the
    // trajectories.
    let config = al_config(
        folder.path(),
        "temperature = [600, 3000]\nsteps = 2000\nsampling_interval = 10\nseed = 5\nuncertainty_threshold = 2.5\nregions_per_event = 3\n",
    );
    let mut first: Option<serde_json::Value> = None;
    for ranks in [1, 2, 3, 4] {
        let out = folder.path().join(format!("out-{ranks}"));
        // MPI creates its sockets below TMPDIR. The command takes less than a minute, so a hang is a failure.
        let output = std::process::Command::new("timeout")
            .arg(common::HANG.to_string())
            .arg(dependency("bin/mpiexec"))
            .args(["-n", &ranks.to_string()])
            .arg(env!("CARGO_BIN_EXE_lammps-otf"))
            .arg("run")
            .arg(&config)
            .args(["-q", "-o"])
            .arg(&out)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(4), "{ranks} ranks: {}", text(&output));
        let seen = json(&out.join("result.json"));
        assert_eq!(seen["ranks"], ranks);
        let Some(one) = &first else {
            first = Some(seen);
            continue;
        };
        assert_eq!(one["trigger_step"], seen["trigger_step"], "{ranks} ranks");
        assert_eq!(one["atom_id"], seen["atom_id"], "{ranks} ranks");
        succeed(python().arg(script("same_candidate.py")).arg(folder.path().join("out-1")).arg(&out));
    }
    println!(
        "one event for 1 to 4 ranks: step {}, atom {}",
        first.as_ref().unwrap()["trigger_step"],
        first.as_ref().unwrap()["atom_id"]
    );
}

/// Hot from the start, so that several regions are above the threshold after a few steps. There is no thermostat,
/// whose forces would be added.
const HOT: &str = "temperature = 6000\nensemble = \"nve\"\nsteps = 200\nsampling_interval = 10\nseed = 3\n";

fn stored_by(more: &str, embedding: &str) -> Vec<lammps_otf::candidates::CandidateKeys> {
    let folder = tempfile::tempdir().unwrap();
    let config = al_config(folder.path(), &format!("{HOT}{more}"));
    let changed = std::fs::read_to_string(&config).unwrap().replace("radius = 4.0", embedding);
    std::fs::write(&config, changed).unwrap();
    let output = lammps_otf().current_dir(&folder).arg("run").arg(&config).args(["-o", "out", "-q"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    assert_eq!(text(&output), "", "no warnings");
    let store = lammps_otf::candidates::Store::open_existing(&folder.path().join("out/candidates.db")).unwrap();
    store.ids(None).unwrap().into_iter().map(|id| store.get(id).unwrap().candidate.keys).collect()
}

#[test]
fn buffer_of_one_cutoff_keeps_gamma_for_several_regions() {
    let regions = "regions_per_event = 3\nuncertainty_low = 1.0\nuncertainty_threshold = 1.5\nnovelty = 0.0\n";
    let found = stored_by(regions, "radius = 4.0");
    assert_eq!(found.len(), 3);
    for keys in found {
        let (parent, cluster) = (keys.gamma_parent.unwrap(), keys.gamma_cluster.unwrap());
        println!("γ {parent:.6} and {cluster:.6}, forces within {:.1e} eV/Å", keys.max_force_difference.unwrap());
        assert!(parent > 1.5 && (parent / cluster - 1.0).abs() < 1e-8, "{parent} {cluster}");
    }
}

#[test]
fn ill_conditioned_active_set_gives_no_false_warning() {
    let folder = tempfile::tempdir().unwrap();
    let config = al_config(folder.path(), &format!("{HOT}regions_per_event = 3\nnovelty = 0.0\n"));
    let potential = root().join("potentials/al");
    let mut make = python();
    make.arg(script("ill_conditioned.py")).args(["Al.yaml", "Al.asi"].map(|file| potential.join(file)));
    succeed(make.arg(folder.path()));
    let from = potential.join("Al.yaml").display().to_string();
    let changed = std::fs::read_to_string(&config).unwrap().replace(&from, "Al.yaml");
    for engine in ["opt", "ml-pace"] {
        let changed = changed.replace("[potential]", &format!("[potential]\nengine = \"{engine}\""));
        std::fs::write(&config, changed).unwrap();
        let output =
            lammps_otf().current_dir(&folder).arg("run").arg(&config).args(["-o", engine, "-q"]).output().unwrap();
        assert_eq!(output.status.code(), Some(4), "{}", text(&output));
        assert_eq!(text(&output), "", "no warnings");
        let store =
            lammps_otf::candidates::Store::open_existing(&folder.path().join(engine).join("candidates.db")).unwrap();
        let mut most: f64 = 0.0;
        for id in store.ids(None).unwrap() {
            let keys = store.get(id).unwrap().candidate.keys;
            let (parent, cluster) = (keys.gamma_parent.unwrap(), keys.gamma_cluster.unwrap());
            let difference = (parent / cluster - 1.0).abs();
            println!("{engine}: γ {parent:.9} and {cluster:.9}, rounding {:.1e}", keys.gamma_rounding.unwrap_or(0.0));
            assert!(keys.gamma_rounding.is_some() == (difference > 1e-8) && difference < 1e-2, "{parent} {cluster}");
            most = most.max(difference);
        }
        assert!(most > 1e-8, "rounding is not seen in {engine}: {most}");
    }
}

#[test]
fn buffer_of_two_cutoffs_keeps_the_forces() {
    for shape in ["sphere", "cube"] {
        let found = stored_by("", &format!("shape = \"{shape}\"\nradius = 2.3\nbuffer = 11.0\nmax_atoms = 2000"));
        let forces = found[0].max_force_difference.unwrap();
        println!("{shape}: forces within {forces:.1e} eV/Å");
        assert!(forces < 1e-11, "{forces}");
    }
}

#[test]
fn buffer_thinner_than_the_cutoff_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let config = al_config(
        folder.path(),
        "temperature = 6000\nensemble = \"nve\"\nsteps = 200\nsampling_interval = 10\nseed = 3\n",
    );
    let with_buffer = std::fs::read_to_string(&config).unwrap() + "buffer = 3.0\n";
    std::fs::write(&config, with_buffer).unwrap();
    let output = lammps_otf().current_dir(&folder).arg("run").arg(&config).args(["-o", "out", "-q"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    assert!(text(&output).contains("thinner than the cutoff of 5.5"), "{}", text(&output));
}

#[test]
fn optimized_engine_gives_the_same_event_and_cut_out() {
    let folder = tempfile::tempdir().unwrap();
    let early =
        "temperature = [600, 3000]\nsteps = 2000\nsampling_interval = 10\nseed = 5\nuncertainty_threshold = 2.5\n";
    let config = al_config(folder.path(), early);
    let text_of = std::fs::read_to_string(&config).unwrap();
    for (engine, out) in [("ml-pace", "out-1"), ("opt", "out-2")] {
        std::fs::write(&config, text_of.replace("[potential]", &format!("[potential]\nengine = \"{engine}\"")))
            .unwrap();
        let output =
            lammps_otf().current_dir(&folder).arg("run").arg(&config).args(["-o", out, "-q"]).output().unwrap();
        assert_eq!(output.status.code(), Some(4), "{engine}: {}", text(&output));
    }
    let (one, two) = (folder.path().join("out-1"), folder.path().join("out-2"));
    let (a, b) = (json(&one.join("result.json")), json(&two.join("result.json")));
    println!("step {} and {}; {} s and {} s", a["trigger_step"], b["trigger_step"], a["seconds"], b["seconds"]);
    assert_eq!((&a["trigger_step"], &a["atom_id"]), (&b["trigger_step"], &b["atom_id"]));
    succeed(python().arg(script("same_candidate.py")).arg(one).arg(two));
}
