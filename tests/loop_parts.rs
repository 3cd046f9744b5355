// SPDX-License-Identifier: GPL-2.0-or-later
//! Parts of the learning loop with actual programs: oracles that fail, trainers that reject, ranks that wait.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use common::{aluminium, dependency, eam_file, lammps_otf, root, script, text, write};
use lammps_otf::candidates::{Phase, Status, Store, StoredCandidate};
use lammps_otf::config::InferenceConfig;
use lammps_otf::prediction::predictor;
use lammps_otf::script::Script;
use lammps_otf::{io, verify};

const EAM: &str = "lammps";

/// A configuration of a hot run whose γ soon exceeds a low threshold. Oracle and potential are not compared, because EMT differs. `oracle` is a command, or [`EAM`].
fn config(folder: &Path, oracle: &str, trainer: &str, more: &str) -> PathBuf {
    write(folder, "al.extxyz", &aluminium(4));
    let potential = root().join("potentials/al/Al.yaml");
    let oracle = match oracle {
        EAM => {
            format!("type = \"lammps\"\npair_style = \"eam/fs\"\npair_coeff = [\"* * {} Al\"]", eam_file().display())
        }
        command => format!("type = \"command\"\n{command}"),
    };
    let toml = format!(
        "structure = \"al.extxyz\"\ntemperature = 1500\nsteps = 400\nsampling_interval = 10\nseed = 3\n\
         uncertainty_low = 1.5\nuncertainty_threshold = 2.0\n[potential]\nfile = {potential:?}\n\
         [embedding]\nradius = 3.0\n[loop]\nbatch = 3\nselect = 3\nmax_rounds = 2\noracle_difference = 0\n{more}\n[loop.oracle]\n{oracle}\n\
         [loop.trainer]\n{trainer}\n"
    );
    write(folder, "loop.toml", &toml)
}

/// Copies the current potential to the output, so that it is not improved.
const COPY: &str = r#"command = ["sh", "-c", "cp \"$0\" \"$2/potential.yaml\" && cp \"$1\" \"$2/potential.asi\" && echo '{\"accepted\": true}' > \"$2/report.json\" # {labelled}", "{potential}", "{active_set}", "{output}"]"#;

/// A trainer that waits for the file `go` in the folder of the configuration and then fails.
fn waiting_trainer() -> String {
    r#"command = ["sh", "-c", "while [ ! -e go ]; do sleep 0.05; done; exit 1", "{output}", "{labelled}"]"#.into()
}

fn run(config: &Path) -> Output {
    let folder = config.parent().unwrap();
    lammps_otf().current_dir(folder).arg("loop").arg("loop.toml").args(["-o", "out", "--json"]).output().unwrap()
}

/// The last line of standard output.
fn result(output: &Output) -> serde_json::Value {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(text.lines().last().unwrap_or_else(|| panic!("{}", common::text(output)))).unwrap()
}

fn rows(folder: &Path, status: Status) -> Vec<StoredCandidate> {
    let store = Store::open_existing(&folder.join("out/candidates.db")).unwrap();
    store.iter(Some(status)).unwrap().collect::<Result<_, _>>().unwrap()
}

/// An oracle with ASE's EMT that fails for each candidate as often as the second argument specifies.
fn emt(failures: u32, more: &str) -> String {
    let (python, oracle) = (dependency("bin/python3"), script("emt_oracle.py"));
    format!("command = [{python:?}, {oracle:?}, \"{{input}}\", \"{{output}}\", \"{failures}\"]\n{more}")
}

#[test]
fn projection_rows_are_consistent_with_gamma() {
    let _one = common::one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let mut config = InferenceConfig::read(config(folder.path(), EAM, COPY, "")).unwrap();
    let mut structure = io::read(&config.system.structure, None).unwrap();
    // Neither symmetric nor wrapped.
    for (at, x) in structure.positions.iter_mut().enumerate() {
        *x += 0.25 * ((at * 7919 % 101) as f64 / 101.0 - 0.5) - 3.0;
    }
    let mask: Vec<f64> = (0..structure.len()).map(|i| f64::from(u8::from(i % 3 == 0))).collect();
    let found = predictor(&config.system.potential).unwrap().rows(1, &structure, &mask).unwrap();
    config.system.potential.engine = lammps_otf::config::Engine::MlPace;
    let script = Script::new(&config, &structure, Path::new("data")).unwrap();
    let gamma = verify::evaluate(&structure, &script).unwrap().gamma.unwrap();
    let masked: Vec<f64> = gamma.iter().zip(&mask).filter(|(_, m)| **m > 0.0).map(|(g, _)| *g).collect();
    assert_eq!(found.rows.len(), masked.len());
    for ((_, row), gamma) in found.rows.iter().zip(&masked) {
        let largest = row.iter().fold(0.0, |most: f64, c| most.max(c.abs()));
        assert!((largest / gamma - 1.0).abs() < 1e-8, "{largest} {gamma}");
    }
    assert!((found.gamma() / masked.iter().copied().fold(0.0, f64::max) - 1.0).abs() < 1e-8);
}

