// SPDX-License-Identifier: GPL-2.0-or-later
//! Custom templates, and text that would be LAMMPS commands without quotes.

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;

use common::{aluminium, eam_config, json, lammps_otf, lmp, root, succeed, text, write};

fn run(folder: &Path) -> Output {
    lammps_otf().current_dir(folder).args(["run", "run.toml", "-o", "out"]).output().unwrap()
}

fn assert_rejected(folder: &Path, words: &[&str]) -> String {
    let output = run(folder);
    let message = text(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(!folder.join("out").exists(), "something was written");
    for word in words {
        assert!(message.contains(word), "the message does not say {word:?}:\n{message}");
    }
    assert!(!message.contains("panicked"), "{message}");
    println!("{message}");
    message
}

/// A short run of ML-PACE with a template.
fn with_template(template: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "al.extxyz", &aluminium(3));
    write(folder.path(), "my.j2", template);
    let potential = root().join("potentials/al/Al.yaml");
    let config = format!(
        "structure = \"al.extxyz\"\ntemplate = \"my.j2\"\ntemperature = 300\nsteps = 20\nsampling_interval = 10\n\
         [potential]\nfile = {:?}\n",
        potential.display().to_string()
    );
    write(folder.path(), "run.toml", &config);
    folder
}

const OWN: &str = "# My own set-up.
units {{ units }}
atom_style atomic
boundary {{ boundary }}
read_data {{ data }}
pair_style {{ pair_style }}
{% for line in pair_coeff %}pair_coeff {{ line }}
{% endfor %}
velocity all create {{ temperature.start }} {{ seed }}
fix mine all nvt temp {{ temperature.start }} {{ temperature.end }} {{ temperature.damping }}
fix otf_gamma all pair {{ interval }} {{ pair_style }} gamma 1
thermo_style custom step temp press pe ke etotal
thermo {{ interval }}
";

