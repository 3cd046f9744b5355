// SPDX-License-Identifier: GPL-2.0-or-later
//! Single frames of a long trajectory that LAMMPS wrote (`dump custom`, `dump extxyz`), without reading the rest of the file.
//!
//! The frames are found by interpolation: they have nearly the same length, and their steps increase. The cost of reading a number of
//! frames does not depend on the length of the file. A frame at the end that is not complete is still being written, and does not
//! count.
use super::text::{FrameText, parse_error};
use super::{Error, LineEnd, extxyz, lammps_dump, read_line};
use crate::structure::Structure;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Largest number of searches for one frame. Interpolation needs one or two.
const MAX_SEARCHES: usize = 64;

/// A frame of a trajectory.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The time step.
    pub step: i64,
    /// The atoms.
    pub structure: Structure,
    /// Image flags of the atoms, if the file has them.
    pub images: Option<Vec<[i32; 3]>>,
    /// The requested number of each atom, if the file has it. Numbers may be infinite or NaN.
    pub values: Option<Vec<f64>>,
}

/// A trajectory with at least one complete frame.
#[derive(Debug)]
pub struct Trajectory<R> {
    reader: BufReader<R>,
    path: PathBuf,
    is_dump: bool,
    column: &'static str,
    first: Mark,
    last: Mark,
    interval: i64,
    atoms: usize,
}

/// Where a frame starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    offset: u64,
    step: i64,
}