#[test]
fn failed_label_is_recorded_and_the_others_are_computed() {
    let folder = tempfile::tempdir().unwrap();
    let out = run(&config(folder.path(), &emt(1, ""), COPY, ""));
    // The copy is not improved, so the loop ends at its trial.
    assert_eq!(out.status.code(), Some(4), "{}", text(&out));
    let failed = rows(folder.path(), Status::Failed);
    assert!(!failed.is_empty(), "{}", text(&out));
    for row in &failed {
        assert!(row.message.as_ref().unwrap().contains("ended with exit status: 7"), "{:?}", row.message);
        assert!(row.error_log.as_ref().unwrap().contains("no convergence"), "{:?}", row.error_log);
    }
    assert_eq!(result(&out)["outcome"], "nothing");
}

#[test]
fn oracle_is_retried_and_its_results_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let out = run(&config(folder.path(), &emt(1, "retries = 1"), COPY, ""));
    assert_eq!(out.status.code(), Some(4), "{}", text(&out));
    let done = rows(folder.path(), Status::Done);
    assert!(!done.is_empty() && rows(folder.path(), Status::Failed).is_empty(), "{}", text(&out));
    common::succeed(common::python().arg(script("check_emt.py")).arg(folder.path().join("out/candidates.db")));
    let log = folder.path().join(format!("out/round-001/labels/candidate-{:06}.log", done[0].id));
    let said = std::fs::read_to_string(log).unwrap();
    assert!(said.contains("no convergence") && said.contains("converged"), "{said}");
}

#[test]
fn label_in_another_order_is_reordered_and_one_of_another_structure_rejected() {
    for (change, refused) in [
        ("atoms = atoms[::-1]; atoms.wrap()", None),
        ("atoms.positions[5] += 0.01", Some("it has no Al within 0.0001 Å")),
        ("atoms.set_cell(atoms.cell * 1.01)", Some("its cell vector a is")),
        ("atoms.pbc = False", Some("its cell is periodic along F F F instead of T T T")),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let oracle = emt(0, "").replace("\"0\"]", &format!("\"0\", {change:?}]"));
        let out = run(&config(folder.path(), &oracle, COPY, "max_labels = 3"));
        assert_eq!(out.status.code(), Some(4), "{}", text(&out));
        let (done, failed) = (rows(folder.path(), Status::Done), rows(folder.path(), Status::Failed));
        match refused {
            None => {
                assert!(!done.is_empty() && failed.is_empty(), "{change}: {}", text(&out));
                let database = folder.path().join("out/candidates.db");
                common::succeed(common::python().arg(script("check_emt.py")).arg(database));
            }
            Some(words) => {
                assert!(done.is_empty() && !failed.is_empty(), "{change}: {}", text(&out));
                let message = failed[0].message.as_ref().unwrap();
                assert!(
                    message.contains("does not hold the atoms of the candidate: ") && message.contains(words),
                    "{message}"
                );
            }
        }
    }
}

#[test]
fn oracle_that_exceeds_its_time_limit_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let slow = "command = [\"sh\", \"-c\", \"sleep 900\", \"{input}\", \"{output}\"]\ntimeout = 0.3";
    let out = run(&config(folder.path(), slow, COPY, "max_labels = 2"));
    assert_eq!(out.status.code(), Some(4), "{}", text(&out));
    let failed = rows(folder.path(), Status::Failed);
    assert!(failed[0].message.as_ref().unwrap().contains("killed after 0.3 s"), "{:?}", failed[0].message);
}

