// SPDX-License-Identifier: GPL-2.0-or-later
//! Finds the largest component of g from an estimate g̃ of all components, if the screen cannot.
//!
//! The estimate is one of two:
//!
//! - from earlier evaluations: a linear combination Σ αⱼ gⱼ of estimates of the same atom, with factors that differ from atom to atom. In
//!   molecular dynamics, g changes smoothly. The factors are fitted to [`FIT`] random combinations of components, `S₁ g = (S₁A⁻ᵀ) p`;
//! - the product A⁻ᵀp in single precision, of p relative to that of another atom, which reduces cancellation.
//!
//! Where the terms of a component cancel so much that single precision is too inaccurate, the product is computed in double precision, and
//! only kept for later estimates.
//!
//! Either is only a guess. Its error r = g − g̃ is measured as in the screen: [`BOUND`] other random combinations `S₂ r` bound ‖r‖, with the
//! same probability of failure. Components that cannot be the largest are excluded; the others are computed in double precision, in the
//! order of summation of the full product. γ is the same to the last bit.
//!
//! Which atom had which place in the lists of earlier evaluations is a guess as well: if it is wrong, ‖r‖ is large.

use super::screen::{Normal, inflation};
use crate::kernel::{GradeJob, Kernels, PredictJob, SelectJob, SingleJob};
use crate::matrix::{Matrix, SingleMatrix, pad};
use crate::simd::{Eight, OCT, Oct};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Number of random combinations to which the factors are fitted.
const FIT: usize = 16;
/// Number of random combinations that bound the error.
const BOUND: usize = 64;
/// Largest number of earlier estimates per atom.
const REFERENCES: usize = 5;
/// Largest error, as a share of the largest component, with which components are searched.
const MAX_ERROR: f64 = 0.5;

/// Products with which g of the atoms of one element is estimated.
#[derive(Debug)]
pub(super) struct Estimator {
    /// A⁻ᵀ.
    single: SingleMatrix,
    /// S, and S A⁻ᵀ.
    random: Matrix,
    probes: Matrix,
    /// A vector p of one atom, and its g.
    centre: Vec<f64>,
    image: Vec<f64>,
    inflation: f64,
    /// Whether single precision is too inaccurate for most atoms. Then the new estimates are the products in double precision.
    pub(super) inaccurate: AtomicBool,
}

/// Earlier estimates of a batch of atoms.
#[derive(Debug, Default)]
pub(crate) struct Track {
    /// The newest is the last.
    references: Vec<Reference>,
    /// The components that were the largest of any atom.
    top: Vec<u32>,
}

#[derive(Debug, Default)]
struct Reference {
    /// g̃, with zeros to an even number of components.
    g: Vec<Eight>,
    /// S g̃.
    probed: Vec<Oct>,
    /// The largest absolute component of each atom.
    largest: [f64; OCT],
}

impl Track {
    /// Size in bytes for `n` components.
    pub(crate) fn bytes(n: usize) -> usize {
        REFERENCES * (n * size_of::<Eight>() + (FIT + BOUND) * size_of::<Oct>())
    }
}

/// Buffers that are reused.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    rows: Vec<u32>,
    found: Vec<u32>,
    probed: Vec<Oct>,
    own: Vec<Oct>,
    singles: Vec<Eight>,
    products: Vec<Eight>,
    estimates: Vec<Oct>,
    values: Vec<Oct>,
    predictions: Vec<Prediction>,
    /// Number of batches for which products were computed.
    pub renewed: usize,
}

/// Factors of the earlier estimates of a batch, and the bound on the error.
#[derive(Debug)]
struct Prediction {
    factors: Vec<Eight>,
    error: [f64; OCT],
}

/// Atoms of one element, in batches.
pub(super) struct Atoms<'a> {
    pub kernels: &'a Kernels,
    pub inverse: &'a Matrix,
    /// p, `[batch][component]`.
    pub vectors: &'a [Oct],
    /// Octs from one batch to the next.
    pub length: usize,
    /// Which atoms of each batch exist.
    pub present: &'a [[bool; OCT]],
    /// Earlier estimates of each batch, if they are kept.
    pub tracks: &'a [Option<&'a Mutex<Track>>],
}

