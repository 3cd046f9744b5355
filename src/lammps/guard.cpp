// SPDX-License-Identifier: GPL-2.0-or-later
#include "guard.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>

#include <dlfcn.h>

#include <lammps/library.h>

namespace {

void write(otf_failure *failure, int severity, const char *text) {
  failure->severity = severity;
  std::strncpy(failure->message, text, OTF_MESSAGE_SIZE - 1);
  failure->message[OTF_MESSAGE_SIZE - 1] = '\0';
}

// Reads and clears the error that LAMMPS has recorded.
void collect(void *handle, otf_failure *failure) {
  if (failure->severity != OTF_OK || !lammps_has_error(handle)) return;
  char text[OTF_MESSAGE_SIZE] = {};
  int const severity = lammps_get_last_error_message(handle, text, sizeof text);
  write(failure, severity == OTF_ABORT ? OTF_ABORT : OTF_ERROR, text);
}

template <typename Call> auto guarded(void *handle, otf_failure *failure, Call call) -> decltype(call()) {
  using Result = decltype(call());
  // An error of an earlier call must not be reported for this one.
  char old[16];
  if (lammps_has_error(handle)) lammps_get_last_error_message(handle, old, sizeof old);
  failure->severity = OTF_OK;
  try {
    if constexpr (std::is_void_v<Result>) {
      call();
      collect(handle, failure);
      return;
    } else {
      Result const result = call();
      collect(handle, failure);
      return result;
    }
  } catch (std::bad_alloc const &) {
    write(failure, OTF_EXCEPTION, "out of memory");
  } catch (std::exception const &e) {
    write(failure, OTF_EXCEPTION, e.what());
  } catch (...) {
    write(failure, OTF_EXCEPTION, "an exception that is not a std::exception");
  }
  return Result();
}

// Whether LAMMPS executes commands of a set-up, and whether this rank prints errors.
enum { IDLE, SILENT, PRINTING } executing = IDLE;

// `quit` ends the process with code 0, even if it does not appear in the text of the commands: from a variable, or a plugin.
void at_exit() {
  if (executing == IDLE) return;
  // mpiexec ends the job, and drops messages that it has not passed on, as soon as one rank has ended: the rank that prints ends first.
  auto wait = std::chrono::milliseconds(2000);
  if (executing == PRINTING) {
    std::fputs("error: a command of the set-up has ended the program, as `quit` does. Leave it out of `setup`, `create`, "
               "the template and what they include\n", stderr);
    wait = std::chrono::milliseconds(500);
  }
  std::this_thread::sleep_for(wait);
  std::_Exit(2);
}

}    // namespace

void *otf_open(int argc, char **argv, int fortran_comm, otf_failure *failure) {
  return guarded(nullptr, failure, [&] { return lammps_open_fortran(argc, argv, fortran_comm); });
}

void *otf_open_no_mpi(int argc, char **argv, otf_failure *failure) {
  return guarded(nullptr, failure, [&] { return lammps_open_no_mpi(argc, argv, nullptr); });
}

void otf_close(void *handle, otf_failure *failure) {
  // No `collect`: the handle is invalid afterwards. No test makes this throw: an exception in a destructor ends the process.
  guarded(nullptr, failure, [&] { lammps_close(handle); });
}

void otf_command(void *handle, const char *command, otf_failure *failure) {
  guarded(handle, failure, [&] { lammps_command(handle, command); });
}

void otf_commands_string(void *handle, const char *commands, otf_failure *failure) {
  static int const registered = std::atexit(at_exit);
  (void) registered;
  executing = lammps_extract_setting(handle, "world_rank") == 0 ? PRINTING : SILENT;
  guarded(handle, failure, [&] { lammps_commands_string(handle, commands); });
  executing = IDLE;
}

void *otf_extract_fix(void *handle, const char *id, int style, int type, int row, int column, otf_failure *failure) {
  return guarded(handle, failure, [&] { return lammps_extract_fix(handle, id, style, type, row, column); });
}

void *otf_extract_pair(void *handle, const char *name, otf_failure *failure) {
  auto *const extract = reinterpret_cast<void *(*)(void *, const char *)>(dlsym(RTLD_DEFAULT, "lammps_extract_pair"));
  if (!extract) {
    write(failure, OTF_ERROR, "this LAMMPS has no lammps_extract_pair: use 29 Aug 2024 or later");
    return nullptr;
  }
  return guarded(handle, failure, [&] { return extract(handle, name); });
}

