// SPDX-License-Identifier: GPL-2.0-or-later
#include "pair_pace.h"

#include "active_set_file.h"
#include "potential_file.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"

#include "ace-evaluator/ace_c_basis.h"
#include "ace-evaluator/ace_recursive.h"
#include "ace/ace_b_basis.h"
#include "ace/ace_b_evaluator.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <stdexcept>

using namespace LAMMPS_NS;

namespace lammps_otf {

// The evaluators keep pointers to the basis sets, so the four live and die together.
struct PaceModel {
  std::unique_ptr<ACEBBasisSet> b_basis;    // only where extrapolation grades are wanted
  std::unique_ptr<ACECTildeBasisSet> basis;
  std::unique_ptr<ACERecursiveEvaluator> evaluator;
  std::unique_ptr<ACEBEvaluator> grader;

  int functions() const
  {
    int total = 0;
    for (int mu = 0; mu < basis->nelements; mu++)
      total += basis->total_basis_size_rank1[mu] + basis->total_basis_size[mu];
    return total;
  }
};

namespace {

bool ends_with(const std::string &text, const std::string &end)
{
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// The B-basis of a .yaml file. By pointer, because a copy of a basis set loses its element map.
std::unique_ptr<ACEBBasisSet> read_b_basis(const std::string &path)
{
  // Without the reader's own validation, which builds the basis and crashes on half a file.
  BBasisConfiguration config(path, false);
  check_b_basis(config);
  return std::make_unique<ACEBBasisSet>(config);
}

// Index of an element in a basis set, -1 if it is not there. (The map that the basis set has for
// this is lost when a basis set is copied.)
int index_of(const ACECTildeBasisSet &basis, const std::string &element)
{
  for (int mu = 0; mu < basis.nelements; mu++)
    if (basis.elements_name[mu] == element) return mu;
  return -1;
}

bool finite(const double *x)
{
  return std::isfinite(x[0]) && std::isfinite(x[1]) && std::isfinite(x[2]);
}

}    // namespace

PairPace::PairPace(LAMMPS *lmp) : Pair(lmp)
{
  single_enable = 0;
  restartinfo = 0;
  one_coeff = 1;
  manybody_flag = 1;
  centroidstressflag = CENTROID_NOTAVAIL;
}

PairPace::~PairPace()
{
  if (copymode) return;
  if (allocated) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
    memory->destroy(scale);
  }
}

void PairPace::allocate()
{
  const int n = atom->ntypes + 1;
  memory->create(setflag, n, n, "pair:setflag");
  memory->create(cutsq, n, n, "pair:cutsq");
  memory->create(scale, n, n, "pair:scale");
  map = new int[n];
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++) {
      setflag[i][j] = 0;
      cutsq[i][j] = 0.0;
      scale[i][j] = 1.0;
    }
  allocated = 1;
}

const char *PairPace::usage() const
{
  return "pair_coeff * * file.yace and one element (or NULL) for each of the";
}

const char *PairPaceExtrapolation::usage() const
{
  return "pair_coeff * * file.yaml file.asi and one element (or NULL) for each of the";
}

void PairPace::settings(int argc, char **argv)
{
  recursive = true;
  for (int k = 0; k < argc; k++) {
    if (strcmp(argv[k], "recursive") == 0)
      recursive = true;
    else if (strcmp(argv[k], "product") == 0)
      recursive = false;
    else if (strcmp(argv[k], "chunksize") == 0 && k + 1 < argc) {
      // Means something to accelerator variants only; accepted so that the same input file runs.
      if (utils::inumeric(FLERR, argv[++k], false, lmp) < 1)
        error->all(FLERR, "pair_style {}: chunksize must be at least 1", force->pair_style);
    } else
      error->all(FLERR,
                 "pair_style {}: unknown or incomplete keyword '{}'; known are recursive, product "
                 "and chunksize N",
                 force->pair_style, argv[k]);
  }
}

std::unique_ptr<PaceModel> PairPace::load(const std::vector<std::string> &paths) const
{
  auto fresh = std::make_unique<PaceModel>();
  check_not_empty(paths[0]);
  if (ends_with(paths[0], ".yaml"))
    fresh->basis =
        std::make_unique<ACECTildeBasisSet>(read_b_basis(paths[0])->to_ACECTildeBasisSet());
  else {
    if (ends_with(paths[0], ".yace")) check_yace_file(paths[0]);
    fresh->basis = std::make_unique<ACECTildeBasisSet>(paths[0]);
  }
  fresh->evaluator = std::make_unique<ACERecursiveEvaluator>(*fresh->basis, recursive);
  return fresh;
}

