// SPDX-License-Identifier: GPL-2.0-or-later
//! ASE's binary `data` column.
//!
//! Layout, little-endian: 8 bytes with the offset of the JSON text; the raw arrays; the JSON text up to the end. In the
//! JSON text an array is `{"__ndarray__": [shape, dtype, offset]}` with the offset from the start of the blob. Numbers that
//! are not finite are written as in Python, `NaN` and `Infinity`, which is not valid JSON.

use serde_json::Value as Json;
use std::collections::BTreeMap;

/// A value of the `data` column.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// `None`.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number, finite or not.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Data>),
    /// A dictionary.
    Map(BTreeMap<String, Data>),
    /// An array.
    Array(Array),
}

/// An array of the `data` column.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values in row-major order.
    pub values: Values,
}

/// The values of an array.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// `float64`.
    F64(Vec<f64>),
    /// `int32`.
    I32(Vec<i32>),
    /// `int64`.
    I64(Vec<i64>),
    /// Another numpy type: its name and the raw bytes.
    Other(String, Vec<u8>),
}

impl Data {
    /// A vector of `float64`.
    #[must_use]
    pub fn floats(values: Vec<f64>) -> Self {
        Self::Array(Array { shape: vec![values.len()], values: Values::F64(values) })
    }

    /// A vector of `int32`.
    #[must_use]
    pub fn ints(values: Vec<i32>) -> Self {
        Self::Array(Array { shape: vec![values.len()], values: Values::I32(values) })
    }

    /// A vector of `int32` if all values fit, as in all databases with 32-bit ids, and of `int64` otherwise.
    #[must_use]
    pub fn ids(values: &[i64]) -> Self {
        match values.iter().map(|&id| i32::try_from(id)).collect() {
            Ok(narrow) => Self::ints(narrow),
            Err(_) => Self::Array(Array { shape: vec![values.len()], values: Values::I64(values.to_vec()) }),
        }
    }

    /// The numbers of an array or of a list of numbers, flattened; `None` for other values.
    #[must_use]
    pub fn to_f64(&self) -> Option<Vec<f64>> {
        match self {
            Self::Array(array) => array.to_f64(),
            Self::List(list) => {
                let numbers = list.iter().map(|value| match value {
                    Self::Bool(flag) => Some(vec![f64::from(u8::from(*flag))]),
                    #[allow(clippy::cast_precision_loss)]
                    Self::Int(int) => Some(vec![*int as f64]),
                    Self::Float(float) => Some(vec![*float]),
                    Self::List(_) => value.to_f64(),
                    _ => None,
                });
                Some(numbers.collect::<Option<Vec<_>>>()?.concat())
            }
            _ => None,
        }
    }

    /// The integers of an array or of a list of numbers, flattened; `None` also if a number is not an `i32`.
    #[must_use]
    pub fn to_i32(&self) -> Option<Vec<i32>> {
        if let Self::Array(Array { values: Values::I32(values), .. }) = self {
            return Some(values.clone());
        }
        self.to_i64()?.into_iter().map(|value| i32::try_from(value).ok()).collect()
    }

    /// The integers of an array or of a list of numbers, flattened; `None` also if a number is not an `i64`.
    #[must_use]
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        match self {
            Self::Array(Array { values: Values::I32(values), .. }) => Some(values.iter().map(|&v| v.into()).collect()),
            Self::Array(Array { values: Values::I64(values), .. }) => Some(values.clone()),
            Self::List(list) => {
                let integers = list.iter().map(|value| match value {
                    Self::Int(int) => Some(vec![*int]),
                    Self::List(_) => value.to_i64(),
                    other => exact_integers(Self::List(vec![other.clone()]).to_f64()?),
                });
                Some(integers.collect::<Option<Vec<_>>>()?.concat())
            }
            _ => exact_integers(self.to_f64()?),
        }
    }
}

