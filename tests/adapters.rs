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
    assert!(matches!(with("a.weight", [4, 48], "transformer.wte.weight"), Err(Error::UnsupportedTensor { .. })));
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

/// A tensor's name, shape and values.
type Named = (String, Vec<usize>, Vec<f32>);

/// The tensors of the adapter in a folder, changed and written again.
fn edit_tensors(folder: &Path, change: impl FnOnce(&mut Vec<Named>)) {
    let path = folder.join("adapter_model.safetensors");
    let weights = foehn_weights::Weights::open(&path).unwrap();
    let mut tensors = Vec::new();
    for name in weights.names() {
        let (values, shape) = weights.load_f32(name).unwrap();
        tensors.push((name.to_owned(), shape, values));
    }
    drop(weights);
    change(&mut tensors);
    let list: Vec<Tensor<'_>> =
        tensors.iter().map(|(name, shape, values)| Tensor::f32(name, shape.clone(), values.as_slice())).collect();
    save_safetensors(&path, &list, &Default::default()).unwrap();
}

#[test]
fn an_adapter_that_began_from_a_changed_base_is_refused() {
    for beginning in ["pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga", "PiSSA", "no such"] {
        match spoiled(|folder| edit_config(folder, "init_lora_weights", beginning.into())) {
            Err(Error::Unsupported { field, .. }) => assert_eq!(field, "init_lora_weights"),
            other => panic!("{beginning}: {other:?}"),
        }
    }
    for beginning in [serde_json::json!(true), false.into(), "gaussian".into(), "eva".into()] {
        spoiled(|folder| edit_config(folder, "init_lora_weights", beginning)).unwrap();
    }
}

#[test]
fn a_setting_that_is_not_computed_is_refused_by_name() {
    for (key, value) in [
        ("layer_replication", serde_json::json!([[0, 1]])),
        ("trainable_token_indices", serde_json::json!([1])),
        ("fan_in_fan_out", serde_json::json!(true)),
        ("lora_bias", serde_json::json!(true)),
        ("use_qalora", serde_json::json!(true)),
        ("target_parameters", serde_json::json!(["a"])),
        ("a_key_of_next_year", serde_json::json!(1)),
    ] {
        match spoiled(|folder| edit_config(folder, key, value)) {
            Err(Error::Unsupported { field, .. }) => assert_eq!(field, key),
            other => panic!("{key}: {other:?}"),
        }
    }
}

/// An adapter has a pair of matrices in each layer that its settings choose, and in no other.
#[test]
fn tensors_of_layers_that_are_left_out_are_refused() {
    let suffixes = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    for (key, value) in [
        ("layers_to_transform", serde_json::json!([0])),
        ("layers_to_transform", serde_json::json!(1)),
        ("exclude_modules", serde_json::json!(["layers.1.self_attn.q_proj"])),
        ("exclude_modules", serde_json::json!(".*q_proj")),
    ] {
        let said = spoiled(|folder| {
            edit_config(folder, "target_modules", serde_json::json!(suffixes));
            edit_config(folder, key, value.clone());
        });
        assert!(matches!(said, Err(Error::Untargeted { .. })), "{key} {value}: {said:?}");
    }
    for (key, value) in [("layers_pattern", "layers"), ("exclude_modules", "all-linear")] {
        let said = spoiled(|folder| edit_config(folder, key, value.into()));
        assert!(matches!(said, Err(Error::Setting { field, .. }) if field == key), "{key}: {said:?}");
    }
}

