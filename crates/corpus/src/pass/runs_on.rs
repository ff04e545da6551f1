//! Answers that go on to ask and answer.

use std::collections::BTreeMap;

use super::{Finding, Pass, SetPass, Sketch};
use crate::record::{Record, Role};
use crate::text::{QUOTED, hash, mask_quotes, sentences};

/// Rejects a record whose answer does not stop: it carries another turn's role marker (`User:`, `### Instruction`, a
/// `Q:` after its first line), or asks the user's question again with another object.
///
/// The question is asked again where a sentence after the first has six tenths of the prompt's words in their order, with
/// quoted spans and capitalised words masked, and is a question, or begins with the same verb, as the prompt does.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunsOn;

/// Rejects a record whose answer asks, after its first sentence, what another record's user asks.
///
/// The two are the same where their words are, with quoted spans and capitalised words masked:
/// `Which sense is it: 'a bell rang'?` and `Which sense is it: 'smoke'?` are. Prompts of less than four words do not count.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsksAgain;

/// Stands for a capitalised word that does not begin its sentence: a name or a label.
const NAME: &str = "\u{2}";

/// The longest prompt or sentence, in words, that is compared word by word.
const MAX_WORDS: usize = 64;

impl Pass for RunsOn {
    fn name(&self) -> &'static str {
        "runs-on"
    }

    fn check(&self, record: &Record) -> Option<String> {
        let mut prompt = None;
        for (at, message) in record.messages.iter().enumerate() {
            match message.role {
                Role::System => {}
                Role::User => prompt = Some(Skeleton::new(&mask_quotes(&message.content))),
                Role::Assistant => {
                    let masked = mask_quotes(&message.content);
                    if let Some(marker) = role_marker(&message.content) {
                        return Some(format!("the answer goes on with `{marker}` (message {})", at + 1));
                    }
                    let prompt = prompt.as_ref().filter(|prompt| prompt.is_request(3));
                    if let Some(prompt) = prompt
                        && later_sentences(&masked).any(|sentence| sentence.resembles(prompt))
                    {
                        return Some(format!("the answer asks the question again (message {})", at + 1));
                    }
                }
            }
        }
        None
    }
}

impl SetPass for AsksAgain {
    fn name(&self) -> &'static str {
        "asks-again"
    }

    /// The number of prompts, their hashes, and the hashes of the answers' later sentences.
    fn sketch(&self, record: &Record) -> Vec<u64> {
        let (mut asked, mut answered) = (vec![0], Vec::new());
        for message in &record.messages {
            let masked = mask_quotes(&message.content);
            let requests = |skeleton: &Skeleton| skeleton.is_request(4);
            match message.role {
                Role::System => {}
                Role::User => asked.extend(Some(Skeleton::new(&masked)).filter(requests).map(|s| s.hash())),
                Role::Assistant => answered.extend(later_sentences(&masked).filter(requests).map(|s| s.hash())),
            }
        }
        asked[0] = asked.len() as u64 - 1;
        asked.extend(answered);
        asked
    }

    fn judge(&self, sketches: &[Sketch<'_>]) -> Vec<Finding> {
        let parts = || sketches.iter().filter_map(asked_and_answered);
        let mut first_to_ask = BTreeMap::new();
        for (index, asked, _) in parts() {
            for prompt in asked {
                first_to_ask.entry(*prompt).or_insert(index);
            }
        }
        parts()
            .filter_map(|(index, _, answered)| {
                let other = answered.iter().find_map(|sentence| first_to_ask.get(sentence))?;
                Some(Finding {
                    index,
                    others: vec![*other],
                    reason: "the answer goes on to ask what the user of another record asks".to_owned(),
                })
            })
            .collect()
    }
}

/// A sketch of [`AsksAgain`]: the record's index, the hashes of its prompts, and those of its answers' sentences.
fn asked_and_answered<'a>(sketch: &Sketch<'a>) -> Option<(usize, &'a [u64], &'a [u64])> {
    let (count, hashes) = sketch.words.split_first()?;
    let (asked, answered) = hashes.split_at_checked(usize::try_from(*count).ok()?)?;
    Some((sketch.index, asked, answered))
}

/// The words of a masked text, without what changes from one question of a kind to the next.
struct Skeleton {
    words: Vec<String>,
    is_question: bool,
}

impl Skeleton {
    fn new(masked: &str) -> Self {
        let mut words = Vec::new();
        for word in masked.split(|c: char| !(c.is_alphanumeric() || c == '\'' || c == QUOTED)) {
            let word = word.trim_matches('\'');
            if word.starts_with(char::is_uppercase) && !words.is_empty() {
                words.push(NAME.to_owned());
            } else if !word.is_empty() {
                words.push(word.to_lowercase());
            }
        }
        Self { words, is_question: masked.trim_end().ends_with('?') }
    }

    /// Whether it asks for something, in so many words at least: a question, or a sentence that begins with a verb
    /// rather than with its subject.
    fn is_request(&self, at_least: usize) -> bool {
        const SUBJECTS: [&str; 16] = [
            "i", "it", "the", "this", "that", "these", "those", "my", "we", "you", "he", "she", "they", "there", "a",
            "an",
        ];
        let Some(first) = self.words.first() else {
            return false;
        };
        self.words.len() >= at_least && (self.is_question || !SUBJECTS.contains(&first.as_str()))
    }

