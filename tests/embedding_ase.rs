// SPDX-License-Identifier: GPL-2.0-or-later
//! Comparison of the selection and of the closest pair with ASE's `neighbor_list` on random structures.
//!
//! All cases are passed to one Python process in one file, and the results are returned in one file.
#[path = "common/python.rs"]
mod common_python;
#[path = "../crates/otf-atoms/tests/crystals/mod.rs"]
mod crystals;

use crystals::{Random, structure};
use lammps_otf::embedding::{Region, indices_in_region, select};
use lammps_otf::structure::{Cell, Element, Structure, Vec3};
use std::collections::BTreeMap;

const CASES: usize = 2400;

/// Reads the cases and writes for each: the number of neighbours of the centre, their index, shift and distance, and
/// the smallest distance of all (infinite if there is no pair within the radius). Little-endian, 8 bytes each.
const PROGRAM: &str = r#"
import sys
import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

raw = open(sys.argv[1], "rb").read()
at = 0
def take(kind, count):
    global at
    values = np.frombuffer(raw, dtype=kind, count=count, offset=at)
    at += 8 * count
    return values

out = open(sys.argv[2], "wb")
while at < len(raw):
    n, center, *pbc = take("<i8", 5)
    cell = take("<f8", 9).reshape(3, 3)
    radius = take("<f8", 1)[0]
    numbers = take("<i8", n)
    positions = take("<f8", 3 * n).reshape(n, 3)
    atoms = Atoms(numbers, positions, cell=cell, pbc=[bool(p) for p in pbc])
    i, j, d, S = neighbor_list("ijdS", atoms, float(radius))
    mine = i == center
    np.array([mine.sum()], "<i8").tofile(out)
    j[mine].astype("<i8").tofile(out)
    S[mine].astype("<i8").tofile(out)
    atoms.numbers[j[mine]].astype("<i8").tofile(out)
    d[mine].astype("<f8").tofile(out)
    np.array([d.min() if len(d) else np.inf], "<f8").tofile(out)
print("ok")
"#;

struct Case {
    structure: Structure,
    center: usize,
    radius: f64,
}

fn random_cell(random: &mut Random, edge: f64) -> Cell {
    let pbc = std::array::from_fn(|_| random.below(3) > 0);
    let mut edges: Vec3 = std::array::from_fn(|_| edge * random.between(0.6, 1.6));
    let origin = std::array::from_fn(|_| random.between(-5.0, 5.0));
    let mut cell = match random.below(5) {
        0 => Cell::from_lammps([0.0; 3], edges, [0.0; 3], pbc),
        // As in LAMMPS: tilts up to half an edge.
        1 => {
            let t: Vec3 = std::array::from_fn(|k| random.between(-0.5, 0.5) * edges[k / 2]);
            Cell::from_lammps([0.0; 3], edges, t, pbc)
        }
        // Strongly tilted.
        2 | 3 => {
            let t: Vec3 = std::array::from_fn(|k| random.between(-3.0, 3.0) * edges[k / 2]);
            Cell::from_lammps([0.0; 3], edges, t, pbc)
        }
        // Arbitrary vectors, left- or right-handed.
        _ => {
            edges = edges.map(|x| x * 1.3);
            loop {
                let vectors: [Vec3; 3] =
                    std::array::from_fn(|k| std::array::from_fn(|_| edges[k] * random.between(-1.0, 1.0)));
                let cell = Cell { origin: [0.0; 3], vectors, pbc };
                let full: f64 = edges.iter().product();
                if cell.volume() > 0.15 * full {
                    break cell;
                }
            }
        }
    };
    // ASE's cells start at zero; the selection must not depend on the origin.
    cell.origin = origin;
    cell
}

