// SPDX-License-Identifier: GPL-2.0-or-later
//! Trajectories: chunks and polls change nothing, thermostats and barostats reach their targets, and units affect
//! only the representation.

mod common;

use std::path::Path;

use common::{aluminium, eam_config, lammps_otf, lines, lmp, root, succeed, text, write};
use lammps_otf::io;

/// A source of γ, so that polls perform all their operations.
const WATCHED: &str = "uncertainty = { compute = \"u\" }\nuncertainty_threshold = 1e9\n";

fn run(folder: &Path, out: &str) {
    let output =
        lammps_otf().current_dir(folder).args(["run", "run.toml", "-o", out]).output().expect("the program runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

/// Writes the dump with 17 digits, which distinguish any two numbers.
fn setup_with_dump(every: u64, watched: bool) -> String {
    let watch = if watched { "\"compute u all ke/atom\", " } else { "" };
    format!(
        "setup = [{watch}\"dump every all custom {every} dump id x y z vx vy vz ix iy iz\", \
         \"dump_modify every sort id format float %.17g\"]\n"
    )
}

/// Runs the configuration in `folder` and the same set-up in plain `lmp` with a single `run`, and compares the dumps.
fn equals_one_plain_run(folder: &Path, atoms: usize, frames: usize) {
    run(folder, "out");
    let ours = std::fs::read_to_string(folder.join("dump")).unwrap();
    let plain = folder.join("out");
    assert!(!plain.join("dump").exists());
    let script = std::fs::read_to_string(plain.join("md.in")).unwrap();
    assert_eq!(script.lines().filter(|l| l.starts_with("run ")).count(), 1, "one plain run:\n{script}");
    succeed(lmp().current_dir(&plain).args(["-in", "md.in", "-log", "none"]));
    let theirs = std::fs::read_to_string(plain.join("dump")).unwrap();
    let frame = atoms + 9;
    assert_eq!(ours.lines().count(), frames * frame, "every frame of the run is in the dump");
    let different = ours.lines().zip(theirs.lines()).position(|(a, b)| a != b);
    if let Some(line) = different {
        let of = |t: &str| t.lines().nth(line).unwrap().to_owned();
        panic!("frame {} differs, first at\n{}\n{}", line / frame, of(&ours), of(&theirs));
    }
    assert_eq!(ours, theirs);
    // The atoms must have moved: a comparison of crystals at rest would be meaningless.
    let (first, last) = (ours.lines().skip(9), ours.lines().skip((frames - 1) * frame + 9));
    assert!(first.zip(last).take(atoms).all(|(a, b)| a != b));
}

fn chunked_equals_plain(more: &str) {
    let folder = tempfile::tempdir().unwrap();
    eam_config(
        folder.path(),
        3,
        &format!("steps = 2000\nseed = 12345\n{more}{WATCHED}{}", setup_with_dump(1000, true)),
    );
    equals_one_plain_run(folder.path(), 108, 3);
}

#[test]
fn nve_in_chunks_equals_the_plain_run() {
    chunked_equals_plain("ensemble = \"nve\"\ntemperature = 600\nsampling_interval = 10\n");
}

#[test]
fn nose_hoover_in_chunks_equals_the_plain_run() {
    // The interval does not divide the number of steps: the last chunk is shorter.
    chunked_equals_plain("temperature = 600\nsampling_interval = 7\n");
}

#[test]
fn langevin_in_chunks_equals_the_plain_run() {
    chunked_equals_plain("thermostat = \"langevin\"\ntemperature = 600\nsampling_interval = 10\n");
}

#[test]
fn isotropic_npt_in_chunks_equals_the_plain_run() {
    chunked_equals_plain("ensemble = \"npt\"\ntemperature = 600\npressure = 1000\nsampling_interval = 100\n");
}

#[test]
fn triclinic_npt_in_chunks_equals_the_plain_run() {
    chunked_equals_plain(
        "ensemble = \"npt\"\nbarostat = \"tri\"\ntemperature = 600\npressure = 1000\nsampling_interval = 10\n",
    );
}

#[test]
fn anisotropic_npt_with_langevin_in_chunks_equals_the_plain_run() {
    chunked_equals_plain(
        "ensemble = \"npt\"\nbarostat = \"aniso\"\nthermostat = \"langevin\"\ntemperature = 600\npressure = 1000\n\
         sampling_interval = 10\n",
    );
}

#[test]
fn temperature_ramp_in_chunks_equals_the_plain_run() {
    chunked_equals_plain("temperature = [300, 1200]\nsampling_interval = 10\n");
}

#[test]
fn pressure_ramp_in_chunks_equals_the_plain_run() {
    chunked_equals_plain(
        "ensemble = \"npt\"\ntemperature = [300, 600]\npressure = [0, 20000]\nsampling_interval = 10\n",
    );
}

#[test]
fn minimisation_before_the_run_equals_that_of_the_plain_run() {
    let folder = tempfile::tempdir().unwrap();
    eam_config(
        folder.path(),
        3,
        &format!(
            "steps = 2000\nminimize = true\ntemperature = 600\nsampling_interval = 10\nuncertainty = \"none\"\n{}",
            setup_with_dump(1000, false)
        ),
    );
    // A crystal at its minimum would leave nothing for the minimiser.
    write(folder.path(), "al.extxyz", &aluminium(3).replacen("Al 0 2.0225 2.0225", "Al 0.3 2.1 2.2", 1));
    equals_one_plain_run(folder.path(), 108, 3);
}

#[test]
fn ml_pace_with_gamma_in_chunks_equals_the_plain_run() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "al.extxyz", &aluminium(3));
    let potential = root().join("potentials/al/Al.yaml");
    write(
        folder.path(),
        "run.toml",
        &format!(
            "structure = \"al.extxyz\"\ntemperature = 600\nsteps = 200\nsampling_interval = 10\nseed = 3\n{}\
             uncertainty_threshold = 1e9\n[potential]\nfile = {:?}\n",
            setup_with_dump(100, false),
            potential.display().to_string()
        ),
    );
    equals_one_plain_run(folder.path(), 108, 3);
}

