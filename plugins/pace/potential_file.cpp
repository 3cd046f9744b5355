// SPDX-License-Identifier: GPL-2.0-or-later
#include "potential_file.h"

#include "ace/ace_b_basis.h"
#include "yaml-cpp/yaml.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace lammps_otf {
namespace {

void require(bool condition, const std::string &reason)
{
  if (!condition) throw std::runtime_error(reason + "; is the file incomplete?");
}

}    // namespace

void check_not_empty(const std::string &path)
{
  std::ifstream stream(path);
  require(stream && stream.peek() != std::ifstream::traits_type::eof(), "the file is empty");
}

void check_b_basis(const BBasisConfiguration &config)
{
  std::map<std::string, std::size_t> functions;
  std::set<std::string> radial, elements;
  for (const auto &block : config.funcspecs_blocks) {
    functions[block.mu0] += block.funcspecs.size();
    elements.insert(block.elements_vec.begin(), block.elements_vec.end());
    if (block.number_of_species == 1 && block.is_radial_basis_defined) radial.insert(block.mu0);
  }
  require(!elements.empty(), "it defines no elements");
  for (const auto &element : elements) {
    require(functions[element] > 0, "it has no basis functions for element " + element);
    require(radial.count(element) > 0, "it has no radial functions for element " + element);
  }
}

void check_yace_file(const std::string &path)
{
  const YAML_PACE::Node file = YAML_PACE::LoadFile(path);
  for (const char *key : {"elements", "E0", "embeddings", "bonds", "functions"})
    require(file.IsMap() && file[key].IsDefined() && !file[key].IsNull(),
            std::string("it has no section '") + key + "'");

  const int n = static_cast<int>(file["elements"].size());
  require(n > 0 && file["E0"].size() == file["elements"].size(),
          "sections 'elements' and 'E0' differ in length");
  const auto embeddings = file["embeddings"].as<std::map<int, YAML_PACE::Node>>();
  const auto functions =
      file["functions"].as<std::map<int, std::vector<YAML_PACE::Node>>>();
  const auto bonds = file["bonds"].as<std::map<std::vector<int>, YAML_PACE::Node>>();

  // Largest n of rank 1, of higher rank, and largest l that the radial tables hold.
  int radial_base = 0, radial = 0, l_max = 0;
  bool tabulated = false;    // a radial basis of another program, with its own sizes
  for (const auto &bond : bonds) {
    require(bond.first.size() == 2, "a bond is not between two elements");
    const auto name = bond.second["radbasename"].as<std::string>();
    if (name.rfind("ACE.jl", 0) == 0) {
      tabulated = true;
      continue;
    }
    radial_base = std::max(radial_base, bond.second["nradbasemax"].as<int>());
    radial = std::max(radial, bond.second["nradmax"].as<int>());
    l_max = std::max(l_max, bond.second["lmax"].as<int>());
    require(bond.second["radparameters"].size() > 0, "a bond has no radial parameters");
  }

  for (int mu = 0; mu < n; mu++) {
    const auto element = file["elements"][mu].as<std::string>();
    require(embeddings.count(mu) > 0, "it has no embedding for element " + element);
    for (int nu = 0; nu < n; nu++)
      require(bonds.count({mu, nu}) > 0, "it has no bond for elements " + element + " and " +
              file["elements"][nu].as<std::string>());
    const auto mine = functions.find(mu);
    require(mine != functions.end() && !mine->second.empty(),
            "it has no basis functions for element " + element);
    const int densities = embeddings.at(mu)["ndensity"].as<int>();

    for (const auto &function : mine->second) {
      const std::string where = "a basis function of element " + element;
      const auto species = function["mus"].as<std::vector<int>>();
      const auto ns = function["ns"].as<std::vector<int>>();
      const auto ls = function["ls"].as<std::vector<int>>();
      const auto ms = function["ms_combs"].as<std::vector<int>>();
      const std::size_t rank = species.size();
      require(rank > 0 && ns.size() == rank && ls.size() == rank && ms.size() % rank == 0,
              where + " has lists of different lengths");
      require(function["ndensity"].as<int>() == densities,
              where + " does not have as many densities as the embedding");
      for (std::size_t k = 0; k < rank; k++) {
        require(species[k] >= 0 && species[k] < n, where + " refers to an unknown element");
        if (tabulated) continue;
        require(ns[k] >= 1 && ns[k] <= (rank == 1 ? radial_base : radial) && ls[k] >= 0 &&
                    ls[k] <= l_max,
                where + " refers to a radial function that is not there");
        for (std::size_t c = k; c < ms.size(); c += rank)
          require(std::abs(ms[c]) <= ls[k], where + " has an m larger than its l");
      }
    }
  }
}

}    // namespace lammps_otf
