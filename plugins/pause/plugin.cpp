// SPDX-License-Identifier: GPL-2.0-or-later
// The styles of otfpauseplugin.so.

#include "fix_gamma.h"
#include "fix_pause.h"
#include "styles.h"

namespace lammps_otf {
namespace {

const FixStyle fixes[] = {
  {"otf/pause", "pauses of a run for the program lammps-otf",
   [](LAMMPS_NS::LAMMPS *lmp, int narg, char **arg) -> LAMMPS_NS::Fix * { return new FixPause(lmp, narg, arg); }},
  {"otf/gamma", "extrapolation grades of a PACE pair style",
   [](LAMMPS_NS::LAMMPS *lmp, int narg, char **arg) -> LAMMPS_NS::Fix * { return new FixGamma(lmp, narg, arg); }},
};

}    // namespace

const List<PairStyle> pair_styles = {nullptr, 0};
const List<FixStyle> fix_styles = {fixes, sizeof fixes / sizeof *fixes};

}    // namespace lammps_otf
