// SPDX-License-Identifier: GPL-2.0-or-later
#include "fix_pause.h"

#include "error.h"
#include "modify.h"
#include "output.h"
#include "timer.h"
#include "update.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>

using LAMMPS_NS::bigint;

namespace lammps_otf {

FixPause::FixPause(LAMMPS_NS::LAMMPS *lmp, int narg, char **arg) : Fix(lmp, narg, arg)
{
  if (narg != 5) error->all(FLERR, "fix otf/pause is for the program lammps-otf, which gives it two numbers");
  nevery = std::atoi(arg[3]);
  program = reinterpret_cast<otf_pause *>(static_cast<std::uintptr_t>(std::strtoull(arg[4], nullptr, 10)));
  if (nevery < 1 || !program) error->all(FLERR, "fix otf/pause is for the program lammps-otf, not for input files");
  datamask_modify = 0;    // an accelerator need not copy back what nobody has changed
}

int FixPause::setmask()
{
  return LAMMPS_NS::FixConst::END_OF_STEP;
}

bigint FixPause::next_after(bigint every) const
{
  return (update->ntimestep / every + 1) * every;
}

// What is tallied, such as the energy, is tallied on steps that were asked for beforehand.
void FixPause::setup(int)
{
  modify->addstep_compute_all(next_after(nevery));
}

void FixPause::write_output()
{
  output->next = output->next_thermo = update->ntimestep;
  output->write(update->ntimestep);
  // LAMMPS counts `thermo N` from the row before, and this one may stand between two.
  if (!output->var_thermo && output->thermo_every > 0) {
    output->next_thermo = std::min(next_after(output->thermo_every), update->laststep);
    output->next = std::min(output->next, output->next_thermo);
    modify->addstep_compute(output->next_thermo);
  }
  modify->addstep_compute(next_after(nevery));
}

void FixPause::end_of_step()
{
  if (!program->at_end_of_step) return;
  write_output();
  ended = program->at_end_of_step(program) != 0;
  if (ended) timer->force_timeout();
}

void FixPause::post_run()
{
  // Or LAMMPS would refuse all later runs.
  if (ended) timer->reset_timeout();
  ended = false;
}

}    // namespace lammps_otf
