// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>

struct BBasisConfiguration;

namespace lammps_otf {

// The evaluator's readers use sizes and array indices of a file without checking all of them: a file
// that is truncated at the end of a line can crash the process. These checks refuse such files;
// they throw std::runtime_error with the reason.
void check_not_empty(const std::string &path);
void check_yace_file(const std::string &path);
void check_b_basis(const BBasisConfiguration &config);

}    // namespace lammps_otf
