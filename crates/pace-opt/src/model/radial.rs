// SPDX-License-Identifier: GPL-2.0-or-later
//! Radial functions, inner and outer cutoffs, pair repulsion.
//!
//! Bases: Drautz, Phys. Rev. B 99, 014104 (2019), eq. 24 ff.; Bochkarev et al., Phys. Rev. Materials 6,
//! 013804 (2022); simplified Bessel functions: Kocer et al., J. Chem. Phys. 150, 154102 (2019).

use super::{InnerCutoff, MAX_BINS, MAX_L, MAX_N};
use crate::error::{Error, Result, limit};
use std::f64::consts::PI;

/// Kind of radial basis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RadialBasis {
    /// Chebyshev polynomials of an exponentially scaled distance under a cosine.
    ChebExpCos,
    /// Chebyshev polynomials of a power of the distance to the cutoff.
    ChebPow,
    /// Chebyshev polynomials of the distance to the cutoff.
    ChebLinear,
    /// Simplified spherical Bessel functions.
    SBessel,
    /// Orthogonal polynomials of a transformed distance, as ACE.jl (ACE1pack) exports them: [`Bond::polynomials`].
    AceJl,
}

impl RadialBasis {
    pub(crate) fn parse(name: &str) -> Result<Self> {
        match name {
            "ChebExpCos" => Ok(Self::ChebExpCos),
            "ChebPow" => Ok(Self::ChebPow),
            "ChebLinear" => Ok(Self::ChebLinear),
            "SBessel" | "TEST_SBessel" => Ok(Self::SBessel),
            // For tests of ML-PACE.
            other if other.starts_with("TEST_") => Err(Error::Unsupported(format!("radial basis `{other}`"))),
            other => Err(Error::bad(format!("radial basis `{other}` is not known"))),
        }
    }
}

/// Polynomials in x = ((1 + r₀) / (1 + r))^p by a recursion of three terms,
/// P₀ = A₀ (x - x_l)^pl (x - x_r)^pr, P_n = (A_n x + B_n) P_{n-1} + C_n P_{n-2} (Dusson et al., J. Comput. Phys. 454, 110946
/// (2022)).
#[derive(Clone, Debug)]
pub struct Polynomials {
    /// Exponent of the transformation.
    pub p: i32,
    /// Length scale of the transformation in Å.
    pub r0: f64,
    /// x at the cutoff, beyond which the polynomials are zero if `pl` is positive.
    pub xl: f64,
    /// x at the inner cutoff; at smaller r the polynomials are zero if `pr` is positive.
    pub xr: f64,
    /// Exponent at the cutoff.
    pub pl: i32,
    /// Exponent at the inner cutoff.
    pub pr: i32,
    /// A, B and C of each polynomial.
    pub recursion: Vec<[f64; 3]>,
}

impl Polynomials {
    /// Values and derivatives at `r` of the first `g.len()` polynomials.
    fn evaluate(&self, r: f64, g: &mut [f64], dg: &mut [f64]) {
        let q = (1.0 + self.r0) / (1.0 + r);
        let x = q.powi(self.p);
        let dx = -f64::from(self.p) * x / (1.0 + r);
        if (x < self.xl && self.pl > 0) || (x > self.xr && self.pr > 0) {
            return;
        }
        let power = |x: f64, n: i32| (x.powi(n), if n == 0 { 0.0 } else { f64::from(n) * x.powi(n - 1) });
        let ((a, da), (b, db)) = (power(x - self.xl, self.pl), power(x - self.xr, self.pr));
        // P and dP/dx of the two previous polynomials.
        let (mut one, mut two) = ((0.0, 0.0), (0.0, 0.0));
        for (n, (&[ca, cb, cc], (g, dg))) in self.recursion.iter().zip(g.iter_mut().zip(dg)).enumerate() {
            let (v, d) = if n == 0 {
                (ca * a * b, ca * (da * b + a * db))
            } else {
                let t = ca * x + cb;
                (t * one.0 + cc * two.0, ca * one.0 + t * one.1 + cc * two.1)
            };
            (*g, *dg) = (v, d * dx);
            (two, one) = (one, (v, d));
        }
    }
}

