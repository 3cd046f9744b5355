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
