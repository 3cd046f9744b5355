// SPDX-License-Identifier: GPL-2.0-or-later
//! The extrapolation grade γ, dimensionless; at most one for the atoms of the active set.
//!
//! γ is the largest absolute component of `g = p · A⁻¹`, with `p` the projections of the atom and `A` the active
//! set (Lysogorskiy et al., Phys. Rev. Materials 7, 043801 (2023)). [`Grader`] collects the projections of many atoms and
//! multiplies them together. For large active sets it computes only the components that can be the largest ([`screen`]).

mod estimate;
mod screen;

use crate::bias::{SHARE, smooth_maximum};
use crate::format::ActiveSet;
use crate::kernel::{GradeJob, Kernels};
use crate::matrix::{Matrix, ROWS};
use crate::plan::SpeciesPlan;
use crate::simd::{OCT, Oct};
use estimate::{Atoms, Estimator};
use screen::ScreenFit;
use std::sync::{Mutex, OnceLock};

pub(crate) use estimate::Track;

/// Inverted active sets in the layout of the kernels.
#[derive(Debug)]
pub(crate) struct Grade {
    /// Whether the vectors are projections alone (linear), or projections times the derivatives of the embedding.
    pub linear: bool,
    /// Per element, the number of rows, which is the length of the vectors.
    pub size: Vec<usize>,
    /// Per element, the transposed inverse: row k gives component k of g.
    inverse: Vec<Matrix>,
    /// Per element, made when it is first required.
    estimators: Vec<OnceLock<Estimator>>,
}

impl Grade {
    pub(crate) fn new(set: &ActiveSet) -> Self {
        let sets = || set.inverse.iter().zip(&set.size);
        let inverse: Vec<Matrix> = sets().map(|(m, &n)| Matrix::from_fn(n, n, |row, k| m[k * n + row])).collect();
        let estimators = inverse.iter().map(|_| OnceLock::new()).collect();
        Grade { linear: set.linear, size: set.size.clone(), inverse, estimators }
    }

    /// Length of the buffer for the vector of an atom: its projections, or more for a non-linear active set.
    pub(crate) fn length(&self, element: usize, plan: &SpeciesPlan) -> usize {
        self.size[element].max(plan.functions())
    }

    /// Whether components are screened, so that earlier estimates are of use: their size in bytes for a batch of atoms.
    pub(crate) fn track_bytes(&self, element: usize) -> Option<usize> {
        (self.size[element] >= screen::MIN_ROWS).then(|| Track::bytes(self.size[element]))
    }

    /// Per row of an element's active set, the coefficient of each function in a component of g: the transposed inverse.
    pub(crate) fn inverse(&self, element: usize) -> &Matrix {
        &self.inverse[element]
    }

    /// `p · A⁻¹`, one coefficient per row of the active set; `projection(k)` is component k of `p`.
    pub(crate) fn coefficients(&self, element: usize, projection: impl Fn(usize) -> f64) -> Vec<f64> {
        let inverse = &self.inverse[element];
        let p: Vec<f64> = (0..inverse.columns()).map(projection).collect();
        (0..inverse.rows()).map(|r| inverse.row(r).iter().zip(&p).map(|(a, p)| a * p).sum()).collect()
    }
}

/// The components of a batch of eight atoms that are not small.
#[derive(Clone, Debug, Default)]
pub(crate) struct Large {
    /// A component is listed if it is at least this share of the largest, for any of the atoms.
    pub share: f64,
    /// Their indices.
    pub rows: Vec<u32>,
    /// Their values, at least one for each of `rows`; eight atoms each.
    pub values: Vec<Oct>,
}

/// Number of batches that are multiplied together: large to read the active set rarely, small enough for the cache.
pub(crate) const BATCHES: usize = 6;

/// Computes the grades of many atoms together. One per thread.
#[derive(Debug, Default)]
pub(crate) struct Grader {
    /// Vectors of the collected atoms, `[batch][component]`.
    vectors: Vec<Oct>,
    /// Indices of these atoms; `None` where a batch is not full.
    atoms: Vec<[Option<usize>; OCT]>,
    /// Place of each batch among those of its element.
    places: Vec<usize>,
    /// Per element.
    elements: Vec<ScreenFit>,
    rows: Vec<u32>,
    max: Vec<Oct>,
    values: Vec<Oct>,
    /// Per batch, the components that a screen did not exclude, if smooth maxima are requested.
    large: Vec<Large>,
    /// Per batch, the smooth maxima, if they are requested.
    smooth: Vec<Oct>,
    scratch: screen::Scratch,
    estimates: estimate::Scratch,
    /// Number of batches that a screen did not decide.
    whole: u64,
}

