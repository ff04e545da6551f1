//! Answers that repeat themselves.

mod ngrams;

use std::collections::BTreeSet;

use serde::Deserialize;

use super::Pass;
use super::settings::share;
use crate::text::{normalised, outside_code};
use foehn_record::Record;
use ngrams::{Ngrams, chars};

/// Rejects a record with a trained answer that repeats itself, by the rules of Gopher (Rae et al. 2021, "Scaling
/// Language Models: Methods, Analysis & Insights from Training Gopher", table A1). The defaults are Gopher's
/// thresholds.
///
/// Those rules are for documents of 50 words and more, since Gopher removes shorter ones first. Here they are applied
/// to answers of [`min_words`](Self::min_words) words or more, with two limits:
///
/// - Lines and paragraphs are examined only if there are four or more. In a rhyme of two lines, a repeated line is half
///   of the text and no fault.
/// - The most frequent 2-, 3- and 4-gram is examined only if it occurs three times or more.
///
/// A shorter answer has a rule of its own: it is rejected if a sequence of one to eight words occurs
/// [`max_run`](Self::max_run) times or more in a row and makes up half of the answer. Words are those of the normalised
/// text outside code and addresses. A share is a share of their characters.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Repetition {
    /// The smallest number of words for Gopher's rules.
    pub min_words: usize,
    /// How often a sequence of words must occur in a row in a shorter answer.
    pub max_run: usize,
    /// The largest share of repeated lines.
    #[serde(deserialize_with = "share")]
    pub duplicate_lines: f64,
    /// The largest share of characters in repeated lines, and in repeated paragraphs.
    #[serde(deserialize_with = "share")]
    pub duplicate_line_chars: f64,
    /// The largest share of repeated paragraphs.
    #[serde(deserialize_with = "share")]
    pub duplicate_paragraphs: f64,
    /// The largest share of characters in the most frequent 2-, 3- and 4-gram.
    pub top_ngrams: [f64; 3],
    /// The largest share of characters in repeated 5- to 10-grams.
    pub duplicate_ngrams: [f64; 6],
}

impl Default for Repetition {
    /// Gopher's thresholds; 50 words; 4 times in a row.
    fn default() -> Self {
        Self {
            min_words: 50,
            max_run: 4,
            duplicate_lines: 0.30,
            duplicate_line_chars: 0.20,
            duplicate_paragraphs: 0.30,
            top_ngrams: [0.20, 0.18, 0.16],
            duplicate_ngrams: [0.15, 0.14, 0.13, 0.12, 0.11, 0.10],
        }
    }
}

/// The smallest number of lines or paragraphs that are examined.
const MIN_PARTS: usize = 4;
/// The smallest number of occurrences of the most frequent n-gram.
const MIN_TOP: usize = 3;
/// The largest number of words in a repeated sequence of a short answer.
const MAX_LOOP: usize = 8;

impl Pass for Repetition {
    fn name(&self) -> &'static str {
        "repetition"
    }

    fn check(&self, record: &Record) -> Option<String> {
        let trained = record.messages.iter().enumerate().filter(|(_, message)| message.is_trained());
        trained.into_iter().find_map(|(at, message)| {
            let how = self.find(&message.content)?;
            Some(format!("the answer repeats itself: {how} (message {})", at + 1))
        })
    }
}

impl Repetition {
    fn find(&self, text: &str) -> Option<String> {
        let normal = normalised(&prose(text));
        let words: Vec<&str> = normal.split(' ').filter(|word| !word.is_empty()).collect();
        if words.len() < self.min_words {
            return self.find_loop(&words);
        }
        self.find_parts(text).or_else(|| self.find_ngrams(&words))
    }

    fn find_loop(&self, words: &[&str]) -> Option<String> {
        let max_run = self.max_run.max(2);
        (1..=MAX_LOOP.min(words.len() / max_run)).find_map(|size| {
            let mut equal = 0;
            let longest = (size..words.len()).map(|at| {
                equal = if words[at] == words[at - size] { equal + 1 } else { 0 };
                equal
            });
            let equal = longest.max()?;
            let times = equal / size + 1;
            let is_loop = times >= max_run && 2 * (equal + size) >= words.len();
            is_loop.then(|| format!("{size} words stand {times} times in a row"))
        })
    }

    fn find_parts(&self, text: &str) -> Option<String> {
        let lines = repeated(text.lines());
        let paragraphs = repeated(text.split("\n\n"));
        let rules = [
            ("lines", lines.parts, self.duplicate_lines),
            ("paragraphs", paragraphs.parts, self.duplicate_paragraphs),
            ("characters in lines", lines.chars, self.duplicate_line_chars),
            ("characters in paragraphs", paragraphs.chars, self.duplicate_line_chars),
        ];
        let broken = rules.into_iter().find(|(_, found, limit)| found > limit);
        broken.map(|(what, found, limit)| format!("{} of its {what} repeat others, at most {limit}", rounded(found)))
    }

