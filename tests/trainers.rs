// SPDX-License-Identifier: GPL-2.0-or-later
//! The trainers of `examples/trainers`, run as programs.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use common::{json, python, root, succeed, text};

/// Labelled frames: `training.extxyz` and `testing.extxyz` of the aluminium potentials; `small.extxyz`, three small frames of them;
/// `cutouts.extxyz`, a frame with a core of every fourth atom; and `whole.extxyz`, frames labelled as a whole.
fn data() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let make = || {
        let folder = tempfile::tempdir().unwrap();
        succeed(python().arg(root().join("potentials/al/fit.py")).arg("--data").arg(folder.path()));
        succeed(python().current_dir(folder.path()).args([
            "-c",
            "from ase.calculators.singlepoint import SinglePointCalculator\n\
             from ase.io import read, write\n\
             train, test = read('training.extxyz', ':'), read('testing.extxyz', ':')\n\
             write('small.extxyz', [a for a in train if len(a) == 32][::10])\n\
             write('few.extxyz', test[3:5])\n\
             cutout = test[0].copy()\n\
             cutout.calc = test[0].calc\n\
             cutout.arrays['force_mask'] = (cutout.arrays['numbers'] * 0 + (sum(cutout.positions.T) % 4 < 1)) * 1.0\n\
             write('cutouts.extxyz', cutout)\n\
             whole = []\n\
             for a in test[6:8]:\n\
             \x20   b = a.copy()\n\
             \x20   # A stress that the potential does not have.\n\
             \x20   b.calc = SinglePointCalculator(b, energy=a.get_potential_energy(), forces=a.get_forces(), stress=[0.01] * 3 + [0.0] * 3)\n\
             \x20   b.arrays['force_mask'] = b.arrays['numbers'] * 0 + 1.0\n\
             \x20   whole.append(b)\n\
             write('without.extxyz', whole)\n\
             for b in whole: b.info['energy_weight'] = 1.0\n\
             write('energies.extxyz', whole)\n\
             for b in whole: b.info['stress_weight'] = 1.0\n\
             write('stresses.extxyz', whole)\n\
             whole[0].pbc = [True, True, False]\n\
             write('open.extxyz', whole)\n\
             for b in whole: b.info.clear()\n\
             write('slab.extxyz', whole)",
        ]));
        folder
    };
    FOLDER.get_or_init(make).path()
}

/// Runs a trainer on a potential of this repository.
fn train(trainer: &str, potential: &str, base: &str, labelled: &str, output: &Path, more: &[&str]) -> Output {
    let potential = root().join(potential);
    let mut command: Command = python();
    command
        .arg(root().join("examples/trainers").join(trainer))
        .args(["--base".as_ref(), data().join(base).as_os_str()])
        .args(["--test".as_ref(), data().join("few.extxyz").as_os_str()])
        .args(["--labelled".as_ref(), data().join(labelled).as_os_str()])
        .args(["--potential".as_ref(), potential.as_os_str()])
        .args(["--active-set".as_ref(), potential.with_extension("asi").as_os_str()])
        .args(["--output".as_ref(), output.as_os_str()])
        .args(more)
        .env("OMP_NUM_THREADS", "1");
    command.output().unwrap()
}

fn same(one: &Path, two: &Path) -> bool {
    ["potential.yaml", "potential.asi", "report.json"]
        .iter()
        .all(|name| std::fs::read(one.join(name)).unwrap() == std::fs::read(two.join(name)).unwrap())
}

