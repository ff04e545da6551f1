//! The normalizers that are supported.

use std::cell::RefCell;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::normalizers::{Lowercase, NFC, NFD, NFKC, NFKD, Nmt, Strip, StripAccents};
use tokenizers::{NormalizedString, NormalizerWrapper};

use crate::Result;

use super::{Growth, Pattern, PatternText, Place, flatten};

/// A normalizer as written in a file.
#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum Rule {
    Sequence {
        normalizers: Vec<Value>,
    },
    Prepend {
        prepend: String,
    },
    Replace {
        pattern: PatternText,
        content: String,
    },
    Strip {
        strip_left: bool,
        strip_right: bool,
    },
    #[serde(rename = "NFC")]
    Nfc {},
    #[serde(rename = "NFD")]
    Nfd {},
    #[serde(rename = "NFKC")]
    Nfkc {},
    #[serde(rename = "NFKD")]
    Nfkd {},
    Nmt {},
    Lowercase {},
    StripAccents {},
}

/// The normalizer of a tokenizer: a sequence of steps.
#[derive(Debug)]
pub(crate) struct Normalizer(Vec<Step>);

#[derive(Debug)]
enum Step {
    /// A step that needs no check.
    Plain(NormalizerWrapper, Growth),
    Prepend(String),
    Replace(Pattern, String),
}

thread_local! {
    /// Why a normalizer failed on this thread. It is stored here because the crate that calls the normalizer drops its
    /// error.
    static FAILURE: RefCell<Option<tokenizers::Error>> = const { RefCell::new(None) };
}

/// The error of a normalizer on this thread since the last call.
pub(crate) fn take_failure() -> Option<tokenizers::Error> {
    FAILURE.take()
}

/// Checks and builds the normalizer.
pub(super) fn build(file: &Path, rule: &Value) -> Result<Option<Normalizer>> {
    if rule.is_null() {
        return Ok(None);
    }
    let place = Place { file, name: "normalizer".to_owned() };
    let flat = flatten(place, rule, &|place, rule| {
        Ok(match place.settings::<Rule>(rule)? {
            Rule::Sequence { normalizers } => Some(("normalizers", normalizers)),
            _ => None,
        })
    })?;
    flat.into_iter()
        .map(|(place, rule)| step(&place, &rule))
        .collect::<Result<_>>()
        .map(|steps| Some(Normalizer(steps)))
}

fn step(place: &Place, rule: &Value) -> Result<Step> {
    // The growth of the normal forms is given by Unicode (<https://unicode.org/faq/normalization.html>, "maximum
    // expansion factor").
    let plain = |normalizer: NormalizerWrapper, factor| Ok(Step::Plain(normalizer, Growth::times(factor)));
    match place.settings(rule)? {
        Rule::Sequence { .. } => Err(place.bad("a sequence stands where a step is expected")),
        Rule::Prepend { prepend } if prepend.is_empty() => Err(place.bad("prepend is empty, so the rule says nothing")),
        Rule::Prepend { prepend } => Ok(Step::Prepend(prepend)),
        Rule::Replace { pattern, content } => {
            let pattern = Pattern::new(pattern).map_err(|reason| place.bad(reason))?;
            match pattern.matches_nothing() {
                true => Err(place.bad("pattern matches the empty text, which no text is free of")),
                false => Ok(Step::Replace(pattern, content)),
            }
        }
        Rule::Strip { strip_left, strip_right } => plain(Strip::new(strip_left, strip_right).into(), 1.0),
        Rule::Nfc {} => plain(NFC.into(), 3.0),
        Rule::Nfd {} => plain(NFD.into(), 3.0),
        Rule::Nfkc {} => plain(NFKC.into(), 11.0),
        Rule::Nfkd {} => plain(NFKD.into(), 11.0),
        Rule::Nmt {} => plain(Nmt.into(), 1.0),
        // No character grows by more than half (`ſ` is an example). The crate uses `char::to_lowercase`.
        Rule::Lowercase {} => plain(Lowercase.into(), 1.5),
        Rule::StripAccents {} => plain(StripAccents.into(), 1.0),
    }
}

impl Normalizer {
    /// The patterns of the steps.
    pub fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.0.iter().filter_map(|step| match step {
            Step::Replace(pattern, _) => Some(pattern),
            _ => None,
        })
    }

    /// How much it can lengthen a text.
    pub fn growth(&self) -> Growth {
        self.0.iter().fold(Growth::NONE, |growth, step| growth.then(step.growth()))
    }
}

impl Step {
    fn growth(&self) -> Growth {
        match self {
            Self::Plain(_, growth) => *growth,
            Self::Prepend(text) => Growth { factor: 1.0, prefix: text.len() as f64 },
            Self::Replace(pattern, content) => {
                Growth::times((content.len() as f64 / pattern.shortest_match() as f64).max(1.0))
            }
        }
    }
}

impl tokenizers::Normalizer for Normalizer {
    fn normalize(&self, text: &mut NormalizedString) -> tokenizers::Result<()> {
        let done = self.0.iter().try_for_each(|step| match step {
            Step::Plain(normalizer, _) => normalizer.normalize(text),
            Step::Replace(pattern, content) => text.replace(&pattern.without_empty_matches(), content),
            Step::Prepend(prefix) => {
                if !text.is_empty() {
                    text.prepend(prefix);
                }
                Ok(())
            }
        });
        done.map_err(|error| {
            let said = error.to_string();
            FAILURE.set(Some(error));
            said.into()
        })
    }
}
