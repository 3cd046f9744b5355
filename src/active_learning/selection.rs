// SPDX-License-Identifier: GPL-2.0-or-later
//! Which candidates are worth a label.
//!
//! Each atom whose forces would be learned is a row of B-projections. Written as a combination of the rows of the active
//! set, c = B A⁻¹, its largest coefficient is the factor by which |det A| grows if it takes that row's place: γ. MaxVol
//! (Goreinov et al., in *Matrix Methods*, 2010) makes such exchanges, the largest first, until none is worth it; the
//! structures whose atoms have come in are the D-optimal choice (Podryabinkin and Shapeev, Comput. Mater. Sci. 140, 171
//! (2017); for ACE: Lysogorskiy et al., Phys. Rev. Materials 7, 043801 (2023)). Of two cut-outs of the same defect only
//! one comes in, because after that the other is spanned.

use std::sync::Arc;

use crate::config::Potential;
use crate::structure::Structure;

/// An exchange that grows the determinant by less than this factor is not worth it, as in pacemaker's active sets.
const WORTH_IT: f64 = 1.01;

/// What can be chosen from: the rows c = B A⁻¹ of a candidate's core atoms.
#[derive(Debug, Clone, PartialEq)]
pub struct Projected {
    /// The candidate.
    pub id: i64,
    /// Element of each atom, as the potential counts them, and its row.
    pub rows: Vec<(usize, Vec<f64>)>,
}

impl Projected {
    /// The largest γ of its core atoms; infinite if any is not a number.
    #[must_use]
    pub fn gamma(&self) -> f64 {
        self.rows.iter().flat_map(|(_, row)| row).fold(0.0, |most, c| worse(most, c.abs()))
    }
}

/// The larger one; NaN counts as infinite.
fn worse(a: f64, b: f64) -> f64 {
    if b.is_nan() { f64::INFINITY } else { a.max(b) }
}