/// The evaluator without TensorFlow, which ci/setup does not install. `ci/demo-loop --pacemaker` runs the other.
#[test]
fn pacemaker_upfits_a_nonlinear_potential() {
    let folder = tempfile::tempdir().unwrap();
    let fit = |name: &str, more: &[&str]| {
        let output = folder.path().join(name);
        // The weight of the cut-out is so large that even one iteration must reduce its error.
        let fitted = ["--evaluator", "pyace", "--trainable", "func", "--iterations", "1", "--cutout-weight", "100"];
        let options = [&fitted[..], &["--worse-energy", "1000"], more].concat();
        (
            train(
                "pacemaker.py",
                "potentials/al-nonlinear/Al.yaml",
                "small.extxyz",
                "cutouts.extxyz",
                &output,
                &options,
            ),
            output,
        )
    };
    let (out, one) = fit("one", &[]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    let report = json(&one.join("report.json"));
    assert_eq!((&report["accepted"], &report["functions"]), (&true.into(), &46.into()), "{report}");
    let error = |key: &str| report[key].as_f64().unwrap();
    assert!(
        error("cutout_force_rmse_mev_per_angstrom") < error("parent_cutout_force_rmse_mev_per_angstrom"),
        "{report}"
    );
    let start = std::fs::read(root().join("potentials/al-nonlinear/Al.yaml")).unwrap();
    assert!(std::fs::read(one.join("potential.yaml")).unwrap() != start);
    let (out, two) = fit("two", &["--worse-force", "-1000"]);
    assert_eq!(out.status.code(), Some(3), "{}", text(&out));
    assert!(std::fs::read(one.join("potential.yaml")).unwrap() == std::fs::read(two.join("potential.yaml")).unwrap());
    assert!(std::fs::read(one.join("potential.asi")).unwrap() == std::fs::read(two.join("potential.asi")).unwrap());
    assert!(json(&two.join("report.json"))["reason"].as_str().unwrap().starts_with("force error"));
}

#[test]
fn energies_and_stresses_of_whole_frames_are_fitted_if_they_have_weights() {
    let folder = tempfile::tempdir().unwrap();
    let fit = |labelled: &str| -> (Output, PathBuf) {
        let output = folder.path().join(labelled);
        let out = train(
            "pace_linear.py",
            "potentials/al/Al.yaml",
            "training.extxyz",
            labelled,
            &output,
            &["--worse-energy", "1000", "--worse-force", "1000"],
        );
        (out, output)
    };
    let mut potentials = Vec::new();
    for (labelled, energies, stresses) in
        [("without.extxyz", 0, 0), ("energies.extxyz", 2, 0), ("stresses.extxyz", 2, 2)]
    {
        let (out, output) = fit(labelled);
        assert_eq!(out.status.code(), Some(0), "{}", text(&out));
        let report = json(&output.join("report.json"));
        assert_eq!((&report["whole_frames"], &report["stresses"]), (&energies.into(), &stresses.into()), "{report}");
        potentials.push(std::fs::read(output.join("potential.yaml")).unwrap());
    }
    assert!(potentials[0] != potentials[1] && potentials[1] != potentials[2]);
    // Forces of a frame with mixed periodicity are fitted, its energy is not.
    let (out, output) = fit("slab.extxyz");
    assert!(out.status.success() && json(&output.join("report.json"))["whole_frames"] == 0, "{}", text(&out));
    let (out, _) = fit("open.extxyz");
    assert!(
        out.status.code() == Some(1) && text(&out).contains("is not periodic along all directions"),
        "{}",
        text(&out)
    );
    let out = train(
        "pace_linear.py",
        "potentials/al-nonlinear/Al.yaml",
        "small.extxyz",
        "cutouts.extxyz",
        folder.path(),
        &[],
    );
    assert!(out.status.code() == Some(1) && text(&out).contains("is not linear in its coefficients"), "{}", text(&out));
}

#[test]
fn first_potential_is_fitted_by_one_command() {
    let folder = tempfile::tempdir().unwrap();
    let fit = |name: &str, more: &[&str]| {
        let output = folder.path().join(name);
        let out = python()
            .arg(root().join("examples/trainers/first_potential.py"))
            .args(["--data".as_ref(), data().join("training.extxyz").as_os_str()])
            .args(["--output".as_ref(), output.as_os_str()])
            .args(["--cutoff", "5"])
            .args(more)
            .env("OMP_NUM_THREADS", "1")
            .output()
            .unwrap();
        (out, output)
    };
    let test = data().join("testing.extxyz");
    let options = ["--functions", "40", "--elements", "Al", "--test", test.to_str().unwrap()];
    let (out, one) = fit("one", &options);
    let printed = text(&out);
    assert!(out.status.success() && printed.contains("functions: {'Al': 40}"), "{printed}");
    // "12 test frames: 0.33 meV/atom, 15.8 meV/A, …"
    let errors = printed.split("test frames: ").nth(1).unwrap();
    let number = |part: usize| errors.split(", ").nth(part).unwrap().split(' ').next().unwrap().parse::<f64>().unwrap();
    assert!(number(0) < 5.0 && number(1) < 60.0, "{printed}");
    let (out, two) = fit("two", &options);
    assert!(out.status.success());
    for file in ["potential.yaml", "potential.asi", "potential.yace"] {
        assert!(std::fs::read(one.join(file)).unwrap() == std::fs::read(two.join(file)).unwrap(), "{file} differs");
    }
    // Reference energies are stored, and the trainer subtracts them.
    let (out, reference) = fit("reference", &["--functions", "40", "--reference-energy", "auto"]);
    assert!(out.status.success() && text(&out).contains("reference energies: Al -3.3"), "{}", text(&out));
    assert!(std::fs::read_to_string(reference.join("potential.yaml")).unwrap().contains("reference_energy"));
    let potential = reference.join("potential.yaml");
    let refit = [folder.path().join("refit"), folder.path().join("again")].map(|output| {
        let out =
            train("pace_linear.py", potential.to_str().unwrap(), "training.extxyz", "cutouts.extxyz", &output, &[]);
        assert_eq!(out.status.code(), Some(0), "{}", text(&out));
        output
    });
    assert!(same(&refit[0], &refit[1]));
    for (more, message) in [
        (&["--functions", "40", "--elements", "Cu"][..], "the elements are Cu, but the data contain Al"),
        (&["--functions", "100000"][..], "use fewer --functions"),
        (&["--reference-energy", "Cu=1"][..], "the elements are Al"),
    ] {
        let (out, _) = fit("wrong", more);
        assert!(out.status.code() == Some(1) && text(&out).contains(message), "{}", text(&out));
    }
}
