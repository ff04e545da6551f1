//! What is written for other programs is what transformers, PEFT and llama.cpp would compute: the written files are read back and
//! compared with their log-probabilities.

mod common;

use std::path::{Path, PathBuf};

use foehn::export::{Card, Folder, Merged, Mix, save_folder, save_gguf};
use foehn_lora::{Adapter, attach};
use foehn_mistral::{Checkpoint, Error, Mistral};
use foehn_tokens::Sample;
use foehn_weights::{DType, Weights};
use serde_json::{Map, Value};

/// A tiny checkpoint of a family with an adapter that PEFT trained, and the log-probabilities that transformers computes with it.
struct Family {
    folder: PathBuf,
    config_json: String,
    adapter: Adapter,
    text: Vec<u32>,
    log_probs: Vec<f64>,
}

fn families() -> impl Iterator<Item = (String, Family)> {
    let golden: Value = serde_json::from_str(include_str!("golden/families/families.json")).unwrap();
    golden["runs"].as_object().unwrap().clone().into_iter().map(|(name, run)| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/families").join(&name);
        let log_probs = run["log_probs"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
        let family = Family {
            config_json: std::fs::read_to_string(folder.join("config.json")).unwrap(),
            adapter: Adapter::load(&folder.join("adapter")).unwrap(),
            text: common::ids(&run["input_ids"]),
            log_probs,
            folder,
        };
        (name, family)
    })
}

impl Family {
    fn check(&self, at: &str, model: &Mistral, within: f64) {
        let sample = Sample::from_text(self.text.clone()).unwrap();
        let found = foehn_score::log_probs(model, &[&sample], 1024).unwrap().remove(0);
        assert_eq!(found.len(), self.log_probs.len());
        for (place, (found, expected)) in found.iter().zip(&self.log_probs).enumerate() {
            assert!((f64::from(*found) - expected).abs() < within, "{at}, token {place}: {found} {expected}");
        }
    }

    fn with_merged(&self, act: impl FnOnce(Merged<'_>)) {
        let weights = Weights::open(&self.folder).unwrap();
        let config = Mistral::config_of(&weights, Some(&self.config_json)).unwrap();
        act(Merged::new(Checkpoint::new(&config, &weights).unwrap(), Some(&self.adapter)).unwrap());
    }
}

fn load(path: &Path, config_json: Option<&str>) -> Mistral {
    let weights = Weights::open(path).unwrap();
    let config = Mistral::config_of(&weights, config_json).unwrap();
    Mistral::load(&config, &weights, &foehn::device("flex").unwrap()).unwrap()
}

fn content(family: &Family, dtype: DType, shard_bytes: u64) -> Folder<'_> {
    let config_json = Some(family.config_json.as_str());
    Folder { dtype, shard_bytes, config_json, text: None, generation: Map::new(), card: Card::default() }
}

/// Merged as safetensors, in shards and in one file; the config's unknown fields stay, and so does the name of every tensor.
#[test]
fn merged_folders_equal_transformers() {
    for (name, family) in families() {
        family.with_merged(|merged| {
            // Rounding a weight to bfloat16 changes it by up to a 256th; the weights of these networks are below 0.5.
            for (dtype, shard, within) in
                [(DType::F32, 8000, 1e-4), (DType::F32, 1 << 30, 1e-4), (DType::BF16, 1 << 30, 0.2)]
            {
                let folder = tempfile::tempdir().unwrap();
                save_folder(folder.path(), &merged, &content(&family, dtype, shard), &mut |_, _| ()).unwrap();
                assert_eq!(folder.path().join("model.safetensors.index.json").exists(), shard == 8000, "{name}");
                let text = std::fs::read_to_string(folder.path().join("config.json")).unwrap();
                family.check(&format!("{name} {dtype}"), &load(folder.path(), Some(&text)), within);
                let names = |path: &Path| Weights::open(path).unwrap().names().map(str::to_owned).collect::<Vec<_>>();
                assert_eq!(names(folder.path()), names(&family.folder), "{name}");
                let [mut written, mut own]: [Value; 2] =
                    [&text, &family.config_json].map(|text| serde_json::from_str(text).unwrap());
                for config in [&mut written, &mut own] {
                    let map = config.as_object_mut().unwrap();
                    map.retain(|key, _| !["dtype", "torch_dtype"].contains(&key.as_str()));
                    if let Some(text) = map.get_mut("text_config").and_then(Value::as_object_mut) {
                        text.retain(|key, _| !["dtype", "torch_dtype"].contains(&key.as_str()));
                    }
                }
                assert_eq!(written, own, "{name}");
            }
        });
    }
}

/// Merged as GGUF, and as an adapter beside a GGUF of the base: every family that llama.cpp has, and the others by name.
#[test]
fn merged_ggufs_equal_transformers() {
    let mut refused = Vec::new();
    for (name, family) in families() {
        family.with_merged(|merged| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("m.gguf");
            let mix: Mix = "f32".parse().unwrap();
            match save_gguf(&path, &merged, mix, None, &[], &mut |_, _| ()) {
                Ok(()) => family.check(&name, &load(&path, None), 1e-4),
                Err(foehn::export::Error::Model(Error::ConfigField { field, .. })) => {
                    refused.push(format!("{name} {field}"))
                }
                Err(error) => panic!("{name}: {error}"),
            }
        });
    }
    let expected = [
        "ministral model_type",
        "qwen2_windowed sliding_window",
        "qwen3_biased attention_bias",
        "smollm3_windowed sliding_window",
    ];
    assert_eq!(refused, expected);
}