impl Grader {
    /// Discards collected atoms; `expected` is the number of atoms of each element that follow.
    pub(crate) fn begin(&mut self, expected: impl Iterator<Item = usize>) {
        self.clear();
        for (e, atoms) in expected.enumerate() {
            if self.elements.len() <= e {
                self.elements.push(ScreenFit::default());
            }
            self.elements[e].begin(atoms);
        }
    }

    fn clear(&mut self) {
        self.atoms.clear();
        self.places.clear();
    }

    /// Appends a batch of eight atoms with vectors of `length` components. `place` is that of the batch among those of its element.
    pub(crate) fn push(&mut self, length: usize, atoms: [Option<usize>; OCT], place: usize) {
        self.atoms.push(atoms);
        self.places.push(place);
        // Not cleared: lanes that are not written belong to no atom.
        let end = self.atoms.len() * length;
        if self.vectors.len() < end {
            self.vectors.resize(end, Oct::default());
        }
    }

    /// The vectors of the last batch, one oct per component.
    pub(crate) fn last(&mut self, length: usize) -> &mut [Oct] {
        let end = self.atoms.len() * length;
        &mut self.vectors[end - length..end]
    }

    pub(crate) fn is_full(&self) -> bool {
        self.atoms.len() >= BATCHES
    }

    /// Computes the grades of the collected atoms, all of one element, and calls `results` with the index and the grade of each. `length` is that
    /// of [`Grader::push`]. `tracks` are earlier estimates by place; those of other places are not kept. With `smooth_from`, `results` also gets
    /// the smooth maximum of the components, or zero if the grade is smaller than this.
    pub(crate) fn flush(
        &mut self,
        kernels: &Kernels,
        grade: &Grade,
        element: usize,
        length: usize,
        (smooth_from, tracks): (Option<f64>, &[Mutex<Track>]),
        results: &mut dyn FnMut(usize, f64, Option<f64>),
    ) {
        if self.atoms.is_empty() {
            return;
        }
        let inverse = &grade.inverse[element];
        let mut whole: Vec<u32> = (0..self.atoms.len() as u32).collect();
        self.max.clear();
        self.max.resize(whole.len(), Oct::default());
        if inverse.rows() < screen::MIN_ROWS {
            self.multiply(kernels, inverse, length, (&whole, smooth_from.is_some(), OCT));
        } else {
            self.screened(kernels, grade, element, length, (smooth_from, tracks), &mut whole);
        }
        let Some(least) = smooth_from else { return self.store(&mut |atom, grade, _| results(atom, grade, None)) };
        self.smooth(inverse.rows(), &whole, least);
        self.store(&mut |atom, grade, smooth| results(atom, grade, Some(smooth)));
    }

    /// Computes the grades of the collected atoms for a large active set. In `whole`, which lists all batches, those remain of which all
    /// components were computed.
    fn screened(
        &mut self,
        kernels: &Kernels,
        grade: &Grade,
        element: usize,
        length: usize,
        (smooth_from, tracks): (Option<f64>, &[Mutex<Track>]),
        whole: &mut Vec<u32>,
    ) {
        let inverse = &grade.inverse[element];
        if let Some(screen) = &self.elements[element].screen {
            self.large.resize_with(whole.len(), Large::default);
            self.large.iter_mut().for_each(|large| large.share = SHARE);
            let large = smooth_from.is_some().then_some(&mut self.large[..]);
            *whole = screen.grade(kernels, inverse, &self.vectors, length, &mut self.max, &mut self.scratch, large);
        }
        let undecided = whole.len();
        let collecting = self.elements[element].is_collecting();
        if collecting && whole.is_empty() {
            // The sample must include atoms that the screen decides.
            whole.push(0);
        } else if !collecting && smooth_from.is_none() && !whole.is_empty() {
            let vectors = &self.vectors;
            let estimator = grade.estimators[element].get_or_init(|| {
                let centre = vectors[..inverse.columns()].iter().map(|p| if p.0[0].is_finite() { p.0[0] } else { 0.0 });
                Estimator::new(kernels, inverse, centre.collect())
            });
            let present: Vec<_> = self.atoms.iter().map(|atoms| atoms.map(|atom| atom.is_some())).collect();
            let tracks: Vec<_> = self.places.iter().map(|&place| tracks.get(place)).collect();
            let atoms = Atoms { kernels, inverse, vectors, length, present: &present, tracks: &tracks };
            *whole = estimator.grade(&atoms, whole, &mut self.max, &mut self.estimates);
        }
        self.multiply(kernels, inverse, length, (whole, collecting || smooth_from.is_some(), OCT));
        self.sample(kernels, inverse, element, whole, undecided, |atoms| atoms.iter().all(Option::is_some));
    }

