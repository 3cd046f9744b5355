// SPDX-License-Identifier: GPL-2.0-or-later
//! Analysis of LAMMPS commands as text: which commands end or replace the input, and which commands write files.
//!
//! LAMMPS does not provide this information. Commands are split into words as LAMMPS does, except that variables (`$x`, `${x}`,
//! `$(x)`) are not expanded.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::config::{Earlier, Outputs};
use crate::lammps::quote;

/// A command with its continued lines joined and its comment removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) text: String,
    words: Vec<Word>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    /// The word without its quotes.
    text: String,
    /// Range of the word in the command, including its quotes.
    range: Range<usize>,
}

/// Maximum depth of included files. LAMMPS has a limit as well.
const MAX_INCLUDE_DEPTH: usize = 16;

/// Splits a text into commands.
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
        commands.extend(Command::parse(trimmed));
        pending.clear();
    }
    commands.extend(Command::parse(without_comment(&pending).trim_end()));
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
    /// Splits a command into words. `None` for an empty line.
    fn parse(text: &str) -> Option<Self> {
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
            words.push(Word { text: inner.to_owned(), range: begin..end });
            at = end;
            if text[at..].trim().is_empty() {
                return Some(Self { text: text.to_owned(), words });
            }
        }
    }

    /// The first word.
    pub(super) fn name(&self) -> &str {
        self.word(0)
    }

    /// The word at an index; empty if there are fewer words.
    fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", |word| &word.text)
    }

    /// The index of the first occurrence of a word at or after the index `from`.
    fn find(&self, from: usize, word: &str) -> Option<usize> {
        (from..self.words.len()).find(|&at| self.word(at) == word)
    }

    /// The text of the command with a word replaced by `text`.
    fn with_word(&self, index: usize, text: &str) -> String {
        let range = &self.words[index].range;
        format!("{}{text}{}", &self.text[..range.start], &self.text[range.end..])
    }

    /// The indices of words that are commands themselves, in `if` and `run … every`.
    fn inner(&self) -> Range<usize> {
        let from = match self.name() {
            "if" => self.find(2, "then").map(|then| then + 1),
            "run" => self.find(2, "every").map(|every| every + 2),
            _ => None,
        };
        from.unwrap_or(self.words.len()).min(self.words.len())..self.words.len()
    }

    /// The command after `partition yes 1`.
    fn after_partition(&self) -> Option<Self> {
        let word = self.words.get(3).filter(|_| self.name() == "partition")?;
        Self::parse(&self.text[word.range.start..])
    }
}

/// A command that a set-up must not contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Forbidden {
    pub(super) command: String,
    /// The included file that contains the command, if any.
    pub(super) file: Option<PathBuf>,
    /// The effect of the command, and the remedy.
    pub(super) why: &'static str,
}

/// The first command of a text that ends or replaces the input. Also checks commands within `if`, and included files that can be
/// read.
pub(super) fn forbidden(text: &str) -> Option<Forbidden> {
    forbidden_in(text, None, 0)
}

fn forbidden_in(text: &str, file: Option<&Path>, depth: usize) -> Option<Forbidden> {
    commands(text).iter().find_map(|command| {
        if let Some(why) = why_forbidden(command) {
            return Some(Forbidden { command: command.text.clone(), file: file.map(Path::to_owned), why });
        }
        let inner = command.inner().find_map(|at| forbidden_in(command.word(at), file, depth));
        let after = || forbidden_in(&command.after_partition()?.text, file, depth);
        let included = || {
            let (path, text) = included(command).filter(|_| depth < MAX_INCLUDE_DEPTH)?;
            forbidden_in(&text, Some(&path), depth + 1)
        };
        inner.or_else(after).or_else(included)
    })
}

/// The path and text of the file that a command includes. LAMMPS reports files that cannot be read.
fn included(command: &Command) -> Option<(PathBuf, String)> {
    let path = PathBuf::from(command.word(1));
    let text = (command.name() == "include").then(|| std::fs::read(&path).ok()).flatten()?;
    Some((path, String::from_utf8_lossy(&text).into_owned()))
}

