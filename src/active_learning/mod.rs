// SPDX-License-Identifier: GPL-2.0-or-later
//! The closed loop.
mod config;
mod oracle;
mod program;
mod selection;
mod trainer;

pub use config::{LoopConfig, OracleConfig, ResumeFrom, TrainerConfig};
pub use oracle::{CommandOracle, LammpsOracle, Oracle, OracleError};
pub use program::ProgramError;
pub use selection::{Projected, ProjectionError, Projector, select};
pub use trainer::{CommandTrainer, Trainer, TrainerError, TrainingJob, TrainingReport};

/// Files of a loop.
pub mod files {
    /// What the trainer says of its potential.
    pub const REPORT: &str = "report.json";
}
