// SPDX-License-Identifier: GPL-2.0-or-later
//! Check structures of the learning loop, the comparison of oracle and potential, and labels of other loops, with EAM as oracle.

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;

use common::{aluminium, dependency, eam_file, lammps_otf, linear_trainer, root, script, text, write};
use lammps_otf::candidates::{CheckResult, Round, Status, Store, StoredCandidate};
use lammps_otf::config::{Engine, InferenceConfig};
use lammps_otf::script::Script;
use lammps_otf::structure::Structure;
use lammps_otf::{io, verify};

/// A trainer whose potential is wrong although its γ is small.
fn trainer() -> String {
    let (python, program) = (dependency("bin/python3"), script("spoil_potential.py"));
    format!(
        "command = [{python:?}, {program:?}, \"{{potential}}\", \"{{active_set}}\", \"{{output}}\", \"{{labelled}}\"]"
    )
}

/// A loop over a run of Al at `temperature`, with EAM as oracle.
fn config(folder: &Path, name: &str, temperature: f64, trainer: &str, more: &str) -> PathBuf {
    write(folder, "al.extxyz", &aluminium(4));
    let (potential, eam) = (root().join("potentials/al/Al.yaml"), eam_file());
    let toml = format!(
        "structure = \"al.extxyz\"\ntemperature = {temperature}\nsteps = 200\nsampling_interval = 10\nseed = 3\n\
         uncertainty_low = 1.5\nuncertainty_threshold = 2.0\ncore_share = 1\n[potential]\nfile = {potential:?}\n\
         [embedding]\nradius = 3.0\n[loop]\nbatch = 2\nselect = 2\nmax_rounds = 3\n{more}\n[loop.oracle]\ntype = \"lammps\"\n\
         pair_style = \"eam/fs\"\npair_coeff = [\"* * {} Al\"]\n[loop.trainer]\n{trainer}\n",
        eam.display()
    );
    write(folder, &format!("{name}.toml"), &toml)
}

fn run(folder: &Path, name: &str) -> Output {
    lammps_otf().current_dir(folder).args(["loop", &format!("{name}.toml"), "-o", name, "--json"]).output().unwrap()
}

fn result(output: &Output) -> serde_json::Value {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(text.lines().last().unwrap_or_else(|| panic!("{}", common::text(output)))).unwrap()
}

fn store(folder: &Path, name: &str) -> Store {
    Store::open_existing(&folder.join(name).join("candidates.db")).unwrap()
}

fn rows(folder: &Path, name: &str) -> Vec<StoredCandidate> {
    store(folder, name).iter(None).unwrap().collect::<Result<_, _>>().unwrap()
}

/// A crystal with displaced atoms, the same with a vacancy, and the displaced crystal with vacuum.
fn structures(folder: &Path) {
    let crystal = aluminium(3);
    let moved = |lines: &mut dyn Iterator<Item = (usize, &str)>| -> Vec<String> {
        let line = |(at, line): (usize, &str)| {
            let x: Vec<f64> = line.split_whitespace().skip(1).map(|x| x.parse().unwrap()).collect();
            let d = |k: usize| 0.1 * (((at * 3 + k) * 7919 % 101) as f64 / 50.5 - 1.0);
            format!("Al {} {} {}", x[0] + d(0), x[1] + d(1), x[2] + d(2))
        };
        lines.map(line).collect()
    };
    let lines: Vec<&str> = crystal.lines().collect();
    let atoms = moved(&mut lines[2..].iter().copied().enumerate());
    let frame = |header: &str, atoms: &[String]| format!("{}\n{header}\n{}\n", atoms.len(), atoms.join("\n"));
    write(folder, "crystal.extxyz", &frame(lines[1], &atoms));
    write(folder, "vacancy.extxyz", &frame(lines[1], &atoms[1..]));
    let edge = 3.0 * 4.045;
    let tall =
        format!("Lattice=\"{edge} 0 0 0 {edge} 0 0 0 {}\" Properties=species:S:1:pos:R:3 pbc=\"T T T\"", edge + 12.0);
    // Two frames of one check.
    write(folder, "slab.extxyz", &[frame(&tall, &atoms), frame(&tall, &atoms[4..])].concat());
}

