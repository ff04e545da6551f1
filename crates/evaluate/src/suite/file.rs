//! Reads a suite from its TOML file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use foehn_corpus::Lexicon;
use serde::Deserialize;

use super::items::{Entry, check_ids, conversation, entries, placeholder, read, sha256};
use super::{Choice, DataConfig, Describe, Item, Judge, Probe, Scorer, Suite, Task, choices, data};
use crate::{Error, LabelRule, Result};

/// Stands for the content of a question when the prior of labels is measured.
pub const CONTENT_FREE: &str = "…";

/// The suite file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SuiteFile {
    name: String,
    task: Vec<TaskFile>,
}

/// One of its blocks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskFile {
    name: String,
    kind: Kind,
    file: PathBuf,
    sha256: Option<String>,
    #[serde(default)]
    prompts: Vec<String>,
    system: Option<String>,
    #[serde(default)]
    labels: Vec<String>,
    label: Option<String>,
    rule: Option<String>,
    slice: Option<String>,
    reference: Option<String>,
    #[serde(default)]
    scorers: Vec<Scorer>,
    max_new_tokens: Option<usize>,
    lexicon: Option<PathBuf>,
    unseen_lexicon: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Choice,
    Text,
    Describe,
    Likelihood,
}

/// Reads a suite and all its files.
pub fn open(path: &Path) -> Result<Suite> {
    let text = foehn_files::read_to_string(path, foehn_files::MAX_TEXT)
        .map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let file: SuiteFile = toml::from_str(&text)
        .map_err(|source| Error::SuiteSyntax { path: path.to_owned(), source: Box::new(source) })?;
    let mut names = BTreeSet::new();
    let mut tasks = Vec::new();
    for task in &file.task {
        let block = Block { path, task };
        if !names.insert(task.name.as_str()) {
            return Err(block.fault("name", &task.name, "a name of its own"));
        }
        tasks.push(block.read()?);
    }
    match tasks.is_empty() {
        true => Err(Error::SuiteField {
            path: path.to_owned(),
            task: file.name,
            field: "task",
            found: "no block".to_owned(),
            expected: "a block `[[task]]` at least".to_owned(),
        }),
        false => Ok(Suite { name: file.name, tasks }),
    }
}

/// A block of a suite file.
struct Block<'a> {
    path: &'a Path,
    task: &'a TaskFile,
}

