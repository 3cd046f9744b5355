// SPDX-License-Identifier: GPL-2.0-or-later
//! Bad input gives one clear paragraph and exit code 2, and nothing is written. Tested with the compiled program.
//!
//! All messages are in `snapshots/bad_input__messages.snap`. After a change, read that file and update it with
//! `INSTA_UPDATE=always cargo test --test bad_input`.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{aluminium, lammps_otf, root, text, write};

/// A case of bad input, in a new folder with a valid run of 108 atoms of aluminium.
struct Case {
    title: &'static str,
    command: String,
    spoil: Box<dyn Fn(&Path) + Send + Sync>,
    environment: Vec<(&'static str, &'static str)>,
    code: i32,
}

fn case(title: &'static str, command: &str, spoil: impl Fn(&Path) + Send + Sync + 'static) -> Case {
    Case { title, command: command.to_owned(), spoil: Box::new(spoil), environment: Vec::new(), code: 2 }
}

/// `run` with `line` inserted before all tables of the configuration.
fn with_line(title: &'static str, line: &'static str) -> Case {
    case(title, "run run.toml", move |f| {
        let without = if line.contains("temperature =") { "temperature = 300\n" } else { "" };
        let text = std::fs::read_to_string(f.join("run.toml")).unwrap().replace(without, "");
        write(f, "run.toml", &format!("{line}\n{text}"));
    })
}

/// `run` with the text `from` of the configuration replaced.
fn with_replacement(title: &'static str, from: &'static str, to: &'static str) -> Case {
    case(title, "run run.toml", move |f| change(f, "run.toml", from, to))
}

/// `loop` with these lines in its table.
fn with_loop_lines(title: &'static str, lines: &'static str) -> Case {
    case(title, "loop run.toml", move |f| {
        write(f, "run.toml", &format!("{RUN}[loop]\n{lines}\n"));
    })
}

fn change(folder: &Path, name: &str, from: &str, to: &str) {
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    assert!(text.contains(from), "{name} has no {from:?}");
    write(folder, name, &text.replacen(from, to, 1));
}

fn cut(folder: &Path, name: &str, divisor: usize) {
    let bytes = std::fs::read(folder.join(name)).unwrap();
    std::fs::write(folder.join(name), &bytes[..bytes.len() / divisor]).unwrap();
}

fn remove(folder: &Path, name: &str) {
    std::fs::remove_file(folder.join(name)).unwrap();
}

const RUN: &str = "structure = \"al.extxyz\"\ntemperature = 300\nsteps = 10\n[potential]\nfile = \"Al.yaml\"\n";

