// SPDX-License-Identifier: GPL-2.0-or-later
//! γ from the log of a run that plain `lmp` did: did it pass the threshold, and when first?
//!
//! All thermo styles are read (one, custom, multi, yaml), any number of runs in one file, the same file appended to by
//! several processes, and what `lmp` prints to the screen, also where `mpiexec` or `srun` has put the rank before each line
//! (`[0]`, `[1,0]<stdout>:`, `0:`). It may be compressed with gzip. The log is read once, line by line, with a buffer of fixed
//! size; a value is taken only from a line that is complete, so what a truncated log tells is a beginning of what the
//! whole log tells.
//!
//! A line that `fix print` or `print` writes in the middle of a table looks like one of the table only if it consists
//! of as many numbers as the table has columns, with a whole number for the step: that cannot be told apart.

use std::fs::File;
use std::io::Read;
use std::iter::FusedIterator;
use std::path::Path;

use serde::Serialize;

use crate::io::plain::PlainText;

/// The thermo column that is read if no other is named: `variable max_gamma equal ...`, printed as `v_max_gamma`.
pub const GAMMA_COLUMN: &str = "v_max_gamma";
/// The thermo column of the step, as LAMMPS calls it.
pub const STEP_COLUMN: &str = "Step";

/// What the buffer begins with.
const BUFFER: usize = 256 << 10;
/// A longer line is skipped: no table has it, and it must not fill the memory.
const LONGEST_LINE: usize = 1 << 20;
/// As many columns are named in an error.
const MOST_NAMES: usize = 100;
/// As many characters of each.
const LONGEST_NAME: usize = 60;

/// A log that tells nothing about γ.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be opened.
    #[error("cannot read {name}: {source}")]
    Open {
        /// The file.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file was opened, but reading it failed.
    #[error("reading {name} failed after line {line}: {source}")]
    Read {
        /// The file.
        name: String,
        /// The last line that was read; 0 if none was.
        line: u64,
        /// Why.
        source: std::io::Error,
    },
    /// There is no thermo output at all.
    #[error(
        "{name} holds no thermo output in {lines} line(s): it is not a log of LAMMPS, or was cut before the first \
         step{hint}"
    )]
    NoThermo {
        /// The file.
        name: String,
        /// How long it is.
        lines: u64,
        /// What else may be the reason; empty, or beginning with a separator.
        hint: String,
    },
    /// No table has the column.
    #[error(
        "{name} has no column {column:?}{hint}; its columns are {}. Name one with --column, or let LAMMPS print it \
         with thermo_style custom",
        found.join(", ")
    )]
    NoColumn {
        /// The file.
        name: String,
        /// The column that was asked for.
        column: String,
        /// The columns of all tables, the first 100.
        found: Vec<String>,
        /// What may be meant; empty, or beginning with a separator.
        hint: String,
    },
    /// A table has the column, but not the step.
    #[error(
        "{name}, line {line}: the table has the column {column:?} but no column {step_column:?}, so no value belongs \
         to a step; its columns are {}. Add `step` to thermo_style custom; if thermo_modify colname renamed it, give \
         its name with --step-column",
        found.join(", ")
    )]
    NoStep {
        /// The file.
        name: String,
        /// The line of the table's header.
        line: u64,
        /// The column of γ.
        column: String,
        /// The column that should hold the step.
        step_column: String,
        /// The columns of the table, the first 100.
        found: Vec<String>,
    },
    /// The column is there, but no complete line of its table.
    #[error(
        "{name}, line {line}: the table with the column {column:?} begins here, but no complete step follows (lines \
         that do not fit the table: {skipped}): the log was cut too early, or thermo_modify format prints something \
         that is not a number"
    )]
    NoRows {
        /// The file.
        name: String,
        /// The line of the last such table's header.
        line: u64,
        /// The column.
        column: String,
        /// Lines within tables that begin with a number but are not lines of the table.
        skipped: u64,
    },
}

