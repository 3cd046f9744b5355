// SPDX-License-Identifier: GPL-2.0-or-later
//! What γ does not show: atoms whose terms core repulsion switches off, and atoms with few neighbours.
//!
//! Where core repulsion replaces the terms that were fitted, the projections of an atom no longer depend on the neighbour that is
//! too close, and γ is that of a vacancy. The projections of an isolated atom vanish, and γ with them.

use ndarray::ArrayView1;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Extremes, GammaSummary, LocalGamma};
use crate::comm::Comm;
use crate::config::{InferenceConfig, Uncertainty};
use crate::lammps::{Error, Lammps, PairDevice};
use crate::structure::{AtomId, Integers, Vec3};

/// Id of the fix that holds the core shares.
const CORE_FIX: &str = "otf_core";
/// Its style in the pause plugin.
const CORE_STYLE: &str = "otf/core";
/// Id of the fix that holds the numbers of neighbours.
const NEIGHBOURS_FIX: &str = "otf_neighbours";
/// Its style in the pause plugin.
const NEIGHBOURS_STYLE: &str = "otf/neighbours";
/// Id of the compute that counts neighbours without the plugin.
const NEIGHBOURS_COMPUTE: &str = "otf_neighbours";

/// Default of `sparse_neighbours` where the count costs little.
const SPARSE_NEIGHBOURS: u64 = 4;

/// Core shares of the atoms at one step. The core share of an atom is the larger of two numbers between 0 and 1: the share of its
/// many-body energy that core repulsion has switched off, and the largest share of the radial functions of a neighbour that the
/// inner cutoff of the potential has switched off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CoreSummary {
    /// The largest core share.
    #[serde(deserialize_with = "otf_store::json::or_nan")]
    #[schemars(with = "Option<f64>")]
    pub max: f64,
    /// Id of the atom with the largest core share; the lowest id if there are several. `null` in JSON if all are 0.
    pub worst_id: Option<AtomId>,
    /// Number of atoms above `core_share`.
    pub above: u64,
}

/// Atoms with few neighbours at one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SparseSummary {
    /// Number of atoms with fewer neighbours within the cutoff than `sparse_neighbours`.
    pub atoms: u64,
    /// The smallest number of neighbours of an atom. `null` in JSON if `atoms` is 0.
    pub fewest: Option<u64>,
    /// Id of the atom with the fewest neighbours; the lowest id if there are several. `null` in JSON if `atoms` is 0.
    pub fewest_id: Option<AtomId>,
}

/// The limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlindSpotLimits {
    /// Core shares above this are an event.
    pub core_share: f64,
    /// Atoms with fewer neighbours are counted.
    pub sparse_neighbours: u64,
    /// Whether such atoms are an event.
    pub sparse_trigger: bool,
}

impl BlindSpotLimits {
    /// The limits of a configuration, with a pair style that LAMMPS evaluates on `device`.
    #[must_use]
    pub fn of(config: &InferenceConfig, device: PairDevice) -> Self {
        let watch = &config.watch;
        let is_cheap = config.system.potential.file.is_some() && device == PairDevice::Cpu;
        let default = if is_cheap || watch.sparse_trigger { SPARSE_NEIGHBOURS } else { 0 };
        match watch.uncertainty {
            Uncertainty::None => Self { core_share: 1.0, sparse_neighbours: 0, sparse_trigger: false },
            _ => Self {
                core_share: watch.core_share,
                sparse_neighbours: watch.sparse_neighbours.unwrap_or(default),
                sparse_trigger: watch.sparse_trigger,
            },
        }
    }
}

/// The blind spots that a simulation watches.
#[derive(Debug, Clone)]
pub struct BlindSpots {
    limits: BlindSpotLimits,
    /// Arguments of `pair_style`.
    pair_style: String,
    /// Cutoff of the potential, Å, if known.
    cutoff: Option<f64>,
    /// Whether LAMMPS has the fix for core shares.
    has_core: bool,
    /// Whether LAMMPS has the fix for numbers of neighbours.
    has_neighbours: bool,
}

