//! The bytes of a text file as UTF-8, in whatever encoding they are.

use std::fmt;
use std::io::{self, BufRead, Read};

use encoding_rs::{Decoder, DecoderResult, Encoding as Known, UTF_8};

use super::encoding::{Encoding, Mark, Tally, found, mark};
use super::lines::fill;

/// The first bytes are read before anything is decided: this many, or the whole file.
const HEAD: usize = 64 << 10;
/// The encoding is decided by the first bytes above ASCII and what follows them, about this many bytes.
const WINDOW: usize = 1 << 20;
/// Bytes that cannot be decoded become this byte, which is never UTF-8, so that their line is rejected.
const BAD: u8 = 0xFF;

/// Text that is decoded while it is read.
///
/// A byte-order mark is removed. ASCII is passed on as it is; at the first other byte the encoding is decided. UTF-8 is
/// passed on too, with its faults.
pub(super) struct Decoded<R> {
    input: R,
    /// Bytes that were taken from the input and are not consumed yet; decoded.
    pending: Vec<u8>,
    at: usize,
    mode: Mode,
}

enum Mode {
    Ascii,
    Utf8,
    Other(Box<Other>),
}

struct Other {
    encoding: &'static Known,
    decoder: Decoder,
    /// For an encoding that was guessed: how much of the file would be UTF-8.
    tally: Option<Tally>,
    is_done: bool,
}

/// Why a text cannot be decoded; the source of an [`io::Error`].
#[derive(Debug)]
pub(super) enum Undecodable {
    /// UTF-32.
    Utf32,
    /// The first part of the file is in the encoding, and the rest is UTF-8.
    Mixed(Encoding),
}

impl<R: BufRead> Decoded<R> {
    /// Reads the first bytes. A byte-order mark is stronger than the encoding that was asked for.
    pub fn new(input: R, asked: Option<Encoding>) -> io::Result<Self> {
        let mut text = Self { input, pending: Vec::new(), at: 0, mode: Mode::Ascii };
        let is_whole = text.gather(HEAD)?;
        match (mark(&text.pending), asked) {
            (Mark::Utf32, _) => return Err(io::Error::other(Undecodable::Utf32)),
            (Mark::Sure(encoding, length), None) => text.decode_as(encoding, length, is_whole, false),
            (Mark::Sure(encoding, length), Some(_)) if length > 0 => {
                text.decode_as(encoding, length, is_whole, false);
            }
            (_, Some(asked)) => text.decode_as(asked.0, 0, is_whole, false),
            (Mark::None, None) if text.pending.is_ascii() => {}
            (Mark::None, None) => text.decide()?,
        }
        Ok(text)
    }

    /// The encoding, as far as it is known by now.
    pub fn encoding(&self) -> Encoding {
        match &self.mode {
            Mode::Ascii | Mode::Utf8 => Encoding::UTF_8,
            Mode::Other(other) => Encoding(other.encoding),
        }
    }

    /// Adds bytes to the pending ones until there are this many. Returns whether the input has ended.
    fn gather(&mut self, length: usize) -> io::Result<bool> {
        while self.pending.len() < length {
            let input = fill(&mut self.input)?;
            if input.is_empty() {
                return Ok(true);
            }
            let used = input.len().min(length - self.pending.len());
            self.pending.extend_from_slice(&input[..used]);
            self.input.consume(used);
        }
        Ok(false)
    }

    /// Decides the encoding by the pending bytes and those after them.
    fn decide(&mut self) -> io::Result<()> {
        let is_whole = self.gather(WINDOW)?;
        match found(&self.pending, is_whole) {
            Some(encoding) => self.decode_as(encoding, 0, is_whole, true),
            None => self.mode = Mode::Utf8,
        }
        Ok(())
    }

    /// Decodes the pending bytes after the byte-order mark, and sets the encoding for those that follow.
    fn decode_as(&mut self, encoding: &'static Known, mark: usize, is_whole: bool, is_guess: bool) {
        if encoding == UTF_8 {
            (self.at, self.mode) = (mark, Mode::Utf8);
            return;
        }
        let bytes = std::mem::take(&mut self.pending);
        let mut tally = is_guess.then(Tally::default);
        tally.iter_mut().for_each(|tally| tally.add(&bytes));
        let decoder = encoding.new_decoder_without_bom_handling();
        let mut other = Other { encoding, decoder, tally, is_done: is_whole };
        other.decode(&bytes[mark..], &mut self.pending, is_whole);
        self.mode = Mode::Other(Box::new(other));
    }

    /// Makes sure that there are pending bytes, or that the input can be passed on.
    fn advance(&mut self) -> io::Result<()> {
        while self.at >= self.pending.len() {
            match &mut self.mode {
                Mode::Utf8 => return Ok(()),
                Mode::Ascii => {
                    if fill(&mut self.input)?.is_ascii() {
                        return Ok(());
                    }
                    (self.pending, self.at) = (Vec::new(), 0);
                    self.decide()?;
                }
                Mode::Other(other) if other.is_done => return Ok(()),
                Mode::Other(other) => {
                    self.at = 0;
                    self.pending.clear();
                    let bytes = fill(&mut self.input)?;
                    other.is_done = bytes.is_empty();
                    other.check(bytes)?;
                    other.decode(bytes, &mut self.pending, bytes.is_empty());
                    let used = bytes.len();
                    self.input.consume(used);
                }
            }
        }
        Ok(())
    }

