//! Answers that were cut off.

use super::Pass;
use foehn_record::Record;
use crate::text::sentences;

/// Rejects a record with a trained answer that breaks off in the middle of a sentence.
///
/// An answer is broken off where it ends in a mark or a word that something has to follow (`,`, `the`), inside a code
/// block, or in a word with no full stop, and it is prose: it has whole sentences before, or six words or more of a
/// capitalised sentence. Labels, phrases, titles, lists, verse, numbers and addresses may end as they like. A script
/// without spaces or capitals is never rejected for a missing full stop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Truncated;

/// Words that end no phrase.
const DANGLING: [&str; 28] = [
    "the", "a", "an", "of", "and", "or", "with", "into", "because", "my", "your", "their", "whose", "than", "as",
    "which", "while", "if", "when", "very", "every", "i'm", "you're", "he's", "she's", "it's", "we're", "they're",
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
        let trained = record.messages.iter().enumerate().filter(|(_, message)| message.is_trained());
        trained.into_iter().find_map(|(at, message)| {
            let how = cut(&message.content)?;
            Some(format!("the answer breaks off {how} (message {})", at + 1))
        })
    }
}

/// How the text breaks off, if it does.
fn cut(text: &str) -> Option<String> {
    let fences = text.lines().filter(|line| line.trim_start().starts_with("```")).count();
    if !fences.is_multiple_of(2) {
        return Some("inside a code block".to_owned());
    }
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let (last, before) = lines.split_last()?;
    let words: Vec<&str> = last.split_whitespace().collect();
    let (last_word, end) = (words.last()?, last.chars().next_back()?);
    if words.len() + before.len() < 2 {
        return None;
    }
    if expects_more(end) && last.chars().any(char::is_alphanumeric) {
        return Some(format!("after `{end}`"));
    }
    if !end.is_alphabetic() || is_address(last_word) {
        return None;
    }
    let has_dangled = words.len() > 2 && DANGLING.contains(&last_word.to_lowercase().replace('’', "'").as_str());
    (has_dangled || is_open_prose(last, &words, before)).then(|| format!("after `{last_word}`"))
}

/// Whether a last line that ends in a bare word is prose, which would have ended in a full stop.
fn is_open_prose(last: &str, words: &[&str], before: &[&str]) -> bool {
    let is_bare = |line: &&str| line.ends_with(char::is_alphabetic);
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

fn expects_more(end: char) -> bool {
    matches!(end, ',' | ';' | ':' | '(' | '[' | '{' | '-' | '–' | '—' | '“' | '‘' | '«' | '„' | '&')
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
            "Well done 🎻",
            "海は静かに光っている",
            "powerhouse of the cell in most living things",
            "Written by Dr. Smith",
        ] {
            assert_eq!(cut(text), None, "{text}");
        }
    }

    #[test]
    fn broken_answers_do_not() {
        for (text, how) in [
            ("The harbour glitters under a pale", "after `pale`"),
            ("Rain drums on the tin roof. A gutter", "after `gutter`"),
            ("Rain drums on the", "after `the`"),
            ("I hear what you’re", "after `you’re`"),
            ("Rain drums, gutters gurgle,", "after `,`"),
            ("These are the senses:", "after `:`"),
            ("First, the bell rings.\n\nThen the crowd begins to murmur and", "after `and`"),
            ("```\nlet x", "inside a code block"),
            ("Sparkled names a light that the eye alone can", "after `can`"),
        ] {
            assert_eq!(cut(text).as_deref(), Some(how), "{text}");
        }
    }
}