/// The values of the atoms of a rank, in their order, shape (n), as views of LAMMPS's memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct BlindSpotValues<'a> {
    /// Core shares; NaN for all atoms if the pair style does not know them.
    pub core: Option<ArrayView1<'a, f64>>,
    /// Numbers of neighbours; only those below the limit are exact.
    pub neighbours: Option<ArrayView1<'a, f64>>,
}

impl BlindSpots {
    /// Nothing is watched before [`BlindSpots::watch`].
    #[must_use]
    pub fn new(limits: BlindSpotLimits, pair_style: &str, cutoff: Option<f64>) -> Self {
        Self { limits, pair_style: pair_style.to_owned(), cutoff, has_core: false, has_neighbours: false }
    }

    /// The limits.
    #[must_use]
    pub fn limits(&self) -> &BlindSpotLimits {
        &self.limits
    }

    /// Makes `lammps`, whose set-up must be complete otherwise, evaluate both on every step that is a multiple of `interval`.
    ///
    /// The fixes are those of the pause plugin ([`Lammps::load_pause_fix`]) if that is available on all ranks, otherwise `fix pair`
    /// and `compute coord/atom`. What the pair style does not have is not watched.
    ///
    /// # Errors
    /// LAMMPS's own text.
    ///
    /// # MPI
    /// Collective.
    pub fn watch(&mut self, lammps: &mut Lammps, interval: i64) -> Result<(), Error> {
        let on_all_ranks = |lammps: &Lammps, style| !lammps.comm().any(!lammps.has_style("fix", style));
        let has_pace = self.pair_style.split_whitespace().any(|word| word.starts_with("pace"));
        if self.limits.core_share < 1.0 && has_pace {
            self.has_core = if on_all_ranks(lammps, CORE_STYLE) {
                // It evaluates a step that is set up again, so that it need not be defined again.
                if !lammps.has_id("fix", CORE_FIX) {
                    lammps.command(&format!("fix {CORE_FIX} all {CORE_STYLE} {interval}"))?;
                }
                true
            } else {
                match lammps.command(&format!("fix {CORE_FIX} all pair {interval} {} core_share 1", self.pair_style)) {
                    Err(error) if error.is_rank_failure() => return Err(error),
                    // `fix pair` does not know a pair style that has no core share.
                    outcome => outcome.is_ok(),
                }
            };
        }
        let few = self.limits.sparse_neighbours;
        if few == 0 {
            return Ok(());
        }
        if on_all_ranks(lammps, NEIGHBOURS_STYLE) {
            if !lammps.has_id("fix", NEIGHBOURS_FIX) {
                lammps.command(&format!("fix {NEIGHBOURS_FIX} all {NEIGHBOURS_STYLE} {interval} {few}"))?;
            }
            self.has_neighbours = true;
        } else if let Some(cutoff) = self.cutoff {
            if !lammps.has_id("compute", NEIGHBOURS_COMPUTE) {
                lammps.command(&format!("compute {NEIGHBOURS_COMPUTE} all coord/atom cutoff {cutoff}"))?;
            }
            lammps.command(&format!("fix {NEIGHBOURS_FIX} all ave/atom 1 1 {interval} c_{NEIGHBOURS_COMPUTE}"))?;
            self.has_neighbours = true;
        }
        Ok(())
    }

    /// The values at the last step that is a multiple of the interval.
    ///
    /// # Errors
    /// [`Error::Missing`] if a command has removed a fix.
    pub fn values<'a>(&self, lammps: &'a Lammps) -> Result<BlindSpotValues<'a>, Error> {
        Ok(BlindSpotValues {
            core: if self.has_core { Some(lammps.fix_vector(CORE_FIX)?) } else { None },
            neighbours: if self.has_neighbours { Some(lammps.fix_vector(NEIGHBOURS_FIX)?) } else { None },
        })
    }
}

/// The atoms of this rank, and then of all ranks, with the largest value.
#[derive(Debug, Clone, Copy)]
struct Largest {
    /// Minus infinity if no value is known.
    value: f64,
    /// Of several atoms with this value, the one with the lowest id.
    id: AtomId,
    /// Number of atoms above the limit.
    above: u64,
}

