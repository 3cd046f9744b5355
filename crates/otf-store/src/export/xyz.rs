// SPDX-License-Identifier: GPL-2.0-or-later
//! The variants of extended XYZ.

use super::{StoredCandidate, energy_weight, full, positions, stress_weight, virial};
use crate::{KeyValue, Labels};
use otf_atoms::io::extxyz::{self, Column, ColumnData, Value};
use otf_atoms::structure::{Cell, Structure};
use std::io::{self, Write};

/// Writes a candidate with all data, with ASE's names for results.
pub fn plain(mut out: &mut dyn Write, row: &StoredCandidate) -> io::Result<()> {
    let candidate = &row.candidate;
    let mut columns = vec![
        Column::real("force_mask", &candidate.force_mask),
        Column::integer("source_id", &candidate.source_ids),
        Column { name: "source_image", data: ColumnData::IntegerTriples(&candidate.source_images) },
    ];
    columns.extend(candidate.atom_gamma.iter().map(|gamma| Column::real("atom_gamma", gamma)));
    columns.extend(candidate.atom_core_share.iter().map(|shares| Column::real("atom_core_share", shares)));
    let pairs = candidate.keys.to_pairs();
    let mut info = vec![("candidate", Value::Integer(row.id))];
    if let Some(status) = row.status {
        info.push(("status", Value::Text(status.to_string())));
    }
    info.extend(pairs.iter().map(|(key, value)| (key.as_str(), self::value(value))));
    if let Some(labels) = &candidate.labels {
        columns.push(Column { name: "forces", data: ColumnData::RealRows(labels.forces.view()) });
        info.push(("energy", Value::Real(labels.energy)));
        info.extend(labels.free_energy.map(|energy| ("free_energy", Value::Real(energy))));
        info.extend(labels.stress.map(|stress| ("stress", numbers(&full(stress)))));
    }
    extxyz::write(&mut out, &candidate.structure, &columns, &info).map_err(other)
}

/// Writes a candidate for `gap_fit`: the mask marks excluded atoms, and energy and virial without weight are omitted.
pub fn gap(mut out: &mut dyn Write, row: &StoredCandidate) -> io::Result<()> {
    let Some(labels) = &row.candidate.labels else { return Ok(()) };
    let structure = bare(row);
    let excluded: Vec<bool> = row.candidate.force_mask.iter().map(|&weight| weight <= 0.0).collect();
    let columns = [
        Column { name: "forces", data: ColumnData::RealRows(labels.forces.view()) },
        Column { name: "force_mask", data: ColumnData::Logical(&excluded) },
    ];
    let mut info = vec![("candidate", Value::Integer(row.id)), ("config_type", Value::Text("lammps_otf".into()))];
    if energy_weight(row) > 0.0 {
        info.push(("energy", Value::Real(labels.energy)));
    }
    if let Some(stress) = stress_of_weight(row, labels) {
        info.push(("virial", numbers(&virial(stress, structure.cell.volume()))));
    }
    extxyz::write(&mut out, &structure, &columns, &info).map_err(other)
}

/// Writes a candidate for MACE: default names, `config_*_weight` for the frame, and weights for the atoms.
pub fn mace(mut out: &mut dyn Write, row: &StoredCandidate) -> io::Result<()> {
    let Some(labels) = &row.candidate.labels else { return Ok(()) };
    let structure = bare(row);
    let columns = [
        Column { name: "REF_forces", data: ColumnData::RealRows(labels.forces.view()) },
        Column::real("REF_forces_atomic_weights", &row.candidate.force_mask),
    ];
    let stress_weight = if labels.stress.is_some() { stress_weight(row) } else { 0.0 };
    let mut info = vec![
        ("candidate", Value::Integer(row.id)),
        ("config_type", Value::Text("lammps_otf".into())),
        ("REF_energy", Value::Real(labels.energy)),
        ("config_energy_weight", Value::Real(energy_weight(row))),
        ("config_forces_weight", Value::Real(1.0)),
        ("config_stress_weight", Value::Real(stress_weight)),
        ("config_virials_weight", Value::Real(stress_weight)),
    ];
    info.extend(labels.stress.map(|stress| ("REF_stress", numbers(&full(stress)))));
    extxyz::write(&mut out, &structure, &columns, &info).map_err(other)
}

/// The stress, if it has a weight.
pub fn stress_of_weight(row: &StoredCandidate, labels: &Labels) -> Option<[f64; 6]> {
    labels.stress.filter(|_| stress_weight(row) > 0.0)
}

/// The structure without velocities, masses, ids and origin, which trainers do not use.
fn bare(row: &StoredCandidate) -> Structure {
    let structure = &row.candidate.structure;
    Structure {
        cell: Cell { origin: [0.0; 3], ..structure.cell.clone() },
        positions: positions(row),
        ids: (1..).take(structure.len()).collect(),
        masses: None,
        velocities: None,
        ..structure.clone()
    }
}

fn value(value: &KeyValue) -> Value {
    match value {
        KeyValue::Bool(flag) => Value::Bool(*flag),
        KeyValue::Int(int) => Value::Integer(*int),
        KeyValue::Float(float) => Value::Real(*float),
        KeyValue::Text(text) => Value::Text(text.clone()),
    }
}

/// Numbers in quotation marks, which readers parse as an array.
fn numbers(numbers: &[f64]) -> Value {
    Value::Text(numbers.iter().map(|x| format!("{x:?}")).collect::<Vec<_>>().join(" "))
}

fn other(error: otf_atoms::io::Error) -> io::Error {
    match error {
        otf_atoms::io::Error::Write(error) => error,
        other => io::Error::other(other),
    }
}
