//! Records that contain evaluation texts.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::Pass;
use super::settings::{positive, share};
use crate::error::{Error, Result};
use crate::said::texts;
use crate::similar::{HashedMap, PrefixIndex, Unit, combined, hash_bytes, jaccard, text_shingles};
use crate::text::{normalised, quoted_span, sentences, sha256_hex};
use foehn_record::Record;

/// The settings of [`Contamination`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContaminationSettings {
    /// The evaluation files: JSON lines, one JSON array, or plain text with one text per line.
    pub files: Vec<PathBuf>,
    /// The keys whose texts are evaluation texts, at any depth of an object. An empty list means every text.
    #[serde(default)]
    pub fields: Vec<String>,
    /// The smallest number of words of an evaluation text. A text of one word would be in every record.
    #[serde(default = "min_words", deserialize_with = "positive")]
    pub min_words: usize,
    /// The number of consecutive words of a longer text that counts as a match.
    #[serde(default = "run", deserialize_with = "positive")]
    pub run: usize,
    /// The smallest Jaccard index, over shingles of 5 characters, of a text that counts as nearly the same.
    #[serde(default = "threshold", deserialize_with = "share")]
    pub threshold: f64,
}

/// Five words: many records have "What is the capital of", but rarely all the words of a probe.
fn min_words() -> usize {
    5
}

/// Brown et al. 2020, "Language Models are Few-Shot Learners", appendix C.
fn run() -> usize {
    13
}

fn threshold() -> f64 {
    0.7
}

impl ContaminationSettings {
    /// The settings for these files: every text of 5 words or more, 13 consecutive words, a Jaccard index of 0.7.
    pub fn new(files: Vec<PathBuf>) -> Self {
        Self { files, fields: Vec::new(), min_words: min_words(), run: run(), threshold: threshold() }
    }
}

/// Rejects a record that contains a text of an evaluation file: all its words in order, or 13 consecutive ones,
/// ignoring case and punctuation. Also rejects a record with a message, a sentence or a quotation that is nearly the
/// same as such a text.
///
/// Similar texts are found with an exact index (a prefix filter), because MinHash would miss some, and evaluation files
/// are small enough. It takes 8 bytes for each word and each character of the evaluation texts.
pub struct Contamination {
    /// The keys whose texts are evaluation texts.
    fields: Vec<String>,
    min_words: usize,
    /// The hash of each file, in their order.
    contents: Vec<String>,
    run: usize,
    threshold: f64,
    /// The place of each text: its file and line.
    names: Vec<String>,
    /// Hashes of runs of words, each with a text that has the run.
    runs: HashedMap<u32>,
    /// The lengths of those runs.
    lengths: BTreeSet<usize>,
    shingles: Vec<Vec<u64>>,
    index: PrefixIndex,
}

/// The size of the shingles for similar texts.
const SIZE: usize = 5;

impl Contamination {
    /// Reads the evaluation files.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::Read`] and [`Error::Evaluation`], and [`Error::Empty`] for a file without a text that
    /// is long enough.
    pub fn new(settings: &ContaminationSettings) -> Result<Self> {
        let (mut texts, mut contents): (Vec<(String, String)>, Vec<String>) = (Vec::new(), Vec::new());
        for file in &settings.files {
            let before = texts.len();
            let bytes = std::fs::read(file).map_err(|source| Error::Open { path: file.into(), source })?;
            contents.push(sha256_hex(&bytes));
            push_texts(file, &bytes, &settings.fields, &mut texts)?;
            let is_long = |text: &str| normalised(text).split(' ').count() >= settings.min_words;
            texts.retain(|(_, text)| is_long(text));
            if texts.len() == before {
                return Err(Error::Empty { path: file.into() });
            }
        }
        let (mut runs, mut lengths) = (HashedMap::default(), BTreeSet::new());
        for (at, (_, text)) in texts.iter().enumerate() {
            let words = word_hashes(text);
            let length = words.len().min(settings.run);
            lengths.insert(length);
            for run in words.windows(length.max(1)) {
                runs.entry(combined(run.iter().copied())).or_insert(at as u32);
            }
        }
        let shingles: Vec<Vec<u64>> = texts.iter().map(|(_, text)| text_shingles(text, Unit::Chars, SIZE)).collect();
        let index = PrefixIndex::new(&shingles, settings.threshold);
        let names = texts.into_iter().map(|(name, _)| name).collect();
        let ContaminationSettings { fields, min_words, run, threshold, .. } = settings.clone();
        Ok(Self { fields, min_words, contents, run, threshold, names, runs, lengths, shingles, index })
    }