double otf_equal_variable(void *handle, const char *name, otf_failure *failure) {
  return guarded(handle, failure, [&] {
    void *const value = lammps_extract_variable(handle, name, nullptr);
    double const number = value ? *static_cast<double *>(value) : 0.0;
    lammps_free(value);
    return number;
  });
}

double otf_get_thermo(void *handle, const char *keyword, otf_failure *failure) {
  return guarded(handle, failure, [&] { return lammps_get_thermo(handle, keyword); });
}

void *otf_last_thermo(void *handle, const char *what, int index, otf_failure *failure) {
  return guarded(handle, failure, [&] { return lammps_last_thermo(handle, what, index); });
}

namespace {

// lammps_create_atoms takes ids and image flags of 32 or 64 bits. The liblammps in use determines the width, while library.h
// declares the one of the macro LAMMPS_BIGBIG, which is not known here. The argument is therefore converted to the declared type.
struct AnyWidth {
  const void *data;
  operator const int *() const { return static_cast<const int *>(data); }
  operator const int64_t *() const { return static_cast<const int64_t *>(data); }
};

}    // namespace

int otf_create_atoms(void *handle, int n, const void *id, const int *type, const double *x, const double *v,
                     const void *image, otf_failure *failure) {
  // The last argument, for shrink-wrapped boundaries: an atom may be outside until neighbour lists are next built.
  return guarded(handle, failure, [&] { return lammps_create_atoms(handle, n, AnyWidth{id}, type, x, v, AnyWidth{image}, 1); });
}

void otf_reset_box(void *handle, const double *lo, const double *hi, double xy, double yz, double xz,
                   otf_failure *failure) {
  double low[3], high[3];
  std::copy(lo, lo + 3, low);
  std::copy(hi, hi + 3, high);
  guarded(handle, failure, [&] { lammps_reset_box(handle, low, high, xy, yz, xz); });
}

int otf_register_plugin(void *handle, const char *file, otf_failure *failure) {
  return guarded(handle, failure, [&] {
    // Never unloaded: every later instance of the process can have styles of it.
    void *const library = dlopen(file, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library) {
      std::string why = dlerror();
      // Names of C++ functions contain the width of ids.
      if (why.find("undefined symbol: _ZN9LAMMPS_NS") != std::string::npos)
        why += ". It was compiled for another LAMMPS: run ci/install or ci/setup again";
      throw std::runtime_error(why);
    }
    auto *const register_styles = reinterpret_cast<const char *(*) (void *)>(dlsym(library, "otf_register_styles"));
    if (!register_styles) {
      dlclose(library);
      return 0;
    }
    if (const char *const why = register_styles(handle)) throw std::runtime_error(why);
    return 1;
  });
}

// LAMMPS has no query for this. The function plugin_restore() came with the change.
int otf_keeps_plugins(void) { return dlsym(RTLD_DEFAULT, "_ZN9LAMMPS_NS14plugin_restoreEPNS_6LAMMPSEb") != nullptr; }

int otf_has_openmp(void) {
  auto *const ask = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "lammps_config_has_omp_support"));
  return ask ? ask() : -1;
}

int otf_mpi_of(const char *file, char *path, int size) {
  void *const library = dlopen(file, RTLD_LAZY | RTLD_NOLOAD);
  if (!library) return 0;
  // Also finds the function in a library that this one depends on. Profilers define MPI_Init, but not PMPI_Init.
  void *const function = dlsym(library, "PMPI_Init");
  Dl_info info = {};
  int const found = function && dladdr(function, &info) && info.dli_fname;
  if (found) std::snprintf(path, static_cast<size_t>(size), "%s", info.dli_fname);
  dlclose(library);
  return found;
}

void otf_flush(void) { std::fflush(nullptr); }

void otf_throw(int kind, otf_failure *failure) {
  guarded(nullptr, failure, [&] {
    switch (kind) {
      case 0: throw std::invalid_argument("a value that cannot be");
      case 1: throw std::bad_alloc();
      case 2: throw 42;
      default: break;
    }
  });
}