std::unique_ptr<PaceModel> PairPaceExtrapolation::load(const std::vector<std::string> &paths) const
{
  if (!ends_with(paths[0], ".yaml"))
    throw std::runtime_error(
        "extrapolation grades need the B-basis: give the .yaml file that the fit wrote, with its "
        ".asi file; a .yace file does not contain it and cannot be turned back");
  check_not_empty(paths[0]);
  check_active_set_file(paths[1]);
  auto fresh = std::make_unique<PaceModel>();
  fresh->b_basis = read_b_basis(paths[0]);
  fresh->basis = std::make_unique<ACECTildeBasisSet>(fresh->b_basis->to_ACECTildeBasisSet());
  fresh->evaluator = std::make_unique<ACERecursiveEvaluator>(*fresh->basis, recursive);
  fresh->grader = std::make_unique<ACEBEvaluator>(*fresh->b_basis);
  try {
    fresh->grader->load_active_set(paths[1]);
  } catch (const std::out_of_range &) {
    throw std::runtime_error("the active set is for other elements than the potential");
  }
  fresh->grader->compute_projections = true;
  return fresh;
}

// The potential is read completely before anything is changed: a pair_coeff that fails leaves the
// style with the potential that it had.
void PairPace::coeff(int argc, char **argv)
{
  const int files = file_count();
  if (argc != 2 + files + atom->ntypes || strcmp(argv[0], "*") != 0 || strcmp(argv[1], "*") != 0)
    error->all(FLERR, "pair_coeff: expected {} {} atom types", usage(), atom->ntypes);

  std::string trouble, names;
  std::vector<std::string> paths;
  for (int k = 0; k < files; k++) {
    const std::string name = argv[2 + k];
    names += (k ? ", " : "") + name;
    paths.push_back(utils::get_potential_file_path(name));
    if (paths.back().empty() && trouble.empty())
      trouble = fmt::format("cannot open potential file '{}'; looked in the current directory and "
                            "in the directories of LAMMPS_POTENTIALS", name);
  }

  std::unique_ptr<PaceModel> fresh;
  if (trouble.empty()) {
    try {
      fresh = load(paths);
    } catch (const std::exception &e) {
      trouble = fmt::format("cannot use potential {}: {}", names, e.what());
    }
  }
  char **elements_given = argv + 2 + files;
  for (int t = 0; t < atom->ntypes && trouble.empty(); t++) {
    if (strcmp(elements_given[t], "NULL") == 0 || index_of(*fresh->basis, elements_given[t]) >= 0)
      continue;
    std::string list;
    for (int mu = 0; mu < fresh->basis->nelements; mu++)
      list += (mu ? ", " : "") + fresh->basis->elements_name[mu];
    trouble = fmt::format("pair_coeff: element '{}' of atom type {} is not in potential {}, which "
                          "knows {}", elements_given[t], t + 1, names, list);
  }
  fail_together(trouble);    // a file may be missing on one node only

  if (!allocated) allocate();
  map_element2type(atom->ntypes, elements_given);

  Array1D<int> species;
  species.init(atom->ntypes + 1, "element_type_mapping");
  species.fill(-1);
  for (int t = 1; t <= atom->ntypes; t++)
    if (map[t] >= 0) species(t) = index_of(*fresh->basis, elements[map[t]]);
  fresh->evaluator->element_type_mapping = species;
  if (fresh->grader) fresh->grader->element_type_mapping = species;
  model = std::move(fresh);

  if (comm->me == 0)
    utils::logmesg(lmp, "PACE potential {}: {} functions, cutoff {:g} A, {} evaluator\n", names,
                   model->functions(), model->basis->cutoffmax, recursive ? "recursive" : "product");
}

void PairPace::init_style()
{
  if (strcmp(update->unit_style, "metal") != 0)
    error->all(FLERR, "pair_style {} works in 'units metal' only (eV and Angstrom), not in '{}'",
               force->pair_style, update->unit_style);
  if (atom->tag_enable == 0)
    error->all(FLERR, "pair_style {} needs atom IDs: remove 'atom_modify id no'",
               force->pair_style);
  if (force->newton_pair == 0)
    error->all(FLERR, "pair_style {} needs 'newton on' for pairs", force->pair_style);
  neighbor->add_request(this, NeighConst::REQ_FULL);
}

double PairPace::init_one(int i, int j)
{
  if (setflag[i][j] == 0)
    error->all(FLERR, "pair_coeff is missing for atom types {} and {}", i, j);
  scale[j][i] = scale[i][j];
  const auto &species = model->evaluator->element_type_mapping;
  const auto &cut = model->basis->radial_functions->cut;
  return std::max(cut(species(i), species(j)), cut(species(j), species(i)));
}

