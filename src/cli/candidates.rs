// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf candidates`: list, export and modify a candidate store.

use clap::{Args, Subcommand};
use lammps_otf::candidates::export::{self, Format};
use lammps_otf::candidates::{
    Candidate, CandidateKeys, KeyValue, Labels, PotentialRecord, Status, Store, StoreError, StoredCandidate, Summary,
    suspects,
};
use lammps_otf::io;
use lammps_otf::io::extxyz::Results;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::table::{Align, table, texts};
use super::{print_line, print_warning};

/// List and export the candidates of a run, and change their status
#[derive(Debug, Args)]
pub struct CandidatesArgs {
    #[command(subcommand)]
    command: CandidatesCommand,
}

#[derive(Debug, Subcommand)]
enum CandidatesCommand {
    /// List candidates, one per line, and count them by status
    List {
        /// Candidate store, e.g. candidates.db
        db: PathBuf,
        /// Only candidates with this status: pending_dft, running_dft, done, failed, rejected
        #[arg(long)]
        status: Option<Status>,
        /// Only candidates whose labels do not fit the others, so that the loop does not train on them until they are accepted
        #[arg(long)]
        suspect: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show all data of one candidate
    Show {
        /// Candidate store, e.g. candidates.db
        db: PathBuf,
        /// Number of the candidate
        id: i64,
        /// Print JSON, including positions, force mask and labels
        #[arg(long)]
        json: bool,
    },
    /// Export candidates in the format of a trainer
    ///
    /// extxyz: all data, also of candidates without labels. pacemaker: a data frame, to be named *.pckl.gzip. deepmd: a new
    /// folder of systems. gap: extended XYZ whose force_mask is T for forces to be ignored. mace: extended XYZ. poscar and lammps-data:
    /// a new folder with one structure for each candidate, as input of calculations.
    Export {
        /// Candidate store, e.g. candidates.db
        db: PathBuf,
        /// extxyz, pacemaker, gracemaker, deepmd, gap, mace, poscar or lammps-data
        format: Format,
        /// File to write; for deepmd, poscar and lammps-data, a folder that does not exist yet
        #[arg(short, long, value_name = "PATH")]
        output: PathBuf,
        /// Only candidates with this status [default: done; for extxyz, poscar and lammps-data, all]
        #[arg(long)]
        status: Option<Status>,
        /// Only candidates with these numbers, e.g. 3,7,9
        #[arg(long, value_delimiter = ',', value_name = "LIST", conflicts_with = "status")]
        ids: Vec<i64>,
        /// Also audits, which measure the error of a potential as long as it is not trained on them
        #[arg(long)]
        audits: bool,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Import the rows of other ASE databases or candidate stores
    Import {
        /// Candidate store, e.g. candidates.db; created if missing
        db: PathBuf,
        /// Databases to import
        #[arg(required = true)]
        from: Vec<PathBuf>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Reject candidates, or queue failed or rejected ones for labelling again
    SetStatus {
        /// Candidate store, e.g. candidates.db
        db: PathBuf,
        /// New status: rejected or pending_dft
        status: Status,
        /// Numbers of the candidates
        #[arg(required = true)]
        ids: Vec<i64>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Train on labels that the loop has excluded because they do not fit the others
    Accept {
        /// Candidate store, e.g. candidates.db
        db: PathBuf,
        /// Numbers of the candidates
        #[arg(required = true)]
        ids: Vec<i64>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Release candidates whose worker has stopped, so that they can be labelled again
    Release {
        /// Candidate store, e.g. candidates.db
        db: PathBuf,
        /// Minimum time since the last update by the worker, in hours
        #[arg(long, value_name = "HOURS", value_parser = parse_hours, allow_negative_numbers = true)]
        older_than: Duration,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Read and check all rows of the store
    Check {
        /// Candidate store, e.g. candidates.db
        db: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the potentials of a loop: their files, and which potential each replaced
    Potentials {
        /// Candidate store, e.g. candidates.db
        db: PathBuf,
        /// Only the potential whose hash starts with this, with or without sha256:
        hash: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Add structures, such as those of `extract`, to be labelled
    ///
    /// A frame with a column force_mask is a cut-out, whose energy is not learned; one without is a whole frame.
    Add {
        /// Candidate store, e.g. candidates.db; created if missing
        db: PathBuf,
        /// Structure files with any number of frames
        #[arg(required = true)]
        from: Vec<PathBuf>,
        /// Take energies and forces in the files as labels; by default they are ignored, because any calculator can have written them
        #[arg(long)]
        labelled: bool,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Copy the store to a new file, also while it is in use
    Backup {
        /// Candidate store, e.g. candidates.db
        db: PathBuf,
        /// File to create
        to: PathBuf,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}

fn parse_hours(text: &str) -> Result<Duration, String> {
    let hours = text.parse::<f64>().ok().filter(|hours| *hours >= 0.0);
    hours
        .and_then(|hours| Duration::try_from_secs_f64(hours * 3600.0).ok())
        .ok_or_else(|| format!("{text:?} is not a number of hours (0 or more)"))
}

/// A command on a store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CandidatesError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A structure file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A structure file has no frames.
    #[error("{} contains no structures", .0.display())]
    Empty(PathBuf),
}

/// Executes the subcommand and prints the result.
///
/// # Errors
/// [`CandidatesError`], whose message includes the remedy.
pub fn run(arguments: &CandidatesArgs) -> Result<(), CandidatesError> {
    let text = match &arguments.command {
        CandidatesCommand::List { db, status, suspect, json } => list(db, *status, *suspect, *json)?,
        CandidatesCommand::Show { db, id, json } => {
            let row = Store::open_read_only(db)?.get(*id)?;
            if *json { pretty(&as_json(&row)) } else { describe(&row) }
        }
        CandidatesCommand::Export { db, format, output, status, ids, audits, json } => {
            let store = Store::open_read_only(db)?;
            let status = status.or(format.needs_labels().then_some(Status::Done));
            let (mut held_back, mut suspects) = (0, 0);
            let rows: Vec<_> = if ids.is_empty() {
                let mut rows = store.iter(status)?.collect::<Result<Vec<_>, _>>()?;
                let all = rows.len();
                rows.retain(|row| *audits || !row.is_held_back());
                held_back = all - rows.len();
                rows.retain(|row| !row.is_suspect());
                suspects = all - held_back - rows.len();
                rows
            } else {
                ids.iter().map(|&id| store.get(id)).collect::<Result<_, _>>()?
            };
            if let (Some(status), true) = (status, rows.is_empty()) {
                let status = status.as_str();
                let none = format!("no candidate is {status}; select others with --status");
                return Err(StoreError::Export(none).into());
            }
            let report = export::export(*format, &rows, output)?;
            for warning in &report.warnings {
                print_warning(warning);
            }
            if *json {
                pretty(&json!(report))
            } else {
                let omitted = match report.without_labels.len() {
                    0 => String::new(),
                    n => format!(", {n} omitted because they have no energy and forces"),
                };
                let audits = match held_back {
                    0 => String::new(),
                    n => format!(", {n} audits and checks omitted (--audits)"),
                };
                let suspects = match suspects {
                    0 => String::new(),
                    n => format!(", {n} omitted because their labels do not fit the others (`candidates accept`)"),
                };
                format!("{}: {} candidates{omitted}{audits}{suspects}\n", output.display(), report.written)
            }
        }
        CandidatesCommand::Import { db, from, json } => {
            let mut added = BTreeMap::new();
            let mut store = Store::open(db)?;
            for path in from {
                added.insert(path.display().to_string(), import(&mut store, path)?);
            }
            let lines = added.iter().map(|(path, ids)| format!("{path}: {} added\n", ids.len()));
            if *json { pretty(&json!(added)) } else { lines.collect() }
        }
        CandidatesCommand::SetStatus { db, status, ids, json } => {
            let mut store = Store::open_existing(db)?;
            for &id in ids {
                store.set_status(id, *status)?;
            }
            if *json {
                pretty(&json!({ "status": status.as_str(), "ids": ids }))
            } else {
                format!("{} set to {status}\n", ids.len())
            }
        }
        CandidatesCommand::Accept { db, ids, json } => {
            Store::open_existing(db)?.set_suspect(ids, false)?;
            if *json { pretty(&json!({ "accepted": ids })) } else { format!("{} accepted\n", ids.len()) }
        }
        CandidatesCommand::Release { db, older_than, json } => {
            let ids = Store::open_existing(db)?.release_stale(*older_than)?;
            if *json { pretty(&json!({ "released": ids })) } else { format!("{} released\n", ids.len()) }
        }
        CandidatesCommand::Check { db, json } => {
            let checked = Store::open_read_only(db)?.check()?;
            for id in &checked.reordered {
                print_warning(&format!(
                    "candidate {id}: a worker wrote its atoms in another order. Exports restore the original order"
                ));
            }
            if *json {
                pretty(&json!(checked))
            } else {
                format!("{}: {} rows, all valid\n", db.display(), checked.rows)
            }
        }
        CandidatesCommand::Potentials { db, hash, json } => potentials(db, hash.as_deref(), *json)?,
        CandidatesCommand::Add { db, from, labelled, json } => {
            let mut candidates = Vec::new();
            for path in from {
                candidates.extend(read_candidates(path, *labelled)?);
            }
            let ids = Store::open(db)?.add(&candidates)?;
            if *json { pretty(&json!({ "ids": ids })) } else { format!("{}: {} added\n", db.display(), ids.len()) }
        }
        CandidatesCommand::Backup { db, to, json } => {
            Store::open_read_only(db)?.backup(to)?;
            if *json { pretty(&json!({ "copy": to })) } else { format!("{}: copied\n", to.display()) }
        }
    };
    print_line(text.trim_end_matches('\n'));
    Ok(())
}

/// Copies all rows of another database, with their labels. A row without a status becomes `DONE` if it has a label, else
/// `PENDING_DFT`.
fn import(store: &mut Store, path: &Path) -> Result<Vec<i64>, StoreError> {
    let other = Store::open_read_only(path)?;
    let rows = other.iter(None)?.collect::<Result<Vec<_>, _>>()?;
    if let Some(error) = rows.iter().find_map(|row| other.mismatch(row)) {
        return Err(error);
    }
    let rows: Vec<_> = rows
        .into_iter()
        .map(|row| {
            let labelled = row.candidate.labels.is_some();
            let status = match row.status {
                Some(status @ (Status::Failed | Status::Rejected)) => status,
                _ if labelled => Status::Done,
                _ => Status::PendingDft,
            };
            let mut candidate = row.candidate;
            // A row without weights is not a cut-out, so its energy and stress are used.
            let whole = CandidateKeys::of_whole(&candidate.structure);
            candidate.keys.energy_weight = candidate.keys.energy_weight.or(whole.energy_weight);
            candidate.keys.stress_weight = candidate.keys.stress_weight.or(whole.stress_weight);
            (candidate, status)
        })
        .collect();
    store.add_with_status(&rows.iter().map(|(candidate, status)| (candidate, *status)).collect::<Vec<_>>())
}

/// The frames of a file as candidates, with the labels in the file if they are wanted.
fn read_candidates(path: &Path, labelled: bool) -> Result<Vec<Candidate>, CandidatesError> {
    let source = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut found = Vec::new();
    io::for_each_labelled(path, |frame| {
        let mut candidate = Candidate::new(frame.structure);
        match frame.force_mask {
            Some(mask) => candidate.force_mask = mask,
            None => candidate.keys = CandidateKeys::of_whole(&candidate.structure),
        }
        candidate.keys.source = Some(source.clone());
        let Results { energy, forces, stress } = frame.results;
        candidate.labels = energy.zip(forces).filter(|_| labelled).map(|(energy, forces)| Labels {
            energy,
            free_energy: None,
            forces,
            stress,
            calculator: None,
        });
        found.push(candidate);
        Ok::<_, CandidatesError>(())
    })?;
    if found.is_empty() { Err(CandidatesError::Empty(path.to_owned())) } else { Ok(found) }
}

/// Lists the potentials of a loop.
fn potentials(db: &Path, hash: Option<&str>, json: bool) -> Result<String, StoreError> {
    let store = Store::open_read_only(db)?;
    let mut records = store.potentials()?;
    if let Some(start) = hash {
        let start = start.trim_start_matches("sha256:");
        records.retain(|record| record.hash.trim_start_matches("sha256:").starts_with(start));
    }
    let used = store.summaries(None)?;
    let found_with = |record: &PotentialRecord| {
        let of = |row: &&Summary| row.keys.get("potential_hash").and_then(KeyValue::as_text) == Some(&record.hash);
        used.iter().filter(of).map(|row| row.id).collect::<Vec<_>>()
    };
    if json {
        let value = |record: &PotentialRecord| {
            json!({
                "hash": record.hash,
                "parent": record.parent,
                "round": record.round,
                "file": record.file,
                "active_set": record.active_set,
                "candidates": found_with(record),
            })
        };
        return Ok(pretty(&records.iter().map(value).collect()));
    }
    if records.is_empty() {
        return Ok("no potentials: the store belongs to no loop, or none has this hash\n".into());
    }
    // Enough to be distinct, and to be typed.
    let short = |hash: &str| hash.trim_start_matches("sha256:").chars().take(12).collect::<String>();
    let mut rows = vec![texts(&["round", "hash", "replaces", "candidates", "file"])];
    rows.extend(records.iter().map(|record| {
        let parent = record.parent.as_deref().map_or_else(|| "-".to_owned(), short);
        let number = found_with(record).len().to_string();
        vec![record.round.to_string(), short(&record.hash), parent, number, record.file.display().to_string()]
    }));
    Ok(table(&rows, Align::Left))
}

fn list(db: &Path, status: Option<Status>, suspect: bool, json: bool) -> Result<String, StoreError> {
    let store = Store::open_read_only(db)?;
    let mut rows = store.summaries(status)?;
    if suspect {
        // Compared with all labels, whatever their status.
        let suspects = suspects(&store.summaries(None)?);
        rows.retain(|row| suspects.contains(&row.id));
    }
    let counts = store.counts()?;
    if json {
        let counts: BTreeMap<_, _> = counts.iter().map(|(status, n)| (status.as_str(), n)).collect();
        return Ok(pretty(&json!({ "candidates": rows, "counts": counts })));
    }
    let header = ["id", "status", "atoms", "formula", "γ", "step", "centre", "trigger", "energy", "ΔF", "newest"];
    let mut lines = vec![texts(&header)];
    lines.extend(rows.iter().map(|row| line(row).to_vec()));
    let mut text = table(&lines, Align::Left);
    let counts: Vec<String> =
        counts.iter().filter(|(_, n)| **n > 0).map(|(status, n)| format!("{n} {status}")).collect();
    let _ = writeln!(text, "{}", if counts.is_empty() { "no candidates".to_owned() } else { counts.join(", ") });
    Ok(text)
}

/// γ, energy in eV, and the force errors on core atoms in eV/Å of the potential that ran and of the newest one.
fn line(row: &Summary) -> [String; 11] {
    let key = |name: &str| row.keys.get(name).map(KeyValue::to_string).unwrap_or_default();
    let number =
        |name: &str| row.keys.get(name).and_then(KeyValue::as_f64).map(|x| format!("{x:.3}")).unwrap_or_default();
    [
        row.id.to_string(),
        row.status.clone().unwrap_or_default(),
        row.natoms.to_string(),
        row.formula.clone(),
        number("gamma"),
        key("step"),
        key("center_id"),
        key("trigger"),
        row.energy.map(|energy| format!("{energy:.4}")).unwrap_or_default(),
        number("force_rmse_core"),
        number("force_rmse_newest"),
    ]
}

fn describe(row: &StoredCandidate) -> String {
    let candidate = &row.candidate;
    let structure = &candidate.structure;
    let mut text = String::new();
    let mut field = |name: &str, value: String| {
        let _ = writeln!(text, "{name:22} {value}");
    };
    field("id", row.id.to_string());
    field("status", row.status.map_or("none", Status::as_str).to_owned());
    field("atoms", structure.len().to_string());
    field("force mask 1", candidate.force_mask.iter().filter(|&&weight| weight > 0.0).count().to_string());
    for (name, vector) in ["cell a", "cell b", "cell c"].into_iter().zip(structure.cell.vectors) {
        field(name, vector.map(|x| format!("{x:.6}")).join(" ") + " Å");
    }
    for (key, value) in candidate.keys.to_pairs() {
        field(&key, value.to_string());
    }
    for (name, value) in [("worker", &row.worker), ("message", &row.message), ("other atoms", &row.mismatch)] {
        value.iter().for_each(|value| field(name, value.clone()));
    }
    if row.attempts > 0 {
        field("attempts", row.attempts.to_string());
    }
    if let Some(labels) = &candidate.labels {
        field("energy", format!("{} eV", labels.energy));
        field("largest force", format!("{:.6} eV/Å", labels.largest_force()));
        labels.calculator.iter().for_each(|calculator| field("calculator", calculator.clone()));
    }
    if let Some(log) = &row.error_log {
        let _ = writeln!(text, "\n{}", log.trim_end());
    }
    text
}

fn as_json(row: &StoredCandidate) -> serde_json::Value {
    let candidate = &row.candidate;
    let structure = &candidate.structure;
    let rows = |array: &ndarray::Array2<f64>| array.outer_iter().map(|row| row.to_vec()).collect::<Vec<_>>();
    let symbols: Vec<_> = (0..structure.len()).map(|i| structure.element(i).symbol()).collect();
    json!({
        "id": row.id,
        "unique_id": row.unique_id,
        "status": row.status.map(Status::as_str),
        "created": row.created,
        "modified": row.modified,
        "worker": row.worker,
        "claimed_at": row.claimed_at,
        "attempts": row.attempts,
        "message": row.message,
        "mismatch": row.mismatch,
        "error_log": row.error_log,
        "keys": candidate.keys.to_pairs(),
        "cell": structure.cell.vectors,
        "origin": structure.cell.origin,
        "pbc": structure.cell.pbc,
        "symbols": symbols,
        "positions": rows(&structure.positions),
        "force_mask": candidate.force_mask,
        "source_id": candidate.source_ids,
        "source_image": candidate.source_images,
        "atom_gamma": candidate.atom_gamma,
        "atom_core_share": candidate.atom_core_share,
        "labels": candidate.labels.as_ref().map(|labels| json!({
            "energy": labels.energy,
            "free_energy": labels.free_energy,
            "forces": rows(&labels.forces),
            "stress": labels.stress,
            "calculator": labels.calculator,
        })),
    })
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}