/// A pair potential of ACE.jl, shared by the two atoms: polynomials, and within `ri` e₀ + B exp(-A (r / ri - 1)) ri / r.
#[derive(Clone, Debug)]
pub struct PairPotential {
    /// The polynomials.
    pub polynomials: Polynomials,
    /// Their coefficients in eV.
    pub coefficients: Vec<f64>,
    /// Distance below which the repulsion acts, in Å; 0 for none.
    pub ri: f64,
    /// e₀ of the repulsion in eV.
    pub e0: f64,
    /// A of the repulsion.
    pub a: f64,
    /// B of the repulsion in eV.
    pub b: f64,
}

impl PairPotential {
    /// Half of the potential, the share of one atom, and its derivative at `r`.
    fn evaluate(&self, r: f64) -> (f64, f64) {
        let (v, d) = if r > self.ri {
            let n = self.coefficients.len();
            let (mut g, mut dg) = (vec![0.0; n], vec![0.0; n]);
            self.polynomials.evaluate(r, &mut g, &mut dg);
            let dot = |g: &[f64]| self.coefficients.iter().zip(g).map(|(c, g)| c * g).sum::<f64>();
            (dot(&g), dot(&dg))
        } else {
            let v = self.b * (-self.a * (r / self.ri - 1.0)).exp() * self.ri / r;
            (self.e0 + v, -v * (self.a / self.ri + 1.0 / r))
        };
        (0.5 * v, 0.5 * d)
    }
}

/// Radial functions, cutoffs and repulsion of one ordered pair of elements.
#[derive(Clone, Debug)]
pub struct Bond {
    /// Number of radial functions with angular dependence.
    pub nradmax: usize,
    /// Their largest angular momentum.
    pub lmax: usize,
    /// Number of radial basis functions.
    pub nradbase: usize,
    /// Kind of radial basis.
    pub basis: RadialBasis,
    /// Scaling parameter of the distance.
    pub lambda: f64,
    /// Coefficients of the radial functions in the basis functions, `[n][l][k]`.
    pub crad: Vec<f64>,
    /// Prefactor of the repulsion.
    pub prehc: f64,
    /// Exponent of the repulsion.
    pub lambdahc: f64,
    /// Cutoff in Å.
    pub rcut: f64,
    /// Width of the decay at the cutoff in Å.
    pub dcut: f64,
    /// Inner cutoff in Å.
    pub r_in: f64,
    /// Width of the switching region at the inner cutoff in Å.
    pub delta_in: f64,
    /// The basis functions of [`RadialBasis::AceJl`].
    pub polynomials: Option<Polynomials>,
    /// The pair potential that replaces the repulsion in potentials of ACE.jl.
    pub pair: Option<PairPotential>,
}

impl Bond {
    /// A pair that does not interact.
    pub(crate) fn none() -> Self {
        Bond {
            nradmax: 0,
            lmax: 0,
            nradbase: 0,
            basis: RadialBasis::ChebExpCos,
            lambda: 1.0,
            crad: Vec::new(),
            prehc: 0.0,
            lambdahc: 1.0,
            rcut: 0.0,
            dcut: 1.0,
            r_in: 0.0,
            delta_in: 0.0,
            polynomials: None,
            pair: None,
        }
    }

    /// Coefficient of basis function `k` in radial function `n`, `l`; zero beyond what the bond defines.
    pub(crate) fn crad(&self, n: usize, l: usize, k: usize) -> f64 {
        if n < self.nradmax && l <= self.lmax && k < self.nradbase {
            self.crad[(n * (self.lmax + 1) + l) * self.nradbase + k]
        } else {
            0.0
        }
    }

