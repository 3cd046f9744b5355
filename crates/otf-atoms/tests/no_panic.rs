// SPDX-License-Identifier: GPL-2.0-or-later
//! The readers and the geometry do not panic, hang or exhaust the memory on invalid input: 120,000 random cases with fixed
//! seeds. A failure reports the number of the case.
mod crystals;

use crystals::{Random, fcc, structure};
use otf_atoms::embedding::{EmbeddingConfig, EmbeddingExtractor, Environment, Novelty, Shape};
use otf_atoms::io::{Frame, extxyz, lammps_data, lammps_dump};
use otf_atoms::structure::{Cell, Element, Structure, Vec3};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

const READER_CASES: u64 = 25_000;
const GEOMETRY_CASES: u64 = 45_000;

fn each_case(cases: u64, seed: u64, mut run: impl FnMut(&mut Random)) {
    for case in 0..cases {
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&mut Random(seed.wrapping_mul(1 << 32) + case))));
        assert!(outcome.is_ok(), "case {case} of seed {seed} panicked");
    }
}

/// Words that are inserted into files.
const WORDS: [&str; 34] = [
    "0",
    "1",
    "-1",
    "3",
    "1e308",
    "-1e308",
    "1e-320",
    "nan",
    "inf",
    "-inf",
    "999999999999",
    "18446744073709551616",
    "Al",
    "Cu",
    "ITEM: ATOMS id type x y z",
    "ITEM: TIMESTEP",
    "ITEM: BOX BOUNDS",
    "ITEM: NUMBER OF ATOMS",
    "atoms",
    "atom types",
    "xlo xhi",
    "xy xz yz",
    "Atoms # charge",
    "Masses",
    "Velocities",
    "Lattice=\"",
    "Properties=",
    "pbc=",
    "\"",
    "#",
    "=",
    ":S:1",
    "é\u{0}",
    "\n",
];

/// A valid text with a few random changes.
fn broken(text: &str, random: &mut Random) -> Vec<u8> {
    let mut lines: Vec<Vec<String>> = text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect();
    for _ in 0..1 + random.below(3) {
        if lines.is_empty() {
            break;
        }
        let at = random.below(lines.len());
        let word = WORDS[random.below(WORDS.len())].to_owned();
        match random.below(8) {
            0 => drop(lines.remove(at)),
            1 => lines.truncate(at),
            2 => {
                let copy = lines[at].clone();
                lines.insert(random.below(lines.len() + 1), copy);
            }
            3 => lines.insert(at, vec![word]),
            4 if !lines[at].is_empty() => {
                let place = random.below(lines[at].len());
                lines[at].remove(place);
            }
            5 => {
                let place = random.below(lines[at].len() + 1);
                lines[at].insert(place, word);
            }
            _ if !lines[at].is_empty() => {
                let place = random.below(lines[at].len());
                lines[at][place] = word;
            }
            _ => {}
        }
    }
    let mut bytes = lines.iter().map(|line| line.join(" ")).collect::<Vec<_>>().join("\n").into_bytes();
    if random.below(4) == 0 && !bytes.is_empty() {
        let at = random.below(bytes.len());
        bytes[at] = random.bits() as u8;
    }
    bytes
}

/// Checks that a structure that was read is consistent and finite.
fn assert_usable(structure: &Structure) {
    structure.check_arrays().unwrap();
    let _ = structure.closest_pair();
    let _ = structure.to_lammps_frame();
}

fn frame(random: &mut Random) -> Frame {
    [Frame::First, Frame::Last, Frame::Nth(1)][random.below(3)]
}

#[test]
fn extxyz_reader() {
    let text = "2\nLattice=\"4 0 0 0.5 5 0 0 1 6\" Properties=species:S:1:pos:R:3:id:I:1:momenta:R:3 pbc=\"T F T\" a='b'\n\
                Al 0 0 0 1 0 0 0\nCu 1 2 3 2 1 1 1\n";
    let text = text.repeat(2);
    let mut read = 0;
    each_case(READER_CASES, 1, |random| {
        let bytes = broken(&text, random);
        if let Ok(structure) = extxyz::read(bytes.as_slice(), Path::new("t"), None, frame(random)) {
            assert_usable(&structure);
            read += 1;
        }
    });
    assert!(read > 1000, "{read}");
}

