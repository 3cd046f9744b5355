// SPDX-License-Identifier: GPL-2.0-or-later
//! The extrapolation grade: how far an atom's projections lie outside the active set.
//!
//! γ is the largest absolute component of `p · A⁻¹`, with `p` the projections of the atom and `A` the active
//! set (Lysogorskiy et al., Phys. Rev. Materials 7, 043801 (2023)).

use crate::format::ActiveSet;
use crate::simd::{OCT, Oct};

/// Inverted active sets, ready for use.
#[derive(Debug)]
pub(crate) struct Grade {
    /// Whether the vectors are projections alone, or times the slopes of the densities.
    pub linear: bool,
    /// Per element, in panels of eight rows of the active set: `[panel][component]`, one oct each.
    pub panels: Vec<Vec<Oct>>,
    /// Per element, length of the vectors and number of rows.
    pub size: Vec<usize>,
}

impl Grade {
    pub(crate) fn new(set: &ActiveSet) -> Self {
        let panels = set.inverse.iter().zip(&set.size).map(|(m, &n)| pack(m, n)).collect();
        Grade { linear: set.linear, panels, size: set.size.clone() }
    }
}

impl Grade {
    /// `p · A⁻¹`, one number for each row of the active set, where `projection(k)` is the k-th component of `p`.
    pub(crate) fn coefficients(&self, element: usize, projection: impl Fn(usize) -> f64) -> Vec<f64> {
        let n = self.size[element];
        let mut found = vec![0.0; n];
        for (panel, rows) in self.panels[element].chunks_exact(n.max(1)).zip(found.chunks_mut(OCT)) {
            for (k, column) in panel.iter().enumerate() {
                let p = projection(k);
                rows.iter_mut().zip(&column.0).for_each(|(sum, inverse)| *sum += p * inverse);
            }
        }
        found
    }
}

/// A matrix `[component][row]` in panels of eight rows; missing rows are zero.
fn pack(matrix: &[f64], n: usize) -> Vec<Oct> {
    let mut out = vec![Oct::default(); n * n.div_ceil(OCT)];
    for (k, row) in matrix.chunks_exact(n.max(1)).enumerate() {
        for (r, v) in row.iter().enumerate() {
            out[r / OCT * n + k].0[r % OCT] = *v;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_keeps_every_element() {
        let n = 11;
        let m: Vec<f64> = (0..n * n).map(|k| k as f64).collect();
        let p = pack(&m, n);
        for k in 0..n {
            for r in 0..n {
                assert_eq!(p[r / OCT * n + k].0[r % OCT], m[k * n + r]);
            }
        }
    }
}
