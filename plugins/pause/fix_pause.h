// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "fix.h"
#include "pause.h"

namespace lammps_otf {

// `fix ID all otf/pause N ADDRESS`: calls the host program at the end of every step that is a multiple of N, after all output
// of that step, including a row of thermodynamic output, as at the end of a run. ADDRESS is that of an otf_pause.
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
  bool ended = false;    // whether the program ended the run

  LAMMPS_NS::bigint next_pause() const;
  void write_output();
};

}    // namespace lammps_otf
