// SPDX-License-Identifier: GPL-2.0-or-later
#include "pair_pace.h"

#include "active_set_file.h"
#include "potential_file.h"

#include "atom.h"
#include "force.h"
#include "neigh_list.h"
#include "update.h"

#include "ace-evaluator/ace_c_basis.h"
#include "ace-evaluator/ace_recursive.h"
#include "ace/ace_b_basis.h"
#include "ace/ace_b_evaluator.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <stdexcept>

using namespace LAMMPS_NS;

namespace lammps_otf {
namespace {

// The evaluators keep pointers to the basis sets, so all four have the same lifetime.
struct PaceModel : PacePotential {
  std::unique_ptr<ACEBBasisSet> b_basis;    // with extrapolation grades only
  std::unique_ptr<ACECTildeBasisSet> basis;
  std::unique_ptr<ACERecursiveEvaluator> evaluator;
  std::unique_ptr<ACEBEvaluator> grader;    // with extrapolation grades only
  bool recursive = true;

  std::vector<std::string> elements() const override
  {
    std::vector<std::string> names;
    for (int mu = 0; mu < basis->nelements; mu++) names.push_back(basis->elements_name[mu]);
    return names;
  }

  double cutoff(int i, int j) const override { return basis->radial_functions->cut(i, j); }

  std::string summary() const override
  {
    int functions = 0;
    for (int mu = 0; mu < basis->nelements; mu++)
      functions += basis->total_basis_size_rank1[mu] + basis->total_basis_size[mu];
    return fmt::format("{} functions, cutoff {:g} A, {} evaluator", functions, basis->cutoffmax,
                       recursive ? "recursive" : "product");
  }

