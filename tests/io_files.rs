// SPDX-License-Identifier: GPL-2.0-or-later
//! Structure files exchanged with ASE and LAMMPS. Tests without them are in `crates/otf-atoms/tests/readers.rs`.
#[path = "common/python.rs"]
mod common_python;
#[path = "../crates/otf-atoms/tests/crystals/mod.rs"]
mod crystals;
#[path = "../crates/otf-atoms/tests/files/mod.rs"]
mod files;

use crystals::fcc;
use files::{DATA, DUMP, al_cu, assert_same, data, extxyz_text, line_of, xyz};
use lammps_otf::io::extxyz::{self, Column, ColumnData, Value};
use lammps_otf::io::{self, Frame, lammps_data};
use lammps_otf::structure::{Cell, Element, FixedAtoms, Structure};
use ndarray::Array2;
use std::path::Path;

#[test]
fn ids_of_64_bits_are_exchanged_with_ase_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (folder.path().join("ours.extxyz"), folder.path().join("theirs.extxyz"));
    for first in [1000, 3_000_000_000, i64::MAX - 31] {
        let mut structure = fcc(Element::Al, 4.05, 2);
        structure.ids = (0..32).map(|i| first + i).collect();
        let source = structure.ids.to_vec();
        let columns = [Column::integer("source_id", &source)];
        extxyz::write(&mut std::fs::File::create(&ours).unwrap(), &structure, &columns, &[]).unwrap();
        common_python::run(
            r#"
import sys
import numpy as np
from ase.io import read, write
a = read(sys.argv[1])
ids = [int(sys.argv[3]) + i for i in range(32)]
# `int64` from text; a column of integers would be int32.
assert a.arrays["id"].astype(np.int64).tolist() == a.arrays["source_id"].astype(np.int64).tolist() == ids
write(sys.argv[2], a)
if ids[0] > 2**31:
    a.set_array("id", None)
    a.set_array("id", np.array(ids))
    write(sys.argv[2] + ".integers.extxyz", a)
"#,
            &[ours.as_os_str(), theirs.as_os_str(), std::ffi::OsStr::new(&first.to_string())],
        );
        assert_eq!(io::read(&theirs, None).unwrap().ids, structure.ids);
        if first > 1 << 31 {
            assert_eq!(io::read(folder.path().join("theirs.extxyz.integers.extxyz"), None).unwrap().ids, structure.ids);
        }
    }
}

#[test]
fn extxyz_is_exchanged_with_ase_both_ways() {
    let structure = al_cu();
    let n = structure.len();
    let mask: Vec<f64> = (0..n).map(|i| f64::from(u8::from(i < 5))).collect();
    let source: Vec<i64> = (0..n as i64).map(|i| 3 * i + 1).collect();
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
    let said = common_python::run(
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
        // ASE's atomic weights are from another IUPAC table.
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
fn data_files_are_read_by_lammps() {
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
    // LAMMPS writes wrapped positions and no comments after the masses: the masses identify the elements.
    let back = io::read(&theirs, None).unwrap();
    let (turned, _) = structure.to_lammps_frame().unwrap();
    assert_eq!((back.len(), &back.elements), (20, &structure.elements));
    for (i, id) in back.ids.iter().enumerate() {
        let parent = turned.ids.iter().position(|other| other == id).unwrap();
        // LAMMPS wraps through fractional coordinates.
        assert!(turned.cell.distance(turned.position(parent), back.position(i)) < 1e-12);
        let (a, b) = (back.velocities.as_ref().unwrap().row(i), turned.velocities.as_ref().unwrap().row(parent));
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12));
    }
}

