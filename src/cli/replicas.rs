// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf run --replicas R`: several simulations in one job, with one store.
//!
//! Each replica has an equal share of consecutive ranks and its own folder, `replica-00`, `replica-01`, …. Replicas share
//! only `candidates.db`. A signal or an error ends one replica and the others continue, except for a rank failure, which
//! aborts the job: MPI cannot abort a part of it.

use std::path::Path;

use super::run::{exit_of_run, print_json, summary};
use super::{Exit, Verbosity, print_error, print_line, print_warning};
use lammps_otf::comm::{CollectiveError, Comm, DivisionError, RemoteError, Team};
use lammps_otf::config::{self, InferenceConfig};
use lammps_otf::interrupt::on_signals;
use lammps_otf::runner::{LammpsRunner, files};

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Division(#[from] DivisionError),
    #[error("{0} already holds a run: choose another folder with --output")]
    Occupied(String),
    #[error("cannot create the folder {0}: {1}")]
    Folder(String, std::io::Error),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

impl CollectiveError for Error {
    fn is_rank_failure(&self) -> bool {
        false
    }
}

/// Output of a replica, printed by rank 0 of the job.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Report {
    summary: String,
    result: serde_json::Value,
    warnings: Vec<String>,
    error: Option<String>,
}

/// Exit codes by increasing severity. The most severe code of a replica is that of the job.
const SEVERITY: [Exit; 6] =
    [Exit::Completed, Exit::Interrupted, Exit::Uncertain, Exit::Crashed, Exit::BadInput, Exit::Failed];

pub(super) fn run(
    config: &InferenceConfig,
    output: &Path,
    count: usize,
    json: bool,
    world: &Comm,
    verbosity: Verbosity,
) -> Exit {
    let (config, Team { comm, index, .. }) = match prepare(config, output, count, world) {
        Ok(prepared) => prepared,
        Err(error) => {
            if world.is_root() {
                print_error(&error);
            }
            return Exit::BadInput;
        }
    };
    let name = InferenceConfig::replica_name(index);
    let (folder, store) = (output.join(&name), output.join(files::CANDIDATES));
    let outcome = LammpsRunner::new(&comm, &folder)
        .store_in(&store, &name)
        .interrupt_by(on_signals(Exit::Interrupted as i32))
        .run(&config);
    let exit = exit_of_run(&outcome, &comm, world, &folder);

    let report = match &outcome {
        Ok(result) => Report {
            summary: format!("{name}: {}", summary(result, &config, &store)),
            result: serde_json::to_value(result).expect("numbers and names"),
            warnings: config
                .remarks()
                .iter()
                .map(ToString::to_string)
                .chain(result.warnings.iter().cloned())
                .map(|warning| format!("{name}: {warning}"))
                .collect(),
            error: None,
        },
        Err(error) => {
            let text = error.to_string();
            let result = serde_json::json!({ "status": "FAILED", "output": folder, "error": text });
            Report { result, error: Some(format!("{name}: {text}")), ..Report::default() }
        }
    };
    for replica in 0..count {
        let bytes = serde_json::to_vec(&report).expect("texts and numbers");
        let bytes = world.broadcast(replica * comm.size(), bytes);
        if !world.is_root() {
            continue;
        }
        let report: Report = serde_json::from_slice(&bytes).unwrap_or_default();
        if !json && verbosity != Verbosity::Quiet && !report.summary.is_empty() {
            print_line(&report.summary);
        }
        report.warnings.iter().for_each(|warning| print_warning(warning));
        if let Some(error) = &report.error {
            print_error(error);
        }
        if json {
            print_json("result", &report.result);
        }
    }
    if world.is_root() {
        // Succeeds only if the folder is empty, because no replica started.
        let _ = std::fs::remove_dir(output);
    }
    let own = SEVERITY.iter().position(|e| *e == exit).unwrap_or(SEVERITY.len() - 1);
    let worst = -world.min_i64(-(own as i64));
    SEVERITY[worst as usize]
}

/// Validates the configurations of all replicas, creates the folder, and returns the configuration and ranks of this rank's replica.
fn prepare(
    config: &InferenceConfig,
    output: &Path,
    count: usize,
    world: &Comm,
) -> Result<(InferenceConfig, Team), Error> {
    let team = world.divide(count)?;
    let own = world.agree(config.replica(team.index, count).map_err(Error::from))?;
    world.on_root(|| {
        let name = output.display().to_string();
        if output.read_dir().is_ok_and(|mut entries| entries.next().is_some()) || output.is_file() {
            return Err(Error::Occupied(name));
        }
        std::fs::create_dir_all(output).map_err(|error| Error::Folder(name, error))
    })?;
    Ok((own, team))
}
