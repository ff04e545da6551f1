//! Texts from datasets on a page: escaped, with invisible characters made visible and differences marked.

/// The largest number of token pairs that are compared to find the common parts of two texts. Of longer texts, only the
/// ends are compared.
const MAX_PAIRS: usize = 400_000;

/// Adds the text to the page as plain text.
///
/// Control characters, characters that change the direction of text, and characters without width are shown as code
/// points. So no text can be hidden on the page, or change the order of other text.
pub(super) fn escape(page: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&quot;"),
            '\'' => page.push_str("&#39;"),
            '\n' | '\t' => page.push(c),
            _ if is_unseen(c) => page.push_str(&format!("<span class=\"unseen\">U+{:04X}</span>", u32::from(c))),
            _ => page.push(c),
        }
    }
}

/// The text, escaped.
pub(super) fn escaped(text: &str) -> String {
    let mut page = String::with_capacity(text.len());
    escape(&mut page, text);
    page
}

/// A sentence, escaped, with the text between backticks as code.
pub(super) fn sentence(text: &str) -> String {
    let mut page = String::with_capacity(text.len());
    let mut parts = text.split('`').peekable();
    let mut is_code = false;
    while let Some(part) = parts.next() {
        // A backtick without a partner is shown as it is.
        match (is_code, parts.peek().is_some()) {
            (true, true) => page.push_str(&format!("<code>{}</code>", escaped(part))),
            (true, false) => page.push_str(&format!("`{}", escaped(part))),
            (false, _) => escape(&mut page, part),
        }
        is_code = !is_code;
    }
    page
}

/// Two texts, escaped, with the parts that only one of them has between `<mark>` tags.
pub(super) fn marked(left: &str, right: &str) -> [String; 2] {
    let (lefts, rights) = (tokens(left), tokens(right));
    let [shared_left, shared_right] = shared(&lefts, &rights);
    [mark(&lefts, &shared_left), mark(&rights, &shared_right)]
}

/// A number with separated thousands.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share in percent, with few digits, but never 0% or 100% unless that is exact.
pub(super) fn percent(part: u64, whole: u64) -> String {
    let percent = 100.0 * part as f64 / whole.max(1) as f64;
    if part > 0 && percent < 0.1 {
        "under 0.1%".to_owned()
    } else if part < whole && percent > 99.9 {
        "over 99.9%".to_owned()
    } else if part == 0 || part == whole || (10.0..=99.0).contains(&percent) {
        format!("{percent:.0}%")
    } else {
        format!("{percent:.1}%")
    }
}

fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' | '\u{fffd}')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

/// Words, and the single characters between them.
fn tokens(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut in_word = false;
    for (at, c) in text.char_indices() {
        let is_word = c.is_alphanumeric();
        if at > start && !(is_word && in_word) {
            found.push(&text[start..at]);
            start = at;
        }
        in_word = is_word;
    }
    if start < text.len() {
        found.push(&text[start..]);
    }
    found
}