const CHECKS: &str = "[[loop.check]]\nname = \"crystal\"\nstructure = \"crystal.extxyz\"\n\
                      [[loop.check]]\nname = \"vacancy\"\nstructure = \"vacancy.extxyz\"\nforce_error = 0.2\n\
                      [[loop.check]]\nname = \"slab\"\nstructure = \"slab.extxyz\"\nenergy_difference_error = 0.9\n";

/// Energy and forces by LAMMPS itself, of EAM and of a potential.
fn by_lammps(config: &InferenceConfig, structure: &Structure) -> [verify::Evaluation; 2] {
    let folder = tempfile::tempdir().unwrap();
    let eam = InferenceConfig::read(common::eam_config(folder.path(), 3, "temperature = 300\nuncertainty = \"none\""))
        .unwrap();
    [&eam, config].map(|config| {
        let script = Script::new(config, structure, Path::new("data")).unwrap();
        verify::evaluate(structure, &script).unwrap()
    })
}

fn check<'r>(round: &'r Round, name: &str) -> &'r CheckResult {
    round.checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("{name}: {round:?}"))
}

#[test]
fn checks_are_labelled_once_and_each_potential_has_its_errors() {
    let _one = common::one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    structures(at);
    let path = config(at, "melt", 1500.0, &linear_trainer(&at.join("data")), CHECKS);
    let out = run(at, "melt");
    assert!([0, 4].contains(&out.status.code().unwrap()), "{}", text(&out));
    let all = rows(at, "melt");
    let checks: Vec<&StoredCandidate> = all.iter().filter(|row| row.is_check()).collect();
    // Two structures, two frames, and the initial structure.
    assert_eq!(checks.len(), 5, "{}", text(&out));
    assert!(checks.iter().all(|row| row.is_labelled() && row.is_held_back() && row.attempts == 1));
    let rounds = store(at, "melt").rounds().unwrap();
    assert!(rounds.len() >= 2, "{}", text(&out));
    for round in &rounds {
        let names: Vec<&str> = round.checks.iter().map(|check| &*check.name).collect();
        assert_eq!(names, ["crystal", "vacancy", "slab", "initial"]);
        assert_eq!(check(round, "slab").structures, 2);
        let gamma = check(round, "slab").gamma_max.unwrap();
        assert!(gamma > check(round, "crystal").gamma_max.unwrap(), "{round:?}");
    }
    // What was trained on are the candidates of the run.
    let labelled = std::fs::read_to_string(at.join("melt/round-001/labelled.extxyz")).unwrap();
    assert_eq!(labelled.matches("Lattice").count(), rounds[0].labelled);
    assert!(!labelled.contains("check_name"), "{labelled}");

    // The same errors by LAMMPS and ML-PACE.
    for round in [&rounds[0], rounds.last().unwrap()] {
        let mut own = InferenceConfig::read(&path).unwrap();
        let record = store(at, "melt").potential(&round.potential).unwrap().unwrap();
        own.system.potential.file = Some(record.file);
        own.system.potential.active_set = Some(record.active_set);
        own.system.potential.engine = Engine::MlPace;
        let read = |name: &str| io::read(at.join(name), None).unwrap();
        let [crystal, vacancy] = ["crystal.extxyz", "vacancy.extxyz"].map(|name| by_lammps(&own, &read(name)));
        let squares = vacancy[0].forces.iter().flatten().zip(vacancy[1].forces.iter().flatten());
        let rmse = (squares.map(|(a, b)| (a - b) * (a - b)).sum::<f64>() / 107.0).sqrt();
        let found = check(round, "vacancy");
        // Rounding of energies of 300 eV.
        assert!((found.force_rmse - rmse).abs() < 1e-9, "{found:?}, {rmse} by LAMMPS");
        let of = |k: usize| vacancy[k].energy - crystal[k].energy * 107.0 / 108.0;
        let difference = found.difference.unwrap();
        assert!((difference.label - of(0)).abs() < 1e-8 && (difference.prediction - of(1)).abs() < 1e-8, "{found:?}");
        assert!(check(round, "crystal").difference.is_none(), "it is the reference");
        let energy = (crystal[0].energy - crystal[1].energy) / 108.0;
        assert!((check(round, "crystal").energy_error.unwrap() - energy).abs() < 1e-10);
    }

    // The loop is continued with a changed check.
    write(at, "crystal.extxyz", &aluminium(3));
    let out = run(at, "melt");
    assert_eq!(out.status.code(), Some(2), "{}", text(&out));
    assert!(text(&out).contains("another check \"crystal\""), "{}", text(&out));
}