/// The effect and the remedy of a forbidden command; `None` if the command is allowed.
fn why_forbidden(command: &Command) -> Option<&'static str> {
    match (command.name(), command.word(1)) {
        ("quit", _) => Some("ends the program: remove it"),
        ("clear", _) => Some("deletes the whole set-up: remove it"),
        ("jump" | "label" | "next", _) => Some("changes the order of the commands: write them out in sequence"),
        ("log", _) => Some("replaces the log of the run, log.lammps in its folder: remove it"),
        ("shell", "cd") => {
            Some("changes the working directory, to which paths are relative: remove it, and adapt the paths")
        }
        (name, _) if name.contains('$') => {
            Some("contains its name in a variable, and cannot be checked: write out the name")
        }
        ("plugin", "unload" | "clear") => Some("removes styles that the run needs: remove it"),
        _ => None,
    }
}

/// A command whose file would be overwritten, or written by several simulations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unprotected {
    pub(super) command: String,
    /// The reason, and the remedy.
    pub(super) why: &'static str,
}

/// How a command writes a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileKind {
    /// Written once, when the command is executed.
    Once,
    /// Written repeatedly. Replacing the word at this index (`file`) by `append` continues the file.
    Growing(usize),
    /// A dump of all frames to one file, which `dump_modify` continues.
    Dump,
    /// Written repeatedly to one file that LAMMPS cannot continue.
    NotAppendable,
    /// A separate file for each step.
    Series,
    /// A dump with a separate file for each step, of a style whose files contain one frame only.
    SingleFrames,
    /// Appended to a file.
    Appended,
}

/// Styles of fixes that accept `append NAME` instead of `file NAME`.
const APPENDABLE_FIXES: [&str; 8] = [
    "ave/time",
    "ave/chunk",
    "ave/histo",
    "ave/histo/weight",
    "ave/correlate",
    "ave/correlate/long",
    "ave/grid",
    "print",
];

/// Styles of dumps that cannot be appended to.
const NOT_APPENDABLE_DUMPS: [&str; 8] =
    ["dcd", "xtc", "movie", "h5md", "atom/adios", "custom/adios", "molfile", "image"];

/// Styles of dumps whose files consist of consecutive frames only, and can be truncated after any frame.
const TEXT_DUMPS: [&str; 8] = ["atom", "custom", "xyz", "extxyz", "local", "grid", "yaml", "cfg"];

/// The files that a command writes: the index of the word with the name, and the kind of file.
fn written(command: &Command) -> Vec<(usize, FileKind)> {
    let after = |from: usize, word: &str, kind: FileKind| {
        command.find(from, word).map(|at| (at + 1, kind)).filter(|(at, _)| *at < command.words.len())
    };
    let at = |index: usize, kind: FileKind| (index < command.words.len()).then_some((index, kind));
    let found = match command.name() {
        "dump" => {
            let (style, name) = (command.word(3), command.word(5));
            let single_frame = style == "cfg" || style.starts_with("cfg/") || style == "vtk" || style == "image";
            let kind = match (name.contains('*'), NOT_APPENDABLE_DUMPS.contains(&style)) {
                (true, _) if single_frame => FileKind::SingleFrames,
                (true, _) => FileKind::Series,
                (false, true) => FileKind::NotAppendable,
                (false, false) => FileKind::Dump,
            };
            vec![at(5, kind)]
        }
        "fix" => match command.word(3) {
            style if APPENDABLE_FIXES.contains(&style) => {
                let file = command.find(4, "file").unwrap_or_default();
                vec![after(4, "file", FileKind::Growing(file)), after(4, "append", FileKind::Appended)]
            }
            "reaxff/bonds" | "reax/c/bonds" => vec![at(5, FileKind::NotAppendable)],
            "reaxff/species" | "reax/c/species" => vec![at(7, FileKind::NotAppendable)],
            "phonon" => vec![at(8, FileKind::NotAppendable)],
            "balance" => vec![after(4, "out", FileKind::NotAppendable)],
            style if style.starts_with("ttm") => {
                vec![after(4, "outfile", FileKind::NotAppendable).and_then(|(interval, kind)| at(interval + 1, kind))]
            }
            _ => Vec::new(),
        },
        "write_data" | "write_restart" | "write_coeff" => vec![at(1, FileKind::Once)],
        "write_dump" => vec![at(3, FileKind::Once)],
        "print" => vec![after(2, "file", FileKind::Once), after(2, "append", FileKind::Appended)],
        "info" => vec![after(1, "overwrite", FileKind::Once), after(1, "append", FileKind::Appended)],
        "restart" => {
            let second = !matches!(command.word(3), "fileper" | "nfile");
            vec![at(2, FileKind::Series), at(3, FileKind::Series).filter(|_| second)]
        }
        _ => Vec::new(),
    };
    found.into_iter().flatten().collect()
}

