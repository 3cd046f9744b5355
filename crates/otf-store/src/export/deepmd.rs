// SPDX-License-Identifier: GPL-2.0-or-later
//! The folders of arrays of DeePMD-kit.

use super::xyz::stress_of_weight;
use super::{StoredCandidate, energy_weight, positions, virial, write_folder};
use crate::{Labels, StoreError};
use ndarray::{Array1, Array2, Axis};
use ndarray_npy::WriteNpyExt;
use otf_atoms::structure::Element;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// The common properties of the frames of a system.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct System {
    /// Number of atoms of each element of the type map.
    counts: Vec<usize>,
    /// Whether there is a cell.
    periodic: bool,
    with_energy: bool,
    with_virial: bool,
}

/// Writes the folder. All rows must have labels.
pub fn write(target: &Path, rows: &[&StoredCandidate]) -> Result<(), StoreError> {
    let elements: BTreeSet<(u32, &str)> =
        rows.iter().flat_map(|row| elements(row)).map(|e| (e.atomic_number(), e.symbol())).collect();
    let map: Vec<(u32, &str)> = elements.into_iter().collect();

    let mut systems = BTreeMap::<System, Vec<(&StoredCandidate, &Labels)>>::new();
    for row in rows {
        let Some(labels) = &row.candidate.labels else { continue };
        let cell = &row.candidate.structure.cell;
        let system = System {
            counts: map.iter().map(|(z, _)| elements_of(row, *z).len()).collect(),
            periodic: cell.pbc.contains(&true) && cell.volume() > 0.0,
            with_energy: energy_weight(row) > 0.0,
            with_virial: stress_of_weight(row, labels).is_some(),
        };
        systems.entry(system).or_default().push((row, labels));
    }

    write_folder(target, |folder| {
        let mut systems = systems.iter();
        systems.try_for_each(|(system, frames)| write_system(&folder.join(system.name(&map)), system, frames, &map))
    })
}

impl System {
    fn name(&self, map: &[(u32, &str)]) -> String {
        let parts = map.iter().zip(&self.counts).filter(|(_, n)| **n > 0);
        let mut name: String = parts.map(|((_, symbol), n)| format!("{symbol}{n}")).collect();
        for (suffix, present) in
            [("-free", !self.periodic), ("-energy", self.with_energy), ("-virial", self.with_virial)]
        {
            name.push_str(if present { suffix } else { "" });
        }
        name
    }
}

fn elements(row: &StoredCandidate) -> impl Iterator<Item = Element> + '_ {
    let structure = &row.candidate.structure;
    (0..structure.len()).map(|i| structure.element(i))
}

/// Indices of the atoms of one element.
fn elements_of(row: &StoredCandidate, number: u32) -> Vec<usize> {
    elements(row).enumerate().filter(|(_, e)| e.atomic_number() == number).map(|(i, _)| i).collect()
}

fn write_system(
    folder: &Path,
    system: &System,
    frames: &[(&StoredCandidate, &Labels)],
    map: &[(u32, &str)],
) -> io::Result<()> {
    let set = folder.join("set.000");
    fs::create_dir_all(&set)?;
    let lines = |lines: Vec<String>| lines.join("\n") + "\n";
    let kinds = system.counts.iter().enumerate().flat_map(|(kind, &n)| std::iter::repeat_n(kind.to_string(), n));
    fs::write(folder.join("type.raw"), lines(kinds.collect()))?;
    fs::write(folder.join("type_map.raw"), lines(map.iter().map(|(_, symbol)| (*symbol).to_owned()).collect()))?;
    if !system.periodic {
        fs::write(folder.join("nopbc"), "")?;
    }
    // Atoms are sorted by type, so that all frames have the same `type.raw`.
    let order = |row: &StoredCandidate| map.iter().flat_map(|(z, _)| elements_of(row, *z)).collect::<Vec<_>>();
    let table = |values: &dyn Fn(&StoredCandidate, &Labels) -> Vec<f64>| {
        let rows: Vec<Vec<f64>> = frames.iter().map(|(row, labels)| values(row, labels)).collect();
        let shape = (rows.len(), rows.first().map_or(0, Vec::len));
        Array2::from_shape_vec(shape, rows.concat()).map_err(io::Error::other)
    };
    let sorted = |array: &Array2<f64>, row: &StoredCandidate| {
        array.select(Axis(0), &order(row)).iter().copied().collect::<Vec<f64>>()
    };
    let cell = |row: &StoredCandidate| row.candidate.structure.cell.clone();
    save(&set.join("coord.npy"), &table(&|row, _| sorted(&positions(row), row))?)?;
    save(&set.join("box.npy"), &table(&|row, _| cell(row).vectors.as_flattened().to_vec())?)?;
    save(&set.join("force.npy"), &table(&|row, labels| sorted(&labels.forces, row))?)?;
    let mask = |row: &StoredCandidate| order(row).iter().map(|&i| row.candidate.force_mask[i]).collect();
    save(&set.join("atom_pref.npy"), &table(&|row, _| mask(row))?)?;
    if system.with_energy {
        save(&set.join("energy.npy"), &frames.iter().map(|(_, labels)| labels.energy).collect::<Array1<f64>>())?;
    }
    if system.with_virial {
        let values = |row: &StoredCandidate, labels: &Labels| {
            virial(labels.stress.unwrap_or_default(), cell(row).volume()).to_vec()
        };
        save(&set.join("virial.npy"), &table(&values)?)?;
    }
    Ok(())
}

fn save<D: ndarray::Dimension>(path: &Path, array: &ndarray::Array<f64, D>) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    array.write_npy(&mut out).map_err(io::Error::other)?;
    out.flush()?;
    out.get_ref().sync_all()
}