/// For each token of both lists, whether it belongs to their longest common subsequence.
fn shared(left: &[&str], right: &[&str]) -> [Vec<bool>; 2] {
    let head = left.iter().zip(right).take_while(|(left, right)| left == right).count();
    let (left_rest, right_rest) = (&left[head..], &right[head..]);
    let tail = left_rest.iter().rev().zip(right_rest.iter().rev()).take_while(|(left, right)| left == right).count();
    let mut found = [vec![true; left.len()], vec![true; right.len()]];
    let left_middle = &left_rest[..left_rest.len() - tail];
    let right_middle = &right_rest[..right_rest.len() - tail];
    found[0][head..head + left_middle.len()].fill(false);
    found[1][head..head + right_middle.len()].fill(false);
    let width = right_middle.len() + 1;
    if left_middle.len().saturating_mul(width) > MAX_PAIRS {
        return found;
    }
    // lengths[i * width + j]: the length of the common subsequence from these tokens on.
    let mut lengths = vec![0u32; (left_middle.len() + 1) * width];
    for i in (0..left_middle.len()).rev() {
        for j in (0..right_middle.len()).rev() {
            lengths[i * width + j] = if left_middle[i] == right_middle[j] {
                1 + lengths[(i + 1) * width + j + 1]
            } else {
                lengths[(i + 1) * width + j].max(lengths[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < left_middle.len() && j < right_middle.len() {
        if left_middle[i] == right_middle[j] {
            found[0][head + i] = true;
            found[1][head + j] = true;
            i += 1;
            j += 1;
        } else if lengths[(i + 1) * width + j] >= lengths[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    found
}

fn mark(tokens: &[&str], shared: &[bool]) -> String {
    let mut page = String::new();
    let mut is_marked = false;
    for (token, shared) in tokens.iter().zip(shared) {
        if *shared == is_marked {
            page.push_str(if is_marked { "</mark>" } else { "<mark>" });
            is_marked = !is_marked;
        }
        escape(&mut page, token);
    }
    if is_marked {
        page.push_str("</mark>");
    }
    page
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The text that a browser shows for escaped text without visible code points.
    fn shown(page: &str) -> String {
        let plain = page.replace("<mark>", "").replace("</mark>", "");
        let plain = plain.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'");
        plain.replace("&amp;", "&")
    }

    proptest! {
        #[test]
        fn texts_come_back_and_make_no_element(left in "[ -~]{0,60}", right in "[ -~é]{0,60}") {
            let pages = marked(&left, &right);
            for (page, text) in pages.iter().zip([&left, &right]) {
                prop_assert_eq!(&shown(page), text);
                let rest = page.replace("<mark>", "").replace("</mark>", "");
                prop_assert!(!rest.contains(['<', '>', '"', '\'']));
            }
            // The unmarked parts are the same on both sides.
            let unmarked = |page: &str| {
                page.split("<mark>").map(|part| part.split_once("</mark>").map_or(part, |(_, rest)| rest)).collect::<String>()
            };
            prop_assert_eq!(unmarked(&pages[0]), unmarked(&pages[1]));
        }
    }

    #[test]
    fn what_differs_is_marked() {
        let [left, right] = marked("What modality is: 'Rain'?", "What sense is: 'Rain'!");
        assert_eq!(left, "What <mark>modality</mark> is: &#39;Rain&#39;<mark>?</mark>");
        assert_eq!(right, "What <mark>sense</mark> is: &#39;Rain&#39;<mark>!</mark>");
        let long = |word: &str| format!("a {} z", format!("{word} ").repeat(2000));
        let [left, _] = marked(&long("x"), &long("y"));
        assert!(left.starts_with("a <mark>x") && left.ends_with("</mark> z") || left.contains("<mark>"));
    }

    #[test]
    fn what_a_reason_quotes_is_code() {
        assert_eq!(sentence("on with `<s>` (message 2)"), "on with <code>&lt;s&gt;</code> (message 2)");
        assert_eq!(sentence("`a` and `b"), "<code>a</code> and `b");
        assert_eq!(sentence("plain"), "plain");
    }

    #[test]
    fn the_unseen_is_seen() {
        assert_eq!(
            escaped("a\u{202e}b\0"),
            "a<span class=\"unseen\">U+202E</span>b<span class=\"unseen\">U+0000</span>"
        );
        assert_eq!(escaped("<script>&\"'\n"), "&lt;script&gt;&amp;&quot;&#39;\n");
    }

    #[test]
    fn numbers_are_for_people() {
        for (value, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(value), text);
        }
        for (part, whole, text) in [
            (0, 0, "0%"),
            (0, 10, "0%"),
            (10, 10, "100%"),
            (1, 100_000, "under 0.1%"),
            (99_999, 100_000, "over 99.9%"),
            (845, 1000, "84%"),
            (35, 1000, "3.5%"),
        ] {
            assert_eq!(percent(part, whole), text);
        }
    }
}
