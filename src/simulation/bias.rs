// SPDX-License-Identifier: GPL-2.0-or-later
//! The bias of an exploration: its strength follows the forces of the potential, and guards end the run.
//!
//! The pair style computes the bias (`pace/extrapolation/opt`; the mathematics are in `crates/pace-opt/src/bias.rs`). At each poll it
//! measures the norms of both forces, and the strength of the next steps is set in its memory. No energy is added or removed when the
//! strength changes: the thermostat takes up the difference.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::comm::Comm;
use crate::config::{Ensemble, ExploreConfig, InferenceConfig, LATEST_ONSET};
use crate::lammps::{Error, Lammps};
use crate::uncertainty::GammaSummary;

/// The bias at a poll.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BiasSummary {
    /// Strength in the steps until this poll, eV per unit of γ.
    #[serde(deserialize_with = "otf_store::json::or_nan")]
    #[schemars(with = "Option<f64>")]
    pub strength: f64,
    /// Energy of the bias, eV. It is not part of `potential_energy` and `total_energy`.
    #[serde(deserialize_with = "otf_store::json::or_nan")]
    #[schemars(with = "Option<f64>")]
    pub energy: f64,
    /// γ from which atoms are pushed, in the steps until this poll.
    #[serde(default, deserialize_with = "otf_store::json::or_nan")]
    #[schemars(with = "Option<f64>")]
    pub onset: f64,
    /// Mean norm of the forces of the bias, if all atoms were pushed, relative to that of the forces of the potential; both averaged over
    /// polls.
    #[serde(deserialize_with = "otf_store::json::or_nan")]
    #[schemars(with = "Option<f64>")]
    pub relative: f64,
    /// The smallest distance of two atoms, as a share of the sum of their covalent radii. `null` in JSON if it is not known.
    pub closest: Option<f64>,
    /// The guard that ends the run; `null` in JSON if there is none.
    #[serde(default)]
    pub guard: Option<Guard>,
}

/// A limit of an exploration that was passed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Guard {
    /// Two atoms are closer than `explore.min_distance`: the share of the sum of their covalent radii.
    Distance(f64),
    /// The volume relative to that at the start is outside `explore.volume`.
    Volume(f64),
    /// The temperature in K is above `explore.max_temperature`.
    Temperature(f64),
}

impl std::fmt::Display for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Distance(share) => write!(
                f,
                "two atoms are {share:.2} of the sum of their covalent radii apart, less than `explore.min_distance`"
            ),
            Self::Volume(ratio) => write!(f, "the volume is {ratio:.2} of that at the start, outside `explore.volume`"),
            Self::Temperature(kelvin) => {
                write!(f, "the temperature is {kelvin:.0} K, above `explore.max_temperature`")
            }
        }
    }
}

/// What the strength depends on, for checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct BiasState {
    /// Number of polls so far.
    polls: u64,
    /// Number of measurements of the forces so far.
    #[serde(default)]
    measured: u64,
    /// Number of polls since the end of the warm-up or the start of the last event, over which the strength rises and grows.
    #[serde(default)]
    rising: u64,
    /// Whether the last poll was an event.
    #[serde(default)]
    was_event: bool,
    /// Average of the 99 % quantile of γ.
    #[serde(default)]
    quantile: f64,
    /// Step of the last one.
    step: Option<i64>,
    /// Averages of the sums of the norms of the forces of the potential, eV/Å, and of those of the bias per unit of its strength without
    /// an onset, 1/Å. (Few atoms are above the onset, and at many polls none.)
    potential: f64,
    bias: f64,
    /// Strength of the present steps, eV.
    strength: f64,
    /// Volume at the start, Å³.
    volume: f64,
}

impl BiasState {
    /// Adds the sums of a poll to the averages and sets the strength of the steps that follow.
    fn adapt(&mut self, config: &ExploreConfig, seen: &Seen) {
        let Seen { quantile, forces, is_event } = *seen;
        // A broken frame must not end the bias of those after it.
        if !(quantile.is_finite() && forces.is_none_or(|(a, b)| a.is_finite() && b.is_finite())) {
            return;
        }
        let between = self.polls_between(config);
        self.polls += 1;
        // The mean of all polls until there are enough for the exponential average.
        let weight = |number: u64, each: u64| (each as f64 / config.average).max(1.0 / number as f64).min(1.0);
        self.quantile += weight(self.polls, 1) * (quantile - self.quantile);
        if let Some((potential, bias)) = forces {
            self.measured += 1;
            let weight = weight(self.measured, between);
            self.potential += weight * (potential - self.potential);
            self.bias += weight * (bias - self.bias);
        }
        let was_event = std::mem::replace(&mut self.was_event, is_event);
        self.rising = if is_event && !was_event || self.polls < config.warmup { 0 } else { self.rising + 1 };
        if let Some(strength) = config.fixed_strength {
            self.strength = strength;
            return;
        }
        let rise = (self.rising as f64 / (config.ramp + 1) as f64).min(1.0);
        let grown = 1.0 + config.growth * self.rising.saturating_sub(config.ramp + 1) as f64;
        let grown = grown.min(MOST_GROWN);
        let relative = self.potential / self.bias;
        // Perfect crystals have no forces at the start.
        self.strength = if relative.is_finite() { config.strength * rise * grown * relative } else { 0.0 };
    }

