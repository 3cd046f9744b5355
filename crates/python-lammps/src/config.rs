// SPDX-License-Identifier: GPL-2.0-or-later
//! Configurations from Python.

use std::path::Path;

use lammps_otf::comm::Comm;
use lammps_otf::config::InferenceConfig;
use pyo3::prelude::*;

use crate::errors::ConfigError;

/// The configuration of a TOML file, if one is given, with the values of a JSON object in place of those of the file. Paths are relative
/// to the folder of the file, and to the current folder without a file.
///
/// # MPI
/// Collective. The file is read on rank 0.
pub fn read(file: Option<&Path>, values: &str, comm: &Comm) -> PyResult<InferenceConfig> {
    let of_root = if comm.is_root() { text(file, values) } else { Ok(String::new()) };
    // One byte that is 0 for an error.
    let message = match of_root {
        Ok(text) => [vec![1], text.into_bytes()].concat(),
        Err(error) => [vec![0], error.into_bytes()].concat(),
    };
    let message = comm.broadcast(0, message);
    let text = String::from_utf8_lossy(&message[1..]);
    if message[0] == 0 {
        return Err(ConfigError::new_err(text.into_owned()));
    }
    let path = file.unwrap_or(Path::new("<Python>"));
    InferenceConfig::parse(&text, path).map_err(|error| ConfigError::new_err(error.to_string()))
}

/// The text of the configuration.
fn text(file: Option<&Path>, values: &str) -> Result<String, String> {
    let text = file.map(InferenceConfig::text).transpose().map_err(|error| error.to_string())?;
    let values: toml::Table = serde_json::from_str(values).map_err(|error| format!("the configuration: {error}"))?;
    match text {
        // The text itself, so that errors name its lines.
        Some(text) if values.is_empty() => Ok(text),
        text => {
            let mut table: toml::Table =
                toml::from_str(&text.unwrap_or_default()).map_err(|error| error.to_string())?;
            merge(&mut table, values);
            toml::to_string(&table).map_err(|error| error.to_string())
        }
    }
}

/// Puts `values` into `table`. Tables in both are merged, unless the new one has a key that determines the others: the `type` of a
/// table, or another potential, to which the old active set does not belong.
fn merge(table: &mut toml::Table, values: toml::Table) {
    let is_whole = |key: &str, new: &toml::Table| {
        new.contains_key("type") || key == "potential" && (new.contains_key("file") || new.contains_key("pair_style"))
    };
    for (key, value) in values {
        match (table.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) if !is_whole(&key, &new) => merge(old, new),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}
