//! Text functions that several passes use: normal form, words, sentences, quotations.

use std::borrow::Cow;

use caseless::Caseless;
use sha2::{Digest, Sha256};
use unicode_normalization::{UnicodeNormalization, is_nfkc};

/// Stands for a quoted span in a masked text. Texts have no control characters after the repairing passes.
pub(crate) const QUOTED: char = '\u{1}';

/// The longest span, in characters, that [`mask_quotes`] treats as quoted. A span never extends over a line break.
const MAX_SPAN: usize = 1000;

/// The text after NFKC and full case folding, with every run of white space and prose punctuation as one space.
///
/// Marks with a meaning are kept: symbols, and a point, comma or hyphen beside a digit. A text of prose punctuation
/// alone is its own normal form, so that `?` and `!` differ.
pub(crate) fn normalised(text: &str) -> String {
    let folded: Vec<char> = if text.is_ascii() {
        text.to_ascii_lowercase().chars().collect()
    } else {
        let folded: String = nfkc(text).chars().default_case_fold().collect();
        nfkc(&folded).chars().collect()
    };
    let mut normal = String::with_capacity(text.len());
    for (at, &c) in folded.iter().enumerate() {
        let digit = |index: Option<usize>| index.and_then(|index| folded.get(index)).is_some_and(|c| c.is_numeric());
        let is_gap = match c {
            '.' | ',' => !(digit(at.checked_sub(1)) && digit(Some(at + 1))),
            '-' => !digit(Some(at + 1)),
            _ => c.is_whitespace() || is_prose_punctuation(c),
        };
        if !is_gap {
            normal.push(c);
        } else if !normal.is_empty() && !normal.ends_with(' ') {
            normal.push(' ');
        }
    }
    normal.truncate(normal.trim_end().len());
    if normal.is_empty() { folded.into_iter().collect::<String>().trim().to_owned() } else { normal }
}

/// Most text is already in this form, which can be checked quickly.
fn nfkc(text: &str) -> Cow<'_, str> {
    if is_nfkc(text) { Cow::Borrowed(text) } else { Cow::Owned(text.nfkc().collect()) }
}

/// The words of a text, case-folded; a word is a run of letters.
pub(crate) fn words(text: &str) -> Vec<String> {
    let folded: String = text.nfc().default_case_fold().nfc().collect();
    folded.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The text outside of code: fenced blocks and spans between backquotes are code.
pub(crate) fn outside_code(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").step_by(2).flat_map(|part| part.split('`').step_by(2))
}

/// The non-empty, trimmed sentences of a text. It is split at line breaks, and after `.`, `!` or `?` and closing marks
/// before white space.
pub(crate) fn sentences(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut start, mut ended) = (0, false);
    for (at, c) in text.char_indices() {
        if c == '\n' || (ended && c.is_whitespace()) {
            found.push(&text[start..at]);
            start = at;
        }
        ended = matches!(c, '.' | '!' | '?' | '。' | '！' | '？') || (ended && is_closing(c));
    }
    found.push(&text[start..]);
    found.into_iter().map(str::trim).filter(|sentence| !sentence.is_empty()).collect()
}

/// The text between the first opening quotation mark and the last closing mark of the same kind.
///
/// An apostrophe is not an opening mark: an opening mark does not follow a letter or digit, and a closing mark does not
/// precede one.
pub(crate) fn quoted_span(text: &str) -> Option<&str> {
    let (open, mark) = text.char_indices().find(|&(at, c)| opens(text, at, c).is_some())?;
    let closing = opens(text, open, mark)?;
    let start = open + mark.len_utf8();
    let end = text
        .char_indices()
        .rev()
        .take_while(|(at, _)| *at >= start)
        .find(|&(at, c)| c == closing && closes(text, at, c))?
        .0;
    Some(text[start..end].trim()).filter(|span| !span.is_empty())
}

