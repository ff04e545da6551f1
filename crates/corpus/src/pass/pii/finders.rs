//! Where personal data stand in a text.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::PiiKind;

/// The spans of these kinds, in their order. Where two overlap, the kind that is declared first has it.
pub(super) fn find(text: &str, kinds: &[PiiKind]) -> Vec<(Range<usize>, PiiKind)> {
    let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
    let mut sorted = kinds.to_vec();
    sorted.sort_unstable();
    let mut found: Vec<(Range<usize>, PiiKind)> = Vec::new();
    for kind in sorted {
        let spans = match kind {
            PiiKind::Secret => secrets(text),
            PiiKind::Email => emails(text),
            _ if !has_digit => Vec::new(),
            PiiKind::Iban => ibans(text),
            PiiKind::Card => cards(text),
            PiiKind::Ip => addresses(text),
            PiiKind::Phone => phones(text),
        };
        for span in spans {
            if found.iter().all(|(other, _)| span.end <= other.start || other.end <= span.start) {
                found.push((span, kind));
            }
        }
    }
    found.sort_by_key(|(span, _)| span.start);
    found
}

fn secrets(text: &str) -> Vec<Range<usize>> {
    static FORMS: LazyLock<Regex> = LazyLock::new(|| {
        new(&[
            r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----|\z)",
            r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
            r"\bgh[pousr]_[A-Za-z0-9]{36,255}\b",
            r"\bgithub_pat_[A-Za-z0-9_]{60,255}\b",
            r"\bglpat-[A-Za-z0-9_-]{20,64}",
            r"\bxox[abeprs]-[0-9]{6,}-[A-Za-z0-9-]{10,}",
            r"\bAIza[0-9A-Za-z_-]{35}",
            r"\b[rs]k_live_[0-9A-Za-z]{16,}\b",
            r"\bhf_[A-Za-z0-9]{34,40}\b",
            r"\bnpm_[A-Za-z0-9]{36}\b",
            r"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}",
            r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
            r"\b(?P<mixed>sk-(?:[a-z]+[0-9]*-)*[A-Za-z0-9_-]{32,})",
        ]
        .join("|"))
    });
    let is_secret = |found: &regex::Captures<'_>| {
        // Words joined by hyphens have no digits and capitals among them.
        found.name("mixed").is_none_or(|mixed| {
            let has = |test: fn(&u8) -> bool| mixed.as_str().bytes().filter(test).count() >= 3;
            has(u8::is_ascii_digit) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase)
        })
    };
    let found = FORMS.captures_iter(text).filter(is_secret);
    found.filter_map(|found| found.get(0)).map(|found| found.range()).collect()
}

fn emails(text: &str) -> Vec<Range<usize>> {
    static FORM: LazyLock<Regex> = LazyLock::new(|| {
        new(
            r"[\p{L}\p{N}][\p{L}\p{N}._%+'-]{0,63}@((?:[\p{L}\p{N}](?:[\p{L}\p{N}-]{0,61}[\p{L}\p{N}])?\.)+\p{L}{2,24})",
        )
    });
    // What stands behind the point of a file, not of a host.
    const FILES: [&str; 14] =
        ["png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "ts", "json", "html", "md", "txt", "pdf"];
    if !text.contains('@') {
        return Vec::new();
    }
    let is_address = |found: &regex::Captures<'_>| {
        let (whole, host) = (&found[0], &found[1]);
        let file = host.rsplit('.').next().is_some_and(|end| FILES.contains(&end.to_lowercase().as_str()));
        let rest = found.get(0).map_or("", |found| &text[found.end()..]);
        let is_remote = whole.starts_with("git@") && rest.starts_with(':');
        let goes_on = rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '@');
        !file && !is_remote && !goes_on && !whole.contains("..")
    };
    let found = FORM.captures_iter(text).filter(is_address);
    found.filter_map(|found| found.get(0)).map(|found| found.range()).collect()
}

