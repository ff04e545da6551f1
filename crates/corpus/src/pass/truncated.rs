//! Answers that were cut off.

mod shape;

use super::{Pass, Verdict};
use crate::text::sentences;
use foehn_record::Record;
use shape::{in_fence, in_json, is_code, is_fields, is_sign_off};

/// Rejects a record with a trained answer that breaks off, and flags one that may.
///
/// It looks first at what a text is. Code, markup, fields, lists, verse, titles, sign-offs, labels, numbers, addresses and
/// languages without full stops may end as they like; only a fence, a string or an object of JSON has to be closed. Of prose
/// an answer is broken off where its end asks for more: a mark (`,`, `:`), a word that opens something (`the`, `within
/// your`), a quotation or a series of clauses that nothing ends. Prose that ends in a word, with no full stop, is flagged:
/// people write like that as well. A first line that is a label hides nothing of what follows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Truncated;

/// Words that end no phrase.
const OPENING: [&str; 62] = [
    "the", "a", "an", "and", "or", "into", "because", "my", "your", "their", "our", "whose", "than", "which", "while",
    "if", "when", "very", "every", "i'm", "you're", "he's", "she's", "it's", "we're", "they're", "within", "during",
    "toward", "towards", "upon", "via", "per", "unless", "although", "whereas", "until", "between", "without", "among",
    "und", "oder", "für", "zum", "zur", "dass", "weil", "eine", "einen", "einem", "einer", "unser", "unsere", "ihre",
    "les", "du", "aux", "el", "los", "las", "del", "è",
];

/// Words that end a phrase only where it has turned round: `what you asked for`, `as fast as I can`.
const LEANING: [&str; 40] = [
    "of", "with", "to", "from", "for", "at", "by", "in", "on", "as", "about", "can", "will", "would", "should", "must",
    "may", "might", "could", "is", "are", "was", "were", "has", "have", "had", "been", "be", "we", "they", "i", "he",
    "she", "but", "so", "that", "under", "over", "through", "its",
];

/// The leaning words that are verbs.
const AUXILIARY: [&str; 18] = [
    "can", "will", "would", "should", "must", "may", "might", "could", "is", "are", "was", "were", "has", "have",
    "had", "been", "be", "but",
];

/// What, shortly before, makes a preposition a good end: `what you asked for`.
const RELATIVE: [&str; 13] =
    ["what", "who", "whom", "which", "where", "whatever", "wherever", "whoever", "how", "why", "when", "that", "as"];

/// What makes an auxiliary a good end: `where the key is`, `as fast as you safely can`.
const COMPARING: [&str; 7] = ["where", "who", "whom", "how", "why", "as", "than"];

/// Verbs that end in a word of place: `turn it on`, `log in`; and those before a last `to`.
const PHRASAL: [&str; 29] = [
    "log", "logged", "sign", "turn", "turned", "switch", "switched", "come", "go", "plug", "plugged", "carry", "fill",
    "check", "start", "keep", "hold", "put", "move", "drop", "stop", "join", "lock", "try", "push", "pass", "read",
    "stay", "work",
];
const BEFORE_TO: [&str; 12] =
    ["want", "like", "need", "have", "used", "able", "going", "forward", "referring", "wish", "prefer", "how"];

/// Words of which the last of a text may be an example.
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

/// How chat begins, which does without its full stop.
const CASUAL: [&str; 30] = [
    "i", "we", "you", "let", "please", "have", "hope", "just", "if", "feel", "sure", "okay", "ok", "thanks", "thank",
    "yes", "no", "yep", "hi", "hey", "hello", "done", "great", "good", "see", "happy", "glad", "ps", "cheers", "enjoy",
];

/// The fewest words that make an unfinished sentence out of a phrase.
const SENTENCE: usize = 6;

/// The most words on a line of a list or a verse.
const VERSE: usize = 11;

impl Pass for Truncated {
    fn name(&self) -> &'static str {
        "truncated"
    }

    fn check(&self, record: &Record) -> Option<String> {
        find(record, Verdict::Reject)
    }

    fn doubt(&self, record: &Record) -> Option<String> {
        find(record, Verdict::Flag)
    }
}

