// SPDX-License-Identifier: GPL-2.0-or-later
//! Generalised Clebsch–Gordan coefficients of rotationally invariant functions.
//!
//! Angular momenta are coupled in pairs from the left, the results again in pairs, and so on to zero
//! (Drautz, Phys. Rev. B 99, 014104 (2019); Dusson et al., J. Comput. Phys. 454, 110946 (2022)).

use crate::error::{Error, Result};

/// Factorials up to 170!, the largest that fits into an `f64`.
fn factorial(n: i32) -> f64 {
    (2..=n).map(f64::from).product()
}

fn binomial(n: i32, k: i32) -> i128 {
    if k < 0 || k > n {
        return 0;
    }
    let k = k.min(n - k);
    let mut b: i128 = 1;
    for i in 0..k {
        b = b * i128::from(n - i) / i128::from(i + 1);
    }
    b
}

/// ⟨j1 m1 j2 m2 | j m⟩ in the Condon–Shortley convention (van der Waerden's sum).
///
/// The alternating sum is one of integers, so that a coefficient which is zero is exactly zero.
pub(crate) fn clebsch_gordan(j1: i32, m1: i32, j2: i32, m2: i32, j: i32, m: i32) -> f64 {
    if m1 + m2 != m || j < (j1 - j2).abs() || j > j1 + j2 || m1.abs() > j1 || m2.abs() > j2 || m.abs() > j {
        return 0.0;
    }
    let mut sum: i128 = 0;
    for z in 0..=(j1 + j2 - j) {
        let t = binomial(j1 + j2 - j, z) * binomial(j1 - j2 + j, j1 - m1 - z) * binomial(j2 - j1 + j, j2 + m2 - z);
        sum += if z % 2 == 0 { t } else { -t };
    }
    if sum == 0 {
        return 0.0;
    }
    let up = [j + m, j - m, j1 + m1, j1 - m1, j2 + m2, j2 - m2].map(factorial);
    let down = [j1 + j2 + j + 1, j + j1 - j2, j - j1 + j2, j1 + j2 - j].map(factorial);
    // In this order no partial product overflows.
    let ratio = f64::from(2 * j + 1)
        * (up[0] / down[0])
        * (up[1] / down[1])
        * (up[2] / down[2])
        * (up[3] / down[3])
        * up[4]
        * up[5];
    ratio.sqrt() * sum as f64
}

/// One step of the coupling: `left` and `right` are coupled to `result`. Indices below `rank` are neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    left: usize,
    right: usize,
    result: usize,
}

/// Pairs from the left, then pairs of the results, then the odd neighbour.
fn coupling_steps(rank: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut level: Vec<usize> = (0..rank).collect();
    let mut next = rank;
    // The odd neighbour is coupled last.
    let odd = if rank % 2 == 1 { level.pop() } else { None };
    let mut queue: std::collections::VecDeque<usize> = level.into();
    while queue.len() > 1 {
        let (Some(left), Some(right)) = (queue.pop_front(), queue.pop_front()) else { break };
        steps.push(Step { left, right, result: next });
        queue.push_back(next);
        next += 1;
    }
    if let (Some(left), Some(right)) = (queue.pop_front(), odd) {
        steps.push(Step { left, right, result: next });
    }
    steps
}

/// Terms of one invariant function.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coupled {
    /// Magnetic quantum numbers, `rank` per term, the first varying fastest.
    pub ms: Vec<i8>,
    /// Coefficient of each term.
    pub cg: Vec<f64>,
}

