//! Encodings of text files: names, byte-order marks, and finding the encoding of a file that does not say it.

use std::fmt;
use std::str::FromStr;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding as Known, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;

/// The encoding of a text file, by a name of the WHATWG Encoding Standard: `utf-8`, `utf-16le`, `windows-1252` (also
/// `cp1252`, `latin1`), `windows-1251`, `macintosh`, `shift_jis`, `gb18030` and so on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Encoding(pub(super) &'static Known);

impl Encoding {
    /// UTF-8, which is tried first.
    pub const UTF_8: Self = Self(UTF_8);

    /// The name, such as `windows-1252`.
    pub fn name(self) -> &'static str {
        self.0.name()
    }
}

impl FromStr for Encoding {
    type Err = Error;

    /// Finds an encoding by any of its usual names, in capitals or not.
    fn from_str(name: &str) -> Result<Self, Error> {
        let plain = name.trim().to_ascii_lowercase();
        let label = match plain.as_str() {
            "mac-roman" | "mac_roman" | "macroman" => "macintosh",
            other => other,
        };
        let found = Known::for_label_no_replacement(label.as_bytes());
        found.map(Self).ok_or_else(|| Error::UnknownEncoding { name: name.to_owned() })
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Encoding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Encoding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What the first bytes of a file say about its encoding.
pub(super) enum Mark {
    /// A byte-order mark of this length, or UTF-16 without one (a length of 0).
    Sure(&'static Known, usize),
    /// A byte-order mark of UTF-32, which is not supported.
    Utf32,
    /// Nothing.
    None,
}

/// Looks for a byte-order mark, and for UTF-16 without one.
pub(super) fn mark(head: &[u8]) -> Mark {
    if head.starts_with(b"\xFF\xFE\0\0") || head.starts_with(b"\0\0\xFE\xFF") {
        return Mark::Utf32;
    }
    if let Some((encoding, length)) = Known::for_bom(head) {
        return Mark::Sure(encoding, length);
    }
    bare_utf16(head).map_or(Mark::None, |encoding| Mark::Sure(encoding, 0))
}

/// UTF-16 without a byte-order mark: the first two characters are ASCII, and no character is U+0000. UTF-8 has a zero
/// byte only for that one, which is not in a text.
fn bare_utf16(head: &[u8]) -> Option<&'static Known> {
    let is_text = |byte: u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    let encoding = match *head {
        [a, 0, b, 0, ..] if is_text(a) && is_text(b) => UTF_16LE,
        [0, a, 0, b, ..] if is_text(a) && is_text(b) => UTF_16BE,
        _ => return None,
    };
    let decode = |bytes| encoding.decode_without_bom_handling_and_without_replacement(bytes);
    let whole = &head[..head.len() / 2 * 2];
    // The last character may be cut in the middle of a pair of surrogates.
    let text = decode(whole).or_else(|| decode(&whole[..whole.len() - 2]))?;
    (!text.contains('\0')).then_some(encoding)
}

/// How many characters above ASCII are UTF-8 in some bytes, and how many sequences are not.
#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    pub valid: u64,
    pub invalid: u64,
}

impl Tally {
    /// Adds bytes. A sequence that is cut off at the end of the bytes is not counted.
    pub fn add(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            self.valid += chunk.valid().chars().filter(|c| !c.is_ascii()).count() as u64;
            self.invalid += u64::from(!chunk.invalid().is_empty() && chunks.peek().is_some());
        }
    }
}

/// The encoding of bytes that are not all ASCII, if it is another than UTF-8.
///
/// A file that is mostly UTF-8 stays UTF-8, whatever its bad bytes are. Another encoding must read the bytes without a
/// fault and without control characters. `is_whole` says whether the bytes end where the file ends.
pub(super) fn found(bytes: &[u8], is_whole: bool) -> Option<&'static Known> {
    let mut tally = Tally::default();
    tally.add(bytes);
    let ends_in_fault = bytes.utf8_chunks().last().is_some_and(|chunk| !chunk.invalid().is_empty());
    tally.invalid += u64::from(is_whole && ends_in_fault);
    // Two bytes of GBK are UTF-8 by accident in one case of twelve.
    if tally.invalid == 0 || tally.valid * 4 > tally.invalid {
        return None;
    }
    // These bytes stand for `ÿ` and `þ`: they come from binary data rather than from text.
    if bytes.iter().filter(|byte| !byte.is_ascii()).all(|byte| *byte >= 0xFE) {
        return None;
    }
    let encoding = guess(bytes, is_whole);
    is_plausible(encoding, bytes, is_whole).then_some(encoding)
}

