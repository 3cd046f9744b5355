// SPDX-License-Identifier: GPL-2.0-or-later
//! Swap of the potential in a running simulation: only the potential changes, or nothing on an error.

mod common;

use std::path::{Path, PathBuf};

use common::{al_config, root};
use lammps_otf::comm::Comm;
use lammps_otf::config::{Engine, InferenceConfig, Potential};
use lammps_otf::io;
use lammps_otf::simulation::{Error, Event, Simulation};
use lammps_otf::structure::{AtomId, Structure};
use lammps_otf::verify::evaluate;
use ndarray::Array2;

fn config(folder: &Path, engine: Engine) -> InferenceConfig {
    let more = "temperature = [600, 900]\nsteps = 400\nsampling_interval = 20\nuncertainty_threshold = 1e6\n";
    let mut config = InferenceConfig::read(al_config(folder, more)).unwrap();
    config.system.potential.engine = engine;
    config
}

fn open(folder: &Path, config: &InferenceConfig) -> Simulation {
    let structure = io::read(&config.system.structure, None).unwrap();
    let data = folder.join("data.lammps");
    io::lammps_data::write(&structure, std::fs::File::create(&data).unwrap()).unwrap();
    Simulation::new(config, &structure, &data, None, &Comm::single()).unwrap()
}

/// The largest γ of the next event, and its step.
fn poll(simulation: &mut Simulation) -> (i64, f64) {
    match simulation.advance().unwrap() {
        Event::Polled(poll) => (poll.step, poll.gamma.unwrap().max),
        other => panic!("{other:?}"),
    }
}

/// Positions and velocities in the order of ids, as bits.
fn state(simulation: &Simulation) -> Vec<(AtomId, Vec<u64>)> {
    let lammps = simulation.lammps();
    let rows = lammps.positions().into_iter().copied().collect::<Vec<f64>>();
    let velocities = lammps.velocities().into_iter().copied().collect::<Vec<f64>>();
    let mut state: Vec<_> = (lammps.ids().iter().zip(rows.chunks(3).zip(velocities.chunks(3))))
        .map(|(id, (x, v))| (id, x.iter().chain(v).map(|f| f.to_bits()).collect()))
        .collect();
    state.sort_unstable();
    state
}

fn frame(simulation: &Simulation) -> Structure {
    let lammps = simulation.lammps();
    Structure {
        cell: lammps.cell(),
        elements: simulation.elements().to_vec(),
        masses: None,
        types: lammps.types().to_owned(),
        ids: (1..=lammps.local_atoms() as AtomId).collect(),
        fixed: Vec::new(),
        positions: Array2::from_shape_vec((lammps.local_atoms(), 3), lammps.positions().iter().copied().collect())
            .unwrap(),
        velocities: None,
    }
}

/// The soft potential, with an active set that doubles every γ.
fn doubled(folder: &Path) -> Potential {
    let asi = folder.join("doubled.asi");
    common::succeed(
        common::python()
            .args([
                "-c",
                "import numpy as n, sys; a = n.load(sys.argv[1]); n.savez(open(sys.argv[2], 'wb'), Al=2 * a['Al'])",
            ])
            .arg(root().join("potentials/al-soft/Al.asi"))
            .arg(&asi),
    );
    Potential { active_set: Some(asi), ..soft(Engine::MlPace) }
}

fn soft(engine: Engine) -> Potential {
    let file = Some(root().join("potentials/al-soft/Al.yaml"));
    let text = format!("engine = {}", if engine == Engine::Opt { "\"opt\"" } else { "\"ml-pace\"" });
    Potential { file, ..toml_potential(&text) }
}

fn toml_potential(text: &str) -> Potential {
    toml::from_str(text).unwrap()
}

#[test]
fn swap_changes_the_potential_only() {
    let _one = common::one_at_a_time();
    for engine in [Engine::MlPace, Engine::Opt] {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), engine);
        let (mut simulation, mut twin) = (open(folder.path(), &config), open(folder.path(), &config));
        let (step, old) = std::iter::repeat_with(|| poll(&mut simulation)).find(|(step, _)| *step == 100).unwrap();
        while poll(&mut twin).0 < step {}
        let before = state(&simulation);
        let new = Potential { engine, ..doubled(folder.path()) };
        let started = std::time::Instant::now();
        simulation.swap_potential(&new).unwrap();
        println!("the swap took {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
        assert!(before == state(&simulation), "the swap changes no atom");
        let (again, new) = poll(&mut simulation);
        // LAMMPS does this at each set-up: atoms that have left the box are wrapped.
        twin.lammps_mut();
        let (twin_step, twin_gamma) = poll(&mut twin);
        // The set-up evaluates γ again, with the neighbours in another order.
        assert!(again == step && twin_step == step && (twin_gamma / old - 1.0).abs() < 1e-9, "{twin_gamma} {old}");
        assert!(state(&simulation) == state(&twin), "the trajectory differs from that without a swap");
        // γ of the new potential for this frame in a separate instance.
        let expected = evaluate(&frame(&simulation), simulation.script()).unwrap();
        let largest = expected.gamma.unwrap().into_iter().fold(0.0, f64::max);
        println!("γ_max at step {step}: {old} before, {new} after the swap, {largest} in a fresh instance");
        assert!((new / largest - 1.0).abs() < 1e-9 && (new / old - 2.0).abs() < 1e-6, "{old} {new} {largest}");
        let force = simulation.lammps().forces()[[7, 1]];
        assert!((force - expected.forces[7][1]).abs() < 1e-9);
        assert_eq!(poll(&mut simulation).0, step + 20, "and it goes on");
    }
}

