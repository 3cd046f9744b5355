// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf report`: an HTML page about a run or a loop.

use std::path::PathBuf;

use lammps_otf::report::{self, Report};
use serde_json::json;

use super::files::{WriteError, write_atomically};
use super::{Verbosity, print_line, print_warning};

#[derive(Debug, clap::Args)]
pub(super) struct ReportArguments {
    /// Output folder of a run, a loop, or replicas, finished or in progress
    folder: PathBuf,
    /// HTML file to write [default: report.html in FOLDER]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also write the main plots to this folder as SVG and PNG; created if missing
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Print the names of the written files as JSON
    #[arg(long)]
    json: bool,
}

/// The page cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReportError {
    #[error(transparent)]
    Report(#[from] report::Error),
    #[error(transparent)]
    Plot(#[from] report::PlotError),
    #[error("cannot create the folder {}: {source}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Write(#[from] WriteError),
}

pub(super) fn run(arguments: &ReportArguments, verbosity: Verbosity) -> Result<(), ReportError> {
    let report = Report::read(&arguments.folder)?;
    report.notes.iter().for_each(|note| print_warning(note));
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
        print_line(&format!("{:#}", json!({ "written": written })));
    } else if verbosity != Verbosity::Quiet {
        written.iter().for_each(|path| print_line(&path.display().to_string()));
    }
    Ok(())
}
