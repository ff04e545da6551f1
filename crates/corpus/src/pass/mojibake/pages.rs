//! Repairs UTF-8 that was decoded as Windows-1251 or Mac Roman, and Windows-1251 that was decoded as Windows-1252.
//!
//! Cyrillic letters are capitals, marks and letters of Windows-1251, and Mac Roman has dashes and quotation marks where
//! UTF-8 sequences begin. So a sequence is repaired only where no text has it: one with a mark that follows no letter,
//! or three in a row. Others are repaired beside such ones, if the rest of the text is ASCII.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use encoding_rs::{MACINTOSH, WINDOWS_1251};

use super::is_expected;

/// A text with one wrong decoding undone, and the number of characters in the sequences that were repaired.
pub(super) struct Layer {
    pub repaired: Vec<char>,
    pub explained: usize,
}

/// Undoes one wrong decoding; `None` if there is none.
pub(super) fn one_layer(chars: &[char]) -> Option<Layer> {
    let (cyrillic, mac) = (CYRILLIC.repaired(chars), MAC.repaired(chars));
    let better = [cyrillic, mac].into_iter().flatten().max_by_key(|layer| layer.explained);
    better.or_else(|| cyrillic_as_latin(chars))
}

static CYRILLIC: LazyLock<Page> = LazyLock::new(|| Page::new(WINDOWS_1251, is_certain_cyrillic));
static MAC: LazyLock<Page> = LazyLock::new(|| Page::new(MACINTOSH, is_certain_mac));

/// An encoding of one byte a character, as a wrong decoder.
struct Page {
    /// The characters of the bytes from 0x80 on, sorted.
    bytes: Vec<(char, u8)>,
    /// Whether no text has this sequence, given as its first character, the others, and what it decodes to.
    is_certain: fn(char, &[char], char) -> bool,
}

struct Match {
    start: usize,
    end: usize,
    decoded: char,
    is_certain: bool,
}

impl Page {
    fn new(encoding: &'static encoding_rs::Encoding, is_certain: fn(char, &[char], char) -> bool) -> Self {
        let decode = |byte| encoding.decode_without_bom_handling(&[byte]).0.chars().next().map(|c| (c, byte));
        let mut bytes: Vec<(char, u8)> = (0x80..=0xFF).filter_map(decode).collect();
        if encoding == WINDOWS_1251 {
            // Windows-1251 has nothing at 0x98, so that programs take the character of Windows-1252.
            bytes.push(('˜', 0x98));
        }
        bytes.sort_unstable();
        Self { bytes, is_certain }
    }

    fn byte(&self, c: char) -> Option<u8> {
        self.bytes.binary_search_by_key(&c, |(known, _)| *known).ok().map(|at| self.bytes[at].1)
    }

    fn repaired(&self, chars: &[char]) -> Option<Layer> {
        let mut found = self.matches(chars);
        mark_runs(&mut found, chars);
        found.iter().find(|this| this.is_certain)?;
        let outside = || {
            let starts = std::iter::once(0).chain(found.iter().map(|this| this.end));
            let ends = found.iter().map(|this| this.start).chain([chars.len()]);
            starts.zip(ends).flat_map(|(start, end)| &chars[start..end])
        };
        let is_alone = outside().all(char::is_ascii);
        let (mut repaired, mut rest, mut explained) = (Vec::with_capacity(chars.len()), 0, 0);
        for this in found.iter().filter(|this| this.is_certain || is_alone) {
            repaired.extend_from_slice(&chars[rest..this.start]);
            repaired.push(this.decoded);
            rest = this.end;
            explained += this.end - this.start;
        }
        repaired.extend_from_slice(&chars[rest..]);
        Some(Layer { repaired, explained })
    }

    fn matches(&self, chars: &[char]) -> Vec<Match> {
        let (mut found, mut at) = (Vec::new(), 0);
        while at < chars.len() {
            match self.match_at(chars, at) {
                Some(this) => {
                    at = this.end;
                    found.push(this);
                }
                None => at += 1,
            }
        }
        found
    }

    fn match_at(&self, chars: &[char], start: usize) -> Option<Match> {
        let length = match self.byte(chars[start])? {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => return None,
        };
        let end = start + length;
        let (mut bytes, sequence) = ([0; 4], chars.get(start..end)?);
        for (byte, c) in bytes.iter_mut().zip(sequence) {
            *byte = self.byte(*c)?;
        }
        let decoded = std::str::from_utf8(&bytes[..length]).ok()?.chars().next()?;
        let is_certain = (self.is_certain)(sequence[0], &sequence[1..], decoded);
        // Mac Roman has the company's own sign, which begins every emoji.
        let is_usual = (is_expected(decoded) && !is_rare(decoded)) || decoded == '\u{f8ff}';
        is_usual.then_some(Match { start, end, decoded, is_certain })
    }
}