#[test]
fn checks_to_be_trained_on_have_energies() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    structures(at);
    let checks = CHECKS.replace("name = \"slab\"\n", "name = \"slab\"\ntrain = true\n");
    config(
        at,
        "melt",
        1500.0,
        &linear_trainer(&at.join("data")),
        &format!("max_rounds = 1\n{checks}").replace("max_rounds = 1\n", ""),
    );
    let out = run(at, "melt");
    assert!([0, 4].contains(&out.status.code().unwrap()), "{}", text(&out));
    let rounds = store(at, "melt").rounds().unwrap();
    let labelled = std::fs::read_to_string(at.join("melt/round-001/labelled.extxyz")).unwrap();
    assert_eq!(labelled.matches("Lattice").count(), rounds[0].labelled + 2);
    let of_slab = labelled.lines().filter(|line| line.contains("check_name") && line.contains("slab"));
    let is_weighted = |line: &str| line.contains("energy_weight=1") && line.contains("stress_weight=1");
    assert_eq!((of_slab.clone().count(), of_slab.filter(|line| is_weighted(line)).count()), (2, 2), "{labelled}");
    assert_eq!(labelled.matches("energy_weight=1").count(), 2);
}

#[test]
fn potential_that_is_worse_on_a_check_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    structures(at);
    config(at, "melt", 1500.0, &trainer(), &CHECKS.replace("force_error = 0.2", "force_error = 0.1"));
    let out = run(at, "melt");
    assert_eq!(out.status.code(), Some(4), "{}", text(&out));
    let result = result(&out);
    let why = result["outcome"]["refused"].as_str().unwrap_or_else(|| panic!("{result}"));
    assert!(why.contains("check \"vacancy\"") && why.contains("with the initial potential"), "{why}");
    // The final potential is the initial one.
    let read = |path: PathBuf| std::fs::read(path).unwrap();
    assert_eq!(read(at.join("melt/final/potential.yaml")), read(root().join("potentials/al/Al.yaml")));
}

#[test]
fn loop_is_not_learned_while_a_check_is_outside_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    structures(at);
    let strict = CHECKS.replace("energy_difference_error = 0.9", "energy_difference_error = 1e-6");
    config(at, "cold", 50.0, &trainer(), &strict);
    let out = run(at, "cold");
    assert_eq!(out.status.code(), Some(4), "{}", text(&out));
    let found = result(&out);
    assert_eq!(found["outcome"], "inaccurate");
    let unmet: Vec<&str> = found["unmet"].as_array().unwrap().iter().map(|what| what.as_str().unwrap()).collect();
    assert!(unmet.len() == 2 && unmet[0].contains("check \"slab\": energy difference"), "{unmet:?}");
    assert!(unmet[1].contains("train = true"), "{unmet:?}");
    // Labels of the slab are trained on, although no run has an event.
    let trained = strict.replace("name = \"slab\"\n", "name = \"slab\"\ntrain = true\n");
    config(at, "trained", 50.0, &linear_trainer(&at.join("data")), &trained);
    let out = run(at, "trained");
    assert_eq!(out.status.code(), Some(4), "{}", text(&out));
    let rounds = store(at, "trained").rounds().unwrap();
    let error = |round: &Round| check(round, "slab").difference.unwrap().relative_error();
    assert!(rounds.len() == 2 && error(&rounds[1]) < 0.5 * error(&rounds[0]), "{rounds:?}");
    // With the limit that it keeps, the same loop is continued and has ended.
    config(at, "cold", 50.0, &trainer(), CHECKS);
    let out = run(at, "cold");
    assert_eq!((out.status.code(), result(&out)["unmet"].as_array().unwrap().len()), (Some(0), 0), "{}", text(&out));
}

