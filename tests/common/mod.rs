//! Shared by the integration tests: the golden fixtures and comparisons.
#![allow(dead_code)] // Each test binary uses its own part.

pub mod scene;

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use foehn_kernels::Targets;
use foehn_mistral::{Mistral, Packed};
use foehn_weights::Weights;
use serde_json::Value;

/// One of the models under `tests/golden/model`.
pub struct Golden {
    pub folder: PathBuf,
    pub json: Value,
    weights: Weights,
    device: Device,
}

impl Golden {
    pub fn open(name: &str) -> Self {
        Self::on(name, foehn::device("flex").unwrap())
    }

    pub fn on(name: &str, device: Device) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/model").join(name);
        let json = std::fs::read_to_string(folder.join("expected.json")).unwrap();
        let weights = Weights::open(folder.join("expected.safetensors")).unwrap();
        Self { json: serde_json::from_str(&json).unwrap(), folder, weights, device }
    }

    pub fn model(&self) -> Mistral {
        self.model_with(|_| ())
    }

    /// The model after a change of its `config.json`.
    pub fn model_with(&self, change: impl FnOnce(&mut Value)) -> Mistral {
        let config = std::fs::read_to_string(self.folder.join("config.json")).unwrap();
        let mut config: Value = serde_json::from_str(&config).unwrap();
        change(&mut config);
        let config = config.to_string();
        let weights = Weights::open(&self.folder).unwrap();
        let config = Mistral::config_of(&weights, Some(&config)).unwrap();
        Mistral::load(&config, &weights, &self.device).unwrap()
    }

    pub fn expected(&self, key: &str) -> Vec<f32> {
        self.weights.load_f32(key).unwrap().0
    }

    pub fn loss(&self) -> f32 {
        self.json["loss"].as_f64().unwrap() as f32
    }

    pub fn supervised(&self) -> f64 {
        self.json["supervised_targets"].as_f64().unwrap()
    }

    /// Ids and loss mask of a sample.
    pub fn sample(&self, index: usize) -> (Vec<u32>, Vec<bool>) {
        let sample = &self.json["samples"][index];
        let numbers = |key: &str| sample[key].as_array().unwrap().iter().map(|value| value.as_u64().unwrap());
        (numbers("input_ids").map(|id| id as u32).collect(), numbers("loss_mask").map(|mask| mask == 1).collect())
    }

    /// Samples one after the other, each as a segment.
    pub fn rows(&self, samples: &[usize]) -> Rows {
        let mut rows = Rows::default();
        for &index in samples {
            let (ids, mask) = self.sample(index);
            let start = rows.input_ids.len() as u32;
            for (position, &id) in ids.iter().enumerate() {
                if position > 0 && mask[position] {
                    rows.targets.push((start + position as u32 - 1, id, 1.0));
                }
                rows.input_ids.push(id);
                rows.position_ids.push(position as u32);
                rows.subtree_ends.push(start + ids.len() as u32);
            }
        }
        rows
    }
}

/// A packed batch without a tokenizer.
#[derive(Default)]
pub struct Rows {
    pub input_ids: Vec<u32>,
    pub position_ids: Vec<u32>,
    pub subtree_ends: Vec<u32>,
    pub targets: Vec<(u32, u32, f32)>,
}

impl Rows {
    pub fn packed(&self) -> Packed<'_> {
        Packed { input_ids: &self.input_ids, position_ids: &self.position_ids, subtree_ends: &self.subtree_ends }
    }

    pub fn targets(&self) -> Targets {
        Targets::new(self.targets.iter().copied())
    }
}

/// `‖a − b‖ / ‖b‖`
pub fn relative_error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let difference: f64 = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    let norm: f64 = expected.iter().map(|b| b * b).sum();
    (difference / norm.max(1e-30)).sqrt()
}

/// Numbers in `[-1, 1)`.
pub fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| 2.0 * next()).collect()
}

pub fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

/// `|found - expected| <= absolute + relative · |expected|`, element by element.
pub fn assert_close<const D: usize>(what: &str, found: Tensor<D>, expected: &[f32], absolute: f32, relative: f32) {
    let found = values(found);
    assert_eq!(found.len(), expected.len(), "{what}: another number of elements");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(error <= absolute + relative * expected.abs(), "{what}[{index}]: {found}, expected {expected}");
    }
}

/// The devices of this build and this machine, with their names. The names in `FOEHN_REQUIRE_DEVICES` (separated by
/// commas) must be among them: CI lists the installed ones, so that a test cannot pass only because a driver is
/// missing.
pub fn devices() -> Vec<(&'static str, Device)> {
    let found: Vec<_> =
        foehn::available().into_iter().filter_map(|name| Some((name, foehn::device(name).ok()?))).collect();
    let required = std::env::var("FOEHN_REQUIRE_DEVICES").unwrap_or_default();
    for name in required.split(',').filter(|name| !name.is_empty()) {
        assert!(found.iter().any(|(found, _)| *found == name), "device {name} is required and not there");
    }
    found
}

/// The token ids in a golden file.
pub fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}
