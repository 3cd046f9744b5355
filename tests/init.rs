// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf init`: the configuration that it writes can be run.

mod common;

use std::path::Path;
use std::process::Output;

use common::{aluminium, json, lammps_otf, lmp, root, succeed, text, write};
use lammps_otf::config::{InferenceConfig, Ramp};

fn init(folder: &Path, arguments: &[&str]) -> Output {
    lammps_otf().current_dir(folder).arg("init").args(arguments).output().unwrap()
}

fn potential(name: &str) -> String {
    root().join("potentials").join(name).display().to_string()
}

#[test]
fn init_writes_a_configuration_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "my crystal.extxyz", &aluminium(5));
    for file in ["Al.yaml", "Al.asi"] {
        std::fs::copy(root().join("potentials/al").join(file), folder.path().join(file)).unwrap();
    }
    let output = init(folder.path(), &["my crystal.extxyz", "Al.yaml", "--steps", "30"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("500 Al") && text(&output).contains("lammps-otf run config.toml"));
    let written = std::fs::read_to_string(folder.path().join("config.toml")).unwrap();
    // Files beside the configuration have relative names, so that the folder can be moved.
    assert!(
        written.contains("structure = \"my crystal.extxyz\"") && written.contains("file = \"Al.yaml\""),
        "{written}"
    );
    let moved = tempfile::tempdir().unwrap();
    let place = moved.path().join("elsewhere");
    std::fs::rename(folder.path(), &place).unwrap();
    succeed(lammps_otf().args(["run", "-q", "-o"]).arg(place.join("out")).arg(place.join("config.toml")));
    assert_eq!(json(&place.join("out/result.json"))["steps"], 30);
    // Every commented line is a valid setting.
    let all: String = written
        .lines()
        .map(|l| l.strip_prefix("# ").filter(|l| l.contains(" = ") && !l.contains('…')).unwrap_or(l).to_owned() + "\n")
        .collect();
    assert!(all.contains("\nengine = ") && all.contains("\nshape = ") && all.contains("\nminimize = "));
    let path = write(&place, "all.toml", &all);
    InferenceConfig::read(&path).unwrap_or_else(|e| panic!("{e}\n{all}"));
}

#[test]
fn init_with_two_elements_and_a_lammps_file_in_another_folder() {
    let folder = tempfile::tempdir().unwrap();
    // A box of Al with Cu, as written by LAMMPS; the masses identify the elements.
    let made = "units metal\nlattice fcc 4.05\nregion box block 0 4 0 4 0 4\ncreate_box 2 box\ncreate_atoms 1 box\n\
                set type 1 type/fraction 2 0.1 4711\nmass 1 26.98\nmass 2 63.55\nwrite_data alcu.data nocoeff\n";
    write(folder.path(), "make.in", made);
    succeed(lmp().current_dir(folder.path()).args(["-in", "make.in", "-log", "none"]));
    std::fs::create_dir(folder.path().join("runs")).unwrap();
    let arguments = [
        "alcu.data",
        &potential("alcu/AlCu.yaml"),
        "-o",
        "runs/alcu.toml",
        "--steps",
        "20",
        "--temperature",
        "100,200",
    ];
    let output = init(folder.path(), &[&arguments[..], &["--elements", "Al,Cu", "--json"]].concat());
    assert!(output.status.success(), "{}", text(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["potential_elements"], serde_json::json!(["Al", "Cu"]));
    let config = InferenceConfig::read(folder.path().join("runs/alcu.toml")).unwrap();
    assert_eq!((config.md.temperature, config.md.steps), (Ramp::Linear([100.0, 200.0]), 20));
    let output = lammps_otf().current_dir(folder.path()).args(["run", "runs/alcu.toml"]).output().unwrap();
    // The potential was hardly trained on this alloy; only a completed run is required.
    assert!(matches!(output.status.code(), Some(0 | 4)), "{}", text(&output));
}

#[test]
fn init_takes_the_temperature_of_the_velocities() {
    let folder = tempfile::tempdir().unwrap();
    let made = "units metal\nlattice fcc 4.05\nregion box block 0 4 0 4 0 4\ncreate_box 1 box\ncreate_atoms 1 box\n\
                mass 1 26.98\nvelocity all create 457.0 4711\nwrite_data al.data nocoeff\n";
    write(folder.path(), "make.in", made);
    succeed(lmp().current_dir(folder.path()).args(["-in", "make.in", "-log", "none"]));
    let output = init(folder.path(), &["al.data", &potential("al/Al.yaml"), "-q"]);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", text(&output));
    let config = InferenceConfig::read(folder.path().join("config.toml")).unwrap();
    // LAMMPS sets this temperature for the whole box with zero momentum, to the digits of the data file. The masses
    // of a data file are rounded.
    let Ramp::Constant(t) = config.md.temperature else { panic!("{:?}", config.md.temperature) };
    assert!((t - 457.0).abs() <= 1.0, "{t}");
}

#[test]
fn init_warns_of_a_small_cell_and_reduces_the_radius_for_a_dense_one() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "al.extxyz", &aluminium(2));
    let output = init(folder.path(), &["al.extxyz", &potential("al/Al.yaml")]);
    let said = text(&output);
    assert!(output.status.success() && said.contains("warning: the cell is thinner"), "{said}");
    assert!(said.contains("2 × 2 × 2") && said.contains("more than once") && said.contains("3 × 3 × 3"), "{said}");
    // Compressed by a quarter along each edge, so that a sphere contains more atoms.
    let dense = aluminium(5).replace("20.225", "15.16875");
    let dense: String = dense
        .lines()
        .map(|line| match line.strip_prefix("Al ") {
            Some(x) => {
                let x: Vec<String> = x.split(' ').map(|x| (x.parse::<f64>().unwrap() * 0.75).to_string()).collect();
                format!("Al {}\n", x.join(" "))
            }
            None => format!("{line}\n"),
        })
        .collect();
    write(folder.path(), "dense.extxyz", &dense);
    let output = init(folder.path(), &["dense.extxyz", &potential("al/Al.yaml"), "-o", "dense.toml", "--json"]);
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output)));
    assert_eq!(report["radius"], 3.0, "{report:#}");
    let (limit, most) = (report["max_atoms"].as_u64().unwrap(), report["cut_out_atoms"][1].as_u64().unwrap());
    let room = limit as f64 / most as f64;
    assert!(most > 250 && room >= 1.2 && limit < most * 6 / 5 + 51, "{report:#}");
    assert!(text(&output).contains("expensive for DFT"));
    let config = InferenceConfig::read(folder.path().join("dense.toml")).unwrap();
    assert_eq!((config.candidates.embedding.radius, config.candidates.embedding.max_atoms as u64), (3.0, limit));
}

