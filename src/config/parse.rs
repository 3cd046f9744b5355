// SPDX-License-Identifier: GPL-2.0-or-later
//! From the text of a file to a configuration.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, Deserializer};

use super::{Error, InferenceConfig, LoopConfig, Outputs, Replicas};

/// Most bytes of a configuration.
const LARGEST: u64 = 16_000_000;

/// Tables that belong to no section.
#[derive(Deserialize, JsonSchema)]
struct Tables {
    #[serde(default)]
    replicas: Replicas,
    #[serde(rename = "loop")]
    active_learning: Option<LoopConfig>,
}

/// What remains when every section has taken its keys: nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl InferenceConfig {
    /// Reads and checks a TOML file. Paths in it are taken relative to its folder.
    ///
    /// # Errors
    /// [`Error`], which names the file and line, or the field, its value and what is allowed.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        Self::parse(&Self::text(path)?, path)
    }

    /// The text of a file, for [`InferenceConfig::parse`]; nothing larger than 16 MB, which is no configuration.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn text(path: &Path) -> Result<String, Error> {
        let unreadable = |source| Error::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(unreadable)?.len() > LARGEST {
            return Err(unreadable(std::io::Error::other("it is larger than 16 MB")));
        }
        std::fs::read_to_string(path).map_err(unreadable)
    }

    /// Checks the text of a TOML file; `path` names it in errors and is where relative paths begin.
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

/// The sections, each from its keys of the flat table. (`#[serde(flatten)]` would lose the lines of errors.)
fn from_toml(text: &str) -> Result<InferenceConfig, toml::de::Error> {
    let mut table = DeTable::parse(text)?;
    // Keys that nobody knows first: they are often the reason why another one is missing.
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
        active_learning: None,
        outputs: Outputs::default(),
    };
    let Tables { replicas, active_learning } = take(&mut table)?;
    Ok(InferenceConfig { replicas, active_learning, ..config })
}

/// Removes the keys of a section from the table, and reads it.
fn take<S: DeserializeOwned + JsonSchema>(table: &mut Spanned<DeTable<'_>>) -> Result<S, toml::de::Error> {
    let mut own = Spanned::new(table.span(), DeTable::new());
    for key in keys::<S>() {
        if let Some((key, value)) = table.get_mut().remove_entry(key.as_str()) {
            own.get_mut().insert(key, value);
        }
    }
    S::deserialize(Deserializer::from(own))
}

/// Names of the fields of a type in a file.
fn keys<S: JsonSchema>() -> Vec<String> {
    let schema = schemars::schema_for!(S);
    let properties = schema.get("properties").and_then(|properties| properties.as_object());
    properties.into_iter().flat_map(|properties| properties.keys().cloned()).collect()
}

fn explain(error: &toml::de::Error, text: &str, path: &Path) -> Error {
    // A missing key is on no line.
    let missing = error.message().strip_prefix("missing field ").map(|name| match name {
        "`structure`" | "`temperature`" | "`potential`" => {
            format!("the key {name} is missing; `lammps-otf init` writes a configuration with all that is needed")
        }
        _ => format!("the key {name} is missing in the table that begins on line {}", line_of(text, error.span())),
    });
    let message = missing.unwrap_or_else(|| {
        let names: Vec<String> = keys::<InferenceConfig>().iter().map(|name| format!("`{name}`")).collect();
        error.to_string().replace(", there are no fields", &format!(", expected one of {}", names.join(", ")))
    });
    let hint = suggestion(&message);
    // The nearest name says more than the list of all.
    let end = if hint.is_empty() { None } else { message.find(", expected one of") };
    let message = message[..end.unwrap_or(message.len())].trim_end().to_owned();
    Error::Parse { path: path.to_owned(), hint, message }
}

/// The line, from 1, on which a part of the text begins.
fn line_of(text: &str, span: Option<std::ops::Range<usize>>) -> usize {
    let start = span.map_or(0, |span| span.start);
    text.bytes().take(start).filter(|&b| b == b'\n').count() + 1
}

/// ". Did you mean `temperature`?" for a parser's "unknown field `temprature`, expected one of `a`, `b`".
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
