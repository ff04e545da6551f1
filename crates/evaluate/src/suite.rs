//! A frozen set of probes and how they are asked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use foehn_corpus::SenseLexicon;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// What a model is measured on: sentences whose label it is to recognise, and scenes to describe under each label.
///
/// It is read from a TOML file that names the probe files beside it, with their SHA-256:
///
/// ```toml
/// name = "vakog"
/// labels = ["Visual", "Auditory"]
///
/// [recognition]
/// probes = "recognition.jsonl"
/// sha256 = "…"
/// questions = ["What modality is: '{sentence}'?", "Name the modality of '{sentence}'."]
///
/// [production]
/// scenes = "production.jsonl"
/// sha256 = "…"
/// question = "Describe {scene} using the {label} modality."
/// lexicon = "../lexicon.json"
/// unseen_lexicon = "lexicon_unseen.json" # may be left out
/// ```
#[derive(Clone, Debug)]
pub struct Suite {
    name: String,
    labels: Vec<String>,
    questions: Vec<String>,
    probes: Vec<Probe>,
    truth: Vec<usize>,
    production_question: String,
    scenes: Vec<Scene>,
    lexicon: SenseLexicon,
    unseen_lexicon: Option<SenseLexicon>,
    hashes: Hashes,
}

/// A sentence to recognise.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Its name, unique in the suite.
    pub id: String,
    /// The sentence.
    pub sentence: String,
    /// Its label.
    pub modality: String,
    /// The slice that it is reported in: `literal`, `idiom`, `conflict`.
    pub kind: String,
    /// What it was made from: the bootstrap draws groups.
    pub group: String,
}

/// A scene to describe under every label.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    /// Its name, unique in the suite.
    pub id: String,
    /// The scene, with its article.
    pub scene: String,
    /// What it was made from.
    pub group: String,
}

