# SPDX-License-Identifier: GPL-2.0-or-later
"""What γ does not see: errors of the test potentials, and of one that the loop has made from `al` by heating it to 2500 K, against the EAM
potentials that they were fitted to: ci/bench blind_spots

--potential YAML adds a potential for Al, with its .asi file next to it.
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = pathlib.Path(__file__).resolve().parent.parent
os.environ.setdefault("LAMMPS_PLUGIN_PATH", str(ROOT / ".deps/lib/lammps/plugins"))

import numpy as np
from ase import Atoms
from ase.build import bulk
from lammps import lammps

EAM = ROOT / ".deps/share/lammps/potentials"
# Lattice constants, Å.
CONSTANT = {"Al": 4.05, "Cu": 3.615}


def evaluate(atoms, elements, style, coefficients, graded):
    """Energy (eV), forces (eV/Å), and with `graded` the largest γ and core share, and the fewest neighbours."""
    lmp = lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
    edges = atoms.cell.lengths()
    lmp.commands_string(f"""
        units metal
        atom_modify map array sort 0 0
        boundary p p p
        region box block 0 {edges[0]:.17g} 0 {edges[1]:.17g} 0 {edges[2]:.17g}
        create_box {len(elements)} box
        mass * 1
        pair_style {style}
        pair_coeff * * {coefficients} {" ".join(elements)}
    """)
    types = [elements.index(symbol) + 1 for symbol in atoms.get_chemical_symbols()]
    lmp.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), types, atoms.get_positions(wrap=True).ravel().tolist())
    if graded:
        lmp.commands_string("fix g all otf/gamma 1\nfix c all otf/core 1\nfix n all otf/neighbours 1 1000")
    lmp.command("run 0")
    n = len(atoms)
    forces = np.array(lmp.gather_atoms("f", 1, 3)).reshape(n, 3)
    extremes = None
    if graded:
        gamma, core, neighbours = (np.array(lmp.numpy.extract_fix(fix, 1, 1)[:n]) for fix in "gcn")
        extremes = gamma.max(), core.max(), int(neighbours.min())
    energy = lmp.get_thermo("pe")
    lmp.close()
    return energy, forces, extremes


def crystal(element, factor=1.0):
    return bulk(element, "fcc", a=CONSTANT[element] * factor, cubic=True) * (4, 4, 4)


def pushed(element, distance, other=None):
    """A crystal in which one atom, of the element `other`, was moved towards a neighbour."""
    atoms = crystal(element)
    at = int(np.argsort(atoms.get_distances(0, range(len(atoms)), mic=True))[1])
    atoms.set_distance(0, at, distance, fix=0, mic=True)
    if other:
        atoms.symbols[at] = other
    return atoms


def free(elements, distance=0.0):
    """One atom, or two, in a large cell."""
    return Atoms(elements, [[10.0, 10.0, 10.0], [10.0 + distance, 10.0, 10.0]][: len(elements)], cell=[30.0] * 3, pbc=True)


def structures(elements):
    element = elements[0]
    yield f"{element} crystal", crystal(element)
    for distance in (2.2, 1.8, 1.4, 1.0):
        yield f"{element} crystal, one pair at {distance} Å", pushed(element, distance)
    if len(elements) > 1:
        for distance in (1.8, 1.4):
            yield f"{element} crystal, {element}–{elements[1]} pair at {distance} Å", pushed(element, distance, elements[1])
        yield f"{elements[1]} crystal, one pair at 1.4 Å", pushed(elements[1], 1.4)
    for distance in (2.0, 5.0):
        yield f"two {element} atoms at {distance} Å", free([element] * 2, distance)
    yield f"{element} crystal expanded × 1.9", crystal(element, 1.9)
    yield f"one {element} atom", free([element])


def healed(program, folder):
    """The potential of a loop that starts from `al`, in a ramp to 2500 K, with events by γ only."""
    data = folder / "data"
    subprocess.run([sys.executable, ROOT / "potentials/al/fit.py", "--data", data], check=True, stdout=subprocess.DEVNULL)
    toml = (ROOT / "examples/loops/al-heal.toml").read_text()
    toml = toml.replace("../../potentials/al-soft", str(ROOT / "potentials/al")).replace("../../out/al-heal/data", str(data))
    toml = toml.replace("../../", f"{ROOT}/").replace("../trainers", str(ROOT / "examples/trainers"))
    toml = toml.replace("../al-500", str(ROOT / "examples/al-500")).replace("seed = 1", "seed = 1\ncore_share = 1")
    toml = re.sub("max_rounds = .*", "max_rounds = 10", re.sub("max_labels = .*", "max_labels = 120", toml))
    (folder / "loop.toml").write_text(toml)
    environment = {**os.environ, "LAMMPS_POTENTIALS": str(EAM)}
    subprocess.run([program, "loop", "loop.toml", "-q", "-o", "out"], cwd=folder, env=environment, check=True)
    return folder / "out/final/potential.yaml"


def number(value):
    """Two digits, without an exponent."""
    if value < 1e-6:
        return "0"
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--potential", type=pathlib.Path, action="append", default=[])
    parser.add_argument("--program", type=lambda path: pathlib.Path(path).resolve(), default=ROOT / "target/release/lammps-otf")
    parser.add_argument("--pairs", help=argparse.SUPPRESS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table(args, healed(args.program, pathlib.Path(folder)))


def table(args, of_loop):
    al = ("eam/fs", EAM / "Al_mm.eam.fs", ["Al"])
    cases = [(f"`{name}`", ROOT / f"potentials/{name}/{file}.yaml", reference) for name, file, reference in [
        ("al", "Al", al), ("al-soft", "Al", al), ("alcu", "AlCu", ("eam/alloy", EAM / "AlCu.eam.alloy", ["Al", "Cu"]))]]
    cases.append(("`al`, after a loop", of_loop, al))
    cases += [(f"`{path.name}`", path.resolve(), al) for path in args.potential]
    print("| potential | structure | largest force error, eV/Å | energy error, eV/atom | largest γ | core share | fewest neighbours |\n"
          "| --- | --- | --- | --- | --- | --- | --- |")
    for name, potential, (style, file, elements) in cases:
        for label, atoms in structures(elements):
            energy, forces, found = evaluate(atoms, elements, "pace/extrapolation/opt",
                                             f"{potential} {potential.with_suffix('.asi')}", True)
            right, exact, _ = evaluate(atoms, elements, style, str(file), False)
            error = np.linalg.norm(forces - exact, axis=1).max()
            gamma, core, fewest = found
            print(f"| {name} | {label} | {number(error)} | {number(abs(energy - right) / len(atoms))} | "
                  f"{number(gamma)} | {number(core)} | {fewest} |")
    print("\n`ci/bench blind_spots`: the test potentials, and the potential of a loop that started from `al` and heated it to 2500 K, against the "
          "EAM potentials that they were fitted to. The crystals have 256 atoms.")


main()
