//! Unfinished sentences: series of clauses, phrases, quotations, prose without its full stop.

use super::{SENTENCE, VERSE, is_capitalised, is_list_item, plain};
use crate::text::sentences;

/// Beginnings of casual chat, which often has no full stop.
const CASUAL: [&str; 30] = [
    "i", "we", "you", "let", "please", "have", "hope", "just", "if", "feel", "sure", "okay", "ok", "thanks", "thank",
    "yes", "no", "yep", "hi", "hey", "hello", "done", "great", "good", "see", "happy", "glad", "ps", "cheers", "enjoy",
];

/// Whether the last sentence is a series of clauses without a full stop, one of them with a subject and a verb (`a bag
/// swings`).
pub(super) fn is_open_series(last: &str) -> bool {
    let sentence = sentences(last).pop().unwrap_or(last);
    let parts: Vec<Vec<String>> =
        sentence.split(',').map(|part| part.split_whitespace().map(plain).collect()).collect();
    let opens = |part: &Vec<String>| part.len() < 2 || part.first().is_some_and(|word| CASUAL.contains(&word.as_str()));
    let is_clause = |part: &Vec<String>| {
        let part = if part.first().is_some_and(|word| ["and", "but", "or", "so"].contains(&word.as_str())) {
            &part[1..]
        } else {
            part
        };
        let [article, _, verb, _, ..] = part else {
            return part.len() == 3 && DETERMINERS.contains(&part[0].as_str()) && is_verb(&part[2]);
        };
        DETERMINERS.contains(&article.as_str()) && is_verb(verb)
    };
    let words: usize = parts.iter().map(Vec::len).sum();
    words >= 10 && is_capitalised(sentence) && !parts.first().is_some_and(opens) && parts.iter().skip(1).any(is_clause)
}

const DETERMINERS: [&str; 10] = ["the", "a", "an", "my", "your", "his", "her", "their", "our", "its"];

/// Whether it looks like a verb in the third person.
fn is_verb(word: &str) -> bool {
    word.chars().count() > 3 && word.ends_with('s') && !word.ends_with("ss") && !word.ends_with("us")
}

/// Whether the last sentence, after others or after a comma, is a phrase that needs a clause: `On the left`, `as far as
/// anyone in the gallery`, `A gutter`.
pub(super) fn is_open_phrase(last: &str) -> bool {
    let found = sentences(last);
    let Some((sentence, whole)) = found.split_last() else { return false };
    let words: Vec<String> = sentence.split_whitespace().map(plain).collect();
    if !whole.is_empty()
        && let [first, second, rest @ ..] = words.as_slice()
        && rest.len() <= 2
    {
        let places = ["on", "in", "at", "under", "behind", "above", "below", "beside", "near", "over", "through"];
        if !rest.is_empty() && places.contains(&first.as_str()) && ["the", "a", "an"].contains(&second.as_str()) {
            return true;
        }
    }
    let tail: Vec<String> = sentence.rsplit(',').next().unwrap_or(sentence).split_whitespace().map(plain).collect();
    let is_subordinate = tail.len() > 4 && sentence.contains(',') && tail[0] == "as" && tail[2] == "as";
    let verbs = [
        "is",
        "are",
        "was",
        "am",
        "can",
        "know",
        "tell",
        "see",
        "want",
        "like",
        "need",
        "could",
        "will",
        "remember",
        "concerned",
        "goes",
        "possible",
    ];
    is_subordinate && !tail.iter().any(|word| verbs.contains(&word.as_str()) || word.ends_with("ed") || is_verb(word))
}

/// Whether a quotation opens in the line and does not close.
pub(super) fn opens_quotation(last: &str) -> bool {
    // `6"` is a measure, not a quotation.
    let straight =
        last.char_indices().filter(|(at, c)| *c == '"' && !last[..*at].ends_with(|c: char| c.is_ascii_digit()));
    !straight.count().is_multiple_of(2)
        || last.matches('“').count() > last.matches('”').count() + last.matches('“').count() / 2
}

/// Whether a last line that ends in a word without a mark is prose, which should end in a full stop.
pub(super) fn is_open_prose(last: &str, words: &[&str], before: &[&str]) -> bool {
    let is_bare = |line: &&str| line.ends_with(char::is_alphabetic) && line.split_whitespace().count() > 2;
    let is_verse = words.len() <= VERSE && before.last().is_some_and(is_bare);
    if is_list_item(last) || is_verse {
        return false;
    }
    let found = sentences(last);
    let after_sentence = found.split_last().is_some_and(|(_, whole)| {
        whole.last().is_some_and(|sentence| sentence.split_whitespace().count() > 2 && !ends_in_abbreviation(sentence))
    });
    after_sentence || (words.len() >= SENTENCE && is_capitalised(last) && !is_title(words))
}

/// `Dr.`, `St.`, `J.`: a short capitalised word whose point does not end a sentence.
fn ends_in_abbreviation(sentence: &str) -> bool {
    let Some(stem) = sentence.strip_suffix('.') else {
        return false;
    };
    let word = stem.rsplit(char::is_whitespace).next().unwrap_or(stem);
    word.contains('.') || (word.chars().count() <= 3 && word.starts_with(char::is_uppercase))
}

/// Whether every word except articles and prepositions begins with a capital.
fn is_title(words: &[&str]) -> bool {
    let is_long = |word: &&&str| word.chars().count() > 3;
    words.iter().filter(is_long).all(|word| !word.starts_with(char::is_lowercase))
}
