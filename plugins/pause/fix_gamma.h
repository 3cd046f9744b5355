// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "fix.h"

#include <vector>

namespace LAMMPS_NS {
class Pair;
}

namespace lammps_otf {

// `fix ID all otf/gamma N`: the extrapolation grade γ of each atom as a per-atom vector, evaluated by the pair style
// pace/extrapolation, with any suffix and also within pair style hybrid, on every step that is a multiple of N, and at each set-up
// on such a step. On all other steps every value is NaN.
//
// Differences from `fix pair` with `gamma 1`: a step that is set up or evaluated again gets new values; values do not move with
// atoms between ranks, because they are read on the step of their evaluation; no atom data are read or written, so that KOKKOS
// copies none, and it can exchange atoms on the device.
class FixGamma : public LAMMPS_NS::Fix {
 public:
  FixGamma(LAMMPS_NS::LAMMPS *lmp, int narg, char **arg);
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
  std::vector<double> values;
  bool has_values = false;    // false: all values are NaN
  bool requested = false;     // whether the pair style was asked to evaluate γ

  // The pair style and its flag are looked up for each use: commands between two runs may have replaced the pair style.
  LAMMPS_NS::Pair *pair_style() const;
  int *flag() const;
  void resize();
};

}    // namespace lammps_otf