fn find(record: &Record, verdict: Verdict) -> Option<String> {
    let trained = record.messages.iter().enumerate().filter(|(_, message)| message.is_trained());
    trained.into_iter().find_map(|(at, message)| {
        let (found, how) = cut(&message.content)?;
        (found == verdict).then(|| match verdict {
            Verdict::Reject => format!("the answer breaks off {how} (message {})", at + 1),
            Verdict::Flag => format!("the answer may break off {how} (message {})", at + 1),
        })
    })
}

/// How the text breaks off, if it does, and whether that is sure.
fn cut(text: &str) -> Option<(Verdict, String)> {
    let sure = |how: &str| Some((Verdict::Reject, how.to_owned()));
    if in_fence(text) {
        return sure("inside a code block");
    }
    if in_json(text) {
        return sure("inside JSON");
    }
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let (last, before) = lines.split_last()?;
    let words: Vec<&str> = last.split_whitespace().collect();
    let (last_word, end) = (*words.last()?, last.chars().next_back()?);
    if (words.len() < 2 && before.len() < 2 && !end.is_ascii_punctuation()) || words.len() + before.len() < 2 {
        return None;
    }
    if expects_more(end) && last.chars().any(char::is_alphanumeric) {
        let verdict = after_mark(last, &words, before, end)?;
        return Some((verdict, format!("after `{end}`")));
    }
    // `Vitamin A`.
    let is_letter = last_word.len() == 1 && end.is_uppercase() && end != 'I';
    if !end.is_alphabetic() || is_letter || is_address(last_word) || !has_full_stops(end) {
        return None;
    }
    if is_code(last) && !ends_in_prose(&words) {
        return None;
    }
    let after = |verdict| Some((verdict, format!("after `{last_word}`")));
    if ends_in_prose(&words) || dangles(last, &words) {
        return after(Verdict::Reject);
    }
    if is_sign_off(last, before) {
        return None;
    }
    if words.len() >= SENTENCE && opens_quotation(last) {
        return sure("inside a quotation");
    }
    if !is_list_item(last) && (is_open_series(last) || is_open_phrase(last)) {
        return after(Verdict::Reject);
    }
    if is_open_prose(last, &words, before) { after(Verdict::Flag) } else { None }
}

/// What it means that a text ends in a mark after which more is expected; nothing where it is no prose.
fn after_mark(last: &str, words: &[&str], before: &[&str], end: char) -> Option<Verdict> {
    let bare = words.last().is_some_and(|word| word.chars().count() == 1);
    let says = |names: &[&str]| words.iter().rev().take(6).any(|word| names.contains(&plain(word).as_str()));
    let is_statement = end == ';' && before.iter().any(|line| is_code(line));
    if is_code(last) || is_statement || (bare && says(&MARKS)) {
        return None;
    }
    let is_greeting = last.starts_with("Dear ") || is_sign_off(last, before);
    let is_label = words.len() == 1 || is_fields(last, before);
    let is_verse =
        before.len() > 1 && words.len() <= VERSE && before.iter().all(|line| line.split_whitespace().count() <= VERSE);
    let is_command = bare && end == '-';
    // A statement of a language nobody knows here; prose has a second mark, or is longer.
    let is_short = end == ';' && words.len() < 5 && last.matches([';', ',', '.']).count() == 1;
    let doubtful = is_short || is_greeting || is_label || is_verse || is_command || matches!(end, '{' | '[');
    Some(if doubtful { Verdict::Flag } else { Verdict::Reject })
}

/// Words before a mark that is spoken of: `the opening brace, which is {`.
const MARKS: [&str; 19] = [
    "is",
    "bracket",
    "brace",
    "parenthesis",
    "character",
    "symbol",
    "key",
    "sign",
    "mark",
    "colon",
    "semicolon",
    "comma",
    "dash",
    "hyphen",
    "type",
    "press",
    "ampersand",
    "quote",
    "called",
];

