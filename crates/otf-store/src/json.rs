// SPDX-License-Identifier: GPL-2.0-or-later
//! Deserialization of numbers that are not finite, which JSON represents as `null`.
//!
//! Each `f64` field of a type that is written and read back requires one of these:
//! `#[serde(deserialize_with = "…")]`.

use serde::{Deserialize, Deserializer};

/// Reads a number; `null` becomes NaN.
///
/// # Errors
/// If the value is neither a number nor `null`.
pub fn or_nan<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

/// Reads a number; `null` becomes infinity, as γ that is not finite is treated.
///
/// # Errors
/// If the value is neither a number nor `null`.
pub fn or_infinite<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::INFINITY))
}

#[cfg(test)]
#[path = "../tests/common/reads_back.rs"]
pub(crate) mod reads_back;
