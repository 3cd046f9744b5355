// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "fix.h"
#include "pause.h"

namespace lammps_otf {

// `fix ID all otf/pause N ADDRESS`: calls the program that LAMMPS runs in at the end of every step that is a multiple of N. All
// output of that step has then been written, a row of thermodynamic values among it, as at the end of a run.
class FixPause : public LAMMPS_NS::Fix {
 public:
  FixPause(LAMMPS_NS::LAMMPS *lmp, int narg, char **arg);
  ~FixPause() override;
  int setmask() override;
  void setup(int vflag) override;
  void end_of_step() override;
  void post_run() override;

 private:
  otf_pause *program;
  bool ended = false;    // the run, by the program

  LAMMPS_NS::bigint next_pause() const;
  void write_output();
};

}    // namespace lammps_otf