fn random_case(number: usize) -> Case {
    let mut random = Random(0xE5E0 + number as u64);
    let large = number.is_multiple_of(100);
    let edge = if large { random.between(20.0, 40.0) } else { random.between(3.0, 20.0) };
    let cell = random_cell(&mut random, edge);
    // Mostly small structures, some with up to 3000 atoms.
    let (most_atoms, most_pairs) = match number % 100 {
        0 => (3000, 6e6),
        1..10 => (600, 3e5),
        _ => (60, 2e4),
    };
    let mut n = if large { 2000 + random.below(1001) } else { 1 + random.below(most_atoms) };
    let mut ratio: f64 = random.between(0.05, 1.5);
    let length = cell.volume().cbrt();
    // Some atoms are up to two cells outside, along any vector.
    let stray = if !large && random.below(3) == 0 { 2.0 } else { 0.0 };
    // The cost in ASE: it sorts atoms into bins as wide as the radius (atoms outside a non-periodic face into the
    // last bin), gives all bins as many places as the fullest one, and tests all pairs of places.
    let heights = cell.heights();
    let pbc = cell.pbc;
    let pairs = |n: usize, ratio: f64| {
        let bins = heights.map(|h| (h / (ratio * length).max(3.0)).floor().max(1.0));
        let share = |k: usize| if pbc[k] || stray == 0.0 { 1.0 / bins[k] } else { (1.0 / bins[k]).max(0.45) };
        let mean = n as f64 * share(0) * share(1) * share(2);
        let fullest = (mean + 4.0 * mean.sqrt() + 1.0).min(n as f64);
        let images = |k: usize| (2.0 * ((ratio * length).max(3.0) * bins[k] / heights[k]).ceil() + 1.0) * bins[k];
        fullest * fullest * images(0) * images(1) * images(2)
    };
    while pairs(n, ratio) > most_pairs {
        if n > 4 && ratio < 0.03 || n > 4 && !large && random.below(3) > 0 {
            n = n * 3 / 4;
        } else if ratio < 0.01 {
            break;
        } else {
            ratio *= 0.9;
        }
    }
    let species = 1 + random.below(4);
    let elements = [Element::Al, Element::Cu, Element::H, Element::U];
    let atoms: Vec<(i32, Vec3)> = (0..n)
        .map(|_| {
            let s = std::array::from_fn(|_| random.between(-stray, 1.0 + stray));
            (1 + random.below(species) as i32, cell.cartesian(s))
        })
        .collect();
    let center = random.below(n);
    Case { structure: structure(cell, &elements[..species], &atoms), center, radius: ratio * length }
}

struct Bytes(Vec<u8>, usize);

impl Bytes {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let bytes = self.0[self.1..self.1 + N].try_into().unwrap();
        self.1 += N;
        bytes
    }

    fn integer(&mut self) -> i64 {
        i64::from_le_bytes(self.take())
    }

    fn real(&mut self) -> f64 {
        f64::from_le_bytes(self.take())
    }
}

/// `indices_in_region` returns all atoms of which `select` returns an image in the first region, in that order, and
/// none without an image in the second, which is slightly larger.
fn same_atoms(structure: &Structure, center: Vec3, [region, larger]: [Region; 2]) {
    let found = |region| {
        let mut ids: Vec<i64> =
            select(structure.atoms(), &structure.cell, center, region).iter().map(|atom| atom.id).collect();
        ids.dedup();
        ids
    };
    let near: Vec<i64> = indices_in_region(structure.atoms(), &structure.cell, center, region)
        .iter()
        .map(|at| structure.ids[*at])
        .collect();
    let (least, most) = (found(region), found(larger));
    let within = |few: &[i64], many: &[i64]| {
        let mut many = many.iter();
        few.iter().all(|id| many.any(|other| other == id))
    };
    assert!(within(&least, &near) && within(&near, &most), "{least:?} {near:?} {most:?}");
}

