//! Patterns that end with `|\s+(?!\S)|\s+`, as GPT-2's and most since, matched without look-around.
//!
//! The end means: white space up to the end of the text is one match; before other text, its last character belongs to
//! the next match, unless it is the only one. So the white space is matched whole and then shortened. This takes linear
//! time, and a fraction of the time of an engine with look-around.

use regex_automata::meta::{BuildError, Regex};
use regex_automata::{Anchored, Input, PatternID};
use tokenizers::Offsets;

/// The look-around that is taken off, and what is matched in its place.
const END: &str = r"|\s+(?!\S)|\s+";
const SPACES: &str = r"\s+";

/// Of a pattern, all before [`END`], and then white space.
#[derive(Debug)]
pub(super) struct BeforeSpaces(Regex);

impl BeforeSpaces {
    /// `None` if the pattern does not end so, or may mean something else without the look-around.
    pub fn new(source: &str, max_compiled: usize) -> Option<Self> {
        let before = source.strip_suffix(END)?;
        // A group of flags would hold for the end too; a possessive repetition is read as a nested one.
        let groups_only = before.split("(?").skip(1).all(|group| group.starts_with(':') || group.starts_with("i:"));
        let possessive = ["++", "*+", "?+"].iter().any(|sign| before.contains(sign)) || repeats_a_count(before);
        if !groups_only || possessive {
            return None;
        }
        build(before, max_compiled).ok().map(Self)
    }

    /// The first match from this byte on.
    pub fn find(&self, text: &str, at: usize) -> Option<Offsets> {
        let input = Input::new(text).range(at..);
        // Nearly always there is a match right here, which is found in one pass: its start is known.
        let found = self.0.find(input.clone().anchored(Anchored::Yes)).or_else(|| self.0.find(input))?;
        let (start, end) = (found.start(), found.end());
        if found.pattern() == PatternID::ZERO || end == text.len() {
            return Some((start, end));
        }
        let last = text.get(start..end)?.char_indices().next_back().map_or(0, |(last, _)| last);
        Some((start, if last == 0 { end } else { start + last }))
    }
}

/// Whether a repetition such as `{2,3}` has a `+` behind it. One behind a class such as `\p{L}` is an ordinary one.
fn repeats_a_count(pattern: &str) -> bool {
    pattern.match_indices("}+").any(|(end, _)| {
        let before = pattern.get(..end).unwrap_or_default();
        before.rsplit_once('{').is_some_and(|(_, count)| count.bytes().all(|b| b.is_ascii_digit() || b == b','))
    })
}

fn build(before: &str, max_compiled: usize) -> Result<Regex, Box<BuildError>> {
    let limits = Regex::config()
        .nfa_size_limit(Some(max_compiled))
        .hybrid_cache_capacity(max_compiled)
        .onepass(false)
        .dfa(false);
    Regex::builder().configure(limits).build_many(&[before, SPACES]).map_err(Box::new)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use fancy_regex::Regex as Fancy;
    use proptest::prelude::*;

    use super::*;

    const BEFORE: [&str; 5] = [
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
        r"\bx\b|y$|a{2}|\\",
        r"x*y?|[ab]",
    ];

    static BOTH: LazyLock<Vec<(BeforeSpaces, Fancy)>> = LazyLock::new(|| {
        let both = |before| {
            let source = format!("{before}{END}");
            (BeforeSpaces::new(&source, 4 << 20).unwrap(), Fancy::new(&source).unwrap())
        };
        BEFORE.map(both).into()
    });

    fn text() -> impl Strategy<Value = String> {
        let part = prop_oneof!["[ \t\r\n\u{a0}\u{3000}]{1,5}", "[a-zA-Z]{1,4}", "[0-9'.,!/\\\\xy]{1,4}", "\\PC{1,3}"];
        proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    #[test]
    fn possessive_repetitions_are_left_to_the_other_engine() {
        for before in ["a{2}+", "a{2,3}+|b", "a++", "[ab]*+c", "a?+"] {
            assert!(BeforeSpaces::new(&format!("{before}{END}"), 4 << 20).is_none(), "{before}");
        }
        assert!(BeforeSpaces::new(&format!("\\p{{L}}+|\\p{{N}}{{1,3}}{END}"), 4 << 20).is_some());
    }

    proptest! {
        #[test]
        fn matches_are_those_with_look_around(text in text()) {
            for (plain, fancy) in BOTH.iter() {
                for at in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
                    let expected = fancy.find_from_pos(&text, at).unwrap().map(|found| (found.start(), found.end()));
                    prop_assert_eq!(plain.find(&text, at), expected, "{} at {}", fancy, at);
                }
            }
        }
    }

    #[test]
    fn other_patterns_keep_their_look_around() {
        for before in ["(?x)a", "a++", "(?:a)?+", "a{2}+", "(?=a)b", "(a", "[a", "a\\", r"(?<n>a)\k<n>", "(?i)a"] {
            assert!(BeforeSpaces::new(&format!("{before}{END}"), 4 << 20).is_none(), "{before}");
        }
        assert!(BeforeSpaces::new(r"\s+(?!\S)|\s+", 4 << 20).is_none());
        assert!(BeforeSpaces::new(r"a|\s+(?!\S)", 4 << 20).is_none());
    }
}