fn good(folder: &Path) {
    for file in ["Al.yaml", "Al.asi", "Al.yace"] {
        std::fs::copy(root().join("potentials/al").join(file), folder.join(file)).unwrap();
    }
    write(folder, "al.extxyz", &aluminium(3));
    write(folder, "run.toml", RUN);
}

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    let nothing = |_: &Path| ();
    vec![
        // The command line.
        case("no command", "", nothing),
        case("an unknown command", "rum run.toml", nothing),
        case("an unknown option", "run run.toml --threshold 5", nothing),
        // The configuration.
        case("no configuration", "run nowhere.toml", nothing),
        with_replacement("malformed TOML", "temperature = 300", "temperature = = 300"),
        with_line("an unknown key", "temprature = 300"),
        with_replacement("an unknown key in a table", "file =", "fiel = 1\nfile ="),
        with_line("an unknown name", "ensemble = \"nvr\""),
        with_line("text for a number", "temperature = \"hot\""),
        with_replacement("a key that is missing", "structure = \"al.extxyz\"\n", ""),
        with_replacement("a table that is missing", "[potential]\nfile = \"Al.yaml\"\n", ""),
        with_line("a negative temperature", "temperature = -300"),
        with_line("a temperature that is no number", "temperature = nan"),
        with_line("no temperature for a thermostat", "temperature = 0"),
        with_line("no time step", "timestep = 0.0"),
        with_line("a time step in fs", "timestep = 1.0"),
        with_line("a damping below the time step", "temperature_damping = 0.0001"),
        with_line("no steps", "steps = 0").with_run("steps = 10\n", ""),
        with_line("no interval", "sampling_interval = 0"),
        with_line("thresholds in the wrong order", "uncertainty_low = 9.0"),
        with_line("units that ML-PACE does not take", "units = \"real\""),
        with_line("a limit of no candidates", "max_candidates = 0"),
        with_replacement("a radius of nothing", "[potential]", "embedding.radius = 0.0\n[potential]"),
        with_replacement("a pair of elements that is none", "[potential]", "embedding.pair_distances = { AlCu = 1.0 }\n[potential]"),
        with_replacement("cut-outs that are too large", "[potential]", "embedding.radius = 6.0\n[potential]"),
        // The potential.
        with_replacement("no potential", "file = \"Al.yaml\"", ""),
        with_replacement("two potentials", "file = \"Al.yaml\"", "file = \"Al.yaml\"\npair_style = \"eam/fs\""),
        with_replacement("a pair style without its coefficients", "file = \"Al.yaml\"", "pair_style = \"lj/cut 5.0\""),
        with_replacement("γ of a pair style that has none", "file = \"Al.yaml\"", "pair_style = \"zero 6.0\"\npair_coeff = [\"* *\"]"),
        with_replacement("a pair style that does not exist", "temperature = 300\nsteps = 10\n[potential]\nfile = \"Al.yaml\"",
                "temperature = 300\nuncertainty = \"none\"\n[potential]\npair_style = \"eam/sf\"\npair_coeff = [\"* *\"]"),
        with_replacement("commands in a pair style", "temperature = 300\nsteps = 10\n[potential]\nfile = \"Al.yaml\"",
                "temperature = 300\nuncertainty = \"none\"\n[potential]\npair_style = \"zero 5.0\\nshell ls\"\npair_coeff = [\"* *\"]"),
        case("a potential that does not exist", "run run.toml", |f| remove(f, "Al.yaml")),
        case("a potential without its active set", "run run.toml", |f| remove(f, "Al.asi")),
        case("a potential cut in half", "run run.toml", |f| cut(f, "Al.yaml", 2)),
        case("a potential that is no YAML", "run run.toml", |f| { write(f, "Al.yaml", "rcut: 5.5\n]{ not: [yaml"); }),
        case("an active set cut off", "run run.toml", |f| cut(f, "Al.asi", 3)),
        case("an active set of another potential", "run run.toml", |f| {
            std::fs::copy(root().join("potentials/alcu/AlCu.asi"), f.join("Al.asi")).unwrap();
        }),
        with_replacement("a .yace where γ is needed", "Al.yaml", "Al.yace"),
        with_replacement("a file that is no potential", "Al.yaml", "al.extxyz"),
        with_replacement("an engine that does not exist", "file =", "engine = \"fast\"\nfile ="),
        // The structure.
        case("a structure that does not exist", "run run.toml", |f| remove(f, "al.extxyz")),
        case("an element that the potential does not know", "run run.toml", |f| change(f, "al.extxyz", "Al ", "Cu ")),
        case("a symbol that is no element", "run run.toml", |f| change(f, "al.extxyz", "Al ", "Qq ")),
        case("overlapping atoms", "run run.toml", |f| change(f, "al.extxyz", "Al 0 2.0225 2.0225", "Al 0 0 0.2")),
        case("a structure cut in half", "run run.toml", |f| cut(f, "al.extxyz", 2)),
        case("coordinates that are no numbers", "run run.toml", |f| change(f, "al.extxyz", "Al 0 2.0225 2.0225", "Al 0 nan 2")),
        case("a flat cell", "run run.toml", |f| change(f, "al.extxyz", "0 0 0 12.135", "0 0 0 0")),
        case("a left-handed cell", "run run.toml", |f| change(f, "al.extxyz", "0 12.135 0 0 0 12.135", "0 0 12.135 0 12.135 0")),
        case("a file of unknown kind", "run run.toml", |f| {
            change(f, "run.toml", "al.extxyz", "al.cif");
            write(f, "al.cif", "data_Al\n_cell_length_a 4.045\n");
        }),
        case("a structure without atoms", "run run.toml", |f| {
            write(f, "al.extxyz", "0\nLattice=\"4 0 0 0 4 0 0 0 4\" Properties=species:S:1:pos:R:3 pbc=\"T T T\"\n");
        }),
        case("a single atom", "run run.toml", |f| {
            write(f, "al.extxyz", "1\nLattice=\"0 2 2 2 0 2 2 2 0\" Properties=species:S:1:pos:R:3 pbc=\"T T T\"\nAl 0 0 0\n");
        }),
        case("no atom that can move", "run run.toml", |f| {
            let all = aluminium(3).replace("pos:R:3", "pos:R:3:move_mask:L:1").lines().enumerate()
                .map(|(i, line)| if i < 2 { format!("{line}\n") } else { format!("{line} F\n") }).collect::<String>();
            write(f, "al.extxyz", &all);
        }),
        case("an atom fixed along one axis in a cell that must be turned", "run run.toml", |f| {
            write(f, "al.extxyz", "2\nLattice=\"0 9 0 0 0 9 9 0 0\" Properties=species:S:1:pos:R:3:move_mask:L:3 pbc=\"T T T\"\n\
                                   Al 0 0 0 T T F\nAl 3 3 3 T T T\n");
        }),
        case("velocities in Å/fs", "run run.toml", |f| {
            let rows: String = aluminium(3).lines().skip(2).enumerate()
                .map(|(i, line)| format!("{line} 0.003 0.00{} -0.002\n", i % 7)).collect();
            let head = "108\nLattice=\"12.135 0 0 0 12.135 0 0 0 12.135\" Properties=species:S:1:pos:R:3:vel:R:3 pbc=\"T T T\"\n";
            write(f, "al.extxyz", &format!("{head}{rows}"));
        }),
        case("constant pressure along an open direction", "run run.toml", |f| {
            change(f, "al.extxyz", "T T T", "T T F");
            change(f, "run.toml", "steps", "ensemble = \"npt\"\nsteps");
        }),
        with_line("a thermo table without what is read from it", "setup = [\"thermo_style custom step temp v_mine\"]"),
        with_line("energies per atom", "setup = [\"thermo_modify norm yes\"]"),
        // What LAMMPS is given.
        with_line("a plugin that does not exist", "plugins = [\"noplugin.so\"]"),
        with_line("a plugin that is none", "plugins = [\"al.extxyz\"]"),
        with_line("a command that LAMMPS does not know", "setup = [\"fxi 1 all nve\"]"),
        with_line("a dump without a folder", "setup = [\"dump d all custom 10 nowhere/t.dump id\"]"),
        with_line("a file that cannot be written, which LAMMPS sees at its first step", "setup = [\"dump d all custom 10 . id\"]"),
        with_line("a variable that LAMMPS misses at its first step",
            "setup = [\"compute c all reduce max v_none\", \"fix a all ave/time 1 1 1 c_c\"]"),
        with_line("a command that ends the program", "setup = [\"quit\"]"),
        with_line("a command that ends the program under a condition", "setup = [\"if \\\"2 > 1\\\" then quit\"]"),
        with_line("a command whose name is in a variable", "setup = [\"variable end string quit\", \"${end}\"]"),
        case("a command that ends the program in a file", "run run.toml", |f| {
            write(f, "more.in", "compute k all ke/atom\nquit 0\n");
            change(f, "run.toml", "steps", "setup = [\"include more.in\"]\nsteps");
        }),
        with_line("a command that deletes the set-up", "setup = [\"clear\"]"),
        with_line("a loop of commands", "setup = [\"label again\", \"jump SELF again\"]"),
        with_line("another log", "setup = [\"log other.log\"]"),
        with_line("another folder", "setup = [\"shell cd /\"]"),
        with_line("a box within the set-up", "setup = [\"region r block 0 1 0 1 0 1\", \"create_box 1 r\"]"),
        with_line("other atoms within the set-up", "setup = [\"read_restart run.restart\"]"),
        with_replacement("created atoms without an end", "structure = \"al.extxyz\"", "create = [\"clear\"]\nelements = [\"Al\"]"),
        case("a template that jumps", "run run.toml", |f| {
            write(f, "md.j2", "units metal\njump SELF here\n");
            change(f, "run.toml", "steps", "template = \"md.j2\"\nsteps");
        }),
        with_line("a switch among the settings of a package", "package = [\"omp 2 -in other\"]"),
        with_line("an argument that LAMMPS does not know", "lammps_args = [\"-sufix\", \"omp\"]"),
        with_line("γ from a fix that does not exist", "uncertainty = { fix = \"mine\" }"),
        with_line("a template that does not exist", "template = \"md.j2\""),
        case("a template with an unknown variable", "run run.toml", |f| {
            write(f, "md.j2", "units {{ unit }}\n");
            change(f, "run.toml", "steps", "template = \"md.j2\"\nsteps");
        }),
        case("a template that draws velocities at another temperature", "run run.toml", |f| {
            let built_in = std::fs::read_to_string(root().join("templates/md.in.j2")).unwrap();
            write(f, "md.j2", &built_in.replace("velocity_temperature", "temperature.start"));
            change(f, "run.toml", "steps", "template = \"md.j2\"\nvelocities = \"equipartition\"\nsteps");
        }),
        case("continuing a run that does not exist", "run run.toml --from nothing -o out", nothing),
        case("a potential without a run to continue", "run run.toml --potential other.yaml", nothing),
        case("a folder to continue without a new one", "run run.toml --from nothing", nothing),
        case("init: training data that do not exist", "init al.extxyz Al.yaml --loop data.extxyz -o new.toml", nothing),
        case("a template without γ", "run run.toml", |f| {
            write(f, "md.j2", "units {{ units }}\n");
            change(f, "run.toml", "steps", "template = \"md.j2\"\nsteps");
        }),
        Case {
            environment: vec![("LAMMPS_OTF_PLUGINS", "/nowhere"), ("LAMMPS_PLUGIN_PATH", "")],
            ..case("a liblammps without the plugin", "run run.toml", nothing)
        },
        Case {
            environment: vec![("LAMMPS_OTF_PLUGINS", "/nowhere"), ("LAMMPS_PLUGIN_PATH", "")],
            ..case("a liblammps without ML-PACE", "run run.toml", |f| {
                change(f, "run.toml", "file =", "engine = \"ml-pace\"\nfile =");
            })
        },
        case("a template for the other engine", "run run.toml", |f| {
            write(f, "md.j2", "fix otf_gamma all pair 10 pace/extrapolation gamma 1\n");
            change(f, "run.toml", "steps", "template = \"md.j2\"\nsteps");
        }),
        // The output folder.
        case("a folder that holds a run", "run run.toml", |f| {
            std::fs::create_dir(f.join("run")).unwrap();
            write(&f.join("run"), "candidates.db", "precious");
        }),
        // Not an error in general: it works on another file system.
        Case { code: 1, ..case("a folder that cannot be made", "run run.toml -o al.extxyz/out", nothing) },
        case("a run to go on with that is another", "run run.toml --resume", |f| {
            let first = lammps_otf().current_dir(f).args(["run", "-q", "run.toml"]).status().unwrap();
            assert!(first.success());
            change(f, "run.toml", "temperature = 300", "temperature = 400");
        }),
        // The loop.
        case("loop: no table for it", "loop run.toml", nothing),
        with_loop_lines("loop: no trainer", "oracle = { type = \"command\", command = [\"dft\", \"{input}\", \"{output}\"] }"),
        with_loop_lines("loop: no oracle", "trainer = { command = [\"fit\", \"{labelled}\", \"{output}\"] }"),
        with_loop_lines("loop: an oracle of no kind", "oracle = { type = \"vasp\" }\ntrainer = { command = [\"fit\"] }"),
        with_loop_lines("loop: a trainer command without its files", "oracle = { type = \"lammps\", pair_style = \"eam/fs\", pair_coeff = [\"* * Al.eam Al\"] }\n\
               trainer = { command = [\"fit\"] }"),
        with_loop_lines("loop: a halt below the threshold", "halt = 1.0\noracle = { type = \"command\", command = [\"dft\", \"{input}\", \"{output}\"] }\n\
               trainer = { command = [\"fit\", \"{labelled}\", \"{output}\"] }"),
        with_loop_lines("loop: overlap with one run", "overlap = true\noracle = { type = \"command\", command = [\"dft\", \"{input}\", \"{output}\"] }\n\
            trainer = { command = [\"fit\", \"{labelled}\", \"{output}\"] }"),
        with_loop_lines("loop: no program at a time", "oracle = { type = \"command\", command = [\"dft\", \"{input}\", \"{output}\"], parallel = 0 }\n\
               trainer = { command = [\"fit\", \"{labelled}\", \"{output}\"] }"),
        with_loop_lines("loop: a negative time to wait", "oracle = { type = \"external\", wait = -1 }\n\
               trainer = { command = [\"fit\", \"{labelled}\", \"{output}\"] }"),
        with_loop_lines("loop: a command of external workers", "oracle = { type = \"external\", command = [\"dft\"] }\n\
               trainer = { command = [\"fit\", \"{labelled}\", \"{output}\"] }"),
        with_loop_lines("loop: cut-outs that are too large", "oracle = { type = \"command\", command = [\"dft\", \"{input}\", \"{output}\"] }\n\
               trainer = { command = [\"fit\", \"{labelled}\", \"{output}\"] }\n[embedding]\nradius = 6.0"),
        // Other commands.
        case("init: a structure that does not exist", "init nowhere.extxyz Al.yaml", nothing),
        case("init: a .yace", "init al.extxyz Al.yace", nothing),
        case("init: a potential that does not exist", "init al.extxyz Cu.yaml", nothing),
        case("init: no active set", "init al.extxyz Al.yaml", |f| remove(f, "Al.asi")),
        case("init: an active set of another potential", "init al.extxyz Al.yaml", |f| {
            std::fs::copy(root().join("potentials/alcu/AlCu.asi"), f.join("Al.asi")).unwrap();
        }),
        case("init: an element that the potential does not know", "init al.extxyz Al.yaml", |f| change(f, "al.extxyz", "Al ", "Cu ")),
        case("init: a configuration that exists", "init al.extxyz Al.yaml -o run.toml", nothing),
        case("init: a folder that does not exist", "init al.extxyz Al.yaml -o no/run.toml", nothing),
        case("init: a temperature below nothing", "init al.extxyz Al.yaml --temperature=-5", nothing),
        case("init: three temperatures", "init al.extxyz Al.yaml --temperature 1,2,3", nothing),
        case("doctor: a configuration that does not exist", "doctor nowhere.toml -q", nothing),
        case("doctor: an active set that is missing", "doctor run.toml -q", |f| remove(f, "Al.asi")),
        case("extract: no such atom", "extract al.extxyz --center 999 --radius 3 --buffer 3 -o cut.extxyz", nothing),
        case("extract: too many atoms", "extract al.extxyz --center 1 --radius 6 --buffer 6 -o cut.extxyz", nothing),
        case("extract: a frame that does not exist", "extract al.extxyz --center 1 --radius 3 --buffer 3 --frame 7 -o cut.extxyz", nothing),
        case("extract: a name of another format", "extract al.extxyz --center 1 --radius 3 --buffer 3 -o cut.cif", nothing),
        case("extract: a folder that does not exist", "extract al.extxyz --center 1 --radius 3 --buffer 3 -o no/cut.extxyz", nothing),
        case("analyze-log: a file that does not exist", "analyze-log nowhere.log --threshold 5", nothing),
        case("analyze-log: a file that is no log", "analyze-log al.extxyz --threshold 5", nothing),
        case("analyze-log: a column that does not exist", "analyze-log log --threshold 5 --column v_gamma", |f| {
            write(f, "log", "LAMMPS (22 Jul 2025)\n   Step          Temp          v_max_gamma\n 0 300 1.0\n 10 301 1.1\nLoop time of 1\n");
        }),
        case("candidates: a store that does not exist", "candidates list nowhere.db", nothing),
        case("candidates: a file that is no store", "candidates list al.extxyz", nothing),
        case("candidates: no such format", "candidates export nowhere.db vasp -o x", nothing),
        case("candidates: no such status", "candidates list nowhere.db --status waiting", nothing),
        case("report: a folder that does not exist", "report nowhere", nothing),
        case("report: a folder without a run", "report .", nothing),
        case("report: a file", "report al.extxyz", nothing),
        case("report: a folder to follow that does not exist", "report --follow nowhere", nothing),
        case("report: an interval that is too short", "report --follow --interval 0 .", nothing),
        case("watch: a folder without polls", "watch .", nothing),
        case("watch: a file that does not exist", "watch nowhere.jsonl", nothing),
    ]
}

