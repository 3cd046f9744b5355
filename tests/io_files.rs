// SPDX-License-Identifier: GPL-2.0-or-later
//! Structure files: what is written is read again, by us and by the real ASE; what is broken is refused with its line.
mod crystals;

use crystals::{Random, fcc, rattle, run_python, structure};
use lammps_otf::io::extxyz::{self, Column, ColumnData, Value};
use lammps_otf::io::{self, Error, Frame, lammps_data, lammps_dump};
use lammps_otf::structure::{Cell, Element, FixedAtoms, Structure, StructureError};
use ndarray::Array2;
use std::path::Path;

fn al_cu() -> Structure {
    let mut random = Random(3);
    let cell = Cell::from_lammps([-1.5, 0.25, 3.0], [7.0, 9.0, 12.0], [1.0 / 3.0, -2.0, 0.7], [true, true, false]);
    let atoms: Vec<_> =
        (0..20).map(|i| (1 + i % 2, cell.cartesian(std::array::from_fn(|_| random.between(-0.3, 1.2))))).collect();
    let mut structure = structure(cell, &[Element::Al, Element::Cu], &atoms);
    structure.ids.mapv_inplace(|id| 1000 - 7 * id);
    structure.velocities = Some(Array2::from_shape_fn((20, 3), |_| random.normal(3.0)));
    structure
}

fn xyz(text: &str) -> Result<Structure, Error> {
    extxyz::read(text.as_bytes(), Path::new("t.extxyz"), None, Frame::Last)
}

fn data(text: &str) -> Result<Structure, Error> {
    lammps_data::read(text.as_bytes(), Path::new("t.data"), None)
}

fn dump(text: &str, frame: Frame) -> Result<Structure, Error> {
    lammps_dump::read(text.as_bytes(), Path::new("t.dump"), None, frame)
}

fn line_of(result: Result<Structure, Error>) -> (u64, String) {
    match result.unwrap_err() {
        Error::Parse { line, message, .. } => (line, message),
        other => panic!("not an error of a line: {other}"),
    }
}

fn extxyz_text(structure: &Structure) -> String {
    let mut out = Vec::new();
    extxyz::write(&mut out, structure, &[], &[]).unwrap();
    String::from_utf8(out).unwrap()
}

/// Equal, but for velocities: those go through masses and units and lose a bit or two.
fn assert_same(a: &Structure, b: &Structure) {
    let mut b = b.clone();
    if let (Some(va), Some(vb)) = (&a.velocities, &b.velocities) {
        assert!(va.iter().zip(vb).all(|(x, y)| (x - y).abs() <= 1e-15 * x.abs().max(y.abs()) * 4.0));
        b.velocities = a.velocities.clone();
    }
    assert_eq!(*a, b);
}

#[test]
fn extxyz_comes_back_bit_by_bit() {
    let structure = al_cu();
    assert_same(&structure, &xyz(&extxyz_text(&structure)).unwrap());
}

#[test]
fn lammps_data_comes_back_bit_by_bit() {
    let mut structure = al_cu();
    let mut out = Vec::new();
    lammps_data::write(&structure, &mut out).unwrap();
    // A data file does not say what repeats; and it holds bounds, not edges: the edge may lose its last bit.
    structure.cell.pbc = [true; 3];
    let back = data(std::str::from_utf8(&out).unwrap()).unwrap();
    for k in 0..3 {
        assert!((back.cell.vectors[k][k] - structure.cell.vectors[k][k]).abs() < 4e-15);
    }
    structure.cell.vectors = back.cell.vectors;
    assert_eq!(back, structure);
}

#[test]
fn a_general_cell_is_rotated_for_lammps() {
    let mut general = al_cu();
    general.cell =
        Cell { origin: [0.0; 3], vectors: [[0.0, 7.0, 1.0], [1.0, 0.5, 8.0], [9.0, 0.0, 1.0]], pbc: [true; 3] };
    assert!(general.cell.signed_volume() > 0.0);
    let mut out = Vec::new();
    lammps_data::write(&general, &mut out).unwrap();
    let back = data(std::str::from_utf8(&out).unwrap()).unwrap();
    for i in 0..general.len() {
        let (s, t) = (general.cell.fractional(general.position(i)), back.cell.fractional(back.position(i)));
        assert!((0..3).all(|k| (s[k] - t[k]).abs() < 1e-13));
    }
    general.cell.vectors.swap(0, 1);
    assert!(matches!(lammps_data::write(&general, &mut out), Err(Error::Frame(_))));
}

