//! Answers that were cut off.

mod sentence;
mod shape;
mod words;

use super::{Pass, Verdict};
use foehn_record::{Message, Record};
use sentence::{is_open_phrase, is_open_prose, is_open_series, opens_quotation};
use shape::{in_fence, in_json, is_code, is_fields, is_sign_off};
use words::{dangles, ends_in_prose};

/// Rejects a record with a trained answer that breaks off, and flags one that may.
///
/// It first determines the type of text. Code, markup, fields, lists, verse, titles, sign-offs, labels, numbers,
/// addresses and languages without full stops may end in any way, except that a fence, a string or a JSON object must
/// be closed. Prose breaks off if its end requires more text: a mark (`,`, `:`), a word that opens a phrase (`the`,
/// `within your`), or a quotation or a series of clauses that is not ended. Prose that ends in a word without a full
/// stop is only flagged, because people also write like that. If the first line is a label, the text after it is
/// examined in the same way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Truncated;

/// The smallest number of words of an unfinished sentence. Shorter text is a phrase.
const SENTENCE: usize = 6;

/// The largest number of words on a line of a list or a verse.
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
    // A text before a call goes on with the call.
    let ends = |message: &Message| message.is_trained() && message.tool_calls.is_empty();
    let trained = record.messages.iter().enumerate().filter(|(_, message)| ends(message));
    trained.into_iter().find_map(|(at, message)| {
        let (found, how) = cut(&message.content)?;
        (found == verdict).then(|| match verdict {
            Verdict::Reject => format!("the answer breaks off {how} (message {})", at + 1),
            Verdict::Flag => format!("the answer may break off {how} (message {})", at + 1),
        })
    })
}

/// How the text breaks off, if it does, and the verdict.
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
    if ends_in_prose(&words) {
        return after(Verdict::Reject);
    }
    if let Some(verdict) = dangles(last, &words) {
        return after(verdict);
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

/// The verdict for a text that ends in a mark after which more text is expected; `None` if the text is not prose.
fn after_mark(last: &str, words: &[&str], before: &[&str], end: char) -> Option<Verdict> {
    let bare = words.last().is_some_and(|word| word.chars().count() == 1);
    let says = |names: &[&str]| words.iter().rev().take(6).any(|word| names.contains(&plain(word).as_str()));
    let is_statement = end == ';' && before.iter().any(|line| is_code(line));
    if is_code(last) || is_statement || (bare && says(&MARKS)) || is_closed(last, end) || is_face(words) {
        return None;
    }
    let is_greeting = last.starts_with("Dear ") || is_sign_off(last, before);
    let is_label = words.len() == 1 || is_fields(last, before);
    let is_verse =
        before.len() > 1 && words.len() <= VERSE && before.iter().all(|line| line.split_whitespace().count() <= VERSE);
    let is_couplet = before.len() == 1 && words.len() <= VERSE && before[0].ends_with(end);
    let is_command = bare && end == '-';
    // `With «`, and intentional breaks: `behind the door stood—`.
    let is_shown = bare && words.len() <= 3 && !matches!(end, ',' | ';' | ':');
    let is_pause = !bare && matches!(end, '—' | '–');
    // A statement of an unknown programming language. Prose has a second mark, or is longer.
    let is_short = end == ';' && words.len() < 5 && last.matches([';', ',', '.']).count() == 1;
    let is_verse = is_verse || is_couplet;
    let doubtful = is_short
        || is_greeting
        || is_label
        || is_verse
        || is_command
        || is_shown
        || is_pause
        || matches!(end, '{' | '[');
    Some(if doubtful { Verdict::Flag } else { Verdict::Reject })
}

/// Whether the mark closes something: `„Servus“` in German, `»Hej«` in Danish, and the question mark of Greek.
fn is_closed(last: &str, end: char) -> bool {
    let before = &last[..last.len() - end.len_utf8()];
    let opening = match end {
        '“' => '„',
        '‘' => '‚',
        '«' => '»',
        ';' => return before.ends_with(|c: char| matches!(u32::from(c), 0x370..=0x3FF | 0x1F00..=0x1FFF)),
        _ => return false,
    };
    let count = |mark: char| before.matches(mark).count();
    count(opening) > count(end)
}

/// Whether the last word is an emoticon: `:(`, `>:-(`, `:'(`.
fn is_face(words: &[&str]) -> bool {
    let Some(face) = words.last().and_then(|word| word.strip_suffix(['(', '[', '{'])) else { return false };
    let eyes = face.trim_end_matches(['-', '\'', '’', '^', 'o']);
    eyes.ends_with([':', ';', '=']) && eyes.chars().count() <= 2
}

/// Words that announce a mark which is then shown: `the opening brace, which is {`.
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

/// The word in lower case, without the marks around it.
fn plain(word: &str) -> String {
    word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase()
}

fn expects_more(end: char) -> bool {
    matches!(end, ',' | ';' | ':' | '(' | '[' | '{' | '-' | '–' | '—' | '“' | '‘' | '«' | '„' | '&')
}

/// Whether the letter belongs to a script whose prose ends in full stops.
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

fn is_capitalised(line: &str) -> bool {
    line.chars().find(|c| c.is_alphabetic()).is_some_and(char::is_uppercase)
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
            "Man sagt „Grüß Gott“ oder „Servus“",
            "Ποιος έγραψε την Οδύσσεια; Πού είναι ο σταθμός;",
            "Oh no, not again :(",
            "So sorry :'(",
            "Once in a while",
            "Run it with ./server &",
            "WITH recent AS (",
            "name?.length ?:",
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
            "There's nothing to worry about",
            "It's definitely something worth waiting for",
            "Somewhere nobody has ever heard of",
            "That's the man I spoke to",
            "The hotel John stayed at",
            "As far as I know it is",
            "I counted every boat along the quay,\nand every boat was sailing far from me,",
            "And behind the door stood—",
            "With «",
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
            ("We will send it as soon as we have heard from", "after `from`"),
            ("If you have paid already, please", "after `please`"),
            ("It has been broken since Monday and I would like to ask you to", "after `to`"),
            ("He put up a picture of", "after `of`"),
            ("Rain drums on slates, a gutter overflows, and the ca", "after `ca`"),
        ] {
            assert_eq!(cut(text), Some((Verdict::Reject, how.to_owned())), "{text}");
        }
    }
}