impl Array {
    /// The values as `float64`; `None` for types that are not real numbers.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn to_f64(&self) -> Option<Vec<f64>> {
        match &self.values {
            Values::F64(values) => Some(values.clone()),
            Values::I32(values) => Some(values.iter().map(|&v| f64::from(v)).collect()),
            Values::I64(values) => Some(values.iter().map(|&v| v as f64).collect()),
            Values::Other(dtype, bytes) => match dtype.as_str() {
                "float32" => Some(from_bytes(bytes, f32::from_le_bytes).map(f64::from).collect()),
                "uint64" => Some(from_bytes(bytes, u64::from_le_bytes).map(|v| v as f64).collect()),
                "uint32" => Some(from_bytes(bytes, u32::from_le_bytes).map(f64::from).collect()),
                "int16" => Some(from_bytes(bytes, i16::from_le_bytes).map(f64::from).collect()),
                "uint16" => Some(from_bytes(bytes, u16::from_le_bytes).map(f64::from).collect()),
                "int8" => Some(from_bytes(bytes, i8::from_le_bytes).map(f64::from).collect()),
                "uint8" | "bool" => Some(bytes.iter().map(|&v| f64::from(v)).collect()),
                _ => None,
            },
        }
    }
}

/// The numbers as integers; `None` if one is not an integer below 2⁵³, above which numbers are rounded.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
fn exact_integers(numbers: Vec<f64>) -> Option<Vec<i64>> {
    let is_exact = |value: f64| value.abs() < 9e15 && (value as i64 as f64).to_bits() == value.to_bits();
    numbers.into_iter().map(|value| is_exact(value).then_some(value as i64)).collect()
}

/// The numbers in a sequence of bytes. Remaining bytes are ignored.
pub fn from_bytes<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> impl Iterator<Item = T> {
    bytes.as_chunks::<N>().0.iter().map(move |&chunk| read(chunk))
}

/// The size in bytes of an element of a numpy type, from the number of bits at the end of its name.
fn item_size(dtype: &str) -> Option<usize> {
    if dtype == "bool" {
        return Some(1);
    }
    let bits: usize = dtype.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().ok()?;
    (bits > 0 && bits.is_multiple_of(8)).then_some(bits / 8)
}

/// Encodes a dictionary in ASE's format.
#[must_use]
pub fn encode(data: &BTreeMap<String, Data>) -> Vec<u8> {
    let mut blob = vec![0; 8];
    let mut text = String::new();
    encode_map(data, &mut blob, &mut text);
    let offset = blob.len() as u64;
    blob[..8].copy_from_slice(&offset.to_le_bytes());
    blob.extend_from_slice(text.as_bytes());
    blob
}

fn encode_map(map: &BTreeMap<String, Data>, blob: &mut Vec<u8>, text: &mut String) {
    text.push('{');
    for (index, (key, value)) in map.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        push_text(text, key);
        text.push(':');
        encode_value(value, blob, text);
    }
    text.push('}');
}

fn encode_value(value: &Data, blob: &mut Vec<u8>, text: &mut String) {
    match value {
        Data::Null => text.push_str("null"),
        Data::Bool(flag) => text.push_str(if *flag { "true" } else { "false" }),
        Data::Int(int) => text.push_str(&int.to_string()),
        Data::Float(float) => push_float(text, *float),
        Data::Text(string) => push_text(text, string),
        Data::List(list) => {
            text.push('[');
            for (index, item) in list.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                encode_value(item, blob, text);
            }
            text.push(']');
        }
        Data::Map(map) => encode_map(map, blob, text),
        Data::Array(array) => {
            let offset = blob.len();
            let dtype = match &array.values {
                Values::F64(values) => {
                    blob.extend(values.iter().flat_map(|v| v.to_le_bytes()));
                    "float64"
                }
                Values::I32(values) => {
                    blob.extend(values.iter().flat_map(|v| v.to_le_bytes()));
                    "int32"
                }
                Values::I64(values) => {
                    blob.extend(values.iter().flat_map(|v| v.to_le_bytes()));
                    "int64"
                }
                Values::Other(dtype, bytes) => {
                    blob.extend_from_slice(bytes);
                    dtype
                }
            };
            text.push_str(&format!("{{\"__ndarray__\":[{:?},", array.shape));
            push_text(text, dtype);
            text.push_str(&format!(",{offset}]}}"));
        }
    }
}