    pub(crate) fn validate(&self, delta: f64) -> Result<()> {
        limit("nradmax", self.nradmax, MAX_N)?;
        limit("nradbase", self.nradbase, MAX_N)?;
        limit("lmax", self.lmax, MAX_L)?;
        if self.crad.len() != self.nradmax * (self.lmax + 1) * self.nradbase && !self.crad.is_empty() {
            return Err(Error::bad("radcoefficients do not have the shape [nradmax][lmax + 1][nradbase]"));
        }
        if self.crad.is_empty() && self.nradmax * self.nradbase != 0 {
            return Err(Error::bad("radcoefficients are missing"));
        }
        let numbers = [self.lambda, self.prehc, self.lambdahc, self.rcut, self.dcut, self.r_in, self.delta_in];
        if numbers.iter().chain(&self.crad).any(|v| !v.is_finite()) {
            return Err(Error::bad("a radial parameter is not finite"));
        }
        for polynomials in self.polynomials.iter().chain(self.pair.as_ref().map(|p| &p.polynomials)) {
            let numbers = [polynomials.r0, polynomials.xl, polynomials.xr];
            if numbers.iter().chain(polynomials.recursion.as_flattened()).any(|v| !v.is_finite()) {
                return Err(Error::bad("a parameter of the radial polynomials is not finite"));
            }
        }
        if (self.basis == RadialBasis::AceJl) != self.polynomials.is_some() {
            return Err(Error::bad("polynomials are required by the radial basis ACE.jl and by no other"));
        }
        if self.rcut < 0.0 || self.rcut > 1000.0 {
            return Err(Error::bad(format!("cutoff = {} Å", self.rcut)));
        }
        let bins = self.rcut / delta;
        if !(bins <= MAX_BINS as f64) {
            return Err(Error::TooLarge {
                what: "number of spline bins",
                value: bins.min(1e18) as u64,
                limit: MAX_BINS as u64,
            });
        }
        Ok(())
    }
}

/// Switching function and its derivative: falls from one at `edge - width` to zero at `edge`, with two continuous derivatives.
pub(crate) fn switch_off(x: f64, edge: f64, width: f64) -> (f64, f64) {
    if x <= edge - width {
        return (1.0, 0.0);
    }
    if x >= edge {
        return (0.0, 0.0);
    }
    let t = 1.0 - 2.0 * (1.0 + (x - edge) / width);
    let t2 = t * t;
    let value = 0.5 + 3.75 * t * (0.25 - t2 / 6.0 + t2 * t2 / 20.0);
    let slope = -7.5 / width * (0.25 - 0.5 * t2 + 0.25 * t2 * t2);
    (value, slope)
}

/// Values and derivatives of the radial basis functions at `r`.
pub(crate) fn basis(bond: &Bond, inner: InnerCutoff, r: f64, g: &mut [f64], dg: &mut [f64]) {
    g.fill(0.0);
    dg.fill(0.0);
    // With ZBL, which switches by the nearest neighbour, the functions have an inner cutoff only if no width is given.
    let r_in = match inner {
        InnerCutoff::Zbl => f64::from(u8::from(bond.delta_in == 0.0)),
        _ => bond.r_in,
    };
    if r <= r_in - bond.delta_in || r >= bond.rcut || g.is_empty() {
        return;
    }
    match bond.basis {
        RadialBasis::ChebExpCos => cheb_exp_cos(bond, r, g, dg),
        RadialBasis::ChebPow => {
            let y = 1.0 - r / bond.rcut;
            let ym = y.powf(bond.lambda - 1.0);
            let slope = -bond.lambda / bond.rcut * ym;
            half_one_minus_cheb(2.0 * (1.0 - ym * y) - 1.0, -2.0 * slope, g, dg);
        }
        RadialBasis::ChebLinear => half_one_minus_cheb(1.0 - r / bond.rcut, -1.0 / bond.rcut, g, dg),
        RadialBasis::SBessel => simplified_bessel(bond.rcut, r, g, dg),
        RadialBasis::AceJl => bond.polynomials.iter().for_each(|p| p.evaluate(r, g, dg)),
    }
    if inner != InnerCutoff::Density {
        let (f, df) = switch_off(r, r_in, bond.delta_in);
        for (g, dg) in g.iter_mut().zip(dg.iter_mut()) {
            *dg = *dg * (1.0 - f) - *g * df;
            *g *= 1.0 - f;
        }
    }
}

/// Chebyshev polynomial of the first kind and its derivative, for each order from 0.
fn chebyshev(x: f64) -> impl Iterator<Item = (f64, f64)> {
    // T_n, T_{n+1} and U_{n-1}, U_n; T'_n = n U_{n-1}.
    let (mut t0, mut t1) = (1.0, x);
    let (mut u0, mut u1) = (0.0, 1.0);
    let mut n = 0.0;
    std::iter::from_fn(move || {
        let out = (t0, n * u0);
        (t0, t1) = (t1, 2.0 * x * t1 - t0);
        (u0, u1) = (u1, 2.0 * x * u1 - u0);
        n += 1.0;
        Some(out)
    })
}

