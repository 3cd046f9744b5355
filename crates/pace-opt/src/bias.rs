// SPDX-License-Identifier: GPL-2.0-or-later
//! A bias towards atoms that the active set does not cover: U = −τ Σᵢ cᵢ S(sᵢ).
//!
//! - sᵢ is a smooth upper bound of the extrapolation grade γᵢ ([`smooth_maximum`]);
//! - S is zero up to an onset, then rises with slope one, and is constant above a limit: only the atoms that differ most from the
//!   active set are pushed, with a limited force, and those beyond the limit not further;
//! - cᵢ, between 0 and 1, removes the bias where atoms are close to each other or core repulsion acts.
//!
//! All three have two continuous derivatives with respect to positions, so that U is a potential energy like any other.
//! Biasing molecular dynamics by an uncertainty: van der Oord et al., npj Comput. Mater. 9, 168 (2023); Kulichenko et al.,
//! Nat. Comput. Sci. 3, 230 (2023).

use crate::model::radial::switch_off;

/// Components of g below this share of s do not contribute to s. Larger values make s closer to γ, but its gradient less smooth
/// where another component becomes the largest.
pub(crate) const SHARE: f64 = 0.85;

/// Exponent of ψ in [`smooth_maximum`]: it has three continuous derivatives.
const POWER: i32 = 4;

/// Width of the region in which the bias ends, as a fraction of the limit of γ.
const LIMIT_WIDTH: f64 = 0.2;

/// Width of the region in which the bias begins, as a fraction of the grade of its full force.
const ONSET_WIDTH: f64 = 0.2;

/// Width of the region in which the bias ends, as a fraction of the shortest distance.
const DISTANCE_WIDTH: f64 = 0.15;

/// Strength and limits of a bias.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bias {
    /// τ in eV: energy per unit of the extrapolation grade.
    pub strength: f64,
    /// Extrapolation grade from which an atom is pushed, with the full force from 1.25 of it on. With 0, all atoms are pushed, and a
    /// crystal is strained a little everywhere.
    pub onset: f64,
    /// Extrapolation grade from which an atom has no bias forces; they decrease from 0.8 of it on.
    pub limit: f64,
    /// Distance at which an atom has no bias, as a share of the sum of the covalent radii; the bias decreases from 1.15 of it
    /// on. Pairs of names that are not chemical elements have no such distance.
    pub shortest: f64,
}

impl Bias {
    /// S(s) and its derivative.
    pub(crate) fn value(&self, s: f64) -> (f64, f64) {
        let ((high, up), (low, down)) = (ramp(s, self.limit, LIMIT_WIDTH), ramp(s, self.end_of_onset(), ONSET_WIDTH));
        (high - low, up - down)
    }

    /// Grade from which the bias has its full force.
    fn end_of_onset(&self) -> f64 {
        self.onset / (1.0 - ONSET_WIDTH)
    }

    /// Whether the bias has its full force before it ends.
    pub(crate) fn has_range(&self) -> bool {
        self.end_of_onset() <= (1.0 - LIMIT_WIDTH) * self.limit
    }

    /// The factor of a pair at distance `r`, of which `sum` is the sum of the covalent radii, both in Å, and its derivative.
    pub(crate) fn distance_factor(&self, r: f64, sum: f64) -> (f64, f64) {
        let (lo, hi) = (self.shortest * sum, (1.0 + DISTANCE_WIDTH) * self.shortest * sum);
        let (f, d) = switch_off(r, hi, hi - lo);
        (1.0 - f, -d)
    }

    /// Distance in Å up to which [`distance_factor`](Self::distance_factor) is not one.
    pub(crate) fn distance_end(&self, sum: f64) -> f64 {
        (1.0 + DISTANCE_WIDTH) * self.shortest * sum
    }
}

/// A function that is `s` up to `edge` less `width` times `edge`, and constant from `edge` on, and its derivative, the switching
/// function.
fn ramp(s: f64, edge: f64, width: f64) -> (f64, f64) {
    let width = width * edge;
    let start = edge - width;
    if s <= start {
        return (s, 1.0);
    }
    if s >= edge {
        return (edge - 0.5 * width, 0.0);
    }
    // The integral of the switching function, with the same variable as there, from 1 on.
    let t = 1.0 - 2.0 * (s - start) / width;
    let primitive = |t: f64| {
        let t2 = t * t;
        0.5 * t + t2 * (0.46875 + t2 * (0.03125 * t2 - 0.15625))
    };
    (start + 0.5 * width * (primitive(1.0) - primitive(t)), switch_off(s, edge, width).0)
}

