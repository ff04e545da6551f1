//! Words of one sense in a text about another sense.

use std::collections::BTreeMap;
use std::path::Path;

use super::Pass;
use crate::error::{Error, Result};
use crate::text::words;
use foehn_record::{Record, Role};

/// Words, each with its class, such as a sense.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lexicon {
    classes: Vec<String>,
    class_of: BTreeMap<String, usize>,
}

impl Lexicon {
    /// Reads `{"Visual": ["bright", …], …}`.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::LexiconFormat`], and as [`new`](Self::new).
    pub fn load(path: &Path) -> Result<Self> {
        let text = foehn_files::read(path, foehn_files::MAX_TEXT)
            .map_err(|source| Error::Open { path: path.into(), source })?;
        let lists: BTreeMap<String, Vec<String>> =
            serde_json::from_slice(&text).map_err(|source| Error::LexiconFormat { path: path.into(), source })?;
        Self::new(lists)
    }

    /// A lexicon of the word forms of each class. Case is ignored.
    ///
    /// # Errors
    /// [`Error::LexiconWord`] for an entry that is not a single run of letters, because no word of a text could match
    /// it; [`Error::LexiconOverlap`] for a word in two classes.
    pub fn new(lists: BTreeMap<String, Vec<String>>) -> Result<Self> {
        let mut lexicon = Self::default();
        for (class, entries) in lists {
            let number = lexicon.classes.len();
            for entry in entries {
                let folded = words(&entry);
                let [word] = folded.as_slice() else {
                    return Err(Error::LexiconWord { class, word: entry });
                };
                if entry.chars().any(|c| !c.is_alphabetic()) {
                    return Err(Error::LexiconWord { class, word: entry });
                }
                if let Some(first) = lexicon.class_of.insert(word.clone(), number)
                    && first != number
                {
                    return Err(Error::LexiconOverlap {
                        word: word.clone(),
                        first: lexicon.classes[first].clone(),
                        second: class,
                    });
                }
            }
            lexicon.classes.push(class);
        }
        Ok(lexicon)
    }

    /// The classes, sorted.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Each class with its words, case-folded; both sorted.
    pub fn lists(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.classes.iter().enumerate().map(|(number, class)| {
            let words = self.class_of.iter().filter(|(_, of)| **of == number).map(|(word, _)| word.as_str());
            (class.as_str(), words.collect())
        })
    }

    /// The words of a text that are in the lexicon, case-folded and in order, each with its class.
    pub fn classified(&self, text: &str) -> Vec<(String, &str)> {
        let class = |word: &String| {
            let number = self.class_of.get(word)?;
            self.classes.get(*number).map(String::as_str)
        };
        let found = words(text).into_iter();
        found.filter_map(|word| class(&word).map(|class| (word, class))).collect()
    }
}

/// Rejects a record with an answer that has a word of another class than the record's.
///
/// It examines records whose `task` is one of [`tasks`](Self::tasks). If such a record has no class that the lexicon
/// knows, it is rejected too, because its words cannot be checked.
#[derive(Clone, Debug)]
pub struct OffTarget {
    /// The words of the classes.
    pub lexicon: Lexicon,
    /// The tasks whose answers should use words of one class only.
    pub tasks: Vec<String>,
    /// The metadata key whose text is a record's class. Without it, the class is the one that any of a record's keys
    /// names.
    pub class: Option<String>,
}

impl OffTarget {
    /// The pass for the tasks `describe` and `rewrite`.
    pub fn new(lexicon: Lexicon) -> Self {
        Self { lexicon, tasks: vec!["describe".to_owned(), "rewrite".to_owned()], class: None }
    }

    /// A record's class.
    ///
    /// # Errors
    /// A text that says why it has none.
    pub fn class_of<'a>(&self, record: &'a Record) -> std::result::Result<&'a str, String> {
        let is_class = |text: &&str| self.lexicon.classes.iter().any(|class| class == text);
        if let Some(key) = &self.class {
            let text = record.text(key).unwrap_or_default();
            return Some(text).filter(is_class).ok_or(format!("the {key} `{text}` is no class of the lexicon"));
        }
        let mut named = record.metadata.values().filter_map(|value| value.as_str()).filter(is_class);
        let Some(first) = named.next() else {
            return Err("no key of the record names a class of the lexicon".to_owned());
        };
        match named.find(|other| *other != first) {
            Some(other) => Err(format!("the record's keys name two classes of the lexicon, {first} and {other}")),
            None => Ok(first),
        }
    }
}

