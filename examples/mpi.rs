// SPDX-License-Identifier: GPL-2.0-or-later
//! Two concurrent runs in one MPI job: each half of the ranks heats the same crystal with another seed.
//!
//! ```sh
//! cargo build --example mpi
//! mpiexec -n 2 target/debug/examples/mpi examples/al-melt.toml melt-of-two
//! ```
//! All ranks call the same methods in the same order. Rank 0 of each half writes the files and prints the messages of that half.

use std::path::PathBuf;

use lammps_otf::comm::{CollectiveError as _, Session};
use lammps_otf::config::InferenceConfig;
use lammps_otf::runner::LammpsRunner;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Must exist before any other use of MPI or LAMMPS, and until the end.
    let mpi = Session::initialize();
    let world = mpi.world();
    let mut arguments = std::env::args().skip(1);
    let (Some(config), Some(output)) = (arguments.next(), arguments.next()) else {
        return Err("usage: mpi CONFIG OUTPUT".into());
    };
    let halves = world.size().min(2);
    let half = world.rank() * halves / world.size();
    let comm = world.split(half);

    let mut config = InferenceConfig::read(config)?;
    config.md.seed += half as u32;
    let output = PathBuf::from(output).join(format!("seed-{}", config.md.seed));
    let root = comm.is_root();
    let result = LammpsRunner::new(&comm, &output)
        .observe(|poll| {
            // Called on every rank, with the same numbers.
            if root && poll.step % 1000 == 0 {
                let gamma = poll.gamma.as_ref().map_or(f64::NAN, |g| g.max);
                println!("half {half}: step {}, {:.0} K, γ {gamma:.2}", poll.step, poll.temperature);
            }
        })
        .run(&config);
    match result {
        Ok(result) if root => println!(
            "half {half}: {:?} at {:?} on {} ranks, {} candidates in {}",
            result.status,
            result.trigger_step,
            comm.size(),
            result.candidates.len(),
            output.display()
        ),
        Ok(_) => {}
        // A rank failure: the other ranks wait for this one, so the job must be aborted.
        Err(error) if error.is_rank_failure() => world.abort(5),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
