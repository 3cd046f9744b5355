//! The extrapolation grade: how far an atom's projections lie outside the active set.
//!
//! γ is the largest absolute component of `p · A⁻¹`, with `p` the projections of the atom and `A` the active
//! set (Lysogorskiy et al., Phys. Rev. Materials 7, 043801 (2023)).

use crate::format::ActiveSet;

/// Inverted active sets, ready for use.
#[derive(Debug)]
pub(crate) struct Grade {
    /// Whether the vectors are projections alone, or times the slopes of the densities.
    pub linear: bool,
    /// Per element, `[row of the active set][function]`.
    rows: Vec<Vec<f64>>,
    size: Vec<usize>,
}

impl Grade {
    pub(crate) fn new(set: &ActiveSet) -> Self {
        let rows = set
            .inverse
            .iter()
            .zip(&set.size)
            .map(|(m, &n)| (0..n * n).map(|k| m[(k % n) * n + k / n]).collect())
            .collect();
        Grade { linear: set.linear, rows, size: set.size.clone() }
    }

    /// Length of the vectors of an element.
    pub(crate) fn len(&self, element: usize) -> usize {
        self.size[element]
    }

    /// The grade of one vector.
    pub(crate) fn of(&self, element: usize, vector: &[f64]) -> f64 {
        let n = self.size[element];
        self.rows[element]
            .chunks_exact(n.max(1))
            .map(|row| row.iter().zip(vector).map(|(a, b)| a * b).sum::<f64>().abs())
            .fold(0.0, f64::max)
    }
}