/// Makes three or more matches in a row certain. `ГІРІШІ` or `Р О С` with hard spaces could be a text, so two of the
/// marks must be something else than capitals and spaces.
fn mark_runs(found: &mut [Match], chars: &[char]) {
    for run in found.chunk_by_mut(|this, next| this.end == next.start) {
        let marks = run.iter().flat_map(|this| &chars[this.start + 1..this.end]);
        let is_odd = marks.filter(|mark| !mark.is_uppercase() && **mark != '\u{a0}').count() >= 2;
        if run.iter().any(|this| this.is_certain) || (run.len() >= 3 && is_odd) {
            run.iter_mut().for_each(|this| this.is_certain = true);
        }
    }
}

/// Characters that [`is_expected`] allows, but that a letter and a mark of these pages often give by accident.
/// U+0098 is what Windows-1251 has for a byte without a character.
fn is_rare(c: char) -> bool {
    matches!(
        u32::from(c),
        0x80..=0x97
            | 0x99..=0x9F
            | 0x2B0..=0x385
            | 0x3CF..=0x400
            | 0x460..=0x48F
            | 0x492..=0x5CF
            | 0x5EB..=0x60B
            | 0x2028..=0x202E
            | 0x2066..=0x2069
    )
}

/// `Рµ` and `вЂ”`: a letter before a mark that follows none, or before a capital of another alphabet.
fn is_certain_cyrillic(lead: char, marks: &[char], decoded: char) -> bool {
    match marks {
        [mark] => lead.is_uppercase() && matches!(mark, 'µ' | '¶' | '¤' | '¦' | '¬' | '€' | '‰'),
        [first, _] => matches!(first, 'Ђ' | 'Ѓ' | 'Љ' | 'Њ' | 'Ќ' | 'Ћ' | 'Џ' | '‚' | '„' | '€'),
        _ => is_emoji(decoded),
    }
}

/// `√©`, `≈õ` and `‚Äî`: a sign of mathematics before a letter, or a low quotation mark before letters of no word.
fn is_certain_mac(lead: char, marks: &[char], decoded: char) -> bool {
    let is_math = |c: char| "≠∞±≤≥µ∂∑∏π∫ºªΩ°∆√≈¬§¢£¥•".contains(c);
    match (lead, marks) {
        ('√', [mark]) => !is_math(*mark) || matches!(mark, 'º' | 'ª' | '°' | '§' | '¢' | '£'),
        ('¬', [mark]) => !is_math(*mark) || matches!(mark, 'º' | 'ª' | '°' | '£'),
        ('ƒ' | '≈', [mark]) => mark.is_alphabetic() && !is_math(*mark),
        ('‚', [first, second]) => {
            !(first.to_lowercase().eq([*second]) || matches!(second, 'ä' | 'ö' | 'ü' | 'å' | 'õ'))
        }
        (_, [_, _, _]) => is_emoji(decoded),
        _ => false,
    }
}

fn is_emoji(c: char) -> bool {
    ('\u{1F000}'..='\u{1FAFF}').contains(&c)
}

/// Russian that was decoded as Windows-1252: `Ïðèâåò` for `Привет`. No language writes several words of accented letters
/// alone, so these must be all its letters above ASCII, none of them in a word with ASCII letters.
fn cyrillic_as_latin(chars: &[char]) -> Option<Layer> {
    let is_high = |c: &char| matches!(c, 'À'..='ÿ' | '¸' | '¨');
    let words: Vec<&[char]> =
        chars.split(|c| !is_high(c) && !c.is_alphabetic()).filter(|word| word.iter().any(is_high)).collect();
    let letters: usize = words.iter().map(|word| word.len()).sum();
    if words.len() < 3 || letters < 16 || !words.iter().all(|word| word.iter().all(is_high)) {
        return None;
    }
    let decode = |c: &char| match u8::try_from(u32::from(*c)) {
        Ok(byte @ 0xA0..=0xFF) => WINDOWS_1251.decode_without_bom_handling(&[byte]).0.chars().next(),
        Ok(0..0x80) => Some(*c),
        // Quotation marks and dashes have the same bytes in both encodings.
        _ => matches!(c, '–' | '—' | '“' | '”' | '‘' | '’' | '„' | '‚' | '…' | '•').then_some(*c),
    };
    let decoded = chars.iter().map(decode).collect::<Option<Vec<char>>>()?;
    // A list of accented letters is no text: a text has vowels, more of the common letters, and letters several times.
    let small: Vec<char> = decoded.iter().filter(|c| !c.is_ascii()).flat_map(|c| c.to_lowercase()).collect();
    let count = |known: &str| small.iter().filter(|c| known.contains(**c)).count();
    let (vowels, common) = (count("аеёиоуыэюяіїє"), count("оеаинтсрві"));
    let distinct = small.iter().filter(|c| c.is_alphabetic()).collect::<BTreeSet<_>>().len();
    let is_cased = |pair: &[char]| !(pair[0].is_lowercase() && pair[1].is_uppercase());
    let is_text = (letters / 4..=letters * 3 / 5).contains(&vowels)
        && common * 5 >= letters * 2
        && distinct * 20 <= letters * 17
        && decoded.windows(2).all(is_cased);
    is_text.then_some(Layer { repaired: decoded, explained: letters })
}