/// Appends a JSON string.
fn push_text(text: &mut String, string: &str) {
    text.push_str(&Json::from(string).to_string());
}

/// Appends a number in the format of Python's JSON: the shortest text of the same number, always as a float.
pub fn push_float(text: &mut String, float: f64) {
    if float.is_nan() {
        text.push_str("NaN");
    } else if float.is_infinite() {
        text.push_str(if float > 0.0 { "Infinity" } else { "-Infinity" });
    } else {
        text.push_str(&format!("{float:?}"));
    }
}

/// Decodes a dictionary. The blob need not be trusted.
///
/// # Errors
/// A message if the blob is truncated, if its JSON is malformed, or if an array lies outside of the blob.
pub fn decode(blob: &[u8]) -> Result<BTreeMap<String, Data>, String> {
    let Some((head, _)) = blob.split_first_chunk::<8>() else {
        return Err(format!("its data has {} bytes, but at least 8 are required", blob.len()));
    };
    let offset = usize::try_from(u64::from_le_bytes(*head)).unwrap_or(usize::MAX);
    let Some(text) = blob.get(offset..) else {
        return Err(format!("its data is truncated: {} bytes, with the index at byte {offset}", blob.len()));
    };
    let text = std::str::from_utf8(text).map_err(|e| format!("the index of its data is not UTF-8: {e}"))?;
    match decode_value(parse_json(text)?, blob)? {
        Data::Map(map) => Ok(map),
        Data::Null => Ok(BTreeMap::new()),
        _ => Err("its data is not a dictionary".to_owned()),
    }
}

