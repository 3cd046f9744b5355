// SPDX-License-Identifier: GPL-2.0-or-later
//! The uncertainty of each atom, its statistics over all atoms, and the verdict.
//!
//! The extrapolation grade γ of an atom is the largest coefficient, in absolute value, in the expansion of the
//! B-projections of its environment in those of the active set
//! (Lysogorskiy et al., Phys. Rev. Materials 7, 043801 (2023)). Up to 1 the potential interpolates, above 1 it
//! extrapolates.

mod blind_spots;

use ndarray::{ArrayView1, ArrayView2};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::comm::Comm;
pub use crate::config::Uncertainty;
use crate::lammps::{Error, Lammps};
use crate::script::{GAMMA_FIX, GammaFix};
use crate::structure::{AtomId, AtomsView, Integers, Vec3};
pub use blind_spots::{BlindSpotLimits, BlindSpotValues, BlindSpots, CoreSummary, LocalBlindSpots, SparseSummary};

/// The two thresholds of γ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Above this a step is flagged.
    pub low: f64,
    /// Above this the potential extrapolates too far to be reliable.
    pub high: f64,
}

/// Verdict on a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Interpolation: the largest γ is at most the lower threshold.
    Reliable,
    /// The largest γ is between the two thresholds.
    Flagged,
    /// Extrapolation, for one of the reasons in [`Cause`]. Later steps are unreliable.
    Extrapolating,
    /// γ was not polled.
    Unwatched,
}

/// Why a poll is an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The largest γ is above the threshold.
    Gamma,
    /// Core repulsion switches off more of the terms of an atom than `core_share`.
    Core,
    /// An atom has fewer neighbours than `sparse_neighbours`, with `sparse_trigger`.
    Sparse,
}

/// Statistics of γ over all atoms at one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GammaSummary {
    /// Maximum; infinite (`null` in JSON) if any value is not finite.
    #[serde(deserialize_with = "otf_store::json::or_infinite")]
    #[schemars(with = "Option<f64>")]
    pub max: f64,
    /// Id of the atom with the maximum; the lowest id if there are several.
    pub worst_id: AtomId,
    /// Mean of the finite values.
    #[serde(deserialize_with = "otf_store::json::or_infinite")]
    #[schemars(with = "Option<f64>")]
    pub mean: f64,
    /// Median. Quantiles are computed from a histogram with 8 bins per factor of 2, with an error of at most 9 %. `null` in
    /// JSON if the value at the quantile is not finite.
    #[serde(deserialize_with = "otf_store::json::or_infinite")]
    #[schemars(with = "Option<f64>")]
    pub q50: f64,
    /// 90 % quantile.
    #[serde(deserialize_with = "otf_store::json::or_infinite")]
    #[schemars(with = "Option<f64>")]
    pub q90: f64,
    /// 99 % quantile.
    #[serde(deserialize_with = "otf_store::json::or_infinite")]
    #[schemars(with = "Option<f64>")]
    pub q99: f64,
    /// Number of atoms above the lower threshold.
    pub above_low: u64,
    /// Number of atoms above the threshold.
    pub above_high: u64,
    /// Number of atoms with a NaN or infinite value, which count as above both thresholds.
    pub not_finite: u64,
    /// Number of atoms.
    pub atoms: u64,
    /// Histogram of γ over the atoms.
    #[serde(default)]
    pub histogram: GammaHistogram,
}

/// Histogram of γ over the atoms, with four bins per factor of 2.
///
/// The bins between 2^k and 2^(k+1) have equal widths: their lower edges are 1, 1.25, 1.5 and 1.75 times 2^k. Values below
/// 2^-10 count in the lowest bin. Values that are not finite are not counted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GammaHistogram {
    /// Lower edge of the first bin that is not empty.
    #[serde(deserialize_with = "otf_store::json::or_infinite")]
    #[schemars(with = "Option<f64>")]
    pub lowest: f64,
    /// Number of atoms in each bin, from the bin of `lowest` to the last one that is not empty.
    pub counts: Vec<u64>,
}

/// Id of the fix that evaluates a compute or variable within the run.
const WATCH_FIX: &str = "otf_uncertainty";

