// SPDX-License-Identifier: GPL-2.0-or-later
//! Calibration of γ: from labelled atoms to a force error in eV/Å that is not exceeded with a given coverage.
//!
//! # Method
//! The data are [`Pair`]s of γ and force error e = |F_label − F_predicted| of labelled atoms. Atoms of one region are not
//! independent of each other, so the regions, and not the atoms, are the sample.
//!
//! 1. The regions are put in an order that depends on their numbers only. The first third fits the shape of
//!    σ(γ) = (1 + γ)^p, p ≥ 0: ln e = a + p ln(1 + γ) by least squares, each region with the same weight.
//! 2. The other K regions give the scores s = e / σ(γ). The bound with coverage 1 − α is q σ(γ), where q is the 1 − α quantile of
//!    Σ_k Σ_i δ(s_ki) / ((K + 1) N_k) + δ(∞) / (K + 1), with N_k the number of atoms of region k.
//!
//! This is split conformal prediction with normalised scores (Lei et al., J. Am. Stat. Assoc. 113, 1094 (2018); Angelopoulos and
//! Bates, Found. Trends Mach. Learn. 16, 494 (2023)) for grouped data: hierarchical conformal prediction (Lee, Barber and Willett,
//! arXiv:2306.06342). Separate quantiles for elements and trigger kinds are Mondrian conformal prediction (Vovk, Gammerman and
//! Shafer, *Algorithmic Learning in a Random World*, 2005).
//!
//! # Guarantee
//! The error of a random atom of a new region is at most its bound with a probability of at least 1 − α, for any number of
//! regions, any distribution of errors and any shape of σ, if the new region is exchangeable with the labelled ones. The
//! probability is over the labelled regions as well: in a single calibration of K regions, the coverage scatters around its
//! mean with a standard deviation of about √(α (1 − α) / K).
//!
//! Not guaranteed:
//! - coverage in another population of regions. Audits (random regions) represent the atoms below the threshold, events the atoms
//!   that stopped a run. Another temperature or composition, or another potential, requires labels of its own;
//! - coverage at each γ separately. The average over the γ of the population is guaranteed; σ makes the coverage similar at all γ
//!   as far as errors follow its shape;
//! - a bound for all atoms of a region at once;
//! - anything, if the potential was trained on the labels: its errors there are too small.

use std::collections::{BTreeMap, BTreeSet};

use otf_store::{Candidate, Store, StoreError, StoredCandidate, Trigger};
use serde::{Deserialize, Serialize};

use crate::prediction::{PredictionError, Predictor};
use crate::structure::Element;

/// The γ of a labelled atom and the error of the force on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Number of the region. Atoms of one region are not independent.
    pub region: i64,
    /// The element of the atom.
    pub element: Element,
    /// Why the region was stored.
    pub trigger: Trigger,
    /// Extrapolation grade γ of the atom.
    pub gamma: f64,
    /// Norm of the difference between label and prediction of the force, eV/Å.
    pub error: f64,
}

/// Whether a region was drawn at random or stored for a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A random region: the trigger is `audit`.
    Audit,
    /// Any other trigger.
    Event,
}

impl Kind {
    /// The kind of a trigger.
    #[must_use]
    pub fn of(trigger: &Trigger) -> Self {
        if *trigger == Trigger::Audit { Self::Audit } else { Self::Event }
    }

    /// The name of the kind.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Event => "event",
        }
    }
}

/// Why there is no calibration.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrationError {
    /// There are no pairs.
    #[error("there are no labelled atoms with γ")]
    Empty,
    /// A number is negative or not finite.
    #[error(
        "an atom of region {region} has γ = {gamma} and a force error of {error} eV/Å: both must be finite and not negative"
    )]
    NotFinite {
        /// The region.
        region: i64,
        /// γ of the atom.
        gamma: f64,
        /// The force error, eV/Å.
        error: f64,
    },
}

/// The largest γ at which the bound is at most a tolerated force error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Threshold {
    /// The bound passes the tolerated error at this γ.
    Gamma(f64),
    /// The bound at the largest γ of the pairs, which is given, is still below the tolerated error. Beyond it there are no data.
    LargestGamma(f64),
    /// The bound at γ = 0, which is given in eV/Å, is already larger than the tolerated error.
    AboveAtZero(f64),
}

impl Threshold {
    /// The threshold on γ; `None` if no γ is low enough.
    #[must_use]
    pub fn gamma(self) -> Option<f64> {
        match self {
            Self::Gamma(gamma) | Self::LargestGamma(gamma) => Some(gamma),
            Self::AboveAtZero(_) => None,
        }
    }
}

