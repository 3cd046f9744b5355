/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What bindgen reads: LAMMPS's C interface, our guard around the parts of it that can throw, and what our fix tells. */
#include <lammps/library.h>

#include "src/lammps/guard.h"
#include "plugins/pause/pause.h"
