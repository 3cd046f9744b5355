// SPDX-License-Identifier: GPL-2.0-or-later
//! A structure in each file format and helpers to read text, for the tests of several crates.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use crate::crystals::{Random, structure};
use ndarray::Array2;
use otf_atoms::io::{Error, Frame, extxyz, lammps_data, lammps_dump};
use otf_atoms::structure::{Cell, Element, Structure};
use std::path::Path;

pub fn al_cu() -> Structure {
    let mut random = Random(3);
    let cell = Cell::from_lammps([-1.5, 0.25, 3.0], [7.0, 9.0, 12.0], [1.0 / 3.0, -2.0, 0.7], [true, true, false]);
    let atoms: Vec<_> =
        (0..20).map(|i| (1 + i % 2, cell.cartesian(std::array::from_fn(|_| random.between(-0.3, 1.2))))).collect();
    let mut structure = structure(cell, &[Element::Al, Element::Cu], &atoms);
    structure.ids.mapv_inplace(|id| 1000 - 7 * id);
    structure.velocities = Some(Array2::from_shape_fn((20, 3), |_| random.normal(3.0)));
    structure
}

pub fn xyz(text: &str) -> Result<Structure, Error> {
    extxyz::read(text.as_bytes(), Path::new("t.extxyz"), None, Frame::Last)
}

pub fn data(text: &str) -> Result<Structure, Error> {
    lammps_data::read(text.as_bytes(), Path::new("t.data"), None)
}

pub fn dump(text: &str, frame: Frame) -> Result<Structure, Error> {
    lammps_dump::read(text.as_bytes(), Path::new("t.dump"), None, frame)
}

pub fn line_of(result: Result<Structure, Error>) -> (u64, String) {
    match result.unwrap_err() {
        Error::Parse { line, message, .. } => (line, message),
        other => panic!("not an error with a line: {other}"),
    }
}

pub fn extxyz_text(structure: &Structure) -> String {
    let mut out = Vec::new();
    extxyz::write(&mut out, structure, &[], &[]).unwrap();
    String::from_utf8(out).unwrap()
}

/// Asserts equality, except for the rounding of velocities by the conversion with masses and units.
pub fn assert_same(a: &Structure, b: &Structure) {
    let mut b = b.clone();
    if let (Some(va), Some(vb)) = (&a.velocities, &b.velocities) {
        assert!(va.iter().zip(vb).all(|(x, y)| (x - y).abs() <= 1e-15 * x.abs().max(y.abs()) * 4.0));
        b.velocities = a.velocities.clone();
    }
    assert_eq!(*a, b);
}

pub const DATA: &str = "title with 5 atoms

3 atoms
2 atom types
0 4 xlo xhi
0 5 ylo yhi
0 6 zlo zhi
0.5 -0.25 1 xy xz yz

Masses

1 26.98 # Al
2 63.55

Atoms # atomic

3 1 0 0 0 1 -1 0
1 2 1.5 1 1 0 0 0
2 1 2 2 2 0 0 0

Velocities

1 1 2 3
2 4 5 6
3 7 8 9
";

