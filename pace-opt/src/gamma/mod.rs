// SPDX-License-Identifier: GPL-2.0-or-later
//! The extrapolation grade: how far an atom's projections lie outside the active set.
//!
//! γ is the largest absolute component of `g = p · A⁻¹`, with `p` the projections of the atom and `A` the active
//! set (Lysogorskiy et al., Phys. Rev. Materials 7, 043801 (2023)). [`Grader`] collects the projections of many atoms and
//! multiplies them together; where the active set is large, it computes only those components that can be the largest
//! ([`screen`]).

mod screen;

use crate::format::ActiveSet;
use crate::kernel::{GradeJob, Kernels};
use crate::matrix::Matrix;
use crate::plan::SpeciesPlan;
use crate::simd::{OCT, Oct};
use screen::Learning;

/// Inverted active sets, ready for use.
#[derive(Debug)]
pub(crate) struct Grade {
    /// Whether the vectors are projections alone, or times the slopes of the densities.
    pub linear: bool,
    /// Per element, length of the vectors and number of rows.
    pub size: Vec<usize>,
    /// Per element, the row of the inverse that gives each component of g.
    inverse: Vec<Matrix>,
}

impl Grade {
    pub(crate) fn new(set: &ActiveSet) -> Self {
        let sets = || set.inverse.iter().zip(&set.size);
        let inverse: Vec<Matrix> = sets().map(|(m, &n)| Matrix::from_fn(n, n, |row, k| m[k * n + row])).collect();
        Grade { linear: set.linear, size: set.size.clone(), inverse }
    }

    /// Room for the vector of an atom: its projections, and what the rows of the active set are made of.
    pub(crate) fn length(&self, element: usize, plan: &SpeciesPlan) -> usize {
        self.size[element].max(plan.functions())
    }

    /// `p · A⁻¹`, one number for each row of the active set, where `projection(k)` is the k-th component of `p`.
    pub(crate) fn coefficients(&self, element: usize, projection: impl Fn(usize) -> f64) -> Vec<f64> {
        let inverse = &self.inverse[element];
        let p: Vec<f64> = (0..inverse.columns()).map(projection).collect();
        (0..inverse.rows()).map(|r| inverse.row(r).iter().zip(&p).map(|(a, p)| a * p).sum()).collect()
    }
}

/// Batches that are multiplied together: enough to read the active set rarely, few enough for the cache.
pub(crate) const BATCHES: usize = 6;

/// Grades of atoms, many at a time. One per evaluator.
#[derive(Debug, Default)]
pub(crate) struct Grader {
    /// Vectors of the atoms that wait, `[batch][component]`.
    vectors: Vec<Oct>,
    /// Those atoms; missing ones where a batch is not full.
    atoms: Vec<[Option<usize>; OCT]>,
    /// Per element.
    elements: Vec<Learning>,
    rows: Vec<u32>,
    most: Vec<Oct>,
    values: Vec<Oct>,
    scratch: screen::Scratch,
    /// Batches of which all components were computed.
    whole: u64,
}

impl Grader {
    /// Forgets what waits, and expects so many atoms of each element.
    pub(crate) fn begin(&mut self, expected: impl Iterator<Item = usize>) {
        self.atoms.clear();
        for (e, atoms) in expected.enumerate() {
            if self.elements.len() <= e {
                self.elements.push(Learning::default());
            }
            self.elements[e].begin(atoms);
        }
    }

    /// Makes room for the vectors of another batch of eight atoms, of `length` components.
    pub(crate) fn push(&mut self, length: usize, atoms: [Option<usize>; OCT]) {
        self.atoms.push(atoms);
        // Not cleared: what is not written belongs to no atom.
        let end = self.atoms.len() * length;
        if self.vectors.len() < end {
            self.vectors.resize(end, Oct::default());
        }
    }

    /// The vectors of the last batch, one oct for each component.
    pub(crate) fn last(&mut self, length: usize) -> &mut [Oct] {
        let end = self.atoms.len() * length;
        &mut self.vectors[end - length..end]
    }

    pub(crate) fn is_full(&self) -> bool {
        self.atoms.len() >= BATCHES
    }

