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

/// A number whose `null` is NaN.
#[derive(Deserialize)]
struct OrNan(#[serde(deserialize_with = "or_nan")] f64);

/// Reads a matrix, with `null` as NaN.
///
/// # Errors
/// If it is not a matrix of this shape.
pub fn matrix_or_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[[f64; 3]; 3], D::Error> {
    Ok(<[[OrNan; 3]; 3]>::deserialize(deserializer)?.map(|row| row.map(|number| number.0)))
}

/// Reads six numbers or `null`, with `null` among them as NaN.
///
/// # Errors
/// If it is neither.
pub fn six_or_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[f64; 6]>, D::Error> {
    Ok(<Option<[OrNan; 6]>>::deserialize(deserializer)?.map(|six| six.map(|number| number.0)))
}

/// Reads numbers by name, with `null` as infinity.
///
/// # Errors
/// If it is not a map of numbers.
pub fn map_or_infinite<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<std::collections::BTreeMap<String, f64>, D::Error> {
    let found = std::collections::BTreeMap::<String, Option<f64>>::deserialize(deserializer)?;
    Ok(found.into_iter().map(|(name, number)| (name, number.unwrap_or(f64::INFINITY))).collect())
}