impl Case {
    /// Changes the valid configuration first.
    fn with_run(self, from: &'static str, to: &'static str) -> Self {
        let spoil = self.spoil;
        let spoil = move |f: &Path| {
            change(f, "run.toml", from, to);
            spoil(f);
        };
        Case { spoil: Box::new(spoil), ..self }
    }

    /// The output, without paths of this machine.
    fn message(&self) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        good(&folder);
        (self.spoil)(&folder);
        let before = snapshot(&folder);
        let mut command = lammps_otf();
        command.current_dir(&folder).args(self.command.split_whitespace()).envs(self.environment.iter().copied());
        let output = command.env("LAMMPS_OTF_PYTHON", common::dependency("bin/python3")).output().unwrap();
        let message = text(&output);
        let wrong = self.wrong(output.status.code(), &message, before == snapshot(&folder));
        let deps = common::dependency("bin").canonicalize().unwrap();
        let deps = deps.parent().unwrap().display().to_string();
        let message = message
            .replace(&folder.display().to_string(), "[folder]")
            .replace(&deps, "[deps]")
            .replace(&root().join(".deps").display().to_string(), "[deps]")
            .replace(&root().display().to_string(), "[source]");
        let lines: Vec<String> = message.lines().map(|line| without_line_number(line.trim_end())).collect();
        let text = format!("## {}\n$ lammps-otf {}\n{}\n", self.title, self.command, lines.join("\n"));
        wrong.map_or(Ok(text.clone()), |wrong| Err(format!("{wrong}:\n{text}")))
    }

    /// The violated rule, if any.
    fn wrong(&self, code: Option<i32>, message: &str, untouched: bool) -> Option<String> {
        // LAMMPS prints its own messages while it parses its command line.
        let own =
            self.command.is_empty() || self.command.starts_with("doctor") || message.starts_with("ERROR: Invalid comm");
        if code != Some(self.code) {
            Some(format!("exit code {code:?} instead of {}", self.code))
        } else if !untouched {
            Some("something was written".into())
        } else if message.contains("panicked") {
            Some("it panicked".into())
        } else if !own && (!message.starts_with("error: ") || message.matches("error:").count() != 1) {
            Some("it does not say what is wrong once".into())
        } else {
            None
        }
    }
}

