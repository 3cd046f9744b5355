// SPDX-License-Identifier: GPL-2.0-or-later
//! Determines which components of g can be the largest, without computing them all.
//!
//! All of g takes n² operations per atom, where n is the size of the active set. The atoms of a simulation are similar: their
//! g are close to a mean ḡ plus a space of few dimensions d, with an orthonormal basis U fitted to a sample of atoms.
//!
//! 1. c = Uᵀ(g − ḡ) = (UᵀA⁻ᵀ) p − Uᵀḡ takes d·n operations. The estimate g̃ = ḡ + U c takes few more, because the bound
//!    |ḡₖ| + ‖Uₖ‖ ‖c‖ excludes most components.
//! 2. The error r = g − g̃ is bounded by measurement: S r, with s rows of normally distributed coefficients S, is again s rows
//!    times p. ‖S r‖² / ‖r‖² follows the χ² distribution with s degrees of freedom, so ‖r‖ is below ‖S r‖ times a factor,
//!    except with probability [`FAILURE_PROBABILITY`] (Chernoff bound, see [`inflation`]).
//! 3. The components in which ḡ is largest are computed exactly. With L the largest of them, components below L − ‖r‖ in g̃
//!    cannot be the largest. The remaining ones are computed exactly: in a crystal one or two of 750.
//!
//! The result is bitwise the maximum over all components. Atoms unlike the sample have a large ‖r‖, and all their components
//! are computed; if there are many such atoms, U is fitted again. Screening thus changes the time, not the result.
//!
//! The method is that of exact maximum inner product search (Teflioudi et al., SIGMOD 2015; Li et al., SIGMOD 2017), with the
//! bound from a random projection (Johnson and Lindenstrauss 1984) instead of norms, which give too wide a bound where
//! terms cancel: here to one part in 10⁶.

use super::Large;
use crate::kernel::{GradeJob, Kernels, SelectJob};
use crate::matrix::{Matrix, ROWS, pad};
use crate::simd::{OCT, Oct};

/// Smallest number of rows of an active set for which components are screened.
pub(super) const MIN_ROWS: usize = 256;

/// Probability, for one atom, that the bound on ‖r‖ does not hold.
const FAILURE_PROBABILITY: f64 = 1e-16;

/// Number of batches of atoms in the sample.
const SAMPLE: usize = 64;
/// How many of these are held back to assess U.
const HELD_BACK: usize = 16;

/// Candidates for the number of dimensions of U.
const DIMENSIONS: [usize; 7] = [8, 16, 32, 48, 64, 96, 128];
/// Candidates for the number of rows of S.
const PROBES: [usize; 4] = [32, 48, 64, 96];

/// Number of atoms after which the fraction of undecided ones is assessed.
const WINDOW: usize = 2048;
/// Least number of atoms between two fits; doubled each time.
const MIN_INTERVAL: usize = 1 << 13;

/// 1/√(s t), where t is the fraction of the mean below which a χ² variable with s degrees of freedom is with probability
/// [`FAILURE_PROBABILITY`]: P(χ² ≤ s t) ≤ (t e^(1 − t))^(s/2).
pub(super) fn inflation(probes: usize) -> f64 {
    let wanted = 2.0 * FAILURE_PROBABILITY.ln() / probes as f64;
    let (mut low, mut high) = (1e-12_f64, 1.0);
    for _ in 0..100 {
        let t = 0.5 * (low + high);
        if t.ln() + 1.0 - t < wanted { low = t } else { high = t }
    }
    1.0 / (probes as f64 * low).sqrt()
}

/// The screen for atoms of one element.
#[derive(Debug)]
pub(super) struct Screen {
    /// The rows of UᵀA⁻ᵀ, then those of S(1 − UUᵀ)A⁻ᵀ.
    probes: Matrix,
    /// The products of the same rows with ḡ in place of A⁻ᵀp.
    offsets: Vec<f64>,
    /// U and, as its last column, ḡ.
    basis: Matrix,
    /// |ḡₖ| and ‖Uₖ‖ of each component.
    sizes: Vec<(f64, f64)>,
    /// The components with the largest |ḡₖ|.
    top: [u32; ROWS],
    inflation: f64,
}

