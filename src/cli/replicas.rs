// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf run --replicas R`: several simulations in one job, with one store.
//!
//! Each replica has an equal share of the ranks, in their order, and a folder of its own, `replica-00` and so on; they
//! meet only in `candidates.db`. Signals and errors are agreed within a replica; the others go on. What one rank alone
//! fails at can only end the whole job: MPI has no way to end a part of it.

use std::path::Path;

use super::run::{print_line, settle, summary};
use super::{Exit, Verbosity, complain, say, warn};
use lammps_otf::comm::{CollectiveError, Comm, RemoteError};
use lammps_otf::config::{self, InferenceConfig};
use lammps_otf::interrupt::on_signals;
use lammps_otf::runner::{LammpsRunner, files};

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(
        "--replicas {count} needs a number of MPI ranks that is a multiple of {count}, and there are {ranks}: start it \
         as `mpiexec -n {count} lammps-otf run …`, or with twice as many ranks, …"
    )]
    Ranks { count: usize, ranks: usize },
    #[error("--replicas 0: there must be at least one")]
    None,
    #[error("{0} already holds a run: choose another folder with --output")]
    Occupied(String),
    #[error("cannot make the folder {0}: {1}")]
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

/// What a replica leaves for rank 0 of the job to print: to standard output and to standard error.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Report {
    said: String,
    result: serde_json::Value,
    warnings: Vec<String>,
    error: Option<String>,
}

/// The job ends with the code of the replica that comes last in this list.
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
    let ready = begin(config, output, count, world);
    let config = match ready {
        Ok(config) => config,
        Err(error) => {
            if world.is_root() {
                complain(&error);
            }
            return Exit::BadInput;
        }
    };
    let share = world.size() / count;
    let index = world.rank() / share;
    let comm = world.split(index);
    let name = InferenceConfig::replica_name(index);
    let (folder, store) = (output.join(&name), output.join(files::CANDIDATES));
    let outcome = LammpsRunner::new(&comm, &folder)
        .store_in(&store, &name)
        .interrupt_by(on_signals(Exit::Interrupted as i32))
        .run(&config);
    let exit = settle(&outcome, &comm, world, &folder);

    let report = match &outcome {
        Ok(result) => Report {
            said: format!("{name}: {}", summary(result, &config, &store)),
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
        let bytes = world.broadcast(replica * share, bytes);
        if !world.is_root() {
            continue;
        }
        let report: Report = serde_json::from_slice(&bytes).unwrap_or_default();
        if !json && verbosity != Verbosity::Quiet && !report.said.is_empty() {
            say(&report.said);
        }
        report.warnings.iter().for_each(|warning| warn(warning));
        if let Some(error) = &report.error {
            complain(error);
        }
        if json {
            print_line("result", &report.result);
        }
    }
    if world.is_root() {
        // Only if nothing is in it: every replica was refused.
        let _ = std::fs::remove_dir(output);
    }
    let own = SEVERITY.iter().position(|e| *e == exit).unwrap_or(SEVERITY.len() - 1);
    let worst = -world.min_i64(-(own as i64));
    SEVERITY[worst as usize]
}

/// The configuration of this rank's replica, once all of them are sound and the folder is there.
fn begin(config: &InferenceConfig, output: &Path, count: usize, world: &Comm) -> Result<InferenceConfig, Error> {
    if count == 0 {
        return Err(Error::None);
    }
    let ranks = world.size();
    if !ranks.is_multiple_of(count) {
        return Err(Error::Ranks { count, ranks });
    }
    let index = world.rank() / (ranks / count);
    let own = world.agree(config.replica(index, count).map_err(Error::from))?;
    world.on_root(|| {
        let name = output.display().to_string();
        if output.read_dir().is_ok_and(|mut entries| entries.next().is_some()) || output.is_file() {
            return Err(Error::Occupied(name));
        }
        std::fs::create_dir_all(output).map_err(|error| Error::Folder(name, error))
    })?;
    Ok(own)
}
