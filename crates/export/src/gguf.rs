//! A merged model as a GGUF file.

use std::path::Path;

use foehn_mistral::{RowOrder, gguf_name};
use foehn_tokens::{ChatTemplate, Tokenizer};
use foehn_weights::{DType, GgufValue, TensorData, TensorSpec, save_gguf_with};

use crate::{Error, Merged, Mix, Result};

/// The tensor that divides the rotary frequencies: Llama 3's scaling.
const ROPE_FREQS: &str = "rope_freqs.weight";

/// Keys under `general.` that the file gets anew.
const OWN: [&str; 5] =
    ["general.architecture", "general.type", "general.file_type", "general.quantization_version", "general.alignment"];

/// Writes a merged model as a GGUF file, atomically, tensor by tensor. `notes` are further keys of the metadata, such as
/// `general.name`; they replace keys of a base that is a GGUF itself, whose other keys under `general.` are kept.
/// Without `text`, the file has no tokenizer. `progress` gets the numbers of tensors that are written and of all.
///
/// # Errors
/// [`Error`]; an old file is then still there.
pub fn save_gguf(
    path: &Path,
    merged: &Merged<'_>,
    mix: Mix,
    text: Option<(&Tokenizer, &ChatTemplate)>,
    notes: &[(String, GgufValue)],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<()> {
    let config = merged.config();
    let metadata = metadata(merged, mix, text, notes)?;
    let order = if config.is_interleaved_in_gguf() { RowOrder::Interleaved } else { RowOrder::HalfSplit };
    let (mut specs, mut names) = (Vec::new(), Vec::new());
    let divisors = config.gguf_divisors();
    if let Some(divisors) = &divisors {
        specs.push(TensorSpec { name: ROPE_FREQS.to_owned(), shape: vec![divisors.len()], dtype: DType::F32 });
        names.push(String::new());
    }
    for (name, shape) in merged.checkpoint().tensors() {
        let dtype = mix.dtype(&name, &shape, config.tie_word_embeddings, config.num_hidden_layers);
        specs.push(TensorSpec { name: gguf_name(&name), shape, dtype });
        names.push(name);
    }
    let (total, mut names, mut done) = (specs.len(), names.into_iter(), 0);
    save_gguf_with(path, &metadata, &specs, |spec| {
        progress(done, total);
        done += 1;
        if done == total {
            progress(done, total);
        }
        match names.next().filter(|name| !name.is_empty()) {
            Some(name) => merged.tensor(&name, &spec.shape, spec.dtype, order),
            None => Ok::<_, Error>(TensorData::Values(divisors.clone().unwrap_or_default().into())),
        }
    })
}

fn metadata(
    merged: &Merged<'_>,
    mix: Mix,
    text: Option<(&Tokenizer, &ChatTemplate)>,
    notes: &[(String, GgufValue)],
) -> Result<Vec<(String, GgufValue)>> {
    let mut keys = merged.config().gguf_metadata()?;
    keys.push(("general.type".to_owned(), "model".into()));
    keys.extend_from_slice(notes);
    if let Some(gguf) = merged.checkpoint().weights().gguf() {
        let is_new = |key: &&str| !OWN.contains(key) && !notes.iter().any(|(name, _)| name == key);
        for key in gguf.keys().filter(|key| key.starts_with("general.")).filter(is_new) {
            keys.extend(gguf.value(key)?.map(|value| (key.to_owned(), value)));
        }
    }
    keys.push(("general.file_type".to_owned(), mix.file_type().into()));
    if mix.is_quantised() {
        keys.push(("general.quantization_version".to_owned(), 2u32.into()));
    }
    match text {
        Some((tokenizer, template)) => keys.extend(tokenizer.gguf_metadata(template, merged.config().vocab_size)?),
        None => keys.push(("tokenizer.ggml.model".to_owned(), "none".into())),
    }
    Ok(keys)
}
