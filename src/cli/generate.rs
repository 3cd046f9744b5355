// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf generate`: what can be made from the definitions of commands and configuration.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Subcommand};
use clap_complete::Shell;
use lammps_otf::config::{
    CandidatesConfig, Determines, InferenceConfig, JobConfig, LammpsConfig, LimitsConfig, MdConfig, Section,
    SystemConfig, WatchConfig,
};
use lammps_otf::simulation::{Poll, PollFormat};
use serde_json::Value;

use super::files::{WriteError, write_atomically};
use super::{Arguments, say};

#[derive(Debug, clap::Args)]
pub(super) struct GenerateArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write a manual page for each command into a folder
    Man {
        /// The folder; it is made if there is none
        folder: PathBuf,
    },
    /// Print the JSON Schema of the configuration, which editors check against
    Schema,
    /// Write the references of the documentation (docs/ of the source) into a folder
    Docs {
        /// The folder
        folder: PathBuf,
    },
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub(super) enum GenerateError {
    #[error("cannot make the folder {}: {source}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Write(#[from] WriteError),
}

pub(super) fn run(arguments: &GenerateArguments) -> Result<(), GenerateError> {
    match &arguments.what {
        What::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "lammps-otf", &mut text);
            say(String::from_utf8_lossy(&text).trim_end());
            Ok(())
        }
        What::Man { folder } => man(folder),
        What::Schema => {
            say(&schema());
            Ok(())
        }
        What::Docs { folder } => docs(folder),
    }
}

fn make(folder: &Path) -> Result<(), GenerateError> {
    std::fs::create_dir_all(folder).map_err(|source| GenerateError::Folder { path: folder.to_owned(), source })
}

fn man(folder: &Path) -> Result<(), GenerateError> {
    make(folder)?;
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    page(&command, folder)
}

/// The page of a command and those of its own.
fn page(command: &clap::Command, folder: &Path) -> Result<(), GenerateError> {
    let man = clap_mangen::Man::new(command.clone());
    write_atomically(&folder.join(man.get_filename()), |mut out| man.render(&mut out))?;
    command.get_subcommands().try_for_each(|sub| page(sub, folder))
}

fn schema() -> String {
    let schema = schemars::schema_for!(InferenceConfig);
    format!("{:#}", schema.as_value())
}

fn docs(folder: &Path) -> Result<(), GenerateError> {
    let reference = folder.join("reference");
    make(&reference)?;
    let schema = schemars::schema_for!(InferenceConfig).to_value();
    let polls = schemars::schema_for!(Poll).to_value();
    let pages = [
        (folder.join("polls.schema.json"), format!("{polls:#}\n")),
        (reference.join("polls.md"), polls_page(&polls)),
        (folder.join("config.schema.json"), format!("{schema:#}\n")),
        (reference.join("config.md"), config_page(&schema, &Heading::all())),
        (reference.join("cli.md"), commands_page()),
    ];
    for (path, text) in pages {
        write_atomically(&path, |out| out.write_all(text.as_bytes()))?;
    }
    Ok(())
}

/// The help of every command, as it is printed.
fn commands_page() -> String {
    let mut command = Arguments::command().disable_help_subcommand(true).term_width(100);
    command.build();
    let mut text =
        "# Commands\n\nWritten by `lammps-otf generate docs`; the same is in `lammps-otf help COMMAND` and in the \
                    manual pages.\n"
            .to_owned();
    section(&mut command, "", &mut text);
    text
}

fn section(command: &mut clap::Command, parent: &str, text: &mut String) {
    let name = format!("{parent}{}", command.get_name());
    let help = command.render_long_help().to_string();
    let help: String = help.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
    let _ = write!(text, "\n## {name}\n\n```text\n{help}```\n");
    for sub in command.get_subcommands_mut() {
        section(sub, &format!("{name} "), text);
    }
}

/// The keys of a line of polls.jsonl, those of its parts behind a dot.
fn polls_page(schema: &Value) -> String {
    let mut text = format!(
        "# Lines of polls.jsonl\n\nWritten by `lammps-otf generate docs` from the types of the program. A run writes one line of \
         JSON for each look at γ, at once and in one piece, into `polls.jsonl` in its folder; a loop into that of each round. \
         `lammps-otf run --json` prints the same lines, with `event` = `\"poll\"` in front. \
         [polls.schema.json](../polls.schema.json) says the same to programs.\n\n\
         `format` is {} and changes when a program that reads these lines would misread them; further keys may come \
         without that. What is not a finite number is `null`. Atoms are counted over all MPI ranks.\n\n\
         | key | value | |\n| --- | --- | --- |\n",
        PollFormat::NUMBER
    );
    rows(schema, schema, "", &mut text);
    text
}

