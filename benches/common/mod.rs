//! Shared by the benchmarks: settings, a device, random tensors, and a model of SmolLM2's shape.
//!
//! `cargo bench` runs all of them in a few minutes; `cargo bench --bench projection -- 512` runs those that match.
//! Criterion prints a time and a throughput. The doc of each benchmark says what an element is.
#![allow(dead_code)] // Each benchmark uses its own part.

pub mod model;

use std::path::{Path, PathBuf};
use std::time::Duration;

use burn::tensor::{Device, Tensor, TensorData};
use criterion::{Bencher, Criterion};
use foehn_corpus::{Record, read_clean};
use foehn_tokens::{ChatTemplate, Sample, Tokenizer};

/// The numbers of rows for kernels: a short micro-batch, and half of a recipe's default one.
pub const ROWS: [usize; 2] = [64, 512];

/// Runs benchmarks for `cargo bench`: short ones, so that all of them take a few minutes. Criterion's arguments
/// (`--measurement-time`, `--sample-size`, …) make them longer.
pub fn run(benches: impl FnOnce(&mut Criterion)) {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .nresamples(5000)
        .configure_from_args();
    benches(&mut criterion);
    criterion.final_summary();
}

/// The first device of this build.
pub fn device() -> Device {
    let name = *foehn::available().first().expect("a build with at least one backend");
    foehn::device(name).unwrap()
}

/// Measures `work` until the device has finished it: some devices only queue the work and return.
pub fn time<T>(bencher: &mut Bencher<'_>, device: &Device, mut work: impl FnMut() -> T) {
    bencher.iter(|| {
        let done = work();
        device.sync().unwrap();
        done
    });
}

/// Numbers in `[-1, 1)`, the same for the same seed.
pub fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// A tensor of [`noise`].
pub fn random<const D: usize>(seed: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(noise(seed, shape.iter().product()), shape), device)
}

/// The same tensor as a leaf that autodiff tracks.
pub fn tracked<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    tensor.clone().autodiff().require_grad()
}

/// A path in the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// SmolLM2's tokenizer and chat template.
pub fn text_side() -> (Tokenizer, ChatTemplate) {
    let folder = repository("tests/golden/tokenizers/smollm2");
    let tokenizer = Tokenizer::open(&folder).unwrap();
    let template = ChatTemplate::open(&folder, &tokenizer).unwrap();
    (tokenizer, template)
}

/// The hand-written records of VAKOG, task by task.
pub fn vakog() -> Vec<Record> {
    ["choose", "describe", "explain", "multi", "recognise", "rewrite"]
        .iter()
        .flat_map(|task| read_clean(&repository(&format!("datasets/vakog/parts/{task}.jsonl"))).unwrap())
        .collect()
}

/// `count` samples of VAKOG, spread evenly over its tasks.
pub fn vakog_samples(count: usize) -> Vec<Sample> {
    let (tokenizer, template) = text_side();
    let records = vakog();
    let spread = (0..count).map(|index| &records[index * records.len() / count]);
    spread.map(|record| template.sample(&tokenizer, record).unwrap()).collect()
}
