// SPDX-License-Identifier: GPL-2.0-or-later
//! Prints the sizes of a compiled potential: `cargo run --release --example info -- FILE [ACTIVE_SET]`.

use pace_opt::{Isa, Potential};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(file) = args.next() else {
        eprintln!("usage: info FILE [ACTIVE_SET]");
        return ExitCode::from(2);
    };
    let set = args.next();
    match Potential::read(Path::new(&file), set.as_deref().map(Path::new)) {
        Ok(p) => {
            let s = p.size();
            println!("elements            {}", p.elements().join(" "));
            println!("cutoff              {} Å", p.cutoff());
            println!("functions           {}", s.functions);
            println!("atomic base         {}", s.base);
            println!("interior products   {}", s.interior);
            println!("terms               {}", s.terms);
            println!("tables              {:.1} MB", s.table_bytes as f64 / 1e6);
            println!("instructions        {}", Isa::detect().name());
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}
