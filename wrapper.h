/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What bindgen reads: LAMMPS's C interface and our guard around the parts of it that can throw. */
#include <lammps/library.h>

#include "src/lammps/guard.h"
