// SPDX-License-Identifier: GPL-2.0-or-later
//! What each fuzz target does with its bytes: everything that comes from outside may be refused, but must not panic, hang
//! or take all memory.
//!
//! `ci/stress fuzz` lets libFuzzer invent the bytes; the test at the end replays what is in `corpus/`, so that nothing that
//! was found once comes back.

use std::hint::black_box;
use std::path::Path;

use lammps_otf::analysis::Displacements;
use lammps_otf::candidates::blob;
use lammps_otf::config::{InferenceConfig, Uncertainty};
use lammps_otf::io::trajectory::Trajectory;
use lammps_otf::io::{Frame, extxyz, lammps_data, lammps_dump};
use lammps_otf::script::Script;
use lammps_otf::structure::{Cell, Structure, element_from_symbol};
use lammps_otf::thermo_log::UncertaintyChecker;
use pace_opt::{ActiveSet, Format, Model, Potential};

/// A configuration.
pub fn config(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(config) = InferenceConfig::parse(text, Path::new("run.toml"))
    {
        let _ = black_box(config.validate());
    }
}

/// A structure as extended XYZ.
pub fn extxyz(bytes: &[u8]) {
    trajectory(bytes);
    for frame in [Frame::First, Frame::Last, Frame::Nth(1)] {
        sound(extxyz::read(bytes, Path::new("fuzz"), None, frame));
    }
    let _ = extxyz::for_each_labelled_in(bytes, Path::new("fuzz"), |frame| {
        let n = frame.structure.len();
        assert!(frame.results.forces.is_none_or(|forces| forces.dim() == (n, 3)));
        assert!(frame.force_mask.is_none_or(|mask| mask.len() == n));
        Ok::<(), lammps_otf::io::Error>(())
    });
    let _ = extxyz::for_each_result_in(bytes, Path::new("fuzz"), "candidate", |_, frame| {
        if let Ok((structure, results)) = frame {
            assert!(results.forces.is_none_or(|forces| forces.dim() == (structure.len(), 3)));
        }
    });
}

/// A structure as a LAMMPS data file.
pub fn lammps_data(bytes: &[u8]) {
    sound(lammps_data::read(bytes, Path::new("fuzz"), None));
    let hint = [element_from_symbol("Al").expect("aluminium"), element_from_symbol("Cu").expect("copper")];
    sound(lammps_data::read(bytes, Path::new("fuzz"), Some(&hint)));
}

/// Single frames of a trajectory.
fn trajectory(bytes: &[u8]) {
    let reader = std::io::Cursor::new(bytes);
    let Ok(Some(mut trajectory)) = Trajectory::new(reader, Path::new("fuzz"), "f_otf_gamma") else { return };
    let mut paths = Displacements::new(10);
    let _ = trajectory.evenly(5, |number, frame| {
        let n = frame.structure.len();
        assert!(frame.images.as_ref().is_none_or(|images| images.len() == n));
        assert!(frame.values.as_ref().is_none_or(|values| values.len() == n));
        let _ = paths.add(number, &frame.structure, frame.images.as_deref());
        Ok::<(), lammps_otf::io::Error>(())
    });
    let _ = (trajectory.last(), black_box(paths.by_element(1.0)));
}

/// A structure as a LAMMPS dump.
pub fn lammps_dump(bytes: &[u8]) {
    trajectory(bytes);
    for frame in [Frame::First, Frame::Last, Frame::Nth(1)] {
        sound(lammps_dump::read(bytes, Path::new("fuzz"), None, frame));
    }
}

/// What a reader accepts must survive the checks, and being written and read again.
fn sound(read: Result<Structure, lammps_otf::io::Error>) {
    let Ok(structure) = read else { return };
    if structure.validate(0.5).is_err() {
        return;
    }
    let mut text = Vec::new();
    extxyz::write(&mut text, &structure, &[], &[]).expect("a sound structure can be written");
    let again = extxyz::read(&text[..], Path::new("again"), None, Frame::Last).expect("and read again");
    assert_eq!(again.positions, structure.positions);
    assert_eq!(again.cell.vectors, structure.cell.vectors);
}

/// A log of LAMMPS.
pub fn log_checker(bytes: &[u8]) {
    let _ = black_box(UncertaintyChecker::new(5.0).analyze_reader("log", bytes, |_| ()));
}