impl Outputs {
    /// Rewrites the commands of a text so that their files are continued or renamed as these outputs require.
    ///
    /// # Errors
    /// The command that cannot be rewritten.
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

    /// The commands to execute instead of a command.
    fn protected(&self, command: &Command, depth: usize) -> Result<Vec<String>, Unprotected> {
        let refuse = |why| Err(Unprotected { command: command.text.clone(), why });
        if command.name() == "include" {
            return match included(command) {
                Some((_, text)) if depth < MAX_INCLUDE_DEPTH && !self.is_protected(&text, depth + 1)? => refuse(
                    "the included file has commands that write files: move them to `setup`, or make them append \
                     (`dump_modify ID append yes`, `append NAME` of a fix)",
                ),
                None if command.word(1).contains('$') => {
                    refuse("the name of the included file contains a variable: write it out")
                }
                _ => Ok(vec![command.text.clone()]),
            };
        }
        let inner = command.inner();
        if !inner.is_empty() {
            return self.protected_words(command, inner, depth);
        }
        if let Some(after) = command.after_partition() {
            return if self.protected(&after, depth)? == [after.text] {
                Ok(vec![command.text.clone()])
            } else {
                refuse("a command after `partition` cannot be rewritten: write it without `partition`")
            };
        }
        if let ("dump_modify", Some(append), true) =
            (command.name(), command.find(2, "append"), self.earlier != Earlier::None)
            && command.word(append + 1) == "no"
        {
            return Ok(vec![command.with_word(append + 1, "yes")]);
        }
        let (mut new, mut after) = (command.clone(), None);
        for (name, kind) in written(command) {
            let mut tag = String::new();
            match (self.earlier, kind) {
                (Earlier::None, _)
                | (_, FileKind::Appended)
                | (Earlier::Resumed(_), FileKind::Series | FileKind::SingleFrames) => {}
                // The file exists already.
                (_, FileKind::Once) => return Ok(Vec::new()),
                (_, FileKind::Growing(file)) => new = replace_word(&new, file, "append"),
                (Earlier::Resumed(step), FileKind::NotAppendable) => tag = format!("-{step}"),
                (Earlier::Resumed(_), FileKind::Dump) | (Earlier::Repeated, FileKind::Dump | FileKind::Series)
                    if command.name() == "dump" =>
                {
                    after = Some(format!("dump_modify {} append yes", command.word(1)));
                }
                (Earlier::Repeated, FileKind::NotAppendable | FileKind::SingleFrames) => {
                    return refuse(
                        "each round would write the file again, because files of this style cannot be appended to. Use another \
                         style, such as `custom`",
                    );
                }
                (_, FileKind::Dump | FileKind::Series) => {}
            }
            let path = self.path(command.word(name), &tag);
            if path != command.word(name) {
                let quoted = if path.contains(char::is_whitespace) { quote(&path).ok() } else { Some(path) };
                let Some(quoted) = quoted else {
                    return refuse("its file cannot be renamed: use a name without quotes");
                };
                new = replace_word(&new, name, &quoted);
            }
        }
        Ok(std::iter::once(new.text).chain(after).collect())
    }

    /// The commands to execute instead of a command that contains commands.
    fn protected_words(
        &self,
        command: &Command,
        inner: Range<usize>,
        depth: usize,
    ) -> Result<Vec<String>, Unprotected> {
        let mut text = command.text[..command.words[inner.start].range.start].to_owned();
        for word in &command.words[inner] {
            let mut new = Vec::new();
            for inner in commands(&word.text) {
                new.extend(self.protected(&inner, depth)?);
            }
            let same = new == [word.text.trim()] || matches!(word.text.as_str(), "else" | "elif");
            let words: Option<Vec<String>> = match (same, new.is_empty()) {
                (true, _) => Some(vec![command.text[word.range.clone()].to_owned()]),
                // An empty word, so that the number of words does not change.
                (_, true) => Some(vec!["\"\"".to_owned()]),
                _ => new.iter().map(|text| in_quotes(text)).collect(),
            };
            let why = "a command within another command cannot be rewritten: write it as a separate command in `setup`";
            let words = words.ok_or_else(|| Unprotected { command: command.text.clone(), why })?;
            text += &(words.join(" ") + " ");
        }
        Ok(vec![text.trim_end().to_owned()])
    }

    /// Whether the commands of a text need no rewriting.
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

