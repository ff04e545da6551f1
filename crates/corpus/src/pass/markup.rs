//! Leftover HTML and Markdown from scraped pages.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde::{Deserialize, Serialize};

use super::{Pass, repair_messages};
use foehn_record::Record;

/// What the pass does with markup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MarkupAction {
    /// Replaces it by plain text.
    #[default]
    Repair,
    /// Rejects the record.
    Drop,
}

/// Replaces leftover HTML and Markdown by plain text, or rejects a record that has any.
///
/// This covers HTML tags (recognised by their names), comments, scripts and style sheets; character references
/// (`&amp;`, `&#39;`); links without text, and images, whose description is kept; and the wiki markers `[edit]` and
/// `[citation needed]`. Bold text, lists, links, tables and code are wanted in a chat model's answers, and are kept.
///
/// A record that talks about markup (`HTML`, `XML`, `CSS`, `LaTeX`, …) is not changed, and neither is code, in blocks
/// or spans. A name in angle brackets that is not an HTML tag (`<name>`, `Vec<String>`) is kept. `&lt;b&gt;` is kept
/// too: decoded, it would become a tag.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Markup {
    /// What to do with markup.
    pub action: MarkupAction,
}

static SPEAKS_OF: LazyLock<Regex> = LazyLock::new(|| {
    new(
        r"(?i)(?:^|[^\w./-])(?:x?html5?|xml|svg|css|jsx|tsx|php|markdown|markup|mathml|(?-i:LaTeX|latex (?:code|document|command|source)s?)|jinja2?|javascript|react|web ?pages?|websites?|(?:opening|closing|meta|script|anchor|img|the|an?|this|that|these|those)\s+(?:<[^<>]*>\s*)?tags?|dom|entit(?:y|ies)|<!doctype)\b",
    )
});

/// Elements whose content is not text.
static HIDDEN: LazyLock<Regex> = LazyLock::new(|| {
    new(r"(?is)<!--.*?-->|<(?:script\b[^>]*>.*?</script|style\b[^>]*>.*?</style|noscript\b[^>]*>.*?</noscript)\s*>")
});

/// A tag that means a line break.
static BREAK: LazyLock<Regex> = LazyLock::new(|| {
    new(
        r"(?i)[ \t]*<(?:br|hr)\b(?:\s[^<>]*)?/?>[ \t]*\n?|[ \t]*</(?:p|div|li|tr|h[1-6]|ul|ol|table|blockquote|section|article|pre)\s*>[ \t]*\n?",
    )
});

/// Every other HTML tag.
static TAG: LazyLock<Regex> = LazyLock::new(|| {
    let names = "a|abbr|article|aside|b|big|blockquote|body|button|caption|center|cite|code|dd|del|div|dl|dt|em|figcaption|figure|font|footer|form|h[1-6]|head|header|html|i|iframe|img|input|ins|label|li|link|main|mark|meta|nav|ol|option|p|pre|q|s|samp|section|select|small|span|strike|strong|sub|sup|table|tbody|td|textarea|tfoot|th|thead|title|tr|tt|u|ul|var|video";
    new(&format!(
        r#"(?i)</?(?:{names})(?:\s+(?:[a-z-]+\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>=]+)|hidden|disabled|checked|selected|controls|nowrap|noshade|async))*\s*/?>"#
    ))
});

static REFERENCE: LazyLock<Regex> =
    LazyLock::new(|| new(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});"));

static IMAGE: LazyLock<Regex> = LazyLock::new(|| new(r"!\[([^\[\]\n]*)\]\([^()\s]*(?:\s+\x22[^\x22\n]*\x22)?\)"));

static EMPTY_LINK: LazyLock<Regex> =
    LazyLock::new(|| new(r"(?i)[ \t]*(?:\[\s*\]\([^()\s]*\)|\[(?:edit|edit source|citation needed)\])"));

impl Pass for Markup {
    fn name(&self) -> &'static str {
        "markup"
    }

    fn repair(&self, record: &mut Record) -> bool {
        if self.action != MarkupAction::Repair || !may_hold(record) {
            return false;
        }
        repair_messages(record, |text| {
            let plain = plain(text);
            (plain != text).then_some(plain)
        })
    }

    fn check(&self, record: &Record) -> Option<String> {
        if self.action != MarkupAction::Drop || !may_hold(record) {
            return None;
        }
        let messages = record.messages.iter().enumerate();
        let mut debris = messages.filter_map(|(at, message)| Some((at, first_debris(&message.content)?)));
        debris.next().map(|(at, found)| format!("the text holds debris of markup `{found}` (message {})", at + 1))
    }
}

fn may_hold(record: &Record) -> bool {
    let texts = || record.messages.iter().map(|message| message.content.as_str());
    let has_mark = |text: &str| text.contains(['<', '&', '[']);
    texts().any(has_mark) && !texts().any(speaks_of_markup)
}

/// Whether a text mentions markup, outside of the markup itself.
fn speaks_of_markup(text: &str) -> bool {
    SPEAKS_OF.is_match(text) && {
        let bare = HIDDEN.replace_all(text, " ");
        let bare = BREAK.replace_all(&bare, " ");
        let bare = TAG.replace_all(&bare, " ");
        let bare = EMPTY_LINK.replace_all(&bare, " ");
        SPEAKS_OF.is_match(&IMAGE.replace_all(&bare, " "))
    }
}

/// The text with everything outside code written plainly.
fn plain(text: &str) -> String {
    pieces(text).map(|(piece, is_code)| if is_code { Cow::Borrowed(piece) } else { plain_piece(piece) }).collect()
}