/// γ at one step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sample {
    /// The table it is from, counted from 1: a new one begins with each run.
    pub run: u64,
    /// The line of the log, from 1.
    pub line: u64,
    /// The step as printed. It may repeat, and may begin anew with a run.
    pub step: i64,
    /// The value as printed; NaN and infinity are possible.
    pub gamma: f64,
}

/// What a log tells about γ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UqResult {
    /// The first step above the threshold, as printed; `None` if there is none.
    pub trigger_step: Option<i64>,
    /// The line of the log that says so.
    pub trigger_line: Option<u64>,
    /// The largest γ; infinite if any was not a finite number (`null` in JSON).
    pub gamma_max: f64,
    /// The first step at which it was reached.
    pub gamma_max_step: i64,
    /// Lines of the tables that were read. A step that ends one run and begins the next counts twice.
    pub steps_read: u64,
    /// Tables that hold at least one step.
    pub runs: u64,
    /// Those of them that do not have the column: nothing is known of γ there.
    pub runs_without_column: u64,
    /// Lines in the tables with the column that begin like one of the table but do not fit it.
    pub skipped_lines: u64,
    /// Whether the log ends before LAMMPS closed it (with the total wall time, or a `log` command): it was cut, the run
    /// goes on, or it ended with an error.
    pub truncated: bool,
}

/// Looks for the first step of a log at which γ is above a threshold.
///
/// ```
/// let log = "Per MPI rank memory allocation (min/avg/max) = 3.2 | 3.2 | 3.2 Mbytes\n\
///     Step v_max_gamma\n 0 1.5\n 10 nan\nLoop time of 1 on 1 procs for 10 steps with 4 atoms\n";
/// let result = otf_atoms::thermo_log::UncertaintyChecker::new(5.0).analyze_reader("log", log.as_bytes(), |_| ())?;
/// assert_eq!(result.trigger_step, Some(10));
/// # Ok::<(), otf_atoms::thermo_log::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct UncertaintyChecker {
    threshold: f64,
    column: String,
    step_column: String,
}

impl UncertaintyChecker {
    /// Above `threshold`, γ is too large; the threshold itself is not. NaN and infinite γ always are.
    #[must_use]
    pub fn new(threshold: f64) -> Self {
        Self { threshold, column: GAMMA_COLUMN.into(), step_column: STEP_COLUMN.into() }
    }

    /// Reads γ from another column than [`GAMMA_COLUMN`], named as in the header of the table.
    #[must_use]
    pub fn column(mut self, name: impl Into<String>) -> Self {
        self.column = name.into();
        self
    }

    /// Reads the step from another column than [`STEP_COLUMN`], for a log that renames it.
    #[must_use]
    pub fn step_column(mut self, name: impl Into<String>) -> Self {
        self.step_column = name.into();
        self
    }

    /// Reads a log.
    ///
    /// # Errors
    /// [`Error`]: the file cannot be read, or holds not one step with the column, or has the column in a table without
    /// steps.
    pub fn analyze_log(&self, path: impl AsRef<Path>) -> Result<UqResult, Error> {
        let name = path.as_ref().display().to_string();
        let file = File::open(&path).map_err(|source| Error::Open { name: name.clone(), source })?;
        self.analyze_reader(name, file, |_| ())
    }

    /// Reads a log from anywhere, and passes on each step; `name` stands for it in errors. The reader needs no buffer.
    ///
    /// # Errors
    /// As [`UncertaintyChecker::analyze_log`].
    pub fn analyze_reader(
        &self,
        name: impl Into<String>,
        reader: impl Read,
        mut each: impl FnMut(&Sample),
    ) -> Result<UqResult, Error> {
        let mut log = self.samples(name, reader);
        let mut result = UqResult {
            trigger_step: None,
            trigger_line: None,
            gamma_max: f64::NEG_INFINITY,
            gamma_max_step: 0,
            steps_read: 0,
            runs: 0,
            runs_without_column: 0,
            skipped_lines: 0,
            truncated: false,
        };
        for sample in &mut log {
            let sample = sample?;
            let gamma = if sample.gamma.is_finite() { sample.gamma } else { f64::INFINITY };
            if gamma > result.gamma_max {
                (result.gamma_max, result.gamma_max_step) = (gamma, sample.step);
            }
            // Nothing is known to be below a threshold that is NaN.
            let above = !sample.gamma.is_finite() || self.threshold.is_nan() || gamma > self.threshold;
            if above && result.trigger_line.is_none() {
                (result.trigger_step, result.trigger_line) = (Some(sample.step), Some(sample.line));
            }
            result.steps_read += 1;
            each(&sample);
        }
        result.runs = log.parser.runs;
        result.runs_without_column = log.parser.runs_without_column;
        result.skipped_lines = log.parser.skipped;
        result.truncated = log.is_truncated();
        Ok(result)
    }

