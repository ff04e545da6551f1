//! Mistral's own templates as Jinja, for programs that know no others.
//!
//! A version is these sources behind two settings: its number, and the text that stands where mistral-common's
//! tokenizer adds a space by itself. They render the text whose ids are those of the built-in template, provided that
//! no message spells a control token: a text can't tell the two apart. What a version has no form for is refused with
//! `raise_exception`.

use super::MistralVersion;

/// The order of the roles, and where the system prompt and the tools belong.
const ORDER: &str = include_str!("jinja/order.jinja");
/// V1, which is text but for the ends of its answers.
const V1: &str = include_str!("jinja/v1.jinja");
/// V2 and later.
const TURNS: &str = include_str!("jinja/turns.jinja");

/// The source of a version. With `spaced`, a space stands after each control token, for tokenizers that add none there.
pub(super) fn source(version: MistralVersion, spaced: bool) -> String {
    let space = if spaced { " " } else { "" };
    let head = format!("{{#- {}, as mistral-common 1.13.1 renders it. -#}}", version.name());
    let settings = format!("{{%- set version = {} -%}}\n{{%- set space = '{space}' -%}}", version.number());
    let turns = if version == MistralVersion::V1 { V1 } else { TURNS };
    [&head, &settings, ORDER.trim_end(), turns.trim_end()].join("\n")
}
