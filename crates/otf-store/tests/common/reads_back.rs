// SPDX-License-Identifier: GPL-2.0-or-later
//! A check for the unit tests of types that are read back from JSON, in any crate.
/// Checks that a value is read back from JSON in which any one of its numbers is `null`.
///
/// # Panics
/// If reading fails or the result differs.
pub fn reads_back<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) {
    use serde_json::Value;
    fn numbers(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            // An integer never becomes null.
            Value::Number(number) if number.is_f64() => found.push(path.to_owned()),
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(i, v)| numbers(v, &format!("{path}/{i}"), found))
            }
            Value::Object(fields) => fields.iter().for_each(|(k, v)| numbers(v, &format!("{path}/{k}"), found)),
            _ => {}
        }
    }
    let json = serde_json::to_value(value).expect("numbers and names");
    let mut found = Vec::new();
    numbers(&json, "", &mut found);
    assert!(!found.is_empty(), "no number in {json}");
    for path in found {
        let mut with_null = json.clone();
        *with_null.pointer_mut(&path).expect("found above") = Value::Null;
        let back: T =
            serde_json::from_value(with_null.clone()).unwrap_or_else(|e| panic!("{path}: {e} in {with_null}"));
        assert_eq!(serde_json::to_value(&back).expect("numbers and names"), with_null, "{path}");
    }
}