    /// The steps of a log one by one; `name` stands for it in errors.
    #[must_use]
    pub fn samples<R: Read>(&self, name: impl Into<String>, reader: R) -> Samples<R> {
        Samples {
            lines: Lines::new(PlainText::new(reader)),
            parser: Parser::new(name.into(), &self.column, &self.step_column),
            any: false,
            finished: false,
        }
    }
}

/// γ at each step of a log, in the order of the log.
///
/// A log without one step is an error, which comes in place of the first item. A table with the column but without the
/// step is an error where it begins: whether the threshold is passed there cannot be told. After an error there is
/// nothing more.
#[derive(Debug)]
pub struct Samples<R> {
    lines: Lines<PlainText<R>>,
    parser: Parser,
    any: bool,
    finished: bool,
}

impl<R> Samples<R> {
    /// Whether the log as far as it was read ends before LAMMPS closed it.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        !(self.parser.closed || self.parser.closed_by_last_line)
    }
}

impl<R: Read> Iterator for Samples<R> {
    type Item = Result<Sample, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        loop {
            let outcome = match self.lines.next() {
                Ok(Some(line)) => self.parser.line(&line),
                Ok(None) => {
                    self.finished = true;
                    self.parser.end_run();
                    return if self.any { None } else { Some(Err(self.parser.nothing(self.lines.number))) };
                }
                Err(source) => Err(Error::Read { name: self.parser.name.clone(), line: self.lines.number, source }),
            };
            match outcome {
                Ok(None) => {}
                Ok(Some(sample)) => {
                    self.any = true;
                    return Some(Ok(sample));
                }
                Err(error) => {
                    self.finished = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl<R: Read> FusedIterator for Samples<R> {}

/// A line without its end and without the blanks around it.
struct Line<'b> {
    text: &'b [u8],
    /// From 1.
    number: u64,
    /// Whether it ends with a newline: if not, its last number may be cut.
    complete: bool,
}

/// Lines from a buffer that does not grow with the file.
#[derive(Debug)]
struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    number: u64,
}

impl<R: Read> Lines<R> {
    fn new(reader: R) -> Self {
        Self { reader, buffer: Vec::new(), start: 0, end: 0, number: 0 }
    }

    fn next(&mut self) -> std::io::Result<Option<Line<'_>>> {
        // Up to here there is no newline.
        let mut searched = self.start;
        let mut too_long = false;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[searched..self.end]) {
                let (from, to) = (self.start, searched + at);
                self.start = to + 1;
                return Ok(Some(self.line(from, to, too_long, true)));
            }
            if self.end - self.start >= LONGEST_LINE {
                too_long = true;
                self.start = self.end;
            }
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            searched = self.end;
            if self.end == self.buffer.len() {
                self.buffer.resize((2 * self.end).max(BUFFER), 0);
            }
            let read = loop {
                match self.reader.read(&mut self.buffer[self.end..]) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    other => break other?,
                }
            };
            // A reader that claims more than there is room for would break the bounds.
            self.end = (self.end + read).min(self.buffer.len());
            if read == 0 {
                let (from, to) = (self.start, self.end);
                self.start = self.end;
                return Ok(if from == to && !too_long { None } else { Some(self.line(from, to, too_long, false)) });
            }
        }
    }

    fn line(&mut self, from: usize, to: usize, too_long: bool, complete: bool) -> Line<'_> {
        self.number += 1;
        let text = if too_long { &[][..] } else { self.buffer[from..to].trim_ascii() };
        Line { text, number: self.number, complete }
    }
}

