// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf grade`: γ, energy and forces of given structures.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lammps_otf::io;
use lammps_otf::io::extxyz::{self, Column, ColumnData, Value};
use lammps_otf::prediction::{Prediction, PredictionError, Predictor, Projected, select};
use lammps_otf::structure::{Element, Structure};
use ndarray::ArrayView2;
use rayon::prelude::*;
use serde_json::json;

use super::extract::parse_element;
use super::files::{WriteError, write_atomically};
use super::table::{Align, table, texts};
use super::{Verbosity, print_line, print_warning};

/// Evaluate structures with an ACE potential: γ, energy, forces and core share of each atom.
///
/// Needs neither a configuration nor MPI. For a training set, a trajectory, or any structures of others: how far they are from what
/// the potential was trained on. With --select, the frames that span the others are chosen by MaxVol, for labelling.
#[derive(Debug, clap::Args)]
pub(super) struct GradeArguments {
    /// Structure files with any number of frames: extended XYZ, LAMMPS data and dumps, and all formats that ASE reads
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// ACE potential (.yaml; without γ also .yace, .ace)
    #[arg(short, long, value_name = "P.yaml")]
    potential: PathBuf,
    /// Active set [default: the potential with the extension .asi]
    #[arg(long, value_name = "P.asi")]
    active_set: Option<PathBuf>,
    /// Elements of the atom types, in order, e.g. Al,Cu; for files without element symbols
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_element)]
    elements: Option<Vec<Element>>,
    /// Write the frames with columns gamma, core_share, ace_energies and ace_forces
    #[arg(short, long, value_name = "OUT.extxyz", value_parser = super::extract::parse_output)]
    output: Option<PathBuf>,
    /// Select at most N frames whose atoms span those of the others; only these are written to --output
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    select: Option<u32>,
    /// Number of threads [default: all processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// Structures could not be evaluated.
#[derive(Debug, thiserror::Error)]
pub(super) enum GradeError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("cannot use the potential {}: {source}", path.display())]
    Potential { path: PathBuf, source: PredictionError },
    #[error(
        "--select requires γ, but there is no active set {}: make it with `pace_activeset`, or give it with --active-set",
        .0.display()
    )]
    NoActiveSet(PathBuf),
    #[error("{}, frame {frame} (from 0): {source}", path.display())]
    Frame { path: PathBuf, frame: usize, source: PredictionError },
    #[error("the files contain no atoms")]
    Empty,
    #[error("cannot start threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Number of frames in memory at a time, for each thread.
const FRAMES_PER_THREAD: usize = 32;

/// Number of projections in memory above which frames are selected from those up to then: 1 GB, and twice as much while selecting.
const MAX_NUMBERS: usize = 1 << 27;

/// Quantiles of γ that are printed.
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// A frame and its place.
struct Frame {
    file: usize,
    /// Number in its file, from 0.
    index: usize,
    structure: Structure,
}

/// The place of an atom.
struct Place {
    frame: usize,
    /// Index from 0.
    atom: usize,
}

/// One line of the summary for each frame.
struct Graded {
    file: usize,
    index: usize,
    atoms: usize,
    /// Total energy, eV.
    energy: f64,
    gamma_max: Option<f64>,
}

/// The numbers of all frames.
#[derive(Default)]
struct Summary {
    frames: Vec<Graded>,
    /// γ of all atoms, by element.
    gamma: BTreeMap<&'static str, Vec<f64>>,
    largest: Option<(f64, Place)>,
    largest_force: Option<(f64, Place)>,
    largest_core_share: Option<(f64, Place)>,
    rows: Vec<Projected>,
}