fn half_one_minus_cheb(x: f64, dx: f64, g: &mut [f64], dg: &mut [f64]) {
    for ((g, dg), (t, dt)) in g.iter_mut().zip(dg).zip(chebyshev(x).skip(1)) {
        *g = 0.5 - 0.5 * t;
        *dg = -0.5 * dt * dx;
    }
}

fn cheb_exp_cos(bond: &Bond, r: f64, g: &mut [f64], dg: &mut [f64]) {
    let (rc, lambda) = (bond.rcut, bond.lambda);
    let (e, e1) = ((-lambda * r / rc).exp(), (-lambda).exp());
    let x = 1.0 - 2.0 * (e - e1) / (1.0 - e1);
    let dx = 2.0 * (lambda / rc) * e / (1.0 - e1);
    let env = 0.5 * (1.0 + (PI * r / rc).cos());
    let denv = -0.5 * PI / rc * (PI * r / rc).sin();
    for (n, ((g, dg), (t, dt))) in g.iter_mut().zip(dg.iter_mut()).zip(chebyshev(x)).enumerate() {
        let (v, d) = if n == 0 { (1.0, 0.0) } else { (0.5 - 0.5 * t, -0.5 * dt * dx) };
        *g = v * env;
        *dg = v * denv + d * env;
    }
    let start = rc - bond.dcut;
    if r > start {
        let f = 0.5 * (1.0 + (PI * (r - start) / bond.dcut).cos());
        let df = -0.5 * PI / bond.dcut * (PI * (r - start) / bond.dcut).sin();
        for (g, dg) in g.iter_mut().zip(dg) {
            *dg = *g * df + *dg * f;
            *g *= f;
        }
    }
}

/// sin(x) / x and its derivative.
fn sinc(x: f64) -> (f64, f64) {
    if x == 0.0 { (1.0, 0.0) } else { (x.sin() / x, (x.cos() * x - x.sin()) / (x * x)) }
}

fn simplified_bessel(rc: f64, r: f64, g: &mut [f64], dg: &mut [f64]) {
    let raw = |n: usize| {
        let (a, b) = ((n + 1) as f64, (n + 2) as f64);
        let sign = if n.is_multiple_of(2) { 1.0 } else { -1.0 };
        let norm = sign * std::f64::consts::SQRT_2 * PI / rc.powf(1.5) * a * b / (a * a + b * b).sqrt();
        let (ka, kb) = (a * PI / rc, b * PI / rc);
        let ((sa, da), (sb, db)) = (sinc(r * ka), sinc(r * kb));
        (norm * (sa + sb), norm * (da * ka + db * kb))
    };
    // Gram–Schmidt by a two-term recursion.
    let mut d_prev = 1.0;
    (g[0], dg[0]) = raw(0);
    for n in 1..g.len() {
        let x = n as f64;
        let e = (x * x * (x + 2.0) * (x + 2.0)) / (4.0 * (x + 1.0).powi(4) + 1.0);
        let d: f64 = 1.0 - e / d_prev;
        let (v, dv) = raw(n);
        let mix = (e / d_prev).sqrt();
        g[n] = (v + mix * g[n - 1]) / d.sqrt();
        dg[n] = (dv + mix * dg[n - 1]) / d.sqrt();
        d_prev = d;
    }
}

/// Pair repulsion and its derivative at `r`. `z`: the two atomic numbers, for ZBL.
pub(crate) fn repulsion(bond: &Bond, inner: InnerCutoff, z: (u8, u8), r: f64) -> (f64, f64) {
    if let Some(pair) = &bond.pair {
        return pair.evaluate(r);
    }
    match inner {
        InnerCutoff::Zbl => zbl(bond, z, r),
        InnerCutoff::Density => exponential_core(bond, r),
        InnerCutoff::Distance => {
            let (c, dc) = exponential_core(bond, r);
            let (f, df) = switch_off(r, bond.r_in, bond.delta_in);
            (c * f, dc * f + c * df)
        }
    }
}

