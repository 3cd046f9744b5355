// SPDX-License-Identifier: GPL-2.0-or-later
//! Extraction of cut-outs: the cases of the specification (cycle 05, sections 4 and 5) and of issue 3.
mod crystals;

use crystals::{fcc, rattle, structure};
use otf_atoms::embedding::{
    Cluster, DEFAULT_THRESHOLD, EmbeddingConfig, EmbeddingExtractor, Environment, Error, Novelty, Region, Selected,
    Shape, select,
};
use otf_atoms::structure::{Cell, Element, Structure};

fn config(radius: f64, buffer: f64) -> EmbeddingConfig {
    EmbeddingConfig { radius, buffer: Some(buffer), max_atoms: 1000, ..EmbeddingConfig::default() }
}

fn cube(radius: f64, buffer: f64) -> EmbeddingConfig {
    EmbeddingConfig { shape: Shape::Cube, ..config(radius, buffer) }
}

fn symbols(cluster: &Cluster) -> Vec<&'static str> {
    (0..cluster.structure.len()).map(|i| cluster.structure.element(i).symbol()).collect()
}

/// A periodic chain A-B-C-D-E along x with a spacing of 2 Å.
fn chain() -> Structure {
    let elements = [Element::H, Element::B, Element::C, Element::N, Element::O];
    let atoms: Vec<_> = (0..5).map(|i| (i + 1, [f64::from(2 * i), 5.0, 5.0])).collect();
    structure(Cell::orthorhombic([10.0, 10.0, 10.0], [true; 3]), &elements, &atoms)
}

#[test]
fn chain_of_five_extracting_c_gives_b_c_d_in_a_new_box() {
    let extractor = EmbeddingExtractor::new(&config(1.5, 1.0), 1.0).unwrap();
    let cluster = extractor.extract_cluster(&chain(), 2).unwrap();
    assert_eq!(symbols(&cluster), ["C", "B", "N"]);
    assert_eq!(cluster.source_ids, [3, 2, 4]);
    assert_eq!(cluster.force_mask, [1.0, 0.0, 0.0]);
    // ε grows until B and D are at least 0.85 times as far apart across the face as inside (4 Å).
    assert!(cluster.edge() >= 4.0 + 3.4 && cluster.structure.cell.pbc == [true; 3]);
}

#[test]
fn chain_of_five_extracting_a_gives_e_a_b_through_the_boundary() {
    let extractor = EmbeddingExtractor::new(&config(1.5, 1.0), 1.0).unwrap();
    let cluster = extractor.extract_cluster(&chain(), 0).unwrap();
    assert_eq!(symbols(&cluster), ["H", "B", "O"]);
    assert_eq!(cluster.source_images, [[0, 0, 0], [0, 0, 0], [-1, 0, 0]]);
    // The cluster is continuous: E is 2 Å before A.
    let x = |i: usize| cluster.structure.positions[[i, 0]];
    assert!((x(0) - x(2) - 2.0).abs() < 1e-12 && (x(1) - x(0) - 2.0).abs() < 1e-12);
}

#[test]
fn al_3x3x3_radius_4_gives_55_atoms_with_the_centre_in_the_middle_and_mask_0_in_the_buffer() {
    // fcc shells around an atom at 4.05 Å: 1, 12, 6, 24, 12 → 55 within 6 Å.
    let supercell = fcc(Element::Al, 4.05, 3);
    let extractor = EmbeddingExtractor::new(&config(4.0, 2.0), 2.9).unwrap();
    for index in [0, 54, 107] {
        let cluster = extractor.extract_cluster(&supercell, index).unwrap();
        assert_eq!(cluster.structure.len(), 55);
        assert_eq!(cluster.source_ids[cluster.center], index as i64 + 1);
        let middle = cluster.edge() / 2.0;
        assert_eq!(cluster.structure.position(cluster.center), [middle; 3]);
        for (&distance, &mask) in cluster.distances.iter().zip(&cluster.force_mask) {
            assert_eq!(mask, if distance < 4.0 { 1.0 } else { 0.0 });
        }
        let rim = cluster.distances.iter().zip(&cluster.force_mask).filter(|(d, _)| **d > 5.0);
        assert!(rim.clone().count() > 0 && rim.clone().all(|(_, &mask)| mask == 0.0));
        assert_eq!(cluster.core_len(), 13);
        assert!(cluster.min_distance > 2.4, "{}", cluster.min_distance);
    }
}

