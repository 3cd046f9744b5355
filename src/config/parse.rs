// SPDX-License-Identifier: GPL-2.0-or-later
//! Parsing of configuration files.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, Deserializer};

use super::{Error, ExploreConfig, InferenceConfig, LoopConfig, Outputs, Replicas};

/// Maximum size of a configuration in bytes.
const MAX_BYTES: u64 = 16_000_000;

/// Tables outside the sections.
#[derive(Deserialize, JsonSchema)]
struct Tables {
    #[serde(default)]
    replicas: Replicas,
    explore: Option<ExploreConfig>,
    #[serde(rename = "loop")]
    active_learning: Option<LoopConfig>,
}

/// A table without keys: every remaining key is an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl InferenceConfig {
    /// Reads and validates a TOML file. Paths in it are relative to its folder.
    ///
    /// # Errors
    /// [`Error`] with the file and line, or with the field, its value and the allowed values.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        Self::parse(&Self::text(path)?, path)
    }

    /// Reads the text of a file for [`InferenceConfig::parse`]. Files larger than 16 MB are rejected.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn text(path: &Path) -> Result<String, Error> {
        let unreadable = |source| Error::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_BYTES {
            return Err(unreadable(std::io::Error::other("the file is larger than 16 MB")));
        }
        std::fs::read_to_string(path).map_err(unreadable)
    }

    /// Parses and validates the text of a TOML file. `path` is used in errors and to resolve relative paths.
    ///
    /// # Errors
    /// As [`InferenceConfig::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let mut config = from_toml(text).map_err(|mut error| {
            error.set_input(Some(text));
            explain(&error, text, path)
        })?;
        config.resolve(path.parent().unwrap_or(Path::new("")));
        config.validate().map_err(|e| Error::InFile { path: path.to_owned(), source: Box::new(e) })?;
        Ok(config)
    }
}

/// Reads each section from its keys of the flat table. (`#[serde(flatten)]` would lose the lines of errors.)
fn from_toml(text: &str) -> Result<InferenceConfig, toml::de::Error> {
    let mut table = DeTable::parse(text)?;
    // Unknown keys are reported first: a missing key is often a misspelled one.
    let known = keys::<InferenceConfig>();
    let mut unknown = Spanned::new(table.span(), DeTable::new());
    for key in table
        .get_ref()
        .keys()
        .filter(|key| !known.iter().any(|known| known == key.get_ref()))
        .cloned()
        .collect::<Vec<_>>()
    {
        let value = table.get_mut().remove(&key).expect("a key of the table");
        unknown.get_mut().insert(key, value);
    }
    Nothing::deserialize(Deserializer::from(unknown))?;
    let config = InferenceConfig {
        system: take(&mut table)?,
        md: take(&mut table)?,
        watch: take(&mut table)?,
        candidates: take(&mut table)?,
        limits: take(&mut table)?,
        lammps: take(&mut table)?,
        job: take(&mut table)?,
        replicas: Replicas::default(),
        explore: None,
        active_learning: None,
        outputs: Outputs::default(),
    };
    let Tables { replicas, explore, active_learning } = take(&mut table)?;
    Ok(InferenceConfig { replicas, explore, active_learning, ..config })
}

/// Removes the keys of a section from the table, and reads the section from them.
fn take<S: DeserializeOwned + JsonSchema>(table: &mut Spanned<DeTable<'_>>) -> Result<S, toml::de::Error> {
    let mut own = Spanned::new(table.span(), DeTable::new());
    for key in keys::<S>() {
        if let Some((key, value)) = table.get_mut().remove_entry(key.as_str()) {
            own.get_mut().insert(key, value);
        }
    }
    S::deserialize(Deserializer::from(own))
}

/// The keys of a type.
fn keys<S: JsonSchema>() -> Vec<String> {
    let schema = schemars::schema_for!(S);
    let properties = schema.get("properties").and_then(|properties| properties.as_object());
    properties.into_iter().flat_map(|properties| properties.keys().cloned()).collect()
}

fn explain(error: &toml::de::Error, text: &str, path: &Path) -> Error {
    // The error for a missing key has no line.
    let missing = error.message().strip_prefix("missing field ").map(|name| match name {
        "`structure`" | "`temperature`" | "`potential`" => {
            format!("the key {name} is missing; `lammps-otf init` writes a complete configuration")
        }
        _ => format!("the key {name} is missing in the table on line {}", line_of(text, error.span())),
    });
    let message = missing.unwrap_or_else(|| {
        let names: Vec<String> = keys::<InferenceConfig>().iter().map(|name| format!("`{name}`")).collect();
        error.to_string().replace(", there are no fields", &format!(", expected one of {}", names.join(", ")))
    });
    let hint = suggestion(&message);
    // With a suggestion, the list of all names is omitted.
    let end = if hint.is_empty() { None } else { message.find(", expected one of") };
    let message = message[..end.unwrap_or(message.len())].trim_end().to_owned();
    Error::Parse { path: path.to_owned(), hint, message }
}

/// The line (from 1) on which `span` begins.
fn line_of(text: &str, span: Option<std::ops::Range<usize>>) -> usize {
    let start = span.map_or(0, |span| span.start);
    text.bytes().take(start).filter(|&b| b == b'\n').count() + 1
}

/// Returns "Did you mean `temperature`?" for the message "unknown field `temprature`, expected one of `a`, `b`".
fn suggestion(message: &str) -> String {
    let Some(at) = message.find("unknown field `").or_else(|| message.find("unknown variant `")) else {
        return String::new();
    };
    let mut names = message[at..].split('`').skip(1).step_by(2);
    let Some(unknown) = names.next() else { return String::new() };
    names
        .map(|name| (strsim::damerau_levenshtein(unknown, name), name))
        .min()
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3))
        .map(|(_, name)| format!("\nDid you mean `{name}`?"))
        .unwrap_or_default()
}
