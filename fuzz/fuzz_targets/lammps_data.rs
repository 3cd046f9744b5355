// SPDX-License-Identifier: GPL-2.0-or-later
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lammps_otf_fuzz::lammps_data(bytes));
