//! Text of strangers that is shown to a person.

use std::fmt::{Display, Formatter, Result, Write};

/// A name or a text out of a file, as it can be shown; made by [`printable()`], [`printable_text`] and [`printable_json`].
///
/// Escaped are control characters (also those of C1), line and paragraph separators, and characters that turn the
/// direction of text around: they move a terminal's cursor, hide lines, or make a name look like another. All else stays.
#[derive(Clone, Copy, Debug)]
pub struct Printable<T> {
    shown: T,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Name,
    Text,
    Json,
}

/// A name, on one line: ESC becomes `\u{1b}`, a line's end `\n`.
///
/// ```
/// use foehn_files::printable;
///
/// assert_eq!(printable("a\u{1b}[2J\u{202e}é\n").to_string(), r"a\u{1b}[2J\u{202e}é\n");
/// ```
pub fn printable<T: Display>(name: T) -> Printable<T> {
    Printable { shown: name, form: Form::Name }
}

/// A text of several lines: as [`printable()`], but line feeds and tabs stay.
///
/// A program that prints an error with its sources prints it through this, because parsers quote what they were given.
pub fn printable_text<T: Display>(text: T) -> Printable<T> {
    Printable { shown: text, form: Form::Text }
}

/// JSON, which stays the same JSON: U+009B becomes `\u009b`.
///
/// JSON itself asks for an escape of the characters below U+0020 alone.
pub fn printable_json<T: Display>(json: T) -> Printable<T> {
    Printable { shown: json, form: Form::Json }
}

impl<T: Display> Display for Printable<T> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> Result {
        write!(Escaping { out: formatter, form: self.form }, "{}", self.shown)
    }
}

/// Whether a character must not reach a terminal.
fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}')
}

struct Escaping<'a, 'b> {
    out: &'a mut Formatter<'b>,
    form: Form,
}

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> Result {
        let stays = |c: char| self.form != Form::Name && matches!(c, '\n' | '\t');
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| steers(c) && !stays(c)) {
            let (before, from) = rest.split_at(at);
            self.out.write_str(before)?;
            let mut chars = from.chars();
            if let Some(c) = chars.next() {
                match self.form {
                    Form::Json => write!(self.out, "\\u{:04x}", u32::from(c))?,
                    Form::Name | Form::Text => write!(self.out, "{}", c.escape_default())?,
                }
            }
            rest = chars.as_str();
        }
        self.out.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unicode's category Cc, its line and paragraph separators, and its explicit embeddings, overrides and isolates.
    fn all_that_steer() -> impl Iterator<Item = char> {
        let ranges = [(0, 0x1f), (0x7f, 0x9f), (0x2028, 0x2029), (0x202a, 0x202e), (0x2066, 0x2069)];
        ranges.into_iter().flat_map(|(first, last)| first..=last).filter_map(char::from_u32)
    }

    #[test]
    fn what_steers_a_terminal_is_escaped_as_rust_does() {
        for c in all_that_steer() {
            let (name, text) = (printable(c).to_string(), printable_text(c).to_string());
            if c == '\0' {
                assert_eq!(name, r"\u{0}");
            } else {
                assert_eq!(name, c.escape_debug().to_string());
            }
            assert_eq!(text, if matches!(c, '\n' | '\t') { c.to_string() } else { name });
        }
    }

    #[test]
    fn what_people_write_stays() {
        let text = r#"naïve – "日本語" שלום 🏴󠁧󠁢󠁳󠁣󠁴󠁿 👩‍👩‍👧 می‌خواهم ⟨\u{1b}⟩ a\b"#;
        assert_eq!(printable(text).to_string(), text);
        assert_eq!(printable_text(format_args!("{text}\n\t{text}")).to_string(), format!("{text}\n\t{text}"));
    }
}
