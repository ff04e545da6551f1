//! One way of writing for texts that differ in case, punctuation and white space alone.

use std::sync::LazyLock;

use regex::Regex;

/// What one character does to the text.
#[derive(Clone, Copy)]
enum Role {
    /// It belongs to the word around it.
    Word,
    /// It begins a word, and whatever follows belongs to it.
    Opens,
    /// It is a word of its own.
    Symbol,
    /// It separates words.
    Gap,
}

/// A text in lower case, without punctuation, its words separated by single spaces: for a match that overlooks how an
/// answer is written, but not what it says.
///
/// Punctuation (Unicode category P), white space and control characters separate words. Letters, digits and marks form
/// words; each symbol (category S: `=`, `<`, `€`, emoji) is a word of its own. What tells answers apart stays:
///
/// - in a number, a single `.` `,` `:` `/` `*` `·` `-` between two digits, and the point of `.5`; also `/`, `*` and
///   `-` with white space on both sides, between two numbers;
/// - hyphens and the minus sign that hang on one side of a word only: `-5`, `-$5`, `O-`. Those inside a word or alone
///   are punctuation; the dashes `‐ ‑ ‒ –` and `−` count as hyphens;
/// - `+` and `#` at the end of a word: `C++`, `A+`, `C#`;
/// - `%`, `‰`, `&`, `@`, `§`, `′` and `″` as symbols; `!=`, `-=`, `*=`, `/=`, `:=` and `->`;
/// - an apostrophe inside a word. Typographic ones, `´` and `ʼ` are written `'`.
///
/// A text of which nothing would be left (`[]`, `:-)`) keeps its punctuation. Soft hyphens, zero-width characters,
/// marks of direction and variation selectors are left out. To normalise twice is to normalise once. Unicode's
/// compositions are not unified: `é` and `e` with an accent differ.
pub fn normalised(text: &str) -> String {
    let text: Vec<char> = text.to_lowercase().chars().filter(|c| !is_invisible(*c)).map(plain).collect();
    let mut kept = String::new();
    let mut opened = false;
    for (at, &c) in text.iter().enumerate() {
        let role = role(&text, at);
        if matches!(role, Role::Opens | Role::Symbol) && !opened {
            kept.push(' ');
        }
        kept.push(if matches!(role, Role::Gap) { ' ' } else { c });
        if matches!(role, Role::Symbol) {
            kept.push(' ');
        }
        opened = matches!(role, Role::Opens);
    }
    let single_spaced = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let kept = single_spaced(&kept);
    if kept.is_empty() { single_spaced(&String::from_iter(text)) } else { kept }
}

fn role(text: &[char], at: usize) -> Role {
    let before = at.checked_sub(1).and_then(|at| text.get(at)).copied();
    let after = text.get(at + 1).copied();
    let between = |holds: fn(char) -> bool| before.is_some_and(holds) && after.is_some_and(holds);
    match text[at] {
        '.' | ',' | ':' | '/' | '*' | '·' | '-' if between(char::is_numeric) => Role::Word,
        '\'' if between(is_wordy) => Role::Word,
        '-' if matches!(after, Some('=' | '>')) => Role::Opens,
        '!' | '*' | '/' | ':' if after == Some('=') => Role::Opens,
        '-' | '/' | '*' if is_spaced_operator(text, at) => Role::Symbol,
        '.' if starts_word(text, at) && !before.is_some_and(|c| c == '.' || is_wordy(c)) => Role::Opens,
        '-' => match hangs(text, at) {
            (true, false) => Role::Word,
            (false, true) => Role::Opens,
            _ => Role::Gap,
        },
        '+' if hangs(text, at) == (true, false) => Role::Word,
        '#' if before.is_some_and(is_wordy) => Role::Word,
        '%' | '‰' | '&' | '@' | '§' | '′' | '″' => Role::Symbol,
        '`' => Role::Gap,
        c if is_wordy(c) => Role::Word,
        c if c.is_whitespace() || c.is_control() || is(&PUNCTUATION, c) => Role::Gap,
        c if is(&SYMBOL, c) => Role::Symbol,
        _ => Role::Word,
    }
}

/// Whether a word ends before the run of equal characters at a place, and whether one begins after it.
fn hangs(text: &[char], at: usize) -> (bool, bool) {
    let same = |c: &&char| **c == text[at];
    let first = at - text[..at].iter().rev().take_while(same).count();
    let end = at + text[at..].iter().take_while(same).count();
    (text[..first].last().is_some_and(|c| is_wordy(*c)), starts_word(text, end))
}

/// Whether a word, a number like `.5` or an amount like `$5` begins at a place.
fn starts_word(text: &[char], at: usize) -> bool {
    match text.get(at) {
        Some('.') => text.get(at + 1).is_some_and(|c| c.is_numeric()),
        Some(&c) => is_wordy(c) || is(&CURRENCY, c),
        None => false,
    }
}

/// Whether a character stands between two numbers, with white space on both sides.
fn is_spaced_operator(text: &[char], at: usize) -> bool {
    let (before, after) = (&text[..at], &text[at + 1..]);
    let is_space = |c: Option<&char>| c.is_some_and(|c| c.is_whitespace());
    let is_digit = |c: Option<&char>| c.is_some_and(|c| c.is_numeric());
    is_space(before.last())
        && is_space(after.first())
        && is_digit(before.iter().rev().find(|c| !c.is_whitespace()))
        && is_digit(after.iter().find(|c| !c.is_whitespace()))
}

/// One character for those that are written for one another.
fn plain(c: char) -> char {
    match c {
        '\u{2018}' | '\u{2019}' | '\u{2bc}' | '\u{b4}' | '\u{ff07}' => '\'',
        '\u{2010}'..='\u{2013}' | '\u{2212}' => '-',
        c => c,
    }
}

