// SPDX-License-Identifier: GPL-2.0-or-later
//! Embedding functions: the energy as a function of the densities.

use super::MAX_DENSITIES;

/// Form of the embedding function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmbeddingKind {
    /// `sign(x) |x|^m`, linear below |x| = 1e-6.
    FinnisSinclair,
    /// `sign(x) ((|x| + a e^-|x|)^m - b e^-|x|)`, smooth at zero with slope one.
    FinnisSinclairShiftedScaled,
}

/// Embedding of one element.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// Form of the function.
    pub kind: EmbeddingKind,
    /// Number of densities.
    pub ndensity: usize,
    /// Prefactor and exponent of each density, alternating.
    pub parameters: Vec<f64>,
    /// Core repulsion at which the many-body energy is zero.
    pub rho_cut: f64,
    /// Width of the switching region below it.
    pub drho_cut: f64,
}

impl Embedding {
    pub(crate) fn parse_kind(name: &str) -> crate::Result<EmbeddingKind> {
        match name {
            "FinnisSinclair" => Ok(EmbeddingKind::FinnisSinclair),
            "FinnisSinclairShiftedScaled" => Ok(EmbeddingKind::FinnisSinclairShiftedScaled),
            other => Err(crate::Error::bad(format!(
                "embedding `{other}` is neither FinnisSinclair nor FinnisSinclairShiftedScaled"
            ))),
        }
    }

    pub(crate) fn validate(&self) -> Result<(), String> {
        if self.ndensity == 0 || self.ndensity > MAX_DENSITIES {
            return Err(format!("ndensity = {}, 1 to {MAX_DENSITIES} are possible", self.ndensity));
        }
        if self.parameters.len() != 2 * self.ndensity {
            return Err(format!("{} parameters for {} densities", self.parameters.len(), self.ndensity));
        }
        if self.parameters.iter().any(|p| !p.is_finite()) || !self.rho_cut.is_finite() || !self.drho_cut.is_finite() {
            return Err("a parameter is not finite".into());
        }
        Ok(())
    }

    /// Energy in eV; the derivatives with respect to the densities are written to `slope`.
    pub(crate) fn evaluate(&self, rho: &[f64], slope: &mut [f64]) -> f64 {
        let mut energy = 0.0;
        for (p, (&x, d)) in rho.iter().zip(slope.iter_mut()).enumerate() {
            let (w, m) = (self.parameters[2 * p], self.parameters[2 * p + 1]);
            let (f, df) = match self.kind {
                EmbeddingKind::FinnisSinclair => finnis_sinclair(x, m),
                EmbeddingKind::FinnisSinclairShiftedScaled => shifted_scaled(x, m),
            };
            energy += w * f;
            *d = w * df;
        }
        energy
    }
}

impl Embedding {
    /// Second derivatives of the energy with respect to the densities; the mixed ones are zero.
    pub(crate) fn curvature(&self, rho: &[f64], curvature: &mut [f64]) {
        for (p, (&x, d)) in rho.iter().zip(curvature.iter_mut()).enumerate() {
            let (w, m) = (self.parameters[2 * p], self.parameters[2 * p + 1]);
            *d = w * match self.kind {
                EmbeddingKind::FinnisSinclair => finnis_sinclair_curvature(x, m),
                EmbeddingKind::FinnisSinclairShiftedScaled => shifted_scaled_curvature(x, m),
            };
        }
    }
}

/// The power in [`finnis_sinclair`] is blended into a linear function around |x| = 1/STEEP.
const STEEP: f64 = 1e6;

fn finnis_sinclair(x: f64, m: f64) -> (f64, f64) {
    if m == 1.0 {
        return (x, 1.0);
    }
    let slope0 = STEEP.recip().powf(m - 1.0);
    let a = x.abs();
    if a <= 1e-10 {
        return (slope0 * x, slope0);
    }
    let t = (STEEP * a).powi(3);
    let g = if t > 30.0 { 0.0 } else { (-t).exp() };
    let power = a.powf(m);
    let f = (1.0 - g) * power + slope0 * g * a;
    let dg = -3.0 * STEEP.powi(3) * a * a * g;
    let df = m * a.powf(m - 1.0) * (1.0 - g) - power * dg + slope0 * (dg * a + g);
    (f.copysign(x), df)
}

