// SPDX-License-Identifier: GPL-2.0-or-later
// LAMMPS pair styles over pace-opt.
#pragma once

#include "pair.h"
#include "pace_opt.h"

#include <memory>
#include <string>
#include <vector>

namespace pace_opt_plugin {

struct Close {
  void operator()(pace_opt *handle) const { pace_opt_close(handle); }
};
using Potential = std::unique_ptr<pace_opt, Close>;

// pair_style pace/opt
// pair_coeff * * file.yace|file.yaml|file.ace El1 El2 ...
// fix ID all adapt N pair pace/opt scale * * v_name: the factor of an atom's energy is that of its type with itself
// fix ID all pair N pace/opt corerep 1: 0 where core repulsion has no say, 1 where nothing else has
class PairPaceOpt : public LAMMPS_NS::Pair {
 public:
  explicit PairPaceOpt(LAMMPS_NS::LAMMPS *lmp);
  ~PairPaceOpt() override;

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
  // Where the extrapolation grades of this step go; null: not asked for.
  virtual double *grade_buffer() { return nullptr; }
  void grow(std::vector<double> &field) const;

 private:
  void fail_together(const std::string &trouble) const;
  std::string describe(const pace_opt_error &trouble) const;
  void allocate();

  Potential potential;
  double **scale = nullptr;
  std::vector<int> element_of_type;
  std::vector<double> scales, energies;

  int corerep_flag = 0;    // set by fix pair before a step in which it wants them
  std::vector<double> corerep;
};

// pair_style pace/extrapolation/opt
// pair_coeff * * file.yaml file.asi El1 El2 ...
// fix ID all pair N pace/extrapolation gamma 1
class PairPaceExtrapolationOpt : public PairPaceOpt {
 public:
  explicit PairPaceExtrapolationOpt(LAMMPS_NS::LAMMPS *lmp) : PairPaceOpt(lmp) {}

  void *extract(const char *name, int &dim) override;
  void *extract_peratom(const char *name, int &columns) override;
  double memory_usage() override;

 protected:
  int file_count() const override { return 2; }
  const char *usage() const override;
  double *grade_buffer() override;

 private:
  int gamma_flag = 0;    // set by fix pair before a step in which it wants the grades
  std::vector<double> gamma;
};

}    // namespace pace_opt_plugin
