//! What a text means to the passes that compare: a form that forgets how it is written, and keeps what a sign, a capital
//! or a figure changes.

use caseless::Caseless;
use unicode_normalization::UnicodeNormalization;

use crate::similar::hash_bytes;

/// The longest word, in letters, that is taken for an abbreviation where all of it is capitals.
const MAX_ABBREVIATION: usize = 5;

/// The text without what does not change its meaning: runs of white space, the punctuation and the quotation marks of
/// prose, the capital that begins a sentence or a quotation, and shouting.
///
/// All else stays: brackets, operators, the case of names and abbreviations, raised figures, the indent of later lines, and
/// each mark of a line that looks like code. A text of punctuation alone is its own form.
pub(crate) fn exact_form(text: &str) -> String {
    form_of(text, false)
}

/// The exact form in lower case, but for code and what a backslash precedes: of a text whose own case says nothing, it is
/// all there is to compare.
pub(crate) fn folded_form(text: &str) -> String {
    form_of(text, true)
}

/// Whether a text of several words is all in small letters, or all in capitals.
pub(crate) fn is_caseless(text: &str) -> bool {
    let (small, large) = (text.chars().any(char::is_lowercase), text.chars().any(char::is_uppercase));
    small != large && text.split_whitespace().count() >= 4
}

fn form_of(text: &str, folds: bool) -> String {
    let composed: Vec<char> = text.nfc().flat_map(compatible).collect();
    let mut form = String::with_capacity(text.len());
    for (at, line) in composed.split(|c| *c == '\n').enumerate() {
        let indent = line.iter().take_while(|c| c.is_whitespace()).count();
        let mut rest = line[indent..].to_vec();
        rest.iter_mut().filter(|c| c.is_whitespace()).for_each(|c| *c = ' ');
        rest.dedup_by(|next, c| *next == ' ' && *c == ' ');
        if at > 0 && indent > 0 && !rest.is_empty() && !form.trim().is_empty() {
            form.truncate(form.trim_end().len());
            form.push('\n');
            form.extend(&line[..indent]);
        } else {
            gap(&mut form);
        }
        if is_code(&rest) { push_code(&rest, &mut form) } else { push_prose(&rest, folds, &mut form) }
    }
    form.truncate(form.trim_end().len());
    if form.is_empty() { text.split_whitespace().collect() } else { form }
}

/// What a short answer says: its exact form without spaces, apostrophes and a full stop, and in lower case where it is
/// words alone.
pub(crate) fn label(text: &str) -> String {
    let form = exact_form(text);
    let bare = form.trim_end_matches(['.', '!', '?']);
    let bare: String = bare.chars().filter(|c| !c.is_whitespace() && *c != '\'').collect();
    if bare.is_empty() {
        form
    } else if bare.chars().all(char::is_alphanumeric) {
        bare.chars().default_case_fold().collect()
    } else {
        bare
    }
}

/// The hashes of a text's numbers, negations and symbols, in their order: two texts in which they differ say two things,
/// however alike they look.
pub(crate) fn pivots(text: &str) -> Vec<u64> {
    let form: Vec<char> = exact_form(text).chars().collect();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < form.len() {
        let start = at;
        while at < form.len() && is_word(&form, at) {
            at += 1;
        }
        let escaped = start > 0 && form[start - 1] == '\\';
        if at > start {
            let word: String = form[start..at].iter().collect();
            found.extend((escaped || is_pivot(&word)).then(|| hash_bytes(word.as_bytes(), 3)));
            continue;
        }
        let joins = |index: Option<usize>| index.and_then(|index| form.get(index)).is_some_and(|c| c.is_alphabetic());
        let is_hyphen = form[at] == '-' && joins(at.checked_sub(1)) && joins(Some(at + 1));
        let (from, first) = (at, at == 0 || form[at - 1] == '\n');
        at += 1;
        // A list's marks, headings and stress are dress.
        let is_dress = matches!(form[from], '*' | '#' | '-' | '•')
            && (first || form[from] == '*')
            && (form.get(at) == Some(&' ') || form.get(at) == Some(&'*') || from > 0 && form[from - 1] == '*');
        if !form[from].is_whitespace() && !is_hyphen && !is_dress {
            found.push(hash_bytes(form[from].to_string().as_bytes(), 4));
        }
    }
    found
}

fn is_pivot(word: &str) -> bool {
    const WORDS: &str = "not no never none nor neither cannot without nobody nothing nowhere \
         nicht kein keine keinen keinem keiner nie niemals ohne pas jamais sans non nunca sin niet geen nooit \
         one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen \
         eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion half \
         first second third fourth fifth twice once";
    let lower = word.to_lowercase();
    let letters = word.chars().count();
    let is_short_mark = (2..=3).contains(&letters) && word.chars().skip(1).any(char::is_uppercase);
    word.chars().any(char::is_numeric)
        || is_short_mark
        || lower.ends_with("n't")
        || WORDS.split_ascii_whitespace().any(|known| known == lower)
}

/// The characters that stand for one of a form that only prints otherwise: ligatures, full width, typographic quotes.
fn compatible(c: char) -> impl Iterator<Item = char> {
    let plain = match c {
        '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{2039}' | '\u{203a}' => '\'',
        '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{ab}' | '\u{bb}' | '\u{300c}' | '\u{300d}' => '"',
        '\u{2010}' | '\u{2011}' | '\u{2212}' => '-',
        other => other,
    };
    let is_form = ('\u{fb00}'..='\u{ffef}').contains(&plain);
    let forms = is_form.then(|| plain.nfkc()).into_iter().flatten();
    forms.chain((!is_form).then_some(plain))
}