/// Buffers that are reused.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    rows: Vec<u32>,
    found: Vec<u32>,
    probed: Vec<Oct>,
    reduced: Vec<Oct>,
    bounds: Vec<Oct>,
    guesses: Vec<Oct>,
}

impl Screen {
    /// Number of dimensions of U.
    fn depth(&self) -> usize {
        self.basis.columns() - 1
    }

    /// Raises `max` to the grades of the batches. Returns the batches that it could not decide.
    ///
    /// With `large`, one for each batch: components of at least that share of the grade, for any of the atoms, are listed.
    #[allow(clippy::too_many_arguments, reason = "one caller")]
    pub(super) fn grade(
        &self,
        kernels: &Kernels,
        inverse: &Matrix,
        vectors: &[Oct],
        length: usize,
        max: &mut [Oct],
        scratch: &mut Scratch,
        mut large: Option<&mut [Large]>,
    ) -> Vec<u32> {
        let batches: Vec<u32> = (0..max.len() as u32).collect();
        let exact = |rows: &[u32], batches: &[u32], max: &mut [Oct], values: &mut [Oct]| {
            kernels.grade(GradeJob {
                matrix: inverse,
                rows,
                vectors,
                length,
                step: 1,
                batches,
                lanes: OCT,
                max,
                values,
            });
        };
        let share = large.as_ref().and_then(|large| large.first()).map_or(1.0, |large| large.share);
        // For most atoms one of these is the largest.
        exact(&self.top, &batches, max, &mut []);
        self.probe(kernels, vectors, length, &batches, scratch);
        let Scratch { rows, found, reduced, bounds, guesses, .. } = scratch;
        let mut undecided = Vec::new();
        for (b, bound) in batches.into_iter().zip(bounds) {
            let limit = |max: &[Oct]| threshold(&max[b as usize], share, bound);
            self.possible(limit(max), &reduced[b as usize * self.basis.columns()..], rows);
            pad(rows);
            guesses.resize(rows.len(), Oct::default());
            kernels.grade(GradeJob {
                matrix: &self.basis,
                rows,
                vectors: reduced,
                length: self.basis.columns(),
                step: 1,
                batches: &[b],
                lanes: OCT,
                max: &mut [Oct::default()],
                values: guesses,
            });
            let limit = limit(max);
            if kernels.select(SelectJob { values: guesses, limit, found, max: inverse.rows() / 4, overflow: false }) {
                found.iter_mut().for_each(|k| *k = rows[*k as usize]);
                // The padding of `rows` repeats the last one.
                found.dedup();
                let count = found.len();
                pad(found);
                let mut values: &mut [Oct] = &mut [];
                if let Some(large) = large.as_deref_mut().map(|large| &mut large[b as usize]) {
                    large.rows.clone_from(found);
                    large.rows.truncate(count);
                    large.values.resize(found.len(), Oct::default());
                    values = &mut large.values;
                }
                exact(found, &[b], &mut max[b as usize..][..1], values);
            } else {
                undecided.push(b);
            }
        }
        undecided
    }

    /// Rows in which g̃ can reach `limit` for any of eight atoms, by the Cauchy–Schwarz inequality.
    fn possible(&self, limit: Oct, reduced: &[Oct], rows: &mut Vec<u32>) {
        let mut squares = [0.0; OCT];
        for c in &reduced[..self.depth()] {
            squares.iter_mut().zip(&c.0).for_each(|(s, c)| *s += c * c);
        }
        let longest = squares.into_iter().fold(0.0, |a: f64, b| if a > b { a } else { b }).sqrt();
        let least = limit.0.into_iter().fold(f64::INFINITY, |a, b| if a < b { a } else { b });
        rows.clear();
        // NaN counts as possible.
        let possible = |&(mean, length): &(f64, f64)| !(mean + length * longest < least);
        rows.extend(self.sizes.iter().zip(0..).filter(|(size, _)| possible(size)).map(|(_, k)| k));
    }