    /// Number of polls from one measurement of the forces to the next. A measurement takes longer than a step, and the averages vary
    /// slowly.
    fn polls_between(&self, config: &ExploreConfig) -> u64 {
        if self.polls < config.warmup + config.ramp { 1 } else { MEASURED }
    }

    /// γ from which atoms are pushed; `limit` is that at which the bias ends.
    fn onset(&self, config: &ExploreConfig, limit: f64) -> f64 {
        let latest = LATEST_ONSET * limit;
        // Before the first poll no atom is pushed.
        let own = if self.polls > 0 { self.quantile.clamp(f64::MIN_POSITIVE, latest) } else { latest };
        config.onset.unwrap_or(own)
    }
}

/// Largest factor by which the strength grows. Larger forces move atoms far between two polls.
const MOST_GROWN: f64 = 5.0;

/// Number of polls between two measurements after the rise.
const MEASURED: u64 = 5;

/// What the strength after a poll follows from.
struct Seen {
    /// The 99 % quantile of γ.
    quantile: f64,
    /// Sums of the norms of the forces of the potential, eV/Å, and of the bias per unit of its strength, 1/Å, if they were measured.
    forces: Option<(f64, f64)>,
    is_event: bool,
}

/// The bias of a running simulation.
#[derive(Debug, Clone)]
pub(super) struct SimulationBias {
    config: ExploreConfig,
    /// γ from which an atom has no forces of the bias.
    limit: f64,
    /// Temperature of the guard, K.
    max_temperature: f64,
    interval: i64,
    pub(super) state: BiasState,
}

impl SimulationBias {
    /// `None` without `[explore]`, or with strength 0.
    pub(super) fn of(config: &InferenceConfig, state: Option<BiasState>) -> Option<Self> {
        let explore =
            config.explore.clone().filter(|explore| explore.fixed_strength.unwrap_or(explore.strength) > 0.0)?;
        let target = config.md.temperature.start().max(config.md.temperature.end());
        // Without a thermostat there is no target.
        let is_held = config.md.ensemble != Ensemble::Nve && target > 0.0;
        let limit = if is_held { 2.0 * target } else { f64::INFINITY };
        let strength = explore.fixed_strength.unwrap_or(0.0);
        let state = state.unwrap_or(BiasState { strength, ..BiasState::default() });
        let max_temperature = explore.max_temperature.unwrap_or(limit);
        let limit = explore.limit(config.watch.uncertainty_threshold.initial());
        Some(Self { limit, config: explore, max_temperature, interval: config.watch.sampling_interval as i64, state })
    }

    /// Sets the bias in the pair style, whose memory lasts until the next `clear`. Takes effect in the next step.
    ///
    /// # Errors
    /// [`Error::Missing`] if the pair style has none.
    pub(super) fn apply(&self, lammps: &mut Lammps) -> Result<(), Error> {
        lammps.set_pair_number("bias_onset", self.state.onset(&self.config, self.limit))?;
        lammps.set_pair_number("bias_limit", self.limit)?;
        lammps.set_pair_number("bias_shortest", self.config.shortest)?;
        lammps.set_pair_integer("bias_every", i32::try_from(self.steps_between()).unwrap_or(i32::MAX))?;
        lammps.set_pair_number("bias_strength", self.state.strength)
    }

    /// Number of steps from one measurement of the forces to the next.
    fn steps_between(&self) -> i64 {
        self.interval.saturating_mul(self.state.polls_between(&self.config) as i64)
    }

    /// Reads the measurement of a polled step and determines the strength of the next steps, which [`SimulationBias::apply`] sets. A
    /// step that is polled again changes nothing.
    ///
    /// # MPI
    /// Collective; the same values on all ranks.
    pub(super) fn poll(
        &mut self,
        lammps: &Lammps,
        step: i64,
        temperature: f64,
        gamma: &GammaSummary,
        is_event: bool,
        comm: &Comm,
    ) -> Result<BiasSummary, Error> {
        let [energy, potential, bias, closest] = lammps.pair_numbers("bias_results")?;
        let mut sums = [energy, potential, bias];
        comm.sum(&mut sums);
        let [energy, potential, bias] = sums;
        let mut least = [-closest];
        comm.max(&mut least);
        let closest = Some(-least[0]).filter(|share| share.is_finite());
        // A box that follows the atoms has no volume of its own.
        let cell = lammps.cell();
        let volume = if cell.pbc == [true; 3] { cell.volume() } else { 1.0 };
        let (strength, onset) = (self.state.strength, self.state.onset(&self.config, self.limit));
        if self.state.step.is_none() {
            self.state.volume = volume;
        }
        let guard = self.guard(closest, volume / self.state.volume, temperature);
        if self.state.step.is_none_or(|last| step > last) {
            self.state.step = Some(step);
            let forces = (step % self.steps_between() == 0).then_some((potential, bias));
            self.state.adapt(&self.config, &Seen { quantile: gamma.q99, forces, is_event });
        }
        let relative = strength * self.state.bias / self.state.potential;
        Ok(BiasSummary { strength, energy, onset, relative, closest, guard })
    }

