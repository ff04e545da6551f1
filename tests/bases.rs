//! Bases in every storage format: a packed base gives the same results as its weights in single precision.

mod common;

#[path = "../crates/weights/tests/common/mod.rs"]
mod files;

use burn::tensor::{Device, Tensor};
use common::devices;
use foehn::finetune::{LossMean, Noise, gradients};
use foehn::lora::{Adapter, LoraConfig, attach, attach_trainable};
use foehn::tokens::Sample;
use foehn_kernels::{IQ4_LEVELS, NF4_LEVELS, Storage};
use foehn_mistral::{Base, KvCache, Mistral, MistralConfig, Packed};
use foehn_weights::{DType, Tensor as Tensor32, Weights};

const BASES: [Base; 5] = [Base::F32, Base::Bf16, Base::Q8_0, Base::Q4K, Base::Nf4];

/// The progress while a model is loaded: embedding and head, then its two layers.
const PARTS: [(usize, usize); 3] = [(1, 3), (2, 3), (3, 3)];

/// The relative error of eight-bit activations after two layers.
const ROUNDED: f32 = 0.05;

/// Wide enough for super-blocks of 256, with one projection whose width is not a multiple of 256.
fn config() -> MistralConfig {
    let config = r#"{"model_type": "mistral", "hidden_size": 256, "intermediate_size": 320, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "sliding_window": null,
        "initializer_range": 0.02, "max_position_embeddings": 64}"#;
    MistralConfig::from_json(config).unwrap()
}

fn synthetic(base: Base, device: &Device) -> Mistral {
    let mut parts = Vec::new();
    let model = Mistral::synthetic(&config(), base, device, &mut |done, total| parts.push((done, total)));
    assert_eq!(parts, PARTS);
    model
}

/// Loads a checkpoint with the config and the device of `like`.
fn load_as(like: &Mistral, weights: &Weights, base: Base) -> Result<Mistral, foehn_mistral::Error> {
    let mut parts = Vec::new();
    let model =
        Mistral::load_as(like.config(), weights, base, &like.device(), &mut |done, total| parts.push((done, total)))?;
    assert_eq!(parts, PARTS);
    Ok(model)
}

fn ids(count: u32) -> Vec<u32> {
    (0..count).map(|i| (i * 37 + 11) % 100).collect()
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

fn logits(model: &Mistral, ids: &[u32]) -> Vec<f32> {
    let positions: Vec<u32> = (0..ids.len() as u32).collect();
    let ends = vec![ids.len() as u32; ids.len()];
    let packed = Packed { input_ids: ids, position_ids: &positions, subtree_ends: &ends };
    values(model.logits(model.forward(packed)))
}

/// `‖a − b‖ / ‖b‖`
fn difference(a: &[f32], b: &[f32]) -> f32 {
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}

/// The same model, loaded from a file of all its weights in single precision.
fn written_out(model: &Mistral) -> Mistral {
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path()).unwrap();
    load_as(model, &Weights::open(folder.path()).unwrap(), Base::F32).unwrap()
}

#[test]
fn a_packed_base_is_its_weights_to_the_last_bit_forward_and_backward() {
    let device = foehn::device("flex").unwrap();
    for base in BASES {
        let packed = synthetic(base, &device);
        let dense = written_out(&packed);
        check_same(packed, dense, &base.to_string());
    }
}

/// Compares the logits, the loss and the gradients of an adapter to the last bit.
fn check_same(mut packed: Mistral, mut dense: Mistral, what: &str) {
    let ids = ids(24);
    let sample = Sample::from_text(ids.clone()).unwrap();
    assert!(logits(&packed, &ids) == logits(&dense, &ids), "{what}");
    let adapter = Adapter::new(&LoraConfig { r: 4, ..LoraConfig::default() }, &packed, 3).unwrap();
    let [packed, dense] = [&mut packed, &mut dense].map(|model| {
        attach_trainable(model, &adapter).unwrap();
        let step = gradients(model, &[&sample], 64, Noise::default(), LossMean::Tokens);
        (step.loss, step.gradients.into_iter().map(values).collect::<Vec<_>>())
    });
    assert!(packed.0.is_finite() && packed == dense, "{what}: losses {} and {}", packed.0, dense.0);
}

