// SPDX-License-Identifier: GPL-2.0-or-later
//! Analysis of the frames of a trajectory: radial distribution functions and mean square displacements.
//!
//! Frames are passed one after the other. Of large systems, a stated part of the atoms is used.

mod displacement;
mod radial;

pub use displacement::{Diffusion, Displacements, ElementDisplacement, NoDiffusion, UnwrapError};
pub use radial::{PairDistribution, RadialDistribution};

use crate::structure::{Element, Structure};

/// Indices of atoms with an element each, ascending: at most `most` of each element, evenly chosen in the order of the structure.
fn choose(structure: &Structure, most: usize) -> Vec<(Element, Vec<usize>)> {
    let mut found: Vec<(Element, Vec<usize>)> = Vec::new();
    for i in 0..structure.len() {
        let element = structure.element(i);
        match found.iter_mut().find(|(other, _)| *other == element) {
            Some((_, atoms)) => atoms.push(i),
            None => found.push((element, vec![i])),
        }
    }
    for (_, atoms) in &mut found {
        let all = atoms.len();
        if all > most {
            *atoms = (0..most).map(|k| atoms[k * all / most]).collect();
        }
    }
    found.sort_by_key(|(element, _)| element.atomic_number());
    found
}