/// A one-line or yaml table.
#[derive(Debug)]
struct Table {
    /// Line of its header.
    line: u64,
    /// Number of columns, and the places of two of them.
    places: Places,
    /// The header in another reading, for column names with a blank in them, until the first row decides.
    wide: Option<Places>,
    /// The header, until the first row: only then is it certain that it is one.
    header: Vec<u8>,
    begun: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Places {
    count: usize,
    gamma: Option<usize>,
    step: Option<usize>,
}

/// What the next line may be.
#[derive(Debug)]
enum State {
    /// Anything.
    Outside,
    /// The header of a one-line table, or the beginning of another: LAMMPS has reported its memory.
    Header,
    /// A row of one line.
    One(Table),
    /// A row of yaml.
    Yaml(Table),
    /// A block of `name = value`, three to a line.
    Multi(Block),
}

/// The state of a multi-line table.
#[derive(Debug)]
struct Block {
    /// Line of the block's header.
    line: u64,
    /// The step, if it can be read.
    step: Option<i64>,
    /// Whether the line before this one belongs to the block, and this one can.
    open: bool,
    /// Whether it is the first block of the run, whose names are the run's columns.
    first: bool,
    /// Whether this block's γ was read.
    taken: bool,
}

#[derive(Debug)]
struct Parser {
    name: String,
    column: String,
    step_column: String,
    state: State,
    /// What stands before each line of the rank that writes the tables; empty for a log without tags.
    tag: Vec<u8>,
    /// The header of the last one-line table: `run ... pre no` repeats it without reporting the memory.
    last_header: Vec<u8>,
    /// Columns of all tables.
    found: Vec<String>,
    /// Line of the last header with the column.
    column_line: Option<u64>,
    /// Whether the current run has a row, and a row with the column.
    has_rows: bool,
    has_column: bool,
    runs: u64,
    runs_without_column: u64,
    skipped: u64,
    partitions: bool,
    closed: bool,
    closed_by_last_line: bool,
}

impl Parser {
    fn new(name: String, column: &str, step_column: &str) -> Self {
        Self {
            name,
            column: column.into(),
            step_column: step_column.into(),
            state: State::Outside,
            tag: Vec::new(),
            last_header: Vec::new(),
            found: Vec::new(),
            column_line: None,
            has_rows: false,
            has_column: false,
            runs: 0,
            runs_without_column: 0,
            skipped: 0,
            partitions: false,
            closed: false,
            closed_by_last_line: false,
        }
    }

    fn line(&mut self, line: &Line<'_>) -> Result<Option<Sample>, Error> {
        let text = self.untagged(line.text);
        if text.is_empty() {
            return Ok(None);
        }
        self.closed_by_last_line = false;
        if !line.complete {
            // Its last number may be cut. Only the farewell is the same without its newline, which editors remove.
            self.closed |= text.starts_with(b"Total wall time:");
            return Ok(None);
        }
        let taken = match self.state {
            State::One(_) if begins_like_a_number(text) => self.row(text, line.number, tokens)?,
            State::Yaml(_) if text.starts_with(b"- [") => match text.strip_suffix(b"]") {
                Some(row) => self.row(&row[3..], line.number, items)?,
                // No number, hence no row.
                None => self.row(b"]", line.number, items)?,
            },
            State::Multi(_) => self.block_line(text, line.number),
            _ => Row::None,
        };
        match taken {
            Row::Sample(sample) => return Ok(Some(sample)),
            Row::Unwatched => return Ok(None),
            Row::Misfit => self.skipped += 1,
            Row::None => {}
        }
        self.other_line(text, line.number);
        Ok(None)
    }