#[test]
fn empty_neighbourhood_after_an_explosion_is_an_error() {
    let far = structure(
        Cell::orthorhombic([500.0; 3], [true; 3]),
        &[Element::Al],
        &[(1, [0.0; 3]), (1, [250.0, 0.0, 0.0]), (1, [0.0, 250.0, 250.0])],
    );
    let error = EmbeddingExtractor::new(&config(5.0, 5.5), 5.5).unwrap().extract_cluster(&far, 1).unwrap_err();
    assert_eq!(error, Error::Empty { id: 2, reach: 10.5 });
    assert!(error.to_string().contains("exploded"), "{error}");
}

#[test]
fn sphere_grows_its_box_above_twice_the_cutoff() {
    let extractor = EmbeddingExtractor::new(&config(3.0, 1.0), 5.5).unwrap();
    let cluster = extractor.extract_cluster(&fcc(Element::Al, 4.05, 3), 0).unwrap();
    assert!(cluster.edge() > 11.0, "{}", cluster.edge());
}

#[test]
fn cube_below_twice_the_cutoff_is_an_error_with_the_required_size() {
    let error = EmbeddingExtractor::new(&cube(3.0, 1.0), 5.5).unwrap_err();
    assert_eq!(error, Error::BoxTooSmall { edge: 8.0, needed: 11.0 });
    assert!(error.to_string().contains("above 5.5 Å"), "{error}");
}

#[test]
fn parent_cell_smaller_than_the_sphere_gives_the_same_cluster_as_a_large_one() {
    let extractor = EmbeddingExtractor::new(&config(4.0, 2.0), 2.9).unwrap();
    let small = extractor.extract_cluster(&fcc(Element::Al, 4.05, 1), 0).unwrap();
    let large = extractor.extract_cluster(&fcc(Element::Al, 4.05, 5), 0).unwrap();
    assert_eq!(small.structure.len(), 55);
    assert_eq!(small.edge(), large.edge());
    // The shells agree. The order within a shell is by id and image and can differ.
    for (a, b) in small.distances.iter().zip(&large.distances) {
        assert!((a - b).abs() < 1e-12);
    }
    // Images of the centre are among the atoms.
    assert!(small.source_ids.iter().filter(|&&id| id == 1).count() > 1);
}

/// The neighbours of an atom within `cutoff`, ordered by distance.
fn surroundings(structure: &Structure, index: usize, cutoff: f64) -> Vec<Selected> {
    let region = Region::Sphere { radius: cutoff };
    let mut neighbours = select(structure.atoms(), &structure.cell, structure.position(index), region);
    neighbours.sort_by(|a, b| a.distance.total_cmp(&b.distance));
    neighbours
}

#[test]
fn core_neighbours_are_complete_with_a_buffer_of_the_cutoff() {
    let cutoff = 5.5;
    for (seed, sigma) in [(1, 0.05), (2, 0.15), (3, 0.25)] {
        let mut parent = fcc(Element::Al, 4.05, 8);
        rattle(&mut parent, sigma, seed);
        for config in [config(4.0, cutoff), cube(3.0, cutoff), cube(4.3, cutoff)] {
            let extractor = EmbeddingExtractor::new(&config, cutoff).unwrap();
            let cluster = extractor.extract_cluster(&parent, 1000).unwrap();
            assert!(cluster.is_complete() && cluster.edge() > 2.0 * cutoff);
            for index in (0..cluster.structure.len()).filter(|&i| cluster.force_mask[i] == 1.0) {
                let source = cluster.source_ids[index] as usize - 1;
                let here = surroundings(&cluster.structure, index, cutoff);
                let there = surroundings(&parent, source, cutoff);
                assert_eq!(here.len(), there.len(), "{config:?}");
                for (a, b) in here.iter().zip(&there) {
                    // Offsets through cells of 32 Å: a few times 1e-14.
                    assert!((0..3).all(|k| (a.offset[k] - b.offset[k]).abs() < 1e-12), "{a:?} {b:?}");
                }
            }
        }
    }
}