fn rows(root: &Value, table: &Value, prefix: &str, text: &mut String) {
    for (key, property) in table["properties"].as_object().into_iter().flatten() {
        let definition = resolve(root, property);
        if definition["properties"].is_object() {
            let _ = writeln!(text, "| `{prefix}{key}` | object | {} |", prose(property));
            rows(root, definition, &format!("{prefix}{key}."), text);
            continue;
        }
        let values = if definition["oneOf"].is_array() { definition } else { property };
        let _ = writeln!(text, "| `{prefix}{key}` | {} | {} |", kind(root, values), prose(property));
    }
}

/// The keys of a section: as a table of its own under a heading, although the file has them at its top level.
struct Heading {
    title: &'static str,
    may_change: &'static str,
    schema: Value,
}

impl Heading {
    fn of<S: Section + schemars::JsonSchema>(title: &'static str) -> Self {
        let may_change = match S::DETERMINES {
            Determines::Trajectory => "Fixed when a run or a loop is continued.",
            Determines::Candidates => "May change when a run is continued (`--resume`), but not a loop.",
            Determines::Nothing => "May change when a run or a loop is continued.",
        };
        Self { title, may_change, schema: schemars::schema_for!(S).to_value() }
    }

    fn all() -> [Self; 7] {
        [
            Self::of::<SystemConfig>("System"),
            Self::of::<MdConfig>("Molecular dynamics"),
            Self::of::<WatchConfig>("Monitoring"),
            Self::of::<CandidatesConfig>("Candidates"),
            Self::of::<LimitsConfig>("Limits"),
            Self::of::<LammpsConfig>("LAMMPS"),
            Self::of::<JobConfig>("Job"),
        ]
    }
}

/// The settings as tables, in the order in which they are defined.
fn config_page(schema: &Value, headings: &[Heading]) -> String {
    let mut text = "# Configuration\n\nWritten by `lammps-otf generate docs` from the types of the program. Paths are relative to \
                    the folder of the configuration. Lengths in Å, times in ps, energies in eV, temperatures in K, pressures in bar. \
                    [config.schema.json](../config.schema.json) says the same to editors.\n"
        .to_owned();
    // The path of each table, its heading, and what is said of all its keys.
    let mut tables: Vec<(String, String, &str, &Value)> = Vec::new();
    tables.extend(headings.iter().map(|of| (String::new(), of.title.to_owned(), of.may_change, &of.schema)));
    // What is in no section are tables.
    let mut others = schema.clone();
    if let Some(properties) = others["properties"].as_object_mut() {
        properties.retain(|key, _| headings.iter().all(|of| of.schema["properties"].get(key).is_none()));
    }
    tables.push((String::new(), "Tables".to_owned(), "", &others));
    while !tables.is_empty() {
        let (path, title, note, table) = tables.remove(0);
        let _ = write!(
            text,
            "\n## {title}\n\n{}\n\n| key | value | default | |\n| --- | --- | --- | --- |\n",
            format!("{} {note}", prose(table)).trim_end()
        );
        let required = table["required"].as_array().map_or(&[][..], Vec::as_slice);
        for (key, property) in table["properties"].as_object().into_iter().flatten() {
            let definition = resolve(schema, property);
            let default = match &property["default"] {
                Value::Null if required.iter().any(|r| r == key) => "required".to_owned(),
                Value::Null => String::new(),
                // The keys of a table have their own.
                Value::Object(_) => String::new(),
                value => format!("`{value}`"),
            };
            let name = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            if definition["properties"].is_object() {
                let anchor = name.replace('.', "");
                let _ = writeln!(text, "| `{key}` | [table](#{anchor}) | {default} | {} |", prose(property));
                let title = format!("`[{name}]`");
                tables.push((name, title, "", definition));
                continue;
            }
            let kinds = definition["oneOf"].as_array().into_iter().flatten();
            let kinds: Vec<_> = kinds.filter_map(|k| Some((k.pointer("/properties/type/const")?, k))).collect();
            if !kinds.is_empty() {
                let _ = writeln!(text, "| `{key}` | table, one of those below | {default} | {} |", prose(property));
                let table = |(tag, kind)| (name.clone(), format!("`[{name}]`, `type = {tag}`"), "", kind);
                tables.extend(kinds.into_iter().map(table));
                continue;
            }
            let mut description = prose(property);
            for variant in definition["oneOf"].as_array().into_iter().flatten() {
                let meaning = prose(variant);
                for value in constants(variant).iter().filter(|_| !meaning.is_empty()) {
                    let _ = write!(description, " {value}: {meaning}");
                }
            }
            let _ = writeln!(text, "| `{key}` | {} | {default} | {description} |", kind(schema, property));
        }
    }
    text
}

