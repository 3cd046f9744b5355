// SPDX-License-Identifier: GPL-2.0-or-later
//! The bias towards large extrapolation grades: an energy whose forces and virial are its exact derivatives.

mod util;

use pace_opt::{ActiveSet, Bias, Error, Evaluator, Format, Isa, Model, Potential};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use util::{Cluster, Random, data};

fn close(a: f64, b: f64, tolerance: f64, what: &str) {
    assert!((a - b).abs() <= tolerance * (1.0 + a.abs().max(b.abs())), "{what}: {a} and {b}");
}

/// A dense active set, so that all functions matter. The scale gives grades around one.
fn random_set(model: &Model, linear: bool, scale: f64) -> ActiveSet {
    let size: Vec<usize> = (0..model.elements.len())
        .map(|i| model.functions[i].len() * if linear { 1 } else { model.embeddings[i].ndensity })
        .collect();
    let mut random = Random(77);
    let inverse = size.iter().map(|&n| (0..n * n).map(|_| scale * (random.unit() - 0.5)).collect()).collect();
    ActiveSet { linear, inverse, size }
}

fn with_set(model: &Model, linear: bool, scale: f64, isa: Isa) -> Evaluator {
    let set = random_set(model, linear, scale);
    Evaluator::with_isa(Arc::new(Potential::new(model, Some(&set)).unwrap()), isa)
}

const BIAS: Bias = Bias { strength: 0.7, onset: 0.0, limit: 1e4, shortest: 0.65 };

/// Fourth-order central difference.
fn derivative(h: f64, mut at: impl FnMut(f64) -> f64) -> f64 {
    (at(-2.0 * h) - 8.0 * at(-h) + 8.0 * at(h) - at(2.0 * h)) / (12.0 * h)
}

/// Compares forces and virial with derivatives of the sum of both energies, and the forces of the bias alone with those of its energy.
fn check_derivatives(name: &str, e: &mut Evaluator, cluster: &Cluster, bias: Bias, h: f64) {
    e.set_bias(Some(bias)).unwrap();
    let r = cluster.evaluate(e, true).unwrap();
    let apart = cluster.evaluate_with(e, true, true).unwrap();
    let largest = r.grades.iter().fold(0.0, |a: f64, b| a.max(*b));
    // Errors of the differences are relative to the forces, and those of the tables are 1e-7 of them.
    let size = 1.0 + apart.forces.iter().chain(&apart.bias_forces).flatten().fold(0.0, |a: f64, b| a.max(b.abs()));
    let n = cluster.positions.len();
    for (i, c) in [(0, 0), (n / 2, 1), (n - 1, 2), (n / 4, 2), (n / 3, 0)] {
        let mut moved = cluster.clone();
        let mut both = |s: f64| {
            moved.positions[i][c] = cluster.positions[i][c] + s;
            let r = moved.evaluate(e, false).unwrap();
            (r.energy, r.bias)
        };
        let bias_slope = derivative(h, |s| both(s).1);
        let slope = derivative(h, |s| both(s).0) + bias_slope;
        close(-slope / size, r.forces[i][c] / size, 2e-6, &format!("{name}: force, largest grade {largest}"));
        close(-bias_slope / size, bias.strength * apart.bias_forces[i][c] / size, 2e-6, &format!("{name}: bias force"));
    }
    for (k, (a, b)) in [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)].into_iter().enumerate() {
        let slope = derivative(h, |s| {
            let mut strained = cluster.clone();
            strained.positions.iter_mut().for_each(|p| p[a] += s * p[b]);
            let r = strained.evaluate(e, false).unwrap();
            r.energy + r.bias
        });
        close(-slope / size, r.virial[k] / size, 1e-5, &format!("{name}: virial"));
        close(r.virials.iter().map(|v| v[k]).sum::<f64>() / size, r.virial[k] / size, 1e-11, "sum of atoms' virials");
        close(apart.virial[k] / size, r.virial[k] / size, 1e-11, "virial, parts apart");
    }
    for c in 0..3 {
        close(r.forces.iter().map(|f| f[c]).sum::<f64>() / size, 0.0, 1e-10, "total force");
    }
    for (a, b) in r.forces.iter().flatten().zip(apart.forces.iter().flatten()) {
        close(a / size, b / size, 1e-11, "force, parts apart");
    }
    assert_eq!((r.energy, r.bias), (apart.energy, apart.bias));
    e.set_bias(None).unwrap();
    let plain = cluster.evaluate(e, true).unwrap();
    close(plain.energy, r.energy, 1e-13, "energy without the bias");
    for (a, b) in plain.grades.iter().zip(&r.grades) {
        close(*a, *b, 1e-12, "grade");
    }
    assert!(r.bias < 0.0 || bias.strength <= 0.0, "{name}: {}", r.bias);
}

fn model(name: &str) -> Model {
    Model::read(&data(name)).unwrap()
}

