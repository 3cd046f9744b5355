// SPDX-License-Identifier: GPL-2.0-or-later
//! Text from a file that may be compressed with gzip, and may begin with a byte order mark.

use std::io::{self, Cursor, Read};

use flate2::read::MultiGzDecoder;

/// A limited text may be so many times as large as what it was compressed to: what has atoms in different places does not
/// compress to less.
const LARGEST_RATIO: u64 = 100;
/// Unpacked bytes below which the ratio is not checked.
const FREE: u64 = 64 << 20;

/// UTF-8 text begins so in files of some editors.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads the text of `R`. What it is, is found out at the first read.
#[derive(Debug)]
pub(crate) struct PlainText<R> {
    /// Until the first read.
    unread: Option<R>,
    /// From the first read on.
    text: Option<Text<R>>,
    limited: bool,
}

#[derive(Debug)]
enum Text<R> {
    Plain(io::Chain<Cursor<Vec<u8>>, R>),
    Unpacked(Box<Unpacked<R>>),
}

#[derive(Debug)]
struct Unpacked<R> {
    /// The first bytes of the text.
    start: Cursor<Vec<u8>>,
    decoder: MultiGzDecoder<Counted<io::Chain<Cursor<Vec<u8>>, R>>>,
    given: u64,
}

#[derive(Debug)]
struct Counted<R> {
    reader: R,
    taken: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.taken += read as u64;
        Ok(read)
    }
}

impl<R> PlainText<R> {
    /// For a reader that keeps nothing of what it has read: it may be of any length.
    pub(crate) fn new(reader: R) -> Self {
        Self { unread: Some(reader), text: None, limited: false }
    }

    /// For a reader that keeps what it reads: a small file that unpacks to one which fills the memory is an error.
    pub(crate) fn limited(reader: R) -> Self {
        Self { limited: true, ..Self::new(reader) }
    }
}

impl<R: Read> Read for PlainText<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(reader) = self.unread.take() {
            self.text = Some(Text::begin(reader)?);
        }
        match &mut self.text {
            // After an error at the first read.
            None => Ok(0),
            Some(Text::Plain(text)) => text.read(buffer),
            Some(Text::Unpacked(text)) => text.read(buffer, self.limited),
        }
    }
}

impl<R: Read> Text<R> {
    fn begin(mut reader: R) -> io::Result<Self> {
        let mut start = first(&mut reader, 6)?;
        if start.starts_with(b"\x1f\x8b") {
            let packed = Counted { reader: Cursor::new(start).chain(reader), taken: 0 };
            let mut decoder = MultiGzDecoder::new(packed);
            let mut start = first(&mut decoder, MARK.len() as u64).map_err(damaged)?;
            let given = start.len() as u64;
            if start == MARK {
                start.clear();
            }
            return Ok(Self::Unpacked(Box::new(Unpacked { start: Cursor::new(start), decoder, given })));
        }
        if let Some((_, what)) = UNREADABLE.iter().find(|(mark, _)| start.starts_with(mark)) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, *what));
        }
        if start.starts_with(MARK) {
            start.drain(..MARK.len());
        }
        Ok(Self::Plain(Cursor::new(start).chain(reader)))
    }
}

/// First bytes of what cannot be read, and what to do about it.
const UNREADABLE: [(&[u8], &str); 6] = [
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd: unpack it with `zstd -d`, or compress it with gzip"),
    (b"\xfd7zXZ\0", "it is compressed with xz: unpack it with `xz -d`, or compress it with gzip"),
    (b"BZh", "it is compressed with bzip2: unpack it with `bzip2 -d`, or compress it with gzip"),
    (b"PK\x03\x04", "it is a zip archive: unpack it"),
    (b"\xff\xfe", "it is text in UTF-16: save it as UTF-8"),
    (b"\xfe\xff", "it is text in UTF-16: save it as UTF-8"),
];

impl<R: Read> Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8], limited: bool) -> io::Result<usize> {
        match self.start.read(buffer) {
            Ok(0) => {}
            begun => return begun,
        }
        let read = self.decoder.read(buffer).map_err(damaged)?;
        self.given += read as u64;
        let taken = self.decoder.get_ref().taken;
        if limited && self.given > FREE + LARGEST_RATIO * taken {
            let message = format!(
                "its first {taken} bytes unpack to more than {LARGEST_RATIO} times as many, which is no structure: \
                 unpack it with `gzip -d` to look at it"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(read)
    }
}

/// The first `n` bytes, or as many as there are.
fn first(reader: &mut impl Read, n: u64) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    reader.take(n).read_to_end(&mut start)?;
    Ok(start)
}

/// An error of the decoder, whose own words do not say what is damaged.
fn damaged(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the compressed data are damaged or cut off ({error}): check the file with `gzip -t`"),
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        PlainText::limited(bytes).read_to_end(&mut text).map(|_| text)
    }

    #[test]
    fn text_comes_out_of_whatever_it_is_packed_in() {
        for text in [&b""[..], b"a", b"ab\n", b"\x1f", b"some lines\nof text\n"] {
            let marked = [MARK, text].concat();
            let halves = text.split_at(text.len() / 2);
            let members = [packed(halves.0), packed(halves.1)].concat();
            for bytes in [text, &marked, &packed(text), &packed(&marked), &members] {
                assert_eq!(read(bytes).unwrap(), text, "{bytes:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_says_what_it_is() {
        let whole = packed(b"some lines\nof text\n");
        for end in 2..whole.len() {
            let error = read(&whole[..end]).unwrap_err().to_string();
            assert!(error.contains("damaged or cut off"), "{end}: {error}");
        }
        for (start, what) in UNREADABLE {
            assert_eq!(read(&[start, &whole].concat()).unwrap_err().to_string(), what);
        }
    }

    #[test]
    fn a_bomb_ends_before_it_fills_the_memory() {
        let member = packed(&vec![b'x'; 1 << 20]);
        let bomb = member.repeat(200);
        let error = read(&bomb).map(|text| text.len()).unwrap_err().to_string();
        assert!(error.contains("more than 100 times"), "{error}");
        // What is not kept may be of any length.
        assert_eq!(io::copy(&mut PlainText::new(&bomb[..]), &mut io::sink()).unwrap(), 200 << 20);
    }
}
