// SPDX-License-Identifier: GPL-2.0-or-later
// LAMMPS pair styles `pace/opt` and `pace/extrapolation/opt`, with the evaluator pace-opt.
#pragma once

#include "pace_opt.h"
#include "pair_pace_base.h"

namespace lammps_otf {

// The pair_style keywords `recursive` and `product` change nothing here.
// pace/opt also reads .yaml and .ace files.
//
// pair_style pace/opt [threads N]
// pair_style pace/extrapolation/opt [threads N] [bias ...]
//
// N threads in each MPI process evaluate its atoms; by default as many as styles of the OPENMP package use: `package omp N`, or
// OMP_NUM_THREADS, or 1. Results do not depend on the number.
//
// pace/extrapolation/opt can bias the dynamics towards large extrapolation grades: docs/exploration.md.
//
// pair_style pace/extrapolation/opt bias STRENGTH ONSET LIMIT SHORTEST
// fix ID all adapt N pair STYLE bias_strength * * v_name   strength in eV; also bias_limit and bias_shortest
// compute ID all pair STYLE                                [1] energy of the bias, which is not part of the potential energy;
//                                                          [2], [3] sums over the atoms of the norms of the forces of the potential,
//                                                          and of those of the bias per unit of its strength without an onset, where requested
class PairPaceOpt : public PairPaceBase {
 public:
  PairPaceOpt(LAMMPS_NS::LAMMPS *lmp, bool with_grades);
  ~PairPaceOpt() override;
  void settings(int argc, char **argv) override;
  void init_style() override;
  void compute(int eflag, int vflag) override;
  void *extract(const char *name, int &dim) override;
  int pack_reverse_comm(int n, int first, double *buf) override;
  void unpack_reverse_comm(int n, int *list, double *buf) override;
  double memory_usage() override;

 protected:
  std::unique_ptr<PacePotential> load(const std::vector<std::string> &paths) const override;
  std::string evaluate(const PacePotential &potential, const Requested &requested) override;

 private:
  std::string describe(const pace_opt_error &failure) const;

  int number_of_threads() const;
  bool measures() const;
  int set_bias(pace_opt *handle, double strength, double onset, pace_opt_error *failure) const;
  void measure_forces();

  int threads = 0;                 // keyword of pair_style; 0 if not given
  std::vector<double> scales;      // per type
  std::vector<double> energies;    // per atom, if LAMMPS requests them

  // Strength in eV, grades at which the bias begins and ends, and shortest distance as a share of the sum of the covalent radii.
  double bias_strength = 0.0, bias_onset = 0.0, bias_limit = 10.0, bias_shortest = 0.65;
  // Steps between two measurements of the forces of the bias; 0 for none.
  int bias_every = 0;
  // Of this rank, in the last step: energy of the bias; sums of the norms of the forces of the potential and of the bias per unit of its
  // strength without an onset, and the smallest distance as a share of the sum of the covalent radii, in the last measurement.
  double bias_results[4] = {0.0, 0.0, 0.0, 0.0};
  // Both forces of each atom in a measurement.
  std::vector<double> potential_forces, bias_forces;
};

}    // namespace lammps_otf
