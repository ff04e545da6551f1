//! Model families, scaled rotary frequencies and GGUFs, compared with transformers and PEFT.

mod common;

#[path = "../crates/weights/tests/common/mod.rs"]
mod files;

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use common::{Golden, devices, ids};
use foehn_finetune::{LossMean, Noise, clip_global_norm, gradients};
use foehn_lora::{Adapter, attach_trainable, detach};
use foehn_mistral::{KvCache, Mistral, MistralConfig};
use foehn_tokens::Sample;
use foehn_weights::Weights;
use serde_json::Value;

/// A run of a golden file: what a text's log-probabilities with an adapter are, and the norm of the adapter's gradient.
struct Run {
    text: Vec<u32>,
    log_probs: Vec<f64>,
    grad_norm: f64,
}

impl Run {
    fn new(run: &Value) -> Self {
        Self {
            text: ids(&run["input_ids"]),
            log_probs: numbers(&run["log_probs"]),
            grad_norm: run["grad_norm"].as_f64().unwrap(),
        }
    }

    fn check_log_probs(&self, at: &str, model: &Mistral) {
        let sample = Sample::from_text(self.text.clone()).unwrap();
        let found = foehn_score::log_probs(model, &[&sample], 1024).unwrap().remove(0);
        assert_eq!(found.len(), self.log_probs.len());
        for (place, (found, expected)) in found.iter().zip(&self.log_probs).enumerate() {
            assert!((f64::from(*found) - expected).abs() < 1e-4, "{at}, token {place}: {found} {expected}");
        }
    }

    /// The packed pass, the gradients with and without recomputation, and the cached pass.
    fn check(&self, at: &str, mut model: Mistral, adapter: &Adapter) {
        attach_trainable(&mut model, adapter).unwrap();
        self.check_log_probs(at, &model.valid());
        let sample = Sample::from_text(self.text.clone()).unwrap();
        for recompute in [false, true] {
            model.set_recompute(recompute);
            let computed = gradients(&mut model, &[&sample], 1024, Noise::default(), LossMean::Tokens);
            let (_, norm) = clip_global_norm(computed.gradients, None);
            assert!((norm / self.grad_norm - 1.0).abs() < 1e-4, "{at}: gradient norm {norm} {}", self.grad_norm);
        }
        let model = model.valid();
        let mut cache = KvCache::new(model.config(), 1, self.text.len(), &model.device());
        cache.set_exact(true);
        let (decoder, mut logits) = (model.decoder(), Vec::new());
        for (place, pair) in self.text.windows(2).enumerate() {
            decoder.next_logits(&pair[..1], &[1], &mut cache, &mut logits);
            let sum = logits.iter().map(|logit| f64::from(*logit).exp()).sum::<f64>().ln();
            let (found, expected) = (f64::from(logits[pair[1] as usize]) - sum, self.log_probs[place]);
            assert!((found - expected).abs() < 1e-4, "{at}, cached token {place}: {found} {expected}");
        }
    }
}

fn families() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/families")
}

fn open(folder: &Path, device: &Device) -> Mistral {
    let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let weights = Weights::open(folder).unwrap();
    let config = Mistral::config_of(&weights, Some(&text)).unwrap();
    Mistral::load(&config, &weights, device).unwrap()
}

/// Every family, with its biases, norms, windows, layers without rotation and factors, as checkpoints have them.
#[test]
fn families_equal_transformers() {
    let golden: Value = serde_json::from_str(include_str!("golden/families/families.json")).unwrap();
    for (device_name, device) in devices() {
        for (name, run) in golden["runs"].as_object().unwrap() {
            let (at, folder) = (format!("{device_name} {name}"), families().join(name));
            let adapter = Adapter::load(&folder.join("adapter")).unwrap();
            Run::new(run).check(&at, open(&folder, &device), &adapter);
        }
    }
}

/// A model that is written is the same network, under its own type; of a wrapper, the language model is written.
#[test]
fn families_are_written_as_they_are_read() {
    let golden: Value = serde_json::from_str(include_str!("golden/families/families.json")).unwrap();
    let device = foehn::device("flex").unwrap();
    for (name, run) in golden["runs"].as_object().unwrap() {
        let (folder, scratch) = (families().join(name), tempfile::tempdir().unwrap());
        let mut model = open(&folder, &device);
        model.save(scratch.path()).unwrap();
        let written = open(scratch.path(), &device);
        let expected = MistralConfig { is_wrapped: false, ..model.config().clone() };
        assert_eq!(written.config(), &expected, "{name}");

        // An adapter goes out and in again, under the names that PEFT gives its matrices.
        let adapter = Adapter::load(&folder.join("adapter")).unwrap();
        foehn_lora::attach(&mut model, &adapter).unwrap();
        let copy = scratch.path().join("adapter");
        detach(&mut model, &adapter.config).unwrap().save(&copy).unwrap();
        let [of_peft, ours] = [folder.join("adapter"), copy]
            .map(|folder| Weights::open(folder.join("adapter_model.safetensors")).unwrap());
        assert!(of_peft.names().eq(ours.names()), "{name}");
        foehn_lora::attach(&mut model, &adapter).unwrap();
        Run::new(run).check_log_probs(name, &model);
    }
}