fn shifted_scaled(x: f64, m: f64) -> (f64, f64) {
    if (m - 1.0).abs() < 1e-10 {
        return (x, 1.0);
    }
    let a = x.abs();
    let decay = (-a).exp();
    let n = 1.0 / m;
    let shift = n.powf(n / (1.0 - n)) * decay;
    let offset = n.powf(1.0 / (1.0 - n)) * decay;
    let base = shift + a;
    let f = base.powf(m) - offset;
    let df = offset + m * (1.0 - shift) * base.powf(m - 1.0);
    (f.copysign(x) * f.signum(), df)
}

/// Second derivative of [`finnis_sinclair`].
fn finnis_sinclair_curvature(x: f64, m: f64) -> f64 {
    let a = x.abs();
    if m == 1.0 || a <= 1e-10 {
        return 0.0;
    }
    let slope0 = STEEP.recip().powf(m - 1.0);
    let t = (STEEP * a).powi(3);
    let g = if t > 30.0 { 0.0 } else { (-t).exp() };
    let cube = STEEP.powi(3);
    let dg = -3.0 * cube * a * a * g;
    let d2g = -6.0 * cube * a * g - 3.0 * cube * a * a * dg;
    let (power, slope) = (a.powf(m), m * a.powf(m - 1.0));
    let curvature = m * (m - 1.0) * a.powf(m - 2.0);
    let f = (1.0 - g) * curvature - 2.0 * dg * slope - d2g * power + slope0 * (d2g * a + 2.0 * dg);
    f.copysign(x) * f.signum()
}

/// Second derivative of [`shifted_scaled`].
fn shifted_scaled_curvature(x: f64, m: f64) -> f64 {
    if (m - 1.0).abs() < 1e-10 {
        return 0.0;
    }
    let a = x.abs();
    let decay = (-a).exp();
    let n = 1.0 / m;
    let shift = n.powf(n / (1.0 - n)) * decay;
    let offset = n.powf(1.0 / (1.0 - n)) * decay;
    let base = shift + a;
    let f = m * shift * base.powf(m - 1.0) + m * (m - 1.0) * (1.0 - shift).powi(2) * base.powf(m - 2.0) - offset;
    f.copysign(x) * f.signum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curvatures_are_second_derivatives() {
        type Function = (fn(f64, f64) -> (f64, f64), fn(f64, f64) -> f64);
        let both: [Function; 2] =
            [(finnis_sinclair, finnis_sinclair_curvature), (shifted_scaled, shifted_scaled_curvature)];
        for m in [0.5, 1.0, 1.7, 2.0, 3.0] {
            for x in [-7.0, -0.3, 1.3e-6, -0.7e-6, 0.02, 0.9, 4.0] {
                for (f, curvature) in both {
                    let h = 1e-4 * f64::abs(x);
                    let numeric = (f(x + h, m).1 - f(x - h, m).1) / (2.0 * h);
                    let exact = curvature(x, m);
                    // Terms of the blended function cancel.
                    let scale = numeric.abs().max(1e-3 * f(x, m).1.abs() / f64::abs(x));
                    assert!((numeric - exact).abs() < 1e-6 * (1.0 + scale), "m {m} x {x}: {numeric} {exact}");
                }
            }
        }
    }

    #[test]
    fn slopes_are_derivatives() {
        for m in [0.5, 1.0, 1.7, 2.0, 3.0] {
            for x in [-7.0, -0.3, 0.02, 0.9, 4.0] {
                for f in [finnis_sinclair, shifted_scaled] {
                    let h = 1e-6;
                    let numeric = (f(x + h, m).0 - f(x - h, m).0) / (2.0 * h);
                    assert!((numeric - f(x, m).1).abs() < 1e-7 * (1.0 + numeric.abs()), "m {m} x {x}");
                }
            }
        }
    }

    #[test]
    fn both_are_odd() {
        for f in [finnis_sinclair, shifted_scaled] {
            assert!((f(0.4, 0.5).0 + f(-0.4, 0.5).0).abs() < 1e-15);
        }
    }
}