impl Atoms<'_> {
    /// Products of rows of a matrix with some batches; raises `max`.
    fn multiply(&self, matrix: &Matrix, rows: &[u32], batches: &[u32], max: &mut [Oct], values: &mut [Oct]) {
        self.kernels.grade(GradeJob {
            matrix,
            rows,
            vectors: self.vectors,
            length: self.length,
            step: 1,
            batches,
            lanes: OCT,
            max,
            values,
        });
    }

    /// Computes components of a batch exactly, raises `max` to the largest, and appends to `top` those that are the largest of an atom.
    fn exact(&self, rows: &mut Vec<u32>, batch: u32, max: &mut Oct, values: &mut Vec<Oct>, top: &mut Vec<u32>) {
        let count = rows.len();
        if count == 0 {
            return;
        }
        pad(rows);
        values.resize(rows.len(), Oct::default());
        self.multiply(self.inverse, rows, &[batch], std::slice::from_mut(max), values);
        let largest = |value: &Oct| (0..OCT).any(|l| value.0[l].abs() == max.0[l] && max.0[l] > 0.0);
        top.extend(rows.iter().zip(&*values).take(count).filter(|(_, v)| largest(v)).map(|(k, _)| *k));
    }

    /// The least absolute value with which an estimate with these errors can be that of the largest component.
    fn limit(&self, batch: u32, max: &Oct, error: &[f64; OCT]) -> [f64; OCT] {
        // The last term exceeds rounding errors of sums in double precision by far.
        let limit = |l: usize| max.0[l] - error[l] - 1e-6 * max.0[l];
        std::array::from_fn(|l| if self.present[batch as usize][l] { limit(l) } else { f64::INFINITY })
    }
}

impl Estimator {
    /// `centre` is a vector p.
    pub(super) fn new(kernels: &Kernels, inverse: &Matrix, centre: Vec<f64>) -> Self {
        let n = inverse.rows();
        let mut normal = Normal(0x3c6e_f372_fe94_f82b);
        let random = Matrix::from_fn(FIT + BOUND, n, |_, _| normal.next());
        let dot = |row: &[f64]| row.iter().zip(&centre).map(|(a, p)| a * p).sum();
        Estimator {
            single: SingleMatrix::of(inverse),
            probes: super::screen::times(kernels, &random, inverse),
            random,
            image: (0..n).map(|k| dot(inverse.row(k))).collect(),
            inflation: inflation(BOUND),
            inaccurate: AtomicBool::new(false),
            centre,
        }
    }

    /// Raises `max` to the grades of some batches. Returns those that it could not decide.
    pub(super) fn grade(&self, atoms: &Atoms, batches: &[u32], max: &mut [Oct], scratch: &mut Scratch) -> Vec<u32> {
        let rows = self.probes.listed(&mut scratch.rows);
        scratch.probed.resize(batches.len() * rows.len(), Oct::default());
        let unused = &mut vec![Oct::default(); batches.len()];
        atoms.multiply(&self.probes, rows, batches, unused, &mut scratch.probed);
        // All together, because the matrix is read once for all.
        if self.predict(atoms, batches, max, scratch) { Vec::new() } else { self.renew(atoms, batches, max, scratch) }
    }

    /// Finds the largest components from earlier estimates; returns whether it could for all batches.
    fn predict(&self, atoms: &Atoms, batches: &[u32], max: &mut [Oct], scratch: &mut Scratch) -> bool {
        let Scratch { rows, found, probed, values, predictions, .. } = scratch;
        predictions.clear();
        for (&b, probed) in batches.iter().zip(probed.chunks_exact(FIT + BOUND)) {
            let Some(track) = atoms.tracks[b as usize] else { return false };
            let mut track = track.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(prediction) = self.fit(&track.references, probed, &atoms.present[b as usize]) else {
                return false;
            };
            rows.clear();
            rows.append(&mut track.top);
            atoms.exact(rows, b, &mut max[b as usize], values, &mut track.top);
            let useful = |l: usize| prediction.error[l] < MAX_ERROR * max[b as usize].0[l];
            if !(0..OCT).all(|l| !atoms.present[b as usize][l] || useful(l)) {
                return false;
            }
            predictions.push(prediction);
        }
        let n = atoms.inverse.rows();
        for (&b, Prediction { factors, error }) in batches.iter().zip(&*predictions) {
            let Some(track) = atoms.tracks[b as usize] else { return false };
            let mut track = track.lock().unwrap_or_else(PoisonError::into_inner);
            let Track { references, top } = &mut *track;
            let references: Vec<&[Eight]> = references.iter().map(|r| &r.g[..]).collect();
            // Rounded down.
            let limit = Eight(atoms.limit(b, &max[b as usize], error).map(|limit| (limit * (1.0 - 1e-6)) as f32));
            let listed = atoms.kernels.predict(PredictJob {
                references: &references,
                factors,
                rows: n.next_multiple_of(2),
                limit,
                found,
                max: n / 16,
                overflow: false,
            });
            if !listed {
                return false;
            }
            found.retain(|k| (*k as usize) < n);
            top.clear();
            atoms.exact(found, b, &mut max[b as usize], values, top);
        }
        true
    }

