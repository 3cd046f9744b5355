// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>

namespace lammps_otf {

// Check that a file is an active set that the evaluator reads correctly: an uncompressed .npz of
// square, C-ordered, little-endian float64 matrices without non-finite numbers. Throws
// std::runtime_error with the reason. The evaluator's own reader does not check the headers: it
// reads a Fortran-ordered matrix as its transpose and reads past the end of narrower numbers.
void check_active_set_file(const std::string &path);

}    // namespace lammps_otf