#[test]
fn neighbours_of_neighbours_are_complete_with_a_buffer_of_two_cutoffs() {
    let cutoff = 3.5;
    // Radii for which atoms near a core atom are too close to each other across a face.
    for (seed, radius) in [(2, 3.0), (19, 3.85), (22, 4.0), (24, 4.1), (26, 4.2), (27, 4.25)] {
        let mut parent = fcc(Element::Al, 4.05, 6);
        rattle(&mut parent, 0.1, seed);
        // For a buffer between one and two cutoffs, the environment is complete up to the buffer.
        for buffer in [1.5 * cutoff, 2.0 * cutoff, 2.3 * cutoff] {
            let config = EmbeddingConfig { max_atoms: 4000, ..cube(radius, buffer) };
            let extractor = EmbeddingExtractor::new(&config, cutoff).unwrap();
            let cluster = extractor.extract_cluster(&parent, 300 + seed as usize).unwrap();
            let reach = buffer.min(2.0 * cutoff);
            for index in (0..cluster.structure.len()).filter(|&i| cluster.force_mask[i] == 1.0) {
                let here = surroundings(&cluster.structure, index, reach);
                let there = surroundings(&parent, cluster.source_ids[index] as usize - 1, reach);
                assert_eq!(here.len(), there.len(), "radius {radius}, buffer {buffer}");
                for (a, b) in here.iter().zip(&there) {
                    assert!((0..3).all(|k| (a.offset[k] - b.offset[k]).abs() < 1e-12), "{a:?} {b:?}");
                }
            }
        }
    }
}

#[test]
fn changed_neighbours_counts_differences_from_the_parent() {
    let cutoff = 5.5;
    let mut parent = fcc(Element::Al, 4.05, 6);
    rattle(&mut parent, 0.1, 5);
    let center = parent.position(300);
    for config in [config(3.0, cutoff), cube(3.0, cutoff)] {
        let extractor = EmbeddingExtractor::new(&config, cutoff).unwrap();
        let around = select(parent.atoms(), &parent.cell, center, extractor.region());
        let whole = extractor.build(301, around.clone(), &parent.elements).unwrap();
        let core: Vec<usize> = (0..whole.structure.len()).filter(|&i| whole.force_mask[i] == 1.0).collect();
        assert!(core.len() > 10);
        assert!(core.iter().all(|&i| whole.changed_neighbours(i, &around) == 0), "{config:?}");
        let near = whole.distances.iter().filter(|d| **d < cutoff).count() - 1;
        // A moved neighbour, a missing one, one with another id, and a cell that is too small.
        let mut moved = whole.clone();
        moved.structure.positions[[5, 1]] += 1e-6;
        assert_eq!(moved.changed_neighbours(0, &around), 1);
        let mut far = whole.clone();
        far.structure.positions[[5, 1]] += 8.0;
        assert_eq!(far.changed_neighbours(0, &around), 1);
        let mut other = whole.clone();
        other.source_ids[5] = 9999;
        assert_eq!(other.changed_neighbours(0, &around), 2);
        let mut small = whole.clone();
        small.structure.cell = Cell::orthorhombic([cutoff; 3], [true; 3]);
        assert!(small.changed_neighbours(0, &around) > near, "{near}");
        assert_eq!(whole.changed_neighbours(0, &[]), usize::MAX);
    }
}