/// Numbers that the ranks add up for a [`Largest`]: atoms above the limit, ranks that have the largest value, and halves of its id.
const SUMS_OF_ONE: usize = 4;
/// Numbers that the ranks add up for both blind spots.
pub(super) const SUMS: usize = 2 * SUMS_OF_ONE;

impl Largest {
    const NONE: Self = Self { value: f64::NEG_INFINITY, id: AtomId::MAX, above: 0 };

    /// Values that are NaN are not known.
    fn of<T: Copy + Into<AtomId>>(values: ArrayView1<'_, f64>, ids: ArrayView1<'_, T>, sign: f64, limit: f64) -> Self {
        let mut largest = Self::NONE;
        let mut add = |value: f64, id: T| {
            let value = sign * value;
            if value >= largest.value {
                let id = id.into();
                if value > largest.value || id < largest.id {
                    (largest.value, largest.id) = (value, id);
                }
            }
            largest.above += u64::from(value > limit);
        };
        match (values.as_slice(), ids.as_slice()) {
            (Some(values), Some(ids)) => values.iter().zip(ids).for_each(|(&v, &id)| add(v, id)),
            _ => values.iter().zip(ids).for_each(|(&v, &id)| add(v, id)),
        }
        largest
    }

    fn encode(&self, of_all: f64) -> [f64; SUMS_OF_ONE] {
        let is_largest = self.value == of_all && self.id != AtomId::MAX;
        let id = if is_largest { self.id } else { 0 };
        let (high, low) = super::halves(id);
        [self.above as f64, f64::from(u8::from(is_largest)), high, low]
    }

    /// The result of all ranks, whose ranks have added up `sums`. The id is found only if `wanted` is true of the number of atoms
    /// above the limit.
    fn decode(
        self,
        of_all: f64,
        sums: [f64; SUMS_OF_ONE],
        wanted: impl Fn(u64) -> bool,
        comm: &Comm,
    ) -> (u64, Option<AtomId>) {
        let [above, ranks, high, low] = sums;
        let above = above as u64;
        if ranks == 0.0 || !wanted(above) {
            return (above, None);
        }
        let id = if ranks > 1.0 {
            // All ranks take this branch.
            comm.min_i64(if self.value == of_all { self.id } else { AtomId::MAX })
        } else {
            super::joined(high, low)
        };
        (above, Some(id))
    }
}

/// The blind spots of the atoms of this rank.
#[derive(Debug, Clone, Copy)]
pub struct LocalBlindSpots {
    core: Largest,
    /// Of minus the number of neighbours.
    sparse: Largest,
}