#[test]
fn forces_and_virials_are_derivatives() {
    // One to two densities, elements with different embeddings, linear and non-linear sets; all instruction sets.
    for (file, kinds, spacing) in [("two.yaml", 2, 2.3), ("mixeddens.yaml", 2, 2.4), ("mixedemb.yaml", 2, 2.4)] {
        for linear in [true, false] {
            for isa in Isa::available() {
                let mut e = with_set(&model(file), linear, 1.0, isa);
                let cluster = Cluster::new(3, spacing, kinds, 5);
                check_derivatives(&format!("{file}, linear: {linear}, {}", isa.name()), &mut e, &cluster, BIAS, 1e-4);
                let scaled = Cluster { scales: vec![0.5, 1.7], ..cluster };
                check_derivatives(&format!("{file}, scaled"), &mut e, &scaled, Bias { strength: -0.1, ..BIAS }, 1e-4);
            }
        }
    }
}

/// Close atoms: the core repulsion by densities, by distance and by ZBL, and the bias's own shortest distance.
#[test]
fn forces_are_derivatives_where_repulsion_acts() {
    let text = std::fs::read_to_string(data("mixeddens.yaml")).unwrap();
    for kind in ["density", "distance", "zbl"] {
        let core = text
            .replace("inner_cutoff_type: distance", &format!("inner_cutoff_type: {kind}"))
            .replace("rho_core_cut: 100000", "rho_core_cut: 30")
            .replace("drho_core_cut: 250", "drho_core_cut: 25");
        let model = Model::parse(Format::BBasis, core.as_bytes()).unwrap();
        for linear in [true, false] {
            let mut e = with_set(&model, linear, 1.0, Isa::detect());
            for (spacing, seed) in [(1.7, 3), (1.9, 4), (2.1, 5)] {
                let cluster = Cluster::new(3, spacing, 2, seed);
                check_derivatives(&format!("{kind} {spacing} {linear}"), &mut e, &cluster, BIAS, 2e-5);
            }
        }
    }
}

#[test]
fn forces_are_derivatives_at_the_limit() {
    let mut e = with_set(&model("two.yaml"), true, 1.0, Isa::detect());
    let cluster = Cluster::new(3, 2.3, 2, 5);
    let mut grades = cluster.evaluate(&mut e, true).unwrap().grades;
    grades.sort_by(f64::total_cmp);
    let median = grades[grades.len() / 2];
    check_derivatives("limit", &mut e, &cluster, Bias { limit: 1.1 * median, ..BIAS }, 1e-4);
    // Beyond the limit the energy is constant; no pair is within an inner cutoff.
    let cluster = Cluster::new(3, 2.7, 2, 5);
    let grades = cluster.evaluate(&mut e, true).unwrap().grades;
    let least = grades.into_iter().fold(f64::INFINITY, f64::min);
    e.set_bias(Some(Bias { limit: 0.1 * least, shortest: 0.0, ..BIAS })).unwrap();
    let r = cluster.evaluate_with(&mut e, true, true).unwrap();
    assert!(r.bias_forces.iter().flatten().all(|f| *f == 0.0));
    close(r.bias, -0.7 * 27.0 * 0.09 * least, 1e-12, "bias of 27 atoms");
}

/// The aluminium potentials of the tests: nested radial functions that require a table of their own, real active sets.
#[test]
fn forces_are_derivatives_with_fitted_active_sets() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../potentials");
    for (name, kinds, isas) in [
        ("al/Al", 1, Isa::available()),
        ("al-nonlinear/Al", 1, vec![Isa::detect()]),
        ("alcu/AlCu", 2, Isa::available()),
    ] {
        let file = |end: &str| -> PathBuf { folder.join(format!("{name}.{end}")) };
        let potential = Potential::read(&file("yaml"), Some(&file("asi"))).unwrap();
        for isa in isas {
            let mut e = Evaluator::with_isa(potential.clone(), isa);
            for onset in [0.0, 3.0] {
                check_derivatives(name, &mut e, &Cluster::new(3, 2.7, kinds, 6), Bias { onset, ..BIAS }, 1e-4);
            }
        }
    }
}

#[test]
fn without_strength_nothing_changes() {
    for linear in [true, false] {
        for isa in Isa::available() {
            let mut e = with_set(&model("two.yaml"), linear, 1.0, isa);
            let cluster = Cluster::new(4, 2.2, 2, 3);
            let plain = cluster.evaluate(&mut e, true).unwrap();
            e.set_bias(Some(Bias { strength: 0.0, ..BIAS })).unwrap();
            for apart in [false, true] {
                let r = cluster.evaluate_with(&mut e, true, apart).unwrap();
                assert_eq!((r.energy.to_bits(), r.bias), (plain.energy.to_bits(), 0.0));
                assert_eq!((&r.forces, &r.virial, &r.virials), (&plain.forces, &plain.virial, &plain.virials));
                assert_eq!(apart, r.bias_forces.iter().flatten().any(|f| *f != 0.0));
            }
        }
    }
}

