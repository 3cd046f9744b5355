// SPDX-License-Identifier: GPL-2.0-or-later
//! Molecular dynamics.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::section::{check, positive};
use super::{Determines, Error, Remark, Section};

/// Molecular dynamics: ensemble, temperature, pressure and length of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MdConfig {
    /// Target temperature in K: one value, or `[start, end]` for a linear ramp over the run.
    pub temperature: Ramp,
    /// Target pressure in bar: one value, or `[start, end]`. For `ensemble = "npt"`.
    #[serde(default)]
    pub pressure: Ramp,
    /// Number of time steps.
    #[serde(default = "defaults::steps")]
    pub steps: u64,
    /// Time step in ps.
    #[serde(default = "defaults::timestep")]
    pub timestep: f64,
    /// What is held constant.
    #[serde(default)]
    pub ensemble: Ensemble,
    /// How the temperature is held.
    #[serde(default)]
    pub thermostat: Thermostat,
    /// How the cell may change under pressure.
    #[serde(default)]
    pub barostat: Barostat,
    /// Relaxation time of the thermostat in ps; 100 time steps if absent.
    pub temperature_damping: Option<f64>,
    /// Relaxation time of the barostat in ps; 1000 time steps if absent.
    pub pressure_damping: Option<f64>,
    /// Seed of the initial velocities and of a Langevin thermostat.
    #[serde(default = "defaults::seed")]
    pub seed: u32,
    /// Where the initial velocities come from.
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
        check(!thermostatted || t.all(positive), "temperature", &Shown(t), "above 0 K where a thermostat holds it")?;
        let p = self.pressure;
        check(p.all(|p| p.abs() <= 1e9), "pressure", &Shown(p), "a finite number of bar, at most 1e9 in size")?;
        check(self.steps >= 1, "steps", &self.steps, "1 or more")?;
        check(self.steps <= i64::MAX as u64 / 2, "steps", &self.steps, "less than 2^62")?;
        let dt = self.timestep;
        check(dt > 0.0 && dt <= 0.1, "timestep", &dt, "above 0 and at most 0.1 ps (0.001 is usual)")?;
        let dampings = [("temperature_damping", self.temperature_damping), ("pressure_damping", self.pressure_damping)];
        for (field, damping) in dampings {
            let ok = damping.is_none_or(|d| positive(d) && d >= dt);
            check(ok, field, &damping.unwrap_or_default(), "a time in ps not below the timestep")?;
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

/// A value, or a linear change over the run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a number, or [start, end] for a ramp")]
pub enum Ramp {
    /// The same from start to end.
    Constant(f64),
    /// From the first to the second.
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

/// What is held constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ensemble {
    /// Energy and volume.
    Nve,
    /// Temperature and volume.
    #[default]
    Nvt,
    /// Temperature and pressure.
    Npt,
}

/// How the temperature is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Thermostat {
    /// Nosé–Hoover chains, deterministic.
    #[default]
    NoseHoover,
    /// Friction and random forces.
    Langevin,
}

/// How the cell may change under pressure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Barostat {
    /// All edges by the same factor.
    #[default]
    Iso,
    /// Each edge by itself.
    Aniso,
    /// Edges and angles.
    Tri,
}

/// Where the initial velocities come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Velocities {
    /// From the structure, or from what `create` reads, if any atom moves there, else drawn. Those of a structure are
    /// refused where their temperature is more than 1000 times above or below `temperature`.
    #[default]
    Auto,
    /// Drawn from a Gaussian at the starting temperature.
    Create,
    /// From the structure, whatever they are.
    Keep,
}

/// Velocities whose temperature is far from the one that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VelocityDoubt {
    /// What is said of them.
    pub remark: Remark,
    /// Whether a run does not begin with them: they are off by more than a factor of 1000 in temperature, and the
    /// configuration does not say that they are meant.
    pub refused: bool,
}

impl VelocityDoubt {
    /// What is to be said of velocities with the temperature `measured` where `wanted` is asked for, both in K; `None` if
    /// they are within a factor of 10. Mostly such velocities are in other units than Å/ps.
    #[must_use]
    pub fn of(measured: f64, wanted: f64, velocities: Velocities) -> Option<Self> {
        let within = |factor: f64| (wanted / factor..=wanted * factor).contains(&measured);
        if wanted == 0.0 || within(10.0) || measured.is_nan() {
            return None;
        }
        if measured == 0.0 {
            let message = format!("all atoms are at rest at the start, and `temperature` is {wanted} K.");
            let remedy = "If that is not meant, have velocities drawn by `velocities = \"create\"`.";
            return Some(Self { remark: Remark { message, remedy }, refused: false });
        }
        // A number in such a unit, taken for one in Å/ps, is too small by this factor.
        let units = [
            ("Å/fs (LAMMPS's `units real`, GPUMD)", 1000.0),
            ("ASE's unit, √(eV/u)", crate::io::extxyz::ASE_VELOCITY),
            ("nm/ps", 10.0),
            ("m/s", 0.01),
            ("atomic units", 21_876.912_6),
        ];
        let factor = (wanted / measured).sqrt();
        let unit = units.iter().find(|(_, unit)| (0.5..=2.0).contains(&(factor / unit)));
        let why =
            unit.map_or(String::new(), |(name, _)| format!(": they look like numbers in {name}, and Å/ps is expected"));
        let shown = if (0.1..1e5).contains(&measured) { format!("{measured:.1}") } else { format!("{measured:.1e}") };
        let message = format!("the velocities are those of {shown} K, and `temperature` is {wanted} K{why}.");
        let remedy = "Convert them, have new ones drawn by `velocities = \"create\"`, or take them as they are by \
                      `velocities = \"keep\"`.";
        let refused = velocities == Velocities::Auto && !within(1000.0);
        Some(Self { remark: Remark { message, remedy }, refused })
    }
}

/// Prints a ramp as it is written in the file.
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
    fn velocities_in_other_units_are_named() {
        let of = |measured: f64| VelocityDoubt::of(measured, 300.0, Velocities::Auto);
        // Within what a start from another temperature may be.
        assert!([30.0, 300.0, 3000.0, f64::NAN].iter().all(|kelvin| of(*kelvin).is_none()));
        assert_eq!(VelocityDoubt::of(5.0, 0.0, Velocities::Auto), None);
        for (factor, unit) in
            [(1000.0, "Å/fs"), (98.2, "ASE's unit"), (10.5, "nm/ps"), (0.01, "m/s"), (21_900.0, "atomic units")]
        {
            let doubt = of(300.0 / (factor * factor)).unwrap();
            assert!(doubt.remark.message.contains(unit), "{doubt:?}");
            assert_eq!(doubt.refused, factor != 10.5, "{doubt:?}");
        }
        let cold = of(25.0).unwrap();
        assert!(cold.remark.message.ends_with("25.0 K, and `temperature` is 300 K.") && !cold.refused, "{cold:?}");
        for velocities in [Velocities::Keep, Velocities::Create] {
            assert!(!VelocityDoubt::of(3e-4, 300.0, velocities).unwrap().refused);
        }
        assert!(of(0.0).unwrap().remark.message.contains("at rest"));
    }
}