/// Whether the line ends in a word that something has to follow.
fn dangles(last: &str, words: &[&str]) -> bool {
    let [.., before_last, last_word] = words else { return false };
    let (before_last, word) = (plain(before_last), last_word.to_lowercase().replace('’', "'"));
    // `Vitamin A`, `Plan B or C`.
    if words.len() < 3
        || NAMING.contains(&before_last.as_str())
        || (last_word.len() == 1 && last_word.starts_with(char::is_uppercase) && word != "i")
    {
        return false;
    }
    let has_case = !last_word.starts_with(char::is_uppercase) || last_word.contains('\'') || last_word.contains('’');
    if OPENING.contains(&word.as_str()) && has_case {
        return true;
    }
    // `the manager's`.
    let possessive = word.ends_with("'s") && ["the", "a", "my", "his", "her", "their"].contains(&before_last.as_str());
    if possessive && words.len() > 4 {
        return true;
    }
    let sentence = sentences(last).pop().unwrap_or(last);
    let length = sentence.split_whitespace().count();
    let leans = LEANING.contains(&word.as_str()) && has_case && length > 3 && is_capitalised(sentence);
    leans && !has_turned(sentence, &word, &before_last)
}

/// Whether what stands before a leaning word makes it a good end.
fn has_turned(sentence: &str, word: &str, before_last: &str) -> bool {
    if ["i", "you", "he", "she", "it", "we", "they"].contains(&before_last) {
        return true;
    }
    if word == "to" {
        return BEFORE_TO.contains(&before_last);
    }
    let part = sentence.rsplit([',', ';', ':', '–', '—']).next().unwrap_or(sentence);
    let near: Vec<String> = part.split_whitespace().rev().skip(1).take(8).map(plain).collect();
    let has = |names: &[&str], within: usize| near.iter().take(within).any(|word| names.contains(&word.as_str()));
    if AUXILIARY.contains(&word) { has(&COMPARING, 4) } else { has(&RELATIVE, 8) || has(&PHRASAL, 4) }
}

/// Whether the line ends in two words of prose that both ask for more, whatever stands before them: `and the`, `and then`,
/// `because of`, `that you`.
fn ends_in_prose(words: &[&str]) -> bool {
    let [_, _, .., first, second] = words else { return false };
    let asks = OPENING.contains(first) || LEANING.contains(first);
    let joins = ["and", "or", "but"].contains(first);
    let begins_clause = ["that", "which", "if", "when", "because", "whether", "while"].contains(first);
    (asks && OPENING.contains(second))
        || (joins && ["then", "also", "now", "still"].contains(second))
        || (*first == "because" && *second == "of")
        || (begins_clause && ["i", "you", "he", "she", "it", "we", "they"].contains(second))
}

