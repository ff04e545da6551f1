//! A `.json` file of objects that extend over several lines.

use std::io::{self, BufRead};

use super::lines::{Bounded, Chunk, fill};

/// The objects of a file, one after another. They are separated by counting brackets outside strings.
pub(super) struct Objects<R> {
    input: R,
    /// The number of line breaks read.
    breaks: u64,
    /// The line on which the last object began.
    number: u64,
}

/// Whether the first line of these bytes opens an object and leaves it open at a place where JSON may continue.
pub(super) fn is_spread(head: &[u8]) -> bool {
    let head = head.trim_ascii_start();
    let Some(end) = head.iter().position(|byte| *byte == b'\n') else { return false };
    let line = head[..end].trim_ascii_end();
    let mut brackets = Brackets::default();
    line.iter().for_each(|byte| brackets.pass(*byte));
    let goes_on = match line.last() {
        Some(b'{' | b'[' | b':') => true,
        // If the first line was truncated JSON, the next line begins with a new object. In an object that continues, a
        // key comes next.
        Some(b',') => !head[end..].trim_ascii_start().starts_with(b"{"),
        _ => head[end..].trim_ascii_start().starts_with(b"}"),
    };
    brackets.depth > 0 && !brackets.in_string && goes_on
}

impl<R: BufRead> Objects<R> {
    pub fn new(input: R) -> Self {
        Self { input, breaks: 0, number: 0 }
    }

    pub fn input(&self) -> &R {
        &self.input
    }

    /// The line on which the last object began.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next object's bytes; `None` at the end. Text between two objects is added to the second one.
    pub fn next(&mut self) -> io::Result<Option<Chunk>> {
        let (mut bytes, mut brackets, mut has_begun) = (Bounded::default(), Brackets::default(), false);
        loop {
            let buffer = fill(&mut self.input)?;
            if buffer.is_empty() {
                return Ok(has_begun.then(|| bytes.into_chunk(self.number)));
            }
            let (mut start, mut used, mut is_whole) = (0, buffer.len(), false);
            for (at, byte) in buffer.iter().enumerate() {
                self.breaks += u64::from(*byte == b'\n');
                if !has_begun && byte.is_ascii_whitespace() {
                    start = at + 1;
                    continue;
                }
                if !has_begun {
                    (has_begun, self.number) = (true, self.breaks + 1);
                }
                brackets.pass(*byte);
                if brackets.depth == 0 && *byte == b'}' && !brackets.in_string {
                    (used, is_whole) = (at + 1, true);
                    break;
                }
            }
            bytes.extend(&buffer[start.min(used)..used]);
            self.input.consume(used);
            if is_whole {
                return Ok(Some(bytes.into_chunk(self.number)));
            }
        }
    }
}

/// The nesting depth of brackets in a text, and whether it is inside a string.
#[derive(Default)]
struct Brackets {
    depth: u64,
    in_string: bool,
    is_escaped: bool,
}

impl Brackets {
    fn pass(&mut self, byte: u8) {
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' if self.in_string => self.is_escaped = true,
            b'"' => self.in_string = !self.in_string,
            b'{' | b'[' if !self.in_string => self.depth += 1,
            b'}' | b']' if !self.in_string => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_over_several_lines_are_told_from_lines() {
        for (text, expected) in [
            ("{\n \"a\": 1\n}\n", true),
            ("{\"messages\": [\n {\"role\": \"user\"}]}", true),
            ("{\"a\":\n1}", true),
            ("{ \"a\": 1,\n  \"b\": 2 }", true),
            ("{\"a\": 1\n}", true),
            ("{\"a\": 1}\n{\"a\": 2}\n", false),
            ("{\"a\": \"{\n", false),
            ("{\"a\": 1,\n{\"a\": 2}\n", false),
            ("{\"a\": 1", false),
            ("{\"a\": [1\n{\"a\": 2}", false),
        ] {
            assert_eq!(is_spread(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn objects_are_cut_at_their_own_brackets() {
        let text = "\n{\n \"a\": \"}\\\"\"\n}\n{\"b\": [{}]} x\n{\n\"c\"";
        for size in [1, 3, 64] {
            let mut objects = Objects::new(io::BufReader::with_capacity(size, text.as_bytes()));
            let mut found = Vec::new();
            while let Some(chunk) = objects.next().expect("memory does not fail") {
                found.push((chunk.number, String::from_utf8(chunk.bytes).expect("it was a text")));
            }
            let expected = [(2, "{\n \"a\": \"}\\\"\"\n}"), (5, "{\"b\": [{}]}"), (5, "x\n{\n\"c\"")];
            assert_eq!(found, expected.map(|(line, text)| (line, text.to_owned())));
        }
    }
}
