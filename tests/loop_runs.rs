// SPDX-License-Identifier: GPL-2.0-or-later
//! A learning loop over several structures, which share the store, the potential and the rounds.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::{aluminium, dependency, eam_file, eam_loop, lammps_otf, mpiexec, root, succeed, text, write};
use lammps_otf::candidates::{Phase, Round, RoundOutcome, RoundSeconds, Store, StoredCandidate};

/// A crystal that is heated and a cold one with a vacancy, with the soft potential and EAM as oracle.
fn config(folder: &Path) {
    write(folder, "al.extxyz", &aluminium(4));
    let crystal = aluminium(3);
    let lines: Vec<&str> = crystal.lines().collect();
    // Not symmetric: of atoms with the same γ, rounding decides which is the centre of an event.
    let moved = |(at, line): (usize, &&str)| {
        let x: Vec<f64> = line.split_whitespace().skip(1).map(|x| x.parse().unwrap()).collect();
        let d = |k: usize| 0.02 * (((at * 3 + k) * 7919 % 101) as f64 / 50.5 - 1.0);
        format!("Al {} {} {}", x[0] + d(0), x[1] + d(1), x[2] + d(2))
    };
    let atoms: Vec<String> = lines[3..].iter().enumerate().map(moved).collect();
    write(folder, "vacancy.extxyz", &format!("107\n{}\n{}\n", lines[1], atoms.join("\n")));
    let potential = root().join("potentials/al-soft/Al.yaml");
    let toml = format!(
        "temperature = 300\nsteps = 300\nsampling_interval = 10\nseed = 12345\nuncertainty_threshold = 4.0\n\
         [potential]\nfile = {potential:?}\n[embedding]\nradius = 4.0\n\
         [loop]\nbatch = 2\nselect = 4\nmax_rounds = 6\nresume_from = \"start\"\n\
         [[loop.run]]\nname = \"ramp\"\nstructure = \"al.extxyz\"\ntemperature = [500, 1200]\nsteps = 1000\n\
         [[loop.run]]\nname = \"vacancy\"\nstructure = \"vacancy.extxyz\"\n\
         {}",
        eam_loop(&folder.join("data"))
    );
    write(folder, "loop.toml", &toml);
}

fn command(mut command: Command, folder: &Path, output: &str) -> Command {
    command.current_dir(folder).args(["loop", "loop.toml", "-o", output]).env("OMP_NUM_THREADS", "1");
    command
}

fn rounds(folder: &Path, output: &str) -> Vec<Round> {
    Store::open_existing(&folder.join(output).join("candidates.db")).unwrap().rounds().unwrap()
}

fn rows(folder: &Path, output: &str) -> Vec<StoredCandidate> {
    let store = Store::open_existing(&folder.join(output).join("candidates.db")).unwrap();
    store.iter(None).unwrap().collect::<Result<_, _>>().unwrap()
}

/// The rounds without times, and the candidates with their labels.
fn state(folder: &Path, output: &str) -> Vec<String> {
    let timeless = |round: Round| format!("{:?}", Round { seconds: RoundSeconds::default(), ..round });
    let row = |row: StoredCandidate| {
        let labels = row.candidate.labels.as_ref().map(|l| (l.energy.to_bits(), l.forces.clone()));
        format!("{} {:?} {:?} {labels:?}", row.id, row.status, row.keys())
    };
    rounds(folder, output).into_iter().map(timeless).chain(rows(folder, output).into_iter().map(row)).collect()
}