    /// A line without the tag of the rank that LAMMPS's own lines carry. Lines of other ranks are empty.
    fn untagged<'t>(&mut self, text: &'t [u8]) -> &'t [u8] {
        let Some(length) = tag(text) else { return text };
        let (tag, rest) = (&text[..length], text[length..].trim_ascii_start());
        // A log can hold such lines without being tagged: only one of LAMMPS's own says that it is.
        let begins = rest.starts_with(b"LAMMPS (");
        if begins || (self.tag.is_empty() && (is_landmark(rest) || self.may_be_header(rest))) {
            self.tag = tag.to_vec();
        }
        if self.tag == tag {
            rest
        } else if self.tag.is_empty() {
            text
        } else {
            &[]
        }
    }

    /// A line of the open one-line or yaml table, if it is one.
    fn row<'t, I: Iterator<Item = &'t [u8]>>(
        &mut self,
        text: &'t [u8],
        number: u64,
        split: impl Fn(&'t [u8]) -> I,
    ) -> Result<Row, Error> {
        let (State::One(table) | State::Yaml(table)) = &mut self.state else { return Ok(Row::None) };
        if table.begun && table.places.gamma.is_none() {
            return Ok(Row::Unwatched);
        }
        if !table.begun
            && let Some(wide) = table.wide
            && split(text).count() == wide.count
        {
            table.places = wide;
        }
        let Places { count, gamma, step } = table.places;
        let (mut gamma_token, mut step_token, mut seen) = (None, None, 0);
        for token in split(text) {
            if !is_number(token) {
                // A table that is not watched may as well not be counted.
                return Ok(if gamma.is_some() { Row::Misfit } else { Row::None });
            }
            if Some(seen) == gamma {
                gamma_token = Some(token);
            }
            if Some(seen) == step {
                step_token = Some(token);
            }
            seen += 1;
        }
        if seen != count {
            return Ok(if gamma.is_some() { Row::Misfit } else { Row::None });
        }
        if !table.begun {
            table.begun = true;
            let mut names = Vec::new();
            let wide = table.wide == Some(table.places);
            collect_names(&table.header, wide, &mut names);
            for name in &names {
                remember(&mut self.found, name);
            }
            self.last_header = std::mem::take(&mut table.header);
            self.has_rows = true;
            self.closed = false;
            if gamma.is_some() {
                self.column_line = Some(table.line);
                if step.is_none() {
                    return Err(Error::NoStep {
                        name: self.name.clone(),
                        line: table.line,
                        column: self.column.clone(),
                        step_column: self.step_column.clone(),
                        found: names,
                    });
                }
            }
        }
        let Some(token) = gamma_token else { return Ok(Row::Unwatched) };
        self.has_column = true;
        match (parse_number(token), step_token.and_then(parse_step)) {
            (Some(gamma), Some(step)) => Ok(Row::Sample(Sample { run: self.runs + 1, line: number, step, gamma })),
            _ => Ok(Row::Misfit),
        }
    }

    /// A line of the open block, if it is one.
    fn block_line(&mut self, text: &[u8], number: u64) -> Row {
        let State::Multi(block) = &mut self.state else { return Row::None };
        if !block.open {
            return Row::None;
        }
        let mut pairs = 0;
        let mut value = None;
        for pair in Pairs(text) {
            let Some((key, token)) = pair else {
                block.open = false;
                return Row::None;
            };
            pairs += 1;
            if key == self.column.as_bytes() {
                value = value.or(Some(token));
            }
        }
        // LAMMPS writes three to a line, and fewer only at the end.
        block.open = pairs == 3;
        if pairs == 0 || pairs > 3 {
            block.open = false;
            return Row::None;
        }
        self.has_rows = true;
        self.closed = false;
        if block.first {
            for (key, _) in Pairs(text).flatten() {
                remember(&mut self.found, &name(key));
            }
        }
        let Some(token) = value else { return Row::Unwatched };
        if block.taken {
            return Row::Unwatched;
        }
        block.taken = true;
        self.has_column = true;
        self.column_line = Some(block.line);
        match (parse_number(token), block.step) {
            (Some(gamma), Some(step)) => Row::Sample(Sample { run: self.runs + 1, line: number, step, gamma }),
            _ => Row::Misfit,
        }
    }

    /// A line that is none of the table: what of it matters is where tables begin and end.
    fn other_line(&mut self, text: &[u8], number: u64) {
        if text.starts_with(b"Loop time of ") {
            self.end_run();
        } else if text.starts_with(b"Per MPI rank memory allocation") || text.starts_with(b"Memory usage per processor")
        {
            self.end_run();
            self.closed = false;
            self.state = State::Header;
        } else if text.starts_with(b"keywords:") {
            self.yaml_header(text, number);
        } else if let Some(step) = multi_header(text) {
            let first = !matches!(self.state, State::Multi(_));
            if first {
                self.end_run();
            }
            self.state = State::Multi(Block { line: number, step, open: true, first, taken: false });
        } else if text.starts_with(b"LAMMPS (") {
            // Another process appended its log, whatever became of the one before.
            self.end_run();
            self.closed = false;
        } else if text.starts_with(b"Total wall time:") {
            self.end_run();
            self.closed = true;
        } else if text.starts_with(b"log ") {
            // LAMMPS goes on in another file.
            self.closed_by_last_line = !matches!(self.state, State::One(_) | State::Yaml(_) | State::Multi(_));
        } else if text.starts_with(b"Running on ") && text.windows(10).any(|w| w == b"partitions") {
            self.partitions = true;
        } else {
            self.header(text, number);
        }
    }

    /// Begins a one-line table if this can be its header.
    fn header(&mut self, text: &[u8], number: u64) {
        let wanted = match &self.state {
            State::Header => ![&b"WARNING"[..], b"For more information", b"ERROR", b"---"]
                .iter()
                .any(|prefix| text.starts_with(prefix)),
            // Not within a table: `fix print` may write what it likes. But one without rows may be no table.
            State::Outside => self.may_be_header(text),
            State::One(table) => !table.begun && self.may_be_header(text),
            State::Yaml(_) | State::Multi(_) => false,
        };
        if !wanted || tokens(text).any(is_number) {
            return;
        }
        let places = self.places(tokens(text));
        let wide = self.places(wide_tokens(text));
        let wide = (wide.count != places.count).then_some(wide);
        if matches!(self.state, State::Header) {
            // Certainly one, though the log may end here.
            let has_column = places.gamma.is_some() || wide.is_some_and(|w| w.gamma.is_some());
            let mut names = Vec::new();
            collect_names(text, false, &mut names);
            if has_column {
                self.column_line = Some(number);
            } else {
                names.iter().for_each(|name| remember(&mut self.found, name));
            }
        }
        self.state = State::One(Table { line: number, places, wide, header: text.to_vec(), begun: false });
    }

    fn may_be_header(&self, text: &[u8]) -> bool {
        text == self.last_header || tokens(text).any(|t| t == self.step_column.as_bytes())
    }

    fn yaml_header(&mut self, text: &[u8], number: u64) {
        let list = text.strip_prefix(b"keywords:").map(<[u8]>::trim_ascii);
        let Some(list) = list.and_then(|l| l.strip_prefix(b"[")).and_then(|l| l.strip_suffix(b"]")) else { return };
        self.end_run();
        let places = self.places(items(list));
        if places.gamma.is_some() {
            self.column_line = Some(number);
        } else {
            items(list).take(MOST_NAMES).for_each(|item| remember(&mut self.found, &name(item)));
        }
        // As a header of one line with two blanks between the names, so that it is read back like one.
        let header = items(list).take(MOST_NAMES).collect::<Vec<_>>().join(&b"  "[..]);
        self.state = State::Yaml(Table { line: number, places, wide: Some(places), header, begun: false });
    }

    fn places<'t>(&self, names: impl Iterator<Item = &'t [u8]>) -> Places {
        let mut places = Places::default();
        for name in names {
            if places.gamma.is_none() && name == self.column.as_bytes() {
                places.gamma = Some(places.count);
            }
            if places.step.is_none() && name == self.step_column.as_bytes() {
                places.step = Some(places.count);
            }
            places.count += 1;
        }
        places
    }

    fn end_run(&mut self) {
        if self.has_rows {
            self.runs += 1;
            self.runs_without_column += u64::from(!self.has_column);
        }
        self.has_rows = false;
        self.has_column = false;
        self.state = State::Outside;
    }

    /// Why there was not one step.
    fn nothing(&mut self, lines: u64) -> Error {
        let name = self.name.clone();
        let mut hint = String::new();
        if self.partitions {
            hint = "; it is the log of all partitions: those of the single ones are called log.lammps.0 and so on"
                .to_owned();
        }
        if let Some(line) = self.column_line {
            return Error::NoRows { name, line, column: self.column.clone(), skipped: self.skipped };
        }
        if self.found.is_empty() {
            return Error::NoThermo { name, lines, hint };
        }
        let nearest = self
            .found
            .iter()
            .map(|known| (strsim::jaro_winkler(known, &self.column), known))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((_, nearest)) = nearest {
            hint = format!(" (is {nearest:?} meant?){hint}");
        }
        Error::NoColumn { name, column: self.column.clone(), found: std::mem::take(&mut self.found), hint }
    }
}