#[test]
fn cube_is_dense_and_loses_outer_atoms_only() {
    let mut parent = fcc(Element::Al, 4.05, 8);
    rattle(&mut parent, 0.08, 7);
    let extractor = EmbeddingExtractor::new(&cube(3.0, 3.0), 5.5).unwrap();
    let cluster = extractor.extract_cluster(&parent, 5).unwrap();
    let density = cluster.structure.len() as f64 / cluster.structure.cell.volume();
    let bulk = 4.0 / 4.05_f64.powi(3);
    // 12 Å is not a multiple of 4.05 Å, so at most one layer is removed.
    assert!(density < bulk && density > 0.8 * bulk, "density {density} against {bulk}");
    // The smallest distance in the parent is about 2.5 Å; across the faces 0.85 of it is allowed.
    assert!(cluster.min_distance > 2.0, "{}", cluster.min_distance);
    let closest = cluster.structure.closest_pair().unwrap();
    assert!((closest.distance - cluster.min_distance).abs() < 1e-12);
}

#[test]
fn cube_of_a_commensurate_crystal_loses_no_atoms() {
    let extractor = EmbeddingExtractor::new(&cube(3.0, 3.075), 5.5).unwrap();
    let cluster = extractor.extract_cluster(&fcc(Element::Al, 4.05, 4), 0).unwrap();
    assert!((cluster.edge() - 12.15).abs() < 1e-9);
    // 27 cells of 4 atoms, with each atom on the faces once.
    assert_eq!((cluster.structure.len(), cluster.removed), (108, 0));
    assert!((cluster.min_distance - 4.05 / 2.0_f64.sqrt()).abs() < 1e-9);
}

#[test]
fn min_distance_of_a_cluster_includes_images() {
    for config in [config(5.0, 2.0), cube(4.0, 3.0)] {
        for seed in 0..20 {
            let mut parent = fcc(Element::Al, 4.05, 5);
            rattle(&mut parent, 0.2, seed);
            let cluster = EmbeddingExtractor::new(&config, 5.5).unwrap().extract_cluster(&parent, 77).unwrap();
            let closest = cluster.structure.closest_pair().unwrap().distance;
            assert!((closest - cluster.min_distance).abs() < 1e-12, "{closest} {}", cluster.min_distance);
            cluster.structure.validate(0.5).unwrap();
        }
    }
}

#[test]
fn overlapping_atoms_are_an_error_with_both_ids() {
    let mut parent = fcc(Element::Al, 4.05, 4);
    let near = parent.position(10);
    (0..3).for_each(|k| parent.positions[[11, k]] = near[k] + 0.2);
    let extractor = EmbeddingExtractor::new(&config(4.0, 2.0), 2.9).unwrap();
    match extractor.extract_cluster(&parent, 10).unwrap_err() {
        Error::Overlap { a, b, distance, limit } => {
            assert_eq!((a.min(b), a.max(b), limit), (11, 12, 0.5));
            assert!((distance - 0.2 * 3.0_f64.sqrt()).abs() < 1e-12);
        }
        other => panic!("{other}"),
    }
}

#[test]
fn pair_distances_limit_single_pairs_of_elements() {
    let mut strict = config(1.5, 1.0);
    strict.pair_distances.insert("C-B".to_owned(), 2.5);
    let extractor = EmbeddingExtractor::new(&strict, 1.0).unwrap();
    let error = extractor.extract_cluster(&chain(), 2).unwrap_err();
    assert!(matches!(error, Error::Overlap { limit: 2.5, .. }), "{error}");
    strict.pair_distances.insert("C/B".to_owned(), 2.5);
    assert!(matches!(EmbeddingExtractor::new(&strict, 1.0), Err(Error::Config { field: "pair_distances", .. })));
}

#[test]
fn coordinates_that_are_not_finite_are_an_error() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let extractor = EmbeddingExtractor::new(&config(4.0, 2.0), 2.9).unwrap();
        let mut parent = fcc(Element::Al, 4.05, 4);
        parent.positions[[200, 1]] = value;
        // An atom with invalid coordinates is an error for any centre.
        for index in [0, 200] {
            let error = extractor.extract_cluster(&parent, index).unwrap_err();
            assert!(matches!(error, Error::NotFinite { .. }), "{error}");
        }
    }
}

