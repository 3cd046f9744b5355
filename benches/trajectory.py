# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames of a million atoms written by [trajectory], and by a plain dump of LAMMPS: ci/bench trajectory"""
import argparse
import pathlib
import shutil
import tempfile

from measure import LMP, config, launch, ours, spread, where

ATOMS, STEPS = 1_000_000, 4
POTENTIAL = '\nuncertainty = "none"\n{}\n[potential]\npair_style = "lj/cut 5.5"\npair_coeff = ["* * 0.392 2.62"]\ncutoff = 5.5\n'
FRAMES = '[trajectory]\ninterval = 1\n'
SETTINGS = f"steps = {STEPS}\nsampling_interval = 1\ncheckpoint_interval = 0\n"


def run(folder, name, ranks):
    """One run of a side: (wall seconds, peak memory in MB)."""
    shutil.rmtree(folder / name, ignore_errors=True)
    if name in ("frames", "none"):
        config(folder, ATOMS, SETTINGS, POTENTIAL.format(FRAMES if name == "frames" else ""))
        seconds, peak, _, _ = ours(folder, name, ranks)
    else:
        out = folder / name
        shutil.copytree(folder / "frames", out)
        (out / "trajectory.dump").unlink()
        text = (out / "md.in").read_text()
        if name == "unsorted":  # LAMMPS's defaults, with the same columns
            text = "\n".join(line for line in text.splitlines() if not line.startswith("dump_modify"))
        (out / "md.in").write_text(text + "\n")
        seconds, peak, _ = launch([LMP, "-in", "md.in", "-nocite", "-screen", "none", "-log", "none"], out, ranks)
    return seconds, peak / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    pairs = parser.parse_args().pairs
    print(f"""## Trajectories of a million atoms

{STEPS + 1} frames of 1,000,000 atoms (Lennard-Jones, {STEPS} steps): wall time of the whole process, with its set-up, and memory of one rank. *No frames*: the
same run of lammps-otf without `[trajectory]`. *Same dump*: `lmp -in md.in` of that run. *Unsorted*: the same with LAMMPS's defaults for the format of numbers
and without sorting. The sides take turns in going first.

| ranks | `[trajectory]`, s | no frames, s | same dump, s | unsorted, s | `[trajectory]` over same dump | over unsorted | memory, MB: `[trajectory]`, no frames, same dump, unsorted | size of a frame, MB |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |""")
    names = ["frames", "none", "same", "unsorted"]
    with tempfile.TemporaryDirectory(prefix="trajectory-") as scratch:
        folder = pathlib.Path(scratch)
        for ranks in (1, 2):
            run(folder, "frames", ranks)  # the plain runs read its md.in
            size = (folder / "frames/trajectory.dump").stat().st_size / (STEPS + 1) / 1e6
            seconds, peaks = {name: [] for name in names}, {name: [] for name in names}
            for pair in range(pairs):
                for name in names[pair % 4:] + names[:pair % 4]:
                    took, peak = run(folder, name, ranks)
                    seconds[name].append(took)
                    peaks[name].append(peak)
            ratio = {name: [a / b for a, b in zip(seconds["frames"], seconds[name])] for name in ("same", "unsorted")}
            print(f"| {ranks} | " + " | ".join(spread(seconds[name], "{:.1f}") for name in names)
                  + f" | {spread(ratio['same'])} | {spread(ratio['unsorted'])} | "
                  + ", ".join(f"{max(peaks[name]):.0f}" for name in names) + f" | {size:.0f} |", flush=True)
    print(f"\n`ci/bench trajectory`, {pairs} pairs. {where()}")


main()