#[test]
fn the_real_ase_reads_what_we_write_and_we_read_what_it_writes() {
    let structure = al_cu();
    let n = structure.len();
    let mask: Vec<f64> = (0..n).map(|i| f64::from(u8::from(i < 5))).collect();
    let source: Vec<i32> = (0..n as i32).map(|i| 3 * i + 1).collect();
    let forces = Array2::from_shape_fn((n, 3), |(i, k)| i as f64 / 7.0 - k as f64);
    let images: Vec<[i32; 3]> = (0..n as i32).map(|i| [i, -i, 0]).collect();
    let columns = [
        Column::real("force_mask", &mask),
        Column::integer("source_id", &source),
        Column { name: "forces", data: ColumnData::RealRows(forces.view()) },
        Column { name: "source_image", data: ColumnData::IntegerTriples(&images) },
    ];
    let info = [
        ("gamma", Value::Real(12.25)),
        ("step", Value::Integer(-3)),
        ("stopped", Value::Bool(true)),
        ("note", Value::Text("a \"b\" = c\\d, é".to_owned())),
    ];
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs, theirs_data) =
        (folder.path().join("ours.extxyz"), folder.path().join("theirs.extxyz"), folder.path().join("theirs.data"));
    extxyz::write(&mut std::fs::File::create(&ours).unwrap(), &structure, &columns, &info).unwrap();
    let said = run_python(
        r#"
import sys
import numpy as np
from ase.io import read, write
from ase import units
a = read(sys.argv[1])
print(repr(a.cell.array.ravel().tolist()), a.pbc.tolist(), a.get_chemical_formula())
print(a.arrays["force_mask"].sum(), a.arrays["source_id"].tolist()[:3], a.arrays["source_image"].tolist()[2])
print(a.info["gamma"], a.info["step"], a.info["stopped"], a.info["note"])
print(repr(a.positions[3].tolist()), repr((a.get_velocities()[3] * 1000 * units.fs).tolist()))
print(repr(a.get_forces()[4].tolist()))
write(sys.argv[2], [a, a])
b = a.copy(); b.cell[2] = 0, 0, 0; b.pbc = [True, True, False]; b.rattle(0.0)
write(sys.argv[2] + ".slab.extxyz", b)
a.pbc = True
write(sys.argv[3], a, format="lammps-data", masses=True, velocities=True, units="metal")
"#,
        &[&ours, &theirs, &theirs_data],
    );
    let lines: Vec<&str> = said.lines().collect();
    let cell: Vec<f64> = structure.cell.vectors.iter().flatten().copied().collect();
    assert_eq!(lines[0], format!("{cell:?} [True, True, False] Al10Cu10"));
    assert_eq!(lines[1], "5.0 [1, 4, 7] [2, -2, 0]");
    assert_eq!(lines[2], "12.25 -3 True a \"b\" = c\\d, é");
    let position: Vec<f64> = structure.position(3).to_vec();
    assert!(lines[3].starts_with(&format!("{position:?}")), "{}", lines[3]);
    let velocity: Vec<f64> = lines[3].rsplit_once('[').unwrap().1[..]
        .trim_end_matches(']')
        .split(", ")
        .map(|x| x.parse().unwrap())
        .collect();
    for (k, v) in velocity.iter().enumerate() {
        let ours = structure.velocities.as_ref().unwrap()[[3, k]];
        // ASE's atomic weights are IUPAC's of another year than ours.
        assert!((v / ours - 1.0).abs() < 1e-7, "{v} {ours}");
    }
    assert_eq!(lines[4], format!("{:?}", forces.row(4).to_vec()));

    // ASE writes 8 decimals.
    let back = io::read(&theirs, None).unwrap();
    assert_eq!((&back.ids, &back.types, back.cell.pbc), (&structure.ids, &structure.types, structure.cell.pbc));
    assert!(back.positions.iter().zip(&structure.positions).all(|(a, b)| (a - b).abs() < 1e-7));
    let (a, b) = (back.velocities.unwrap(), structure.velocities.as_ref().unwrap());
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6));
    let slab = io::read(folder.path().join("theirs.extxyz.slab.extxyz"), None).unwrap();
    assert!(slab.cell.volume() > 0.0 && !slab.cell.pbc[2]);
    let from_data = io::read(&theirs_data, None).unwrap();
    assert_eq!(from_data.elements, [Element::Al, Element::Cu]);
    assert_eq!(from_data.len(), 20);
    assert!(from_data.velocities.is_some());
}

#[test]
fn extxyz_dialects() {
    let text = "2\nLattice=\"4 0 0 0 4 0 0 0 4\" properties=id:I:1:species:S:1:pos:R:3:velo:R:3 flag Origin='1 2 3'\n\
                7 al 0 0 0 1e-3 0 0\n9 Cu 1 1 1 0 0 0\n";
    let structure = xyz(text).unwrap();
    assert_eq!(structure.ids.to_vec(), [7, 9]);
    assert_eq!(structure.cell.pbc, [true; 3]);
    assert_eq!(structure.cell.origin, [1.0, 2.0, 3.0]);
    assert_eq!(structure.velocities.unwrap()[[0, 0]], 1.0);
    let plain = "1\nLattice=\"4 0 0 0 4 0 0 0 4\" pbc=[T, F, T]\nAl 0 0 0\n";
    assert_eq!(xyz(plain).unwrap().cell.pbc, [true, false, true]);
    let numbers = "1\nLattice={4 0 0 0 4 0 0 0 4} Properties=Z:I:1:pos:R:3\n13 0 0 0\n";
    assert_eq!(xyz(numbers).unwrap().element(0), Element::Al);
    let old = xyz("1\nan old comment\nAl 0 0 0\n");
    assert!(line_of(old).1.contains("no Lattice"));
    let hint = [Element::Cu, Element::Al];
    let hinted = extxyz::read(plain.as_bytes(), Path::new("t"), Some(&hint), Frame::First).unwrap();
    assert_eq!(hinted.types.to_vec(), [2]);
    let wrong = extxyz::read(plain.as_bytes(), Path::new("t"), Some(&hint[..1]), Frame::First);
    assert_eq!(line_of(wrong).0, 3);
}

#[test]
fn frames_are_chosen() {
    let frame = |x: usize| format!("1\nLattice=\"4 0 0 0 4 0 0 0 4\"\nAl {x} 0 0\n");
    let text: String = (0..4).map(frame).collect();
    let pick = |frame| extxyz::read(text.as_bytes(), Path::new("t"), None, frame).map(|s| s.positions[[0, 0]]);
    assert_eq!(pick(Frame::First).unwrap(), 0.0);
    assert_eq!(pick(Frame::Last).unwrap(), 3.0);
    assert_eq!(pick(Frame::Nth(2)).unwrap(), 2.0);
    assert!(matches!(pick(Frame::Nth(4)), Err(Error::NoFrame { found: 4, wanted: 4, .. })));
}