#[test]
fn too_many_atoms_error_suggests_a_radius_that_fits() {
    let parent = fcc(Element::Al, 4.05, 6);
    for shape in [Shape::Sphere, Shape::Cube] {
        let mut config = EmbeddingConfig { shape, max_atoms: 250, ..config(5.5, 5.5) };
        let error = EmbeddingExtractor::new(&config, 5.5).unwrap().extract_cluster(&parent, 0).unwrap_err();
        let Error::TooMany { found, limit, fits: Some(radius), .. } = error else { panic!("{error}") };
        assert!(found > limit);
        // A cube of 11 Å contains 80 atoms, so some radius always fits here.
        config.radius = radius;
        let cluster = EmbeddingExtractor::new(&config, 5.5).unwrap().extract_cluster(&parent, 0).unwrap();
        assert!(cluster.structure.len() <= 250);
        assert!(error.to_string().contains(&format!("radius to {radius:.2} Å")), "{error}");
    }
    let config = EmbeddingConfig { max_atoms: 20, ..config(5.0, 5.5) };
    let error = EmbeddingExtractor::new(&config, 5.5).unwrap().extract_cluster(&parent, 0).unwrap_err();
    assert!(matches!(error, Error::TooMany { fits: None, .. }) && error.to_string().contains("no radius"), "{error}");
}

#[test]
fn atoms_on_the_radius_are_outside_the_core() {
    // The second shell is at 4.05 Å, up to rounding, which differs from atom to atom.
    let parent = fcc(Element::Al, 4.05, 7);
    for index in [0, 500, 1371] {
        let extractor = EmbeddingExtractor::new(&config(4.05, 4.05 * 2.0_f64.sqrt() - 4.05), 2.0).unwrap();
        let cluster = extractor.extract_cluster(&parent, index).unwrap();
        assert_eq!((cluster.structure.len(), cluster.core_len()), (1 + 12 + 6 + 24, 13));
    }
}

#[test]
fn build_does_not_depend_on_the_order_and_rounding_of_the_selection() {
    let parent = fcc(Element::Al, 4.05, 5);
    for config in [config(4.0, 4.0), cube(4.0, 4.0)] {
        let extractor = EmbeddingExtractor::new(&config, 5.5).unwrap();
        let center = parent.position(123);
        let selected = select(parent.atoms(), &parent.cell, center, extractor.region());
        let one = extractor.build(124, selected.clone(), &parent.elements).unwrap();
        let mut other = selected;
        other.reverse();
        other.rotate_left(17);
        for (i, atom) in other.iter_mut().enumerate() {
            // The rounding of another order of additions.
            if atom.distance > 0.0 {
                atom.distance *= 1.0 + [0.0, 2e-16, -4e-16][i % 3];
            }
        }
        let two = extractor.build(124, other, &parent.elements).unwrap();
        assert_eq!((&one.source_ids, &one.source_images), (&two.source_ids, &two.source_images));
        assert_eq!(one.structure, two.structure);
    }
}

#[test]
fn invalid_selections_are_errors() {
    let parent = fcc(Element::Al, 4.05, 4);
    let extractor = EmbeddingExtractor::new(&config(4.0, 2.0), 2.9).unwrap();
    let selected = select(parent.atoms(), &parent.cell, parent.position(0), extractor.region());
    let mut twice = selected.clone();
    twice.push(selected[3]);
    assert!(matches!(extractor.build(1, twice, &parent.elements), Err(Error::Duplicate { .. })));
    assert!(matches!(extractor.build(1, selected.clone(), &[]), Err(Error::Type { ty: 1, .. })));
    assert!(matches!(extractor.build(9999, selected, &parent.elements), Err(Error::NoCenter { id: 9999, .. })));
    assert!(matches!(extractor.build(1, Vec::new(), &parent.elements), Err(Error::NoCenter { .. })));
    assert!(matches!(extractor.extract_cluster(&parent, 256), Err(Error::NoSuchAtom { .. })));
    let mut tiny = parent;
    tiny.cell = Cell::orthorhombic([1e-3; 3], [true; 3]);
    assert!(matches!(extractor.extract_cluster(&tiny, 0), Err(Error::TooManyImages { .. })));
}