    /// Computes c of all batches, extended by a one for ḡ, and the bounds on ‖r‖.
    fn probe(&self, kernels: &Kernels, vectors: &[Oct], length: usize, batches: &[u32], scratch: &mut Scratch) {
        let rows = self.probes.listed(&mut scratch.rows);
        scratch.probed.resize(batches.len() * rows.len(), Oct::default());
        let (mut unused, values) = (vec![Oct::default(); batches.len()], &mut scratch.probed);
        kernels.grade(GradeJob {
            matrix: &self.probes,
            rows,
            vectors,
            length,
            step: 1,
            batches,
            lanes: OCT,
            max: &mut unused,
            values,
        });
        scratch.reduced.clear();
        scratch.bounds.clear();
        for probed in scratch.probed.chunks_exact(rows.len()).take(batches.len()) {
            let centred = |k: usize| Oct(std::array::from_fn(|l| probed[k].0[l] - self.offsets[k]));
            scratch.reduced.extend((0..self.depth()).map(centred));
            scratch.reduced.push(Oct([1.0; OCT]));
            let mut squares = [0.0; OCT];
            for k in self.depth()..self.probes.rows() {
                let r = centred(k).0;
                squares.iter_mut().zip(&r).for_each(|(s, r)| *s += r * r);
            }
            scratch.bounds.push(Oct(squares.map(|s| s.sqrt() * self.inflation)));
        }
    }

    /// Fits a screen to `sample`, g of [`SAMPLE`] batches, `[batch][component]`. `None` if it would not save half of the work.
    fn fit(kernels: &Kernels, inverse: &Matrix, sample: &[Oct]) -> Option<Self> {
        let n = inverse.rows();
        let (fitted, held_back) = sample.split_at((SAMPLE - HELD_BACK) * n);
        let atoms = fitted.len() / n * OCT;
        let mean: Vec<f64> =
            (0..n).map(|k| fitted.chunks_exact(n).flat_map(|batch| batch[k].0).sum::<f64>() / atoms as f64).collect();
        let centred = |part: &[Oct]| -> Vec<Oct> {
            let minus = |(k, v): (usize, &Oct)| Oct(v.0.map(|v| v - mean[k % n]));
            part.iter().enumerate().map(minus).collect()
        };
        let x = centred(fitted);
        let axes = principal(kernels, &x, n, DIMENSIONS[DIMENSIONS.len() - 1].min(n / 4).min(atoms / 2));
        let (depth, probes) = cheapest(kernels, &axes, &mean, held_back, &centred(held_back))?;

        let axes = Matrix::from_fn(depth, n, |j, k| axes.row(j)[k]);
        let mut random = Normal(0x6a09_e667_f3bc_c908);
        let normal = Matrix::from_fn(probes, n, |_, _| random.next());
        // S(1 − UUᵀ)
        let shares = Matrix::from_fn(probes, depth, |i, j| dot(normal.row(i), axes.row(j)));
        let rest = Matrix::from_fn(probes, n, |i, k| {
            normal.row(i)[k] - (0..depth).map(|j| shares.row(i)[j] * axes.row(j)[k]).sum::<f64>()
        });
        let combined =
            Matrix::from_fn(depth + probes, n, |r, k| if r < depth { axes.row(r)[k] } else { rest.row(r - depth)[k] });
        let offsets = (0..combined.rows()).map(|r| dot(combined.row(r), &mean)).collect();
        let basis = Matrix::from_fn(n, depth + 1, |k, j| if j < depth { axes.row(j)[k] } else { mean[k] });
        let length = |row: &[f64]| dot(&row[..depth], &row[..depth]).sqrt();
        let sizes = (0..n).map(|k| (mean[k].abs(), length(basis.row(k)))).collect();
        let mut order: Vec<u32> = (0..n as u32).collect();
        order.sort_by(|&a, &b| mean[b as usize].abs().total_cmp(&mean[a as usize].abs()));
        let top = std::array::from_fn(|k| order[k]);
        let probes = times(kernels, &combined, inverse);
        Some(Screen { offsets, basis, sizes, top, inflation: inflation(probes.rows() - depth), probes })
    }
}

/// The least g̃ of a component that can reach this share of the largest, from the largest known component and the bound on ‖r‖.
/// The last term exceeds the rounding error of g̃ by far.
fn threshold(max: &Oct, share: f64, bound: &Oct) -> Oct {
    Oct(std::array::from_fn(|l| share * max.0[l] - bound.0[l] - 1e-6 * max.0[l]))
}