/// Mean of all values after the first `skip`, and its standard error from `BLOCKS` block averages.
fn mean_and_error(values: &[f64], skip: usize) -> (f64, f64) {
    const BLOCKS: usize = 10;
    let values = &values[skip..];
    let size = values.len() / BLOCKS;
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let blocks: Vec<f64> = values.chunks_exact(size).take(BLOCKS).map(mean).collect();
    let all = mean(&blocks);
    let variance = blocks.iter().map(|b| (b - all).powi(2)).sum::<f64>() / (BLOCKS - 1) as f64;
    (all, (variance / BLOCKS as f64).sqrt())
}

/// Runs 24 ps of Al, of which the first 4 ps are equilibration, and checks the means over all polls in blocks of 2
/// ps, longer than the slowest oscillation (that of the barostat, 1 ps).
fn assert_targets(more: &str, names: &[(&str, f64, f64)]) {
    let folder = tempfile::tempdir().unwrap();
    let common = "steps = 12000\ntimestep = 0.002\nsampling_interval = 5\nseed = 4\nuncertainty = \"none\"\n";
    eam_config(folder.path(), 3, &format!("{common}{more}"));
    run(folder.path(), "out");
    let polls = lines(&folder.path().join("out/polls.jsonl"));
    assert_eq!(polls.len(), 2401);
    for &(name, set, most) in names {
        let values: Vec<f64> = polls.iter().map(|p| p[name].as_f64().unwrap()).collect();
        let (mean, error) = mean_and_error(&values, 400);
        println!("{name}: {mean:.3} ± {error:.3}, set to {set}");
        // With a large error bar, the next check would be meaningless.
        assert!(error < most, "{name}: a standard error of {error}");
        assert!((mean - set).abs() < 3.0 * error, "{name} is {mean} ± {error} and was set to {set}");
    }
}

#[test]
fn nose_hoover_holds_the_temperature() {
    assert_targets("temperature = 500\n", &[("temperature", 500.0, 5.0)]);
}

#[test]
fn langevin_holds_the_temperature() {
    assert_targets("thermostat = \"langevin\"\ntemperature = 500\n", &[("temperature", 500.0, 5.0)]);
}

#[test]
fn npt_holds_temperature_and_pressure() {
    assert_targets(
        "ensemble = \"npt\"\ntemperature = 500\npressure = 10000\n",
        &[("temperature", 500.0, 5.0), ("pressure", 10_000.0, 200.0)],
    );
}