/// Whether the last sentence is a series of clauses, one of them with its subject and its verb (`a bag swings`), and has no
/// full stop.
fn is_open_series(last: &str) -> bool {
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

/// Whether it looks like a verb of the third person.
fn is_verb(word: &str) -> bool {
    word.chars().count() > 3 && word.ends_with('s') && !word.ends_with("ss") && !word.ends_with("us")
}

/// Whether the last sentence, after others or a comma, is a phrase that needs a clause: `On the left`, `as far as anyone in
/// the gallery`, `A gutter`.
fn is_open_phrase(last: &str) -> bool {
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
fn opens_quotation(last: &str) -> bool {
    // `6"` is a measure.
    let straight =
        last.char_indices().filter(|(at, c)| *c == '"' && !last[..*at].ends_with(|c: char| c.is_ascii_digit()));
    !straight.count().is_multiple_of(2)
        || last.matches('“').count() > last.matches('”').count() + last.matches('“').count() / 2
}

/// Whether a last line that ends in a bare word is prose, which would have ended in a full stop.
fn is_open_prose(last: &str, words: &[&str], before: &[&str]) -> bool {
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

/// The word in small letters, without the marks around it.
fn plain(word: &str) -> String {
    word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase()
}

fn expects_more(end: char) -> bool {
    matches!(end, ',' | ';' | ':' | '(' | '[' | '{' | '-' | '–' | '—' | '“' | '‘' | '«' | '„' | '&')
}

/// Whether the letter is of a script whose prose ends in full stops.
fn has_full_stops(letter: char) -> bool {
    matches!(u32::from(letter), 0..=0x52F | 0x1E00..=0x1FFF)
}

fn is_address(word: &str) -> bool {
    word.contains("://") || word.contains('@') || word.starts_with("www.") || word.contains('/')
}

fn is_list_item(line: &str) -> bool {
    let after_number = line.trim_start_matches(char::is_numeric);
    line.starts_with(['-', '*', '•', '–', '|', '#'])
        || (after_number.len() < line.len() && after_number.starts_with(['.', ')', ':']))
}

/// `Dr.`, `St.`, `J.`: a short capitalised word whose point ends no sentence.
fn ends_in_abbreviation(sentence: &str) -> bool {
    let Some(stem) = sentence.strip_suffix('.') else {
        return false;
    };
    let word = stem.rsplit(char::is_whitespace).next().unwrap_or(stem);
    word.contains('.') || (word.chars().count() <= 3 && word.starts_with(char::is_uppercase))
}

fn is_capitalised(line: &str) -> bool {
    line.chars().find(|c| c.is_alphabetic()).is_some_and(char::is_uppercase)
}

/// Whether every word that is no article or preposition begins with a capital.
fn is_title(words: &[&str]) -> bool {
    let is_long = |word: &&&str| word.chars().count() > 3;
    words.iter().filter(is_long).all(|word| !word.starts_with(char::is_lowercase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers_pass() {
        for text in [
            "Visual",
            "Kinesthetic",
            "a bitter taste",
            "The harbour glitters under a pale sun.",
            "She said, \"I hear you.\"",
            "He asked 'why?'",
            "2. The soup tastes of thyme",
            "- salt\n- pepper and a pinch of brown sugar",
            "An old silent pond\nA frog jumps into the pond",
            "The Old Man and the Sea",
            "The capital is Paris",
            "See the manual at https://example.org/guide",
            "The answer to the whole question is 42",
            "Use it:\n```\nlet x = 1;\n```",
            "~~~\n```\n~~~",
            "Well done 🎻",
            "海は静かに光っている",
            "powerhouse of the cell in most living things",
            "Written by Dr. Smith",
            "SELECT name FROM users WHERE id = 3;",
            "let total = prices.iter().sum();",
            "margin: 0 auto;",
            "{\"a\": [1, 2, {\"b\": \"c, d\"}]}",
            "전원을 끄세요. 다시 켜면 됩니다",
            "We have shipped it today. Kind regards,\nJo",
            "The vitamin you mean is vitamin A",
            "Open the block with a brace, which is {",
        ] {
            assert_eq!(cut(text), None, "{text}");
        }
    }

    #[test]
    fn what_may_be_meant_is_doubted() {
        for text in [
            "Okay, I have just restarted the router for you",
            "The harbour glitters under a pale",
            "Rain drums on the tin roof. A gutter",
            "Tell me which room the lamp is in",
            "We pay by card. Let us know what you are looking for",
            "Drive as fast as you safely can",
        ] {
            assert!(matches!(cut(text), None | Some((Verdict::Flag, _))), "{text}");
        }
        assert_eq!(cut("Rain drums on the tin roof. A gutter"), Some((Verdict::Flag, "after `gutter`".to_owned())));
    }

    #[test]
    fn broken_answers_do_not() {
        for (text, how) in [
            ("Rain drums on the", "after `the`"),
            ("Please reset it and then", "after `then`"),
            ("reply: We cannot find the order that you", "after `you`"),
            ("Call open(path) = ok and the", "after `the`"),
            ("I hear what you’re", "after `you’re`"),
            ("Rain drums, gutters gurgle,", "after `,`"),
            ("Rain drums; gutters gurgle;", "after `;`"),
            ("These are the senses:", "after `:`"),
            ("First, the bell rings.\n\nThen the crowd begins to murmur and", "after `and`"),
            ("```\nlet x", "inside a code block"),
            ("~~~\nlet x\n```", "inside a code block"),
            ("Sparkled names a light that the eye alone can", "after `can`"),
            ("support\nWe have sent you a link to", "after `to`"),
            ("{\"label\": \"billing\", \"reply\": \"We will ref", "inside JSON"),
            ("{\"label\": \"billing\", \"list\": [1, 2", "inside JSON"),
            ("Neat means undiluted, so the line calls it \"pu", "inside a quotation"),
            ("Rain drums on slates, a gutter overflows, and the ca", "after `ca`"),
        ] {
            assert_eq!(cut(text), Some((Verdict::Reject, how.to_owned())), "{text}");
        }
    }
}
