// SPDX-License-Identifier: GPL-2.0-or-later
//! What can be told of LAMMPS commands from their text: which end or replace the input, and which write files.
//!
//! LAMMPS says neither. The words of a command are those that LAMMPS sees, but for variables (`$x`, `${x}`, `$(x)`), which
//! stay as they are.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::config::{Earlier, Outputs};
use crate::lammps::quote;

/// One command, its continued lines joined and its comment removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) text: String,
    words: Vec<Word>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    /// Without its quotes.
    text: String,
    /// Where it stands in the command, with its quotes.
    place: Range<usize>,
}

/// Most files that include each other, as LAMMPS has a limit of its own.
const DEEPEST: usize = 16;

/// The commands of a text.
pub(super) fn commands(text: &str) -> Vec<Command> {
    let mut commands = Vec::new();
    let mut pending = String::new();
    for line in text.lines() {
        pending += line;
        let open = without_comment(&pending);
        let in_text = open.matches("\"\"\"").count() % 2 == 1;
        if in_text {
            pending.push('\n');
            continue;
        }
        let trimmed = open.trim_end();
        if let Some(continued) = trimmed.strip_suffix('&') {
            pending = continued.to_owned();
            continue;
        }
        commands.extend(Command::of(trimmed));
        pending.clear();
    }
    commands.extend(Command::of(without_comment(&pending).trim_end()));
    commands
}

/// The text up to the first `#` outside quotes.
fn without_comment(text: &str) -> &str {
    let mut rest = 0;
    let mut quote: Option<&str> = None;
    while rest < text.len() {
        let here = &text[rest..];
        if let Some(end) = quote {
            if here.starts_with(end) {
                rest += end.len();
                quote = None;
                continue;
            }
        } else if let Some(begin) = ["\"\"\"", "\"", "'"].into_iter().find(|q| here.starts_with(q)) {
            quote = Some(begin);
            rest += begin.len();
            continue;
        } else if here.starts_with('#') {
            return &text[..rest];
        }
        rest += here.chars().next().map_or(1, char::len_utf8);
    }
    text
}

impl Command {
    /// `None` for an empty line.
    fn of(text: &str) -> Option<Self> {
        let text = text.trim_start();
        let mut words = Vec::new();
        let mut at = 0;
        loop {
            let rest = &text[at..];
            let begin = at + rest.find(|c: char| !c.is_whitespace())?;
            let here = &text[begin..];
            let quote = ["\"\"\"", "\"", "'"].into_iter().find(|q| here.starts_with(q));
            let (inner, end) = match quote {
                Some(q) => {
                    let close = here[q.len()..].find(q).map_or(here.len(), |close| q.len() + close);
                    (&here[q.len()..close], begin + (close + q.len()).min(here.len()))
                }
                None => {
                    let end = here.find(char::is_whitespace).unwrap_or(here.len());
                    (&here[..end], begin + end)
                }
            };
            words.push(Word { text: inner.to_owned(), place: begin..end });
            at = end;
            if text[at..].trim().is_empty() {
                return Some(Self { text: text.to_owned(), words });
            }
        }
    }

    /// Its first word.
    pub(super) fn name(&self) -> &str {
        self.word(0)
    }

    /// A word, empty if there are fewer.
    fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", |word| &word.text)
    }

    /// The place of a word.
    fn find(&self, from: usize, word: &str) -> Option<usize> {
        (from..self.words.len()).find(|&at| self.word(at) == word)
    }

    /// The command with another text in place of a word.
    fn with(&self, index: usize, text: &str) -> String {
        let place = &self.words[index].place;
        format!("{}{text}{}", &self.text[..place.start], &self.text[place.end..])
    }

    /// The words that are commands themselves: of `if`, and of `run … every`.
    fn inner(&self) -> Range<usize> {
        let from = match self.name() {
            "if" => self.find(2, "then").map(|then| then + 1),
            "run" => self.find(2, "every").map(|every| every + 2),
            _ => None,
        };
        from.unwrap_or(self.words.len()).min(self.words.len())..self.words.len()
    }

    /// The command that `partition yes 1 …` stands before.
    fn behind_partition(&self) -> Option<Self> {
        let word = self.words.get(3).filter(|_| self.name() == "partition")?;
        Self::of(&self.text[word.place.start..])
    }
}

