// SPDX-License-Identifier: GPL-2.0-or-later
// What LAMMPS pair styles for PACE potentials (atomic cluster expansion) share, whichever evaluator they use.
#pragma once

#include "pair.h"

#include <memory>
#include <string>
#include <vector>

namespace lammps_otf {

// A potential as read from its files.
struct PacePotential {
  virtual ~PacePotential() = default;
  // Chemical symbols; their order defines the element indices.
  virtual std::vector<std::string> elements() const = 0;
  // Cutoff of an ordered pair of element indices, in Angstrom.
  virtual double cutoff(int i, int j) const = 0;
  // For the log: size and evaluator.
  virtual std::string summary() const = 0;
  // Element index of each atom type, from type 1; -1 for types that other styles handle.
  virtual void map_types(const std::vector<int> &) {}
};

// pair_style STYLE [recursive|product] [chunksize N]
// pair_coeff * * file.yace El1 El2 ...                without extrapolation grades
// pair_coeff * * file.yaml file.asi El1 El2 ...       with extrapolation grades
// fix ID all pair N STYLE gamma 1                     extrapolation grade of each atom
// fix ID all pair N STYLE corerep 1                   fraction of the many-body energy that core repulsion switches off
// fix ID all pair N STYLE core_share 1                the larger of that and the largest fraction of the radial functions of a
//                                                     neighbour that the inner cutoff of the potential switches off
// fix ID all adapt N pair STYLE scale * * v_name      factor of an atom's energy: that of its type with itself
class PairPaceBase : public LAMMPS_NS::Pair {
 public:
  // with_grades: the style computes extrapolation grades and requires an active set.
  PairPaceBase(LAMMPS_NS::LAMMPS *lmp, bool with_grades);
  ~PairPaceBase() override;

  void compute(int eflag, int vflag) override;
  void settings(int argc, char **argv) override;
  void coeff(int argc, char **argv) override;
  void init_style() override;
  double init_one(int i, int j) override;
  void *extract(const char *name, int &dim) override;
  void *extract_peratom(const char *name, int &columns) override;
  double memory_usage() override;

 protected:
  // Per-atom results that fix pair requests in this step; null if not requested, else zero for local atoms.
  struct Requested {
    double *grades = nullptr;
    double *core_repulsion = nullptr;
    double *core_share = nullptr;    // only the part of the inner cutoff; never without core_repulsion
  };

  // Reads the files: the potential and, with grades, the active set. Throws std::exception, whose text becomes the error.
  virtual std::unique_ptr<PacePotential> load(const std::vector<std::string> &paths) const = 0;
  // Adds energies, forces and virials of the local atoms. Returns a description of the error, empty if there was none.
  // Must not raise a LAMMPS error: other ranks would wait for this one.
  virtual std::string evaluate(const PacePotential &potential, const Requested &requested) = 0;

  const bool with_grades;
  bool recursive = true;                 // pair_style keyword `recursive` (default) or `product`
  std::vector<int> element_of_type;      // index 0 is unused
  double **scale = nullptr;              // [type][type]

 private:
  void allocate();
  void grow(std::vector<double> &field) const;
  double *request(int flag, std::vector<double> &field) const;
  std::string check_positions() const;
  void fail_on_all_ranks(const std::string &message) const;

  std::unique_ptr<PacePotential> potential;
  // Set by fix pair before a step whose values it reads.
  int gamma_flag = 0, corerep_flag = 0, core_share_flag = 0;
  std::vector<double> gamma, corerep, core_share;    // per atom
};

}    // namespace lammps_otf