/// The result is that of ASE, or an error with both values.
#[test]
fn files_with_repeated_keys_are_read_as_by_ase() {
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
        let said = common_python::run(
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
    // ASE and LAMMPS read the same values.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.extxyz");
    std::fs::write(&path, extxyz_text(&read)).unwrap();
    let said = common_python::run(
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

/// The output of `lmp`.
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
            // Without an extension, gzip is detected by content.
            (format!("{}-unnamed", name.replace('.', "-")), packed(&marked(text))),
        ] {
            assert_eq!(io::read(write(&other, &bytes), None).unwrap(), plain, "{other}");
        }
        let whole = packed(text.as_bytes());
        let cut = io::read(write("cut.gz", &whole[..whole.len() / 2]), None).unwrap_err().to_string();
        assert!(cut.contains("cut.gz") && cut.contains("damaged or truncated"), "{cut}");
    }
    // Comparison with `gzip`, and with ASE on the same file.
    write("real.extxyz", xyz.as_bytes());
    assert!(std::process::Command::new("gzip").arg(folder.path().join("real.extxyz")).status().unwrap().success());
    let real = folder.path().join("real.extxyz.gz");
    assert_same(&al_cu(), &io::read(&real, None).unwrap());
    assert_eq!(
        common_python::run("import sys; from ase.io import read; print(len(read(sys.argv[1])))", &[&real]).trim(),
        "20"
    );
    for (start, word) in [
        (&b"\x28\xb5\x2f\xfd"[..], "zstd"),
        (b"\xfd7zXZ\0", "xz -d"),
        (b"BZh91AY", "bzip2"),
        (b"\xff\xfe1\0", "UTF-16"),
    ] {
        let error = io::read(write("al.data", start), None).unwrap_err().to_string();
        assert!(error.contains("al.data") && error.contains(word), "{error}");
    }
    // é in Latin-1 in the title, in comments, and in ignored keys; in other places it is an error.
    let latin = |text: &str| text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect::<Vec<u8>>();
    let title = DATA.replace("title", "Modèle").replace("# Al", "# Al côté");
    assert_eq!(io::read(write("latin.data", &latin(&title)), None).unwrap(), data(DATA).unwrap());
    let author = xyz.replacen("Properties", "author=\"Müller\" Properties", 1);
    assert_same(&al_cu(), &io::read(write("latin.extxyz", &latin(&author)), None).unwrap());
    let symbol =
        io::read(write("symbol.extxyz", &latin(&xyz.replacen("Al ", "Ål ", 1))), None).unwrap_err().to_string();
    assert!(symbol.contains("line 3") && symbol.contains("Ål"), "{symbol}");
    let binary = io::read(write("binary.data", b"\x7fELF\x02\xff\xfe\n"), None).unwrap_err().to_string();
    assert!(binary.contains("binary.data, line 1") && binary.contains("binary data"), "{binary}");
}

#[test]
fn constraints_are_exchanged_with_ase_both_ways() {
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
    // ASE writes only columns that it has read, and ids are a column without meaning in ASE.
    let said = common_python::run(
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
    // libAtoms writes integers.
    assert_eq!(xyz(&text("0", "I:1")).unwrap().fixed[0].axes, [true; 3]);
    assert!(xyz(&text("1", "I:1")).unwrap().fixed.is_empty());
    assert!(line_of(xyz(&text("x", "L:1"))).1.contains("must be T or F"));
    assert!(line_of(xyz(&text("T T", "L:2"))).1.contains("move_mask:L:1 or move_mask:L:3"));
}

#[test]
fn velocities_have_the_units_of_the_title() {
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
    // A file in other units.
    let text = std::fs::read_to_string(folder.path().join("real.data")).unwrap();
    let (line, message) = line_of(data(&text.replacen("units = real", "units = si", 1)));
    assert!(line == 1 && message.contains("units si") && message.contains("metal and real"), "{message}");
    // A custom title contains no units.
    let own = text.replacen("LAMMPS data file via write_data", "made with other units, units = si", 1);
    assert!((data(&own).unwrap().velocity_temperature().unwrap() - 300e-6).abs() < 1e-6);
    // Atoms at rest have no temperature.
    let mut still = fcc(Element::Al, 4.05, 2);
    assert_eq!(still.velocity_temperature(), None);
    still.velocities = Some(Array2::zeros((32, 3)));
    assert_eq!(still.velocity_temperature(), None);
}