#[test]
fn broken_extxyz_is_refused_with_its_line() {
    let head = "2\nLattice=\"4 0 0 0 4 0 0 0 4\" Properties=species:S:1:pos:R:3:id:I:1\n";
    let cases = [
        ("Al 0 0 0 1\n", 3, "ends after 1 of 2"),
        ("Al 0 0 0 1\nAl 0 nan 0 2\n", 4, "not a finite number"),
        ("Al 0 0 0 1\nAl 0 inf 0 2\n", 4, "not a finite number"),
        ("Al 0 0 0 1\nAl 0 x 0 2\n", 4, "should be a number"),
        ("Al 0 0 0 1\nAl 1 1 1 1\n", 4, "used in line 3"),
        ("Al 0 0 0 0\nAl 1 1 1 1\n", 3, "not positive"),
        ("Al 0 0 0 1\nXx 1 1 1 2\n", 4, "not a chemical element"),
        ("Al 0 0 0 1\nAl 1 1 1\n", 4, "columns"),
        ("Al 0 0 0 1\nAl 1 1 1 99999999999\n", 4, "within range"),
    ];
    for (rows, line, message) in cases {
        let (found, text) = line_of(xyz(&format!("{head}{rows}")));
        assert!(found == line && text.contains(message), "{rows}: line {found}: {text}");
    }
    assert_eq!(line_of(xyz("")).0, 0);
    assert_eq!(line_of(xyz("99999999999999\nx\n")).0, 2);
    assert_eq!(line_of(xyz("-3\nx\n")).0, 1);
    assert!(matches!(xyz("1\nLattice=\"4 0 0 8 0 0 0 0 4\"\nAl 0 0 0\n"), Err(Error::Cell { line: 2, .. })));
}

const DATA: &str = "title with 5 atoms

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
    // The same without saying so: nine columns.
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

#[test]
fn broken_lammps_data_is_refused_with_its_line() {
    let swap = |from: &str, to: &str| line_of(data(&DATA.replace(from, to)));
    let expect = |(line, text): (u64, String), wanted: u64, message: &str| {
        assert!(line == wanted && text.contains(message), "line {line}: {text}");
    };
    expect(swap("3 atoms\n", "4 atoms\n"), 25, "3 of 4 atoms");
    expect(swap("3 atoms\n", "2 atoms\n"), 19, "more atoms than the 2");
    expect(swap("3 atoms\n", "1e3 atoms\n"), 3, "whole number");
    expect(swap("1.5 1 1", "nan 1 1"), 18, "not a finite number");
    expect(swap("1 2 1.5", "3 2 1.5"), 18, "used in line 17");
    expect(swap("1 2 1.5", "1 7 1.5"), 18, "type 7");
    expect(swap("# atomic", "# full"), 15, "\"full\"");
    expect(swap("2 4 5 6\n", ""), 24, "atom 2 has no velocity");
    expect(swap("2 4 5 6", "8 4 5 6"), 24, "atom 8");
    expect(swap("0 4 xlo xhi", "4 0 xlo xhi"), 5, "upper bound");
    expect(swap("0 4 xlo xhi\n", ""), 24, "xlo xhi");
    expect(swap("Velocities", "Velocitees"), 21, "not a section");
    expect(swap("2 atom types\n", "2 atom types\n4 atoms\n"), 5, "given twice: 3 before, and 4 here");
    expect(swap("0 6 zlo zhi\n", "0 6 zlo zhi\n1 4 xlo xhi\n"), 8, "xlo xhi is given twice: (0.0, 4.0)");
    expect(swap("0 6 zlo zhi\n", "0 6 zlo zhi\n4 0 0 avec\n"), 26, "the box twice");
    expect(swap("2 63.55\n", "2 63.55\n1 27\n"), 14, "the mass of type 1 is given twice: 26.98 before");
    expect(swap("3 7 8 9\n", "3 7 8 9\n2 4 5 7\n"), 26, "atom 2 has two velocities");
    expect(swap("Masses", "Atom Type Labels\n\n1 Al\n2 Al\n\nMasses"), 13, "that of type 1 already");
    expect(line_of(data("")), 0, "empty");
    let error = data(&DATA.replace("63.55", "17.5")).unwrap_err();
    assert!(error.to_string().contains("atom type 2") && error.to_string().contains("give the elements"), "{error}");
    let huge = data("t\n999999999999 atoms\n99999999999 atom types\n").unwrap_err();
    assert!(huge.to_string().contains("line 3"), "{huge}");
}