/// `p exp(-λ r²) / r` under a cosine that ends at the cutoff.
fn exponential_core(bond: &Bond, r: f64) -> (f64, f64) {
    let (p, lambda) = (bond.prehc.abs(), bond.lambdahc.abs());
    let x = lambda * r * r;
    if x >= 50.0 {
        return (0.0, 0.0);
    }
    let c = p * (-x).exp() / r;
    let dc = -c * (2.0 * x + 1.0) / r;
    let env = 0.5 * (1.0 + (PI * r / bond.rcut).cos());
    let denv = -0.5 * PI / bond.rcut * (PI * r / bond.rcut).sin();
    (c * env, c * denv + dc * env)
}

/// `φ(r/a) / r` and two derivatives, with the universal screening function.
fn screened_coulomb(r: f64, a: f64) -> (f64, f64, f64) {
    const TERMS: [(f64, f64); 4] = [(0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162)];
    let (mut f, mut df, mut d2f) = (0.0, 0.0, 0.0);
    for (c, k) in TERMS {
        let t = c * (-k * r / a).exp();
        f += t;
        df -= t * k / a;
        d2f += t * k * k / (a * a);
    }
    (f / r, df / r - f / (r * r), d2f / r - 2.0 * df / (r * r) + 2.0 * f / (r * r * r))
}

/// ZBL repulsion (half of it: each atom of a pair has its share), shifted and switched to zero at the cutoff.
fn zbl(bond: &Bond, (zi, zj): (u8, u8), r: f64) -> (f64, f64) {
    let (outer, inner) = (bond.rcut, bond.rcut - bond.dcut);
    if r >= outer {
        return (0.0, 0.0);
    }
    // e² / (4 π ε0) in eV Å.
    const COULOMB: f64 = 14.399645351950543;
    let (zi, zj) = (f64::from(zi), f64::from(zj));
    let a = 0.46850 / (zi.powf(0.23) + zj.powf(0.23));
    let (e, de, _) = screened_coulomb(r, a);
    let (ec, dec, d2ec) = screened_coulomb(outer, a);
    let w = bond.dcut;
    let ca = (-3.0 * dec + w * d2ec) / (w * w);
    let cb = (2.0 * dec - w * d2ec) / (w * w * w);
    let cc = -ec + 0.5 * w * dec - w * w / 12.0 * d2ec;
    let (mut s, mut ds) = (cc, 0.0);
    if r > inner {
        let x = r - inner;
        s = ca / 3.0 * x.powi(3) + cb / 4.0 * x.powi(4) + cc;
        ds = ca * x * x + cb * x.powi(3);
    }
    let k = bond.prehc * 0.5 * COULOMB * zi * zj;
    let (v, dv) = (k * (e + s), k * (de + ds));
    let (f, df) = switch_off(r, outer, w);
    (v * f, dv * f + v * df)
}

/// Atomic number of a chemical symbol, up to lawrencium.
pub(crate) fn atomic_number(symbol: &str) -> Option<u8> {
    const SYMBOLS: &str = "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge \
        As Se Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er \
        Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr";
    SYMBOLS.split_ascii_whitespace().position(|s| s == symbol).map(|p| p as u8 + 1)
}