/// Evaluates all frames, writes them, and prints a summary.
///
/// # Errors
/// [`GradeError`]. The output file is then unchanged.
pub(super) fn run(args: &GradeArguments, verbosity: Verbosity) -> Result<(), GradeError> {
    let active_set = args.active_set.clone().unwrap_or_else(|| args.potential.with_extension("asi"));
    // A missing file that was named is an error.
    let given = (args.active_set.is_some() || active_set.is_file()).then_some(&*active_set);
    let wrap = |source| GradeError::Potential { path: args.potential.clone(), source };
    let predictor = Predictor::read(&args.potential, given).map_err(wrap)?;
    let has_gamma = predictor.potential().has_grade();
    if args.select.is_some() && !has_gamma {
        return Err(GradeError::NoActiveSet(active_set));
    }
    let threads = args.threads.map_or(0, usize::from);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let mut summary = Summary::default();
    match (&args.output, args.select) {
        (Some(path), None) => write_to(path, |out| {
            evaluate(args, &predictor, &pool, &mut summary, |frame, found| write_frame(out, args, frame, found))
        })?,
        _ => evaluate(args, &predictor, &pool, &mut summary, |_, _| Ok(()))?,
    }
    if summary.frames.iter().all(|frame| frame.atoms == 0) {
        return Err(GradeError::Empty);
    }
    let rows = std::mem::take(&mut summary.rows);
    let selected = args.select.map(|limit| select(rows, &[], limit as usize));
    if let (Some(path), Some(selected)) = (&args.output, &selected) {
        let chosen = reread(args, &summary, selected, &predictor)?;
        write_to(path, |out| chosen.iter().try_for_each(|(frame, found)| write_frame(out, args, frame, found)))?;
    }
    if args.json {
        print_line(&format!("{:#}", as_json(args, &summary, selected.as_deref())));
    } else {
        print_line(text(args, &summary, selected.as_deref(), verbosity).trim_end());
    }
    if !has_gamma {
        print_warning(&format!("there is no active set {}, so γ is not computed", active_set.display()));
    }
    Ok(())
}

/// Reads and evaluates all frames in order, and passes them to `use_frame`.
fn evaluate(
    args: &GradeArguments,
    predictor: &Predictor,
    pool: &rayon::ThreadPool,
    summary: &mut Summary,
    mut use_frame: impl FnMut(&Frame, &Prediction) -> Result<(), GradeError>,
) -> Result<(), GradeError> {
    let most = FRAMES_PER_THREAD * pool.current_num_threads();
    let mut waiting: Vec<Frame> = Vec::new();
    let mut flush = |waiting: &mut Vec<Frame>| -> Result<(), GradeError> {
        let start = summary.frames.len();
        let potential = predictor.potential();
        let work = |predictor: &mut Predictor, (k, frame): (usize, &Frame)| {
            let all = vec![1.0; frame.structure.len()];
            let found = predictor.evaluate(&frame.structure)?;
            let rows = args.select.map(|_| predictor.rows((start + k) as i64, &frame.structure, &all)).transpose()?;
            Ok((found, rows))
        };
        let done: Vec<Result<(Prediction, Option<Projected>), PredictionError>> = pool.install(|| {
            waiting.par_iter().enumerate().map_init(|| Predictor::new(Arc::clone(potential)), work).collect()
        });
        for (frame, done) in waiting.drain(..).zip(done) {
            let place = |source| GradeError::Frame { path: args.files[frame.file].clone(), frame: frame.index, source };
            let (found, rows) = done.map_err(place)?;
            summary.add(&frame, &found);
            summary.rows.extend(rows);
            use_frame(&frame, &found)?;
        }
        if let Some(limit) = args.select {
            summary.keep_best(limit as usize);
        }
        Ok(())
    };
    for (file, path) in args.files.iter().enumerate() {
        let mut index = 0;
        io::for_each_frame(path, args.elements.as_deref(), |structure| {
            waiting.push(Frame { file, index, structure });
            index += 1;
            if waiting.len() < most { Ok(()) } else { flush(&mut waiting) }
        })?;
    }
    flush(&mut waiting)
}

/// The selected frames in the order of their selection.
fn reread(
    args: &GradeArguments,
    summary: &Summary,
    selected: &[i64],
    predictor: &Predictor,
) -> Result<Vec<(Frame, Prediction)>, GradeError> {
    let mut predictor = Predictor::new(Arc::clone(predictor.potential()));
    let mut found: Vec<(usize, Frame, Prediction)> = Vec::new();
    for (file, path) in args.files.iter().enumerate() {
        let mut index = 0;
        io::for_each_frame(path, args.elements.as_deref(), |structure| {
            let frame = Frame { file, index, structure };
            let at = selected.iter().position(|&id| {
                let graded = &summary.frames[id as usize];
                (graded.file, graded.index) == (file, index)
            });
            if let Some(at) = at {
                let place = |source| GradeError::Frame { path: path.clone(), frame: index, source };
                let prediction = predictor.evaluate(&frame.structure).map_err(place)?;
                found.push((at, frame, prediction));
            }
            index += 1;
            Ok::<_, GradeError>(())
        })?;
    }
    found.sort_by_key(|(at, _, _)| *at);
    Ok(found.into_iter().map(|(_, frame, prediction)| (frame, prediction)).collect())
}

