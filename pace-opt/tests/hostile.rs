// SPDX-License-Identifier: GPL-2.0-or-later
//! Readers against damaged files: an error is fine, a panic or endless memory is not.

mod util;

use pace_opt::{ActiveSet, Format, Model, Potential};
use util::{Random, data};

const FILES: [(&str, Format); 3] =
    [("two.yaml", Format::BBasis), ("small.yace", Format::Yace), ("small.ace", Format::Ace)];

/// Parses, and compiles what parses if that stays small.
fn try_all(format: Format, bytes: &[u8]) {
    if let Ok(model) = Model::parse(format, bytes) {
        let bins: f64 = model.bonds.iter().map(|b| b.rcut / model.delta_spline).sum();
        if bins < 1e4 {
            let _ = Potential::new(&model, None);
        }
    }
}

#[test]
fn every_cut() {
    for (name, format) in FILES {
        let good = std::fs::read(data(name)).unwrap();
        assert!(Model::parse(format, &good).is_ok(), "{name}");
        for k in 0..good.len() {
            try_all(format, &good[..k]);
        }
    }
}

#[test]
fn random_damage() {
    let mut random = Random(42);
    let pieces: [&[u8]; 12] =
        [b"-1", b"0", b"99999999999999999999", b"1e308", b"nan", b"[", b"]", b"{", b"}", b":", b"\n", b"\xff"];
    for (name, format) in FILES {
        let good = std::fs::read(data(name)).unwrap();
        for _ in 0..4000 {
            let mut bad = good.clone();
            for _ in 0..1 + random.next() % 3 {
                let at = random.next() as usize % bad.len();
                let piece = pieces[random.next() as usize % pieces.len()];
                let end = (at + random.next() as usize % 4).min(bad.len());
                bad.splice(at..end, piece.iter().copied());
            }
            try_all(format, &bad);
        }
    }
}

#[test]
fn what_is_not_supported_is_named() {
    let text = std::fs::read_to_string(data("small.yace")).unwrap();
    for (from, to) in [
        ("ChebPow", "ACE.jl.Basic"),
        ("FinnisSinclairShiftedScaled", "Tanh"),
        ("inner_cutoff_type: density", "inner_cutoff_type: magic"),
    ] {
        let name = to.rsplit(' ').next().unwrap();
        let error = Model::parse(Format::Yace, text.replace(from, to).as_bytes()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("not supported"), "{error}");
    }
}

#[test]
fn too_large_is_refused() {
    let text = std::fs::read_to_string(data("small.yace")).unwrap();
    for (from, to) in [("deltaSplineBins: 0.01", "deltaSplineBins: 1e-12"), ("lmax: 1", "lmax: 4000000")] {
        assert!(Model::parse(Format::Yace, text.replace(from, to).as_bytes()).is_err());
    }
    let deep = "[".repeat(100_000);
    assert!(Model::parse(Format::Yace, deep.as_bytes()).is_err());
}

#[test]
fn active_sets() {
    let model = Model::read(&data("two.yaml")).unwrap();
    assert!(ActiveSet::parse(b"", &model).is_err());
    assert!(ActiveSet::parse(b"PK\x03\x04 not an archive", &model).is_err());
    let error = ActiveSet::parse(b"", &Model::read(&data("small.ace")).unwrap()).unwrap_err();
    assert!(error.to_string().contains(".yaml"));
}
