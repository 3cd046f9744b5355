// SPDX-License-Identifier: GPL-2.0-or-later
//! Structure files: written files are read back, and invalid files are rejected with the line number. The comparison with
//! ASE and LAMMPS is in `tests/io_files.rs` of the workspace.
mod crystals;
mod files;

use crystals::{fcc, rattle, structure};
use files::{DATA, DUMP, al_cu, assert_same, data, dump, extxyz_text, line_of, xyz};
use ndarray::Array2;
use otf_atoms::io::extxyz;
use otf_atoms::io::{self, Error, Frame, lammps_data, lammps_dump};
use otf_atoms::structure::{Cell, Element, Structure, StructureError};
use std::path::Path;

#[test]
fn extxyz_round_trip_is_exact() {
    let structure = al_cu();
    assert_same(&structure, &xyz(&extxyz_text(&structure)).unwrap());
}

#[test]
fn lammps_data_round_trip_is_exact() {
    let mut structure = al_cu();
    let mut out = Vec::new();
    lammps_data::write(&structure, &mut out).unwrap();
    // A data file contains no periodicity, and bounds instead of edges, so an edge can lose its last bit.
    structure.cell.pbc = [true; 3];
    let back = data(std::str::from_utf8(&out).unwrap()).unwrap();
    for k in 0..3 {
        assert!((back.cell.vectors[k][k] - structure.cell.vectors[k][k]).abs() < 4e-15);
    }
    structure.cell.vectors = back.cell.vectors;
    assert_eq!(back, structure);
}