/// An active set larger than the size from which components are screened, and vibrating atoms for which a screen is found.
fn screened() -> (Evaluator, Cluster) {
    let text = std::fs::read_to_string(data("mixeddens.yaml")).unwrap();
    let model = Model::parse(Format::BBasis, text.as_bytes()).unwrap();
    // Many more functions than the file has would be needed: repeat those of one element with other coefficients.
    let mut large = model.clone();
    let functions = model.functions[0].clone();
    let singles = functions.iter().filter(|f| f.rank() == 1).count();
    while large.functions[0].len() < 300 {
        large.functions[0].extend_from_slice(&functions[singles..]);
    }
    let mut random = Random(9);
    let mut cluster = Cluster::new(9, 2.6, 1, 1);
    for (i, p) in cluster.positions.iter_mut().enumerate() {
        *p = [i % 9, i / 9 % 9, i / 81].map(|c| 2.6 * c as f64 + 0.05 * (random.unit() - 0.5));
    }
    (with_set(&large, true, 1.0, Isa::detect()), cluster)
}

#[test]
fn screened_components_give_the_same_forces() {
    let (mut e, cluster) = screened();
    e.set_bias(Some(BIAS)).unwrap();
    let first = cluster.evaluate(&mut e, true).unwrap();
    let screened = cluster.evaluate(&mut e, true).unwrap();
    assert_eq!(first.grades, screened.grades);
    assert_eq!(first.forces, screened.forces, "the components that count are the same");
}

/// With an onset, the atoms above it are found in a first pass and evaluated again; without one, in a single pass.
#[test]
fn both_ways_to_evaluate_agree() {
    let compare = |e: &mut Evaluator, cluster: &Cluster, name: &str| {
        // The second time there can be a screen.
        for time in 0..2 {
            e.set_bias(Some(BIAS)).unwrap();
            let all = cluster.evaluate(e, true).unwrap();
            e.set_bias(Some(Bias { onset: 1e-13, ..BIAS })).unwrap();
            let again = cluster.evaluate(e, time == 0).unwrap();
            close(all.bias, again.bias, 1e-11, name);
            close(all.energy, again.energy, 1e-13, name);
            let size = all.forces.iter().flatten().fold(1.0, |a: f64, b| a.max(b.abs()));
            for (a, b) in all.forces.iter().flatten().zip(again.forces.iter().flatten()) {
                close(a / size, b / size, 1e-11, name);
            }
            // Some atoms above the onset, and some below.
            let mut grades = all.grades.clone();
            grades.sort_by(f64::total_cmp);
            let onset = grades[grades.len() / 2];
            e.set_bias(Some(Bias { onset, ..BIAS })).unwrap();
            let some = cluster.evaluate(e, true).unwrap();
            e.set_bias(None).unwrap();
            assert_eq!(
                some.grades,
                cluster.evaluate(e, true).unwrap().grades,
                "{name}: the first pass is that without a bias"
            );
            assert!(some.bias < 0.0 && some.bias > all.bias, "{name}");
        }
    };
    for linear in [true, false] {
        for isa in Isa::available() {
            let mut e = with_set(&model("two.yaml"), linear, 1.0, isa);
            compare(&mut e, &Cluster::new(4, 2.3, 2, 3), &format!("linear: {linear}, {}", isa.name()));
        }
    }
    let (mut e, cluster) = screened();
    compare(&mut e, &cluster, "screened");
}

#[test]
fn invalid_biases_are_refused() {
    let mut e = util::evaluator("two.yaml", Isa::detect());
    assert!(matches!(e.set_bias(Some(BIAS)), Err(Error::Argument(_))), "there is no active set");
    let mut e = with_set(&model("two.yaml"), true, 1.0, Isa::detect());
    for bad in [
        Bias { strength: f64::NAN, ..BIAS },
        Bias { onset: -1.0, ..BIAS },
        Bias { onset: 7e3, ..BIAS },
        Bias { limit: 0.0, ..BIAS },
        Bias { limit: f64::INFINITY, ..BIAS },
        Bias { shortest: -1.0, ..BIAS },
    ] {
        assert!(matches!(e.set_bias(Some(bad)), Err(Error::Argument(_))), "{bad:?}");
    }
    let cluster = Cluster::new(2, 2.5, 2, 1);
    assert!(matches!(cluster.evaluate_with(&mut e, true, true), Err(Error::Argument(_))), "no bias was set");
    // An isolated atom has grade zero, where s is not differentiable, and no bias.
    let one = Cluster { positions: vec![[0.0; 3]], types: vec![0], scales: Vec::new() };
    e.set_bias(Some(BIAS)).unwrap();
    let r = one.evaluate(&mut e, true).unwrap();
    assert_eq!((r.bias, r.forces[0]), (0.0, [0.0; 3]));
}