/// A command that a set-up must not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Forbidden {
    pub(super) command: String,
    /// The file that holds it, if it is included.
    pub(super) file: Option<PathBuf>,
    pub(super) why: &'static str,
}

/// The first command of a text that ends or replaces the input, also within `if` and in files that are included and can be read.
pub(super) fn forbidden(text: &str) -> Option<Forbidden> {
    forbidden_in(text, None, 0)
}

fn forbidden_in(text: &str, file: Option<&Path>, depth: usize) -> Option<Forbidden> {
    commands(text).iter().find_map(|command| {
        if let Some(why) = why_forbidden(command) {
            return Some(Forbidden { command: command.text.clone(), file: file.map(Path::to_owned), why });
        }
        let inner = command.inner().find_map(|at| forbidden_in(command.word(at), file, depth));
        let behind = || forbidden_in(&command.behind_partition()?.text, file, depth);
        let included = || {
            let (path, text) = included(command).filter(|_| depth < DEEPEST)?;
            forbidden_in(&text, Some(&path), depth + 1)
        };
        inner.or_else(behind).or_else(included)
    })
}

/// A file that a command includes. One that cannot be read, LAMMPS complains of.
fn included(command: &Command) -> Option<(PathBuf, String)> {
    let path = PathBuf::from(command.word(1));
    let text = (command.name() == "include").then(|| std::fs::read(&path).ok()).flatten()?;
    Some((path, String::from_utf8_lossy(&text).into_owned()))
}

fn why_forbidden(command: &Command) -> Option<&'static str> {
    match (command.name(), command.word(1)) {
        ("quit", _) => Some("ends the program: leave it out"),
        ("clear", _) => Some("deletes the whole set-up: leave it out"),
        ("jump" | "label" | "next", _) => Some("leaves the order of the commands: write them out one after the other"),
        ("log", _) => Some("replaces the log of the run, log.lammps in its folder: leave it out"),
        ("shell", "cd") => {
            Some("changes the folder in which relative paths begin: give paths from the present one instead")
        }
        (name, _) if name.contains('$') => Some("is known only when LAMMPS executes it: write its name out"),
        ("plugin", "unload" | "clear") => Some("removes styles that the run needs: leave it out"),
        _ => None,
    }
}

/// A command whose file would be lost or written by several at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unprotected {
    pub(super) command: String,
    pub(super) why: &'static str,
}

/// How a command writes its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writes {
    /// At once, when it is executed.
    AtOnce,
    /// From time to time, to a file that grows, which `append` in place of the word at this index (`file`) continues.
    Growing(usize),
    /// A dump to a file that grows, which `dump_modify` continues.
    Dump,
    /// From time to time, to a file that grows and that LAMMPS cannot continue.
    Fresh,
    /// To a file of its own for each step.
    Series,
    /// A dump with a file of its own for each step, of a kind that holds one frame only.
    Pictures,
    /// To the end of a file.
    Appended,
}

/// Fixes with `file NAME`, in place of which they take `append NAME`.
const APPENDING: [&str; 8] = [
    "ave/time",
    "ave/chunk",
    "ave/histo",
    "ave/histo/weight",
    "ave/correlate",
    "ave/correlate/long",
    "ave/grid",
    "print",
];

/// Kinds of dumps that cannot be appended to.
const CLOSED: [&str; 8] = ["dcd", "xtc", "movie", "h5md", "atom/adios", "custom/adios", "molfile", "image"];

