// SPDX-License-Identifier: GPL-2.0-or-later
// LAMMPS pair styles `pace` and `pace/extrapolation`, with the PACE evaluator of python-ace.
#pragma once

#include "pair_pace_base.h"

namespace lammps_otf {

class PairPace : public PairPaceBase {
 public:
  using PairPaceBase::PairPaceBase;
  double memory_usage() override;

 protected:
  std::unique_ptr<PacePotential> load(const std::vector<std::string> &paths) const override;
  std::string evaluate(const PacePotential &potential, const Requested &requested) override;

 private:
  double inner_share(const PacePotential &potential, int i, const int *neighbours, int count) const;
  std::string describe(int i, const int *neighbours, int count, const std::string &reason) const;

  std::vector<int> masked;    // neighbour indices without LAMMPS's special-bond bits
};

}    // namespace lammps_otf
