//! Repairs text that was decoded in a wrong encoding, most often UTF-8 as Windows-1252 or Latin-1.

mod pages;

use super::{Pass, repair_calls, repair_messages};
use crate::said::texts;
use foehn_record::Record;

/// Repairs mojibake (`â€œ` for `“`, `Ã©` for `é`), also if it happened several times, and rejects a record with U+FFFD,
/// which stands for a lost character.
///
/// A sequence is repaired if its characters, encoded in Windows-1252, are UTF-8 for a character that is used in text,
/// and if the sequence cannot be intended. `É®`, `Ã”` after capitals or `é”»` may be intended: a letter, followed by
/// marks that can follow letters. They are repaired only if the same text has another sequence that is certainly
/// mojibake. UTF-8 that was decoded as Windows-1251 (`вЂњ`, `РїСЂРё`) or Mac Roman (`‚Äú`, `√©`) is repaired too, by
/// stricter rules, and so is Russian that was decoded as Windows-1252. The approach is that of ftfy (Speer, 2019, doi:10.5281/zenodo.2591652), without its tables.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mojibake;

/// The largest number of wrong decodings that are undone. Each one makes the text at least twice as long.
const MAX_LAYERS: usize = 16;

impl Pass for Mojibake {
    fn name(&self) -> &'static str {
        "mojibake"
    }

    fn repair(&self, record: &mut Record) -> bool {
        repair_messages(record, repaired) | repair_calls(record, repaired)
    }

    fn check(&self, record: &Record) -> Option<String> {
        let lost = |content: &str| content.contains('\u{fffd}');
        let at = record.messages.iter().position(|message| texts(message).any(lost))?;
        Some(format!("message {} has lost characters (U+FFFD)", at + 1))
    }
}

/// The repaired text; `None` if there is nothing to repair.
fn repaired(text: &str) -> Option<String> {
    if text.is_ascii() {
        return None;
    }
    let mut current: Option<Vec<char>> = None;
    for _ in 0..MAX_LAYERS {
        let chars = match &current {
            Some(chars) => chars.clone(),
            None => text.chars().collect(),
        };
        match better_layer(&chars) {
            Some(next) => current = Some(next),
            None => break,
        }
    }
    current.map(|chars| chars.into_iter().collect())
}

/// Undoes one wrong decoding: the one that explains the most characters.
fn better_layer(chars: &[char]) -> Option<Vec<char>> {
    let (explained, repaired) = one_layer(chars);
    match pages::one_layer(chars) {
        Some(other) if other.explained > explained => Some(other.repaired),
        _ => repaired,
    }
}

/// Undoes one wrong decoding as Windows-1252; `None` if there is none. Also returns the number of characters in the
/// sequences that were repaired.
fn one_layer(chars: &[char]) -> (usize, Option<Vec<char>>) {
    let found = matches(chars);
    let is_certain = |at: usize| {
        let this: &Match = &found[at];
        let adjoins =
            |other: Option<&Match>, border: fn(&Match, &Match) -> bool| other.is_some_and(|other| border(this, other));
        !this.doubtful
            || adjoins(at.checked_sub(1).and_then(|at| found.get(at)), |a, b| b.end == a.start)
            || adjoins(found.get(at + 1), |a, b| a.end == b.start)
    };
    let any_certain = (0..found.len()).any(is_certain);
    let mut repaired = Vec::with_capacity(chars.len());
    let mut rest = 0;
    for this in found.iter().filter(|_| any_certain) {
        repaired.extend(chars[rest..this.start].iter().copied().map(c1_decoded));
        repaired.push(this.decoded);
        rest = this.end;
    }
    repaired.extend(chars[rest..].iter().copied().map(c1_decoded));
    let explained = if any_certain { found.iter().map(|this| this.end - this.start).sum() } else { 0 };
    (explained, (repaired != chars).then_some(repaired))
}

/// A sequence that can be repaired.
struct Match {
    start: usize,
    end: usize,
    decoded: char,
    /// Whether the sequence may be intended.
    doubtful: bool,
}