/// The likeliest encoding. Windows-1252 is the usual one: another one of its kin must differ from it in more than signs
/// such as `£` before a digit, which Windows-1250 reads as `Ł`.
fn guess(bytes: &[u8], is_whole: bool) -> &'static Known {
    let western = WINDOWS_1252.decode_without_bom_handling(bytes).0;
    if western.chars().all(|c| c.is_ascii() || is_sign(c)) {
        return WINDOWS_1252;
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(bytes, is_whole);
    let encoding = detector.guess(None, Utf8Detection::Deny);
    let other = encoding.decode_without_bom_handling(bytes).0;
    let next = western.chars().skip(1).chain([' ']);
    let differs_in_signs = western
        .chars()
        .zip(other.chars())
        .zip(next)
        .all(|((western, other), next)| western == other || (is_sign(western) && !next.is_alphabetic()));
    if encoding.is_single_byte() && differs_in_signs { WINDOWS_1252 } else { encoding }
}

fn is_sign(c: char) -> bool {
    matches!(
        c,
        '\u{a0}'
            | '‘'
            | '’'
            | '“'
            | '”'
            | '„'
            | '‚'
            | '«'
            | '»'
            | '–'
            | '—'
            | '…'
            | '•'
            | '·'
            | '€'
            | '£'
    ) || matches!(c, '§' | '©' | '®' | '™' | '°' | '±')
}

fn is_plausible(encoding: &'static Known, bytes: &[u8], is_whole: bool) -> bool {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let Some(room) = decoder.max_utf8_buffer_length(bytes.len()) else { return false };
    let mut text = String::with_capacity(room);
    let (_, _, had_fault) = decoder.decode_to_string(bytes, &mut text, is_whole);
    let is_odd = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{b}' | '\u{c}');
    !had_fault && !text.contains(is_odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Option<&str>) {
        assert_eq!(found(bytes, true).map(Known::name), expected, "{}", String::from_utf8_lossy(bytes));
    }

    #[test]
    fn text_of_one_byte_a_character_is_found() {
        for (label, text) in [
            ("windows-1252", "Die Größe der Straße ist für uns schön. – „Naïve“ café, £12.00"),
            ("windows-1252", "caf\u{e9}"),
            ("windows-1252", "refund of £12.00 was sent today. – your “Nordlicht” team"),
            ("windows-1252", "A parcel from Zürich to Kraków costs £12.00, or £ 9 – “today”"),
            ("windows-1250", "Łódź, Kraków, Zürich"),
            ("windows-1251", "Привет, мир! Сегодня хорошая погода, и мы идём гулять."),
            ("windows-1250", "Příliš žluťoučký kůň úpěl ďábelské ódy, řekl šťastně."),
            ("windows-1253", "Καλημέρα κόσμε, πώς είστε σήμερα; Ευχαριστώ πολύ."),
            ("Shift_JIS", "日本語のテキストです。これは文字コードの試験です。"),
            ("GBK", "今天天气很好，我们一起去公园散步吧。你觉得怎么样？"),
        ] {
            let encoding = Known::for_label(label.as_bytes()).expect("a known name");
            let (bytes, _, had_fault) = encoding.encode(text);
            assert!(!had_fault, "{text}");
            check(&bytes, Some(label));
        }
    }

    #[test]
    fn utf_8_with_bad_bytes_stays_utf_8() {
        check("Größe, Straße, schön".as_bytes(), None);
        check(b"Gr\xC3\xB6\xC3\x9Fe, Stra\xDFe, sch\xC3\xB6n", None);
        check(b"Gr\xC3\xB6\xC3\x9Fe, Stra\xC3", None);
        // Binary data.
        check(b"\xFF", None);
        check(b"a\xFF\xFEb", None);
        check(b"a\0\xE9", None);
        check(b"caf\x81", None);
    }

    #[test]
    fn utf_16_without_a_mark_is_found_by_its_zero_bytes() {
        let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        for (bytes, expected) in [
            (wide("{\"text\": \"日本\"}"), Some("UTF-16LE")),
            (wide("id;日本 🎻"), Some("UTF-16LE")),
            (wide("id;a").iter().rev().copied().collect(), Some("UTF-16BE")),
            (wide("日本"), None),
            (b"a\0b\0\0\0".to_vec(), None),
            (b"a\0".to_vec(), None),
            (b"prompt".to_vec(), None),
        ] {
            let found = match mark(&bytes) {
                Mark::Sure(encoding, 0) => Some(encoding.name()),
                _ => None,
            };
            assert_eq!(found, expected, "{bytes:?}");
        }
    }

    #[test]
    fn encodings_have_many_names() {
        for (name, expected) in [
            ("UTF-8", "UTF-8"),
            ("cp1252", "windows-1252"),
            ("Latin1", "windows-1252"),
            ("utf-16", "UTF-16LE"),
            ("mac-roman", "macintosh"),
            (" windows-1251 ", "windows-1251"),
        ] {
            assert_eq!(name.parse::<Encoding>().expect("known").name(), expected);
        }
        let error = "utf-7".parse::<Encoding>().expect_err("unknown");
        assert!(error.to_string().contains("utf-7"), "{error}");
    }
}
