// SPDX-License-Identifier: GPL-2.0-or-later
//! Other commands of LAMMPS that use `pace` also work with `pace/opt` in plain `lmp` and give the same numbers.

mod common;

use common::dependency;
use std::process::{Command, Stdio};

/// LAMMPS's potential of copper with a core repulsion of longer range. The original acts only on atoms at nearly the
/// same position.
fn copper() -> String {
    let text = std::fs::read_to_string(dependency("share/lammps/potentials/Cu-PBE-core-rep.ace")).unwrap();
    let changed = [("core energy-cutoff parameters: ", "60.0 50.0"), ("core repulsion parameters: ", "400.0 3.0")];
    let line = |line: &str| {
        let changed = changed.iter().find(|(key, _)| line.starts_with(key));
        changed.map_or(line.to_owned(), |(key, value)| format!("{key}{value}")) + "\n"
    };
    text.lines().map(line).collect()
}

/// Id, forces, energy and fraction of core repulsion of each atom of compressed copper, with all energies times
/// `scale`.
fn compressed_copper(style: &str, scale: f64) -> Vec<[f64; 6]> {
    let folder = tempfile::tempdir().unwrap();
    let input = format!(
        "units metal\nlattice fcc 2.3\nregion box block 0 3 0 3 0 3\ncreate_box 1 box\ncreate_atoms 1 box\nmass 1 63.5\n\
         displace_atoms all random 0.4 0.4 0.4 7\npair_style {style}\npair_coeff * * Cu.ace Cu\n\
         fix core all pair 1 {style} corerep 1\nvariable scale equal {scale}\n\
         fix scale all adapt 0 pair {style} scale * * v_scale\ncompute e all pe/atom\n\
         dump all all custom 1 dump id fx fy fz c_e f_core\n\
         dump_modify all sort id format float %.17g\nrun 0\n"
    );
    std::fs::write(folder.path().join("Cu.ace"), copper()).unwrap();
    std::fs::write(folder.path().join("in.lammps"), input).unwrap();
    let output = common::run_lmp(folder.path());
    assert!(output.status.success(), "{}", common::text(&output));
    let dump = std::fs::read_to_string(folder.path().join("dump")).unwrap();
    let rows = dump.lines().skip_while(|line| !line.starts_with("ITEM: ATOMS")).skip(1);
    let row = |line: &str| {
        let numbers: Vec<f64> = line.split_whitespace().map(|word| word.parse().unwrap()).collect();
        <[f64; 6]>::try_from(numbers).unwrap()
    };
    rows.map(row).collect()
}

#[test]
fn scale_and_core_repulsion() {
    let plain = compressed_copper("pace/opt", 1.0);
    let shares = plain.iter().map(|row| row[5]);
    // Some atoms have repulsion only, some have none, and some have both.
    assert!(shares.clone().any(|s| s == 1.0) && shares.clone().any(|s| s == 0.0), "{:?}", shares.collect::<Vec<_>>());
    assert!(plain.iter().any(|row| row[5] > 0.01 && row[5] < 0.99));
    let halved = compressed_copper("pace/opt", 0.5);
    let reference = compressed_copper("pace", 0.5);
    assert_eq!((plain.len(), reference.len()), (108, 108));
    for ((plain, halved), reference) in plain.iter().zip(&halved).zip(&reference) {
        // Forces of hundreds of eV/Å, with a relative error of 1e-10 from summation.
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9 * (1.0 + a.abs()), "{a} and {b}: {reference:?}");
        plain[1..5].iter().zip(&halved[1..5]).for_each(|(plain, halved)| close(0.5 * plain, *halved));
        halved.iter().zip(reference).for_each(|(a, b)| close(*a, *b));
        close(plain[5], halved[5]);
    }
}

/// The energy of a distorted crystal of aluminium with copper, eV.
fn energy(folder: &std::path::Path, style: &str, file: &str) -> f64 {
    let input = format!(
        "units metal\nread_data mixed.data\nmass * 50\npair_style {style}\npair_coeff * * {file} Al Cu\n\
         variable e equal pe\nrun 0\nprint \"energy $(pe:%.15g)\" file energy\n"
    );
    std::fs::write(folder.join("in.lammps"), input).unwrap();
    let output = Command::new("timeout")
        .arg("60")
        .arg(dependency("bin/lmp"))
        .args(["-in", "in.lammps", "-log", "none", "-nocite"])
        .env("LAMMPS_PLUGIN_PATH", dependency("lib/lammps/plugins"))
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", common::text(&output));
    let said = std::fs::read_to_string(folder.join("energy")).unwrap();
    said.trim().trim_start_matches("energy ").parse().unwrap()
}

/// The reason why `engine = "ml-pace"` rejects such potentials: its evaluator of C-tilde functions confuses their
/// coefficients. Its evaluator of the B-basis, used by python-ace, is correct.
#[test]
fn elements_with_different_numbers_of_densities() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["mixeddens.yaml", "mixedemb.yaml"] {
        std::fs::copy(common::root().join("crates/pace-opt/tests/data").join(file), folder.path().join(file)).unwrap();
    }
    let by_b_basis = "import sys, numpy as np, ase.build, ase.io\nfrom pyace import PyACECalculator\n\
        atoms = ase.build.bulk('Al', 'fcc', a=4.0, cubic=True).repeat(3)\n\
        rng = np.random.default_rng(4)\natoms.positions += rng.normal(0, 0.1, atoms.positions.shape)\natoms.wrap()\n\
        atoms.symbols[rng.random(len(atoms)) < 0.4] = 'Cu'\n\
        ase.io.write('mixed.data', atoms, format='lammps-data', specorder=['Al', 'Cu'], atom_style='atomic')\n\
        atoms = ase.io.read('mixed.data', format='lammps-data', atom_style='atomic')\n\
        atoms.numbers = np.where(atoms.arrays['type'] == 1, 13, 29)\n\
        for file in 'mixeddens.yaml', 'mixedemb.yaml':\n    \
            atoms.calc = PyACECalculator(file)\n    print(f'energy {atoms.get_potential_energy():.15g}')\n";
    let said = common::succeed(common::python().current_dir(&folder).args(["-c", by_b_basis]));
    let reference: Vec<f64> =
        said.lines().filter_map(|line| line.strip_prefix("energy ")).map(|e| e.parse().unwrap()).collect();
    let relative = |style: &str, file: &str, reference: f64| {
        let found = energy(folder.path(), style, file);
        println!("{file}: {style} {found}, B-basis {reference}");
        (found / reference - 1.0).abs()
    };
    for style in ["pace/opt", "pace", "pace product"] {
        assert!(relative(style, "mixedemb.yaml", reference[1]) < 1e-11);
    }
    assert!(relative("pace/opt", "mixeddens.yaml", reference[0]) < 1e-11);
    // If this difference becomes small, ML-PACE was corrected, and `engine = "ml-pace"` need not reject the
    // potential.
    for style in ["pace", "pace product"] {
        assert!(relative(style, "mixeddens.yaml", reference[0]) > 0.01);
    }
}
