// SPDX-License-Identifier: GPL-2.0-or-later
#include "pair_pace_opt.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"

#include <algorithm>
#include <cmath>
#include <cstring>

using namespace LAMMPS_NS;

namespace pace_opt_plugin {

PairPaceOpt::PairPaceOpt(LAMMPS *lmp) : Pair(lmp)
{
  single_enable = 0;
  restartinfo = 0;
  one_coeff = 1;
  manybody_flag = 1;
  centroidstressflag = CENTROID_NOTAVAIL;
}

PairPaceOpt::~PairPaceOpt()
{
  if (copymode) return;
  if (allocated) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
    memory->destroy(scale);
  }
}

void PairPaceOpt::allocate()
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

const char *PairPaceOpt::usage() const
{
  return "pair_coeff * * file.yace and one element (or NULL) for each of the";
}

const char *PairPaceExtrapolationOpt::usage() const
{
  return "pair_coeff * * file.yaml file.asi and one element (or NULL) for each of the";
}

// The keywords of the plain style are accepted, so that the same input runs; none changes anything here.
void PairPaceOpt::settings(int argc, char **argv)
{
  for (int k = 0; k < argc; k++) {
    if (strcmp(argv[k], "recursive") == 0 || strcmp(argv[k], "product") == 0) continue;
    if (strcmp(argv[k], "chunksize") == 0 && k + 1 < argc) {
      if (utils::inumeric(FLERR, argv[++k], false, lmp) < 1)
        error->all(FLERR, "pair_style {}: chunksize must be at least 1", force->pair_style);
      continue;
    }
    error->all(FLERR,
               "pair_style {}: unknown or incomplete keyword '{}'; known are recursive, product and "
               "chunksize N",
               force->pair_style, argv[k]);
  }
}

// The potential is read completely before anything is changed: a pair_coeff that fails leaves the style with
// the potential that it had.
void PairPaceOpt::coeff(int argc, char **argv)
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
      trouble = fmt::format("cannot open potential file '{}'; looked in the current directory and in the "
                            "directories of LAMMPS_POTENTIALS", name);
  }
  Potential fresh;
  if (trouble.empty()) {
    pace_opt_error why{};
    fresh.reset(pace_opt_open(paths[0].c_str(), files > 1 ? paths[1].c_str() : nullptr, &why));
    if (!fresh) trouble = fmt::format("cannot use potential {}: {}", names, why.text);
  }
  std::vector<int> elements(atom->ntypes + 1, -1);
  char **given = argv + 2 + files;
  for (int t = 0; t < atom->ntypes && trouble.empty(); t++) {
    if (strcmp(given[t], "NULL") == 0) continue;
    std::string known;
    for (int e = 0; e < pace_opt_elements(fresh.get()); e++) {
      const char *symbol = pace_opt_element(fresh.get(), e);
      if (strcmp(given[t], symbol) == 0) elements[t + 1] = e;
      known += (e ? ", " : "") + std::string(symbol);
    }
    if (elements[t + 1] < 0)
      trouble = fmt::format("pair_coeff: element '{}' of atom type {} is not in potential {}, which knows {}",
                            given[t], t + 1, names, known);
  }
  fail_together(trouble);    // a file may be missing on one node only

  if (!allocated) allocate();
  map_element2type(atom->ntypes, given);
  element_of_type = std::move(elements);
  potential = std::move(fresh);
  if (comm->me == 0)
    utils::logmesg(lmp, "PACE potential {}: pace-opt with {} instructions\n", names,
                   pace_opt_isa(potential.get()));
}

void PairPaceOpt::init_style()
{
  if (strcmp(update->unit_style, "metal") != 0)
    error->all(FLERR, "pair_style {} works in 'units metal' only (eV and Angstrom), not in '{}'",
               force->pair_style, update->unit_style);
  if (atom->tag_enable == 0)
    error->all(FLERR, "pair_style {} needs atom IDs: remove 'atom_modify id no'", force->pair_style);
  if (force->newton_pair == 0)
    error->all(FLERR, "pair_style {} needs 'newton on' for pairs", force->pair_style);
  neighbor->add_request(this, NeighConst::REQ_FULL);
}

double PairPaceOpt::init_one(int i, int j)
{
  if (setflag[i][j] == 0) error->all(FLERR, "pair_coeff is missing for atom types {} and {}", i, j);
  const int a = element_of_type[i], b = element_of_type[j];
  return std::max(pace_opt_cutoff(potential.get(), a, b), pace_opt_cutoff(potential.get(), b, a));
}

