// SPDX-License-Identifier: GPL-2.0-or-later
//! Evaluates atomic cluster expansion (PACE) potentials on CPUs with SIMD: the results of ML-PACE in about a tenth of the time.
//!
//! Reads pacemaker's files (`.yaml`, `.yace`, `.ace`, and `.asi` active sets) and computes energies, forces, virials and
//! extrapolation grades of atoms with neighbour lists. Units are Å and eV. The crate does not depend on LAMMPS; the LAMMPS
//! pair styles in `plugins/pace-opt` use the C interface in [`ffi`].
//!
//! ```no_run
//! use pace_opt::{Evaluator, Output, Potential, System};
//! use std::path::Path;
//!
//! # fn main() -> pace_opt::Result<()> {
//! let potential = Potential::read(Path::new("Al.yaml"), Some(Path::new("Al.asi")))?;
//! let mut evaluator = Evaluator::new(potential);
//! // A dimer: each atom is the neighbour of the other.
//! let positions = [[0.0; 3], [2.8, 0.0, 0.0]];
//! let lists: [&[i32]; 2] = [&[1], &[0]];
//! let system = System {
//!     positions: &positions,
//!     types: &[0, 0],
//!     element_of_type: &[0],
//!     scales: &[],
//!     atoms: &[0, 1],
//!     neighbours: |k| lists[k],
//!     mask: i32::MAX,
//! };
//! let (mut forces, mut grades) = ([[0.0; 3]; 2], [0.0; 2]);
//! let mut output = Output { forces: &mut forces, grades: Some(&mut grades), ..Output::default() };
//! let totals = evaluator.evaluate(&system, &mut output)?;
//! println!("{} eV, γ = {:?}", totals.energy, grades);
//! # Ok(())
//! # }
//! ```
//!
//! The algorithms and the memory layout are described in `docs/pace-opt.md`.

#![warn(missing_docs)]

mod bias;
mod error;
mod evaluator;
pub mod ffi;
mod format;
mod gamma;
mod kernel;
mod matrix;
mod model;
mod plan;
mod potential;
mod profile;
mod simd;

pub use bias::Bias;
pub use error::{Error, Result};
pub use evaluator::{Evaluator, Output, System, Totals};
pub use format::{ActiveSet, Format};
pub use model::{
    BasisFunction, Bond, Embedding, EmbeddingKind, InnerCutoff, Model, PairPotential, Polynomials, RadialBasis,
};
pub use potential::{Potential, Size};
pub use profile::Stage;
pub use simd::Isa;