/// Lines that LAMMPS alone writes.
fn is_landmark(text: &[u8]) -> bool {
    let landmarks = [
        &b"LAMMPS ("[..],
        b"Per MPI rank memory allocation",
        b"Memory usage per processor",
        b"Loop time of ",
        b"Total wall time:",
    ];
    landmarks.iter().any(|landmark| text.starts_with(landmark))
}

/// Length of the tag of a rank at the beginning of a line, as MPICH (`[0] `), Intel MPI (`[0] `), Open MPI
/// (`[1,0]<stdout>:`, `[prterun-node-7@1,0]<stdout>: `) and Slurm (`0: `) write it; `None` if there is none.
fn tag(text: &[u8]) -> Option<usize> {
    const LONGEST: usize = 200;
    let digits = text.iter().take(LONGEST).take_while(|byte| byte.is_ascii_digit()).count();
    if digits > 0 {
        let rest = &text[digits..];
        return (rest == b":" || rest.starts_with(b": ")).then_some(digits + 1);
    }
    let inside = text.strip_prefix(b"[")?;
    let end = inside.iter().take(LONGEST).position(|&byte| byte == b']')?;
    let named = |byte: &u8| byte.is_ascii_alphanumeric() || b"@,._-".contains(byte);
    let rank = inside[..end].last().is_some_and(u8::is_ascii_digit) && inside[..end].iter().all(named);
    if !rank {
        return None;
    }
    let mut length = end + 2;
    for part in [&b"<stdout>"[..], b"<stderr>", b":"] {
        length += if text[length..].starts_with(part) { part.len() } else { 0 };
    }
    Some(length)
}

