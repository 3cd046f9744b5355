// SPDX-License-Identifier: GPL-2.0-or-later
// Entry point of otfpauseplugin.so: registers the fix style `otf/pause`.

#include "../plugin_abi.h"
#include "fix_pause.h"

// The version of the LAMMPS whose headers were used, so that LAMMPS can warn when another one loads the plugin: C++ classes are
// laid out differently from version to version.
#ifndef PLUGIN_LAMMPS_VERSION
#error "define PLUGIN_LAMMPS_VERSION as a string, for example \"22 Jul 2025\""
#endif

namespace {

void *make_pause(void *lmp, int narg, char **arg)
{
  return new lammps_otf::FixPause(static_cast<LAMMPS_NS::LAMMPS *>(lmp), narg, arg);
}

}    // namespace

extern "C" __attribute__((visibility("default"))) void lammpsplugin_init(void *lmp, void *handle, void *regfunc)
{
  lammps_plugin_info info{};
  info.version = PLUGIN_LAMMPS_VERSION;
  info.kind = "fix";
  info.name = "otf/pause";
  info.info = "pauses of a run for the program lammps-otf";
  info.author = "lammps-otf";
  info.creator.v2 = &make_pause;
  info.handle = handle;
  reinterpret_cast<lammps_plugin_register>(regfunc)(&info, lmp);
}
