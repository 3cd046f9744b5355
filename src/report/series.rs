// SPDX-License-Identifier: GPL-2.0-or-later
//! Reduces the polls of a run to a few hundred points for plots.

use serde::{Serialize, Serializer};

use crate::simulation::Poll;
use crate::uncertainty::GammaHistogram;

/// The polls of a run as points. Each point represents the same number of consecutive polls.
///
/// When the number of points reaches twice the limit, neighbouring points are merged. Merging keeps the largest γ, the largest
/// counts and the extremes of the temperature, so that no peak is lost.
#[derive(Debug, Clone)]
pub struct Series {
    /// Half of the maximum number of points.
    limit: usize,
    /// Number of polls in a point.
    stride: u64,
    points: Vec<Point>,
    /// Histogram of γ of all atoms at all polls: upper edge and number of atoms by the bits of the lower edge.
    histogram: std::collections::BTreeMap<u64, (f64, u64)>,
    polls: u64,
    /// The largest γ of each element in each point.
    elements: std::collections::BTreeMap<String, Vec<f64>>,
}

/// A point, which represents consecutive polls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    polls: u64,
    /// Step of the first poll.
    pub step: i64,
    /// Time of the first poll, ps.
    pub time: f64,
    /// The largest γ; NaN if γ was not computed, infinite if it was not finite.
    pub gamma_max: f64,
    /// The largest of the 99 % quantiles.
    pub q99: f64,
    /// The largest of the 90 % quantiles.
    pub q90: f64,
    /// Mean of the medians.
    pub q50: f64,
    /// The largest number of atoms above the lower threshold.
    pub above_low: u64,
    /// The largest number of atoms above the threshold.
    pub above_high: u64,
    /// Mean temperature, K.
    pub temperature: f64,
    /// The lowest temperature, K.
    pub coldest: f64,
    /// The highest temperature, K.
    pub hottest: f64,
    /// Mean total energy, eV.
    pub total_energy: f64,
    /// Mean pressure, bar.
    pub pressure: f64,
    /// Mean volume, Å³.
    pub volume: f64,
    /// Mean speed, ns/day; NaN if not known.
    pub speed: f64,
    /// Mean strength of the bias of an exploration, eV per unit of γ; NaN without one.
    pub bias: f64,
}

impl Point {
    fn of(poll: &Poll) -> Self {
        let gamma = |read: fn(&crate::uncertainty::GammaSummary) -> f64| poll.gamma.as_ref().map_or(f64::NAN, read);
        Self {
            polls: 1,
            step: poll.step,
            time: poll.time,
            gamma_max: gamma(|g| g.max),
            q99: gamma(|g| g.q99),
            q90: gamma(|g| g.q90),
            q50: gamma(|g| g.q50),
            above_low: poll.gamma.as_ref().map_or(0, |g| g.above_low),
            above_high: poll.gamma.as_ref().map_or(0, |g| g.above_high),
            temperature: poll.temperature,
            coldest: poll.temperature,
            hottest: poll.temperature,
            total_energy: poll.total_energy,
            pressure: poll.pressure,
            volume: poll.volume,
            speed: poll.ns_per_day.unwrap_or(f64::NAN),
            bias: poll.bias.map_or(f64::NAN, |bias| bias.strength),
        }
    }

    /// Merges this point with the next one.
    fn join(&mut self, next: &Self) {
        let (a, b) = (self.polls as f64, next.polls as f64);
        let mean = |x: f64, y: f64| match (x.is_nan(), y.is_nan()) {
            (true, _) => y,
            (_, true) => x,
            _ => (a * x + b * y) / (a + b),
        };
        *self = Self {
            polls: self.polls + next.polls,
            step: self.step,
            time: self.time,
            // `max` ignores NaN.
            gamma_max: self.gamma_max.max(next.gamma_max),
            q99: self.q99.max(next.q99),
            q90: self.q90.max(next.q90),
            q50: mean(self.q50, next.q50),
            above_low: self.above_low.max(next.above_low),
            above_high: self.above_high.max(next.above_high),
            temperature: mean(self.temperature, next.temperature),
            coldest: self.coldest.min(next.coldest),
            hottest: self.hottest.max(next.hottest),
            total_energy: mean(self.total_energy, next.total_energy),
            pressure: mean(self.pressure, next.pressure),
            volume: mean(self.volume, next.volume),
            speed: mean(self.speed, next.speed),
            bias: mean(self.bias, next.bias),
        };
    }
}

