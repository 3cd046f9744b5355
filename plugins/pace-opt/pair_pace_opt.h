// SPDX-License-Identifier: GPL-2.0-or-later
// LAMMPS pair styles `pace/opt` and `pace/extrapolation/opt`, with the evaluator pace-opt.
#pragma once

#include "pace_opt.h"
#include "pair_pace_base.h"

namespace lammps_otf {

// The pair_style keywords `recursive` and `product` change nothing here.
// pace/opt also reads .yaml and .ace files.
class PairPaceOpt : public PairPaceBase {
 public:
  using PairPaceBase::PairPaceBase;
  double memory_usage() override;

 protected:
  std::unique_ptr<PacePotential> load(const std::vector<std::string> &paths) const override;
  std::string evaluate(const PacePotential &potential, const Requested &requested) override;

 private:
  std::string describe(const pace_opt_error &failure) const;

  std::vector<double> scales;      // per type
  std::vector<double> energies;    // per atom, if LAMMPS requests them
};

}    // namespace lammps_otf
