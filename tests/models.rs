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
            // Where nothing is trained, there is none.
            grad_norm: run["grad_norm"].as_f64().unwrap_or(f64::NAN),
        }
    }

    fn check_log_probs(&self, at: &str, model: &Mistral) {
        self.check_within(1e-4, at, model);
    }

    fn check_within(&self, limit: f64, at: &str, model: &Mistral) {
        let sample = Sample::from_text(self.text.clone()).unwrap();
        let found = foehn_score::log_probs(model, &[&sample], 1024).unwrap().remove(0);
        assert_eq!(found.len(), self.log_probs.len());
        for (place, (found, expected)) in found.iter().zip(&self.log_probs).enumerate() {
            assert!((f64::from(*found) - expected).abs() < limit, "{at}, token {place}: {found} {expected}");
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
            let written = model.config().to_json().unwrap().to_string();
            assert_eq!(&MistralConfig::from_json(&written).unwrap(), model.config(), "{at}");

            Run::new(run).check(&at, model, &adapter);
        }
    }
}

/// The rows of a matrix in the order that has a pair of the rotation beside each other, and not half a head apart.
fn interleaved(values: &[f32], width: usize, head: usize) -> Vec<f32> {
    let row = |row: usize| row / head * head + row % 2 * head / 2 + row % head / 2;
    (0..values.len() / width).flat_map(|at| values[row(at) * width..][..width].to_vec()).collect()
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
            values = interleaved(&values, width, head);
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

/// The GGUF of a family is what llama.cpp computes from it. Its kernels sum in another order.
#[test]
fn ggufs_equal_llama_cpp() {
    let golden: Value = serde_json::from_str(include_str!("golden/families/gguf/gguf.json")).unwrap();
    for (device_name, device) in devices() {
        for (name, run) in golden["runs"].as_object().unwrap() {
            let weights = Weights::open(families().join(format!("gguf/{name}.gguf"))).unwrap();
            let config = Mistral::config_of(&weights, None).unwrap();
            let of_json = open(&families().join(name), &device).config().clone();
            assert_eq!(config.model_type, of_json.model_type, "{name}");
            assert_eq!(config.layers_without_rope, of_json.layers_without_rope, "{name}");
            let model = Mistral::load(&config, &weights, &device).unwrap();
            Run::new(run).check_within(2e-3, &format!("{device_name} {name}"), &model);
        }
    }
}

/// A checkpoint under Mistral's own names, whose rows of q and k are interleaved, is the same network: the golden one of
/// transformers, renamed and permuted as Mistral's inference code has it.
#[test]
fn native_checkpoints_equal_transformers() {
    let golden: Value = serde_json::from_str(include_str!("golden/families/families.json")).unwrap();
    let device = foehn::device("flex").unwrap();
    let renamed = [
        ("model.embed_tokens", "tok_embeddings"),
        ("lm_head", "output"),
        ("model.norm", "norm"),
        ("model.layers", "layers"),
        ("input_layernorm", "attention_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_proj", "attention.wq"),
        ("self_attn.k_proj", "attention.wk"),
        ("self_attn.v_proj", "attention.wv"),
        ("self_attn.o_proj", "attention.wo"),
        ("mlp.gate_proj", "feed_forward.w1"),
        ("mlp.down_proj", "feed_forward.w2"),
        ("mlp.up_proj", "feed_forward.w3"),
    ];
    let folder = families().join("ministral3");
    let weights = Weights::open(&folder).unwrap();
    let mut tensors = Vec::new();
    for name in weights.names() {
        let (values, shape) = weights.load_f32(name).unwrap();
        let is_rotated = name.contains("q_proj") || name.contains("k_proj");
        let values = if is_rotated { interleaved(&values, shape[1], 8) } else { values };
        let name = renamed.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to));
        tensors.push(foehn_weights::Tensor::f32(name, shape, values));
    }
    let vision = foehn_weights::Tensor::f32("vision_encoder.ln_pre.weight".to_owned(), vec![2], vec![1.0, 1.0]);
    tensors.push(vision);
    let scratch = tempfile::tempdir().unwrap();
    let params = serde_json::json!({
        "dim": 16, "n_layers": 4, "head_dim": 8, "hidden_dim": 24, "n_heads": 4, "n_kv_heads": 2, "norm_eps": 1e-5,
        "vocab_size": 48, "rope_theta": 1e4, "use_biases": false, "causal": true, "vision_encoder": {"hidden_size": 2},
        "yarn": {
            "original_max_position_embeddings": 16, "factor": 16.0, "apply_scale": false, "beta": 4.0, "alpha": 0.5
        },
        "llama_4_scaling": {"original_max_position_embeddings": 16, "beta": 0.1}
    });
    let path = scratch.path().join("consolidated.safetensors");
    foehn_weights::save_safetensors(&path, &tensors, &Default::default()).unwrap();
    let native = Weights::open(scratch.path()).unwrap();
    let config = Mistral::config_of(&native, Some(&params.to_string())).unwrap();
    let model = Mistral::load(&config, &native, &device).unwrap();
    let adapter = Adapter::load(&folder.join("adapter")).unwrap();
    Run::new(&golden["runs"]["ministral3"]).check("native", model, &adapter);

    // The adapter as mistral-finetune writes it: only the rows of B are permuted. Its scale is in `params.json`.
    let of_peft = Weights::open(folder.join("adapter/adapter_model.safetensors")).unwrap();
    let mut tensors = Vec::new();
    for name in of_peft.names() {
        let (values, shape) = of_peft.load_f32(name).unwrap();
        let is_rotated = name.contains("lora_B") && (name.contains("q_proj") || name.contains("k_proj"));
        let values = if is_rotated { interleaved(&values, shape[1], 8) } else { values };
        let name =
            renamed.iter().fold(name.replace("base_model.model.", ""), |name, (from, to)| name.replace(from, to));
        tensors.push(foehn_weights::Tensor::f32(name, shape, values));
    }
    foehn_weights::save_safetensors(&scratch.path().join("lora.safetensors"), &tensors, &Default::default()).unwrap();
    let mut with_lora = params.clone();
    with_lora["lora"] = serde_json::json!({"enable": true, "rank": 2, "dropout": 0.0, "scaling": 1.5});
    std::fs::write(scratch.path().join("params.json"), with_lora.to_string()).unwrap();
    let adapter = Adapter::load(scratch.path()).unwrap();
    let model = Mistral::load(&config, &native, &device).unwrap();
    Run::new(&golden["runs"]["ministral3"]).check("native adapter", model, &adapter);
    with_lora["lora"]["rank"] = 3.into();
    std::fs::write(scratch.path().join("params.json"), with_lora.to_string()).unwrap();
    let said = Adapter::load(scratch.path()).unwrap_err().to_string();
    assert!(said.contains("lora.rank"), "{said}");

    let mut moe = params;
    moe["moe"] = serde_json::json!({"num_experts": 8});
    assert!(MistralConfig::from_json(&moe.to_string()).unwrap_err().to_string().contains("moe"));
}