/// A loop over a solid solution of Al and Cu whose oracle makes a mistake.
fn alloy(folder: &Path, mistake: &str) -> Output {
    let mut count = 0;
    let replace = |line: &str| {
        count += 1;
        if count > 2 && count * 7919 % 10 < 3 { line.replace("Al ", "Cu ") } else { line.to_owned() }
    };
    let lines: Vec<String> = aluminium(4).lines().map(replace).collect();
    write(folder, "alloy.extxyz", &(lines.join("\n") + "\n"));
    let potential = root().join("potentials/alcu/AlCu.yaml");
    let eam = dependency("share/lammps/potentials/AlCu.eam.alloy");
    let (python, oracle) = (dependency("bin/python3"), script("eam_oracle.py"));
    let toml = format!(
        "structure = \"alloy.extxyz\"\ntemperature = 50\nsteps = 10\nuncertainty_threshold = 1000\nsampling_interval = 10\n\
         core_share = 1\n[potential]\nfile = {potential:?}\n[embedding]\nradius = 3.0\n[loop]\nhalt = 2000\n[loop.oracle]\n\
         type = \"command\"\ncommand = [{python:?}, {oracle:?}, \"{{input}}\", \"{{output}}\", {eam:?}, \"{mistake}\"]\n\
         [loop.trainer]\n{}\n",
        trainer()
    );
    write(folder, &format!("{mistake}.toml"), &toml);
    run(folder, mistake)
}

#[test]
fn labels_that_do_not_fit_the_potential_are_refused_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let right = alloy(folder.path(), "none");
    assert_eq!(right.status.code(), Some(0), "{}", text(&right));
    for (mistake, hint) in [
        ("elements", "the order of the elements"),
        ("Ry", "as if the unit were Ry/Bohr"),
        ("kcal", "as if the unit were kcal/mol/Å"),
        ("sign", "The sign is wrong"),
        ("cell", "the cell"),
    ] {
        let out = alloy(folder.path(), mistake);
        assert_eq!(out.status.code(), Some(2), "{mistake}: {}", text(&out));
        assert!(text(&out).contains(hint), "{mistake}: {}", text(&out));
        assert!(rows(folder.path(), mistake).iter().all(StoredCandidate::is_check), "{mistake}");
        assert!(!folder.path().join(mistake).join("round-001/potential").exists());
    }
    // With the mistake corrected, the same loop labels again.
    let toml = std::fs::read_to_string(folder.path().join("Ry.toml")).unwrap();
    write(folder.path(), "Ry.toml", &toml.replace("\"Ry\"", "\"none\""));
    let out = run(folder.path(), "Ry");
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
}

#[test]
fn labels_of_the_loop_that_made_the_potential_are_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    config(at, "first", 1500.0, &linear_trainer(&at.join("data")), "");
    let out = run(at, "first");
    assert!([0, 4].contains(&out.status.code().unwrap()), "{}", text(&out));
    let labels = result(&out)["labels"].as_u64().unwrap() as usize;
    assert!(labels > 0, "{}", text(&out));
    let second = |name: &str, more: &str| {
        let path = config(at, name, 2500.0, &linear_trainer(&at.join("data")), more);
        let toml = std::fs::read_to_string(&path).unwrap();
        let potential = root().join("potentials/al/Al.yaml").display().to_string();
        std::fs::write(&path, toml.replace(&potential, "first/final/potential.yaml")).unwrap();
        let out = run(at, name);
        assert!([0, 4].contains(&out.status.code().unwrap()), "{}", text(&out));
        result(&out)
    };
    let found = second("second", "");
    assert_eq!(found["imported"][0][1].as_u64(), Some(labels as u64), "{found}");
    let imported: Vec<StoredCandidate> =
        rows(at, "second").into_iter().filter(|row| row.keys().extra.contains_key("imported_from")).collect();
    let before: Vec<StoredCandidate> =
        rows(at, "first").into_iter().filter(|row| row.status == Some(Status::Done) && !row.is_check()).collect();
    assert_eq!(imported.len(), before.len());
    for (new, old) in imported.iter().zip(&before) {
        assert_eq!(new.candidate.labels, old.candidate.labels);
        assert_eq!(new.candidate.force_mask, old.candidate.force_mask);
        assert!(!new.keys().extra.contains_key("round"));
    }
    let rounds = store(at, "second").rounds().unwrap();
    assert!(rounds[0].labelled > 0, "{rounds:?}");
    let trained = std::fs::read_to_string(at.join("second/round-001/labelled.extxyz")).unwrap();
    assert_eq!(trained.matches("Lattice").count(), labels + rounds[0].labelled);
    // They do not count for `max_labels`, and are not copied again.
    assert_eq!(found["labels"].as_u64(), Some(rounds.iter().map(|round| round.labelled as u64).sum()));
    run(at, "second");
    assert_eq!(rows(at, "second").iter().filter(|row| row.keys().extra.contains_key("imported_from")).count(), labels);
    assert_eq!(second("without", "labels = []")["imported"].as_array().map(Vec::len), Some(0));
    assert_eq!(second("named", "labels = [\"first/candidates.db\"]")["imported"][0][1].as_u64(), Some(labels as u64));
}

