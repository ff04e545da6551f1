//! Words after which more text is expected.

use super::{is_capitalised, plain};
use crate::pass::Verdict;
use crate::text::sentences;

/// Words that cannot end a phrase.
const OPENING: [&str; 61] = [
    "the", "a", "an", "and", "or", "because", "my", "your", "their", "our", "whose", "than", "which", "while", "if",
    "when", "very", "every", "i'm", "you're", "he's", "she's", "it's", "we're", "they're", "within", "during",
    "toward", "towards", "upon", "via", "per", "unless", "although", "whereas", "until", "between", "without", "among",
    "und", "oder", "für", "zum", "zur", "dass", "weil", "eine", "einen", "einem", "einer", "unser", "unsere", "ihre",
    "les", "du", "aux", "el", "los", "las", "del", "è",
];

/// Words that can end a phrase only with another word order: `what you asked for`, `as fast as I can`.
const LEANING: [&str; 41] = [
    "of", "with", "to", "from", "for", "at", "by", "in", "on", "as", "about", "can", "will", "would", "should", "must",
    "may", "might", "could", "is", "are", "was", "were", "has", "have", "had", "been", "be", "we", "they", "i", "he",
    "she", "but", "so", "that", "under", "over", "through", "its", "into",
];

/// Those of the `LEANING` words that are verbs.
const AUXILIARY: [&str; 18] = [
    "can", "will", "would", "should", "must", "may", "might", "could", "is", "are", "was", "were", "has", "have",
    "had", "been", "be", "but",
];

/// Words shortly before a preposition that allow it at the end: `what you asked for`.
const RELATIVE: [&str; 13] =
    ["what", "who", "whom", "which", "where", "whatever", "wherever", "whoever", "how", "why", "when", "that", "as"];

/// Words before an auxiliary that allow it at the end: `where the key is`, `as fast as you safely can`.
const COMPARING: [&str; 7] = ["where", "who", "whom", "how", "why", "as", "than"];

/// Verbs that can end in a word of place: `turn it on`, `log in`; and those that allow a last `to`.
const PHRASAL: [&str; 29] = [
    "log", "logged", "sign", "turn", "turned", "switch", "switched", "come", "go", "plug", "plugged", "carry", "fill",
    "check", "start", "keep", "hold", "put", "move", "drop", "stop", "join", "lock", "try", "push", "pass", "read",
    "stay", "work",
];
const BEFORE_TO: [&str; 35] = [
    "want",
    "wanted",
    "like",
    "need",
    "have",
    "used",
    "able",
    "going",
    "forward",
    "referring",
    "wish",
    "prefer",
    "how",
    "love",
    "hope",
    "mean",
    "meant",
    "allowed",
    "supposed",
    "happy",
    "glad",
    "ought",
    "afford",
    "try",
    "trying",
    "ready",
    "told",
    "asked",
    "spoke",
    "talk",
    "talked",
    "speak",
    "listen",
    "belong",
    "due",
];

/// Words that begin a noun phrase: `a link to` is incomplete, `nothing to worry about` is complete.
const DETERMINERS: [&str; 19] = [
    "the", "a", "an", "my", "your", "his", "her", "their", "our", "its", "this", "these", "those", "some", "any",
    "each", "every", "no", "several",
];

/// Words that cannot be part of a noun phrase.
const BREAKING: [&str; 24] = [
    "i",
    "you",
    "he",
    "she",
    "it",
    "we",
    "they",
    "to",
    "is",
    "are",
    "was",
    "were",
    "am",
    "be",
    "been",
    "has",
    "have",
    "had",
    "not",
    "nobody",
    "everyone",
    "everybody",
    "somebody",
    "people",
];

/// The smallest number of words of a sentence that must not end in such a word. People end shorter sentences with one.
const LONG: usize = 9;

/// Words after which the last word may be an example.
const NAMING: [&str; 11] = [
    "keyword",
    "word",
    "article",
    "preposition",
    "conjunction",
    "operator",
    "particle",
    "pronoun",
    "verb",
    "letter",
    "statement",
];