    /// Grades of the atoms that wait, all of one element.
    ///
    /// `length` is that of [`Grader::push`].
    pub(crate) fn flush(
        &mut self,
        kernels: &Kernels,
        grade: &Grade,
        element: usize,
        length: usize,
        grades: &mut [f64],
    ) {
        if self.atoms.is_empty() {
            return;
        }
        let inverse = &grade.inverse[element];
        let mut whole: Vec<u32> = (0..self.atoms.len() as u32).collect();
        self.most.clear();
        self.most.resize(whole.len(), Oct::default());
        let learning = &mut self.elements[element];
        if let Some(screen) = &learning.screen {
            whole = screen.grade(kernels, inverse, &self.vectors, length, &mut self.most, &mut self.scratch);
        }
        let large = inverse.rows() >= screen::SMALLEST;
        let collecting = large && learning.is_collecting();
        if collecting && whole.is_empty() {
            // Also those that are known have to be in the sample.
            whole.push(0);
        }
        self.whole += whole.len() as u64;
        let rows = inverse.listed(&mut self.rows);
        self.values.resize(if collecting { rows.len() * whole.len() } else { 0 }, Oct::default());
        let mut most = vec![Oct::default(); whole.len()];
        kernels.grade(GradeJob {
            matrix: inverse,
            rows,
            vectors: &self.vectors,
            length,
            step: 1,
            batches: &whole,
            most: &mut most,
            values: &mut self.values,
        });
        whole.iter().zip(&most).for_each(|(&b, most)| self.most[b as usize] = *most);
        if large {
            for (&b, g) in whole.iter().zip(self.values.chunks_exact(rows.len())) {
                // A batch that is not full holds what an earlier one left.
                if self.atoms[b as usize].iter().all(Option::is_some) {
                    learning.offer(&g[..inverse.rows()]);
                }
            }
            learning.note(self.atoms.len(), whole.len());
            learning.learn(kernels, inverse);
        }
        for (atoms, most) in self.atoms.iter().zip(&self.most) {
            for (atom, most) in atoms.iter().zip(&most.0) {
                if let Some(i) = atom {
                    grades[*i] = *most;
                }
            }
        }
        self.atoms.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;
    use screen::Normal;

    const N: usize = 300;

    /// Projections that are alike: a mean and a few directions of their own, and some noise.
    struct Alike {
        random: Normal,
        mean: Vec<f64>,
        directions: Vec<Vec<f64>>,
    }

    impl Alike {
        fn new(seed: u64) -> Self {
            let mut random = Normal(seed);
            let mut vector = |scale: f64| (0..N).map(|_| scale * random.next()).collect::<Vec<f64>>();
            let (mean, directions) = (vector(1.0), (0..6).map(|_| vector(0.1)).collect());
            Alike { random, mean, directions }
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

    /// Grades of some atoms; how many batches were computed as a whole is noted by the grader.
    fn grades(grader: &mut Grader, kernels: &Kernels, grade: &Grade, atoms: &[Vec<f64>]) -> Vec<f64> {
        grader.begin([atoms.len()].into_iter());
        let mut out = vec![0.0; atoms.len()];
        for (b, batch) in atoms.chunks(OCT).enumerate() {
            grader.push(N, std::array::from_fn(|l| (l < batch.len()).then_some(b * OCT + l)));
            for (k, oct) in grader.last(N).iter_mut().enumerate() {
                batch.iter().enumerate().for_each(|(l, p)| oct.0[l] = p[k]);
            }
            if grader.is_full() {
                grader.flush(kernels, grade, 0, N, &mut out);
            }
        }
        grader.flush(kernels, grade, 0, N, &mut out);
        out
    }

    /// To the last bit, with every instruction set, whether what comes is like what was learnt from or not.
    #[test]
    fn a_screened_grade_is_that_of_all_components() {
        let grade = grade();
        for isa in Isa::available() {
            let kernels = Kernels::new(isa);
            let mut alike = Alike::new(11);
            let mut grader = Grader::default();
            let learnt: Vec<_> = (0..600).map(|_| alike.atom(1e-4)).collect();
            grades(&mut grader, &kernels, &grade, &learnt);
            assert!(grader.elements[0].screen.is_some());
            let mut atoms: Vec<_> = (0..500).map(|_| alike.atom(1e-4)).collect();
            // One that is known but for a single large projection, some of another kind, and what is no number.
            atoms[77][123] += 30.0;
            let mut other = Alike::new(12);
            atoms.extend((0..40).map(|_| other.atom(0.3)));
            atoms[300][5] = f64::NAN;
            let screened = grades(&mut grader, &kernels, &grade, &atoms);
            let whole = grades(&mut Grader::default(), &kernels, &grade, &atoms);
            for (k, (a, b)) in screened.iter().zip(&whole).enumerate() {
                assert_eq!(a.to_bits(), b.to_bits(), "{isa:?}, atom {k}: {a} and {b}");
            }
            let naive = grade.coefficients(0, |k| atoms[77][k]).into_iter().fold(0.0, |a: f64, b| a.max(b.abs()));
            assert!((screened[77] / naive - 1.0).abs() < 1e-10);
        }
    }

    /// Few atoms that are known are computed as a whole; of another kind all are, until that is learnt too.
    #[test]
    fn what_is_unlike_is_learnt_in_time() {
        let (grade, kernels) = (grade(), Kernels::new(Isa::detect()));
        let mut grader = Grader::default();
        let mut share = |kind: &mut Alike, atoms: usize| {
            let atoms: Vec<_> = (0..atoms).map(|_| kind.atom(1e-4)).collect();
            let before = grader.whole;
            grades(&mut grader, &kernels, &grade, &atoms);
            (grader.whole - before) as f64 / (atoms.len() / OCT) as f64
        };
        let (mut one, mut other) = (Alike::new(21), Alike::new(22));
        assert!(share(&mut one, 600) > 0.8);
        assert!(share(&mut one, 4096) < 0.05);
        assert!(share(&mut other, 2048) > 0.9);
        for _ in 0..8 {
            share(&mut other, 4096);
        }
        assert!(share(&mut other, 4096) < 0.05);
    }
}