    fn find(&self, text: &str) -> Option<String> {
        let words = word_hashes(text);
        let held = self.lengths.iter().filter(|length| **length > 0).find_map(|length| {
            let mut runs = words.windows(*length).map(|run| combined(run.iter().copied()));
            runs.find_map(|run| Some((*length, self.names.get(*self.runs.get(&run)? as usize)?)))
        });
        if let Some((length, name)) = held {
            let what = if length < self.run { "all words" } else { "words in a row" };
            return Some(format!("it holds {what} of {name} ({length} words)"));
        }
        let parts = sentences(text);
        let whole = (parts.len() != 1).then_some(text);
        parts.into_iter().chain(whole).chain(quoted_span(text)).find_map(|part| {
            let shingles = text_shingles(part, Unit::Chars, SIZE);
            let near = self.index.candidates(&shingles).into_iter().find_map(|at| {
                let found = jaccard(&shingles, &self.shingles[at]);
                (found >= self.threshold).then_some((found, &self.names[at]))
            });
            near.map(|(found, name)| format!("it is nearly the text of {name} (Jaccard {found:.2})"))
        })
    }
}

/// Shows the settings and the hashes of the files, because the hash of a pipeline is computed from this text.
impl fmt::Debug for Contamination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contamination")
            .field("fields", &self.fields)
            .field("min_words", &self.min_words)
            .field("run", &self.run)
            .field("threshold", &self.threshold)
            .field("contents", &self.contents)
            .finish()
    }
}

impl Pass for Contamination {
    fn name(&self) -> &'static str {
        "contamination"
    }

    fn check(&self, record: &Record) -> Option<String> {
        let mut found = record
            .messages
            .iter()
            .enumerate()
            .flat_map(|(at, message)| texts(message).map(move |text| (at, text)))
            .filter_map(|(at, text)| Some(format!("{} (message {})", self.find(text)?, at + 1)));
        found.next()
    }
}

fn word_hashes(text: &str) -> Vec<u64> {
    let normal = normalised(text);
    normal.split(' ').filter(|word| !word.is_empty()).map(|word| hash_bytes(word.as_bytes(), 0)).collect()
}

/// Adds every text of a file, with its name and line.
fn push_texts(file: &Path, bytes: &[u8], fields: &[String], texts: &mut Vec<(String, String)>) -> Result<()> {
    let content = String::from_utf8_lossy(bytes);
    let content = content.trim_start_matches('\u{feff}');
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let broken = |line: usize, source| Error::Evaluation { path: file.into(), line: line as u64, source };
    if content.trim_start().starts_with('[') {
        let elements: Vec<Value> = serde_json::from_str(content).map_err(|error| broken(error.line(), error))?;
        for (at, element) in elements.iter().enumerate() {
            push_values(element, fields, fields.is_empty(), &format!("{name}, element {}", at + 1), texts);
        }
        return Ok(());
    }
    let is_json = content.trim_start().starts_with('{');
    for (at, line) in content.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = format!("{name}, line {}", at + 1);
        if is_json {
            let value: Value = serde_json::from_str(line).map_err(|error| broken(at + 1, error))?;
            push_values(&value, fields, fields.is_empty(), &place, texts);
        } else {
            texts.push((place, line.to_owned()));
        }
    }
    Ok(())
}