/// The verdict for a line that ends in a word after which text must follow; `None` if it does not.
pub(super) fn dangles(last: &str, words: &[&str]) -> Option<Verdict> {
    let [.., before_last, last_word] = words else { return None };
    let (before_last, word) = (plain(before_last), last_word.to_lowercase().replace('’', "'"));
    // `Vitamin A`, `Plan B or C`.
    if words.len() < 3
        || NAMING.contains(&before_last.as_str())
        || (last_word.len() == 1 && last_word.starts_with(char::is_uppercase) && word != "i")
    {
        return None;
    }
    let has_case = !last_word.starts_with(char::is_uppercase) || last_word.contains('\'') || last_word.contains('’');
    // `once in a while`.
    let is_time = word == "while" && ["a", "your", "my", "all", "the"].contains(&before_last.as_str());
    if OPENING.contains(&word.as_str()) && has_case && !is_time && !(word == "between" && before_last == "in") {
        return Some(Verdict::Reject);
    }
    // `the manager's`.
    let possessive = word.ends_with("'s") && ["the", "a", "my", "his", "her", "their"].contains(&before_last.as_str());
    if possessive && words.len() > 4 {
        return Some(Verdict::Reject);
    }
    let sentence = sentences(last).pop().unwrap_or(last);
    let length = sentence.split_whitespace().count();
    let asks = ["if ", "when ", "once ", "should ", "to "].iter().any(|word| sentence.to_lowercase().starts_with(word));
    if word == "please" && length > 4 && asks {
        return Some(Verdict::Reject);
    }
    let leans = LEANING.contains(&word.as_str()) && has_case && length > 3 && is_capitalised(sentence);
    if !leans || has_turned(sentence, &word, &before_last) {
        return None;
    }
    // `was written by`.
    let is_passive =
        word == "by" && sentence.split_whitespace().any(|word| ["was", "were", "is", "are", "been"].contains(&word));
    let is_sure = AUXILIARY.contains(&word.as_str()) || is_passive || length >= LONG || ends_in_name(sentence);
    Some(if is_sure { Verdict::Reject } else { Verdict::Flag })
}

/// Whether the text before the last word is a noun phrase.
fn ends_in_name(sentence: &str) -> bool {
    for word in sentence.split_whitespace().rev().skip(1).take(3) {
        let bare = plain(word);
        if DETERMINERS.contains(&bare.as_str()) {
            return true;
        }
        // A person who does something: `the hotel John stayed at`.
        if BREAKING.contains(&bare.as_str()) || word.starts_with(char::is_uppercase) || word.contains(['\'', '’', ','])
        {
            return false;
        }
    }
    false
}

/// Whether the text before a leaning word allows it at the end.
fn has_turned(sentence: &str, word: &str, before_last: &str) -> bool {
    let part = sentence.rsplit([',', ';', ':', '–', '—']).next().unwrap_or(sentence);
    let near: Vec<String> = part.split_whitespace().rev().skip(1).take(8).map(plain).collect();
    // `as soon as we hear from` does not allow it.
    let turns = |at: usize, name: &str| {
        let is_time =
            |at: Option<usize>| at.and_then(|at| near.get(at)).is_some_and(|word| word == "soon" || word == "long");
        name == near[at] && !(name == "as" && (is_time(Some(at + 1)) || is_time(at.checked_sub(1))))
    };
    let has =
        |names: &[&str], within: usize| (0..near.len().min(within)).any(|at| names.iter().any(|name| turns(at, name)));
    if ["i", "you", "he", "she", "it", "we", "they"].contains(&before_last) {
        return word != "to" || has(&RELATIVE, 8) || has(&["if", "unless", "than"], 8);
    }
    if word == "to" {
        return BEFORE_TO.contains(&before_last);
    }
    if AUXILIARY.contains(&word) {
        return has(&COMPARING, 4) || before_last == "there";
    }
    // None of these words belongs to a phrasal verb.
    let may_be_phrasal = !matches!(word, "of" | "as" | "that" | "its" | "so");
    has(&RELATIVE, 8) || (may_be_phrasal && has(&PHRASAL, 4))
}

/// Whether the line ends in two words of prose after both of which text is expected, whatever comes before them: `and
/// the`, `and then`, `because of`, `that you`.
pub(super) fn ends_in_prose(words: &[&str]) -> bool {
    let [_, _, .., first, second] = words else { return false };
    let asks = OPENING.contains(first) || LEANING.contains(first);
    let joins = ["and", "or", "but"].contains(first);
    let begins_clause = ["that", "which", "if", "when", "because", "whether", "while"].contains(first);
    (asks && OPENING.contains(second) && *second != "while")
        || (joins && ["then", "also", "now", "still"].contains(second))
        || (*first == "because" && *second == "of")
        || (begins_clause && ["i", "you", "he", "she", "it", "we", "they"].contains(second))
}
