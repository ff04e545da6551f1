//! Regular expressions from files, with limits on their size and work.
//!
//! The engine backtracks if a pattern uses look-around, and some patterns then take exponentially many steps. In this
//! case the reference implementation stops searching and silently leaves the rest of the text in one piece. Here it is
//! an error. Nearly all published patterns use look-around only for white space at their end, which [`spaces`] can
//! match without.

use std::cell::Cell;
use std::sync::OnceLock;

use fancy_regex::{Regex, RegexBuilder};
use tokenizers::Offsets;

use super::PatternText;
use super::spaces::BeforeSpaces;

/// The longest pattern, in bytes. The longest published ones have about 1,000.
pub(super) const MAX_LEN: usize = 4096;

/// The memory limit of one compiled part of a pattern, in bytes. A Unicode class takes about 100,000.
const MAX_COMPILED: usize = 4 << 20;

/// The step limits of one search: first a small one, then a larger one if the budget allows it, and at last the
/// maximum.
const STEPS: [usize; 3] = [256, 16_384, 1_000_000];

/// The budget of further steps that a text has at its start, and the steps added for each byte.
const FIRST_BUDGET: usize = 1_100_000;
const BUDGET_PER_BYTE: usize = 64;

/// A pattern from a file.
#[derive(Debug)]
pub(crate) struct Pattern {
    source: String,
    shortest_match: usize,
    /// The same expression compiled with each limit in [`STEPS`], because the engine fixes the limit at compilation.
    compiled: Box<[OnceLock<Regex>; 3]>,
    /// The same expression without look-around, if there is one.
    plain: Option<Box<BeforeSpaces>>,
}

/// A search exceeded its step limit.
#[derive(Debug, thiserror::Error)]
#[error("the pattern {pattern:?} fails at byte {at} of the text")]
struct Failed {
    pattern: String,
    at: usize,
    source: fancy_regex::Error,
}

/// A pattern of a replacement matched the empty text.
#[derive(Debug, thiserror::Error)]
#[error("the pattern {pattern:?} matches the empty text at byte {at}")]
struct Empty {
    pattern: String,
    at: usize,
}

impl Pattern {
    /// Checks and compiles the pattern. Returns the reason if it is not allowed.
    pub fn new(text: PatternText) -> Result<Self, String> {
        let (source, shortest_match) = match text {
            PatternText::String(text) if text.is_empty() => return Err("pattern is empty".to_owned()),
            PatternText::String(text) => (fancy_regex::escape(&text).into_owned(), text.len()),
            PatternText::Regex(source) if source.is_empty() => return Err("pattern is empty".to_owned()),
            PatternText::Regex(source) => (source, 1),
        };
        if source.len() > MAX_LEN {
            return Err(format!("pattern has {} bytes, at most {MAX_LEN} are accepted", source.len()));
        }
        let compiled = Box::new([OnceLock::new(), OnceLock::new(), OnceLock::new()]);
        let first = compile(&source, STEPS[0]).map_err(|error| format!("pattern {:?}: {error}", brief(&source)))?;
        _ = compiled[0].set(first);
        let plain = BeforeSpaces::new(&source, MAX_COMPILED).map(Box::new);
        Ok(Self { source, shortest_match, compiled, plain })
    }

    /// The number of its bytes.
    pub fn len(&self) -> usize {
        self.source.len()
    }

    /// The smallest number of bytes of a non-empty match.
    pub fn shortest_match(&self) -> usize {
        self.shortest_match
    }

    /// Whether it matches the empty text.
    pub fn matches_nothing(&self) -> bool {
        self.find("", 0, 0).is_ok_and(|found| found.is_some())
    }

    /// The pattern with a budget for one text.
    pub fn bounded(&self) -> Bounded<'_> {
        Bounded { pattern: self, budget: Cell::new(FIRST_BUDGET), allows_empty: true }
    }

    /// As [`Self::bounded`], but an empty match is an error.
    pub fn without_empty_matches(&self) -> Bounded<'_> {
        Bounded { allows_empty: false, ..self.bounded() }
    }

    fn find(&self, text: &str, at: usize, tier: usize) -> Result<Option<Offsets>, fancy_regex::Error> {
        if let Some(plain) = &self.plain {
            return Ok(plain.find(text, at));
        }
        let regex = match self.compiled[tier].get() {
            Some(regex) => regex,
            None => {
                let regex = compile(&self.source, STEPS[tier])?;
                self.compiled[tier].get_or_init(|| regex)
            }
        };
        Ok(regex.find_from_pos(text, at)?.map(|found| (found.start(), found.end())))
    }
}

fn compile(source: &str, steps: usize) -> Result<Regex, fancy_regex::Error> {
    RegexBuilder::new(source)
        .backtrack_limit(steps)
        .delegate_size_limit(MAX_COMPILED)
        .delegate_dfa_size_limit(MAX_COMPILED)
        .build()
}

/// A pattern with the remaining budget for one text.
pub(crate) struct Bounded<'a> {
    pattern: &'a Pattern,
    budget: Cell<usize>,
    allows_empty: bool,
}

impl Bounded<'_> {
    /// The next match. First tries with few steps, which is nearly always enough, and then with more while the budget
    /// lasts.
    fn find(&self, text: &str, at: usize) -> tokenizers::Result<Option<Offsets>> {
        let mut tier = 0;
        loop {
            let source = match self.pattern.find(text, at, tier) {
                Ok(found) => return Ok(found),
                Err(source) => source,
            };
            tier += 1;
            let left = STEPS.get(tier).and_then(|steps| self.budget.get().checked_sub(*steps));
            let Some(left) = left else {
                return Err(Box::new(Failed { pattern: brief(&self.pattern.source), at, source }));
            };
            self.budget.set(left);
        }
    }
}

impl tokenizers::pattern::Pattern for &Bounded<'_> {
    fn find_matches(&self, text: &str) -> tokenizers::Result<Vec<(Offsets, bool)>> {
        if text.is_empty() {
            return Ok(vec![((0, 0), false)]);
        }
        self.budget.set(self.budget.get().saturating_add(BUDGET_PER_BYTE.saturating_mul(text.len())));
        let mut splits = Vec::new();
        // After an empty match the search continues one character later. An empty match directly after a match is
        // ignored.
        let (mut at, mut end_of_last, mut covered) = (0, None, 0);
        while at <= text.len() {
            let Some((start, end)) = self.find(text, at)? else { break };
            at = end;
            if start == end {
                if !self.allows_empty {
                    return Err(Box::new(Empty { pattern: brief(&self.pattern.source), at: start }));
                }
                at += text.get(end..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
                if end_of_last == Some(end) {
                    continue;
                }
            }
            if covered != start {
                splits.push(((covered, start), false));
            }
            splits.push(((start, end), true));
            (covered, end_of_last) = (end, Some(end));
        }
        if covered != text.len() {
            splits.push(((covered, text.len()), false));
        }
        Ok(splits)
    }
}

/// The beginning of a pattern, for a message.
fn brief(source: &str) -> String {
    source.chars().take(80).collect()
}
