/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What `fix otf/pause` and the program that LAMMPS runs in share. The program keeps it for as long as the fix is defined, and
 * gives its address, as a decimal number, to the fix. */
#ifndef LAMMPS_OTF_PAUSE_H
#define LAMMPS_OTF_PAUSE_H

#ifdef __cplusplus
extern "C" {
#endif

typedef struct otf_pause {
  /* Called at the end of a step; comes back when the run is to go on. 0: it goes on; anything else: it ends with this step.
   * Null while nobody waits for a pause. Must not throw. */
  int (*at_end_of_step)(struct otf_pause *);
} otf_pause;

#ifdef __cplusplus
}
#endif
#endif
