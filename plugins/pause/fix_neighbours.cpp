// SPDX-License-Identifier: GPL-2.0-or-later
#include "fix_neighbours.h"

#include "atom.h"
#include "error.h"
#include "force.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "pair.h"

#include <algorithm>
#include <cstdlib>
#include <limits>

using namespace LAMMPS_NS;

namespace lammps_otf {

FixNeighbours::FixNeighbours(LAMMPS *lmp, int narg, char **arg) : Fix(lmp, narg, arg)
{
  if (narg != 5) error->all(FLERR, "fix otf/neighbours has two arguments, the steps between two counts and the largest number");
  nevery = std::atoi(arg[3]);
  limit = std::atoi(arg[4]);
  if (nevery < 1 || limit < 1) error->all(FLERR, "The arguments of fix otf/neighbours must be positive");
  // datamask_read stays at all arrays: positions are read in end_of_step(), before which KOKKOS copies them from the device.
  datamask_modify = 0;
  peratom_flag = 1;
  size_peratom_cols = 0;
  peratom_freq = 1;
  resize();
}

int FixNeighbours::setmask()
{
  return FixConst::END_OF_STEP;
}

void FixNeighbours::init()
{
  if (!force->pair) error->all(FLERR, "fix otf/neighbours needs a pair style");
  neighbor->add_request(this, NeighConst::REQ_FULL | NeighConst::REQ_OCCASIONAL);
}

void FixNeighbours::init_list(int, NeighList *found)
{
  list = found;
}

// Readers use as many values as the rank has atoms, on any step.
void FixNeighbours::resize()
{
  const auto size = static_cast<std::size_t>(std::max(atom->nmax, 1));
  if (counts.size() < size) counts.resize(size, std::numeric_limits<double>::quiet_NaN());
  vector_atom = counts.data();
}

void FixNeighbours::setup(int)
{
  end_of_step();
}

void FixNeighbours::end_of_step()
{
  resize();
  std::fill_n(counts.begin(), atom->nlocal, std::numeric_limits<double>::quiet_NaN());
  neighbor->build_one(list);
  double **const x = atom->x;
  const int *const type = atom->type;
  double **const cutsq = force->pair->cutsq;
  for (int ii = 0; ii < list->inum; ii++) {
    const int i = list->ilist[ii];
    const int *const neighbours = list->firstneigh[i];
    const double *const limits = cutsq[type[i]];
    const double *const a = x[i];
    int within = 0;
    for (int jj = 0; jj < list->numneigh[i] && within < limit; jj++) {
      const int j = neighbours[jj] & NEIGHMASK;
      const double dx = x[j][0] - a[0], dy = x[j][1] - a[1], dz = x[j][2] - a[2];
      within += dx * dx + dy * dy + dz * dz < limits[type[j]];
    }
    counts[i] = within;
  }
}

double FixNeighbours::memory_usage()
{
  return static_cast<double>(counts.capacity() * sizeof(double));
}

}    // namespace lammps_otf