fn plain_piece(text: &str) -> Cow<'_, str> {
    let steps: [(&Regex, &str); 5] = [(&HIDDEN, ""), (&BREAK, "\n"), (&TAG, ""), (&IMAGE, "$1"), (&EMPTY_LINK, "")];
    let stripped = steps.into_iter().fold(Cow::Borrowed(text), |text, (pattern, with)| {
        let replaced = pattern.replace_all(&text, with);
        if matches!(replaced, Cow::Borrowed(_)) { text } else { Cow::Owned(replaced.into_owned()) }
    });
    let decoded = match REFERENCE.replace_all(&stripped, decoded) {
        Cow::Borrowed(_) => None,
        Cow::Owned(decoded) => Some(decoded),
    };
    decoded.map_or(stripped, Cow::Owned)
}

/// The character of a reference. If it would make a tag or a control character, the reference itself.
fn decoded(reference: &Captures<'_>) -> String {
    let whole = &reference[0];
    let decoded = html_escape::decode_html_entities(whole);
    let mut chars = decoded.chars();
    match (chars.next(), chars.next()) {
        (Some('<' | '>'), None) | (None, _) => whole.to_owned(),
        (Some('\u{a0}'), None) => " ".to_owned(),
        (Some(c), None) if c.is_control() && !matches!(c, '\n' | '\t') => whole.to_owned(),
        _ => decoded.into_owned(),
    }
}

fn first_debris(text: &str) -> Option<String> {
    let outside = pieces(text).filter(|(_, is_code)| !is_code);
    outside.into_iter().find_map(|(piece, _)| {
        let patterns = [&*HIDDEN, &*BREAK, &*TAG, &*IMAGE, &*EMPTY_LINK];
        let first = patterns.into_iter().find_map(|pattern| pattern.find(piece)).map(|found| found.as_str());
        let reference = || REFERENCE.captures_iter(piece).find(|found| decoded(found) != found[0]);
        let found = first.map(str::to_owned).or_else(|| reference().map(|found| found[0].to_owned()))?;
        Some(found.trim().chars().take(40).collect())
    })
}

/// The pieces of the text, each with whether it is code: a fenced block, or a span between backquotes on one line.
fn pieces(text: &str) -> impl Iterator<Item = (&str, bool)> {
    static CODE: LazyLock<Regex> = LazyLock::new(|| new(r"(?s)```.*?(?:```|\z)|`[^`\n]+`"));
    let mut end = 0;
    let mut pieces = Vec::new();
    for code in CODE.find_iter(text) {
        pieces.extend([(&text[end..code.start()], false), (code.as_str(), true)]);
        end = code.end();
    }
    pieces.push((&text[end..], false));
    pieces.into_iter()
}

/// Compiles one of this crate's own patterns. The tests compile all of them.
fn new(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap_or_else(|error| unreachable!("{error}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use foehn_record::{Message, Role};

    fn record(answer: &str) -> Record {
        Record::new(vec![Message::new(Role::User, "What is it?"), Message::new(Role::Assistant, answer)])
    }

    fn settled(answer: &str) -> String {
        let mut record = record(answer);
        while Markup::default().repair(&mut record) {}
        record.messages.remove(1).content
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(settled(text), expected, "{text}");
        let dropped = Markup { action: MarkupAction::Drop }.check(&record(text)).is_some();
        assert_eq!(dropped, text != expected, "{text}");
    }

    #[test]
    fn debris_becomes_plain_text() {
        for (text, expected) in [
            ("<p>A bell rang.</p>\n<p>It was noon.</p>", "A bell rang.\nIt was noon.\n"),
            ("A bell<br/>rang", "A bell\nrang"),
            ("A bell<br>\nrang", "A bell\nrang"),
            ("<span class=\"x\" style='color:red'>Red</span> <B>and</B> blue", "Red and blue"),
            ("<a href=\"https://example.org/a?b=c\">here</a>", "here"),
            (
                "salt &amp; pepper&nbsp;&#8212; &quot;fine&quot;, it&#39;s &eacute;t&#xe9;",
                "salt & pepper — \"fine\", it's été",
            ),
            ("fish &amp;amp; chips", "fish & chips"),
            ("![a lamp](lamp.png \"title\") glows", "a lamp glows"),
            ("Smoke. [](https://example.org) [edit] It rose.[citation needed]", "Smoke. It rose."),
            ("Visual<!-- note --><script>alert(1)</script>", "Visual"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn text_code_and_talk_of_markup_stay() {
        for text in [
            "**Bold**, _soft_ and [a link](https://example.org) [1]",
            "- salt\n- pepper\n\n| a | b |\n|---|---|",
            "Use `<br>` or:\n```\n<p>&amp;</p>\n```",
            "The <p> tag opens a paragraph.",
            "In HTML write &amp; for &.",
            "Vec<String> holds <name> and <stdio.h>, if a<b and c>d",
            "R&D; AT&T; a&b;",
            "x &lt;b&gt; y &lt; z",
            "f(a, b) <i+1> and <a whole sentence, in brackets>",
            "https://example.org/?a=1&copy=2",
        ] {
            check(text, text);
        }
    }

    proptest! {
        #[test]
        fn repairing_settles(pieces in prop::collection::vec(prop::sample::select(vec![
            "<", ">", "p", "</p>", "<br>", "&", "amp;", "&amp;", "&lt;", "&#60;", "&#38;", "lt;", "`", "```", "[", "]", "](", ")", "!", " ", "\n",
            "<!--", "-->", "&nbsp;", "x", "<i", "edit", "&bsol;",
        ]), 0..14)) {
            let text = pieces.concat();
            let mut record = record(&text);
            let rounds = (0..16).take_while(|_| Markup::default().repair(&mut record)).count();
            prop_assert!(rounds < 16, "{}", text);
        }
    }
}
