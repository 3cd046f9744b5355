// SPDX-License-Identifier: GPL-2.0-or-later
//! A simulation in one's own hands: `cargo run --release --example pause_and_go_on`.
//!
//! Heats 500 atoms of aluminium. Between two looks the atoms stand still: this looks at them in LAMMPS's memory,
//! cuts out what the potential does not know, cools down, and goes on; a run that breaks goes back to its last valid frame.

use std::path::Path;

use lammps_otf::comm::Comm;
use lammps_otf::config::InferenceConfig;
use lammps_otf::embedding::{EmbeddingExtractor, Shape};
use lammps_otf::runner::LammpsRunner;
use lammps_otf::simulation::Event;
use lammps_otf::uncertainty::Verdict;

/// What happened.
#[derive(Debug, Default)]
pub struct Story {
    /// Steps at which the simulation paused because γ passed the threshold.
    pub pauses: Vec<i64>,
    /// Atoms of each cut-out.
    pub cut_out: Vec<usize>,
    /// The step at the end.
    pub last: i64,
}

/// Runs in a new folder below `folder`.
///
/// # Errors
/// Whatever goes wrong.
pub fn run(folder: &Path) -> Result<Story, Box<dyn std::error::Error>> {
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
    // Everything that a run needs, in a folder of its own; the running is ours.
    let mut simulation = LammpsRunner::new(&comm, folder.join("out")).simulation(&config)?;
    // A core of 3 Å, and a buffer as thick as the potential's cutoff around it.
    let embedding = lammps_otf::embedding::EmbeddingConfig { shape: Shape::Sphere, radius: 3.0, ..Default::default() };
    let extractor = EmbeddingExtractor::new(&embedding, 5.5)?;

    let mut story = Story::default();
    loop {
        match simulation.advance()? {
            Event::Polled(poll) if poll.verdict == Verdict::Extrapolating => {
                // The arrays of LAMMPS itself, borrowed: nothing is copied, and nothing can run while they are looked at.
                let (positions, ids) = (simulation.lammps().positions(), simulation.lammps().ids());
                let gamma = poll.gamma.as_ref().expect("it was γ that passed the threshold");
                let at = ids.iter().position(|&id| id == gamma.worst_id).expect("on the only rank");
                println!("step {}: γ = {:.1} at atom {} at {:.2}", poll.step, gamma.max, ids[at], positions.row(at));
                if let Some(cut_out) = simulation.cut_out(gamma.worst_id, &extractor)? {
                    story.cut_out.push(cut_out.cluster.structure.len());
                }
                story.pauses.push(poll.step);
                // Whatever a command changes is set up anew before the next step.
                simulation.lammps_mut().command("velocity all scale 300")?;
                simulation.lammps_mut().command("fix otf_md all nvt temp 300 300 0.1")?;
                // That look is at the same step again: once is enough.
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
    story.last = simulation.lammps().step();
    Ok(story)
}

#[allow(dead_code)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    println!("{:?}", run(folder.path())?);
    Ok(())
}
