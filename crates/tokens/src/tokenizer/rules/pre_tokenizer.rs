//! The pre-tokenizers that are supported.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::pattern::Invert;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::punctuation::Punctuation;
use tokenizers::pre_tokenizers::whitespace::{Whitespace, WhitespaceSplit};
use tokenizers::{PreTokenizedString, PreTokenizerWrapper, SplitDelimiterBehavior};

use crate::Result;

use super::{Growth, Pattern, PatternText, Place, flatten};

/// The pattern of GPT-2, which `ByteLevel` uses (<https://github.com/openai/gpt-2/blob/master/src/encoder.py>).
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// A pre-tokenizer as written in a file.
#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum Rule {
    Sequence {
        pretokenizers: Vec<Value>,
    },
    ByteLevel {
        add_prefix_space: bool,
        #[serde(rename = "trim_offsets")]
        _trim_offsets: bool,
        #[serde(default = "yes")]
        use_regex: bool,
    },
    Metaspace {
        replacement: char,
        #[serde(default)]
        add_prefix_space: Option<bool>,
        #[serde(default = "always")]
        prepend_scheme: PrependScheme,
        #[serde(default)]
        split: Option<bool>,
        /// The replacement again, in files of older versions.
        #[serde(default, rename = "str_rep")]
        _str_rep: Option<String>,
    },
    Split {
        pattern: PatternText,
        behavior: SplitDelimiterBehavior,
        invert: bool,
    },
    Digits {
        individual_digits: bool,
    },
    Punctuation {
        #[serde(default = "isolated")]
        behavior: SplitDelimiterBehavior,
    },
    Whitespace {},
    WhitespaceSplit {},
}

fn yes() -> bool {
    true
}

fn always() -> PrependScheme {
    PrependScheme::Always
}

fn isolated() -> SplitDelimiterBehavior {
    SplitDelimiterBehavior::Isolated
}

/// The pre-tokenizer of a tokenizer: a sequence of steps.
#[derive(Debug)]
pub(crate) struct PreTokenizer(Vec<Step>);

#[derive(Debug)]
enum Step {
    /// A step that needs no check.
    Plain(PreTokenizerWrapper, Growth),
    /// Adds a space before each piece that does not begin with one.
    PrefixSpace,
    Split {
        pattern: Pattern,
        behavior: SplitDelimiterBehavior,
        invert: bool,
    },
}

/// Checks and builds the pre-tokenizer.
pub(super) fn build(file: &Path, rule: &Value) -> Result<Option<PreTokenizer>> {
    if rule.is_null() {
        return Ok(None);
    }
    let place = Place { file, name: "pre_tokenizer".to_owned() };
    let flat = flatten(place, rule, &|place, rule| {
        Ok(match place.settings::<Rule>(rule)? {
            Rule::Sequence { pretokenizers } => Some(("pretokenizers", pretokenizers)),
            _ => None,
        })
    })?;
    let mut steps = Vec::new();
    for (place, rule) in flat {
        push_steps(&mut steps, &place, &rule)?;
    }
    Ok(Some(PreTokenizer(steps)))
}

fn push_steps(steps: &mut Vec<Step>, place: &Place, rule: &Value) -> Result<()> {
    let pattern = |text| Pattern::new(text).map_err(|reason| place.bad(reason));
    let plain = |pre_tokenizer: PreTokenizerWrapper| Step::Plain(pre_tokenizer, Growth::NONE);
    let step = match place.settings(rule)? {
        Rule::Sequence { .. } => return Err(place.bad("a sequence stands where a step is expected")),
        Rule::ByteLevel { add_prefix_space, use_regex, .. } => {
            steps.extend(add_prefix_space.then_some(Step::PrefixSpace));
            if use_regex {
                let pattern = pattern(PatternText::Regex(GPT2.to_owned()))?;
                steps.push(Step::Split { pattern, behavior: SplitDelimiterBehavior::Isolated, invert: false });
            }
            // Each byte becomes a character of GPT-2's alphabet, which has one or two bytes.
            Step::Plain(ByteLevel::new(false, true, false).into(), Growth::times(2.0))
        }
        Rule::Metaspace { replacement, add_prefix_space, prepend_scheme, split, .. } => {
            let scheme = match add_prefix_space {
                Some(false) if prepend_scheme != PrependScheme::Never => {
                    return Err(place.bad(format!(
                        "add_prefix_space is false and prepend_scheme is {prepend_scheme:?}, which contradict each other"
                    )));
                }
                _ => prepend_scheme,
            };
            // Each space becomes a replacement, and each other piece may get one in front.
            let growth = Growth::times(1.0 + replacement.len_utf8() as f64);
            Step::Plain(Metaspace::new(replacement, scheme, split.unwrap_or(true)).into(), growth)
        }
        Rule::Split { pattern: text, behavior, invert } => Step::Split { pattern: pattern(text)?, behavior, invert },
        Rule::Digits { individual_digits } => plain(Digits::new(individual_digits).into()),
        Rule::Punctuation { behavior } => plain(Punctuation::new(behavior).into()),
        Rule::Whitespace {} => plain(Whitespace {}.into()),
        Rule::WhitespaceSplit {} => plain(WhitespaceSplit.into()),
    };
    steps.push(step);
    Ok(())
}

impl PreTokenizer {
    /// The patterns of the steps.
    pub fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.0.iter().filter_map(|step| match step {
            Step::Split { pattern, .. } => Some(pattern),
            _ => None,
        })
    }

    /// How much it can lengthen a text.
    pub fn growth(&self) -> Growth {
        self.0.iter().fold(Growth::NONE, |growth, step| {
            growth.then(match step {
                Step::Plain(_, growth) => *growth,
                Step::PrefixSpace => Growth::times(2.0),
                Step::Split { .. } => Growth::NONE,
            })
        })
    }
}

impl tokenizers::PreTokenizer for PreTokenizer {
    fn pre_tokenize(&self, text: &mut PreTokenizedString) -> tokenizers::Result<()> {
        self.0.iter().try_for_each(|step| match step {
            Step::Plain(pre_tokenizer, _) => pre_tokenizer.pre_tokenize(text),
            Step::PrefixSpace => text.split(|_, mut piece| {
                if !piece.get().starts_with(' ') {
                    piece.prepend(" ");
                }
                Ok(vec![piece])
            }),
            Step::Split { pattern, behavior, invert } => {
                let bounded = pattern.bounded();
                text.split(|_, piece| match invert {
                    true => piece.split(Invert(&bounded), *behavior),
                    false => piece.split(&bounded, *behavior),
                })
            }
        })
    }
}
