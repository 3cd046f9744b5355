// SPDX-License-Identifier: GPL-2.0-or-later
//! Means of thermodynamic quantities with standard errors.
//!
//! The standard error of a mean of correlated values is estimated by blocking (Flyvbjerg and Petersen, J. Chem. Phys. 91, 461
//! (1989)): values are averaged in blocks of 1, 2, 4, … consecutive ones, which makes blocks longer than the correlation time
//! independent. The largest of the estimates with at least [`MIN_BLOCKS`] blocks is taken.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::simulation::Poll;

/// Number of blocks below which an estimate is too uncertain: the relative error of a standard error of n blocks is 1/√(2 (n - 1)).
const MIN_BLOCKS: u64 = 16;

/// Share of the steps of a run at its start that are not averaged.
pub const EQUILIBRATION: f64 = 0.2;

/// The mean of a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Mean {
    /// The mean.
    #[serde(deserialize_with = "otf_store::json::or_nan")]
    #[schemars(with = "Option<f64>")]
    pub mean: f64,
    /// Standard error of the mean by blocking; absent with fewer than 16 polls.
    pub standard_error: Option<f64>,
}

/// Means over the polls of a run after its first fifth. They are meaningful at constant temperature and pressure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Averages {
    /// Number of polls.
    pub polls: u64,
    /// Temperature, K.
    pub temperature: Mean,
    /// Pressure, bar.
    pub pressure: Mean,
    /// Potential energy, eV.
    pub potential_energy: Mean,
    /// Total energy, eV.
    pub total_energy: Mean,
    /// Volume, Å³.
    pub volume: Mean,
    /// Density, g/cm³.
    pub density: Mean,
}

/// Sums for [`Averages`], which a checkpoint stores.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sums {
    /// Number of steps of the run.
    steps: u64,
    quantities: [Blocks; 6],
}

impl Sums {
    /// Adds a poll of a run of `steps` steps. A run that is continued with another number of steps has another first fifth, so that the
    /// sums begin anew.
    pub(super) fn add(&mut self, poll: &Poll, steps: u64) {
        if self.steps != steps {
            *self = Self { steps, ..Self::default() };
        }
        if poll.steps == 0 || (poll.steps as f64) < EQUILIBRATION * steps as f64 {
            return;
        }
        let Poll { temperature, pressure, potential_energy, total_energy, volume, density, .. } = poll;
        let values = [temperature, pressure, potential_energy, total_energy, volume, density];
        self.quantities.iter_mut().zip(values).for_each(|(blocks, value)| blocks.add(*value));
    }

    /// The means; `None` without polls.
    pub(super) fn averages(&self) -> Option<Averages> {
        let polls = self.quantities[0].count();
        let [temperature, pressure, potential_energy, total_energy, volume, density] =
            self.quantities.each_ref().map(Blocks::mean);
        (polls > 0).then_some(Averages {
            polls,
            temperature,
            pressure,
            potential_energy,
            total_energy,
            volume,
            density,
        })
    }
}

/// Blocks of 1, 2, 4, … values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Blocks(Vec<Level>);

/// The blocks of one length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Level {
    count: u64,
    #[serde(deserialize_with = "otf_store::json::or_nan")]
    mean: f64,
    /// Sum of the squared deviations from the mean (Welford, Technometrics 4, 419 (1962)).
    #[serde(deserialize_with = "otf_store::json::or_nan")]
    squares: f64,
    /// A block that waits for its neighbour.
    waiting: Option<f64>,
}

impl Blocks {
    fn add(&mut self, mut value: f64) {
        for level in 0.. {
            if level == self.0.len() {
                self.0.push(Level::default());
            }
            let Level { count, mean, squares, waiting } = &mut self.0[level];
            *count += 1;
            let difference = value - *mean;
            *mean += difference / *count as f64;
            *squares += difference * (value - *mean);
            match waiting.take() {
                Some(first) => value = (first + value) / 2.0,
                None => {
                    *waiting = Some(value);
                    return;
                }
            }
        }
    }

    fn count(&self) -> u64 {
        self.0.first().map_or(0, |level| level.count)
    }

    fn mean(&self) -> Mean {
        let error = |level: &Level| {
            let n = level.count as f64;
            (level.squares.max(0.0) / (n * (n - 1.0))).sqrt()
        };
        let errors = self.0.iter().filter(|level| level.count >= MIN_BLOCKS).map(error);
        let standard_error = errors.fold(None, |most: Option<f64>, error| Some(most.map_or(error, |m| m.max(error))));
        Mean { mean: self.0.first().map_or(f64::NAN, |level| level.mean), standard_error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pseudo-random numbers of the standard normal distribution, by the sum of twelve uniform ones.
    fn normal(seed: &mut u64) -> f64 {
        let mut uniform = || {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*seed >> 11) as f64 / (1u64 << 53) as f64
        };
        (0..12).map(|_| uniform()).sum::<f64>() - 6.0
    }

    #[test]
    fn standard_error_of_correlated_values_is_that_of_independent_blocks() {
        // x' = ρ x + √(1 - ρ²) ξ has variance 1 and the statistical inefficiency (1 + ρ) / (1 - ρ).
        for correlation in [0.0, 0.9_f64] {
            let (mut seed, mut x, mut blocks) = (7, 0.0, Blocks::default());
            let n = 1 << 16;
            for _ in 0..n {
                x = correlation * x + (1.0 - correlation * correlation).sqrt() * normal(&mut seed);
                blocks.add(100.0 + x);
            }
            let expected = ((1.0 + correlation) / (1.0 - correlation) / f64::from(n)).sqrt();
            let found = blocks.mean();
            let error = found.standard_error.unwrap();
            // The largest of several estimates, of which that of 16 blocks is uncertain by a fifth.
            assert!((0.9..1.8).contains(&(error / expected)), "{correlation}: {error} {expected}");
            assert!((found.mean - 100.0).abs() < 4.0 * expected, "{found:?}");
        }
    }

    #[test]
    fn sums_are_read_back_and_few_values_have_no_error() {
        let mut blocks = Blocks::default();
        assert!(blocks.mean().mean.is_nan());
        (0..15).for_each(|k| blocks.add(f64::from(k)));
        assert_eq!(blocks.mean(), Mean { mean: 7.0, standard_error: None });
        let text = serde_json::to_string(&blocks).unwrap();
        let mut again: Blocks = serde_json::from_str(&text).unwrap();
        assert_eq!(again, blocks);
        again.add(15.0);
        assert!(again.mean().standard_error.is_some());
    }
}
