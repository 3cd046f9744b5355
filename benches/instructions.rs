// SPDX-License-Identifier: GPL-2.0-or-later
//! Functions whose instructions `ci/instructions` counts with callgrind: for 32,000 atoms, the summary of γ at a poll, the copy
//! of a frame, the search for the atoms of a region and for their images, a complete cut-out, and the closest pair of atoms;
//! and the selection of 8 of 100 candidates.
//!
//! Only the functions `counted_…` are counted, each called once. `cargo bench --bench instructions` runs them without counting.
#[path = "../crates/otf-atoms/tests/crystals/mod.rs"]
#[allow(unused, reason = "it needs only the crystals")]
mod crystals;

use std::hint::black_box;

use crystals::{fcc, rattle};
use lammps_otf::active_learning::{self, Projected};
use lammps_otf::comm::Comm;
use lammps_otf::config::Sanity;
use lammps_otf::embedding::{Cluster, EmbeddingConfig, EmbeddingExtractor, Selected, indices_in_region, select};
use lammps_otf::frame::{Frame, FrameFault};
use lammps_otf::lammps::Lammps;
use lammps_otf::structure::{AtomsView, Cell, ClosestPair, Element, Structure};
use lammps_otf::uncertainty::{Extremes, GammaSummary, LocalGamma, Thresholds};
use ndarray::{Array1, ArrayView1};

const LIMITS: Thresholds = Thresholds { low: 2.0, high: 5.0 };

#[inline(never)]
fn counted_summary(gamma: ArrayView1<'_, f64>, atoms: AtomsView<'_>, comm: &Comm) -> GammaSummary {
    let here = LocalGamma::of(gamma, atoms, LIMITS);
    let extremes = here.extremes();
    here.reduce(extremes, comm).0
}

#[inline(never)]
fn counted_frame(frame: &mut Frame, lammps: &Lammps, gamma: ArrayView1<'_, f64>) -> Option<FrameFault> {
    let now = lammps.state();
    let fault = frame.check(&now, &Sanity::default(), 1.0, Extremes::default(), lammps.comm()).0;
    frame.capture(&now, Some(gamma));
    fault
}

#[inline(never)]
fn counted_selection(frame: &Structure, center: usize, extractor: &EmbeddingExtractor) -> Vec<Selected> {
    select(frame.atoms(), &frame.cell, frame.position(center), extractor.region())
}

#[inline(never)]
fn counted_near(frame: &Structure, center: usize, extractor: &EmbeddingExtractor) -> Vec<usize> {
    indices_in_region(frame.atoms(), &frame.cell, frame.position(center), extractor.region())
}

#[inline(never)]
fn counted_cut_out(frame: &Structure, center: usize, extractor: &EmbeddingExtractor) -> Cluster {
    extractor.extract_cluster(frame, center).expect("a crystal makes a valid cell")
}

#[inline(never)]
fn counted_closest(structure: &Structure) -> Option<ClosestPair> {
    structure.closest_pair()
}

#[inline(never)]
fn counted_choice(pool: Vec<Projected>) -> Vec<i64> {
    active_learning::select(pool, &[], 8)
}

/// Candidates of 5 atoms each, of one element with 74 functions, with pseudo-random projections and γ above 1.
fn pool(candidates: u32) -> Vec<Projected> {
    let mut state = 1_u32;
    let mut number = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        4.0 * (f64::from(state) / f64::from(u32::MAX) - 0.5)
    };
    (0..candidates)
        .map(|id| Projected { id: id.into(), rows: (0..5).map(|_| (0, (0..74).map(|_| number()).collect())).collect() })
        .collect()
}

fn main() {
    let comm = Comm::single();
    let mut frame = fcc(Element::Al, 4.05, 20);
    rattle(&mut frame, 0.1, 1);
    let gamma = Array1::from_iter((0..frame.len()).map(|i| 0.5 + (i % 97) as f64 * 1e-2));

    let mut lammps = Lammps::open(&["-screen", "none", "-log", "none", "-nocite"], &comm).expect("LAMMPS opens");
    let commands = "units metal\nlattice fcc 4.05\nregion box block 0 20 0 20 0 20\ncreate_box 1 box\ncreate_atoms 1 box\n\
                    mass 1 26.98\npair_style zero 5.0 nocoeff\npair_coeff * *\nrun 0 post no";
    lammps.command(commands).expect("a crystal");
    let mut kept = Frame::default();
    // Captured once before counting, so that the arrays are allocated, as at all polls after the first.
    kept.capture(&lammps.state(), Some(gamma.view()));
    assert_eq!(black_box(counted_frame(&mut kept, &lammps, gamma.view())), None);
    assert_eq!(black_box(counted_summary(gamma.view(), frame.atoms(), &comm)).atoms, 32_000);

    let config = EmbeddingConfig { radius: 4.0, buffer: Some(5.3), ..EmbeddingConfig::default() };
    let extractor = EmbeddingExtractor::new(&config, 5.3).expect("a sound configuration");
    assert!(black_box(counted_selection(&frame, 16_000, &extractor)).len() > 100);
    assert!(black_box(counted_near(&frame, 16_000, &extractor)).len() > 100);
    assert!(black_box(counted_cut_out(&frame, 16_000, &extractor)).structure.len() > 100);
    assert_eq!(black_box(counted_choice(pool(100))).len(), 8);
    // Two clusters in a cell 1000 times larger, where bins based on the mean density would be inefficient.
    (0..frame.len() / 2).for_each(|i| frame.positions[[i, 0]] += 3000.0);
    frame.cell = Cell::orthorhombic([6000.0; 3], [true; 3]);
    assert!(black_box(counted_closest(&frame)).is_some_and(|pair| pair.distance > 1.0));
}
