// SPDX-License-Identifier: GPL-2.0-or-later
//! The documentation is true: what is generated is up to date, links lead somewhere, and every command that is shown
//! works.
//!
//! In README.md and in docs/, blocks are taken in their order, each page in a new folder:
//! - `toml`, `python` and `text` whose first line is `# NAME` are written to that file;
//! - `sh` is run by bash, with the programs of this build and of `.deps/bin` first in PATH and the source in `$SRC`; a line
//!   that ends in `# exit code N` must end so, all others with 0;
//! - `sh norun` is not run: what needs a cluster, a screen, a network or another LAMMPS. The page says so.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{dependency, lammps_otf, root, succeed, text};

/// README.md and all pages, with their text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut paths = vec![root().join("README.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // What mdbook makes.
                if path.file_name().is_some_and(|n| n != "book") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "md") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// The fenced blocks: what stands behind the fence, and the lines.
fn blocks(page: &str) -> Vec<(String, Vec<&str>)> {
    let mut all = Vec::new();
    let mut open: Option<(String, Vec<&str>)> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => all.extend(open.take()),
            (Some(info), None) => open = Some((info.trim().to_owned(), Vec::new())),
            (None, Some((_, lines))) => lines.push(line),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    all
}

/// The text without its fenced blocks and without `code`.
fn prose(page: &str) -> String {
    let mut inside = false;
    let mut text = String::new();
    for line in page.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if !inside {
            for (k, part) in line.split('`').enumerate() {
                text += if k % 2 == 0 { part } else { "code" };
            }
            text.push('\n');
        }
    }
    text
}

/// The anchors of the headings, as mdbook and the usual hosts make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in page.lines() {
        inside ^= line.starts_with("```");
        if inside || !line.starts_with('#') {
            continue;
        }
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let keep = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        found.insert(title.chars().filter(keep).collect::<String>().replace(' ', "-"));
    }
    found
}

#[test]
fn generated_documentation_is_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    succeed(lammps_otf().args(["generate", "docs"]).arg(folder.path()));
    for name in
        ["config.schema.json", "polls.schema.json", "reference/config.md", "reference/cli.md", "reference/polls.md"]
    {
        let (made, kept) = (folder.path().join(name), root().join("docs").join(name));
        let [made, kept] = [made, kept].map(|path| std::fs::read_to_string(path).unwrap_or_default());
        assert!(made == kept, "docs/{name} is out of date: run `cargo run -- generate docs docs`");
    }
    let schema = succeed(lammps_otf().args(["generate", "schema"]));
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    assert!(schema["properties"]["uncertainty_threshold"]["description"].is_string());
}

#[test]
fn completions_and_manual_pages_are_readable_by_shells_and_man() {
    let folder = tempfile::tempdir().unwrap();
    let bash = succeed(lammps_otf().args(["generate", "completions", "bash"]));
    let script = common::write(folder.path(), "complete.bash", &bash);
    // What bash would offer after `lammps-otf do`.
    let ask = "source \"$1\"; COMP_WORDS=(lammps-otf do); COMP_CWORD=1; _lammps-otf lammps-otf do lammps-otf 2>/dev/null || \
               $(complete -p lammps-otf | sed 's/.*-F \\([^ ]*\\).*/\\1/') lammps-otf do lammps-otf; echo \"${COMPREPLY[@]}\"";
    let offered = succeed(Command::new("bash").args(["-c", ask, "bash"]).arg(&script));
    assert_eq!(offered.trim(), "doctor");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(succeed(lammps_otf().args(["generate", "completions", shell])).contains("doctor"));
    }
    succeed(lammps_otf().args(["generate", "man"]).arg(folder.path().join("man1")));
    let page = std::fs::read_to_string(folder.path().join("man1/lammps-otf-run.1")).unwrap();
    assert!(page.contains(".TH lammps\\-otf\\-run 1") || page.contains(".TH lammps-otf-run 1"), "{page}");
    let main = std::fs::read_to_string(folder.path().join("man1/lammps-otf.1")).unwrap();
    assert!(main.contains("the threshold") && main.contains("lammps\\-otf\\-doctor(1)"), "{main}");
}

