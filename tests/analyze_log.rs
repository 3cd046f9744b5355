// SPDX-License-Identifier: GPL-2.0-or-later
//! `analyze-log` on logs written by `lmp`: truncated at every byte, mixed with garbage, and longer than the memory.

mod common;
#[path = "common/counting.rs"]
mod counting;

use std::io::Read;
use std::path::Path;
use std::process::Output;
use std::sync::OnceLock;

use common::{dependency, lammps_otf, lmp, succeed, text, write};
use lammps_otf::thermo_log::{Error, Sample, UncertaintyChecker, UqResult};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A Lennard-Jones crystal of 108 atoms. γ is 1.5 + step / 40 and is printed exactly in all styles.
const SYSTEM: &str = "\
units lj
lattice fcc 0.8442
region box block 0 3 0 3 0 3
create_box 1 box
create_atoms 1 box
mass 1 1.0
velocity all create 1.44 87287 loop geom
pair_style lj/cut 2.5
pair_coeff 1 1 1.0 1.0 2.5
fix 1 all nve
compute pe all pe/atom
compute mx all reduce max c_pe
variable max_gamma equal 1.5+step/40
variable gone equal exp(1000*(step>15))
variable odd equal exp(1000)-exp(1000)
fix noise all print 20 \"step $(step) v_max_gamma 99 note\"
thermo 10
";

fn run_lmp(commands: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let script = write(folder.path(), "in", &format!("{SYSTEM}{commands}"));
    // Not `succeed`, because some logs end with an error.
    let mut command = lmp();
    command.current_dir(folder.path()).args(["-log", "log", "-screen", "none", "-in"]).arg(script);
    command.output().unwrap();
    std::fs::read_to_string(folder.path().join("log")).unwrap()
}

/// All styles, several runs, changing columns, and a step count that restarts.
fn mixed_log() -> &'static str {
    static LOG: OnceLock<String> = OnceLock::new();
    LOG.get_or_init(|| {
        run_lmp(
            "thermo_style one\nrun 20\n\
             thermo_style custom step temp c_mx v_max_gamma\nrun 20\nrun 20 pre no post no\n\
             thermo_style multi\nrun 20\n\
             thermo_style custom temp v_max_gamma step pe press\nthermo_modify line multi\nrun 20\n\
             thermo_style custom step v_max_gamma pe\nthermo_modify line yaml\nrun 20\n\
             thermo_style yaml\nrun 10\n\
             thermo_style custom v_max_gamma c_mx step\nreset_timestep 0\nrun 20\n\
             run 20 every 10 \"print 'Step v_max_gamma'\"\n",
        )
    })
}

/// The steps of the tables of [`mixed_log`] with the column, by run.
const MIXED_STEPS: [(u64, &[i64]); 9] = [
    (2, &[20, 30, 40]),
    (3, &[40, 50, 60]),
    (5, &[80, 90, 100]),
    (6, &[100, 110, 120]),
    (8, &[0, 10, 20]),
    (9, &[20, 30]),
    (10, &[30, 40]),
    (11, &[]),
    (12, &[]),
];

fn samples(checker: &UncertaintyChecker, log: &[u8]) -> (Vec<Sample>, Result<UqResult, Error>) {
    let mut all = Vec::new();
    let result = checker.analyze_reader("log", log, |sample| all.push(*sample));
    (all, result)
}

fn checker(threshold: f64) -> UncertaintyChecker {
    UncertaintyChecker::new(threshold)
}

fn result(threshold: f64, log: &str) -> UqResult {
    samples(&checker(threshold), log.as_bytes()).1.unwrap_or_else(|e| panic!("{e}\n{log}"))
}

fn steps(log: &str) -> Vec<i64> {
    samples(&checker(1e9), log.as_bytes()).0.iter().map(|s| s.step).collect()
}

fn analyze(folder: &Path, arguments: &[&str]) -> Output {
    lammps_otf().current_dir(folder).arg("analyze-log").args(arguments).output().unwrap()
}

