//! The parts of a text that distinguish it from a similar text.

use super::exact_form;
use super::line::is_word;
use crate::similar::hash_bytes;

/// The hashes of a text's numbers, negations and symbols, in order. Two texts that differ in them have different
/// meanings, however similar they look.
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
        // Marks of lists, headings and emphasis do not change the meaning.
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

#[cfg(test)]
mod tests {
    use super::*;

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
