//! Checks that training data does not contain the items of a suite.

use std::collections::{BTreeSet, HashMap};

use foehn_record::{Message, Record, Role};

use crate::error::Shared;
use crate::text::words;
use crate::{Error, Item, Result, Suite};

/// The number of consecutive words that two unrelated texts do not share (Brown et al. 2020, "GPT-3", appendix C).
const RUN: usize = 13;

/// Checks that no training record contains an item of a suite.
///
/// A record contains an item if it has the item's group; or if it has all words of the item's text in their order, or 13
/// consecutive ones, ignoring case and punctuation. The item's text is what fills a prompt's placeholders; for a
/// description it is the request up to that place (`Describe a storm …`). An item that is a record itself is
/// contained in a record with the same questions: short questions (`Why?`) stand within many records.
///
/// # Errors
/// [`Error::Leak`], naming the first such record and the item.
pub fn check_disjoint<'a>(suite: &Suite, training: impl IntoIterator<Item = &'a Record>) -> Result<()> {
    let items = || suite.tasks.iter().flat_map(|task| &task.items);
    let groups: HashMap<&str, &str> = items().map(|item| (item.group.as_str(), item.id.as_str())).collect();
    let needles = Needles::new(items());
    let asked: HashMap<String, &str> = items()
        .filter(|item| item.probe.text.is_empty())
        .filter_map(|item| Some((question(item.prompts.first()?), item.id.as_str())))
        .collect();
    for (index, record) in training.into_iter().enumerate() {
        let leak = |probe: &str, how: Shared| Error::Leak {
            probe: probe.to_owned(),
            record: record.id.clone().unwrap_or_else(|| format!("number {}", index + 1)),
            how,
        };
        if let Some(group) = &record.group
            && let Some(probe) = groups.get(group.as_str())
        {
            return Err(leak(probe, Shared::Group(group.clone())));
        }
        let same = question(&record.messages);
        if let Some(probe) = asked.get(&same).filter(|_| !same.is_empty()) {
            return Err(leak(probe, Shared::Text(same)));
        }
        for message in &record.messages {
            if let Some((probe, how)) = needles.within(&words(&message.content)) {
                return Err(leak(probe, how));
            }
        }
    }
    Ok(())
}

/// The words of all that the user says.
fn question(messages: &[Message]) -> String {
    let said = messages.iter().filter(|message| message.role == Role::User);
    said.map(|message| words(&message.content).join(" ")).collect::<Vec<_>>().join(" | ")
}

/// A word sequence that identifies an item.
struct Needle<'a> {
    words: Vec<String>,
    id: &'a str,
    /// Whether it is the item's whole text.
    whole: bool,
}

/// Word sequences that identify items, by their first words.
struct Needles<'a> {
    /// For the first words of a sequence, at most [`RUN`] of them, the sequences that begin so.
    by_start: HashMap<Vec<String>, Vec<Needle<'a>>>,
    lengths: BTreeSet<usize>,
}

impl<'a> Needles<'a> {
    fn new(items: impl Iterator<Item = &'a Item>) -> Self {
        let mut needles = Self { by_start: HashMap::new(), lengths: BTreeSet::new() };
        for item in items {
            let words = words(&item.probe.text);
            if item.probe.runs {
                words.windows(RUN).for_each(|run| needles.add(run.to_vec(), &item.id, run.len() == words.len()));
            }
            needles.add(words, &item.id, true);
        }
        needles
    }

    fn add(&mut self, words: Vec<String>, id: &'a str, whole: bool) {
        // An item without words would match every text.
        if !words.is_empty() {
            let start = words[..words.len().min(RUN)].to_vec();
            self.lengths.insert(start.len());
            self.by_start.entry(start).or_default().push(Needle { words, id, whole });
        }
    }

    /// The first sequence that stands in a text.
    fn within(&self, text: &[String]) -> Option<(&'a str, Shared)> {
        for at in 0..text.len() {
            for length in self.lengths.iter().take_while(|length| at + **length <= text.len()) {
                let starting = self.by_start.get(&text[at..at + length]).map_or(&[][..], Vec::as_slice);
                if let Some(found) = starting.iter().find(|needle| text[at..].starts_with(&needle.words)) {
                    let shared = found.words.join(" ");
                    let how = if found.whole { Shared::Text(shared) } else { Shared::Words(shared) };
                    return Some((found.id, how));
                }
            }
        }
        None
    }
}
