// SPDX-License-Identifier: GPL-2.0-or-later
#include "pair_pace_opt.h"

#include "atom.h"
#include "neigh_list.h"
#include "update.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

using namespace LAMMPS_NS;

namespace lammps_otf {
namespace {

struct Close {
  void operator()(pace_opt *handle) const { pace_opt_close(handle); }
};

struct PaceOptPotential : PacePotential {
  std::unique_ptr<pace_opt, Close> handle;

  std::vector<std::string> elements() const override
  {
    std::vector<std::string> names;
    for (int e = 0; e < pace_opt_elements(handle.get()); e++) names.push_back(pace_opt_element(handle.get(), e));
    return names;
  }

  double cutoff(int i, int j) const override { return pace_opt_cutoff(handle.get(), i, j); }

  std::string summary() const override
  {
    return fmt::format("pace-opt with {} instructions", pace_opt_isa(handle.get()));
  }
};

}    // namespace

std::unique_ptr<PacePotential> PairPaceOpt::load(const std::vector<std::string> &paths) const
{
  auto fresh = std::make_unique<PaceOptPotential>();
  pace_opt_error failure{};
  fresh->handle.reset(pace_opt_open(paths[0].c_str(), with_grades ? paths[1].c_str() : nullptr, &failure));
  if (!fresh->handle) throw std::runtime_error(failure.text);
  return fresh;
}

std::string PairPaceOpt::evaluate(const PacePotential &potential, const Requested &requested)
{
  const int nlocal = atom->nlocal;
  const int nall = nlocal + atom->nghost;
  if (nall == 0) return {};
  // In every step, because fix adapt may change them.
  scales.resize(element_of_type.size());
  for (std::size_t t = 1; t < scales.size(); t++) scales[t] = scale[t][t];
  if (eflag_atom) energies.assign(nall, 0.0);

  pace_opt_input input{};
  input.nall = nall;
  input.x = atom->x[0];
  input.types = atom->type;
  input.element_of_type = element_of_type.data();
  input.ntypes = static_cast<int>(element_of_type.size());
  input.scales = scales.data();
  input.inum = list->inum;
  input.ilist = list->ilist;
  input.numneigh = list->numneigh;
  input.firstneigh = list->firstneigh;
  input.mask = NEIGHMASK;

  pace_opt_results results{};
  results.f = atom->f[0];
  results.energies = eflag_atom ? energies.data() : nullptr;
  results.virials = vflag_atom ? vatom[0] : nullptr;
  results.core_shares = requested.core_repulsion;
  results.inner_shares = requested.core_share;
  results.grades = requested.grades;

  pace_opt_error failure{};
  const auto &handle = static_cast<const PaceOptPotential &>(potential).handle;
  if (pace_opt_compute(handle.get(), &input, &results, &failure)) return describe(failure);
  if (!std::isfinite(results.energy)) return fmt::format("the PACE energy is not finite at step {}", update->ntimestep);

  if (eflag_global) eng_vdwl += results.energy;
  if (eflag_atom)
    for (int i = 0; i < nlocal; i++) eatom[i] += energies[i];
  if (vflag_global && !vflag_fdotr)
    for (int k = 0; k < 6; k++) virial[k] += results.virial[k];
  return {};
}

std::string PairPaceOpt::describe(const pace_opt_error &failure) const
{
  std::string text = fmt::format("PACE evaluation failed at step {}: {}", update->ntimestep, failure.text);
  const int nall = atom->nlocal + atom->nghost;
  const int i = failure.atoms[0], j = failure.atoms[1];
  if (i >= 0 && i < nall && j >= 0 && j < nall)
    text += fmt::format(" (indices of this process; their atom IDs are {} and {})", atom->tag[i], atom->tag[j]);
  return text;
}

double PairPaceOpt::memory_usage()
{
  return PairPaceBase::memory_usage() + static_cast<double>((scales.capacity() + energies.capacity()) * sizeof(double));
}

}    // namespace lammps_otf
