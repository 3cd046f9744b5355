// SPDX-License-Identifier: GPL-2.0-or-later
//! `MdConfig`: molecular dynamics.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::section::{check, positive};
use super::{Determines, Error, Remark, Section};

/// Molecular dynamics: ensemble, temperature, pressure, and length of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MdConfig {
    /// Target temperature in K: one value, or `[start, end]` for a linear ramp over the run.
    pub temperature: Ramp,
    /// Target pressure in bar: one value, or `[start, end]` for a linear ramp over the run. Used by `ensemble = "npt"`.
    #[serde(default)]
    pub pressure: Ramp,
    /// Number of time steps.
    #[serde(default = "defaults::steps")]
    pub steps: u64,
    /// Time step in ps.
    #[serde(default = "defaults::timestep")]
    pub timestep: f64,
    /// Thermodynamic ensemble.
    #[serde(default)]
    pub ensemble: Ensemble,
    /// Thermostat of `nvt` and `npt`.
    #[serde(default)]
    pub thermostat: Thermostat,
    /// Degrees of freedom of the cell in `npt`.
    #[serde(default)]
    pub barostat: Barostat,
    /// Relaxation time of the thermostat in ps. If absent, 100 time steps.
    pub temperature_damping: Option<f64>,
    /// Relaxation time of the barostat in ps. If absent, 1000 time steps.
    pub pressure_damping: Option<f64>,
    /// Random seed of the initial velocities and of a Langevin thermostat.
    #[serde(default = "defaults::seed")]
    pub seed: u32,
    /// Source of the initial velocities.
    #[serde(default)]
    pub velocities: Velocities,
    /// Minimise the energy before the run.
    #[serde(default)]
    pub minimize: bool,
}

impl Section for MdConfig {
    const DETERMINES: Determines = Determines::Trajectory;
}

impl MdConfig {
    pub(super) fn validate(&self) -> Result<(), Error> {
        let t = self.temperature;
        check(t.all(|t| (0.0..=1e6).contains(&t)), "temperature", &Shown(t), "between 0 and 1000000 K")?;
        let thermostatted = self.ensemble != Ensemble::Nve;
        check(!thermostatted || t.all(positive), "temperature", &Shown(t), "above 0 K for a thermostat")?;
        let p = self.pressure;
        check(p.all(|p| p.abs() <= 1e9), "pressure", &Shown(p), "between -1e9 and 1e9 bar")?;
        check(self.steps >= 1, "steps", &self.steps, "1 or more")?;
        check(self.steps <= i64::MAX as u64 / 2, "steps", &self.steps, "less than 2^62")?;
        let dt = self.timestep;
        check(dt > 0.0 && dt <= 0.1, "timestep", &dt, "above 0 and at most 0.1 ps (0.001 is usual)")?;
        let dampings = [("temperature_damping", self.temperature_damping), ("pressure_damping", self.pressure_damping)];
        for (field, damping) in dampings {
            let ok = damping.is_none_or(|d| positive(d) && d >= dt);
            check(ok, field, &damping.unwrap_or_default(), "a time in ps, at least `timestep`")?;
        }
        check(self.seed >= 1 && self.seed <= 900_000_000, "seed", &self.seed, "between 1 and 900000000")
    }
}

mod defaults {
    pub(super) fn steps() -> u64 {
        10_000
    }
    pub(super) fn timestep() -> f64 {
        0.001
    }
    pub(super) fn seed() -> u32 {
        1
    }
}

/// A constant, or a linear ramp over the run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a number, or [start, end] for a ramp")]
pub enum Ramp {
    /// The same value from start to end.
    Constant(f64),
    /// A linear ramp from the first value to the second.
    Linear([f64; 2]),
}

impl Default for Ramp {
    fn default() -> Self {
        Self::Constant(0.0)
    }
}

impl Ramp {
    /// The value at the start.
    #[must_use]
    pub fn start(self) -> f64 {
        match self {
            Self::Constant(value) | Self::Linear([value, _]) => value,
        }
    }

    /// The value at the end.
    #[must_use]
    pub fn end(self) -> f64 {
        match self {
            Self::Constant(value) | Self::Linear([_, value]) => value,
        }
    }

    pub(super) fn all(self, ok: impl Fn(f64) -> bool) -> bool {
        ok(self.start()) && ok(self.end())
    }
}

/// Thermodynamic ensemble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ensemble {
    /// Constant energy and volume.
    Nve,
    /// Constant temperature and volume.
    #[default]
    Nvt,
    /// Constant temperature and pressure.
    Npt,
}

/// Thermostat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Thermostat {
    /// Nosé–Hoover chains (deterministic).
    #[default]
    NoseHoover,
    /// Friction and random forces (stochastic).
    Langevin,
}

