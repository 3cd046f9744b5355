// SPDX-License-Identifier: GPL-2.0-or-later
//! `lammps-otf extract`: arguments, output, and no partial files after a failure.
mod common;
#[path = "common/python.rs"]
mod common_python;
#[path = "../crates/otf-atoms/tests/crystals/mod.rs"]
mod crystals;

use crystals::{fcc, rattle};
use lammps_otf::io::{extxyz, lammps_data};
use lammps_otf::structure::Element;
use std::fs::{self, File};
use std::path::Path;

/// The standard output of the command, or its error.
fn extract(arguments: &[&str], folder: &Path) -> Result<String, String> {
    let mut command = common::lammps_otf();
    let output = command.arg("extract").args(arguments).arg("-o").arg(folder.join("out.extxyz")).output().unwrap();
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout).unwrap());
    }
    assert_eq!(output.status.code(), Some(2));
    Err(common::text(&output))
}

#[test]
fn extract_reads_each_file_format() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut crystal = fcc(Element::Al, 4.05, 5);
    rattle(&mut crystal, 0.05, 1);
    extxyz::write(&mut File::create(at("in.extxyz")).unwrap(), &crystal, &[], &[]).unwrap();
    lammps_data::write(&crystal, File::create(at("in.data")).unwrap()).unwrap();
    let mut dump = format!("ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n{}\nITEM: BOX BOUNDS pp pp pp\n", crystal.len());
    dump += &"0 20.25\n".repeat(3);
    dump += "ITEM: ATOMS id type x y z\n";
    for i in 0..crystal.len() {
        let [x, y, z] = crystal.position(i);
        dump += &format!("{} 1 {x:?} {y:?} {z:?}\n", i + 1);
    }
    fs::write(at("in.dump"), dump).unwrap();

    let mut outputs = Vec::new();
    for name in ["in.extxyz", "in.data", "in.dump"] {
        let file = at(name);
        let arguments =
            [file.to_str().unwrap(), "--center", "77", "--radius", "3.5", "--buffer", "3", "--elements", "Al"];
        extract(&arguments, folder.path()).unwrap();
        outputs.push(fs::read_to_string(at("out.extxyz")).unwrap());
    }
    assert!(outputs[0].starts_with("78\n"), "{}", &outputs[0][..200]);
    // The edge of the cell can differ in its last bit between files; the atoms are the same.
    let atoms =
        |text: &str| text.lines().skip(2).map(|line| line.split(' ').nth(4).unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(atoms(&outputs[0]), atoms(&outputs[1]));
    assert_eq!(atoms(&outputs[0]), atoms(&outputs[2]));

    let said = common_python::run(
        "import sys; from ase.io import read; a = read(sys.argv[1]); m = a.arrays['force_mask']; \
         print(len(a), a.arrays['source_id'][0], m.dtype.kind, a.arrays['source_id'].dtype.kind, int(m.sum()), \
         a.get_distance(0, 1) < 4, all(a.pbc), a.info['embedding_shape'], a.info['energy_weight'])",
        &[&at("out.extxyz")],
    );
    assert_eq!(said.trim(), "78 77 f i 13 True True sphere 0.0");
    // The output can be read as input.
    let file = at("again.extxyz");
    fs::copy(at("out.extxyz"), &file).unwrap();
    let arguments = [file.to_str().unwrap(), "--center", "1", "--radius", "3", "--buffer", "2.8", "--shape", "cube"];
    let said = extract(&[&arguments[..], &["--json"]].concat(), folder.path()).unwrap();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["core"], &said["complete"]), (&13.into(), &true.into()), "{said}");
    assert_eq!(extract(&[&arguments[..], &["-q"]].concat(), folder.path()).unwrap(), "");
}

#[test]
fn extract_keeps_masses_and_prints_warnings() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut crystal = fcc(Element::Al, 4.05, 4);
    crystal.masses = Some(vec![28.5]);
    lammps_data::write(&crystal, File::create(at("in.data")).unwrap()).unwrap();
    let cut = ["--center", "1", "--radius", "3", "--buffer", "2.5", "-o"];
    let out = at("cut.extxyz");
    let mut command = common::lammps_otf();
    command.arg("extract").arg(at("in.data")).args(cut).arg(&out);
    let said = common::text(&command.output().unwrap());
    assert!(said.contains("warning:") && said.contains("28.5 u"), "{said}");
    let masses = "import sys; from ase.io import read; print(set(read(sys.argv[1]).get_masses().tolist()))";
    assert_eq!(common_python::run(masses, &[&out]).trim(), "{28.5}");
}

#[test]
fn failure_is_explained_and_keeps_the_old_output() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.extxyz");
    extxyz::write(&mut File::create(&input).unwrap(), &fcc(Element::Al, 4.05, 4), &[], &[]).unwrap();
    fs::write(folder.path().join("out.extxyz"), "old").unwrap();
    let input = input.to_str().unwrap();
    let fails = |more: &[&str]| {
        let error = extract(&[&[input], more].concat(), folder.path()).unwrap_err();
        assert_eq!(fs::read_to_string(folder.path().join("out.extxyz")).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        error
    };
    let none = fails(&["--center", "999", "--radius", "4", "--buffer", "2"]);
    assert!(none.contains("no atom with id 999") && none.contains("1 to 256"), "{none}");
    let many = fails(&["--center", "1", "--radius", "6", "--buffer", "6"]);
    assert!(many.contains("reduce the radius to"), "{many}");
    let small = fails(&["--center", "1", "--radius", "3", "--buffer", "1", "--cutoff", "5.5", "--shape", "cube"]);
    assert!(small.contains("above 5.5 Å"), "{small}");
    let radius = fails(&["--center", "1", "--radius", "0", "--buffer", "1"]);
    assert!(radius.contains("radius"), "{radius}");
}