#[test]
fn settings_out_of_range_are_errors() {
    let bad = [
        EmbeddingConfig { radius: 0.0, ..EmbeddingConfig::default() },
        EmbeddingConfig { radius: f64::NAN, ..EmbeddingConfig::default() },
        EmbeddingConfig { buffer: Some(-1.0), ..EmbeddingConfig::default() },
        EmbeddingConfig { max_atoms: 1, ..EmbeddingConfig::default() },
        EmbeddingConfig { boundary_scale: 1.5, ..EmbeddingConfig::default() },
    ];
    for config in bad {
        assert!(matches!(EmbeddingExtractor::new(&config, 5.0), Err(Error::Config { .. })), "{config:?}");
    }
    assert!(EmbeddingExtractor::new(&EmbeddingConfig::default(), f64::NAN).is_err());
    assert!(toml::from_str::<EmbeddingConfig>("radios = 4.0").is_err());
    let config: EmbeddingConfig = toml::from_str("shape = \"cube\"\npair_distances = { Al-Cu = 1.2 }").unwrap();
    assert_eq!((config.shape, config.radius), (Shape::Cube, EmbeddingConfig::default().radius));
}

#[test]
fn novelty_descriptor_has_the_documented_distances() {
    let cutoff = 5.5;
    let region = Region::Sphere { radius: cutoff };
    let describe = |structure: &Structure| {
        let found = select(structure.atoms(), &structure.cell, structure.position(0), region);
        Environment::of_selected(Element::Al, &found, &structure.elements, cutoff)
    };
    let perfect = fcc(Element::Al, 4.05, 5);
    let bulk = describe(&perfect);
    let thermal = |sigma: f64| {
        let warm = |seed| {
            let mut structure = perfect.clone();
            rattle(&mut structure, sigma, seed);
            describe(&structure)
        };
        let mut distances: Vec<f64> = (0..40).map(|seed| warm(seed).distance(&warm(1000 + seed))).collect();
        distances.sort_by(f64::total_cmp);
        distances[20]
    };
    let mut hole = perfect.clone();
    // Move the neighbour at (0, a/2, a/2) out of the cutoff.
    (0..3).for_each(|k| hole.positions[[1, k]] = hole.positions[[250, k]]);
    let mut surface = perfect.clone();
    surface.cell.pbc[2] = false;
    // hcp with the same neighbour distance, in rectangular cells of four atoms.
    let a = 4.05 / 2.0_f64.sqrt();
    let (b, c) = (a * 3.0_f64.sqrt(), a * (8.0_f64 / 3.0).sqrt());
    let basis = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 1.0 / 6.0, 0.5], [0.0, 2.0 / 3.0, 0.5]];
    let atoms = basis.map(|s| (1, [s[0] * a, s[1] * b, s[2] * c]));
    let hcp = structure(Cell::orthorhombic([a, b, c], [true; 3]), &[Element::Al], &atoms);
    let figures = [
        ("surface", bulk.distance(&describe(&surface)), 0.2),
        ("hcp", bulk.distance(&describe(&hcp)), 0.17),
        ("0.05 Å", thermal(0.05), 0.02),
        ("0.1 Å", thermal(0.1), 0.04),
        ("strain", bulk.distance(&describe(&fcc(Element::Al, 4.05 * 1.012, 5))), 0.03),
        ("vacancy", bulk.distance(&describe(&hole)), 0.03),
    ];
    for (name, found, documented) in figures {
        // The documentation has one significant digit.
        assert!((found / documented - 1.0).abs() < 0.3, "{name}: {found} instead of {documented}");
    }
    let mut novelty = Novelty::new(DEFAULT_THRESHOLD);
    novelty.insert(1, bulk.clone());
    assert!(novelty.find_duplicate(&bulk).is_some() && novelty.find_duplicate(&describe(&hole)).is_none());
}