/// Soft hyphen, zero-width characters, marks of direction, variation selectors 15 and 16, byte order mark.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{fe0e}' | '\u{fe0f}' | '\u{feff}')
}

fn is_wordy(c: char) -> bool {
    c.is_alphanumeric() || is(&MARK, c)
}

/// Whether a character is of a category of Unicode.
fn is(category: &Regex, c: char) -> bool {
    category.is_match(c.encode_utf8(&mut [0; 4]))
}

static PUNCTUATION: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\p{P}").expect("a valid pattern"));
static SYMBOL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\p{S}").expect("a valid pattern"));
static MARK: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\p{M}").expect("a valid pattern"));
static CURRENCY: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\p{Sc}").expect("a valid pattern"));

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    /// Texts that say the same, and how all of them are written.
    #[test]
    fn the_same_answer_written_differently() {
        for (expected, texts) in [
            (
                "joy",
                &["Joy", " joy. ", "**Joy**", "\"Joy!\"", "`joy`", "# Joy", "- joy", "«Joy»", "„Joy“", "(joy)…"][..],
            ),
            ("don't stop", &["Don't stop", "don\u{2019}t  stop!", "DON\u{b4}T\u{a0}STOP", "'don\u{2bc}t' stop"]),
            ("new york", &["New York", "new-york", "new\u{2011}york", "New\u{2014}York", "new_york", "new/york"]),
            ("3.5", &["3.5", "3.5.", "(3.5)", "\u{200e}3.5"]),
            ("-5", &["-5", "\u{2212}5", "\u{2013}5", "(-5)"]),
            ("1990-1995", &["1990-1995", "1990\u{2013}1995"]),
            ("5", &["5", "...5", "5...", "\u{2026}5", "(5)"]),
            ("cafe\u{301} bar", &["Cafe\u{301}-bar", "cafe\u{301}, bar"]),
            ("1,000", &["1,000", "1,000,"]),
            ("x = 5", &["x=5", "X = 5", "x= 5."]),
            ("5 %", &["5%", "5 %"]),
            ("c++", &["C++", "c++.", "'C++'"]),
            ("well known", &["well-known", "well known", "well\u{2010}known", "well\u{ad} known"]),
            ("ありがとう", &["ありがとう。", "「ありがとう」"]),
            ("हिन्दी", &["हिन्दी।", "हिन्दी"]),
            ("❤", &["❤", "❤\u{fe0f}"]),
            ("[]", &["[]", " []\n"]),
            ("", &["", " \n\t", "\u{200b}"]),
        ] {
            for text in texts {
                assert_eq!(normalised(text), expected, "{text}");
            }
        }
    }

    /// Texts that say different things, each of them another.
    #[test]
    fn different_answers_stay_different() {
        for texts in [
            &["5", "-5", "+5", ".5", "-.5", "5%", "5‰", "$5", "-$5", "5!=", "5-", "<5", ">5", "~5", "5′", "5″"][..],
            &["35", "3.5", "3,5", "3:5", "3/5", "3*5", "3-5", "3+5", "3 5", "3^5", "3=5", "3 / 5", "3 * 5", "3 - 5"],
            &["C", "C++", "C#", "C-", "C+"],
            &["O", "O+", "O-"],
            &["a = b", "a != b", "a -= b", "a += b", "a < b", "a > b", "a -> b", "a == b", "a | b", "a & b", "a b"],
            &["[]", "{}", "()", ":)", ":(", "-", "?", "!", "...", ""],
            &["👍", "👎", "❤"],
            &["a@b.com", "a.b@com"],
            &["R&D", "RD", "R D"],
            &["well", "we'll"],
            &["resume", "résumé"],
            &["हिन्दी", "हन्दी"],
        ] {
            for (at, one) in texts.iter().enumerate() {
                for other in &texts[at + 1..] {
                    assert_ne!(normalised(one), normalised(other), "{one}, {other}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn twice_is_once(text in any::<String>()) {
            let once = normalised(&text);
            prop_assert_eq!(&normalised(&once), &once);
        }

        /// The same on the characters that have rules of their own.
        #[test]
        fn twice_is_once_for_symbols(text in "[ .,:/*·'=<>!+#%&@$`5aÉ\u{301}\u{2212}-]{0,12}") {
            let once = normalised(&text);
            prop_assert_eq!(&normalised(&once), &once);
        }

        #[test]
        fn nothing_is_lost_for_nothing(text in any::<String>()) {
            let found = normalised(&text);
            prop_assert_eq!(found.is_empty(), text.chars().all(|c| c.is_whitespace() || is_invisible(c)));
            prop_assert!(!found.contains("  ") && found.trim() == found);
        }

        /// Case, marks around and white space are overlooked; the words are not.
        #[test]
        fn words_are_all_that_counts(
            words in vec("[a-zé]{1,5}|[1-9][0-9]{0,3}", 1..6),
            gaps in vec(select(vec![" ", ", ", "; ", "\u{a0}", "\n", " \u{2014} ", "! ", " (", "\" "]), 6),
        ) {
            let mut text = String::from("\u{201e}");
            for (word, gap) in words.iter().zip(&gaps) {
                text += &word.to_uppercase();
                text += gap;
            }
            prop_assert_eq!(normalised(&text), words.join(" "));
        }

        #[test]
        fn different_numbers_stay_different(one in -1000i32..1000, other in -1000i32..1000) {
            let written = |tenths: i32| normalised(&format!("{:.1}", f64::from(tenths) / 10.0));
            prop_assert_eq!(written(one) == written(other), one == other);
        }
    }
}