/// Kinds of dumps that are one frame after the other and nothing else.
const PLAIN: [&str; 8] = ["atom", "custom", "xyz", "extxyz", "local", "grid", "yaml", "cfg"];

/// The files that a command writes: the index of the name among its words, and how.
fn written(command: &Command) -> Vec<(usize, Writes)> {
    let behind = |from: usize, word: &str, writes: Writes| {
        command.find(from, word).map(|at| (at + 1, writes)).filter(|(at, _)| *at < command.words.len())
    };
    let at = |index: usize, writes: Writes| (index < command.words.len()).then_some((index, writes));
    let found = match command.name() {
        "dump" => {
            let (style, name) = (command.word(3), command.word(5));
            let single_frame = style == "cfg" || style.starts_with("cfg/") || style == "vtk" || style == "image";
            let writes = match (name.contains('*'), CLOSED.contains(&style)) {
                (true, _) if single_frame => Writes::Pictures,
                (true, _) => Writes::Series,
                (false, true) => Writes::Fresh,
                (false, false) => Writes::Dump,
            };
            vec![at(5, writes)]
        }
        "fix" => match command.word(3) {
            style if APPENDING.contains(&style) => {
                let file = command.find(4, "file").unwrap_or_default();
                vec![behind(4, "file", Writes::Growing(file)), behind(4, "append", Writes::Appended)]
            }
            "reaxff/bonds" | "reax/c/bonds" => vec![at(5, Writes::Fresh)],
            "reaxff/species" | "reax/c/species" => vec![at(7, Writes::Fresh)],
            "phonon" => vec![at(8, Writes::Fresh)],
            "balance" => vec![behind(4, "out", Writes::Fresh)],
            style if style.starts_with("ttm") => {
                vec![behind(4, "outfile", Writes::Fresh).and_then(|(interval, writes)| at(interval + 1, writes))]
            }
            _ => Vec::new(),
        },
        "write_data" | "write_restart" | "write_coeff" => vec![at(1, Writes::AtOnce)],
        "write_dump" => vec![at(3, Writes::AtOnce)],
        "print" => vec![behind(2, "file", Writes::AtOnce), behind(2, "append", Writes::Appended)],
        "info" => vec![behind(1, "overwrite", Writes::AtOnce), behind(1, "append", Writes::Appended)],
        "restart" => {
            let second = !matches!(command.word(3), "fileper" | "nfile");
            vec![at(2, Writes::Series), at(3, Writes::Series).filter(|_| second)]
        }
        _ => Vec::new(),
    };
    found.into_iter().flatten().collect()
}

impl Outputs {
    /// The commands of a text with the files where they belong.
    pub(super) fn protect(&self, text: &str) -> Result<String, Unprotected> {
        if *self == Self::default() {
            return Ok(text.to_owned());
        }
        let mut lines = Vec::new();
        for command in commands(text) {
            lines.extend(self.protected(&command, 0)?);
        }
        Ok(lines.join("\n") + "\n")
    }