/// 1 kcal/mol in eV, from the definitions of the units.
const KCAL_PER_MOL: f64 = 4184.0 / (6.022_140_76e23 * 1.602_176_634e-19);

#[test]
fn real_and_metal_units_give_the_same_physics() {
    let folder = tempfile::tempdir().unwrap();
    // Different velocities for each atom, some 500 K.
    let mut crystal = String::new();
    for (number, line) in aluminium(3).lines().enumerate() {
        let noise = |k: usize| f64::from((number * 7919 + k * 104_729) as u32 % 10_007) / 10_007.0 - 0.5;
        crystal += &match number {
            0 => format!("{line}\n"),
            1 => format!("{}\n", line.replace("pos:R:3", "pos:R:3:vel:R:3")),
            _ => format!("{line} {} {} {}\n", 12.0 * noise(1), 12.0 * noise(2), 12.0 * noise(3)),
        };
    }
    let mut seen = Vec::new();
    for (units, energy) in [("metal", 1.0), ("real", KCAL_PER_MOL)] {
        write(folder.path(), "al.extxyz", &crystal);
        // Lennard-Jones Al: ε = 0.392 eV, σ = 2.62 Å.
        let text = format!(
            "structure = \"al.extxyz\"\nunits = \"{units}\"\ntemperature = 500\nensemble = \"nve\"\nsteps = 200\n\
             velocities = \"keep\"\nsampling_interval = 10\nuncertainty = \"none\"\n\
             setup = [\"dump every all custom 200 dump-{units} id xu yu zu\", \
             \"dump_modify every sort id format float %.17g\"]\n\
             [potential]\npair_style = \"lj/cut 6.0\"\npair_coeff = [\"* * {:?} 2.62\"]\ncutoff = 6.0\n",
            0.392 / energy
        );
        write(folder.path(), "run.toml", &text);
        run(folder.path(), units);
        let dump = std::fs::read_to_string(folder.path().join(format!("dump-{units}"))).unwrap();
        let frame = |skip: usize| -> Vec<f64> {
            dump.lines()
                .skip(skip)
                .take(108)
                .flat_map(|l| l.split_whitespace().skip(1))
                .map(|w| w.parse().unwrap())
                .collect()
        };
        assert_eq!(dump.lines().count(), 2 * 117);
        let polls = lines(&folder.path().join(units).join("polls.jsonl"));
        seen.push((frame(9), frame(9 + 117), polls));
    }
    let [(start, metal, polls), (_, real, converted)] = &seen[..] else { panic!("two runs") };
    let furthest = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
    let apart = furthest(metal, real);
    println!("after 200 steps {apart:.1e} Å apart, having moved by up to {:.2} Å", furthest(start, metal));
    assert!(furthest(start, metal) > 0.1, "the atoms have not moved");
    assert!(apart < 1e-6, "the trajectories are {apart} Å apart");
    // LAMMPS's constants of the two systems agree to some 1e-7 (`mvv2e` and `boltz` have 8 digits). The pressure, a
    // small difference of large numbers, agrees to 1e-6 of a typical 1e5 bar.
    for (a, b) in polls.iter().zip(converted) {
        for (name, scale) in [("time", 0.2), ("temperature", 500.0), ("potential_energy", 300.0), ("pressure", 1e5)] {
            let (x, y) = (a[name].as_f64().unwrap(), b[name].as_f64().unwrap());
            assert!((x - y).abs() < 1e-6 * scale, "{name}: {x} in metal, {y} in real units");
        }
    }
}

#[test]
fn ml_pace_in_real_units_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    common::al_config(folder.path(), "temperature = 300\nunits = \"real\"\n");
    let output = lammps_otf().current_dir(&folder).args(["run", "run.toml", "-o", "out"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("metal"), "{}", text(&output));
    assert!(!folder.path().join("out").exists());
}

/// An Al slab of three cells along each edge with its lowest two layers fixed and one atom of the top layer free
/// along x and y only: a `move_mask` with three columns, as written by ASE.
fn slab() -> String {
    let crystal = aluminium(3);
    let mut lines = crystal.lines();
    let mut text = format!("{}\n", lines.next().unwrap());
    text += "Lattice=\"12.135 0 0 0 12.135 0 0 0 40\" Properties=species:S:1:pos:R:3:move_mask:L:3 pbc=\"T T F\"\n";
    let z = |line: &str| line.split(' ').nth(3).unwrap().parse::<f64>().unwrap();
    let top = lines.clone().skip(1).position(|line| z(line) > 10.0).unwrap();
    for (index, line) in lines.skip(1).enumerate() {
        text += line;
        text += match (z(line) < 3.0, index == top) {
            (true, _) => " F F F\n",
            (_, true) => " T T F\n",
            _ => " T T T\n",
        };
    }
    text
}

