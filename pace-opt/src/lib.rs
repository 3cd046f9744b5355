//! Atomic cluster expansion (PACE) potentials on CPUs, with SIMD.

#![warn(missing_docs)]

mod error;
mod evaluator;
pub mod ffi;
mod format;
mod gamma;
mod kernel;
mod model;
mod plan;
mod potential;
mod simd;

pub use error::{Error, Result};
pub use evaluator::{Evaluator, Output, System, Totals};
pub use format::{ActiveSet, Format};
pub use model::{BasisFunction, Bond, Embedding, EmbeddingKind, InnerCutoff, Model, RadialBasis};
pub use potential::{Potential, Size};
pub use simd::Isa;