fn decode_value(json: Json, blob: &[u8]) -> Result<Data, String> {
    Ok(match json {
        Json::Null => Data::Null,
        Json::Bool(flag) => Data::Bool(flag),
        Json::Number(number) => match number.as_i64() {
            Some(int) => Data::Int(int),
            None => Data::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Data::Text(text),
        Json::Array(list) => {
            Data::List(list.into_iter().map(|value| decode_value(value, blob)).collect::<Result<_, _>>()?)
        }
        Json::Object(map) => {
            if let Some(spec) = map.get("__ndarray__") {
                return decode_array(spec, blob).map(Data::Array);
            }
            if let Some(number) = not_finite(&map) {
                return Ok(Data::Float(number));
            }
            let entries = map.into_iter().map(|(key, value)| Ok((key, decode_value(value, blob)?)));
            Data::Map(entries.collect::<Result<_, String>>()?)
        }
    })
}

fn decode_array(spec: &Json, blob: &[u8]) -> Result<Array, String> {
    let bad = || format!("an array of its data is described by {spec}, which is not [shape, dtype, offset]");
    let [Json::Array(shape), Json::String(dtype), offset] = spec.as_array().ok_or_else(bad)?.as_slice() else {
        return Err(bad());
    };
    let size = |json: &Json| json.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or_else(bad);
    let shape = shape.iter().map(size).collect::<Result<Vec<_>, _>>()?;
    let offset = size(offset)?;
    let item = item_size(dtype).ok_or_else(|| format!("an array of its data has the unknown type {dtype:?}"))?;
    let length = shape.iter().try_fold(item, |product, &n| product.checked_mul(n));
    let bytes = length.and_then(|length| blob.get(offset..offset.checked_add(length)?)).ok_or_else(|| {
        format!("an array of its data ({dtype}, shape {shape:?}) lies outside of the {} bytes", blob.len())
    })?;
    let values = match dtype.as_str() {
        "float64" => Values::F64(from_bytes(bytes, f64::from_le_bytes).collect()),
        "int32" => Values::I32(from_bytes(bytes, i32::from_le_bytes).collect()),
        "int64" => Values::I64(from_bytes(bytes, i64::from_le_bytes).collect()),
        _ => Values::Other(dtype.clone(), bytes.to_vec()),
    };
    Ok(Array { shape, values })
}

/// Key of the object that represents a number that is not finite, between [`parse_json`] and [`not_finite`].
const NOT_FINITE: &str = "__not_finite__";

/// The number that is represented by the object, if it is one made by [`parse_json`].
pub fn not_finite(map: &serde_json::Map<String, Json>) -> Option<f64> {
    let text = map.get(NOT_FINITE)?.as_str()?;
    Some(text.replace("Infinity", "inf").parse().unwrap_or(f64::NAN))
}

/// Parses JSON as written by Python, with `NaN` and `Infinity`.
///
/// # Errors
/// A message if the JSON is malformed.
pub fn parse_json(text: &str) -> Result<Json, String> {
    serde_json::from_str(text).or_else(|error| {
        let Some(text) = wrap_not_finite(text) else { return Err(format!("its JSON is malformed: {error}")) };
        serde_json::from_str(&text).map_err(|e| format!("its JSON is malformed: {e}"))
    })
}

/// The text with every bare `NaN`, `Infinity` and `-Infinity` wrapped into an object; `None` if there are none.
fn wrap_not_finite(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 64);
    let mut found = false;
    let mut rest = text;
    let mut in_string = false;
    while let Some(c) = rest.chars().next() {
        let word = ["NaN", "Infinity", "-Infinity"].into_iter().find(|word| !in_string && rest.starts_with(word));
        let length = if let Some(word) = word {
            found = true;
            out.push_str(&format!("{{\"{NOT_FINITE}\":\"{word}\"}}"));
            word.len()
        } else {
            // An escaped character does not end a string.
            let escaped = if in_string && c == '\\' { rest[1..].chars().next() } else { None };
            in_string ^= c == '"';
            let length = c.len_utf8() + escaped.map_or(0, char::len_utf8);
            out.push_str(&rest[..length]);
            length
        };
        rest = &rest[length..];
    }
    found.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_data() -> impl Strategy<Value = Data> {
        let leaf = prop_oneof![
            Just(Data::Null),
            any::<bool>().prop_map(Data::Bool),
            any::<i64>().prop_map(Data::Int),
            prop::num::f64::NORMAL.prop_map(Data::Float),
            Just(Data::Float(f64::INFINITY)),
            ".*".prop_map(Data::Text),
            prop::collection::vec(prop::num::f64::NORMAL, 0..5).prop_map(Data::floats),
            prop::collection::vec(any::<i32>(), 0..5).prop_map(Data::ints),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Data::List),
                prop::collection::btree_map("[a-z\"\\\\N]*", inner, 0..4).prop_map(Data::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn encode_decode_round_trip(data in prop::collection::btree_map("[a-z\"\\\\N]*", any_data(), 0..4)) {
            prop_assert_eq!(decode(&encode(&data)).unwrap(), data);
        }

        #[test]
        fn decode_does_not_panic_on_any_bytes(mut blob in prop::collection::vec(any::<u8>(), 0..64), text in ".*") {
            let _ = decode(&blob);
            blob.splice(..0, (blob.len() as u64 + 8).to_le_bytes());
            blob.extend_from_slice(text.as_bytes());
            let _ = decode(&blob);
        }

        #[test]
        fn decode_does_not_panic_on_any_array(shape in prop::collection::vec(any::<u64>(), 0..4), offset: u64,
            dtype in "(int|float|str|bool)[0-9]{0,20}") {
            let mut blob = 8_u64.to_le_bytes().to_vec();
            blob.extend_from_slice(format!("{{\"a\":{{\"__ndarray__\":[{shape:?},\"{dtype}\",{offset}]}}}}").as_bytes());
            let _ = decode(&blob);
        }
    }

    #[test]
    fn decode_reads_nan_and_infinity_outside_strings_only() {
        let mut blob = 8_u64.to_le_bytes().to_vec();
        blob.extend_from_slice(br#"{"a":NaN,"b":"NaN \" -Infinity","c":[-Infinity,Infinity]}"#);
        let data = decode(&blob).unwrap();
        assert!(matches!(data["a"], Data::Float(x) if x.is_nan()));
        assert_eq!(data["b"], Data::Text("NaN \" -Infinity".into()));
        assert_eq!(data["c"], Data::List(vec![Data::Float(f64::NEG_INFINITY), Data::Float(f64::INFINITY)]));
    }
}