/// Opens a trajectory. `column` is the name of the column of [`Frame::values`]. `None` if there is no complete frame yet.
///
/// # Errors
/// [`Error`]: the file cannot be read, or its first frame is invalid.
pub fn open(path: &Path, column: &'static str) -> Result<Option<Trajectory<File>>, Error> {
    let file = File::open(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    Trajectory::new(file, path, column)
}

impl<R: Read + Seek> Trajectory<R> {
    /// As [`open`]. `path` is used in error messages only.
    ///
    /// # Errors
    /// As [`open`].
    pub fn new(reader: R, path: &Path, column: &'static str) -> Result<Option<Self>, Error> {
        let none = Mark { offset: 0, step: 0 };
        let mut found = Self {
            reader: BufReader::with_capacity(1 << 16, reader),
            path: path.to_owned(),
            is_dump: true,
            column,
            first: none,
            last: none,
            interval: 0,
            atoms: 0,
        };
        let mut start = Vec::new();
        found.seek(0)?;
        let end = read_line(&mut found.reader, &mut start).map_err(|source| found.reading(source))?;
        found.is_dump = start.starts_with(b"ITEM:");
        let Some(first) = found.next_mark(0)? else {
            return match end {
                // Nothing, or a part of the first frame.
                LineEnd::EndOfInput => Ok(None),
                _ if found.is_dump || start.trim_ascii().parse_number::<u64>().is_some() => Ok(None),
                _ => Err(parse_error(path, 1, "this is neither a dump of LAMMPS nor extended XYZ")),
            };
        };
        (found.first, found.last) = (first, first);
        let Some((frame, length)) = found.read_at(first)? else { return Ok(None) };
        found.atoms = frame.structure.len();
        if let Some(second) = found.next_mark(first.offset + length)? {
            found.interval = second.step.saturating_sub(first.step);
            found.last = found.find_last(length)?;
        }
        if found.interval < 1 || found.last.step < first.step {
            // A single frame, or steps that do not increase: only the first frame can be found again.
            (found.interval, found.last) = (1, first);
        }
        Ok(Some(found))
    }

    /// The last complete frame. `length` is the typical length of a frame in bytes.
    fn find_last(&mut self, length: u64) -> Result<Mark, Error> {
        let end = self.reader.seek(SeekFrom::End(0)).map_err(|source| self.reading(source))?;
        let mut back = length.saturating_mul(2);
        loop {
            let from = end.saturating_sub(back);
            let mut complete = None;
            let mut at = from;
            while let Some(mark) = self.next_mark(at)? {
                let Some(length) = self.length_at(mark)? else { break };
                complete = Some(mark);
                at = mark.offset + length;
            }
            match complete {
                Some(mark) => return Ok(mark),
                None if from == 0 => return Ok(self.first),
                None => back = back.saturating_mul(2),
            }
        }
    }

    /// Number of frames, if one was written at each interval.
    #[must_use]
    pub fn frames(&self) -> u64 {
        ((self.last.step - self.first.step) / self.interval) as u64 + 1
    }

    /// Number of atoms in the first frame.
    #[must_use]
    pub fn atoms(&self) -> usize {
        self.atoms
    }

    /// Number of steps between two frames.
    #[must_use]
    pub fn interval(&self) -> i64 {
        self.interval
    }

    /// The last complete frame.
    ///
    /// # Errors
    /// [`Error`].
    pub fn last(&mut self) -> Result<Option<Frame>, Error> {
        Ok(self.read_at(self.last)?.map(|(frame, _)| frame))
    }

    /// Passes at most `most` frames at equal distances to `use_frame`, from the first frame on, each with its number, which is its
    /// distance to the first frame in units of the distance of the frames. Frames that are missing in the file are skipped. Returns the
    /// number of steps between two of them.
    ///
    /// # Errors
    /// [`Error`], or that of `use_frame`.
    pub fn evenly<E: From<Error>>(
        &mut self,
        most: usize,
        mut use_frame: impl FnMut(usize, Frame) -> Result<(), E>,
    ) -> Result<i64, E> {
        let frames = self.frames();
        let stride = frames.div_ceil(most.max(1) as u64);
        let spacing = self.interval.saturating_mul(stride as i64);
        let mut before = self.first;
        for number in 0..frames.div_ceil(stride) {
            let step = self.first.step + spacing * number as i64;
            let Some(mark) = self.find(step, before)? else { continue };
            before = mark;
            let Some((frame, _)) = self.read_at(mark)? else { continue };
            use_frame(number as usize, frame)?;
        }
        Ok(spacing)
    }

    /// The frame of a step, which is not before the frame at `low`.
    fn find(&mut self, step: i64, mut low: Mark) -> Result<Option<Mark>, Error> {
        let mut high = self.last;
        for known in [low, high] {
            if known.step == step {
                return Ok(Some(known));
            }
        }
        for search in 0..MAX_SEARCHES {
            if low.step >= step || high.step <= step || high.offset <= low.offset + 1 {
                return Ok(None);
            }
            let bytes = (high.offset - low.offset) as f64;
            // The guess is half a frame early. If the lengths are so uneven that this fails, by halving.
            let part = (step - low.step) as f64 / (high.step - low.step) as f64;
            let early = 0.5 * bytes * self.interval as f64 / (high.step - low.step) as f64;
            let guess = if search < 8 { part * bytes - early } else { 0.5 * bytes };
            let guess = low.offset + (guess.max(1.0) as u64).min(high.offset - low.offset);
            let Some(mark) = self.next_mark(guess)? else { return Ok(None) };
            if mark.step == step {
                return Ok(Some(mark));
            }
            if mark.step < step {
                low = mark;
            } else {
                // No frame starts between the guess and the mark.
                high = Mark { offset: guess, step: mark.step };
            }
        }
        Ok(None)
    }

    /// The first frame that starts at `offset` or later.
    fn next_mark(&mut self, offset: u64) -> Result<Option<Mark>, Error> {
        let mut at = offset;
        let mut line = Vec::new();
        if offset > 0 {
            // The rest of the line before; only a newline if a line starts at the offset.
            self.seek(offset - 1)?;
            at = offset - 1 + self.line(&mut line)? as u64;
        } else {
            self.seek(0)?;
        }
        // In extended XYZ, a line with the number of atoms is followed by the comment.
        let mut count_at = None;
        loop {
            let start = at;
            let length = self.line(&mut line)?;
            if length == 0 {
                return Ok(None);
            }
            at += length as u64;
            let text = line.trim_ascii();
            if self.is_dump && text == b"ITEM: TIMESTEP" {
                let length = self.line(&mut line)?;
                match step(line.trim_ascii()).filter(|_| line.ends_with(b"\n")) {
                    Some(step) => return Ok(Some(Mark { offset: start, step })),
                    None if length == 0 => return Ok(None),
                    None => at += length as u64,
                }
            } else if !self.is_dump {
                if let (Some(offset), Some(step)) = (count_at, step_of(text)) {
                    return Ok(Some(Mark { offset, step }));
                }
                count_at = text.parse_number::<u64>().map(|_| start);
            }
        }
    }

    /// The length of a frame in bytes; `None` if it is not complete.
    fn length_at(&mut self, mark: Mark) -> Result<Option<u64>, Error> {
        let mut text = FrameText::default();
        self.collect(mark, &mut text)
    }

    /// Reads the frame at a mark, and its length in bytes; `None` if it is not complete.
    fn read_at(&mut self, mark: Mark) -> Result<Option<(Frame, u64)>, Error> {
        let mut text = FrameText::default();
        let Some(length) = self.collect(mark, &mut text)? else { return Ok(None) };
        let mut extra = lammps_dump::Extra { column: self.column, ..lammps_dump::Extra::default() };
        let warnings = &mut Vec::new();
        let structure = if self.is_dump {
            // The unit of velocity is not known here.
            let structure = lammps_dump::parse_with(&text, &self.path, None, 1.0, warnings, &mut extra)?;
            Structure { velocities: None, ..structure }
        } else {
            extxyz::parse(&text, &self.path, None, warnings)?
        };
        let n = structure.len();
        let images = Some(extra.images).filter(|images| images.len() == n && n > 0);
        let values = Some(extra.values).filter(|values| values.len() == n && n > 0);
        Ok(Some((Frame { step: mark.step, structure, images, values }, length)))
    }

    /// Collects the text of a frame. Returns its length in bytes, or `None` if the file ends before it.
    fn collect(&mut self, mark: Mark, text: &mut FrameText) -> Result<Option<u64>, Error> {
        self.seek(mark.offset)?;
        // Line numbers in the file are not known.
        text.first = 1;
        let (mut length, mut line) = (0, Vec::new());
        let mut left: Option<u64> = None;
        let mut count: Option<u64> = None;
        loop {
            if left == Some(0) {
                return Ok(Some(length));
            }
            let read = self.line(&mut line)?;
            length += read as u64;
            if !line.ends_with(b"\n") {
                return Ok(None);
            }
            let lossy = String::from_utf8_lossy(&line);
            let trimmed = lossy.trim_end();
            if let Some(left) = &mut left {
                *left -= 1;
                text.push(trimmed);
            } else if self.is_dump {
                text.push(trimmed);
                if trimmed == "ITEM: NUMBER OF ATOMS" {
                    let read = self.line(&mut line)?;
                    length += read as u64;
                    count = line.trim_ascii().parse_number();
                    text.push(String::from_utf8_lossy(&line).trim_end());
                } else if trimmed.starts_with("ITEM: ATOMS") {
                    // A wrong header is an error of the parser.
                    left = Some(count.unwrap_or(0));
                }
            } else {
                // The comment and one line for each atom.
                left = Some(trimmed.trim().as_bytes().parse_number::<u64>().unwrap_or(0).saturating_add(1));
            }
        }
    }

    fn seek(&mut self, offset: u64) -> Result<(), Error> {
        self.reader.seek(SeekFrom::Start(offset)).map(|_| ()).map_err(|source| self.reading(source))
    }

    /// Replaces `line` by the next line, and returns its length; 0 at the end of the file.
    fn line(&mut self, line: &mut Vec<u8>) -> Result<usize, Error> {
        line.clear();
        let end = read_line(&mut self.reader, line).map_err(|source| self.reading(source))?;
        if end == LineEnd::TooLong {
            return Err(parse_error(&self.path, 0, "a line is longer than 2^20 bytes: this is not a trajectory"));
        }
        Ok(line.len())
    }

    fn reading(&self, source: std::io::Error) -> Error {
        Error::Read { path: self.path.clone(), source }
    }
}

/// A time step; `None` if it is not a number, or so large that differences of steps could overflow.
fn step(text: &[u8]) -> Option<i64> {
    text.parse_number::<i64>().filter(|step| step.unsigned_abs() < 1 << 60)
}

/// The time step in a comment line of extended XYZ.
fn step_of(comment: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(comment).ok().filter(|text| text.contains("Lattice="))?;
    text.split_whitespace().find_map(|word| step(word.strip_prefix("Timestep=")?.as_bytes()))
}

/// Parses text of a file.
trait ParseNumber {
    fn parse_number<T: std::str::FromStr>(&self) -> Option<T>;
}

impl ParseNumber for [u8] {
    fn parse_number<T: std::str::FromStr>(&self) -> Option<T> {
        std::str::from_utf8(self).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// Frames of two atoms, at the given steps. `wide` makes the frames of some steps longer.
    fn dump(steps: impl IntoIterator<Item = i64>, wide: fn(i64) -> usize) -> String {
        let frame = |step: i64| {
            let x = format!("{:.*}", wide(step), step as f64 / 7.0);
            format!(
                "ITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n0 10\n0 10\n0 10\n\
                 ITEM: ATOMS id type element x y z ix iy iz g\n1 1 Al {x} 0 0 1 0 -2 0.5\n2 1 Al 5 5 5 0 0 0 inf\n"
            )
        };
        steps.into_iter().map(frame).collect()
    }

    fn extxyz(steps: impl IntoIterator<Item = i64>) -> String {
        let frame = |step: i64| {
            format!(
                "2\nTimestep={step} Lattice=\"10 0 0 0 10 0 0 0 10\" pbc=\"T T T\" Properties=species:S:1:pos:R:3\n\
                 Al {} 0 0\nAl 5 5 5\n",
                step as f64 / 7.0
            )
        };
        steps.into_iter().map(frame).collect()
    }

    fn read(text: &str) -> Option<Trajectory<Cursor<Vec<u8>>>> {
        Trajectory::new(Cursor::new(text.as_bytes().to_vec()), Path::new("t"), "g").unwrap()
    }

    /// Steps and numbers of the frames that are passed.
    fn passed(trajectory: &mut Trajectory<Cursor<Vec<u8>>>, most: usize) -> (i64, Vec<(usize, i64)>) {
        let mut found = Vec::new();
        let spacing = trajectory.evenly(most, |number, frame| {
            assert_eq!(frame.structure.position(0)[0], format!("{}", frame.step as f64 / 7.0).parse::<f64>().unwrap());
            found.push((number, frame.step));
            Ok::<_, Error>(())
        });
        (spacing.unwrap(), found)
    }

    #[test]
    fn frames_are_found_at_equal_distances() {
        for text in [dump((100..3100).step_by(10), |_| 20), extxyz((100..3100).step_by(10))] {
            let mut trajectory = read(&text).unwrap();
            assert_eq!((trajectory.frames(), trajectory.atoms(), trajectory.interval()), (300, 2, 10));
            for most in [1, 2, 3, 7, 299, 300, 1000] {
                let stride = 300_i64.div_euclid(most).max(1) + i64::from(300 > most && 300 % most != 0);
                let (spacing, found) = passed(&mut trajectory, most as usize);
                assert_eq!(spacing, 10 * stride);
                let expected: Vec<_> = (100..3100).step_by(10 * stride as usize).enumerate().collect();
                assert_eq!(found, expected, "{most}");
            }
            assert_eq!(trajectory.last().unwrap().unwrap().step, 3090);
        }
        // Frames of very different lengths, and missing ones.
        let uneven = dump((0..2000).filter(|step| !(500..1500).contains(step)), |s| if s < 100 { 20 } else { 300 });
        let (_, found) = passed(&mut read(&uneven).unwrap(), 20);
        assert_eq!(found, [0, 1, 2, 3, 4, 15, 16, 17, 18, 19].map(|k| (k as usize, 100 * k)));
    }

    #[test]
    fn frames_have_image_flags_and_values() {
        let frame = read(&dump([3], |_| 20)).unwrap().last().unwrap().unwrap();
        assert_eq!(frame.images, Some(vec![[1, 0, -2], [0; 3]]));
        assert_eq!(frame.values, Some(vec![0.5, f64::INFINITY]));
        let frame = read(&extxyz([3])).unwrap().last().unwrap().unwrap();
        assert_eq!((frame.images, frame.values, frame.step), (None, None, 3));
    }

    #[test]
    fn an_incomplete_frame_does_not_count() {
        for write in [|step| dump([step], |_| 20), |step| extxyz([step])] {
            let frames = [0, 5, 10].map(write);
            let ends: Vec<usize> = (1..=3).map(|n| frames[..n].concat().len()).collect();
            for end in 0..=ends[2] {
                let complete = ends.iter().filter(|length| **length <= end).count();
                let found = read(&frames.concat()[..end]).map_or(0, |trajectory| trajectory.frames());
                assert_eq!(found, complete as u64, "{end} of {ends:?}");
            }
        }
    }

    #[test]
    fn other_files_are_rejected_and_disorder_ends() {
        let other = |text: &str| Trajectory::new(Cursor::new(text.as_bytes().to_vec()), Path::new("t"), "g");
        assert!(other("hello\nworld\n").unwrap_err().to_string().contains("neither a dump of LAMMPS nor extended XYZ"));
        assert!(other("").unwrap().is_none());
        let mut falling = read(&dump([50, 40, 30], |_| 20)).unwrap();
        assert_eq!(passed(&mut falling, 9).1, [(0, 50)]);
        let mut shuffled = read(&dump((0..99).map(|k| k * 37 % 100), |_| 20)).unwrap();
        assert!(passed(&mut shuffled, 50).1.len() <= 50);
        let mut extreme = read(&dump([-(1 << 59), -5, i64::MAX, 1 << 59], |_| 0)).unwrap();
        assert!(extreme.frames() >= 1);
        assert!(extreme.evenly(3, |_, _| Ok::<_, Error>(())).is_ok());
    }
}
