//! The steps of a `tokenizer.json` before merging: its normalizer and its pre-tokenizer, checked.
//!
//! A tokenizer file is like a small program from an unknown source. Only the known steps are built, after their
//! settings were checked. Their work is limited: the number and nesting of the steps, how much they can lengthen a text
//! ([`MAX_GROWTH`]), the size of a pattern, and the steps that it takes in matching ([`pattern`]).

mod normalizer;
mod pattern;
mod pre_tokenizer;
mod spaces;
mod unused;

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, Result};

use super::bpe::bad;

pub(super) use normalizer::{Normalizer, take_failure};
pub(super) use pattern::Pattern;
pub(super) use pre_tokenizer::PreTokenizer;
pub(super) use unused::{check_decoder, check_post_processor};

/// The largest nesting depth of sequences. Published files have a depth of one.
const MAX_DEPTH: usize = 8;

/// The largest number of steps of a normalizer or pre-tokenizer. Published files have up to eight.
const MAX_STEPS: usize = 64;

/// The largest factor by which a normalizer and a pre-tokenizer together may lengthen a text, in bytes. It allows
/// compatibility forms (11) before a mark on each piece (4), which is more than any published file needs.
pub(super) const MAX_GROWTH: f64 = 64.0;

/// The limit for the bytes of all patterns of a file.
const MAX_PATTERNS: usize = 4 * pattern::MAX_LEN;

/// The limit for the bytes added before a text, in all.
const MAX_PREFIX: f64 = 4096.0;

/// The text or pattern that a step searches for.
#[derive(Deserialize)]
pub(super) enum PatternText {
    String(String),
    Regex(String),
}

/// The largest length that `n` bytes can get: `factor * n + prefix`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Growth {
    pub factor: f64,
    pub prefix: f64,
}

impl Growth {
    pub const NONE: Self = Self::times(1.0);

    pub const fn times(factor: f64) -> Self {
        Self { factor, prefix: 0.0 }
    }

    /// The growth by this step followed by the next one.
    pub fn then(self, next: Self) -> Self {
        Self { factor: self.factor * next.factor, prefix: self.prefix * next.factor + next.prefix }
    }
}

/// The place of a rule in its file, for errors.
#[derive(Clone)]
struct Place<'a> {
    file: &'a Path,
    name: String,
}

impl Place<'_> {
    fn bad(&self, reason: impl Into<String>) -> Error {
        bad(self.file, &self.name, reason.into())
    }

    /// The settings of a rule. An unknown type or key is an error that names it.
    fn settings<T: DeserializeOwned>(&self, rule: &Value) -> Result<T> {
        T::deserialize(rule).map_err(|error| self.bad(error.to_string()))
    }
}

/// Builds both, and checks them together, because their growth factors are multiplied.
pub(super) fn rules(
    file: &Path,
    normalizer: &Value,
    pre_tokenizer: &Value,
) -> Result<(Option<Normalizer>, Option<PreTokenizer>)> {
    let normalizer = normalizer::build(file, normalizer)?;
    let pre_tokenizer = pre_tokenizer::build(file, pre_tokenizer)?;
    let in_first = normalizer.as_ref().map_or(0, |normalizer| normalizer.patterns().map(Pattern::len).sum());
    let in_second: usize = pre_tokenizer.as_ref().map_or(0, |splits| splits.patterns().map(Pattern::len).sum());
    if in_first + in_second > MAX_PATTERNS {
        let place = if in_first > MAX_PATTERNS { "normalizer" } else { "pre_tokenizer" };
        let reason = format!("patterns have {} bytes, at most {MAX_PATTERNS} are accepted", in_first + in_second);
        return Err(bad(file, place, reason));
    }
    let first = normalizer.as_ref().map_or(Growth::NONE, Normalizer::growth);
    let whole = first.then(pre_tokenizer.as_ref().map_or(Growth::NONE, PreTokenizer::growth));
    if whole.is_within_bounds() {
        return Ok((normalizer, pre_tokenizer));
    }
    let (place, Growth { factor, prefix }) =
        if first.is_within_bounds() { ("pre_tokenizer", whole) } else { ("normalizer", first) };
    let reason = format!(
        "it can make a text {factor} times longer and put {prefix} bytes before it, \
         at most {MAX_GROWTH} times and {MAX_PREFIX} bytes are accepted"
    );
    Err(bad(file, place, reason))
}

impl Growth {
    fn is_within_bounds(self) -> bool {
        self.factor <= MAX_GROWTH && self.prefix <= MAX_PREFIX
    }
}

/// The contents of a sequence, and the name of the field that has them; `None` if the rule is not a sequence.
type Inner<'i, 'a> = &'i dyn Fn(&Place<'a>, &Value) -> Result<Option<(&'static str, Vec<Value>)>>;

/// The rules of nested sequences, in the order in which they are applied.
fn flatten<'a>(place: Place<'a>, rule: &Value, inner: Inner<'_, 'a>) -> Result<Vec<(Place<'a>, Value)>> {
    let mut flat = Vec::new();
    let mut open = vec![(place, rule.clone(), 0)];
    // The next rule is the last of the list.
    while let Some((place, rule, depth)) = open.pop() {
        let Some((field, parts)) = inner(&place, &rule)? else {
            flat.push((place, rule));
            continue;
        };
        if depth == MAX_DEPTH {
            return Err(place.bad(format!("sequences are nested more than {MAX_DEPTH} deep")));
        }
        if flat.len() + open.len() + parts.len() > MAX_STEPS {
            return Err(place.bad(format!("it has more than {MAX_STEPS} steps")));
        }
        for (index, part) in parts.into_iter().enumerate().rev() {
            let place = Place { file: place.file, name: format!("{}.{field}[{index}]", place.name) };
            open.push((place, part, depth + 1));
        }
    }
    Ok(flat)
}