impl Series {
    /// A series of at most twice `limit` points.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            stride: 1,
            points: Vec::new(),
            histogram: Default::default(),
            polls: 0,
            elements: Default::default(),
        }
    }

    /// Adds the next poll.
    pub fn push(&mut self, poll: &Poll) {
        self.polls += 1;
        for (low, high, n) in poll.gamma.iter().flat_map(|g| GammaHistogram::bins(&g.histogram)) {
            // Positive numbers have the same order as their bits.
            let atoms = &mut self.histogram.entry(low.to_bits()).or_insert((high, 0)).1;
            *atoms = atoms.saturating_add(n);
        }
        let point = Point::of(poll);
        match self.points.last_mut() {
            Some(last) if last.polls < self.stride => last.join(&point),
            _ => {
                if self.points.len() == 2 * self.limit {
                    self.halve();
                }
                match self.points.last_mut() {
                    Some(last) if last.polls < self.stride => last.join(&point),
                    _ => self.points.push(point),
                }
            }
        }
        for (element, gamma) in &poll.gamma_by_element {
            let column = self.elements.entry(element.clone()).or_default();
            column.resize(self.points.len(), f64::NAN);
            if let Some(last) = column.last_mut() {
                *last = last.max(*gamma);
            }
        }
    }

    /// The largest γ of each element in each point; empty with a single element.
    pub fn elements(&self) -> std::collections::BTreeMap<&str, Vec<Option<f64>>> {
        let column = |values: &Vec<f64>| {
            let mut values: Vec<Option<f64>> = values.iter().map(|value| short(*value)).collect();
            values.resize(self.points.len(), None);
            values
        };
        self.elements.iter().map(|(element, values)| (element.as_str(), column(values))).collect()
    }

    /// Merges pairs of points.
    fn halve(&mut self) {
        self.stride *= 2;
        let joined = self.points.chunks(2).map(|pair| {
            let mut point = pair[0];
            pair[1..].iter().for_each(|next| point.join(next));
            point
        });
        self.points = joined.collect();
        for column in self.elements.values_mut() {
            *column = column.chunks(2).map(|pair| pair.iter().copied().fold(f64::NAN, f64::max)).collect();
        }
    }

    /// The points, in order.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The time step in ps; `None` if it is not known, as with one point.
    #[must_use]
    pub fn time_per_step(&self) -> Option<f64> {
        let (first, last) = (self.points.first()?, self.points.last()?);
        let step = (last.time - first.time) / (last.step.checked_sub(first.step)? as f64);
        step.is_finite().then_some(step)
    }

    /// The time of a step in ps; `None` if the time step is not known.
    #[must_use]
    pub fn time_of(&self, step: i64) -> Option<f64> {
        let first = self.points.first()?;
        Some(first.time + (step - first.step) as f64 * self.time_per_step()?)
    }

    /// Number of polls.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.polls
    }

    /// Number of polls in a point; the last point may have fewer.
    #[must_use]
    pub fn polls_in_a_point(&self) -> u64 {
        self.stride
    }

    /// Histogram of γ of all atoms at all polls: lower edge, upper edge and number of atoms of each bin that is not empty, in order.
    pub fn histogram(&self) -> impl Iterator<Item = (f64, f64, u64)> {
        self.histogram.iter().map(|(low, &(high, n))| (f64::from_bits(*low), high, n))
    }
}

/// Serialises columns: γ, also by element, the counts, T (K), p (GPa), V (Å³), speed (ns/day), strength of the bias (eV), and the change of
/// the total energy since the first poll (eV), with six digits. Values that are not finite are `null`.
impl Serialize for Series {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let column = |read: &dyn Fn(&Point) -> f64| self.points.iter().map(|p| short(read(p))).collect::<Vec<_>>();
        let first = self.points.iter().map(|p| p.total_energy).find(|e| e.is_finite()).unwrap_or(0.0);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("polls", &self.polls)?;
        map.serialize_entry("polls_in_a_point", &self.stride)?;
        map.serialize_entry("step", &self.points.iter().map(|p| p.step).collect::<Vec<_>>())?;
        map.serialize_entry("time", &self.points.iter().map(|p| Some(p.time)).collect::<Vec<_>>())?;
        map.serialize_entry("gamma_max", &column(&|p| p.gamma_max))?;
        map.serialize_entry("q99", &column(&|p| p.q99))?;
        map.serialize_entry("q90", &column(&|p| p.q90))?;
        map.serialize_entry("q50", &column(&|p| p.q50))?;
        map.serialize_entry("above_low", &self.points.iter().map(|p| p.above_low).collect::<Vec<_>>())?;
        map.serialize_entry("above_high", &self.points.iter().map(|p| p.above_high).collect::<Vec<_>>())?;
        map.serialize_entry("temperature", &column(&|p| p.temperature))?;
        map.serialize_entry("coldest", &column(&|p| p.coldest))?;
        map.serialize_entry("hottest", &column(&|p| p.hottest))?;
        map.serialize_entry("energy", &column(&|p| p.total_energy - first))?;
        map.serialize_entry("pressure", &column(&|p| p.pressure * 1e-4))?;
        map.serialize_entry("volume", &column(&|p| p.volume))?;
        map.serialize_entry("speed", &column(&|p| p.speed))?;
        map.serialize_entry("bias", &column(&|p| p.bias))?;
        map.serialize_entry("elements", &self.elements())?;
        map.serialize_entry("histogram", &self.histogram().collect::<Vec<_>>())?;
        map.end()
    }
}