#[test]
fn init_does_not_overwrite_without_force() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "al.extxyz", &aluminium(5));
    let config = write(folder.path(), "config.toml", "precious");
    let arguments = ["al.extxyz", &potential("al/Al.yaml")];
    let output = init(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("--force"));
    assert_eq!(std::fs::read_to_string(&config).unwrap(), "precious");
    assert!(init(folder.path(), &[&arguments[..], &["--force"]].concat()).status.success());
    assert!(InferenceConfig::read(&config).is_ok());
}

#[test]
fn init_starts_a_perfect_lattice_at_its_temperature() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "al.extxyz", &aluminium(5));
    let made = init(folder.path(), &["al.extxyz", &potential("al/Al.yaml"), "--temperature", "300", "--steps", "1000"]);
    assert!(made.status.success() && text(&made).contains("γ up to 0.9"), "{}", text(&made));
    // The same run with velocities at 300 K, half of which the lattice takes.
    let written = std::fs::read_to_string(folder.path().join("config.toml")).unwrap();
    assert!(written.contains("velocities = \"equipartition\""), "{written}");
    write(folder.path(), "cold.toml", &written.replace("velocities = \"equipartition\"", ""));
    let [hot, cold] = ["config", "cold"].map(|name| {
        succeed(lammps_otf().current_dir(folder.path()).args(["run", "-q", &format!("{name}.toml")]));
        let polls = common::lines(&folder.path().join(name).join("polls.jsonl"));
        // From 0.1 to 0.3 ps.
        polls[10..=30].iter().map(|poll| poll["temperature"].as_f64().unwrap()).sum::<f64>() / 21.0
    });
    assert!((255.0..345.0).contains(&hot) && cold < 230.0, "{hot} {cold}");
}

#[test]
fn init_takes_no_velocities_for_a_structure_that_is_not_at_rest() {
    let folder = tempfile::tempdir().unwrap();
    let moved = aluminium(5).replacen("Al 0 0 0", "Al 0.4 0 0", 1);
    write(folder.path(), "al.extxyz", &moved);
    let made = init(folder.path(), &["al.extxyz", &potential("al/Al.yaml"), "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    assert!(report["force_max"].as_f64().unwrap() > 0.5 && report["sampling_interval"] == 10, "{report}");
    assert!(!std::fs::read_to_string(folder.path().join("config.toml")).unwrap().contains("equipartition"));
}

#[test]
fn init_writes_a_loop_that_waits_for_a_calculator() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "al.extxyz", &aluminium(5));
    let file = potential("al/Al.yaml");
    let options = ["al.extxyz", file.as_str(), "--temperature", "300,1500", "--loop", "data/training.extxyz"];
    let missing = init(folder.path(), &options);
    assert!(text(&missing).contains("data/training.extxyz do not exist"), "{}", text(&missing));
    succeed(
        common::python().arg(root().join("potentials/al/fit.py")).args(["--data", "data"]).current_dir(folder.path()),
    );
    let made = init(folder.path(), &options);
    assert!(made.status.success() && text(&made).contains("lammps-otf loop config.toml"), "{}", text(&made));
    let path = std::env::join_paths(
        std::iter::once(common::dependency("bin")).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let doctor = |code: i32| {
        let path = path.as_ref().unwrap();
        let output =
            lammps_otf().current_dir(folder.path()).env("PATH", path).args(["doctor", "config.toml"]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        text(&output)
    };
    doctor(0);
    // A file of the user is kept.
    write(folder.path(), "my_dft.py", "from ase.calculators.emt import EMT as make\n");
    let again = init(folder.path(), &[&options[..], &["--force"]].concat());
    assert!(again.status.success(), "{}", text(&again));
    assert!(std::fs::read_to_string(folder.path().join("my_dft.py")).unwrap().contains("EMT"));
    doctor(0);
}
