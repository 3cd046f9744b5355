// SPDX-License-Identifier: GPL-2.0-or-later
//! Key-value pairs as allowed by ASE.

use super::StoreError;
use mendeleev::Element;
use serde::Serialize;
use std::collections::BTreeMap;

/// The value of a key: a number or a text, searchable with `ase db`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum KeyValue {
    /// A boolean, which ASE searches as 1 or 0.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number.
    Float(f64),
    /// A text.
    Text(String),
}

impl KeyValue {
    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one. `true` is 1 and `false` is 0.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Bool(flag) => Some(f64::from(u8::from(*flag))),
            Self::Int(int) => Some(*int as f64),
            Self::Float(float) => Some(*float),
            Self::Text(_) => None,
        }
    }

    /// The integer, if it is one, also as a float such as 3.0.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(int) => Some(*int),
            Self::Float(float) if float.fract() == 0.0 && float.abs() < 9e15 => Some(*float as i64),
            _ => None,
        }
    }
}

impl std::fmt::Display for KeyValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool(flag) => write!(f, "{flag}"),
            Self::Int(int) => write!(f, "{int}"),
            Self::Float(float) => write!(f, "{float}"),
            Self::Text(text) => write!(f, "{text}"),
        }
    }
}

impl From<f64> for KeyValue {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<i64> for KeyValue {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for KeyValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<&str> for KeyValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for KeyValue {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

/// The pairs of a row, by key.
pub type Keys = BTreeMap<String, KeyValue>;

/// Names reserved by ASE, besides the element symbols.
const RESERVED: [&str; 35] = [
    "age",
    "born_effective_charges",
    "calculator",
    "calculator_parameters",
    "cell",
    "charges",
    "constraints",
    "ctime",
    "data",
    "dielectric_tensor",
    "dipole",
    "energies",
    "energy",
    "external_tables",
    "fmax",
    "forces",
    "formula",
    "free_energy",
    "id",
    "initial_charges",
    "initial_magmoms",
    "key_value_pairs",
    "magmom",
    "magmoms",
    "momenta",
    "mtime",
    "natoms",
    "numbers",
    "pbc",
    "polarization",
    "positions",
    "smax",
    "stress",
    "stresses",
    "unique_id",
];

/// Names that ASE accepts but that would shadow attributes of a row (`row.mass` would be the value of the key).
const SHADOWING: [&str; 8] = ["charge", "mass", "masses", "species", "symbols", "tags", "user", "volume"];

/// Checks that ASE accepts the pair unchanged, also when a row is copied from one database to another.
pub fn check(key: &str, value: &KeyValue) -> Result<(), StoreError> {
    let invalid = |reason: String| Err(StoreError::InvalidKey { key: key.to_owned(), reason });
    let mut letters = key.chars();
    let starts_well = letters.next().is_some_and(|c| c == '_' || c.is_ascii_alphabetic());
    if !starts_well || !letters.all(|c| c == '_' || c.is_ascii_alphanumeric()) {
        return invalid("a key must consist of letters, digits and _, and must not begin with a digit".into());
    }
    if RESERVED.contains(&key) || SHADOWING.contains(&key) {
        return invalid("the name is reserved by ASE: choose another name".into());
    }
    if is_formula(key) {
        return invalid("ASE would parse it as a chemical formula in a search: choose another name".into());
    }
    match value {
        KeyValue::Float(number) if !number.is_finite() => {
            invalid(format!("its value {number} is not finite, and SQLite cannot store it"))
        }
        KeyValue::Text(text) if is_number(text) => invalid(format!(
            "its text {text:?} can be parsed as a number, which ASE rejects when the row is copied: use a number, or \
             prepend a word"
        )),
        KeyValue::Text(text) if text.contains('\0') => invalid("its text contains a NUL character".into()),
        _ => Ok(()),
    }
}

/// Whether Python parses the text as an `int` or a `float`, or whether it is `True` or `False`.
pub fn is_number(text: &str) -> bool {
    let trimmed = text.trim();
    // Python ignores single underscores between digits. Removing all of them rejects slightly more than Python does.
    let digits: String = trimmed.chars().filter(|&c| c != '_').collect();
    if matches!(text, "True" | "False") || digits.parse::<f64>().is_ok() {
        return true;
    }
    // Python accepts the digits of every script.
    !digits.is_empty() && digits.chars().all(|c| c.is_numeric() || matches!(c, '+' | '-' | '.'))
}

/// The text, in quotation marks if it can be parsed as a number, with NUL characters replaced.
pub fn quote_number(text: &str) -> String {
    let text = text.replace('\0', "\u{fffd}");
    if is_number(&text) { format!("\"{text}\"") } else { text }
}

/// The inverse of [`quote_number`].
pub fn unquote_number(text: &str) -> &str {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    inner.filter(|inner| is_number(inner)).unwrap_or(text)
}

/// Whether the key consists of element symbols and counts only, such as `Al` or `AlCu3`.
fn is_formula(key: &str) -> bool {
    let mut rest = key;
    while !rest.is_empty() {
        let symbol = [2, 1].into_iter().filter_map(|n| rest.get(..n)).find(|s| is_symbol(s));
        let Some(symbol) = symbol else { return false };
        rest = rest[symbol.len()..].trim_start_matches(|c: char| c.is_ascii_digit());
    }
    !key.is_empty()
}

/// Whether the text is an element symbol, or X, the dummy atom of ASE.
fn is_symbol(text: &str) -> bool {
    text == "X" || Element::iter().any(|element| element.symbol() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_rejects_keys_that_ase_rejects() {
        let one = KeyValue::Int(1);
        for bad in ["", "1a", "a-b", "energy", "Al", "Al2O3", "H", "X", "id", "é", "a b", "mass"] {
            assert!(check(bad, &one).is_err(), "{bad}");
        }
        for good in ["gamma", "_x", "potential_hash", "energy_weight", "Alpha", "step2"] {
            check(good, &one).unwrap();
        }
    }

    #[test]
    fn check_rejects_text_that_python_parses_as_a_number() {
        for bad in ["1", " 1.5 ", "1e5", "123e4567", "nan", "-inf", "Infinity", "1_000", "True", "٣"] {
            assert!(check("key", &bad.into()).is_err(), "{bad}");
        }
        for good in ["", "sha256:1e5", "1.5 A", "run-3", "true"] {
            check("key", &good.into()).unwrap();
        }
        assert!(check("key", &f64::NAN.into()).is_err());
    }
}
