//! What a model is asked, and how its answers are judged.

mod choices;
mod data;
mod file;
mod items;

use std::collections::BTreeMap;
use std::path::Path;

use foehn_corpus::Lexicon;
use foehn_record::{Message, Record};
use serde::{Deserialize, Serialize};

use crate::{LabelRule, Result};

pub use data::DataConfig;

/// The tasks of an evaluation.
///
/// A suite comes from a file of records that hold the right answers ([`Suite::from_data`]), or from a TOML file
/// ([`Suite::open`]) with a block for each task:
///
/// ```toml
/// name = "vakog"
///
/// [[task]]
/// name = "recognition"
/// kind = "choice"
/// file = "recognition.jsonl"
/// sha256 = "…"               # if it is given, another file is refused
/// labels = ["Visual", "Auditory"]
/// label = "modality"         # the field with an item's label
/// prompts = ["What modality is: '{sentence}'?", "Name the modality of '{sentence}'."]
/// slice = "kind"             # a field: figures are also reported for each of its values
///
/// [[task]]
/// name = "production"
/// kind = "describe"
/// file = "production.jsonl"
/// labels = ["Visual", "Auditory"]
/// prompts = ["Describe {scene} using the {label} modality."]
/// lexicon = "../lexicon.json"
/// ```
#[derive(Clone, Debug, Default)]
pub struct Suite {
    /// Its name.
    pub name: String,
    /// Its tasks, with different names.
    pub tasks: Vec<Task>,
}

/// One kind of question, and how the answers are judged.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its name, unique in the suite.
    pub name: String,
    /// How answers are judged.
    pub judge: Judge,
    /// What is asked, at least one item.
    pub items: Vec<Item>,
    /// The texts of its prompts, with `{field}` for what differs from item to item. Empty if the items have prompts of
    /// their own.
    pub patterns: Vec<String>,
    /// The longest answer, in tokens; 0 if nothing is generated.
    pub max_new_tokens: usize,
    /// The files that the task was read from, with their SHA-256 in hexadecimal.
    pub hashes: BTreeMap<String, String>,
}

/// How a task's answers are judged.
#[derive(Clone, Debug)]
pub enum Judge {
    /// The answer has one of several labels, or is one of an item's own options.
    Choice(Choice),
    /// The answer is a text. It is compared with a reference.
    Text(Vec<Scorer>),
    /// The answer describes something in the words of one class.
    Describe(Describe),
    /// There is no question: the likelihood of a text is measured.
    Likelihood,
}

/// The labels of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The labels, at least two; empty if each item has options of its own.
    pub labels: Vec<String>,
    /// Where an answer has its label.
    pub rule: LabelRule,
    /// How the rest of an answer is judged, if an answer is more than its label.
    pub scorers: Vec<Scorer>,
}

/// The classes of a task of descriptions, and their words.
#[derive(Clone, Debug)]
pub struct Describe {
    /// The classes, at least two.
    pub labels: Vec<String>,
    /// The words of each class.
    pub lexicon: Lexicon,
    /// Further words of each class, reported apart: words that were not used to build the data.
    pub unseen_lexicon: Option<Lexicon>,
}

/// How a text is compared with its reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scorer {
    /// The log-likelihood of the reference.
    Likelihood,
    /// The answer equals the reference, but for white space at its ends.
    Exact,
    /// The answer equals the reference, ignoring case, punctuation and white space.
    Normalised,
    /// The chrF score.
    Chrf,
    /// One of the accepted answers stands in the answer as whole words.
    Contains,
    /// The answer is JSON, with the reference's values.
    Json,
    /// The answer has each of the item's [`needs`](Item::needs).
    Needs,
    /// The answer quotes something, and all that it quotes stands in the question.
    Quotes,
}

impl Scorer {
    /// Whether it compares the answer with a reference, or accepts some answers.
    pub(crate) fn reads_reference(self) -> bool {
        !matches!(self, Self::Needs | Self::Quotes)
    }
}

