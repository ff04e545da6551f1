//! Probes that training must not have seen.

use foehn_record::Record;

use crate::error::Shared;
use crate::{Error, Result, Suite};

/// The run of words that two texts of different origin do not share (Brown et al. 2020, "GPT-3", appendix C).
const RUN: usize = 13;

/// A sequence of words that gives a probe away.
struct Needle<'a> {
    probe: &'a str,
    /// The words between spaces, a space before and after.
    words: String,
    whole: bool,
}

/// Checks that no training record gives a probe away.
///
/// One does that has the group of a probe; or holds all words of its sentence, or 13 of them in a row, whatever the case
/// and the punctuation; or holds the production question up to and including a scene (`Describe a storm …`).
///
/// # Errors
/// [`Error::Leak`], naming the first record in question and the probe.
pub fn check_disjoint<'a>(suite: &Suite, training: impl IntoIterator<Item = &'a Record>) -> Result<()> {
    let groups = || {
        let probes = suite.probes().iter().map(|probe| (&probe.id, &probe.group));
        probes.chain(suite.scenes().iter().map(|scene| (&scene.id, &scene.group)))
    };
    let needles = needles(suite);
    for (index, record) in training.into_iter().enumerate() {
        let leak = |probe: &str, how: Shared| Error::Leak {
            probe: probe.to_owned(),
            record: record.id.clone().unwrap_or_else(|| format!("number {}", index + 1)),
            how,
        };
        if let Some(group) = &record.group
            && let Some((probe, _)) = groups().find(|(_, other)| *other == group)
        {
            return Err(leak(probe, Shared::Group(group.clone())));
        }
        // A bar is no word: no run of words goes from one message to the next.
        let texts: Vec<String> = record.messages.iter().map(|message| words(&message.content).join(" ")).collect();
        let text = format!(" {} ", texts.join(" | "));
        if let Some(needle) = needles.iter().find(|needle| text.contains(&needle.words)) {
            let shared = needle.words.trim().to_owned();
            let how = if needle.whole { Shared::Text(shared) } else { Shared::Words(shared) };
            return Err(leak(needle.probe, how));
        }
    }
    Ok(())
}

fn needles(suite: &Suite) -> Vec<Needle<'_>> {
    let joined = |words: &[String]| format!(" {} ", words.join(" "));
    let mut needles = Vec::new();
    for probe in suite.probes() {
        let words = words(&probe.sentence);
        let id = probe.id.as_str();
        needles.push(Needle { probe: id, words: joined(&words), whole: true });
        needles.extend(words.windows(RUN).map(|run| Needle { probe: id, words: joined(run), whole: false }));
    }
    let parts = suite.production_question().split("{label}");
    let request = parts.into_iter().find_map(|part| part.split_once("{scene}")).map_or("", |(before, _)| before);
    for scene in suite.scenes() {
        let words = words(&format!("{request}{}", scene.scene));
        needles.push(Needle { probe: &scene.id, words: joined(&words), whole: true });
    }
    // A probe of no words is in every text and in none.
    needles.retain(|needle| !needle.words.trim().is_empty());
    needles
}

/// The words of a text in lower case: letters, digits and the apostrophes among them.
pub(crate) fn words(text: &str) -> Vec<String> {
    let text = text.to_lowercase().replace(['\u{2018}', '\u{2019}'], "'");
    let runs = text.split(|c: char| !(c.is_alphanumeric() || c == '\''));
    runs.map(|word| word.trim_matches('\'')).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}
