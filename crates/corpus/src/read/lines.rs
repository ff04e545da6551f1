//! Splits a stream of bytes into records: one per line, or one per element of a JSON array.
//!
//! Both readers hold one record at a time, and at most [`LIMIT`] bytes of it.

use std::io::{self, BufRead};

use super::Fault;

/// The longest record that is read, in bytes. A longer one is skipped and reported.
pub(super) const LIMIT: usize = 16 << 20;

/// The bytes of one record, or of the beginning of a record that is too long.
pub(super) struct Chunk {
    /// The line number, or the position of the element, from 1.
    pub number: u64,
    /// The record, or its first [`LIMIT`] bytes.
    pub bytes: Vec<u8>,
    /// The fault, if one was already found.
    pub fault: Option<Fault>,
}

/// The non-blank lines of a file.
pub(super) struct Lines<R> {
    input: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub fn new(input: R) -> Self {
        Self { input, number: 0 }
    }

    pub fn input(&self) -> &R {
        &self.input
    }

    /// The number of the last line that was read.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next line without its line break; `None` at the end.
    pub fn next(&mut self) -> io::Result<Option<Chunk>> {
        loop {
            let mut bytes = Bounded::default();
            if !self.read_line(&mut bytes)? {
                return Ok(None);
            }
            self.number += 1;
            if bytes.long || !bytes.kept.trim_ascii().is_empty() {
                return Ok(Some(bytes.into_chunk(self.number)));
            }
        }
    }

    /// Reads up to the next line break. Returns false at the end of the input.
    fn read_line(&mut self, line: &mut Bounded) -> io::Result<bool> {
        let mut any = false;
        loop {
            let buffer = fill(&mut self.input)?;
            if buffer.is_empty() {
                return Ok(any);
            }
            any = true;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(buffer.len(), |end| end + 1);
            line.extend(&buffer[..end.unwrap_or(used)]);
            self.input.consume(used);
            if end.is_some() {
                return Ok(true);
            }
        }
    }
}

/// The elements of the single array in a `.json` file.
///
/// The elements are separated by counting brackets outside strings. So a broken element does not affect the others, and
/// a deeply nested one needs no stack.
pub(super) struct Elements<R> {
    input: R,
    number: u64,
    state: State,
}

#[derive(PartialEq)]
enum State {
    Before,
    Inside,
    After,
    Done,
}

impl<R: BufRead> Elements<R> {
    pub fn new(input: R) -> Self {
        Self { input, number: 0, state: State::Before }
    }

    pub fn input(&self) -> &R {
        &self.input
    }

    /// The position of the last element that was read.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next element's bytes; `None` after the end of the array.
    pub fn next(&mut self) -> io::Result<Option<Chunk>> {
        if self.state == State::Before {
            self.skip_to(|byte| byte == b'[')?;
            self.input.consume(1);
            self.state = State::Inside;
        }
        if self.state == State::Inside {
            let mut bytes = Bounded::default();
            self.state = self.read_element(&mut bytes)?;
            // After an empty array or a trailing comma there is no element.
            let blank = !bytes.long && bytes.kept.trim_ascii().is_empty();
            if !(blank && self.state == State::After) {
                self.number += 1;
                let mut chunk = bytes.into_chunk(self.number);
                if self.state == State::Done {
                    chunk.fault = Some(Fault::Unclosed);
                }
                return Ok(Some(chunk));
            }
        }
        if self.state == State::After {
            self.state = State::Done;
            if self.skip_to(|byte| !byte.is_ascii_whitespace())? {
                return Ok(Some(Chunk {
                    number: self.number + 1,
                    bytes: Vec::new(),
                    fault: Some(Fault::TrailingText),
                }));
            }
        }
        Ok(None)
    }

