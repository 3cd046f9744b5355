// SPDX-License-Identifier: GPL-2.0-or-later
//! The settings of a cut-out.
use super::{Error, PairLimits};
use crate::structure::element_from_symbol;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The shape of a cut-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// A sphere in a cubic cell, with vacuum in the corners.
    #[default]
    Sphere,
    /// A periodic cube full of atoms.
    Cube,
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sphere => "sphere",
            Self::Cube => "cube",
        })
    }
}

/// The settings of a cut-out; lengths in Å.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddingConfig {
    /// Shape of the cut-out. Default: sphere.
    pub shape: Shape,
    /// Radius of the core, whose forces are learned. Default: 4, which with a
    /// buffer of 5 to 6 Å gives about 200 to 300 atoms of a close-packed metal.
    pub radius: f64,
    /// Thickness of the shell around the core, whose forces are not learned. Default: the cutoff of the potential, with which every
    /// core atom has the same neighbours as in the parent frame.
    pub buffer: Option<f64>,
    /// ε, the initial gap between a sphere and its periodic images along x, y and z. For a cube, the amount by which its edge
    /// exceeds 2 (radius + buffer). Default: 0.
    pub gap: f64,
    /// Distance below which two atoms overlap, so that no cut-out is made. Default: 0.5.
    pub min_distance: f64,
    /// The same for pairs of elements, such as `"Al-Cu" = 1.2`. Default: none.
    pub pair_distances: BTreeMap<String, f64>,
    /// Atoms on opposite sides of a new face are at least this fraction of the smallest distance between their elements inside the
    /// cut-out apart, and at least the limits above. Bonds across the faces are then about as long as real ones, so that DFT
    /// converges. 0 leaves only the limits. Default: 0.85.
    pub boundary_scale: f64,
    /// Maximum number of atoms in a cut-out. Default: 250. If a region has more atoms, the radius of its core is reduced. If the buffer
    /// alone has more, up to twice as many are stored, with the key `oversized`.
    pub max_atoms: usize,
    /// Frames with at most this number of atoms are stored whole, with weights of energy and stress of 1, instead of a cut-out.
    /// Energies of whole frames pin energy differences, which forces of cut-outs do not. At most 5000. Default: 0,
    /// never.
    pub whole_frames_below: usize,
}

impl Default for EmbeddingConfig {
    fn default() -> Self {
        Self {
            shape: Shape::Sphere,
            radius: 4.0,
            buffer: None,
            gap: 0.0,
            min_distance: 0.5,
            pair_distances: BTreeMap::new(),
            boundary_scale: 0.85,
            max_atoms: 250,
            whole_frames_below: 0,
        }
    }
}

impl EmbeddingConfig {
    /// Checks each setting.
    ///
    /// # Errors
    /// [`Error::Config`] that names the setting and what it should be.
    pub fn validate(&self) -> Result<(), Error> {
        let check = |field: &'static str, value: f64, low: f64, high: f64, zero: bool| {
            // NaN is out of range.
            if (value > low || zero && value == low) && value <= high {
                return Ok(());
            }
            let message = format!("it must be {} {low} and at most {high}", if zero { "at least" } else { "above" });
            Err(Error::Config { field, value: value.to_string(), message })
        };
        check("radius", self.radius, 0.0, 100.0, false)?;
        check("buffer", self.buffer.unwrap_or(0.0), 0.0, 100.0, true)?;
        check("gap", self.gap, 0.0, 100.0, true)?;
        check("min_distance", self.min_distance, 0.0, 10.0, true)?;
        check("boundary_scale", self.boundary_scale, 0.0, 1.0, true)?;
        check("max_atoms", self.max_atoms as f64, 2.0, 100_000.0, true)?;
        check("whole_frames_below", self.whole_frames_below as f64, 0.0, 5000.0, true)?;
        for &limit in self.pair_distances.values() {
            check("pair_distances", limit, 0.0, 10.0, true)?;
        }
        self.limits().map(|_| ())
    }

    /// The limits as numbers for pairs of elements.
    ///
    /// # Errors
    /// [`Error::Config`] if a key of `pair_distances` is not two symbols joined by `-`.
    pub fn limits(&self) -> Result<PairLimits, Error> {
        let mut limits = PairLimits::new(self.min_distance);
        for (pair, &limit) in &self.pair_distances {
            let both = pair.split_once('-');
            let both = both.and_then(|(a, b)| element_from_symbol(a.trim()).zip(element_from_symbol(b.trim())));
            let Some((a, b)) = both else {
                let message = "keys are two element symbols joined by a hyphen, such as \"Al-Cu\"".to_owned();
                return Err(Error::Config { field: "pair_distances", value: pair.clone(), message });
            };
            limits.set(a, b, limit);
        }
        Ok(limits)
    }
}
