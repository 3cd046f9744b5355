// SPDX-License-Identifier: GPL-2.0-or-later
// The styles of otfpauseplugin.so.

#include "fix_neighbours.h"
#include "fix_pair_field.h"
#include "fix_pause.h"
#include "styles.h"

namespace lammps_otf {
namespace {

const PairField gamma = {"otf/gamma", "pace/extrapolation", "gamma_flag", "gamma", "extrapolation grade", true};
const PairField core = {"otf/core", "pace", "core_share_flag", "core_share", "core share", false};

const FixStyle fixes[] = {
  {"otf/pause", "pauses of a run for the program lammps-otf",
   [](LAMMPS_NS::LAMMPS *lmp, int narg, char **arg) -> LAMMPS_NS::Fix * { return new FixPause(lmp, narg, arg); }},
  {"otf/gamma", "extrapolation grades of a PACE pair style",
   [](LAMMPS_NS::LAMMPS *lmp, int narg, char **arg) -> LAMMPS_NS::Fix * { return new FixPairField(lmp, narg, arg, gamma); }},
  {"otf/core", "shares of the energy that core repulsion of a PACE pair style switches off",
   [](LAMMPS_NS::LAMMPS *lmp, int narg, char **arg) -> LAMMPS_NS::Fix * { return new FixPairField(lmp, narg, arg, core); }},
  {"otf/neighbours", "numbers of neighbours within the cutoff",
   [](LAMMPS_NS::LAMMPS *lmp, int narg, char **arg) -> LAMMPS_NS::Fix * { return new FixNeighbours(lmp, narg, arg); }},
};

}    // namespace

const List<PairStyle> pair_styles = {nullptr, 0};
const List<FixStyle> fix_styles = {fixes, sizeof fixes / sizeof *fixes};

}    // namespace lammps_otf
