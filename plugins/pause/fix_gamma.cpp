// SPDX-License-Identifier: GPL-2.0-or-later
#include "fix_gamma.h"

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
// The pair style pace/extrapolation/kk or pace/extrapolation/opt contains it, too.
constexpr const char *STYLE = "pace/extrapolation";
constexpr double NOT_EVALUATED = std::numeric_limits<double>::quiet_NaN();
}

FixGamma::FixGamma(LAMMPS_NS::LAMMPS *lmp, int narg, char **arg) : Fix(lmp, narg, arg)
{
  if (narg != 4) error->all(FLERR, "fix otf/gamma has one argument, the number of steps between two evaluations");
  nevery = std::atoi(arg[3]);
  if (nevery < 1) error->all(FLERR, "The number of steps of fix otf/gamma must be positive");
  // No array of the atoms is read or written.
  datamask_read = datamask_modify = 0;
  peratom_flag = 1;
  size_peratom_cols = 0;
  // Thermodynamic output and dumps may refer to the fix on any step.
  peratom_freq = 1;
  resize();
  flag();
}

int FixGamma::setmask()
{
  using namespace LAMMPS_NS::FixConst;
  return PRE_FORCE | POST_FORCE | MIN_PRE_FORCE | MIN_POST_FORCE;
}

void FixGamma::init()
{
  flag();
}

LAMMPS_NS::Pair *FixGamma::pair_style() const
{
  LAMMPS_NS::Pair *const pair = force->pair_match(STYLE, 0);
  if (!pair) error->all(FLERR, "fix otf/gamma needs one pair style `pace/extrapolation`, and there is none or more than one");
  return pair;
}

int *FixGamma::flag() const
{
  int dim = 0;
  void *const flag = pair_style()->extract("gamma_flag", dim);
  if (!flag || dim != 0) error->all(FLERR, "The pair style has no extrapolation grade for fix otf/gamma");
  return static_cast<int *>(flag);
}

// Readers use as many values as the rank has atoms, on any step.
void FixGamma::resize()
{
  const auto size = static_cast<std::size_t>(std::max(atom->nmax, 1));
  if (values.size() < size) values.resize(size, NOT_EVALUATED);
  vector_atom = values.data();
}

void FixGamma::setup(int vflag)
{
  post_force(vflag);
}

void FixGamma::min_setup(int vflag)
{
  post_force(vflag);
}

void FixGamma::setup_pre_force(int vflag)
{
  pre_force(vflag);
}

void FixGamma::min_pre_force(int vflag)
{
  pre_force(vflag);
}

void FixGamma::pre_force(int)
{
  resize();
  const bool due = update->ntimestep % nevery == 0;
  // An error in the pair style may have kept post_force() from withdrawing the request. Another fix may have its own request.
  if (due || requested) *flag() = due;
  requested = due;
  if (!due && has_values) {
    // From now on the atoms may have another order.
    std::fill(values.begin(), values.end(), NOT_EVALUATED);
    has_values = false;
  }
}

void FixGamma::min_post_force(int vflag)
{
  post_force(vflag);
}

void FixGamma::post_force(int)
{
  if (!requested) return;
  *flag() = 0;
  requested = false;
  int columns = 0;
  const void *const found = pair_style()->extract_peratom("gamma", columns);
  const int n = atom->nlocal;
  if (n > 0) {
    if (!found || columns != 0) error->one(FLERR, "The pair style has computed no values for fix otf/gamma");
    std::copy_n(static_cast<const double *>(found), n, values.data());
  }
  has_values = true;
}

double FixGamma::memory_usage()
{
  return static_cast<double>(values.capacity() * sizeof(double));
}

}    // namespace lammps_otf
