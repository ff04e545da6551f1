//! Telephone numbers.

use std::ops::Range;
use std::sync::LazyLock;

use regex::{Match, Regex};

use super::{is_of_something_else, new, stands_alone};

pub(super) fn phones(text: &str) -> Vec<Range<usize>> {
    static ABROAD: LazyLock<Regex> = LazyLock::new(|| new(r"\+[1-9](?:[ ().\u{a0}/-]{0,3}[0-9]){6,14}"));
    static AMERICA: LazyLock<Regex> =
        LazyLock::new(|| new(r"(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[-.])[2-9][0-9]{2}[-.][0-9]{4}"));
    static LOCAL: LazyLock<Regex> = LazyLock::new(|| {
        new(
            r"(?i)\b(?:tel|telephone|phone|mobile|cell|fax|call|whatsapp|sms|text)(?:[.: ]|no\b|number|me|us|him|her|is|at|on|#|\(0\)){0,8}((?:\(0[0-9]{1,5}\)|0)(?:[ ().\u{a0}/-]{0,3}[0-9]){6,13})",
        )
    });
    let digits = |found: &str| found.chars().filter(char::is_ascii_digit).collect::<String>();
    let alone = |found: &Match<'_>| stands_alone(text, found.range());
    let is_first = |found: &Match<'_>| {
        !text[..found.start()].trim_end().ends_with(|c: char| c.is_alphanumeric() && c.is_numeric())
    };
    let abroad = ABROAD
        .find_iter(text)
        .filter(|found| alone(found) && is_first(found) && is_international(found.as_str(), &digits(found.as_str())));
    let america = AMERICA.find_iter(text).filter(|found| {
        let digits = digits(found.as_str());
        // N11 is a service number, not an area or an exchange.
        alone(found) && !digits[1..].starts_with("11") && !digits[4..].starts_with("11")
    });
    let local = LOCAL
        .captures_iter(text)
        .filter_map(|found| found.get(1))
        .filter(|found| alone(found) && !is_date(found.as_str()));
    let found = abroad.chain(america).chain(local).chain(british(text));
    let mut spans: Vec<Range<usize>> = found.map(|found| found.range()).collect();
    spans.sort_by_key(|span| (span.start, std::cmp::Reverse(span.end)));
    spans
}

/// Whether the digits are an E.164 number with an assigned country code; such a number is not written in only two
/// parts.
fn is_international(written: &str, digits: &str) -> bool {
    const TWO: &str = "20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 77 79 73 74 \
                       78 81 82 84 86 90 91 92 93 94 95 98";
    // The ranges of three-digit country codes; a few codes in some of them are not assigned.
    const THREE: &str = "21 22 23 24 25 26 29 35 37 38 42 50 59 67 68 69 80 82 85 87 88 96 97 99";
    let first = written.trim_start_matches('+').split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    let starts = |codes: &str, length: usize| {
        first.len() >= length && codes.split_ascii_whitespace().any(|code| digits.starts_with(code))
    };
    match digits.as_bytes() {
        [b'1', area, _, _, exchange, ..] => digits.len() == 11 && *area > b'1' && *exchange > b'1',
        [b'1', ..] => false,
        _ => (8..=15).contains(&digits.len()) && (starts(TWO, 2) || starts(THREE, 3)),
    }
}

/// Whether it is a date of day, month and year.
fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split(['.', '/', '-']).collect();
    let is_year = |part: &&str| part.len() == 4 && (part.starts_with("19") || part.starts_with("20"));
    parts.len() == 3 && parts.iter().all(|part| part.len() <= 4) && parts.iter().any(is_year)
}

/// United Kingdom national numbers, in the groups that people write (Ofcom, National Telephone Numbering Plan).
fn british(text: &str) -> impl Iterator<Item = Match<'_>> {
    static FORM: LazyLock<Regex> = LazyLock::new(|| {
        new(r"\(0[1235789][0-9]{1,4}\)(?:[ -]?[0-9]{3,8}){1,2}|0[1235789][0-9]{1,9}(?:[ -][0-9]{3,8}){0,2}")
    });
    const GROUPS: [&[usize]; 10] =
        [&[11], &[5, 6], &[5, 5], &[5, 3, 3], &[4, 3, 4], &[4, 7], &[4, 6], &[3, 4, 4], &[3, 8], &[6, 5]];
    let is_number = |found: &Match<'_>| {
        let groups: Vec<&str> =
            found.as_str().split(|c: char| !c.is_ascii_digit()).filter(|group| !group.is_empty()).collect();
        let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
        let first = groups.first().copied().unwrap_or_default();
        // 076 was used for pagers.
        let is_area = !(first.starts_with("076") || first.starts_with("00") || first == "0");
        let marks: Vec<char> = found.as_str().chars().filter(|c| matches!(c, ' ' | '-')).collect();
        let is_even = marks.windows(2).all(|pair| pair[0] == pair[1]) || found.as_str().starts_with('(');
        GROUPS.contains(&lengths.as_slice()) && is_area && is_even
    };
    FORM.find_iter(text).filter(move |found| {
        is_number(found) && stands_alone(text, found.range()) && !is_of_something_else(&text[..found.start()])
    })
}
