// SPDX-License-Identifier: GPL-2.0-or-later
//! Atoms that are created or read by LAMMPS, so that no rank holds all of them.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{dependency, eam_config, eam_file, json, lammps_otf, lmp, python, script, succeed, text, write};
use lammps_otf::comm::Comm;
use lammps_otf::config::InferenceConfig;
use lammps_otf::simulation::{Event, Simulation};
use lammps_otf::structure::{Cell, Element, Structure};

const EARLY: &str = "temperature = [300, 3000]\nsteps = 1000\nsampling_interval = 10\nseed = 2\n\
                     uncertainty = { compute = \"u\" }\nuncertainty_threshold = 0.35\nuncertainty_low = 0.35\n\
                     setup = [\"compute u all ke/atom\"]\n";

fn created(folder: &Path, create: &str, more: &str) {
    let text = format!(
        "create = [{create}]\n{more}\n[potential]\npair_style = \"eam/fs\"\npair_coeff = [\"* * {} Al\"]\ncutoff = 6.5\n\
         [embedding]\nradius = 4.0\nbuffer = 3.5\n",
        eam_file().display()
    );
    write(folder, "run.toml", &text);
}

fn run(folder: &Path, out: &str) -> Output {
    lammps_otf().current_dir(folder).args(["run", "run.toml", "-q", "-o", out]).output().unwrap()
}

const LATTICE: &str = "\"lattice fcc 4.045\", \"region box block 0 4 0 4 0 4\", \"create_box 1 box\", \
                       \"create_atoms 1 box\", \"mass 1 26.982\"";

#[test]
fn structure_read_by_lammps_commands_gives_the_same_event() {
    let folder = tempfile::tempdir().unwrap();
    eam_config(folder.path(), 4, EARLY);
    let one = run(folder.path(), "one");
    assert_eq!(one.status.code(), Some(4), "{}", text(&one));
    let data = folder.path().join("one/data.lammps");
    created(folder.path(), &format!("'read_data {}'", data.display()), &format!("elements = [\"Al\"]\n{EARLY}"));
    let two = run(folder.path(), "two");
    assert_eq!(two.status.code(), Some(4), "{}", text(&two));
    let [a, b] = ["one", "two"].map(|out| json(&folder.path().join(out).join("result.json")));
    assert_eq!((&a["trigger_step"], &a["atom_id"]), (&b["trigger_step"], &b["atom_id"]));
    assert!(!folder.path().join("two/data.lammps").exists());
    // Everything but the origin of the atoms is the same.
    succeed(
        python()
            .arg(script("same_candidate.py"))
            .arg(folder.path().join("one"))
            .arg(folder.path().join("two"))
            .args(["--except", "source"]),
    );
}

/// The masses can be defined by the data file or by commands.
#[test]
fn candidates_have_the_masses_of_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = eam_config(folder.path(), 4, EARLY);
    let config = std::fs::read_to_string(&file).unwrap();
    let name = config.lines().find_map(|l| l.strip_prefix("structure = ")).unwrap().trim_matches('"').to_owned();
    let mut structure = lammps_otf::io::read(folder.path().join(&name), None).unwrap();
    structure.masses = Some(vec![30.5]);
    let mut xyz = Vec::new();
    lammps_otf::io::extxyz::write(&mut xyz, &structure, &[], &[]).unwrap();
    std::fs::write(folder.path().join(&name), xyz).unwrap();
    let masses = |out: &str| {
        // EAM defines masses, which LAMMPS uses.
        let config = std::fs::read_to_string(&file).unwrap();
        let eam = config.lines().find(|line| line.starts_with("pair_coeff")).unwrap();
        let config = config.replace(eam, "pair_coeff = [\"* * 0.4 2.6\"]").replace("eam/fs", "lj/cut 6.5");
        std::fs::write(&file, config).unwrap();
        let output = run(folder.path(), out);
        assert_eq!(output.status.code(), Some(4), "{}", text(&output));
        let code = "import sys, ase.db; print(set(ase.db.connect(sys.argv[1]).get_atoms(1).get_masses().tolist()))";
        succeed(python().arg("-c").arg(code).arg(folder.path().join(out).join("candidates.db")))
    };
    assert_eq!(masses("file").trim(), "{30.5}");
    let data = std::fs::read_to_string(folder.path().join("file/data.lammps")).unwrap();
    assert!(data.contains("1 30.5 # Al"), "{data}");
    created(folder.path(), &LATTICE.replace("26.982", "33.25"), &format!("elements = [\"Al\"]\n{EARLY}"));
    assert_eq!(masses("commands").trim(), "{33.25}");
}