/// The numbers of each atom in each frame of a dump sorted by id.
fn frames(dump: &str, atoms: usize) -> Vec<Vec<Vec<f64>>> {
    let lines: Vec<&str> = dump.lines().collect();
    let numbers = |line: &&str| line.split_whitespace().map(|word| word.parse().unwrap()).collect();
    lines.chunks(atoms + 9).map(|frame| frame[9..].iter().map(numbers).collect()).collect()
}

#[test]
fn fixed_atoms_do_not_move_and_have_no_temperature() {
    let (low, all) = (36, 108);
    for (more, ranks) in [
        ("", 1),
        ("", 2),
        ("thermostat = \"langevin\"\n", 1),
        ("ensemble = \"nve\"\n", 1),
        ("minimize = true\n", 1),
        // Later commands of the user do not free them.
        ("extra", 1),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let extra = "\"velocity all create 600 9\", \"fix push all addforce 0.1 0 0.1\", ";
        let (more, extra) = if more == "extra" { ("", extra) } else { (more, "") };
        let setup = setup_with_dump(50, true).replace("[\"compute", &format!("[{extra}\"compute"));
        let config = format!("steps = 100\ntemperature = 600\nsampling_interval = 10\n{more}{WATCHED}{setup}");
        eam_config(folder.path(), 3, &config);
        write(folder.path(), "al.extxyz", &slab());
        let mut command = if ranks == 1 { lammps_otf() } else { common::mpiexec(ranks) };
        if ranks > 1 {
            command.arg(env!("CARGO_BIN_EXE_lammps-otf"));
        }
        let output = command.current_dir(&folder).args(["run", "run.toml", "-o", "out"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{more}: {}", text(&output));

        let frames = frames(&std::fs::read_to_string(folder.path().join("dump")).unwrap(), all);
        assert_eq!(frames.len(), 3);
        let start: Vec<Vec<f64>> = slab()
            .lines()
            .skip(2)
            .map(|line| line.split(' ').skip(1).take(3).map(|word| word.parse().unwrap()).collect())
            .collect();
        let fixed: Vec<usize> = (0..all).filter(|id| start[*id][2] < 3.0).collect();
        let half = (0..all).find(|id| start[*id][2] > 10.0).unwrap();
        assert_eq!(fixed.len(), low);
        for (frame, atoms) in frames.iter().enumerate() {
            for (id, atom) in atoms.iter().enumerate() {
                let moved: Vec<bool> = (0..3).map(|k| atom[1 + k] != start[id][k]).collect();
                if fixed.contains(&id) {
                    assert_eq!((moved, &atom[4..7]), (vec![false; 3], &[0.0; 3][..]), "{more}: atom {id}");
                } else if frame > 0 {
                    assert_eq!(moved, [true, true, id != half], "{more}: atom {id}");
                }
            }
        }
        // 2 E_kin = k_B T times the number of free coordinates. No atom is fixed along x or y alone, so the centre of
        // mass removes none of them.
        let polls = lines(&folder.path().join("out/polls.jsonl"));
        let (ev, boltzmann) = (26.981_538_4 * 1.036_426_9e-4, 8.617_343e-5);
        let freedom = (3 * all - 3 * low - 1) as f64;
        for (frame, poll) in [(0, 0), (1, 5), (2, 10)] {
            let squares: f64 = frames[frame].iter().flat_map(|atom| &atom[4..7]).map(|v| v * v).sum();
            let (measured, told) = (ev * squares / (boltzmann * freedom), polls[poll]["temperature"].as_f64().unwrap());
            assert!((measured / told - 1.0).abs() < 1e-4, "{more}: {measured} K, not {told} K");
        }
        let first = polls[0]["temperature"].as_f64().unwrap();
        assert!(!extra.is_empty() || (first - 600.0).abs() < 1e-6, "{more}: {first} K");

        if ranks == 1 {
            // The written script does the same.
            succeed(lmp().current_dir(folder.path().join("out")).args(["-in", "md.in", "-log", "none"]));
            let [ours, theirs] =
                ["dump", "out/dump"].map(|name| std::fs::read_to_string(folder.path().join(name)).unwrap());
            assert!(ours == theirs, "{more}");
        }
    }
}

#[test]
fn atoms_outside_of_an_open_box_and_in_a_plane_are_simulated() {
    // A ring in a plane around the origin, without a cell; the same in a box at the origin, along two vectors, and
    // tilted.
    let ring: String = (0..8)
        .map(|k| f64::from(k) * std::f64::consts::TAU / 8.0)
        .map(|angle| format!("Al {} {} 0\n", 3.7 * angle.cos(), 3.7 * angle.sin()))
        .collect();
    let slab: String = aluminium(3).lines().skip(2).map(|line| format!("{line}\n")).collect();
    for (name, header, atoms) in [
        ("no cell", "pbc=\"F F F\"", &ring),
        ("a cell of zeros", "Lattice=\"0 0 0 0 0 0 0 0 0\" pbc=\"F F F\"", &ring),
        ("a box beside it", "Lattice=\"20 0 0 0 20 0 0 0 20\" pbc=\"F F F\"", &ring),
        ("a monolayer", "Lattice=\"20 0 0 0 20 0 0 0 20\" pbc=\"T T F\"", &ring),
        ("a slab of two vectors", "Lattice=\"12.135 0 0 0 12.135 0 0 0 0\" pbc=\"T T F\"", &slab),
        ("a slab with a low third", "Lattice=\"12.135 0 0 0 12.135 0 0 0 5\" pbc=\"T T F\"", &slab),
        ("a slab with a tilted third", "Lattice=\"12.135 0 0 0 12.135 0 3 2 5\" pbc=\"T T F\"", &slab),
        ("a turned slab", "Lattice=\"0 12.135 0 0 0 12.135 5 2 1\" pbc=\"T T F\"", &slab),
        ("a rod", "Lattice=\"12.135 0 0 0 0 0 0 0 0\" pbc=\"T F F\"", &slab),
    ] {
        for ranks in [1, 2] {
            let folder = tempfile::tempdir().unwrap();
            let config = "steps = 20\ntemperature = 50\nsampling_interval = 10\nuncertainty = \"none\"\n";
            eam_config(folder.path(), 3, config);
            let count = atoms.lines().count();
            write(folder.path(), "al.extxyz", &format!("{count}\n{header} Properties=species:S:1:pos:R:3\n{atoms}"));
            let mut command = if ranks == 1 { lammps_otf() } else { common::mpiexec(ranks) };
            if ranks > 1 {
                command.arg(env!("CARGO_BIN_EXE_lammps-otf"));
            }
            let output = command.current_dir(&folder).args(["run", "run.toml", "-o", "out"]).output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{name}, {ranks} ranks: {}", text(&output));
            let result = common::json(&folder.path().join("out/result.json"));
            assert_eq!((&result["steps"], &result["atoms"]), (&20.into(), &count.into()), "{name}");
        }
    }
}

#[test]
fn velocities_of_atoms_at_rest_cannot_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let start = |velocities: &str| {
        let more = format!(
            "temperature = 300\nsteps = 10\nsampling_interval = 10\nuncertainty = \"none\"\nvelocities = \"{velocities}\"\n"
        );
        eam_config(folder.path(), 3, &more);
        let crystal = aluminium(3).replace("pos:R:3", "pos:R:3:momenta:R:3");
        let rows =
            crystal.lines().enumerate().map(|(i, line)| format!("{line}{}\n", if i < 2 { "" } else { " 0 0 0" }));
        write(folder.path(), "al.extxyz", &rows.collect::<String>());
        run(folder.path(), velocities);
        let out = folder.path().join(velocities);
        let polls = lines(&out.join("polls.jsonl"));
        (polls[0]["temperature"].as_f64().unwrap(), common::json(&out.join("result.json"))["warnings"].to_string())
    };
    let (temperature, warnings) = start("auto");
    assert!((temperature - 300.0).abs() < 1e-6 && warnings == "[]", "{temperature} K: {warnings}");
    // They are kept if requested, with a warning.
    let (temperature, warnings) = start("keep");
    assert!(temperature == 0.0 && warnings.contains("all initial velocities are 0"), "{temperature} K: {warnings}");
}

/// Steps and rows of each frame of a dump. The rows are sorted by id.
fn steps_and_rows(path: &Path) -> Vec<(i64, Vec<Vec<String>>)> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut frames = Vec::new();
    for frame in text.split("ITEM: TIMESTEP\n").skip(1) {
        let step = frame.lines().next().unwrap().parse().unwrap();
        let rows = frame.lines().skip(8).map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
        frames.push((step, rows));
    }
    frames
}

