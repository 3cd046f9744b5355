// SPDX-License-Identifier: GPL-2.0-or-later
//! The data frames of pacemaker and gracemaker.

use super::pickle::Object;
use super::{StoredCandidate, energy_weight, positions, stress_weight};
use crate::Labels;
use flate2::{Compression, GzBuilder};
use std::io::{self, Write};

/// The program that reads the frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    Pacemaker,
    /// Has names of its own for the weights, and fits stresses.
    Gracemaker,
}

/// Writes the frame with one row for each candidate. All candidates must have labels.
pub fn write(out: &mut dyn Write, rows: &[&StoredCandidate], reader: Reader) -> io::Result<()> {
    let names: Vec<String> = rows.iter().map(|row| format!("candidate-{}", row.id)).collect();
    let labelled: Vec<(&StoredCandidate, &Labels)> =
        rows.iter().filter_map(|row| Some((*row, row.candidate.labels.as_ref()?))).collect();
    let list = |object: fn(&StoredCandidate, &Labels) -> Object<'static>| {
        Object::List(labelled.iter().map(|(row, labels)| object(row, labels)).collect())
    };
    let (energies, forces) = match reader {
        Reader::Pacemaker => ("w_energy", "w_forces"),
        Reader::Gracemaker => ("energy_weight", "force_weight"),
    };
    let mut columns = vec![
        ("name", Object::List(names.iter().map(|name| Object::Text(name)).collect())),
        ("ase_atoms", list(|row, _| atoms(row))),
        ("energy", list(|_, labels| Object::Float(labels.energy))),
        // pacemaker fits this column if its input has no `reference_energy`.
        ("energy_corrected", list(|_, labels| Object::Float(labels.energy))),
        ("forces", list(|_, labels| Object::matrix(labels.forces.rows().into_iter().map(|f| f.to_vec())))),
        (energies, list(|row, _| Object::Float(energy_weight(row)))),
        (forces, list(|row, _| Object::vector(row.candidate.force_mask.iter().copied()))),
        ("gamma", list(|row, _| row.candidate.keys.gamma.map_or(Object::None, Object::Float))),
    ];
    if reader == Reader::Gracemaker {
        columns.push(("stress", list(|_, labels| labels.stress.map_or(Object::None, Object::vector))));
        let weight = |row: &StoredCandidate, labels: &Labels| labels.stress.map_or(0.0, |_| stress_weight(row));
        columns.push((
            "virial_weight",
            Object::List(labelled.iter().map(|(row, labels)| Object::Float(weight(row, labels))).collect()),
        ));
    }
    let frame = Object::Call("pandas", "DataFrame", vec![Object::Dict(columns)]);
    // The header has no time, so that the same rows give the same file.
    let mut compressed = GzBuilder::new().mtime(0).write(out, Compression::default());
    compressed.write_all(&frame.dump())?;
    compressed.finish().map(|_| ())
}

fn atoms(row: &StoredCandidate) -> Object<'static> {
    let structure = &row.candidate.structure;
    let numbers = (0..structure.len()).map(|i| Object::Int(structure.element(i).atomic_number().into()));
    Object::Call(
        "ase.atoms",
        "Atoms.fromdict",
        vec![Object::Dict(vec![
            ("numbers", Object::numpy(numbers.collect(), "int64")),
            ("positions", Object::matrix(positions(row).rows().into_iter().map(|r| r.to_vec()))),
            ("cell", Object::matrix(structure.cell.vectors)),
            ("pbc", Object::numpy(structure.cell.pbc.map(Object::Bool).into(), "bool")),
        ])],
    )
}
