// SPDX-License-Identifier: GPL-2.0-or-later
//! A candidate as stored by a run.

use ndarray::{Array1, Array2};
use otf_atoms::structure::{Cell, Element, Structure};
use otf_store::{Candidate, CandidateKeys, Labels, Trigger};

/// A cut-out of `n` aluminium and copper atoms in a tilted cell, different for each `seed`.
pub fn candidate(n: usize, seed: u32) -> Candidate {
    // Numbers with all digits.
    let noise =
        |i: usize, k: usize| f64::from((i * 7919 + k * 104_729 + seed as usize * 31) as u32 % 10_007) / 10_007.0;
    let ids = Array1::from_iter((0..n).map(|i| 1000 - 3 * i as i64));
    Candidate {
        structure: Structure {
            cell: Cell {
                origin: [0.0; 3],
                vectors: [[12.1, 0.0, 0.0], [1.3, 11.7, 0.0], [-2.1, 0.4, 12.9]],
                pbc: [true, true, false],
            },
            elements: vec![Element::Cu, Element::Al],
            masses: None,
            types: Array1::from_iter((0..n).map(|i| if i % 3 == 0 { 1 } else { 2 })),
            ids: ids.clone(),
            fixed: Vec::new(),
            positions: Array2::from_shape_fn((n, 3), |(i, k)| 12.0 * noise(i, k) - 1.0),
            velocities: Some(Array2::from_shape_fn((n, 3), |(i, k)| 10.0 * noise(i, k + 3) - 5.0)),
        },
        force_mask: (0..n).map(|i| if i < n / 2 { 1.0 } else { 0.0 }).collect(),
        source_ids: ids.to_vec(),
        source_images: (0..n).map(|i| [i as i32 % 2, -1, 0]).collect(),
        atom_gamma: Some((0..n).map(|i| 1.0 + noise(i, 7)).collect()),
        atom_core_share: (seed % 2 == 1).then(|| (0..n).map(|i| noise(i, 8).abs()).collect()),
        keys: CandidateKeys {
            gamma: Some(7.25),
            step: Some(1350),
            center: Some(0),
            center_id: Some(1000),
            radius: Some(4.0),
            buffer: Some(5.5),
            shape: Some("sphere".into()),
            source: Some("2024".into()),
            potential_hash: Some("123e4567".into()),
            trigger: Some(Trigger::Gamma),
            run_id: Some(format!("run-{seed}")),
            energy_weight: Some(0.0),
            stress_weight: Some(0.0),
            extra: [("temperature".to_owned(), 717.5.into()), ("note".to_owned(), "ß \"quoted\"".into())].into(),
            ..CandidateKeys::default()
        },
        labels: None,
    }
}

/// Labels for the candidate.
pub fn labels(n: usize) -> Labels {
    Labels {
        energy: -123.456_789_012_345_67,
        free_energy: Some(-123.5),
        forces: Array2::from_shape_fn((n, 3), |(i, k)| (i as f64 - 1.0) * 0.1 + k as f64 / 3.0),
        stress: Some([0.1, -0.2, 0.3, 0.01, -0.02, 0.03]),
        calculator: Some("EMT".into()),
    }
}
