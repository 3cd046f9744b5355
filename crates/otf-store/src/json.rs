// SPDX-License-Identifier: GPL-2.0-or-later
//! Numbers of the files that this program writes and reads back: JSON has `null` for what is not finite.
//!
//! Each `f64` field of a type that is read back needs one of these: `#[serde(deserialize_with = "…")]`.

use serde::{Deserialize, Deserializer};

/// `null` is NaN.
pub fn or_nan<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

/// `null` is infinity, which is what γ that is not finite counts as.
pub fn or_infinite<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::INFINITY))
}

#[cfg(test)]
#[path = "../tests/common/reads_back.rs"]
pub(crate) mod reads_back;
