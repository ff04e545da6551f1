//! Faulty checkpoints: each gives a typed error that names the file and the place.

mod common;

use std::fs;
use std::path::Path;

use common::Golden;
use foehn::mistral::Base;
use foehn::{LoadError, Network, Pretrained};

/// Loads a copy of a golden checkpoint with one change. Returns the whole text of the error.
fn spoiled(change: impl FnOnce(&Path)) -> String {
    let golden = Golden::open("gqa");
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden.folder.join(file), folder.path().join(file)).unwrap();
    }
    change(folder.path());
    let device = foehn::device("flex").unwrap();
    match Network::load(folder.path().to_str().unwrap(), Base::Stored, &device, &mut |_| ()) {
        Ok(_) => String::new(),
        Err(error) => text(&error),
    }
}

fn text(error: &LoadError) -> String {
    let mut said = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        said += &format!(": {cause}");
        source = cause.source();
    }
    said
}

fn edit_config(folder: &Path, from: &str, to: &str) {
    let path = folder.join("config.json");
    let config = fs::read_to_string(&path).unwrap();
    assert!(config.contains(from), "{config}");
    fs::write(path, config.replace(from, to)).unwrap();
}

#[test]
fn broken_checkpoints_are_named() {
    assert_eq!(spoiled(|_| ()), "");
    let check = |said: String, parts: &[&str]| {
        for part in parts {
            assert!(said.contains(part), "`{part}` is not in: {said}");
        }
    };
    let tensors = "model.safetensors";
    check(spoiled(|folder| fs::remove_file(folder.join(tensors)).unwrap()), &["safetensors"]);
    check(
        spoiled(|folder| {
            let bytes = fs::read(folder.join(tensors)).unwrap();
            fs::write(folder.join(tensors), &bytes[..bytes.len() - 100]).unwrap();
        }),
        &[tensors],
    );
    check(
        spoiled(|folder| {
            let mut bytes = fs::read(folder.join(tensors)).unwrap();
            bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
            fs::write(folder.join(tensors), bytes).unwrap();
        }),
        &[tensors],
    );
    check(
        spoiled(|folder| edit_config(folder, "\"intermediate_size\": 80", "\"intermediate_size\": 81")),
        &["mlp", "81", "80"],
    );
    check(
        spoiled(|folder| edit_config(folder, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3")),
        &["model.layers.2."],
    );
    check(
        spoiled(|folder| edit_config(folder, "\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"")),
        &["hidden_act", "gelu"],
    );
    check(spoiled(|folder| edit_config(folder, "\"mistral\"", "\"mamba\"")), &["model_type", "mamba"]);
    check(spoiled(|folder| fs::write(folder.join("config.json"), "{").unwrap()), &["config", "JSON"]);
    check(
        spoiled(|folder| {
            let map = r#"{"metadata": {}, "weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}"#;
            fs::write(folder.join("model.safetensors.index.json"), map).unwrap();
        }),
        &["model-00002-of-00002.safetensors"],
    );
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let golden = Golden::open("gqa");
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden.folder.join(file), folder.path().join(file)).unwrap();
    }
    let tokenizers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizers");
    fs::copy(tokenizers.join("tokenizer.model.v3"), folder.path().join("tokenizer.model.v3")).unwrap();
    let device = foehn::device("flex").unwrap();
    match Pretrained::load_as(folder.path().to_str().unwrap(), Base::Stored, &device, &mut |_| ()) {
        Err(LoadError::Vocabulary { tokens, vocab_size, .. }) => assert_eq!((tokens, vocab_size), (32768, 97)),
        other => panic!("{other:?}"),
    }
}

/// A weight that the asked form cannot hold would become infinite, or make its whole block infinite.
#[test]
fn a_weight_that_a_form_cannot_hold_is_named() {
    let golden = Golden::open("gqa");
    let device = foehn::device("flex").unwrap();
    let tensor = "model.layers.1.self_attn.o_proj.weight";
    for (value, too_large) in [(2e6, &[Base::Q8_0][..]), (3.4e38, &[Base::Bf16, Base::Q8_0]), (-9e5, &[])] {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(golden.folder.join("config.json"), folder.path().join("config.json")).unwrap();
        let path = folder.path().join("model.safetensors");
        let weights = foehn_weights::Weights::open(golden.folder.join("model.safetensors")).unwrap();
        // Its rows of 96 are whole blocks of 32, but not of NF4's 64: there it stays in single precision.
        let list: Vec<foehn_weights::Tensor<'_>> = weights
            .names()
            .map(|name| {
                let (mut values, shape) = weights.load_f32(name).unwrap();
                if name == tensor {
                    values[7] = value;
                }
                foehn_weights::Tensor::f32(name, shape, values)
            })
            .collect();
        foehn_weights::save_safetensors(&path, &list, &Default::default()).unwrap();
        for base in [Base::Stored, Base::F32, Base::Bf16, Base::Q8_0, Base::Nf4] {
            let loaded = Network::load(folder.path().to_str().unwrap(), base, &device, &mut |_| ());
            match loaded {
                Ok(_) => assert!(!too_large.contains(&base), "{base} cannot hold {value}"),
                Err(error) => {
                    assert!(too_large.contains(&base), "{base}, {value}: {}", text(&error));
                    assert!(text(&error).contains(tensor) && text(&error).contains("element 7"), "{}", text(&error));
                }
            }
        }
    }
}