/// Degrees of freedom of the cell under a barostat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Barostat {
    /// All edges change by the same factor.
    #[default]
    Iso,
    /// Each edge changes independently.
    Aniso,
    /// Edges and angles change.
    Tri,
}

/// Source of the initial velocities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Velocities {
    /// Those of `structure` or `create` if any of them is not 0, else drawn as with `create`. Velocities from `structure` are
    /// rejected if their temperature differs from `temperature` by more than a factor of 1000.
    #[default]
    Auto,
    /// Drawn from a Gaussian distribution at the initial temperature.
    Create,
    /// Those of the structure, without a check.
    Keep,
    /// Drawn at twice the initial temperature, for atoms at a minimum of the energy, such as a perfect lattice: half of the kinetic
    /// energy becomes potential energy (equipartition), within about two periods of vibration.
    Equipartition,
}

impl Velocities {
    /// Temperature in K at which velocities are drawn for atoms that are to have the temperature `target`.
    #[must_use]
    pub fn drawn_at(self, target: f64) -> f64 {
        if self == Self::Equipartition { 2.0 * target } else { target }
    }
}

/// Initial velocities whose temperature is far from the configured one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VelocityMismatch {
    /// The warning or error.
    pub remark: Remark,
    /// Whether this is an error: the temperatures differ by more than a factor of 1000, and `velocities` is `auto`.
    pub is_error: bool,
}

impl VelocityMismatch {
    /// Compares the temperature `measured` of the velocities with the configured `target`, both in K. Returns `None` if they
    /// agree within a factor of 10. The usual cause of a mismatch is a unit other than Å/ps.
    #[must_use]
    pub fn of(measured: f64, target: f64, velocities: Velocities) -> Option<Self> {
        let within = |factor: f64| (target / factor..=target * factor).contains(&measured);
        if target == 0.0 || within(10.0) || measured.is_nan() {
            return None;
        }
        if measured == 0.0 {
            let message = format!("all initial velocities are 0, but `temperature` is {target} K.");
            let remedy = "To draw velocities, set `velocities = \"create\"`.";
            return Some(Self { remark: Remark { message, remedy }, is_error: false });
        }
        // Factor by which a value in this unit is too small when read as Å/ps.
        let units = [
            ("Å/fs (LAMMPS's `units real`, GPUMD)", 1000.0),
            ("ASE's unit, √(eV/u)", crate::io::extxyz::ASE_VELOCITY),
            ("nm/ps", 10.0),
            ("m/s", 0.01),
            ("atomic units", 21_876.912_6),
        ];
        let factor = (target / measured).sqrt();
        let unit = units.iter().find(|(_, unit)| (0.5..=2.0).contains(&(factor / unit)));
        let why = unit.map_or(String::new(), |(name, _)| format!("; they seem to be in {name} instead of Å/ps"));
        let shown = if (0.1..1e5).contains(&measured) { format!("{measured:.1}") } else { format!("{measured:.1e}") };
        let message =
            format!("the initial velocities have a temperature of {shown} K, but `temperature` is {target} K{why}.");
        let remedy = "Convert them, draw new ones with `velocities = \"create\"`, or use them unchanged with `velocities = \
                      \"keep\"`.";
        let is_error = velocities == Velocities::Auto && !within(1000.0);
        Some(Self { remark: Remark { message, remedy }, is_error })
    }
}

/// Formats a ramp as in the configuration file.
pub(super) struct Shown(pub(super) Ramp);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Ramp::Constant(value) => write!(f, "{value:?}"),
            Ramp::Linear(values) => write!(f, "{values:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn velocity_units_are_recognised() {
        let of = |measured: f64| VelocityMismatch::of(measured, 300.0, Velocities::Auto);
        // Plausible for a structure from a run at another temperature.
        assert!([30.0, 300.0, 3000.0, f64::NAN].iter().all(|kelvin| of(*kelvin).is_none()));
        assert_eq!(VelocityMismatch::of(5.0, 0.0, Velocities::Auto), None);
        for (factor, unit) in
            [(1000.0, "Å/fs"), (98.2, "ASE's unit"), (10.5, "nm/ps"), (0.01, "m/s"), (21_900.0, "atomic units")]
        {
            let mismatch = of(300.0 / (factor * factor)).unwrap();
            assert!(mismatch.remark.message.contains(unit), "{mismatch:?}");
            assert_eq!(mismatch.is_error, factor != 10.5, "{mismatch:?}");
        }
        let cold = of(25.0).unwrap();
        assert!(cold.remark.message.ends_with("25.0 K, but `temperature` is 300 K.") && !cold.is_error, "{cold:?}");
        for velocities in [Velocities::Keep, Velocities::Create] {
            assert!(!VelocityMismatch::of(3e-4, 300.0, velocities).unwrap().is_error);
        }
        assert!(of(0.0).unwrap().remark.message.contains("all initial velocities are 0"));
    }
}
