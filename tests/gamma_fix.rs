// SPDX-License-Identifier: GPL-2.0-or-later
//! `fix otf/gamma` of the pause plugin, from which γ is read: the same values as those of `fix pair`, and new ones if the same step
//! is set up again.

mod common;

use std::path::Path;

use common::{al_config, dependency, lammps_otf, lines, mpiexec, root, text};
use lammps_otf::comm::Comm;
use lammps_otf::config::InferenceConfig;
use lammps_otf::io;
use lammps_otf::lammps::Lammps;
use lammps_otf::script::{GAMMA_FIX, GammaFix, Script};

/// Numbers of the column `name` of all tables of a log, with the step of each row.
fn column(log: &Path, name: &str) -> Vec<(i64, f64)> {
    let log = std::fs::read_to_string(log).unwrap();
    let mut values = Vec::new();
    for table in log.split("\n   Step ").skip(1) {
        let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let at = 1 + rows.next().unwrap().iter().position(|word| *word == name).unwrap();
        let numbers = rows.take_while(|row| row.first().is_some_and(|word| word.parse::<i64>().is_ok()));
        values.extend(numbers.map(|row| (row[0].parse::<i64>().unwrap(), row[at].parse::<f64>().unwrap())));
    }
    values
}

#[test]
fn values_are_those_of_fix_pair_on_one_rank_and_on_two() {
    for (engine, style) in [("opt", "pace/extrapolation/opt"), ("ml-pace", "pace/extrapolation")] {
        for ranks in [1, 2] {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path();
            // Commands that name the fix are valid after it has been defined again.
            let config = al_config(
                folder,
                &format!(
                    "temperature = 1200\nsteps = 60\nsampling_interval = 10\nuncertainty_threshold = 1e6\n\
                     setup = ['fix both all pair 10 {style} gamma 1', 'variable same atom f_both==f_otf_gamma', \
                     'compute same all reduce sum v_same', 'thermo_style custom step temp press pe etotal c_same', 'thermo 5']\n"
                ),
            );
            let potential = std::fs::read_to_string(&config).unwrap();
            std::fs::write(&config, potential.replace("[potential]", &format!("[potential]\nengine = \"{engine}\"")))
                .unwrap();
            let mut command = if ranks == 1 { lammps_otf() } else { mpiexec(ranks) };
            if ranks > 1 {
                command.arg(env!("CARGO_BIN_EXE_lammps-otf"));
            }
            let output = command.current_dir(folder).args(["run", "run.toml", "-q", "-o", "out"]).output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{}", text(&output));
            let same = column(&folder.join("out/log.lammps"), "c_same");
            // 500 atoms. Between polls γ is NaN, which equals nothing.
            assert!(same.len() > 12, "{same:?}");
            for (step, atoms) in same {
                assert_eq!(atoms, if step % 10 == 0 { 500.0 } else { 0.0 }, "{engine}, {ranks} ranks, step {step}");
            }
        }
    }
}

#[test]
fn only_a_plain_fix_pair_is_defined_again() {
    let folder = tempfile::tempdir().unwrap();
    let config =
        InferenceConfig::read(al_config(folder.path(), "temperature = 300\nsampling_interval = 20\n")).unwrap();
    let structure = io::read(&config.system.structure, None).unwrap();
    let script = Script::new(&config, &structure, &folder.path().join("data")).unwrap();
    let interval = |commands: &str| script.gamma_fix(commands).map(|fix| fix.interval);
    assert_eq!(interval(&script.render().unwrap()), Some(20));
    let style = &script.pair_style;
    let fix = |rest: &str| format!("fix {GAMMA_FIX} all {}", rest.replace("STYLE", style));
    // A template may evaluate γ more often than it is polled.
    assert_eq!(interval(&fix("pair 5 STYLE gamma 1")), Some(5));
    assert_eq!(interval(&[fix("pair 5 STYLE gamma 1"), fix("pair 10 STYLE gamma 1")].join("\n")), Some(10));
    for other in
        ["ave/atom 1 1 10 c_u", "pair 10 STYLE gamma 1 corerep 1", "pair ${n} STYLE gamma 1", "pair 10 pace gamma 1"]
    {
        assert_eq!(interval(&fix(other)), None, "{other}");
    }
}