#[test]
fn small_frames_are_labelled_whole_with_energies() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let path = config(at, "melt", 1500.0, &linear_trainer(&at.join("data")), "");
    let toml = std::fs::read_to_string(&path).unwrap().replace("max_rounds = 3", "max_rounds = 1");
    let toml = toml.replace("[embedding]", "[trajectory]\ninterval = 10\n[embedding]");
    for (limit, name) in [(255, "cut"), (256, "melt")] {
        let embedding = format!("radius = 3.0\nwhole_frames_below = {limit}\n");
        write(at, &format!("{name}.toml"), &toml.replace("radius = 3.0\n", &embedding));
        let out = run(at, name);
        assert!([0, 4].contains(&out.status.code().unwrap()), "{}", text(&out));
        assert_eq!(result(&out)["warnings"], serde_json::json!([]));
    }
    let of_run = |name: &str| -> Vec<StoredCandidate> {
        rows(at, name).into_iter().filter(|row| !row.is_check() && row.is_labelled()).collect()
    };
    assert!(of_run("cut").iter().all(|row| row.keys().shape.as_deref() == Some("sphere")));
    let whole = of_run("melt");
    assert!(!whole.is_empty());
    let eam = InferenceConfig::read(common::eam_config(at, 4, "temperature = 300\nuncertainty = \"none\"")).unwrap();
    for row in &whole {
        let (keys, candidate) = (row.keys(), &row.candidate);
        assert_eq!((keys.shape.as_deref(), keys.radius, keys.buffer), (Some("frame"), None, None));
        assert_eq!((keys.energy_weight, keys.stress_weight), (Some(1.0), Some(1.0)));
        assert_eq!(candidate.source_ids, (1..=256).collect::<Vec<_>>());
        assert!(candidate.force_mask.iter().all(|mask| *mask == 1.0));
        // Other sums over neighbours than in the run.
        let (parent, here) = (keys.gamma_parent.unwrap(), keys.gamma_cluster.unwrap());
        assert!((parent - here).abs() < 1e-8 * parent && keys.max_force_difference.unwrap() < 1e-8, "{keys:?}");
        let script = Script::new(&eam, &candidate.structure, Path::new("data")).unwrap();
        let label = candidate.labels.as_ref().unwrap();
        assert!((label.energy - verify::evaluate(&candidate.structure, &script).unwrap().energy).abs() < 1e-8);
    }
    let labelled = std::fs::read_to_string(at.join("melt/round-001/labelled.extxyz")).unwrap();
    assert_eq!(labelled.matches("energy_weight=1").count(), whole.len(), "{labelled}");

    // Each round has a trajectory of its own, whose frames are those of its polls.
    let polls = common::lines(&at.join("melt/round-002/polls.jsonl"));
    let steps: Vec<i64> = polls.iter().map(|poll| poll["step"].as_i64().unwrap()).collect();
    let frames = std::fs::read_to_string(at.join("melt/round-002/trajectory.dump")).unwrap();
    let written: Vec<i64> =
        frames.split("ITEM: TIMESTEP\n").skip(1).map(|f| f.lines().next().unwrap().parse().unwrap()).collect();
    assert_eq!(written, steps);
    assert!(at.join("melt/round-001/trajectory.dump").is_file());

    // The same frame from two ranks, of a run.
    let run_of = |ranks: usize| {
        let output = format!("on-{ranks}");
        let mut job = common::mpiexec(ranks);
        job.current_dir(at).arg(env!("CARGO_BIN_EXE_lammps-otf")).args(["run", "melt.toml", "-o", &output]);
        let out = job.output().unwrap();
        assert_eq!(out.status.code(), Some(4), "{}", text(&out));
        rows(at, &output).remove(0).candidate
    };
    let (one, two) = (run_of(1), run_of(2));
    assert_eq!((one.keys.center_id, &one.source_ids), (two.keys.center_id, &two.source_ids));
    let moved = (&one.structure.positions - &two.structure.positions).mapv(f64::abs);
    // Sums over ranks differ in their last digits; a few hundred steps of a melt amplify them.
    assert!(moved.iter().all(|d| *d < 1e-6), "{moved:?}");
}

