// SPDX-License-Identifier: GPL-2.0-or-later
//! γ in the log of a plain `lmp` run: the first step above a threshold.
//!
//! Supported are all thermo styles (one, custom, multi, yaml), any number of runs in one file, a file to which several
//! processes appended, and the screen output of `lmp`, also with the rank before each line as written by `mpiexec` or
//! `srun` (`[0]`, `[1,0]<stdout>:`, `0:`). The log can be compressed with gzip. It is read once, line by line, with a
//! buffer of fixed size. Values are taken from complete lines only, so the samples of a truncated log are the first
//! samples of the complete log.
//!
//! A line of `fix print` or `print` in the middle of a table is mistaken for a row if it consists of as many numbers as the
//! table has columns, with an integer in the column of the step.

use std::fs::File;
use std::io::Read;
use std::iter::FusedIterator;
use std::path::Path;

use serde::Serialize;

use crate::io::plain::PlainText;

/// Default thermo column of γ: that of `variable max_gamma equal ...`.
pub const GAMMA_COLUMN: &str = "v_max_gamma";
/// Default thermo column of the step.
pub const STEP_COLUMN: &str = "Step";

/// Initial size of the buffer in bytes.
const BUFFER_LENGTH: usize = 256 << 10;
/// Longest line in bytes that is parsed. Longer lines are skipped, to limit the memory.
const MAX_LINE_LENGTH: usize = 1 << 20;
/// Largest number of column names in an error.
const MAX_NAMES: usize = 100;
/// Largest number of characters of a column name in an error.
const MAX_NAME_LENGTH: usize = 60;

/// The error for a log without values of γ.
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
        "{name} has no thermo output in {lines} line(s): it is not a LAMMPS log, or it was truncated before the first \
         step{hint}"
    )]
    NoThermo {
        /// The file.
        name: String,
        /// Number of lines.
        lines: u64,
        /// Another possible reason; empty, or beginning with a separator.
        hint: String,
    },
    /// No table has the column.
    #[error(
        "{name} has no column {column:?}{hint}; its columns are {}. Select one with --column, or add the column to \
         thermo_style custom",
        found.join(", ")
    )]
    NoColumn {
        /// The file.
        name: String,
        /// The requested column.
        column: String,
        /// The columns of all tables, the first 100.
        found: Vec<String>,
        /// A similar column; empty, or beginning with a separator.
        hint: String,
    },
    /// A table has the column of γ, but not that of the step.
    #[error(
        "{name}, line {line}: the table has the column {column:?} but no column {step_column:?} for the step; its \
         columns are {}. Add `step` to thermo_style custom, or give its name with --step-column if thermo_modify colname \
         renamed it",
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
    /// A table has the column, but no complete row.
    #[error(
        "{name}, line {line}: the table with the column {column:?} has no complete row (lines that do not fit the table: \
         {skipped}): the log was truncated, or thermo_modify format prints values that are not numbers"
    )]
    NoRows {
        /// The file.
        name: String,
        /// The line of the last such table's header.
        line: u64,
        /// The column.
        column: String,
        /// Number of lines within tables that begin with a number but do not fit the table.
        skipped: u64,
    },
}

/// γ at one step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sample {
    /// Number of its table, from 1. Each run begins a new table.
    pub run: u64,
    /// The line of the log, from 1.
    pub line: u64,
    /// The step as printed. It can repeat, and can restart with a run.
    pub step: i64,
    /// The value as printed; can be NaN or infinite.
    pub gamma: f64,
}

/// The result of the analysis of a log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UqResult {
    /// The first step above the threshold, as printed; `None` if there is none.
    pub trigger_step: Option<i64>,
    /// The line of the log with the trigger step, from 1.
    pub trigger_line: Option<u64>,
    /// The largest γ; infinite if any value is not finite (`null` in JSON).
    pub gamma_max: f64,
    /// The first step with the largest γ.
    pub gamma_max_step: i64,
    /// Number of rows read. A step that ends one run and begins the next counts twice.
    pub steps_read: u64,
    /// Number of tables with at least one row.
    pub runs: u64,
    /// Number of those tables without the column of γ.
    pub runs_without_column: u64,
    /// Number of lines in the tables with the column that begin like a row but do not fit the table.
    pub skipped_lines: u64,
    /// Whether the log ends before LAMMPS closed it with the total wall time or a `log` command: it was truncated, the run
    /// has not finished, or the run ended with an error.
    pub truncated: bool,
}