#[test]
fn log_with_every_thermo_style() {
    let log = mixed_log();
    let (all, outcome) = samples(&checker(3.4), log.as_bytes());
    let expected: Vec<(u64, i64)> =
        MIXED_STEPS.iter().flat_map(|(run, steps)| steps.iter().map(|s| (*run, *s))).collect();
    assert_eq!(all.iter().map(|s| (s.run, s.step)).collect::<Vec<_>>(), expected, "{log}");
    for sample in &all {
        assert_eq!(sample.gamma, 1.5 + sample.step as f64 / 40.0, "{sample:?}");
        let line = log.lines().nth(sample.line as usize - 1).unwrap();
        assert!(line.contains(&sample.gamma.to_string()), "{line}");
    }
    let outcome = outcome.unwrap();
    // γ(76) = 3.4, and thermo is printed every 10 steps.
    assert_eq!((outcome.trigger_step, outcome.gamma_max, outcome.gamma_max_step), (Some(80), 4.5, 120));
    assert_eq!((outcome.steps_read, outcome.runs, outcome.runs_without_column), (19, 10, 3));
    assert_eq!((outcome.skipped_lines, outcome.truncated), (0, false));
    // A value equal to the threshold does not trigger.
    assert_eq!(result(4.5, log).trigger_step, None);
    let (reduced, _) = samples(&checker(0.0).column("c_mx"), log.as_bytes());
    assert_eq!(reduced.len(), 13);
    let (temperature, _) = samples(&checker(0.0).column("Temp"), log.as_bytes());
    assert_eq!(temperature.iter().map(|s| s.run).collect::<std::collections::BTreeSet<_>>().len(), 6);
}

#[test]
fn carriage_returns_are_ignored() {
    let log = mixed_log();
    assert_eq!(result(3.4, &log.replace('\n', "\r\n")), result(3.4, log));
}

/// The prefixes written by `mpiexec` and `srun`, with lines of other ranks.
#[test]
fn lines_with_the_prefix_of_a_rank() {
    let log = mixed_log();
    for (own, other) in [
        ("[0] ", "[1] "),
        ("[1,0]<stdout>:", "[1,1]<stdout>:"),
        ("[prterun-node-7@1,0]<stdout>: ", "[prterun-node-7@1,13]<stderr>: "),
        ("0: ", "1: "),
        (" 0: ", "13: "),
    ] {
        // A line of another rank that looks like a row of the table.
        let tagged: String =
            log.lines().map(|line| format!("{own}{line}\n{other}10 99 3\n{other}20 1 99 3\n")).collect();
        let mut outcome = result(3.4, &tagged);
        assert_eq!(outcome.trigger_line, result(3.4, log).trigger_line.map(|line| 3 * line - 2), "{own}");
        outcome.trigger_line = result(3.4, log).trigger_line;
        assert_eq!(outcome, result(3.4, log), "{own}");
        // Within the output of a job script, and starting in the middle of a run.
        let (from, _) = log.match_indices("Per MPI rank").nth(3).unwrap();
        let tagged: String = log[from..].lines().map(|line| format!("{own}{line}\n")).collect();
        assert_eq!(steps(&format!("job 17 on node-7\n{tagged}done\n")), steps(&log[from..]), "{own}");
    }
    // Not a prefix: no other line of the log has it.
    let printed =
        "Per MPI rank memory allocation\n Step v_max_gamma\n 0 1.0\n5: 7 99\n[3] 8 99\n 10 2.0\nLoop time of 1\n";
    assert_eq!(steps(printed), [0, 10]);
}

/// The actual prefixes of MPICH's `mpiexec`.
#[test]
fn lines_prefixed_by_mpiexec() {
    let folder = tempfile::tempdir().unwrap();
    let script = write(folder.path(), "in", &format!("{SYSTEM}thermo_style custom step v_max_gamma\nrun 20\n"));
    let help = std::process::Command::new(dependency("bin/mpiexec")).arg("-help").output().unwrap();
    let flag = if text(&help).contains("-prepend-rank") { "-prepend-rank" } else { "--tag-output" };
    let program = lmp();
    let mut command = std::process::Command::new(dependency("bin/mpiexec"));
    command.current_dir(folder.path()).args([flag, "-n", "2"]).arg(program.get_program());
    command.args(["-log", "none", "-in"]).arg(script);
    for (key, value) in program.get_envs() {
        command.env(key, value.unwrap_or_default());
    }
    let screen = succeed(&mut command);
    assert!(screen.lines().all(|line| line.starts_with('[')), "{screen}");
    assert_eq!(steps(&screen), [0, 10, 20], "{screen}");
}

