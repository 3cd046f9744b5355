// SPDX-License-Identifier: GPL-2.0-or-later
//! Audits: regions drawn at random, whose labels measure the error of a potential that is not trained on them.

mod common;

use std::path::Path;

use common::{al_config, aluminium, dependency, eam_file, lammps_otf, limited, root, text, write};
use lammps_otf::calibration::Calibration;
use lammps_otf::candidates::{ErrorOf, Phase, RoundOutcome, Status, Store, StoredCandidate, Trigger};

/// About 20 audits in 0.4 ps. The default of `core_share` would stop the run.
const AUDITED: &str = "core_share = 1\ntemperature = 900\nsteps = 400\nsampling_interval = 10\nseed = 5\naudits_per_ps = 50\n\
                       uncertainty_threshold = 1e6\n";

fn rows(folder: &Path, output: &str) -> Vec<StoredCandidate> {
    let store = Store::open_existing(&folder.join(output).join("candidates.db")).unwrap();
    let rows: Vec<StoredCandidate> = store.iter(None).unwrap().collect::<Result<_, _>>().unwrap();
    // A loop compares the oracle with the potential.
    rows.into_iter().filter(|row| !row.is_check()).collect()
}

/// Step, atom and γ of the audits of a run.
fn audits(folder: &Path, output: &str) -> Vec<(i64, i64, f64)> {
    let drawn = rows(folder, output).into_iter().map(|row| {
        let keys = row.keys();
        assert_eq!(keys.trigger, Some(Trigger::Audit));
        (keys.step.unwrap(), keys.center_id.unwrap(), keys.gamma.unwrap())
    });
    drawn.collect()
}

