// SPDX-License-Identifier: GPL-2.0-or-later
//! Where the uncertainty of each atom comes from, and what follows from it.
//!
//! The extrapolation grade γ of an atom is the largest coefficient, in absolute value, that is needed to write the
//! B-projections of its environment as a combination of the environments in the active set
//! (Lysogorskiy et al., Phys. Rev. Materials 7, 043801 (2023)): up to 1 the potential interpolates, beyond it
//! extrapolates.

use ndarray::ArrayView1;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::comm::Comm;
pub use crate::config::Uncertainty;
use crate::lammps::{Error, Lammps};
use crate::script::GAMMA_FIX;
use crate::structure::{AtomsView, Vec3};

/// The two limits of γ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Above this a step is flagged.
    pub low: f64,
    /// Above this the potential is not to be trusted.
    pub high: f64,
}

/// What a largest γ means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Interpolation: go on.
    Reliable,
    /// Between the limits: worth noting.
    Flagged,
    /// Extrapolation: do not trust what follows.
    Extrapolating,
    /// Nobody knows: γ was not looked at.
    Unwatched,
}

/// γ of all atoms at one step, in a few numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GammaSummary {
    /// The largest; infinite if any is not a finite number (`null` in JSON).
    #[serde(deserialize_with = "otf_store::json::or_infinite")]
    #[schemars(with = "Option<f64>")]
    pub max: f64,
    /// Id of the atom with the largest, the lowest id of several.
    pub worst_id: i32,
    /// Mean of the finite values.
    #[serde(deserialize_with = "otf_store::json::or_infinite")]
    #[schemars(with = "Option<f64>")]
    pub mean: f64,
    /// Median. Quantiles come from a histogram with 8 bins per factor of 2, and are right within 9 %; `null` in JSON where the
    /// quantile is that of an atom with a value that is not finite.
    #[serde(deserialize_with = "otf_store::json::or_infinite")]
    #[schemars(with = "Option<f64>")]
    pub q50: f64,
    /// 90 % of the atoms have less.
    #[serde(deserialize_with = "otf_store::json::or_infinite")]
    #[schemars(with = "Option<f64>")]
    pub q90: f64,
    /// 99 % of the atoms have less.
    #[serde(deserialize_with = "otf_store::json::or_infinite")]
    #[schemars(with = "Option<f64>")]
    pub q99: f64,
    /// Atoms above the lower threshold.
    pub above_low: u64,
    /// Atoms above the threshold.
    pub above_high: u64,
    /// Atoms with a NaN or infinite value; they count as above both thresholds.
    pub not_finite: u64,
    /// Atoms.
    pub atoms: u64,
    /// How γ is spread over the atoms.
    #[serde(default)]
    pub histogram: GammaHistogram,
}

/// How many atoms have which γ, in bins of four to a factor of 2.
///
/// The bins between 2^k and 2^(k+1) have equal widths: their lower edges are 1, 1.25, 1.5 and 1.75 times 2^k. Values below
/// 2^-10 count in the first of all bins, values that are not finite in none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GammaHistogram {
    /// Lower edge of the first bin that holds an atom.
    #[serde(deserialize_with = "otf_store::json::or_infinite")]
    #[schemars(with = "Option<f64>")]
    pub lowest: f64,
    /// Atoms in each bin from there on, up to the last that holds one.
    pub counts: Vec<u64>,
}

/// Id of the fix that evaluates a compute or variable within the run.
const WATCH_FIX: &str = "otf_uncertainty";

impl Uncertainty {
    /// Makes `lammps`, which is set up otherwise, evaluate this on every step that is a multiple of `interval`.
    ///
    /// # Errors
    /// [`Error::Missing`] if LAMMPS has no such fix, compute or variable, or a fix has several values for each atom; what
    /// LAMMPS says if it has none.
    ///
    /// # MPI
    /// Collective.
    pub fn watch(&self, lammps: &mut Lammps, interval: i64) -> Result<(), Error> {
        let (what, name, prefix) = match self {
            Self::None => return Ok(()),
            Self::Pace => ("fix", GAMMA_FIX, None),
            Self::Fix(id) => ("fix", id.as_str(), None),
            Self::Compute(id) => ("compute", id.as_str(), Some("c_")),
            Self::Variable(name) => ("variable", name.as_str(), Some("v_")),
        };
        // What LAMMPS has under a name is one word, so that nothing but a word reaches the command below.
        if !lammps.has_id(what, name) {
            let hint = ", which `uncertainty` names: define it under `setup`, or in the template";
            return Err(Error::Missing { what, name: name.to_owned(), hint });
        }
        if what == "fix" {
            lammps.check_vector(name)?;
        }
        match prefix {
            // Between two runs LAMMPS evaluates no variable that refers to a compute, and no compute that sums up what the
            // pair style tallies: a fix asks for both in time.
            Some(prefix) => lammps.command(&format!("fix {WATCH_FIX} all ave/atom 1 1 {interval} {prefix}{name}")),
            None => Ok(()),
        }
    }