#[test]
fn created_structure_runs_in_plain_lmp() {
    let folder = tempfile::tempdir().unwrap();
    created(folder.path(), LATTICE, &format!("elements = [\"Al\"]\n{EARLY}"));
    let output = run(folder.path(), "out");
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    let out = folder.path().join("out");
    let temperature = json(&out.join("result.json"))["last"]["temperature"].as_f64().unwrap();
    let step = json(&out.join("result.json"))["trigger_step"].as_i64().unwrap();
    let log = succeed(lmp().current_dir(&out).args(["-in", "md.in", "-log", "none"]));
    let line = log.lines().find(|l| l.split_whitespace().next() == Some(&step.to_string())).unwrap();
    let theirs: f64 = line.split_whitespace().nth(2).unwrap().parse().unwrap();
    assert!((theirs - temperature).abs() < 1e-3, "{line}: {temperature}");
}

#[test]
fn loop_that_does_not_begin_at_step_0_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let potential = common::root().join("potentials/al/Al.yaml");
    let text = format!(
        "create = [{LATTICE}, \"reset_timestep 5\"]\nelements = [\"Al\"]\ntemperature = 300\nsteps = 20\n\
         sampling_interval = 10\n[potential]\nfile = {potential:?}\n[loop]\n\
         oracle = {{ type = \"command\", command = [\"dft\", \"{{input}}\", \"{{output}}\"] }}\n\
         trainer = {{ command = [\"fit\", \"{{labelled}}\", \"{{output}}\"] }}\n"
    );
    write(folder.path(), "run.toml", &text);
    let output = lammps_otf().current_dir(&folder).args(["loop", "run.toml", "-q"]).output().unwrap();
    let message = common::text(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("starts at step 5") && message.contains("reset_timestep 0"), "{message}");
}

