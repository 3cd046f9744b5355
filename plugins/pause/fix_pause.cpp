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
  // datamask_read stays at all arrays: the program reads them in end_of_step(), before which KOKKOS copies them from the device.
  datamask_modify = 0;    // no atom data changes, so accelerators need not copy any back
}

// If the post_run() of an earlier fix threw, that of this one was not called.
FixPause::~FixPause()
{
  post_run();
}

int FixPause::setmask()
{
  return LAMMPS_NS::FixConst::END_OF_STEP;
}

bigint FixPause::next_pause() const
{
  return (update->ntimestep / nevery + 1) * nevery;
}

// LAMMPS tallies energy and pressure only on steps that were requested beforehand.
void FixPause::setup(int)
{
  modify->addstep_compute_all(next_pause());
}

namespace {

// Restores the variable of thermodynamic output, also if writing throws.
struct RestoreVariable {
  LAMMPS_NS::Output *output;
  char *variable;
  ~RestoreVariable() { output->var_thermo = variable; }
};

}    // namespace

void FixPause::write_output()
{
  const bigint now = update->ntimestep, due = output->next_thermo;
  // The next regular row is due a number of steps after the last one, or when the variable says; this row must not change that.
  RestoreVariable restore{output, output->var_thermo};
  if (due != now) output->var_thermo = nullptr;
  output->next = output->next_thermo = now;
  output->write(now);
  if (due != now) {
    output->next_thermo = due;
    output->next = std::min(output->next, due);
    modify->addstep_compute(due);
  }
  modify->addstep_compute(next_pause());
}

void FixPause::end_of_step()
{
  if (!program->at_end_of_step) {
    modify->addstep_compute_all(next_pause());
    return;
  }
  write_output();
  // If fix halt ends the run with this step, post_run() must not reset the timeout.
  const bool halted = timer->is_timeout();
  ended = program->at_end_of_step(program) != 0 && !halted;
  if (ended) timer->force_timeout();
}

void FixPause::post_run()
{
  // Otherwise LAMMPS would refuse all later runs.
  if (ended) timer->reset_timeout();
  ended = false;
}

}    // namespace lammps_otf
