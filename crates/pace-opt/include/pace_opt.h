/* C interface of pace-opt: atomic cluster expansion potentials on CPUs.
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Lengths are in Å, energies in eV. No function throws or aborts; errors are returned as text.
 * A handle may be used by one thread at a time. Handles of the same files share their tables. */
#ifndef PACE_OPT_H
#define PACE_OPT_H

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pace_opt pace_opt;

typedef struct {
  char text[1024];
  int atoms[2]; /* indices of the atoms that the error concerns, or -1 */
} pace_opt_error;

/* Opens a .yaml, .yace or .ace potential, with a .asi active set unless that is NULL or "". Returns NULL on error. */
pace_opt *pace_opt_open(const char *potential, const char *active_set, pace_opt_error *error);
void pace_opt_close(pace_opt *);

int pace_opt_elements(const pace_opt *);
const char *pace_opt_element(const pace_opt *, int index);
double pace_opt_cutoff(const pace_opt *, int i, int j); /* of an ordered pair of elements */
const char *pace_opt_isa(const pace_opt *);             /* instruction set in use */

/* Sets a bias towards large extrapolation grades: strength in eV, grades at which it begins and ends, and shortest distance as a share of the
 * sum of the covalent radii. It stays until it is set again. Strength 0 removes it, except for bias_forces below. Needs an active
 * set. Returns 0, or 1 after an error. */
int pace_opt_set_bias(pace_opt *, double strength, double onset, double limit, double shortest, pace_opt_error *error);

/* Sets the number of threads of evaluations, 1 to 1024; the calling thread is one of them. Results do not depend on it. The others wait
 * between evaluations and end with the handle; a child process after fork does not have them. Returns 0, or 1 after an error; the number
 * is then unchanged. */
int pace_opt_set_threads(pace_opt *, int threads, pace_opt_error *error);

typedef struct {
  int nall;                   /* atoms, images included */
  const double *x;            /* nall x 3 */
  const int *types;           /* nall */
  const int *element_of_type; /* ntypes; negative for none */
  int ntypes;
  const double *scales;     /* factor of the energies of each type, ntypes; NULL means one */
  int inum;                 /* atoms to evaluate */
  const int *ilist;         /* their indices */
  const int *numneigh;      /* by atom */
  const int *const *firstneigh; /* by atom; full lists */
  int mask;                 /* bit mask of neighbour indices */
} pace_opt_input;

typedef struct {
  double *f;        /* nall x 3; added to */
  double *energies; /* nall or NULL; set for evaluated atoms */
  double *virials;  /* nall x 6 or NULL; added to; xx yy zz xy xz yz */
  double *core_shares; /* nall or NULL; set for evaluated atoms: fraction of the many-body energy switched off */
  double *inner_shares; /* nall or NULL; set for evaluated atoms: largest fraction of a neighbour's functions switched off */
  double *grades;   /* nall or NULL; set for evaluated atoms; needs an active set */
  double *bias_forces; /* nall x 3 or NULL; added to: forces of the bias per unit of its strength, in 1/A; needs a bias */
  double energy;  /* without the bias */
  double bias;    /* energy of the bias */
  double closest; /* with a bias, the smallest distance as a share of the sum of the covalent radii; infinite if not known */
  double virial[6]; /* with that of the bias */
} pace_opt_results;

/* Evaluates atoms. Returns 0, or 1 after an error. */
int pace_opt_compute(pace_opt *, const pace_opt_input *, pace_opt_results *, pace_opt_error *error);

#ifdef __cplusplus
}
#endif
#endif