#[test]
fn custom_template_is_used() {
    let folder = with_template(OWN);
    let output = run(folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(std::fs::read_to_string(folder.path().join("out/md.in")).unwrap().contains("fix mine all nvt"));
    let result = json(&folder.path().join("out/result.json"));
    assert!(result["gamma_max"].as_f64().unwrap() > 0.0, "{result}");
}

#[test]
fn template_without_gamma_is_rejected_with_the_line_to_add() {
    let without: String = OWN.lines().filter(|l| !l.contains("otf_gamma")).map(|l| format!("{l}\n")).collect();
    let folder = with_template(&without);
    assert_rejected(folder.path(), &["my.j2", "`otf_gamma`", "pair {{ interval }} {{ pair_style }} gamma 1"]);
    // A definition in a comment is not one.
    let folder = with_template(&format!("{without}# fix otf_gamma all pair\n"));
    assert_rejected(folder.path(), &["`otf_gamma`"]);
}

#[test]
fn template_that_reads_gamma_from_another_pair_style() {
    let other = OWN.replace("{{ pair_style }} gamma 1", "pace/extrapolation gamma 1");
    let folder = with_template(&other);
    assert_rejected(
        folder.path(),
        &["my.j2", "`pace/extrapolation`", "`pace/extrapolation/opt`", "{{ pair_style }}", "engine"],
    );
    // It is correct with the other engine.
    let config = std::fs::read_to_string(folder.path().join("run.toml")).unwrap();
    write(folder.path(), "run.toml", &(config + "engine = \"ml-pace\"\n"));
    let output = run(folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn template_syntax_error_reports_the_line() {
    let folder = with_template("units {{ units }}\n# two\n{% if ensemble = \"nve\" %}\n{% endif %}\n");
    assert_rejected(folder.path(), &["my.j2", "3:"]);
    let folder = with_template("units {{ unis }}\n");
    assert_rejected(folder.path(), &["my.j2", "unis"]);
    let folder = with_template(OWN);
    std::fs::remove_file(folder.path().join("my.j2")).unwrap();
    assert_rejected(folder.path(), &["my.j2", "No such file"]);
}

#[test]
fn template_cannot_read_files() {
    let texts = [
        "{% include \"/etc/passwd\" %}",
        "{% include \"secret\" %}",
        "{% include \"./secret\" %}",
        "{% include \"../secret\" %}",
        "{% include \"../../../../../../etc/passwd\" %}",
        "{% include [\"none\", \"secret\"] %}",
        "{% import \"secret\" as s %}",
        "{% import \"../secret\" as s %}",
        "{% extends \"secret\" %}",
        "{% extends \"/etc/passwd\" %}",
        "{{ load_data(path=\"secret\") }}",
        "{{ get_file(path=\"/etc/passwd\") }}",
    ];
    for text in texts {
        let folder = with_template(&format!("{text}\n{OWN}"));
        write(folder.path(), "secret", "print \"the secret\"\n");
        let message = assert_rejected(folder.path(), &["my.j2"]);
        assert!(!message.contains("root:") && !message.contains("the secret"), "{message}");
    }
    // A file that is not found is ignored: nothing is included.
    let folder = with_template(&format!("{{% include \"/etc/passwd\" ignore missing %}}\n{OWN}"));
    let output = run(folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(!std::fs::read_to_string(folder.path().join("out/md.in")).unwrap().contains("root:"));
    println!("tried {}: templates that would read another file: refused, or nothing read", texts.len() + 1);
}

/// Names that LAMMPS or a shell would split.
const NAMES: [&str; 12] = [
    "two words",
    "it's",
    "5\" wide",
    "both ' and \" of them",
    "dollar $x ${HOME} $(1+1)",
    "this & that",
    "end &",
    "hash # here",
    "ünïcödé γ 中",
    "`touch PWNED`; $(touch PWNED)",
    "\"\"\" three",
    "it's \"",
];

/// A run whose structure, potential and output have this name.
fn with_name(name: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join(name);
    std::fs::create_dir(&inner).unwrap();
    write(&inner, &format!("{name}.extxyz"), &aluminium(3));
    for ending in ["yaml", "asi"] {
        std::fs::copy(root().join("potentials/al/Al").with_extension(ending), inner.join(format!("{name}.{ending}")))
            .unwrap();
    }
    let quoted = |ending: &str| format!("{:?}", Path::new(name).join(format!("{name}.{ending}")).display().to_string());
    let config = format!(
        "structure = {}\ntemperature = 300\nsteps = 10\nsampling_interval = 10\n[potential]\nfile = {}\n",
        quoted("extxyz"),
        quoted("yaml")
    );
    write(folder.path(), "run.toml", &config);
    (folder, inner)
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries.flat_map(|p| if p.is_dir() { files_below(&p) } else { vec![p] }).collect()
}

#[test]
fn file_names_with_lammps_syntax_are_quoted() {
    for name in NAMES {
        let (folder, inner) = with_name(name);
        let output = lammps_otf()
            .current_dir(&folder)
            .args(["run", "run.toml", "-q", "-o"])
            .arg(Path::new(name).join("the out & $put"))
            .output()
            .unwrap();
        let executed = |f: &PathBuf| f.file_name().is_some_and(|n| n == "PWNED");
        assert!(!files_below(folder.path()).iter().any(executed), "{name}");
        // Names that no LAMMPS word can contain are reported as the reason, and no files remain.
        let reason = match name {
            "ünïcödé γ 中" => Some("ASCII"),
            "\"\"\" three" => Some("quotes"),
            _ => None,
        };
        if let Some(reason) = reason {
            assert_eq!(output.status.code(), Some(2), "{name}: {}", text(&output));
            assert!(text(&output).contains(reason), "{name}: {}", text(&output));
            assert_eq!(files_below(&inner).len(), 3, "{name}: something was written");
            continue;
        }
        assert_eq!(output.status.code(), Some(0), "{name}: {}", text(&output));
        let out = inner.join("the out & $put");
        assert_eq!(json(&out.join("result.json"))["status"], "COMPLETED", "{name}");
        // The written script contains the same names.
        let log = succeed(lmp().current_dir(&out).args(["-in", "md.in", "-log", "none"]));
        assert!(log.contains("108 atoms") && log.contains("Loop time"), "{name}: {log}");
        assert!(!files_below(folder.path()).iter().any(executed), "{name}");
    }
    println!(
        "tried {}: names of files that LAMMPS or a shell would take apart: names, and nothing executed",
        NAMES.len()
    );
}

#[test]
fn newline_in_a_name_executes_nothing() {
    let name = "al\nshell touch PWNED\n";
    let (folder, _) = with_name("al");
    let (fresh, _) = with_name(name);
    let output = run(fresh.path());
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("newline"), "{}", text(&output));
    // In the folder of the output, and in its last part: a crashed run is set up again from the files in it.
    for out in [Path::new(name).join("out"), PathBuf::from(name)] {
        let output =
            lammps_otf().current_dir(&folder).args(["run", "run.toml", "-q", "-o"]).arg(&out).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{out:?}: {}", text(&output));
        assert!(!folder.path().join(&out).join("candidates.db").exists(), "{out:?} was begun");
    }
    for folder in [&folder, &fresh] {
        assert!(!files_below(folder.path()).iter().any(|f| f.file_name().is_some_and(|n| n == "PWNED")));
    }
}

#[test]
fn commands_of_the_potential_stay_on_their_line() {
    for (style, coeff) in [
        ("eam/fs\\nshell touch PWNED", "* * x Al"),
        ("eam/fs", "* * x Al\\nshell touch PWNED"),
        ("eam/fs", "* * x Al\\rshell touch PWNED"),
        ("eam/fs", "* * $(shell) Al"),
        ("eam/fs &", "* * x Al"),
        ("eam/fs \\\"\\\"\\\"", "* * x Al"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "al.extxyz", &aluminium(3));
        let config = format!(
            "structure = \"al.extxyz\"\ntemperature = 300\nuncertainty = \"none\"\n[potential]\n\
             pair_style = \"{style}\"\npair_coeff = [\"{coeff}\"]\ncutoff = 6.5\n"
        );
        write(folder.path(), "run.toml", &config);
        assert_rejected(folder.path(), &["pair_style or pair_coeff", "a single line"]);
        assert!(!folder.path().join("PWNED").exists());
    }
}

#[test]
fn names_of_uncertainty_sources_are_names() {
    for kind in ["fix", "compute", "variable"] {
        let folder = tempfile::tempdir().unwrap();
        let name = "u\\nshell touch PWNED";
        eam_config(folder.path(), 3, &format!("temperature = 300\nuncertainty = {{ {kind} = \"{name}\" }}\n"));
        assert_rejected(folder.path(), &[&format!("LAMMPS has no {kind}")]);
        assert!(!folder.path().join("PWNED").exists());
    }
}

/// A slab of 108 atoms, and one that leaves the slab and the box.
fn evaporating_slab() -> String {
    let slab = aluminium(3);
    let rows: String = slab.lines().skip(2).map(|line| format!("{line} 0 0 0\n")).collect();
    format!(
        "109\nLattice=\"12.135 0 0 0 12.135 0 0 0 20\" Properties=species:S:1:pos:R:3:velocities:R:3 pbc=\"T T F\"\n{rows}\
         Al 6 6 17 0 0 100\n"
    )
}

#[test]
fn thermo_settings_of_the_setup_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let lost = "\"change_box all z final -1 20 boundary p p f\", \"thermo_modify lost ignore format float %.3f\"";
    let more = |setup: &str| {
        format!(
            "temperature = 300\nvelocities = \"keep\"\nensemble = \"nve\"\nsteps = 100\nsampling_interval = 10\n\
             uncertainty = \"none\"\nsetup = [{setup}]\n"
        )
    };
    eam_config(folder.path(), 3, &more(lost));
    write(folder.path(), "al.extxyz", &evaporating_slab());
    let output = run(folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let last = json(&folder.path().join("out/result.json"))["last"].clone();
    assert_eq!(last["step"], 100, "{last}");
    // The table has the format of the user, and the numbers are still available.
    let custom = "\"thermo_style custom time step etotal pe press temp\", \"thermo 7\"";
    eam_config(folder.path(), 3, &more(&format!("{custom}, {lost}")));
    write(folder.path(), "al.extxyz", &evaporating_slab());
    let output = lammps_otf().current_dir(&folder).args(["run", "run.toml", "-o", "own"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let own = json(&folder.path().join("own/result.json"))["last"].clone();
    for key in ["step", "temperature", "pressure", "potential_energy", "total_energy"] {
        assert!(last[key].is_number() && own[key] == last[key], "{key}: {own} {last}");
    }
    let log = std::fs::read_to_string(folder.path().join("own/log.lammps")).unwrap();
    assert!(log.lines().any(|line| line.split_whitespace().take(2).eq(["0.007", "7"])), "{log}");
}

#[test]
fn template_that_frees_fixed_atoms_is_rejected() {
    let crystal = aluminium(3).replace("pos:R:3", "pos:R:3:move_mask:L:1");
    let rows: Vec<String> = crystal
        .lines()
        .skip(2)
        .enumerate()
        .map(|(i, line)| format!("{line} {}\n", if i < 9 { 'F' } else { 'T' }))
        .collect();
    let fixed = crystal.lines().take(2).map(|line| format!("{line}\n")).chain(rows).collect::<String>();
    let folder = with_template(OWN);
    write(folder.path(), "al.extxyz", &fixed);
    assert_rejected(folder.path(), &["my.j2", "9 atoms", "`move_mask`", "setforce", "`fixed`"]);
    let taken_over = "{% for part in fixed %}
{% for ids in part.ids %}group {{ part.group }} id {{ ids }}
{% endfor %}
velocity {{ part.group }} set {{ part.held }}
fix {{ part.group }} {{ part.group }} setforce {{ part.held }}
{% endfor %}
";
    let folder = with_template(&format!("{OWN}{taken_over}"));
    write(folder.path(), "al.extxyz", &fixed);
    let output = run(folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

/// Commands that end the program and are visible to LAMMPS only, in a file whose name is in a variable.
#[test]
fn setup_that_ends_the_program_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "more.in", "quit\n");
    let setup = "setup = [\"variable more string more.in\", \"include ${more}\"]\n";
    eam_config(folder.path(), 3, &format!("temperature = 300\nsteps = 10\nuncertainty = \"none\"\n{setup}"));
    for ranks in [1, 2] {
        let mut command = common::mpiexec(ranks);
        command.arg(env!("CARGO_BIN_EXE_lammps-otf")).args(["run", "run.toml", "-o", "out"]).current_dir(&folder);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert_eq!(text(&output).matches("has ended the program, as `quit` does").count(), 1, "{}", text(&output));
        assert!(!folder.path().join("out").exists());
    }
}