/// Version of the serialised form.
pub const FORMAT: u32 = 1;

/// A calibration of γ with labelled atoms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Version of this form, [`FORMAT`].
    #[serde(deserialize_with = "known_format")]
    format: u32,
    /// All pairs together first, then the groups.
    #[serde(deserialize_with = "not_empty")]
    groups: Vec<Group>,
}

/// The calibration of the atoms of one element, of one trigger kind, of both, or of all atoms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Symbol of the element; `None` for all elements.
    pub element: Option<String>,
    /// The trigger kind; `None` for both.
    pub kind: Option<Kind>,
    /// Number of regions.
    pub regions: usize,
    /// Number of regions that give scores, K.
    pub scored_regions: usize,
    /// Number of pairs.
    pub pairs: usize,
    /// The largest γ of the pairs.
    pub gamma_max: f64,
    /// The exponent p of σ(γ) = (1 + γ)^p.
    pub exponent: f64,
    /// Points (w, s) of the distribution of the scores, ascending: a share w of the K + 1 regions' weight is at scores up to s, in
    /// eV/Å. Of more than [`POINTS`] scores, some are left out, so that quantiles are equal or slightly larger.
    scores: Vec<(f64, f64)>,
}

/// Largest number of stored points of a distribution of scores.
const POINTS: usize = 1000;

/// Largest exponent of σ(γ). A steeper fit results from few regions with a narrow range of γ.
const MAX_EXPONENT: f64 = 3.0;

/// Force errors below this are rounding, eV/Å; their logarithm would dominate the fit.
const MIN_ERROR: f64 = 1e-6;

/// Tolerance of sums of weights.
const ROUNDING: f64 = 1e-9;

/// Share of the regions that fit σ(γ): one of this many.
const FITTED: usize = 3;

/// The number of regions below which a bound with this coverage does not exist: ⌈c / (1 − c)⌉ regions with scores, and half as
/// many that fit σ(γ). 5 for a coverage of 0.8, 13 for 0.9, 28 for 0.95.
#[must_use]
pub fn min_regions(coverage: f64) -> usize {
    let scored = (coverage / (1.0 - coverage) - ROUNDING).ceil().max(1.0);
    // `as` saturates. The smallest n with n - ⌊n / 3⌋ ≥ scored.
    let scored = (scored as usize).min(usize::MAX / 4);
    scored + (scored - 1) / (FITTED - 1)
}

fn known_format<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let found = u32::deserialize(deserializer)?;
    if found == FORMAT {
        Ok(found)
    } else {
        Err(serde::de::Error::custom(format_args!("format {found} of the calibration is unknown, expected {FORMAT}")))
    }
}

fn not_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Group>, D::Error> {
    let groups = Vec::<Group>::deserialize(deserializer)?;
    match groups.first() {
        Some(Group { element: None, kind: None, .. }) => Ok(groups),
        _ => Err(serde::de::Error::custom("the first group of the calibration must be that of all atoms")),
    }
}

impl Calibration {
    /// Calibrates γ with labelled atoms. The result does not depend on their order.
    ///
    /// # Errors
    /// If there are no pairs, or if a number is negative or not finite.
    pub fn fit(pairs: &[Pair]) -> Result<Self, CalibrationError> {
        let valid = |x: f64| x.is_finite() && x >= 0.0;
        if let Some(bad) = pairs.iter().find(|p| !valid(p.gamma) || !valid(p.error)) {
            return Err(CalibrationError::NotFinite { region: bad.region, gamma: bad.gamma, error: bad.error });
        }
        if pairs.is_empty() {
            return Err(CalibrationError::Empty);
        }
        let kinds = choices(pairs.iter().map(|p| Kind::of(&p.trigger)));
        let elements = choices(pairs.iter().map(|p| p.element.symbol()));
        let mut groups = Vec::new();
        for &kind in &kinds {
            for &element in &elements {
                let member = |p: &&Pair| {
                    element.is_none_or(|e| e == p.element.symbol()) && kind.is_none_or(|k| k == Kind::of(&p.trigger))
                };
                let members: Vec<&Pair> = pairs.iter().filter(member).collect();
                if !members.is_empty() {
                    groups.push(Group::fit(element, kind, &members));
                }
            }
        }
        Ok(Self { format: FORMAT, groups })
    }

