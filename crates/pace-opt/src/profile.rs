// SPDX-License-Identifier: GPL-2.0-or-later
//! Measures the time of each stage of an evaluation.

use std::time::{Duration, Instant};

/// Parts of an evaluation that are timed, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Neighbours within the cutoff, by element.
    Gather,
    /// Distances, bins and interpolation weights.
    Distances,
    /// Radial functions and their slopes.
    Splines,
    /// Spherical harmonics.
    Harmonics,
    /// Sums over neighbours: the atomic base, and the functions of one neighbour.
    Base,
    /// Products and densities.
    Forward,
    /// Energies and derivatives of the embedding.
    Embedding,
    /// Projections for the extrapolation grade.
    Projections,
    /// Projections times the inverted active set.
    Grade,
    /// Derivatives of a bias with respect to the functions.
    Bias,
    /// Adjoints of the products.
    Backward,
    /// Gradients per neighbour.
    Force,
    /// Addition of forces and virials to the output.
    Scatter,
    /// Everything else, such as sorting atoms by element.
    Rest,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Stage; 14] = [
        Stage::Gather,
        Stage::Distances,
        Stage::Splines,
        Stage::Harmonics,
        Stage::Base,
        Stage::Forward,
        Stage::Embedding,
        Stage::Projections,
        Stage::Grade,
        Stage::Bias,
        Stage::Backward,
        Stage::Force,
        Stage::Scatter,
        Stage::Rest,
    ];

    /// The name for tables.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Gather => "gather",
            Stage::Distances => "distances",
            Stage::Splines => "splines",
            Stage::Harmonics => "harmonics",
            Stage::Base => "atomic base",
            Stage::Forward => "products forward",
            Stage::Embedding => "embedding",
            Stage::Projections => "projections",
            Stage::Grade => "grade",
            Stage::Bias => "bias",
            Stage::Backward => "products backward",
            Stage::Force => "force",
            Stage::Scatter => "scatter",
            Stage::Rest => "rest",
        }
    }
}

/// A stopwatch for the stages. If disabled, a lap is one test of a flag.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    on: bool,
    last: Option<Instant>,
    spent: [Duration; Stage::ALL.len()],
    laps: [u32; Stage::ALL.len()],
}

impl Clock {
    /// Enables or disables the clock, and resets it.
    pub(crate) fn set(&mut self, on: bool) {
        *self = Clock { on, ..Clock::default() };
    }

    /// Starts the first lap.
    pub(crate) fn start(&mut self) {
        self.last = self.on.then(Instant::now);
    }

    /// Ends a lap: adds the time since the previous one to a stage.
    #[inline(always)]
    pub(crate) fn lap(&mut self, stage: Stage) {
        if self.on {
            self.record(stage);
        }
    }

    #[cold]
    #[inline(never)]
    fn record(&mut self, stage: Stage) {
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            self.spent[stage as usize] += now - last;
            self.laps[stage as usize] += 1;
        }
    }

    /// Time of each stage, less the overhead of the clock.
    pub(crate) fn stages(&self) -> Vec<(Stage, Duration)> {
        const LAPS: u32 = 100;
        let overhead = (0..100).map(|_| {
            let mut empty = Clock { on: true, ..Clock::default() };
            empty.start();
            (0..LAPS).for_each(|_| empty.lap(Stage::Rest));
            empty.spent[Stage::Rest as usize] / LAPS
        });
        // The minimum, because other load can only add time.
        let overhead = overhead.min().unwrap_or_default();
        Stage::ALL
            .iter()
            .map(|&s| (s, self.spent[s as usize].saturating_sub(overhead * self.laps[s as usize])))
            .collect()
    }
}