void PairPace::compute(int eflag, int vflag)
{
  ev_init(eflag, vflag);
  fail_together(evaluate(grade_buffer()));
  if (vflag_fdotr) virial_fdotr_compute();
}

// Add energies, forces and virials of the local atoms; returns what went wrong, or nothing.
std::string PairPace::evaluate(double *grades)
{
  double **x = atom->x;
  double **f = atom->f;
  const int *type = atom->type;
  const int nlocal = atom->nlocal;
  const int nall = nlocal + atom->nghost;
  const bool special = atom->molecular != Atom::ATOMIC;

  for (int i = 0; i < nall; i++)
    if (!finite(x[i]))
      return fmt::format("atom {} has coordinates that are not finite ({}, {}, {}) at step {}",
                         atom->tag[i], x[i][0], x[i][1], x[i][2], update->ntimestep);

  // With grades asked for, one evaluator gives both them and the forces.
  ACEEvaluator &evaluator = grades ? static_cast<ACEEvaluator &>(*model->grader)
                                   : static_cast<ACEEvaluator &>(*model->evaluator);
  if (grades) std::fill(grades, grades + nlocal, 0.0);
  if (corerep_flag) {
    grow(corerep);
    std::fill(corerep.begin(), corerep.end(), 0.0);
  }

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

      if (grades) model->grader->max_gamma_grade = 0.0;
      evaluator.compute_atom(i, x, type, count, neighbours);
      const double factor = scale[type[i]][type[i]];
      const double energy = factor * evaluator.e_atom;
      if (!std::isfinite(energy)) return describe(i, neighbours, count, "its energy is not finite");
      if (grades) grades[i] = model->grader->max_gamma_grade;
      if (corerep_flag) corerep[i] = 1.0 - evaluator.ace_fcut;

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

// Most failures of the evaluator come from atoms on top of each other: name the closest pair.
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

// Raise an error on all ranks if there is trouble on any. An error that one rank raises alone
// leaves the others waiting for it for ever, and can only be ended by aborting everything; the
// one-integer reduction that avoids it costs microseconds, a PACE step milliseconds.
void PairPace::fail_together(const std::string &trouble) const
{
  int first = trouble.empty() ? comm->nprocs : comm->me;
  if (comm->nprocs > 1) MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, world);
  if (first == comm->nprocs) return;

  int length = static_cast<int>(trouble.size());
  MPI_Bcast(&length, 1, MPI_INT, first, world);
  std::string text = trouble;
  text.resize(length);
  MPI_Bcast(&text[0], length, MPI_CHAR, first, world);
  error->all(FLERR, text);
}

// Never empty: fix pair takes a null pointer for an unknown field, also on a rank without atoms.
void PairPace::grow(std::vector<double> &field) const
{
  const std::size_t wanted = std::max(atom->nmax, 1);
  if (field.size() < wanted) field.resize(wanted, 0.0);
}

void *PairPace::extract(const char *name, int &dim)
{
  dim = 0;
  if (strcmp(name, "corerep_flag") == 0) return &corerep_flag;
  dim = 2;
  if (strcmp(name, "scale") == 0) return scale;
  return nullptr;
}

void *PairPace::extract_peratom(const char *name, int &columns)
{
  if (strcmp(name, "corerep") != 0) return nullptr;
  columns = 0;
  grow(corerep);
  return corerep.data();
}

double PairPace::memory_usage()
{
  return Pair::memory_usage() +
      static_cast<double>(masked.capacity() * sizeof(int) + corerep.capacity() * sizeof(double));
}

double *PairPaceExtrapolation::grade_buffer()
{
  grow(gamma);
  return gamma_flag ? gamma.data() : nullptr;
}

void *PairPaceExtrapolation::extract(const char *name, int &dim)
{
  if (strcmp(name, "gamma_flag") == 0) {
    dim = 0;
    return &gamma_flag;
  }
  return PairPace::extract(name, dim);
}

void *PairPaceExtrapolation::extract_peratom(const char *name, int &columns)
{
  if (strcmp(name, "gamma") == 0) {
    columns = 0;
    grow(gamma);
    return gamma.data();
  }
  return PairPace::extract_peratom(name, columns);
}

double PairPaceExtrapolation::memory_usage()
{
  return PairPace::memory_usage() + static_cast<double>(gamma.capacity() * sizeof(double));
}

}    // namespace lammps_otf