#[test]
fn lammps_data_reader() {
    let text = "title\n\n3 atoms\n2 atom types\n0 4 xlo xhi\n0 5 ylo yhi\n0 6 zlo zhi\n0.5 -0.25 1 xy xz yz\n\nMasses\n\n\
                1 26.98 # Al\n2 63.55\n\nAtoms # atomic\n\n3 1 0 0 0 1 -1 0\n1 2 1.5 1 1 0 0 0\n2 1 2 2 2 0 0 0\n\n\
                Velocities\n\n1 1 2 3\n2 4 5 6\n3 7 8 9\n";
    let mut read = 0;
    each_case(READER_CASES, 2, |random| {
        let bytes = broken(text, random);
        if let Ok(structure) = lammps_data::read(bytes.as_slice(), Path::new("t"), None) {
            assert_usable(&structure);
            read += 1;
        }
    });
    assert!(read > 1000, "{read}");
}

#[test]
fn lammps_dump_reader() {
    let one = "ITEM: UNITS\nmetal\nITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS xy xz yz pp ff pp\n0 5 1\n\
               0 5 0.5\n0 6 0\nITEM: ATOMS id type element xs ys zs vx vy vz\n5 2 Cu 0.1 0.2 0.3 0 0 1\n\
               4 1 Al 0.5 0.5 0.5 0 0 2\n";
    let two = one.repeat(2);
    let mut read = 0;
    each_case(READER_CASES, 3, |random| {
        let bytes = broken(&two, random);
        if let Ok(structure) = lammps_dump::read(bytes.as_slice(), Path::new("t"), None, frame(random)) {
            assert_usable(&structure);
            read += 1;
        }
    });
    assert!(read > 1000, "{read}");
}

#[test]
fn geometry() {
    let special = [0.0, -0.0, 1.0, 1e-300, 1e300, f64::MAX, f64::NAN, f64::INFINITY, 1e-6, 1e6, -3.0];
    let mut cut = 0;
    each_case(GEOMETRY_CASES, 4, |random| {
        let wild = random.below(3) == 0;
        let number = |random: &mut Random, scale: f64| {
            if wild && random.below(6) == 0 {
                special[random.below(special.len())]
            } else {
                random.between(-scale, scale)
            }
        };
        let mut vectors = [[0.0; 3]; 3];
        for (i, row) in vectors.iter_mut().enumerate() {
            for (k, x) in row.iter_mut().enumerate() {
                *x = if i == k { 4.0 + number(random, 3.0) } else { number(random, 5.0) };
            }
        }
        let pbc = std::array::from_fn(|_| random.below(3) > 0);
        let cell = Cell { origin: std::array::from_fn(|_| number(random, 3.0)), vectors, pbc };
        let n = 1 + random.below(8);
        let atoms: Vec<(i32, Vec3)> =
            (0..n).map(|_| (1 + random.below(2) as i32, std::array::from_fn(|_| number(random, 9.0)))).collect();
        let mut structure = structure(cell, &[Element::Al, Element::Cu], &atoms);
        if wild && random.below(8) == 0 {
            structure.types[0] = [0, -1, 7, i32::MAX][random.below(4)];
        }
        let config = EmbeddingConfig {
            shape: [Shape::Sphere, Shape::Cube][random.below(2)],
            radius: number(random, 4.0).abs(),
            buffer: Some(number(random, 2.0).abs()),
            min_distance: 0.05,
            max_atoms: 100,
            ..EmbeddingConfig::default()
        };
        let _ = structure.validate(0.1);
        let _ = structure.closest_pair();
        let _ = structure.to_lammps_frame();
        if let Ok(extractor) = EmbeddingExtractor::new(&config, number(random, 2.0).abs())
            && let Ok(cluster) = extractor.extract_cluster(&structure, random.below(n + 1))
        {
            cluster.structure.check_arrays().unwrap();
            assert!(cluster.min_distance >= 0.05 && cluster.force_mask[cluster.center] == 1.0);
            let environment = Environment::of(&cluster, 0, 3.0);
            let mut novelty = Novelty::new(0.1);
            novelty.insert(1, environment.clone());
            assert!(novelty.find_duplicate(&environment).is_some());
            cut += 1;
        }
    });
    assert!(cut > 2000, "{cut}");
}

#[test]
fn closest_pair_of_a_large_uneven_structure() {
    // Two dense crystals in a much larger cell, for which bins of the mean density would be inefficient.
    let mut crystal = fcc(Element::Al, 4.05, 20);
    let n = crystal.len();
    for i in 0..n / 2 {
        crystal.positions[[i, 0]] += 3000.0;
    }
    crystal.cell = Cell::orthorhombic([6000.0; 3], [true; 3]);
    // ci/instructions measures the cost.
    let closest = crystal.closest_pair().unwrap();
    assert!((closest.distance - 4.05 / 2.0_f64.sqrt()).abs() < 1e-9);
}
