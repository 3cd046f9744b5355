// SPDX-License-Identifier: GPL-2.0-or-later
//! Damaged files must give an error, without a panic or unlimited memory.

mod util;

use pace_opt::{ActiveSet, Error, Format, Model, Potential};
use util::{Random, data};

const FILES: [(&str, Format); 4] = [
    ("two.yaml", Format::BBasis),
    ("small.yace", Format::Yace),
    ("small.ace", Format::Ace),
    ("acejl_base.yace", Format::Yace),
];

/// Parses a file, and compiles the model if it is small.
fn try_all(format: Format, bytes: &[u8]) {
    if let Ok(model) = Model::parse(format, bytes) {
        let bins: f64 = model.bonds.iter().map(|b| b.rcut / model.delta_spline).sum();
        if bins < 1e4 {
            let _ = Potential::new(&model, None);
        }
    }
}

#[test]
fn truncated_files() {
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

fn text(name: &str) -> String {
    std::fs::read_to_string(data(name)).unwrap()
}

/// The error for a file of which a part is replaced.
fn refused(name: &str, format: Format, from: &str, to: &str) -> Error {
    let good = text(name);
    assert!(good.contains(from), "{from} is not in {name}");
    match Model::parse(format, good.replacen(from, to, 1).as_bytes()) {
        Ok(_) => panic!("{name} is read with `{to}` in place of `{from}`"),
        Err(error) => error,
    }
}

/// Unsupported features, which ML-PACE has, are distinguished from malformed files.
#[test]
fn unsupported_features_are_named() {
    let yace = |from: &str, to: &str| refused("small.yace", Format::Yace, from, to);
    let unsupported = [
        (yace("ChebPow", "TEST_zero"), "TEST_zero"),
        (yace("nradmax: 1", "nradmax: 65"), "nradmax: 65"),
        (yace("lmax: 1", "lmax: 17"), "lmax: 17"),
        (yace("rank: 2", "rank: 9"), "rank: 9"),
        (refused("small.ace", Format::Ace, "ChebPow", "ACE.jl.Basic"), "ACE.jl.Basic"),
        (refused("small.ace", Format::Ace, "lmax=1", "lmax=17"), "lmax = 17"),
        (refused("two.yaml", Format::BBasis, "lmaxi: 2", "lmaxi: 17"), "lmaxi: 17"),
        (refused("two.yaml", Format::BBasis, "Al Al,", &format!("{},", "Al ".repeat(10).trim())), "9 neighbours"),
    ];
    for (error, name) in unsupported {
        let said = error.to_string();
        assert!(matches!(error, Error::Unsupported(_)) && said.contains(name), "{said}");
        assert!(said.contains("not supported by pace/opt") && said.contains("engine = \"ml-pace\""), "{said}");
    }
    let malformed = [
        (yace("FinnisSinclairShiftedScaled", "Tanh"), "Tanh"),
        (yace("inner_cutoff_type: density", "inner_cutoff_type: magic"), "magic"),
        (yace("ChebPow", "ChebMagic"), "ChebMagic"),
        (refused("small.ace", Format::Ace, "ChebPow", "SBessel"), "SBessel"),
        (refused("two.yaml", Format::BBasis, "ChebExpCos", "ACE.jl.base"), "ACE.jl.base"),
        (
            refused("two.yaml", Format::BBasis, "inner_cutoff_type: distance", "inner_cutoff_type: zbl"),
            "inner_cutoff_type",
        ),
        (yace("lmax: 1", "lmax: -1"), "-1"),
    ];
    for (error, name) in malformed {
        let said = error.to_string();
        assert!(matches!(error, Error::Malformed(_)) && said.contains(name), "{said}");
        assert!(!said.contains("ml-pace"), "{said}");
    }
    // A limit of the compiled potential, with the file's name.
    let folder = std::env::temp_dir().join(format!("pace-opt-limits-{}.yace", std::process::id()));
    std::fs::write(&folder, text("small.yace").replace("deltaSplineBins: 0.01", "deltaSplineBins: 1e-7")).unwrap();
    let error = Model::read(&folder);
    std::fs::remove_file(&folder).unwrap();
    let said = error.unwrap_err().to_string();
    assert!(said.contains("pace-opt-limits") && said.contains("spline bins") && said.contains("ml-pace"), "{said}");
}

/// A truncated file can be valid YAML.
#[test]
fn an_element_without_functions_is_refused() {
    let elements = |text: &str| text.replace("elements: [Cu]", "elements: [Cu, Zn]").replace("E0: [0.5]", "E0: [0, 0]");
    let bond = |text: &str| {
        let line = text.lines().find(|l| l.contains("nradmax")).unwrap();
        let more = ["[0, 1]", "[1, 0]", "[1, 1]"].map(|key| line.replacen("[0, 0]", key, 1));
        text.replace(line, &format!("{line}\n{}", more.join("\n")))
    };
    let embedding = |text: &str| {
        let line = text.lines().find(|l| l.contains("FS_parameters")).unwrap();
        text.replace(line, &format!("{line}\n{}", line.replacen("0:", "1:", 1)))
    };
    let both = embedding(&bond(&elements(&text("small.yace"))));
    let second = both.split("functions:\n").nth(1).unwrap().replace("  0:", "  1:").replace("mu0: 0", "mu0: 1");
    let whole = format!("{both}{second}");
    assert_eq!(Model::parse(Format::Yace, whole.as_bytes()).unwrap().functions[1].len(), 2);
    for cut in [both.clone(), format!("{both}  1: []\n")] {
        let error = Model::parse(Format::Yace, cut.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("no basis functions for Zn") && error.contains("incomplete"), "{error}");
    }
    for (name, format, from, to) in [
        ("small.yace", Format::Yace, "  0:\n    - {mu0", "  0: []\nother:\n    - {mu0"),
        ("small.ace", Format::Ace, "total_basis_size_rank1: 1", "total_basis_size_rank1: 0\ntotal_basis_size: 0"),
        ("small.ace", Format::Ace, "total_basis_size: 1", "total_basis_size: 0"),
        ("small.ace", Format::Ace, "total_basis_size_rank1: 1", "total_basis_size_rank1: 2"),
        ("small.yace", Format::Yace, "mu0: 0, rank: 2", "mu0: 1, rank: 2"),
        ("small.yace", Format::Yace, "num_ms_combs: 2", "num_ms_combs: 3"),
        (
            "small.yace",
            Format::Yace,
            "functions:",
            "functions:\n  0: [{rank: 1, ndensity: 2, num_ms_combs: 1, mus: [0], ns: [2], ls: [0], ms_combs: [0], ctildes: [0.3, 0.1]}]",
        ),
    ] {
        refused(name, format, from, to);
    }
    // Truncated before each block and before its functions. Only the first element alone is a complete potential.
    let good = text("mixedemb.yaml");
    let cuts = good.match_indices("  - speciesblock").chain(good.match_indices("    nbody:\n"));
    let read = cuts.filter_map(|(at, _)| Model::parse(Format::BBasis, &good.as_bytes()[..at]).ok());
    assert_eq!(read.map(|model| model.elements).collect::<Vec<_>>(), [["Al"]]);
    // All functions of an element are skipped.
    let skipped = text("two.yaml").replace("{type: Ni", "{skip: true, type: Ni");
    let error = Model::parse(Format::BBasis, skipped.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("no basis functions for Ni"), "{error}");
}

#[test]
fn aliases_are_expanded() {
    let list = "[[[1, 0.1, 0.2], [0.3, 1, 0.1]], [[0.7, -1, 0.2], [0.1, 0.6, -0.8]]]";
    let good = text("two.yaml");
    assert!(good.contains(list));
    let other = good.replace(list, &format!("&id001 {list}")).replace(
        "  - speciesblock: Ni Al\n    inner_cutoff_type: distance\n",
        "  - speciesblock: Ni Al\n    inner_cutoff_type: distance\n    lmaxi: 1\n    nradmaxi: 2\n    nradbaseij: 3\n    \
         radbase: ChebPow\n    radparameters: [2]\n    rcutij: 4.8\n    dcutij: 0.1\n    radcoefficients: *id001\n",
    );
    let [a, b] = [good, other].map(|text| Model::parse(Format::BBasis, text.as_bytes()).unwrap());
    for (a, b) in a.bonds.iter().zip(&b.bonds) {
        assert_eq!(a.crad, b.crad);
    }
    // Small files that would expand to huge, deep or infinite ones.
    let many = |n: usize| -> String {
        let first = format!("a0: &a0 [{}]\n", "1, ".repeat(50));
        (1..n).fold(first, |t, k| t + &format!("a{k}: &a{k} [{}]\n", format!("*a{}, ", k - 1).repeat(20)))
    };
    let chain = |n: usize| (1..n).fold("a0: &a0 [1]\n".to_owned(), |t, k| t + &format!("a{k}: &a{k} [*a{}]\n", k - 1));
    for bad in [many(20), chain(100_000), "a: &a [*a]\n".into(), "a: *b\n".into()] {
        assert!(Model::parse(Format::Yace, bad.as_bytes()).is_err());
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