/// A block type of GGUF: its number, the elements and bytes of a block, and where its half-precision scales are.
struct BlockType(u32, usize, usize, &'static [usize]);

const BLOCK_TYPES: [BlockType; 12] = [
    BlockType(2, 32, 18, &[0]),
    BlockType(3, 32, 20, &[0, 2]),
    BlockType(6, 32, 22, &[0]),
    BlockType(7, 32, 24, &[0, 2]),
    BlockType(8, 32, 34, &[0]),
    BlockType(10, 256, 84, &[80, 82]),
    BlockType(11, 256, 110, &[108]),
    BlockType(12, 256, 144, &[0, 2]),
    BlockType(13, 256, 176, &[0, 2]),
    BlockType(14, 256, 210, &[208]),
    BlockType(20, 32, 18, &[0]),
    BlockType(23, 256, 136, &[0]),
];

/// A GGUF of a network of one layer, whose matrices are random blocks of one type.
fn gguf_of(&BlockType(kind, elements, size, scales): &BlockType) -> Vec<u8> {
    let number = |key: &str, value: u32| files::pair(&format!("llama.{key}"), 4, &value.to_le_bytes());
    let pairs = [
        files::pair("general.architecture", 8, &files::string("llama")),
        number("attention.head_count", 4),
        number("attention.head_count_kv", 2),
        number("embedding_length", 256),
        number("feed_forward_length", 512),
        number("block_count", 1),
        number("context_length", 64),
        files::pair("llama.attention.layer_norm_rms_epsilon", 6, &1e-5f32.to_le_bytes()),
    ];
    let matrices = [
        ("token_embd.weight", [256, 100]),
        ("output.weight", [256, 100]),
        ("blk.0.attn_q.weight", [256, 256]),
        ("blk.0.attn_k.weight", [256, 128]),
        ("blk.0.attn_v.weight", [256, 128]),
        ("blk.0.attn_output.weight", [256, 256]),
        ("blk.0.ffn_gate.weight", [256, 512]),
        ("blk.0.ffn_up.weight", [256, 512]),
        ("blk.0.ffn_down.weight", [512, 256]),
    ];
    let (mut data, mut listed) = (Vec::new(), Vec::new());
    for (seed, (name, dims)) in matrices.iter().enumerate() {
        listed.push(files::GgufTensor(name, dims, kind, data.len() as u64));
        let random = common::noise(seed as u64 + 1, (dims[0] * dims[1]) as usize / elements * size);
        let mut bytes: Vec<u8> = random.iter().map(|x| ((x + 1.0) * 128.0) as u8).collect();
        for (at, block) in bytes.chunks_exact_mut(size).enumerate() {
            for &scale in scales {
                // About a thousandth, of either sign.
                let bits = (0x1000 + (97 * at % 0x400) as u16) | ((at as u16 % 2) << 15);
                block[scale..scale + 2].copy_from_slice(&bits.to_le_bytes());
            }
        }
        data.extend(bytes);
        data.resize(data.len().next_multiple_of(32), 0);
    }
    for name in ["output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"] {
        listed.push(files::GgufTensor(name, &[256], 0, data.len() as u64));
        data.extend(common::noise(40, 256).iter().flat_map(|x| (1.0 + x / 4.0).to_le_bytes()));
    }
    files::gguf(&pairs, &listed, &data)
}

/// Every block type that is read stays packed, and is its values in single precision to the last bit, which are those of
/// the Python package `gguf` (tests of `foehn-weights`). A base of four bits leaves what has no more as it is.
#[test]
fn every_block_type_of_a_gguf_is_its_weights_to_the_last_bit() {
    let device = foehn::device("flex").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    for block_type in &BLOCK_TYPES {
        std::fs::write(&path, gguf_of(block_type)).unwrap();
        let weights = Weights::open(&path).unwrap();
        let config = Mistral::config_of(&weights, None).unwrap();
        let load = |base| Mistral::load_as(&config, &weights, base, &device, &mut |_, _| ()).unwrap();
        let dtype = weights.info("output.weight").unwrap().dtype;
        let sizes = config.matrices(Base::Stored, |_| dtype);
        assert!(sizes.iter().all(|size| matches!(size.storage, Storage::Blocks(_)) && !size.is_converted), "{dtype}");
        if dtype.block_bytes() * 8 <= dtype.block_elements() * 5 {
            assert!(logits(&load(Base::Q4K), &ids(24)) == logits(&load(Base::Stored), &ids(24)), "{dtype}");
        }
        check_same(load(Base::Stored), load(Base::F32), dtype.name());
    }
}

/// Converting a single-precision checkpoint while it is loaded gives the same weights as converting them directly.
/// Converting the result to the same format again changes nothing.
#[test]
fn a_base_made_on_loading_is_near_its_checkpoint_and_stays_what_it_is() {
    let device = foehn::device("flex").unwrap();
    let model = synthetic(Base::F32, &device);
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path()).unwrap();
    let weights = Weights::open(folder.path()).unwrap();
    let ids = ids(24);
    let exact = logits(&model, &ids);
    // The synthetic weights are uniform noise; four bits divide their range into fifteen steps.
    for (base, near) in [(Base::Bf16, 0.01), (Base::Q8_0, 0.02), (Base::Q4K, 0.2), (Base::Nf4, 0.3)] {
        let made = load_as(&model, &weights, base).unwrap();
        let found = logits(&made, &ids);
        let far = difference(&found, &exact);
        assert!(far > 0.0 && far < near, "{base}: {far}");
        if base == Base::Bf16 || base == Base::Q8_0 {
            let again = tempfile::tempdir().unwrap();
            made.save(again.path()).unwrap();
            let again = load_as(&model, &Weights::open(again.path()).unwrap(), base).unwrap();
            assert!(difference(&logits(&again, &ids), &found) < 1e-5, "{base} again");
        }
    }
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    let device = foehn::device("flex").unwrap();
    let model = synthetic(Base::F32, &device);
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path()).unwrap();
    let path = folder.path().join("model.safetensors");
    let name = "model.layers.1.mlp.up_proj.weight";
    // The sixth element of the tensor becomes NaN in the file.
    let mut bytes = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let at = header + json[name]["data_offsets"][0].as_u64().unwrap() as usize + 4 * 5;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let weights = Weights::open(folder.path()).unwrap();
    for base in BASES {
        let error = load_as(&model, &weights, base).err().unwrap_or_else(|| panic!("{base}: it was loaded"));
        let error = std::error::Error::source(&error).unwrap().to_string();
        assert!(error.contains(name) && error.contains("element 5") && error.contains("NaN"), "{base}: {error}");
    }
}

