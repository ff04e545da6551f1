//! Finds the character between the columns of a table.

use csv_core::{ReadRecordResult, ReaderBuilder};

use super::config::Delimiter;

/// The rows that are looked at.
const ROWS: usize = 50;

/// A first line such as `sep=;`, with which spreadsheets say the delimiter: the delimiter, and the length of the line.
pub(super) fn declared(head: &[u8]) -> Option<(Delimiter, usize)> {
    let end = head.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
    let line = head[..end].trim_ascii_start();
    let line = line.strip_prefix(b"\"").and_then(|line| line.strip_suffix(b"\"")).unwrap_or(line);
    let (name, byte) = line.split_at_checked(4)?;
    let [byte] = byte else { return None };
    let delimiter = Delimiter::new(*byte).filter(|_| name.eq_ignore_ascii_case(b"sep="))?;
    let ending = if head[end..].starts_with(b"\r\n") { 2 } else { 1 };
    Some((delimiter, end + ending))
}

/// The delimiter of a table that begins with these bytes: the one with which its columns are known, otherwise the one
/// that divides the rows most evenly. It must divide the header.
pub(super) fn found(head: &[u8], usual: Delimiter, is_known: impl Fn(&[String]) -> bool) -> Delimiter {
    let score = |delimiter: Delimiter| {
        let rows = rows(head, delimiter);
        let header = rows.first().filter(|header| header.len() > 1)?;
        let even = rows.iter().filter(|row| row.len() == header.len()).count() * 1000 / rows.len();
        Some((is_known(header), even, delimiter == usual, header.len()))
    };
    let scored = Delimiter::USUAL.into_iter().rev().filter_map(|delimiter| Some((score(delimiter)?, delimiter)));
    scored.max_by_key(|(score, _)| *score).map_or(usual, |(_, delimiter)| delimiter)
}

/// The first rows as texts. A row that may be cut off at the end of the bytes is left out, unless it is the header.
fn rows(head: &[u8], delimiter: Delimiter) -> Vec<Vec<String>> {
    let mut parser = ReaderBuilder::new().delimiter(delimiter.byte()).build();
    let (mut cells, mut ends, mut rows) = (vec![0; head.len() + 1], vec![0; head.len() + 1], Vec::new());
    let mut rest = head;
    while rows.len() < ROWS {
        let (result, used, _, count) = parser.read_record(rest, &mut cells, &mut ends);
        rest = &rest[used..];
        if result != ReadRecordResult::Record && !(rows.is_empty() && count > 0) {
            break;
        }
        let starts = std::iter::once(&0).chain(&ends[..count]);
        let cell = |(start, end): (&usize, &usize)| String::from_utf8_lossy(&cells[*start..*end]).trim().to_owned();
        rows.push(starts.zip(&ends[..count]).map(cell).collect());
        if result != ReadRecordResult::Record {
            break;
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::names::are_known;
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: u8) {
        let found = found(text.as_bytes(), Delimiter::COMMA, are_known);
        assert_eq!(char::from(found.byte()), char::from(expected), "{text}");
    }

    #[test]
    fn the_header_and_the_rows_tell_the_delimiter() {
        for (delimiter, byte) in [(",", b','), (";", b';'), ("\t", b'\t'), ("|", b'|')] {
            for text in
                ["id~prompt~completion\n1~a, b; c~d|e\n", "a~b\n\"x~,;y\"~2\n1,5~2;3\n", "Prompt~ Completion \n"]
            {
                check(&text.replace('~', delimiter), byte);
            }
        }
        // The known columns decide, then the even rows.
        check("prompt,completion;x\na,b;c\n", b',');
        check("prompt;completion,x;y\na;b;c\n", b';');
        check("a,b;c;d\n1;2;3\n4;5;6\n", b';');
        // One column.
        check("text\na;b;c\n", b',');
        check("text\n", b',');
        check("", b',');
        assert_eq!(found_tab("text\na\n"), Delimiter::TAB);
    }

    fn found_tab(text: &str) -> Delimiter {
        found(text.as_bytes(), Delimiter::TAB, are_known)
    }

    #[test]
    fn the_first_line_may_say_it() {
        for (head, expected) in [
            ("sep=;\r\nid;a\n", Some((b';', 7))),
            ("SEP=|\nid|a\n", Some((b'|', 6))),
            ("\"sep=,\"\rid,a", Some((b',', 8))),
            ("sep=\t\n", Some((b'\t', 6))),
            ("sep=;;\n", None),
            ("sep=a\n", None),
            ("sep=;", None),
            ("separate;x\n", None),
        ] {
            assert_eq!(declared(head.as_bytes()).map(|(found, length)| (found.byte(), length)), expected, "{head}");
        }
    }
}