/// The `data` column of ASE's database. What can be decoded must come back from being encoded.
pub fn ase_blob(bytes: &[u8]) {
    if let Ok(data) = blob::decode(bytes) {
        let again = blob::encode(&data);
        let text = |data| format!("{data:?}");
        assert_eq!(text(&blob::decode(&again).expect("our own")), text(&data));
    }
}

/// A potential as B-basis.
pub fn pace_bbasis(bytes: &[u8]) {
    potential(Format::BBasis, bytes);
}

/// A potential as `.yace`.
pub fn pace_yace(bytes: &[u8]) {
    potential(Format::Yace, bytes);
}

/// A potential as `.ace`.
pub fn pace_ace(bytes: &[u8]) {
    potential(Format::Ace, bytes);
}

/// Parses, and compiles what stays small.
fn potential(format: Format, bytes: &[u8]) {
    if let Ok(model) = Model::parse(format, bytes)
        && model.bonds.iter().map(|bond| bond.rcut / model.delta_spline).sum::<f64>() < 1e4
    {
        let _ = black_box(Potential::new(&model, None));
    }
}

/// The active set of a potential.
pub fn pace_active_set(bytes: &[u8]) {
    thread_local! {
        static MODEL: Model = Model::parse(Format::BBasis, include_bytes!("../../crates/pace-opt/tests/data/two.yaml"))
            .expect("a good file");
    }
    MODEL.with(|model| {
        let _ = black_box(ActiveSet::parse(bytes, model));
    });
}

/// Hostile names in a configuration must not become commands: the script has the same commands whatever they are.
pub fn commands(bytes: &[u8]) {
    let Ok(name) = std::str::from_utf8(bytes) else { return };
    let (Ok(harmless), Ok(hostile)) = (script("name"), script(name)) else { return };
    let words = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
    };
    assert_eq!(words(&hostile), words(&harmless), "{hostile}");
    assert!(!hostile.lines().any(|line| line.trim_end().ends_with('&')), "{hostile}");
}

fn script(name: &str) -> Result<String, lammps_otf::script::Error> {
    let text = "structure = 'x'\ntemperature = 300\nsteps = 1\nuncertainty_threshold = 5\nuncertainty = 'none'\n[potential]\npair_style = 'zero 6'\npair_coeff = ['* *']";
    let mut config = InferenceConfig::parse(text, Path::new("run.toml")).expect("a good configuration");
    config.system.structure = name.into();
    // After the check, which wants the files to be there.
    config.system.potential.pair_style = None;
    config.system.potential.pair_coeff.clear();
    config.watch.uncertainty = Uncertainty::Pace;
    config.system.potential.file = Some(format!("{name}.yaml").into());
    config.system.potential.active_set = Some(format!("{name}.asi").into());
    let structure = Structure {
        cell: Cell::orthorhombic([10.0; 3], [true; 3]),
        elements: vec![element_from_symbol("Al").expect("aluminium")],
        masses: None,
        types: Default::default(),
        ids: Default::default(),
        fixed: Vec::new(),
        positions: Default::default(),
        velocities: None,
    };
    Script::new(&config, &structure, Path::new(name))?.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Target = fn(&[u8]);

    /// All targets by name.
    const TARGETS: [(&str, Target); 11] = [
        ("config", config),
        ("extxyz", extxyz),
        ("lammps_data", lammps_data),
        ("lammps_dump", lammps_dump),
        ("log_checker", log_checker),
        ("ase_blob", ase_blob),
        ("pace_bbasis", pace_bbasis),
        ("pace_yace", pace_yace),
        ("pace_ace", pace_ace),
        ("pace_active_set", pace_active_set),
        ("commands", commands),
    ];

    #[test]
    fn the_corpus_is_read_without_a_panic() {
        for (name, target) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
            let files: Vec<_> = std::fs::read_dir(&folder).expect(name).map(|f| f.expect("a file").path()).collect();
            assert!(!files.is_empty(), "{} is empty", folder.display());
            for file in files {
                let bytes = std::fs::read(&file).expect("a file");
                let outcome = std::panic::catch_unwind(|| target(&bytes));
                assert!(outcome.is_ok(), "{name} panics on {}", file.display());
            }
        }
    }
}