fn matches(chars: &[char]) -> Vec<Match> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        match match_at(chars, at) {
            Some(this) => {
                at = this.end;
                found.push(this);
            }
            None => at += 1,
        }
    }
    found
}

fn match_at(chars: &[char], start: usize) -> Option<Match> {
    let lead = byte(chars[start])?;
    let length = match lead {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => return None,
    };
    let bytes: Vec<u8> = chars[start..].iter().take(length).map_while(|c| byte(*c)).collect();
    let decoded =
        std::str::from_utf8(&bytes).ok().filter(|_| bytes.len() == length).and_then(|text| text.chars().next());
    let Some(decoded) = decoded else {
        return lost_quote(chars, start);
    };
    let end = start + length;
    let doubtful = is_doubtful(chars, start, end);
    is_expected(decoded).then_some(Match { start, end, decoded, doubtful })
}

/// `â€` without its third character is `”`: 0x9D is the only byte after E2 80 that Windows-1252 does not have.
fn lost_quote(chars: &[char], start: usize) -> Option<Match> {
    let is_lost = chars[start] == 'â' && chars.get(start + 1) == Some(&'€');
    let end = start + 2 + usize::from(chars.get(start + 2) == Some(&'\u{fffd}'));
    is_lost.then_some(Match { start, end, decoded: '”', doubtful: false })
}

/// Whether the sequence may be intended: a letter followed by marks that can follow letters, or letters of one word.
fn is_doubtful(chars: &[char], start: usize, end: usize) -> bool {
    let (lead, marks) = (chars[start], &chars[start + 1..end]);
    let before = start.checked_sub(1).map(|at| chars[at]);
    let precedes_letter = chars.get(end).is_some_and(|c| c.is_alphabetic());
    if lead == '×' {
        return true;
    }
    if !marks.iter().all(|c| may_follow_letter(*c) || is_high_letter(*c)) {
        return false;
    }
    // Czech has `Úž` and `íš“`; no language has `Ãœ` or `âœ”`.
    if marks.iter().any(|c| is_high_letter(*c)) {
        return !matches!(lead, 'Â' | 'Ã' | 'Ä' | 'Å' | 'â' | 'ï' | 'ð');
    }
    match (lead, marks) {
        // A closing quotation mark and a dash: `“naïveté”—so`.
        (_, [_, _, ..]) => true,
        // A capital inside a word cannot be intended.
        _ if lead.is_uppercase() && before.is_some_and(char::is_lowercase) => false,
        // Few words end in `Â` or `Ã`, and these are written in capitals.
        ('Â' | 'Ã', ['\u{a0}'..='\u{ff}']) => before.is_some_and(char::is_uppercase),
        (_, ['–' | '—']) if precedes_letter => before.is_some_and(char::is_alphabetic),
        _ => !precedes_letter,
    }
}

fn may_follow_letter(c: char) -> bool {
    let quotes_and_dashes = matches!(c, '»' | '›' | '’' | '”' | '“' | '‘' | '…' | '–' | '—');
    quotes_and_dashes || matches!(c, '\u{a0}' | '™' | '®' | '°' | '·' | '¹' | '²' | '³' | 'ª' | 'º')
}

/// Whether the letter is among the bytes 0x80 to 0x9F.
fn is_high_letter(c: char) -> bool {
    matches!(c, 'œ' | 'Œ' | 'š' | 'Š' | 'ž' | 'Ž' | 'Ÿ' | 'ƒ' | 'ˆ')
}

/// Whether the character is common in text: usual scripts, punctuation and symbols. Sequences that decode by accident
/// give rare characters.
fn is_expected(c: char) -> bool {
    matches!(
        u32::from(c),
        // A C1 control is the result of decoding a byte wrongly twice.
        0x80..=0x17F
            // `ƒ` is a character of Windows-1252.
            | 0x192
            | 0x218..=0x21B
            | 0x2B0..=0x4FF
            | 0x590..=0x6FF
            | 0x900..=0xEFF
            | 0x10A0..=0x11FF
            | 0x1E00..=0x2BFF
            | 0x3000..=0x9FFF
            | 0xAC00..=0xD7A3
            | 0xFB00..=0xFB4F
            | 0xFE00..=0xFE0F
            | 0xFEFF..=0xFFEF
            | 0xFFFD
            | 0x1F000..=0x1FAFF
            | 0x20000..=0x323AF
            | 0xE0020..=0xE007F
    )
}