fn result(folder: &Path, output: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(folder.join(output).join("result.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn audits_are_the_same_on_any_number_of_ranks_and_in_a_resumed_run() {
    let folder = tempfile::tempdir().unwrap();
    let config = al_config(folder.path(), &format!("{AUDITED}checkpoint_interval = 100\n"));
    let run = |output: &str, more: &[&str], ranks: Option<&str>| {
        let binary = env!("CARGO_BIN_EXE_lammps-otf");
        let mut command = match ranks {
            Some(n) => {
                let mut command = limited(dependency("bin/mpiexec"));
                command.args(["-n", n, binary]);
                command
            }
            None => lammps_otf(),
        };
        let command = command.current_dir(&folder).arg("run").arg(&config).args(["-o", output, "-q"]).args(more);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    };
    run("one", &[], None);
    let one = audits(folder.path(), "one");
    println!("{one:?}");
    // 20 are expected, and 2.6 is the standard deviation of the number of 40 draws with a probability of 1/2 each.
    assert!((8..=32).contains(&one.len()), "{}", one.len());
    let mut atoms: Vec<i64> = one.iter().map(|(_, atom, _)| *atom).collect();
    atoms.sort_unstable();
    atoms.dedup();
    assert!(atoms.len() > one.len() / 2, "{atoms:?}");
    let stored = result(folder.path(), "one");
    assert_eq!(stored["audits"].as_array().unwrap().len(), one.len());
    assert_eq!(stored["candidates"], serde_json::json!([]), "audits do not count as candidates");
    for ranks in ["2", "3"] {
        run(ranks, &[], Some(ranks));
        let found = audits(folder.path(), ranks);
        assert_eq!(found.len(), one.len());
        for ((step, atom, gamma), (s, a, g)) in found.iter().zip(&one) {
            // The order of sums differs, and the trajectory is chaotic over 0.4 ps only to about 1e-9.
            assert!((step, atom) == (s, a) && (gamma - g).abs() < 1e-6, "{ranks}: {step} {atom} {gamma}, {s} {a} {g}");
        }
    }
    // Half of the run, resumed to its end.
    let whole = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, whole.replace("steps = 400", "steps = 200")).unwrap();
    run("half", &[], None);
    std::fs::write(&config, whole).unwrap();
    run("half", &["--resume"], None);
    let ids = |drawn: &[(i64, i64, f64)]| drawn.iter().map(|(step, atom, _)| (*step, *atom)).collect::<Vec<_>>();
    assert_eq!(ids(&audits(folder.path(), "half")), ids(&one));
    assert_eq!(result(folder.path(), "half")["audits"], stored["audits"]);
}

/// A loop whose first run is quiet, with the EAM potential as oracle.
fn learn(folder: &Path, force_error: f64, audits_per_ps: f64, max_rounds: u32) -> (Option<i32>, serde_json::Value) {
    write(folder, "al.extxyz", &aluminium(4));
    let toml = format!(
        "structure = \"al.extxyz\"\ntemperature = 600\nsteps = 300\nsampling_interval = 10\nseed = 3\n\
         core_share = 1\naudits_per_ps = {audits_per_ps}\nuncertainty_low = 2.0\n\
         uncertainty_threshold = {{ force_error = {force_error}, coverage = 0.8, fallback = 1000.0 }}\n\
         [potential]\nfile = {:?}\n[embedding]\nradius = 3.0\n[loop]\nhalt = 1000.0\nmax_rounds = {max_rounds}\n\
         resume_from = \"start\"\n\
         [loop.oracle]\ntype = \"lammps\"\npair_style = \"eam/fs\"\npair_coeff = [\"* * {} Al\"]\n[loop.trainer]\n{COPY}\n",
        root().join("potentials/al/Al.yaml"),
        eam_file().display()
    );
    write(folder, "loop.toml", &toml);
    let output = lammps_otf().current_dir(folder).arg("loop").arg("loop.toml").args(["-o", "out", "--json"]).output();
    let output = output.unwrap();
    let text = text(&output);
    println!("{text}");
    let last = text.lines().rfind(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{text}"));
    (output.status.code(), serde_json::from_str(last).unwrap())
}

/// Copies the current potential to the output, so that it is not improved.
const COPY: &str = r#"command = ["sh", "-c", "cp \"$0\" \"$2/potential.yaml\" && cp \"$1\" \"$2/potential.asi\" && echo '{\"accepted\": true}' > \"$2/report.json\" # {labelled}", "{potential}", "{active_set}", "{output}"]"#;

#[test]
fn quiet_run_within_the_tolerance_ends_the_loop_with_labelled_audits() {
    let folder = tempfile::tempdir().unwrap();
    let (code, result) = learn(folder.path(), 10.0, 50.0, 2);
    assert_eq!((code, result["outcome"].as_str()), (Some(0), Some("learned")), "{result}");
    let labelled = rows(folder.path(), "out");
    assert!(labelled.len() >= 5, "{}", labelled.len());
    let audit = &result["rounds"][0]["audit"];
    assert_eq!(audit["regions"], labelled.len());
    let (mut sum, mut atoms) = (0.0_f64, 0.0);
    for row in &labelled {
        assert_eq!(row.status, Some(Status::Done));
        assert!(row.is_held_back());
        let errors = row.errors(ErrorOf::Run).expect("each label has its error");
        for (error, mask) in errors.forces.iter().zip(&row.candidate.force_mask) {
            assert_eq!(error.is_nan(), *mask == 0.0);
            if *mask > 0.0 {
                (sum, atoms) = (sum + error * error, atoms + 1.0);
            }
        }
        assert_eq!(errors.energy, None, "the energy of a cut-out is not that of the bulk");
    }
    let rmse: f64 = (sum / atoms).sqrt();
    assert!((rmse / audit["force_rmse"].as_f64().unwrap() - 1.0).abs() < 1e-12, "{rmse} {audit}");
    // The regions are enough for a coverage of 0.8, and the tolerance is far above the error of the test potential.
    let bound = audit["force_bound"].as_f64().unwrap();
    assert!(bound > 0.5 * rmse && bound < 10.0, "{bound} {rmse}");
}

#[test]
fn audits_above_the_tolerance_become_training_data_and_the_loop_is_not_learned() {
    let folder = tempfile::tempdir().unwrap();
    // No potential reaches this tolerance, and the trainer does not change it.
    let (code, result) = learn(folder.path(), 1e-6, 50.0, 1);
    assert_eq!((code, result["outcome"].as_str()), (Some(4), Some("inaccurate")), "{result}");
    let store = Store::open_existing(&folder.path().join("out/candidates.db")).unwrap();
    let rounds = store.rounds().unwrap();
    assert_eq!(rounds.len(), 2);
    assert_eq!(rounds[0].outcome, Some(RoundOutcome::Quiet));
    assert_eq!((rounds[0].phase, rounds[1].phase), (Phase::Done, Phase::Train));
    let training = std::fs::read_to_string(folder.path().join("out/round-001/labelled.extxyz")).unwrap();
    let frames = training.matches("Properties=").count();
    let (trained, fresh): (Vec<_>, Vec<_>) =
        rows(folder.path(), "out").into_iter().partition(|row| !row.is_held_back());
    assert_eq!(frames, trained.len());
    assert!(!trained.is_empty() && !fresh.is_empty(), "{} {}", trained.len(), fresh.len());
    // Audits that were trained on are no longer held out.
    let calibrate = ["calibrate", "out", "--trigger", "audit", "--held-out", "--json", "errors.json", "-q"];
    let output = lammps_otf().current_dir(folder.path()).args(calibrate).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let (calibration, potential) = Calibration::read(&folder.path().join("errors.json")).unwrap();
    assert_eq!(calibration.regions(), fresh.len());
    // The trainer has copied the potential, so that its hash is that of the first one.
    assert_eq!(potential.as_deref(), Some(rounds[0].potential.as_str()));
    // A run with this calibration and another potential is refused.
    let config = al_config(
        folder.path(),
        "temperature = 300\nsteps = 10\nsampling_interval = 10\nuncertainty_threshold = { force_error = 10.0, calibration = \"errors.json\" }\n",
    );
    let run =
        || lammps_otf().current_dir(folder.path()).arg("run").arg(&config).args(["-o", "run", "-q"]).output().unwrap();
    // γ of the ideal crystal is above all γ of the audits, which is the largest threshold.
    let output = run();
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    let used = self::result(folder.path(), "run")["threshold"].as_f64().unwrap();
    assert_eq!(Some(used), calibration.threshold(10.0, 0.9).unwrap().gamma());
    let errors = std::fs::read_to_string(folder.path().join("errors.json")).unwrap();
    std::fs::write(folder.path().join("errors.json"), errors.replace("sha256:", "sha256:0")).unwrap();
    std::fs::remove_dir_all(folder.path().join("run")).unwrap();
    let output = run();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("calibrate again"), "{}", text(&output));
    assert!(!folder.path().join("run").exists(), "nothing is written");
    // The draws of the rounds are independent.
    let steps = |rows: &[StoredCandidate]| rows.iter().map(|row| row.keys().step).collect::<Vec<_>>();
    assert_ne!(steps(&trained), steps(&fresh));
}