const DUMP: &str = "ITEM: UNITS
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
fn dumps_are_read() {
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

#[test]
fn broken_dumps_are_refused_with_their_line() {
    let swap = |from: &str, to: &str| line_of(dump(&DUMP.replace(from, to), Frame::Last));
    assert_eq!(swap("5 2 Cu 0 0 0.5\n", "").0, 27);
    assert_eq!(swap("5 2 Cu 0 0 0.5", "5 2 Cu 0 0 nan").0, 28);
    assert_eq!(swap("5 2 Cu 0 0 0.5", "4 2 Cu 0 0 1").0, 28);
    assert_eq!(swap("xs ys zs", "a b c").0, 26);
    assert_eq!(swap("metal", "lj").0, 2);
    assert_eq!(swap("0 6 1\n", "0 6 x\n").0, 22);
    assert_eq!(line_of(dump("hello\n", Frame::Last)).0, 1);
    assert_eq!(line_of(dump("", Frame::Last)).0, 0);
}

#[test]
fn the_format_is_told_from_name_or_content() {
    use io::Format::{ExtXyz, LammpsData, LammpsDump};
    let tell = |name: &str, text: &str| io::detect(Path::new(name), text.as_bytes());
    assert_eq!(tell("a.xyz", ""), Some(ExtXyz));
    assert_eq!(tell("x/data.al", ""), Some(LammpsData));
    assert_eq!(tell("a.lmp", "ITEM: TIMESTEP\n"), Some(LammpsDump));
    assert_eq!(tell("noname", DATA), Some(LammpsData));
    assert_eq!(tell("noname", DUMP), Some(LammpsDump));
    assert_eq!(tell("noname", "1\nLattice=\"\"\n"), Some(ExtXyz));
    assert_eq!(tell("noname", "hello"), None);
    let missing = io::read("there/is/no.data", None).unwrap_err();
    assert!(missing.to_string().contains("there/is/no.data"), "{missing}");
}

#[test]
fn validation_names_what_is_wrong() {
    let good = fcc(Element::Al, 4.05, 3);
    good.validate(0.5).unwrap();
    let closest = good.closest_pair().unwrap();
    assert!((closest.distance - 4.05 / 2.0_f64.sqrt()).abs() < 1e-12);
    let broken = |change: &dyn Fn(&mut Structure)| {
        let mut structure = good.clone();
        change(&mut structure);
        structure.validate(0.5).unwrap_err()
    };
    assert!(matches!(broken(&|s| s.ids[3] = 1), StructureError::Id { id: 1 }));
    assert!(matches!(broken(&|s| s.types[3] = 2), StructureError::Type { id: 4, ty: 2, types: 1 }));
    assert!(matches!(broken(&|s| s.positions[[5, 2]] = f64::NAN), StructureError::NotFinite { id: 6, .. }));
    assert!(matches!(broken(&|s| s.velocities = Some(Array2::zeros((3, 3)))), StructureError::Shape { found: 3, .. }));
    // Through the boundary: the last atom next to the image of the first.
    let overlap = broken(&|s| s.positions.row_mut(107).assign(&ndarray::arr1(&[12.0, 12.1, -0.1])));
    assert!(matches!(overlap, StructureError::Overlap { .. }), "{overlap}");
    // Coincident atoms, many of them: a k-d tree must not mind.
    let mut same = fcc(Element::Al, 4.05, 8);
    same.positions.fill(1.0);
    assert_eq!(same.closest_pair().unwrap().distance, 0.0);
    let one = structure(Cell::orthorhombic([4.0, 5.0, 6.0], [false, true, true]), &[Element::Al], &[(1, [0.0; 3])]);
    assert_eq!(one.closest_pair().unwrap().distance, 5.0);
    let alone = structure(Cell::orthorhombic([4.0; 3], [false; 3]), &[Element::Al], &[(1, [0.0; 3])]);
    assert_eq!(alone.closest_pair(), None);
}

#[test]
fn a_rattled_crystal_in_a_big_vacuum_keeps_its_closest_pair() {
    let mut crystal = fcc(Element::Al, 4.05, 6);
    rattle(&mut crystal, 0.1, 5);
    crystal.cell.pbc = [false; 3];
    let inside = crystal.closest_pair().unwrap();
    crystal.cell = Cell::orthorhombic([5000.0; 3], [true; 3]);
    let outside = crystal.closest_pair().unwrap();
    assert!((inside.distance - outside.distance).abs() < 1e-11);
}

#[test]
fn the_real_lammps_reads_our_data_files() {
    let mut structure = al_cu();
    structure.cell =
        Cell { origin: [1.0, 0.0, 0.0], vectors: [[0.0, 7.0, 1.0], [1.0, 0.5, 8.0], [9.0, 0.0, 1.0]], pbc: [true; 3] };
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (folder.path().join("ours.data"), folder.path().join("theirs.data"));
    lammps_data::write(&structure, std::fs::File::create(&ours).unwrap()).unwrap();
    let script = format!(
        "units metal\natom_style atomic\nbox tilt large\nread_data {}\npair_style zero 3.0\npair_coeff * *\nmass 1 26.98\n\
         mass 2 63.55\nwrite_data {}\n",
        ours.display(),
        theirs.display()
    );
    let input = folder.path().join("in");
    std::fs::write(&input, script).unwrap();
    let lmp = std::env::var_os("LAMMPS_OTF_LMP")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps/bin/lmp"), std::path::PathBuf::from);
    assert!(lmp.exists(), "{} does not exist: run ci/setup, or set LAMMPS_OTF_LMP", lmp.display());
    let output = std::process::Command::new(lmp).arg("-log").arg("none").arg("-in").arg(&input).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    // What LAMMPS writes is ours after wrapping, without comments behind the masses: the masses tell the elements.
    let back = io::read(&theirs, None).unwrap();
    let (turned, _) = structure.to_lammps_frame().unwrap();
    assert_eq!((back.len(), &back.elements), (20, &structure.elements));
    for (i, id) in back.ids.iter().enumerate() {
        let parent = turned.ids.iter().position(|other| other == id).unwrap();
        // LAMMPS wraps through fractional coordinates of its own.
        assert!(turned.cell.distance(turned.position(parent), back.position(i)) < 1e-12);
        let (a, b) = (back.velocities.as_ref().unwrap().row(i), turned.velocities.as_ref().unwrap().row(parent));
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12));
    }
}

