/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Interface between `fix otf/pause` and the host program. The program passes the address of an otf_pause to the fix as a
 * decimal number and keeps it valid for as long as the fix is defined. */
#ifndef LAMMPS_OTF_PAUSE_H
#define LAMMPS_OTF_PAUSE_H

#ifdef __cplusplus
extern "C" {
#endif

typedef struct otf_pause {
  /* Called at the end of a step; returns when the run is to be resumed. 0: continue; any other value: end the run with this
   * step. Null if pauses are disabled. Must not throw. */
  int (*at_end_of_step)(struct otf_pause *);
} otf_pause;

#ifdef __cplusplus
}
#endif
#endif
