#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Random potentials that cover the features of the file formats, made with python-ace.

    python bases.py FOLDER            all of them
    python bases.py FOLDER big        the large one of the benchmarks

Each consists of NAME.yaml, NAME.yace and NAME.asi. The files are reproducible.
"""
import logging
import sys
from pathlib import Path

import numpy as np

logging.disable(logging.INFO)
from pyace import ACEBBasisSet, create_multispecies_basis_config

SHIFTED, PLAIN = "FinnisSinclairShiftedScaled", "FinnisSinclair"


def bond(radbase="SBessel", rcut=5.0, lam=5.25, dcut=0.01, **more):
    return {"radbase": radbase, "radparameters": [lam], "rcut": rcut, "dcut": dcut, "NameOfCutoffFunction": "cos", **more}


DISTANCE = {"inner_cutoff_type": "distance", "r_in": 2.0, "delta_in": 0.3, "core-repulsion": [130.0, 1.0]}
DENSITY = {"inner_cutoff_type": "density", "core-repulsion": [100.0, 2.0]}
ZBL = {"inner_cutoff_type": "zbl", "r_in": 2.0, "delta_in": 0.6, "core-repulsion": [1.0, 1.0]}


def embed(npot=PLAIN, parameters=(1, 1), rho_cut=200000.0, drho_cut=250.0):
    return {"npot": npot, "ndensity": len(parameters) // 2, "fs_parameters": list(parameters),
            "rho_core_cut": rho_cut, "drho_core_cut": drho_cut}


def orders(n, l):
    return {"nradmax_by_orders": n, "lmax_by_orders": l}


# name: elements, embeddings, bonds, functions
BASES = {
    "al74": (["Al"], {"ALL": embed()}, {"ALL": bond(rcut=5.5, lam=2.0, **{**DISTANCE, "r_in": 2.3})},
             {"UNARY": orders([8, 4, 2], [0, 3, 2])}),
    "alcu": (["Al", "Cu"], {"ALL": embed()}, {"ALL": bond(rcut=5.5, lam=2.0, **{**DISTANCE, "r_in": 2.2})},
             {"UNARY": orders([7, 3, 1], [0, 2, 1]), "BINARY": orders([6, 2, 1], [0, 2, 1])}),
    "chebpow": (["Cu"], {"ALL": embed(SHIFTED, (1, 1, 1, 0.5))}, {"ALL": bond("ChebPow", 5.5, 2.0, **DENSITY)},
                {"UNARY": orders([10, 4, 3, 2], [0, 4, 3, 2])}),
    "chebexpcos3": (["Ni"], {"ALL": embed(PLAIN, (1, 1, 0.7, 0.5, 0.2, 2))}, {"ALL": bond("ChebExpCos", 5.2, 4.0, 0.5, **DISTANCE)},
                    {"UNARY": orders([6, 3, 2], [0, 3, 2])}),
    "zbl2": (["Al", "Ni"], {"ALL": embed(SHIFTED, (1, 1, 1, 0.5))}, {"ALL": bond("SBessel", 4.8, 5.25, 0.1, **ZBL)},
             {"UNARY": orders([4, 2, 1], [0, 2, 1]), "BINARY": orders([3, 1, 1], [0, 1, 1])}),
    "ternary": (["Al", "Cu", "Ni"], {"ALL": embed(SHIFTED, (1, 1, 1, 0.5))}, {"ALL": bond("ChebPow", 5.0, 2.0, **DENSITY)},
                {"UNARY": orders([5, 2, 2], [0, 2, 1]), "BINARY": orders([4, 2, 1], [0, 2, 1]), "TERNARY": orders([3, 1, 1], [0, 1, 1])}),
    "quaternary": (["Al", "Cu", "Mg", "Ni"], {"ALL": embed(PLAIN, (1, 1, 1, 0.5))}, {"ALL": bond("ChebLinear", 4.8, 1.0, **DISTANCE)},
                   {"ALL": orders([3, 1, 1], [0, 1, 1])}),
    "order5": (["W"], {"ALL": embed(SHIFTED, (1, 1, 1, 0.5))}, {"ALL": bond("ChebExpCos", 5.0, 5.25, 0.2, **DENSITY)},
               {"UNARY": orders([6, 3, 2, 1, 1], [0, 3, 2, 2, 1])}),
    "zbl1": (["Fe"], {"ALL": embed(PLAIN, (1, 1, 1, 0.5))}, {"ALL": bond("ChebPow", 5.0, 2.0, 0.3, **ZBL)},
             {"UNARY": orders([5, 3, 2], [0, 3, 2])}),
    "nonlinear": (["Al", "Cu"], {"ALL": embed(SHIFTED, (1, 1, 1, 0.5))}, {"ALL": bond(**DISTANCE)},
                  {"UNARY": orders([4, 2, 1], [0, 2, 1]), "BINARY": orders([3, 1, 1], [0, 1, 1])}),
    "switching": (["Cu"], {"ALL": embed(SHIFTED, (1, 1, 1, 0.5), 3.0, 2.5)}, {"ALL": bond("ChebPow", 5.0, 2.0, **DENSITY)},
                  {"UNARY": orders([5, 3, 2], [0, 3, 2])}),
    "mixedbonds": (["Al", "Ni"], {"Al": embed(), "Ni": embed(SHIFTED, (1, 1, 1, 0.5))},
                   {"Al": bond("ChebExpCos", 5.4, 5.25, 0.3, **DISTANCE), "Ni": bond("SBessel", 4.6, 5.25, **DISTANCE),
                    ("Al", "Ni"): bond("ChebPow", 5.0, 2.0, **DISTANCE)},
                   {"UNARY": orders([5, 3, 2], [0, 3, 1]), "BINARY": orders([4, 2, 1], [0, 2, 1])}),
    "high_l": (["Si"], {"ALL": embed(SHIFTED, (1, 1, 1, 0.5))}, {"ALL": bond("SBessel", 5.0, 5.25, **DISTANCE)},
               {"UNARY": orders([12, 7, 2, 1], [0, 8, 4, 3])}),
}
# For timing: order four, more than 40,000 product nodes.
BIG = {"big": (["Si"], {"ALL": embed(PLAIN, (1, 1))}, {"ALL": bond("SBessel", 5.5, 5.25, **DISTANCE)},
               {"UNARY": orders([12, 6, 4, 3], [0, 5, 4, 4])}),
       # As many functions as the Cu-PBE potential has, which exists without the B-basis that γ needs.
       "like_cu": (["Cu"], {"ALL": embed(SHIFTED, (1, 1, 1, 0.5))}, {"ALL": bond("ChebPow", 5.5, 2.0, **DENSITY)},
                   {"UNARY": orders([15, 6, 4, 2], [0, 4, 4, 2])})}
NONLINEAR_SETS = {"nonlinear"}


def make(folder, name, spec, seed):
    elements, embeddings, bonds, functions = spec
    rng = np.random.default_rng(seed)
    basis = ACEBBasisSet(create_multispecies_basis_config({
        "deltaSplineBins": 0.001, "elements": elements, "embeddings": embeddings, "bonds": bonds, "functions": functions}))
    n = len(basis.basis_coeffs)
    basis.basis_coeffs = 0.05 * rng.standard_normal(n)
    crad = np.array(basis.crad_coeffs)
    basis.crad_coeffs = crad + 0.2 * rng.standard_normal(crad.shape)
    stem = str(Path(folder) / name)
    basis.save(stem + ".yaml")
    basis = ACEBBasisSet(stem + ".yaml")
    basis.to_ACECTildeBasisSet().save_yaml(stem + ".yace")
    arrays = {}
    for mu, element in enumerate(basis.elements_name):
        size = len(basis.basis_rank1[mu]) + len(basis.basis[mu])
        if name in NONLINEAR_SETS:
            size *= basis.embedding_specifications[mu].ndensity if hasattr(basis, "embedding_specifications") else 2
        arrays[element] = rng.standard_normal((size, size))
    with open(stem + ".asi", "wb") as file:
        np.savez(file, **arrays)
    return n


def ace_jl(path):
    """A potential as ACE1pack exports it: its own radial basis, a pair potential, a repulsive core; two elements."""
    rng = np.random.default_rng(99)
    r0, p = 2.5, 2
    x = lambda r: ((1 + r0) / (1 + r)) ** p
    recursion = lambda maxn: [[0.9] + [1.3] * (maxn - 1), [0.0] + [-0.6] * (maxn - 1), [0, 0] + [-0.4] * (maxn - 2)]

    def polynomials(rcut, rin, pr, maxn):
        lists = ", ".join(f"{k}: {v}" for k, v in zip("ABC", recursion(maxn)))
        return (f"rcut: {rcut}, xl: {x(rcut)!r}, xr: {x(rin)!r}, pl: 2, pr: {pr}, r0: {r0}, p: {p}, maxn: {maxn}, "
                f"recursion_coefficients: {{{lists}}}")

    pairs = [(i, j) for i in range(2) for j in range(2)]
    lines = ["elements: [Al, Ni]", "E0: [-1.5, 0.25]", "lmax: 2", "embeddings:"]
    for i in range(2):
        lines.append(f"  {i}: {{ndensity: 1, FS_parameters: [1, 1], npoti: FinnisSinclair, rho_core_cutoff: 100000, drho_core_cutoff: 250}}")
    lines.append("bonds:")
    for i, j in pairs:
        lines.append(f"  [{i}, {j}]: {{radbasename: ACE.jl.base, {polynomials(4.0 + 0.4 * (i == j), 1.2, 2, 5)}}}")
    # The pair potential has a cutoff of its own, and no inner one; the core continues it with the same value and slope.
    rcut, maxn = 4.8, 4
    coefficients, core = [], []
    for i, j in pairs:
        c = [round(float(c), 4) for c in 0.1 * np.random.default_rng(i + j).standard_normal(maxn)]

        def pair(r):
            (a, b, d), t = recursion(maxn), x(r)
            q = [a[0] * (t - x(rcut)) ** 2]
            for n in range(1, maxn):
                q.append((a[n] * t + b[n]) * q[-1] + (d[n] * q[-2] if n > 1 else 0))
            return sum(c * q for c, q in zip(c, q))

        ri, a = 1.5 + 0.1 * (i + j), 2.5
        b = -pair(ri + 1e-30j).imag / 1e-30 * ri / (a + 1)
        coefficients.append(f"[{i}, {j}]: {c}")
        core.append(f"[{i}, {j}]: {{ri: {ri!r}, e0: {pair(ri) - b!r}, A: {a}, B: {b!r}}}")
    lines.append(f"polypairpot: {{{polynomials(rcut, 0.0, 0, maxn)}, coefficients: {{{', '.join(coefficients)}}}}}")
    lines.append(f"reppot: {{coefficients: {{{', '.join(core)}}}}}")
    lines.append("functions:")
    for mu in range(2):
        lines.append(f"  {mu}:")

        def add(mus, ns, ls, ms, c):
            lines.append(f"    - {{mu0: {mu}, rank: {len(mus)}, ndensity: 1, num_ms_combs: {len(c)}, mus: {mus}, ns: {ns}, ls: {ls}, "
                         f"ms_combs: {ms}, ctildes: {[round(float(x), 8) for x in c]}}}")

        for nu in range(2):
            for n in range(1, 5):
                add([nu], [n], [0], [0], [0.3 * rng.standard_normal()])
        for a, b in ((0, 0), (0, 1), (1, 1)):
            for n1 in range(1, 4):
                for n2 in range(n1 if a == b else 1, 4):
                    for l in range(3):
                        c = 0.05 * rng.standard_normal()
                        m = list(range(-l, l + 1))
                        add([a, b], [n1, n2], [l, l], [x for k in m for x in (k, -k)], [c * (-1) ** k for k in m])
        add([0, 1, 1], [1, 1, 2], [0, 0, 0], [0, 0, 0], [0.02 * rng.standard_normal()])
    Path(path).write_text("\n".join(lines) + "\n")


def mixed_cores(path, to):
    """A .yace whose bonds differ in their kind of core: ML-PACE takes the last one's for all."""
    text = Path(path).read_text()
    head, first, rest = text.partition("inner_cutoff_type: distance")
    assert first and "inner_cutoff_type: distance" in rest
    Path(to).write_text(head + "inner_cutoff_type: density" + rest)


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    chosen = {**BASES, **BIG} if len(sys.argv) > 2 else BASES
    for seed, (name, spec) in enumerate(chosen.items()):
        if len(sys.argv) > 2 and name not in sys.argv[2:]:
            continue
        print(name, make(folder, name, spec, seed), flush=True)


if __name__ == "__main__":
    main()