impl Uncertainty {
    /// Makes `lammps`, whose set-up must be complete otherwise, evaluate this on every step that is a multiple of `interval`, with
    /// the present pair style. `gamma` is the fix that provides γ of ML-PACE, if the set-up has defined it with `fix pair`
    /// ([`Script::gamma_fix`](crate::script::Script::gamma_fix)); it is then defined again ([`GammaFix::define`]).
    ///
    /// # Errors
    /// [`Error::Missing`] if LAMMPS has no such fix, compute or variable, or if a fix has several values for each atom; LAMMPS's
    /// own text if it has no values for each atom.
    ///
    /// # MPI
    /// Collective.
    pub fn watch(&self, lammps: &mut Lammps, interval: i64, gamma: Option<&GammaFix>) -> Result<(), Error> {
        let (what, name, prefix) = match self {
            Self::None => return Ok(()),
            Self::Pace => ("fix", GAMMA_FIX, None),
            Self::Fix(id) => ("fix", id.as_str(), None),
            Self::Compute(id) => ("compute", id.as_str(), Some("c_")),
            Self::Variable(name) => ("variable", name.as_str(), Some("v_")),
        };
        // An existing id is a single word, so that the command below needs no quotes.
        if !lammps.has_id(what, name) {
            let hint = ", which `uncertainty` names: define it under `setup`, or in the template";
            return Err(Error::Missing { what, name: name.to_owned(), hint });
        }
        if what == "fix" {
            lammps.check_vector(name)?;
        }
        if let (Self::Pace, Some(gamma)) = (self, gamma) {
            gamma.define(lammps)?;
        }
        match prefix {
            // Between two runs LAMMPS evaluates neither variables that refer to a compute nor computes that sum up what the
            // pair style tallies. A fix requests both during the run.
            Some(prefix) => lammps.command(&format!("fix {WATCH_FIX} all ave/atom 1 1 {interval} {prefix}{name}")),
            None => Ok(()),
        }
    }

    /// The values of this rank's atoms, in their order, shape (n), as a view of LAMMPS's memory; `None` if γ is not evaluated.
    /// They are those of the last step that is a multiple of the interval.
    ///
    /// # Errors
    /// [`Error::Missing`] if LAMMPS has no such fix, or if [`Uncertainty::watch`] was not called.
    pub fn values<'a>(&self, lammps: &'a Lammps) -> Result<Option<ArrayView1<'a, f64>>, Error> {
        match self {
            Self::Pace => lammps.fix_vector(GAMMA_FIX).map(Some),
            Self::Fix(id) => lammps.fix_vector(id).map(Some),
            Self::Compute(_) | Self::Variable(_) => lammps.fix_vector(WATCH_FIX).map(Some),
            Self::None => Ok(None),
        }
    }
}

impl Thresholds {
    /// The verdict for a largest γ. NaN counts as infinite.
    #[must_use]
    pub fn verdict(&self, gamma: f64) -> Verdict {
        if gamma > self.high || gamma.is_nan() {
            Verdict::Extrapolating
        } else if gamma > self.low {
            Verdict::Flagged
        } else {
            Verdict::Reliable
        }
    }
}

/// Bins of the histogram: 8 per factor of 2 from 2⁻¹⁰ to 2²⁴, and one for smaller values.
const BINS: usize = 34 * 8 + 1;
/// The exponent and the three leading bits of the mantissa of an `f64` are the number of its bin.
const BIN_SHIFT: u32 = 52 - 3;
const FIRST_BIN: u64 = (1023 - 10) << 3;

/// Half as many bins per factor of 2 in a [`GammaHistogram`], which keeps the lines of `polls.jsonl` short.
const SHOWN_SHIFT: u32 = BIN_SHIFT + 1;

impl GammaHistogram {
    /// Merges pairs of the bins of all values.
    fn of(counts: &[i64]) -> Self {
        // Values below all bins count in the first.
        let shown = |bin: usize| bin.saturating_sub(1) / 2;
        let Some(first) = counts.iter().position(|n| *n > 0) else { return Self::default() };
        let last = counts.iter().rposition(|n| *n > 0).unwrap_or(first);
        let mut sums = vec![0; shown(last) - shown(first) + 1];
        for (bin, &n) in counts.iter().enumerate().take(last + 1).skip(first) {
            sums[shown(bin) - shown(first)] += n as u64;
        }
        Self { lowest: edge(1 + 2 * shown(first)), counts: sums }
    }