#[test]
fn compressed_logs() {
    let folder = tempfile::tempdir().unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, mixed_log().as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    let whole = folder.path().join("log.lammps.gz");
    std::fs::write(&whole, &packed).unwrap();
    assert_eq!(checker(3.4).analyze_log(&whole).unwrap(), result(3.4, mixed_log()));
    std::fs::write(folder.path().join("cut.gz"), &packed[..packed.len() - 20]).unwrap();
    let output = analyze(folder.path(), &["cut.gz", "--threshold", "50"]);
    assert!(output.status.code() == Some(2) && text(&output).contains("damaged or truncated"), "{}", text(&output));
    assert_eq!(result(3.4, &format!("\u{feff}{}", mixed_log())), result(3.4, mixed_log()));
}

#[test]
fn log_truncated_at_every_byte() {
    let log = mixed_log().as_bytes();
    let (whole, _) = samples(&checker(2.6), log);
    let farewell = mixed_log().find("Total wall time:").unwrap() + "Total wall time:".len();
    let mut before = 0;
    for end in 0..=log.len() {
        let (part, outcome) = samples(&checker(2.6), &log[..end]);
        assert_eq!(part, whole[..part.len()], "at byte {end}");
        assert!(part.len() >= before, "at byte {end}");
        before = part.len();
        match outcome {
            Ok(outcome) => {
                assert_eq!(outcome.steps_read, part.len() as u64);
                assert_eq!(outcome.trigger_step, part.iter().find(|s| s.gamma > 2.6).map(|s| s.step));
                assert_eq!(outcome.truncated, end < farewell, "at byte {end}");
                assert_eq!(outcome.skipped_lines, 0, "at byte {end}");
            }
            Err(error) => assert!(part.is_empty(), "{error}"),
        }
    }
    assert_eq!(before, whole.len());
}

#[test]
fn values_that_are_not_finite_are_above_the_threshold() {
    for line in ["one", "multi", "yaml"] {
        let log = run_lmp(&format!("thermo_style custom step v_gone v_odd\nthermo_modify line {line}\nrun 30\n"));
        let gone = samples(&checker(1e9).column("v_gone"), log.as_bytes()).1.unwrap();
        assert_eq!((gone.trigger_step, gone.gamma_max, gone.gamma_max_step), (Some(20), f64::INFINITY, 20), "{log}");
        let odd = samples(&checker(1e9).column("v_odd"), log.as_bytes()).1.unwrap();
        assert_eq!((odd.trigger_step, odd.steps_read), (Some(0), 4), "{log}");
        assert_eq!(serde_json::to_value(&odd).unwrap()["gamma_max"], Value::Null);
    }
    for word in
        ["nan", "-nan", "NaN", "nan(0x8)", "-nan(ind)", "1.#QNAN", "-1.#IND", "inf", "-inf", "Infinity", "1e999"]
    {
        let log = format!("Per MPI rank memory allocation\nStep v_max_gamma\n0 1\n10 {word}\n20 2\n");
        assert_eq!(result(5.0, &log).trigger_step, Some(10), "{word}");
    }
}

#[test]
fn warnings_lost_atoms_and_an_error_at_the_end() {
    let log = run_lmp(
        "thermo_style custom step v_max_gamma temp\nthermo_modify lost warn\nrun 10\n\
         pair_coeff 1 1 1.0 1.9 2.5\nrun 20\nthermo_modify lost error\nvelocity all set 9e5 9e5 9e5\n\
         thermo_style custom step v_max_gamma\nchange_box all boundary f f f\nrun 100\n",
    );
    assert!(log.contains("WARNING") && log.contains("ERROR"), "{log}");
    let outcome = result(1e9, &log);
    assert!(outcome.truncated && outcome.steps_read >= 5, "{outcome:?}\n{log}");
    assert_eq!(steps(&log)[..5], [0, 10, 10, 20, 30], "{log}");
}

#[test]
fn names_with_blanks_and_renamed_steps() {
    let log = run_lmp(
        "thermo_style custom step temp v_max_gamma\n\
         thermo_modify colname v_max_gamma 'my gamma' colname step 'the step'\nrun 20\n",
    );
    let outcome = samples(&checker(1.9).column("my gamma").step_column("the step"), log.as_bytes()).1.unwrap();
    assert_eq!((outcome.trigger_step, outcome.steps_read), (Some(20), 3), "{log}");
    let error = samples(&checker(1.9).column("my gamma"), log.as_bytes()).1.unwrap_err();
    assert!(matches!(error, Error::NoStep { .. }) && error.to_string().contains("the step"), "{error}");
}