    /// Computes the smooth maxima of the collected atoms, of which `whole` lists the batches whose components are in `values`.
    fn smooth(&mut self, components: usize, whole: &[u32], least: f64) {
        let mut g = Vec::new();
        let stride = self.values.len() / whole.len().max(1);
        self.smooth.clear();
        for (b, max) in self.max.iter().enumerate() {
            let values = match whole.iter().position(|&w| w as usize == b) {
                Some(place) => &self.values[place * stride..][..components],
                None => &self.large[b].values[..self.large[b].rows.len()],
            };
            let mut smooth = Oct::default();
            for (lane, max) in max.0.iter().enumerate().filter(|(_, max)| **max >= least) {
                let limit = SHARE * max;
                g.clear();
                g.extend(values.iter().map(|v| v.0[lane]).filter(|g| !(g.abs() < limit)));
                smooth.0[lane] = smooth_maximum(&mut g).unwrap_or(0.0);
            }
            self.smooth.push(smooth);
        }
    }

    /// Computes the grades of the only collected batch and lists its large components. All eight lanes must have values. `typical`:
    /// the screen may adapt to these atoms.
    pub(crate) fn flush_large(
        &mut self,
        kernels: &Kernels,
        grade: &Grade,
        element: usize,
        (length, typical): (usize, bool),
        grades: &mut dyn FnMut(usize, f64),
        large: &mut Large,
    ) {
        debug_assert_eq!(self.atoms.len(), 1);
        let inverse = &grade.inverse[element];
        self.max.clear();
        self.max.resize(1, Oct::default());
        let fit = &mut self.elements[element];
        let mut whole = vec![0];
        // A sample takes all components, even of a batch that a screen would decide.
        let collecting = typical && inverse.rows() >= screen::MIN_ROWS && fit.is_collecting();
        if let (Some(screen), false) = (&fit.screen, collecting) {
            let (max, scratch) = (&mut self.max, &mut self.scratch);
            whole =
                screen.grade(kernels, inverse, &self.vectors, length, max, scratch, Some(std::slice::from_mut(large)));
        }
        // A sample consists of whole batches.
        let lanes = if inverse.rows() < screen::MIN_ROWS { kernels.lanes() } else { OCT };
        self.multiply(kernels, inverse, length, (&whole, true, lanes));
        if typical && inverse.rows() >= screen::MIN_ROWS {
            self.sample(kernels, inverse, element, &whole, whole.len(), |_| true);
        }
        let max = self.max[0].0;
        let share = large.share;
        let reaches = |g: &Oct| g.0[..lanes].iter().zip(&max).any(|(g, max)| g.abs() >= share * max);
        if whole.is_empty() {
            // The screen lists what it cannot exclude.
            let mut kept = 0;
            for k in 0..large.rows.len() {
                if reaches(&large.values[k]) {
                    (large.rows[kept], large.values[kept]) = (large.rows[k], large.values[k]);
                    kept += 1;
                }
            }
            large.rows.truncate(kept);
        } else {
            large.rows.clear();
            large.values.clear();
            for (k, g) in (0..).zip(&self.values[..inverse.rows()]).filter(|(_, g)| reaches(g)) {
                large.rows.push(k);
                large.values.push(*g);
            }
        }
        self.store(&mut |atom, grade, _| grades(atom, grade));
    }

    /// Computes all components of the first lanes of the batches in `whole`, keeping them in `values` if requested.
    fn multiply(
        &mut self,
        kernels: &Kernels,
        inverse: &Matrix,
        length: usize,
        (whole, keep, lanes): (&[u32], bool, usize),
    ) {
        if whole.is_empty() {
            return;
        }
        let rows = inverse.listed(&mut self.rows);
        self.values.resize(if keep { rows.len() * whole.len() } else { 0 }, Oct::default());
        let mut max = vec![Oct::default(); whole.len()];
        kernels.grade(GradeJob {
            matrix: inverse,
            rows,
            vectors: &self.vectors,
            length,
            step: 1,
            batches: whole,
            lanes,
            max: &mut max,
            values: &mut self.values,
        });
        whole.iter().zip(&max).for_each(|(&b, max)| self.max[b as usize] = *max);
    }

