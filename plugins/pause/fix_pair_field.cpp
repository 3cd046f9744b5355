// SPDX-License-Identifier: GPL-2.0-or-later
#include "fix_pair_field.h"

#include "atom.h"
#include "error.h"
#include "force.h"
#include "pair.h"
#include "update.h"

#include <algorithm>
#include <cstdlib>
#include <limits>

namespace lammps_otf {

namespace {
constexpr double NOT_EVALUATED = std::numeric_limits<double>::quiet_NaN();
}

FixPairField::FixPairField(LAMMPS_NS::LAMMPS *lmp, int narg, char **arg, const PairField &field) :
    Fix(lmp, narg, arg), field(field)
{
  if (narg != 4) error->all(FLERR, "fix {} has one argument, the number of steps between two evaluations", field.fix_style);
  nevery = std::atoi(arg[3]);
  if (nevery < 1) error->all(FLERR, "The number of steps of fix {} must be positive", field.fix_style);
  // No array of the atoms is read or written.
  datamask_read = datamask_modify = 0;
  peratom_flag = 1;
  size_peratom_cols = 0;
  // Thermodynamic output and dumps may refer to the fix on any step.
  peratom_freq = 1;
  resize();
  flag();
}

int FixPairField::setmask()
{
  using namespace LAMMPS_NS::FixConst;
  return PRE_FORCE | POST_FORCE | MIN_PRE_FORCE | MIN_POST_FORCE;
}

void FixPairField::init()
{
  flag();
}

LAMMPS_NS::Pair *FixPairField::pair_style() const
{
  LAMMPS_NS::Pair *const pair = force->pair_match(field.pair_style, 0);
  if (!pair && field.required)
    error->all(FLERR, "fix {} needs one pair style `{}`, and there is none or more than one", field.fix_style, field.pair_style);
  return pair;
}

int *FixPairField::flag() const
{
  int dim = 0;
  LAMMPS_NS::Pair *const pair = pair_style();
  void *const flag = pair ? pair->extract(field.flag, dim) : nullptr;
  if (flag && dim == 0) return static_cast<int *>(flag);
  if (field.required) error->all(FLERR, "The pair style has no {} for fix {}", field.name, field.fix_style);
  return nullptr;
}

// Readers use as many values as the rank has atoms, on any step.
void FixPairField::resize()
{
  const auto size = static_cast<std::size_t>(std::max(atom->nmax, 1));
  if (values.size() < size) values.resize(size, NOT_EVALUATED);
  vector_atom = values.data();
}

void FixPairField::setup(int vflag)
{
  post_force(vflag);
}

void FixPairField::min_setup(int vflag)
{
  post_force(vflag);
}

void FixPairField::setup_pre_force(int vflag)
{
  pre_force(vflag);
}

void FixPairField::min_pre_force(int vflag)
{
  pre_force(vflag);
}

void FixPairField::pre_force(int)
{
  resize();
  const bool due = update->ntimestep % nevery == 0;
  // An error in the pair style may have kept post_force() from withdrawing the request. Another fix may have its own request.
  if (due || requested) {
    int *const request = flag();
    if (request) *request = due;
    requested = due && request;
  }
  if (!due && has_values) {
    // From now on the atoms may have another order.
    std::fill(values.begin(), values.end(), NOT_EVALUATED);
    has_values = false;
  }
}

void FixPairField::min_post_force(int vflag)
{
  post_force(vflag);
}

void FixPairField::post_force(int)
{
  if (!requested) return;
  int *const request = flag();
  requested = false;
  if (!request) return;
  *request = 0;
  int columns = 0;
  const void *const found = pair_style()->extract_peratom(field.values, columns);
  const int n = atom->nlocal;
  if (n > 0) {
    if (!found || columns != 0) error->one(FLERR, "The pair style has computed no values for fix {}", field.fix_style);
    std::copy_n(static_cast<const double *>(found), n, values.data());
  }
  has_values = true;
}

double FixPairField::memory_usage()
{
  return static_cast<double>(values.capacity() * sizeof(double));
}

}    // namespace lammps_otf