/// A smooth maximum s of |gₖ|: the solution of Σₖ ψ(|gₖ| / s) = 1 with ψ(x) = ((x − x₀) / (1 − x₀))⁴ above x₀ = [`SHARE`], and zero
/// below.
///
/// This is an Orlicz norm: s is homogeneous in g, max|gₖ| ≤ s < max|gₖ| / x₀, and components below x₀ s do not contribute at all.
/// A p-norm or a softmax depends on all components, of which a large active set has too many to compute in every step.
///
/// Replaces `g` by the derivatives of s with respect to its elements. Components of the atom that are not in `g` must be below
/// [`SHARE`] times the largest. `None` if the largest component is zero or not finite.
pub(crate) fn smooth_maximum(g: &mut [f64]) -> Option<f64> {
    let largest = g.iter().fold(0.0, |most: f64, g| if g.abs() > most || g.is_nan() { g.abs() } else { most });
    if !(largest > 0.0 && largest < f64::MAX) {
        return None;
    }
    let x = |g: f64, s: f64| ((g.abs() / s - SHARE) / (1.0 - SHARE)).max(0.0);
    // The sum is a decreasing convex function of s: Newton's method from the left converges without overshooting.
    let mut s = largest;
    for _ in 0..100 {
        let (mut sum, mut slope) = (-1.0, 0.0);
        for &g in &*g {
            let x = x(g, s);
            let cube = x.powi(POWER - 1);
            sum += cube * x;
            slope += f64::from(POWER) * cube * g.abs();
        }
        let step = sum * (1.0 - SHARE) * s * s / slope;
        s += step;
        if !(step > 1e-15 * s) {
            break;
        }
    }
    // 0 = Σ ψ'ₖ (sign(gₖ) dgₖ − |gₖ| ds / s).
    let mut total = 0.0;
    for g in g.iter_mut() {
        let weight = x(*g, s).powi(POWER - 1);
        total += weight * g.abs() / s;
        *g = weight.copysign(*g);
    }
    g.iter_mut().for_each(|w| *w /= total);
    Some(s)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(g: &[f64]) -> f64 {
        smooth_maximum(&mut g.to_vec()).unwrap()
    }

    #[test]
    fn the_maximum_is_smooth_and_close() {
        for g in [
            vec![2.0_f64],
            vec![-3.0, 0.1],
            vec![1.0, -0.9, 0.8, 0.2],
            vec![-1.0; 40],
            vec![1e-30, 0.8e-30],
            vec![1e9, 1e9],
        ] {
            let largest = g.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
            let mut slopes = g.clone();
            let s = smooth_maximum(&mut slopes).unwrap();
            assert!(largest * (1.0 - 1e-15) <= s && s < largest / SHARE, "{largest} {s}");
            // Homogeneous: Euler's theorem.
            let euler: f64 = slopes.iter().zip(&g).map(|(w, g)| w * g).sum();
            assert!((euler / s - 1.0).abs() < 1e-13, "{euler} {s}");
            for k in 0..g.len() {
                let h = 1e-4 * largest;
                let at = |d: f64| {
                    let mut moved = g.clone();
                    moved[k] += d * h;
                    value(&moved)
                };
                let numeric = (at(-2.0) - 8.0 * at(-1.0) + 8.0 * at(1.0) - at(2.0)) / (12.0 * h);
                assert!((numeric - slopes[k]).abs() < 1e-8, "{numeric} {}", slopes[k]);
            }
        }
        assert_eq!(value(&[2.0, 1.39]), 2.0, "small components do not contribute");
        for g in [vec![], vec![0.0], vec![f64::NAN, 1.0], vec![1.0, f64::NAN], vec![f64::INFINITY]] {
            assert_eq!(smooth_maximum(&mut g.clone()), None, "{g:?}");
        }
    }

    #[test]
    fn limits_are_smooth() {
        let bias = Bias { strength: 1.0, onset: 1.0, limit: 10.0, shortest: 0.65 };
        let h = 1e-6;
        for s in [0.0, 0.9, 1.0, 1.1, 1.2, 1.25, 7.9, 8.0, 8.3, 9.0, 9.9, 10.0, 50.0] {
            let numeric = (bias.value(s + h).0 - bias.value(s - h).0) / (2.0 * h);
            assert!((numeric - bias.value(s).1).abs() < 1e-8, "{s}");
        }
        assert_eq!((bias.value(0.5), bias.value(10.0).1, bias.value(99.0).1), ((0.0, 0.0), 0.0, 0.0));
        assert!((bias.value(5.0).0 - (5.0 - 1.125)).abs() < 1e-12 && bias.value(5.0).1 == 1.0);
        assert!((bias.value(1e9).0 - (9.0 - 1.125)).abs() < 1e-12);
        assert_eq!(Bias { onset: 0.0, ..bias }.value(5.0), (5.0, 1.0));
        assert!(bias.has_range() && !Bias { onset: 7.0, ..bias }.has_range());
        let h = 1e-6;
        for r in [1.4, 1.65, 1.7, 1.8, 1.9] {
            let numeric = (bias.distance_factor(r + h, 2.5).0 - bias.distance_factor(r - h, 2.5).0) / (2.0 * h);
            assert!((numeric - bias.distance_factor(r, 2.5).1).abs() < 1e-7, "{r}");
        }
        assert_eq!((bias.distance_factor(1.6, 2.5).0, bias.distance_factor(1.9, 2.5).0), (0.0, 1.0));
    }
}
