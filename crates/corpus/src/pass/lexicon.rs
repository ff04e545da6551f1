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

/// Rejects a record with an answer that has a word of another sense than the record's `modality`.
///
/// It examines records whose `task` is one of [`tasks`](Self::tasks). If such a record has no modality that the lexicon
/// knows, it is rejected too, because its words cannot be checked.
#[derive(Clone, Debug)]
pub struct OffTarget {
    /// The words of the senses.
    pub lexicon: Lexicon,
    /// The tasks whose answers should use one sense only.
    pub tasks: Vec<String>,
}

impl OffTarget {
    /// The pass for the tasks `describe` and `rewrite`.
    pub fn new(lexicon: Lexicon) -> Self {
        Self { lexicon, tasks: vec!["describe".to_owned(), "rewrite".to_owned()] }
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
        let modality = record.text("modality").unwrap_or_default();
        if !self.lexicon.classes.iter().any(|class| class == modality) {
            return Some(format!("the modality `{modality}` is no class of the lexicon"));
        }
        let answers = record.messages.iter().filter(|message| message.role == Role::Assistant);
        answers.into_iter().find_map(|answer| {
            let senses = self.lexicon.classified(&answer.content);
            let (word, class) = senses.into_iter().find(|(_, class)| *class != modality)?;
            Some(format!("`{word}` is {class} in an answer that should be {modality}"))
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
    fn check(task: &str, modality: &str, answer: &str, expected: Option<&str>) {
        let record = Record {
            id: None,
            messages: vec![Message::new(Role::User, "q"), Message::new(Role::Assistant, answer)],
            rejected: None,
            metadata: [("task", task), ("modality", modality)]
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.into()))
                .collect(),
            group: None,
        };
        assert_eq!(OffTarget::new(small()).check(&record).as_deref(), expected);
    }

    #[test]
    fn whole_words_of_other_senses_are_off_target() {
        check("describe", "Visual", "A bright-eyed glow.", None);
        check("describe", "Visual", "It CREAKS.", Some("`creaks` is Auditory in an answer that should be Visual"));
        check("describe", "Visual", "A creaksome brightness.", None);
        check("explain", "Visual", "It creaks.", None);
        check("rewrite", "Smell", "It creaks.", Some("the modality `Smell` is no class of the lexicon"));
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
