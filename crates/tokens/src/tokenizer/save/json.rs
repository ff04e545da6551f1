//! A `tokenizer.json` made from a vocabulary and merges that came from another kind of file.
//!
//! Source: <https://huggingface.co/docs/tokenizers>; fields as `tokenizers` 0.23 writes them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::tokenizer::bpe::BpeFile;

pub(super) fn tokenizer_json(parts: &BpeFile) -> Value {
    let vocab: Map<String, Value> = parts.tokens.iter().map(|(id, text)| (text.clone(), json!(id))).collect();
    let merges: Vec<Value> = parts.merges.iter().map(|(left, right)| json!([left, right])).collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(parts),
        "normalizer": parts.normalizer,
        "pre_tokenizer": parts.pre_tokenizer,
        "post_processor": post_processor(parts),
        "decoder": decoder(parts),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": !parts.byte_level,
            "byte_fallback": !parts.byte_level,
            "ignore_merges": parts.ignore_merges,
            "vocab": vocab,
            "merges": merges,
        },
    })
}

/// The control tokens by id, then the text tokens that are matched as a whole, in their order.
fn added_tokens(parts: &BpeFile) -> Vec<Value> {
    let by_id: BTreeMap<u32, &str> = parts.tokens.iter().map(|(id, text)| (*id, text.as_str())).collect();
    let by_text: BTreeMap<&str, u32> = by_id.iter().map(|(id, text)| (*text, *id)).collect();
    let control = parts.control.iter().map(|(id, strips)| {
        json!({
            "id": id, "content": by_id.get(id), "single_word": false, "lstrip": strips.before, "rstrip": strips.after,
            "normalized": false, "special": true,
        })
    });
    let added = parts.added.iter().map(|token| {
        json!({
            "id": by_text.get(token.content.as_str()), "content": token.content, "single_word": token.single_word,
            "lstrip": token.lstrip, "rstrip": token.rstrip, "normalized": token.normalized, "special": false,
        })
    });
    control.chain(added).collect()
}

/// A post-processor that adds the bos before a text, if the tokenizer does so.
fn post_processor(parts: &BpeFile) -> Value {
    let Some((id, bos)) = bos(parts).filter(|_| parts.specials.add_bos) else { return Value::Null };
    let special = |type_id: u32| json!({"SpecialToken": {"id": bos, "type_id": type_id}});
    let sequence = |name: &str, type_id: u32| json!({"Sequence": {"id": name, "type_id": type_id}});
    json!({
        "type": "TemplateProcessing",
        "single": [special(0), sequence("A", 0)],
        "pair": [special(0), sequence("A", 0), special(1), sequence("B", 1)],
        "special_tokens": {bos: {"id": bos, "ids": [id], "tokens": [bos]}},
    })
}

fn decoder(parts: &BpeFile) -> Value {
    let mut steps = match parts.byte_level {
        true => vec![json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})],
        false => vec![
            json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ],
    };
    if parts.drops_first_space {
        steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": steps})
}

fn bos(parts: &BpeFile) -> Option<(u32, &str)> {
    let id = parts.specials.bos?;
    Some((id, text_of(parts, id)?))
}

fn text_of(parts: &BpeFile, id: u32) -> Option<&str> {
    parts.tokens.iter().find(|(other, _)| *other == id).map(|(_, text)| text.as_str())
}
