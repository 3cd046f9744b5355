// SPDX-License-Identifier: GPL-2.0-or-later
// A LAMMPS plugin for tests/guard.rs: `fix ID GROUP otf/throw PLACE KIND STEP` throws something of that kind at that place,
// from that step on, and with OTF_THROW_AT_LOAD set the plugin throws while it is loaded.
#include "atom.h"
#include "error.h"
#include "fix.h"
#include "plugin_abi.h"
#include "update.h"

#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>

namespace {

class FixThrow : public LAMMPS_NS::Fix {
 public:
  FixThrow(LAMMPS_NS::LAMMPS *lmp, int narg, char **arg) :
      Fix(lmp, narg, arg), place(arg[3]), kind(arg[4]), first(std::stoi(arg[5]))
  {
    nevery = 1;
    scalar_flag = 1;
    extscalar = 0;
    at("constructor");
    atom->add_callback(LAMMPS_NS::Atom::GROW);
  }
  ~FixThrow() override { atom->delete_callback(id, LAMMPS_NS::Atom::GROW); }
  int setmask() override { return LAMMPS_NS::FixConst::END_OF_STEP; }
  void init() override { at("init"); }
  void end_of_step() override { at("end_of_step"); }
  void grow_arrays(int) override { at("grow"); }
  double compute_scalar() override
  {
    at("scalar");
    return 4.5;
  }

 private:
  std::string place, kind;
  int first;

  void at(const char *here)
  {
    if (place != here || update->ntimestep < first) return;
    if (kind == "lammps") error->all(FLERR, "LAMMPS itself refuses at {}", here);
    if (kind == "standard") throw std::runtime_error(std::string("thrown at ") + here);
    if (kind == "memory") throw std::bad_alloc();
    if (kind == "number") throw 42;
  }
};

void *make(void *lmp, int narg, char **arg)
{
  return new FixThrow(static_cast<LAMMPS_NS::LAMMPS *>(lmp), narg, arg);
}

}    // namespace

extern "C" void lammpsplugin_init(void *lmp, void *handle, void *regfunc)
{
  if (std::getenv("OTF_THROW_AT_LOAD")) throw std::runtime_error("thrown while the plugin is loaded");
  lammps_plugin_info info{};
  info.version = "unknown";
  info.kind = "fix";
  info.name = "otf/throw";
  info.info = "throws";
  info.author = "lammps-otf";
  info.creator.v2 = &make;
  info.handle = handle;
  reinterpret_cast<lammps_plugin_register>(regfunc)(&info, lmp);
}