#[test]
fn links_have_existing_targets() {
    let mut broken = Vec::new();
    let mut seen = 0;
    for (path, text) in pages() {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        for part in prose(&text).split("](").skip(1) {
            let target = part.split(')').next().unwrap_or("").split(' ').next().unwrap_or("");
            seen += 1;
            if target.starts_with("https://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let there = file.exists()
                && (anchor.is_empty() || anchors(&std::fs::read_to_string(&file).unwrap()).contains(anchor));
            if !there {
                broken.push(format!("{name}: {target}"));
            }
        }
    }
    assert!(seen > 20, "only {seen} links found");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn table_of_contents_lists_every_page() {
    let summary = std::fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    for (path, _) in pages() {
        let Ok(name) = path.strip_prefix(root().join("docs")) else { continue };
        let listed = summary.contains(&format!("({})", name.display()));
        assert!(listed || name == Path::new("SUMMARY.md"), "docs/{} is not in docs/SUMMARY.md", name.display());
    }
}

#[test]
fn options_shown_in_the_documentation_exist() {
    let known = std::fs::read_to_string(root().join("docs/reference/cli.md")).unwrap();
    for (path, text) in pages() {
        for (info, lines) in blocks(&text) {
            if !info.starts_with("sh") {
                continue;
            }
            // Also in what is not run here.
            for command in lines.join("\n").replace("\\\n", " ").lines().filter_map(|l| l.split("lammps-otf ").nth(1)) {
                let command = command.split(" #").next().unwrap_or("").split(['|', ';', '>', '&']).next().unwrap_or("");
                for word in command.split_whitespace().filter(|w| w.starts_with("--")) {
                    let option = word.split('=').next().unwrap_or(word);
                    assert!(known.contains(option), "{}: no command has {option}", path.display());
                }
            }
        }
    }
}

/// Runs the blocks of one page.
fn run_page(path: &Path, page: &str) -> Result<usize, String> {
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    let work = folder.path().join("work");
    std::fs::create_dir_all(&work).unwrap();
    std::fs::create_dir_all(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lammps-otf"), bin.join("lammps-otf")).unwrap();
    let ase = format!("#!/bin/sh\nexec {:?} -m ase \"$@\"\n", dependency("bin/python3"));
    std::fs::write(bin.join("ase"), ase).unwrap();
    std::fs::set_permissions(bin.join("ase"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let others = dependency("bin");
    let search = format!("{}:{}:{}", bin.display(), others.display(), std::env::var("PATH").unwrap());
    let mut ran = 0;
    for (info, lines) in blocks(page) {
        let named = lines.first().and_then(|l| l.strip_prefix("# ")).filter(|n| n.contains('.') && !n.contains(' '));
        match (info.as_str(), named) {
            ("toml" | "python" | "text", Some(name)) => {
                std::fs::write(work.join(name), lines.join("\n") + "\n").unwrap();
            }
            ("sh", _) => {
                let mut script = "set -euo pipefail\n".to_owned();
                for line in &lines {
                    script += &match line.split_once("# exit code ") {
                        Some((command, code)) => {
                            let code = code.split(|c: char| !c.is_ascii_digit()).next().unwrap();
                            format!(
                                "code=0; {command} || code=$?; [ $code -eq {code} ] || {{ echo exit code $code; exit 99; }}\n"
                            )
                        }
                        None => format!("{line}\n"),
                    };
                }
                let mut command = Command::new("timeout");
                command
                    .args([&common::HANG.to_string(), "bash", "-c", &script])
                    .current_dir(&work)
                    .env("PATH", &search)
                    .env("SRC", root());
                let output = command.env("LAMMPS_PLUGIN_PATH", dependency("lib/lammps/plugins")).output().unwrap();
                if !output.status.success() {
                    return Err(format!("{}: {}\n{}", path.display(), lines.join("\n"), text(&output)));
                }
                ran += 1;
            }
            _ => {}
        }
    }
    Ok(ran)
}

#[test]
fn commands_shown_in_the_documentation_work() {
    let pages = pages();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let halves = pages.chunks(pages.len().div_ceil(2));
        let work = |part: &[(PathBuf, String)]| part.iter().map(|(p, t)| run_page(p, t)).collect::<Vec<_>>();
        let threads: Vec<_> = halves.map(|half| scope.spawn(move || work(half))).collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    let wrong: Vec<&String> = outcomes.iter().filter_map(|o| o.as_ref().err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.iter().map(|w| w.as_str()).collect::<Vec<_>>().join("\n\n"));
    assert!(outcomes.iter().map(|o| o.as_ref().map_or(0, |n| *n)).sum::<usize>() > 8);
}

/// All that the program can say, on one line, without the breaks that the source has in its texts.
fn sources() -> String {
    let listed = succeed(Command::new("git").current_dir(root()).args([
        "ls-files",
        "src",
        "crates/*.rs",
        "plugins",
        "build.rs",
    ]));
    let all: String = listed.lines().map(|name| std::fs::read_to_string(root().join(name)).unwrap()).collect();
    all.replace("\\\n", " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn messages_explained_in_the_documentation_exist() {
    let page = std::fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    // What ML-PACE itself says is kept by the snapshot of messages.
    let said = sources() + &std::fs::read_to_string(root().join("tests/snapshots/bad_input__messages.snap")).unwrap();
    let mut explained = 0;
    for row in page.lines().filter(|l| l.starts_with("| ") && l.contains('`')) {
        let cell = row.split(" | ").next().unwrap();
        for quoted in cell.split('`').skip(1).step_by(2) {
            explained += 1;
            for part in quoted.split('…').map(str::trim).filter(|part| part.len() > 3) {
                assert!(said.contains(part), "docs/troubleshooting.md explains {part:?}, which nothing says");
            }
        }
    }
    assert!(explained > 10, "only {explained} messages found");
}

#[test]
fn source_files_state_their_licence() {
    let listed = succeed(Command::new("git").current_dir(root()).args(["ls-files"]));
    let code = ["rs", "py", "cpp", "h", "sh", "j2", "js", "mjs"];
    let without: Vec<&str> = listed
        .lines()
        .filter(|name| {
            // Other people's, under licences of their own.
            if name.starts_with("vendor/") {
                return false;
            }
            let path = root().join(name);
            let start = std::fs::read_to_string(&path).unwrap_or_default();
            let is_code = path.extension().and_then(|e| e.to_str()).is_some_and(|e| code.contains(&e));
            (is_code || start.starts_with("#!"))
                && !start.lines().take(3).any(|l| l.contains("SPDX-License-Identifier: GPL-2.0-or-later"))
        })
        .collect();
    assert!(without.is_empty(), "no licence line in {without:?}");
}
