//! Normalises how texts are written: normal form, line endings, invisible characters.

use unicode_normalization::{UnicodeNormalization, is_nfc};

use super::{Pass, repair_calls, repair_messages};
use foehn_record::Record;

/// Converts text to Unicode normal form C with `\n` as line ending, and removes characters without width.
///
/// It removes the byte-order mark, zero-width spaces, word joiners, soft hyphens, and the controls that change the
/// direction of text (Boucher and Anderson, "Trojan Source", 2021). A zero-width joiner or non-joiner is kept between
/// two characters that are not ASCII, because scripts and emoji need it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Normalise;

impl Pass for Normalise {
    fn name(&self) -> &'static str {
        "normalise"
    }

    fn judges(&self) -> bool {
        false
    }

    fn repair(&self, record: &mut Record) -> bool {
        let normal = |text: &str| {
            if text.is_ascii() && !text.contains('\r') {
                return None;
            }
            let visible = without_invisible(text);
            Some(if is_nfc(&visible) { visible } else { visible.nfc().collect() })
        };
        repair_messages(record, normal) | repair_calls(record, normal)
    }
}

/// Removes control characters except line breaks and tabs, and the terminal sequences that begin with ESC.
///
/// White space among them is replaced: the next line (U+0085) by a line break; the vertical tab, the form feed and the
/// separators (U+001C to U+001F) by a space, unless there is one beside it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Controls;

impl Pass for Controls {
    fn name(&self) -> &'static str {
        "controls"
    }

    fn judges(&self) -> bool {
        false
    }

    fn repair(&self, record: &mut Record) -> bool {
        let clean = |text: &str| text.contains(is_unwanted_control).then(|| without_controls(text));
        repair_messages(record, clean) | repair_calls(record, clean)
    }
}

/// Removes white space at both ends of every message, except the indent of its first line.
///
/// A single space before a text is removed too, unless a later line is also indented: in older formats, answers begin
/// with it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trim;

impl Pass for Trim {
    fn name(&self) -> &'static str {
        "trim"
    }

    fn judges(&self) -> bool {
        false
    }

    fn repair(&self, record: &mut Record) -> bool {
        repair_messages(record, |text| {
            let trimmed = without_blank_ends(text);
            (trimmed.len() < text.len()).then(|| trimmed.to_owned())
        })
    }
}

fn without_blank_ends(text: &str) -> &str {
    let text = text.trim_end();
    let bare = text.trim_start();
    let blank = &text[..text.len() - bare.len()];
    let indent = blank.len() - blank.trim_end_matches([' ', '\t']).len();
    let is_first = blank.len() == indent || blank[..blank.len() - indent].ends_with('\n');
    let is_meant = &blank[blank.len() - indent..] != " " || bare.contains("\n ") || bare.contains("\n\t");
    if is_first && is_meant { &text[blank.len() - indent..] } else { bare }
}

fn without_invisible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                chars.next_if_eq(&'\n');
                visible.push('\n');
            }
            '\u{2028}' | '\u{2029}' => visible.push('\n'),
            '\u{feff}' | '\u{200b}' | '\u{2060}' | '\u{ad}' => {}
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            '\u{200c}' | '\u{200d}' => {
                let joins = |c: Option<char>| c.is_some_and(|c| !c.is_ascii() && !c.is_whitespace());
                if joins(visible.chars().next_back()) && joins(chars.peek().copied()) {
                    visible.push(c);
                }
            }
            _ => visible.push(c),
        }
    }
    visible
}

fn without_controls(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        // A control sequence of ECMA-48, section 5.4: ESC [ parameters intermediates final.
        if c == '\u{1b}' && chars.next_if_eq(&'[').is_some() {
            while chars.next_if(|c| matches!(c, ' '..='?')).is_some() {}
            chars.next_if(|c| matches!(c, '@'..='~'));
            continue;
        }
        match c {
            '\u{85}' => plain.push('\n'),
            '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1f}' => {
                let is_apart = plain.ends_with(char::is_whitespace) || chars.peek().is_none_or(|c| c.is_whitespace());
                if !is_apart && !plain.is_empty() {
                    plain.push(' ');
                }
            }
            _ if is_unwanted_control(c) => {}
            _ => plain.push(c),
        }
    }
    plain
}

fn is_unwanted_control(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t'
}

#[cfg(test)]
mod tests {
    use super::*;
    use foehn_record::{Message, Role};

    #[track_caller]
    fn check(pass: &dyn Pass, text: &str, expected: &str) {
        let mut record = Record::new(vec![Message::new(Role::User, text)]);
        let changed = pass.repair(&mut record);
        assert_eq!(record.messages[0].content, expected);
        assert_eq!(changed, text != expected, "{text:?}");
    }

    #[test]
    fn text_is_written_one_way() {
        check(&Normalise, "plain\ttext\n", "plain\ttext\n");
        check(&Normalise, "a\r\nb\rc\u{2028}d", "a\nb\nc\nd");
        check(&Normalise, "cafe\u{301}", "café");
        check(&Normalise, "\u{feff}a\u{200b}b\u{ad}c\u{202e}d", "abcd");
        check(&Normalise, "a\u{200d}b", "ab");
        check(&Normalise, "👩\u{200d}🚀", "👩\u{200d}🚀");
        check(&Normalise, "می\u{200c}خواهم", "می\u{200c}خواهم");
    }

    #[test]
    fn controls_and_their_sequences_go() {
        check(&Controls, "a\tb\nc", "a\tb\nc");
        check(&Controls, "a\0b\u{7}cd", "abcd");
        check(&Controls, "\u{1b}[1;31mred\u{1b}[0m", "red");
    }

    #[test]
    fn controls_that_are_white_space_stay_white_space() {
        for (text, expected) in [
            ("page one.\u{c}page two.", "page one. page two."),
            ("Title\u{b}Subtitle", "Title Subtitle"),
            ("a\u{1f}b\u{1e}c", "a b c"),
            ("one\u{85}two", "one\ntwo"),
            ("one\n\u{c}two \u{b} three\u{c}", "one\ntwo  three"),
        ] {
            check(&Controls, text, expected);
        }
    }

    #[test]
    fn the_indent_of_the_first_line_stays() {
        for (text, expected) in [
            ("    a = w * h\n    return a\n", "    a = w * h\n    return a"),
            ("\n\n\treturn a", "\treturn a"),
            ("    jnz loop", "    jnz loop"),
            (" a b\n 10 2\n", " a b\n 10 2"),
            (" Visual", "Visual"),
            ("\u{a0}  Visual", "Visual"),
            (" 1. one\n2. two", "1. one\n2. two"),
        ] {
            check(&Trim, text, expected);
        }
    }

    #[test]
    fn ends_are_trimmed() {
        check(&Trim, " \n a  b\u{a0}\n", "a  b");
        check(&Trim, "", "");
    }
}
