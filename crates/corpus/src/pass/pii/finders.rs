//! Finds personal data in a text.

mod numbers;
mod phones;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::PiiKind;
use numbers::{cards, ibans, social_security};
use phones::phones;

/// The spans of the given kinds, in order. If two overlap, the kind that is declared first is used.
pub(super) fn find(text: &str, kinds: &[PiiKind]) -> Vec<(Range<usize>, PiiKind)> {
    let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
    let mut sorted = kinds.to_vec();
    sorted.sort_unstable();
    let mut found: Vec<(Range<usize>, PiiKind)> = Vec::new();
    for kind in sorted {
        let spans = match kind {
            PiiKind::Secret => secrets(text),
            PiiKind::Email => emails(text).into_iter().chain(spelt_emails(text)).collect(),
            _ if !has_digit => Vec::new(),
            PiiKind::Iban => ibans(text),
            PiiKind::Card => cards(text),
            PiiKind::Ip => addresses(text),
            PiiKind::Ssn => social_security(text),
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
        // Words joined by hyphens do not have digits and capitals.
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
    // Extensions of files, which are not top-level domains here.
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

/// Whether there is no letter, digit, or mark of a longer number at either end of the span.
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

/// E-mail addresses whose marks are written as words: in brackets, or without brackets after a word that announces an
/// address.
fn spelt_emails(text: &str) -> Vec<Range<usize>> {
    static BRACKETS: LazyLock<Regex> = LazyLock::new(|| {
        let dot = r"(?: ?[(\[{<] ?(?:dot|DOT) ?[)\]}>] ?|\.| (?:dot|DOT) )";
        new(&format!(
            r"[\p{{L}}\p{{N}}][\p{{L}}\p{{N}}._%+-]* ?[(\[{{<] ?(?:at|AT) ?[)\]}}>] ?(?:[\p{{L}}\p{{N}}-]+{dot})+\p{{L}}{{2,24}}\b"
        ))
    });
    static WORDS: LazyLock<Regex> = LazyLock::new(|| {
        new(
            r"(?:[Mm]ail|[Aa]ddress|[Ww]rite to|[Rr]each (?:me|us|him|her|them)|[Cc]ontact)\b[^\n.!?]{0,24}? ([\p{L}\p{N}][\p{L}\p{N}._%+-]* at (?:[\p{L}\p{N}-]+ dot )+(?:com|org|net|edu|gov|info|io|eu|[a-z]{2}))\b",
        )
    });
    let bare = WORDS.captures_iter(text).filter_map(|found| found.get(1));
    BRACKETS.find_iter(text).chain(bare).map(|found| found.range()).collect()
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

/// Whether four numbers are the address of a public host, not a version or an address of a private network.
///
/// Without a word that says what it is, one of the numbers must be 100 or more. Only 2% of all addresses have four
/// numbers below 100.
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

/// Whether the words before a number say that it is not personal: the number of an order, a part, a book.
fn is_of_something_else(before: &str) -> bool {
    static WORD: LazyLock<Regex> = LazyLock::new(|| {
        new(
            r"(?i)(?:\b(?:orders?|invoices?|parts?|tickets?|tracking|serials?|model|sku|isbn|issn|ean|upc|gtin|doi|cas|version|case|item|article|product|batch|lot|ref|reference|parcel|shipment|catalogue|patent|id|code|bestell\w*|rechnung\w*|artikel\w*)\b(?:[^\n.;]|\b(?:no|nr)\.){0,16}|[#№]\s?)$",
        )
    });
    // A few words before the number are enough, because the pattern is anchored at their end.
    let start = before.char_indices().rev().nth(39).map_or(0, |(at, _)| at);
    WORD.is_match(&before[start..])
}

/// Compiles one of this crate's own patterns. The tests compile all of them.
fn new(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap_or_else(|error| unreachable!("{error}"))
}
