// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf report`: a page of what a run or a loop has left.

use std::path::PathBuf;

use lammps_otf::report::{self, Report};
use serde_json::json;

use super::files::{WriteError, write_atomically};
use super::{Verbosity, say, warn};

#[derive(Debug, clap::Args)]
pub(super) struct ReportArguments {
    /// The folder of a run, a loop, or replicas; also while they go on
    folder: PathBuf,
    /// The page [default: report.html in FOLDER]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the main plots, as SVG and PNG, into this folder too; it is made if there is none
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Print the names of the files that were written as JSON
    #[arg(long)]
    json: bool,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReportError {
    #[error(transparent)]
    Report(#[from] report::Error),
    #[error(transparent)]
    Plot(#[from] report::PlotError),
    #[error("cannot make the folder {}: {source}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Write(#[from] WriteError),
}

pub(super) fn run(arguments: &ReportArguments, verbosity: Verbosity) -> Result<(), ReportError> {
    let report = Report::read(&arguments.folder)?;
    report.notes.iter().for_each(|note| warn(note));
    let page = arguments.output.clone().unwrap_or_else(|| arguments.folder.join("report.html"));
    let html = report.html();
    write_atomically(&page, |out| out.write_all(html.as_bytes()))?;
    let mut written = vec![page];
    if let Some(folder) = &arguments.plots {
        std::fs::create_dir_all(folder).map_err(|source| ReportError::Folder { path: folder.clone(), source })?;
        for (name, content) in report.plots()? {
            let path = folder.join(name);
            write_atomically(&path, |out| out.write_all(&content))?;
            written.push(path);
        }
    }
    if arguments.json {
        say(&format!("{:#}", json!({ "written": written })));
    } else if verbosity != Verbosity::Quiet {
        written.iter().for_each(|path| say(&path.display().to_string()));
    }
    Ok(())
}
