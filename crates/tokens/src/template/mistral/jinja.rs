//! Mistral's own templates as Jinja, for programs that know no others.
//!
//! A version is these sources behind a few settings: its number, the text that stands where mistral-common's tokenizer adds
//! a space by itself, and what the tokenizer has control tokens for. They render the text whose ids are those of the built-in template, provided that
//! no message spells a control token: a text can't tell the two apart. What a version has no form for is refused with
//! `raise_exception`.

use super::MistralVersion;
use crate::Tokenizer;

/// The order of the roles, and where the system prompt and the tools belong.
const ORDER: &str = include_str!("jinja/order.jinja");
/// V1, which is text but for the ends of its answers.
const V1: &str = include_str!("jinja/v1.jinja");
/// V2 and later.
const TURNS: &str = include_str!("jinja/turns.jinja");

/// The control tokens for tools that each version from V2 on needs.
const TOOLS: [&str; 5] =
    ["[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"];

/// The source of a version. With `spaced`, a space stands after each control token, for tokenizers that add none there.
pub(super) fn source(version: MistralVersion, tokenizer: &Tokenizer, spaced: bool) -> String {
    let space = if spaced { " " } else { "" };
    let head = format!("{{#- {}, as mistral-common 1.13.1 renders it. -#}}", version.name());
    let has = |texts: &[&str]| texts.iter().all(|text| tokenizer.control(text).is_some());
    let later: &[&str] = match version {
        MistralVersion::V1 | MistralVersion::V2 | MistralVersion::V3 => &[],
        MistralVersion::V7 => &["[TOOL_CONTENT]"],
        MistralVersion::V11 => &["[TOOL_CONTENT]", "[CALL_ID]", "[ARGS]"],
        MistralVersion::V13 => &["[ARGS]"],
    };
    let settings = [
        ("version", version.number().to_string()),
        ("space", format!("'{space}'")),
        ("has_tools", (has(&TOOLS) && has(later)).to_string()),
        ("has_reasoning", (version >= MistralVersion::V13 && has(&["[THINK]", "[/THINK]"])).to_string()),
    ];
    let settings = settings.map(|(name, value)| format!("{{%- set {name} = {value} -%}}")).join("\n");
    let turns = if version == MistralVersion::V1 { V1 } else { TURNS };
    [&head, &settings, ORDER.trim_end(), turns.trim_end()].join("\n")
}