impl LocalBlindSpots {
    /// `values` are those of this rank's atoms with these ids.
    #[must_use]
    pub fn of(values: BlindSpotValues<'_>, ids: Integers<'_>, limits: &BlindSpotLimits) -> Self {
        let largest = |values: Option<ArrayView1<'_, f64>>, sign, limit| match (values, ids) {
            (None, _) => Largest::NONE,
            (Some(values), Integers::I32(ids)) => Largest::of(values, ids, sign, limit),
            (Some(values), Integers::I64(ids)) => Largest::of(values, ids, sign, limit),
        };
        Self {
            core: largest(values.core, 1.0, limits.core_share),
            sparse: largest(values.neighbours, -1.0, -(limits.sparse_neighbours as f64)),
        }
    }

    /// Adds the extremes of this rank to those of γ.
    #[must_use]
    pub fn extremes(&self, gamma: Extremes) -> Extremes {
        Extremes { core: self.core.value, sparse: self.sparse.value, ..gamma }
    }

    /// [`LocalGamma::reduce`], together with the blind spots; `None` for what is not known. `extremes` are those of all ranks.
    ///
    /// # MPI
    /// Collective; the same result on all ranks and on any number of them.
    #[must_use]
    pub fn reduce(
        self,
        gamma: LocalGamma,
        extremes: Extremes,
        comm: &Comm,
    ) -> (GammaSummary, Vec3, Option<CoreSummary>, Option<SparseSummary>) {
        let mut sums = [0.0; SUMS];
        let (core, sparse) = sums.split_at_mut(SUMS_OF_ONE);
        core.copy_from_slice(&self.core.encode(extremes.core));
        sparse.copy_from_slice(&self.sparse.encode(extremes.sparse));
        // Nothing is sent for what is not watched.
        let is_known = extremes.core.is_finite() || extremes.sparse.is_finite();
        let (gamma, position) = gamma.reduce_with(extremes, if is_known { &mut sums } else { &mut [] }, comm);
        let [a, b, c, d, e, f, g, h] = sums;
        let core = extremes.core.is_finite().then(|| {
            let (above, worst_id) = self.core.decode(extremes.core, [a, b, c, d], |_| extremes.core > 0.0, comm);
            CoreSummary { max: extremes.core, worst_id, above }
        });
        let sparse = extremes.sparse.is_finite().then(|| {
            let (atoms, fewest_id) = self.sparse.decode(extremes.sparse, [e, f, g, h], |atoms| atoms > 0, comm);
            SparseSummary { atoms, fewest: (atoms > 0).then_some(-extremes.sparse as u64), fewest_id }
        });
        (gamma, position, core, sparse)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, arr1};

    use super::*;
    use crate::structure::AtomsView;
    use crate::uncertainty::Thresholds;

    const LIMITS: BlindSpotLimits = BlindSpotLimits { core_share: 0.01, sparse_neighbours: 4, sparse_trigger: false };

    fn summary(shares: &[f64], neighbours: &[f64], ids: &[AtomId]) -> (Option<CoreSummary>, Option<SparseSummary>) {
        let n = ids.len();
        let (positions, types, gamma) = (Array2::zeros((n, 3)), Array1::ones(n), Array1::from_elem(n, 1.0));
        let atoms = AtomsView { positions: positions.view(), ids: ids.into(), types: types.view() };
        let gamma = LocalGamma::of(gamma.view(), atoms, Thresholds { low: 2.0, high: 5.0 });
        let (shares, neighbours) = (arr1(shares), arr1(neighbours));
        let values = BlindSpotValues {
            core: Some(shares.view()).filter(|_| !shares.is_empty()),
            neighbours: Some(neighbours.view()).filter(|_| !neighbours.is_empty()),
        };
        let here = LocalBlindSpots::of(values, ids.into(), &LIMITS);
        let extremes = here.extremes(gamma.extremes());
        let (gamma, _, core, sparse) = here.reduce(gamma, extremes, &Comm::single());
        assert_eq!((gamma.max, gamma.atoms), (1.0, n as u64));
        (core, sparse)
    }

    #[test]
    fn the_largest_share_and_the_fewest_neighbours_have_the_lowest_id() {
        let big = (1 << 53) + 1;
        let (core, sparse) = summary(&[0.0, 0.5, 0.005, 0.5], &[12.0, 3.0, 0.0, 0.0], &[9, big, 7, big + 1]);
        assert_eq!(core, Some(CoreSummary { max: 0.5, worst_id: Some(big), above: 2 }));
        assert_eq!(sparse, Some(SparseSummary { atoms: 3, fewest: Some(0), fewest_id: Some(7) }));
    }

    #[test]
    fn the_limits_themselves_are_within() {
        let (core, sparse) = summary(&[0.01, 0.0], &[4.0, 5.0], &[1, 2]);
        assert_eq!(core, Some(CoreSummary { max: 0.01, worst_id: Some(1), above: 0 }));
        assert_eq!(sparse, Some(SparseSummary { atoms: 0, fewest: None, fewest_id: None }));
        assert_eq!(
            summary(&[0.0, 0.0], &[], &[1, 2]),
            (Some(CoreSummary { max: 0.0, worst_id: None, above: 0 }), None)
        );
    }

    #[test]
    fn values_that_are_nan_are_not_known() {
        assert_eq!(summary(&[f64::NAN, f64::NAN], &[], &[1, 2]), (None, None));
    }
}