#[test]
fn logs_of_old_versions() {
    let log = "LAMMPS (16 Mar 2018)\nMemory usage per processor = 2.3 Mbytes\nStep Temp v_max_gamma Press \n       \
               0  1.4  2.5  -5.0 \n      50  1.3  6.5  -4.0 \nLoop time of 0.1 on 1 procs for 50 steps with 4 atoms\n\
               Memory usage per processor = 2.3 Mbytes\n---------------- Step       50 ----- CPU =      0.0000 (sec) \
               ----------------\nTotEng   =  -4.6 v_max_gamma =  7.5 Temp     =  0.6 \nPotEng   =  -5.6\n";
    let outcome = result(6.0, log);
    assert_eq!((outcome.trigger_step, outcome.gamma_max, outcome.steps_read, outcome.runs), (Some(50), 7.5, 3, 2));
    assert!(outcome.truncated);
}

#[test]
fn log_appended_to_a_truncated_one() {
    let log = mixed_log();
    let cut = &log[..log.find("\n        40").unwrap() + 14];
    let both = format!("{cut}{log}");
    assert_eq!(steps(&both)[..5], [20, 30, 20, 30, 40], "{both}");
    assert!(!result(1e9, &both).truncated);
}

#[test]
fn log_continued_in_another_file() {
    let log = run_lmp("thermo_style custom step v_max_gamma\nrun 20\nlog other\nrun 10\n");
    let outcome = result(1e9, &log);
    assert_eq!((outcome.steps_read, outcome.truncated), (3, false), "{log}");
}

#[test]
fn numbers_that_do_not_fit_the_table_are_counted() {
    let log = "Per MPI rank memory allocation\n Step v_max_gamma Temp\n 0 1.0 3\n 7 8\n10 2.0%% 3\n20 3.0 4\n1.5 9 9\n";
    let outcome = result(2.5, log);
    assert_eq!((outcome.trigger_step, outcome.steps_read, outcome.skipped_lines), (Some(20), 2, 3));
}