/// Replaces `(src/pair.cpp:123)` of LAMMPS by `(pair.cpp)`, and removes the name of a temporary folder.
fn without_line_number(line: &str) -> String {
    let mut line = line.to_owned();
    if let Some(at) = line.find(".cpp:") {
        let digits = line[at + 5..].chars().take_while(char::is_ascii_digit).count();
        line.replace_range(at + 4..at + 5 + digits, "");
        let path = line[..at].rfind('(').map_or(at, |open| open + 1);
        let name = line[path..at].rfind('/').map_or(path, |slash| path + slash + 1);
        line.replace_range(path..name, "");
    }
    if let Some(at) = line.find(".lammps-otf-") {
        let end = at + 12 + line[at + 12..].chars().take_while(char::is_ascii_alphanumeric).count();
        line.replace_range(at..end, "[new]");
    }
    line
}

/// All files with their content.
fn snapshot(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            all.push((path.clone(), std::fs::read(&path).unwrap_or_default()));
        }
    }
    all.sort();
    all
}

#[test]
fn error_messages_match_the_snapshot() {
    let cases = cases();
    let next = AtomicUsize::new(0);
    let mut said: Vec<(usize, Result<String, String>)> = std::thread::scope(|scope| {
        let work = || {
            let mut mine = Vec::new();
            loop {
                let k = next.fetch_add(1, Ordering::Relaxed);
                let Some(case) = cases.get(k) else { return mine };
                mine.push((k, case.message()));
            }
        };
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|t| t.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
    });
    said.sort_by_key(|(k, _)| *k);
    let wrong: Vec<&String> = said.iter().filter_map(|(_, outcome)| outcome.as_ref().err()).collect();
    println!("tried {}: kinds of bad input: one message, the right exit code, nothing written", cases.len());
    assert!(wrong.is_empty(), "{}", wrong.iter().map(|w| w.as_str()).collect::<Vec<_>>().join("\n"));
    let all: Vec<String> = said.into_iter().filter_map(|(_, outcome)| outcome.ok()).collect();
    insta::assert_snapshot!("messages", all.join("\n"));
}