/// Whether a line holds a sign that prose does without.
fn is_code(line: &[char]) -> bool {
    line.iter().any(|c| matches!(c, '\\' | '{' | '}' | '[' | ']' | '$' | '=' | '<' | '>' | '|' | '_' | '^' | '~' | '`'))
}

fn gap(form: &mut String) {
    if !form.is_empty() && !form.ends_with(char::is_whitespace) {
        form.push(' ');
    }
}

/// Code with its white space in runs of one; only a capital that begins a sentence of words is let go.
fn push_code(line: &[char], form: &mut String) {
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

fn push_prose(line: &[char], folds: bool, form: &mut String) {
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
                // A foot or an inch, where no quotation ends.
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

/// Whether a hyphen between spaces parts words, and subtracts nothing: words of two letters and more, or quotations.
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

/// Whether the character is a word's: a letter, a figure, or an apostrophe between letters.
fn is_word(line: &[char], at: usize) -> bool {
    let is = |index: Option<usize>| index.and_then(|index| line.get(index)).is_some_and(|c| c.is_alphanumeric());
    is(Some(at)) || (line[at] == '\'' && is(at.checked_sub(1)) && is(Some(at + 1)))
}

fn word_end(line: &[char], start: usize) -> usize {
    (start..line.len()).find(|at| !is_word(line, *at)).unwrap_or(line.len())
}

/// A word, in lower case where its capitals say nothing: at a sentence's start, or where it is shouted.
fn push_word(line: &[char], start: usize, end: usize, starts: bool, form: &mut String) {
    let word = &line[start..end];
    let is_capitalised = word[0].is_uppercase() && word[1..].iter().all(|c| !c.is_uppercase());
    // A letter by itself is a name, unless a sentence goes on behind it.
    let goes_on = line.get(end) == Some(&' ') && line.get(end + 1).is_some_and(|c| c.is_lowercase());
    let begins = starts && is_capitalised && (word.len() > 1 || goes_on);
    if begins || is_shouted(line, start, end) {
        form.extend(word.iter().copied().default_case_fold());
    } else {
        form.extend(word);
    }
}

/// Whether a word of capitals is loud rather than short for something: long, or beside another of them.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_the_meaning_stays() {
        for (left, right) in [
            ("x = []", "x = {}"),
            ("Which type is () here?", "Which type is [] here?"),
            (r"What is \w for?", r"What is \W for?"),
            ("Name the gas written NO.", "Name the gas written No."),
            ("What does US mean?", "What does us mean?"),
            ("Is it Polish?", "Is it polish?"),
            ("What is 7 - 2?", "What is 7 / 2?"),
            ("What is 3² + 4?", "What is 32 + 4?"),
            ("Compute 6!", "Compute 6"),
            ("Compute n!", "Compute n"),
            ("Who made C++?", "Who made C?"),
            ("not (a or b)", "(not a) or b"),
            ("5 * (1 + 2)", "5 * 1 + 2"),
            ("'$PATH'", "\"$PATH\""),
            ("if a:\n    b()\n    c()", "if a:\n    b()\nc()"),
            ("a\\tb", "a\tb"),
            ("1..5", "1...5"),
            ("3.5", "35"),
            ("-5 degrees", "5 degrees"),
            ("?", "!"),
            ("He is 5' tall", "He is 5\" tall"),
            ("its end", "it's end"),
            ("ℝ", "R"),
            ("a - b", "a b"),
        ] {
            assert_ne!(exact_form(left), exact_form(right), "{left} / {right}");
        }
    }

    #[test]
    fn what_is_only_written_otherwise_goes() {
        for (left, right) in [
            ("What  sense is it: 'Rain'?", "what sense is it “rain”"),
            ("IT WAS A LONG DAY!", "It was a long day."),
            ("A test.", "a test"),
            ("that's it", "that’s it"),
            ("ﬁne", "fine"),
            ("Wait… what?", "Wait, what"),
            ("it is “THAT’S music to me”", "It is: 'That's music to me'."),
            ("One.\n\nTwo.", "One. Two."),
            ("The year \"1995\"", "The year '1995'."),
            ("What is it - 'rain'?", "What is it: 'rain'?"),
        ] {
            assert_eq!(exact_form(left), exact_form(right), "{left} / {right}");
        }
    }

    #[test]
    fn labels_are_what_is_answered() {
        assert_eq!(label("Auditory."), label("auditory"));
        assert_eq!(label("It's fine"), label("Its fine"));
        assert_eq!(label("5."), label("5!"));
        assert_ne!(label("x = []"), label("x = {}"));
        assert_ne!(label(r"\w"), label(r"\W"));
    }

    #[test]
    fn pivots_are_numbers_negations_and_symbols() {
        let base = pivots("Take 2 of the well known pills, not more than (once) a day.");
        for same in
            ["Take 2 of these well-known pills, not much more than (once) each day!", "**Take** 2 pills, not (once)"]
        {
            assert_eq!(pivots(same), base, "{same}");
        }
        for other in
            ["Take 3 pills, not (once).", "Take 2 pills (once).", "Take 2 pills not once.", "Take two, not (once)"]
        {
            assert_ne!(pivots(other), base, "{other}");
        }
    }
}
