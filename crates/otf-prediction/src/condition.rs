// SPDX-License-Identifier: GPL-2.0-or-later
//! Condition numbers of active sets.

/// The condition number ‖M‖₁ ‖M⁻¹‖₁ of a square matrix with `n` rows, in row-major order. It bounds the factor by which rounding
/// errors grow in γ. Values above 1e16 are lower bounds; infinite for a singular matrix.
///
/// ‖M⁻¹‖₁ is estimated from the LU factors (Hager, SIAM J. Sci. Stat. Comput. 5, 311 (1984)), usually exactly and rarely too small by
/// more than a factor of 3. The cost is that of the factors, 2 n³/3.
///
/// # Panics
/// If `matrix` does not have n² numbers.
#[must_use]
pub fn condition_number(matrix: &[f64], n: usize) -> f64 {
    assert_eq!(matrix.len(), n * n, "the matrix is not square");
    let column = |k: usize| (0..n).map(|i| matrix[i * n + k].abs()).sum::<f64>();
    let norm = (0..n).map(column).fold(0.0, f64::max);
    let Some(factors) = Factors::new(matrix.to_vec(), n) else { return f64::INFINITY };
    let mut x = vec![1.0 / n as f64; n];
    let mut estimate = 0.0;
    for _ in 0..5 {
        let y = factors.solve(x);
        estimate = y.iter().map(|v| v.abs()).sum::<f64>().max(estimate);
        let z = factors.solve_transposed(y.iter().map(|v| v.signum()).collect());
        let Some(k) = (0..n).max_by(|&a, &b| z[a].abs().total_cmp(&z[b].abs())) else { break };
        // Hager's test for a local maximum: the gradient at a unit vector is z.
        let mut next = vec![0.0; n];
        next[k] = 1.0;
        let ahead = factors.solve(next.clone()).iter().map(|v| v.abs()).sum::<f64>();
        if ahead <= estimate {
            break;
        }
        (estimate, x) = (ahead, next);
    }
    norm * estimate
}

/// LU factors with partial pivoting: P M = L U.
struct Factors {
    n: usize,
    lu: Vec<f64>,
    /// Row of M in each row of L U.
    rows: Vec<usize>,
}

impl Factors {
    /// `None` for a singular matrix.
    fn new(mut lu: Vec<f64>, n: usize) -> Option<Self> {
        let mut rows: Vec<usize> = (0..n).collect();
        for k in 0..n {
            let pivot = (k..n).max_by(|&a, &b| lu[a * n + k].abs().total_cmp(&lu[b * n + k].abs()))?;
            if lu[pivot * n + k] == 0.0 {
                return None;
            }
            if pivot != k {
                rows.swap(k, pivot);
                (0..n).for_each(|j| lu.swap(k * n + j, pivot * n + j));
            }
            let (above, below) = lu.split_at_mut((k + 1) * n);
            let top = &above[k * n..];
            for row in below.chunks_exact_mut(n) {
                let factor = row[k] / top[k];
                row[k] = factor;
                row[k + 1..].iter_mut().zip(&top[k + 1..]).for_each(|(x, t)| *x -= factor * t);
            }
        }
        Some(Self { n, lu, rows })
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.lu[i * self.n..(i + 1) * self.n]
    }

    /// Solves M x = b.
    fn solve(&self, b: Vec<f64>) -> Vec<f64> {
        let mut x: Vec<f64> = self.rows.iter().map(|&i| b[i]).collect();
        for i in 0..self.n {
            x[i] -= self.row(i)[..i].iter().zip(&x).map(|(l, x)| l * x).sum::<f64>();
        }
        for i in (0..self.n).rev() {
            let rest: f64 = self.row(i)[i + 1..].iter().zip(&x[i + 1..]).map(|(u, x)| u * x).sum();
            x[i] = (x[i] - rest) / self.row(i)[i];
        }
        x
    }

    /// Solves Mᵀ x = b.
    fn solve_transposed(&self, mut b: Vec<f64>) -> Vec<f64> {
        for i in 0..self.n {
            b[i] /= self.row(i)[i];
            let value = b[i];
            b[i + 1..].iter_mut().zip(&self.row(i)[i + 1..]).for_each(|(b, u)| *b -= value * u);
        }
        for i in (0..self.n).rev() {
            let value = b[i];
            b[..i].iter_mut().zip(self.row(i)).for_each(|(b, l)| *b -= value * l);
        }
        let mut x = vec![0.0; self.n];
        self.rows.iter().zip(b).for_each(|(&row, value)| x[row] = value);
        x
    }
}

#[cfg(test)]
mod tests {
    use super::condition_number;

    #[test]
    fn condition_numbers_of_hilbert_matrices() {
        // N. J. Higham, Accuracy and Stability of Numerical Algorithms (2002), table 28.1: κ₁ of the Hilbert matrices is 748 for
        // n = 3, 2.8375e4 for n = 4, and 9.4366e5 for n = 5.
        for (n, expected) in [(3, 748.0), (4, 28375.0), (5, 943_656.0)] {
            let hilbert: Vec<f64> = (0..n * n).map(|k| 1.0 / (k / n + k % n + 1) as f64).collect();
            let found = condition_number(&hilbert, n);
            assert!((found - expected).abs() < 1e-3 * expected, "{n}: {found}");
        }
    }

    #[test]
    fn rows_may_be_in_any_order_and_singular_matrices_are_infinite() {
        assert_eq!(condition_number(&[0.0, 2.0, 1.0, 0.0], 2), 2.0);
        assert_eq!(condition_number(&[1.0, 2.0, 2.0, 4.0], 2), f64::INFINITY);
        assert_eq!(condition_number(&[4.0], 1), 1.0);
    }
}
