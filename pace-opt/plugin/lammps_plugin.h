// SPDX-License-Identifier: GPL-2.0-or-later
// The C interface between LAMMPS and a plugin. Binary distributions of LAMMPS do not install the header;
// field order and types are fixed by LAMMPS's developer documentation ("Writing plugins").
#pragma once

extern "C" {

using lammps_plugin_make = void *(void *lammps);
using lammps_plugin_make_with_arguments = void *(void *lammps, int argc, char **argv);

struct lammps_plugin_info {
  const char *version;
  const char *kind;
  const char *name;
  const char *info;
  const char *author;
  union {
    lammps_plugin_make *v1;
    lammps_plugin_make_with_arguments *v2;
  } creator;
  void *handle;
};

using lammps_plugin_register = void (*)(lammps_plugin_info *, void *lammps);

}    // extern "C"
