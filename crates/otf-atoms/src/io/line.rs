// SPDX-License-Identifier: GPL-2.0-or-later
//! Lines of limited length.
use std::io::{self, BufRead, Read as _};

/// Largest number of bytes that [`read_line`] reads for one line, with its newline.
pub const MAX_LINE_LENGTH: usize = 1 << 20;

/// What [`read_line`] stopped at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnd {
    /// A newline, which is the last byte of the line.
    Newline,
    /// [`MAX_LINE_LENGTH`] bytes without a newline. The rest of the line follows as another line.
    TooLong,
    /// The end of the input. The line is empty, or has no newline (yet).
    EndOfInput,
}

/// Appends the next line to `line`, which may hold its beginning, and limits the memory that a line can take.
///
/// # Errors
/// Those of the reader.
pub fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<LineEnd> {
    let room = MAX_LINE_LENGTH.saturating_sub(line.len());
    reader.take(room as u64).read_until(b'\n', line)?;
    Ok(match line.last() {
        Some(b'\n') => LineEnd::Newline,
        _ if line.len() >= MAX_LINE_LENGTH => LineEnd::TooLong,
        _ => LineEnd::EndOfInput,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_at_a_newline_the_limit_or_the_end_of_input() {
        let text = [b"one\n".as_slice(), &vec![b'x'; MAX_LINE_LENGTH], b"rest"].concat();
        let mut input = text.as_slice();
        let mut next = || {
            let mut line = Vec::new();
            let end = read_line(&mut input, &mut line).unwrap();
            (end, line.len())
        };
        assert_eq!(next(), (LineEnd::Newline, 4));
        assert_eq!(next(), (LineEnd::TooLong, MAX_LINE_LENGTH));
        assert_eq!(next(), (LineEnd::EndOfInput, 4));
        assert_eq!(next(), (LineEnd::EndOfInput, 0));
        // The beginning of a line is completed.
        let mut line = b"be".to_vec();
        assert_eq!(read_line(&mut b"gin\n".as_slice(), &mut line).unwrap(), LineEnd::Newline);
        assert_eq!(line, b"begin\n");
    }
}