#[test]
fn lammps_data_dialects() {
    let structure = data(DATA).unwrap();
    assert_eq!(structure.ids.to_vec(), [3, 1, 2]);
    assert_eq!(structure.elements, [Element::Al, Element::Cu]);
    assert_eq!(structure.cell.vectors, [[4.0, 0.0, 0.0], [0.5, 5.0, 0.0], [-0.25, 1.0, 6.0]]);
    assert_eq!(structure.velocities.unwrap().row(0).to_vec(), [7.0, 8.0, 9.0]);

    let charge = DATA
        .replace("# atomic", "# charge")
        .replace(" 1 0 0 0 1", " 1 -0.5 0 0 0 1")
        .replace("1 2 1.5", "1 2 0 1.5")
        .replace("2 1 2 2", "2 1 0 2 2");
    assert_eq!(data(&charge).unwrap().position(1), [1.5, 1.0, 1.0]);
    // The same without a style: nine columns.
    assert_eq!(data(&charge.replace("# charge", "")).unwrap().position(1), [1.5, 1.0, 1.0]);

    let labels = DATA.replace("Masses", "Atom Type Labels\n\n1 Ni\n2 Co\n\nMasses").replace("3 1 0 0", "3 Ni 0 0");
    let labels = labels.replace("26.98", "58.69").replace("63.55", "58.93");
    assert_eq!(data(&labels).unwrap().elements, [Element::Ni, Element::Co]);

    let general = DATA.replace(
        "0 4 xlo xhi\n0 5 ylo yhi\n0 6 zlo zhi\n0.5 -0.25 1 xy xz yz",
        "0 4 0 avec\n-5 0 0 bvec\n0 0 6 cvec\n1 2 3 abc origin",
    );
    assert_eq!(data(&general).unwrap().cell.vectors[1], [-5.0, 0.0, 0.0]);
    assert_eq!(data(&general).unwrap().cell.origin, [1.0, 2.0, 3.0]);

    let hint = [Element::Mg, Element::Zn];
    let light = DATA.replace("26.98", "24.305").replace("63.55", "65.38");
    let hinted = lammps_data::read(light.as_bytes(), Path::new("t"), Some(&hint)).unwrap();
    assert_eq!(hinted.elements, hint);
    let short = lammps_data::read(DATA.as_bytes(), Path::new("t"), Some(&hint[..1])).unwrap_err();
    assert!(short.to_string().contains("2 atom types, but 1 element"), "{short}");
}

pub const DUMP: &str = "ITEM: UNITS
metal
ITEM: TIME
0
ITEM: TIMESTEP
0
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS pp ff pp
0 4
0 5
0 6
ITEM: ATOMS id type element x y z vx vy vz
5 2 Cu 1 1 1 0 0 1
4 1 Al 2 2 2 0 0 2
ITEM: TIME
1
ITEM: TIMESTEP
10
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS xy xz yz pp ff pp
-0.5 5 1
0 6 -0.5
0 6 1
ITEM: ATOMS id type element xs ys zs
4 1 Al 0.5 0 0
5 2 Cu 0 0 0.5
";

#[test]
fn lammps_dump_dialects() {
    let first = dump(DUMP, Frame::First).unwrap();
    assert_eq!((first.ids.to_vec(), first.types.to_vec()), (vec![5, 4], vec![2, 1]));
    assert_eq!(first.elements, [Element::Al, Element::Cu]);
    assert_eq!(first.cell.pbc, [true, false, true]);
    assert_eq!(first.velocities.unwrap()[[1, 2]], 2.0);
    let last = dump(DUMP, Frame::Last).unwrap();
    assert_eq!(last.cell, dump(DUMP, Frame::Nth(1)).unwrap().cell);
    // xlo_bound = xlo + min(0, xy, xz, xy + xz) and so on.
    assert_eq!(last.cell.origin, [0.0, 0.0, 0.0]);
    assert_eq!(last.cell.vectors, [[4.0 - 0.0, 0.0, 0.0], [1.0, 5.0, 0.0], [-0.5, 1.0, 6.0]]);
    assert_eq!(last.position(0), [2.0, 0.0, 0.0]);
    let real = dump(&DUMP.replace("metal", "real"), Frame::First).unwrap();
    assert_eq!(real.velocities.unwrap()[[1, 2]], 2000.0);
    assert!(matches!(dump(DUMP, Frame::Nth(2)), Err(Error::NoFrame { found: 2, .. })));
    let typed = DUMP.replace(" element", "").replace(" Al", "").replace(" Cu", "");
    assert!(matches!(dump(&typed, Frame::Last), Err(Error::Elements { .. })));
    let hint = [Element::Ni, Element::Co];
    let named = lammps_dump::read(typed.as_bytes(), Path::new("t"), Some(&hint), Frame::Last).unwrap();
    assert_eq!(named.element(0), Element::Ni);
}