#[test]
fn missing_parts_of_a_created_structure_are_reported() {
    for (create, more, words) in [
        (LATTICE, "temperature = 300\n", ["`elements`", "each atom type"]),
        (LATTICE, "temperature = 300\nelements = [\"Al\", \"Cu\"]\n", ["1 atom types", "`elements`"]),
        ("", "temperature = 300\n", ["`structure`", "`create`"]),
        (LATTICE, "temperature = 300\nstructure = \"x\"\nelements = [\"Al\"]\n", ["`structure`", "`create`"]),
        ("\"create_box 1 nowhere\"", "temperature = 300\nelements = [\"Al\"]\n", ["create_box", "nowhere"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        created(folder.path(), create, &format!("uncertainty = \"none\"\n{more}"));
        let output = run(folder.path(), "out");
        let message = text(&output);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(!folder.path().join("out").exists());
        assert!(words.iter().all(|word| message.contains(word)), "{words:?}: {message}");
    }
}

#[test]
fn created_simulation_restores_its_last_valid_frame() {
    let folder = tempfile::tempdir().unwrap();
    created(folder.path(), LATTICE, &format!("elements = [\"Al\"]\n{}", EARLY.replace("0.35\n", "9.0\n")));
    let config = InferenceConfig::read(folder.path().join("run.toml")).unwrap();
    let outline = Structure {
        cell: Cell::orthorhombic([1.0; 3], [true; 3]),
        elements: vec![Element::Al],
        masses: None,
        types: ndarray::Array1::zeros(0),
        ids: ndarray::Array1::zeros(0),
        fixed: Vec::new(),
        positions: ndarray::Array2::zeros((0, 3)),
        velocities: None,
    };
    let mut simulation = Simulation::new(&config, &outline, Path::new("none"), None, &Comm::single()).unwrap();
    let mut energies = Vec::new();
    for _ in 0..3 {
        let Event::Polled(poll) = simulation.advance().unwrap() else { panic!("it runs") };
        energies.push(poll.total_energy);
    }
    simulation.restore().unwrap();
    let Event::Polled(poll) = simulation.advance().unwrap() else { panic!("it goes on") };
    assert_eq!((poll.step, simulation.lammps().total_atoms()), (20, 256));
    assert!((poll.total_energy - energies[2]).abs() < 1e-9, "{} {energies:?}", poll.total_energy);
}

/// The number of bytes sent by polls and by regions on two ranks, and the number of atoms in the region.
fn bytes_sent(cells: usize) -> (u64, u64, usize) {
    let folder = tempfile::tempdir().unwrap();
    let lattice = LATTICE.replace("0 4 0 4 0 4", &format!("0 {cells} 0 {cells} 0 {cells}"));
    // An atom in the middle, at the boundary of the two ranks, is pushed until γ exceeds the threshold.
    let pushed = EARLY.replace(
        "ke/atom\"]",
        &format!("ke/atom\", \"group one id {}\", \"fix push one addforce 15 0 0\"]", 2 * cells.pow(3)),
    );
    let pushed = pushed.replace("0.35", "3.0").replace("interval = 10", "interval = 5");
    created(folder.path(), &lattice, &format!("elements = [\"Al\"]\nverify = false\n{pushed}"));
    let output = Command::new("timeout")
        .arg(common::HANG.to_string())
        .arg(dependency("bin/mpiexec"))
        .args(["-n", "2", env!("CARGO_BIN_EXE_lammps-otf"), "run", "run.toml", "-q", "-o", "out"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    let out = folder.path().join("out");
    let cost = &json(&out.join("result.json"))["cost"];
    let number = |name: &str| cost[name].as_u64().unwrap();
    assert_eq!(number("regions"), 1);
    let store = lammps_otf::candidates::Store::open_existing(&out.join("candidates.db")).unwrap();
    let atoms = store.get(1).unwrap().candidate.structure.len();
    println!("{} atoms: {cost}", 4 * cells.pow(3));
    (number("poll_bytes") / number("polls"), number("region_bytes"), atoms)
}

#[test]
fn event_communication_does_not_grow_with_the_number_of_atoms() {
    for cells in [6, 16] {
        let (poll, region, atoms) = bytes_sent(cells);
        // 13 numbers for each atom of the region that is not on rank 0, the answer, and a few flags.
        assert!(region > 1000 && region < 104 * atoms as u64 + 1000, "{cells}: {region} bytes for {atoms} atoms");
        // The region twice (to rank 0 and to the others), and a histogram of γ from each rank.
        assert!(poll < 2 * 104 * atoms as u64 + 8000, "{cells}: {poll} bytes");
    }
}

/// A restart file of plain `lmp` at step 500, with initial velocities of 450 K, and without one atom if `gap` is set.
/// Returns the final temperature.
fn write_restart(folder: &Path, gap: bool, velocities: bool) -> f64 {
    let lattice = LATTICE.replace("\", \"", "\n").replace('"', "");
    let gap = if gap { "group gone id 7\ndelete_atoms group gone compress no\n" } else { "" };
    let velocities = if velocities { "velocity all create 450 3 loop geom\n" } else { "" };
    let input = format!(
        "units metal\n{lattice}\n{gap}pair_style eam/fs\npair_coeff * * {} Al\n{velocities}fix md all nve\nthermo 100\n\
         thermo_style custom step temp\nrun {}\nreset_timestep 500\nwrite_restart eq.restart\n",
        eam_file().display(),
        if velocities.is_empty() { 0 } else { 100 },
    );
    write(folder, "eq.in", &input);
    let log = succeed(lmp().current_dir(folder).args(["-in", "eq.in", "-log", "none"]));
    let last = log.lines().take_while(|line| !line.starts_with("Loop time")).last().unwrap().to_owned();
    last.split_whitespace().nth(1).unwrap().parse().unwrap()
}

const CALM: &str =
    "elements = [\"Al\"]\nuncertainty = \"none\"\ntemperature = 300\nsteps = 40\nsampling_interval = 20\n";

fn polls(folder: &Path) -> Vec<(i64, i64, f64)> {
    let number = |poll: &serde_json::Value, key: &str| poll[key].as_f64().unwrap();
    common::lines(&folder.join("polls.jsonl"))
        .iter()
        .map(|poll| (number(poll, "step") as i64, number(poll, "steps") as i64, number(poll, "temperature")))
        .collect()
}

#[test]
fn restart_file_keeps_its_velocities_and_step() {
    let folder = tempfile::tempdir().unwrap();
    let temperature = write_restart(folder.path(), false, true);
    created(folder.path(), "\"read_restart eq.restart\"", &format!("{CALM}checkpoint_interval = 20\n"));
    let output = lammps_otf().current_dir(&folder).args(["run", "run.toml", "-v", "-o", "out"]).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.contains("step 20/40") && said.contains("Completed: 40 steps") && said.contains(", 40 steps in"),
        "{said}"
    );
    let seen = polls(&folder.path().join("out"));
    assert_eq!(seen.iter().map(|poll| (poll.0, poll.1)).collect::<Vec<_>>(), [(500, 0), (520, 20), (540, 40)]);
    assert!((seen[0].2 - temperature).abs() < 0.01, "{seen:?}: {temperature}");
    assert_eq!(json(&folder.path().join("out/result.json"))["steps"], 40);

    // After a resume, the steps are counted from the same step. The run is longer now.
    let config = std::fs::read_to_string(folder.path().join("run.toml")).unwrap();
    write(folder.path(), "run.toml", &config.replace("steps = 40", "steps = 60"));
    let output =
        lammps_otf().current_dir(&folder).args(["run", "run.toml", "-v", "--resume", "-o", "out"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("step 60/60"), "{}", text(&output));
    assert_eq!(polls(&folder.path().join("out")).last().map(|poll| (poll.0, poll.1)), Some((560, 60)));
    assert_eq!(json(&folder.path().join("out/result.json"))["steps"], 60);

    // Minimisation changes neither the velocities nor the step.
    created(folder.path(), "\"read_restart eq.restart\"", &format!("{CALM}minimize = true\n"));
    assert_eq!(run(folder.path(), "minimised").status.code(), Some(0));
    let seen = polls(&folder.path().join("minimised"));
    assert!((seen[0].0, seen[0].1) == (500, 0) && (seen[0].2 - temperature).abs() < 0.01, "{seen:?}");

    // Velocities are created if requested, and if there are none.
    created(folder.path(), "\"read_restart eq.restart\"", &format!("{CALM}velocities = \"create\"\n"));
    assert_eq!(run(folder.path(), "drawn").status.code(), Some(0));
    write_restart(folder.path(), false, false);
    created(folder.path(), "\"read_restart eq.restart\"", CALM);
    assert_eq!(run(folder.path(), "none").status.code(), Some(0));
    let starts = ["drawn", "none"].map(|out| polls(&folder.path().join(out))[0].2);
    assert!(starts.iter().all(|t| (t - 300.0).abs() < 1e-6), "{starts:?}");
    let looked = lammps_otf().current_dir(&folder).args(["doctor", "run.toml"]).output().unwrap();
    assert_eq!(looked.status.code(), Some(0), "{}", text(&looked));
}

#[test]
fn velocities_are_created_despite_gaps_in_the_ids() {
    let folder = tempfile::tempdir().unwrap();
    let drawn = |out: &str, ranks: usize| {
        let mut command = if ranks == 1 { lammps_otf() } else { common::mpiexec(ranks) };
        if ranks > 1 {
            command.arg(env!("CARGO_BIN_EXE_lammps-otf"));
        }
        let output = command.current_dir(&folder).args(["run", "run.toml", "-q", "-o", out]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{out}: {}", text(&output));
        assert_eq!(json(&folder.path().join(out).join("result.json"))["atoms"], 255);
        polls(&folder.path().join(out))
    };
    write_restart(folder.path(), true, false);
    created(folder.path(), "\"read_restart eq.restart\"", CALM);
    let one = drawn("restart", 1);
    assert!((one[0].2 - 300.0).abs() < 1e-6, "{one:?}");
    // The same with a file whose ids have a gap, on any number of ranks.
    let (lattice, atoms) = ("Lattice=\"16.18 0 0 0 16.18 0 0 0 16.18\"", common::aluminium(4));
    let ids = atoms.lines().skip(2).enumerate().map(|(i, line)| format!("{line} {}\n", i + 1));
    let rows: String = ids.enumerate().filter(|(i, _)| *i != 6).map(|(_, line)| line).collect();
    eam_config(folder.path(), 4, &CALM.replace("elements = [\"Al\"]\n", ""));
    write(folder.path(), "al.extxyz", &format!("255\n{lattice} Properties=species:S:1:pos:R:3:id:I:1\n{rows}"));
    let (one, two) = (drawn("one", 1), drawn("two", 2));
    assert!((one[0].2 - 300.0).abs() < 1e-6 && (one[2].2 - two[2].2).abs() < 1e-6, "{one:?} {two:?}");
}