/// The text with every quoted span replaced by [`QUOTED`] between spaces, so that quoted text is not treated as the
/// author's own.
pub(crate) fn mask_quotes(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        let span = opens(text, at, c).and_then(|closing| {
            let rest = &text[at + c.len_utf8()..];
            // Without this limit, an unpaired mark would hide the rest of the text.
            let mut line = rest.char_indices().take(MAX_SPAN).take_while(|(_, c)| *c != '\n');
            let end = line.find(|&(offset, c)| c == closing && closes(rest, offset, c))?;
            Some(at + c.len_utf8() + end.0)
        });
        match span {
            Some(end) => {
                masked.extend([' ', QUOTED, ' ']);
                while chars.next().is_some_and(|(at, _)| at < end) {}
            }
            None => masked.push(c),
        }
    }
    masked
}

/// A 128-bit hash of a list of texts. It depends on where one text ends and the next begins.
pub(crate) fn hash(parts: &[&str]) -> [u64; 2] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let digest = hasher.finalize();
    let word = |from: usize| (from..from + 8).fold(0, |word, at| word << 8 | u64::from(digest[at]));
    [word(0), word(8)]
}

/// The SHA-256 of bytes in hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An id for a record without one: 64 bits of the SHA-256 of its bytes.
pub(crate) fn content_id(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn is_prose_punctuation(c: char) -> bool {
    matches!(
        c,
        ';' | ':'
            | '!'
            | '?'
            | '…'
            | '\''
            | '"'
            | '‘'
            | '’'
            | '‚'
            | '“'
            | '”'
            | '„'
            | '«'
            | '»'
            | '‹'
            | '›'
            | '('
            | ')'
            | '['
            | ']'
            | '{'
            | '}'
            | '`'
            | '–'
            | '—'
            | '‐'
            | '‑'
            | '¿'
            | '¡'
            | '。'
            | '、'
            | '「'
            | '」'
    )
}

fn is_closing(c: char) -> bool {
    matches!(c, '\'' | '"' | '’' | '”' | '»' | ')' | ']' | '*' | QUOTED)
}

/// The closing mark for the character at `at`, if that character opens a quotation.
fn opens(text: &str, at: usize, c: char) -> Option<char> {
    let closing = match c {
        '\'' => '\'',
        '"' => '"',
        '‘' => '’',
        '“' => '”',
        '«' => '»',
        _ => return None,
    };
    let after_word = text[..at].chars().next_back().is_some_and(char::is_alphanumeric);
    let before_gap = text[at + c.len_utf8()..].chars().next().is_none_or(char::is_whitespace);
    (!after_word && (!before_gap || c == '«')).then_some(closing)
}

fn closes(text: &str, at: usize, c: char) -> bool {
    let next = text[at + c.len_utf8()..].chars().next();
    !next.is_some_and(char::is_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_forms_forget_case_marks_and_spacing_only() {
        for (left, right, same) in [
            ("What  modality is: 'Rain'?", "what modality is “rain”", true),
            ("Straße", "STRASSE", true),
            ("ﬁne", "fine", true),
            ("that's", "that’s", true),
            ("2 + 2", "2 2", false),
            ("3.5", "35", false),
            ("-5 degrees", "5 degrees", false),
            ("?", "!", false),
            ("well-known", "well known", true),
        ] {
            assert_eq!(normalised(left) == normalised(right), same, "{left} / {right}");
        }
    }

    #[test]
    fn a_quoted_span_may_hold_apostrophes() {
        for (text, span) in [
            ("What modality is: 'That's music to my ears'?", Some("That's music to my ears")),
            ("What's the modality of \"it rains\"?", Some("it rains")),
            ("Name the modality of 'The dogs' bowls rang'.", Some("The dogs' bowls rang")),
            ("« oui »", Some("oui")),
            ("That's all", None),
            ("an open 'quote", None),
        ] {
            assert_eq!(quoted_span(text), span, "{text}");
        }
    }

    #[test]
    fn masked_texts_keep_what_is_said() {
        for (text, masked) in [
            ("Why is 'Stop! It's late' Auditory?", "Why is  \u{1}  Auditory?"),
            ("\"a\" and \"b\"", " \u{1}  and  \u{1} "),
            ("don't 'open", "don't 'open"),
        ] {
            assert_eq!(mask_quotes(text), masked);
        }
    }

    #[test]
    fn sentences_end_at_marks_and_lines() {
        assert_eq!(sentences("One. Two?\" Three\n\nFour 3.5 five!"), ["One.", "Two?\"", "Three", "Four 3.5 five!"]);
    }
}
