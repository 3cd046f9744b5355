// SPDX-License-Identifier: GPL-2.0-or-later
//! Atom ids above 2³¹, as in LAMMPS with 64-bit ids, in structure files and cut-outs.

mod crystals;

use crystals::{fcc, rattle};
use ndarray::Array1;
use otf_atoms::embedding::{EmbeddingConfig, EmbeddingExtractor};
use otf_atoms::io::extxyz::{self, Column};
use otf_atoms::io::{Frame, lammps_data, lammps_dump};
use otf_atoms::structure::{AtomId, Element, FixedAtoms, Structure};
use std::path::Path;

/// Ids of 108 atoms that do not fit in 32 bits, or in the 53 bits of a double.
const FIRST: [AtomId; 4] = [3_000_000_000, 1 << 40, (1 << 53) + 1, AtomId::MAX - 107];

fn crystal(first: AtomId) -> Structure {
    let mut structure = fcc(Element::Al, 4.05, 3);
    rattle(&mut structure, 0.05, 1);
    structure.ids = Array1::from_iter((0..108).map(|i| first + i));
    structure
}

#[test]
fn data_files_keep_ids() {
    for first in FIRST {
        let mut structure = crystal(first);
        structure.velocities = Some(structure.positions.mapv(|x| x - 6.0));
        structure.fixed = vec![FixedAtoms { axes: [true; 3], ids: vec![first, first + 1, first + 107] }];
        let mut text = Vec::new();
        lammps_data::write(&structure, &mut text).unwrap();
        let ranges = format!("# fixed along xyz: {first}:{} {}\n", first + 1, first + 107);
        assert!(String::from_utf8_lossy(&text).contains(&ranges));
        // LAMMPS reads lines of up to 254 characters.
        structure.fixed[0].ids = structure.ids.iter().copied().filter(|id| id % 3 > 0).collect();
        let mut with_many = Vec::new();
        lammps_data::write(&structure, &mut with_many).unwrap();
        assert!(String::from_utf8_lossy(&with_many).lines().all(|line| line.len() <= 254));
        let back = lammps_data::read(text.as_slice(), Path::new("t"), None).unwrap();
        assert_eq!((&back.ids, &back.velocities), (&structure.ids, &structure.velocities));
    }
    let beyond = "t\n\n1 atoms\n1 atom types\n0 1 xlo xhi\n0 1 ylo yhi\n0 1 zlo zhi\n\nAtoms # atomic\n\n9223372036854775808 1 0 0 0\n";
    let error = lammps_data::read(beyond.as_bytes(), Path::new("t"), None).unwrap_err().to_string();
    assert!(error.contains("line 11: the atom id must be an integer (in range)"), "{error}");
}

#[test]
fn dumps_keep_ids() {
    for first in FIRST {
        let text = format!(
            "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n0 9\n0 9\n0 9\n\
             ITEM: ATOMS id element x y z\n{} Al 1 1 1\n{first} Al 4 4 4\n",
            first + 1
        );
        let read = lammps_dump::read(text.as_bytes(), Path::new("t"), None, Frame::Last).unwrap();
        assert_eq!(read.ids.to_vec(), [first + 1, first]);
        let error = lammps_dump::read(
            text.replace(&(first + 1).to_string(), &first.to_string()).as_bytes(),
            Path::new("t"),
            None,
            Frame::Last,
        );
        assert!(error.unwrap_err().to_string().contains(&format!("atom id {first} occurs also in line 10")));
    }
}

#[test]
fn extended_xyz_keeps_ids_as_text() {
    for first in [1000].into_iter().chain(FIRST) {
        let mut structure = crystal(first);
        structure.fixed = vec![FixedAtoms { axes: [true; 3], ids: vec![first + 5] }];
        let (mut text, sources) = (Vec::new(), structure.ids.to_vec());
        extxyz::write(&mut text, &structure, &[Column::integer("source_id", &sources)], &[]).unwrap();
        let kind = if first == 1000 { 'I' } else { 'S' };
        let header = String::from_utf8_lossy(&text).lines().nth(1).unwrap().to_owned();
        assert!(
            header.contains(&format!(":id:{kind}:1")) && header.contains(&format!(":source_id:{kind}:1")),
            "{header}"
        );
        let back = extxyz::read(text.as_slice(), Path::new("t"), None, Frame::Last).unwrap();
        assert_eq!((back.ids, back.fixed), (structure.ids, structure.fixed));
    }
    let named = "1\nLattice=\"4 0 0 0 4 0 0 0 4\" Properties=species:S:1:pos:R:3:id:S:1\nAl 0 0 0 first\n";
    let error = extxyz::read(named.as_bytes(), Path::new("t"), None, Frame::Last).unwrap_err().to_string();
    assert!(error.contains("the id must be an integer (in range), not \"first\""), "{error}");
}

#[test]
fn cut_outs_keep_source_ids() {
    let config = EmbeddingConfig { radius: 3.0, buffer: Some(5.3), ..EmbeddingConfig::default() };
    let extractor = EmbeddingExtractor::new(&config, 5.3).unwrap();
    let plain = extractor.extract_cluster(&crystal(1), 50).unwrap();
    for first in FIRST {
        let parent = crystal(first);
        let cluster = extractor.extract_cluster(&parent, 50).unwrap();
        let expected: Vec<AtomId> = plain.source_ids.iter().map(|id| id - 1 + first).collect();
        assert_eq!((&cluster.source_ids, &cluster.source_images), (&expected, &plain.source_images));
        assert_eq!(cluster.structure, plain.structure);
        let surroundings =
            otf_atoms::embedding::select(parent.atoms(), &parent.cell, parent.position(50), extractor.region());
        assert!((0..cluster.core_len()).all(|i| cluster.changed_neighbours(i, &surroundings) == 0));
    }
}