#[test]
fn tensors_that_are_not_those_of_the_config_are_refused_by_name() {
    let with = |change: fn(&mut Vec<Named>)| spoiled(|folder| edit_tensors(folder, change));
    assert!(matches!(with(Vec::clear), Err(Error::Empty { .. })));
    // Nothing here writes such a value, so the bytes of another one become it.
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let ruined = spoiled(|folder| {
            edit_tensors(folder, |tensors| tensors[3].2[5] = 12345.5);
            let path = folder.join("adapter_model.safetensors");
            let mut bytes = fs::read(&path).unwrap();
            let at = bytes.windows(4).position(|bytes| bytes == 12345.5f32.to_le_bytes()).unwrap();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            fs::write(path, bytes).unwrap();
        });
        let said = format!("{ruined:?}");
        assert!(said.contains("NotFinite") && said.contains("gate_proj.lora_B") && said.contains("index: 5"), "{said}");
    }
    let layer = "base_model.model.model.layers.0.self_attn.q_proj";
    for name in
        [format!("{layer}.lora_magnitude_vector.weight"), format!("{layer}.lora_B.bias"), format!("{layer}.bias")]
    {
        let other = spoiled(|folder| edit_tensors(folder, |tensors| tensors.push((name.clone(), vec![1], vec![1.0]))));
        match other {
            Err(Error::UnsupportedTensor { name: found }) => assert_eq!(found, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    for outer in ["lm_head", "model.embed_tokens"] {
        let name = format!("base_model.model.{outer}.lora_A.weight");
        let other = spoiled(|folder| edit_tensors(folder, |tensors| tensors.push((name, vec![4, 1], vec![1.0; 4]))));
        assert!(matches!(other, Err(Error::UnsupportedLayer { .. })), "{other:?}");
    }
    // All other layers' matrices are there, though the config no longer asks for them.
    let left_out = spoiled(|folder| edit_config(folder, "target_modules", serde_json::json!(["q_proj"])));
    assert!(matches!(left_out, Err(Error::Untargeted { .. })), "{left_out:?}");
}

#[test]
fn an_entry_without_effect_is_an_error_that_names_it() {
    let all = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    let targets =
        spoiled(|folder| edit_config(folder, "target_modules", serde_json::json!([&all[..], &["wq"]].concat())));
    assert!(
        matches!(&targets, Err(Error::Unmatched { field: "target_modules", entry, .. }) if entry == "wq"),
        "{targets:?}"
    );
    for field in ["rank_pattern", "alpha_pattern"] {
        match spoiled(|folder| edit_config(folder, field, serde_json::json!({ "wq": 4 }))) {
            Err(Error::Unmatched { field: found, entry, .. }) => assert_eq!((found, entry.as_str()), (field, "wq")),
            other => panic!("{field}: {other:?}"),
        }
        let broken = spoiled(|folder| edit_config(folder, field, serde_json::json!({ "(": 4 })));
        assert!(matches!(broken, Err(Error::Pattern { .. })), "{broken:?}");
    }
}

#[test]
fn an_adapter_without_a_manifest_leaves_none_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut adapter = trained(&Golden::open("gqa"));
    adapter.manifest = Some(foehn_lora::Manifest::default());
    adapter.save(folder.path()).unwrap();
    assert!(folder.path().join("foehn.json").exists());
    adapter.manifest = None;
    adapter.save(folder.path()).unwrap();
    assert!(!folder.path().join("foehn.json").exists());
    adapter.modules.values_mut().next().unwrap().a[0] = f32::NAN;
    let before = fs::read(folder.path().join("adapter_model.safetensors")).unwrap();
    assert!(matches!(adapter.save(folder.path()), Err(Error::NotFinite { .. })));
    assert_eq!(fs::read(folder.path().join("adapter_model.safetensors")).unwrap(), before);
}

/// A pickle is a program: it is refused, with what to do.
#[test]
fn pickles_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("adapter_model.bin"), b"PK").unwrap();
    fs::write(folder.path().join("adapter_config.json"), "{}").unwrap();
    let said = Adapter::load(folder.path()).unwrap_err().to_string();
    assert!(said.contains("adapter_model.bin") && said.contains("save_pretrained"), "{said}");
}

/// Ranks and scales of every layer, as PEFT's own code chose them (`tests/golden/lora_patterns.py`).
#[test]
fn patterns_choose_what_peft_chooses() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("golden/lora_patterns.json")).unwrap();
    let model = Golden::open("gqa").model();
    for case in golden["cases"].as_array().unwrap() {
        let mut config = serde_json::json!({ "r": 4, "lora_alpha": 8 });
        config.as_object_mut().unwrap().extend(case["config"].as_object().unwrap().clone());
        // What PEFT passes over with a warning is an error here, that names it.
        for unmatched in case["unmatched"].as_array().into_iter().flatten() {
            let refused = Adapter::new(&serde_json::from_value(config.clone()).unwrap(), &model, 0);
            let Err(Error::Unmatched { field, entry, .. }) = refused else { panic!("{config}: {refused:?}") };
            assert!(case["unmatched"].as_array().unwrap().contains(&entry.as_str().into()), "{entry}, {unmatched}");
            config[field].as_object_mut().unwrap().shift_remove(&entry);
        }
        let config: LoraConfig = serde_json::from_value(config).unwrap();
        let made = Adapter::new(&config, &model, 0);
        let Some(expected) = case["layers"].as_object() else {
            assert!(made.is_err(), "PEFT refuses {config:?}: {}", case["refused"]);
            continue;
        };
        let adapter = made.unwrap();
        let found: Vec<&String> = adapter.modules.keys().collect();
        let mut names: Vec<&String> = expected.keys().collect();
        names.sort_unstable();
        assert_eq!(found, names, "{config:?}");
        for (name, layer) in expected {
            assert_eq!(adapter.modules[name].r as u64, layer[0].as_u64().unwrap(), "{name} of {config:?}");
            let scale = config.scale(name).unwrap();
            assert!((scale - layer[1].as_f64().unwrap()).abs() < 1e-12, "{name} of {config:?}: {scale} {layer}");
        }
    }
}
