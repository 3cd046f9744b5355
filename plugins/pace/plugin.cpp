// SPDX-License-Identifier: GPL-2.0-or-later
// Entry point of paceplugin.so: registers the pair styles `pace` and `pace/extrapolation`.

#include "pair_pace.h"
#include "plugin_abi.h"

// ci/setup passes the version of the LAMMPS whose headers were used, so that LAMMPS can warn when
// another version loads the plugin: the layout of C++ classes depends on the version.
#ifndef PLUGIN_LAMMPS_VERSION
#error "define PLUGIN_LAMMPS_VERSION as a string, for example \"22 Jul 2025\""
#endif

namespace {

void *make_pace(void *lmp)
{
  return new lammps_otf::PairPace(static_cast<LAMMPS_NS::LAMMPS *>(lmp), false);
}

void *make_pace_extrapolation(void *lmp)
{
  return new lammps_otf::PairPace(static_cast<LAMMPS_NS::LAMMPS *>(lmp), true);
}

}    // namespace

extern "C" __attribute__((visibility("default"))) void lammpsplugin_init(void *lmp, void *handle,
                                                                         void *regfunc)
{
  auto add = reinterpret_cast<lammps_plugin_register>(regfunc);
  lammps_plugin_info info{};
  info.version = PLUGIN_LAMMPS_VERSION;
  info.kind = "pair";
  info.author = "lammps-otf";
  info.handle = handle;

  info.name = "pace";
  info.info = "atomic cluster expansion, from a .yace or .yaml file";
  info.creator.v1 = &make_pace;
  add(&info, lmp);

  info.name = "pace/extrapolation";
  info.info = "atomic cluster expansion with extrapolation grades, from .yaml and .asi files";
  info.creator.v1 = &make_pace_extrapolation;
  add(&info, lmp);
}
