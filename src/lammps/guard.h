/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The functions of LAMMPS's C interface that can throw, with every C++ exception turned into text.
 *
 * The C interface catches LAMMPS's own exceptions. Those of a plugin, of the standard library and of the parsers
 * that a pair style uses pass through it, and would abort a Rust process. Each function here replaces the one that it is named
 * after. It always sets `severity`, and fills `message` unless that is OTF_OK. The functions that Rust calls directly
 * (lammps_extract_setting, _global, _atom; lammps_get_natoms, _has_style, _has_id, _version, _config_*) only compare names and read
 * numbers; they can throw only if memory for a short string is missing. */
#ifndef LAMMPS_OTF_GUARD_H
#define LAMMPS_OTF_GUARD_H

#ifdef __cplusplus
extern "C" {
#endif

enum {
  OTF_OK = 0,
  OTF_ERROR = 1,     /* an error of LAMMPS on all ranks; the instance stays usable */
  OTF_ABORT = 2,     /* an error of LAMMPS on this rank alone; the others wait for it */
  OTF_EXCEPTION = 3, /* an exception of a plugin, a parser or the standard library */
  OTF_MESSAGE_SIZE = 8192
};

typedef struct {
  int severity; /* one of the above */
  char message[OTF_MESSAGE_SIZE];
} otf_failure;

void *otf_open(int argc, char **argv, int fortran_comm, otf_failure *failure);
void *otf_open_no_mpi(int argc, char **argv, otf_failure *failure);
void otf_close(void *handle, otf_failure *failure);
/* Runs one command on one line. */
void otf_command(void *handle, const char *command, otf_failure *failure);
/* Runs several commands. If one of them ends the process, the exit code is 2 and an error is printed. */
void otf_commands_string(void *handle, const char *commands, otf_failure *failure);
void *otf_extract_fix(void *handle, const char *id, int style, int type, int row, int column, otf_failure *failure);
/* A property of the pair style, or null if it has none of this name; an error if LAMMPS has no such function (before 29 Aug 2024). */
void *otf_extract_pair(void *handle, const char *name, otf_failure *failure);
/* The value of a variable of style equal. */
double otf_equal_variable(void *handle, const char *name, otf_failure *failure);
/* Evaluates a keyword of the thermo output on the present state. */
double otf_get_thermo(void *handle, const char *keyword, otf_failure *failure);
void *otf_last_thermo(void *handle, const char *what, int index, otf_failure *failure);
/* id and image are arrays of integers of the width that the liblammps in use has for them. */
int otf_create_atoms(void *handle, int n, const void *id, const int *type, const double *x, const double *v,
                     const void *image, otf_failure *failure);
void otf_reset_box(void *handle, const double *lo, const double *hi, double xy, double yz, double xz,
                   otf_failure *failure);
/* Loads a plugin of this project for the rest of the process, and registers its styles with the instance, which `clear` undoes.
 * Returns 1, or 0 for a plugin that only LAMMPS itself can load. */
int otf_register_plugin(void *handle, const char *file, otf_failure *failure);
/* Whether LAMMPS keeps the plugins that it has loaded itself when an instance closes (since 22 Jul 2025). */
int otf_keeps_plugins(void);
/* Whether LAMMPS was built with OpenMP; -1 if it does not tell (before 22 Jul 2025). */
int otf_has_openmp(void);
/* Writes the file of the MPI library that the loaded library `file` is or depends on to `path`, which has `size` bytes; 0 if there is
 * none. */
int otf_mpi_of(const char *file, char *path, int size);
/* Flushes all files. */
void otf_flush(void);
/* Throws an exception of the given kind, to test the guard. */
void otf_throw(int kind, otf_failure *failure);

#ifdef __cplusplus
}
#endif
#endif