    fn find_ngrams(&self, words: &[&str]) -> Option<String> {
        let (mut ngrams, all) = (Ngrams::new(words), chars(words).max(1) as f64);
        let frequent = self.top_ngrams.into_iter().find_map(|limit| {
            let (ngram, count) = ngrams.grow().top()?;
            let found = (count * chars(ngram)) as f64 / all;
            (count >= MIN_TOP && found > limit).then(|| {
                let (ngram, found) = (ngram.join(" "), rounded(found));
                format!("`{ngram}` stands {count} times, {found} of its characters, at most {limit}")
            })
        });
        frequent.or_else(|| {
            self.duplicate_ngrams.into_iter().zip(5..).find_map(|(limit, size)| {
                let found = ngrams.grow().repeated_chars() as f64 / all;
                (found > limit).then(|| {
                    let found = rounded(found);
                    format!("{found} of its characters stand in {size} words that stood there before, at most {limit}")
                })
            })
        })
    }
}

/// The words that are not code, addresses or table rules: links to the same page are not repetition.
fn prose(text: &str) -> String {
    let words = outside_code(text).flat_map(str::split_whitespace);
    let words = words.filter(|word| word.contains(char::is_alphanumeric) && !word.contains("://"));
    words.collect::<Vec<_>>().join(" ")
}

/// The shares of repeated parts, and of the characters in them.
struct Repeated {
    parts: f64,
    chars: f64,
}

fn repeated<'a>(parts: impl Iterator<Item = &'a str>) -> Repeated {
    let (mut seen, mut count, mut again) = (BTreeSet::new(), [0usize; 2], [0usize; 2]);
    for part in parts.map(str::trim).filter(|part| !part.is_empty()) {
        let size = [1, part.chars().count()];
        let is_new = seen.insert(part);
        for at in 0..2 {
            count[at] += size[at];
            again[at] += if is_new { 0 } else { size[at] };
        }
    }
    if count[0] < MIN_PARTS {
        return Repeated { parts: 0.0, chars: 0.0 };
    }
    Repeated { parts: again[0] as f64 / count[0] as f64, chars: again[1] as f64 / count[1] as f64 }
}

fn rounded(share: f64) -> String {
    format!("{share:.2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` different words.
    fn words(count: usize) -> String {
        (0..count).map(|at| format!("w{at:03}")).collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let found = Repetition::default().find(text);
        match expected {
            None => assert_eq!(found, None, "{text}"),
            Some(expected) => assert!(found.as_deref().is_some_and(|how| how.contains(expected)), "{found:?}: {text}"),
        }
    }

    #[test]
    fn loops_are_found_in_short_answers() {
        check("the the the the", Some("1 words stand 4 times"));
        check(&"A bell rings. ".repeat(4), Some("3 words stand 4 times"));
        check("Visual", None);
        check("No, no, no!", None);
        check("She was very, very, very, very tired of the long cold road home that night.", None);
        check("Row, row, row your boat, gently down the stream.", None);
        check("", None);
        let links =
            (0..20).map(|at| format!("- [{at}](https://example.org/owner/name/pull/{at}) w{at}\n")).collect::<String>();
        check(&links, None);
        check("```\n0 0 0 0\n0 0 0 0\n```", None);
    }

    #[test]
    fn the_papers_rules_judge_long_answers() {
        check(&words(60), None);
        // The limit for the most frequent 2-gram is 0.2 of the characters: 6 of 60 words are 0.2, and 7 are more.
        let with_pairs = |count: usize| {
            let (all, pairs) = (words(60 - 2 * count), vec!["xxxx yyyy"; count]);
            all.split(' ')
                .zip(pairs.into_iter().chain(std::iter::repeat("")))
                .map(|(a, b)| format!("{a} {b} "))
                .collect::<String>()
        };
        check(&with_pairs(6), None);
        check(&with_pairs(7), Some("`xxxx yyyy` stands 7 times, 0.23 of its characters, at most 0.2"));
        // Repeating 10 words gives 10 of 70 characters (0.143) in each of the 5- to 10-grams. The limit of the 7-grams
        // is 0.13.
        check(&format!("{} {}", words(60), words(10)), Some("stand in 6 words"));
        check(&format!("{} {}", words(60), words(9)), Some("stand in 7 words"));
        check(&format!("{} {}", words(60), words(4)), None);
        let lines = |same: usize| {
            (0..10).map(move |at| if at < same { words(6) } else { format!("{at} a{at} b{at} c{at} d{at} e{at}") })
        };
        check(&lines(5).collect::<Vec<_>>().join("\n"), Some("of its lines repeat others, at most 0.3"));
        check(&lines(1).collect::<Vec<_>>().join("\n"), None);
    }

    #[test]
    fn a_refrain_of_two_lines_is_no_fault() {
        let text = format!("{}\n{}\n{}", words(30), "one line", words(28).to_uppercase().replace('W', "v"));
        check(&text, None);
    }
}
