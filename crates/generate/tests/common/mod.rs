//! A tiny random model with a byte-level tokenizer and a ChatML template, and the golden models.
#![allow(dead_code)] // Each test binary uses its own part.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use foehn_mistral::{Mistral, MistralConfig};
use foehn_tokens::{ChatTemplate, Tokenizer};
use foehn_weights::{Tensor, Weights, save_safetensors};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// The two control tokens after the 256 bytes.
pub const IM_START: u32 = 256;
pub const IM_END: u32 = 257;

/// One of the models under the workspace's `tests/golden/model`.
pub fn golden(name: &str) -> Mistral {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/model").join(name);
    load(&folder)
}

/// A model with tokenizer and template. A larger `scale` gives larger logits.
pub struct Tiny {
    pub model: Mistral,
    pub tokenizer: Arc<Tokenizer>,
    pub template: Arc<ChatTemplate>,
    _folder: tempfile::TempDir,
}

impl Tiny {
    pub fn new(seed: u64, scale: f32) -> Self {
        Self::with_head(seed, scale, scale)
    }

    /// With a separate scale for the weights of the head.
    pub fn with_head(seed: u64, scale: f32, head: f32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = write_config(folder.path());
        write_weights(folder.path(), &config, seed, [scale, head]);
        write_tokenizer(folder.path());
        let tokenizer = Arc::new(Tokenizer::open(folder.path()).unwrap());
        let template = Arc::new(ChatTemplate::jinja(CHATML, &tokenizer).unwrap());
        Self { model: load(folder.path()), tokenizer, template, _folder: folder }
    }
}

fn load(folder: &Path) -> Mistral {
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let weights = Weights::open(folder).unwrap();
    let config = Mistral::config_of(&weights, Some(&config)).unwrap();
    Mistral::load(&config, &weights, &Device::flex()).unwrap()
}

fn write_config(folder: &Path) -> MistralConfig {
    let text = r#"{"model_type": "mistral", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 258, "max_position_embeddings": 512,
        "sliding_window": null, "tie_word_embeddings": false, "eos_token_id": 257}"#;
    std::fs::write(folder.join("config.json"), text).unwrap();
    MistralConfig::from_json(text).unwrap()
}

fn write_weights(folder: &Path, config: &MistralConfig, seed: u64, [scale, head]: [f32; 2]) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (d_model, inner) = (config.hidden_size, config.intermediate_size);
    let keys = config.num_key_value_heads * config.head_dim;
    let mut shapes = vec![
        ("model.embed_tokens".to_owned(), vec![config.vocab_size, d_model]),
        ("lm_head".to_owned(), vec![config.vocab_size, d_model]),
        ("model.norm".to_owned(), vec![d_model]),
    ];
    for layer in 0..config.num_hidden_layers {
        for (part, shape) in [
            ("input_layernorm", vec![d_model]),
            ("post_attention_layernorm", vec![d_model]),
            ("self_attn.q_proj", vec![d_model, d_model]),
            ("self_attn.k_proj", vec![keys, d_model]),
            ("self_attn.v_proj", vec![keys, d_model]),
            ("self_attn.o_proj", vec![d_model, d_model]),
            ("mlp.gate_proj", vec![inner, d_model]),
            ("mlp.up_proj", vec![inner, d_model]),
            ("mlp.down_proj", vec![d_model, inner]),
        ] {
            shapes.push((format!("model.layers.{layer}.{part}"), shape));
        }
    }
    let tensors: Vec<Tensor<'_>> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let count = shape.iter().product();
            let is_norm = shape.len() == 1;
            let scale = if name == "lm_head" { head } else { scale };
            let mut value = || (rng.next_u32() as f32 / u32::MAX as f32 - 0.5) * scale;
            let values: Vec<f32> = (0..count).map(|_| if is_norm { 1.0 } else { value() }).collect();
            Tensor::f32(format!("{name}.weight"), shape, values)
        })
        .collect();
    save_safetensors(&folder.join("model.safetensors"), &tensors, &BTreeMap::new()).unwrap();
}

/// 256 bytes without merges, and ChatML's control tokens.
fn write_tokenizer(folder: &Path) {
    let vocab: Map<String, Value> = byte_alphabet().into_iter().map(|(id, c)| (c.to_string(), json!(id))).collect();
    let added = [(IM_START, "<|im_start|>"), (IM_END, "<|im_end|>")].map(|(id, content)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    });
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []},
    });
    let write = |name: &str, value: Value| {
        let path: PathBuf = folder.join(name);
        std::fs::write(path, value.to_string()).unwrap();
    };
    write("tokenizer.json", tokenizer);
    write("tokenizer_config.json", json!({"eos_token": "<|im_end|>"}));
}

/// GPT-2's printable stand-in for each byte; ids are the bytes.
fn byte_alphabet() -> Vec<(u32, char)> {
    let mut spare = 256..;
    (0..256u32)
        .map(|byte| {
            let printable = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
            let code = if printable { byte } else { spare.next().unwrap() };
            (byte, char::from_u32(code).unwrap())
        })
        .collect()
}
