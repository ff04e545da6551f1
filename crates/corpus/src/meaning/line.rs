//! The form of one line: code is kept exactly, prose loses its punctuation.

use caseless::Caseless;

use super::gap;

/// A word in capitals with at most this many letters counts as an abbreviation.
const MAX_ABBREVIATION: usize = 5;

/// Whether a line has a sign that does not occur in prose.
pub(super) fn is_code(line: &[char]) -> bool {
    line.iter().any(|c| matches!(c, '\\' | '{' | '}' | '[' | ']' | '$' | '=' | '<' | '>' | '|' | '_' | '^' | '~' | '`'))
}

/// Appends code with each run of white space as one space. Only a capital that begins a sentence of words is changed.
pub(super) fn push_code(line: &[char], form: &mut String) {
    let (mut at, mut starts) = (0, true);
    while at < line.len() {
        if is_word(line, at) && !(at > 0 && line[at - 1] == '\\') {
            let end = word_end(line, at);
            push_word(line, at, end, starts && line.get(end) == Some(&' '), form);
            (at, starts) = (end, false);
            continue;
        }
        let is_end = at + 1 == line.len() && matches!(line[at], '.' | '?') && at > 0 && line[at - 1].is_alphanumeric();
        if line[at].is_whitespace() || is_end {
            gap(form);
        } else {
            form.push(line[at]);
            starts = false;
        }
        at += 1;
    }
}

pub(super) fn push_prose(line: &[char], folds: bool, form: &mut String) {
    let (mut at, mut starts, mut open) = (0, true, [false; 2]);
    while at < line.len() {
        let c = line[at];
        if is_word(line, at) {
            let end = word_end(line, at);
            if folds {
                form.extend(line[at..end].iter().copied().default_case_fold());
            } else {
                push_word(line, at, end, starts, form);
            }
            (at, starts) = (end, false);
            continue;
        }
        let before = at.checked_sub(1).map(|at| line[at]);
        let after = line.get(at + 1).copied();
        match c {
            '\'' | '"' => {
                let kind = usize::from(c == '"');
                let opens = !before.is_some_and(char::is_alphanumeric) && after.is_some_and(|c| !c.is_whitespace());
                // A mark for feet or inches, unless a quotation ends here.
                if before.is_some_and(char::is_numeric) && !open[kind] {
                    form.push(c);
                } else {
                    gap(form);
                }
                open[kind] = opens;
                starts |= opens;
            }
            '.' | ',' | ';' | ':' | '!' | '?' | '…' => {
                let end = at + line[at..].iter().take_while(|c| is_stop(**c)).count();
                let ends = line.get(end).is_none_or(|c| c.is_whitespace() || matches!(c, '"' | '\'' | ')' | ']'));
                let is_letter =
                    before.is_some_and(char::is_alphabetic) && !at.checked_sub(2).is_some_and(|at| is_word(line, at));
                let is_factorial = c == '!' && (before.is_some_and(char::is_numeric) || is_letter);
                if ends && before.is_some() && !is_factorial {
                    gap(form);
                    starts |= c != ',' && c != ';';
                } else {
                    form.extend(&line[at..end]);
                }
                at = end;
                continue;
            }
            '-' if is_dash(line, at) => gap(form),
            '–' | '—' => {
                let touches = |c: Option<char>| c.is_some_and(char::is_numeric);
                if touches(before) || touches(after) { form.push('-') } else { gap(form) }
            }
            '¿' | '¡' | '。' | '、' => gap(form),
            _ if c.is_whitespace() => gap(form),
            _ => {
                form.push(c);
                starts |= c == '(';
            }
        }
        at += 1;
    }
}

/// Whether a hyphen between spaces separates words or quotations, and is not a minus sign: words have two letters or
/// more.
fn is_dash(line: &[char], at: usize) -> bool {
    let is_part = |c: Option<&char>, beyond: Option<&char>| {
        c.is_some_and(|c| matches!(c, '"' | '\''))
            || (c.is_some_and(|c| c.is_alphabetic()) && beyond.is_some_and(|c| c.is_alphabetic()))
    };
    let left = |back: usize| at.checked_sub(back).and_then(|at| line.get(at));
    left(1) == Some(&' ')
        && line.get(at + 1) == Some(&' ')
        && is_part(left(2), left(3))
        && is_part(line.get(at + 2), line.get(at + 3))
}

fn is_stop(c: char) -> bool {
    matches!(c, '.' | ',' | ';' | ':' | '!' | '?' | '…')
}

/// Whether the character belongs to a word: a letter, a digit, or an apostrophe between letters.
pub(super) fn is_word(line: &[char], at: usize) -> bool {
    let is = |index: Option<usize>| index.and_then(|index| line.get(index)).is_some_and(|c| c.is_alphanumeric());
    is(Some(at)) || (line[at] == '\'' && is(at.checked_sub(1)) && is(Some(at + 1)))
}

fn word_end(line: &[char], start: usize) -> usize {
    (start..line.len()).find(|at| !is_word(line, *at)).unwrap_or(line.len())
}

/// Appends a word. It is in lower case if its capitals have no meaning: at the start of a sentence, or for emphasis.
fn push_word(line: &[char], start: usize, end: usize, starts: bool, form: &mut String) {
    let word = &line[start..end];
    let is_capitalised = word[0].is_uppercase() && word[1..].iter().all(|c| !c.is_uppercase());
    // A single letter is a name, unless a sentence continues after it.
    let goes_on = line.get(end) == Some(&' ') && line.get(end + 1).is_some_and(|c| c.is_lowercase());
    let begins = starts && is_capitalised && (word.len() > 1 || goes_on);
    if begins || is_shouted(line, start, end) {
        form.extend(word.iter().copied().default_case_fold());
    } else {
        form.extend(word);
    }
}

/// Whether a word in capitals is emphasis and not an abbreviation: it is long, or beside another one.
fn is_shouted(line: &[char], start: usize, end: usize) -> bool {
    let is_loud = |word: &[char]| {
        word.iter().any(|c| c.is_uppercase()) && !word.iter().any(|c| c.is_lowercase() || c.is_numeric())
    };
    if !is_loud(&line[start..end]) {
        return false;
    }
    let letters = end - start;
    let mut others = 0;
    if start > 1 && line[start - 1] == ' ' && is_word(line, start - 2) {
        let from = (0..start - 1).rev().take_while(|at| is_word(line, *at)).last().unwrap_or(start - 2);
        others = others.max(if is_loud(&line[from..start - 1]) { start - 1 - from } else { 0 });
    }
    if line.get(end) == Some(&' ') && end + 1 < line.len() && is_word(line, end + 1) {
        let to = word_end(line, end + 1);
        others = others.max(if is_loud(&line[end + 1..to]) { to - end - 1 } else { 0 });
    }
    letters > MAX_ABBREVIATION || line[start..end].contains(&'\'') || (others > 0 && others + letters > 2)
}
