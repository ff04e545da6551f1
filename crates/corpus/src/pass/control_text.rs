//! Chat template markers that were left in a text.

use std::sync::LazyLock;

use regex::Regex;

use super::Pass;
use super::skeleton::pattern as new;
use crate::said::texts;
use crate::text::mask_quotes;
use foehn_record::{Record, Role};

/// Rejects a record with a chat template's control text in a message: `<|im_start|>`, `[INST]`, `</s>` and similar
/// texts.
///
/// In an assistant's message it would teach the model to write such text. In a user's message it shows that a rendered
/// conversation was cut at a wrong place. A record that talks about control texts, or shows them in code or quotation
/// marks, is flagged only, unless they are at the positions where a template puts them. Encoding such a text is
/// harmless (`tokens` never makes a control token from text).
#[derive(Clone, Copy, Debug, Default)]
pub struct ControlText;

/// The control texts of the Mistral, Llama and Gemma families that do not have the form `<|…|>`.
const EXACT: [&str; 17] = [
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<</SYS>>",
    "<s>",
    "</s>",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_CALLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "<start_of_turn>",
    "<end_of_turn>",
    "<bos>",
    "<eos>",
];

/// Recognises conversations about control texts.
static SPEAKS_OF: LazyLock<Regex> = LazyLock::new(|| {
    new(
        r"(?i)\b(?:tokens?|tokeni[sz]\w*|tags?|x?html5?|xml|rust|generics?|templates?|chatml|mistral|llama|gemma|qwen|instruct|delimiters?|markers?|sentinels?|bos|eos|eot|markup|(?:prompt|chat|input|message|turn) formats?|special (?:symbol|sequence|string|word)s?|control (?:text|word|sequence|character|token)s?|strike-?through)\b|\b(?:what|why|where|when|how)(?:'s| does| do| is| are| should)?(?: the| an?| this)? \x02|\x02[?.,]? (?:do|does|means?|stands?|marks?|ends?|begins?|starts?|opens?|closes?|is (?:used|for|there)|are (?:used|for|there))\b|\b(?:explain|define|describe) \x02",
    )
});

/// The role of a control text within a text.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// In code, in quotation marks, or as a part of a name: the text mentions it.
    Shown,
    Bare,
}

impl Pass for ControlText {
    fn name(&self) -> &'static str {
        "control-text"
    }

    fn check(&self, record: &Record) -> Option<String> {
        let speaks = record.messages.iter().flat_map(texts).any(speaks_of);
        report(record, |text, found| {
            let is_bare = found.iter().any(|(at, control)| place(text, *at, control) == Place::Bare);
            is_bare && (!speaks || is_rendered(text, found))
        })
    }

    fn doubt(&self, record: &Record) -> Option<String> {
        report(record, |_, found| !found.is_empty())
    }
}

/// The first message with control text that counts as a fault.
fn report(record: &Record, is_fault: impl Fn(&str, &[(usize, &str)]) -> bool) -> Option<String> {
    record
        .messages
        .iter()
        .enumerate()
        .flat_map(|(at, message)| texts(message).map(move |text| (at, message.role, text)))
        .find_map(|(at, role, text)| {
            let found = all(text);
            let (_, first) = found.first()?;
            let what = match role {
                Role::Assistant => "the answer goes on into control text",
                Role::User => "the user's text holds control text",
                Role::System => "the system's text holds control text",
                Role::Tool => "a tool's text holds control text",
            };
            is_fault(text, &found).then(|| format!("{what} `{first}` (message {})", at + 1))
        })
        .or_else(|| {
            let rejected = record.rejected.as_ref()?;
            let found = all(rejected);
            let (_, first) = found.first()?;
            is_fault(rejected, &found).then(|| format!("the rejected answer holds control text `{first}`"))
        })
}

/// Whether a text is about control texts, or about things that look like them.
fn speaks_of(text: &str) -> bool {
    let mut bare = String::with_capacity(text.len());
    let mut end = 0;
    for (at, control) in all(text) {
        bare.push_str(&text[end..at]);
        bare.push('\u{2}');
        end = at + control.len();
    }
    bare.push_str(&text[end..]);
    SPEAKS_OF.is_match(&mask_quotes(&bare))
}

