//! Post-processors and decoders. Foehn has its own, so those of a file are only checked: one with another effect is
//! refused.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;

use crate::Result;

use super::{PatternText, Place, flatten};

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
#[expect(dead_code, reason = "the fields are named so that others are refused")]
enum PostProcessor {
    Sequence { processors: Vec<Value> },
    ByteLevel { add_prefix_space: bool, trim_offsets: bool, use_regex: Option<bool> },
    TemplateProcessing { single: Vec<Piece>, pair: Vec<Piece>, special_tokens: BTreeMap<String, SpecialToken> },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the fields are named so that others are refused")]
enum Piece {
    Sequence { id: String, type_id: u32 },
    SpecialToken { id: String, type_id: u32 },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the fields are named so that others are refused")]
struct SpecialToken {
    id: String,
    ids: Vec<u32>,
    tokens: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
#[expect(dead_code, reason = "the fields are named so that others are refused")]
enum Decoder {
    Sequence {
        decoders: Vec<Value>,
    },
    ByteLevel {
        add_prefix_space: bool,
        trim_offsets: bool,
        use_regex: Option<bool>,
    },
    Metaspace {
        replacement: char,
        add_prefix_space: Option<bool>,
        prepend_scheme: Option<PrependScheme>,
        split: Option<bool>,
        str_rep: Option<String>,
    },
    Replace {
        pattern: PatternText,
        content: String,
    },
    Strip {
        content: char,
        start: usize,
        stop: usize,
    },
    ByteFallback {},
    Fuse {},
}

/// Refuses a post-processor that does more than adding special tokens around a text.
pub(crate) fn check_post_processor(file: &Path, rule: &Value) -> Result<()> {
    if rule.is_null() {
        return Ok(());
    }
    let place = Place { file, name: "post_processor".to_owned() };
    flatten(place, rule, &|place, rule| {
        Ok(match place.settings::<PostProcessor>(rule)? {
            PostProcessor::Sequence { processors } => Some(("processors", processors)),
            _ => None,
        })
    })?;
    Ok(())
}

/// Refuses a decoder whose text is not the tokens' own bytes, without the first space.
pub(crate) fn check_decoder(file: &Path, rule: &Value) -> Result<()> {
    if rule.is_null() {
        return Ok(());
    }
    let place = Place { file, name: "decoder".to_owned() };
    flatten(place, rule, &|place, rule| {
        let other = match place.settings(rule)? {
            Decoder::Sequence { decoders } => return Ok(Some(("decoders", decoders))),
            Decoder::Replace { pattern: PatternText::String(pattern), content } => {
                (pattern, content) != ("▁".into(), " ".into())
            }
            Decoder::Replace { .. } => true,
            Decoder::Strip { content, start, stop } => content != ' ' || start > 1 || stop > 0,
            Decoder::Metaspace { replacement, .. } => replacement != '▁',
            Decoder::ByteLevel { .. } | Decoder::ByteFallback {} | Decoder::Fuse {} => false,
        };
        match other {
            true => Err(place.bad("it gives other text than ▁ for a space and one space less at the start")),
            false => Ok(None),
        }
    })?;
    Ok(())
}
