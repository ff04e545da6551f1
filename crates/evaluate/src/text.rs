//! Measures of an answer that is free text: pure functions of the answer and what was expected.

mod chrf;
mod json;
mod normalised;

use std::collections::HashSet;

pub use chrf::chrf;
pub use json::JsonMatch;
pub use normalised::normalised;

/// The words of a text in lower case; a word consists of letters, digits and apostrophes.
///
/// A script without spaces (Chinese, Japanese, Thai) has one word between two punctuation marks.
pub fn words(text: &str) -> Vec<String> {
    let text = text.to_lowercase().replace(['\u{2018}', '\u{2019}'], "'");
    let runs = text.split(|c: char| !(c.is_alphanumeric() || c == '\''));
    runs.map(|word| word.trim_matches('\'')).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Whether a run of `n` [`words`] stands twice in a text.
///
/// The two may overlap: "very very very very" has a run of three words twice, "very very very" has not. A text has no
/// run of 0 words. It is what `no_repeat_ngram_size` of transformers forbids, of words in place of tokens.
pub fn repeats(text: &str, n: usize) -> bool {
    let words = words(text);
    let mut seen = HashSet::new();
    n > 0 && words.windows(n).any(|run| !seen.insert(run))
}

/// Distinct-n: the number of different runs of `n` [`words`] in a text, over the number of all of them.
///
/// It is 1 for a text with fewer than `n` words (or for `n` 0): nothing is said twice there, so a short answer counts
/// as one that does not repeat itself, as [`repeats`] has it too. Source: Li et al. 2016, "A diversity-promoting
/// objective function for neural conversation models"; they divide by the number of words, which differs by `n - 1`
/// and keeps even a text that never repeats below 1.
pub fn distinct(text: &str, n: usize) -> f64 {
    let words = words(text);
    if n == 0 || words.len() < n {
        return 1.0;
    }
    let different: HashSet<&[String]> = words.windows(n).collect();
    different.len() as f64 / (words.len() - n + 1) as f64
}

/// Whether one of the accepted answers stands in a text as whole words.
///
/// Both are compared as [`normalised`] writes them, so that `5` does not stand in "-5", "3.5" or "1,000", nor `C` in
/// "C++". An empty answer stands in no text.
pub fn contains<A: AsRef<str>>(text: &str, answers: impl IntoIterator<Item = A>) -> bool {
    let text = normalised(text);
    let text: Vec<&str> = text.split(' ').collect();
    answers.into_iter().any(|answer| {
        let answer = normalised(answer.as_ref());
        let answer: Vec<&str> = answer.split(' ').collect();
        answer != [""] && text.windows(answer.len()).any(|run| run == answer)
    })
}

/// What a text quotes between double quotation marks, straight or curly; empty quotations are left out.
///
/// A mark without a partner quotes nothing.
pub fn quotes(text: &str) -> Vec<&str> {
    let mut parts = text.split(['"', '\u{201C}', '\u{201D}']);
    parts.next();
    let mut found = Vec::new();
    while let (Some(quoted), Some(_)) = (parts.next(), parts.next()) {
        found.push(quoted.trim());
    }
    found.retain(|quoted| !quoted.is_empty());
    found
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_letters_digits_and_apostrophes() {
        assert_eq!(words("\u{2018}Don\u{2019}t\u{2019} stop: 3.5 ÉTÉS!"), ["don't", "stop", "3", "5", "étés"]);
        assert_eq!(words("' '' ... \u{1F600}"), Vec::<String>::new());
    }

    #[test]
    fn a_run_of_three_words_twice() {
        for (text, expected) in [
            ("", false),
            ("one two", false),
            ("very very very", false),
            ("very very very very", true),
            ("the smell of the street is the smell of the street", true),
            ("The smell of rain. I like the smell, of rain", true),
            ("the smell of rain and the smell of", true),
            ("the smell of rain and the smell under it", false),
            // A word that contains another one is not it.
            ("a b cc a b c", false),
            ("ab c d a bc d", false),
        ] {
            assert_eq!(repeats(text, 3), expected, "{text}");
        }
        assert!(repeats("again and Again", 1));
        assert!(!repeats("again and again", 0));
    }

    #[test]
    fn distinct_runs_by_hand() {
        for (text, n, expected) in [
            ("", 1, 1.0),
            ("one", 2, 1.0),
            ("one two", 2, 1.0),
            ("a a a a", 1, 0.25),
            ("a a a a", 2, 1.0 / 3.0),
            // to-be, be-or, or-not, not-to, to-be.
            ("To be, or not to be", 2, 0.8),
            ("To be, or not to be", 1, 4.0 / 6.0),
            ("a a", 0, 1.0),
        ] {
            assert_eq!(distinct(text, n), expected, "{text}, {n}");
        }
    }

    #[test]
    fn quotations_by_hand() {
        for (text, expected) in [
            ("", &[][..]),
            ("no marks", &[]),
            ("\"a bell\" and \u{201C}rings\u{201D}.", &["a bell", "rings"]),
            ("\"one\"\"two\" \"three", &["one", "two"]),
            ("\"\" it's 'single'", &[]),
        ] {
            assert_eq!(quotes(text), expected, "{text}");
        }
    }

    #[test]
    fn an_answer_stands_as_whole_words() {
        for (text, answer, expected) in [
            ("The capital is Paris.", "paris", true),
            ("**Paris**", "Paris", true),
            ("Parisian life", "Paris", false),
            ("It was New-York, then", "New York", true),
            ("York, New", "New York", false),
            ("That\u{2019}s it: don\u{2019}t", "Don't", true),
            ("x = 5", "5", true),
            ("x=5.", "5", true),
            ("It costs $5", "5", true),
            ("It is -5 outside", "5", false),
            ("It is \u{2212}5 outside", "-5", true),
            ("It is 3.5", "5", false),
            ("It is 1,000", "1", false),
            ("Written in C++", "C", false),
            ("Written in C++.", "C++", true),
            ("Written in C", "C++", false),
            ("[]", "[]", true),
            ("[]", "{}", false),
            ("anything", "", false),
            ("", "", false),
        ] {
            assert_eq!(contains(text, [answer]), expected, "{answer} in {text}");
        }
        assert!(contains("it is a dog", ["cat", "dog"]));
        assert!(!contains("it is a dog", Vec::<String>::new()));
    }

    proptest! {
        /// A run stands twice exactly when fewer runs are different than there are.
        #[test]
        fn repeating_is_not_being_distinct(words in vec("[abc]", 0..12), n in 0usize..5) {
            let text = words.join(" ");
            prop_assert_eq!(repeats(&text, n), distinct(&text, n) < 1.0);
        }

        /// Whoever repeats four words repeats three of them.
        #[test]
        fn a_longer_run_has_a_shorter_one(words in vec("[abc]", 0..16), n in 1usize..5) {
            let text = words.join(" ");
            prop_assert!(!repeats(&text, n + 1) || repeats(&text, n));
            let share = distinct(&text, n);
            prop_assert!(share > 0.0 && share <= 1.0);
        }

        #[test]
        fn a_text_contains_its_parts(before in "\\PC*", answer in "\\PC*[a-z]", after in "\\PC*") {
            prop_assert!(contains(&answer, [&answer]));
            let text = format!("{before} {answer} {after}");
            prop_assert!(contains(&text, [&answer]), "{} in {}", answer, text);
        }
    }
}
