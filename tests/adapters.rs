//! Adapters: saving and loading, merging, PEFT's files, and every kind of faulty file.

mod common;

use std::fs;
use std::path::Path;

use common::{Golden, assert_close, values};
use foehn::Network;
use foehn_lora::{Adapter, Error, LoraConfig, TargetModules, attach, detach, merge};
use foehn_mistral::{Base, Mistral};
use foehn_weights::{Tensor, save_safetensors};
use proptest::prelude::*;

fn logits(golden: &Golden, model: &Mistral) -> Vec<f32> {
    values(model.logits(model.forward(golden.rows(&[0, 1, 2]).packed())))
}

fn trained(golden: &Golden) -> Adapter {
    Adapter::load(&golden.folder.join("adapter_end")).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_fresh_adapter_changes_nothing(seed in any::<u64>(), r in 1usize..9, rslora in any::<bool>()) {
        let golden = Golden::open("gqa");
        let mut model = golden.model();
        let before = logits(&golden, &model);
        let config = LoraConfig { r, use_rslora: rslora, ..LoraConfig::default() };
        let adapter = Adapter::new(&config, &model, seed).unwrap();
        attach(&mut model, &adapter).unwrap();
        prop_assert_eq!(logits(&golden, &model), before);
        // Kaiming-uniform with a = sqrt(5): bounded by 1/sqrt(in), and the values differ.
        let pair = &adapter.modules["model.layers.0.self_attn.q_proj"];
        let bound = 1.0 / 48f32.sqrt();
        prop_assert!(pair.a.iter().all(|a| a.abs() <= bound));
        prop_assert!(pair.a.iter().fold(0.0f32, |max, a| max.max(a.abs())) > 0.5 * bound);
    }
}

#[test]
fn merged_equals_attached_and_detached_equals_the_base() {
    for name in ["gqa", "window"] {
        let golden = Golden::open(name);
        let mut model = golden.model();
        let base = logits(&golden, &model);
        let adapter = trained(&golden);
        attach(&mut model, &adapter).unwrap();
        let attached = logits(&golden, &model);
        assert_ne!(attached, base);
        let mut merged = model.clone();
        merge(&mut merged);
        let scale = attached.iter().fold(1.0f32, |max, x| max.max(x.abs()));
        let rows = merged.logits(merged.forward(golden.rows(&[0, 1, 2]).packed()));
        assert_close(name, rows, &attached, 2e-5 * scale, 0.0);
        assert!(merged.projections().iter().all(|(_, projection)| projection.adapter().is_none()));
        let taken = detach(&mut model, &adapter.config).unwrap();
        assert_eq!(taken.modules, adapter.modules);
        assert_eq!(logits(&golden, &model), base);
    }
}

#[test]
fn a_merged_checkpoint_loads_to_the_same_network() {
    let golden = Golden::open("window");
    let folder = tempfile::tempdir().unwrap();
    let mut model = golden.model();
    attach(&mut model, &trained(&golden)).unwrap();
    merge(&mut model);
    model.save(folder.path()).unwrap();
    let device = foehn::device("flex").unwrap();
    let back = Network::load(folder.path().to_str().unwrap(), Base::Stored, &device, &mut |_| ()).unwrap();
    assert_eq!(back.model.config(), model.config());
    assert_eq!(logits(&golden, &back.model), logits(&golden, &model));
}

#[test]
fn saved_adapters_come_back_the_same() {
    let golden = Golden::open("gqa");
    let folder = tempfile::tempdir().unwrap();
    let adapter = trained(&golden);
    adapter.save(folder.path()).unwrap();
    let back = Adapter::load(folder.path()).unwrap();
    assert_eq!(back, adapter);
    let bytes = |folder: &Path| fs::read(folder.join("adapter_model.safetensors")).unwrap();
    let weights = |folder: &Path| foehn_weights::Weights::open(folder.join("adapter_model.safetensors")).unwrap();
    let (ours, theirs) = (weights(folder.path()), weights(&golden.folder.join("adapter_end")));
    assert_eq!(ours.names().collect::<Vec<_>>(), theirs.names().collect::<Vec<_>>());
    adapter.save(folder.path()).unwrap();
    assert_eq!(bytes(folder.path()), {
        adapter.save(folder.path()).unwrap();
        bytes(folder.path())
    });
}