/// The product of two matrices.
pub(super) fn times(kernels: &Kernels, a: &Matrix, b: &Matrix) -> Matrix {
    let mut rows = Vec::new();
    let rows = a.listed(&mut rows);
    // Eight columns of b are treated as a batch of eight atoms.
    let batches: Vec<u32> = (0..b.columns().div_ceil(OCT) as u32).collect();
    let mut values = vec![Oct::default(); rows.len() * batches.len()];
    kernels.grade(GradeJob {
        matrix: a,
        rows,
        vectors: b.octs(),
        length: 1,
        step: b.stride(),
        batches: &batches,
        lanes: OCT,
        max: &mut vec![Oct::default(); batches.len()],
        values: &mut values,
    });
    Matrix::from_fn(a.rows(), b.columns(), |r, k| values[k / OCT * rows.len() + r].0[k % OCT])
}

/// An approximate orthonormal basis, in rows, of the space of largest variance of `x`, `[batch][component]`: orthogonal
/// iteration from random combinations (Halko et al., SIAM Rev. 53, 217 (2011)).
fn principal(kernels: &Kernels, x: &[Oct], n: usize, depth: usize) -> Matrix {
    let atoms = x.len() / n * OCT;
    let by_atom = Matrix::from_fn(atoms, n, |a, k| x[a / OCT * n + k].0[a % OCT]);
    let by_component = Matrix::from_fn(n, atoms, |k, a| x[a / OCT * n + k].0[a % OCT]);
    let mut random = Normal(0xbb67_ae85_84ca_a73b);
    let mut axes = times(kernels, &Matrix::from_fn(depth, atoms, |_, _| random.next()), &by_atom);
    orthonormalise(&mut axes);
    for _ in 0..2 {
        axes = times(kernels, &times(kernels, &axes, &by_component), &by_atom);
        orthonormalise(&mut axes);
    }
    axes
}