/// With scaled rotary frequencies, the frequencies, the log-probabilities of a text longer than the original length and
/// the gradients of an adapter equal those of transformers on every device, and the cached pass equals the packed one.
#[test]
fn scaled_frequencies_equal_transformers() {
    let golden: Value = serde_json::from_str(include_str!("golden/rope.json")).unwrap();
    for (device_name, device) in devices() {
        let tiny = Golden::on("gqa", device);
        let adapter = Adapter::load(&tiny.folder.join("adapter_init")).unwrap();
        for (name, run) in golden["runs"].as_object().unwrap() {
            let at = format!("{device_name} {name}");
            let model = tiny.model_with(|config| {
                let mut rope = run["scaling"].clone();
                rope["rope_theta"] = 1e4.into();
                config["rope_parameters"] = rope;
            });
            for (found, expected) in model.config().rope().frequencies().iter().zip(numbers(&run["frequencies"])) {
                assert!((f64::from(*found) / expected - 1.0).abs() < 1e-5, "{at}: frequency {found} {expected}");
            }
            let written = model.config().to_json().to_string();
            assert_eq!(&MistralConfig::from_json(&written).unwrap(), model.config(), "{at}");

            Run::new(run).check(&at, model, &adapter);
        }
    }
}

/// The tiny model `gqa` as a GGUF, with the given metadata and further tensors of one dimension.
fn as_gguf(tiny: &Golden, more: &[Vec<u8>], vectors: &[(&str, Vec<f32>)]) -> Vec<u8> {
    let (config, weights) = (tiny.model().config().clone(), Weights::open(&tiny.folder).unwrap());
    let number = |key: &str, value: usize| files::pair(&format!("llama.{key}"), 4, &(value as u32).to_le_bytes());
    let float = |key: &str, value: f64| files::pair(&format!("llama.{key}"), 6, &(value as f32).to_le_bytes());
    let mut pairs = vec![
        files::pair("general.architecture", 8, &files::string("llama")),
        number("attention.head_count", config.num_attention_heads),
        number("attention.head_count_kv", config.num_key_value_heads),
        number("attention.key_length", config.head_dim),
        number("embedding_length", config.hidden_size),
        number("feed_forward_length", config.intermediate_size),
        number("block_count", config.num_hidden_layers),
        number("context_length", config.max_position_embeddings),
        float("rope.freq_base", config.rope_theta),
        float("attention.layer_norm_rms_epsilon", config.rms_norm_eps),
    ];
    pairs.extend(more.iter().cloned());
    let mut tensors: Vec<(String, Vec<u64>, Vec<f32>)> = Vec::new();
    for name in weights.names() {
        let (mut values, shape) = weights.load_f32(name).unwrap();
        let (head, width) = (config.head_dim, config.hidden_size);
        if name.contains("q_proj") || name.contains("k_proj") {
            // A pair of the rotation is two rows beside each other, and not half a head apart.
            let row = |row: usize| row / head * head + row % 2 * head / 2 + row % head / 2;
            values = (0..shape[0]).flat_map(|at| values[row(at) * width..][..width].to_vec()).collect();
        }
        let renamed = [
            ("model.embed_tokens", "token_embd"),
            ("model.norm", "output_norm"),
            ("lm_head", "output"),
            ("model.layers", "blk"),
            ("input_layernorm", "attn_norm"),
            ("post_attention_layernorm", "ffn_norm"),
            ("self_attn.q_proj", "attn_q"),
            ("self_attn.k_proj", "attn_k"),
            ("self_attn.v_proj", "attn_v"),
            ("self_attn.o_proj", "attn_output"),
            ("mlp.gate_proj", "ffn_gate"),
            ("mlp.up_proj", "ffn_up"),
            ("mlp.down_proj", "ffn_down"),
        ];
        let name = renamed.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to));
        tensors.push((name, shape.iter().rev().map(|size| *size as u64).collect(), values));
    }
    tensors.extend(vectors.iter().map(|(name, of)| ((*name).to_owned(), vec![of.len() as u64], of.clone())));
    let (mut data, mut listed) = (Vec::new(), Vec::new());
    for (name, dims, values) in &tensors {
        listed.push(files::GgufTensor(name, dims, 0, data.len() as u64));
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        data.resize(data.len().next_multiple_of(32), 0);
    }
    files::gguf(&pairs, &listed, &data)
}

/// A GGUF that scales the rotary frequencies by its metadata, or by divisors, computes what transformers does.
#[test]
fn scaled_frequencies_of_a_gguf_equal_transformers() {
    let golden: Value = serde_json::from_str(include_str!("golden/rope.json")).unwrap();
    let tiny = Golden::open("gqa");
    let adapter = Adapter::load(&tiny.folder.join("adapter_init")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let check = |run: &Value, bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let weights = Weights::open(&path).unwrap();
        let config = Mistral::config_of(&weights, None).unwrap();
        let mut model = Mistral::load(&config, &weights, &foehn::device("flex").unwrap()).unwrap();
        foehn_lora::attach(&mut model, &adapter).unwrap();
        Run::new(run).check_log_probs(&format!("{:?}", config.rope_scaling), &model);
    };
    let linear = files::pair("llama.rope.scaling.factor", 6, &4f32.to_le_bytes());
    check(&golden["runs"]["linear"], &as_gguf(&tiny, &[linear], &[]));

    let scaled = &golden["runs"]["llama3"];
    let plain = foehn_kernels::Rope::new(16, 1e4);
    let frequencies = scaled["frequencies"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32);
    let divisors: Vec<f32> =
        plain.frequencies().iter().zip(frequencies).map(|(plain, scaled)| plain / scaled).collect();
    check(scaled, &as_gguf(&tiny, &[], &[("rope_freqs.weight", divisors)]));
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}
