// SPDX-License-Identifier: GPL-2.0-or-later
//! Compares cut-outs with their parent frames: `cargo run --release --example verification_table`.
//!
//! Aluminium with the test potential (74 functions, cutoff 5.5 Å): bulk at 300 K and a strongly distorted frame, both
//! shapes, buffers of one and of two cutoffs. Prints the table of docs/verification.md.

use std::path::Path;

use lammps_otf::comm::Comm;
use lammps_otf::config::InferenceConfig;
use lammps_otf::embedding::{EmbeddingConfig, EmbeddingExtractor, Shape};
use lammps_otf::io;
use lammps_otf::simulation::{Event, Simulation};
use lammps_otf::verify::{relax, verify};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let comm = Comm::single();
    println!("| frame | shape | R, Å | δ, Å | atoms | γ parent | γ cut-out | largest force difference, eV/Å |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for (name, temperature) in [("bulk, 300 K", 600.0), ("distorted", 6000.0)] {
        let text = format!(
            "structure = \"examples/al-500.extxyz\"\ntemperature = {temperature}\nensemble = \"nve\"\nsteps = 50\n\
             sampling_interval = 10\nseed = 3\nuncertainty_threshold = 1e9\n[potential]\nfile = \"potentials/al/Al.yaml\"\n"
        );
        let config = InferenceConfig::parse(&text, &root.join("table.toml"))?;
        let structure = io::read(&config.system.structure, None)?;
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("data.lammps");
        io::lammps_data::write(&structure, std::fs::File::create(&data)?)?;
        let mut simulation = Simulation::new(&config, &structure, &data, None, &comm)?;
        let mut worst = 1;
        loop {
            match simulation.advance()? {
                Event::Polled(poll) => worst = poll.gamma.map_or(worst, |g| g.worst_id),
                Event::Crashed(crash) => return Err(crash.reason.into()),
                Event::Finished => break,
            }
        }
        for (shape, radius, buffer, relaxed) in [
            (Shape::Sphere, 3.0, 5.5, false),
            (Shape::Sphere, 3.0, 11.0, false),
            (Shape::Cube, 3.0, 5.5, false),
            (Shape::Cube, 3.0, 5.5, true),
            (Shape::Cube, 3.0, 11.0, false),
        ] {
            let embedding =
                EmbeddingConfig { shape, radius, buffer: Some(buffer), max_atoms: 2000, ..Default::default() };
            let extractor = EmbeddingExtractor::new(&embedding, 5.5)?;
            let mut cut_out = simulation.cut_out(worst, &extractor)?.expect("the only rank has the cut-out");
            if relaxed {
                relax(&mut cut_out, simulation.script())?;
            }
            let found = verify(&cut_out, simulation.script())?;
            println!(
                "| {name} | {shape}{} | {radius} | {buffer} | {} | {:.8} | {:.8} | {:.1e} |",
                if relaxed { ", relaxed" } else { "" },
                cut_out.cluster.structure.len(),
                found.gamma_parent.unwrap_or(f64::NAN),
                found.gamma_cluster.unwrap_or(f64::NAN),
                found.max_force_difference.unwrap_or(f64::NAN),
            );
        }
    }
    Ok(())
}
