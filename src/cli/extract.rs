// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf extract`: a cut-out from a structure file.
use clap::{Args, ValueEnum};
use lammps_otf::embedding::{self, Cluster, EmbeddingConfig, EmbeddingExtractor, Shape};
use lammps_otf::io::extxyz::{self, Column, ColumnData, Value};
use lammps_otf::io::{self, Frame};
use lammps_otf::structure::{AtomId, Element, element_from_symbol};
use std::io::Write;
use std::path::PathBuf;

use super::files::{WriteError, write_atomically};
use super::{Verbosity, print_line, print_warning};

/// Extract the neighbourhood of an atom from a structure file (extended XYZ, LAMMPS data, LAMMPS dump).
#[derive(Debug, Clone, Args)]
pub struct ExtractArgs {
    /// Structure file; --frame selects one of several frames
    pub file: PathBuf,
    /// Id of the central atom; in a file without ids, its position, from 1
    #[arg(long, value_name = "ID")]
    pub center: AtomId,
    /// Radius of the core, whose forces are used for training, Å
    #[arg(long, value_name = "Å")]
    pub radius: f64,
    /// Thickness of the buffer around the core, whose forces are not used for training, Å; at least the cutoff, for
    /// complete environments in the core
    #[arg(long, value_name = "Å")]
    pub buffer: f64,
    /// Shape of the cut-out
    #[arg(long, value_enum, default_value_t = ShapeArg::Sphere)]
    pub shape: ShapeArg,
    /// Cutoff of the potential, Å; the edge of the new cell is larger than twice this [default: the buffer]
    #[arg(long, value_name = "Å")]
    pub cutoff: Option<f64>,
    /// Elements of the atom types, in order, e.g. Al,Cu; for files without element symbols
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_element)]
    pub elements: Option<Vec<Element>>,
    /// Frame: first, last, or a number from 0
    #[arg(long, default_value = "last", value_parser = parse_frame)]
    pub frame: Frame,
    /// Minimum distance between two atoms, Å; smaller ones are an error
    #[arg(long, value_name = "Å", default_value_t = 0.5)]
    pub min_distance: f64,
    /// Maximum number of atoms in the cut-out
    #[arg(long, value_name = "N", default_value_t = 250)]
    pub max_atoms: usize,
    /// File to write: extended XYZ with the force mask (.extxyz, .xyz), or without it POSCAR (.poscar, .vasp, or named POSCAR) or LAMMPS
    /// data (.data, .lmp)
    #[arg(short, long, value_name = "OUT.extxyz", value_parser = parse_any_output)]
    pub output: (PathBuf, OutputFormat),
    /// Print a summary of the cut-out as JSON
    #[arg(long)]
    pub json: bool,
}

/// Shape of the cut-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShapeArg {
    /// A sphere in a cubic cell with vacuum in the corners
    Sphere,
    /// A periodic cube filled with atoms
    Cube,
}

impl From<ShapeArg> for Shape {
    fn from(shape: ShapeArg) -> Self {
        match shape {
            ShapeArg::Sphere => Self::Sphere,
            ShapeArg::Cube => Self::Cube,
        }
    }
}

/// No cut-out was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractError {
    /// The structure file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The cut-out cannot be extracted.
    #[error(transparent)]
    Embedding(#[from] embedding::Error),
    /// No atom has the id.
    #[error("{} has no atom with id {id}; it has {atoms} atoms with ids {lowest} to {highest}", path.display())]
    NoSuchId {
        /// The file.
        path: PathBuf,
        /// The id.
        id: AtomId,
        /// Number of atoms.
        atoms: usize,
        /// Smallest id.
        lowest: AtomId,
        /// Largest id.
        highest: AtomId,
    },
    /// The output cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

pub(super) fn parse_element(text: &str) -> Result<Element, String> {
    element_from_symbol(text.trim()).ok_or_else(|| format!("{text:?} is not the symbol of an element"))
}

fn parse_frame(text: &str) -> Result<Frame, String> {
    match text {
        "first" => Ok(Frame::First),
        "last" => Ok(Frame::Last),
        _ => text.parse().map(Frame::Nth).map_err(|_| "give first, last, or a number from 0".to_owned()),
    }
}

/// Format of the cut-out, by the name of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFormat {
    /// Extended XYZ.
    ExtXyz,
    /// POSCAR of VASP.
    Poscar,
    /// LAMMPS data.
    LammpsData,
}

fn parse_any_output(name: &str) -> Result<(PathBuf, OutputFormat), String> {
    let path = PathBuf::from(name);
    let text = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().to_ascii_lowercase());
    let format = match (text(path.extension()).as_deref(), text(path.file_name()).as_deref()) {
        (Some("extxyz" | "xyz"), _) => OutputFormat::ExtXyz,
        (Some("poscar" | "vasp"), _) | (_, Some("poscar")) => OutputFormat::Poscar,
        (Some("data" | "lmp"), _) => OutputFormat::LammpsData,
        _ => return Err("the end of the name is that of no format: .extxyz, .xyz, .poscar, .vasp, .data or .lmp (`ase convert` writes \
                         other formats)"
            .into()),
    };
    Ok((path, format))
}

