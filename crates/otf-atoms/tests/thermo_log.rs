// SPDX-License-Identifier: GPL-2.0-or-later
//! Invalid logs. Logs written by `lmp` are tested in `tests/analyze_log.rs` of the workspace.
use otf_atoms::thermo_log::{Error, Sample, UncertaintyChecker, UqResult};
use proptest::prelude::*;
use std::io::Read;

fn samples(checker: &UncertaintyChecker, log: &[u8]) -> (Vec<Sample>, Result<UqResult, Error>) {
    let mut all = Vec::new();
    let result = checker.analyze_reader("log", log, |sample| all.push(*sample));
    (all, result)
}

fn checker(threshold: f64) -> UncertaintyChecker {
    UncertaintyChecker::new(threshold)
}

/// A reader that returns only a few bytes at a time.
struct SlowReader<'a>(&'a [u8], usize);

impl Read for SlowReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.1.min(buffer.len());
        self.0.read(&mut buffer[..n])
    }
}

/// Pieces of logs and similar text.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "Per MPI rank memory allocation",
        "Memory usage per processor",
        "Step",
        "v_max_gamma",
        "Temp",
        "Loop time of 1",
        "keywords: ['Step', 'v_max_gamma', ]",
        "keywords: [",
        "data:",
        "  - [",
        "  - [10, 2.5, ]",
        "]",
        "...",
        "---",
        "------------ Step 10 ----- CPU = 0 (sec) -------------",
        "------------",
        "------------ Step",
        "LAMMPS (1)",
        "Step = 10 v_max_gamma = 3.5 Temp = 1",
        "v_max_gamma =",
        " = ",
        "=",
        "'",
        ",",
        "WARNING: x",
        "ERROR",
        "log x",
        "Total wall time: 0",
        "Running on 2 partitions",
        "0 1.5",
        "10",
        "2.5",
        "nan",
        "-inf",
        "1e999",
        "-",
        "+",
        ".",
        "e",
        "99999999999999999999",
        "\n",
        "\n",
        "\n",
        "\r\n",
        " ",
        "  ",
        "\t",
        "\0",
        "γ",
    ];
    prop_oneof![
        8 => prop::sample::select(words.to_vec()).prop_map(|w| w.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ]
}
proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_never_panics(pieces in prop::collection::vec(piece(), 0..60), size in 1_usize..40, cut in any::<u16>()) {
        let log = pieces.concat();
        let show = |(all, outcome): (Vec<Sample>, Result<UqResult, Error>)| {
            (format!("{all:?}"), outcome.map(|o| format!("{o:?}")).map_err(|e| e.to_string()))
        };
        let whole = samples(&checker(2.0), &log);
        if let Ok(outcome) = &whole.1 {
            prop_assert_eq!(outcome.steps_read, whole.0.len() as u64);
            prop_assert!(outcome.steps_read > 0 && outcome.runs_without_column < outcome.runs);
        }
        let part = samples(&checker(2.0), &log[..usize::from(cut) % (log.len() + 1)]).0;
        prop_assert_eq!(format!("{:?}", &part), format!("{:?}", &whole.0[..part.len()]));
        // The result does not depend on the size of the reads.
        let mut all = Vec::new();
        let outcome = checker(2.0).analyze_reader("log", SlowReader(&log, size), |sample| all.push(*sample));
        prop_assert_eq!(show((all, outcome)), show(whole));
    }
}