    /// Reads a calibration, and the hash of its potential if there is one, from a file that `lammps-otf calibrate --json` has written.
    ///
    /// # Errors
    /// The reason why the file cannot be used.
    pub fn read(path: &std::path::Path) -> Result<(Self, Option<String>), String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let mut value: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let potential = value["potential"]["hash"].as_str().map(str::to_owned);
        let own = value.get_mut("calibration").map(serde_json::Value::take).unwrap_or(value);
        Ok((serde_json::from_value(own).map_err(|error| error.to_string())?, potential))
    }

    /// Force error in eV/Å that an atom with this γ does not exceed with this coverage (0 to 1). It holds for each element with
    /// [enough](min_regions) regions separately; the other elements count with all atoms together. Above the largest γ of the pairs
    /// it is an extrapolation. `None` if there are too few regions, or if γ is NaN.
    #[must_use]
    pub fn bound(&self, gamma: f64, coverage: f64) -> Option<f64> {
        let bounds = self.groups_used(coverage).map(|group| group.bound(gamma, coverage));
        bounds.reduce(|a, b| Some(a?.max(b?))).flatten()
    }

    /// The largest γ at which the [bound](Self::bound) is at most `force_error` (eV/Å), but not more than the largest γ of the pairs.
    /// `None` if there are too few regions.
    #[must_use]
    pub fn threshold(&self, force_error: f64, coverage: f64) -> Option<Threshold> {
        let thresholds = self.groups_used(coverage).map(|group| group.threshold(force_error, coverage));
        thresholds.reduce(|a, b| Some(lower(a?, b?))).flatten()
    }

    /// The groups of which the bound is the largest: each element, or all atoms together for an element with too few regions.
    pub fn groups_used(&self, coverage: f64) -> impl Iterator<Item = &Group> {
        let elements = self.groups.iter().filter(|group| group.element.is_some() && group.kind.is_none());
        let mut used: Vec<&Group> =
            elements.map(|group| self.group(group.element.as_deref(), None, coverage)).collect();
        if used.is_empty() {
            used.push(&self.groups[0]);
        }
        used.sort_by_key(|group| &group.element);
        used.dedup_by_key(|group| &group.element);
        used.into_iter()
    }

    /// The group of this element and trigger kind, or the most specific larger group that has enough regions for this coverage: both
    /// trigger kinds of the element, all elements of the trigger kind, or all atoms (also if they have too few regions).
    #[must_use]
    pub fn group(&self, element: Option<&str>, kind: Option<Kind>, coverage: f64) -> &Group {
        let choices = [(element, kind), (element, None), (None, kind)];
        let find = |(e, k)| self.groups.iter().find(|group| group.element.as_deref() == e && group.kind == k);
        let enough = |group: &&Group| group.quantile(coverage).is_some();
        choices.into_iter().filter_map(find).find(enough).unwrap_or(&self.groups[0])
    }

    /// All atoms together, followed by each element and each trigger kind, if there are several.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Number of regions.
    #[must_use]
    pub fn regions(&self) -> usize {
        self.groups[0].regions
    }

    /// Number of pairs.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.groups[0].pairs
    }
}

/// `None`, which stands for all values, and each value if there are several.
fn choices<T: Ord>(values: impl Iterator<Item = T>) -> Vec<Option<T>> {
    let distinct: BTreeSet<T> = values.collect();
    let several = distinct.len() > 1;
    std::iter::once(None).chain(distinct.into_iter().filter(|_| several).map(Some)).collect()
}

/// The share of atoms whose error is at most the bound, observed in regions that were not used for the calibration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Number of regions.
    pub regions: usize,
    /// Number of pairs.
    pub pairs: usize,
    /// Mean over the regions of the share of their atoms whose error is at most the bound.
    pub coverage: f64,
    /// Standard deviation expected of it for independent regions, √(c (1 − c) (1/n + 1/K)) for the nominal coverage c, n regions here
    /// and K in the calibration. It is an upper limit: it is reached if all atoms of a region behave alike.
    pub deviation: f64,
}

impl Observed {
    /// Compares pairs of new regions with their `bound` (eV/Å) for the given coverage. `scored` is the number of regions K of the
    /// calibration. `None` if there are no pairs, or if one has no bound.
    #[must_use]
    pub fn of<'a>(
        pairs: impl IntoIterator<Item = &'a Pair>,
        coverage: f64,
        scored: usize,
        bound: impl Fn(&Pair) -> Option<f64>,
    ) -> Option<Self> {
        let mut regions: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
        let mut count = 0;
        for pair in pairs {
            let (covered, all) = regions.entry(pair.region).or_default();
            *covered += f64::from(u8::from(pair.error <= bound(pair)?));
            *all += 1.0;
            count += 1;
        }
        let n = regions.len() as f64;
        (count > 0).then(|| Self {
            regions: regions.len(),
            pairs: count,
            coverage: regions.values().map(|(covered, all)| covered / all).sum::<f64>() / n,
            deviation: (coverage * (1.0 - coverage) * (1.0 / n + 1.0 / scored as f64)).sqrt(),
        })
    }
}