/// A run of Al with γ that stops at no event. Frames every 20 steps.
fn with_trajectory(folder: &Path, steps: u32, more: &str) {
    write(folder, "al.extxyz", &aluminium(4));
    let potential = root().join("potentials/al/Al.yaml");
    let toml = format!(
        "structure = \"al.extxyz\"\ntemperature = [300, 900]\nsteps = {steps}\nsampling_interval = 10\nseed = 7\n\
         uncertainty_threshold = 1e9\ncore_share = 1\ncheckpoint_interval = 50\n{more}\n[trajectory]\ninterval = 20\nforces = true\n\
         [potential]\nfile = {potential:?}\n[embedding]\nradius = 3.0\n"
    );
    write(folder, "run.toml", &toml);
}

#[test]
fn frames_of_a_trajectory_are_those_of_the_run_also_if_it_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let own = "setup = [\"dump mine all custom 20 mine.dump id type element x y z ix iy iz vx vy vz fx fy fz f_otf_gamma\", \
               \"dump_modify mine sort id element Al format float %.10g\"]";
    with_trajectory(at, 1000, own);
    run(at, "out");
    let all = std::fs::read_to_string(at.join("out/trajectory.dump")).unwrap();
    assert_eq!(all, std::fs::read_to_string(at.join("mine.dump")).unwrap(), "LAMMPS's own dump of the same steps");
    let frames = steps_and_rows(&at.join("out/trajectory.dump"));
    assert_eq!(frames.iter().map(|(step, _)| *step).collect::<Vec<_>>(), (0..=1000).step_by(20).collect::<Vec<_>>());
    // γ of each frame is that of the poll at its step.
    let polls = lines(&at.join("out/polls.jsonl"));
    for (step, rows) in &frames {
        let poll = polls.iter().find(|poll| poll["step"] == *step).unwrap();
        let most = rows.iter().map(|row| row.last().unwrap().parse::<f64>().unwrap()).fold(0.0, f64::max);
        let polled = poll["gamma"]["max"].as_f64().unwrap();
        // Ten digits are written.
        assert!((most - polled).abs() < 1e-9 * polled, "{step}: {most} {polled}");
    }
    for poll in &polls {
        let number = |key: &str| poll[key].as_f64().unwrap();
        let tensor: Vec<f64> = (0..6).map(|k| poll["pressure_tensor"][k].as_f64().unwrap()).collect();
        // The columns of LAMMPS's thermo output have few digits; the temperature part is in both.
        assert!(
            (tensor[..3].iter().sum::<f64>() / 3.0 - number("pressure")).abs() < 1e-3 * number("pressure").abs(),
            "{poll}"
        );
        assert!((number("volume") - 16.18_f64.powi(3)).abs() < 1e-9 && poll["cell"][1][1] == 16.18, "{poll}");
        // 256 atoms of 26.9815 u.
        assert!((number("density") - 256.0 * 26.9815 * 1.660_539e-24 / (16.18e-8_f64).powi(3)).abs() < 1e-4, "{poll}");
        assert_eq!(poll["ns_per_day"].is_null(), poll["step"] == 0, "{poll}");
        assert_eq!(poll["gamma_by_element"], serde_json::json!({}), "one element");
    }
    // Averages over the polls after the first fifth of the run.
    let averages = common::json(&at.join("out/result.json"))["averages"].clone();
    let late: Vec<f64> = polls
        .iter()
        .filter(|p| p["step"].as_i64().unwrap() >= 200)
        .map(|p| p["temperature"].as_f64().unwrap())
        .collect();
    assert_eq!(averages["polls"], late.len());
    let mean = late.iter().sum::<f64>() / late.len() as f64;
    assert!((averages["temperature"]["mean"].as_f64().unwrap() - mean).abs() < 1e-9 * mean, "{averages}");
    assert!(averages["temperature"]["standard_error"].as_f64().unwrap() > 0.0, "{averages}");
    // Plain LAMMPS writes the same.
    std::fs::create_dir(at.join("plain")).unwrap();
    for file in ["md.in", "data.lammps"] {
        std::fs::copy(at.join("out").join(file), at.join("plain").join(file)).unwrap();
    }
    succeed(lmp().current_dir(at.join("plain")).args(["-in", "md.in", "-log", "none"]));
    assert_eq!(std::fs::read_to_string(at.join("plain/trajectory.dump")).unwrap(), all);

    // The run is killed after 130 steps or more, moved, and resumed. Frames after its checkpoint are written once.
    with_trajectory(at, 1000, "");
    let mut stopped = lammps_otf().current_dir(at).args(["run", "run.toml", "-o", "cut"]).spawn().unwrap();
    common::wait_for("polls", || {
        std::fs::read_to_string(at.join("cut/polls.jsonl")).is_ok_and(|p| p.lines().count() > 13)
    });
    stopped.kill().unwrap();
    stopped.wait().unwrap();
    std::fs::rename(at.join("cut"), at.join("moved")).unwrap();
    let output = lammps_otf().current_dir(at).args(["run", "run.toml", "-o", "moved", "--resume"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let resumed = steps_and_rows(&at.join("moved/trajectory.dump"));
    assert_eq!(resumed, frames, "{}", text(&output));
    // The averages continue too; the last digits of a mean depend on nothing that a checkpoint loses.
    assert_eq!(common::json(&at.join("moved/result.json"))["averages"], averages);
}

#[test]
fn trajectories_on_two_ranks_of_replicas_and_as_extended_xyz() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    with_trajectory(at, 60, "");
    let two = |arguments: &[&str]| {
        let mut job = common::mpiexec(2);
        let output = job.current_dir(at).arg(env!("CARGO_BIN_EXE_lammps-otf")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    };
    run(at, "one");
    two(&["run", "run.toml", "-o", "two"]);
    let [one, other] = ["one", "two"].map(|name| steps_and_rows(&at.join(name).join("trajectory.dump")));
    assert_eq!(one.len(), 4);
    for ((step, rows), (_, others)) in one.iter().zip(&other) {
        for (row, other) in rows.iter().zip(others) {
            for (k, (a, b)) in row.iter().zip(other).enumerate().filter(|(k, _)| *k != 2) {
                let (a, b): (f64, f64) = (a.parse().unwrap(), b.parse().unwrap());
                // The order of sums differs; 60 steps amplify it little.
                assert!((a - b).abs() < 1e-7 * a.abs().max(1.0), "step {step}, column {k}: {a} {b}");
            }
        }
    }
    two(&["run", "run.toml", "-o", "several", "--replicas", "2"]);
    for replica in ["replica-00", "replica-01"] {
        assert_eq!(steps_and_rows(&at.join("several").join(replica).join("trajectory.dump")).len(), 4);
    }

    // Extended XYZ: the same positions.
    let toml = std::fs::read_to_string(at.join("run.toml")).unwrap();
    write(at, "run.toml", &toml.replace("interval = 20\n", "interval = 20\nformat = \"extxyz\"\n"));
    run(at, "xyz");
    let mut frame = 0;
    io::for_each_frame(&at.join("xyz/trajectory.extxyz"), None, |structure| {
        for (i, row) in one[frame].1.iter().enumerate() {
            for k in 0..3 {
                let expected: f64 = row[3 + k].parse().unwrap();
                assert!((structure.position(i)[k] - expected).abs() < 1e-7, "{structure:?}");
            }
        }
        frame += 1;
        Ok::<_, io::Error>(())
    })
    .unwrap();
    assert_eq!(frame, 4);
    // ASE and MDAnalysis read the dump; the radial distribution functions agree.
    let script = common::script("read_trajectory.py");
    succeed(common::python().arg(script).arg(at.join("one/trajectory.dump")).arg(at.join("xyz/trajectory.extxyz")));

    // γ is known at polls only.
    write(at, "run.toml", &toml.replace("interval = 20\n", "interval = 15\n"));
    let output = lammps_otf().current_dir(at).args(["run", "run.toml", "-o", "bad"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("a multiple of `sampling_interval`") && !at.join("bad").exists());
}
