// SPDX-License-Identifier: GPL-2.0-or-later
//! Time of a cut-out of 200 atoms from a frame of 1,000,188 atoms in memory, compared with numpy and ASE on the same frame,
//! and the number of centres above which a k-d tree is faster.
//!
//! `cargo bench --bench cut_out` prints medians in milliseconds. No benchmark library is used, because two of the values
//! are measured in Python (`LAMMPS_OTF_PYTHON`, or `.deps/bin/python3`).
#[path = "../tests/common/python.rs"]
mod common_python;
#[path = "../crates/otf-atoms/tests/crystals/mod.rs"]
mod crystals;

use crystals::{Random, fcc, rattle};
use kiddo::{ImmutableKdTree, SquaredEuclidean};
use lammps_otf::embedding::{EmbeddingConfig, EmbeddingExtractor, Environment, select};
use lammps_otf::structure::{Element, Vec3};
use std::hint::black_box;
use std::time::Instant;

const CELLS: usize = 63;

/// Median time of several runs, ms.
fn time<T>(runs: usize, mut work: impl FnMut() -> T) -> f64 {
    black_box(work());
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            black_box(work());
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[runs / 2]
}

const PYTHON: &str = r#"
import sys, time
import numpy as np
from ase import Atoms

x = np.fromfile(sys.argv[1], "<f8").reshape(-1, 3)
length = float(sys.argv[2])
radius, buffer, center = 4.0, 5.3, 500000
numbers = np.full(len(x), 13)

def by_numpy():
    d = x - x[center]
    d -= length * np.rint(d / length)
    r2 = np.einsum("ij,ij->i", d, d)
    near = np.flatnonzero(r2 < (radius + buffer) ** 2)
    edge = 2 * (radius + buffer) + 1.0
    cluster = Atoms(numbers[near], d[near] + edge / 2, cell=[edge] * 3, pbc=True)
    cluster.arrays["force_mask"] = (r2[near] < radius ** 2).astype(float)
    return cluster

atoms = Atoms(numbers, x, cell=[length] * 3, pbc=True)
everything = np.arange(len(atoms))

def by_ase():
    d = atoms.get_distances(center, everything, mic=True, vector=True)
    r = np.linalg.norm(d, axis=1)
    near = np.flatnonzero(r < radius + buffer)
    cluster = atoms[near]
    edge = 2 * (radius + buffer) + 1.0
    cluster.set_cell([edge] * 3)
    cluster.positions = d[near] + edge / 2
    cluster.arrays["force_mask"] = (r[near] < radius).astype(float)
    return cluster

def median(work, runs):
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[runs // 2] * 1e3

print(len(by_numpy()), len(by_ase()), median(by_numpy, 9), median(by_ase, 5))
"#;

fn main() {
    // Flags from cargo (--bench) are ignored.
    let mut frame = fcc(Element::Al, 4.05, CELLS);
    rattle(&mut frame, 0.1, 1);
    let length = frame.cell.vectors[0][0];
    let mut tilted = frame.clone();
    // Tilted by a multiple of the conventional cell: the same crystal in a triclinic cell.
    tilted.cell.vectors[1][0] = 4.05 * 20.0;
    tilted.cell.vectors[2][1] = -4.05 * 30.0;

    let config = EmbeddingConfig { radius: 4.0, buffer: Some(5.3), ..EmbeddingConfig::default() };
    let extractor = EmbeddingExtractor::new(&config, 5.3).unwrap();
    let region = extractor.region();
    let center = 500_000;
    let position = frame.position(center);

    let scan = time(21, || select(frame.atoms(), &frame.cell, position, region));
    let scan_tilted = time(21, || select(tilted.atoms(), &tilted.cell, position, region));
    let whole = time(21, || extractor.extract_cluster(&frame, center).unwrap());
    let cluster = extractor.extract_cluster(&frame, center).unwrap();
    let describe = time(21, || Environment::of(&cluster, 0, 5.3));
    println!("{} atoms, {} of them in the cut-out (sphere, R = 4 Å, δ = 5.3 Å)", frame.len(), cluster.structure.len());
    println!("  scan, orthogonal cell          {scan:9.2} ms");
    println!("  scan, triclinic cell           {scan_tilted:9.2} ms");
    println!("  whole cut-out with its checks  {whole:9.2} ms");
    println!("  descriptor of the centre       {describe:9.2} ms");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("positions");
    let bytes: Vec<u8> = frame.positions.iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(&file, bytes).unwrap();
    let output = common_python::run(PYTHON, &[file.as_os_str(), length.to_string().as_ref()]);
    let words: Vec<f64> = output.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let n = cluster.structure.len() as f64;
    assert_eq!(&words[..2], &[n, n], "numpy and ASE extract the same number of atoms");
    println!("  the same with numpy            {:9.2} ms   {:6.1} times ours", words[2], words[2] / whole);
    println!("  the same with ASE              {:9.2} ms   {:6.1} times ours", words[3], words[3] / whole);

    let mut random = Random(2);
    let centers: Vec<Vec3> = (0..64).map(|_| frame.position(random.below(frame.len()))).collect();
    let points: Vec<Vec3> = (0..frame.len()).map(|i| frame.cell.wrap(frame.position(i))).collect();
    let build = time(3, || ImmutableKdTree::<f64, 3>::new_from_slice(&points).unwrap());
    let tree = ImmutableKdTree::<f64, 3>::new_from_slice(&points).unwrap();
    let r2 = region.reach() * region.reach();
    let query = |center: &Vec3| {
        let center = frame.cell.wrap(*center);
        tree.query(&center).periodic_boundary_condition(&[length; 3]).within::<SquaredEuclidean<f64>>(r2).execute()
    };
    println!("k-d tree: building {build:.1} ms");
    println!("  centres    scan, ms    tree with its building, ms");
    for k in [1, 4, 16, 64] {
        let scans = time(5, || {
            centers[..k].iter().map(|&c| select(frame.atoms(), &frame.cell, c, region).len()).sum::<usize>()
        });
        let queries = time(5, || centers[..k].iter().map(|c| query(c).len()).sum::<usize>());
        println!("  {k:7}   {scans:9.2}   {:9.2}", build + queries);
    }

    let closest = time(3, || frame.closest_pair().unwrap());
    println!("closest pair of all atoms {closest:.0} ms");
}
