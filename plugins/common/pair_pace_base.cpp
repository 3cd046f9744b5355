// SPDX-License-Identifier: GPL-2.0-or-later
#include "pair_pace_base.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neighbor.h"
#include "update.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>

using namespace LAMMPS_NS;

namespace lammps_otf {

PairPaceBase::PairPaceBase(LAMMPS *lmp, bool with_grades) : Pair(lmp), with_grades(with_grades)
{
  single_enable = 0;
  restartinfo = 0;
  one_coeff = 1;
  manybody_flag = 1;
  centroidstressflag = CENTROID_NOTAVAIL;
}

PairPaceBase::~PairPaceBase()
{
  if (copymode) return;
  if (allocated) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
    memory->destroy(scale);
  }
}

void PairPaceBase::allocate()
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

void PairPaceBase::settings(int argc, char **argv)
{
  recursive = true;
  for (int k = 0; k < argc; k++) {
    if (strcmp(argv[k], "recursive") == 0)
      recursive = true;
    else if (strcmp(argv[k], "product") == 0)
      recursive = false;
    else if (strcmp(argv[k], "chunksize") == 0 && k + 1 < argc) {
      // Used by accelerator variants only; accepted so that the same input file runs.
      if (utils::inumeric(FLERR, argv[++k], false, lmp) < 1)
        error->all(FLERR, "pair_style {}: chunksize must be at least 1", force->pair_style);
    } else
      error->all(FLERR,
                 "pair_style {}: unknown or incomplete keyword '{}'; known are recursive, product and chunksize N",
                 force->pair_style, argv[k]);
  }
}

// The potential is read completely before anything is changed: a pair_coeff that fails leaves the style with the
// potential that it had.
void PairPaceBase::coeff(int argc, char **argv)
{
  const int files = with_grades ? 2 : 1;
  if (argc != 2 + files + atom->ntypes || strcmp(argv[0], "*") != 0 || strcmp(argv[1], "*") != 0)
    error->all(FLERR, "pair_coeff: expected pair_coeff * * {} and one element (or NULL) for each of the {} atom types",
               with_grades ? "file.yaml file.asi" : "file.yace", atom->ntypes);

  std::string message, names;
  std::vector<std::string> paths;
  for (int k = 0; k < files; k++) {
    const std::string name = argv[2 + k];
    names += (k ? ", " : "") + name;
    paths.push_back(utils::get_potential_file_path(name));
    if (paths.back().empty() && message.empty())
      message = fmt::format("cannot open potential file '{}'; looked in the current directory and in the directories "
                            "of LAMMPS_POTENTIALS", name);
  }

  std::unique_ptr<PacePotential> fresh;
  std::vector<std::string> known;
  if (message.empty()) {
    try {
      fresh = load(paths);
      known = fresh->elements();
    } catch (const std::exception &e) {
      message = fmt::format("cannot use potential {}: {}", names, e.what());
    }
  }

  std::vector<int> element_indices(atom->ntypes + 1, -1);
  char **symbols = argv + 2 + files;
  for (int t = 0; t < atom->ntypes && message.empty(); t++) {
    if (strcmp(symbols[t], "NULL") == 0) continue;
    const auto found = std::find(known.begin(), known.end(), symbols[t]);
    if (found != known.end()) {
      element_indices[t + 1] = static_cast<int>(found - known.begin());
      continue;
    }
    std::string list;
    for (const auto &symbol : known) list += (list.empty() ? "" : ", ") + symbol;
    message = fmt::format("pair_coeff: element '{}' of atom type {} is not in potential {}, which knows {}", symbols[t],
                          t + 1, names, list);
  }
  fail_on_all_ranks(message);    // a file may be missing on one node only

  if (!allocated) allocate();
  map_element2type(atom->ntypes, symbols);
  fresh->map_types(element_indices);
  element_of_type = std::move(element_indices);
  potential = std::move(fresh);
  if (comm->me == 0) utils::logmesg(lmp, "PACE potential {}: {}\n", names, potential->summary());
}