#[test]
fn potential_that_is_not_better_is_not_swapped_in() {
    let nothing = r#"command = ["sh", "-c", "echo '{\"accepted\": false, \"reason\": \"worse by 9\"}' > \"$0/report.json\"; exit 3", "{output}", "{labelled}"]"#;
    let broken =
        COPY.replace("cp \\\"$0\\\" \\\"$2/potential.yaml\\\"", "head -c 700 \\\"$0\\\" > \\\"$2/potential.yaml\\\"");
    assert_ne!(broken, COPY);
    let farther = COPY.replace("cp \\\"$0\\\"", "sed 's/rcutij: 5.5/rcutij: 6.5/' \\\"$0\\\" >");
    assert_ne!(farther, COPY);
    for (trainer, why) in [
        (COPY, ", above 2, in candidate"),
        (nothing, "worse by 9"),
        (&broken, "cannot use"),
        (&farther, "its cutoff is 6.5 Å"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path_of = |name: &str| folder.path().join("out").join(name).join("potential.yaml");
        let out = run(&config(folder.path(), EAM, trainer, ""));
        assert_eq!(out.status.code(), Some(4), "{}", text(&out));
        let result = result(&out);
        let said = result["outcome"]["refused"].as_str().unwrap_or_else(|| panic!("{result}"));
        assert!(said.contains(why), "{said}");
        let potential = result["potential"].as_str().unwrap();
        assert!(potential.ends_with("out/final/potential.yaml"), "{potential}");
        for folder in ["start", "final"] {
            let basis = std::fs::read(path_of(folder)).unwrap();
            assert!(basis == std::fs::read(root().join("potentials/al/Al.yaml")).unwrap(), "the first one stays");
        }
        assert!(!path_of("potential").exists());
        let original = std::fs::read(root().join("potentials/al/Al.yaml")).unwrap();
        assert!(std::fs::read(potential).unwrap() == original);
        let store = Store::open_existing(&folder.path().join("out/candidates.db")).unwrap();
        let rounds = store.rounds().unwrap();
        assert_eq!((rounds.len(), rounds[0].phase), (1, Phase::Train));
        assert!(rounds[0].labelled >= 1);
    }
}

/// Changes by users and workers of rows for which a loop waits, and the results.
#[test]
fn deleted_or_invalid_rows_do_not_end_a_loop() {
    let delete =
        "import sqlite3; c = sqlite3.connect('out/candidates.db'); c.execute('delete from systems'); c.commit()";
    let nonsense = "import numpy\nfrom ase.db import connect\nfrom ase.calculators.singlepoint import SinglePointCalculator\n\
                    db = connect('out/candidates.db')\nfor row in list(db.select(status='RUNNING_DFT')):\n    \
                    atoms = row.toatoms()\n    atoms.calc = SinglePointCalculator(atoms, energy=1.0, \
                    forces=numpy.full((len(atoms), 3), numpy.nan))\n    db.update(row.id, atoms=atoms, status='DONE')";
    // A valid label of other atoms.
    let moved = &nonsense.replace("atoms = row.toatoms()", "atoms = row.toatoms()\n    atoms.rattle(0.01)");
    let moved = &moved.replace("numpy.full((len(atoms), 3), numpy.nan)", "numpy.ones((len(atoms), 3))");
    for (name, program, left) in [("deleted", delete, 0), ("nonsense", nonsense, 1), ("moved", moved, 1)] {
        let folder = tempfile::tempdir().unwrap();
        common::write(folder.path(), "worker.py", program);
        let python = dependency("bin/python3");
        let oracle = format!("command = [{python:?}, \"worker.py\", \"{{input}}\", \"{{output}}\"]\nretries = 0");
        let out = run(&config(folder.path(), &oracle, COPY, ""));
        assert_eq!(out.status.code(), Some(4), "{name}: {}", text(&out));
        let result = result(&out);
        let round = &result["rounds"][0];
        assert!(round["labelled"] == 0 && round["failed"].as_u64().unwrap() > 0, "{name}: {result}");
        let done = rows(folder.path(), Status::Done);
        assert!(done.len() >= left && done.iter().all(|row| !row.is_labelled()), "{name}");
    }
}

#[test]
fn loop_in_the_folder_of_a_run_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let path = config(folder.path(), EAM, COPY, "");
    let ran = lammps_otf().current_dir(&folder).args(["run", "loop.toml", "-o", "out", "-q"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(4), "{}", text(&ran));
    let before = std::fs::read(folder.path().join("out/data.lammps")).unwrap();
    let out = run(&path);
    assert_eq!(out.status.code(), Some(2), "{}", text(&out));
    assert!(text(&out).contains("files that do not belong to a loop"), "{}", text(&out));
    assert!(std::fs::read(folder.path().join("out/data.lammps")).unwrap() == before);
}

#[test]
fn other_configuration_and_second_process_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let trainer = &waiting_trainer();
    let path = config(folder.path(), EAM, trainer, "");
    let first = std::thread::spawn({
        let path = path.clone();
        move || run(&path)
    });
    let log = folder.path().join("out/round-001/training.log");
    common::wait_for("the trainer", || log.exists() || first.is_finished());
    assert!(!first.is_finished(), "{}", text(&first.join().unwrap()));
    let second = run(&path);
    common::write(folder.path(), "go", "");
    assert_eq!(second.status.code(), Some(2));
    assert!(text(&second).contains("another process is running in"), "{}", text(&second));
    let first = first.join().unwrap();
    assert_eq!(first.status.code(), Some(1), "training failed: {}", text(&first));
    assert!(text(&first).contains("exit status: 1"), "{}", text(&first));

    let changed = std::fs::read_to_string(&path).unwrap().replace("seed = 3", "seed = 4");
    std::fs::write(&path, changed).unwrap();
    let other = run(&path);
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other).contains("another `seed`"), "{}", text(&other));
}