/// SHA-256, in hexadecimal, of a suite's files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
pub struct Hashes {
    /// Of the sentences, as frozen.
    pub recognition: String,
    /// Of the scenes, as frozen.
    pub production: String,
    /// Of the lexicon, as found.
    pub lexicon: String,
    /// Of the half of the lexicon that was held out from data building, as found.
    pub unseen_lexicon: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SuiteFile {
    name: String,
    labels: Vec<String>,
    recognition: RecognitionFile,
    production: ProductionFile,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecognitionFile {
    probes: PathBuf,
    sha256: String,
    questions: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProductionFile {
    scenes: PathBuf,
    sha256: String,
    question: String,
    lexicon: PathBuf,
    unseen_lexicon: Option<PathBuf>,
}

impl Suite {
    /// Reads a suite and its files.
    ///
    /// # Errors
    /// [`Error::NotFrozen`] where a probe file has changed, and whatever else is wrong, with its path and line.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let file: SuiteFile = toml::from_str(&text)
            .map_err(|source| Error::SuiteSyntax { path: path.to_owned(), source: Box::new(source) })?;
        check_wording(path, &file)?;
        let beside = |name: &Path| path.parent().unwrap_or(Path::new("")).join(name);
        let (probes_path, scenes_path) = (beside(&file.recognition.probes), beside(&file.production.scenes));
        let probes: Vec<(usize, Probe)> = frozen_lines(&probes_path, &file.recognition.sha256)?;
        let scenes: Vec<(usize, Scene)> = frozen_lines(&scenes_path, &file.production.sha256)?;
        check_ids(&probes_path, probes.iter().map(|(line, probe)| (*line, &probe.id)))?;
        check_ids(&scenes_path, scenes.iter().map(|(line, scene)| (*line, &scene.id)))?;
        let truth = truth(&probes_path, &probes, &file.labels)?;
        let (lexicon, lexicon_hash) = lexicon_of(path, &beside(&file.production.lexicon), &file.labels)?;
        let unseen = file.production.unseen_lexicon.as_deref().map(beside);
        let unseen = unseen.map(|unseen| lexicon_of(path, &unseen, &file.labels)).transpose()?;
        let (unseen_lexicon, unseen_hash) = unseen.unzip();
        let hashes = Hashes {
            recognition: file.recognition.sha256,
            production: file.production.sha256,
            lexicon: lexicon_hash,
            unseen_lexicon: unseen_hash,
        };
        Ok(Self {
            name: file.name,
            labels: file.labels,
            questions: file.recognition.questions,
            probes: probes.into_iter().map(|(_, probe)| probe).collect(),
            truth,
            production_question: file.production.question,
            scenes: scenes.into_iter().map(|(_, scene)| scene).collect(),
            lexicon,
            unseen_lexicon,
            hashes,
        })
    }

    /// The suite's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The labels, at least two, in the order of every matrix.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The paraphrases of the recognition question, at least one, with `{sentence}` in them.
    pub fn questions(&self) -> &[String] {
        &self.questions
    }

    /// The request for a description, with `{scene}` and `{label}` in it.
    pub fn production_question(&self) -> &str {
        &self.production_question
    }

    /// The sentences, at least one.
    pub fn probes(&self) -> &[Probe] {
        &self.probes
    }

    /// The index of each probe's label.
    pub fn truth(&self) -> &[usize] {
        &self.truth
    }

    /// The scenes, at least one.
    pub fn scenes(&self) -> &[Scene] {
        &self.scenes
    }

    /// The words of each label.
    pub fn lexicon(&self) -> &SenseLexicon {
        &self.lexicon
    }

    /// The words of each label that were held out from data building.
    pub fn unseen_lexicon(&self) -> Option<&SenseLexicon> {
        self.unseen_lexicon.as_ref()
    }

    /// The hashes of the suite's files.
    pub fn hashes(&self) -> &Hashes {
        &self.hashes
    }

    /// A paraphrase about a sentence.
    pub fn ask(question: &str, sentence: &str) -> String {
        question.replace("{sentence}", sentence)
    }

    /// The request to describe a scene under a label.
    pub fn ask_scene(&self, scene: &str, label: &str) -> String {
        // The label goes first: a scene that spells `{label}` stays as it is.
        self.production_question.replace("{label}", label).replace("{scene}", scene)
    }
}

/// SHA-256 in hexadecimal.
fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// The items of a JSONL file with their lines, at least one, if the file is the frozen one.
fn frozen_lines<T: DeserializeOwned>(path: &Path, expected: &str) -> Result<Vec<(usize, T)>> {
    let bytes = read(path)?;
    let found = sha256(&bytes);
    if found != expected {
        return Err(Error::NotFrozen { path: path.to_owned(), expected: expected.to_owned(), found });
    }
    let lines = (1..).zip(bytes.split(|byte| *byte == b'\n'));
    let items = lines.filter(|(_, line)| !line.trim_ascii().is_empty()).map(|(line, text)| {
        let item = serde_json::from_slice(text);
        item.map(|item| (line, item)).map_err(|source| Error::ProbeSyntax { path: path.to_owned(), line, source })
    });
    let items: Vec<(usize, T)> = items.collect::<Result<_>>()?;
    if items.is_empty() {
        return Err(suite_field(path, "probes", "an empty file".to_owned(), "a line at least".to_owned()));
    }
    Ok(items)
}

/// The index of each probe's label.
fn truth(path: &Path, probes: &[(usize, Probe)], labels: &[String]) -> Result<Vec<usize>> {
    let label = |(line, probe): &(usize, Probe)| {
        let found = labels.iter().position(|label| *label == probe.modality);
        found.ok_or_else(|| Error::ProbeField {
            path: path.to_owned(),
            line: *line,
            id: probe.id.clone(),
            field: "modality",
            found: probe.modality.clone(),
            expected: format!("one of {labels:?}"),
        })
    };
    probes.iter().map(label).collect()
}

/// A lexicon of the suite's labels, with its hash.
fn lexicon_of(suite: &Path, path: &Path, labels: &[String]) -> Result<(SenseLexicon, String)> {
    let lexicon = SenseLexicon::load(path)?;
    let classes: BTreeSet<&String> = lexicon.classes().iter().collect();
    if classes != labels.iter().collect() {
        let expected = format!("one whose classes are {labels:?}");
        return Err(suite_field(suite, "production.lexicon", format!("one of {classes:?}"), expected));
    }
    Ok((lexicon, sha256(&read(path)?)))
}

fn check_ids<'a>(path: &Path, ids: impl Iterator<Item = (usize, &'a String)>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for (line, id) in ids {
        if !seen.insert(id) {
            return Err(Error::ProbeField {
                path: path.to_owned(),
                line,
                id: id.clone(),
                field: "id",
                found: id.clone(),
                expected: "an id of its own".to_owned(),
            });
        }
    }
    Ok(())
}

fn check_wording(path: &Path, file: &SuiteFile) -> Result<()> {
    let SuiteFile { labels, recognition, production, .. } = file;
    let distinct: BTreeSet<&str> = labels.iter().map(|label| label.trim()).filter(|label| !label.is_empty()).collect();
    let lacks_sentence = recognition.questions.iter().find(|question| !question.contains("{sentence}"));
    let lacks_scene = ["{scene}", "{label}"].iter().any(|part| !production.question.contains(part));
    let rules = [
        (
            labels.len() >= 2 && distinct.len() == labels.len(),
            "labels",
            format!("{labels:?}"),
            "two or more different names",
        ),
        (!recognition.questions.is_empty(), "recognition.questions", "[]".to_owned(), "a question at least"),
        (
            lacks_sentence.is_none(),
            "recognition.questions",
            format!("`{}`", lacks_sentence.map_or("", String::as_str)),
            "a question with {sentence} in it",
        ),
        (
            !lacks_scene,
            "production.question",
            format!("`{}`", production.question),
            "a question with {scene} and {label} in it",
        ),
    ];
    match rules.into_iter().find(|(holds, ..)| !holds) {
        None => Ok(()),
        Some((_, field, found, expected)) => Err(suite_field(path, field, found, expected.to_owned())),
    }
}

fn suite_field(path: &Path, field: &'static str, found: String, expected: String) -> Error {
    Error::SuiteField { path: path.to_owned(), field, found, expected }
}