/// The lower of two thresholds.
fn lower(a: Threshold, b: Threshold) -> Threshold {
    let bound_at_zero = |t| if let Threshold::AboveAtZero(bound) = t { bound } else { f64::NEG_INFINITY };
    match (a.gamma(), b.gamma()) {
        (Some(x), Some(y)) => {
            if x <= y {
                a
            } else {
                b
            }
        }
        _ => {
            if bound_at_zero(a) >= bound_at_zero(b) {
                a
            } else {
                b
            }
        }
    }
}

impl Group {
    fn fit(element: Option<&str>, kind: Option<Kind>, pairs: &[&Pair]) -> Self {
        let mut by_region: BTreeMap<i64, Vec<&Pair>> = BTreeMap::new();
        for pair in pairs {
            by_region.entry(pair.region).or_default().push(pair);
        }
        // A fixed permutation that is unrelated to any order in which regions were made.
        let mut regions: Vec<(u64, Vec<&Pair>)> =
            by_region.into_iter().map(|(id, pairs)| (mix(id as u64), pairs)).collect();
        regions.sort_by_key(|(hash, _)| *hash);
        let (fitted, scored) = regions.split_at(regions.len() / FITTED);
        let exponent = exponent(fitted.iter().map(|(_, pairs)| &pairs[..]));
        let share = 1.0 / (scored.len() + 1) as f64;
        let mut scores: Vec<(f64, f64)> = scored
            .iter()
            .flat_map(|(_, pairs)| {
                let weight = share / pairs.len() as f64;
                pairs.iter().map(move |pair| (weight, pair.error / sigma(pair.gamma, exponent)))
            })
            .collect();
        scores.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.total_cmp(&b.0)));
        let mut sum = 0.0;
        for (weight, _) in &mut scores {
            sum += *weight;
            *weight = sum;
        }
        if scores.len() > POINTS {
            // The last score of each of the equal intervals of the weight: a quantile is rounded up.
            let interval = |weight: f64| (weight * POINTS as f64 + ROUNDING) as usize;
            scores = scores.chunk_by(|a, b| interval(a.0) == interval(b.0)).map(|part| part[part.len() - 1]).collect();
        }
        Self {
            element: element.map(str::to_owned),
            kind,
            regions: regions.len(),
            scored_regions: scored.len(),
            pairs: pairs.len(),
            gamma_max: pairs.iter().map(|pair| pair.gamma).fold(0.0, f64::max),
            exponent,
            scores,
        }
    }

    /// Quantile of the scores, eV/Å; `None` if it is infinite.
    fn quantile(&self, coverage: f64) -> Option<f64> {
        self.scores.iter().find(|(weight, _)| *weight >= coverage - ROUNDING).map(|(_, score)| *score)
    }

    /// As [`Calibration::bound`], for an atom of this group.
    #[must_use]
    pub fn bound(&self, gamma: f64, coverage: f64) -> Option<f64> {
        let bound = self.quantile(coverage)? * sigma(gamma, self.exponent);
        (!gamma.is_nan()).then_some(bound)
    }

    /// As [`Calibration::threshold`], for an atom of this group.
    #[must_use]
    pub fn threshold(&self, force_error: f64, coverage: f64) -> Option<Threshold> {
        let quantile = self.quantile(coverage)?;
        if quantile > force_error {
            return Some(Threshold::AboveAtZero(quantile));
        }
        let gamma = (force_error / quantile).powf(1.0 / self.exponent) - 1.0;
        // Infinite or NaN if the bound does not increase.
        Some(if gamma < self.gamma_max { Threshold::Gamma(gamma) } else { Threshold::LargestGamma(self.gamma_max) })
    }

    /// Whether the atom of a pair belongs to this group.
    #[must_use]
    pub fn contains(&self, pair: &Pair) -> bool {
        self.element.as_deref().is_none_or(|element| element == pair.element.symbol())
            && self.kind.is_none_or(|kind| kind == Kind::of(&pair.trigger))
    }

    /// Name of the group.
    #[must_use]
    pub fn name(&self) -> String {
        let element = self.element.as_deref().unwrap_or("all");
        self.kind.map_or_else(|| element.to_owned(), |kind| format!("{element}, {}", kind.as_str()))
    }
}