    fn guard(&self, closest: Option<f64>, volume: f64, temperature: f64) -> Option<Guard> {
        let [low, high] = self.config.volume;
        if let Some(share) = closest.filter(|share| *share < self.config.min_distance) {
            return Some(Guard::Distance(share));
        }
        if !(low..=high).contains(&volume) {
            return Some(Guard::Volume(volume));
        }
        (temperature > self.max_temperature).then_some(Guard::Temperature(temperature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(forces: Option<(f64, f64)>, is_event: bool) -> Seen {
        Seen { quantile: 1.5, forces, is_event }
    }

    #[test]
    fn the_strength_follows_the_forces_after_the_warmup() {
        let text = "strength = 0.2\nwarmup = 3\nramp = 4\naverage = 5.0\ngrowth = 0";
        let config: ExploreConfig = toml::from_str(text).unwrap();
        let mut state = BiasState::default();
        assert_eq!(state.onset(&config, 5.0), 3.2, "no atom is pushed before the first poll");
        let mut strengths = Vec::new();
        for _ in 0..9 {
            state.adapt(&config, &seen(Some((30.0, 10.0)), false));
            strengths.push(state.strength);
        }
        // Zero in the steps between the first three polls.
        let wanted = [0.0, 0.0, 0.12, 0.24, 0.36, 0.48, 0.6, 0.6, 0.6];
        for (got, wanted) in strengths.iter().zip(wanted) {
            assert!((got - wanted).abs() < 1e-12, "{strengths:?}");
        }
        assert_eq!((state.onset(&config, 5.0), state.onset(&config, 2.0)), (1.5, 1.28));
        for k in 0..300 {
            state.adapt(&config, &seen((k % MEASURED == 0).then_some((60.0, 10.0)), false));
        }
        assert!((state.strength - 1.2).abs() < 1e-5, "{}", state.strength);
        // Without forces there is no bias.
        let mut still = BiasState::default();
        (0..9).for_each(|_| still.adapt(&config, &seen(Some((0.0, 0.0)), false)));
        assert_eq!(still.strength, 0.0);
        let fixed = ExploreConfig { fixed_strength: Some(0.01), onset: Some(0.7), ..config };
        still.adapt(&fixed, &seen(Some((1.0, 1.0)), false));
        assert_eq!((still.strength, still.onset(&fixed, 5.0)), (0.01, 0.7));
    }

    #[test]
    fn the_strength_grows_until_an_event_begins() {
        let config: ExploreConfig = toml::from_str("strength = 1\nwarmup = 1\nramp = 0\ngrowth = 0.5").unwrap();
        let mut state = BiasState::default();
        let events = [false, false, false, true, true, false, false];
        let strengths = events.map(|is_event| {
            state.adapt(&config, &seen(Some((2.0, 1.0)), is_event));
            state.strength
        });
        assert_eq!(strengths, [2.0, 3.0, 4.0, 0.0, 2.0, 3.0, 4.0]);
        (0..50).for_each(|_| state.adapt(&config, &seen(Some((2.0, 1.0)), false)));
        assert_eq!(state.strength, 10.0, "five times as strong");
        assert_eq!((BiasState::default().polls_between(&config), state.polls_between(&config)), (1, MEASURED));
    }

    #[test]
    fn guards_are_checked_in_order() {
        let config: ExploreConfig = toml::from_str("").unwrap();
        let state = BiasState::default();
        let bias = SimulationBias { config, limit: 6.25, max_temperature: 600.0, interval: 10, state };
        assert_eq!(bias.guard(Some(0.5), 1.0, 600.0), None);
        assert_eq!(bias.guard(None, 0.75, 300.0), None);
        assert_eq!(bias.guard(Some(0.49), 2.0, 700.0), Some(Guard::Distance(0.49)));
        assert_eq!(bias.guard(Some(0.9), 1.31, 700.0), Some(Guard::Volume(1.31)));
        assert_eq!(bias.guard(Some(0.9), 0.7, 300.0), Some(Guard::Volume(0.7)));
        assert_eq!(bias.guard(Some(0.9), 1.0, 601.0), Some(Guard::Temperature(601.0)));
        let text = Guard::Volume(1.31).to_string();
        assert_eq!(text, "the volume is 1.31 of that at the start, outside `explore.volume`");
    }
}