impl Pass for OffTarget {
    fn name(&self) -> &'static str {
        "off-target"
    }

    fn check(&self, record: &Record) -> Option<String> {
        let task = record.text("task")?;
        if !self.tasks.iter().any(|kept| kept == task) {
            return None;
        }
        let asked = match self.class_of(record) {
            Ok(class) => class,
            Err(reason) => return Some(reason),
        };
        let answers = record.messages.iter().filter(|message| message.role == Role::Assistant);
        answers.into_iter().find_map(|answer| {
            let found = self.lexicon.classified(&answer.content);
            let (word, class) = found.into_iter().find(|(_, class)| *class != asked)?;
            Some(format!("`{word}` is {class} in an answer that should be {asked}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foehn_record::Message;

    fn lexicon(lists: &[(&str, &[&str])]) -> Result<Lexicon> {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Lexicon::new(lists.iter().map(|(class, words)| ((*class).to_owned(), owned(words))).collect())
    }

    fn small() -> Lexicon {
        lexicon(&[("Visual", &["glow", "Bright"]), ("Auditory", &["creaks"])]).expect("a sound lexicon")
    }

    #[track_caller]
    fn check(task: &str, sense: &str, answer: &str, expected: Option<&str>) {
        let record = record(&[("task", task), ("sense", sense)], answer);
        assert_eq!(OffTarget::new(small()).check(&record).as_deref(), expected);
    }

    fn record(keys: &[(&str, &str)], answer: &str) -> Record {
        let messages = vec![Message::new(Role::User, "q"), Message::new(Role::Assistant, answer)];
        let metadata = keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
        Record { metadata, ..Record::new(messages) }
    }

    #[test]
    fn whole_words_of_other_senses_are_off_target() {
        check("describe", "Visual", "A bright-eyed glow.", None);
        check("describe", "Visual", "It CREAKS.", Some("`creaks` is Auditory in an answer that should be Visual"));
        check("describe", "Visual", "A creaksome brightness.", None);
        check("explain", "Visual", "It creaks.", None);
        check("rewrite", "Smell", "It creaks.", Some("no key of the record names a class of the lexicon"));
    }

    #[test]
    fn the_class_stands_under_any_key_or_under_the_one_that_is_named() {
        let two = record(&[("task", "describe"), ("sense", "Visual"), ("topic", "Auditory")], "It creaks.");
        let any = OffTarget::new(small());
        let named = |key: &str| OffTarget { class: Some(key.to_owned()), ..any.clone() };
        let expected = "the record's keys name two classes of the lexicon, Visual and Auditory";
        assert_eq!(any.check(&two).as_deref(), Some(expected));
        let expected = "`creaks` is Auditory in an answer that should be Visual";
        assert_eq!(named("sense").check(&two).as_deref(), Some(expected));
        assert_eq!(named("topic").check(&two), None);
        assert_eq!(named("task").check(&two).as_deref(), Some("the task `describe` is no class of the lexicon"));
    }

    #[test]
    fn a_lexicon_of_no_use_is_refused() {
        assert!(matches!(lexicon(&[("Visual", &["two words"])]), Err(Error::LexiconWord { .. })));
        assert!(matches!(lexicon(&[("Visual", &[""])]), Err(Error::LexiconWord { .. })));
        assert!(matches!(
            lexicon(&[("Visual", &["loud"]), ("Auditory", &["LOUD"])]),
            Err(Error::LexiconOverlap { .. })
        ));
    }

    #[test]
    fn senses_come_in_the_order_of_the_text() {
        assert_eq!(
            small().classified("Creaks, then glow"),
            [("creaks".to_owned(), "Auditory"), ("glow".to_owned(), "Visual")]
        );
    }
}
