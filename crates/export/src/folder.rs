//! A merged model as a folder in Hugging Face's layout.

use std::fs;
use std::path::Path;

use foehn_mistral::RowOrder;
use foehn_tokens::{ChatTemplate, Tokenizer};
use foehn_weights::{DType, TensorData, TensorSpec, save_sharded};
use serde_json::{Map, Value};

use crate::{Card, Error, Merged, Result};

const CONFIG: &str = "config.json";
const GENERATION_CONFIG: &str = "generation_config.json";

/// What a folder holds besides the weights.
#[derive(Debug)]
pub struct Folder<'a> {
    /// The float type of the weights: F32, F16 or BF16.
    pub dtype: DType,
    /// The largest number of bytes of one file of weights, unless one tensor is larger.
    pub shard_bytes: u64,
    /// The text of the base's `config.json`, if it has one.
    pub config_json: Option<&'a str>,
    /// The tokenizer and the chat template, if the folder is to have them.
    pub text: Option<(&'a Tokenizer, &'a ChatTemplate)>,
    /// How answers are decoded: keys that replace those of the base's `generation_config.json`.
    pub generation: Map<String, Value>,
    /// What the model is made of: `README.md`.
    pub card: Card,
}

/// Writes a merged model into a folder, as transformers and vLLM read it, tensor by tensor. The folder should be a new one: see
/// `DraftFolder` of `foehn-files`. `progress` gets the numbers of tensors that are written and of all.
///
/// The names of the tensors and the fields of the config are the base's own, if it came with a `config.json` of Hugging Face's; so
/// are the tensors of a vision model beside the language model. The settings of a quantisation are left out of the config,
/// since the weights are not quantised any more.
///
/// # Errors
/// [`Error`].
pub fn save_folder(
    folder: &Path,
    merged: &Merged<'_>,
    content: &Folder<'_>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<()> {
    fs::create_dir_all(folder).map_err(|source| Error::File { path: folder.to_owned(), source })?;
    let specs = specs(merged, content.dtype);
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let written: Vec<TensorSpec> = specs.iter().map(|(_, spec)| spec.clone()).collect();
    let (mut done, total) = (0, specs.len());
    save_sharded(folder, &written, &metadata, content.shard_bytes, |spec| {
        progress(done, total);
        done += 1;
        if done == total {
            progress(done, total);
        }
        let ours = specs.iter().find(|(_, other)| other.name == spec.name).and_then(|(name, _)| name.as_deref());
        match ours {
            Some(name) => merged.tensor(name, &spec.shape, spec.dtype, RowOrder::HalfSplit),
            None => Ok::<_, Error>(TensorData::Values(merged.checkpoint().weights().load_f32(&spec.name)?.0.into())),
        }
    })?;
    write(folder, CONFIG, &config(merged, content)?)?;
    if let Some((tokenizer, template)) = content.text {
        tokenizer.save(template, folder)?;
    }
    if !content.generation.is_empty() {
        let path = folder.join(GENERATION_CONFIG);
        let mut keys = match foehn_files::read_to_string(&path, foehn_files::MAX_TEXT) {
            Ok(text) => object(&text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Map::new(),
            Err(source) => return Err(Error::File { path, source }),
        };
        keys.extend(content.generation.clone());
        write(folder, GENERATION_CONFIG, &Value::Object(keys))?;
    }
    let path = folder.join("README.md");
    foehn_files::write(&path, content.card.to_string().as_bytes()).map_err(|source| Error::File { path, source })
}

/// The tensors of the folder, those of the network with Hugging Face's name.
fn specs(merged: &Merged<'_>, dtype: DType) -> Vec<(Option<String>, TensorSpec)> {
    let checkpoint = merged.checkpoint();
    let named = checkpoint.tensors().into_iter().map(|(name, shape)| {
        let stored = if checkpoint.has_hugging_face_names() { checkpoint.stored_name(&name) } else { name.clone() };
        (Some(name), TensorSpec { name: stored, shape, dtype })
    });
    let weights = checkpoint.weights();
    let is_beside = |name: &&str| checkpoint.has_hugging_face_names() && weights.scaled_by(name).is_none();
    let vision = checkpoint.vision_tensors().filter(is_beside).filter_map(|name| {
        let info = weights.info(name)?;
        // These are not touched: their float type stays.
        let dtype = if info.dtype.block_elements() == 1 && info.dtype != DType::F8E4M3 { info.dtype } else { dtype };
        Some((None, TensorSpec { name: name.to_owned(), shape: info.shape.clone(), dtype }))
    });
    named.chain(vision).collect()
}

/// The base's own config, as it came, but for what is no longer so.
fn config(merged: &Merged<'_>, content: &Folder<'_>) -> Result<Value> {
    let dtype = match content.dtype {
        DType::F16 => "float16",
        DType::BF16 => "bfloat16",
        _ => "float32",
    };
    let own = content.config_json.filter(|_| merged.checkpoint().has_hugging_face_names());
    let mut config = match own {
        Some(text) => object(text)?,
        None => match merged.config().to_json()? {
            Value::Object(config) => config,
            _ => Map::new(),
        },
    };
    config.remove("quantization_config");
    let is_tied = merged.config().tie_word_embeddings;
    let text = config.get_mut("text_config").and_then(Value::as_object_mut);
    let untied = |map: &mut Map<String, Value>| {
        if !is_tied && map.get("tie_word_embeddings").is_none_or(|tied| tied == &Value::Bool(true)) {
            map.insert("tie_word_embeddings".to_owned(), false.into());
        }
        for key in ["dtype", "torch_dtype"] {
            map.entry(key).and_modify(|value| *value = dtype.into());
        }
    };
    text.into_iter().for_each(untied);
    untied(&mut config);
    if !config.contains_key("dtype") && !config.contains_key("torch_dtype") {
        config.insert("torch_dtype".to_owned(), dtype.into());
    }
    Ok(Value::Object(config))
}

fn object(text: &str) -> Result<Map<String, Value>> {
    serde_json::from_str(text).map_err(|source| Error::Config { source })
}

fn write(folder: &Path, name: &str, value: &Value) -> Result<()> {
    let path = folder.join(name);
    foehn_files::write(&path, format!("{value:#}\n").as_bytes()).map_err(|source| Error::File { path, source })
}
