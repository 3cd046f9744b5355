// SPDX-License-Identifier: GPL-2.0-or-later
// Entry point of otfpauseplugin.so: registers the fix style `otf/pause`.

#include "plugin_abi.h"
#include "fix_pause.h"

#include <cstdio>
#include <cstring>

// The version of the LAMMPS whose headers were used: the layout of C++ classes depends on the version.
#ifndef PLUGIN_LAMMPS_VERSION
#error "define PLUGIN_LAMMPS_VERSION as a string, for example \"22 Jul 2025\""
#endif

namespace {

void *make_pause(void *lmp, int narg, char **arg)
{
  return new lammps_otf::FixPause(static_cast<LAMMPS_NS::LAMMPS *>(lmp), narg, arg);
}

// Converts a date such as "22 Jul 2025" to the number 20250722; returns 0 if it is not a date.
int number_of(const char *date)
{
  int day = 0, year = 0;
  char month[4] = "";
  if (std::sscanf(date, "%d %3s %d", &day, month, &year) != 3) return 0;
  const char *const months = "JanFebMarAprMayJunJulAugSepOctNovDec";
  const char *const found = std::strstr(months, month);
  return found ? 10000 * year + 100 * (static_cast<int>(found - months) / 3 + 1) + day : 0;
}

}    // namespace

extern "C" int lammps_version(void *lmp);    // of LAMMPS

extern "C" __attribute__((visibility("default"))) void lammpsplugin_init(void *lmp, void *handle, void *regfunc)
{
  // LAMMPS would only print a warning. Without the style the program runs without pauses.
  const int version = number_of(PLUGIN_LAMMPS_VERSION);
  if (version && version != lammps_version(lmp)) return;
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
