//! Determines the type of text.

use std::sync::LazyLock;

use regex::Regex;

use crate::pass::skeleton::pattern;

/// Recognises code: a call, an operator, or a keyword at the start with the text that follows it in code.
static CODE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?x)
        \w\(\S* | \)\s*[;{:] | \\\S | [=!<>]= | (?:^|\s)=\s? | -> | => | :: | && | \|\| | \$\w | </ | \w\[ | \w\?\.\w | \?: | (?:^|\s)[.~]?/[\w./-]+\ &$ | ^\s*[\w-]+:\s[^.!?]*;\s*$
        | \b(?:SELECT|INSERT\ INTO|DELETE\ FROM|UPDATE\ \w+\ SET|CREATE\ (?:TABLE|INDEX|VIEW|DATABASE|USER)|ALTER\ TABLE|DROP\ (?:TABLE|INDEX|VIEW)|GRANT|TRUNCATE|BEGIN|COMMIT|ROLLBACK|WITH\ \w+\ AS|FROM\ \w+|WHERE\ \w+)\b
        | ^(?:\$\ |\#\ |>\ )?(?:sudo|git|docker|kubectl|npm|npx|yarn|pip3?|cargo|tar|ls|cd|cp|mv|rm|mkdir|chmod|chown|grep|sed|awk|curl|wget|ssh|scp|cat|echo|export|systemctl|apt(?:-get)?|brew|make|python3?|node|go|ps|kill|find|head|tail|du|df|psql|ping)\ (?:-|\w+$|[\w./~:-]+\ -|install\b|run\b|add\b|commit\b|push\b|get\b)
        | ^(?:let|const|var|int|float|double|char|bool|long|string|String|auto|def|fn|func|function|class|struct|enum|interface|impl|import|use|using|package|return|public|private|protected|static|final|void|\#include|\#define|pub|mut|async|await|yield|throw|raise|goto|break|continue|namespace|typedef|elif|foreach)\b[^.!?]*[;:{}()\w]$
        | ^(?:for|while|if|with|try|except|switch|case)\b[^.!?]*[:{]$ ",
    )
});

/// Whether the line is code or ends in code, as in `Write this first: for i in range(3):`.
pub(super) fn is_code(line: &str) -> bool {
    let shown = line.match_indices(": ").map(|(at, _)| line[at + 2..].trim_start());
    std::iter::once(line).chain(shown).any(is_code_only)
}

fn is_code_only(line: &str) -> bool {
    // An English sentence may begin with `use` or `return`. A line of code has a mark of its own, or is short.
    let begins_as_prose = line.starts_with(char::is_lowercase) && !line.ends_with([';', ':', '{', '}', ')']);
    let has_prose = line.split_whitespace().any(|word| ["the", "a", "of", "your", "my"].contains(&word));
    CODE.is_match(line) && !(begins_as_prose && has_prose)
}

/// Whether the text ends inside a fenced block. A fence is closed by a fence of the same kind that is not shorter.
pub(super) fn in_fence(text: &str) -> bool {
    let mut open: Option<(char, usize)> = None;
    for line in text.lines().map(str::trim_start) {
        let Some(mark) = line.chars().next().filter(|c| matches!(c, '`' | '~')) else { continue };
        let length = line.chars().take_while(|c| *c == mark).count();
        let rest = line[length..].trim();
        match open {
            None if length >= 3 && !(mark == '`' && rest.contains('`')) => open = Some((mark, length)),
            Some((same, least)) if same == mark && length >= least && rest.is_empty() => open = None,
            _ => {}
        }
    }
    open.is_some()
}

/// Whether the text ends inside a JSON object or list that began in it.
pub(super) fn in_json(text: &str) -> bool {
    let mut rest = text;
    while let Some(start) = rest.find(['{', '[']) {
        let inside = rest[start + 1..].trim_start();
        let is_object = rest[start..].starts_with('{') && inside.starts_with('"');
        let is_list = rest[start..].starts_with('[') && inside.starts_with(['"', '{']) && inside.contains("\":");
        if !(is_object || is_list) {
            rest = &rest[start + 1..];
            continue;
        }
        match json_end(&rest[start..]) {
            Some(end) => rest = &rest[start + end..],
            None => return inside.contains("\":") || inside.contains("\" :"),
        }
    }
    false
}

/// The end of the JSON value at the beginning of the text.
fn json_end(text: &str) -> Option<usize> {
    let (mut depth, mut in_string, mut is_escaped) = (0usize, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if in_string => is_escaped = true,
            '"' => in_string = !in_string,
            '{' | '[' if !in_string => depth += 1,
            '}' | ']' if !in_string => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Whether the lines of the text are fields, keys and items, as in YAML, and the last one is a key.
pub(super) fn is_fields(last: &str, before: &[&str]) -> bool {
    let is_key = |line: &str| line.split_once(':').is_some_and(|(name, _)| !name.contains(' '));
    is_key(last) && !before.is_empty() && before.iter().all(|line| is_key(line) || line.starts_with("- "))
}

/// Endings of letters.
static SIGN_OFF: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)(?:\b(?:regards|wishes|sincerely|faithfully|truly|cheers|thanks|thank you|love|yours|greetings|hugs|gr(?:ü|ue)(?:ß|ss)en?|gr(?:ü|ue)(?:ß|ss)e|cordialement|salutations|saludos|atentamente|saluti|groet\w*|hilsen|team|crew|staff|support|day|weekend|evening)\b[^.!?]{0,40}$)|^\W*(?:p\.?\s?s\.?|your|yours)\b",
    )
});

/// Whether the last line, after other text, ends a letter: its last sentence is a closing formula, or it is the name
/// under one.
pub(super) fn is_sign_off(last: &str, before: &[&str]) -> bool {
    let sentence = last.rsplit(['.', '!', '?']).next().unwrap_or(last);
    let is_short = |text: &str| (1..=8).contains(&text.split_whitespace().count());
    let has_text = !before.is_empty() || sentence.len() < last.len();
    let is_name = before
        .last()
        .is_some_and(|line| is_short(line) && line.ends_with(',') && SIGN_OFF.is_match(line.trim_end_matches(',')));
    has_text && is_short(sentence) && (SIGN_OFF.is_match(sentence.trim_end_matches(',')) || is_name)
}