/// Adds the texts of a value that are under the given keys.
fn push_values(value: &Value, fields: &[String], counts: bool, place: &str, texts: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) if counts => texts.push((place.to_owned(), text.clone())),
        Value::Array(elements) => {
            elements.iter().for_each(|element| push_values(element, fields, counts, place, texts));
        }
        Value::Object(entries) => {
            for (key, value) in entries {
                push_values(value, fields, counts || fields.contains(key), place, texts);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str =
        "The harbour lies still and over the grey water hangs a fog through which hardly any light is seen at dusk";

    fn pass(name: &str, content: &str, fields: &[&str]) -> Result<Contamination> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("the folder is writable");
        let fields = fields.iter().map(|field| (*field).to_owned()).collect();
        Contamination::new(&ContaminationSettings { fields, ..ContaminationSettings::new(vec![path]) })
    }

    fn probes() -> Contamination {
        let lines = [
            r#"{"id": "probe one of many such", "sentence": "Moonlight silvered the slates of every roof."}"#,
            &format!(r#"{{"sentence": "{LONG}", "kind": "long"}}"#),
            r#"{"sentence": "too short to count"}"#,
        ];
        pass("probes.jsonl", &lines.join("\n"), &["sentence"]).expect("a sound file")
    }

    #[test]
    fn a_pipeline_is_named_by_what_the_files_hold_not_by_where_they_are() {
        let hash = |name: &str, content: &str| {
            crate::Pipeline::new().with(pass(name, content, &[]).expect("a sound file")).hash()
        };
        let one = hash("a.txt", LONG);
        assert_eq!(one, hash("b.txt", LONG));
        assert_ne!(one, hash("a.txt", &format!("{LONG}\n{LONG} again")));
        assert_ne!(one, hash("a.txt", &LONG.replace("harbour", "Harbour")));
    }

    #[track_caller]
    fn check(pass: &Contamination, text: &str, expected: Option<&str>) {
        assert_eq!(pass.find(text).as_deref(), expected, "{text}");
    }

    #[test]
    fn probes_are_found_in_other_words_of_their_case() {
        let pass = probes();
        let held = Some("it holds all words of probes.jsonl, line 1 (7 words)");
        check(&pass, "What modality is: 'moonlight silvered - the slates of every roof'?", held);
        let run = LONG.split(' ').skip(3).take(13).collect::<Vec<_>>().join(" ");
        check(
            &pass,
            &format!("Well: {run}, it says"),
            Some("it holds words in a row of probes.jsonl, line 2 (13 words)"),
        );
        let shorter = LONG.split(' ').skip(3).take(12).collect::<Vec<_>>().join(" ");
        check(&pass, &format!("Well: {shorter}, it says"), None);
    }

    #[test]
    fn nearly_the_same_is_found_in_sentences_and_quotations() {
        let pass = probes();
        let near = "Moonlight silvers the slates of every roof.";
        let shingles = |text: &str| text_shingles(text, Unit::Chars, SIZE);
        let index = jaccard(&shingles(near), &shingles("Moonlight silvered the slates of every roof."));
        assert!(index > 0.7 && index < 1.0);
        let expected = format!("it is nearly the text of probes.jsonl, line 1 (Jaccard {index:.2})");
        check(&pass, &format!("It was late in the year, and cold. {near} A dog barked."), Some(&expected));
        check(&pass, &format!("Name the modality of '{near}'"), Some(&expected));
        check(&pass, "Moonlight fell on the slates of the old roof.", None);
    }

    #[test]
    fn every_text_counts_unless_fields_are_named() {
        let pass =
            pass("set.json", r#"[{"a": ["one two three four five"], "b": {"c": "six seven eight nine ten"}}]"#, &[]);
        let pass = pass.expect("a sound file");
        check(&pass, "one two three four five", Some("it holds all words of set.json, element 1 (5 words)"));
        check(&pass, "six seven eight nine ten", Some("it holds all words of set.json, element 1 (5 words)"));
        check(&probes(), "probe one of many such", None);
    }

    #[test]
    fn files_of_no_use_are_errors() {
        assert!(matches!(pass("p.txt", "too short\n", &[]), Err(Error::Empty { .. })));
        assert!(matches!(pass("p.jsonl", "{\"a\": \"b\"}\n{", &[]), Err(Error::Evaluation { line: 2, .. })));
        let none = ContaminationSettings::new(vec!["no such file.jsonl".into()]);
        assert!(matches!(Contamination::new(&none), Err(Error::Open { .. })));
        check(
            &pass("p.txt", "one two three four five six\n", &[]).expect("text"),
            "One two three four five, six!",
            Some("it holds all words of p.txt, line 1 (6 words)"),
        );
    }
}
