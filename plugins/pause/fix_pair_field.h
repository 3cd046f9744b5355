// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "fix.h"

#include <vector>

namespace LAMMPS_NS {
class Pair;
}

namespace lammps_otf {

// A number per atom that a PACE pair style evaluates on request.
struct PairField {
  const char *fix_style;
  // A part of the name of the pair style. pace/extrapolation/kk or pace/extrapolation/opt contains pace/extrapolation.
  const char *pair_style;
  const char *flag;      // for Pair::extract(): the request
  const char *values;    // for Pair::extract_peratom()
  const char *name;      // for messages
  // false: all values are NaN if there is no such pair style, or if it does not have this field. true: an error.
  bool required;
};

// `fix ID all otf/gamma N`: the extrapolation grade γ of each atom as a per-atom vector, evaluated by the pair style
// pace/extrapolation, with any suffix and also within pair style hybrid, on every step that is a multiple of N, and at each set-up
// on such a step. On all other steps every value is NaN.
//
// `fix ID all otf/core N`: in the same way, the share of an atom's terms that core repulsion switches off, between 0 and 1, with any
// PACE pair style that knows it (`core_share`).
//
// Differences from `fix pair` with `gamma 1` or `core_share 1`: a step that is set up or evaluated again gets new values; values do
// not move with atoms between ranks, because they are read on the step of their evaluation; no atom data are read or written, so
// that KOKKOS copies none, and it can exchange atoms on the device.
class FixPairField : public LAMMPS_NS::Fix {
 public:
  FixPairField(LAMMPS_NS::LAMMPS *lmp, int narg, char **arg, const PairField &field);
  int setmask() override;
  void init() override;
  void setup(int vflag) override;
  void min_setup(int vflag) override;
  void setup_pre_force(int vflag) override;
  void pre_force(int vflag) override;
  void min_pre_force(int vflag) override;
  void post_force(int vflag) override;
  void min_post_force(int vflag) override;
  double memory_usage() override;

 private:
  const PairField field;
  std::vector<double> values;
  bool has_values = false;    // false: all values are NaN
  bool requested = false;     // whether the pair style was asked to evaluate the field

  // The pair style and its flag are looked up for each use: commands between two runs may have replaced the pair style. Null if
  // there is none and the field is not required.
  LAMMPS_NS::Pair *pair_style() const;
  int *flag() const;
  void resize();
};

}    // namespace lammps_otf