/// Covalent radius in Å of a chemical element up to curium: Cordero et al., Dalton Trans. 2832 (2008), for Mn, Fe and Co those of
/// low spin.
pub(crate) fn covalent_radius(symbol: &str) -> Option<f64> {
    const RADII: [u8; 96] = [
        31, 28, 128, 96, 84, 76, 71, 66, 57, 58, 166, 141, 121, 111, 107, 105, 102, 106, 203, 176, 170, 160, 153, 139,
        139, 132, 126, 124, 132, 122, 122, 120, 119, 120, 120, 116, 220, 195, 190, 175, 164, 154, 147, 146, 142, 139,
        145, 144, 142, 139, 139, 138, 139, 140, 244, 215, 207, 204, 203, 201, 199, 198, 198, 196, 194, 192, 192, 189,
        190, 187, 187, 175, 170, 162, 151, 144, 141, 136, 136, 132, 145, 146, 148, 140, 150, 150, 0, 221, 215, 206,
        200, 196, 190, 187, 180, 169,
    ];
    // Francium, 2.60 Å, exceeds the type.
    let hundredths = match usize::from(atomic_number(symbol)?) {
        87 => 260.0,
        z => f64::from(*RADII.get(z - 1)?),
    };
    Some(hundredths / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bond(basis: RadialBasis) -> Bond {
        Bond { basis, nradbase: 6, lambda: 2.3, rcut: 5.0, dcut: 0.4, prehc: 100.0, lambdahc: 0.7, ..Bond::none() }
    }

    #[test]
    fn slopes_are_derivatives() {
        use RadialBasis::*;
        for kind in [ChebExpCos, ChebPow, ChebLinear, SBessel] {
            for inner in [InnerCutoff::Density, InnerCutoff::Distance, InnerCutoff::Zbl] {
                let b = Bond { r_in: 1.6, delta_in: 0.5, ..bond(kind) };
                for r in [1.2, 1.4, 2.5, 4.75] {
                    let h = 1e-6;
                    let at = |r: f64| {
                        let (mut g, mut dg) = ([0.0; 6], [0.0; 6]);
                        super::basis(&b, inner, r, &mut g, &mut dg);
                        let c = repulsion(&b, inner, (13, 29), r);
                        (g, dg, c)
                    };
                    let (hi, lo, mid) = (at(r + h), at(r - h), at(r));
                    for k in 0..6 {
                        let n = (hi.0[k] - lo.0[k]) / (2.0 * h);
                        assert!((n - mid.1[k]).abs() < 1e-6 * (1.0 + n.abs()), "{kind:?} {inner:?} {r} {k}");
                    }
                    let n = (hi.2.0 - lo.2.0) / (2.0 * h);
                    assert!((n - mid.2.1).abs() < 1e-5 * (1.0 + n.abs()), "{inner:?} {r}: {n} {}", mid.2.1);
                }
            }
        }
    }

    #[test]
    fn slopes_of_polynomials_are_derivatives() {
        let polynomials = Polynomials {
            p: 2,
            r0: 2.5,
            xl: 0.4,
            xr: 2.2,
            pl: 2,
            pr: 3,
            recursion: (0..5).map(|n| [1.1, -0.4, -0.3 * f64::from(n)]).collect(),
        };
        let coefficients = vec![0.3, -0.8, 0.5, 0.1, -0.2];
        let pair = PairPotential { polynomials: polynomials.clone(), coefficients, ri: 1.9, e0: 0.2, a: 2.0, b: 3.0 };
        let b = Bond { polynomials: Some(polynomials), pair: Some(pair), ..bond(RadialBasis::AceJl) };
        let at = |r: f64| {
            let (mut g, mut dg) = ([0.0; 6], [0.0; 6]);
            super::basis(&b, InnerCutoff::Density, r, &mut g, &mut dg);
            let pair = repulsion(&b, InnerCutoff::Density, (13, 13), r);
            (g, dg, pair)
        };
        for r in [1.5, 1.8, 2.5, 4.4] {
            let h = 1e-6;
            let (hi, lo, mid) = (at(r + h), at(r - h), at(r));
            assert!(mid.0[4] != 0.0 && mid.0[5] == 0.0, "five polynomials: {:?}", mid.0);
            for k in 0..6 {
                let n = (hi.0[k] - lo.0[k]) / (2.0 * h);
                assert!((n - mid.1[k]).abs() < 1e-6 * (1.0 + n.abs()), "{r} {k}: {n} {}", mid.1[k]);
            }
            let n = (hi.2.0 - lo.2.0) / (2.0 * h);
            assert!((n - mid.2.1).abs() < 1e-6 * (1.0 + n.abs()), "{r}: {n} {}", mid.2.1);
        }
        // Beyond either cutoff everything is zero.
        assert_eq!((at(0.5).0, at(0.5).1), ([0.0; 6], [0.0; 6]));
        assert_eq!((at(4.99).0, at(4.99).2), ([0.0; 6], (0.0, 0.0)));
    }

    #[test]
    fn radii() {
        for (symbol, radius) in [("H", 0.31), ("Al", 1.21), ("Cu", 1.32), ("Pb", 1.46), ("Fr", 2.60), ("Cm", 1.69)] {
            assert_eq!(covalent_radius(symbol), Some(radius));
        }
        assert_eq!((covalent_radius("Lr"), covalent_radius("X")), (None, None));
    }

    #[test]
    fn symbols() {
        assert_eq!(atomic_number("H"), Some(1));
        assert_eq!(atomic_number("Al"), Some(13));
        assert_eq!(atomic_number("Cu"), Some(29));
        assert_eq!(atomic_number("Lr"), Some(103));
        assert_eq!(atomic_number("X"), None);
    }
}
