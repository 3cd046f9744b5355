// SPDX-License-Identifier: GPL-2.0-or-later
//! The fuzz targets find liblammps where the library found it: link arguments do not pass from a library to what uses it.

fn main() {
    let lib = std::env::var("DEP_LAMMPS_PREFIX").expect("lammps-otf says where its LAMMPS is");
    println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags,-rpath,{lib}");
}
