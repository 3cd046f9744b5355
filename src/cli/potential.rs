// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf potential`: what a potential file contains.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lammps_otf::config::Potential;
use lammps_otf::potential::{fingerprint, ml_pace_fault};
use lammps_otf::prediction::condition_number;
use pace_opt::{ActiveSet, Format, Model};
use serde_json::json;

use super::print_line;
use super::table::{Align, table, texts};

/// Show elements, cutoffs, sizes, active set and hash of an ACE potential.
#[derive(Debug, clap::Args)]
pub(super) struct PotentialArguments {
    /// ACE potential: .yaml, .yace or .ace
    file: PathBuf,
    /// Active set [default: the potential with the extension .asi]
    #[arg(long, value_name = "P.asi")]
    active_set: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The potential cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum PotentialError {
    #[error(transparent)]
    Read(#[from] pace_opt::Error),
    #[error("cannot read {}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

/// The numbers of one element.
struct Element {
    symbol: String,
    functions: usize,
    /// Largest number of neighbours in one function.
    order: usize,
    lmax: usize,
    densities: usize,
    /// Rows of the active set, and their condition number.
    active_set: Option<(usize, f64)>,
}

/// Prints the potential.
///
/// # Errors
/// [`PotentialError`].
pub(super) fn run(args: &PotentialArguments) -> Result<(), PotentialError> {
    let potential = Potential::ace(args.file.clone(), args.active_set.clone());
    let model = Model::read(&args.file)?;
    let asi = args.active_set.clone().unwrap_or_else(|| args.file.with_extension("asi"));
    // A missing file that was named is an error.
    let set = (args.active_set.is_some() || asi.is_file()).then(|| ActiveSet::read(&asi, &model)).transpose()?;
    let hash = fingerprint(&potential).map_err(|source| PotentialError::Io { path: args.file.clone(), source })?;
    let format = match Format::of(&args.file)? {
        Format::BBasis => "B-basis (.yaml)",
        Format::Yace => "C-tilde basis (.yace)",
        Format::Ace => "C-tilde basis (.ace)",
    };
    let element = |(i, symbol): (usize, &String)| {
        let functions = &model.functions[i];
        Element {
            symbol: symbol.clone(),
            functions: functions.len(),
            order: functions.iter().map(|f| f.mus.len()).max().unwrap_or(0),
            lmax: functions.iter().flat_map(|f| f.ls.iter().copied()).max().unwrap_or(0).into(),
            densities: model.embeddings[i].ndensity,
            active_set: set.as_ref().map(|set| (set.size[i], condition_number(&set.inverse[i], set.size[i]))),
        }
    };
    let elements: Vec<Element> = model.elements.iter().enumerate().map(element).collect();
    let n = elements.len();
    let cutoffs: Vec<(String, f64)> = (0..n * n)
        .map(|k| (format!("{}-{}", model.elements[k / n], model.elements[k % n]), model.bonds[k].rcut))
        .collect();
    let fault = ml_pace_fault(&model);
    if args.json {
        let element = |e: &Element| {
            json!({
                "element": e.symbol,
                "functions": e.functions,
                "order": e.order,
                "lmax": e.lmax,
                "densities": e.densities,
                "active_set_rows": e.active_set.map(|(rows, _)| rows),
                "condition_number": e.active_set.map(|(_, condition)| condition),
            })
        };
        let value = json!({
            "file": args.file,
            "format": format,
            "hash": hash,
            "active_set": set.as_ref().map(|_| &asi),
            "linear_active_set": set.as_ref().map(|set| set.linear),
            "elements": elements.iter().map(element).collect::<Vec<_>>(),
            "cutoffs": cutoffs.iter().cloned().collect::<BTreeMap<_, _>>(),
            "ml_pace_fault": fault,
        });
        print_line(&format!("{value:#}"));
        return Ok(());
    }
    let mut rows = vec![texts(&["element", "functions", "order", "l max", "densities", "active set", "condition"])];
    for e in &elements {
        let (size, condition) = match e.active_set {
            Some((rows, condition)) => (rows.to_string(), format!("{condition:.1e}")),
            None => ("-".into(), "-".into()),
        };
        let numbers = [e.functions, e.order, e.lmax, e.densities].map(|number| number.to_string());
        rows.push([e.symbol.clone()].into_iter().chain(numbers).chain([size, condition]).collect());
    }
    let shortest = cutoffs.iter().map(|(_, cutoff)| *cutoff).fold(f64::INFINITY, f64::min);
    let cutoff = if shortest == model.cutoff() {
        format!("{shortest} Å")
    } else {
        cutoffs.iter().map(|(pair, cutoff)| format!("{pair} {cutoff} Å")).collect::<Vec<_>>().join(", ")
    };
    let set = match &set {
        Some(set) => format!("{} ({})", asi.display(), if set.linear { "linear" } else { "with the embedding" }),
        None => "none, so γ cannot be computed".into(),
    };
    let mut text = format!(
        "{}: {format}\nhash: {hash}\ncutoff: {cutoff}\nactive set: {set}\n{}",
        args.file.display(),
        table(&rows, Align::Right)
    );
    if let Some(fault) = fault {
        text += &format!("engine = \"ml-pace\" cannot be used: {fault}\n");
    }
    print_line(text.trim_end());
    Ok(())
}