/// One question of a task, or one text.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its name, unique in the task.
    pub id: String,
    /// Where it was read, as `file:line`.
    pub place: String,
    /// What it was made from. The bootstrap draws whole groups.
    pub group: String,
    /// The slice that it is reported in.
    pub slice: Option<String>,
    /// The question in one or several wordings. Each is a conversation that ends with a turn to answer. Empty for a
    /// task of likelihoods.
    pub prompts: Vec<Vec<Message>>,
    /// The tools that the model may call, as in [`Record::tools`].
    pub tools: Vec<serde_json::Value>,
    /// The same questions without their content, for the prior of labels. Empty if there are no labels.
    pub content_free: Vec<Vec<Message>>,
    /// The right answer, or the text of a task of likelihoods; empty if there is none.
    pub reference: String,
    /// Answers that count as right for [`Scorer::Contains`].
    pub accepted: Vec<String>,
    /// What an answer has to have for [`Scorer::Needs`]: of each list, one text, as whole words.
    pub needs: Vec<Vec<String>>,
    /// The item's own options.
    pub options: Vec<String>,
    /// The index of the right label or option, or of the requested class.
    pub truth: usize,
    /// What training data must not contain.
    pub probe: Probe,
}

/// The part of an item that training data must not contain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probe {
    /// A text that no training record may contain as a whole. Empty for an item that is a record itself: then no record
    /// may ask the same.
    pub text: String,
    /// Whether no record may contain 13 consecutive words of it either.
    pub runs: bool,
}

impl Suite {
    /// Reads a suite and its files.
    ///
    /// # Errors
    /// [`Error::NotFrozen`](crate::Error::NotFrozen) if a file has another hash than the suite says, and an error with
    /// path and line for any other problem.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        file::open(path.as_ref())
    }

    /// The tasks of a file of records with the right answers: any format that `foehn-corpus` reads, or the JSONL of
    /// multiple-choice questions of lm-evaluation-harness. See [`DataConfig`] for how answers are judged.
    ///
    /// # Errors
    /// An error with path and line: a record that cannot be read, a label that is not among the given ones, answers
    /// without a label, a single label.
    pub fn from_data(path: impl AsRef<Path>, config: &DataConfig) -> Result<Self> {
        data::from_file(path.as_ref(), config)
    }

    /// The tasks of records with the right answers; `name` is the suite's name and that of the data in errors.
    ///
    /// # Errors
    /// As [`from_data`](Self::from_data), with the number of the record in place of the line.
    pub fn from_records(name: &str, records: &[Record], config: &DataConfig) -> Result<Self> {
        data::from_records(name, records, config)
    }

    /// Adds the tasks of another suite. Their names get the other suite's name in front.
    pub fn join(&mut self, other: Self) {
        let named = other.tasks.into_iter().map(|task| Task { name: format!("{}: {}", other.name, task.name), ..task });
        self.tasks.extend(named);
    }
}

impl Task {
    /// The labels of its items; empty if it has none, or if each item has its own options.
    pub fn labels(&self) -> &[String] {
        match &self.judge {
            Judge::Choice(choice) => &choice.labels,
            Judge::Describe(describe) => &describe.labels,
            Judge::Text(_) | Judge::Likelihood => &[],
        }
    }

    /// `choice`, `text`, `describe` or `likelihood`.
    pub fn kind(&self) -> &'static str {
        match self.judge {
            Judge::Choice(_) => "choice",
            Judge::Text(_) => "text",
            Judge::Describe(_) => "describe",
            Judge::Likelihood => "likelihood",
        }
    }

    /// What a text is compared with.
    pub(crate) fn scorers(&self) -> &[Scorer] {
        match &self.judge {
            Judge::Choice(choice) => &choice.scorers,
            Judge::Text(scorers) => scorers,
            Judge::Describe(_) | Judge::Likelihood => &[],
        }
    }
}

impl Item {
    /// The labels or options that the item chooses from.
    pub(crate) fn options<'a>(&'a self, labels: &'a [String]) -> &'a [String] {
        if self.options.is_empty() { labels } else { &self.options }
    }

    /// The text of its last message, in the first wording.
    pub fn question(&self) -> &str {
        self.prompts.first().and_then(|prompt| prompt.last()).map_or("", |message| message.content.as_str())
    }
}
