// SPDX-License-Identifier: GPL-2.0-or-later
// The styles of paceoptplugin.so.

#include "pair_pace_opt.h"
#include "styles.h"

namespace lammps_otf {
namespace {

const PairStyle pairs[] = {
  {"pace/opt", "atomic cluster expansion with SIMD, from a .yace, .yaml or .ace file",
   [](LAMMPS_NS::LAMMPS *lmp) -> LAMMPS_NS::Pair * { return new PairPaceOpt(lmp, false); }},
  {"pace/extrapolation/opt", "atomic cluster expansion with SIMD and extrapolation grades, from .yaml and .asi files",
   [](LAMMPS_NS::LAMMPS *lmp) -> LAMMPS_NS::Pair * { return new PairPaceOpt(lmp, true); }},
};

}    // namespace

const List<PairStyle> pair_styles = {pairs, sizeof pairs / sizeof *pairs};
const List<FixStyle> fix_styles = {nullptr, 0};

}    // namespace lammps_otf
