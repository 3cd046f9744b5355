# SPDX-License-Identifier: GPL-2.0-or-later
"""Time from the end of the step at which γ passes the threshold to the stored candidate: ci/bench event"""
import argparse
import json
import pathlib
import statistics
import sys
import tempfile

from measure import CELLS, CHEAP, LMP, ROOT, config, launch, ours, spread, where

PEERS = ROOT / "benches/peers"


def peer(folder, script, *arguments):
    said = launch([sys.executable, PEERS / script, *arguments], folder)[2]
    return json.loads(said.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--least", type=int, default=4_000, help="least atoms")
    parser.add_argument("--most", type=int, default=8_000_000, help="most atoms")
    parser.add_argument("--peers", type=int, default=1_000_000, help="most atoms with the peers, which need far more memory")
    args = parser.parse_args()
    print("## Latency of an event\n\nFrom the end of the step on which the uncertainty passes the threshold to the "
          "candidate on disk, ms, one rank; Lennard-Jones, with the kinetic energy of the atom as uncertainty. The time of "
          "lammps-otf includes work that the peers do not do: the checks for a broken run, the last valid frame, all "
          "checks of the cell, the evaluation of the cut-out with the potential, and the copy as extended XYZ, "
          "synchronised to disk. All programs extract the same number of atoms.\n\n"
          "| atoms | ours | of it the commit | file route | times ours | Python in process | times ours | numpy in process | "
          "times ours | their commit |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for atoms in [a for a in CELLS if args.least <= a <= args.most]:
        got = {name: [] for name in ("ours", "commit", "file", "ase", "numpy", "theirs")}
        with_peers = atoms <= args.peers
        for _ in range(args.pairs if with_peers else min(args.pairs, 3)):
            with tempfile.TemporaryDirectory() as folder:
                folder = pathlib.Path(folder)
                config(folder, atoms, "steps = 20\nsampling_interval = 10\n", CHEAP)
                _, _, result, _ = ours(folder, "out", codes=(4,))
                assert result["trigger_step"] == 10 and len(result["candidates"]) == 1, result
                got["ours"].append(result["event_seconds"] * 1e3)
                got["commit"].append(result["commit_seconds"] * 1e3)
                if not with_peers:
                    continue
                out = folder / "out"
                file = peer(out, "file_route.py", LMP, "md.in", 0.1, 10, 20)
                ase = peer(out, "in_process.py", "md.in", 0.1, 10, 20, "ase")
                numpy = peer(out, "in_process.py", "md.in", 0.1, 10, 20, "numpy")
                assert file["atoms"] == ase["atoms"] == numpy["atoms"], (file, ase, numpy)
                for name, found in (("file", file), ("ase", ase), ("numpy", numpy)):
                    got[name].append(found["seconds"] * 1e3)
                got["theirs"].append(numpy["commit"] * 1e3)
        def cells(name):
            if not got[name]:
                return "not run | "
            ratio = [theirs / mine for theirs, mine in zip(got[name], got["ours"])]
            return f"{spread(got[name], '{:.1f}')} | {spread(ratio, '{:.1f}')}"
        theirs = spread(got["theirs"], "{:.1f}") if got["theirs"] else "not run"
        print(f"| {atoms:,} | {spread(got['ours'], '{:.1f}')} | {spread(got['commit'], '{:.1f}')} | {cells('file')} | "
              f"{cells('ase')} | {cells('numpy')} | {theirs} |", flush=True)
        slower = [name for name in ("file", "ase", "numpy") if got[name] and statistics.median(got[name]) < statistics.median(got["ours"])]
        if slower:
            print(f"slower than {slower} at {atoms}", file=sys.stderr)
    print(f"\nAbove {args.peers:,} atoms the peers are not run. `ci/bench event`, {args.pairs} rounds. {where()}")


main()