/// Saves a model's tensors in another type, with additional tensors.
fn save_with(model: &Mistral, folder: &std::path::Path, more: Vec<Tensor32>, dtype: DType) -> Weights {
    model.save(folder).unwrap();
    let path = folder.join("model.safetensors");
    let tensors: Vec<Tensor32> = {
        let weights = Weights::open(&path).unwrap();
        let load = |name: &str| {
            let (values, shape) = weights.load_f32(name).unwrap();
            let mut tensor = Tensor32::f32(name, shape, values);
            tensor.spec.dtype = dtype;
            tensor
        };
        weights.names().map(load).chain(more).collect()
    };
    foehn_weights::save_safetensors(&path, &tensors, &Default::default()).unwrap();
    Weights::open(folder).unwrap()
}

#[test]
fn a_tensor_that_the_network_has_no_place_for_is_named() {
    let model = synthetic(Base::F32, &foehn::device("flex").unwrap());
    let names = [
        "rope_freqs.weight",
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.1.mlp.up_proj.bias",
        "model.layers.2.input_layernorm.weight",
        "model.layers.0.mlp.down_proj.weight_scale",
    ];
    for name in names {
        let folder = tempfile::tempdir().unwrap();
        let weights = save_with(&model, folder.path(), vec![Tensor32::f32(name, vec![2], vec![0.5, 0.5])], DType::F32);
        let error = load_as(&model, &weights, Base::Stored).err().unwrap_or_else(|| panic!("{name}: it was loaded"));
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let frequencies = Tensor32::f32("model.layers.0.self_attn.rotary_emb.inv_freq", vec![2], vec![1.0, 0.1]);
    let weights = save_with(&model, folder.path(), vec![frequencies], DType::F32);
    let loaded = load_as(&model, &weights, Base::Stored).unwrap();
    assert_eq!(logits(&loaded, &ids(5)), logits(&model, &ids(5)));
}

#[test]
fn a_head_of_its_own_counts_where_the_config_ties_it() {
    let untied = synthetic(Base::F32, &foehn::device("flex").unwrap());
    let folder = tempfile::tempdir().unwrap();
    untied.save(folder.path()).unwrap();
    let weights = Weights::open(folder.path()).unwrap();
    assert!(weights.info("lm_head.weight").is_some());
    let mut config = untied.config().clone();
    config.tie_word_embeddings = true;
    let loaded = Mistral::load(&config, &weights, &untied.device()).unwrap();
    assert_eq!(logits(&loaded, &ids(5)), logits(&untied, &ids(5)));
}

#[test]
fn half_precision_weights_that_are_not_finite_are_refused() {
    let model = synthetic(Base::F32, &foehn::device("flex").unwrap());
    let name = "model.layers.0.self_attn.k_proj.weight";
    for bits in [0x7F80u16, 0xFF80, 0x7FC0] {
        let folder = tempfile::tempdir().unwrap();
        save_with(&model, folder.path(), Vec::new(), DType::BF16);
        let path = folder.path().join("model.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let json: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
        assert_eq!(json[name]["dtype"], "BF16");
        let at = header + json[name]["data_offsets"][0].as_u64().unwrap() as usize + 2 * 5;
        bytes[at..at + 2].copy_from_slice(&bits.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        let error = load_as(&model, &Weights::open(folder.path()).unwrap(), Base::Stored).err();
        let error = error.unwrap_or_else(|| panic!("{bits:x}: it was loaded")).to_string();
        assert!(error.contains(name) && error.contains("element 5"), "{error}");
    }
}

#[test]
fn every_device_and_every_way_of_decoding_give_the_same() {
    for (name, device) in devices() {
        for base in BASES {
            let model = synthetic(base, &device);
            let ids = ids(20);
            let vocab = model.config().vocab_size;
            let whole = logits(&model, &ids);
            let flex = logits(&synthetic(base, &foehn::device("flex").unwrap()), &ids);
            assert!(difference(&whole, &flex) < 1e-4, "{name} {base}: {}", difference(&whole, &flex));
            for exact in [true, false] {
                let mut cache = KvCache::new(model.config(), 2, 32, &device);
                cache.set_exact(exact);
                // The second sequence has a longer beginning, and gets no new tokens in between.
                let decoder = model.decoder();
                decoder.append(&[&ids[..5], &ids[..9]].concat(), &[5, 9], &mut cache);
                let mut rows = Vec::new();
                let mut worst = 0.0f32;
                for at in 5..ids.len() {
                    let other = if at % 2 == 0 { &ids[at - 5..][..0] } else { &ids[9 + (at - 5) / 2..][..1] };
                    decoder.next_logits(&[&ids[at..=at], other].concat(), &[1, other.len()], &mut cache, &mut rows);
                    let expected = &whole[at * vocab..][..vocab];
                    worst = worst.max(difference(&rows[..vocab], expected));
                    if !other.is_empty() {
                        let expected = &whole[(9 + (at - 5) / 2) * vocab..][..vocab];
                        worst = worst.max(difference(&rows[vocab..], expected));
                    }
                }
                assert!(worst < if exact { 1e-4 } else { ROUNDED }, "{name} {base}, exact: {exact}: {worst}");
            }
        }
    }
}

#[test]
fn sequences_of_several_adapters_are_each_as_alone_on_every_device() {
    for (name, device) in devices() {
        for base in [Base::F32, Base::Q8_0] {
            let model = synthetic(base, &device);
            let adapted = [2, 5].map(|r| {
                let config = LoraConfig { r, ..LoraConfig::default() };
                let mut adapter = Adapter::new(&config, &model, r as u64).unwrap();
                // B is zero in a new adapter.
                for (at, matrices) in adapter.modules.values_mut().enumerate() {
                    let values = (0..matrices.b.len()).map(|i| ((i * 31 + at) % 23) as f32 / 80.0 - 0.13);
                    matrices.b = values.collect();
                }
                let mut model = model.clone();
                attach(&mut model, &adapter).unwrap();
                model
            });
            let mut decoder = model.decoder();
            let owners = adapted.each_ref().map(|model| decoder.add(model.clone()).unwrap());
            let ids = ids(20);
            let mut cache = KvCache::new(model.config(), 4, 32, &device);
            let models = [&adapted[1], &model, &adapted[0], &adapted[1]];
            for (sequence, owner) in [owners[1], 0, owners[0], owners[1]].into_iter().enumerate() {
                cache.begin(sequence, owner);
            }
            // The last sequence gets nothing at first.
            let (mut rows, vocab) = (Vec::new(), model.config().vocab_size);
            decoder.append(&[&ids[..5], &ids[..9], &ids[..7]].concat(), &[5, 9, 7, 0], &mut cache);
            decoder.next_logits(&[&ids[5..6], &ids[9..11], &ids[..3]].concat(), &[1, 2, 0, 3], &mut cache, &mut rows);
            let lasts = [(0, 5), (1, 10), (3, 2)];
            assert_eq!(rows.len(), lasts.len() * vocab);
            for ((sequence, last), row) in lasts.into_iter().zip(rows.chunks_exact(vocab)) {
                let expected = logits(models[sequence], &ids[..=last]);
                let far = difference(row, &expected[last * vocab..]);
                assert!(far < 1e-4, "{name} {base}, sequence {sequence}: {far}");
            }
            decoder.each_logits(&[&ids[6..9], &ids[7..9]].concat(), &[3, 0, 2, 0], &mut cache, &mut rows);
            for (sequence, places, first) in [(0, 6..9, 0), (2, 7..9, 3)] {
                let expected = logits(models[sequence], &ids[..places.end]);
                let far = difference(&rows[first * vocab..][..places.len() * vocab], &expected[places.start * vocab..]);
                assert!(far < 1e-4, "{name} {base}, sequence {sequence}: {far}");
            }
            assert!(difference(&logits(&model, &ids), &logits(&adapted[0], &ids)) > 1e-2, "the adapters do something");
        }
    }
}

#[test]
fn a_base_has_one_name_and_the_levels_are_the_papers() {
    for base in BASES {
        assert_eq!(base.to_string().parse::<Base>().unwrap(), base);
    }
    let error = "q5".parse::<Base>().unwrap_err().to_string();
    assert!(error.contains("`q5`") && error.contains("q4_k"), "{error}");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf_blocks.json");
    let golden: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let levels: [f32; 16] = serde_json::from_value(golden["nf4"].clone()).unwrap();
    // The table in the paper is a rounded form of the construction in the fixture.
    assert!(levels.iter().zip(NF4_LEVELS).all(|(a, b)| (a - b).abs() < 2e-7), "{levels:?}");
    // The crate of the files has a copy, since neither crate knows the other.
    assert_eq!(foehn_weights::IQ4_LEVELS, IQ4_LEVELS);
}
