// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "fix.h"

#include <vector>

namespace lammps_otf {

// `fix ID all otf/neighbours N LIMIT`: the number of neighbours of each atom within the cutoff of its pair of types, or LIMIT if it has
// more, as a per-atom vector, counted at the end of every step that is a multiple of N, and at each set-up. The values have no meaning on other steps.
//
// It uses a full neighbour list. LAMMPS shares that of a pair style that has one, such as PACE. For others it builds one on these
// steps, which takes about as long as a step with a cheap potential.
class FixNeighbours : public LAMMPS_NS::Fix {
 public:
  FixNeighbours(LAMMPS_NS::LAMMPS *lmp, int narg, char **arg);
  int setmask() override;
  void init() override;
  void init_list(int id, LAMMPS_NS::NeighList *list) override;
  void setup(int vflag) override;
  void end_of_step() override;
  double memory_usage() override;

 private:
  int limit;
  std::vector<double> counts;
  LAMMPS_NS::NeighList *list = nullptr;

  void resize();
};

}    // namespace lammps_otf