/// Chooses at most `limit` candidates for their D-optimality, the one with the largest γ first; fewer if the others are
/// spanned by those.
///
/// Ties go to the lower number, so that the answer depends on nothing but the candidates.
#[must_use]
pub fn select(mut pool: Vec<Projected>, limit: usize) -> Vec<i64> {
    pool.sort_by_key(|candidate| candidate.id);
    // A row that is not finite says that nothing is known there; it spans nothing, and would spoil all other rows.
    let (broken, mut pool): (Vec<_>, Vec<_>) = pool.into_iter().partition(|p| !p.gamma().is_finite());
    let mut chosen: Vec<i64> = broken.into_iter().map(|p| p.id).take(limit).collect();
    let species: Vec<usize> = {
        let mut all: Vec<usize> = pool.iter().flat_map(|p| p.rows.iter().map(|(s, _)| *s)).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    loop {
        let full = chosen.len() >= limit;
        // Those that are chosen may still bring in more of their atoms, so that what they span is not chosen again.
        let allowed = |id: i64| !full || chosen.contains(&id);
        let best = species.iter().filter_map(|&s| largest(&pool, s, allowed)).max_by(|a, b| {
            // The lower number wins a tie, hence the turned order.
            a.value.abs().total_cmp(&b.value.abs()).then(b.at.cmp(&a.at))
        });
        let Some(best) = best.filter(|best| best.value.abs() > WORTH_IT) else { return chosen };
        let id = pool[best.at.0].id;
        if !chosen.contains(&id) {
            chosen.push(id);
        }
        exchange(&mut pool, &best);
    }
}

/// A coefficient: candidate, row and column, its element and value.
struct Entry {
    at: (usize, usize, usize),
    species: usize,
    value: f64,
}

fn largest(pool: &[Projected], species: usize, allowed: impl Fn(i64) -> bool) -> Option<Entry> {
    let mut best: Option<Entry> = None;
    for (c, candidate) in pool.iter().enumerate().filter(|(_, candidate)| allowed(candidate.id)) {
        for (r, (_, row)) in candidate.rows.iter().enumerate().filter(|(_, (s, _))| *s == species) {
            for (k, &value) in row.iter().enumerate() {
                if best.as_ref().is_none_or(|b| value.abs() > b.value.abs()) {
                    best = Some(Entry { at: (c, r, k), species, value });
                }
            }
        }
    }
    best
}

/// Puts a row into the active set in place of one of its rows, and writes all others as combinations of the new set.
fn exchange(pool: &mut [Projected], entry: &Entry) {
    let (c, r, k) = entry.at;
    let mut change = pool[c].rows[r].1.clone();
    change[k] -= 1.0;
    for (species, row) in pool.iter_mut().flat_map(|candidate| &mut candidate.rows) {
        if *species == entry.species {
            let factor = row[k] / entry.value;
            row.iter_mut().zip(&change).for_each(|(x, d)| *x -= factor * d);
        }
    }
}

/// Why rows cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// The potential cannot be used for it.
    #[error(transparent)]
    Potential(#[from] pace_opt::Error),
    /// It is not of the kind that has an active set.
    #[error("the potential is not ML-PACE with an active set, from which candidates are selected")]
    Kind,
    /// The potential does not know an element.
    #[error("the potential does not know {0}")]
    Element(&'static str),
}

/// Computes rows with one potential.
#[derive(Debug)]
pub struct Projector {
    potential: Arc<pace_opt::Potential>,
}

impl Projector {
    /// # Errors
    /// If its files cannot be read.
    pub fn new(potential: &Potential) -> Result<Self, ProjectionError> {
        let (file, active_set) = potential.pace_files().ok_or(ProjectionError::Kind)?;
        Ok(Self { potential: pace_opt::Potential::read(&file, Some(&active_set))? })
    }

    /// The rows of the atoms of a periodic structure whose mask is above 0.
    ///
    /// # Errors
    /// If an element is unknown, or if atoms overlap.
    pub fn rows(&self, id: i64, structure: &Structure, mask: &[f64]) -> Result<Projected, ProjectionError> {
        let known = self.potential.elements();
        let element_of_type: Vec<i32> = structure
            .elements
            .iter()
            .map(|e| {
                known.iter().position(|k| k == e.symbol()).map(|i| i as i32).ok_or(ProjectionError::Element(e.symbol()))
            })
            .collect::<Result<_, _>>()?;
        let core: Vec<i32> = (0..structure.len()).filter(|&i| mask[i] > 0.0).map(|i| i as i32).collect();
        let (positions, types) = with_images(structure, self.potential.cutoff());
        let cutoff2 = self.potential.cutoff().powi(2);
        let lists: Vec<Vec<i32>> = core
            .iter()
            .map(|&i| {
                let a = positions[i as usize];
                let near = |b: &[f64; 3]| (0..3).map(|k| (a[k] - b[k]).powi(2)).sum::<f64>() <= cutoff2;
                (0..positions.len() as i32).filter(|&j| j != i && near(&positions[j as usize])).collect()
            })
            .collect();
        let n = positions.len();
        let (mut forces, mut grades, mut coefficients) = (vec![[0.0; 3]; n], vec![0.0; n], vec![Vec::new(); n]);
        let system = pace_opt::System {
            positions: &positions,
            types: &types,
            element_of_type: &element_of_type,
            scales: &[],
            atoms: &core,
            neighbours: |k: usize| &lists[k][..],
            mask: i32::MAX,
        };
        let mut output = pace_opt::Output {
            forces: &mut forces,
            grades: Some(&mut grades),
            coefficients: Some(&mut coefficients),
            ..pace_opt::Output::default()
        };
        pace_opt::Evaluator::new(Arc::clone(&self.potential)).evaluate(&system, &mut output)?;
        let rows = core.iter().map(|&i| {
            let i = i as usize;
            (element_of_type[types[i] as usize] as usize, std::mem::take(&mut coefficients[i]))
        });
        Ok(Projected { id, rows: rows.collect() })
    }
}

/// The atoms, then their periodic images as far as `reach` (Å) may need them; positions and types, from 0.
fn with_images(structure: &Structure, reach: f64) -> (Vec<[f64; 3]>, Vec<i32>) {
    let cell = &structure.cell;
    // Two atoms may lie at opposite ends of the cell, or outside of it.
    let wrapped: Vec<[f64; 3]> = (0..structure.len()).map(|i| cell.wrap(structure.position(i))).collect();
    let [a, b, c] = cell.image_range(reach);
    let (mut positions, mut types) = (wrapped.clone(), structure.types.iter().map(|t| t - 1).collect::<Vec<_>>());
    for i in -a..=a {
        for j in -b..=b {
            for k in -c..=c {
                if [i, j, k] == [0; 3] {
                    continue;
                }
                let shift = cell.combine([i, j, k].map(f64::from));
                for (at, x) in wrapped.iter().enumerate() {
                    positions.push([0, 1, 2].map(|m| x[m] + shift[m]));
                    types.push(types[at]);
                }
            }
        }
    }
    (positions, types)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: i64, rows: &[&[f64]]) -> Projected {
        Projected { id, rows: rows.iter().map(|r| (0, r.to_vec())).collect() }
    }

    #[test]
    fn the_worst_comes_first_and_what_it_spans_is_not_labelled() {
        let pool = vec![
            candidate(1, &[&[0.9, 0.1, 0.0]]),
            candidate(2, &[&[6.0, 0.0, 0.0]]),
            candidate(3, &[&[7.0, 0.1, 0.0]]),
            candidate(4, &[&[0.0, 0.2, -4.0]]),
        ];
        assert_eq!(select(pool.clone(), 10), [3, 4]);
        assert_eq!(select(pool, 1), [3]);
    }

    #[test]
    fn the_order_of_the_pool_does_not_matter() {
        let mut pool = vec![candidate(5, &[&[3.0, 1.0]]), candidate(2, &[&[3.0, 1.0]]), candidate(9, &[&[1.0, 2.5]])];
        let chosen = select(pool.clone(), 10);
        pool.reverse();
        assert_eq!(select(pool, 10), chosen);
        assert_eq!(chosen[0], 2, "of two alike the earlier one");
    }

    #[test]
    fn what_is_known_is_not_selected_and_what_is_broken_is() {
        assert!(select(vec![candidate(1, &[&[0.5, -1.0]])], 3).is_empty());
        assert_eq!(select(vec![candidate(1, &[&[f64::NAN, 0.0]]), candidate(2, &[&[8.0, 0.0]])], 3), [1, 2]);
    }

    #[test]
    fn exchanges_keep_rows_as_combinations_of_the_set() {
        let mut pool = vec![candidate(1, &[&[3.0, 1.0], &[0.5, 2.0]])];
        let best = largest(&pool, 0, |_| true).unwrap();
        exchange(&mut pool, &best);
        // The set is now (3, 1) and (0, 1): (0.5, 2) = (3, 1) / 6 + (0, 1) (2 - 1/6).
        assert_eq!(pool[0].rows[0].1, [1.0, 0.0]);
        let row = &pool[0].rows[1].1;
        assert!((row[0] - 1.0 / 6.0).abs() < 1e-15 && (row[1] - 11.0 / 6.0).abs() < 1e-15, "{row:?}");
    }
}