impl Summary {
    /// If the rows of many frames have accumulated, keeps those of the frames that span the others.
    fn keep_best(&mut self, limit: usize) {
        let numbers: usize = self.rows.iter().flat_map(|frame| &frame.rows).map(|(_, row)| row.len()).sum();
        if numbers > MAX_NUMBERS && self.rows.len() > limit {
            let best = select(self.rows.clone(), &[], limit);
            self.rows.retain(|frame| best.contains(&frame.id));
        }
    }

    fn add(&mut self, frame: &Frame, found: &Prediction) {
        let number = self.frames.len();
        let structure = &frame.structure;
        let keep = |best: &mut Option<(f64, Place)>, atom: usize, value: f64| {
            // NaN is the largest.
            if best.as_ref().is_none_or(|(most, _)| value > *most || value.is_nan() && !most.is_nan()) {
                *best = Some((value, Place { frame: number, atom }));
            }
        };
        for i in 0..structure.len() {
            let force = found.forces.row(i).iter().map(|f| f * f).sum::<f64>().sqrt();
            keep(&mut self.largest_force, i, force);
            keep(&mut self.largest_core_share, i, found.core_share[i]);
            if let Some(gamma) = &found.gamma {
                keep(&mut self.largest, i, gamma[i]);
                self.gamma.entry(structure.element(i).symbol()).or_default().push(gamma[i]);
            }
        }
        self.frames.push(Graded {
            file: frame.file,
            index: frame.index,
            atoms: structure.len(),
            energy: found.energy,
            gamma_max: found.gamma.as_ref().map(|gamma| gamma.iter().copied().fold(0.0, largest)),
        });
    }
}