#[test]
fn loop_over_two_structures_ends_when_both_runs_are_quiet_with_the_same_potential() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    config(at);
    let out = command(lammps_otf(), at, "out").output().unwrap();
    println!("{}", text(&out));
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    assert!(text(&out).contains("nothing determines energy differences"), "{}", text(&out));
    let rounds = rounds(at, "out");
    let (last, learning) = rounds.split_last().unwrap();
    assert!(!learning.is_empty(), "{}", text(&out));
    for round in &rounds {
        let names: Vec<&str> = round.runs.iter().map(|run| &*run.name).collect();
        assert_eq!(names, ["ramp", "vacancy"]);
        let events: u32 = round.runs.iter().map(|run| run.events).sum();
        assert_eq!(round.events, events);
        // A run that is learned is repeated only if the others have no event.
        let others_quiet = |own: &str| {
            round.runs.iter().all(|run| run.name == own || run.outcome.is_none_or(|o| o == RoundOutcome::Quiet))
        };
        for run in round.runs.iter().filter(|run| run.is_learned && run.outcome.is_some()) {
            assert!(others_quiet(&run.name), "{round:?}");
        }
        for run in &round.runs {
            let folder = at.join(format!("out/round-{:03}/{}", round.number, run.name));
            assert_eq!(folder.join("polls.jsonl").is_file(), run.outcome.is_some(), "{folder:?}");
        }
    }
    assert!(learning.iter().all(|round| round.phase == Phase::Done && round.labelled > 0));
    assert_eq!((last.outcome, last.events), (Some(RoundOutcome::Quiet), 0));
    let over = |run: &lammps_otf::candidates::RunState| (run.outcome, run.from, run.reached);
    let quiet = Some(RoundOutcome::Quiet);
    assert_eq!(last.runs.iter().map(over).collect::<Vec<_>>(), [(quiet, 0, 1000), (quiet, 0, 300)]);
    // Candidates of both structures.
    let found = rows(at, "out");
    let of_run = |name: &str| {
        found.iter().filter(|row| row.keys().extra.get("run").and_then(|run| run.as_text()) == Some(name)).count()
    };
    assert!(of_run("ramp") > 0, "{}", text(&out));
    assert_eq!(of_run("ramp") + of_run("vacancy"), found.iter().filter(|row| !row.is_check()).count());
    succeed(lammps_otf().current_dir(at).args(["report", "out"]));
    let page = std::fs::read_to_string(at.join("out/report.html")).unwrap();
    assert!(page.contains("round 1, vacancy") && page.contains("round 1, ramp"));

    // Killed in the second round and continued.
    let mut child = command(lammps_otf(), at, "killed").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    common::wait_for("the second round", || at.join("killed/round-002/ramp/polls.jsonl").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    let out = command(lammps_otf(), at, "killed").output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    assert!(state(at, "out") == state(at, "killed"), "a loop that was killed has the same result");

    // Other settings of a run are another loop.
    let toml = std::fs::read_to_string(at.join("loop.toml")).unwrap();
    write(at, "loop.toml", &toml.replace("temperature = [500, 1200]", "temperature = [500, 1300]"));
    let out = command(lammps_otf(), at, "out").output().unwrap();
    assert_eq!(out.status.code(), Some(2), "{}", text(&out));
    assert!(text(&out).contains("[[loop.run]]"), "{}", text(&out));
}

#[test]
fn first_round_over_two_structures_is_the_same_on_two_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    config(at);
    let toml = std::fs::read_to_string(at.join("loop.toml")).unwrap();
    write(at, "loop.toml", &toml.replace("max_rounds = 6", "max_rounds = 1").replace("steps = 1000", "steps = 700"));
    for (name, launcher) in [
        ("one", lammps_otf()),
        ("two", {
            let mut two = mpiexec(2);
            two.arg(lammps_otf().get_program());
            two
        }),
    ] {
        let out = command(launcher, at, name).output().unwrap();
        assert!([0, 4].contains(&out.status.code().unwrap()), "{}", text(&out));
    }
    let events = |name: &str| {
        let runs = rounds(at, name).into_iter().next().unwrap().runs;
        runs.into_iter().map(|run| (run.name, run.outcome, run.first_event, run.events)).collect::<Vec<_>>()
    };
    assert_eq!(events("one"), events("two"));
    let centers =
        |name: &str| rows(at, name).into_iter().map(|r| (r.keys().step, r.keys().center_id)).collect::<Vec<_>>();
    assert_eq!(centers("one"), centers("two"));
}

/// The loop with its two runs side by side, each on one rank.
fn side_by_side(folder: &Path, output: &str) -> Command {
    let mut program = mpiexec(2);
    program.arg(lammps_otf().get_program());
    let mut command = command(program, folder, output);
    command.args(["--replicas", "2"]);
    command
}

#[test]
fn runs_side_by_side_find_what_they_find_one_after_another() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    config(at);
    let out = command(lammps_otf(), at, "alone").output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    let out = side_by_side(at, "beside").output().unwrap();
    println!("{}", text(&out));
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    assert!(state(at, "alone") == state(at, "beside"), "each run is done by one rank in both cases");
    assert_eq!(common::files_with(&at.join("beside"), "found.db"), 0, "files between the teams are removed");

    // Killed while both run, and continued.
    let mut child = side_by_side(at, "killed").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let both = ["ramp", "vacancy"].map(|run| at.join(format!("killed/round-001/{run}/polls.jsonl")));
    common::wait_for("both runs", || both.iter().all(|polls| polls.exists()));
    // A job ends with any of its ranks.
    let rank = common::process(at, 1).unwrap().to_string();
    succeed(Command::new("kill").args(["-KILL", &rank]));
    child.wait().unwrap();
    common::wait_for("the other rank", || common::process(at, 0).is_none());
    let out = side_by_side(at, "killed").output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    assert!(state(at, "beside") == state(at, "killed"), "a loop that was killed has the same result");

    // One rank alone is interrupted, which ends the runs of both teams; continued with one team.
    let mut child = side_by_side(at, "interrupted").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    common::wait_for("a poll", || at.join("interrupted/round-001/vacancy/polls.jsonl").exists());
    let rank = common::process(at, 1).unwrap().to_string();
    succeed(Command::new("kill").args(["-INT", &rank]));
    assert_eq!(child.wait().unwrap().code(), Some(6));
    assert!(!at.join("interrupted/stop").exists());
    let out = command(lammps_otf(), at, "interrupted").output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    assert!(state(at, "alone") == state(at, "interrupted"));
}

