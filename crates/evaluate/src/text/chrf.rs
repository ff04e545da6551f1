//! chrF: how much two texts have in common, character by character.

use std::collections::HashMap;

/// The longest run of characters that is compared.
const ORDER: usize = 6;
/// How much more recall counts than precision.
const BETA: f64 = 2.0;

/// chrF2 of an answer against one reference, from 0 (nothing in common) to 100 (equal but for white space).
///
/// For each n from 1 to 6, precision is the share of the answer's runs of n characters that the reference has too (each
/// as often as it stands there), and recall the share of the reference's that the answer has; white space is removed
/// before. With P and R, their means over those n for which both texts have a run,
/// `chrF2 = 100 · (1 + 2²) · P · R / (2² · P + R)`, and 0 if both are 0 or a text is empty. Characters are Unicode
/// scalar values. Case counts.
///
/// Source: Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation"; `sentence_chrf` of sacrebleu
/// 2.6 with its defaults (`chrF2|nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no`).
pub fn chrf(answer: &str, reference: &str) -> f64 {
    let (answer, reference) = (characters(answer), characters(reference));
    let orders = ORDER.min(answer.len()).min(reference.len());
    let (mut precision, mut recall) = (0.0, 0.0);
    for n in 1..=orders {
        let shared = shared(&answer, &reference, n) as f64;
        precision += shared / (answer.len() - n + 1) as f64;
        recall += shared / (reference.len() - n + 1) as f64;
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (precision / orders as f64, recall / orders as f64);
    100.0 * (1.0 + BETA * BETA) * precision * recall / (BETA * BETA * precision + recall)
}

/// The characters that are not white space in Python's sense: Unicode's, and four separators of ASCII.
fn characters(text: &str) -> Vec<char> {
    text.chars().filter(|c| !(c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(c))).collect()
}

/// The number of runs of `n` characters that two texts share, each counted as often as it stands in both.
fn shared(answer: &[char], reference: &[char], n: usize) -> u64 {
    let mut left: HashMap<&[char], u64> = HashMap::new();
    for run in reference.windows(n) {
        *left.entry(run).or_default() += 1;
    }
    let mut shared = 0;
    for run in answer.windows(n) {
        if let Some(count) = left.get_mut(run).filter(|count| **count > 0) {
            *count -= 1;
            shared += 1;
        }
    }
    shared
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    /// A pair of texts, each written as often as `times` says.
    #[derive(Deserialize)]
    struct Case {
        answer: String,
        reference: String,
        times: (usize, usize),
        score: f64,
    }

    #[test]
    fn scores_are_those_of_sacrebleu() {
        let golden: Value = serde_json::from_str(include_str!("../../tests/fixtures/statistics.json")).unwrap();
        let cases: Vec<Case> = serde_json::from_value(golden["chrf"].clone()).unwrap();
        assert!(cases.len() > 100);
        for Case { answer, reference, times, score } in cases {
            let found = chrf(&answer.repeat(times.0), &reference.repeat(times.1));
            assert!((found - score).abs() < 1e-9, "{found}, expected {score}: {answer:?}, {reference:?}");
        }
    }

    proptest! {
        #[test]
        fn white_space_alone_changes_nothing(text in "\\PC*", other in "\\PC*") {
            let spaced: String = other.chars().flat_map(|c| [c, ' ']).collect();
            prop_assert_eq!(chrf(&text, &other), chrf(&text, &spaced));
            prop_assert_eq!(chrf(&other, &text), chrf(&spaced, &text));
        }

        #[test]
        fn equal_texts_have_all_and_others_less(text in "\\PC*[a-z]", other in "\\PC*") {
            prop_assert!((chrf(&text, &text) - 100.0).abs() < 1e-9);
            let score = chrf(&text, &other);
            prop_assert!((0.0..=100.0 + 1e-9).contains(&score));
            let characters: String = other.chars().filter(|c| !text.contains(*c)).collect();
            prop_assert_eq!(chrf(&text, &characters), 0.0);
        }
    }
}