    /// The path at which a file is written. `tag` is inserted before the extension.
    fn path(&self, name: &str, tag: &str) -> String {
        // A slash within `$(…)` is a division, not a path separator.
        let slash = if name.contains("$(") { None } else { name.rfind('/') };
        let (folder, file) = name.split_at(slash.map_or(0, |at| at + 1));
        let (stem, ending) =
            if tag.is_empty() { (file, "") } else { file.split_at(file.rfind('.').unwrap_or(file.len())) };
        let file = format!("{}{stem}{tag}{ending}", self.prefix);
        match &self.folder {
            Some(folder) => format!("{}/{file}", folder.display()),
            None => format!("{folder}{file}"),
        }
    }
}

/// The command with a word replaced.
fn replace_word(command: &Command, index: usize, text: &str) -> Command {
    Command::parse(&command.with_word(index, text)).unwrap_or_else(|| command.clone())
}

/// Quotes a command as one word of another command.
fn in_quotes(text: &str) -> Option<String> {
    let quote = ["\"", "'", "\"\"\""].into_iter().find(|q| !text.contains(*q) && !text.ends_with('"'))?;
    Some(format!("{quote}{text}{quote}"))
}

/// Absolute paths of the files that the commands of a text append to during a run, if their names contain no variables.
pub(super) fn growing(text: &str) -> Vec<PathBuf> {
    let mut names = Vec::new();
    for command in commands(text) {
        for (at, kind) in written(&command) {
            let name = command.word(at);
            // Compressed files and files with an index cannot be truncated to an earlier length.
            let is_text = command.name() == "fix" || TEXT_DUMPS.contains(&command.word(3));
            let is_opaque =
                !is_text || name.contains(['$', '*', '%']) || name.ends_with(".gz") || name.ends_with(".zst");
            let grows = matches!(kind, FileKind::Growing(_) | FileKind::Dump)
                || (kind == FileKind::Appended && command.name() == "fix");
            if grows && !is_opaque {
                names.extend(std::path::absolute(name));
            }
        }
    }
    names
}

/// The first command that writes a file in a folder that does not exist, and that folder.
pub(super) fn without_folder(text: &str) -> Option<(String, PathBuf)> {
    let all = commands(text);
    // A shell command may create the folder.
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

/// Whether the effect of a command is contained in a restart file: it changes atoms, box or step and defines nothing else, or it
/// defines a group. Defining the group again would assign the atoms that are now in its region.
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
    fn commands_are_split_into_words_as_in_lammps() {
        let text = "  fix a all &  # no comment behind the sign\nprint # but here\n\nprint \"a # b\" file 'x y' # c\n\
                    print \"\"\"two\nlines \"quoted\" # here\"\"\" file z\nlast &";
        // LAMMPS removes a comment from the joined command, and requires `&` at the end of the line.
        let found = words(text);
        assert_eq!(found[found.len() - 3], ["print", "a # b", "file", "x y"]);
        assert_eq!(found[found.len() - 2], ["print", "two\nlines \"quoted\" # here", "file", "z"]);
        assert_eq!(found[found.len() - 1], ["last"]);
        assert_eq!(words("fix a all &\n  print 5"), [["fix", "a", "all", "print", "5"]]);
    }

    #[test]
    fn commands_that_end_or_replace_the_input_are_found_at_all_levels() {
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
    fn files_are_appended_to_or_renamed_or_rejected() {
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
        // Included files cannot be rewritten.
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
        // LAMMPS reports files that include themselves.
        std::fs::write(&file, &include).unwrap();
        assert!(resumed.protect(&include).is_ok() && forbidden(&include).is_none());
    }

    #[test]
    fn a_trial_writes_to_its_own_folder() {
        let trial = Outputs { folder: Some("/tmp/trial".into()), ..Outputs::default() };
        let text = trial.protect("dump d all custom 5 /data/t.dump id\nfix a all print 5 x file a/b.txt\n").unwrap();
        assert_eq!(text, "dump d all custom 5 /tmp/trial/t.dump id\nfix a all print 5 x file /tmp/trial/b.txt\n");
    }

    #[test]
    fn growing_text_files_without_variables_in_their_names_are_found() {
        let text = "dump a all custom 5 a.dump id\ndump b all custom 5 b.*.dump id\ndump c all netcdf 5 c.nc id\n\
                    dump d all xyz 5 ${d}.xyz\ndump e all atom 5 e.gz\nfix f all print 5 x append f.txt\nprint x append g.txt\n\
                    fix h all ave/time 1 1 5 c_t file h.txt\n";
        let names: Vec<String> =
            growing(text).iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["a.dump", "f.txt", "h.txt"]);
    }
}