#[test]
fn teams_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    config(at);
    for (ranks, teams, why) in [(3, "2", "multiple of 2"), (3, "3", "number of runs"), (1, "0", "must be 1 or more")] {
        let mut program = mpiexec(ranks);
        program.arg(lammps_otf().get_program());
        let out = command(program, at, "out").args(["--replicas", teams]).output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{}", text(&out));
        assert!(text(&out).contains(why), "{}", text(&out));
        assert!(!at.join("out").exists());
    }
}

/// Labels with EAM, and appends to `starts` how many polls of the second run of the second round existed at the start: label.sh INPUT OUTPUT.
const LABEL: &str = "#!/bin/sh\ncat out/round-002/vacancy/polls.jsonl 2>/dev/null | wc -l >>starts\nexec PYTHON ORACLE \"$1\" \"$2\" EAM none\n";

#[test]
fn candidates_are_labelled_while_other_runs_are_done() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    config(at);
    let quoted = |path: std::path::PathBuf| format!("'{}'", path.display());
    let label = LABEL.replace("PYTHON", &quoted(dependency("bin/python3")));
    let label = label.replace("ORACLE", &quoted(common::script("eam_oracle.py"))).replace("EAM", &quoted(eam_file()));
    write(at, "label.sh", &label);
    let toml = std::fs::read_to_string(at.join("loop.toml")).unwrap();
    let (start, end) = (toml.find("type = \"lammps\"").unwrap(), toml.find("[loop.trainer]").unwrap());
    let own = "type = \"command\"\ncommand = [\"sh\", \"label.sh\", \"{input}\", \"{output}\"]\nparallel = 2\n";
    let toml = toml.replace(&toml[start..end], own).replace("[loop]\n", "[loop]\noverlap = true\n");
    // So long that labels are begun before its end on any machine.
    let toml = toml.replace("structure = \"vacancy.extxyz\"\n", "structure = \"vacancy.extxyz\"\nsteps = 4000\n");
    write(at, "loop.toml", &toml);
    let out = command(lammps_otf(), at, "out").output().unwrap();
    println!("{}", text(&out));
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    let starts = std::fs::read_to_string(at.join("starts")).unwrap();
    let starts: Vec<usize> = starts.lines().map(|line| line.trim().parse().unwrap()).collect();
    let polls = std::fs::read_to_string(at.join("out/round-002/vacancy/polls.jsonl")).unwrap().lines().count();
    // The first are the comparison of oracle and potential, and the labels of the first round.
    let (first, second) = (&rounds(at, "out")[0], &rounds(at, "out")[1]);
    assert!(starts[1 + first.labelled + first.failed] < polls, "{starts:?}, {polls} polls");
    assert!(second.runs_selected_from == 1 && !second.selected.is_empty(), "{second:?}");

    // Killed while the second run is done and labels are made, and continued.
    let mut child = command(lammps_otf(), at, "killed").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    common::wait_for("the second run", || at.join("killed/round-002/vacancy/polls.jsonl").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    let out = command(lammps_otf(), at, "killed").output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    assert!(state(at, "out") == state(at, "killed"), "a loop that was killed has the same result");

    // Interrupted likewise: the programs end, and their candidates are pending again.
    let mut child = command(lammps_otf(), at, "stopped").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    common::wait_for("the second run", || at.join("stopped/round-002/vacancy/polls.jsonl").exists());
    succeed(Command::new("kill").args(["-INT", &child.id().to_string()]));
    assert_eq!(child.wait().unwrap().code(), Some(6));
    assert!(rows(at, "stopped").iter().all(|row| row.status != Some(lammps_otf::candidates::Status::RunningDft)));
    let out = command(lammps_otf(), at, "stopped").output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    assert!(state(at, "out") == state(at, "stopped"));
}
