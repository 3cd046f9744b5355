// SPDX-License-Identifier: GPL-2.0-or-later
//! Results do not depend on the number of threads, to the last bit, and errors and panics of threads arrive.

mod util;

use pace_opt::{ActiveSet, Bias, Error, Evaluator, Isa, Model, Output, Potential, System};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use util::{Cluster, Evaluated, data, potential};

/// All results, to the bit.
fn bits(r: &Evaluated) -> Vec<u64> {
    let flat = |v: &[[f64; 3]]| v.as_flattened().to_vec();
    let parts = [
        vec![r.energy, r.bias],
        r.energies.clone(),
        flat(&r.forces),
        r.virial.to_vec(),
        r.virials.as_flattened().to_vec(),
        r.grades.clone(),
        r.coefficients.concat(),
        flat(&r.bias_forces),
    ];
    parts.concat().into_iter().map(f64::to_bits).collect()
}

/// A potential of two elements with an active set whose inverse is a multiple of the unit matrix.
fn graded() -> Arc<Potential> {
    let model = Model::read(&data("two.yaml")).unwrap();
    let size: Vec<usize> = model.functions.iter().map(Vec::len).collect();
    let unit = |n: usize| (0..n * n).map(|k| if k % (n + 1) == 0 { 0.5 } else { 0.0 }).collect();
    let set = ActiveSet { linear: true, inverse: size.iter().map(|&n| unit(n)).collect(), size };
    Arc::new(Potential::new(&model, Some(&set)).unwrap())
}

#[test]
fn results_are_the_same_for_any_number_of_threads() {
    let cluster = Cluster { scales: vec![0.5, 1.7], ..Cluster::new(6, 2.3, 2, 5) };
    let small = Cluster::new(2, 2.3, 2, 5);
    let bias = Bias { strength: 0.02, onset: 0.0, limit: 1e6, shortest: 0.3 };
    let plain = potential("two.yaml");
    let with_grades = graded();
    let mut compared = 0;
    for isa in Isa::available() {
        for (potential, grades, bias) in
            [(&plain, false, None), (&with_grades, true, None), (&with_grades, true, Some(bias))]
        {
            for cluster in [&cluster, &small] {
                let of = |threads: usize| {
                    let mut e = Evaluator::with_isa(potential.clone(), isa);
                    e.set_threads(threads).unwrap();
                    e.set_bias(bias).unwrap();
                    assert_eq!(e.threads(), threads);
                    let run = |e: &mut Evaluator| bits(&cluster.evaluate_with(e, grades, bias.is_some()).unwrap());
                    let first = run(&mut e);
                    for _ in 0..3 {
                        assert!(first == run(&mut e), "{isa:?}, {threads} threads: two evaluations differ");
                    }
                    first
                };
                let one = of(1);
                for threads in [2, 3, 8] {
                    assert!(one == of(threads), "{isa:?}, {threads} threads differ from one");
                    compared += 1;
                }
            }
        }
    }
    println!("tried {compared}: evaluations with 2, 3 and 8 threads: equal to one thread to the bit");
}

#[test]
fn the_number_of_threads_can_change() {
    let mut e = Evaluator::new(potential("two.yaml"));
    let cluster = Cluster::new(4, 2.3, 2, 5);
    let one = bits(&cluster.evaluate(&mut e, false).unwrap());
    for threads in [4, 2, 1, 3] {
        e.set_threads(threads).unwrap();
        assert!(one == bits(&cluster.evaluate(&mut e, false).unwrap()), "{threads}");
    }
    for threads in [0, 1025] {
        assert!(matches!(e.set_threads(threads), Err(Error::Argument(_))));
        assert_eq!(e.threads(), 3);
    }
}

/// As on one thread: that of the first atom that has one, after the results of those before it.
#[test]
fn the_first_error_is_returned() {
    let mut cluster = Cluster::new(6, 2.3, 1, 5);
    for i in [150, 90, 200] {
        cluster.positions[i] = cluster.positions[i + 1];
        cluster.positions[i][2] += 1e-4;
    }
    let mut one = Evaluator::new(potential("small.ace"));
    let first = cluster.evaluate(&mut one, false).err().unwrap().to_string();
    assert!(first.contains("90 and 91"), "{first}");
    for threads in [2, 3] {
        let mut e = Evaluator::new(potential("small.ace"));
        e.set_threads(threads).unwrap();
        for _ in 0..20 {
            assert_eq!(cluster.evaluate(&mut e, false).err().unwrap().to_string(), first);
        }
        let valid = Cluster::new(6, 2.3, 1, 5);
        assert!(bits(&valid.evaluate(&mut e, false).unwrap()) == bits(&valid.evaluate(&mut one, false).unwrap()));
    }
}

#[test]
fn a_panic_of_a_thread_arrives() {
    let cluster = Cluster::new(6, 2.3, 1, 5);
    let n = cluster.positions.len();
    let atoms: Vec<i32> = (0..n as i32).collect();
    let lists: Vec<Vec<i32>> = (0..n).map(|i| (0..n as i32).filter(|&j| j as usize != i).collect()).collect();
    let mut e = Evaluator::new(potential("small.ace"));
    e.set_threads(3).unwrap();
    let mut evaluate = |bad: usize| {
        let system = System {
            positions: &cluster.positions,
            types: &cluster.types,
            element_of_type: &[0],
            scales: &[],
            atoms: &atoms,
            neighbours: |k: usize| if k == bad { panic!("a list is missing") } else { &lists[k][..] },
            mask: i32::MAX,
        };
        let mut forces = vec![[0.0; 3]; n];
        let mut output = Output { forces: &mut forces, ..Output::default() };
        catch_unwind(AssertUnwindSafe(|| e.evaluate(&system, &mut output).unwrap().energy))
    };
    let energy = evaluate(usize::MAX).unwrap();
    for bad in [0, 100, 215] {
        let panic = evaluate(bad).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"a list is missing"));
        assert_eq!(evaluate(usize::MAX).unwrap(), energy, "the evaluator is still usable");
    }
}