#[test]
fn swap_to_an_unusable_potential_keeps_the_run() {
    let _one = common::one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), Engine::Opt);
    let mut undisturbed = open(folder.path(), &config);
    let mut simulation = open(folder.path(), &config);
    let good = soft(Engine::Opt);
    let file = |name: &str, change: &dyn Fn(&str) -> String| -> PathBuf {
        let text = std::fs::read_to_string(good.file.as_ref().unwrap()).unwrap();
        std::fs::copy(root().join("potentials/al-soft/Al.asi"), folder.path().join(name).with_extension("asi"))
            .unwrap();
        common::write(folder.path(), name, &change(&text))
    };
    let half = Potential { file: Some(file("half.yaml", &|t| t[..t.len() / 2].to_owned())), ..good.clone() };
    let far = Potential { file: Some(file("far.yaml", &|t| t.replace("rcutij: 5.5", "rcutij: 6.5"))), ..good.clone() };
    let copper = Potential { file: Some(file("copper.yaml", &|t| t.replace("Al", "Cu"))), ..good.clone() };
    let missing = Potential { file: Some(folder.path().join("none.yaml")), ..good.clone() };
    let other = Potential { engine: Engine::MlPace, ..good };
    for bad in [half, far, copper, missing, other] {
        poll(&mut simulation);
        poll(&mut undisturbed);
        let error = simulation.swap_potential(&bad).unwrap_err();
        println!("{error}");
        assert!(matches!(error, Error::Swap(_) | Error::Lammps(_)), "{error:?}");
        assert!(state(&simulation) == state(&undisturbed));
    }
    assert_eq!(poll(&mut simulation), poll(&mut undisturbed));
    assert!(state(&simulation) == state(&undisturbed));
}

#[test]
fn swap_reads_a_custom_uncertainty_again() {
    let _one = common::one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    common::write(folder.path(), "al.extxyz", &common::aluminium(4));
    let text = "structure = \"al.extxyz\"\ntemperature = 300\nsteps = 40\nsampling_interval = 10\n\
                setup = [\"compute pe all pe/atom\", \"variable u atom -c_pe\"]\nuncertainty = { variable = \"u\" }\n\
                uncertainty_threshold = 1e6\n[potential]\npair_style = \"lj/cut 5.5\"\ncutoff = 5.5\n\
                pair_coeff = [\"* * 0.392 2.62\"]\n";
    let config = InferenceConfig::read(common::write(folder.path(), "run.toml", text)).unwrap();
    let mut simulation = open(folder.path(), &config);
    let (step, old) = std::iter::repeat_with(|| poll(&mut simulation)).find(|(step, _)| *step == 20).unwrap();
    let twice = Potential { pair_coeff: vec!["* * 0.784 2.62".into()], ..config.system.potential };
    simulation.swap_potential(&twice).unwrap();
    let (again, new) = poll(&mut simulation);
    assert!(again == step && (new / old - 2.0).abs() < 1e-9, "{old} at step {step}, {new} at step {again}");
}

#[test]
fn energy_and_temperature_after_a_change_are_those_of_the_present_state() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), Engine::Opt);
    let mut simulation = open(folder.path(), &config);
    for _ in 0..3 {
        simulation.advance().unwrap();
    }
    let polled = |simulation: &mut Simulation| match simulation.advance().unwrap() {
        Event::Polled(poll) => poll,
        other => panic!("{other:?}"),
    };
    let new = Potential::ace(root().join("potentials/al-nonlinear/Al.yaml"), None);
    simulation.swap_potential(&new).unwrap();
    let poll = polled(&mut simulation);
    let expected = evaluate(&frame(&simulation), simulation.script()).unwrap().energy;
    assert_eq!(poll.step, 40);
    assert!((poll.potential_energy - expected).abs() < 1e-8 * expected.abs(), "{} {expected}", poll.potential_energy);
    simulation.lammps_mut().command("velocity all set 0 0 0").unwrap();
    let poll = polled(&mut simulation);
    assert_eq!((poll.step, poll.temperature), (40, 0.0));
    assert!((poll.total_energy - expected).abs() < 1e-8 * expected.abs());
}