#[test]
fn selection_and_closest_pair_equal_ase_on_random_structures() {
    let cases: Vec<Case> = (0..CASES).map(random_case).collect();
    let mut input = Vec::new();
    for Case { structure, center, radius } in &cases {
        let mut integer = |i: i64| input.extend(i.to_le_bytes());
        integer(structure.len() as i64);
        integer(*center as i64);
        structure.cell.pbc.iter().for_each(|&p| integer(i64::from(p)));
        structure.cell.vectors.iter().flatten().for_each(|x| input.extend(x.to_le_bytes()));
        input.extend(radius.to_le_bytes());
        for i in 0..structure.len() {
            input.extend(i64::from(structure.element(i).atomic_number()).to_le_bytes());
        }
        structure.positions.iter().for_each(|x| input.extend(x.to_le_bytes()));
    }
    let folder = tempfile::tempdir().unwrap();
    let (questions, answers) = (folder.path().join("questions"), folder.path().join("answers"));
    std::fs::write(&questions, input).unwrap();
    common_python::run(PROGRAM, &[&questions, &answers]);
    let mut answers = Bytes(std::fs::read(&answers).unwrap(), 0);

    let (mut neighbours, mut beyond_the_nearest, mut closest_checked) = (0, 0, 0);
    for (number, Case { structure, center, radius }) in cases.iter().enumerate() {
        let count = answers.integer() as usize;
        let indices: Vec<i64> = (0..count).map(|_| answers.integer()).collect();
        let shifts: Vec<[i64; 3]> = (0..count).map(|_| std::array::from_fn(|_| answers.integer())).collect();
        let numbers: Vec<i64> = (0..count).map(|_| answers.integer()).collect();
        let distances: Vec<f64> = (0..count).map(|_| answers.real()).collect();
        let smallest = answers.real();

        let mut expected: BTreeMap<(i64, [i64; 3]), (i64, f64)> = BTreeMap::new();
        for k in 0..count {
            let id = structure.ids[indices[k] as usize];
            assert!(expected.insert((id, shifts[k]), (numbers[k], distances[k])).is_none());
        }
        let region = Region::Sphere { radius: *radius };
        let position = structure.position(*center);
        let found = select(structure.atoms(), &structure.cell, position, region);
        same_atoms(structure, position, [region, Region::Sphere { radius: radius * (1.0 + 1e-8) }]);
        let [cube, larger] = [*radius, radius * (1.0 + 1e-8)].map(|half_edge| Region::Cube { half_edge });
        same_atoms(structure, position, [cube, larger]);
        // Coordinates up to 5 cells × 60 Å: a relative 1e-16 in each of a few additions.
        let tolerance = 1e-11;
        let mut others = 0;
        for atom in &found {
            if atom.id == structure.ids[*center] && atom.image == [0; 3] {
                assert_eq!(atom.distance, 0.0);
                continue;
            }
            let key = (atom.id, atom.image.map(i64::from));
            match expected.remove(&key) {
                Some((number, distance)) => {
                    assert!((distance - atom.distance).abs() < tolerance, "case {number}: {atom:?} {distance}");
                    let element = structure.elements[atom.ty as usize - 1];
                    assert_eq!(i64::from(element.atomic_number()), number);
                }
                // On the surface, rounding decides.
                None => assert!((atom.distance - radius).abs() < tolerance, "case {number}: {atom:?} is not ASE's"),
            }
            others += 1;
        }
        for (key, (_, distance)) in &expected {
            assert!((distance - radius).abs() < tolerance, "case {number}: {key:?} at {distance} is missing");
        }
        neighbours += others;
        beyond_the_nearest += usize::from(others >= structure.len());
        if smallest < *radius {
            let closest = structure.closest_pair().unwrap();
            assert!((closest.distance - smallest).abs() < tolerance, "case {number}: {closest:?} {smallest}");
            closest_checked += 1;
        }
    }
    println!("{CASES} structures, {neighbours} neighbours, {beyond_the_nearest} with several images of an atom");
    // Checks that the generator produced a sufficient number of neighbours.
    assert!(neighbours > 40_000 && beyond_the_nearest > 300 && closest_checked > 1000);
}