    /// The values of this rank's atoms, in their order, shape (n), read in place where LAMMPS holds them; `None` for a
    /// run that is not watched. They are those of the last step that [`Uncertainty::watch`] asked for.
    ///
    /// # Errors
    /// [`Error::Missing`] if LAMMPS has no such fix, or if nobody asked it to watch.
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
    /// What a largest γ means. NaN counts as above everything.
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

/// Bins of the histogram: 8 per factor of 2 from 2⁻¹⁰ to 2²⁴, and one for what is smaller.
const BINS: usize = 34 * 8 + 1;
/// The exponent and the three leading bits of the mantissa of an f64 number its bin.
const BIN_SHIFT: u32 = 52 - 3;
const FIRST_BIN: u64 = (1023 - 10) << 3;

/// Bins of a [`GammaHistogram`] per factor of 2: half of them, so that a line of a run's polls stays short.
const SHOWN_SHIFT: u32 = BIN_SHIFT + 1;

impl GammaHistogram {
    /// From the bins of all values.
    fn of(counts: &[i64]) -> Self {
        // What is below all bins counts in the first.
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

/// γ of this rank's atoms, summed up as far as that goes without the other ranks.
#[derive(Debug, Clone)]
pub struct GammaHere {
    max: f64,
    /// Id and place of the atom with the largest, the lowest id of several; `None` without atoms.
    worst: Option<(i32, Vec3)>,
    /// Of the finite values.
    sum: f64,
    /// Atoms above the lower limit, above the upper one, with a value that is not finite, all.
    tally: [i64; 4],
    /// The finite values.
    bins: [i64; BINS],
}

/// What [`GammaHere::together`] has to know of all ranks before it can ask them: the largest γ, the number of the highest bin
/// in use and, times -1, that of the lowest; minus infinity without any. Of several ranks, each is the largest.
#[derive(Debug, Clone, Copy)]
pub struct Extremes(pub(crate) [f64; 3]);

/// Those of no atoms.
impl Default for Extremes {
    fn default() -> Self {
        Self([f64::NEG_INFINITY; 3])
    }
}

impl GammaHere {
    /// `values`, of shape (n), are those of this rank's `atoms`. A value that is not finite counts as infinite.
    #[must_use]
    pub fn of(values: ArrayView1<'_, f64>, atoms: AtomsView<'_>, limits: Thresholds) -> Self {
        let ids = atoms.ids;
        let (mut max, mut worst, mut worst_at, mut sum) = (f64::NEG_INFINITY, i32::MAX, None, 0.0);
        let (mut bins, mut tally) = ([0; BINS], [0; 4]);
        // Of most atoms γ is neither the largest so far nor above a limit.
        let least = limits.low.min(limits.high);
        let mut see = |at: usize, value: f64, id: i32| {
            let finite = value.is_finite();
            let value = if finite { value } else { f64::INFINITY };
            if value >= max && (value > max || id < worst) {
                (max, worst, worst_at) = (value, id, Some(at));
            }
            if finite {
                sum += value;
                bins[bin(value)] += 1;
            } else {
                tally[2] += 1;
            }
            if value > least {
                tally[0] += i64::from(value > limits.low);
                tally[1] += i64::from(value > limits.high);
            }
        };
        match (values.as_slice(), ids.as_slice()) {
            (Some(values), Some(ids)) => values.iter().zip(ids).enumerate().for_each(|(at, (&v, &id))| see(at, v, id)),
            _ => values.iter().zip(ids).enumerate().for_each(|(at, (&v, &id))| see(at, v, id)),
        }
        tally[3] = values.len().min(ids.len()) as i64;
        let worst = worst_at.map(|at| (worst, [0, 1, 2].map(|k| atoms.positions[[at, k]])));
        Self { max, worst, sum, tally, bins }
    }

    /// Of this rank.
    #[must_use]
    pub fn extremes(&self) -> Extremes {
        let number = |bin: Option<usize>, sign: f64| bin.map_or(f64::NEG_INFINITY, |bin| sign * bin as f64);
        let (highest, lowest) = (self.bins.iter().rposition(|n| *n > 0), self.bins.iter().position(|n| *n > 0));
        Extremes([self.max, number(highest, 1.0), number(lowest, -1.0)])
    }

    /// γ of all atoms on all ranks; the same numbers for any number of ranks, but for the rounding of the mean. The second
    /// result is where the worst atom is, Å. `extremes` are those of all ranks.
    ///
    /// # MPI
    /// Collective.
    #[must_use]
    pub fn together(mut self, Extremes([max, highest, lowest]): Extremes, comm: &Comm) -> (GammaSummary, Vec3) {
        // One reduction, in which a count below 2^53 is exact: the tally, the sum, what is said of the worst atom, to which
        // all ranks but one add nothing, and the bins that any rank uses.
        const SUM: usize = 4;
        const WORST: usize = SUM + 1;
        const FIRST: usize = WORST + 5;
        let used = if highest < 0.0 { 0..0 } else { -lowest as usize..highest as usize + 1 };
        let mut total = [0.0; FIRST + BINS];
        let total = &mut total[..FIRST + used.len()];
        let worst = self.worst.filter(|_| self.max == max);
        let say = |total: &mut [f64], worst: Option<(i32, Vec3)>| {
            if let Some((id, [x, y, z])) = worst {
                total[WORST..FIRST].copy_from_slice(&[1.0, f64::from(id), x, y, z]);
            }
        };
        self.tally.iter().zip(&mut total[..]).for_each(|(&n, total)| *total = n as f64);
        total[SUM] = self.sum;
        say(total, worst);
        self.bins[used.clone()].iter().zip(&mut total[FIRST..]).for_each(|(&n, total)| *total = n as f64);
        comm.sum(total);
        if total[WORST] > 1.0 {
            // Several ranks have the same, which all of them see.
            let first = comm.min_i64(worst.map_or(i64::MAX, |(id, _)| id.into()));
            total[WORST..FIRST].fill(0.0);
            say(total, worst.filter(|(id, _)| i64::from(*id) == first));
            comm.sum(&mut total[WORST..FIRST]);
        }
        let [above_low, above_high, not_finite, atoms] = [0, 1, 2, 3].map(|k| total[k] as u64);
        self.bins[used.clone()].iter_mut().zip(&total[FIRST..]).for_each(|(n, &total)| *n = total as i64);

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
            worst_id: total[WORST + 1] as i32,
            mean: if finite > 0.0 { total[SUM] / finite } else { 0.0 },
            q50: quantile(0.5),
            q90: quantile(0.9),
            q99: quantile(0.99),
            above_low,
            above_high,
            not_finite,
            atoms,
            histogram: GammaHistogram::of(&self.bins),
        };
        (summary, [2, 3, 4].map(|k| total[WORST + k]))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, arr1};

    use super::*;

    const LIMITS: Thresholds = Thresholds { low: 2.0, high: 5.0 };

    fn summary(values: &[f64], ids: &[i32]) -> GammaSummary {
        // The worst atom's place tells which it is.
        let positions = Array2::from_shape_fn((ids.len(), 3), |(at, k)| f64::from(ids[at]) + k as f64 / 4.0);
        let (ids, types) = (arr1(ids), Array1::ones(ids.len()));
        let atoms = AtomsView { positions: positions.view(), ids: ids.view(), types: types.view() };
        let here = GammaHere::of(arr1(values).view(), atoms, LIMITS);
        let extremes = here.extremes();
        let (summary, place) = here.together(extremes, &Comm::single());
        let worst = f64::from(summary.worst_id);
        assert_eq!(place, if ids.is_empty() { [0.0; 3] } else { [worst, worst + 0.25, worst + 0.5] });
        summary
    }

    #[test]
    fn nan_and_infinity_are_above_everything() {
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
    fn no_atoms_is_nothing_to_worry_about() {
        let s = summary(&[], &[]);
        assert_eq!((s.max, s.atoms), (0.0, 0));
    }

    #[test]
    fn quantiles_are_within_a_bin() {
        let values: Vec<f64> = (1..=10_000).map(|i| f64::from(i) * 1e-3).collect();
        let ids: Vec<i32> = (1..=10_000).collect();
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
        assert_eq!(bins[0].2, 1, "what is below all bins is in the first: {bins:?}");
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