    /// The bins that hold atoms: lower edge, upper edge, number of atoms.
    pub fn bins(&self) -> impl Iterator<Item = (f64, f64, u64)> {
        let first = self.lowest.to_bits() >> SHOWN_SHIFT;
        let edge = |bin: u64| f64::from_bits(bin << SHOWN_SHIFT);
        let bins = self.counts.iter().zip(first..);
        bins.filter(|(n, _)| **n > 0).map(move |(&n, bin)| (edge(bin), edge(bin + 1), n))
    }
}

fn bin(value: f64) -> usize {
    ((value.abs().to_bits() >> BIN_SHIFT).saturating_sub(FIRST_BIN - 1) as usize).min(BINS - 1)
}

/// Lower edge of a bin.
fn edge(bin: usize) -> f64 {
    if bin == 0 { 0.0 } else { f64::from_bits((bin as u64 - 1 + FIRST_BIN) << BIN_SHIFT) }
}

/// Statistics of γ over the atoms of this rank.
#[derive(Debug, Clone)]
pub struct LocalGamma {
    max: f64,
    /// The atom with the largest; of several, the one with the lowest id. `None` without atoms.
    worst: Option<WorstAtom>,
    /// Sum of the finite values.
    sum: f64,
    counts: Counts,
    /// Histogram of the finite values.
    bins: [i64; BINS],
}

/// The atom with the largest γ.
#[derive(Debug, Clone, Copy)]
struct WorstAtom {
    id: AtomId,
    position: Vec3,
}

/// Numbers of atoms.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    above_low: i64,
    above_high: i64,
    not_finite: i64,
    atoms: i64,
}

/// What [`LocalGamma::reduce`] needs from all ranks beforehand: the largest γ, the first and last bin of the histogram that are
/// in use, and those of the blind spots, as numbers of which the ranks can take the maximum or minimum.
#[derive(Debug, Clone, Copy)]
pub struct Extremes {
    /// Minus infinity without atoms.
    pub(crate) max: f64,
    /// Minus infinity without finite values.
    pub(crate) highest_bin: f64,
    /// Infinity without finite values.
    pub(crate) lowest_bin: f64,
    /// The largest core share; minus infinity if it is not known.
    pub(crate) core: f64,
    /// Minus the smallest number of neighbours; minus infinity if it is not known.
    pub(crate) sparse: f64,
}

/// Those of no atoms.
impl Default for Extremes {
    fn default() -> Self {
        let none = f64::NEG_INFINITY;
        Self { max: none, highest_bin: none, lowest_bin: f64::INFINITY, core: none, sparse: none }
    }
}

/// Numbers that the ranks add up in one reduction, together with the bins of the histogram. Counts below 2^53 are exact.
#[derive(Debug, Clone, Copy)]
struct Sums {
    counts: Counts,
    sum: f64,
    /// Ranks with an atom that has the largest γ.
    worst_ranks: f64,
    /// The worst atom, if `worst_ranks` is 1.
    worst: WorstAtom,
}

/// The lower 32 bits of an id.
const LOW_HALF: AtomId = 0xffff_ffff;

/// Two halves of an id, because a double holds integers of 53 bits only.
fn halves(id: AtomId) -> (f64, f64) {
    ((id >> 32) as f64, (id & LOW_HALF) as f64)
}

fn joined(high: f64, low: f64) -> AtomId {
    ((high as AtomId) << 32) | (low as AtomId & LOW_HALF)
}

impl Sums {
    /// Length of the encoded numbers.
    const LENGTH: usize = 11;