/// Rejects file names with the extension of another format.
pub(super) fn parse_output(name: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(name);
    match path.extension().map(|ending| ending.to_ascii_lowercase()) {
        Some(ending) if ending == "extxyz" || ending == "xyz" => Ok(path),
        _ => Err("the output format is extended XYZ: end the name with .extxyz or .xyz (`ase convert` writes other \
                  formats)"
            .into()),
    }
}

/// Reads the structure, writes the cut-out, and prints a summary.
///
/// # Errors
/// [`ExtractError`]. The output file is then unchanged.
pub fn run(args: &ExtractArgs, verbosity: Verbosity) -> Result<(), ExtractError> {
    let (structure, notes) = io::read_with_warnings(&args.file, args.elements.as_deref(), args.frame)?;
    let index = structure.ids.iter().position(|&id| id == args.center).ok_or_else(|| ExtractError::NoSuchId {
        path: args.file.clone(),
        id: args.center,
        atoms: structure.len(),
        lowest: structure.ids.iter().copied().min().unwrap_or(0),
        highest: structure.ids.iter().copied().max().unwrap_or(0),
    })?;
    let config = EmbeddingConfig {
        shape: args.shape.into(),
        radius: args.radius,
        buffer: Some(args.buffer),
        min_distance: args.min_distance,
        max_atoms: args.max_atoms,
        ..EmbeddingConfig::default()
    };
    let extractor = EmbeddingExtractor::new(&config, args.cutoff.unwrap_or(args.buffer))?;
    let cluster = extractor.extract_cluster(&structure, index)?;
    let (path, format) = &args.output;
    let comment = format!("neighbourhood of atom {} in {}", args.center, args.file.display());
    write_atomically(path, |out| {
        let written = match format {
            OutputFormat::ExtXyz => write_cluster(out, &cluster, args.shape.into()),
            OutputFormat::Poscar => io::poscar::write(&cluster.structure, &comment, out),
            OutputFormat::LammpsData => io::lammps_data::write(&cluster.structure, out),
        };
        written.map_err(std::io::Error::other)
    })?;
    if args.json {
        let summary = serde_json::json!({
            "output": path,
            "atoms": cluster.structure.len(),
            "core": cluster.core_len(),
            "edge": cluster.edge(),
            "min_distance": cluster.min_distance,
            "removed": cluster.removed,
            "complete": cluster.is_complete(),
        });
        print_line(&format!("{summary:#}"));
    } else if verbosity != Verbosity::Quiet {
        print_line(&format!(
            "{}: {} atoms ({} in the core) in a cell of {:.4} Å, smallest distance {:.3} Å, {} removed at the faces",
            path.display(),
            cluster.structure.len(),
            cluster.core_len(),
            cluster.edge(),
            cluster.min_distance,
            cluster.removed,
        ));
    }
    notes.iter().for_each(|note| print_warning(note));
    if *format != OutputFormat::ExtXyz {
        print_warning(
            &"the format has no force mask, without which forces at the boundary are trained on: keep it as extended XYZ too",
        );
    }
    if !cluster.is_complete() {
        print_warning(&format!(
            "the buffer of {} Å is smaller than the cutoff of {} Å, so outer core atoms have incomplete environments",
            cluster.buffer, cluster.cutoff
        ));
    }
    Ok(())
}

/// Writes the cut-out as extended XYZ. `source_id` and `source_image` are the id and the periodic image of each atom in the
/// parent structure; `force_mask` is 1 in the core.
fn write_cluster(mut out: &mut dyn Write, cluster: &Cluster, shape: Shape) -> Result<(), io::Error> {
    let columns = [
        Column::integer("source_id", &cluster.source_ids),
        Column::real("force_mask", &cluster.force_mask),
        Column { name: "source_image", data: ColumnData::IntegerTriples(&cluster.source_images) },
    ];
    let info = [
        ("embedding_shape", Value::Text(shape.to_string())),
        ("embedding_radius", Value::Real(cluster.radius)),
        ("embedding_buffer", Value::Real(cluster.buffer)),
        ("embedding_cutoff", Value::Real(cluster.cutoff)),
        ("embedding_center", Value::Integer(cluster.center as i64)),
        ("embedding_removed", Value::Integer(cluster.removed as i64)),
        // Total energy and stress of a cut-out are not suitable for training.
        ("energy_weight", Value::Real(0.0)),
        ("stress_weight", Value::Real(0.0)),
    ];
    extxyz::write(&mut out, &cluster.structure, &columns, &info)
}
