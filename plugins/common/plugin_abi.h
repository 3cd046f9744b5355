// SPDX-License-Identifier: GPL-2.0-or-later
// The C interface between LAMMPS and a plugin, declared here because binary distributions of
// LAMMPS do not install the header. Field order and types are fixed by LAMMPS's developer
// documentation ("Writing plugins"); the unions' second member serves the styles that take
// arguments in their constructor, which pair styles do not.
#pragma once

extern "C" {

using lammps_plugin_make = void *(void *lammps);
using lammps_plugin_make_with_arguments = void *(void *lammps, int argc, char **argv);

struct lammps_plugin_info {
  const char *version;    // LAMMPS version that the plugin was compiled for; a mismatch warns
  const char *kind;       // "pair"
  const char *name;
  const char *info;
  const char *author;
  union {
    lammps_plugin_make *v1;
    lammps_plugin_make_with_arguments *v2;
  } creator;
  void *handle;           // of the shared object, to be handed through unchanged
};

using lammps_plugin_register = void (*)(lammps_plugin_info *, void *lammps);

}    // extern "C"