/// Finds the first step of a log at which γ is above a threshold.
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
    /// Creates a checker. γ triggers if it is above `threshold`, not equal to it; NaN and infinite γ always trigger.
    #[must_use]
    pub fn new(threshold: f64) -> Self {
        Self { threshold, column: GAMMA_COLUMN.into(), step_column: STEP_COLUMN.into() }
    }

    /// Sets the column of γ, as in the header of the table, instead of [`GAMMA_COLUMN`].
    #[must_use]
    pub fn column(mut self, name: impl Into<String>) -> Self {
        self.column = name.into();
        self
    }

    /// Sets the column of the step, instead of [`STEP_COLUMN`].
    #[must_use]
    pub fn step_column(mut self, name: impl Into<String>) -> Self {
        self.step_column = name.into();
        self
    }

    /// Analyzes a log file.
    ///
    /// # Errors
    /// [`Error`] if the file cannot be read, if it has no row with the column, or if a table with the column has no column
    /// of the step.
    pub fn analyze_log(&self, path: impl AsRef<Path>) -> Result<UqResult, Error> {
        let name = path.as_ref().display().to_string();
        let file = File::open(&path).map_err(|source| Error::Open { name: name.clone(), source })?;
        self.analyze_reader(name, file, |_| ())
    }

    /// Analyzes a log and calls `each` with each sample. `name` identifies the log in errors. The reader need not be
    /// buffered.
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
            // No value is below a threshold that is NaN.
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

    /// An iterator over the samples of a log. `name` identifies the log in errors.
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

/// An iterator over γ at each step of a log, in the order of the log.
///
/// A log without rows gives an error as the first item. A table with the column of γ but without that of the step gives an
/// error at its first row. The iterator ends after an error.
#[derive(Debug)]
pub struct Samples<R> {
    lines: Lines<PlainText<R>>,
    parser: Parser,
    any: bool,
    finished: bool,
}

impl<R> Samples<R> {
    /// Whether the part of the log read so far ends before LAMMPS closed it.
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
                    return if self.any { None } else { Some(Err(self.parser.no_samples_error(self.lines.number))) };
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

/// A line without its end and surrounding blanks.
struct Line<'b> {
    text: &'b [u8],
    /// From 1.
    number: u64,
    /// Whether it ends with a newline. Otherwise its last number can be truncated.
    complete: bool,
}

/// Lines of a reader, with a buffer whose size does not depend on the length of the file.
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
        // There is no newline before this index.
        let mut searched = self.start;
        let mut too_long = false;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[searched..self.end]) {
                let (from, to) = (self.start, searched + at);
                self.start = to + 1;
                return Ok(Some(self.line(from, to, too_long, true)));
            }
            if self.end - self.start >= MAX_LINE_LENGTH {
                too_long = true;
                self.start = self.end;
            }
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            searched = self.end;
            if self.end == self.buffer.len() {
                self.buffer.resize((2 * self.end).max(BUFFER_LENGTH), 0);
            }
            let read = loop {
                match self.reader.read(&mut self.buffer[self.end..]) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    other => break other?,
                }
            };
            // A reader that returns more than the length of its buffer must not cause a panic.
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
    /// Number of columns, and the indices of two of them.
    layout: Layout,
    /// The layout if column names contain blanks. The first row decides between the two.
    wide: Option<Layout>,
    /// The header, until the first row confirms that it is one.
    header: Vec<u8>,
    /// Whether a row was read.
    begun: bool,
}

/// Number of columns of a table, and the indices of the columns of γ and of the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Layout {
    count: usize,
    gamma: Option<usize>,
    step: Option<usize>,
}

