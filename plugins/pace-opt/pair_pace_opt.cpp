// SPDX-License-Identifier: GPL-2.0-or-later
#include "pair_pace_opt.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "neigh_list.h"
#include "update.h"

#include <algorithm>
#include <cmath>
#include <cstring>
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

PairPaceOpt::PairPaceOpt(LAMMPS *lmp, bool with_grades) : PairPaceBase(lmp, with_grades)
{
  if (!with_grades) return;
  comm_reverse = 6;
  nextra = 3;
  pvector = new double[nextra]();
}

PairPaceOpt::~PairPaceOpt()
{
  if (copymode) return;
  delete[] pvector;
}

void PairPaceOpt::settings(int argc, char **argv)
{
  std::vector<char *> others;
  threads = 0;
  for (int k = 0; k < argc; k++) {
    if (strcmp(argv[k], "threads") == 0) {
      if (k + 1 < argc) threads = utils::inumeric(FLERR, argv[++k], false, lmp);
      if (threads < 1)
        error->all(FLERR, "pair_style {}: threads requires a number of at least 1", force->pair_style);
      continue;
    }
    if (!with_grades || strcmp(argv[k], "bias") != 0) {
      others.push_back(argv[k]);
      continue;
    }
    if (k + 4 >= argc)
      error->all(FLERR, "pair_style {}: bias requires a strength, an onset and a limit of the grade and a shortest distance",
                 force->pair_style);
    bias_strength = utils::numeric(FLERR, argv[++k], false, lmp);
    bias_onset = utils::numeric(FLERR, argv[++k], false, lmp);
    bias_limit = utils::numeric(FLERR, argv[++k], false, lmp);
    bias_shortest = utils::numeric(FLERR, argv[++k], false, lmp);
  }
  PairPaceBase::settings(static_cast<int>(others.size()), others.data());
}

void PairPaceOpt::init_style()
{
  PairPaceBase::init_style();
  if (comm->me == 0 && number_of_threads() > 1)
    utils::logmesg(lmp, "pair_style {}: {} threads in each MPI process\n", force->pair_style, number_of_threads());
}

int PairPaceOpt::number_of_threads() const
{
  return threads > 0 ? threads : std::max(1, comm->nthreads);
}

void *PairPaceOpt::extract(const char *name, int &dim)
{
  dim = 0;
  if (with_grades) {
    if (strcmp(name, "bias_strength") == 0) return &bias_strength;
    if (strcmp(name, "bias_onset") == 0) return &bias_onset;
    if (strcmp(name, "bias_limit") == 0) return &bias_limit;
    if (strcmp(name, "bias_shortest") == 0) return &bias_shortest;
    if (strcmp(name, "bias_every") == 0) return &bias_every;
    if (strcmp(name, "bias_results") == 0) return bias_results;
  }
  return PairPaceBase::extract(name, dim);
}

bool PairPaceOpt::measures() const
{
  return bias_every > 0 && update->ntimestep % bias_every == 0;
}

int PairPaceOpt::set_bias(pace_opt *handle, double strength, double onset, pace_opt_error *failure) const
{
  return pace_opt_set_bias(handle, strength, onset, bias_limit, bias_shortest, failure);
}

void PairPaceOpt::compute(int eflag, int vflag)
{
  // After errors of any rank have been raised, all ranks continue here.
  PairPaceBase::compute(eflag, vflag);
  if (!with_grades) return;
  if (measures()) measure_forces();
  std::copy_n(bias_results, nextra, pvector);
}

// Sums up the forces that ranks have computed for the atoms of others, and then the norms. Not linear, so that it must follow.
void PairPaceOpt::measure_forces()
{
  comm->reverse_comm(this);
  double sums[2] = {0.0, 0.0};
  for (int i = 0; i < atom->nlocal; i++) {
    const double *forces[2] = {&potential_forces[3 * i], &bias_forces[3 * i]};
    for (int k = 0; k < 2; k++)
      sums[k] += std::sqrt(forces[k][0] * forces[k][0] + forces[k][1] * forces[k][1] + forces[k][2] * forces[k][2]);
  }
  bias_results[1] = sums[0];
  bias_results[2] = sums[1];
}

int PairPaceOpt::pack_reverse_comm(int n, int first, double *buf)
{
  int m = 0;
  for (int i = first; i < first + n; i++)
    for (const auto *forces : {&potential_forces, &bias_forces})
      for (int c = 0; c < 3; c++) buf[m++] = (*forces)[3 * i + c];
  return m;
}

void PairPaceOpt::unpack_reverse_comm(int n, int *list, double *buf)
{
  int m = 0;
  for (int k = 0; k < n; k++)
    for (auto *forces : {&potential_forces, &bias_forces})
      for (int c = 0; c < 3; c++) (*forces)[3 * list[k] + c] += buf[m++];
}

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
  const bool measuring = with_grades && measures();
  bias_results[0] = 0.0;
  if (measuring) {
    potential_forces.assign(3 * static_cast<std::size_t>(nall), 0.0);
    bias_forces.assign(3 * static_cast<std::size_t>(nall), 0.0);
  }
  bias_results[3] = INFINITY;
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
  // In every step, because `package omp` may change it between runs.
  if (pace_opt_set_threads(handle.get(), number_of_threads(), &failure)) return describe(failure);
  if (measuring) {
    // The forces of the potential alone, and those of the bias as if all atoms were pushed.
    pace_opt_results measured{};
    measured.f = potential_forces.data();
    measured.bias_forces = bias_forces.data();
    if (set_bias(handle.get(), 0.0, 0.0, &failure) || pace_opt_compute(handle.get(), &input, &measured, &failure))
      return describe(failure);
    bias_results[3] = measured.closest;
  }
  if (with_grades && set_bias(handle.get(), bias_strength, bias_onset, &failure)) return describe(failure);
  if (pace_opt_compute(handle.get(), &input, &results, &failure)) return describe(failure);
  if (!std::isfinite(results.energy)) return fmt::format("the PACE energy is not finite at step {}", update->ntimestep);

  bias_results[0] = results.bias;
  bias_results[3] = std::min(bias_results[3], results.closest);
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