#[test]
fn an_extxyz_key_or_column_that_comes_twice() {
    let lattice = "Lattice=\"4 0 0 0 5 0 0 0 6\"";
    let plain = format!("1\n{lattice} pbc=\"T T F\"\nAl 0 0 0\n");
    let with = |more: &str| xyz(&plain.replace(" pbc", &format!(" {more} pbc")));
    let whole = xyz(&plain).unwrap();
    // The exact name goes first, wherever it stands, and what is said twice alike is no contradiction.
    for more in ["lattice=\"9 0 0 0 9 0 0 0 9\"", "PBC=\"F F F\"", lattice, "pbc=\"T T F\""] {
        assert_eq!(with(more).unwrap(), whole, "{more}");
        let behind = plain.replace("T T F\"", &format!("T T F\" {more}"));
        assert_eq!(xyz(&behind).unwrap(), whole, "{more}");
    }
    for (more, words) in [
        ("pbc=\"F F F\"", ["pbc=\"F F F\"", "pbc=\"T T F\""]),
        ("Lattice=\"9 0 0 0 9 0 0 0 9\"", ["9 0 0 0 9", "4 0 0 0 5"]),
        ("origin=\"1 0 0\" ORIGIN=\"2 0 0\"", ["origin=\"1 0 0\"", "ORIGIN=\"2 0 0\""]),
        ("Properties=species:S:1:pos:R:3:pos:R:3", ["pos:R:3 and pos:R:3", "mean the same"]),
        ("Properties=species:S:1:POS:R:3:positions:R:3", ["POS:R:3", "positions:R:3"]),
        ("Properties=species:S:1:pos:R:3:vel:R:3:velo:R:3", ["vel:R:3", "velo:R:3"]),
        ("Properties=species:S:1:pos:R:3:FORCES:R:3:force:R:3", ["FORCES:R:3", "force:R:3"]),
    ] {
        let (line, message) = line_of(with(more));
        assert!(line == 2 && words.iter().all(|word| message.contains(word)), "{more}: {message}");
    }
    let mass = f64::from(Element::Al.atomic_weight());
    let momenta = format!(
        "1\nLattice=\"4 0 0 0 4 0 0 0 4\" Properties=species:S:1:pos:R:3:velo:R:3:momenta:R:3\n\
         Al 0 0 0 9 9 9 {mass:?} 0 0\n"
    );
    let v = xyz(&momenta).unwrap().velocities.unwrap()[[0, 0]];
    assert!((v / extxyz::ASE_VELOCITY - 1.0).abs() < 1e-15, "{v}");
    let both = "1\nLattice=\"4 0 0 0 4 0 0 0 4\" Properties=species:S:1:pos:R:3:Z:I:1\nAl 0 0 0 13\n";
    assert_eq!(xyz(both).unwrap().element(0), Element::Al);
    let (line, message) = line_of(xyz(&both.replace("13\n", "29\n")));
    assert!(line == 3 && message.contains("Z = 13") && message.contains("29"), "{message}");
}

/// What we read is what ASE reads, or an error that names both.
#[test]
fn the_real_ase_reads_the_same_of_files_that_repeat_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let lattice = "Lattice=\"4 0 0 0 5 0 0 0 6\"";
    let headers = [
        format!("{lattice} lattice=\"9 0 0 0 9 0 0 0 9\" pbc=\"T F T\" PBC=\"F F F\" energy=1.5 Energy=9"),
        format!("Energy=9 energy=1.5 pbc=T {lattice} Properties=species:S:1:pos:R:3:Forces:R:3:forces:R:3:force:R:3"),
        format!("pbc=F {lattice} Properties=species:S:1:pos:R:3:force:R:3:momenta:R:3:vel:R:3:forces:R:3 energy=1.5"),
        format!("{lattice} energy=1.5 pbc=\"T T T\" Properties=species:S:1:pos:R:3:Mass:R:1:masses:R:1:forces:R:3"),
    ];
    for (number, header) in headers.iter().enumerate() {
        let columns: usize = header
            .split_once("Properties=")
            .map_or(3, |(_, list)| list.matches(":R:3").count() * 3 + list.matches(":R:1").count());
        let row: String = (0..columns).map(|k| format!(" {}", 26 + k)).collect();
        let path = folder.path().join(format!("{number}.extxyz"));
        std::fs::write(&path, format!("1\n{header}\nAl{row}\n")).unwrap();
        let (ours, results) = extxyz::read_results(&path).unwrap();
        let said = run_python(
            "import sys, json; from ase.io import read; from ase import units; a = read(sys.argv[1]); r = a.calc.results; \
             f = r.get('forces'); v = a.get_velocities() * 1000 * units.fs; \
             print(json.dumps([a.cell.array.ravel().tolist(), a.pbc.tolist(), r['energy'], \
             None if f is None else f.ravel().tolist(), a.get_masses().tolist(), v.ravel().tolist()]))",
            &[&path],
        );
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said[0], serde_json::json!(ours.cell.vectors.as_flattened()), "{header}");
        assert_eq!(said[1], serde_json::json!(ours.cell.pbc), "{header}");
        assert_eq!(said[2], serde_json::json!(results.energy), "{header}");
        let forces = results.forces.map(|forces| forces.iter().copied().collect::<Vec<f64>>());
        assert_eq!(said[3], serde_json::json!(forces), "{header}");
        assert!((said[4][0].as_f64().unwrap() / ours.mass(0) - 1.0).abs() < 1e-7, "{header}: {said}");
        for k in 0..3 {
            let v = ours.velocities.as_ref().map_or(0.0, |v| v[[0, k]]);
            assert!((said[5][k].as_f64().unwrap() - v).abs() <= 1e-7 * v.abs(), "{header}: {said}");
        }
    }
}

/// Lines of Atoms as molecular styles have them: id, molecule, type, x, y, z.
#[test]
fn data_files_that_do_not_name_their_style() {
    let head = DATA.split("Atoms").next().unwrap();
    let atoms = |rows: &str| data(&format!("{head}Atoms\n\n{rows}"));
    for rows in [
        // As charge the molecule would be the type.
        "1 1 2 0 0 0\n2 2 1 1 1 1\n3 1 1 2 2 2\n",
        "1 1 2 0 0 0 0 0 0\n2 2 1 1 1 1 0 0 0\n3 1 1 2 2 2 0 0 0\n",
        // A molecule that is no type.
        "1 1 2 0 0 0\n2 7 1 1 1 1\n3 1 1 2 2 2\n",
        // Charges that could be types.
        "1 1 1 0 0 0\n2 2 2 1 1 1\n3 1 1 2 2 2\n",
    ] {
        let (line, message) = line_of(atoms(rows));
        let named = ["does not name its style", "charge", "molecular", "Atoms # charge", "atom_style atomic"];
        assert!(line >= 17 && named.iter().all(|word| message.contains(word)), "{rows}: {line}: {message}");
    }
    // No type is 0, -0.5 or 1.0, so these are charges.
    for charge in ["0", "-0.5", "1.0"] {
        let read = atoms(&format!("1 1 {charge} 0 0 0\n2 2 1 1 1 1\n3 1 1 2 2 2\n")).unwrap();
        assert_eq!((read.types.to_vec(), read.position(1)), (vec![1, 2, 1], [1.0; 3]));
    }
    assert_eq!(line_of(atoms("1 1 1 1.5 0 0 0\n")).0, 17);
}