    fn encode(self) -> [f64; Self::LENGTH] {
        let Counts { above_low, above_high, not_finite, atoms } = self.counts;
        let WorstAtom { id, position: [x, y, z] } = self.worst;
        let [above_low, above_high, not_finite, atoms] = [above_low, above_high, not_finite, atoms].map(|n| n as f64);
        let (high, low) = halves(id);
        [above_low, above_high, not_finite, atoms, self.sum, self.worst_ranks, high, low, x, y, z]
    }

    fn decode(numbers: [f64; Self::LENGTH]) -> Self {
        let [above_low, above_high, not_finite, atoms, sum, worst_ranks, high, low, x, y, z] = numbers;
        let [above_low, above_high, not_finite, atoms] = [above_low, above_high, not_finite, atoms].map(|n| n as i64);
        let counts = Counts { above_low, above_high, not_finite, atoms };
        let id = joined(high, low);
        Self { counts, sum, worst_ranks, worst: WorstAtom { id, position: [x, y, z] } }
    }
}

impl LocalGamma {
    /// `values`, of shape (n), are those of this rank's `atoms`. A value that is not finite counts as infinite.
    #[must_use]
    pub fn of(values: ArrayView1<'_, f64>, atoms: AtomsView<'_>, thresholds: Thresholds) -> Self {
        // Once, not for each atom.
        match atoms.ids {
            Integers::I32(ids) => Self::of_ids(values, ids, atoms.positions, thresholds),
            Integers::I64(ids) => Self::of_ids(values, ids, atoms.positions, thresholds),
        }
    }

    fn of_ids<T: Copy + Into<AtomId>>(
        values: ArrayView1<'_, f64>,
        ids: ArrayView1<'_, T>,
        positions: ArrayView2<'_, f64>,
        thresholds: Thresholds,
    ) -> Self {
        let (mut max, mut worst_id, mut worst_at, mut sum) = (f64::NEG_INFINITY, AtomId::MAX, None, 0.0);
        let (mut bins, mut counts) = ([0; BINS], Counts::default());
        // Most values are neither the largest so far nor above a threshold.
        let least = thresholds.low.min(thresholds.high);
        let mut add = |at: usize, value: f64, id: T| {
            let id = id.into();
            let finite = value.is_finite();
            let value = if finite { value } else { f64::INFINITY };
            if value >= max && (value > max || id < worst_id) {
                (max, worst_id, worst_at) = (value, id, Some(at));
            }
            if finite {
                sum += value;
                bins[bin(value)] += 1;
            } else {
                counts.not_finite += 1;
            }
            if value > least {
                counts.above_low += i64::from(value > thresholds.low);
                counts.above_high += i64::from(value > thresholds.high);
            }
        };
        match (values.as_slice(), ids.as_slice()) {
            (Some(values), Some(ids)) => values.iter().zip(ids).enumerate().for_each(|(at, (&v, &id))| add(at, v, id)),
            _ => values.iter().zip(ids).enumerate().for_each(|(at, (&v, &id))| add(at, v, id)),
        }
        counts.atoms = values.len().min(ids.len()) as i64;
        let position = |at: usize| [0, 1, 2].map(|k| positions[[at, k]]);
        let worst = worst_at.map(|at| WorstAtom { id: worst_id, position: position(at) });
        Self { max, worst, sum, counts, bins }
    }

    /// The extremes of this rank.
    #[must_use]
    pub fn extremes(&self) -> Extremes {
        let highest_bin = self.bins.iter().rposition(|n| *n > 0).map_or(f64::NEG_INFINITY, |bin| bin as f64);
        let lowest_bin = self.bins.iter().position(|n| *n > 0).map_or(f64::INFINITY, |bin| bin as f64);
        Extremes { max: self.max, highest_bin, lowest_bin, ..Extremes::default() }
    }

    /// Statistics of γ over the atoms of all ranks, and the position of the worst atom, Å. Except for the rounding of the mean, the
    /// result does not depend on the number of ranks. `extremes` are those of all ranks
    /// ([`Frame::check`](crate::frame::Frame::check) reduces them).
    ///
    /// # MPI
    /// Collective.
    #[must_use]
    pub fn reduce(self, extremes: Extremes, comm: &Comm) -> (GammaSummary, Vec3) {
        self.reduce_with(extremes, &mut [], comm)
    }