fn ibans(text: &str) -> Vec<Range<usize>> {
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

/// The length of a country's numbers (SWIFT, IBAN registry, release 99).
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

/// ISO 7064, MOD 97-10, with the first four characters moved to the end and letters as 10 to 35.
fn remainder_97(number: &str) -> u32 {
    let (head, tail) = number.split_at(4.min(number.len()));
    tail.chars().chain(head.chars()).filter_map(|c| c.to_digit(36)).fold(0, |remainder, value| {
        let shift = if value < 10 { 10 } else { 100 };
        (remainder * shift + value) % 97
    })
}

fn cards(text: &str) -> Vec<Range<usize>> {
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

/// Whether no letter, digit, or mark of a longer number stands at either end.
fn stands_alone(text: &str, span: Range<usize>) -> bool {
    let mut before = text[..span.start].chars().rev();
    let mut after = text[span.end..].chars();
    let (last, next, second) = (before.next(), after.next(), after.next());
    let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let marks = |c: Option<char>| matches!(c, Some('.' | ',' | '-' | '/' | '+'));
    let is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    let goes_on = joins(next) || (marks(next) && is_digit(second));
    !(goes_on || joins(last) || (marks(last) && is_digit(before.next())))
}

/// The issuers' prefixes, with the lengths of their numbers.
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

/// Whether the digits stand without gaps, or in groups as on a card with one mark between them.
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

fn addresses(text: &str) -> Vec<Range<usize>> {
    static V4: LazyLock<Regex> = LazyLock::new(|| new(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"));
    static V6: LazyLock<Regex> = LazyLock::new(|| new(r"[23][0-9a-fA-F]{3}:[0-9a-fA-F:]{2,35}"));
    let v4 = V4.find_iter(text).filter(|found| stands_alone(text, found.range()) && is_host(text, found));
    let v6 = V6.find_iter(text).filter(|found| {
        let groups = found.as_str().split(':').filter(|group| !group.is_empty()).count();
        stands_alone(text, found.range()) && groups > 2 && found.as_str().parse::<Ipv6Addr>().is_ok()
    });
    v4.map(|found| found.range()).chain(v6.map(|found| found.range())).collect()
}

/// Whether four numbers are the address of a host in public: not a version, and not a network of one's own.
///
/// Without a word for what it is, one of the numbers has to be 100 or more, as are all four of 2% of addresses alone.
fn is_host(text: &str, found: &regex::Match<'_>) -> bool {
    static VERSION: LazyLock<Regex> = LazyLock::new(|| {
        new(r"(?i)(?:version|ver|release|build|firmware|driver|update|section|chapter|figure|clause|rule|\bv)[.:\s]*$")
    });
    static WORD: LazyLock<Regex> = LazyLock::new(|| {
        new(r"(?i)(?:\b(?:ips?|ipv4|host|server|address|gateway|ping|ssh|client|peer|node|from)\b[^.\n]{0,24}|://|@)$")
    });
    let Ok(address) = found.as_str().parse::<Ipv4Addr>() else {
        return false;
    };
    let octets = address.octets();
    let is_own = address.is_private() || address.is_loopback() || address.is_link_local() || address.is_multicast();
    let is_none = octets[0] == 0 || octets[0] >= 240 || octets[3] == 0;
    let mut start = found.start().saturating_sub(40);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let before = &text[start..found.start()];
    let says = octets.iter().any(|octet| *octet >= 100) || WORD.is_match(before);
    !is_own && !is_none && says && !VERSION.is_match(before)
}

fn phones(text: &str) -> Vec<Range<usize>> {
    static ABROAD: LazyLock<Regex> = LazyLock::new(|| new(r"\+[1-9](?:[ ().\u{a0}/-]{0,3}[0-9]){6,14}"));
    static AMERICA: LazyLock<Regex> =
        LazyLock::new(|| new(r"(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[-.])[2-9][0-9]{2}[-.][0-9]{4}"));
    static LOCAL: LazyLock<Regex> = LazyLock::new(|| {
        new(
            r"(?i)\b(?:tel|telephone|phone|mobile|cell|fax|call|whatsapp|sms|text)(?:[.: ]|no\b|number|me|us|him|her|is|at|on|#|\(0\)){0,8}((?:\(0[0-9]{1,5}\)|0)(?:[ ().\u{a0}/-]{0,3}[0-9]){6,13})",
        )
    });
    let digits = |found: &str| found.chars().filter(char::is_ascii_digit).collect::<String>();
    let alone = |found: &regex::Match<'_>| stands_alone(text, found.range());
    let is_first = |found: &regex::Match<'_>| {
        !text[..found.start()].trim_end().ends_with(|c: char| c.is_alphanumeric() && c.is_numeric())
    };
    let abroad = ABROAD
        .find_iter(text)
        .filter(|found| alone(found) && is_first(found) && is_international(found.as_str(), &digits(found.as_str())));
    let america = AMERICA.find_iter(text).filter(|found| {
        let digits = digits(found.as_str());
        // N11 is a service, neither an area nor an exchange.
        alone(found) && !digits[1..].starts_with("11") && !digits[4..].starts_with("11")
    });
    let local = LOCAL
        .captures_iter(text)
        .filter_map(|found| found.get(1))
        .filter(|found| alone(found) && !is_date(found.as_str()));
    let found = abroad.chain(america).chain(local);
    let mut spans: Vec<Range<usize>> = found.map(|found| found.range()).collect();
    spans.sort_by_key(|span| (span.start, std::cmp::Reverse(span.end)));
    spans
}

/// Whether the digits are a number of E.164 under an assigned country code, none of which is written in two parts.
fn is_international(written: &str, digits: &str) -> bool {
    const TWO: &str = "20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 77 79 73 74 \
                       78 81 82 84 86 90 91 92 93 94 95 98";
    // The blocks whose codes have three digits; of some a few are free.
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

/// Whether it is a day, month and year.
fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split(['.', '/', '-']).collect();
    let is_year = |part: &&str| part.len() == 4 && (part.starts_with("19") || part.starts_with("20"));
    parts.len() == 3 && parts.iter().all(|part| part.len() <= 4) && parts.iter().any(is_year)
}

/// A pattern of this crate's own. The tests run every one of them.
fn new(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap_or_else(|error| unreachable!("{error}"))
}
