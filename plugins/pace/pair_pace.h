// SPDX-License-Identifier: GPL-2.0-or-later
// LAMMPS pair styles over the PACE evaluator (atomic cluster expansion).
#pragma once

#include "pair.h"

#include <memory>
#include <string>
#include <vector>

namespace lammps_otf {

// One loaded potential: basis sets and the evaluators that point into them.
struct PaceModel;

// pair_style pace [recursive|product] [chunksize N]
// pair_coeff * * file.yace El1 El2 ...
class PairPace : public LAMMPS_NS::Pair {
 public:
  explicit PairPace(LAMMPS_NS::LAMMPS *lmp);
  ~PairPace() override;

  void compute(int eflag, int vflag) override;
  void settings(int argc, char **argv) override;
  void coeff(int argc, char **argv) override;
  void init_style() override;
  double init_one(int i, int j) override;
  void *extract(const char *name, int &dim) override;
  void *extract_peratom(const char *name, int &columns) override;
  double memory_usage() override;

 protected:
  // How many file names stand before the elements in pair_coeff.
  virtual int file_count() const { return 1; }
  virtual const char *usage() const;
  // Read the files; throws std::exception, whose text becomes the LAMMPS error.
  virtual std::unique_ptr<PaceModel> load(const std::vector<std::string> &paths) const;
  // Where to put the extrapolation grades of the local atoms in this step; null: not asked for.
  virtual double *grade_buffer() { return nullptr; }
  void grow(std::vector<double> &field) const;

  bool recursive = true;
  std::unique_ptr<PaceModel> model;

 private:
  std::string evaluate(double *grades);
  std::string describe(int i, const int *neighbours, int count, const std::string &reason) const;
  void fail_together(const std::string &trouble) const;
  void allocate();

  double **scale = nullptr;
  int corerep_flag = 0;         // set by fix pair before a step in which it wants them
  std::vector<double> corerep;  // per local atom, how far core repulsion has switched the rest off
  std::vector<int> masked;    // neighbour indices without LAMMPS's special-bond bits
};

// pair_style pace/extrapolation [recursive|product] [chunksize N]
// pair_coeff * * file.yaml file.asi El1 El2 ...
// fix ID all pair N pace/extrapolation gamma 1
class PairPaceExtrapolation : public PairPace {
 public:
  explicit PairPaceExtrapolation(LAMMPS_NS::LAMMPS *lmp) : PairPace(lmp) {}

  void *extract(const char *name, int &dim) override;
  void *extract_peratom(const char *name, int &columns) override;
  double memory_usage() override;

 protected:
  int file_count() const override { return 2; }
  const char *usage() const override;
  std::unique_ptr<PaceModel> load(const std::vector<std::string> &paths) const override;
  double *grade_buffer() override;

 private:
  int gamma_flag = 0;         // set by fix pair before a step in which it wants the grades
  std::vector<double> gamma;  // per local atom
};

}    // namespace lammps_otf