#[test]
fn masses_of_files_are_kept_and_compared_with_the_elements() {
    // Deuterium, and carbon as LAMMPS rounds it.
    let file = DATA.replace("26.98 # Al", "2.014 # H").replace("63.55", "12.011");
    let read = data(&file).unwrap();
    assert_eq!(
        (&read.elements[..], read.masses.as_deref()),
        (&[Element::H, Element::C][..], Some(&[2.014, 12.011][..]))
    );
    assert_eq!((read.mass(0), read.mass(1)), (2.014, 12.011));
    let mut again = Vec::new();
    lammps_data::write(&read, &mut again).unwrap();
    assert_eq!(data(std::str::from_utf8(&again).unwrap()).unwrap().masses, read.masses);
    // Extended XYZ has them for each atom.
    assert_same(
        &read,
        &xyz(&extxyz_text(&read))
            .map(|mut xyz| {
                xyz.cell.pbc = [true; 3];
                xyz
            })
            .unwrap(),
    );
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("in.data"), &file).unwrap();
    let (_, notes) = io::read_noting(at("in.data"), None, Frame::Last).unwrap();
    assert!(notes.len() == 1 && notes[0].contains("in.data: atom type 1: H has the mass that the file gives, 2.014"));
    // In a dump too, where they tell the elements if nothing else does.
    let typed = DUMP.replace(" element", " mass").replace(" Al", " 26.98").replace(" Cu", " 64.9");
    assert!(dump(&typed, Frame::First).unwrap_err().to_string().contains("64.9 u of type 2"));
    let read = dump(&typed.replace("64.9", "63.5"), Frame::First).unwrap();
    assert_eq!(
        (&read.elements[..], read.masses.as_deref()),
        (&[Element::Al, Element::Cu][..], Some(&[26.98, 63.5][..]))
    );
    let hint = [Element::Al, Element::Cu];
    let read = lammps_dump::read(typed.as_bytes(), Path::new("t"), Some(&hint), Frame::Last).unwrap();
    assert_eq!(read.masses, Some(vec![26.98, 64.9]));

    // A mass of another element than the one that is named.
    let labelled = DATA.replace("Masses", "Atom Type Labels\n\n1 ca\n2 c3\n\nMasses").replace("26.98 # Al", "12.011");
    let named = DATA.replace("# Al", "# Cu");
    for (text, words) in [
        (&labelled, ["label \"ca\", which is Ca", "12.011 u is that of C,"]),
        (&named, ["comment \"Cu\" in Masses", "26.98 u is that of Al,"]),
    ] {
        let error = data(text).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)) && error.contains("atom type 1"), "{error}");
    }
    let swapped = [Element::Cu, Element::Al];
    let error = lammps_data::read(DATA.as_bytes(), Path::new("t"), Some(&swapped)).unwrap_err().to_string();
    assert!(error.contains("given as Cu") && error.contains("26.98 u is that of Al"), "{error}");
    let carbon = [Element::C, Element::Cu];
    assert_eq!(lammps_data::read(labelled.as_bytes(), Path::new("t"), Some(&carbon)).unwrap().elements, carbon);
}

#[test]
fn atoms_of_one_element_with_two_masses_are_of_two_types() {
    let head = "3\nLattice=\"9 0 0 0 9 0 0 0 9\" Properties=species:S:1:pos:R:3:masses:R:1:momenta:R:3\n";
    let rows = "H 0 0 0 1.008 1 0 0\nH 2 0 0 2.014 1 0 0\nH 4 0 0 1.008 1 0 0\n";
    let read = xyz(&format!("{head}{rows}")).unwrap();
    assert_eq!((read.types.to_vec(), read.masses.as_deref()), (vec![1, 2, 1], Some(&[1.008, 2.014][..])));
    assert_eq!(read.elements, [Element::H, Element::H]);
    assert_eq!(read.velocities.as_ref().unwrap()[[1, 0]], extxyz::ASE_VELOCITY / 2.014);
    assert_same(&read, &xyz(&extxyz_text(&read)).unwrap());
    let hint = |elements: &[Element]| {
        extxyz::read(format!("{head}{rows}").as_bytes(), Path::new("t"), Some(elements), Frame::Last)
    };
    assert_eq!(hint(&[Element::O, Element::H, Element::H]).unwrap().types.to_vec(), [2, 3, 2]);
    let (line, message) = line_of(hint(&[Element::H]));
    assert!(line == 4 && message.contains("2.014") && message.contains("1.008"), "{message}");
    let (line, message) = line_of(xyz(&format!("{head}{}", rows.replace("H 2 0 0 2.014", "H 2 0 0 26.98"))));
    assert!(line == 4 && message.contains("that of Al"), "{message}");
    assert_eq!(line_of(xyz(&format!("{head}{}", rows.replace("2.014", "0")))).0, 4);
    let many: String = (0..100_001).map(|i| format!("H 0 0 0 {}\n", 1.5 + f64::from(i) / 1e6)).collect();
    let head = "100001\nLattice=\"999 0 0 0 9 0 0 0 9\" Properties=species:S:1:pos:R:3:masses:R:1\n";
    assert!(line_of(xyz(&format!("{head}{many}"))).1.contains("more than 100000 different masses"));
    // The real ASE and the real LAMMPS have them as we do.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.extxyz");
    std::fs::write(&path, extxyz_text(&read)).unwrap();
    let said = run_python(
        "import sys; from ase.io import read; from ase import units; a = read(sys.argv[1]); \
         print(a.get_masses().tolist(), (a.get_velocities()[1, 0] * 1000 * units.fs).round(9))",
        &[&path],
    );
    assert_eq!(said.trim(), format!("[1.008, 2.014, 1.008] {:.9}", extxyz::ASE_VELOCITY / 2.014));
    let data = folder.path().join("t.data");
    lammps_data::write(&read, std::fs::File::create(&data).unwrap()).unwrap();
    let script = format!(
        "units metal\nread_data {}\npair_style zero 3.0\npair_coeff * *\ngroup d id 2\n\
         print \"masses $(mass(d):%.3f) $(mass(all):%.3f)\"\n",
        data.display()
    );
    assert!(lmp_says(&script).contains("masses 2.014 4.030"));
}