    /// Fits factors to `S₁ g`, and bounds the error with `S₂ g`. `None` if there are too few references.
    fn fit(&self, references: &[Reference], probed: &[Oct], present: &[bool; OCT]) -> Option<Prediction> {
        let m = references.len();
        if m < 2 {
            return None;
        }
        let mut factors = vec![Eight::default(); m];
        let mut error = [0.0; OCT];
        for lane in (0..OCT).filter(|&l| present[l]) {
            let column = |j: usize, i: usize| references[j].probed[i].0[lane];
            let mut matrix = [[0.0; REFERENCES]; REFERENCES];
            let mut right = [0.0; REFERENCES];
            for j in 0..m {
                for k in 0..=j {
                    matrix[j][k] = (0..FIT).map(|i| column(j, i) * column(k, i)).sum();
                }
                right[j] = (0..FIT).map(|i| column(j, i) * probed[i].0[lane]).sum();
            }
            let solved = solve(&mut matrix, right, m)?;
            let rest = |i: usize| probed[i].0[lane] - (0..m).map(|j| solved[j] * column(j, i)).sum::<f64>();
            let square: f64 = (FIT..FIT + BOUND).map(|i| rest(i) * rest(i)).sum();
            // The second term bounds the rounding errors of the combination in single precision.
            let size: f64 = (0..m).map(|j| solved[j].abs() * references[j].largest[lane]).sum();
            error[lane] = square.sqrt() * self.inflation + 16.0 * f64::from(f32::EPSILON) * size;
            factors.iter_mut().zip(solved).for_each(|(f, s)| f.0[lane] = s as f32);
        }
        Some(Prediction { factors, error })
    }

    /// Finds the largest components from new products, which it adds to the references. Returns the batches that it could
    /// not decide.
    fn renew(&self, atoms: &Atoms, batches: &[u32], max: &mut [Oct], scratch: &mut Scratch) -> Vec<u32> {
        scratch.renewed += batches.len();
        let Scratch { rows, found, probed, own, singles, products, estimates, values, .. } = scratch;
        let n = atoms.inverse.rows();
        let exact = self.inaccurate.load(Ordering::Relaxed);
        estimates.resize(n * batches.len(), Oct::default());
        if exact {
            let all = atoms.inverse.listed(rows);
            values.resize(all.len() * batches.len(), Oct::default());
            let largest = &mut vec![Oct::default(); batches.len()];
            atoms.multiply(atoms.inverse, all, batches, largest, values);
            batches.iter().zip(&*largest).for_each(|(&b, largest)| max[b as usize] = *largest);
            for (values, estimates) in values.chunks_exact(all.len()).zip(estimates.chunks_exact_mut(n)) {
                values.iter().zip(estimates).for_each(|(v, g)| *g = Oct(v.0.map(|v| f64::from(v as f32))));
            }
        } else {
            self.multiply_single(atoms, batches, singles, products, estimates);
        }
        let listed = self.random.listed(rows);
        own.resize(listed.len() * batches.len(), Oct::default());
        let places: Vec<u32> = (0..batches.len() as u32).collect();
        atoms.kernels.grade(GradeJob {
            matrix: &self.random,
            rows: listed,
            vectors: estimates,
            length: n,
            step: 1,
            batches: &places,
            lanes: OCT,
            max: &mut vec![Oct::default(); batches.len()],
            values: own,
        });
        let mut undecided = Vec::new();
        let parts = estimates.chunks_exact(n).zip(own.chunks_exact(FIT + BOUND)).zip(probed.chunks_exact(FIT + BOUND));
        for (&b, ((estimates, own), probed)) in batches.iter().zip(parts) {
            let mut error = [0.0; OCT];
            for (g, estimate) in probed[FIT..].iter().zip(&own[FIT..]) {
                (0..OCT).for_each(|l| error[l] += (g.0[l] - estimate.0[l]).powi(2));
            }
            error.iter_mut().for_each(|e| *e = e.sqrt() * self.inflation);
            let (mut largest, mut places) = ([0.0; OCT], [0; OCT]);
            for (k, g) in (0..).zip(estimates) {
                for l in 0..OCT {
                    if g.0[l].abs() > largest[l] {
                        (largest[l], places[l]) = (g.0[l].abs(), k);
                    }
                }
            }
            rows.clear();
            rows.extend(places);
            rows.sort_unstable();
            rows.dedup();
            let mut top = Vec::new();
            atoms.exact(rows, b, &mut max[b as usize], values, &mut top);
            let limit = Oct(atoms.limit(b, &max[b as usize], &error));
            if exact {
                // All components are known.
            } else if atoms.kernels.select(SelectJob { values: estimates, limit, found, max: n / 8, overflow: false }) {
                top.clear();
                atoms.exact(found, b, &mut max[b as usize], values, &mut top);
            } else {
                undecided.push(b);
            }
            if let Some(track) = atoms.tracks[b as usize] {
                let mut track = track.lock().unwrap_or_else(PoisonError::into_inner);
                let full = track.references.len() == REFERENCES;
                let mut reference = if full { track.references.remove(0) } else { Reference::default() };
                reference.g.clear();
                reference.g.extend(estimates.iter().map(|g| Eight(g.0.map(|g| g as f32))));
                reference.g.resize(n.next_multiple_of(2), Eight::default());
                reference.probed.clear();
                reference.probed.extend_from_slice(own);
                reference.largest = largest;
                track.references.push(reference);
                track.top = top;
            }
        }
        if 2 * undecided.len() > batches.len() {
            self.inaccurate.store(true, Ordering::Relaxed);
        }
        undecided
    }

