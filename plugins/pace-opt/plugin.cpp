// SPDX-License-Identifier: GPL-2.0-or-later
// Entry point of paceoptplugin.so: registers the pair styles `pace/opt` and `pace/extrapolation/opt`.

#include "plugin_abi.h"
#include "pair_pace_opt.h"

// The version of the LAMMPS whose headers were used, so that LAMMPS can warn when another version loads the
// plugin: the layout of C++ classes depends on the version.
#ifndef PLUGIN_LAMMPS_VERSION
#error "define PLUGIN_LAMMPS_VERSION as a string, for example \"22 Jul 2025\""
#endif

namespace {

void *make_pace_opt(void *lmp)
{
  return new lammps_otf::PairPaceOpt(static_cast<LAMMPS_NS::LAMMPS *>(lmp), false);
}

void *make_pace_extrapolation_opt(void *lmp)
{
  return new lammps_otf::PairPaceOpt(static_cast<LAMMPS_NS::LAMMPS *>(lmp), true);
}

}    // namespace

extern "C" __attribute__((visibility("default"))) void lammpsplugin_init(void *lmp, void *handle, void *regfunc)
{
  auto add = reinterpret_cast<lammps_plugin_register>(regfunc);
  lammps_plugin_info info{};
  info.version = PLUGIN_LAMMPS_VERSION;
  info.kind = "pair";
  info.author = "pace-opt";
  info.handle = handle;

  info.name = "pace/opt";
  info.info = "atomic cluster expansion with SIMD, from a .yace, .yaml or .ace file";
  info.creator.v1 = &make_pace_opt;
  add(&info, lmp);

  info.name = "pace/extrapolation/opt";
  info.info = "atomic cluster expansion with SIMD and extrapolation grades, from .yaml and .asi files";
  info.creator.v1 = &make_pace_extrapolation_opt;
  add(&info, lmp);
}
