//! What a tokenizer's files say besides what determines ids. It is kept to be written again.

use foehn_weights::{Gguf, GgufValue};

use crate::Result;

/// Keys that are made anew from the tokenizer and its template.
const MADE: [&str; 14] = [
    "tokenizer.chat_template",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.merges",
    "tokenizer.ggml.model",
    "tokenizer.ggml.padding_token_id",
    "tokenizer.ggml.scores",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.unknown_token_id",
];

/// Further tokens with a role, and settings that other programs read.
#[derive(Clone, Debug, Default)]
pub(super) struct Extras {
    pub unknown: Option<u32>,
    pub padding: Option<u32>,
    /// The longest sequence of the model; only from a GGUF file, which has the model's config too.
    pub context_length: Option<u32>,
    /// The other keys `tokenizer.*` of a GGUF file.
    pub gguf: Vec<(String, GgufValue)>,
}

impl Extras {
    /// Those of a GGUF file.
    pub fn of_gguf(gguf: &Gguf) -> Result<Self> {
        let mut kept = Vec::new();
        let others = gguf.keys().filter(|key| key.starts_with("tokenizer.") && !MADE.contains(key));
        for key in others {
            kept.extend(gguf.value(key)?.map(|value| (key.to_owned(), value)));
        }
        let context_length = match gguf.get_str("general.architecture")? {
            Some(architecture) => gguf.get_u32(&format!("{architecture}.context_length"))?,
            None => None,
        };
        Ok(Self {
            unknown: gguf.get_u32("tokenizer.ggml.unknown_token_id")?,
            padding: gguf.get_u32("tokenizer.ggml.padding_token_id")?,
            context_length,
            gguf: kept,
        })
    }
}