void PairPaceOpt::compute(int eflag, int vflag)
{
  ev_init(eflag, vflag);
  const int nlocal = atom->nlocal;
  const int nall = nlocal + atom->nghost;
  double *grades = grade_buffer();
  if (grades) std::fill(grades, grades + nlocal, 0.0);
  if (corerep_flag) {
    grow(corerep);
    std::fill(corerep.begin(), corerep.end(), 0.0);
  }
  // Only now: fix adapt may have changed them since the last step.
  scales.resize(element_of_type.size());
  for (std::size_t t = 1; t < scales.size(); t++) scales[t] = scale[t][t];
  if (eflag_atom) energies.assign(std::max(nall, 1), 0.0);

  std::string trouble;
  pace_opt_results results{};
  // Neighbour lists leave out atoms at no finite distance: look for them first.
  for (int i = 0; i < nall && trouble.empty(); i++) {
    const double *x = atom->x[i];
    if (!(std::isfinite(x[0]) && std::isfinite(x[1]) && std::isfinite(x[2])))
      trouble = fmt::format("atom {} has coordinates that are not finite ({}, {}, {}) at step {}", atom->tag[i],
                            x[0], x[1], x[2], update->ntimestep);
  }
  if (trouble.empty() && nall > 0) {
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
    results.f = atom->f[0];
    results.energies = eflag_atom ? energies.data() : nullptr;
    results.virials = vflag_atom ? vatom[0] : nullptr;
    results.core_shares = corerep_flag ? corerep.data() : nullptr;
    results.grades = grades;
    pace_opt_error why{};
    if (pace_opt_compute(potential.get(), &input, &results, &why))
      trouble = describe(why);
    else if (!std::isfinite(results.energy))
      trouble = fmt::format("the PACE energy is not finite at step {}", update->ntimestep);
  }
  fail_together(trouble);

  if (eflag_global) eng_vdwl += results.energy;
  if (eflag_atom)
    for (int i = 0; i < nlocal; i++) eatom[i] += energies[i];
  if (vflag_fdotr)
    virial_fdotr_compute();
  else if (vflag_global)
    for (int k = 0; k < 6; k++) virial[k] += results.virial[k];
}

std::string PairPaceOpt::describe(const pace_opt_error &trouble) const
{
  std::string text = fmt::format("PACE evaluation failed at step {}: {}", update->ntimestep, trouble.text);
  const int nall = atom->nlocal + atom->nghost;
  const int i = trouble.atoms[0], j = trouble.atoms[1];
  if (i >= 0 && i < nall && j >= 0 && j < nall)
    text += fmt::format(" (indices of this process; their atom IDs are {} and {})", atom->tag[i], atom->tag[j]);
  return text;
}

// Raise an error on all ranks if there is trouble on any: one that a rank raises alone leaves the others
// waiting for it for ever.
void PairPaceOpt::fail_together(const std::string &trouble) const
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

// As long as all atoms with their images, and never empty: fix pair takes null for an unknown field.
void PairPaceOpt::grow(std::vector<double> &field) const
{
  const std::size_t wanted = std::max(std::max(atom->nmax, atom->nlocal + atom->nghost), 1);
  if (field.size() < wanted) field.resize(wanted, 0.0);
}

void *PairPaceOpt::extract(const char *name, int &dim)
{
  dim = 0;
  if (strcmp(name, "corerep_flag") == 0) return &corerep_flag;
  dim = 2;
  if (strcmp(name, "scale") == 0) return scale;
  return nullptr;
}

void *PairPaceOpt::extract_peratom(const char *name, int &columns)
{
  if (strcmp(name, "corerep") != 0) return nullptr;
  columns = 0;
  grow(corerep);
  return corerep.data();
}

double PairPaceOpt::memory_usage()
{
  return Pair::memory_usage() + static_cast<double>((energies.capacity() + corerep.capacity()) * sizeof(double));
}

double *PairPaceExtrapolationOpt::grade_buffer()
{
  grow(gamma);
  return gamma_flag ? gamma.data() : nullptr;
}

void *PairPaceExtrapolationOpt::extract(const char *name, int &dim)
{
  if (strcmp(name, "gamma_flag") == 0) {
    dim = 0;
    return &gamma_flag;
  }
  return PairPaceOpt::extract(name, dim);
}

void *PairPaceExtrapolationOpt::extract_peratom(const char *name, int &columns)
{
  if (strcmp(name, "gamma") == 0) {
    columns = 0;
    grow(gamma);
    return gamma.data();
  }
  return PairPaceOpt::extract_peratom(name, columns);
}

double PairPaceExtrapolationOpt::memory_usage()
{
  return PairPaceOpt::memory_usage() + static_cast<double>(gamma.capacity() * sizeof(double));
}

}    // namespace pace_opt_plugin