/// What `lmp` prints.
fn lmp_says(script: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    std::fs::write(&input, script).unwrap();
    let lmp = std::env::var_os("LAMMPS_OTF_LMP")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps/bin/lmp"), std::path::PathBuf::from);
    let output = std::process::Command::new(lmp).arg("-log").arg("none").arg("-in").arg(&input).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_element_column_that_lammps_filled_by_itself() {
    let file = DUMP.replace(" Al", " C").replace(" Cu", " C");
    let read = |hint: Option<&[Element]>| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("t.dump"), &file).unwrap();
        io::read_noting(folder.path().join("t.dump"), hint, Frame::First)
    };
    let (given, notes) = read(Some(&[Element::Al, Element::Cu])).unwrap();
    assert_eq!((given.types.to_vec(), given.formula(), notes.len()), (vec![2, 1], "AlCu".to_owned(), 0));
    let (plain, notes) = read(None).unwrap();
    assert_eq!(plain.formula(), "C2");
    assert!(
        notes.len() == 1 && notes[0].contains("dump_modify element") && notes[0].contains("types up to 2"),
        "{notes:?}"
    );
    assert!(matches!(read(Some(&[Element::Al])), Err(Error::Elements { .. })));
    // Where the column says more than the default, it goes before the order of the types.
    let hint = [Element::Cu, Element::Al];
    let named = lammps_dump::read(DUMP.as_bytes(), Path::new("t"), Some(&hint), Frame::First).unwrap();
    assert_eq!((named.types.to_vec(), named.element(0)), (vec![1, 2], Element::Cu));
    // Two types of one element stay two.
    let pure = DUMP.replace(" Cu", " Al");
    let hint = [Element::Al, Element::Al];
    let named = lammps_dump::read(pure.as_bytes(), Path::new("t"), Some(&hint), Frame::First).unwrap();
    assert_eq!(named.types.to_vec(), [2, 1]);
}

#[test]
fn files_that_are_compressed_or_marked_or_not_utf8() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let packed = |text: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, text).unwrap();
        encoder.finish().unwrap()
    };
    let marked = |text: &str| [b"\xef\xbb\xbf", text.as_bytes()].concat();
    let xyz = extxyz_text(&al_cu());
    for (name, text) in [("al.extxyz", &xyz[..]), ("al.data", DATA), ("al.dump", DUMP)] {
        let plain = io::read(write(name, text.as_bytes()), None).unwrap();
        for (other, bytes) in [
            (format!("{name}.gz"), packed(text.as_bytes())),
            (format!("packed.{name}"), packed(text.as_bytes())),
            (format!("marked.{name}"), marked(text)),
            (format!("both.{name}.gz"), packed(&marked(text))),
            // Without a name that says it: by content.
            (format!("{}-unnamed", name.replace('.', "-")), packed(&marked(text))),
        ] {
            assert_eq!(io::read(write(&other, &bytes), None).unwrap(), plain, "{other}");
        }
        let whole = packed(text.as_bytes());
        let cut = io::read(write("cut.gz", &whole[..whole.len() / 2]), None).unwrap_err().to_string();
        assert!(cut.contains("cut.gz") && cut.contains("damaged or cut off"), "{cut}");
    }
    // The real gzip, and ASE on the same file.
    write("real.extxyz", xyz.as_bytes());
    assert!(std::process::Command::new("gzip").arg(folder.path().join("real.extxyz")).status().unwrap().success());
    let real = folder.path().join("real.extxyz.gz");
    assert_same(&al_cu(), &io::read(&real, None).unwrap());
    assert_eq!(run_python("import sys; from ase.io import read; print(len(read(sys.argv[1])))", &[&real]).trim(), "20");
    for (start, word) in [
        (&b"\x28\xb5\x2f\xfd"[..], "zstd"),
        (b"\xfd7zXZ\0", "xz -d"),
        (b"BZh91AY", "bzip2"),
        (b"\xff\xfe1\0", "UTF-16"),
    ] {
        let error = io::read(write("al.data", start), None).unwrap_err().to_string();
        assert!(error.contains("al.data") && error.contains(word), "{error}");
    }
    // é in Latin-1, in the title, in comments, and in keys that are not read; where it matters it is an error.
    let latin = |text: &str| text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect::<Vec<u8>>();
    let title = DATA.replace("title", "Modèle").replace("# Al", "# Al côté");
    assert_eq!(io::read(write("latin.data", &latin(&title)), None).unwrap(), data(DATA).unwrap());
    let author = xyz.replacen("Properties", "author=\"Müller\" Properties", 1);
    assert_same(&al_cu(), &io::read(write("latin.extxyz", &latin(&author)), None).unwrap());
    let symbol =
        io::read(write("symbol.extxyz", &latin(&xyz.replacen("Al ", "Ål ", 1))), None).unwrap_err().to_string();
    assert!(symbol.contains("line 3") && symbol.contains("Ål"), "{symbol}");
    let binary = io::read(write("binary.data", b"\x7fELF\x02\xff\xfe\n"), None).unwrap_err().to_string();
    assert!(binary.contains("binary.data, line 1") && binary.contains("not text"), "{binary}");
}