/// What a reference stands for; `null` as an alternative is passed over.
fn resolve<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let reference = schema["$ref"].as_str().or_else(|| {
        let choices = schema["anyOf"].as_array()?;
        choices.iter().find_map(|choice| choice["$ref"].as_str())
    });
    reference.and_then(|r| root.pointer(r.trim_start_matches('#'))).unwrap_or(schema)
}

/// The description, on one line of a table.
fn prose(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or("");
    // Links of the program's own documentation lead nowhere here.
    let text = text.replace("[`", "`").replace("`]", "`").replace("super::", "").replace("crate::", "");
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
        .replace("[start, end]", "\\[start, end\\]")
}

/// The values that a variant of an enumeration is written as.
fn constants(variant: &Value) -> Vec<String> {
    let named = |value: &Value| format!("`{value}`");
    if let Some(value) = variant.get("const") {
        return vec![named(value)];
    }
    if let Some(values) = variant["enum"].as_array() {
        return values.iter().map(named).collect();
    }
    let properties = variant["properties"].as_object().into_iter().flatten();
    properties.map(|(key, _)| format!("`{{ {key} = \"…\" }}`")).collect()
}

/// What may stand there.
fn kind(root: &Value, schema: &Value) -> String {
    let definition = resolve(root, schema);
    if let Some(value) = definition.get("const") {
        return format!("`{value}`");
    }
    for key in ["oneOf", "anyOf"] {
        if let Some(choices) = definition[key].as_array() {
            let all = choices.iter().filter(|choice| choice["type"] != "null").flat_map(|choice| {
                let values = constants(choice);
                if values.is_empty() { vec![kind(root, choice)] } else { values }
            });
            return all.collect::<Vec<_>>().join(", ");
        }
    }
    let name = definition["type"].as_str().or_else(|| {
        let names = definition["type"].as_array()?;
        names.iter().filter_map(Value::as_str).find(|name| *name != "null")
    });
    match name {
        Some("array") if definition["maxItems"].is_number() => {
            let one = kind(root, &definition["items"]);
            format!("[{}]", vec![one; definition["maxItems"].as_u64().unwrap_or(1) as usize].join(", "))
        }
        Some("array") => format!("list of {}", kind(root, &definition["items"])),
        Some("object") => format!("table of {}", kind(root, &definition["additionalProperties"])),
        Some("string") => "text".to_owned(),
        Some("boolean") => "`true`, `false`".to_owned(),
        Some(other) => other.to_owned(),
        None => "anything".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(schemars::JsonSchema)]
    #[serde(tag = "type", rename_all = "lowercase")]
    #[expect(dead_code, reason = "only its schema is looked at")]
    enum Who {
        /// A program: [`super::Program`].
        Program {
            /// Its words.
            words: Vec<String>,
        },
        /// Nobody.
        Nobody {},
    }

    #[derive(schemars::JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Inner {
        /// Who does it.
        who: Who,
    }

    #[derive(schemars::JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Outer {
        /// A table.
        inner: Option<Inner>,
    }

    #[test]
    fn a_table_of_several_kinds_has_a_section_for_each() {
        let page = config_page(&schemars::schema_for!(Outer).to_value(), &[]);
        let lines = [
            "| `inner` | [table](#inner) |  | A table. |",
            "| `who` | table, one of those below | required | Who does it. |",
            "## `[inner.who]`, `type = \"program\"`",
            "A program: `Program`.",
            "| `type` | `\"program\"` | required |  |",
            "| `words` | list of text | required | Its words. |",
            "## `[inner.who]`, `type = \"nobody\"`",
        ];
        let mut rest = page.as_str();
        for line in lines {
            rest = rest.split_once(line).unwrap_or_else(|| panic!("no {line} after the one before it in\n{page}")).1;
        }
    }
}