/// The adapter as mistral-finetune has it, and as llama.cpp has it, computes what PEFT's does.
#[test]
fn adapters_in_other_formats_equal_peft() {
    for (name, mut family) in families() {
        // Scales that the other formats don't have: of rsLoRA, and an alpha by pattern.
        for (is_changed, alpha) in [(false, None), (true, None), (true, Some(0.0))] {
            if is_changed {
                family.adapter.config.lora_alpha = alpha.unwrap_or(family.adapter.config.lora_alpha);
                family.adapter.config.use_rslora = true;
                family.adapter.config.alpha_pattern =
                    [("q_proj".to_owned(), 3.0), ("down_proj".to_owned(), 0.5)].into_iter().collect();
            }
            let mut model = load(&family.folder, Some(&family.config_json));
            attach(&mut model, &family.adapter).unwrap();
            if is_changed {
                let sample = Sample::from_text(family.text.clone()).unwrap();
                let found = foehn_score::log_probs(&model, &[&sample], 1024).unwrap().remove(0);
                family.log_probs = found.into_iter().map(f64::from).collect();
            }
            let folder = tempfile::tempdir().unwrap();
            let config = model.config().clone();
            family.adapter.save_native(folder.path(), &config).unwrap();
            let native = Adapter::load(folder.path()).unwrap();
            // Its names are those of a language model by itself.
            if !config.is_wrapped {
                attach(&mut model, &native).unwrap();
                family.check(&format!("{name} native"), &model, 1e-4);
            }

            let path = folder.path().join("adapter.gguf");
            match family.adapter.save_gguf(&path, &config, &[]) {
                Ok(()) => {}
                Err(foehn_lora::Error::Model { .. }) => continue,
                Err(error) => panic!("{name}: {error}"),
            }
            let read = of_llama_cpp(&path, &config, &family.adapter);
            attach(&mut model, &read).unwrap();
            family.check(&format!("{name} GGUF"), &model, 1e-4);
        }
    }
}

/// An adapter's GGUF as llama.cpp applies it: one alpha over each tensor's rank, and the rows of B as the base's.
fn of_llama_cpp(path: &Path, config: &foehn_mistral::MistralConfig, like: &Adapter) -> Adapter {
    let weights = Weights::open(path).unwrap();
    let gguf = weights.gguf().unwrap();
    assert_eq!(gguf.get_str("general.type").unwrap(), Some("adapter"));
    assert_eq!(gguf.get_str("adapter.type").unwrap(), Some("lora"));
    let alpha = f64::from(gguf.get_f32("adapter.lora.alpha").unwrap().unwrap());
    let mut adapter = like.clone();
    adapter.config.use_rslora = false;
    adapter.config.alpha_pattern = Default::default();
    adapter.config.lora_alpha = alpha;
    for (module, pair) in &mut adapter.modules {
        let name = foehn_mistral::gguf_name(&format!("{}.weight", config.language_module(module)));
        let [a, b] = ["a", "b"].map(|part| weights.load_f32(&format!("{name}.lora_{part}")).unwrap());
        assert_eq!((a.1[0], b.1[1]), (pair.r, pair.r), "{name}");
        pair.a = a.0;
        let rows = b.0.len() / pair.r;
        let is_rotated = module.ends_with("q_proj") || module.ends_with("k_proj");
        let source = |row: usize| match config.is_interleaved_in_gguf() && is_rotated {
            true => foehn_mistral::interleaved_row(row, config.head_dim),
            false => row,
        };
        pair.b = (0..rows).flat_map(|row| b.0[source(row) * pair.r..][..pair.r].to_vec()).collect();
    }
    adapter
}

/// A tensor that an adapter does not change, in a type that stays, is copied bit by bit; one that it changes is not.
#[test]
fn unchanged_blocks_are_copied() {
    for (name, family) in families().filter(|(name, _)| name == "qwen3" || name == "llama_biased") {
        family.with_merged(|merged| {
            let folder = tempfile::tempdir().unwrap();
            let [base, again] = ["base.gguf", "again.gguf"].map(|file| folder.path().join(file));
            let mix: Mix = "q8_0".parse().unwrap();
            save_gguf(&base, &merged, mix, None, &[], &mut |_, _| ()).unwrap();
            let weights = Weights::open(&base).unwrap();
            let config = Mistral::config_of(&weights, None).unwrap();
            let mut adapter = family.adapter.clone();
            adapter.config.target_modules = foehn_lora::TargetModules::Suffixes(vec!["v_proj".to_owned()]);
            adapter.modules.retain(|module, _| module.ends_with("v_proj"));
            let merged = Merged::new(Checkpoint::new(&config, &weights).unwrap(), Some(&adapter)).unwrap();
            save_gguf(&again, &merged, mix, None, &[], &mut |_, _| ()).unwrap();
            let written = Weights::open(&again).unwrap();
            for tensor in weights.names() {
                let is_same = weights.read(tensor).unwrap() == written.read(tensor).unwrap();
                assert_eq!(is_same, !tensor.contains("attn_v.weight"), "{name} {tensor}");
            }
        });
    }
}
