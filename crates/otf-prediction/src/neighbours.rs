// SPDX-License-Identifier: GPL-2.0-or-later
//! Neighbour lists that are kept between evaluations.

use ndarray::{Array1, Array2};
use otf_atoms::structure::{Cell, NeighbourError, Neighbours, Structure};

/// The neighbour lists of the last structure.
#[derive(Default)]
pub struct NeighbourCache {
    /// Distance beyond the cutoff up to which neighbours are listed, Å.
    skin: f64,
    last: Option<Last>,
}

/// The structure of which the lists were made, and the lists.
struct Last {
    cell: Cell,
    types: Array1<i32>,
    atoms: Vec<i32>,
    cutoff: f64,
    /// Positions in the structure.
    given: Array2<f64>,
    /// Positions of atoms and images when the lists were made.
    made: Vec<[f64; 3]>,
    /// The lists, with the present positions.
    neighbours: Neighbours,
}

impl NeighbourCache {
    /// Lists up to `skin` (Å) beyond the cutoff.
    pub fn new(skin: f64) -> Self {
        Self { skin: skin.max(0.0), last: None }
    }

    /// The neighbours within at least `cutoff` of these atoms, ascending, and the present positions.
    pub fn update(&mut self, structure: &Structure, cutoff: f64, atoms: &[i32]) -> Result<&Neighbours, NeighbourError> {
        let skin = self.skin;
        let last = self.last.take().filter(|last| {
            skin > 0.0
                && last.cutoff == cutoff
                && last.cell == structure.cell
                && last.types == structure.types
                && last.atoms == atoms
                && last.given.dim() == structure.positions.dim()
        });
        if let Some(mut last) = last
            && last.follow(structure, skin)
        {
            return Ok(&self.last.insert(last).neighbours);
        }
        let neighbours = structure.neighbours(cutoff + skin, atoms)?;
        let keep = skin > 0.0;
        let last = Last {
            cell: structure.cell.clone(),
            types: if keep { structure.types.clone() } else { Array1::zeros(0) },
            atoms: if keep { atoms.to_vec() } else { Vec::new() },
            cutoff,
            given: if keep { structure.positions.clone() } else { Array2::zeros((0, 3)) },
            made: if keep { neighbours.positions.clone() } else { Vec::new() },
            neighbours,
        };
        Ok(&self.last.insert(last).neighbours)
    }
}

impl Last {
    /// Moves atoms and images to the positions of a structure of the same shape. Returns `false` if an atom has moved by more
    /// than half the skin, or to a place that is not finite.
    fn follow(&mut self, structure: &Structure, skin: f64) -> bool {
        let moved = &structure.positions - &self.given;
        // NaN fails the comparison.
        let near = moved.rows().into_iter().all(|d| d.iter().map(|x| x * x).sum::<f64>() <= 0.25 * skin * skin);
        if near {
            let places = self.neighbours.positions.iter_mut().zip(&self.made).zip(&self.neighbours.owners);
            for ((place, made), &owner) in places {
                *place = std::array::from_fn(|k| made[k] + moved[[owner as usize, k]]);
            }
        }
        near
    }
}