/// The shape of the error as a function of γ, 1 at γ = 0.
fn sigma(gamma: f64, exponent: f64) -> f64 {
    (1.0 + gamma).powf(exponent)
}

/// The exponent of σ(γ) by least squares, each region with the same weight; 0 if the error does not increase with γ.
fn exponent<'a>(regions: impl Iterator<Item = &'a [&'a Pair]>) -> f64 {
    let points = regions.flat_map(|pairs| {
        pairs.iter().map(|pair| (1.0 / pairs.len() as f64, pair.gamma.ln_1p(), pair.error.max(MIN_ERROR).ln()))
    });
    let points: Vec<(f64, f64, f64)> = points.collect();
    let mean = |value: fn(&(f64, f64, f64)) -> f64| {
        points.iter().map(|p| p.0 * value(p)).sum::<f64>() / points.iter().map(|p| p.0).sum::<f64>()
    };
    let (x, y) = (mean(|p| p.1), mean(|p| p.2));
    let covariance: f64 = points.iter().map(|p| p.0 * (p.1 - x) * (p.2 - y)).sum();
    let variance: f64 = points.iter().map(|p| p.0 * (p.1 - x).powi(2)).sum();
    let slope = covariance / variance;
    if slope.is_finite() { slope.clamp(0.0, MAX_EXPONENT) } else { 0.0 }
}

/// The mixing function of the generator SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), which is a bijection.
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The pairs of the core atoms of labelled rows of a store, as with [`pairs_of_candidate`]. Each row is a region; its number is the id
/// of the row. Rows without labels are skipped.
///
/// # Errors
/// As [`pairs_of_candidate`].
pub fn pairs_of<'a>(
    rows: impl IntoIterator<Item = &'a StoredCandidate>,
    predictor: &mut Predictor,
) -> Result<Vec<Pair>, PredictionError> {
    let mut found = Vec::new();
    for row in rows.into_iter().filter(|row| row.is_labelled()) {
        found.extend(pairs_of_candidate(row.id, &row.candidate, predictor)?);
    }
    Ok(found)
}

/// Whether a potential of a loop was probably trained on a labelled candidate in its store. A potential is trained on the candidates
/// that the potentials before it have found, except for audits that are held back. `round` is the round that has trained the potential, and
/// `None` if the store does not know it.
///
/// # Errors
/// If the store cannot be read.
pub fn is_trained_on(row: &StoredCandidate, store: &Store, round: Option<u32>) -> Result<bool, StoreError> {
    if row.candidate.keys.trigger == Some(Trigger::Audit) {
        return Ok(!row.is_held_back());
    }
    // A label that is probably wrong shows no errors of a potential.
    if row.is_suspect() {
        return Ok(true);
    }
    let hash = row.candidate.keys.potential_hash.as_deref();
    let found_by = hash.map(|hash| store.potential(hash)).transpose()?.flatten();
    Ok(found_by.is_some_and(|record| round.is_some_and(|own| record.round < own)))
}

/// The pairs of the core atoms (force mask above 0) of a candidate; none if it has no labels. γ of each atom is that in the candidate,
/// as is the error. With a buffer thinner than the cutoff, γ in the parent frame belongs to another environment.
///
/// # Errors
/// If the candidate cannot be evaluated, or if the potential has no active set.
///
/// # Panics
/// If the labels have another number of atoms.
pub fn pairs_of_candidate(
    region: i64,
    candidate: &Candidate,
    predictor: &mut Predictor,
) -> Result<Vec<Pair>, PredictionError> {
    let Some(labels) = &candidate.labels else { return Ok(Vec::new()) };
    let prediction = predictor.evaluate(&candidate.structure)?;
    let errors = prediction.force_errors(labels.forces.view());
    let gamma = prediction.gamma.as_ref().ok_or(PredictionError::NoActiveSet)?;
    let trigger = candidate.keys.trigger.clone().unwrap_or(Trigger::Other("none".into()));
    let pair = |i: usize| Pair {
        region,
        element: candidate.structure.element(i),
        trigger: trigger.clone(),
        gamma: gamma[i],
        error: errors[i],
    };
    Ok((0..candidate.structure.len()).filter(|&i| candidate.force_mask[i] > 0.0).map(pair).collect())
}

/// The bound with a fixed coverage.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorBound {
    calibration: Calibration,
    coverage: f64,
}

impl ErrorBound {
    /// The [bound](Calibration::bound) of a calibration with this coverage.
    #[must_use]
    pub fn new(calibration: Calibration, coverage: f64) -> Self {
        Self { calibration, coverage }
    }