    fn resembles(&self, prompt: &Skeleton) -> bool {
        let longest = self.words.len().max(prompt.words.len());
        let same_kind =
            self.is_question == prompt.is_question && (self.is_question || self.words.first() == prompt.words.first());
        same_kind
            && self.is_request(3)
            && longest <= MAX_WORDS
            && 10 * common_words(&self.words, &prompt.words) >= 6 * longest
    }

    fn hash(&self) -> u64 {
        let mut words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        words.push(if self.is_question { "?" } else { "." });
        hash(&words)[0]
    }
}

/// The sentences of a masked answer but the first.
fn later_sentences(masked: &str) -> impl Iterator<Item = Skeleton> {
    sentences(masked).into_iter().skip(1).map(Skeleton::new)
}

/// The length of the longest common subsequence.
fn common_words(left: &[String], right: &[String]) -> usize {
    let mut row = vec![0; right.len() + 1];
    for word in left {
        let mut diagonal = 0;
        for (at, other) in right.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if word == other { diagonal + 1 } else { above.max(row[at]) };
            diagonal = above;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// The first marker of a role at the start of a line or a sentence.
fn role_marker(answer: &str) -> Option<&str> {
    sentences(answer).into_iter().enumerate().find_map(|(at, sentence)| {
        let bare = sentence.trim_start_matches(['*', '_', '>', ' ']);
        let end = heading(bare).or_else(|| speaker(bare, at == 0))?;
        Some(&bare[..end])
    })
}

/// The end of `### Instruction`, as Alpaca's and Vicuna's prompts write roles.
fn heading(line: &str) -> Option<usize> {
    let rest = line.strip_prefix("###")?.trim_start();
    let role =
        ["Instruction", "Response", "Human", "Assistant", "User"].into_iter().find(|role| rest.starts_with(role))?;
    let after = rest[role.len()..].trim_start();
    let is_marker = after.is_empty() || after.starts_with(':');
    is_marker.then_some(line.len() - rest.len() + role.len())
}

/// The end of `User:`, or of `Q:` in an answer that did not begin with one.
fn speaker(line: &str, is_first: bool) -> Option<usize> {
    let colon = line.char_indices().take(16).find(|(_, c)| *c == ':')?.0;
    let name = line[..colon].trim_end_matches(['*', '_', ' ']);
    let numbered = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let is_role = ["user", "human", "assistant"].contains(&name.to_ascii_lowercase().as_str())
        && name.starts_with(char::is_uppercase);
    let is_question = !is_first && ["Q", "Question"].contains(&numbered.trim_end());
    (is_role || is_question).then_some(colon + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Message;

    fn record(prompt: &str, answer: &str) -> Record {
        Record {
            id: None,
            messages: vec![Message::new(Role::User, prompt), Message::new(Role::Assistant, answer)],
            metadata: serde_json::Map::new(),
            group: None,
        }
    }

    #[track_caller]
    fn check(prompt: &str, answer: &str, runs_on: bool) {
        assert_eq!(RunsOn.check(&record(prompt, answer)).is_some(), runs_on, "{prompt} / {answer}");
    }

    const ASKED: &str = "What modality is: 'Her eyes sparkled'?";

    #[test]
    fn another_turn_is_seen() {
        for answer in [
            "Visual\nUser: What modality is: 'a bell rang'?\nAssistant: Auditory",
            "Visual\n\n### Instruction:\nName it.",
            "Visual\n**Human:** thanks",
            "Visual. Q: and 'a bell'? A: Auditory",
            "ASSISTANT: Visual",
            "Visual\nWhat modality is: 'That's music to my ears'?\nAuditory",
            "Visual. What modality is: 'Stop! It hurts'? Kinesthetic.",
        ] {
            check(ASKED, answer, true);
        }
        check(
            "Describe a storm using the Visual modality.",
            "Grey light flickers. Describe a beach using the Auditory modality. Gulls cry.",
            true,
        );
    }

    #[test]
    fn an_answer_is_not() {
        check(ASKED, "Visual", false);
        check(ASKED, "What modality is it? It is Visual.", false);
        check("Why is 'a bell rang' Auditory?", "Rang is heard. A bell speaks to the ear alone.", false);
        check("Write three questions.", "Q: One?\nWho is it? Where are they now?", false);
        check("Explain users.", "There are two kinds. User accounts: the first kind.", false);
        check("I feel sad today, my friend.", "Sorry. I feel sad today too, my friend.", false);
        check("How do I write a good test?", "Be brief. How do I know that it is good? Run it.", false);
    }

    fn judged(records: &[Record]) -> Vec<(usize, Vec<usize>)> {
        let sketches: Vec<_> = records.iter().map(|record| AsksAgain.sketch(record)).collect();
        let sketches: Vec<_> = sketches.iter().enumerate().map(|(index, words)| Sketch { index, words }).collect();
        AsksAgain.judge(&sketches).into_iter().map(|finding| (finding.index, finding.others)).collect()
    }

    #[test]
    fn questions_of_other_records_are_seen() {
        let records = [
            record("Which sense does it speak to: 'smoke'?", "Olfactory"),
            record(ASKED, "Visual\nWhich sense does it speak to: 'a bell'?\nAuditory"),
            record("Describe a forge in Auditory language only.", "Hammers clang."),
            record(ASKED, "Visual. Describe a forge in Visual language only. Sparks glow."),
            record(ASKED, "Visual. Do you want more of this?"),
        ];
        assert_eq!(judged(&records), [(1, vec![0]), (3, vec![2])]);
    }
}