    /// What to execute in place of a command.
    fn protected(&self, command: &Command, depth: usize) -> Result<Vec<String>, Unprotected> {
        let refuse = |why| Err(Unprotected { command: command.text.clone(), why });
        if command.name() == "include" {
            return match included(command) {
                Some((_, text)) if depth < DEEPEST && !self.is_protected(&text, depth + 1)? => refuse(
                    "the file that it includes writes files: put those commands into `setup`, or change them by hand so that \
                     they append (`dump_modify ID append yes`, `append NAME` of a fix)",
                ),
                None if command.word(1).contains('$') => refuse("which file it includes is known to LAMMPS alone"),
                _ => Ok(vec![command.text.clone()]),
            };
        }
        let inner = command.inner();
        if !inner.is_empty() {
            return self.protected_words(command, inner, depth);
        }
        if let Some(behind) = command.behind_partition() {
            return if self.protected(&behind, depth)? == [behind.text] {
                Ok(vec![command.text.clone()])
            } else {
                refuse("a command behind `partition` cannot be changed: put it into `setup` without")
            };
        }
        if let ("dump_modify", Some(append), true) =
            (command.name(), command.find(2, "append"), self.earlier != Earlier::None)
            && command.word(append + 1) == "no"
        {
            return Ok(vec![command.with(append + 1, "yes")]);
        }
        let (mut new, mut after) = (command.clone(), None);
        for (name, writes) in written(command) {
            let mut tag = String::new();
            match (self.earlier, writes) {
                (Earlier::None, _)
                | (_, Writes::Appended)
                | (Earlier::Resumed(_), Writes::Series | Writes::Pictures) => {}
                // What it wrote is there.
                (_, Writes::AtOnce) => return Ok(Vec::new()),
                (_, Writes::Growing(file)) => new = reworded(&new, file, "append"),
                (Earlier::Resumed(step), Writes::Fresh) => tag = format!("-{step}"),
                (Earlier::Resumed(_), Writes::Dump) | (Earlier::Repeated, Writes::Dump | Writes::Series)
                    if command.name() == "dump" =>
                {
                    after = Some(format!("dump_modify {} append yes", command.word(1)));
                }
                (Earlier::Repeated, Writes::Fresh | Writes::Pictures) => {
                    return refuse(
                        "each round would write the file anew, because it cannot be appended to: choose another style, such as \
                         `custom`",
                    );
                }
                (_, Writes::Dump | Writes::Series) => {}
            }
            let place = self.place(command.word(name), &tag);
            if place != command.word(name) {
                let quoted = if place.contains(char::is_whitespace) { quote(&place).ok() } else { Some(place) };
                let Some(quoted) = quoted else { return refuse("its file cannot be given another name") };
                new = reworded(&new, name, &quoted);
            }
        }
        Ok(std::iter::once(new.text).chain(after).collect())
    }

    /// A command that holds commands.
    fn protected_words(
        &self,
        command: &Command,
        inner: Range<usize>,
        depth: usize,
    ) -> Result<Vec<String>, Unprotected> {
        let mut text = command.text[..command.words[inner.start].place.start].to_owned();
        for word in &command.words[inner] {
            let mut new = Vec::new();
            for inner in commands(&word.text) {
                new.extend(self.protected(&inner, depth)?);
            }
            let same = new == [word.text.trim()] || matches!(word.text.as_str(), "else" | "elif");
            let words: Option<Vec<String>> = match (same, new.is_empty()) {
                (true, _) => Some(vec![command.text[word.place.clone()].to_owned()]),
                // The order of words must stay.
                (_, true) => Some(vec!["\"\"".to_owned()]),
                _ => new.iter().map(|text| in_quotes(text)).collect(),
            };
            let why = "a command within another cannot be changed: put it into `setup` by itself";
            let words = words.ok_or_else(|| Unprotected { command: command.text.clone(), why })?;
            text += &(words.join(" ") + " ");
        }
        Ok(vec![text.trim_end().to_owned()])
    }