/// Couples `ls` through the intermediate momenta `lint` to zero.
///
/// Of each pair of terms that are complex conjugates only the one whose first non-zero m is positive is
/// listed, with twice the coefficient.
pub(crate) fn couple(ls: &[u8], lint: &[u8]) -> Result<Coupled> {
    let rank = ls.len();
    if rank == 0 {
        return Err(Error::bad("a basis function without neighbours"));
    }
    let expected = rank.saturating_sub(2);
    if lint.len() != expected {
        return Err(Error::bad(format!("`lint` has {} entries, {expected} are expected", lint.len())));
    }
    if ls.iter().map(|&l| u32::from(l)).sum::<u32>() % 2 != 0 {
        return Err(Error::bad(format!("the sum of nl = {ls:?} is odd")));
    }
    if rank == 1 {
        if ls[0] != 0 {
            return Err(Error::bad("a function of one neighbour requires nl = [0]"));
        }
        return Ok(Coupled { ms: vec![0], cg: vec![1.0] });
    }
    if rank == 2 && ls[0] != ls[1] {
        return Err(Error::bad(format!("nl = {ls:?} must be equal for two neighbours")));
    }
    let steps = coupling_steps(rank);
    // All momenta: neighbours, intermediates, and the final zero.
    let mut all: Vec<i32> = ls.iter().chain(lint).map(|&l| i32::from(l)).collect();
    all.push(0);
    let mut out = Coupled::default();
    let mut m = vec![0i32; all.len()];
    let mut current: Vec<i32> = ls.iter().map(|&l| -i32::from(l)).collect();
    loop {
        let sign = current.iter().find(|&&v| v != 0).map_or(0, |v| v.signum());
        if current.iter().sum::<i32>() == 0 && sign >= 0 {
            m[..rank].copy_from_slice(&current);
            let mut c = 1.0;
            for s in &steps {
                m[s.result] = m[s.left] + m[s.right];
                if m[s.result].abs() > all[s.result] {
                    c = 0.0;
                    break;
                }
                c *= clebsch_gordan(all[s.left], m[s.left], all[s.right], m[s.right], all[s.result], m[s.result]);
                if c == 0.0 {
                    break;
                }
            }
            if c != 0.0 {
                out.ms.extend(current.iter().map(|&v| v as i8));
                out.cg.push(if sign > 0 { 2.0 * c } else { c });
            }
        }
        // Next combination, the first index fastest.
        let mut t = 0;
        while t < rank {
            if current[t] < i32::from(ls[t]) {
                current[t] += 1;
                break;
            }
            current[t] = -i32::from(ls[t]);
            t += 1;
        }
        if t == rank {
            return Ok(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coefficients_are_orthonormal() {
        for (j1, j2) in [(1, 1), (2, 1), (3, 2), (4, 4), (6, 5)] {
            for m in -(j1 + j2)..=(j1 + j2) {
                for ja in i32::abs(j1 - j2)..=(j1 + j2) {
                    for jb in i32::abs(j1 - j2)..=(j1 + j2) {
                        if m.abs() > ja.min(jb) {
                            continue;
                        }
                        let s: f64 = (-j1..=j1)
                            .map(|m1| {
                                clebsch_gordan(j1, m1, j2, m - m1, ja, m) * clebsch_gordan(j1, m1, j2, m - m1, jb, m)
                            })
                            .sum();
                        let want = if ja == jb { 1.0 } else { 0.0 };
                        assert!((s - want).abs() < 1e-13, "{j1} {j2} {ja} {jb} {m}: {s}");
                    }
                }
            }
        }
    }

    #[test]
    fn known_values() {
        assert!((clebsch_gordan(1, 1, 1, -1, 0, 0) - 1.0 / 3.0f64.sqrt()).abs() < 1e-15);
        assert!((clebsch_gordan(1, 0, 1, 0, 0, 0) + 1.0 / 3.0f64.sqrt()).abs() < 1e-15);
        assert_eq!(clebsch_gordan(1, 0, 1, 0, 1, 0), 0.0);
    }

    #[test]
    fn steps_pair_from_the_left() {
        let s = |left, right, result| Step { left, right, result };
        assert_eq!(coupling_steps(2), [s(0, 1, 2)]);
        assert_eq!(coupling_steps(3), [s(0, 1, 3), s(3, 2, 4)]);
        assert_eq!(coupling_steps(4), [s(0, 1, 4), s(2, 3, 5), s(4, 5, 6)]);
        assert_eq!(coupling_steps(5), [s(0, 1, 5), s(2, 3, 6), s(5, 6, 7), s(7, 4, 8)]);
        assert_eq!(coupling_steps(6), [s(0, 1, 6), s(2, 3, 7), s(4, 5, 8), s(6, 7, 9), s(8, 9, 10)]);
    }
}