    /// As [`Calibration::bound`].
    #[must_use]
    pub fn of(&self, gamma: f64) -> Option<f64> {
        self.calibration.bound(gamma, self.coverage)
    }
}

/// Limits of the intervals of γ of [`bins`]; the last interval has no upper limit.
pub const GAMMA_LIMITS: [f64; 9] = [0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];

/// Shares of the atoms at which [`Bin`] has quantiles.
pub const QUANTILES: [f64; 4] = [0.5, 0.8, 0.9, 0.95];

/// The force errors of the atoms in an interval of γ, each atom with the same weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Lower limit of γ.
    pub from: f64,
    /// Upper limit of γ; `None` if there is none.
    pub to: Option<f64>,
    /// Number of regions.
    pub regions: usize,
    /// Number of pairs.
    pub pairs: usize,
    /// Root mean square of the force error, eV/Å.
    pub force_rmse: f64,
    /// The [`QUANTILES`] of the force error, eV/Å.
    pub quantiles: [f64; QUANTILES.len()],
}

/// The force errors in intervals of γ. Intervals without pairs are left out.
#[must_use]
pub fn bins(pairs: &[Pair]) -> Vec<Bin> {
    let limits = GAMMA_LIMITS.iter().enumerate().map(|(k, &from)| (from, GAMMA_LIMITS.get(k + 1).copied()));
    let bin = |(from, to): (f64, Option<f64>)| {
        let within = |p: &&Pair| p.gamma >= from && to.is_none_or(|to| p.gamma < to);
        let members: Vec<&Pair> = pairs.iter().filter(within).collect();
        let mut errors: Vec<f64> = members.iter().map(|p| p.error).collect();
        errors.sort_by(f64::total_cmp);
        let n = errors.len();
        let quantile = |share: f64| errors[((share * n as f64).ceil() as usize).clamp(1, n) - 1];
        (n > 0).then(|| Bin {
            from,
            to,
            regions: members.iter().map(|p| p.region).collect::<BTreeSet<_>>().len(),
            pairs: n,
            force_rmse: (errors.iter().map(|e| e * e).sum::<f64>() / n as f64).sqrt(),
            quantiles: QUANTILES.map(quantile),
        })
    };
    limits.filter_map(bin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uniform numbers in (0, 1): SplitMix64.
    struct Random(i64);

    impl Random {
        fn uniform(&mut self) -> f64 {
            self.0 += 1;
            ((mix(self.0 as u64) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
        }

        /// Box and Muller.
        fn normal(&mut self) -> f64 {
            (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
        }

        /// A region of 1 to 30 atoms. The errors of its atoms share a factor, and increase with γ by another law than that of σ.
        fn region(&mut self, number: i64) -> Vec<Pair> {
            let shared = (0.5 * self.normal()).exp();
            let atoms = 1 + (30.0 * self.uniform()) as usize;
            let mut atom = || {
                let gamma = -2.0 * self.uniform().ln();
                let copper = self.uniform() < 0.3;
                let scale = if copper { 0.12 } else { 0.04 };
                let error = scale * (1.0 + 0.2 * gamma * gamma) * shared * self.normal().abs();
                let element = if copper { Element::Cu } else { Element::Al };
                Pair { region: number, element, trigger: Trigger::Gamma, gamma, error }
            };
            (0..atoms).map(|_| atom()).collect()
        }

        fn regions(&mut self, number: usize) -> Vec<Pair> {
            (1..=number as i64).flat_map(|k| self.region(k)).collect()
        }
    }

    #[test]
    fn coverage_of_new_regions_is_nominal() {
        const REPETITIONS: usize = 600;
        const LABELLED: usize = 45;
        const NEW: usize = 20;
        let mut random = Random(1);
        let coverages = [0.5, 0.8, 0.9, 0.95];
        let mut covered = [[0.0; 4]; 3];
        for _ in 0..REPETITIONS {
            let calibration = Calibration::fit(&random.regions(LABELLED)).unwrap();
            let all = calibration.group(None, None, 0.5);
            for _ in 0..NEW {
                let region = random.region(0);
                let atom = &region[(random.uniform() * region.len() as f64) as usize];
                let own = calibration.group(Some(atom.element.symbol()), None, 0.95);
                assert_eq!(own.element.as_deref(), Some(atom.element.symbol()));
                for (k, &coverage) in coverages.iter().enumerate() {
                    let bounds = [
                        all.bound(atom.gamma, coverage),
                        own.bound(atom.gamma, coverage),
                        calibration.bound(atom.gamma, coverage),
                    ];
                    for (kind, bound) in bounds.into_iter().enumerate() {
                        covered[kind][k] +=
                            f64::from(u8::from(atom.error <= bound.unwrap())) / (REPETITIONS * NEW) as f64;
                    }
                }
            }
        }
        let scored = (LABELLED - LABELLED / FITTED) as f64;
        for (k, &coverage) in coverages.iter().enumerate() {
            // The coverage of a calibration scatters around its mean, and so does the share of the new atoms.
            let variance = coverage * (1.0 - coverage) * (1.0 / scored + 1.0 / NEW as f64);
            let deviation = 3.5 * (variance / REPETITIONS as f64).sqrt();
            for found in covered {
                assert!(found[k] > coverage - deviation, "{coverage}: {found:?}");
            }
            assert!(covered[0][k] < coverage + 2.0 / scored + deviation, "{coverage}: {covered:?}");
        }
    }

    #[test]
    fn bounds_increase_with_gamma_and_with_coverage() {
        let calibration = Calibration::fit(&Random(2).regions(60)).unwrap();
        assert!(calibration.groups().iter().all(|group| group.exponent > 0.0));
        for coverage in [0.6, 0.7, 0.8, 0.9] {
            for k in 0..50 {
                let gamma = f64::from(k) * 0.3;
                let bound = |gamma, coverage| calibration.bound(gamma, coverage).unwrap();
                assert!(bound(gamma + 0.3, coverage) > bound(gamma, coverage));
                assert!(bound(gamma, coverage + 0.05) >= bound(gamma, coverage));
            }
        }
        assert_eq!(calibration.bound(f64::NAN, 0.8), None);
        assert_eq!(calibration.bound(f64::INFINITY, 0.8), Some(f64::INFINITY));
    }

    #[test]
    fn threshold_inverts_the_bound() {
        let calibration = Calibration::fit(&Random(3).regions(60)).unwrap();
        let tolerated = calibration.bound(2.5, 0.9).unwrap();
        let Some(Threshold::Gamma(gamma)) = calibration.threshold(tolerated, 0.9) else { panic!() };
        assert!((gamma - 2.5).abs() < 1e-9, "{gamma}");
        let lowest = calibration.bound(0.0, 0.9).unwrap();
        assert_eq!(calibration.threshold(0.5 * lowest, 0.9), Some(Threshold::AboveAtZero(lowest)));
        assert_eq!(calibration.threshold(0.5 * lowest, 0.9).unwrap().gamma(), None);
        // Not above the γ of the data, and the lowest of the elements.
        let largest = |element| calibration.group(Some(element), None, 0.9).gamma_max;
        let expected = Threshold::LargestGamma(largest("Al").min(largest("Cu")));
        assert_eq!(calibration.threshold(1e6, 0.9), Some(expected));
    }

    #[test]
    fn too_few_regions_give_no_bound() {
        assert_eq!([0.8, 0.9, 0.95, 0.99].map(min_regions), [5, 13, 28, 148]);
        for coverage in [0.5, 0.8, 0.9, 0.95] {
            let least = min_regions(coverage);
            let few = Calibration::fit(&Random(4).regions(least - 1));
            assert_eq!(few.ok().and_then(|c| c.groups()[0].bound(1.0, coverage)), None);
            assert_eq!(few_threshold(least - 1, coverage), None);
            assert!(Calibration::fit(&Random(4).regions(least)).unwrap().bound(1.0, coverage).is_some());
        }
        assert_eq!(Calibration::fit(&[]), Err(CalibrationError::Empty));
        let mut bad = Random(4).regions(2);
        bad[0].error = f64::NAN;
        assert!(matches!(Calibration::fit(&bad), Err(CalibrationError::NotFinite { region: 1, .. })));
    }

    fn few_threshold(regions: usize, coverage: f64) -> Option<Threshold> {
        Calibration::fit(&Random(4).regions(regions)).ok()?.threshold(0.1, coverage)
    }

    #[test]
    fn observed_coverage_is_a_mean_over_regions() {
        let pair = |region, error| Pair { region, element: Element::Al, trigger: Trigger::Gamma, gamma: 1.0, error };
        let pairs = [pair(1, 0.1), pair(1, 0.3), pair(1, 0.1), pair(1, 0.1), pair(2, 0.3)];
        let found = Observed::of(&pairs, 0.8, 4, |p| Some(0.2 * p.gamma)).unwrap();
        assert_eq!((found.regions, found.pairs, found.coverage), (2, 5, 0.375));
        assert!((found.deviation - (0.16_f64 * 0.75).sqrt()).abs() < 1e-12);
        assert_eq!(Observed::of(&pairs, 0.8, 4, |_| None), None);
        assert_eq!(Observed::of(&[], 0.8, 4, |_| Some(1.0)), None);
    }

    #[test]
    fn bins_have_the_quantiles_of_their_atoms() {
        let pair = |gamma, error| Pair { region: 1, element: Element::Al, trigger: Trigger::Gamma, gamma, error };
        let mut pairs: Vec<Pair> = (1..=100).map(|k| pair(0.7, f64::from(k))).collect();
        pairs.extend([pair(1.0, 3.0), pair(500.0, 4.0)]);
        let found = bins(&pairs);
        let limits: Vec<_> = found.iter().map(|b| (b.from, b.to, b.pairs)).collect();
        assert_eq!(limits, [(0.5, Some(1.0), 100), (1.0, Some(2.0), 1), (100.0, None, 1)]);
        assert_eq!(found[0].quantiles, [50.0, 80.0, 90.0, 95.0]);
        assert_eq!((found[1].quantiles, found[1].force_rmse), ([3.0; 4], 3.0));
    }

    #[test]
    fn rare_elements_and_kinds_are_pooled() {
        let mut pairs = Random(5).regions(40);
        pairs[0].element = Element::Ni;
        pairs.iter_mut().filter(|p| p.region % 2 == 0).for_each(|p| p.trigger = Trigger::Audit);
        let calibration = Calibration::fit(&pairs).unwrap();
        let used = |element, kind| calibration.group(Some(element), kind, 0.9).name();
        assert_eq!(used("Ni", None), "all");
        assert_eq!(used("Ni", Some(Kind::Audit)), "all, audit");
        assert_eq!(used("Al", Some(Kind::Event)), "Al, event");
        assert_eq!(calibration.group(Some("Al"), Some(Kind::Event), 0.99).name(), "all");
        let names: Vec<String> = calibration.groups_used(0.9).map(Group::name).collect();
        assert_eq!(names, ["all", "Al", "Cu"]);
        // A single element and a single kind are not repeated.
        pairs.iter_mut().for_each(|p| (p.element, p.trigger) = (Element::Al, Trigger::Gamma));
        assert_eq!(Calibration::fit(&pairs).unwrap().groups().len(), 1);
    }

    #[test]
    fn serialised_form_is_read_back_and_other_versions_are_refused() {
        let pairs = Random(6).regions(200);
        let calibration = Calibration::fit(&pairs).unwrap();
        let text = serde_json::to_string(&calibration).unwrap();
        assert_eq!(serde_json::from_str::<Calibration>(&text).unwrap(), calibration);
        let refused = |text: &str| serde_json::from_str::<Calibration>(text).unwrap_err().to_string();
        assert!(refused(&text.replace("\"format\":1", "\"format\":2")).contains("format 2"));
        assert!(refused("{\"format\":1,\"groups\":[]}").contains("first group"));
        // The order of the pairs does not matter.
        let mut turned = pairs;
        turned.reverse();
        let other = Calibration::fit(&turned).unwrap();
        for (a, b) in calibration.groups().iter().zip(other.groups()) {
            assert!((a.exponent - b.exponent).abs() < 1e-12);
            assert!((a.bound(1.0, 0.9).unwrap() / b.bound(1.0, 0.9).unwrap() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn stored_quantiles_of_many_scores_are_rounded_up() {
        let pairs = Random(7).regions(300);
        let members: Vec<&Pair> = pairs.iter().collect();
        let group = Group::fit(None, None, &members);
        assert!(group.scores.len() <= POINTS && group.pairs > 2 * POINTS);
        let mut regions: BTreeMap<i64, f64> = BTreeMap::new();
        pairs.iter().for_each(|p| *regions.entry(p.region).or_default() += 1.0);
        let scored: BTreeSet<i64> = {
            let mut order: Vec<i64> = regions.keys().copied().collect();
            order.sort_by_key(|id| mix(*id as u64));
            order.split_off(order.len() / FITTED).into_iter().collect()
        };
        for coverage in [0.123_456, 0.5, 0.9, 0.987_6] {
            let bound = group.bound(0.0, coverage).unwrap();
            let weight = |limit: f64| -> f64 {
                let low = |p: &&Pair| scored.contains(&p.region) && p.error / sigma(p.gamma, group.exponent) <= limit;
                pairs.iter().filter(low).map(|p| 1.0 / regions[&p.region]).sum::<f64>() / (scored.len() + 1) as f64
            };
            assert!((coverage..coverage + 1.1e-3 + 1.0 / scored.len() as f64).contains(&weight(bound)), "{coverage}");
        }
    }
}