    /// Maintains the screen: `undecided` batches were not decided by it. If it collects a sample, the components of those in `whole` are in
    /// `values`; batches for which `complete` holds can be in the sample.
    fn sample(
        &mut self,
        kernels: &Kernels,
        inverse: &Matrix,
        element: usize,
        whole: &[u32],
        undecided: usize,
        complete: impl Fn(&[Option<usize>; OCT]) -> bool,
    ) {
        self.whole += undecided as u64;
        let fit = &mut self.elements[element];
        let offered = if fit.is_collecting() { whole } else { &[] };
        let rows = inverse.rows().next_multiple_of(ROWS);
        for (&b, g) in offered.iter().zip(self.values.chunks_exact(rows)) {
            // The lanes of a batch that is not full have values of earlier atoms.
            if complete(&self.atoms[b as usize]) {
                fit.offer(&g[..inverse.rows()]);
            }
        }
        fit.note(self.atoms.len(), undecided);
        fit.update(kernels, inverse);
    }

    /// Returns the grades of the collected atoms, and their smooth maxima if these were computed, and forgets the atoms.
    fn store(&mut self, results: &mut dyn FnMut(usize, f64, f64)) {
        self.smooth.resize(self.atoms.len(), Oct::default());
        for ((atoms, max), smooth) in self.atoms.iter().zip(&self.max).zip(&self.smooth) {
            for ((atom, max), smooth) in atoms.iter().zip(&max.0).zip(&smooth.0) {
                if let Some(i) = atom {
                    results(*i, *max, *smooth);
                }
            }
        }
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;
    use screen::Normal;

    const N: usize = 300;

    /// Random projections of similar atoms: a mean, a few directions, and noise.
    struct Similar {
        random: Normal,
        mean: Vec<f64>,
        directions: Vec<Vec<f64>>,
    }

    impl Similar {
        fn new(seed: u64) -> Self {
            let mut random = Normal(seed);
            let mut vector = |scale: f64| (0..N).map(|_| scale * random.next()).collect::<Vec<f64>>();
            let (mean, directions) = (vector(1.0), (0..6).map(|_| vector(0.1)).collect());
            Similar { random, mean, directions }
        }

        fn atom(&mut self, noise: f64) -> Vec<f64> {
            let mut p = self.mean.clone();
            for d in &self.directions {
                let share = self.random.next();
                p.iter_mut().zip(d).for_each(|(p, d)| *p += share * d);
            }
            p.iter_mut().for_each(|p| *p += noise * self.random.next());
            p
        }
    }

    fn grade() -> Grade {
        let mut random = Normal(5);
        let inverse = (0..N * N).map(|_| random.next()).collect();
        Grade::new(&ActiveSet { linear: true, inverse: vec![inverse], size: vec![N] })
    }

    /// Grades of some atoms.
    fn grades(
        grader: &mut Grader,
        kernels: &Kernels,
        grade: &Grade,
        tracks: &[Mutex<Track>],
        atoms: &[Vec<f64>],
    ) -> Vec<f64> {
        grader.begin([atoms.len()].into_iter());
        let mut out = vec![0.0; atoms.len()];
        for (b, batch) in atoms.chunks(OCT).enumerate() {
            grader.push(N, std::array::from_fn(|l| (l < batch.len()).then_some(b * OCT + l)), b);
            for (k, oct) in grader.last(N).iter_mut().enumerate() {
                batch.iter().enumerate().for_each(|(l, p)| oct.0[l] = p[k]);
            }
            if grader.is_full() {
                grader.flush(kernels, grade, 0, N, (None, tracks), &mut |i, g, _| out[i] = g);
            }
        }
        grader.flush(kernels, grade, 0, N, (None, tracks), &mut |i, g, _| out[i] = g);
        out
    }

    /// Grades from all components.
    fn all(kernels: &Kernels, grade: &Grade, atoms: &[Vec<f64>]) -> Vec<f64> {
        // A grader collects a sample first, for which it computes all components.
        atoms.chunks(100).flat_map(|atoms| grades(&mut Grader::default(), kernels, grade, &[], atoms)).collect()
    }

    /// Bitwise, for all instruction sets, for atoms similar to the sample and others.
    #[test]
    fn screening_does_not_change_grades() {
        let grade = grade();
        for isa in Isa::available() {
            let kernels = Kernels::new(isa);
            let mut similar = Similar::new(11);
            let mut grader = Grader::default();
            let sample: Vec<_> = (0..600).map(|_| similar.atom(1e-4)).collect();
            grades(&mut grader, &kernels, &grade, &[], &sample);
            assert!(grader.elements[0].screen.is_some());
            let mut atoms: Vec<_> = (0..500).map(|_| similar.atom(1e-4)).collect();
            // One with a single large projection, some of another kind, and one with NaN.
            atoms[77][123] += 30.0;
            let mut other = Similar::new(12);
            atoms.extend((0..40).map(|_| other.atom(0.3)));
            atoms[300][5] = f64::NAN;
            let screened = grades(&mut grader, &kernels, &grade, &[], &atoms);
            let whole = all(&kernels, &grade, &atoms);
            for (k, (a, b)) in screened.iter().zip(&whole).enumerate() {
                assert_eq!(a.to_bits(), b.to_bits(), "{isa:?}, atom {k}: {a} and {b}");
            }
            let naive = grade.coefficients(0, |k| atoms[77][k]).into_iter().fold(0.0, |a: f64, b| a.max(b.abs()));
            assert!((screened[77] / naive - 1.0).abs() < 1e-10);
        }
    }

    /// Bitwise, for all instruction sets, for atoms that change smoothly and others, with and without earlier estimates.
    #[test]
    fn estimates_do_not_change_grades() {
        // Also where the terms of a component cancel so much that single precision is of no use.
        for (isa, offset) in Isa::available().into_iter().flat_map(|isa| [(isa, 0.0), (isa, 3e7)]) {
            let mut random = Normal(5);
            let row: Vec<f64> = (0..N).map(|_| offset * random.next()).collect();
            let inverse = (0..N * N)
                .map(|k| random.next() + row[k % N] * if (k / N).is_multiple_of(2) { 1.0 } else { -1.0 })
                .collect();
            let grade = Grade::new(&ActiveSet { linear: true, inverse: vec![inverse], size: vec![N] });
            let kernels = Kernels::new(isa);
            let mut grader = Grader::default();
            // Too different for a screen.
            let mut kinds: Vec<Similar> = (0..53).map(|k| Similar::new(100 + k)).collect();
            let mut at = |step: usize| -> Vec<Vec<f64>> {
                kinds
                    .iter_mut()
                    .enumerate()
                    .map(|(k, kind)| {
                        let mut p = kind.mean.clone();
                        for (i, d) in kind.directions.iter().enumerate() {
                            let share = (0.1 * (step * (i + 1)) as f64 + k as f64).sin();
                            p.iter_mut().zip(d).for_each(|(p, d)| *p += share * d);
                        }
                        if (step, k) == (9, 7) {
                            p = kind.atom(0.3);
                        }
                        if offset > 0.0 {
                            // Orthogonal to the large part of the inverse.
                            (0..N / 2).for_each(|i| p[2 * i + 1] = p[2 * i] + 1e-9 * p[2 * i + 1]);
                        }
                        if (step, k) == (12, 20) {
                            p[5] = f64::NAN;
                        }
                        p
                    })
                    .collect()
            };
            // The sample is complete after ten steps.
            // Not for the last batch.
            let tracks: Vec<Mutex<Track>> = (0..6).map(|_| Mutex::default()).collect();
            let mut predicted = 0;
            for step in 0..40 {
                let atoms = at(step);
                let before = grader.estimates.renewed;
                let estimated = grades(&mut grader, &kernels, &grade, &tracks, &atoms);
                predicted += usize::from(step > 12 && grader.estimates.renewed == before + 1);
                for (k, (a, b)) in estimated.iter().zip(all(&kernels, &grade, &atoms)).enumerate() {
                    assert_eq!(a.to_bits(), b.to_bits(), "{isa:?}, step {step}, atom {k}: {a} and {b}");
                }
            }
            assert!(grader.estimates.renewed > 0);
            let inaccurate = &grade.estimators[0].get().unwrap().inaccurate;
            assert_eq!(inaccurate.load(std::sync::atomic::Ordering::Relaxed), offset > 0.0);
            assert!(predicted >= 10, "of 27 steps, {predicted} from earlier estimates alone");
        }
    }

    /// Few of the similar atoms are computed completely; of another kind all are, until the screen is renewed.
    #[test]
    fn the_screen_adapts_to_other_atoms() {
        let (grade, kernels) = (grade(), Kernels::new(Isa::detect()));
        let mut grader = Grader::default();
        let mut share = |kind: &mut Similar, atoms: usize| {
            let atoms: Vec<_> = (0..atoms).map(|_| kind.atom(1e-4)).collect();
            let before = grader.whole;
            grades(&mut grader, &kernels, &grade, &[], &atoms);
            (grader.whole - before) as f64 / (atoms.len() / OCT) as f64
        };
        let (mut one, mut other) = (Similar::new(21), Similar::new(22));
        assert!(share(&mut one, 600) > 0.8);
        assert!(share(&mut one, 4096) < 0.05);
        assert!(share(&mut other, 2048) > 0.9);
        for _ in 0..8 {
            share(&mut other, 4096);
        }
        assert!(share(&mut other, 4096) < 0.05);
    }
}
