// SPDX-License-Identifier: GPL-2.0-or-later
//! Recovers radial basis functions from the radial functions, which are linear combinations of them.

/// Largest accepted product of the norms of the matrix and its inverse. The grade amplifies rounding errors up to 10⁶ times.
const MAX_CONDITION: f64 = 1e3;

/// A left inverse `[k][c]` of the matrix `weights[c][k]`, for which g_k = Σ_c inverse\[k\]\[c\] R_c if R_c = Σ_k weights\[c\]\[k\] g_k;
/// `None` if there is none or it is inaccurate.
///
/// By QR decomposition with the Gram–Schmidt method, applied twice so that Q is orthogonal to machine precision.
pub(super) fn left_inverse(weights: &[Vec<f64>], columns: usize) -> Option<Vec<f64>> {
    let rows = weights.len();
    if rows < columns || columns == 0 {
        return None;
    }
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut q: Vec<Vec<f64>> = (0..columns).map(|k| weights.iter().map(|w| w[k]).collect()).collect();
    let mut r = vec![0.0; columns * columns];
    for k in 0..columns {
        let (before, rest) = q.split_at_mut(k);
        let v = &mut rest[0];
        for _ in 0..2 {
            for (i, u) in before.iter().enumerate() {
                let share = dot(u, v);
                r[i * columns + k] += share;
                v.iter_mut().zip(u).for_each(|(v, u)| *v -= share * u);
            }
        }
        let length = dot(v, v).sqrt();
        // Also true for NaN.
        if !(length > 0.0) {
            return None;
        }
        r[k * columns + k] = length;
        v.iter_mut().for_each(|v| *v /= length);
    }
    // R X = Qᵀ, from the last row on.
    let mut inverse = vec![0.0; columns * rows];
    for k in (0..columns).rev() {
        for c in 0..rows {
            let known: f64 = (k + 1..columns).map(|j| r[k * columns + j] * inverse[j * rows + c]).sum();
            inverse[k * rows + c] = (q[k][c] - known) / r[k * columns + k];
        }
    }
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let product = norm(&mut weights.iter().flatten().copied()) * norm(&mut inverse.iter().copied());
    (product < MAX_CONDITION).then_some(inverse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_an_inverse_if_there_is_one() {
        let weights: Vec<Vec<f64>> =
            (0..7).map(|c| (0..4).map(|k| (f64::from(c * 5 + k * 3 + 1).powi(2) * 0.7).sin()).collect()).collect();
        let inverse = left_inverse(&weights, 4).unwrap();
        for k in 0..4 {
            for j in 0..4 {
                let sum: f64 = (0..7).map(|c| inverse[k * 7 + c] * weights[c][j]).sum();
                assert!((sum - f64::from(u8::from(k == j))).abs() < 1e-13, "{k} {j} {sum}");
            }
        }
        assert!(left_inverse(&weights[..3], 4).is_none(), "fewer equations than functions");
        let mut same = weights.clone();
        same.iter_mut().for_each(|w| w[3] = w[1] + 1e-4 * w[2]);
        assert!(left_inverse(&same, 4).is_none(), "two functions are almost equal");
        same.iter_mut().for_each(|w| w[3] = 0.0);
        assert!(left_inverse(&same, 4).is_none());
    }
}