    /// Estimates all components in single precision. The estimates are what is stored: rounded to single precision.
    fn multiply_single(
        &self,
        atoms: &Atoms,
        batches: &[u32],
        singles: &mut Vec<Eight>,
        products: &mut Vec<Eight>,
        estimates: &mut [Oct],
    ) {
        let n = atoms.inverse.rows();
        let width = batches.len().next_multiple_of(2);
        singles.resize(n * width, Eight::default());
        for (place, &b) in batches.iter().enumerate() {
            let vectors = &atoms.vectors[b as usize * atoms.length..][..n];
            for ((p, centre), out) in vectors.iter().zip(&self.centre).zip(singles.chunks_exact_mut(width)) {
                out[place] = Eight(p.0.map(|p| (p - centre) as f32));
            }
        }
        products.resize(self.single.rows() * width, Eight::default());
        atoms.kernels.multiply(SingleJob { matrix: &self.single, vectors: singles, width, out: products });
        for (place, estimates) in estimates.chunks_exact_mut(n).enumerate() {
            let all = products.chunks_exact(width).zip(&self.image);
            for ((product, image), g) in all.zip(estimates) {
                *g = Oct(product[place].0.map(|g| f64::from((f64::from(g) + image) as f32)));
            }
        }
    }
}

/// Solves the symmetric equations of which `matrix` is the lower half, by Cholesky's method; `None` if it is not positive.
fn solve(
    matrix: &mut [[f64; REFERENCES]; REFERENCES],
    mut x: [f64; REFERENCES],
    m: usize,
) -> Option<[f64; REFERENCES]> {
    for j in 0..m {
        // So that references that are alike are no reason to fail.
        matrix[j][j] *= 1.0 + 1e-12;
        for k in 0..j {
            let sum: f64 = (0..k).map(|i| matrix[j][i] * matrix[k][i]).sum();
            matrix[j][k] = (matrix[j][k] - sum) / matrix[k][k];
        }
        let rest = matrix[j][j] - (0..j).map(|i| matrix[j][i] * matrix[j][i]).sum::<f64>();
        if !(rest > 0.0) {
            return None;
        }
        matrix[j][j] = rest.sqrt();
    }
    for j in 0..m {
        x[j] = (x[j] - (0..j).map(|i| matrix[j][i] * x[i]).sum::<f64>()) / matrix[j][j];
    }
    for j in (0..m).rev() {
        x[j] = (x[j] - (j + 1..m).map(|i| matrix[i][j] * x[i]).sum::<f64>()) / matrix[j][j];
    }
    Some(x)
}
