// SPDX-License-Identifier: GPL-2.0-or-later
// The styles of a plugin, and how LAMMPS gets them.
//
// A plugin of this project can be used in two ways:
// - `plugin load FILE` or LAMMPS_PLUGIN_PATH, with LAMMPS's PLUGIN package, in any program: lammpsplugin_init().
// - by lammps-otf, which opens the file itself and calls otf_register_styles() for each LAMMPS instance. This does not need the
//   PLUGIN package, and is safe with all supported versions: before 22 Jul 2025 LAMMPS unloads all plugins of a process when one
//   instance closes.
#pragma once

namespace LAMMPS_NS {
class Fix;
class LAMMPS;
class Pair;
}    // namespace LAMMPS_NS

namespace lammps_otf {

struct PairStyle {
  const char *name;
  const char *info;
  LAMMPS_NS::Pair *(*make)(LAMMPS_NS::LAMMPS *);
};

struct FixStyle {
  const char *name;
  const char *info;
  LAMMPS_NS::Fix *(*make)(LAMMPS_NS::LAMMPS *, int, char **);
};

template <typename Style> struct List {
  const Style *first;
  int count;
  const Style *begin() const { return first; }
  const Style *end() const { return first + count; }
};

// Defined by each plugin.
extern const List<PairStyle> pair_styles;
extern const List<FixStyle> fix_styles;

}    // namespace lammps_otf