/// Replaces a C1 control, which has no use in text, by the character of Windows-1252 at its place.
fn c1_decoded(c: char) -> char {
    match u32::from(c) {
        code @ 0x80..=0x9F => HIGH[code as usize - 0x80],
        _ => c,
    }
}

/// The byte from 0x80 on that Windows-1252 or Latin-1 decodes as this character.
fn byte(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ 0x80..=0xFF => u8::try_from(code).ok(),
        code if code > 0xFF => {
            let at = HIGH.iter().position(|high| *high == c)?;
            u8::try_from(0x80 + at).ok()
        }
        _ => None,
    }
}

/// Windows-1252 from 0x80 to 0x9F, with the C1 controls where it has no character (WHATWG Encoding, index windows-1252).
const HIGH: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', //
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The text as shown by a program that decodes UTF-8 as Windows-1252.
    fn misread(text: &str) -> String {
        text.bytes()
            .map(|byte| match byte {
                0x80..=0x9F => HIGH[usize::from(byte) - 0x80],
                _ => char::from(byte),
            })
            .collect()
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(repaired(text).as_deref().unwrap_or(text), expected);
    }

    #[test]
    fn misread_text_is_turned_back() {
        for text in [
            "“Rain”, she said — it’s ‘late’…",
            "café crème à la carte, naïve façade, 20 °C, £5",
            "Größe Übung Straße ÄÖÜ",
            "Zażółć gęślą jaźń",
            "Привет, мир",
            "Καλημέρα κόσμε",
            "שלום עולם",
            "日本語のテキスト",
            "한국어",
            "नमस्ते",
            "😀 🎻",
            "100 € – 50 ™",
            "Österreich, Übung, Ôter, 25° C",
            "→ ✔ ✅",
            "où",
            "à",
        ] {
            let once = misread(text);
            check(&once, text);
            check(&misread(&once), text);
            check(&misread(&misread(&once)), text);
        }
    }

    #[test]
    fn sound_text_is_left_alone() {
        for text in [
            "NESTLÉ®",
            "MANHÃ”,",
            "« CAFÉ » «CAFÉ»",
            "voilà\u{a0}»",
            "‘…café’” „Spaß“ «le café»…",
            "Â l'ombre",
            "BLÅ… SMÅ – RÅ™ “Ä”, “Ã”",
            "Úžasný, „víš“, máš…",
            "“naïveté”—she ‘café’—it TABÚ—dijo PÂ°",
            "2×¼ and 3×°",
            "El Niño, São Paulo, Ærø, þú",
            "å ø æ",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn damaged_sequences_are_still_read() {
        check("â€œRainâ€ she said", "“Rain” she said");
        check("â€œRainâ€\u{fffd}", "“Rain”");
        check("\u{93}Rain\u{94} it\u{92}s", "“Rain” it’s");
    }

    proptest! {
        #[test]
        fn repair_is_idempotent(text in "[aÃÂâ€œ™©»\u{a0}\u{9d}ðŸ˜é…É ]{0,24}") {
            let once = repaired(&text).unwrap_or(text);
            prop_assert_eq!(repaired(&once), None);
        }

        /// As in every language with these letters, most of a word is plain: words of accented letters alone would be Russian
        /// that was read as Latin-1.
        #[test]
        fn misread_words_come_back(
            words in proptest::collection::vec("[“‘]?[a-z]{1,4}([àâçéèêëîïôùûü][a-z]{1,4}){0,2}(’s)?[”’…]?", 0..8),
        ) {
            let text = words.join(" — ");
            let misread = misread(&text);
            prop_assert_eq!(repaired(&misread).unwrap_or(misread), text);
        }
    }
}
