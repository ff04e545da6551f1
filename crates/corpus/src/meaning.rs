//! The forms of a text that the comparing passes use. They ignore how a text is written, and keep every sign, capital
//! or digit that changes its meaning.

mod line;
mod pivots;

use caseless::Caseless;
use unicode_normalization::UnicodeNormalization;

pub(crate) use pivots::pivots;

use line::{is_code, push_code, push_prose};

/// The text without the parts that do not change its meaning: runs of white space, the punctuation and quotation marks
/// of prose, the capital that begins a sentence or a quotation, and words in all capitals for emphasis.
///
/// Everything else is kept: brackets, operators, the case of names and abbreviations, superscript digits, the indent of
/// later lines, and each mark in a line that looks like code. A text of punctuation alone is its own form.
pub(crate) fn exact_form(text: &str) -> String {
    form_of(text, false)
}

/// The exact form in lower case, except for code and letters after a backslash. For a text whose case has no meaning,
/// this form is compared.
pub(crate) fn folded_form(text: &str) -> String {
    form_of(text, true)
}

/// Whether a text of several words is entirely in lower case or entirely in capitals.
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

/// The meaning of a short answer: its exact form without spaces, apostrophes and a full stop; in lower case if it
/// consists only of words.
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

/// Replaces characters that only look different: ligatures, full-width forms, typographic quotes.
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

fn gap(form: &mut String) {
    if !form.is_empty() && !form.ends_with(char::is_whitespace) {
        form.push(' ');
    }
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
}
