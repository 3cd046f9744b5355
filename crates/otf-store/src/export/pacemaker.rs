// SPDX-License-Identifier: GPL-2.0-or-later
//! The data frame of pacemaker.

use super::pickle::Object;
use super::{StoredCandidate, energy_weight, positions};
use crate::Labels;
use flate2::{Compression, GzBuilder};
use std::io::{self, Write};

/// Writes the frame with one row for each candidate. All candidates must have labels.
pub fn write(out: &mut dyn Write, rows: &[&StoredCandidate]) -> io::Result<()> {
    let names: Vec<String> = rows.iter().map(|row| format!("candidate-{}", row.id)).collect();
    let labelled: Vec<(&StoredCandidate, &Labels)> =
        rows.iter().filter_map(|row| Some((*row, row.candidate.labels.as_ref()?))).collect();
    let list = |object: fn(&StoredCandidate, &Labels) -> Object<'static>| {
        Object::List(labelled.iter().map(|(row, labels)| object(row, labels)).collect())
    };
    let frame = Object::Call(
        "pandas",
        "DataFrame",
        vec![Object::Dict(vec![
            ("name", Object::List(names.iter().map(|name| Object::Text(name)).collect())),
            ("ase_atoms", list(|row, _| atoms(row))),
            ("energy", list(|_, labels| Object::Float(labels.energy))),
            // pacemaker fits this column if its input has no `reference_energy`.
            ("energy_corrected", list(|_, labels| Object::Float(labels.energy))),
            ("forces", list(|_, labels| Object::matrix(labels.forces.rows().into_iter().map(|f| f.to_vec())))),
            ("w_energy", list(|row, _| Object::Float(energy_weight(row)))),
            ("w_forces", list(|row, _| Object::vector(row.candidate.force_mask.iter().copied()))),
            ("gamma", list(|row, _| row.candidate.keys.gamma.map_or(Object::None, Object::Float))),
        ])],
    );
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