    /// [`LocalGamma::reduce`], and the sum of `more` over the ranks in the same communication. `more` has at most
    /// [`blind_spots::SUMS`] numbers.
    fn reduce_with(mut self, extremes: Extremes, more: &mut [f64], comm: &Comm) -> (GammaSummary, Vec3) {
        let Extremes { max, highest_bin, lowest_bin, .. } = extremes;
        let used = if highest_bin < 0.0 { 0..0 } else { lowest_bin as usize..highest_bin as usize + 1 };
        // All ranks but those with the worst atom add zeros.
        let worst = self.worst.filter(|_| self.max == max);
        let zero = WorstAtom { id: 0, position: [0.0; 3] };
        let here = Sums {
            counts: self.counts,
            sum: self.sum,
            worst_ranks: f64::from(u8::from(worst.is_some())),
            worst: worst.unwrap_or(zero),
        };
        let mut numbers = [0.0; Sums::LENGTH + blind_spots::SUMS + BINS];
        let numbers = &mut numbers[..Sums::LENGTH + more.len() + used.len()];
        let (sums, rest) = numbers.split_at_mut(Sums::LENGTH);
        let (others, bins) = rest.split_at_mut(more.len());
        sums.copy_from_slice(&here.encode());
        others.copy_from_slice(more);
        self.bins[used.clone()].iter().zip(bins).for_each(|(&n, sum)| *sum = n as f64);
        comm.sum(numbers);
        let (sums, rest) = numbers.split_first_chunk().expect("the sums, and more");
        let (others, bins) = rest.split_at(more.len());
        more.copy_from_slice(others);
        let Sums { counts, sum, worst_ranks, worst: mut worst_of_all } = Sums::decode(*sums);
        if worst_ranks > 1.0 {
            // Several ranks have an atom with the largest γ, and all ranks take this branch.
            let lowest = comm.min_i64(worst.map_or(AtomId::MAX, |atom| atom.id));
            let mut position = worst.filter(|atom| atom.id == lowest).unwrap_or(zero).position;
            comm.sum(&mut position);
            worst_of_all = WorstAtom { id: lowest, position };
        }
        self.bins[used.clone()].iter_mut().zip(bins).for_each(|(n, &sum)| *n = sum as i64);
        let [above_low, above_high, not_finite, atoms] =
            [counts.above_low, counts.above_high, counts.not_finite, counts.atoms].map(|n| n as u64);

        let quantile = |q: f64| {
            let wanted = q * atoms as f64;
            let mut seen = 0.0;
            for b in used.clone().filter(|&b| self.bins[b] > 0) {
                let n = self.bins[b] as f64;
                if seen + n >= wanted {
                    let (low, high) = (edge(b), edge(b + 1).min(max));
                    return low + (high - low).max(0.0) * ((wanted - seen) / n).clamp(0.0, 1.0);
                }
                seen += n;
            }
            max
        };
        let finite = (atoms - not_finite) as f64;
        let summary = GammaSummary {
            max: if atoms == 0 { 0.0 } else { max },
            worst_id: worst_of_all.id,
            mean: if finite > 0.0 { sum / finite } else { 0.0 },
            q50: quantile(0.5),
            q90: quantile(0.9),
            q99: quantile(0.99),
            above_low,
            above_high,
            not_finite,
            atoms,
            histogram: GammaHistogram::of(&self.bins),
        };
        (summary, worst_of_all.position)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, arr1};

    use super::*;

    const LIMITS: Thresholds = Thresholds { low: 2.0, high: 5.0 };

