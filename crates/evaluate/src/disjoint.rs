//! Checks that training data does not contain the probes.

use foehn_record::Record;

use crate::error::Shared;
use crate::{Error, Result, Suite};

/// The number of consecutive words that two unrelated texts do not share (Brown et al. 2020, "GPT-3", appendix C).
const RUN: usize = 13;

/// A sequence of words that identifies a probe.
struct Needle<'a> {
    probe: &'a str,
    /// The words, separated by spaces, with a space before and after.
    words: String,
    whole: bool,
}

/// Checks that no training record contains a probe.
///
/// A record contains a probe if it has the probe's group; or if it has all words of the probe's sentence, or 13
/// consecutive ones, ignoring case and punctuation; or if it has the production question up to the end of the scene
/// (`Describe a storm …`).
///
/// # Errors
/// [`Error::Leak`], naming the first such record and the probe.
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
        // `|` is not part of a word, so no sequence of words extends from one message into the next.
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
    // A probe without words would match every text.
    needles.retain(|needle| !needle.words.trim().is_empty());
    needles
}

/// The words of a text in lower case; a word consists of letters, digits and apostrophes.
pub(crate) fn words(text: &str) -> Vec<String> {
    let text = text.to_lowercase().replace(['\u{2018}', '\u{2019}'], "'");
    let runs = text.split(|c: char| !(c.is_alphanumeric() || c == '\''));
    runs.map(|word| word.trim_matches('\'')).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}
