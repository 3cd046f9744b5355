// SPDX-License-Identifier: GPL-2.0-or-later
//! Controls a simulation step by step: `cargo run --release --example pause_and_continue`.
//!
//! Heats 500 atoms of aluminium. The simulation pauses at each poll. At an event, this program reads the atoms in the memory of
//! LAMMPS, extracts the region with the largest γ, lowers the temperature, and continues. After a crash it continues from the
//! last valid frame.

use std::path::Path;

use lammps_otf::comm::Comm;
use lammps_otf::config::InferenceConfig;
use lammps_otf::embedding::{EmbeddingExtractor, Shape};
use lammps_otf::runner::LammpsRunner;
use lammps_otf::simulation::Event;
use lammps_otf::uncertainty::Verdict;

/// Summary of a simulation.
#[derive(Debug, Default)]
pub struct Summary {
    /// Steps of the events, at which γ exceeded the threshold.
    pub pauses: Vec<i64>,
    /// Number of atoms of each cut-out.
    pub cut_out_sizes: Vec<usize>,
    /// The last step.
    pub last_step: i64,
}

/// Runs in a new folder below `folder`.
///
/// # Errors
/// Errors of the set-up and of the simulation.
pub fn run(folder: &Path) -> Result<Summary, Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = r#"
        structure = "examples/al-500.extxyz"
        temperature = 3500
        steps = 300
        seed = 3
        sampling_interval = 10
        uncertainty_threshold = 5.0
        [potential]
        file = "potentials/al/Al.yaml"
    "#;
    let config = InferenceConfig::parse(text, &root.join("here.toml"))?;
    let comm = Comm::single();
    // Sets up everything that a run needs in a new folder, without running it.
    let mut simulation = LammpsRunner::new(&comm, folder.join("out")).simulation(&config)?;
    // A core with a radius of 3 Å, and a buffer as thick as the cutoff of the potential.
    let embedding = lammps_otf::embedding::EmbeddingConfig { shape: Shape::Sphere, radius: 3.0, ..Default::default() };
    let extractor = EmbeddingExtractor::new(&embedding, 5.5)?;

    let mut summary = Summary::default();
    loop {
        match simulation.advance()? {
            Event::Polled(poll) if poll.verdict == Verdict::Extrapolating => {
                // These borrow the arrays of LAMMPS without copying, so that the simulation cannot advance in the meantime.
                let (positions, ids) = (simulation.lammps().positions(), simulation.lammps().ids());
                let gamma = poll.gamma.as_ref().expect("an event has γ");
                let at = ids.position(gamma.worst_id).expect("the only rank has all atoms");
                println!(
                    "step {}: γ = {:.1} at atom {} at {:.2}",
                    poll.step,
                    gamma.max,
                    ids.get(at),
                    positions.row(at)
                );
                if let Some(cut_out) = simulation.cut_out(gamma.worst_id, &extractor)? {
                    summary.cut_out_sizes.push(cut_out.cluster.structure.len());
                }
                summary.pauses.push(poll.step);
                // LAMMPS sets up the run again before the next step, so that the changes take effect.
                simulation.lammps_mut().command("velocity all scale 300")?;
                simulation.lammps_mut().command("fix otf_md all nvt temp 300 300 0.1")?;
                // The next poll is at the same step, and is skipped.
                simulation.advance()?;
            }
            Event::Polled(_) => {}
            Event::Crashed(crash) => {
                println!("step {}: {}", crash.step, crash.reason);
                simulation.restore()?;
                simulation.lammps_mut().command("timestep 0.0005")?;
            }
            Event::Finished => break,
        }
    }
    summary.last_step = simulation.lammps().step();
    Ok(summary)
}

#[allow(dead_code)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    println!("{:?}", run(folder.path())?);
    Ok(())
}
