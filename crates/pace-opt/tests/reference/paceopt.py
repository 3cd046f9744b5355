# SPDX-License-Identifier: GPL-2.0-or-later
"""The C interface of pace-opt with numpy arrays, for tests."""

import ctypes
import os

import numpy as np
from ase.neighborlist import neighbor_list

C = ctypes


class Error(C.Structure):
    _fields_ = [("text", C.c_char * 1024), ("atoms", C.c_int * 2)]


class Input(C.Structure):
    _fields_ = [
        ("nall", C.c_int),
        ("x", C.c_void_p),
        ("types", C.c_void_p),
        ("element_of_type", C.c_void_p),
        ("ntypes", C.c_int),
        ("scales", C.c_void_p),
        ("inum", C.c_int),
        ("ilist", C.c_void_p),
        ("numneigh", C.c_void_p),
        ("firstneigh", C.c_void_p),
        ("mask", C.c_int),
    ]


class Results(C.Structure):
    _fields_ = [
        ("f", C.c_void_p),
        ("energies", C.c_void_p),
        ("virials", C.c_void_p),
        ("core_shares", C.c_void_p),
        ("inner_shares", C.c_void_p),
        ("grades", C.c_void_p),
        ("bias_forces", C.c_void_p),
        ("energy", C.c_double),
        ("bias", C.c_double),
        ("closest", C.c_double),
        ("virial", C.c_double * 6),
    ]


def load(path=None):
    lib = C.CDLL(path or os.environ["PACE_OPT_LIB"])
    lib.pace_opt_open.restype = C.c_void_p
    lib.pace_opt_open.argtypes = [C.c_char_p, C.c_char_p, C.POINTER(Error)]
    lib.pace_opt_close.argtypes = [C.c_void_p]
    lib.pace_opt_elements.argtypes = [C.c_void_p]
    lib.pace_opt_element.restype = C.c_char_p
    lib.pace_opt_element.argtypes = [C.c_void_p, C.c_int]
    lib.pace_opt_cutoff.restype = C.c_double
    lib.pace_opt_cutoff.argtypes = [C.c_void_p, C.c_int, C.c_int]
    lib.pace_opt_isa.restype = C.c_char_p
    lib.pace_opt_isa.argtypes = [C.c_void_p]
    lib.pace_opt_set_threads.argtypes = [C.c_void_p, C.c_int, C.POINTER(Error)]
    lib.pace_opt_compute.argtypes = [C.c_void_p, C.POINTER(Input), C.POINTER(Results), C.POINTER(Error)]
    return lib


def ghosts(atoms, cutoff):
    """Positions and origins of atoms and the images that any of them sees, and the neighbours of each atom."""
    i, j, shift = neighbor_list("ijS", atoms, cutoff)
    n = len(atoms)
    image = np.any(shift != 0, axis=1)
    keys, inverse = np.unique(np.column_stack([j, shift])[image], axis=0, return_inverse=True)
    target = j.copy()
    target[image] = n + inverse.ravel()
    origin = np.concatenate([np.arange(n), keys[:, 0].astype(int)]) if len(keys) else np.arange(n)
    pos = atoms.get_positions()
    if len(keys):
        pos = np.vstack([pos, pos[keys[:, 0]] + keys[:, 1:] @ atoms.cell.array])
    order = np.argsort(i, kind="stable")
    counts = np.bincount(i, minlength=n)
    return np.ascontiguousarray(pos), origin, target[order].astype(np.int32), counts.astype(np.int32)


class PaceOpt:
    def __init__(self, lib, potential, active_set=None):
        self.lib, err = lib, Error()
        self.handle = lib.pace_opt_open(
            potential.encode(), active_set.encode() if active_set else None, C.byref(err)
        )
        if not self.handle:
            raise ValueError(err.text.decode())
        self.graded = active_set is not None
        self.elements = [lib.pace_opt_element(self.handle, k).decode() for k in range(lib.pace_opt_elements(self.handle))]
        ne = len(self.elements)
        self.cutoff = max(lib.pace_opt_cutoff(self.handle, i, j) for i in range(ne) for j in range(ne))

    def set_threads(self, threads):
        err = Error()
        if self.lib.pace_opt_set_threads(self.handle, threads, C.byref(err)):
            raise ValueError(err.text.decode())

    def close(self):
        self.lib.pace_opt_close(self.handle)

    def prepare(self, atoms):
        pos, origin, flat, counts = ghosts(atoms, self.cutoff)
        kind = np.array([self.elements.index(s) for s in atoms.get_chemical_symbols()], dtype=np.int32)
        types = np.ascontiguousarray(kind[origin])
        n, nall = len(atoms), len(pos)
        numneigh = np.zeros(nall, dtype=np.int32)
        numneigh[:n] = counts
        start = np.concatenate([[0], np.cumsum(counts)])[:-1]
        first = np.zeros(nall, dtype=np.uintp)
        first[:n] = flat.ctypes.data + 4 * start
        ilist = np.arange(n, dtype=np.int32)
        ident = np.arange(len(self.elements), dtype=np.int32)
        keep = (pos, types, numneigh, first, ilist, ident, flat)
        p = lambda a: a.ctypes.data
        inp = Input(nall, p(pos), p(types), p(ident), len(ident), None, n, p(ilist), p(numneigh), p(first), 0x1FFFFFFF)
        return inp, keep, origin, n

    def compute(self, atoms, grade=None, atom_virial=False):
        inp, keep, origin, n = self.prepare(atoms)
        return self.run(inp, origin, n, self.graded if grade is None else grade, atom_virial)

    def run(self, inp, origin, n, grade, atom_virial=False):
        nall = len(origin)
        f, e, v = np.zeros((nall, 3)), np.zeros(nall), np.zeros((nall, 6))
        g = np.zeros(nall)
        res = Results(f.ctypes.data, e.ctypes.data, v.ctypes.data if atom_virial else None, None, None, g.ctypes.data if grade else None)
        err = Error()
        if self.lib.pace_opt_compute(self.handle, C.byref(inp), C.byref(res), C.byref(err)):
            raise RuntimeError(err.text.decode())
        forces = np.zeros((n, 3))
        np.add.at(forces, origin, f)
        virials = np.zeros((n, 6))
        np.add.at(virials, origin, v)
        return {
            "energy": res.energy,
            "energies": e[:n],
            "forces": forces,
            "virial": np.array(res.virial[:]),
            "virials": virials,
            "gamma": g[:n],
        }