#[test]
fn general_cell_is_rotated_for_lammps() {
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
fn frame_selects_first_last_or_nth() {
    let frame = |x: usize| format!("1\nLattice=\"4 0 0 0 4 0 0 0 4\"\nAl {x} 0 0\n");
    let text: String = (0..4).map(frame).collect();
    let pick = |frame| extxyz::read(text.as_bytes(), Path::new("t"), None, frame).map(|s| s.positions[[0, 0]]);
    assert_eq!(pick(Frame::First).unwrap(), 0.0);
    assert_eq!(pick(Frame::Last).unwrap(), 3.0);
    assert_eq!(pick(Frame::Nth(2)).unwrap(), 2.0);
    assert!(matches!(pick(Frame::Nth(4)), Err(Error::NoFrame { found: 4, wanted: 4, .. })));
}

#[test]
fn broken_extxyz_is_rejected_with_its_line() {
    let head = "2\nLattice=\"4 0 0 0 4 0 0 0 4\" Properties=species:S:1:pos:R:3:id:I:1\n";
    let cases = [
        ("Al 0 0 0 1\n", 3, "ends after 1 of 2"),
        ("Al 0 0 0 1\nAl 0 nan 0 2\n", 4, "not a finite number"),
        ("Al 0 0 0 1\nAl 0 inf 0 2\n", 4, "not a finite number"),
        ("Al 0 0 0 1\nAl 0 x 0 2\n", 4, "must be a number"),
        ("Al 0 0 0 1\nAl 1 1 1 1\n", 4, "occurs also in line 3"),
        ("Al 0 0 0 0\nAl 1 1 1 1\n", 3, "not positive"),
        ("Al 0 0 0 1\nXx 1 1 1 2\n", 4, "not a chemical element"),
        ("Al 0 0 0 1\nAl 1 1 1\n", 4, "columns"),
        ("Al 0 0 0 1\nAl 1 1 1 99999999999999999999\n", 4, "in range"),
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

#[test]
fn broken_lammps_data_is_rejected_with_its_line() {
    let swap = |from: &str, to: &str| line_of(data(&DATA.replace(from, to)));
    let expect = |(line, text): (u64, String), wanted: u64, message: &str| {
        assert!(line == wanted && text.contains(message), "line {line}: {text}");
    };
    expect(swap("3 atoms\n", "4 atoms\n"), 25, "3 of 4 atoms");
    expect(swap("3 atoms\n", "2 atoms\n"), 19, "more atoms than the 2");
    expect(swap("3 atoms\n", "1e3 atoms\n"), 3, "an integer");
    expect(swap("1.5 1 1", "nan 1 1"), 18, "not a finite number");
    expect(swap("1 2 1.5", "3 2 1.5"), 18, "occurs also in line 17");
    expect(swap("1 2 1.5", "1 7 1.5"), 18, "type 7");
    expect(swap("# atomic", "# full"), 15, "\"full\"");
    expect(swap("2 4 5 6\n", ""), 24, "atom 2 has no velocity");
    expect(swap("2 4 5 6", "8 4 5 6"), 24, "atom 8");
    expect(swap("0 4 xlo xhi", "4 0 xlo xhi"), 5, "upper bound");
    expect(swap("0 4 xlo xhi\n", ""), 24, "xlo xhi");
    expect(swap("Velocities", "Velocitees"), 21, "not a section");
    expect(swap("2 atom types\n", "2 atom types\n4 atoms\n"), 5, "given twice: first 3, then 4");
    expect(swap("0 6 zlo zhi\n", "0 6 zlo zhi\n1 4 xlo xhi\n"), 8, "xlo xhi is given twice: first (0.0, 4.0)");
    expect(swap("0 6 zlo zhi\n", "0 6 zlo zhi\n4 0 0 avec\n"), 26, "the box twice");
    expect(swap("2 63.55\n", "2 63.55\n1 27\n"), 14, "the mass of type 1 is given twice: first 26.98");
    expect(swap("3 7 8 9\n", "3 7 8 9\n2 4 5 7\n"), 26, "atom 2 has two velocities");
    expect(swap("Masses", "Atom Type Labels\n\n1 Al\n2 Al\n\nMasses"), 13, "already used for type 1");
    expect(line_of(data("")), 0, "empty");
    let error = data(&DATA.replace("63.55", "17.5")).unwrap_err();
    assert!(error.to_string().contains("atom type 2") && error.to_string().contains("give the elements"), "{error}");
    let huge = data("t\n999999999999 atoms\n99999999999 atom types\n").unwrap_err();
    assert!(huge.to_string().contains("line 3"), "{huge}");
}

#[test]
fn broken_dumps_are_rejected_with_their_line() {
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
fn format_is_detected_from_name_or_content() {
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
fn validate_reports_the_kind_of_error() {
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
    for columns in [2, 4, 5] {
        let positions = |s: &mut Structure| s.positions = Array2::zeros((s.len(), columns));
        let velocities = |s: &mut Structure| s.velocities = Some(Array2::zeros((s.len(), columns)));
        for change in [&positions as &dyn Fn(&mut Structure), &velocities] {
            assert!(matches!(broken(change), StructureError::Shape { expected: 3, found, .. } if found == columns));
        }
    }
    // Across the boundary: the last atom next to the image of the first.
    let overlap = broken(&|s| s.positions.row_mut(107).assign(&ndarray::arr1(&[12.0, 12.1, -0.1])));
    assert!(matches!(overlap, StructureError::Overlap { .. }), "{overlap}");
    // Many coincident atoms, from which the k-d tree cannot be built.
    let mut same = fcc(Element::Al, 4.05, 8);
    same.positions.fill(1.0);
    assert_eq!(same.closest_pair().unwrap().distance, 0.0);
    let one = structure(Cell::orthorhombic([4.0, 5.0, 6.0], [false, true, true]), &[Element::Al], &[(1, [0.0; 3])]);
    assert_eq!(one.closest_pair().unwrap().distance, 5.0);
    let alone = structure(Cell::orthorhombic([4.0; 3], [false; 3]), &[Element::Al], &[(1, [0.0; 3])]);
    assert_eq!(alone.closest_pair(), None);
}

#[test]
fn closest_pair_does_not_depend_on_a_large_vacuum() {
    let mut crystal = fcc(Element::Al, 4.05, 6);
    rattle(&mut crystal, 0.1, 5);
    crystal.cell.pbc = [false; 3];
    let inside = crystal.closest_pair().unwrap();
    crystal.cell = Cell::orthorhombic([5000.0; 3], [true; 3]);
    let outside = crystal.closest_pair().unwrap();
    assert!((inside.distance - outside.distance).abs() < 1e-11);
}

#[test]
fn extxyz_keys_and_columns_that_occur_twice() {
    let lattice = "Lattice=\"4 0 0 0 5 0 0 0 6\"";
    let plain = format!("1\n{lattice} pbc=\"T T F\"\nAl 0 0 0\n");
    let with = |more: &str| xyz(&plain.replace(" pbc", &format!(" {more} pbc")));
    let whole = xyz(&plain).unwrap();
    // The exact name takes precedence at any position, and equal values are not an error.
    for more in ["lattice=\"9 0 0 0 9 0 0 0 9\"", "PBC=\"F F F\"", lattice, "pbc=\"T T F\""] {
        assert_eq!(with(more).unwrap(), whole, "{more}");
        let behind = plain.replace("T T F\"", &format!("T T F\" {more}"));
        assert_eq!(xyz(&behind).unwrap(), whole, "{more}");
    }
    for (more, words) in [
        ("pbc=\"F F F\"", ["pbc=\"F F F\"", "pbc=\"T T F\""]),
        ("Lattice=\"9 0 0 0 9 0 0 0 9\"", ["9 0 0 0 9", "4 0 0 0 5"]),
        ("origin=\"1 0 0\" ORIGIN=\"2 0 0\"", ["origin=\"1 0 0\"", "ORIGIN=\"2 0 0\""]),
        ("Properties=species:S:1:pos:R:3:pos:R:3", ["pos:R:3 and pos:R:3", "the same meaning"]),
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

/// Lines as in molecular styles: id, molecule, type, x, y, z.
#[test]
fn data_files_without_an_atom_style() {
    let head = DATA.split("Atoms").next().unwrap();
    let atoms = |rows: &str| data(&format!("{head}Atoms\n\n{rows}"));
    for rows in [
        // In style charge the molecule would be the type.
        "1 1 2 0 0 0\n2 2 1 1 1 1\n3 1 1 2 2 2\n",
        "1 1 2 0 0 0 0 0 0\n2 2 1 1 1 1 0 0 0\n3 1 1 2 2 2 0 0 0\n",
        // A molecule number that is not a type.
        "1 1 2 0 0 0\n2 7 1 1 1 1\n3 1 1 2 2 2\n",
        // Charges that can be types.
        "1 1 1 0 0 0\n2 2 2 1 1 1\n3 1 1 2 2 2\n",
    ] {
        let (line, message) = line_of(atoms(rows));
        let named = ["without a style", "charge", "molecular", "Atoms # charge", "atom_style atomic"];
        assert!(line >= 17 && named.iter().all(|word| message.contains(word)), "{rows}: {line}: {message}");
    }
    // 0, -0.5 and 1.0 are not types, so they are charges.
    for charge in ["0", "-0.5", "1.0"] {
        let read = atoms(&format!("1 1 {charge} 0 0 0\n2 2 1 1 1 1\n3 1 1 2 2 2\n")).unwrap();
        assert_eq!((read.types.to_vec(), read.position(1)), (vec![1, 2, 1], [1.0; 3]));
    }
    assert_eq!(line_of(atoms("1 1 1 1.5 0 0 0\n")).0, 17);
}

#[test]
fn masses_of_files_are_kept_and_compared_with_the_elements() {
    // Deuterium, and carbon as rounded by LAMMPS.
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
    // In extended XYZ, each atom has a mass.
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
    let (_, warnings) = io::read_with_warnings(at("in.data"), None, Frame::Last).unwrap();
    assert!(
        warnings.len() == 1 && warnings[0].contains("in.data: atom type 1: the mass of H is 2.014 u, as in the file")
    );
    // In a dump, masses identify the elements if there is no column element.
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

    // The mass of an element other than the given one.
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
fn element_column_with_the_default_of_lammps() {
    let file = DUMP.replace(" Al", " C").replace(" Cu", " C");
    let read = |hint: Option<&[Element]>| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("t.dump"), &file).unwrap();
        io::read_with_warnings(folder.path().join("t.dump"), hint, Frame::First)
    };
    let (given, warnings) = read(Some(&[Element::Al, Element::Cu])).unwrap();
    assert_eq!((given.types.to_vec(), given.formula(), warnings.len()), (vec![2, 1], "AlCu".to_owned(), 0));
    let (plain, warnings) = read(None).unwrap();
    assert_eq!(plain.formula(), "C2");
    assert!(
        warnings.len() == 1
            && warnings[0].contains("dump_modify element")
            && warnings[0].contains("types are numbered up to 2"),
        "{warnings:?}"
    );
    assert!(matches!(read(Some(&[Element::Al])), Err(Error::Elements { .. })));
    // A column with other elements than the default takes precedence over the order of the types.
    let hint = [Element::Cu, Element::Al];
    let named = lammps_dump::read(DUMP.as_bytes(), Path::new("t"), Some(&hint), Frame::First).unwrap();
    assert_eq!((named.types.to_vec(), named.element(0)), (vec![1, 2], Element::Cu));
    // Two types of one element are preserved.
    let pure = DUMP.replace(" Cu", " Al");
    let hint = [Element::Al, Element::Al];
    let named = lammps_dump::read(pure.as_bytes(), Path::new("t"), Some(&hint), Frame::First).unwrap();
    assert_eq!(named.types.to_vec(), [2, 1]);
}

#[test]
fn cell_is_optional_for_non_periodic_structures() {
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
