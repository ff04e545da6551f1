//! Records in a language that is not wanted.

use serde::{Deserialize, Deserializer};
use whatlang::{Detector, Lang};

use super::Pass;
use crate::similar::Part;
use crate::text::outside_code;
use foehn_record::{Message, Record, Role};

/// Rejects a record with a message in none of the given languages. By default, all languages are accepted.
///
/// A text is judged if it has [`min_chars`](Self::min_chars) letters or more and the detector is confident. A record
/// without such a text is kept. Code, numbers and addresses do not count.
///
/// The detector is the crate `whatlang` (trigrams, 70 languages, 0.8 MB of source). It was measured on lingua's test
/// sentences in eight languages with Latin script. For texts of 40 characters or more, its confident results were right
/// in 99.7% to 100% of the cases. At most one English text of 743 with 60 characters or more was detected as another
/// language. It was confident for 69% of the texts of 60 to 100 characters, and for 90% of those of 100 to 200.
/// `lingua` identifies more of the short texts (95% of those of 20 to 40 characters, against 66%), but takes 40 MB of
/// program for eight languages and is five to ten times slower. A text that is not judged is kept, which does no harm.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Language {
    /// The accepted languages, by ISO 639-3 code (`eng`) or English name. An empty list accepts all.
    #[serde(deserialize_with = "known")]
    pub allowed: Vec<String>,
    /// The part of the conversation that is judged.
    pub part: Part,
    /// The smallest number of letters of a text that is judged.
    pub min_chars: usize,
    /// The detector's smallest confidence, in `[0, 1]`, for a text to count as another language.
    pub min_confidence: f64,
}

impl Default for Language {
    /// All languages; 75 letters, and a confidence of 0.9.
    fn default() -> Self {
        Self { allowed: Vec::new(), part: Part::Both, min_chars: 75, min_confidence: 0.9 }
    }
}

impl Language {
    /// The ISO 639-3 code of the text's language, if the text is long enough and the detector is confident.
    pub fn of(&self, text: &str) -> Option<&'static str> {
        self.detect(text).map(|lang| lang.code())
    }

    fn detect(&self, text: &str) -> Option<Lang> {
        let prose = prose(text);
        if prose.chars().filter(|c| c.is_alphabetic()).count() < self.min_chars {
            return None;
        }
        let found = Detector::new().detect(&prose)?;
        (found.is_reliable() && found.confidence() >= self.min_confidence).then(|| found.lang())
    }
}

impl Pass for Language {
    fn name(&self) -> &'static str {
        "language"
    }

    fn check(&self, record: &Record) -> Option<String> {
        let allowed: Vec<Lang> = self.allowed.iter().filter_map(|name| lang(name)).collect();
        if self.allowed.is_empty() {
            return None;
        }
        // What a tool says is data.
        let is_speech = |message: &Message| message.role != Role::Tool && self.part.holds(message.role);
        let messages = record.messages.iter().enumerate().filter(|(_, message)| is_speech(message));
        messages.into_iter().find_map(|(at, message)| {
            let found = self.detect(&message.content).filter(|found| !allowed.contains(found))?;
            Some(format!(
                "the text is {}, expected {} (message {})",
                found.eng_name(),
                self.allowed.join(" or "),
                at + 1
            ))
        })
    }
}

/// The words of the text that are not code, addresses or numbers. Empty if they are less than half of it.
fn prose(text: &str) -> String {
    // A string with ASCII marks inside is not a word. Other scripts have their own marks and no spaces.
    let is_inner = |c: char| c.is_alphabetic() || !c.is_ascii() || matches!(c, '\'' | '-');
    let mut prose = String::with_capacity(text.len());
    let mut all = 0;
    for word in outside_code(text).flat_map(str::split_whitespace) {
        all += word.len();
        let core = word.trim_matches(|c: char| !c.is_alphanumeric());
        if core.chars().all(is_inner) && !word.contains(['[', ']', '{', '}', '<', '>', '=', '_']) {
            prose.push_str(core);
            prose.push(' ');
        }
    }
    if 2 * prose.len() < all { String::new() } else { prose }
}

fn lang(name: &str) -> Option<Lang> {
    let by_name = || Lang::all().iter().copied().find(|lang| lang.eng_name().eq_ignore_ascii_case(name));
    Lang::from_code(name.to_lowercase()).or_else(by_name)
}

fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    match names.iter().find(|name| lang(name).is_none()) {
        None => Ok(names),
        Some(name) => {
            let codes = Lang::all().iter().map(|lang| lang.code()).collect::<Vec<_>>().join(", ");
            Err(serde::de::Error::custom(format!("no language is called `{name}`: use one of {codes}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foehn_record::{Message, Role};

    const GERMAN: &str =
        "Der Hafen liegt still, und über dem Wasser hängt ein grauer Nebel, durch den kaum ein Licht zu sehen ist.";
    const ENGLISH: &str =
        "The harbour lies still, and over the water hangs a grey fog through which hardly a light can be seen.";

    #[track_caller]
    fn check(allowed: &[&str], answer: &str, expected: Option<&str>) {
        let record = Record::new(vec![Message::new(Role::User, "What is it?"), Message::new(Role::Assistant, answer)]);
        let allowed = allowed.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(Language { allowed, ..Language::default() }.check(&record).as_deref(), expected, "{answer}");
    }

    #[test]
    fn long_foreign_texts_are_found() {
        check(&["eng"], GERMAN, Some("the text is German, expected eng (message 2)"));
        check(&["English", "german"], GERMAN, None);
        check(&["eng"], ENGLISH, None);
        check(&["deu"], ENGLISH, Some("the text is English, expected deu (message 2)"));
        check(&[], GERMAN, None);
    }

    #[test]
    fn short_texts_and_code_are_not_judged() {
        check(&["eng"], "Das ist gut.", None);
        check(&["eng"], "« Déjà vu », c'est la vie !", None);
        check(&["deu"], "Visual", None);
        check(&["eng"], &format!("```\n{GERMAN}\n```"), None);
        check(
            &["deu"],
            "let total_sum = a_b + c_d; https://example.org/the/harbour/lies/still/and/over/the/water/hangs/a/fog",
            None,
        );
        assert_eq!(Language::default().of(GERMAN), Some("deu"));
        assert_eq!(Language::default().of("gut"), None);
    }
}