#[test]
fn label_that_does_not_fit_the_others_is_excluded_until_it_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (python, oracle) = (dependency("bin/python3"), script("eam_oracle.py"));
    let commands = |name: &str, mistake: &str| {
        let path = config(at, name, 1500.0, &linear_trainer(&at.join("data")), "");
        let toml = std::fs::read_to_string(&path).unwrap();
        let (start, end) = (toml.find("type = \"lammps\"").unwrap(), toml.find("[loop.trainer]").unwrap());
        let own = format!(
            "type = \"command\"\ncommand = [{python:?}, {oracle:?}, \"{{input}}\", \"{{output}}\", {:?}, \"{mistake}\"]\n\
             parallel = 2\n",
            eam_file()
        );
        let toml = toml
            .replace(&toml[start..end], &own)
            .replace("batch = 2\nselect = 2\nmax_rounds = 3", "batch = 8\nselect = 12\nmax_rounds = 1");
        let toml = toml.replace("steps = 200", "steps = 2000").replace("[loop]\n", "[loop]\nevent_spacing = 20\n");
        std::fs::write(&path, toml).unwrap();
        let out = run(at, name);
        assert_eq!(out.status.code(), Some(4), "{}", text(&out));
        out
    };
    let round = |name: &str| store(at, name).rounds().unwrap().remove(0);
    commands("right", "none");
    let first = round("right");
    assert!(first.labelled >= 8 && first.suspects.is_empty(), "{first:?}");
    // The structures of the first round do not depend on labels.
    let wrong = first.selected[3];
    commands("wrong", &format!("scf:{wrong}"));
    let of_wrong = round("wrong");
    assert_eq!((of_wrong.selected, &of_wrong.suspects), (first.selected, &vec![wrong]));
    // The same potential as if that label did not exist.
    let trained = std::fs::read_to_string(at.join("wrong/round-001/labelled.extxyz")).unwrap();
    assert!(
        !trained.contains(&format!("candidate={wrong} "))
            && trained.matches("candidate=").count() == first.labelled - 1
    );
    let (right, wrong_error) = (first.force_rmse_after.unwrap(), of_wrong.force_rmse_after.unwrap());
    assert!(wrong_error > 5.0 * right, "its own error is shown: {wrong_error} and {right} eV/Å");

    let db = at.join("wrong/candidates.db");
    let candidates = |arguments: &[&str]| {
        common::succeed(lammps_otf().arg("candidates").arg(arguments[0]).arg(&db).args(&arguments[1..]))
    };
    let ids = || -> Vec<i64> {
        let listed: serde_json::Value = serde_json::from_str(&candidates(&["list", "--suspect", "--json"])).unwrap();
        listed["candidates"].as_array().unwrap().iter().map(|row| row["id"].as_i64().unwrap()).collect()
    };
    assert_eq!(ids(), [wrong]);
    let gap = at.join("gap.xyz");
    let exported = candidates(&["export", "gap", "-o", gap.to_str().unwrap()]);
    assert!(exported.contains("1 omitted because their labels do not fit"), "{exported}");
    candidates(&["accept", &wrong.to_string()]);
    assert_eq!(ids(), [0_i64; 0]);
    assert!(!rows(at, "wrong").iter().any(StoredCandidate::is_suspect));
}
