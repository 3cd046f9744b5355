#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Compare pace-opt with python-ace's calculator, with ML-PACE in LAMMPS, and with its own energy.

    PACE_OPT_LIB=target/release/libpace_opt.so .deps/bin/python3 crates/pace-opt/tests/reference/compare.py [FILE.yaml ...]

Without files, it uses the random potentials of bases.py and the Cu-PBE potential of the LAMMPS package. Each potential is
tested on a thermal crystal, a liquid, a surface, a compressed crystal, an isolated atom and dimers, with every instruction
set of the processor. LAMMPS is included if PACE_OPT_PLUGINS is the folder with paceplugin.so and paceoptplugin.so.
PACE_OPT_QUICK=1 selects six of the random potentials. The exit code is 1 if anything disagrees.
"""
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["LAMMPS_PLUGIN_PATH"] = ""
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent / "bench"))

import ctypes

import numpy as np
from ase import Atoms
from ase.build import bulk

import bases
import paceopt
from pyace import PyACECalculator

ENERGY, FORCE, VIRIAL, GAMMA = 1e-10, 1e-9, 1e-8, 1e-8
SPACING = {"Cu": 3.63, "Al": 4.05, "Si": 4.3, "W": 3.9, "Fe": 3.6, "Ni": 3.52}
worst, failures = {}, []


def frames(elements, rng):
    """Yield the name and atoms of each kind of configuration."""
    spacing = np.mean([SPACING.get(e, 4.0) for e in elements])

    def paint(atoms):
        atoms.set_chemical_symbols(list(rng.choice(elements, len(atoms))))
        return atoms

    def crystal(scale=1.0, rattle=0.1, repeat=3):
        atoms = bulk("Cu", "fcc", a=spacing * scale, cubic=True).repeat(repeat)
        atoms.set_cell(atoms.cell.array @ np.array([[1, 0, 0], [0.05, 1.02, 0], [-0.03, 0.04, 0.98]]), scale_atoms=True)
        atoms.positions += rng.normal(0, rattle, atoms.positions.shape)
        return paint(atoms)

    yield "thermal", crystal()
    # A liquid: large random displacements, after which close pairs are pushed apart.
    liquid = crystal(1.05, 0.6)
    for _ in range(200):
        i, j, d = paceopt.neighbor_list("ijD", liquid, 2.0)
        if not len(i):
            break
        np.add.at(liquid.positions, i, -0.2 * d / np.linalg.norm(d, axis=1)[:, None])
    yield "liquid", liquid
    surface = crystal(1.0, 0.1)
    surface.set_cell(np.diag([1, 1, 2.0]) @ surface.cell.array)
    yield "surface", surface
    yield "compressed", crystal(0.72, 0.12, 4)
    yield "core", crystal(0.5, 0.1, 5)
    yield "isolated", paint(Atoms("Cu", positions=[[1, 2, 3]], cell=[25] * 3, pbc=True))
    for r in (0.7, 1.4, 1.9, 2.2, 2.6, 4.0):
        yield f"dimer {r}", paint(Atoms("Cu2", positions=[[1, 2, 3], [1 + r * 0.6, 2 + r * 0.64, 3 - r * 0.48]], cell=[25] * 3, pbc=True))


def note(what, label, value, tolerance):
    if value >= worst.get(what, (0, ""))[0]:
        worst[what] = (value, label)
    if not value <= tolerance:
        failures.append((what, label, value))
        print(f"FAIL {what} {label}: {value:.2e}", flush=True)


def check(kind, label, got, want):
    """Differences of one result from a reference, each with its tolerance."""
    n = len(want["forces"])
    scale = max(abs(want["energy"]), n)
    note(f"{kind} energy", label, abs(got["energy"] - want["energy"]) / scale, ENERGY)
    # Absolute to 1 eV/Å, relative above: in the core region forces reach thousands of eV/Å.
    largest = max(1.0, np.abs(want["forces"]).max())
    note(f"{kind} force", label, np.abs(got["forces"] - want["forces"]).max() / largest, FORCE)
    largest = max(1.0, np.abs(want["virial"]).max())
    note(f"{kind} virial", label, np.abs(got["virial"] - want["virial"]).max() / largest, VIRIAL)
    if "gamma" in want:
        largest = max(1e-3, np.abs(want["gamma"]).max())
        note(f"{kind} gamma", label, np.abs(got["gamma"] - want["gamma"]).max() / largest, GAMMA)


def from_pyace(calc, atoms, graded):
    atoms = atoms.copy()
    atoms.calc = calc
    out = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces().copy()}
    stress = calc.results.get("stress")
    out["virial"] = -np.asarray(stress)[[0, 1, 2, 5, 4, 3]] * atoms.get_volume()
    if graded:
        out["gamma"] = np.array(calc.results["gamma"]).copy()
    return out


class Lammps:
    """Evaluates frames with a pair style of LAMMPS."""

    def __init__(self, plugins, style, files, elements):
        from lammps import lammps

        self.style, self.files, self.elements = style, files, elements
        self.lmp = lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
        for name in ("paceplugin.so", "paceoptplugin.so"):
            self.lmp.command(f"plugin load {plugins}/{name}")

    def compute(self, atoms):
        from ase.calculators.lammps import Prism

        lmp, prism, n = self.lmp, Prism(atoms.cell.array), len(atoms)
        graded = "extrapolation" in self.style
        xhi, yhi, zhi, xy, xz, yz = prism.get_lammps_prism()
        lmp.command("clear")
        lmp.commands_string(f"""
            units metal
            atom_modify map array sort 0 0
            box tilt large
            region box prism 0 {xhi:.17g} 0 {yhi:.17g} 0 {zhi:.17g} {xy:.17g} {xz:.17g} {yz:.17g}
            create_box {len(self.elements)} box
            mass * 50.0
            neigh_modify one 20000 page 400000
            pair_style {self.style}
            pair_coeff * * {' '.join(self.files)} {' '.join(self.elements)}
            {'fix gamma all pair 1 ' + self.style + ' gamma 1' if graded else ''}
            compute v all pressure NULL virial
            compute s all stress/atom NULL virial
            compute ss all reduce sum c_s[1] c_s[2] c_s[3] c_s[4] c_s[5] c_s[6]
            thermo_style custom step pe c_v[1] c_ss[1]""")
        types = [self.elements.index(s) + 1 for s in atoms.get_chemical_symbols()]
        wrapped = atoms.copy()
        wrapped.wrap()
        x = prism.vector_to_lammps(wrapped.get_positions(), wrap=False)
        lmp.create_atoms(n, list(range(1, n + 1)), types, x.ravel().tolist())
        lmp.command("run 0")
        f = np.array(lmp.gather_atoms("f", 1, 3)).reshape(n, 3)
        v = np.array([lmp.extract_compute("v", 0, 1)[k] for k in range(6)])
        s = np.array([lmp.extract_compute("ss", 0, 1)[k] for k in range(6)])
        volume = xhi * yhi * zhi
        bar = 1.6021765e6
        out = {"energy": lmp.get_thermo("pe"), "forces": f, "virial": v * volume / bar, "atoms": -s / bar}
        if graded:
            out["gamma"] = np.array(lmp.gather("f_gamma", 1, 1))
        return out


def differences(po, atoms, label, rng):
    """Compare forces with finite differences of the energy."""
    r = po.compute(atoms, grade=False)
    h = 1e-4
    for i in rng.choice(len(atoms), min(3, len(atoms)), replace=False):
        for c in range(3):
            e = []
            for s in (-2, -1, 1, 2):
                moved = atoms.copy()
                moved.positions[i, c] += s * h
                e.append(po.compute(moved, grade=False)["energies"].sum())
            numeric = -(e[0] - 8 * e[1] + 8 * e[2] - e[3]) / (12 * h)
            size = max(1.0, np.abs(r["forces"]).max())
            note("finite difference", label, abs(numeric - r["forces"][i, c]) / size, 2e-5)


def run(lib, stem, potential, active_set, plugins):
    rng = np.random.default_rng(11)
    setenv = ctypes.CDLL(None).setenv
    handles = {}
    for isa in ("avx512", "avx2", "portable"):
        setenv(b"PACE_OPT_ISA", isa.encode(), 1)
        po = paceopt.PaceOpt(lib, potential, active_set)
        handles[lib.pace_opt_isa(po.handle).decode()] = po
    best = next(iter(handles.values()))
    calc = PyACECalculator(potential)
    if active_set:
        calc.set_active_set(active_set)
    yace = potential.replace(".yaml", ".yace")
    other = paceopt.PaceOpt(lib, yace) if yace != potential and os.path.exists(yace) else None
    setenv(b"PACE_OPT_ISA", b"", 1)
    lammps = {}
    if plugins:
        files, base = ([potential, active_set], "pace/extrapolation") if active_set else ([potential], "pace")
        lammps = {s: Lammps(plugins, s, files, best.elements) for s in (base, base + "/opt")}
    for name, atoms in frames(best.elements, rng):
        label = f"{stem}, {name}"
        want = from_pyace(calc, atoms, active_set is not None)
        for isa, po in handles.items():
            got = po.compute(atoms, atom_virial=True)
            check(f"{isa} / python-ace", label, got, want)
            note(f"{isa} sum of atoms' virials", label, np.abs(got["virials"].sum(0) - got["virial"]).max() / max(1, np.abs(got["virial"]).max()), 1e-11)
        if other:
            got = other.compute(atoms)
            check(".yace / python-ace", label, got, {k: v for k, v in want.items() if k != "gamma"})
        if lammps and min(atoms.cell.lengths()) > best.cutoff:
            plain, opt = (l.compute(atoms) for l in lammps.values())
            check("LAMMPS opt / ML-PACE", label, opt, plain)
            size = max(1, np.abs(plain["atoms"]).max())
            note("LAMMPS virial per atom", label, np.abs(opt["atoms"] - plain["atoms"]).max() / size, VIRIAL)
        if name in ("thermal", "liquid", "dimer 2.6"):
            differences(best, atoms, label, rng)


def known(lib, potential, active_set):
    """Compare grades of an active set that is large enough for screening, for atoms similar to the sample and others."""
    rng = np.random.default_rng(7)
    po = paceopt.PaceOpt(lib, potential, active_set)
    calc = PyACECalculator(potential)
    calc.set_active_set(active_set)

    def crystal(rattle):
        atoms = bulk("Cu", "fcc", a=3.63, cubic=True).repeat(5)
        atoms.positions += rng.normal(0, rattle, atoms.positions.shape)
        return atoms

    for _ in range(4):
        po.compute(crystal(0.08))
    vacancy, dimer, liquid, surface = crystal(0.08), crystal(0.08), crystal(0.45), crystal(0.08)
    del vacancy[250]
    dimer.positions[100] += 0.6 * (dimer.positions[101] - dimer.positions[100]) / 2.5
    surface.set_cell(np.diag([1, 1, 1.8]) @ surface.cell.array)
    for name, atoms in {"as learnt": crystal(0.08), "cold": crystal(0.02), "hot": crystal(0.14), "vacancy": vacancy,
                        "dumbbell": dimer, "liquid": liquid, "surface": surface}.items():
        got, want = po.compute(atoms)["gamma"], from_pyace(calc, atoms, True)["gamma"]
        note("screened gamma", f"Cu-PBE, {name}", np.abs(got / want - 1).max(), GAMMA)


def main():
    lib = paceopt.load()
    plugins = os.environ.get("PACE_OPT_PLUGINS")
    with tempfile.TemporaryDirectory() as folder:
        jobs = [(Path(f).stem, f, f[:-5] + ".asi" if f.endswith(".yaml") and os.path.exists(f[:-5] + ".asi") else None) for f in sys.argv[1:]]
        if not jobs:
            quick = os.environ.get("PACE_OPT_QUICK")
            for seed, (name, spec) in enumerate(bases.BASES.items()):
                if quick and name not in ("al74", "zbl2", "order5", "nonlinear"):
                    continue
                bases.make(folder, name, spec, seed)
                jobs.append((name, f"{folder}/{name}.yaml", f"{folder}/{name}.asi"))
            # What only .yace files hold: the radial basis of ACE.jl, and bonds with different kinds of core.
            if not quick:
                jobs.append(("ACE.jl", str(Path(__file__).parent.parent / "data/acejl_base.yace"), None))
            bases.ace_jl(f"{folder}/acejl_pair.yace")
            jobs.append(("ACE.jl, two elements", f"{folder}/acejl_pair.yace", None))
            bases.make(folder, "alcu", bases.BASES["alcu"], 1)
            bases.mixed_cores(f"{folder}/alcu.yace", f"{folder}/alcu_mixed.yace")
            jobs.append(("mixed cores", f"{folder}/alcu_mixed.yace", None))

            import lammps

            import cu_pbe

            cu = Path(lammps.__file__).parent / "share/lammps/potentials/Cu-PBE-core-rep.ace"
            cu_pbe.make(folder, cu)
            print("... Cu-PBE, screened", flush=True)
            known(lib, f"{folder}/Cu.yaml", f"{folder}/Cu.asi")
            if not quick:
                jobs.append(("Cu-PBE", str(cu), None))
                jobs.append(("Cu-PBE as a B-basis", f"{folder}/Cu.yaml", f"{folder}/Cu.asi"))
        for job in jobs:
            print("...", job[0], flush=True)
            run(lib, *job, plugins)
    print(f"{'largest difference':40} {'value':>9}  where")
    for what, (value, label) in worst.items():
        print(f"{what:40} {value:9.1e}  {label}")
    print("FAILED:" if failures else "all agree", len(failures) if failures else "")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