void PairPaceBase::init_style()
{
  if (strcmp(update->unit_style, "metal") != 0)
    error->all(FLERR, "pair_style {} works in 'units metal' only (eV and Angstrom), not in '{}'", force->pair_style,
               update->unit_style);
  if (atom->tag_enable == 0)
    error->all(FLERR, "pair_style {} needs atom IDs: remove 'atom_modify id no'", force->pair_style);
  if (force->newton_pair == 0)
    error->all(FLERR, "pair_style {} needs 'newton on' for pairs", force->pair_style);
  neighbor->add_request(this, NeighConst::REQ_FULL);
}

double PairPaceBase::init_one(int i, int j)
{
  if (setflag[i][j] == 0) error->all(FLERR, "pair_coeff is missing for atom types {} and {}", i, j);
  scale[j][i] = scale[i][j];
  const int a = element_of_type[i], b = element_of_type[j];
  return std::max(potential->cutoff(a, b), potential->cutoff(b, a));
}

void PairPaceBase::compute(int eflag, int vflag)
{
  ev_init(eflag, vflag);
  Requested requested;
  if (with_grades) requested.grades = request(gamma_flag, gamma);
  requested.core_repulsion = request(corerep_flag || core_share_flag, corerep);
  requested.core_share = request(core_share_flag, core_share);
  std::string message = check_positions();
  if (message.empty()) message = evaluate(*potential, requested);
  if (requested.core_share)
    for (int i = 0; i < atom->nlocal; i++) core_share[i] = std::max(core_share[i], corerep[i]);
  fail_on_all_ranks(message);
  if (vflag_fdotr) virial_fdotr_compute();
}

// Neighbour lists omit atoms at non-finite distances, so evaluators do not see them.
std::string PairPaceBase::check_positions() const
{
  const int nall = atom->nlocal + atom->nghost;
  for (int i = 0; i < nall; i++) {
    const double *x = atom->x[i];
    if (!(std::isfinite(x[0]) && std::isfinite(x[1]) && std::isfinite(x[2])))
      return fmt::format("atom {} has coordinates that are not finite ({}, {}, {}) at step {}", atom->tag[i], x[0], x[1],
                         x[2], update->ntimestep);
  }
  return {};
}

// Raises an error on all ranks if any rank has one. After an error on one rank alone the others would wait for that
// rank forever. The reduction of one integer takes microseconds, a PACE step milliseconds.
void PairPaceBase::fail_on_all_ranks(const std::string &message) const
{
  int first = message.empty() ? comm->nprocs : comm->me;
  if (comm->nprocs > 1) MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, world);
  if (first == comm->nprocs) return;

  int length = static_cast<int>(message.size());
  MPI_Bcast(&length, 1, MPI_INT, first, world);
  std::string text = message;
  text.resize(length);
  MPI_Bcast(&text[0], length, MPI_CHAR, first, world);
  error->all(FLERR, text);
}

// Never empty, also on a rank without atoms: fix pair reports a null pointer as an unknown field.
void PairPaceBase::grow(std::vector<double> &field) const
{
  const std::size_t needed = std::max({atom->nmax, atom->nlocal + atom->nghost, 1});
  if (field.size() < needed) field.resize(needed, 0.0);
}

double *PairPaceBase::request(int flag, std::vector<double> &field) const
{
  if (!flag) return nullptr;
  grow(field);
  // Values of ghost atoms are not read.
  std::fill_n(field.begin(), atom->nlocal, 0.0);
  return field.data();
}

void *PairPaceBase::extract(const char *name, int &dim)
{
  dim = 0;
  if (with_grades && strcmp(name, "gamma_flag") == 0) return &gamma_flag;
  if (strcmp(name, "corerep_flag") == 0) return &corerep_flag;
  if (strcmp(name, "core_share_flag") == 0) return &core_share_flag;
  dim = 2;
  if (strcmp(name, "scale") == 0) return scale;
  return nullptr;
}

void *PairPaceBase::extract_peratom(const char *name, int &columns)
{
  std::vector<double> *field = nullptr;
  if (with_grades && strcmp(name, "gamma") == 0) field = &gamma;
  if (strcmp(name, "corerep") == 0) field = &corerep;
  if (strcmp(name, "core_share") == 0) field = &core_share;
  if (!field) return nullptr;
  columns = 0;
  grow(*field);
  return field->data();
}

double PairPaceBase::memory_usage()
{
  return Pair::memory_usage() + static_cast<double>((gamma.capacity() + corerep.capacity() + core_share.capacity()) * sizeof(double));
}

}    // namespace lammps_otf
