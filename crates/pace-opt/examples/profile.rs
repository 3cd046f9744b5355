// SPDX-License-Identifier: GPL-2.0-or-later
//! Prints the time of each stage of an evaluation per instruction set, in µs per atom and per cent:
//!
//! `cargo run --release --example profile -- LATTICE CELLS ROUNDS FILE [ACTIVE_SET [STRENGTH]]`
//!
//! With the strength of a bias in eV, the columns are without and with it.
//!
//! The system is a periodic fcc crystal of CELLS³ cells with random displacements, random elements, and neighbour lists up to
//! 2 Å beyond the cutoff. The instruction sets alternate; each time is the minimum of ROUNDS rounds.

use pace_opt::{Bias, Evaluator, Isa, Output, Potential, Stage, System};
use std::path::Path;
use std::process::ExitCode;

/// Skin of the neighbour lists in Å, the default of LAMMPS with metal units.
const SKIN: f64 = 2.0;

/// Atoms of a crystal, followed by their periodic images within reach.
struct Crystal {
    atoms: usize,
    positions: Vec<[f64; 3]>,
    types: Vec<i32>,
    lists: Vec<Vec<i32>>,
}

impl Crystal {
    fn new(lattice: f64, cells: usize, elements: usize, reach: f64) -> Self {
        let mut state = 4928u64;
        let mut unit = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as f64 / (1u64 << 31) as f64
        };
        let corners = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]];
        let (mut positions, mut types) = (Vec::new(), Vec::new());
        for cell in 0..cells.pow(3) {
            let cell = [cell % cells, cell / cells % cells, cell / cells / cells];
            for corner in corners {
                positions.push([0, 1, 2].map(|c| (cell[c] as f64 + corner[c]) * lattice + 0.24 * (unit() - 0.5)));
                types.push((unit() * elements as f64) as i32);
            }
        }
        let (atoms, edge) = (positions.len(), lattice * cells as f64);
        let images = (reach / edge).ceil() as i32;
        for image in 0..(2 * images + 1).pow(3) {
            let side = 2 * images + 1;
            let shift = [image % side, image / side % side, image / side / side].map(|k| f64::from(k - images) * edge);
            if shift == [0.0; 3] {
                continue;
            }
            for i in 0..atoms {
                let x = [0, 1, 2].map(|c| positions[i][c] + shift[c]);
                if x.iter().all(|&x| x > -reach && x < edge + reach) {
                    positions.push(x);
                    types.push(types[i]);
                }
            }
        }
        let near = |a: &[f64; 3], b: &[f64; 3]| (0..3).map(|c| (a[c] - b[c]).powi(2)).sum::<f64>() < reach * reach;
        let lists = (0..atoms)
            .map(|i| {
                (0..positions.len())
                    .filter(|&j| j != i && near(&positions[i], &positions[j]))
                    .map(|j| j as i32)
                    .collect()
            })
            .collect();
        Crystal { atoms, lists, positions, types }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [lattice, cells, rounds, file, rest @ ..] = &args[..] else {
        return Err("usage: profile LATTICE CELLS ROUNDS FILE [ACTIVE_SET [STRENGTH]]".into());
    };
    let potential = Potential::read(Path::new(file), rest.first().map(Path::new))?;
    let elements = potential.elements().len();
    let crystal = Crystal::new(lattice.parse()?, cells.parse()?, elements, potential.cutoff() + SKIN);
    let rounds: usize = rounds.parse()?;
    let atoms: Vec<i32> = (0..crystal.atoms as i32).collect();
    let kinds: Vec<i32> = (0..elements as i32).collect();
    let system = System {
        positions: &crystal.positions,
        types: &crystal.types,
        element_of_type: &kinds,
        scales: &[],
        atoms: &atoms,
        neighbours: |k: usize| &crystal.lists[k][..],
        mask: i32::MAX,
    };
    let mut forces = vec![[0.0; 3]; crystal.positions.len()];
    let mut grades = vec![0.0; crystal.positions.len()];
    let mut sets: Vec<Evaluator> =
        Isa::available().into_iter().rev().map(|isa| Evaluator::with_isa(potential.clone(), isa)).collect();
    let mut names: Vec<String> = sets.iter().map(|s| s.isa().name().into()).collect();
    if let Some(strength) = rest.get(1) {
        let bias = Some(Bias { strength: strength.parse()?, onset: 0.0, limit: 10.0, shortest: 0.65 });
        sets = sets.into_iter().flat_map(|s| [Evaluator::with_isa(potential.clone(), s.isa()), s]).collect();
        sets.iter_mut().skip(1).step_by(2).try_for_each(|s| s.set_bias(bias))?;
        names = names.into_iter().flat_map(|n| [n.clone(), format!("{n}, biased")]).collect();
    }
    // Per instruction set and stage, the minimum of all rounds, because other load can only add time.
    let mut best = vec![vec![f64::INFINITY; Stage::ALL.len()]; sets.len()];
    for _ in 0..rounds.max(1) {
        for (evaluator, best) in sets.iter_mut().zip(&mut best) {
            evaluator.time_stages(true);
            let grades = (!rest.is_empty()).then_some(&mut grades[..]);
            evaluator.evaluate(&system, &mut Output { forces: &mut forces, grades, ..Output::default() })?;
            for (least, (_, time)) in best.iter_mut().zip(evaluator.stages()) {
                *least = least.min(time.as_secs_f64() * 1e6 / crystal.atoms as f64);
            }
        }
    }
    let within: usize = crystal.lists.iter().map(Vec::len).sum();
    println!(
        "| µs per atom, {:.0} in its list |{}",
        within as f64 / crystal.atoms as f64,
        columns(&names, String::clone)
    );
    println!("| --- |{}", columns(&names, |_| "---".into()));
    for (k, stage) in Stage::ALL.iter().enumerate() {
        if best.iter().any(|m| m[k] > 0.0) {
            let cell = |m: &Vec<f64>| format!("{:.2} ({:.0} %)", m[k], 100.0 * m[k] / m.iter().sum::<f64>());
            println!("| {} |{}", stage.name(), columns(&best, cell));
        }
    }
    println!("| all |{}", columns(&best, |m| format!("{:.2}", m.iter().sum::<f64>())));
    Ok(())
}

fn columns<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    items.iter().map(|i| format!(" {} |", text(i))).collect()
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}
