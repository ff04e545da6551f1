//! Numbers with a check digit or a known range: bank accounts, cards, social security.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::{is_of_something_else, new, stands_alone};

pub(super) fn ibans(text: &str) -> Vec<Range<usize>> {
    static START: LazyLock<Regex> = LazyLock::new(|| new(r"\b[A-Z]{2}[0-9]{2} ?[A-Z0-9]"));
    let account = |start: usize| {
        let length = iban_length(text.get(start..start + 2)?)?;
        let (mut number, mut end) = (String::new(), start);
        for (at, c) in text[start..].char_indices() {
            if c.is_ascii_uppercase() || c.is_ascii_digit() {
                number.push(c);
                end = start + at + 1;
            } else if c != ' ' || !number.len().is_multiple_of(4) {
                break;
            }
            if number.len() == length {
                break;
            }
        }
        let ends = !text[end..].starts_with(char::is_alphanumeric);
        (number.len() == length && ends && remainder_97(&number) == 1).then_some(start..end)
    };
    START.find_iter(text).filter_map(|found| account(found.start())).collect()
}

/// The length of a country's account numbers (SWIFT, IBAN registry, release 99).
fn iban_length(country: &str) -> Option<usize> {
    const LENGTHS: [(usize, &str); 17] = [
        (15, "NO"),
        (16, "BE"),
        (18, "DK FK FI FO GL NL SD"),
        (19, "MK SI"),
        (20, "AT BA EE KZ LT LU MN XK"),
        (21, "CH HR LI LV"),
        (22, "BG BH CR DE GB GE IE ME RS VA"),
        (23, "AE GI IL IQ OM SO TL"),
        (24, "AD CZ ES MD PK RO SA SE SK TN VG"),
        (25, "LY PT ST"),
        (26, "IS TR"),
        (27, "BI DJ FR GR IT MC MR SM"),
        (28, "AL AZ BY CY DO GT HU LB NI PL SV"),
        (29, "BR EG PS QA UA"),
        (30, "JO KW MU YE"),
        (31, "MT SC"),
        (33, "RU"),
    ];
    LENGTHS
        .into_iter()
        .find(|(_, countries)| countries.split(' ').any(|known| known == country))
        .map(|(length, _)| length)
}

/// The remainder of ISO 7064, MOD 97-10: the first four characters are moved to the end, and letters count as 10 to 35.
fn remainder_97(number: &str) -> u32 {
    let (head, tail) = number.split_at(4.min(number.len()));
    tail.chars().chain(head.chars()).filter_map(|c| c.to_digit(36)).fold(0, |remainder, value| {
        let shift = if value < 10 { 10 } else { 100 };
        (remainder * shift + value) % 97
    })
}

pub(super) fn cards(text: &str) -> Vec<Range<usize>> {
    static FORM: LazyLock<Regex> = LazyLock::new(|| new(r"[0-9](?:[ -]?[0-9]){11,18}"));
    let is_card = |found: &regex::Match<'_>| {
        let digits: Vec<u32> = found.as_str().chars().filter_map(|c| c.to_digit(10)).collect();
        stands_alone(text, found.range())
            && has_issuer(&digits)
            && has_groups(found.as_str(), digits.len())
            && luhn(&digits)
    };
    FORM.find_iter(text).filter(is_card).map(|found| found.range()).collect()
}

/// Whether the digits have the prefix of an issuer and the length of its numbers.
fn has_issuer(digits: &[u32]) -> bool {
    let prefix = |count: usize| digits.iter().take(count).fold(0, |number, digit| number * 10 + digit);
    match digits.len() {
        14 => matches!(prefix(3), 300..=305) || matches!(prefix(2), 36 | 38 | 39),
        15 => matches!(prefix(2), 34 | 37),
        13 => prefix(1) == 4,
        16 => {
            let known = matches!(prefix(4), 2221..=2720 | 6011 | 3528..=3589) || matches!(prefix(3), 644..=649);
            known || prefix(1) == 4 || matches!(prefix(2), 51..=55 | 62 | 65)
        }
        19 => prefix(1) == 4 || prefix(2) == 62,
        _ => false,
    }
}

/// Whether the digits have no gaps, or are in the groups of a card with one mark between them.
fn has_groups(number: &str, digits: usize) -> bool {
    let groups: Vec<usize> = number.split([' ', '-']).map(str::len).collect();
    let one_mark = !(number.contains(' ') && number.contains('-'));
    let known: &[usize] = match digits {
        14 => &[4, 6, 4],
        15 => &[4, 6, 5],
        16 => &[4, 4, 4, 4],
        19 => &[4, 4, 4, 4, 3],
        _ => &[],
    };
    groups.len() == 1 || (one_mark && groups == known)
}

/// Luhn's check (ISO/IEC 7812-1, annex B).
fn luhn(digits: &[u32]) -> bool {
    let doubled = |digit: u32| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let sum: u32 =
        digits.iter().rev().enumerate().map(|(at, digit)| if at % 2 == 1 { doubled(*digit) } else { *digit }).sum();
    sum.is_multiple_of(10)
}

/// United States social security numbers: `AAA-GG-SSSS` with areas, groups and serials that are issued (SSA, POMS RM
/// 10201.035). Written with spaces or without gaps, they need a word before them that says what they are.
pub(super) fn social_security(text: &str) -> Vec<Range<usize>> {
    static FORM: LazyLock<Regex> = LazyLock::new(|| {
        new(
            r"(?i)(?P<word>\b(?:ssn|social(?: |-)security|soc\.? ?sec\.?)\b[^\n0-9]{0,24})?(?P<area>[0-9]{3})(?P<gap>[- .]?)(?P<group>[0-9]{2})(?P<again>[- .]?)(?P<serial>[0-9]{4})",
        )
    });
    let number = |found: regex::Captures<'_>| {
        let part = |name: &str| found.name(name).map_or("", |part| part.as_str());
        let span = found.name("area")?.start()..found.name("serial")?.end();
        let is_given = !matches!(part("area"), "000" | "666") && !part("area").starts_with('9');
        let is_given = is_given && part("group") != "00" && part("serial") != "0000";
        let has_word = found.name("word").is_some();
        let is_named = has_word || (part("gap") == "-" && !is_of_something_else(&text[..span.start]));
        let is_one = part("gap") == part("again") && stands_alone(text, span.clone());
        (is_given && is_named && is_one).then_some(span)
    };
    FORM.captures_iter(text).filter_map(number).collect()
}
