//! The names of llama.cpp's pre-tokenizers, and what they stand for.

use serde_json::{Value, json};

/// The patterns that split text before merging, for pre-tokenizers with another pattern than GPT-2's.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The pre-tokenizer with this name, and whether the vocabulary comes from tiktoken. With such a vocabulary, merges are
/// skipped for whole words, and a bos is added by default.
pub(super) fn pre_tokenizer(name: &str) -> Option<(Value, bool)> {
    let bytes = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let split = |pattern: &str| {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            bytes(false),
        ]})
    };
    Some(match name {
        "gpt-2" => (bytes(true), false),
        "smollm" | "starcoder" => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            (json!({"type": "Sequence", "pretokenizers": [digits, bytes(true)]}), false)
        }
        "tekken" => (split(TEKKEN), true),
        "llama-bpe" | "llama3" | "llama-v3" => (split(LLAMA3), true),
        "qwen2" => (split(QWEN2), false),
        _ => return None,
    })
}

/// The names to write, each for one way to split.
const NAMES: [&str; 5] = ["gpt-2", "smollm", "tekken", "llama-bpe", "qwen2"];

/// A step of a byte-level pre-tokenizer.
#[derive(Debug, PartialEq)]
enum Step<'a> {
    Digits,
    Split(&'a str),
    /// GPT-2's alphabet, after its pattern or without.
    Bytes(bool),
}

/// The name of a pre-tokenizer, and whether llama.cpp skips merges for whole words with it.
pub(super) fn name_of(rule: &Value) -> Option<(&'static str, bool)> {
    let wanted = steps(rule)?;
    let same = |name: &&&'static str| {
        pre_tokenizer(name).is_some_and(|(rule, _)| steps(&rule).is_some_and(|steps| steps == wanted))
    };
    let name = NAMES.iter().find(same)?;
    Some((name, pre_tokenizer(name)?.1))
}

/// The steps of a rule; `None` if one of them is unknown here.
fn steps(rule: &Value) -> Option<Vec<Step<'_>>> {
    let text = |field: &str| rule.get(field).and_then(Value::as_str);
    let truth = |field: &str| rule.get(field).and_then(Value::as_bool);
    match text("type")? {
        "Sequence" => {
            let parts = rule.get("pretokenizers")?.as_array()?.iter().map(steps);
            Some(parts.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
        }
        "Digits" if truth("individual_digits") == Some(true) => Some(vec![Step::Digits]),
        "ByteLevel" if truth("add_prefix_space") == Some(false) => {
            Some(vec![Step::Bytes(truth("use_regex").unwrap_or(true))])
        }
        "Split" if text("behavior") == Some("Isolated") && truth("invert") == Some(false) => {
            Some(vec![Step::Split(rule.get("pattern")?.get("Regex")?.as_str()?)])
        }
        _ => None,
    }
}