/// Rounds a number to six digits, more than a plot resolves; `None` if it is not finite.
pub(super) fn short(value: f64) -> Option<f64> {
    value.is_finite().then(|| format!("{value:.5e}").parse().unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::PollFormat;
    use crate::uncertainty::{GammaSummary, Verdict};

    fn poll(step: i64, gamma: f64) -> Poll {
        let histogram = GammaHistogram { lowest: 1.0, counts: vec![3, 0, 1] };
        let gamma = GammaSummary {
            max: gamma,
            worst_id: 1,
            mean: 0.5,
            q50: 0.5,
            q90: 0.6,
            q99: 0.7,
            above_low: 0,
            above_high: 0,
            not_finite: 0,
            atoms: 4,
            histogram,
        };
        Poll {
            force_error: None,
            format: PollFormat,
            step,
            steps: step,
            time: step as f64 * 1e-3,
            temperature: step as f64,
            pressure: 0.0,
            potential_energy: -1.0,
            volume: 10.0,
            density: 1.0,
            cell: Default::default(),
            pressure_tensor: None,
            gamma_by_element: Default::default(),
            ns_per_day: None,
            total_energy: -1.0,
            gamma: Some(gamma),
            core: None,
            sparse: None,
            verdict: Verdict::Reliable,
            bias: None,
            trigger: None,
            seconds: 0.1,
        }
    }

    #[test]
    fn a_million_polls_are_reduced_to_few_points_without_losing_peaks() {
        let mut series = Series::new(100);
        for step in 0..1_000_000 {
            series.push(&poll(step, if step == 654_321 { 77.0 } else { 1.0 }));
        }
        let points = series.points();
        assert!((100..=200).contains(&points.len()), "{}", points.len());
        let peak = points.iter().rposition(|p| p.gamma_max == 77.0).expect("the peak");
        assert!(points[peak].step <= 654_321 && points[peak + 1].step > 654_321, "{:?}", points[peak]);
        assert_eq!(points.iter().filter(|p| p.gamma_max > 1.0).count(), 1);
        assert_eq!(points.iter().map(|p| p.polls).sum::<u64>(), 1_000_000);
        assert_eq!((points[0].coldest, points[points.len() - 1].hottest), (0.0, 999_999.0));
        let mean: f64 = points.iter().map(|p| p.temperature * p.polls as f64).sum::<f64>() / 1e6;
        assert!((mean - 499_999.5).abs() < 1e-6, "{mean}");
        let histogram: Vec<_> = series.histogram().collect();
        assert_eq!(histogram, [(1.0, 1.25, 3_000_000), (1.5, 1.75, 1_000_000)]);
    }

    #[test]
    fn polls_without_gamma_do_not_hide_others() {
        let mut series = Series::new(1);
        for step in 0..8 {
            let unmonitored = Poll { gamma: None, temperature: f64::NAN, ..poll(step, 1.0) };
            series.push(&if step == 5 { poll(step, f64::INFINITY) } else { unmonitored });
        }
        let seen: Vec<f64> = series.points().iter().map(|p| p.gamma_max).filter(|g| !g.is_nan()).collect();
        assert_eq!(seen, [f64::INFINITY]);
        let json = serde_json::to_value(&series).expect("numbers");
        assert!(json["gamma_max"].as_array().is_some_and(|g| g.iter().all(serde_json::Value::is_null)));
        assert!(json["temperature"].as_array().is_some_and(|t| t.contains(&5.0.into())), "{json}");
    }
}