fn place(text: &str, at: usize, control: &str) -> Place {
    let (before, after) = (&text[..at], &text[at + control.len()..]);
    let in_code = before.matches("```").count() % 2 == 1
        || before.rsplit("```").next().unwrap_or(before).matches('`').count() % 2 == 1;
    let is_mark = |c: char| matches!(c, '"' | '\'' | '“' | '”' | '‘' | '’' | '«' | '»');
    let is_quoted = before.ends_with(is_mark) && after.starts_with(is_mark);
    // `Vec<s>`, and HTML's `<s>struck out</s>`. If a template wrote `<s>` at the start, more control text follows.
    let is_whole = before.trim().is_empty() && after.trim_end().ends_with("</s>");
    let is_element = match control {
        "<s>" => !is_whole && !after.trim_start().starts_with("[INST]"),
        "</s>" => before.rfind("<s>").is_some_and(|at| !before[..at].trim().is_empty()),
        _ => false,
    };
    if in_code || is_quoted || is_element { Place::Shown } else { Place::Bare }
}

/// Whether control text is where a template puts it: at the end of the text after a complete answer, or at the
/// beginning, followed by text as in a template.
fn is_rendered(text: &str, found: &[(usize, &str)]) -> bool {
    let ends = found.last().is_some_and(|(at, control)| {
        let before = text[..*at].trim_end();
        let is_last = text[at + control.len()..].trim().is_empty();
        let is_whole =
            before.ends_with(['.', '?', '!', '…', '"', '”', '>', ']']) || before.split_whitespace().count() == 1;
        is_last && is_whole && place(text, *at, control) == Place::Bare
    });
    let begins = found.first().is_some_and(|(at, control)| {
        let after = &text[at + control.len()..];
        let has_role = ["user\n", "assistant\n", "system\n", "model\n"].iter().any(|role| after.starts_with(role));
        text[..*at].trim().is_empty() && (ends || has_role || after.trim_start().starts_with("[INST]"))
    });
    ends || begins
}

/// The first control text in a text.
#[cfg(test)]
fn find(text: &str) -> Option<&str> {
    all(text).first().map(|(_, control)| *control)
}

/// The control texts in a text, each with its position.
fn all(text: &str) -> Vec<(usize, &str)> {
    let candidates = text.char_indices().filter(|(_, c)| matches!(c, '<' | '['));
    let control = |(at, _): (usize, char)| {
        let rest = &text[at..];
        let exact = EXACT.into_iter().find(|exact| rest.starts_with(exact));
        Some((at, exact.or_else(|| piped(rest))?))
    };
    candidates.filter_map(control).collect()
}

/// `<|name|>` at the start of a text, or DeepSeek's `<｜name｜>`.
fn piped(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("<|").or_else(|| text.strip_prefix("<｜"))?;
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '▁');
    let after = inner.trim_start_matches(is_name);
    let rest = after.strip_prefix("|>").or_else(|| after.strip_prefix("｜>"))?;
    let is_empty = inner.len() == after.len();
    (!is_empty).then(|| &text[..text.len() - rest.len()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use foehn_record::Message;

    #[test]
    fn control_texts_are_told_from_brackets() {
        for (text, found) in [
            ("Auditory<|im_end|>", Some("<|im_end|>")),
            ("ok </s> [INST]", Some("</s>")),
            ("[INST] hi", Some("[INST]")),
            ("a <｜end▁of▁sentence｜>", Some("<｜end▁of▁sentence｜>")),
            ("x <|> y and f <| x |> g", None),
            ("<span>[1] [a link]</span>", None),
            ("<||>", None),
        ] {
            assert_eq!(find(text), found, "{text}");
        }
    }

    #[test]
    fn what_a_template_leaves_is_told_from_what_is_spoken_of() {
        let verdict = |prompt: &str, answer: &str| {
            let messages = vec![Message::new(Role::User, prompt), Message::new(Role::Assistant, answer)];
            let record = Record::new(messages);
            (ControlText.check(&record).is_some(), ControlText.doubt(&record).is_some())
        };
        for (prompt, answer) in [
            ("Why?", "It rained.</s>"),
            ("Why?", "<s>It rained.</s>"),
            ("<s>[INST] Why? [/INST]", "It rained."),
            ("Why? [/INST]", "It rained."),
            ("What is a generic type in Rust?", "A type with a parameter.<|im_end|>"),
            ("<|im_start|>user\nWhat is a tag?", "A name in brackets."),
            ("Is this [/INST] so?", "Yes."),
        ] {
            assert!(verdict(prompt, answer).0, "{prompt} / {answer}");
        }
        for (prompt, answer) in [
            ("What does [INST] do?", "It begins what the user says."),
            ("How does a turn end?", "With `<|im_end|>`."),
            ("Strike out the price.", "It was <s>30</s> and is 20."),
            ("Which token ends a text?", "It is </s> there."),
            ("Name a list of type s.", "List<s> names"),
        ] {
            assert_eq!(verdict(prompt, answer), (false, true), "{prompt} / {answer}");
        }
        assert_eq!(verdict("Why?", "It rained."), (false, false));
    }
}
