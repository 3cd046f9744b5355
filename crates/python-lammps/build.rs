// SPDX-License-Identifier: GPL-2.0-or-later
//! The module finds liblammps and MPI in the folder of the liblammps that it is linked with. `ci/wheel` changes this to folders
//! relative to the module.

fn main() {
    let folder = std::env::var("DEP_LAMMPS_PREFIX").unwrap_or_default();
    // DT_RPATH, which is also searched for the dependencies of liblammps.
    println!("cargo:rustc-link-arg-cdylib=-Wl,--disable-new-dtags,-rpath,{folder},--allow-shlib-undefined");
}