  void map_types(const std::vector<int> &element_of_type) override
  {
    Array1D<int> species;
    species.init(element_of_type.size(), "element_type_mapping");
    for (std::size_t t = 0; t < element_of_type.size(); t++) species(t) = element_of_type[t];
    evaluator->element_type_mapping = species;
    if (grader) grader->element_type_mapping = species;
  }
};

bool ends_with(const std::string &text, const std::string &end)
{
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// Reads the B-basis of a .yaml file. Returns a pointer, because a copy of a basis set loses its element map.
std::unique_ptr<ACEBBasisSet> read_b_basis(const std::string &path)
{
  // Without the reader's own validation, which builds the basis and crashes on truncated files.
  BBasisConfiguration config(path, false);
  check_b_basis(config);
  return std::make_unique<ACEBBasisSet>(config);
}

}    // namespace

std::unique_ptr<PacePotential> PairPace::load(const std::vector<std::string> &paths) const
{
  auto fresh = std::make_unique<PaceModel>();
  fresh->recursive = recursive;
  const bool yaml = ends_with(paths[0], ".yaml");
  if (with_grades && !yaml)
    throw std::runtime_error(
        "extrapolation grades need the B-basis: give the .yaml file that the fit wrote, with its "
        ".asi file; a .yace file does not contain it and cannot be converted back");
  check_not_empty(paths[0]);
  if (with_grades) check_active_set_file(paths[1]);
  if (yaml) {
    fresh->b_basis = read_b_basis(paths[0]);
    fresh->basis = std::make_unique<ACECTildeBasisSet>(fresh->b_basis->to_ACECTildeBasisSet());
    if (!with_grades) fresh->b_basis.reset();
  } else {
    if (ends_with(paths[0], ".yace")) check_yace_file(paths[0]);
    fresh->basis = std::make_unique<ACECTildeBasisSet>(paths[0]);
  }
  fresh->evaluator = std::make_unique<ACERecursiveEvaluator>(*fresh->basis, recursive);
  if (!with_grades) return fresh;

  fresh->grader = std::make_unique<ACEBEvaluator>(*fresh->b_basis);
  try {
    fresh->grader->load_active_set(paths[1]);
  } catch (const std::out_of_range &) {
    throw std::runtime_error("the active set is for other elements than the potential");
  }
  fresh->grader->compute_projections = true;
  return fresh;
}

std::string PairPace::evaluate(const PacePotential &potential, const Requested &requested)
{
  const auto &model = static_cast<const PaceModel &>(potential);
  double **x = atom->x;
  double **f = atom->f;
  const int *type = atom->type;
  const int nlocal = atom->nlocal;
  const bool special = atom->molecular != Atom::ATOMIC;

  // If grades are requested, the B-basis evaluator computes both grades and forces.
  ACEEvaluator &evaluator = requested.grades ? static_cast<ACEEvaluator &>(*model.grader)
                                             : static_cast<ACEEvaluator &>(*model.evaluator);

  int i = 0, count = 0;
  const int *neighbours = nullptr;
  try {
    int most = 0;
    for (int ii = 0; ii < list->inum; ii++)
      most = std::max(most, list->numneigh[list->ilist[ii]]);
    evaluator.resize_neighbours_cache(most);

    for (int ii = 0; ii < list->inum; ii++) {
      i = list->ilist[ii];
      count = list->numneigh[i];
      neighbours = list->firstneigh[i];
      if (special) {
        masked.resize(count);
        for (int jj = 0; jj < count; jj++) masked[jj] = neighbours[jj] & NEIGHMASK;
        neighbours = masked.data();
      }

      if (requested.grades) model.grader->max_gamma_grade = 0.0;
      evaluator.compute_atom(i, x, type, count, neighbours);
      const double factor = scale[type[i]][type[i]];
      const double energy = factor * evaluator.e_atom;
      if (!std::isfinite(energy)) return describe(i, neighbours, count, "its energy is not finite");
      if (requested.grades) requested.grades[i] = model.grader->max_gamma_grade;
      if (requested.core_repulsion) requested.core_repulsion[i] = 1.0 - evaluator.ace_fcut;
      if (requested.core_share) requested.core_share[i] = inner_share(model, i, neighbours, count);

      // neighbours_forces(jj) is the force on atom i that its neighbour jj exerts.
      for (int jj = 0; jj < count; jj++) {
        const int j = neighbours[jj];
        const double fx = factor * evaluator.neighbours_forces(jj, 0);
        const double fy = factor * evaluator.neighbours_forces(jj, 1);
        const double fz = factor * evaluator.neighbours_forces(jj, 2);
        f[i][0] += fx;
        f[i][1] += fy;
        f[i][2] += fz;
        f[j][0] -= fx;
        f[j][1] -= fy;
        f[j][2] -= fz;
        if (vflag_either)
          ev_tally_xyz(i, j, nlocal, force->newton_pair, 0.0, 0.0, fx, fy, fz, x[i][0] - x[j][0],
                       x[i][1] - x[j][1], x[i][2] - x[j][2]);
      }
      // ev_tally_full takes a sum over both ends of every pair, so twice the atom's energy.
      if (eflag_either) ev_tally_full(i, 2.0 * energy, 0.0, 0.0, 0.0, 0.0, 0.0);
    }
  } catch (const std::exception &e) {
    return describe(i, neighbours, count, e.what());
  }
  return {};
}

// The largest share of the radial functions of a neighbour of atom i that the inner cutoff has switched off, as in
// ACERadialFunctions::radbase(). With ZBL repulsion the many-body energy is switched off instead.
double PairPace::inner_share(const PacePotential &potential, int i, const int *neighbours, int count) const
{
  const AbstractRadialBasis &radial = *static_cast<const PaceModel &>(potential).basis->radial_functions;
  if (radial.inner_cutoff_type == "zbl") return 0.0;
  const bool by_distance = radial.inner_cutoff_type == "distance";
  const double *a = atom->x[i];
  const int element = element_of_type[atom->type[i]];
  double share = 0.0;
  for (int jj = 0; jj < count; jj++) {
    const int other = element_of_type[atom->type[neighbours[jj]]];
    if (other < 0) continue;
    const double edge = radial.cut_in(element, other), width = radial.dcut_in(element, other);
    const double *b = atom->x[neighbours[jj]];
    const double dx = b[0] - a[0], dy = b[1] - a[1], dz = b[2] - a[2];
    const double squared = dx * dx + dy * dy + dz * dz;
    if (squared >= edge * edge) continue;
    double off = std::sqrt(squared) <= edge - width, slope = 0.0;
    if (by_distance) cutoff_func_poly(std::sqrt(squared), edge, width, off, slope);
    share = std::max(share, off);
  }
  return share;
}

// Most failures of the evaluator are caused by overlapping atoms, so the message names the closest pair.
std::string PairPace::describe(int i, const int *neighbours, int count,
                               const std::string &reason) const
{
  double closest = HUGE_VAL;
  int partner = -1;
  for (int jj = 0; jj < count; jj++) {
    const double *a = atom->x[i], *b = atom->x[neighbours[jj]];
    const double r = std::hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
    if (r < closest) {
      closest = r;
      partner = neighbours[jj];
    }
  }
  std::string text = fmt::format("PACE evaluator failed for atom {} at step {}: {}", atom->tag[i],
                                 update->ntimestep, reason);
  if (partner >= 0)
    text += fmt::format(" (its nearest neighbour, atom {}, is {:.6g} A away)", atom->tag[partner],
                        closest);
  return text;
}

double PairPace::memory_usage()
{
  return PairPaceBase::memory_usage() + static_cast<double>(masked.capacity() * sizeof(int));
}

}    // namespace lammps_otf
