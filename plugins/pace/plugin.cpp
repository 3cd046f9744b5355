// SPDX-License-Identifier: GPL-2.0-or-later
// The styles of paceplugin.so.

#include "pair_pace.h"
#include "styles.h"

namespace lammps_otf {
namespace {

const PairStyle pairs[] = {
  {"pace", "atomic cluster expansion, from a .yace or .yaml file",
   [](LAMMPS_NS::LAMMPS *lmp) -> LAMMPS_NS::Pair * { return new PairPace(lmp, false); }},
  {"pace/extrapolation", "atomic cluster expansion with extrapolation grades, from .yaml and .asi files",
   [](LAMMPS_NS::LAMMPS *lmp) -> LAMMPS_NS::Pair * { return new PairPace(lmp, true); }},
};

}    // namespace

const List<PairStyle> pair_styles = {pairs, sizeof pairs / sizeof *pairs};
const List<FixStyle> fix_styles = {nullptr, 0};

}    // namespace lammps_otf