    fn passes_on(&self) -> bool {
        self.at >= self.pending.len() && !matches!(self.mode, Mode::Other(_))
    }
}

impl Other {
    fn decode(&mut self, mut bytes: &[u8], text: &mut Vec<u8>, is_last: bool) {
        loop {
            let start = text.len();
            let room = self.decoder.max_utf8_buffer_length_without_replacement(bytes.len());
            text.resize(start + room.unwrap_or(bytes.len()).max(16), 0);
            let (result, read, written) =
                self.decoder.decode_to_utf8_without_replacement(bytes, &mut text[start..], is_last);
            text.truncate(start + written);
            bytes = &bytes[read..];
            match result {
                DecoderResult::InputEmpty => return,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => text.push(BAD),
            }
        }
    }

    /// Refuses a file whose first part is in the guessed encoding, and whose rest is UTF-8.
    fn check(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tally) = &mut self.tally else { return Ok(()) };
        tally.add(bytes);
        if tally.valid > tally.invalid {
            return Err(io::Error::other(Undecodable::Mixed(Encoding(self.encoding))));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut available = self.fill_buf()?;
        let read = available.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Decoded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.advance()?;
        if self.passes_on() { fill(&mut self.input) } else { Ok(&self.pending[self.at..]) }
    }

    fn consume(&mut self, used: usize) {
        if self.passes_on() { self.input.consume(used) } else { self.at += used }
    }
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Utf32 => f.write_str("the text is UTF-32"),
            Self::Mixed(encoding) => write!(f, "the text changes from {encoding} to UTF-8"),
        }
    }
}

impl std::error::Error for Undecodable {}

#[cfg(test)]
mod tests {
    use encoding_rs::WINDOWS_1252;

    use super::*;

    /// Reads in pieces of this size.
    fn read(bytes: &[u8], size: usize, asked: Option<&str>) -> (io::Result<Vec<u8>>, &'static str) {
        let asked = asked.map(|name| name.parse().expect("a known name"));
        let mut text = match Decoded::new(io::BufReader::with_capacity(size, bytes), asked) {
            Ok(text) => text,
            Err(error) => return (Err(error), ""),
        };
        let mut read = Vec::new();
        let result = text.read_to_end(&mut read);
        let name = text.encoding().name();
        (result.map(|_| read), name)
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: &[u8], encoding: &str) {
        for size in [1, 3, 1 << 16] {
            let (found, name) = read(bytes, size, None);
            let found = found.expect("it can be read");
            assert!(found == expected, "{size}: {}", String::from_utf8_lossy(&found[..found.len().min(200)]));
            assert_eq!(name, encoding);
        }
    }

    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_be_bytes).collect()
    }

    #[test]
    fn every_encoding_gives_the_same_text() {
        let text = "id;größe\n1;“Ja” – £12 für München\n".repeat(3000);
        check(text.as_bytes(), text.as_bytes(), "UTF-8");
        check(format!("\u{feff}{text}").as_bytes(), text.as_bytes(), "UTF-8");
        check(&WINDOWS_1252.encode(&text).0, text.as_bytes(), "windows-1252");
        check(&wide(&format!("\u{feff}{text}")), text.as_bytes(), "UTF-16BE");
        check(&wide(&text), text.as_bytes(), "UTF-16BE");
        check(b"plain", b"plain", "UTF-8");
        check(b"", b"", "UTF-8");
    }

    #[test]
    fn the_first_byte_above_ascii_decides_wherever_it_is() {
        let text = format!("{}größer als “vorher”\n", "a line of nothing but ascii\n".repeat(90_000));
        check(&WINDOWS_1252.encode(&text).0, text.as_bytes(), "windows-1252");
        check(text.as_bytes(), text.as_bytes(), "UTF-8");
    }

    #[test]
    fn what_cannot_be_decoded_is_marked() {
        // Half a surrogate pair, and half a character at the end.
        let bytes = [b"\xFF\xFEa\0".as_slice(), b"\x00\xD8b\0c"].concat();
        check(&bytes, b"a\xFFb\xFF", "UTF-16LE");
        assert_eq!(read(b"a\x93b", 9, Some("cp1252")).0.expect("readable"), "a“b".as_bytes());
        assert_eq!(read(b"\xEF\xBB\xBFa\xE9", 9, Some("cp1252")).0.expect("readable"), b"a\xE9");
        let error = read(b"\xFF\xFE\0\0a\0\0\0", 9, None).0.expect_err("UTF-32");
        assert_eq!(error.to_string(), "the text is UTF-32");
    }

    #[test]
    fn a_file_that_turns_out_to_be_utf_8_is_refused() {
        let bytes = [b"caf\xE9\n".as_slice(), &b"ascii\n".repeat(200_000), "größe\ngröße\n".as_bytes()].concat();
        let error = read(&bytes, 1 << 16, None).0.expect_err("mixed");
        assert_eq!(error.to_string(), "the text changes from windows-1252 to UTF-8");
    }
}