/// The state of the parser.
#[derive(Debug)]
enum State {
    /// Outside a table.
    Outside,
    /// After the report of the memory: a header follows.
    Header,
    /// In a one-line table.
    One(Table),
    /// In a yaml table.
    Yaml(Table),
    /// In a multi-line table: blocks of `name = value`, three in a line.
    Multi(Block),
}

/// The state of a multi-line table.
#[derive(Debug)]
struct Block {
    /// Line of the block's header.
    line: u64,
    /// The step, if it is valid.
    step: Option<i64>,
    /// Whether the next line can belong to the block.
    open: bool,
    /// Whether it is the first block of the run, whose names are the columns of the run.
    first: bool,
    /// Whether γ of this block was read.
    taken: bool,
}

#[derive(Debug)]
struct Parser {
    name: String,
    column: String,
    step_column: String,
    state: State,
    /// Prefix of the lines of the rank that writes the tables; empty for a log without prefixes.
    tag: Vec<u8>,
    /// The header of the last one-line table. `run ... pre no` repeats it without the report of the memory.
    last_header: Vec<u8>,
    /// Columns of all tables.
    found: Vec<String>,
    /// Line of the last header with the column.
    column_line: Option<u64>,
    /// Whether the current run has a row.
    has_rows: bool,
    /// Whether the current run has a row with the column.
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
            // The last number can be truncated. Only the last line of a log is accepted, since editors remove its newline.
            self.closed |= text.starts_with(b"Total wall time:");
            return Ok(None);
        }
        let taken = match self.state {
            State::One(_) if begins_like_a_number(text) => self.row(text, line.number, tokens)?,
            State::Yaml(_) if text.starts_with(b"- [") => match text.strip_suffix(b"]") {
                Some(row) => self.row(&row[3..], line.number, items)?,
                // `]` is not a number, so the line is not a row.
                None => self.row(b"]", line.number, items)?,
            },
            State::Multi(_) => self.block_line(text, line.number),
            _ => Row::None,
        };
        match taken {
            Row::Sample(sample) => return Ok(Some(sample)),
            Row::NoGamma => return Ok(None),
            Row::Misfit => self.skipped += 1,
            Row::None => {}
        }
        self.other_line(text, line.number);
        Ok(None)
    }

    /// Removes the prefix of the rank that writes the tables. Lines of other ranks become empty.
    fn untagged<'t>(&mut self, text: &'t [u8]) -> &'t [u8] {
        let Some(length) = tag(text) else { return text };
        let (tag, rest) = (&text[..length], text[length..].trim_ascii_start());
        // A log without prefixes can contain similar lines. Only a prefix before a line of LAMMPS is accepted.
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

    /// Parses a row of the current one-line or yaml table.
    fn row<'t, I: Iterator<Item = &'t [u8]>>(
        &mut self,
        text: &'t [u8],
        number: u64,
        split: impl Fn(&'t [u8]) -> I,
    ) -> Result<Row, Error> {
        let (State::One(table) | State::Yaml(table)) = &mut self.state else { return Ok(Row::None) };
        if table.begun && table.layout.gamma.is_none() {
            return Ok(Row::NoGamma);
        }
        if !table.begun
            && let Some(wide) = table.wide
            && split(text).count() == wide.count
        {
            table.layout = wide;
        }
        let Layout { count, gamma, step } = table.layout;
        let (mut gamma_token, mut step_token, mut index) = (None, None, 0);
        for token in split(text) {
            if !is_number(token) {
                // Misfits of a table without the column are not counted.
                return Ok(if gamma.is_some() { Row::Misfit } else { Row::None });
            }
            if Some(index) == gamma {
                gamma_token = Some(token);
            }
            if Some(index) == step {
                step_token = Some(token);
            }
            index += 1;
        }
        if index != count {
            return Ok(if gamma.is_some() { Row::Misfit } else { Row::None });
        }
        if !table.begun {
            table.begun = true;
            let mut names = Vec::new();
            let wide = table.wide == Some(table.layout);
            collect_names(&table.header, wide, &mut names);
            for name in &names {
                add_name(&mut self.found, name);
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
        let Some(token) = gamma_token else { return Ok(Row::NoGamma) };
        self.has_column = true;
        match (parse_number(token), step_token.and_then(parse_step)) {
            (Some(gamma), Some(step)) => Ok(Row::Sample(Sample { run: self.runs + 1, line: number, step, gamma })),
            _ => Ok(Row::Misfit),
        }
    }

    /// Parses a line of the current block.
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
        // LAMMPS writes three pairs in a line, and fewer only in the last line.
        block.open = pairs == 3;
        if pairs == 0 || pairs > 3 {
            block.open = false;
            return Row::None;
        }
        self.has_rows = true;
        self.closed = false;
        if block.first {
            for (key, _) in Pairs(text).flatten() {
                add_name(&mut self.found, &name(key));
            }
        }
        let Some(token) = value else { return Row::NoGamma };
        if block.taken {
            return Row::NoGamma;
        }
        block.taken = true;
        self.has_column = true;
        self.column_line = Some(block.line);
        match (parse_number(token), block.step) {
            (Some(gamma), Some(step)) => Row::Sample(Sample { run: self.runs + 1, line: number, step, gamma }),
            _ => Row::Misfit,
        }
    }

    /// Parses a line outside a table: the beginnings and ends of tables.
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
            // Another process appended its log.
            self.end_run();
            self.closed = false;
        } else if text.starts_with(b"Total wall time:") {
            self.end_run();
            self.closed = true;
        } else if text.starts_with(b"log ") {
            // LAMMPS continues in another file.
            self.closed_by_last_line = !matches!(self.state, State::One(_) | State::Yaml(_) | State::Multi(_));
        } else if text.starts_with(b"Running on ") && text.windows(10).any(|w| w == b"partitions") {
            self.partitions = true;
        } else {
            self.header(text, number);
        }
    }

    /// Begins a one-line table if the line can be its header.
    fn header(&mut self, text: &[u8], number: u64) {
        let can_be_header = match &self.state {
            State::Header => ![&b"WARNING"[..], b"For more information", b"ERROR", b"---"]
                .iter()
                .any(|prefix| text.starts_with(prefix)),
            // Not within a table, where `fix print` can write any text. A table without rows may not be one.
            State::Outside => self.may_be_header(text),
            State::One(table) => !table.begun && self.may_be_header(text),
            State::Yaml(_) | State::Multi(_) => false,
        };
        if !can_be_header || tokens(text).any(is_number) {
            return;
        }
        let layout = self.layout(tokens(text));
        let wide = self.layout(wide_tokens(text));
        let wide = (wide.count != layout.count).then_some(wide);
        if matches!(self.state, State::Header) {
            // It is a header even if the log ends here.
            let has_column = layout.gamma.is_some() || wide.is_some_and(|w| w.gamma.is_some());
            let mut names = Vec::new();
            collect_names(text, false, &mut names);
            if has_column {
                self.column_line = Some(number);
            } else {
                names.iter().for_each(|name| add_name(&mut self.found, name));
            }
        }
        self.state = State::One(Table { line: number, layout, wide, header: text.to_vec(), begun: false });
    }

    fn may_be_header(&self, text: &[u8]) -> bool {
        text == self.last_header || tokens(text).any(|t| t == self.step_column.as_bytes())
    }

    fn yaml_header(&mut self, text: &[u8], number: u64) {
        let list = text.strip_prefix(b"keywords:").map(<[u8]>::trim_ascii);
        let Some(list) = list.and_then(|l| l.strip_prefix(b"[")).and_then(|l| l.strip_suffix(b"]")) else { return };
        self.end_run();
        let layout = self.layout(items(list));
        if layout.gamma.is_some() {
            self.column_line = Some(number);
        } else {
            items(list).take(MAX_NAMES).for_each(|item| add_name(&mut self.found, &name(item)));
        }
        // Stored like a one-line header with two blanks between the names.
        let header = items(list).take(MAX_NAMES).collect::<Vec<_>>().join(&b"  "[..]);
        self.state = State::Yaml(Table { line: number, layout, wide: Some(layout), header, begun: false });
    }

    fn layout<'t>(&self, names: impl Iterator<Item = &'t [u8]>) -> Layout {
        let mut layout = Layout::default();
        for name in names {
            if layout.gamma.is_none() && name == self.column.as_bytes() {
                layout.gamma = Some(layout.count);
            }
            if layout.step.is_none() && name == self.step_column.as_bytes() {
                layout.step = Some(layout.count);
            }
            layout.count += 1;
        }
        layout
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

    /// The error for a log without a sample.
    fn no_samples_error(&mut self, lines: u64) -> Error {
        let name = self.name.clone();
        let mut hint = String::new();
        if self.partitions {
            hint = "; it is the common log of all partitions: use the logs log.lammps.0 and so on".to_owned();
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
            .map(|name| (strsim::jaro_winkler(name, &self.column), name))
            .filter(|(similarity, _)| *similarity > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((_, nearest)) = nearest {
            hint = format!(" (did you mean {nearest:?}?){hint}");
        }
        Error::NoColumn { name, column: self.column.clone(), found: std::mem::take(&mut self.found), hint }
    }
}

/// Whether a line is one that only LAMMPS writes.
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

/// Length of the prefix of a rank, as written by MPICH (`[0] `), Intel MPI (`[0] `), Open MPI (`[1,0]<stdout>:`,
/// `[prterun-node-7@1,0]<stdout>: `) and Slurm (`0: `); `None` if there is none.
fn tag(text: &[u8]) -> Option<usize> {
    const MAX_LENGTH: usize = 200;
    let digits = text.iter().take(MAX_LENGTH).take_while(|byte| byte.is_ascii_digit()).count();
    if digits > 0 {
        let rest = &text[digits..];
        return (rest == b":" || rest.starts_with(b": ")).then_some(digits + 1);
    }
    let inside = text.strip_prefix(b"[")?;
    let end = inside.iter().take(MAX_LENGTH).position(|&byte| byte == b']')?;
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

/// The kind of a line within a table.
enum Row {
    /// A row with γ.
    Sample(Sample),
    /// A row without γ.
    NoGamma,
    /// A line that begins like a row but does not fit the table.
    Misfit,
    /// Another line.
    None,
}

/// The names in a header, at most [`MAX_NAMES`].
fn collect_names(header: &[u8], wide: bool, names: &mut Vec<String>) {
    if wide {
        names.extend(wide_tokens(header).take(MAX_NAMES).map(name));
    } else {
        names.extend(tokens(header).take(MAX_NAMES).map(name));
    }
}

fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(MAX_NAME_LENGTH).collect()
}

fn add_name(found: &mut Vec<String>, name: &str) {
    if found.len() < MAX_NAMES && !found.iter().any(|other| other == name) {
        found.push(name.to_owned());
    }
}

/// The step in the first line of a block of a multi-line table; `Some(None)` if the step is invalid.
fn multi_header(text: &[u8]) -> Option<Option<i64>> {
    let rest = text.strip_prefix(b"------------")?.trim_ascii_start();
    // Old versions of LAMMPS write more dashes.
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

/// Words separated by blanks.
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

/// Words separated by two or more blanks, as LAMMPS separates names unless they are long.
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

/// The items of a yaml list, with or without quotes and a trailing comma.
fn items(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let list = list.trim_ascii();
    let list = list.strip_suffix(b",").unwrap_or(list);
    list.split(|&b| b == b',').map(|item| {
        let item = item.trim_ascii();
        item.strip_prefix(b"'").and_then(|i| i.strip_suffix(b"'")).unwrap_or(item)
    })
}

/// The pairs `name = number` of a line; `None` for an item that is not such a pair.
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

/// Whether a token is a number, which may be NaN or infinite. Faster and less strict than parsing.
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

/// Whether a token is NaN or infinity as printed by C libraries.
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
        // NaN and infinity are treated alike.
        Err(_) => is_not_finite(token).then_some(f64::NAN),
    }
}

fn parse_step(token: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(token).ok()?;
    if let Ok(step) = text.parse() {
        return Some(step);
    }
    // `thermo_modify format` can print the step as a real number, which is exact up to 2⁵³.
    let value: f64 = text.parse().ok()?;
    (value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0).then_some(value as i64)
}
