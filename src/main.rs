// SPDX-License-Identifier: GPL-2.0-or-later
//! The `lammps-otf` command.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