#[test]
fn logs_of_mpi_partitions() {
    let folder = tempfile::tempdir().unwrap();
    let script = write(folder.path(), "in", &format!("{SYSTEM}thermo_style custom step v_max_gamma\nrun 20\n"));
    let program = lmp();
    let mut command = std::process::Command::new(dependency("bin/mpiexec"));
    command.current_dir(folder.path()).args(["-n", "2"]).arg(program.get_program());
    command.args(["-partition", "2x1", "-screen", "none", "-in"]).arg(script);
    for (key, value) in program.get_envs() {
        command.env(key, value.unwrap_or_default());
    }
    succeed(&mut command);
    for part in ["log.lammps.0", "log.lammps.1"] {
        let outcome = checker(1.6).analyze_log(folder.path().join(part)).unwrap();
        assert_eq!((outcome.trigger_step, outcome.steps_read, outcome.truncated), (Some(10), 3, false));
    }
    let output = analyze(folder.path(), &["log.lammps", "--threshold", "5"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("log.lammps.0"), "{}", text(&output));
}

#[test]
fn command_line_of_analyze_log() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(folder, "log.lammps", mixed_log());
    let run = |arguments: &[&str], code: i32| {
        let output = analyze(folder, arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (out, _) = run(&["log.lammps", "--threshold", "3.4", "--json"], 4);
    let value: Value = serde_json::from_str(&out).unwrap();
    let main = json!([value["trigger_step"], value["gamma_max"], value["steps_read"], value["truncated"]]);
    assert_eq!(main, json!([80, 4.5, 19, false]));
    let (out, _) = run(&["log.lammps", "--threshold", "50", "--json"], 0);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["trigger_step"], Value::Null);
    let (out, err) = run(&["log.lammps", "--threshold", "3.4", "--table", "table.csv"], 4);
    assert!(out.contains("first at step 80") && err.contains("3 of 10 runs have no column"), "{out}{err}");
    let table = std::fs::read_to_string(folder.join("table.csv")).unwrap();
    assert_eq!(table.lines().count(), 20);
    assert!(table.starts_with("run,step,gamma\n2,20,2\n2,30,2.25\n"), "{table}");
    // An existing file is not overwritten, since it can be the log.
    run(&["log.lammps", "--threshold", "3.4", "--table", "log.lammps"], 1);
    assert_eq!(std::fs::read_to_string(folder.join("log.lammps")).unwrap(), mixed_log());

    let (_, err) = run(&["log.lammps", "--threshold", "1", "--column", "max_gamma"], 2);
    for word in ["max_gamma", "Step", "Temp", "c_mx", "PotEng", "did you mean \"v_max_gamma\""] {
        assert!(err.contains(word), "{err}");
    }
    assert!(run(&["nowhere", "--threshold", "1"], 2).1.contains("nowhere"));
    assert!(run(&[".", "--threshold", "1"], 2).1.contains("reading . failed"));
    run(&["log.lammps"], 2);
    run(&["log.lammps", "--threshold", "nan"], 2);
    write(folder, "empty", "");
    assert!(run(&["empty", "--threshold", "1"], 2).1.contains("no thermo output"));
    write(folder, "cut", "Per MPI rank memory allocation\n   Step   v_max_gamma\n     0   1.2");
    assert!(run(&["cut", "--threshold", "1"], 2).1.contains("line 2"));
}

/// A log of 200 MB that is generated while it is read: numbers, some lines of text, and one line of 30 MB.
struct Endless {
    step: u64,
    rest: Vec<u8>,
    read: usize,
    made: usize,
}

impl Endless {
    const LENGTH: usize = 200 << 20;

    fn next_lines(&mut self) -> Option<Vec<u8>> {
        let mut block = String::new();
        match self.made {
            0 => block += "Per MPI rank memory allocation\n   Step          Temp       v_max_gamma     Press\n",
            n if n >= Self::LENGTH => return None,
            _ => {
                for _ in 0..1000 {
                    block += &format!("{:>10}   0.63052889     2.5752538     -5.0309253\n", self.step);
                    self.step += 1;
                }
                block += "WARNING: 10 0.1 0.2 0.3 (src/thermo.cpp:532)\n";
            }
        }
        self.made += block.len();
        if self.made >= Self::LENGTH {
            block += &format!("{} 0.6 7.5 0\n", self.step);
        }
        Some(block.into_bytes())
    }
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        // The long line.
        if self.read == self.rest.len() && (Self::LENGTH / 2..Self::LENGTH / 2 + (30 << 20)).contains(&self.made) {
            buffer.fill(b'x');
            self.made += buffer.len();
            if self.made >= Self::LENGTH / 2 + (30 << 20) {
                (self.rest, self.read) = (b"\n".to_vec(), 0);
            }
            return Ok(buffer.len());
        }
        if self.read == self.rest.len() {
            (self.rest, self.read) = (self.next_lines().unwrap_or_default(), 0);
        }
        let n = buffer.len().min(self.rest.len() - self.read);
        buffer[..n].copy_from_slice(&self.rest[self.read..self.read + n]);
        self.read += n;
        Ok(n)
    }
}

#[test]
fn long_log_is_read_in_constant_memory() {
    let log = Endless { step: 0, rest: Vec::new(), read: 0, made: 0 };
    // Far less than a block of the log above, which this thread also holds.
    let (most, result) =
        counting::most_during(|| UncertaintyChecker::new(5.0).analyze_reader("log", log, |_| ()).unwrap());
    let last = result.steps_read - 1;
    assert_eq!(result.trigger_step.map(|step| step as u64), Some(last), "{result:?}");
    println!("{} MB with at most {most} bytes of memory", Endless::LENGTH >> 20);
    assert!(most < 4 << 20, "{most} bytes");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_log_does_not_panic(at in any::<usize>(), length in 0_usize..200, with in prop::collection::vec(any::<u8>(), 0..50)) {
        let mut log = mixed_log().as_bytes().to_vec();
        let at = at % log.len();
        let end = (at + length).min(log.len());
        log.splice(at..end, with);
        let (all, outcome) = samples(&checker(2.0), &log);
        match outcome {
            Ok(outcome) => prop_assert_eq!(outcome.steps_read, all.len() as u64),
            // The whole log can be rejected only if the name of a step column is damaged.
            Err(error) => prop_assert!(matches!(error, Error::NoStep { .. }), "{}", error),
        }
    }
}