    /// Reads up to the comma or bracket that ends the element, and returns the state after it.
    fn read_element(&mut self, element: &mut Bounded) -> io::Result<State> {
        let (mut depth, mut in_string, mut escaped) = (0u64, false, false);
        loop {
            let buffer = fill(&mut self.input)?;
            if buffer.is_empty() {
                return Ok(State::Done);
            }
            for (at, byte) in buffer.iter().enumerate() {
                let end = match byte {
                    _ if escaped => {
                        escaped = false;
                        None
                    }
                    b'\\' if in_string => {
                        escaped = true;
                        None
                    }
                    b'"' => {
                        in_string = !in_string;
                        None
                    }
                    _ if in_string => None,
                    b',' if depth == 0 => Some(State::Inside),
                    b']' if depth == 0 => Some(State::After),
                    b'[' | b'{' => {
                        depth += 1;
                        None
                    }
                    b']' | b'}' => {
                        depth = depth.saturating_sub(1);
                        None
                    }
                    _ => None,
                };
                if let Some(state) = end {
                    element.extend(&buffer[..at]);
                    self.input.consume(at + 1);
                    return Ok(state);
                }
            }
            let used = buffer.len();
            element.extend(buffer);
            self.input.consume(used);
        }
    }

    /// Skips bytes up to the first one that `stop` accepts. Returns whether there is one.
    fn skip_to(&mut self, stop: impl Fn(u8) -> bool) -> io::Result<bool> {
        loop {
            let buffer = fill(&mut self.input)?;
            if buffer.is_empty() {
                return Ok(false);
            }
            let at = buffer.iter().position(|byte| stop(*byte));
            let used = at.unwrap_or(buffer.len());
            self.input.consume(used);
            if at.is_some() {
                return Ok(true);
            }
        }
    }
}

/// Bytes up to the limit, and whether there were more of them.
#[derive(Default)]
pub(super) struct Bounded {
    kept: Vec<u8>,
    long: bool,
}

impl Bounded {
    pub fn extend(&mut self, bytes: &[u8]) {
        let room = LIMIT - self.kept.len();
        self.long |= bytes.len() > room;
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    pub fn into_chunk(self, number: u64) -> Chunk {
        Chunk { number, bytes: self.kept, fault: self.long.then_some(Fault::TooLong { limit: LIMIT }) }
    }
}

/// The buffered bytes; reads more if there are none. Empty only at the end.
pub(super) fn fill<R: BufRead>(input: &mut R) -> io::Result<&[u8]> {
    loop {
        match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            // Called twice, because the borrow of the first result cannot leave the loop.
            Ok(_) => return input.fill_buf(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads in pieces of three bytes, so that an element is split at every position.
    fn elements(text: &str) -> Vec<(u64, String, Option<String>)> {
        let mut elements = Elements::new(io::BufReader::with_capacity(3, text.as_bytes()));
        let mut found = Vec::new();
        while let Some(chunk) = elements.next().expect("memory does not fail") {
            let text = String::from_utf8_lossy(chunk.bytes.trim_ascii()).into_owned();
            found.push((chunk.number, text, chunk.fault.map(|f| f.to_string())));
        }
        found
    }

    #[track_caller]
    fn check(text: &str, expected: &[(u64, &str, Option<&str>)]) {
        let found = elements(text);
        let found: Vec<_> =
            found.iter().map(|(number, text, fault)| (*number, text.as_str(), fault.as_deref())).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn arrays_are_cut_at_their_own_commas() {
        check("[]", &[]);
        check(" [ 1 ] \n", &[(1, "1", None)]);
        check("[1, 2,]", &[(1, "1", None), (2, "2", None)]);
        check(r#"[{"a":"],\"}"},[[1,2],3]]"#, &[(1, r#"{"a":"],\"}"}"#, None), (2, "[[1,2],3]", None)]);
        check("[1,,2]", &[(1, "1", None), (2, "", None), (3, "2", None)]);
    }

    #[test]
    fn broken_arrays_are_reported_where_they_break() {
        let unclosed = Some("the array is not closed after this element");
        check("[1, {\"a\"", &[(1, "1", None), (2, "{\"a\"", unclosed)]);
        check("[", &[(1, "", unclosed)]);
        check("[1] [2]", &[(1, "1", None), (2, "", Some("text after the end of the array"))]);
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_one_read() {
        let text = format!("a\n\n{}\nb", "x".repeat(LIMIT + 1));
        let mut lines = Lines::new(text.as_bytes());
        let mut found = Vec::new();
        while let Some(chunk) = lines.next().expect("memory does not fail") {
            found.push((chunk.number, chunk.bytes.len(), chunk.fault.is_some()));
        }
        assert_eq!(found, [(1, 1, false), (3, LIMIT, true), (4, 1, false)]);
    }
}