/// Gram–Schmidt method; linearly dependent rows become zero. Its loss of precision is harmless: g̃ and r are valid for any U.
fn orthonormalise(axes: &mut Matrix) {
    for j in 0..axes.rows() {
        let mut row = axes.row(j).to_vec();
        let before = dot(&row, &row).sqrt();
        for i in 0..j {
            let share = dot(&row, axes.row(i));
            row.iter_mut().zip(axes.row(i)).for_each(|(v, u)| *v -= share * u);
        }
        let length = dot(&row, &row).sqrt();
        let scale = if length > 1e-9 * before { 1.0 / length } else { 0.0 };
        axes.row_mut(j).iter_mut().zip(&row).for_each(|(to, v)| *to = scale * v);
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Numbers of dimensions and of probes with the least work on atoms that were held back; `None` if it exceeds half of the work
/// without a screen.
fn cheapest(kernels: &Kernels, axes: &Matrix, mean: &[f64], g: &[Oct], x: &[Oct]) -> Option<(usize, usize)> {
    let n = mean.len();
    let batches: Vec<u32> = (0..(x.len() / n) as u32).collect();
    let mut rows = Vec::new();
    let rows = axes.listed(&mut rows);
    let mut c = vec![Oct::default(); rows.len() * batches.len()];
    let mut unused = vec![Oct::default(); batches.len()];
    let (vectors, length, max, values) = (x, n, &mut unused[..], &mut c[..]);
    kernels.grade(GradeJob {
        matrix: axes,
        rows,
        vectors,
        length,
        step: 1,
        batches: &batches,
        lanes: OCT,
        max,
        values,
    });
    let mut best = (0.5 * (n * n) as f64, None);
    for depth in DIMENSIONS.into_iter().filter(|&d| d <= axes.rows()) {
        let lengths: Vec<f64> =
            (0..n).map(|k| (0..depth).map(|j| axes.row(j)[k].powi(2)).sum::<f64>().sqrt()).collect();
        for probes in PROBES {
            let factor = inflation(probes) * (probes as f64).sqrt();
            let mut work = 0.0;
            for (b, c) in c.chunks_exact(rows.len()).enumerate() {
                let (g, x) = (&g[b * n..][..n], &x[b * n..][..n]);
                let limit: [f64; OCT] = std::array::from_fn(|l| {
                    let square = |v: &[Oct]| v.iter().map(|v| v.0[l] * v.0[l]).sum::<f64>();
                    let rest = (square(x) - square(&c[..depth])).max(0.0).sqrt();
                    g.iter().map(|v| v.0[l].abs()).fold(0.0, f64::max) - factor * rest
                });
                let found = g.iter().filter(|v| v.0.iter().zip(&limit).any(|(v, limit)| !(v.abs() < *limit))).count();
                let exact = if found > n / 4 { n } else { found + ROWS };
                let least = limit.iter().fold(f64::INFINITY, |a, b| a.min(*b));
                let longest =
                    (0..OCT).map(|l| c[..depth].iter().map(|c| c.0[l] * c.0[l]).sum::<f64>()).fold(0.0, f64::max);
                let guessed = (0..n).filter(|&k| mean[k].abs() + lengths[k] * longest.sqrt() >= least).count();
                work += ((depth + probes + exact) * n + guessed * depth) as f64;
            }
            work /= batches.len() as f64;
            if work < best.0 {
                best = (work, Some((depth, probes)));
            }
        }
    }
    best.1
}

/// Decides when to fit a screen, and to which atoms.
#[derive(Debug)]
pub(super) struct ScreenFit {
    pub screen: Option<Screen>,
    /// g of the sampled batches, `[batch][component]`; empty unless a fit is due.
    sample: Vec<Oct>,
    /// Whether the sample is being filled.
    collecting: bool,
    /// One of this number of batches is sampled.
    stride: usize,
    /// Number of batches offered so far.
    offered: usize,
    /// Number of atoms since the last assessment, and of undecided ones.
    seen: usize,
    missed: usize,
    /// Number of atoms since the last fit, and how many must pass before the next.
    since: usize,
    interval: usize,
}

impl Default for ScreenFit {
    fn default() -> Self {
        let (screen, sample, collecting, stride) = (None, Vec::new(), true, 1);
        ScreenFit {
            screen,
            sample,
            collecting,
            stride,
            offered: 0,
            seen: 0,
            missed: 0,
            since: 0,
            interval: MIN_INTERVAL,
        }
    }
}

impl ScreenFit {
    /// Spreads the sample over the given number of atoms, which follow.
    pub(super) fn begin(&mut self, atoms: usize) {
        self.stride = (atoms / OCT / SAMPLE).max(1);
    }

    /// Counts undecided batches; starts a new sample or drops the screen if there are too many.
    pub(super) fn note(&mut self, batches: usize, undecided: usize) {
        self.seen += batches * OCT;
        self.missed += undecided * OCT;
        self.since += batches * OCT;
        if self.collecting || self.seen < WINDOW {
            return;
        }
        let share = self.missed as f64 / self.seen as f64;
        (self.seen, self.missed) = (0, 0);
        self.collecting = share > 0.1 && self.since >= self.interval;
        if share > 0.8 {
            self.screen = None;
        }
    }

    pub(super) fn is_collecting(&self) -> bool {
        self.collecting
    }

    /// Adds the g of a completely computed batch to the sample, if it is due.
    pub(super) fn offer(&mut self, g: &[Oct]) {
        if self.offered.is_multiple_of(self.stride) && self.sample.len() < SAMPLE * g.len() {
            self.sample.extend_from_slice(g);
        }
        self.offered += 1;
    }

    /// Fits a screen if the sample is complete.
    pub(super) fn update(&mut self, kernels: &Kernels, inverse: &Matrix) {
        if self.sample.len() < SAMPLE * inverse.rows() {
            return;
        }
        self.screen = Screen::fit(kernels, inverse, &self.sample);
        self.sample = Vec::new();
        self.collecting = false;
        (self.seen, self.missed, self.since) = (0, 0, 0);
        self.interval *= 2;
    }
}

/// Reproducible normally distributed numbers: Box–Muller transform of a linear congruential generator.
pub(super) struct Normal(pub u64);

impl Normal {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as f64 + 0.5) / (1u64 << 31) as f64
    }

    pub(super) fn next(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}