fn write_to(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<(), GradeError>) -> Result<(), GradeError> {
    // The errors of reading and of writing have the same way out of the function that writes.
    let mut failure = None;
    let written = write_atomically(path, |out| {
        write(out).map_err(|error| {
            failure = Some(error);
            std::io::Error::other("")
        })
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(written?),
    }
}

fn write_frame(
    mut out: &mut dyn Write,
    args: &GradeArguments,
    frame: &Frame,
    found: &Prediction,
) -> Result<(), GradeError> {
    let forces: ArrayView2<'_, f64> = found.forces.view();
    let mut columns = vec![
        // Not `forces` and `energy`, which trainers and stores would take for labels.
        Column { name: "ace_forces", data: ColumnData::RealRows(forces) },
        Column::real("ace_energies", &found.energies),
        Column::real("core_share", &found.core_share),
    ];
    if let Some(gamma) = &found.gamma {
        columns.push(Column::real("gamma", gamma));
    }
    let source = args.files[frame.file].file_name().unwrap_or_default().to_string_lossy().into_owned();
    let info = [
        ("ace_energy", Value::Real(found.energy)),
        ("source_file", Value::Text(source)),
        ("source_frame", Value::Integer(frame.index as i64)),
    ];
    Ok(extxyz::write(&mut out, &frame.structure, &columns, &info)?)
}

/// The larger of two numbers; NaN counts as infinite.
fn largest(a: f64, b: f64) -> f64 {
    if b.is_nan() { f64::INFINITY } else { a.max(b) }
}

/// Quantiles of values, which are sorted.
fn quantiles(values: &mut [f64]) -> [f64; 3] {
    values.sort_unstable_by(f64::total_cmp);
    QUANTILES.map(|q| values[((q * values.len() as f64).ceil() as usize).clamp(1, values.len()) - 1])
}

/// The statistics of γ of one group of atoms.
struct Gamma {
    name: String,
    atoms: usize,
    max: f64,
    quantiles: [f64; 3],
    /// Number of atoms above 1.
    above: usize,
}

/// The statistics of γ of all atoms, and, if there are several, of each element.
fn statistics(summary: &Summary) -> Vec<Gamma> {
    let group = |name: &str, mut values: Vec<f64>| Gamma {
        name: name.to_owned(),
        atoms: values.len(),
        quantiles: quantiles(&mut values),
        max: values.last().copied().unwrap_or(0.0),
        above: values.iter().filter(|value| value.is_nan() || **value > 1.0).count(),
    };
    let mut groups = Vec::new();
    if summary.gamma.len() != 1 && !summary.gamma.is_empty() {
        groups.push(group("all", summary.gamma.values().flatten().copied().collect()));
    }
    groups.extend(summary.gamma.iter().map(|(element, values)| group(element, values.clone())));
    groups
}

fn as_json(args: &GradeArguments, summary: &Summary, selected: Option<&[i64]>) -> serde_json::Value {
    let at = |place: &Option<(f64, Place)>| {
        place.as_ref().map(|(value, place)| {
            let frame = &summary.frames[place.frame];
            json!({ "value": value, "file": args.files[frame.file], "frame": frame.index, "atom": place.atom })
        })
    };
    let frame = |frame: &Graded| {
        json!({
            "file": args.files[frame.file],
            "frame": frame.index,
            "atoms": frame.atoms,
            "energy": frame.energy,
            "gamma_max": frame.gamma_max,
        })
    };
    let group = |g: &Gamma| {
        json!({
            "atoms": g.atoms,
            "max": g.max,
            "median": g.quantiles[0],
            "quantile_90": g.quantiles[1],
            "quantile_99": g.quantiles[2],
            "above_1": g.above,
        })
    };
    json!({
        "frames": summary.frames.iter().map(frame).collect::<Vec<_>>(),
        "gamma": statistics(summary).iter().map(|g| (g.name.clone(), group(g))).collect::<serde_json::Map<_, _>>(),
        "largest_gamma": at(&summary.largest),
        "largest_force": at(&summary.largest_force),
        "largest_core_share": at(&summary.largest_core_share),
        "selected": selected.map(|ids| ids.iter().map(|&id| frame(&summary.frames[id as usize])).collect::<Vec<_>>()),
    })
}

/// Largest number of frames in the list of those with the largest γ.
const LISTED: usize = 5;

fn text(args: &GradeArguments, summary: &Summary, selected: Option<&[i64]>, verbosity: Verbosity) -> String {
    let name = |frame: &Graded| format!("{}, frame {}", args.files[frame.file].display(), frame.index);
    let atoms: usize = summary.frames.iter().map(|frame| frame.atoms).sum();
    let mut text = format!("{} frames, {atoms} atoms\n", summary.frames.len());
    let groups = statistics(summary);
    if !groups.is_empty() {
        let mut rows = vec![texts(&["γ", "atoms", "largest", "99 %", "90 %", "median", "above 1"])];
        for g in &groups {
            let [median, ninety, most] = g.quantiles.map(|q| format!("{q:.3}"));
            let (atoms, max, above) = (g.atoms.to_string(), format!("{:.3}", g.max), g.above.to_string());
            rows.push(vec![g.name.clone(), atoms, max, most, ninety, median, above]);
        }
        text += &table(&rows, Align::Right);
    }
    let mut place = |what: &str, best: &Option<(f64, Place)>, unit: &str| {
        if let Some((value, place)) = best {
            let frame = &summary.frames[place.frame];
            text += &format!("largest {what}: {value:.3}{unit} at atom {} (from 0) of {}\n", place.atom, name(frame));
        }
    };
    place("γ", &summary.largest, "");
    place("force", &summary.largest_force, " eV/Å");
    place(
        "core share",
        &summary
            .largest_core_share
            .as_ref()
            .filter(|(share, _)| *share > 0.0)
            .map(|(share, place)| (*share, Place { frame: place.frame, atom: place.atom })),
        "",
    );
    let per_atom = summary.frames.iter().filter(|frame| frame.atoms > 0).map(|frame| frame.energy / frame.atoms as f64);
    let (low, high) = per_atom.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), e| (a.min(e), b.max(e)));
    text += &format!("energy: {low:.4} to {high:.4} eV/atom\n");
    let mut worst: Vec<&Graded> = summary.frames.iter().filter(|frame| frame.gamma_max.is_some()).collect();
    worst.sort_by(|a, b| b.gamma_max.unwrap_or(0.0).total_cmp(&a.gamma_max.unwrap_or(0.0)));
    let listed = match verbosity {
        Verbosity::Quiet => 0,
        Verbosity::Normal => LISTED,
        Verbosity::Verbose => worst.len(),
    };
    if summary.frames.len() > 1 && listed > 0 && !worst.is_empty() {
        text += "frames with the largest γ:\n";
        for frame in worst.iter().take(listed) {
            text += &format!("  {:9.3}  {}\n", frame.gamma_max.unwrap_or(0.0), name(frame));
        }
    }
    if let Some(selected) = selected {
        text += &match selected.len() {
            0 => "no frame selected: the active set spans all atoms, because γ is at most 1\n".to_owned(),
            n => format!("{n} frames selected:\n"),
        };
        for &id in selected {
            text += &format!("  {}\n", name(&summary.frames[id as usize]));
        }
    }
    text
}
