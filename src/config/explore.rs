// SPDX-License-Identifier: GPL-2.0-or-later
//! `ExploreConfig`: the table `[explore]` with the bias towards unknown environments.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Error;
use super::section::{check, positive};

/// Exploration: a bias that drives atoms towards environments with a large γ, so that events occur sooner. A biased trajectory does not
/// sample the ensemble. Requires the potential of a `file` with an active set, and `engine = "opt"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExploreConfig {
    /// Strength of the bias: force on an atom relative to the mean force of the potential, in the mean over all atoms if all were pushed. 0
    /// switches the bias off.
    #[serde(default = "defaults::strength")]
    pub strength: f64,
    /// Share of `strength` that is added at each poll after the rise, up to five times `strength`, until an event begins. Then the strength is zero, and rises again, so that
    /// the thermostat takes up the heat of the event.
    #[serde(default = "defaults::growth")]
    pub growth: f64,
    /// γ from which an atom is pushed; the full force acts from 1.25 of it on. If absent, the 99 % quantile of γ of all atoms, averaged over
    /// `average` polls, so that it suits any system and about one atom in a hundred is pushed. With 0 all atoms are pushed, and a crystal
    /// can become more perfect instead of less, because γ of its perfect environment is close to one.
    pub onset: Option<f64>,
    /// Constant strength in eV per unit of γ, instead of `strength`, from the first step on.
    pub fixed_strength: Option<f64>,
    /// Number of polls at the start without a bias, at which the forces are measured.
    #[serde(default = "defaults::warmup")]
    pub warmup: u64,
    /// Number of polls over which the strength then rises to its value, and again after the begin of an event.
    #[serde(default = "defaults::ramp")]
    pub ramp: u64,
    /// Number of polls over which the norms of the forces are averaged.
    #[serde(default = "defaults::average")]
    pub average: f64,
    /// γ from which an atom has no forces of the bias; they decrease from 0.8 of it on. If absent, 1.25 times the threshold, so that atoms
    /// are not pushed far beyond the event.
    pub gamma_limit: Option<f64>,
    /// Distance at which two atoms have no bias, as a share of the sum of their covalent radii; the bias decreases from 1.15 of it on.
    #[serde(default = "defaults::shortest")]
    pub shortest: f64,
    /// Guard: the run ends if two atoms are closer than this share of the sum of their covalent radii. 0 switches this off.
    #[serde(default = "defaults::min_distance")]
    pub min_distance: f64,
    /// Guard: the run ends if the volume relative to that at the start is outside these limits. Not checked unless all directions are
    /// periodic.
    #[serde(default = "defaults::volume")]
    pub volume: [f64; 2],
    /// Guard: the run ends if the temperature at a poll is above this, in K. If absent, twice the largest target temperature;
    /// without a thermostat, none.
    pub max_temperature: Option<f64>,
}

impl ExploreConfig {
    /// γ from which an atom has no forces of the bias; `threshold` is that of events.
    #[must_use]
    pub fn limit(&self, threshold: f64) -> f64 {
        self.gamma_limit.unwrap_or(1.25 * threshold)
    }

    pub(super) fn validate(&self, threshold: f64) -> Result<(), Error> {
        let strength = |s: f64| (0.0..=100.0).contains(&s);
        check(strength(self.strength), "explore.strength", &self.strength, "between 0 and 100 (1 to 5 is usual)")?;
        let fixed = self.fixed_strength;
        let what = "between 0 and 100 eV";
        check(fixed.is_none_or(strength), "explore.fixed_strength", &fixed.unwrap_or_default(), what)?;
        let limit = self.limit(threshold);
        check(positive(limit), "explore.gamma_limit", &limit, "above 0")?;
        let onset = self.onset.unwrap_or_default();
        let what = "0 or more, and at most 0.64 of `explore.gamma_limit`";
        check(onset >= 0.0 && onset <= LATEST_ONSET * limit, "explore.onset", &onset, what)?;
        let growth = self.growth;
        check((0.0..=1.0).contains(&growth), "explore.growth", &growth, "between 0 and 1 for each poll")?;
        let average = self.average;
        check(average >= 1.0 && average.is_finite(), "explore.average", &average, "1 or more polls")?;
        check(self.warmup >= 1 || fixed.is_some(), "explore.warmup", &self.warmup, "1 or more polls")?;
        let share = |s: f64| (0.0..=1.0).contains(&s);
        check(share(self.shortest), "explore.shortest", &self.shortest, "between 0 and 1")?;
        check(share(self.min_distance), "explore.min_distance", &self.min_distance, "between 0 and 1")?;
        let [low, high] = self.volume;
        let ok = (0.0..1.0).contains(&low) && high > 1.0 && high.is_finite();
        check(ok, "explore.volume", &self.volume, "[low, high] with low between 0 and 1, and high above 1")?;
        let hot = self.max_temperature;
        check(hot.is_none_or(positive), "explore.max_temperature", &hot.unwrap_or_default(), "above 0 K")
    }
}

/// The largest onset, as a share of the limit: the bias must have its full force before it ends.
pub(crate) const LATEST_ONSET: f64 = 0.64;

mod defaults {
    pub(super) fn strength() -> f64 {
        2.0
    }
    pub(super) fn growth() -> f64 {
        0.02
    }
    pub(super) fn warmup() -> u64 {
        3
    }
    pub(super) fn ramp() -> u64 {
        5
    }
    pub(super) fn average() -> f64 {
        10.0
    }
    pub(super) fn shortest() -> f64 {
        0.65
    }
    pub(super) fn min_distance() -> f64 {
        0.5
    }
    pub(super) fn volume() -> [f64; 2] {
        [0.75, 1.3]
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::InferenceConfig;

    fn parse(more: &str) -> Result<InferenceConfig, String> {
        let potential = Path::new(env!("CARGO_MANIFEST_DIR")).join("potentials/al/Al.yaml");
        let text = format!(
            "structure = \"al.extxyz\"\ntemperature = 300\n[potential]\nfile = {:?}\n{more}",
            potential.display().to_string()
        );
        InferenceConfig::parse(&text, Path::new("run.toml")).map_err(|e| e.to_string())
    }

    #[test]
    fn replicas_have_strengths_of_their_own() {
        let config = parse("[explore]\nstrength = 3\n[replicas]\nexplore = [0, 1.5]").unwrap();
        let explore = config.explore.clone().unwrap();
        assert_eq!((explore.strength, explore.onset, explore.limit(5.0)), (3.0, None, 6.25));
        assert_eq!(config.replica(0, 2).unwrap().explore, None);
        assert_eq!(config.replica(1, 2).unwrap().explore.unwrap().strength, 1.5);
        let without = parse("[replicas]\nexplore = [0, 1.5]").unwrap();
        assert_eq!(without.replica(0, 2).unwrap().explore, None);
        assert!(without.replica(1, 2).unwrap_err().to_string().contains("[explore]"));
        // Part of what a resumed run compares.
        let changed = parse("[explore]\nstrength = 4").unwrap();
        let of = |config: &InferenceConfig| config.settings_that_determine(crate::config::Determines::Trajectory);
        assert_ne!(of(&config)["explore"], of(&changed)["explore"]);
        assert!(!of(&without).contains_key("explore"));
    }

    #[test]
    fn an_evaluator_without_bias_is_refused() {
        let text = "engine = \"ml-pace\"\n[explore]";
        assert!(parse(text).unwrap_err().contains("`engine`"));
        assert!(parse("[explore]\nonset = 5").unwrap_err().contains("explore.onset"));
    }
}
