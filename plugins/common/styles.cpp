// SPDX-License-Identifier: GPL-2.0-or-later
#include "styles.h"

#include "plugin_abi.h"

#include "force.h"
#include "lammps.h"
#include "lmptype.h"
#include "modify.h"

#include <cstdio>
#include <cstring>
#include <string>

// The version of the LAMMPS whose headers were used: the layout of C++ classes depends on the version.
#ifndef PLUGIN_LAMMPS_VERSION
#error "define PLUGIN_LAMMPS_VERSION as a string, for example \"22 Jul 2025\""
#endif

// Of LAMMPS.
extern "C" int lammps_version(void *lmp);
extern "C" int lammps_extract_setting(void *lmp, const char *name);

using namespace LAMMPS_NS;

namespace lammps_otf {
namespace {

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

// Null, or why the LAMMPS of `lmp` can have other class layouts than the one that this plugin was compiled for.
const char *difference(void *lmp)
{
  if (number_of(PLUGIN_LAMMPS_VERSION) != lammps_version(lmp))
    return "it was compiled for LAMMPS " PLUGIN_LAMMPS_VERSION ", and this is another version: run ci/install or ci/setup again";
  if (lammps_extract_setting(nullptr, "tagint") != static_cast<int>(sizeof(tagint)))
    return sizeof(tagint) == 8 ? "it was compiled for a LAMMPS with 64-bit atom ids, and this one has 32-bit ids: run ci/install again"
                               : "it was compiled for a LAMMPS with 32-bit atom ids, and this one has 64-bit ids: run ci/install again";
  return nullptr;
}

}    // namespace
}    // namespace lammps_otf

#define EXPORTED extern "C" __attribute__((visibility("default")))

// Called by LAMMPS's PLUGIN package. With another LAMMPS, which would at most print a warning, no style is registered.
EXPORTED void lammpsplugin_init(void *lmp, void *handle, void *regfunc)
{
  if (lammps_otf::difference(lmp)) return;
  auto add = reinterpret_cast<lammps_plugin_register>(regfunc);
  lammps_plugin_info info{};
  info.version = PLUGIN_LAMMPS_VERSION;
  info.author = "lammps-otf";
  info.handle = handle;
  info.kind = "pair";
  for (const auto &style : lammps_otf::pair_styles) {
    info.name = style.name;
    info.info = style.info;
    info.creator.v1 = reinterpret_cast<lammps_plugin_make *>(style.make);
    add(&info, lmp);
  }
  info.kind = "fix";
  for (const auto &style : lammps_otf::fix_styles) {
    info.name = style.name;
    info.info = style.info;
    info.creator.v2 = reinterpret_cast<lammps_plugin_make_with_arguments *>(style.make);
    add(&info, lmp);
  }
}

// Called by lammps-otf for each instance, and again after `clear`. The file must stay loaded for as long as the process has
// instances. Returns null, or why no style was registered.
EXPORTED const char *otf_register_styles(void *handle)
{
  if (const char *const why = lammps_otf::difference(handle)) return why;
  auto *lmp = static_cast<LAMMPS *>(handle);
  for (const auto &style : lammps_otf::pair_styles) (*lmp->force->pair_map)[style.name] = style.make;
  for (const auto &style : lammps_otf::fix_styles) (*lmp->modify->fix_map)[style.name] = style.make;
  return nullptr;
}