#[test]
fn constraints_are_those_of_ase_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let crystal = {
        let mut crystal = fcc(Element::Al, 4.05, 2);
        crystal.ids.mapv_inplace(|id| 2 * id);
        crystal
    };
    let whole = [FixedAtoms { axes: [true; 3], ids: vec![2, 4, 20] }];
    let axes = [
        FixedAtoms { axes: [false, false, true], ids: vec![6] },
        FixedAtoms { axes: [true, true, false], ids: vec![8, 10] },
    ];
    for (name, fixed) in [("whole", &whole[..]), ("axes", &axes)] {
        let structure = Structure { fixed: fixed.to_vec(), ..crystal.clone() };
        extxyz::write(&mut std::fs::File::create(path(name)).unwrap(), &structure, &[], &[]).unwrap();
    }
    // ASE writes only what it read itself, and ids are a column that it does not know.
    let said = run_python(
        r#"
import sys
from ase.io import read, write
from ase.constraints import FixAtoms, FixCartesian
for name in "whole", "axes":
    a = read(sys.argv[1] + "/" + name, format="extxyz")
    print(name, sorted((int(i), c.todict()["kwargs"].get("mask", [1, 1, 1])) for c in a.constraints for i in c.index
                       if not isinstance(c, FixCartesian) or any(c.mask)))
a.set_constraint(FixAtoms([3, 5]))
write(sys.argv[1] + "/atoms.extxyz", a)
# ASE 3.26 writes atoms that no FixCartesian names as fixed altogether.
a.set_constraint([FixCartesian(i, [i in (3, 5), False, False]) for i in range(len(a))])
write(sys.argv[1] + "/cartesian.extxyz", a)
"#,
        &[folder.path()],
    );
    let said = said.replace("True", "1").replace("False", "0");
    assert!(said.contains("whole [(0, [1, 1, 1]), (1, [1, 1, 1]), (9, [1, 1, 1])]"), "{said}");
    assert!(said.contains("axes [(2, [0, 0, 1]), (3, [1, 1, 0]), (4, [1, 1, 0])]"), "{said}");
    for (name, axes) in [("atoms.extxyz", [true; 3]), ("cartesian.extxyz", [true, false, false])] {
        let fixed = io::read(path(name), None).unwrap().fixed;
        assert_eq!(fixed.len(), 1, "{name}: {fixed:?}");
        assert_eq!((fixed[0].axes, fixed[0].ids.len()), (axes, 2), "{name}");
    }
    for (name, fixed) in [("whole", &whole[..]), ("axes", &axes)] {
        assert_eq!(
            extxyz::read(&*std::fs::read(path(name)).unwrap(), &path(name), None, Frame::Last).unwrap().fixed,
            fixed
        );
    }
    let text = |flags: &str, kind: &str| {
        format!(
            "1\nLattice=\"4 0 0 0 4 0 0 0 4\" Properties=pos:R:3:species:S:1:move_mask:{kind} pbc=\"T T T\"\n0 0 0 Al {flags}\n"
        )
    };
    // libAtoms has whole numbers.
    assert_eq!(xyz(&text("0", "I:1")).unwrap().fixed[0].axes, [true; 3]);
    assert!(xyz(&text("1", "I:1")).unwrap().fixed.is_empty());
    assert!(line_of(xyz(&text("x", "L:1"))).1.contains("neither T nor F"));
    assert!(line_of(xyz(&text("T T", "L:2"))).1.contains("move_mask:L:1 or move_mask:L:3"));
}

#[test]
fn a_cell_is_not_needed_where_nothing_repeats() {
    for header in ["pbc=\"F F F\"", "Lattice=\"0 0 0 0 0 0 0 0 0\" pbc=\"F F F\""] {
        let cluster = xyz(&format!("1\nProperties=species:S:1:pos:R:3 {header}\nAl -3 0 0\n")).unwrap();
        assert_eq!(cluster.cell.pbc, [false; 3]);
        assert!(cluster.cell.volume() > 0.0);
    }
    for header in ["pbc=\"T T F\"", "", "pbc=\"T T T\""] {
        let message = line_of(xyz(&format!("1\nProperties=species:S:1:pos:R:3 {header}\nAl -3 0 0\n"))).1;
        assert!(message.contains("no Lattice") && message.contains("or pbc=\"F F F\""), "{header}: {message}");
    }
}

#[test]
fn velocities_are_in_the_units_that_the_title_tells() {
    let folder = tempfile::tempdir().unwrap();
    let lmp = std::env::var_os("LAMMPS_OTF_LMP")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps/bin/lmp"), std::path::PathBuf::from);
    // Velocities of 300 K, written by LAMMPS in both units.
    let temperature = |units: &str| {
        let input = format!(
            "units {units}\nlattice fcc 4.05\nregion box block 0 3 0 3 0 3\ncreate_box 1 box\ncreate_atoms 1 box\n\
             mass 1 26.9815384\nvelocity all create 300 5\nwrite_data {units}.data nocoeff\n"
        );
        std::fs::write(folder.path().join("in"), input).unwrap();
        let mut command = std::process::Command::new(&lmp);
        let output = command.current_dir(folder.path()).args(["-log", "none", "-in", "in"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        io::read(folder.path().join(format!("{units}.data")), None).unwrap().velocity_temperature().unwrap()
    };
    // LAMMPS's conversion factors have six digits or more.
    for units in ["metal", "real"] {
        let kelvin = temperature(units);
        assert!((kelvin - 300.0).abs() < 0.01, "{units}: {kelvin} K");
    }
    // One that knows other units only.
    let text = std::fs::read_to_string(folder.path().join("real.data")).unwrap();
    let (line, message) = line_of(data(&text.replacen("units = real", "units = si", 1)));
    assert!(line == 1 && message.contains("units si") && message.contains("metal and real"), "{message}");
    // A title that is a user's own says nothing.
    let own = text.replacen("LAMMPS data file via write_data", "made with other units, units = si", 1);
    assert!((data(&own).unwrap().velocity_temperature().unwrap() - 300e-6).abs() < 1e-6);
    // At rest there is no temperature.
    let mut still = fcc(Element::Al, 4.05, 2);
    assert_eq!(still.velocity_temperature(), None);
    still.velocities = Some(Array2::zeros((32, 3)));
    assert_eq!(still.velocity_temperature(), None);
}