#[cfg(test)]
mod tests {
    use super::super::repaired;
    use super::*;

    /// The text as shown by a program that decodes UTF-8 in this encoding.
    fn misread(encoding: &'static encoding_rs::Encoding, text: &str) -> String {
        encoding.decode_without_bom_handling(text.as_bytes()).0.into_owned()
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(repaired(text).as_deref().unwrap_or(text), expected, "{text}");
    }

    #[test]
    fn misread_text_is_turned_back() {
        for text in [
            "Привет, мир! Сегодня хорошая погода — “да”.",
            "Їжак з’їв яблуко, а потім ліг спати.",
            "She said — it’s ‘late’… “Rain”, €5 ™",
            "café — crème à la carte, naïve façade, 20 °C, £5 “où”",
            "Größe, Straße – “schön”, ÄÖÜ",
            "Zażółć gęślą jaźń — “tak”",
            "Καλημέρα κόσμε, τι κάνεις;",
            "日本語のテキスト",
            "한국어를 배웁니다",
            "Tiếng Việt rất đẹp — “vâng”",
            "שלום עולם, מה שלומך",
            "مرحبا بالعالم كيف حالك",
            "Nice 😀 🎻",
        ] {
            for encoding in [WINDOWS_1251, MACINTOSH] {
                let once = misread(encoding, text);
                check(&once, text);
                check(&misread(encoding, &once), text);
            }
        }
        check("it‚Äôs caf√©", "it’s café");
        check("itвЂ™s cafГ© Гё", "it’s café ø");
        check("Р˜РґРё СЃСЋРґР°", "Иди сюда");
    }

    #[test]
    fn russian_that_was_decoded_as_latin_is_turned_back() {
        for text in ["Привет, мир! Как дела?", "Ёлка стоит — “в лесу”, 5 штук.", "ВНИМАНИЕ: это «важно» для всех"]
        {
            let bytes = WINDOWS_1251.encode(text).0;
            check(&encoding_rs::WINDOWS_1252.decode_without_bom_handling(&bytes).0, text);
        }
        for text in [
            "à é è ù ç",
            "“É” – Ä, Ö, Ü",
            "äöüÄÖÜß",
            "été à Zürich où ça",
            "ÅÄÖ åäö ÆØÅ æøå",
            "áéíóú àèìòù âêîôû äëïöü",
            "ÅÄÖ åäö ÅÄÖ åäö ÅÄÖ åäö",
            "ÀÉÈÙÇ ÂÊÎÔÛ ËÏÜ ÿæœ",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn sound_text_is_left_alone() {
        for text in [
            // Cyrillic of many languages, with marks after capitals.
            "В\u{a0}Москве Гёте и Сёмга; Рёв моторов. «СССР» — “СССР”… СССР– ВВЦ® Р… С™ Р° п.\u{a0}Г§5",
            "Р\u{a0}О\u{a0}С\u{a0}С\u{a0}И\u{a0}Я, №\u{a0}5, Р±0,5 С\u{ad}Р",
            "Рік, сіль, Гість: «РІК» “СІРІ ОЧІ” ГІРІШІ РІШІ ВІ ЧЄ ШІ ЩІ Ґанок, Єва, ЇЖАК",
            "Рјечник, Сјајно, Љубав Њива Ђорђе Џеп Ћуприја ЉУБАВ ЊЕГОШ РЈЕЧНИК",
            "Ѓорѓи ќерка Ќуш ѕвезда РЅ",
            "Сёння Ўсё добра, ГЎ, РЎ",
            "слова»—тире „в“ в„слово“",
            // Mathematics.
            "√π ≈ 1.77, √2, √∞, x≈π, ≈£5, ≈∞, ¬∑, ¬Ω, ¬π, √µ, ƒ(x), ∆x, ∑√±1, 2·π·r, –∞ … ∞, –£3–£5, —°",
            // Dashes and quotation marks before accented letters.
            "“Ärger” “été” ‘Élan’ —Été —Éric–à–É „Öö“ „Öl“ ‚Ärger‘ ‚Ää‘ ‚Öö‘ ‚Ü‘",
            "«Élan» «à» …É ›é‹ ’é œuf Œdème Œ» cœur œÉ",
            "ÁÉÍÓÚ ÂÊÔ Ðð Þþ ÅÆØ Ëë Êá Îã ÍÃÕ ŒÆ ÿ Ÿ €£ €°",
            "Καλημέρα “Ώρα” Όπου—ώρα «Ήλιος»",
            "Tiếng Việt: “Ôi” – Ấy à? Êm ái, Ý định—ở đâu",
            "日本語「テスト」— 한국어 “예” नमस्ते — שלום “כן” مرحبا",
            "let π = √(x); // ≈3.14 — “é”",
            "price·é·ü £5–£6 §5–§7 •É •à",
        ] {
            check(text, text);
        }
    }
}