#[test]
fn waiting_ranks_use_no_processor_time() {
    let folder = tempfile::tempdir().unwrap();
    config(folder.path(), EAM, &waiting_trainer(), "");
    let mut command = common::mpiexec(2);
    command.arg(env!("CARGO_BIN_EXE_lammps-otf")).args(["loop", "loop.toml", "-o", "out", "-q"]);
    let job = command.current_dir(&folder).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let log = folder.path().join("out/round-001/training.log");
    common::wait_for("the trainer", || log.exists());
    let process = common::process(folder.path(), 1).expect("rank 1 is running");
    // `S` for a sleeping process; a rank that spins is always `R`.
    let state = || {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap()
    };
    let mut seen = String::new();
    while seen.len() < 1000 && seen.matches('S').count() < 20 {
        std::thread::sleep(Duration::from_millis(10));
        seen.push(state());
    }
    common::write(folder.path(), "go", "");
    let output = job.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(seen.matches('S').count() >= 20, "rank 1 does not sleep while rank 0 waits for the trainer: {seen}");
}

/// Runs the loop on this number of ranks until its last round.
fn on_ranks(folder: &Path, ranks: &str) {
    let out = common::mpiexec(ranks.parse().unwrap())
        .arg(env!("CARGO_BIN_EXE_lammps-otf"))
        .args(["loop", "loop.toml", "-o", "out", "--json"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(4), "{}", text(&out));
}

#[test]
fn redistributed_atoms_keep_their_forces() {
    // So hot that atoms must change ranks within 20 steps, which happens when the loop writes its restart file.
    let mut differences = Vec::new();
    for ranks in ["1", "2"] {
        let folder = tempfile::tempdir().unwrap();
        let path = config(folder.path(), EAM, COPY, "");
        let mut toml = std::fs::read_to_string(&path).unwrap();
        for (from, to) in [
            ("temperature = 1500", "temperature = 2500"),
            ("seed = 3", "seed = 4"),
            ("threshold = 2.0", "threshold = 3.0"),
            ("radius = 3.0", "radius = 4.0"),
            ("batch = 3\nselect = 3\nmax_rounds = 2", "batch = 1\nselect = 1\nmax_rounds = 1"),
        ] {
            assert!(toml.contains(from));
            toml = toml.replace(from, to);
        }
        std::fs::write(&path, toml).unwrap();
        on_ranks(folder.path(), ranks);
        let [row] = &rows(folder.path(), Status::Done)[..] else { panic!("one candidate") };
        differences.push((row.keys().step, row.keys().max_force_difference.unwrap()));
    }
    println!(
        "step and largest difference between forces of a region and of its cut-out, on 1 and 2 ranks: {differences:?}"
    );
    let [one, two] = differences[..] else { unreachable!("two runs") };
    assert_eq!(one.0, two.0);
    // Round-off of 20 steps.
    assert!((one.1 - two.1).abs() < 1e-6 * one.1, "{differences:?}");
}

#[test]
fn loop_on_two_ranks_has_the_same_events_and_candidates() {
    let mut seen = Vec::new();
    for ranks in ["1", "2"] {
        let folder = tempfile::tempdir().unwrap();
        config(folder.path(), EAM, COPY, "");
        on_ranks(folder.path(), ranks);
        let keys =
            |row: StoredCandidate| (row.id, row.keys().step, row.keys().center_id, row.candidate.structure.len());
        let labelled: Vec<_> = rows(folder.path(), Status::Done).into_iter().map(keys).collect();
        seen.push(labelled);
    }
    assert_eq!(seen[0], seen[1]);
    assert!(!seen[0].is_empty());
}

#[test]
fn errors_in_the_loop_table_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    for (more, trainer, named) in [
        ("batch = 0", COPY, "batch"),
        ("halt = 1.0", COPY, "loop.halt"),
        ("", r#"command = ["train", "{output}"]"#, "loop.trainer.command"),
        ("resume_from = \"here\"", COPY, "here"),
    ] {
        let more = if more.starts_with("batch") { more.to_owned() } else { format!("event_spacing = 20\n{more}") };
        let path = config(folder.path(), EAM, trainer, &more);
        let out = run(&path);
        assert_eq!(out.status.code(), Some(2));
        assert!(text(&out).contains(named), "{}", text(&out));
        assert!(!folder.path().join("out").exists());
    }
    let unnamed = std::fs::read_to_string(folder.path().join("loop.toml")).unwrap();
    std::fs::write(folder.path().join("loop.toml"), unnamed.split("[loop]").next().unwrap()).unwrap();
    assert!(text(&run(&folder.path().join("loop.toml"))).contains("no table [loop]"));
}

#[test]
fn quiet_time_is_lammps_time_and_every_run_appends_to_files_of_the_setup() {
    let folder = tempfile::tempdir().unwrap();
    let path = config(folder.path(), EAM, COPY, "quiet_time = 0.1");
    let text_of = std::fs::read_to_string(&path).unwrap();
    let setup = "temperature = 300\nsetup = [\"timestep 0.0005\", \"dump d all custom 50 atoms.dump id x\"]\n";
    write(folder.path(), "loop.toml", &text_of.replace("temperature = 1500\n", setup));
    let out = run(&path);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    let result = result(&out);
    assert_eq!((&result["outcome"], &result["rounds"][0]["reached"]), (&"learned".into(), &200.into()), "{result}");
    let steps = || {
        let dump = std::fs::read_to_string(folder.path().join("atoms.dump")).unwrap();
        let lines: Vec<&str> = dump.lines().collect();
        lines.windows(2).filter(|w| w[0] == "ITEM: TIMESTEP").map(|w| w[1].parse().unwrap()).collect::<Vec<u32>>()
    };
    assert_eq!(steps(), [0, 50, 100, 150, 200]);

    // A killed process leaves its frames in the file.
    let folder = tempfile::tempdir().unwrap();
    let begin = |more: &str| {
        let path = config(folder.path(), EAM, COPY, more);
        let text_of = std::fs::read_to_string(&path).unwrap().replace("steps = 400", "steps = 100000");
        write(folder.path(), "loop.toml", &text_of.replace("temperature = 1500\n", setup));
        lammps_otf().current_dir(&folder).args(["loop", "loop.toml", "-q", "-o", "out"]).spawn().unwrap()
    };
    let dump = || std::fs::read_to_string(folder.path().join("atoms.dump")).unwrap_or_default();
    let mut child = begin("");
    common::wait_for("a dump", || dump().contains("TIMESTEP\n200\n") || child.try_wait().unwrap().is_some());
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(begin("quiet_time = 0.1").wait().unwrap().code(), Some(0));
    let whole = dump();
    assert_eq!(whole.matches("TIMESTEP\n0\n").count(), 2);
    assert!(
        whole.find("TIMESTEP\n200\n") < whole.rfind("TIMESTEP\n0\n") && whole.matches("TIMESTEP\n200\n").count() == 2
    );
    // Files that cannot be appended to are rejected before a file is opened.
    write(folder.path(), "t.dcd", "precious");
    let path = config(folder.path(), EAM, COPY, "");
    let text_of = std::fs::read_to_string(&path).unwrap();
    let dump = "setup = [\"dump d all dcd 10 t.dcd\"]\nuncertainty_low";
    write(folder.path(), "loop.toml", &text_of.replace("uncertainty_low", dump));
    let out = lammps_otf().current_dir(&folder).args(["loop", "loop.toml", "-o", "dcd"]).output().unwrap();
    assert_eq!(out.status.code(), Some(2), "{}", text(&out));
    assert!(text(&out).contains("t.dcd") && text(&out).contains("each round"), "{}", text(&out));
    assert_eq!(std::fs::read_to_string(folder.path().join("t.dcd")).unwrap(), "precious");
    assert!(!folder.path().join("dcd").exists());
}
