// SPDX-License-Identifier: GPL-2.0-or-later
//! Properties of any potential: derivatives, symmetries, and equal results of all instruction sets.

mod util;

use pace_opt::{ActiveSet, Error, Evaluator, Isa, Model, Potential};
use std::sync::Arc;
use util::{Cluster, data, evaluator, potential};

fn close(a: f64, b: f64, tolerance: f64, what: &str) {
    assert!((a - b).abs() <= tolerance * (1.0 + a.abs().max(b.abs())), "{what}: {a} and {b}");
}

#[test]
fn forces_and_virials_are_derivatives() {
    for (file, kinds, scales) in [("two.yaml", 2, vec![]), ("two.yaml", 2, vec![0.5, 1.7]), ("small.ace", 1, vec![])] {
        let mut e = evaluator(file, Isa::detect());
        let cluster = Cluster { scales, ..Cluster::new(3, 2.3, kinds, 5) };
        let r = cluster.evaluate(&mut e, false).unwrap();
        let h = 1e-4;
        let energy = |e: &mut Evaluator, c: &Cluster| c.evaluate(e, false).unwrap().energy;
        for (i, c) in [(0, 0), (13, 1), (26, 2), (7, 2)] {
            let mut moved = cluster.clone();
            let mut at = |s: f64, e: &mut Evaluator| {
                moved.positions[i][c] = cluster.positions[i][c] + s * h;
                energy(e, &moved)
            };
            let slope =
                (at(-2.0, &mut e) - 8.0 * at(-1.0, &mut e) + 8.0 * at(1.0, &mut e) - at(2.0, &mut e)) / (12.0 * h);
            close(-slope, r.forces[i][c], 1e-5, "force");
        }
        // dE/dε of a uniform strain is minus the virial.
        for (k, (a, b)) in [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)].into_iter().enumerate() {
            let mut at = |s: f64| {
                let mut strained = cluster.clone();
                strained.positions.iter_mut().for_each(|p| p[a] += s * h * p[b]);
                energy(&mut e, &strained)
            };
            let slope = (at(-2.0) - 8.0 * at(-1.0) + 8.0 * at(1.0) - at(2.0)) / (12.0 * h);
            close(-slope, r.virial[k], 1e-4, "virial");
        }
        for k in 0..6 {
            close(r.virials.iter().map(|v| v[k]).sum(), r.virial[k], 1e-12, "sum of atoms' virials");
        }
        for c in 0..3 {
            close(r.forces.iter().map(|f| f[c]).sum(), 0.0, 1e-10, "total force");
        }
        close(r.energies.iter().sum(), r.energy, 1e-13, "sum of energies");
    }
}

#[test]
fn scales_multiply_energies_only() {
    let mut e = evaluator("two.yaml", Isa::detect());
    let plain = Cluster::new(3, 2.3, 2, 5);
    let scaled = Cluster { scales: vec![0.5, 1.7], ..plain.clone() };
    let (a, b) = (plain.evaluate(&mut e, false).unwrap(), scaled.evaluate(&mut e, false).unwrap());
    for ((a, b), &kind) in a.energies.iter().zip(&b.energies).zip(&plain.types) {
        close(a * scaled.scales[kind as usize], *b, 1e-14, "energy");
    }
    let short = Cluster { scales: vec![0.5], ..plain };
    assert!(matches!(short.evaluate(&mut e, false), Err(Error::Argument(_))));
}

#[test]
fn energy_does_not_change_with_rotation_and_order() {
    let mut e = evaluator("two.yaml", Isa::detect());
    let cluster = Cluster::new(3, 2.4, 2, 9);
    let r = cluster.evaluate(&mut e, false).unwrap();
    let (s, c) = 0.7f64.sin_cos();
    let mut other = cluster.clone();
    other.positions.iter_mut().for_each(|p| *p = [c * p[0] - s * p[1], p[2], s * p[0] + c * p[1]].map(|v| v + 3.0));
    other.positions.reverse();
    other.types.reverse();
    let q = other.evaluate(&mut e, false).unwrap();
    // y and z are swapped: a reflection, under which the energy is the same as well.
    close(r.energy, q.energy, 1e-12, "energy");
    for (a, b) in r.energies.iter().zip(q.energies.iter().rev()) {
        close(*a, *b, 1e-10, "energy of an atom");
    }
}

