// SPDX-License-Identifier: GPL-2.0-or-later
//! POSCAR files of VASP (version 5 and later). They are written here, and read by ASE.

use std::io::Write;

use super::Error;
use crate::structure::{Element, Structure};

/// Writes a POSCAR file with `comment` as its first line, without line breaks. The atoms are sorted by element, in the order of the
/// types and otherwise unchanged, because the format lists the number of atoms of each element only. Positions are Cartesian, relative
/// to the origin of the cell, with full precision. The last two vectors of a left-handed cell, which VASP refuses, are exchanged.
///
/// Atoms that are fixed along all axes are written with selective dynamics. Atoms that are fixed along some Cartesian axes, boundary
/// conditions and velocities are not written.
///
/// # Errors
/// [`Error::Write`] if writing fails.
pub fn write(structure: &Structure, comment: &str, mut out: impl Write) -> Result<(), Error> {
    let comment: String = comment.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let [a, b, c] = structure.cell.vectors;
    let vectors = if structure.cell.signed_volume() < 0.0 { [a, c, b] } else { [a, b, c] };
    writeln!(out, "{comment}\n1.0")?;
    for [x, y, z] in vectors {
        writeln!(out, "{x:?} {y:?} {z:?}")?;
    }
    let mut groups: Vec<(Element, Vec<usize>)> = Vec::new();
    for &element in &structure.elements {
        if groups.iter().all(|(other, _)| *other != element) {
            let atoms: Vec<usize> = (0..structure.len()).filter(|&i| structure.element(i) == element).collect();
            groups.push((element, atoms));
        }
    }
    groups.retain(|(_, atoms)| !atoms.is_empty());
    let list = |texts: Vec<String>| texts.join(" ");
    writeln!(out, "{}", list(groups.iter().map(|(element, _)| element.symbol().to_owned()).collect()))?;
    writeln!(out, "{}", list(groups.iter().map(|(_, atoms)| atoms.len().to_string()).collect()))?;
    let is_fixed = |i: usize| {
        let own = || structure.fixed.iter().filter(|fixed| fixed.ids.contains(&structure.ids[i]));
        (0..3).all(|axis| own().any(|fixed| fixed.axes[axis]))
    };
    let is_selective = (0..structure.len()).any(is_fixed);
    if is_selective {
        writeln!(out, "Selective dynamics")?;
    }
    writeln!(out, "Cartesian")?;
    for i in groups.into_iter().flat_map(|(_, atoms)| atoms) {
        let [x, y, z] = std::array::from_fn(|k| structure.position(i)[k] - structure.cell.origin[k]);
        let flags = match (is_selective, is_fixed(i)) {
            (false, _) => "",
            (_, true) => " F F F",
            (_, false) => " T T T",
        };
        writeln!(out, "{x:?} {y:?} {z:?}{flags}")?;
    }
    Ok(())
}