/// What a line within a table turned out to be.
enum Row {
    /// γ of a step.
    Sample(Sample),
    /// A row without γ.
    Unwatched,
    /// Not a row, though it begins like one.
    Misfit,
    /// Something else.
    None,
}

/// The names in a header, as many as an error shows.
fn collect_names(header: &[u8], wide: bool, names: &mut Vec<String>) {
    if wide {
        names.extend(wide_tokens(header).take(MOST_NAMES).map(name));
    } else {
        names.extend(tokens(header).take(MOST_NAMES).map(name));
    }
}

fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(LONGEST_NAME).collect()
}

fn remember(found: &mut Vec<String>, name: &str) {
    if found.len() < MOST_NAMES && !found.iter().any(|known| known == name) {
        found.push(name.to_owned());
    }
}

/// The step in the line that begins a block of a multi-line table; `Some(None)` if it is one with an unreadable step.
fn multi_header(text: &[u8]) -> Option<Option<i64>> {
    let rest = text.strip_prefix(b"------------")?.trim_ascii_start();
    // Old versions draw a longer line.
    let rest = rest.trim_ascii_start();
    let begin = rest.iter().position(|&b| b != b'-')?;
    let rest = rest[begin..].trim_ascii_start().strip_prefix(b"Step")?;
    let mut words = tokens(rest);
    let step = words.next()?;
    (words.next()?.starts_with(b"-----") && words.next()? == b"CPU").then(|| parse_step(step))
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Words between blanks.
fn tokens(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let begin = rest.iter().position(|&b| !is_blank(b))?;
        rest = &rest[begin..];
        let end = rest.iter().position(|&b| is_blank(b)).unwrap_or(rest.len());
        let (token, after) = rest.split_at(end);
        rest = after;
        Some(token)
    })
}

