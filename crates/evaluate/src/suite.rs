//! A frozen set of probes, and the questions about them.

mod file;

use std::path::Path;

use foehn_corpus::SenseLexicon;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

use file::{SuiteFile, check_ids, check_wording, frozen_lines, lexicon_of, truth};

/// The test set of an evaluation: sentences whose label the model should recognise, and scenes that it should describe
/// for each label.
///
/// A suite is read from a TOML file that names the probe files beside it, with their SHA-256:
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
    /// The slice that its results are reported in: `literal`, `idiom`, `conflict`.
    pub kind: String,
    /// What it was made from. The bootstrap draws whole groups.
    pub group: String,
}

/// A scene to describe for every label.
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

/// The SHA-256 hashes, in hexadecimal, of a suite's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashes {
    /// Of the file with the sentences; must match the suite.
    pub recognition: String,
    /// Of the file with the scenes; must match the suite.
    pub production: String,
    /// Of the lexicon; not compared.
    pub lexicon: String,
    /// Of the lexicon of words that were not used to build the data; not compared.
    pub unseen_lexicon: Option<String>,
}

impl Suite {
    /// Reads a suite and its files.
    ///
    /// # Errors
    /// [`Error::NotFrozen`] if a probe file has changed, and an error with path and line for any other problem.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = foehn_files::read_to_string(path, foehn_files::MAX_TEXT)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
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

    /// The words of each label that were not used to build the data.
    pub fn unseen_lexicon(&self) -> Option<&SenseLexicon> {
        self.unseen_lexicon.as_ref()
    }

    /// The hashes of the suite's files.
    pub fn hashes(&self) -> &Hashes {
        &self.hashes
    }

    /// Fills a sentence into a paraphrase of the question.
    pub fn ask(question: &str, sentence: &str) -> String {
        question.replace("{sentence}", sentence)
    }

    /// The request to describe a scene for a label.
    pub fn ask_scene(&self, scene: &str, label: &str) -> String {
        // The label is filled in first: otherwise a scene with the text `{label}` would be changed.
        self.production_question.replace("{label}", label).replace("{scene}", scene)
    }
}