    /// Whether the commands of a text may stay as they are.
    fn is_protected(&self, text: &str, depth: usize) -> Result<bool, Unprotected> {
        let all = commands(text);
        let appends = |modify: &Command, dump: &Command| {
            let append = modify.find(2, "append").filter(|_| modify.name() == "dump_modify");
            modify.word(1) == dump.word(1) && append.is_some_and(|at| modify.word(at + 1) == "yes")
        };
        for command in &all {
            let new = self.protected(command, depth)?;
            let by_hand = new.first() == Some(&command.text) && all.iter().any(|other| appends(other, command));
            if new != [command.text.as_str()] && !by_hand {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where a file goes.
    fn place(&self, name: &str, tag: &str) -> String {
        // A slash within `$(…)` is a division.
        let slash = if name.contains("$(") { None } else { name.rfind('/') };
        let (folder, file) = name.split_at(slash.map_or(0, |at| at + 1));
        let (stem, ending) =
            if tag.is_empty() { (file, "") } else { file.split_at(file.rfind('.').unwrap_or(file.len())) };
        let file = format!("{}{stem}{tag}{ending}", self.prefix);
        match &self.folder {
            Some(place) => format!("{}/{file}", place.display()),
            None => format!("{folder}{file}"),
        }
    }
}

/// The command with another word.
fn reworded(command: &Command, index: usize, text: &str) -> Command {
    Command::of(&command.with(index, text)).unwrap_or_else(|| command.clone())
}

/// A command as one word of another.
fn in_quotes(text: &str) -> Option<String> {
    let quote = ["\"", "'", "\"\"\""].into_iter().find(|q| !text.contains(*q) && !text.ends_with('"'))?;
    Some(format!("{quote}{text}{quote}"))
}

/// The files that grow while the commands of a text are at work, those whose names are in the text as they stand; absolute.
pub(super) fn growing(text: &str) -> Vec<PathBuf> {
    let mut names = Vec::new();
    for command in commands(text) {
        for (at, writes) in written(&command) {
            let name = command.word(at);
            // What is compressed, or has a table of what is in it, cannot be cut off where it ended once.
            let plain = command.name() == "fix" || PLAIN.contains(&command.word(3));
            let opaque = !plain || name.contains(['$', '*', '%']) || name.ends_with(".gz") || name.ends_with(".zst");
            let grows = matches!(writes, Writes::Growing(_) | Writes::Dump)
                || (writes == Writes::Appended && command.name() == "fix");
            if grows && !opaque {
                names.extend(std::path::absolute(name));
            }
        }
    }
    names
}

/// A command that writes a file, and the folder that is missing for it.
pub(super) fn without_folder(text: &str) -> Option<(String, PathBuf)> {
    let all = commands(text);
    // It may make the folder first.
    if all.iter().any(|command| command.name() == "shell") {
        return None;
    }
    all.iter().find_map(|command| {
        written(command).into_iter().find_map(|(at, _)| {
            let folder = Path::new(command.word(at)).parent().filter(|folder| !folder.as_os_str().is_empty())?;
            let known = !command.word(at).contains('$');
            (known && !folder.is_dir()).then(|| (command.text.clone(), folder.to_owned()))
        })
    })
}

/// Whether a command changes atoms, box or step, and defines nothing for later; or makes a group, which a restart file holds:
/// made again, it would get the atoms that are in its region now.
pub(super) fn acts_once(command: &Command) -> bool {
    const ONCE: [&str; 14] = [
        "velocity",
        "displace_atoms",
        "create_atoms",
        "delete_atoms",
        "set",
        "change_box",
        "replicate",
        "reset_atoms",
        "reset_timestep",
        "minimize",
        "run",
        "rerun",
        "read_data",
        "read_dump",
    ];
    ONCE.contains(&command.name()) || (command.name() == "group" && command.word(2) != "dynamic")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Vec<String>> {
        commands(text).iter().map(|c| c.words.iter().map(|w| w.text.clone()).collect()).collect()
    }

    #[test]
    fn words_are_those_that_lammps_sees() {
        let text = "  fix a all &  # no comment behind the sign\nprint # but here\n\nprint \"a # b\" file 'x y' # c\n\
                    print \"\"\"two\nlines \"quoted\" # here\"\"\" file z\nlast &";
        // LAMMPS takes a comment off the whole command, and looks for `&` at the very end of a line.
        let found = words(text);
        assert_eq!(found[found.len() - 3], ["print", "a # b", "file", "x y"]);
        assert_eq!(found[found.len() - 2], ["print", "two\nlines \"quoted\" # here", "file", "z"]);
        assert_eq!(found[found.len() - 1], ["last"]);
        assert_eq!(words("fix a all &\n  print 5"), [["fix", "a", "all", "print", "5"]]);
    }

    #[test]
    fn what_ends_or_replaces_the_input_is_found_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (file, outer) = (folder.path().join("inner.in"), folder.path().join("outer.in"));
        std::fs::write(&file, "variable a equal 1\nif \"${a} > 0\" then \"print x\" else 'quit 1'\n").unwrap();
        std::fs::write(&outer, format!("include {}\n", file.display())).unwrap();
        for (text, command) in [
            ("units metal\n  quit", "quit"),
            ("clear # all", "clear"),
            ("jump SELF loop", "jump SELF loop"),
            ("label loop", "label loop"),
            ("next a", "next a"),
            ("log &\n other.log", "log  other.log"),
            ("shell cd /tmp", "shell cd /tmp"),
            ("if \"1 == 1\" then quit", "quit"),
            ("if \"1 == 1\" then \"print y\" elif \"2 == 2\" \"jump SELF a\" else \"print x\"", "jump SELF a"),
            ("run 100 every 10 \"print x\" \"clear\"", "clear"),
            ("partition yes 1 quit 3", "quit 3"),
            ("plugin unload pair pace", "plugin unload pair pace"),
            ("${end}", "${end}"),
            (&format!("include {}", outer.display()), "quit 1"),
        ] {
            let found = forbidden(text).unwrap_or_else(|| panic!("{text:?} passes"));
            assert_eq!(found.command, command, "{text:?}");
            assert_eq!(found.file.is_some(), text.starts_with("include"));
        }
        for text in [
            "print quit",
            "variable quit equal 1",
            "# quit",
            "shell mkdir cd",
            "fix log all print 10 clear",
            "include no",
        ] {
            assert_eq!(forbidden(text), None, "{text:?}");
        }
    }

    #[test]
    fn files_are_appended_to_given_another_name_or_refused() {
        let resumed = Outputs { earlier: Earlier::Resumed(200), ..Outputs::default() };
        let repeated = Outputs { earlier: Earlier::Repeated, ..Outputs::default() };
        let replica = Outputs { prefix: "replica-01-".into(), ..Outputs::default() };
        for (text, resume, round, side_by_side) in [
            (
                "dump d all custom 20 a/t.dump id x",
                Some("dump d all custom 20 a/t.dump id x\ndump_modify d append yes"),
                Some("dump d all custom 20 a/t.dump id x\ndump_modify d append yes"),
                "dump d all custom 20 a/replica-01-t.dump id x",
            ),
            (
                "dump d all custom 20 t.*.dump id x",
                Some("dump d all custom 20 t.*.dump id x"),
                Some("dump d all custom 20 t.*.dump id x\ndump_modify d append yes"),
                "dump d all custom 20 replica-01-t.*.dump id x",
            ),
            (
                "dump d all dcd 20 t.dcd",
                Some("dump d all dcd 20 t-200.dcd"),
                None,
                "dump d all dcd 20 replica-01-t.dcd",
            ),
            (
                "dump d all image 20 t.*.png type type",
                Some("dump d all image 20 t.*.png type type"),
                None,
                "dump d all image 20 replica-01-t.*.png type type",
            ),
            (
                "dump_modify d append no sort id",
                Some("dump_modify d append yes sort id"),
                Some("dump_modify d append yes sort id"),
                "dump_modify d append no sort id",
            ),
            (
                "fix a all ave/time 1 1 10 c_t file a.txt mode scalar",
                Some("fix a all ave/time 1 1 10 c_t append a.txt mode scalar"),
                Some("fix a all ave/time 1 1 10 c_t append a.txt mode scalar"),
                "fix a all ave/time 1 1 10 c_t file replica-01-a.txt mode scalar",
            ),
            (
                "fix p all print 10 \"file ${T}\" file \"my log\" screen no",
                Some("fix p all print 10 \"file ${T}\" append \"my log\" screen no"),
                Some("fix p all print 10 \"file ${T}\" append \"my log\" screen no"),
                "fix p all print 10 \"file ${T}\" file \"replica-01-my log\" screen no",
            ),
            ("write_data start.data", Some(""), Some(""), "write_data replica-01-start.data"),
            ("print hello file h.txt", Some(""), Some(""), "print hello file replica-01-h.txt"),
            (
                "restart 100 r.* nfile 4",
                Some("restart 100 r.* nfile 4"),
                Some("restart 100 r.* nfile 4"),
                "restart 100 replica-01-r.* nfile 4",
            ),
            (
                "restart 100 a b",
                Some("restart 100 a b"),
                Some("restart 100 a b"),
                "restart 100 replica-01-a replica-01-b",
            ),
            (
                "compute u all ke/atom",
                Some("compute u all ke/atom"),
                Some("compute u all ke/atom"),
                "compute u all ke/atom",
            ),
            (
                "if \"${T} > 5\" then \"dump d all xyz 20 t.xyz\" else 'print \"no\"' 'write_data x'",
                Some(
                    "if \"${T} > 5\" then \"dump d all xyz 20 t.xyz\" \"dump_modify d append yes\" else 'print \"no\"' \"\"",
                ),
                Some(
                    "if \"${T} > 5\" then \"dump d all xyz 20 t.xyz\" \"dump_modify d append yes\" else 'print \"no\"' \"\"",
                ),
                "if \"${T} > 5\" then \"dump d all xyz 20 replica-01-t.xyz\" else 'print \"no\"' \"write_data replica-01-x\"",
            ),
        ] {
            let made = |outputs: &Outputs| outputs.protect(text).ok().map(|text| text.trim_end().to_owned());
            assert_eq!(made(&resumed).as_deref(), resume, "{text}");
            assert_eq!(made(&repeated).as_deref(), round, "{text}");
            assert_eq!(made(&replica).as_deref(), Some(side_by_side), "{text}");
            assert_eq!(Outputs::default().protect(text).unwrap(), text);
        }
        // What stands in another file cannot be changed.
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("more.in");
        std::fs::write(&file, "fix p all print 10 x file p.txt # comment\n").unwrap();
        let include = format!("include {}", file.display());
        assert!(resumed.protect(&include).is_err() && replica.protect(&include).is_err());
        std::fs::write(&file, "fix p all print 10 x append p.txt # comment\ndump d all xyz 5 d.xyz\n").unwrap();
        assert!(resumed.protect(&include).is_err());
        std::fs::write(&file, "fix p all print 10 x append p.txt\ndump d all xyz 5 d.xyz\ndump_modify d append yes\n")
            .unwrap();
        assert!(resumed.protect(&include).is_ok() && repeated.protect(&include).is_ok());
        assert!(resumed.protect("include ${file}").is_err());
        // One that includes itself is for LAMMPS to refuse.
        std::fs::write(&file, &include).unwrap();
        assert!(resumed.protect(&include).is_ok() && forbidden(&include).is_none());
    }

    #[test]
    fn a_trial_writes_into_its_own_folder() {
        let trial = Outputs { folder: Some("/tmp/trial".into()), ..Outputs::default() };
        let text = trial.protect("dump d all custom 5 /data/t.dump id\nfix a all print 5 x file a/b.txt\n").unwrap();
        assert_eq!(text, "dump d all custom 5 /tmp/trial/t.dump id\nfix a all print 5 x file /tmp/trial/b.txt\n");
    }

    #[test]
    fn files_that_grow_by_whole_lines_are_known_by_their_names() {
        let text = "dump a all custom 5 a.dump id\ndump b all custom 5 b.*.dump id\ndump c all netcdf 5 c.nc id\n\
                    dump d all xyz 5 ${d}.xyz\ndump e all atom 5 e.gz\nfix f all print 5 x append f.txt\nprint x append g.txt\n\
                    fix h all ave/time 1 1 5 c_t file h.txt\n";
        let names: Vec<String> =
            growing(text).iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["a.dump", "f.txt", "h.txt"]);
    }
}
