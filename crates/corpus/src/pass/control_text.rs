//! Words of a chat template that were left in a text.

use super::Pass;
use foehn_record::{Record, Role};

/// Rejects a record with the control text of a chat template in a message: `<|im_start|>`, `[INST]`, `</s>` and their like.
///
/// In an assistant's message it would teach the model to write it; in a user's it says that the record was cut out of a
/// rendered conversation at the wrong place. Encoding it is harmless (`tokens` never makes a control token of text).
#[derive(Clone, Copy, Debug, Default)]
pub struct ControlText;

/// The control texts of the Mistral, Llama and Gemma families that are not of the form `<|…|>`.
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

impl Pass for ControlText {
    fn name(&self) -> &'static str {
        "control-text"
    }

    fn check(&self, record: &Record) -> Option<String> {
        record.messages.iter().enumerate().find_map(|(at, message)| {
            let found = find(&message.content)?;
            let what = match message.role {
                Role::Assistant => "the answer goes on into control text",
                Role::User => "the user's text holds control text",
                Role::System => "the system's text holds control text",
            };
            Some(format!("{what} `{found}` (message {})", at + 1))
        })
    }
}

/// The first control text in a text.
fn find(text: &str) -> Option<&str> {
    let candidates = text.char_indices().filter(|(_, c)| matches!(c, '<' | '['));
    candidates.map(|(at, _)| &text[at..]).find_map(|rest| {
        let exact = EXACT.into_iter().find(|exact| rest.starts_with(exact));
        exact.or_else(|| piped(rest))
    })
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
}