#[test]
fn polls_are_the_same_without_the_plugin() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    al_config(folder, "temperature = 900\nsteps = 60\nsampling_interval = 10\nuncertainty_threshold = 1e6\n");
    let plugins = folder.join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    let name = "paceoptplugin.so";
    std::os::unix::fs::symlink(dependency("lib/lammps/plugins").join(name), plugins.join(name)).unwrap();
    let polls = |out: &str, only: Option<&Path>| {
        let mut command = lammps_otf();
        if let Some(plugins) = only {
            command.env("LAMMPS_OTF_PLUGINS", plugins).env_remove("LAMMPS_PLUGIN_PATH");
        }
        let output = command.current_dir(folder).args(["run", "run.toml", "-q", "-o", out]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let mut polls = lines(&folder.join(out).join("polls.jsonl"));
        polls.iter_mut().for_each(common::without_times);
        polls
    };
    let own = polls("own", None);
    assert_eq!(own.len(), 7);
    assert_eq!(own, polls("pair", Some(&plugins)));
}

#[test]
fn another_potential_gives_new_values_at_the_same_step() {
    let _one = common::one_at_a_time();
    let mut lammps = Lammps::open(&["-screen", "none", "-log", "none", "-nocite"], &Comm::single()).unwrap();
    let style = "pace/extrapolation";
    lammps.require_pair_style(style, &[]).unwrap();
    assert!(lammps.load_pause_fix().unwrap() && lammps.has_style("fix", "otf/gamma"));
    let coefficients = |name: &str| {
        let folder = root().join("potentials").join(name);
        format!("pair_coeff * * {0}/Al.yaml {0}/Al.asi Al", folder.display())
    };
    lammps
        .command(&format!(
            "units metal\nlattice fcc 4.05\nregion box block 0 4 0 4 0 4\ncreate_box 1 box\ncreate_atoms 1 box\nmass 1 26.98\n\
             pair_style {style}\n{}\nvelocity all create 900 1\nfix md all nve\nfix early all pair 10 {style} gamma 1\n\
             fix {GAMMA_FIX} all pair 10 {style} gamma 1",
            coefficients("al")
        ))
        .unwrap();
    GammaFix { pair_style: style.into(), interval: 10 }.define(&mut lammps).unwrap();
    lammps.run(20, true, 0..20).unwrap();
    let bits = |lammps: &Lammps, id: &str| -> Vec<(i64, u64)> {
        let values = lammps.fix_vector(id).unwrap();
        let mut values: Vec<_> = lammps.ids().iter().zip(values.iter().map(|value| value.to_bits())).collect();
        values.sort_unstable();
        values
    };
    let before = bits(&lammps, GAMMA_FIX);
    assert!(before.len() == 256 && before == bits(&lammps, "early"));

    lammps.command(&coefficients("al-soft")).unwrap();
    lammps.run(0, true, 0..20).unwrap();
    let own = bits(&lammps, GAMMA_FIX);
    assert!(own != before && bits(&lammps, "early") == before, "fix pair keeps the old values");
    // A new `fix pair` evaluates the step again.
    lammps.command(&format!("fix late all pair 10 {style} gamma 1")).unwrap();
    lammps.run(0, true, 0..20).unwrap();
    assert!(bits(&lammps, "late") == bits(&lammps, GAMMA_FIX));
    let relative = |(a, b): (&(i64, u64), &(i64, u64))| (f64::from_bits(a.1) / f64::from_bits(b.1) - 1.0).abs();
    assert!(own.iter().zip(&bits(&lammps, "late")).map(relative).all(|difference| difference < 1e-9));

    // Another pair style with the same name is a new object.
    lammps.command(&format!("pair_style {style}\n{}", coefficients("al"))).unwrap();
    lammps.command("unfix early\nunfix late").unwrap();
    lammps.run(0, true, 0..20).unwrap();
    assert!(before.iter().zip(&bits(&lammps, GAMMA_FIX)).map(relative).all(|difference| difference < 1e-9));
    let error = lammps.command("pair_style zero 5.0\npair_coeff * *\nrun 0").unwrap_err().to_string();
    assert!(error.contains("otf/gamma"), "{error}");
}