/// Words between two blanks or more: LAMMPS puts that many between names unless they are long.
fn wide_tokens(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text.trim_ascii();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.windows(2).position(|w| is_blank(w[0]) && is_blank(w[1])).unwrap_or(rest.len());
        let (token, after) = rest.split_at(end);
        rest = after.trim_ascii_start();
        Some(token)
    })
}

/// The items of a yaml list, with or without quotes; LAMMPS ends it with a comma.
fn items(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let list = list.trim_ascii();
    let list = list.strip_suffix(b",").unwrap_or(list);
    list.split(|&b| b == b',').map(|item| {
        let item = item.trim_ascii();
        item.strip_prefix(b"'").and_then(|i| i.strip_suffix(b"'")).unwrap_or(item)
    })
}

/// `name = number` of a line; `None` in place of one that is not such a pair.
struct Pairs<'t>(&'t [u8]);

impl<'t> Iterator for Pairs<'t> {
    type Item = Option<(&'t [u8], &'t [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0 = self.0.trim_ascii_start();
        if self.0.is_empty() {
            return None;
        }
        let text = std::mem::take(&mut self.0);
        let Some(equals) = text.windows(2).position(|w| w == b" =") else { return Some(None) };
        let (key, value) = (text[..equals].trim_ascii(), text[equals + 2..].trim_ascii_start());
        let end = value.iter().position(|&b| is_blank(b)).unwrap_or(value.len());
        let (value, rest) = value.split_at(end);
        self.0 = rest;
        Some((!key.is_empty() && is_number(value)).then_some((key, value)))
    }
}

fn begins_like_a_number(text: &[u8]) -> bool {
    let end = text.iter().position(|&b| is_blank(b)).unwrap_or(text.len());
    is_number(&text[..end])
}

/// Whether a token is a number or stands for one that is not finite. Not as strict as a parser, but fast.
fn is_number(token: &[u8]) -> bool {
    let mut digit = false;
    for &byte in token {
        match byte {
            b'0'..=b'9' => digit = true,
            b'+' | b'-' | b'.' | b'e' | b'E' => {}
            _ => return is_not_finite(token),
        }
    }
    digit
}

/// The ways in which C libraries print NaN and infinity.
fn is_not_finite(token: &[u8]) -> bool {
    let token = token.strip_prefix(b"-").or_else(|| token.strip_prefix(b"+")).unwrap_or(token);
    let token = token.strip_prefix(b".").unwrap_or(token);
    let is = |text: &[u8]| token.eq_ignore_ascii_case(text);
    is(b"nan")
        || is(b"inf")
        || is(b"infinity")
        || (token.len() > 4 && token[..4].eq_ignore_ascii_case(b"nan(") && token.ends_with(b")"))
        || token.starts_with(b"1.#")
}

fn parse_number(token: &[u8]) -> Option<f64> {
    match std::str::from_utf8(token).ok()?.parse() {
        Ok(value) => Some(value),
        // All of them count as infinite, so which it was does not matter.
        Err(_) => is_not_finite(token).then_some(f64::NAN),
    }
}

fn parse_step(token: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(token).ok()?;
    if let Ok(step) = text.parse() {
        return Some(step);
    }
    // `thermo_modify format` can print it as a real number; beyond 2⁵³ that is not exact.
    let value: f64 = text.parse().ok()?;
    (value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0).then_some(value as i64)
}