/// The result of loading a copy of PEFT's adapter folder with one change.
fn spoiled(change: impl FnOnce(&Path)) -> Result<(), Error> {
    let golden = Golden::open("gqa");
    let folder = tempfile::tempdir().unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(golden.folder.join("adapter_init").join(file), folder.path().join(file)).unwrap();
    }
    change(folder.path());
    let mut model = golden.model();
    let before = logits(&golden, &model);
    let outcome = Adapter::load(folder.path()).and_then(|adapter| attach(&mut model, &adapter));
    if outcome.is_err() {
        assert_eq!(logits(&golden, &model), before, "a refused adapter must leave the model alone");
    }
    outcome
}

fn edit_config(folder: &Path, key: &str, value: serde_json::Value) {
    let path = folder.join("adapter_config.json");
    let mut config: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    config[key] = value;
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn bad_adapters_are_refused_by_name() {
    let tensors = "adapter_model.safetensors";
    spoiled(|_| ()).unwrap();
    let file_is = |outcome: Result<(), Error>, expected: &str| match outcome {
        Err(Error::File { path, .. }) => assert!(path.ends_with(expected), "{path:?}"),
        other => panic!("{expected}: {other:?}"),
    };
    file_is(spoiled(|folder| fs::remove_file(folder.join(tensors)).unwrap()), tensors);
    file_is(spoiled(|folder| fs::remove_file(folder.join("adapter_config.json")).unwrap()), "adapter_config.json");

    let truncated = spoiled(|folder| {
        let bytes = fs::read(folder.join(tensors)).unwrap();
        fs::write(folder.join(tensors), &bytes[..bytes.len() / 2]).unwrap();
    });
    assert!(matches!(truncated, Err(Error::Weights { .. })), "{truncated:?}");
    let syntax = spoiled(|folder| fs::write(folder.join("adapter_config.json"), "{").unwrap());
    assert!(matches!(syntax, Err(Error::Syntax { .. })), "{syntax:?}");

    for (key, value) in [
        ("use_dora", serde_json::json!(true)),
        ("bias", serde_json::json!("all")),
        ("modules_to_save", serde_json::json!(["lm_head"])),
        ("peft_type", serde_json::json!("IA3")),
    ] {
        match spoiled(|folder| edit_config(folder, key, value)) {
            Err(Error::Unsupported { field, .. }) => assert_eq!(field, key),
            other => panic!("{key}: {other:?}"),
        }
    }
    let rank = spoiled(|folder| edit_config(folder, "r", serde_json::json!(3)));
    assert!(matches!(rank, Err(Error::Shape { .. })), "{rank:?}");

    let fitting = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    let partner = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";
    let with = |name: &'static str, shape: [usize; 2], other: &'static str| {
        spoiled(move |folder| {
            let tensors_of = [(name, shape), (other, [96, 4])];
            let list: Vec<Tensor<'_>> = tensors_of
                .iter()
                .map(|(name, shape)| Tensor::f32(*name, shape.to_vec(), vec![0.0; shape[0] * shape[1]]))
                .collect();
            save_safetensors(&folder.join(tensors), &list, &Default::default()).unwrap();
        })
    };
    // The matrices of one layer, although the config targets every layer.
    assert!(matches!(with(fitting, [4, 48], partner), Err(Error::Missing { .. })));
    assert!(matches!(with(fitting, [4, 49], partner), Err(Error::Shape { .. })));
    assert!(matches!(with(fitting, [4, 48], "transformer.wte.weight"), Err(Error::Unpaired { .. })));
    assert!(matches!(with("a.weight", [4, 48], "transformer.wte.weight"), Err(Error::Foreign { .. })));
    let elsewhere = "base_model.model.model.layers.9.self_attn.q_proj";
    let renamed = spoiled(|folder| {
        let list = [("A", [4, 48]), ("B", [96, 4])].map(|(which, shape)| {
            let name = format!("{elsewhere}.lora_{which}.weight");
            Tensor::f32(name, shape.to_vec(), vec![0.0; shape[0] * shape[1]])
        });
        save_safetensors(&folder.join(tensors), &list, &Default::default()).unwrap();
    });
    assert!(matches!(renamed, Err(Error::Foreign { .. })), "{renamed:?}");
}

#[test]
fn an_adapter_for_another_base_is_refused() {
    let (gqa, window) = (Golden::open("gqa"), Golden::open("window"));
    let mut model = window.model();
    assert!(matches!(attach(&mut model, &trained(&gqa)), Err(Error::Shape { .. })));
    let nothing = LoraConfig { target_modules: TargetModules::Suffixes(vec!["wq".into()]), ..LoraConfig::default() };
    assert!(matches!(Adapter::new(&nothing, &model, 0), Err(Error::NoTarget { .. })));
}
