// SPDX-License-Identifier: GPL-2.0-or-later
//! The extrapolation grade: how far an atom's projections lie outside the active set.
//!
//! γ is the largest absolute component of `g = p · A⁻¹`, with `p` the projections of the atom and `A` the active
//! set (Lysogorskiy et al., Phys. Rev. Materials 7, 043801 (2023)). [`Grader`] collects the projections of many atoms and
//! multiplies them together; where the active set is large, it computes only those components that can be the largest
//! ([`screen`]).

mod matrix;
mod screen;

pub(crate) use matrix::Matrix;

use crate::format::ActiveSet;
use crate::kernel::{GradeJob, Kernels};
use crate::simd::{OCT, Oct};
use screen::{Learning, Sketch};

/// Inverted active sets, ready for use.
#[derive(Debug)]
pub(crate) struct Grade {
    /// Whether the vectors are projections alone, or times the slopes of the densities.
    pub linear: bool,
    /// Per element, length of the vectors and number of rows.
    pub size: Vec<usize>,
    /// Per element, the row of the inverse that gives each component of g.
    inverse: Vec<Matrix>,
    /// Per element whose active set is large.
    sketch: Vec<Option<Sketch>>,
}

impl Grade {
    pub(crate) fn new(set: &ActiveSet) -> Self {
        let sets = || set.inverse.iter().zip(&set.size);
        let inverse: Vec<Matrix> = sets().map(|(m, &n)| Matrix::from_fn(n, n, |row, k| m[k * n + row])).collect();
        let sketch = inverse.iter().map(|m| (m.rows() >= screen::SMALLEST).then(|| Sketch::new(m))).collect();
        Grade { linear: set.linear, size: set.size.clone(), inverse, sketch }
    }

    /// `p · A⁻¹`, one number for each row of the active set, where `projection(k)` is the k-th component of `p`.
    pub(crate) fn coefficients(&self, element: usize, projection: impl Fn(usize) -> f64) -> Vec<f64> {
        let inverse = &self.inverse[element];
        let p: Vec<f64> = (0..inverse.columns()).map(projection).collect();
        (0..inverse.rows()).map(|r| inverse.row(r).iter().zip(&p).map(|(a, p)| a * p).sum()).collect()
    }
}

/// Batches that are multiplied together: enough to read the active set rarely, few enough for the cache.
pub(crate) const BATCHES: usize = 12;

/// Grades of atoms, many at a time. One per evaluator.
#[derive(Debug, Default)]
pub(crate) struct Grader {
    /// Vectors of the atoms that wait, `[batch][component]`.
    vectors: Vec<Oct>,
    /// Those atoms; missing ones where a batch is not full.
    atoms: Vec<[Option<usize>; OCT]>,
    /// Per element.
    elements: Vec<Learning>,
    rows: Vec<u32>,
    most: Vec<Oct>,
    values: Vec<Oct>,
    scratch: screen::Scratch,
}

impl Grader {
    /// Forgets what waits, and expects so many atoms of each element.
    pub(crate) fn begin(&mut self, expected: impl Iterator<Item = usize>) {
        self.vectors.clear();
        self.atoms.clear();
        for (e, atoms) in expected.enumerate() {
            if self.elements.len() <= e {
                self.elements.push(Learning::default());
            }
            self.elements[e].begin(atoms);
        }
    }

    /// Room for the vectors of another batch of eight atoms, of `length` components.
    pub(crate) fn batch(&mut self, length: usize, atoms: [Option<usize>; OCT]) -> &mut [Oct] {
        self.atoms.push(atoms);
        let start = self.vectors.len();
        self.vectors.resize(start + length, Oct::default());
        &mut self.vectors[start..]
    }

    pub(crate) fn is_full(&self) -> bool {
        self.atoms.len() >= BATCHES
    }

    /// Grades of the atoms that wait, all of one element.
    pub(crate) fn flush(&mut self, kernels: &Kernels, grade: &Grade, element: usize, grades: &mut [f64]) {
        if self.atoms.is_empty() {
            return;
        }
        let inverse = &grade.inverse[element];
        let length = self.vectors.len() / self.atoms.len();
        let mut whole: Vec<u32> = (0..self.atoms.len() as u32).collect();
        self.most.clear();
        self.most.resize(whole.len(), Oct::default());
        let learning = &mut self.elements[element];
        if let Some(screen) = &learning.screen {
            whole = screen.grade(kernels, inverse, &self.vectors, length, &mut self.most, &mut self.scratch);
        }
        let collecting = grade.sketch[element].is_some() && learning.is_collecting();
        if collecting && whole.is_empty() {
            // Also those that are known have to be in the sample.
            whole.push(0);
        }
        let rows = inverse.listed(&mut self.rows);
        self.values.resize(if collecting { rows.len() * whole.len() } else { 0 }, Oct::default());
        let mut most = vec![Oct::default(); whole.len()];
        kernels.grade(GradeJob {
            matrix: inverse,
            rows,
            vectors: &self.vectors,
            length,
            step: 1,
            batches: &whole,
            most: &mut most,
            values: &mut self.values,
        });
        whole.iter().zip(&most).for_each(|(&b, most)| self.most[b as usize] = *most);
        if let Some(sketch) = &grade.sketch[element] {
            for (&b, g) in whole.iter().zip(self.values.chunks_exact(rows.len())) {
                // A batch that is not full holds what an earlier one left.
                if self.atoms[b as usize].iter().all(Option::is_some) {
                    learning.offer(&g[..inverse.rows()]);
                }
            }
            learning.note(self.atoms.len(), whole.len());
            learning.learn(kernels, inverse, sketch);
        }
        for (atoms, most) in self.atoms.iter().zip(&self.most) {
            for (atom, most) in atoms.iter().zip(&most.0) {
                if let Some(i) = atom {
                    grades[*i] = *most;
                }
            }
        }
        self.vectors.clear();
        self.atoms.clear();
    }
}