#[test]
fn build_fitting_reduces_the_core_or_returns_an_oversized_cluster() {
    let bulk = fcc(Element::Al, 4.05, 6);
    let built = |config: &EmbeddingConfig| {
        let extractor = EmbeddingExtractor::new(config, 5.0).unwrap();
        let center = bulk.position(0);
        extractor.build_fitting(bulk.ids[0], &bulk.elements, |region| select(bulk.atoms(), &bulk.cell, center, region))
    };
    for shape in [Shape::Sphere, Shape::Cube] {
        let config = |max_atoms| EmbeddingConfig { shape, max_atoms, ..config(4.0, 5.0) };
        let whole = built(&config(1000)).unwrap();
        assert!(!whole.is_oversized() && whole.radius == 4.0);
        let most = whole.structure.len();
        let smaller = built(&config(most - 1)).unwrap();
        assert!(smaller.structure.len() < most && !smaller.is_oversized(), "{shape}: {most}");
        assert!(smaller.radius < 4.0 && smaller.buffer == whole.buffer && smaller.core_len() >= 1, "{shape}");
        assert!(matches!(built(&config(10)), Err(Error::TooMany { .. })), "{shape}");
    }
    // The buffer alone has too many atoms.
    let oversized = built(&EmbeddingConfig { max_atoms: 50, ..config(1.0, 6.0) }).unwrap();
    assert!(oversized.is_oversized() && oversized.radius == 1.0 && oversized.core_len() == 1);
    assert_eq!(oversized.max_atoms, 50);
}

#[test]
fn whole_frame_keeps_cell_order_of_ids_and_distances() {
    // Two atoms in a triclinic cell, in the reverse order of their ids, one outside of the cell.
    let frame = Structure {
        cell: Cell::from_lammps([0.0; 3], [4.0, 5.0, 6.0], [1.0, 0.5, -1.0], [true, true, false]),
        elements: vec![Element::Al, Element::Cu],
        masses: None,
        types: ndarray::arr1(&[2, 1]),
        ids: ndarray::arr1(&[9, 4]),
        fixed: Vec::new(),
        positions: ndarray::arr2(&[[0.5, 0.5, 3.0], [3.9, 0.5, 3.0]]),
        velocities: None,
    };
    let config = |limit: f64| EmbeddingConfig {
        whole_frames_below: 2,
        pair_distances: [("Al-Cu".to_owned(), limit)].into(),
        ..config(3.0, 4.0)
    };
    let extractor = EmbeddingExtractor::new(&config(0.5), 4.0).unwrap();
    assert!(extractor.takes_whole(2) && !extractor.takes_whole(3));
    let cluster = extractor.whole_frame(9, frame.clone()).unwrap();
    assert_eq!((cluster.source_ids, cluster.center, cluster.shape), (vec![4, 9], 1, None));
    assert_eq!(cluster.structure.ids.to_vec(), [1, 2]);
    assert_eq!((cluster.structure.types.to_vec(), cluster.force_mask), (vec![1, 2], vec![1.0, 1.0]));
    assert_eq!(cluster.structure.cell, frame.cell);
    // 3.4 Å apart directly, 0.6 Å across the face.
    assert!((cluster.min_distance - 0.6).abs() < 1e-12 && (cluster.distances[0] - 0.6).abs() < 1e-12);
    assert!(cluster.structure.cell.fractional(cluster.structure.position(0)).iter().all(|s| (0.0..1.0).contains(s)));
    // An atom beyond the face of an open direction is inside the new cell.
    let mut outside = frame.clone();
    outside.positions[[0, 2]] = 6.3;
    let cluster = extractor.whole_frame(9, outside).unwrap();
    assert_eq!(cluster.structure.position(1)[2], 6.3);
    assert!(cluster.structure.cell.fractional(cluster.structure.position(1)).iter().all(|s| (0.0..=1.0).contains(s)));
    let near = EmbeddingExtractor::new(&config(0.7), 4.0).unwrap().whole_frame(9, frame.clone());
    assert!(matches!(near, Err(Error::Overlap { a: 4, b: 9, .. })), "{near:?}");
    assert!(matches!(extractor.whole_frame(5, frame), Err(Error::NoCenter { id: 5, found: 2 })));
}