impl Block<'_> {
    fn fault(&self, field: &'static str, found: &str, expected: &str) -> Error {
        Error::SuiteField {
            path: self.path.to_owned(),
            task: self.task.name.clone(),
            field,
            found: found.to_owned(),
            expected: expected.to_owned(),
        }
    }

    fn beside(&self, name: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(name)
    }

    fn read(&self) -> Result<Task> {
        self.check()?;
        let TaskFile { name, kind, file, .. } = self.task;
        let path = self.beside(file);
        let found = sha256(&read(&path)?);
        if let Some(expected) = &self.task.sha256
            && *expected != found
        {
            return Err(Error::NotFrozen { path, expected: expected.clone(), found });
        }
        let mut hashes = BTreeMap::from([(file.display().to_string(), found)]);
        let mut task = match kind {
            Kind::Likelihood => self.likelihood(&path)?,
            Kind::Describe => self.describe(&path, &mut hashes)?,
            Kind::Choice | Kind::Text if self.task.prompts.is_empty() => self.data(&path)?,
            Kind::Choice => self.choice(&path)?,
            Kind::Text => self.text(&path)?,
        };
        check_ids(&task.items)?;
        task.name.clone_from(name);
        task.hashes = hashes;
        Ok(task)
    }

    /// Refuses keys that the kind of the task does not read, and prompts that ask nothing.
    fn check(&self) -> Result<()> {
        let TaskFile { kind, prompts, labels, scorers, .. } = self.task;
        let is_data = prompts.is_empty() && matches!(kind, Kind::Choice | Kind::Text);
        let task = self.task;
        let read_by = [
            ("prompts", !prompts.is_empty(), *kind != Kind::Likelihood),
            ("system", task.system.is_some(), *kind != Kind::Likelihood),
            ("labels", !labels.is_empty(), matches!(kind, Kind::Choice | Kind::Describe)),
            ("label", task.label.is_some(), *kind == Kind::Describe || *kind == Kind::Choice && !is_data),
            ("rule", task.rule.is_some(), *kind == Kind::Choice),
            ("reference", task.reference.is_some(), matches!(kind, Kind::Choice | Kind::Text) && !is_data),
            ("scorers", !scorers.is_empty(), matches!(kind, Kind::Choice | Kind::Text)),
            ("max_new_tokens", task.max_new_tokens.is_some(), *kind != Kind::Likelihood),
            ("lexicon", task.lexicon.is_some(), *kind == Kind::Describe),
            ("unseen_lexicon", task.unseen_lexicon.is_some(), *kind == Kind::Describe),
        ];
        if let Some((field, ..)) = read_by.into_iter().find(|(_, given, read)| *given && !read) {
            return Err(self.fault(field, "given", "no such key: nothing in a task of this kind reads it"));
        }
        if scorers.contains(&Scorer::Needs) && (is_data || *kind != Kind::Text) {
            return Err(self.fault("scorers", "needs", "other ones: `needs` is for a task of texts with `prompts`"));
        }
        if task.max_new_tokens == Some(0) {
            return Err(self.fault("max_new_tokens", "0", "at least 1"));
        }
        let needs_labels = *kind == Kind::Describe || (*kind == Kind::Choice && !is_data);
        let distinct: BTreeSet<&str> =
            labels.iter().map(|label| label.trim()).filter(|label| !label.is_empty()).collect();
        if (needs_labels || !labels.is_empty()) && (labels.len() < 2 || distinct.len() != labels.len()) {
            return Err(self.fault("labels", &format!("{labels:?}"), "two or more different names"));
        }
        if *kind == Kind::Describe && prompts.len() != 1 {
            return Err(self.fault("prompts", &format!("{} texts", prompts.len()), "one text"));
        }
        let fields = |pattern: &str| {
            let (mut fields, mut rest) = (Vec::new(), pattern.to_owned());
            while let Some((_, field, after)) = placeholder(&rest).map(|(a, b, c)| (a, b.to_owned(), c.to_owned())) {
                fields.push(field);
                rest = after;
            }
            fields
        };
        for prompt in prompts {
            let found = fields(prompt);
            let has_label = found.iter().any(|field| field == "label");
            if *kind == Kind::Describe && !(has_label && found.len() > 1) {
                return Err(self.fault("prompts", prompt, "a text with {label} and another {field} in it"));
            }
            if *kind != Kind::Describe && (found.is_empty() || has_label) {
                return Err(self.fault("prompts", prompt, "a text with a {field} in it, and without {label}"));
            }
        }
        Ok(())
    }

    /// The questions of an item in all wordings, and the same without content.
    fn ask(&self, entry: &Entry, item: &mut Item, label: &str) -> Result<()> {
        let system = self.task.system.as_deref();
        for pattern in &self.task.prompts {
            item.prompts.push(conversation(system, entry.filled(pattern, label, None)?));
            item.content_free.push(conversation(system, entry.filled(pattern, label, Some(CONTENT_FREE))?));
        }
        let first = self.task.prompts.first().map_or("", String::as_str);
        let (mut content, mut rest) = (Vec::new(), first);
        while let Some((_, field, after)) = placeholder(rest) {
            if field != "label" {
                content.push(entry.text(field)?);
            }
            rest = after;
        }
        item.probe = Probe { text: content.join(" "), runs: true };
        Ok(())
    }

    fn task(&self, judge: Judge, items: Vec<Item>, max_new_tokens: usize) -> Task {
        let max_new_tokens = self.task.max_new_tokens.unwrap_or(max_new_tokens);
        let (name, patterns) = (String::new(), self.task.prompts.clone());
        Task { name, judge, items, patterns, max_new_tokens, hashes: BTreeMap::new() }
    }

    fn choice(&self, path: &Path) -> Result<Task> {
        let TaskFile { labels, slice, scorers, .. } = self.task;
        let field = self.task.label.as_deref().unwrap_or("label");
        let item = |entry: &Entry| {
            let mut item = entry.item(slice.as_deref())?;
            let label = entry.text(field)?;
            let found = labels.iter().position(|other| *other == label);
            item.truth = found.ok_or_else(|| entry.fault(field, &label, &format!("one of {labels:?}")))?;
            item.reference = match &self.task.reference {
                Some(field) => entry.text(field)?,
                None => label,
            };
            self.ask(entry, &mut item, "")?;
            Ok(item)
        };
        let items = entries(path)?.0.iter().map(item).collect::<Result<Vec<_>>>()?;
        let choice =
            Choice { labels: labels.clone(), rule: self.rule()?.unwrap_or(LabelRule::Whole), scorers: scorers.clone() };
        for item in &items {
            data::check_label(&choice, item)?;
        }
        Ok(self.task(Judge::Choice(choice), items, 48))
    }

    fn text(&self, path: &Path) -> Result<Task> {
        let TaskFile { scorers, slice, .. } = self.task;
        let has = |scorer: Scorer| scorers.contains(&scorer);
        let is_compared = scorers.is_empty() || scorers.iter().any(|scorer| scorer.reads_reference());
        let item = |entry: &Entry| {
            let mut item = entry.item(slice.as_deref())?;
            if has(Scorer::Contains) {
                item.accepted = entry.texts("answers")?;
            }
            if has(Scorer::Needs) {
                item.needs = entry.lists_of_texts("needs")?;
            }
            item.reference = match &self.task.reference {
                Some(field) => entry.text(field)?,
                None if entry.has("answer") => entry.text("answer")?,
                None if !is_compared => String::new(),
                None => item.accepted.first().cloned().ok_or_else(|| entry.fault("answer", "missing", "a text"))?,
            };
            self.ask(entry, &mut item, "")?;
            Ok(item)
        };
        let items = entries(path)?.0.iter().map(item).collect::<Result<Vec<_>>>()?;
        let scorers = if scorers.is_empty() { data::scorers(&items) } else { scorers.clone() };
        Ok(self.task(Judge::Text(scorers), items, 128))
    }

    fn describe(&self, path: &Path, hashes: &mut BTreeMap<String, String>) -> Result<Task> {
        let TaskFile { labels, prompts, slice, .. } = self.task;
        let mut items = Vec::new();
        for entry in entries(path)?.0 {
            let asked = match &self.task.label {
                None => None,
                Some(field) => {
                    let label = entry.text(field)?;
                    let expected = || format!("one of {labels:?}");
                    labels.contains(&label).then_some(()).ok_or_else(|| entry.fault(field, &label, &expected()))?;
                    Some(label)
                }
            };
            let all = labels.iter().enumerate();
            for (truth, label) in all.filter(|(_, label)| asked.as_ref().is_none_or(|asked| asked == *label)) {
                let mut item = Item { truth, ..entry.item(slice.as_deref())? };
                item.id = format!("{} {label}", item.id);
                self.ask(&entry, &mut item, label)?;
                // A record that asks for the same description for any class holds the request up to its content.
                let request = prompts[0].split("{label}").find(|part| placeholder(part).is_some()).unwrap_or_default();
                let until = request.rfind('}').map_or(request, |end| &request[..=end]);
                item.probe = Probe { text: entry.filled(until, label, None)?, runs: false };
                items.push(item);
            }
        }
        let Some(lexicon) = &self.task.lexicon else {
            return Err(self.fault("lexicon", "missing", "the file with the words of each label"));
        };
        let mut open = |path: &Path, field| {
            let bytes = read(&self.beside(path))?;
            hashes.insert(path.display().to_string(), sha256(&bytes));
            self.lexicon(&self.beside(path), field)
        };
        let lexicon = open(lexicon, "lexicon")?;
        let unseen = self.task.unseen_lexicon.as_deref();
        let unseen_lexicon = unseen.map(|path| open(path, "unseen_lexicon")).transpose()?;
        let describe = Describe { labels: labels.clone(), lexicon, unseen_lexicon };
        Ok(self.task(Judge::Describe(describe), items, 128))
    }

    fn lexicon(&self, path: &Path, field: &'static str) -> Result<Lexicon> {
        let lexicon = Lexicon::load(path)?;
        let classes: BTreeSet<&String> = lexicon.classes().iter().collect();
        if classes != self.task.labels.iter().collect() {
            let expected = format!("a lexicon whose classes are {:?}", self.task.labels);
            return Err(self.fault(field, &format!("one of {classes:?}"), &expected));
        }
        Ok(lexicon)
    }

    fn likelihood(&self, path: &Path) -> Result<Task> {
        let item = |entry: &Entry| {
            let mut item = entry.item(self.task.slice.as_deref())?;
            item.reference = entry.text("text")?;
            item.probe = Probe { text: item.reference.clone(), runs: true };
            Ok(item)
        };
        let items = entries(path)?.0.iter().map(item).collect::<Result<Vec<_>>>()?;
        Ok(self.task(Judge::Likelihood, items, 0))
    }

    /// A file of records, or of multiple-choice questions.
    fn data(&self, path: &Path) -> Result<Task> {
        let TaskFile { kind, labels, slice, scorers, system, .. } = self.task;
        let config = DataConfig {
            rule: self.rule()?,
            labels: labels.clone(),
            slice: slice.clone(),
            system: system.clone(),
            scorers: scorers.clone(),
            is_text: *kind == Kind::Text,
            max_new_tokens: self.task.max_new_tokens,
        };
        if *kind == Kind::Choice && self.task.rule.is_none() && choices::is_choices(path)? {
            return choices::task(path, &config);
        }
        let task = data::task_of_file(path, &config)?;
        match (kind, &task.judge) {
            (Kind::Choice, Judge::Text(_)) => {
                Err(self.fault("kind", "choice", "`text`, or a `rule` that says where the answers have their label"))
            }
            _ => Ok(task),
        }
    }

    fn rule(&self) -> Result<Option<LabelRule>> {
        let Some(text) = &self.task.rule else { return Ok(None) };
        text.parse().map(Some).map_err(|source: crate::LabelRuleError| self.fault("rule", text, &source.to_string()))
    }
}