    fn summary(values: &[f64], ids: &[AtomId]) -> GammaSummary {
        // The position of an atom follows from its place in the arrays.
        let positions = Array2::from_shape_fn((ids.len(), 3), |(at, k)| at as f64 + k as f64 / 4.0);
        let types = Array1::ones(ids.len());
        let of = |ids: Integers<'_>| {
            let atoms = AtomsView { positions: positions.view(), ids: ids.view(), types: types.view() };
            let here = LocalGamma::of(arr1(values).view(), atoms, LIMITS);
            let extremes = here.extremes();
            let (summary, position) = here.reduce(extremes, &Comm::single());
            let worst = ids.position(summary.worst_id).map(|at| at as f64);
            assert_eq!(position, worst.map_or([0.0; 3], |at| [at, at + 0.25, at + 0.5]));
            summary
        };
        let wide = of(ids.into());
        if let Ok(narrow) = ids.iter().map(|&id| i32::try_from(id)).collect::<Result<Vec<_>, _>>() {
            assert_eq!(of(narrow.as_slice().into()), wide);
        }
        wide
    }

    #[test]
    fn ids_of_64_bits_are_exact() {
        let odd = (1 << 53) + 1;
        for worst in [1, i32::MAX.into(), 3_000_000_000, 1 << 32, odd, AtomId::MAX - 1, AtomId::MAX] {
            let s = summary(&[1.0, 6.0, 2.0], &[7, worst, 8]);
            assert_eq!((s.worst_id, s.max), (worst, 6.0));
        }
        // The lowest of several, also where their lower halves are in the other order.
        assert_eq!(summary(&[6.0, 6.0, 6.0], &[odd, (1 << 32) + 9, 2 << 32]).worst_id, (1 << 32) + 9);
    }

    #[test]
    fn nan_and_infinity_are_above_all_thresholds() {
        assert_eq!(LIMITS.verdict(f64::NAN), Verdict::Extrapolating);
        let s = summary(&[1.0, f64::NAN, 3.0], &[1, 2, 3]);
        assert_eq!((s.max, s.worst_id, s.not_finite, s.above_low, s.above_high), (f64::INFINITY, 2, 1, 2, 1));
        assert_eq!(s.mean, 2.0);
    }

    #[test]
    fn ties_go_to_the_lowest_id() {
        assert_eq!(summary(&[4.0, 7.0, 7.0, 7.0], &[1, 9, 3, 5]).worst_id, 3);
    }

    #[test]
    fn the_threshold_itself_is_not_above() {
        assert_eq!(LIMITS.verdict(5.0), Verdict::Flagged);
        assert_eq!(LIMITS.verdict(2.0), Verdict::Reliable);
    }

    #[test]
    fn the_summary_of_no_atoms_is_zero() {
        let s = summary(&[], &[]);
        assert_eq!((s.max, s.atoms), (0.0, 0));
    }

    #[test]
    fn quantiles_are_within_a_bin() {
        let values: Vec<f64> = (1..=10_000).map(|i| f64::from(i) * 1e-3).collect();
        let ids: Vec<AtomId> = (1..=10_000).collect();
        let s = summary(&values, &ids);
        for (found, exact) in [(s.q50, 5.0), (s.q90, 9.0), (s.q99, 9.9)] {
            assert!((found / exact - 1.0_f64).abs() < 0.09, "{found} instead of {exact}");
        }
    }

    #[test]
    fn the_histogram_counts_every_finite_value_once() {
        let values = [0.0, 0.3, 1.0, 1.24, 1.25, 1.9, 5.5, f64::NAN, 1e300];
        let s = summary(&values, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let bins: Vec<_> = s.histogram.bins().collect();
        assert_eq!(bins.iter().map(|b| b.2).sum::<u64>(), 8);
        assert_eq!(bins[0].2, 1, "values below all bins are in the first: {bins:?}");
        for (low, high, n) in [(1.0, 1.25, 2), (1.25, 1.5, 1), (1.75, 2.0, 1), (5.0, 6.0, 1)] {
            assert!(bins.contains(&(low, high, n)), "{low} {bins:?}");
        }
        let s = summary(&[0.9, 0.95, 1.1], &[1, 2, 3]);
        assert_eq!(s.histogram, GammaHistogram { lowest: 0.875, counts: vec![2, 1] });
        assert_eq!(summary(&[], &[]).histogram, GammaHistogram::default());
    }

    #[test]
    fn bins_cover_all_values() {
        assert_eq!(bin(0.0), 0);
        assert_eq!(bin(1e300), BINS - 1);
        for b in 1..BINS - 1 {
            assert_eq!(bin(edge(b)), b);
            assert_eq!(bin(edge(b + 1) * (1.0 - 1e-15)), b);
        }
    }
}
