// SPDX-License-Identifier: GPL-2.0-or-later
//! Reading of text that can be compressed with gzip and can begin with a byte order mark.

use std::io::{self, Cursor, Read};

use flate2::read::MultiGzDecoder;

/// Largest ratio of uncompressed to compressed size of a limited text. Atomic coordinates do not compress better.
const MAX_RATIO: u64 = 100;
/// Number of uncompressed bytes below which the ratio is not checked.
const UNCHECKED_LENGTH: u64 = 64 << 20;

/// The byte order mark of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads the text of `R`. The compression is detected at the first read.
#[derive(Debug)]
pub(crate) struct PlainText<R> {
    /// The reader, before the first read.
    unread: Option<R>,
    /// The text, after the first read.
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
    /// Number of uncompressed bytes returned.
    uncompressed: u64,
}

/// A reader that counts the bytes read from it.
#[derive(Debug)]
struct Counted<R> {
    reader: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.count += read as u64;
        Ok(read)
    }
}

impl<R> PlainText<R> {
    /// Text of any length, for a caller that does not store it.
    pub(crate) fn new(reader: R) -> Self {
        Self { unread: Some(reader), text: None, limited: false }
    }

    /// Text with a limited compression ratio, for a caller that stores it: a small file that decompresses to a very large
    /// text is an error.
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
            // The first read failed.
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
            let compressed = Counted { reader: Cursor::new(start).chain(reader), count: 0 };
            let mut decoder = MultiGzDecoder::new(compressed);
            let mut start = first(&mut decoder, BYTE_ORDER_MARK.len() as u64).map_err(decoder_error)?;
            let uncompressed = start.len() as u64;
            if start == BYTE_ORDER_MARK {
                start.clear();
            }
            return Ok(Self::Unpacked(Box::new(Unpacked { start: Cursor::new(start), decoder, uncompressed })));
        }
        if let Some((_, what)) = UNREADABLE.iter().find(|(mark, _)| start.starts_with(mark)) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, *what));
        }
        if start.starts_with(BYTE_ORDER_MARK) {
            start.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(Self::Plain(Cursor::new(start).chain(reader)))
    }
}

/// First bytes of unsupported formats, and the error message for each.
const UNREADABLE: [(&[u8], &str); 6] = [
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd: decompress it with `zstd -d`, or compress it with gzip"),
    (b"\xfd7zXZ\0", "it is compressed with xz: decompress it with `xz -d`, or compress it with gzip"),
    (b"BZh", "it is compressed with bzip2: decompress it with `bzip2 -d`, or compress it with gzip"),
    (b"PK\x03\x04", "it is a zip archive: extract it"),
    (b"\xff\xfe", "it is text in UTF-16: save it as UTF-8"),
    (b"\xfe\xff", "it is text in UTF-16: save it as UTF-8"),
];

impl<R: Read> Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8], limited: bool) -> io::Result<usize> {
        match self.start.read(buffer) {
            Ok(0) => {}
            result => return result,
        }
        let read = self.decoder.read(buffer).map_err(decoder_error)?;
        self.uncompressed += read as u64;
        let compressed = self.decoder.get_ref().count;
        if limited && self.uncompressed > UNCHECKED_LENGTH + MAX_RATIO * compressed {
            let message = format!(
                "its first {compressed} bytes decompress to more than {MAX_RATIO} times as many, which is not possible for a \
                 structure file: decompress it with `gzip -d` and check it"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(read)
    }
}

/// The first `n` bytes, or all if there are fewer.
fn first(reader: &mut impl Read, n: u64) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    reader.take(n).read_to_end(&mut start)?;
    Ok(start)
}

/// Adds the cause and a remedy to an error of the decoder.
fn decoder_error(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the compressed data are damaged or truncated ({error}): check the file with `gzip -t`"),
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn compress(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        PlainText::limited(bytes).read_to_end(&mut text).map(|_| text)
    }

    #[test]
    fn text_is_read_from_plain_and_compressed_files() {
        for text in [&b""[..], b"a", b"ab\n", b"\x1f", b"some lines\nof text\n"] {
            let marked = [BYTE_ORDER_MARK, text].concat();
            let halves = text.split_at(text.len() / 2);
            let members = [compress(halves.0), compress(halves.1)].concat();
            for bytes in [text, &marked, &compress(text), &compress(&marked), &members] {
                assert_eq!(read(bytes).unwrap(), text, "{bytes:?}");
            }
        }
    }

    #[test]
    fn unsupported_formats_are_named_in_the_error() {
        let whole = compress(b"some lines\nof text\n");
        for end in 2..whole.len() {
            let error = read(&whole[..end]).unwrap_err().to_string();
            assert!(error.contains("damaged or truncated"), "{end}: {error}");
        }
        for (start, what) in UNREADABLE {
            assert_eq!(read(&[start, &whole].concat()).unwrap_err().to_string(), what);
        }
    }

    #[test]
    fn decompression_bombs_are_rejected_in_limited_mode() {
        let member = compress(&vec![b'x'; 1 << 20]);
        let bomb = member.repeat(200);
        let error = read(&bomb).map(|text| text.len()).unwrap_err().to_string();
        assert!(error.contains("more than 100 times"), "{error}");
        // Without the limit, any length is read.
        assert_eq!(io::copy(&mut PlainText::new(&bomb[..]), &mut io::sink()).unwrap(), 200 << 20);
    }
}