#[test]
fn all_instruction_sets_agree() {
    let cluster = Cluster::new(4, 2.2, 2, 3);
    let want = cluster.evaluate(&mut evaluator("two.yaml", Isa::Portable), false).unwrap();
    for isa in Isa::available() {
        let got = cluster.evaluate(&mut evaluator("two.yaml", isa), false).unwrap();
        close(got.energy, want.energy, 1e-13, isa.name());
        for (a, b) in got.forces.iter().flatten().zip(want.forces.iter().flatten()) {
            close(*a, *b, 1e-11, isa.name());
        }
    }
}

#[test]
fn both_text_formats_agree() {
    let cluster = Cluster::new(3, 2.4, 1, 4);
    let a = cluster.evaluate(&mut evaluator("small.ace", Isa::detect()), false).unwrap();
    let b = cluster.evaluate(&mut evaluator("small.yace", Isa::detect()), false).unwrap();
    assert_eq!(a.energy, b.energy);
    assert_eq!(a.forces, b.forces);
}

#[test]
fn isolated_atom_has_its_reference_energy() {
    let one = Cluster { positions: vec![[0.0; 3]], types: vec![0], scales: Vec::new() };
    let r = one.evaluate(&mut evaluator("small.ace", Isa::detect()), false).unwrap();
    assert_eq!(r.energy, 0.5);
    assert_eq!(r.forces, [[0.0; 3]]);
}

#[test]
fn overlap_and_nan_name_the_atoms() {
    let mut e = evaluator("small.ace", Isa::detect());
    let mut pair =
        Cluster { positions: vec![[0.0; 3], [9.0; 3], [9.0, 9.0, 9.001]], types: vec![0; 3], scales: Vec::new() };
    match pair.evaluate(&mut e, false) {
        Err(Error::Overlap { i: 1, j: 2, r }) => assert!((r - 0.001).abs() < 1e-9),
        other => panic!("{:?}", other.map(|r| r.energy)),
    }
    pair.positions[2][1] = f64::NAN;
    assert!(matches!(pair.evaluate(&mut e, false), Err(Error::NotFinite { .. })));
    // The evaluator is still usable.
    pair.positions[2] = [9.0, 9.0, 12.0];
    assert!(pair.evaluate(&mut e, false).unwrap().energy.is_finite());
}

#[test]
fn missing_active_set_and_bad_indices_are_errors() {
    let mut e = evaluator("two.yaml", Isa::detect());
    let cluster = Cluster::new(2, 2.5, 2, 1);
    assert!(matches!(cluster.evaluate(&mut e, true), Err(Error::Argument(_))));
    let strange = Cluster { types: vec![7; 8], ..cluster };
    assert!(matches!(strange.evaluate(&mut e, false), Err(Error::Argument(_))));
}

#[test]
fn files_are_shared() {
    let keep = potential("small.ace");
    let copy = std::env::temp_dir().join(format!("pace-opt-{}.ace", std::process::id()));
    std::fs::copy(data("small.ace"), &copy).unwrap();
    let again = Potential::read(&copy, None);
    std::fs::remove_file(copy).unwrap();
    assert!(Arc::ptr_eq(&keep, &again.unwrap()));
}

/// With the unit matrix as inverse, the grade is the largest projection; scaling the matrix scales the grade.
#[test]
fn grade_follows_the_active_set() {
    let model = Model::read(&data("two.yaml")).unwrap();
    for linear in [true, false] {
        let size: Vec<usize> =
            (0..2).map(|i| model.functions[i].len() * if linear { 1 } else { model.embeddings[i].ndensity }).collect();
        let unit = |f: f64| -> Vec<Vec<f64>> {
            size.iter().map(|&n| (0..n * n).map(|k| if k % (n + 1) == 0 { f } else { 0.0 }).collect()).collect()
        };
        let set = |f: f64| ActiveSet { linear, inverse: unit(f), size: size.clone() };
        let cluster = Cluster::new(5, 2.4, 2, 8);
        let mut all = Vec::new();
        for isa in Isa::available() {
            for f in [1.0, -2.5] {
                let p = Arc::new(Potential::new(&model, Some(&set(f))).unwrap());
                let r = cluster.evaluate(&mut Evaluator::with_isa(p, isa), true).unwrap();
                assert!(r.grades.iter().all(|g| *g > 0.0));
                for (grade, coefficients) in r.grades.iter().zip(&r.coefficients) {
                    let largest = coefficients.iter().fold(0.0, |most: f64, c| most.max(c.abs()));
                    close(largest, *grade, 1e-12, "largest coefficient");
                }
                all.push(r.grades.iter().map(|g| g / f64::abs(f)).collect::<Vec<_>>());
            }
        }
        for other in &all[1..] {
            for (a, b) in all[0].iter().zip(other) {
                close(*a, *b, 1e-12, "grade");
            }
        }
    }
}
