//! A training step over 16 examples of VAKOG, with the default config, and a model of SmolLM2's shape with 4 of its 30
//! layers: forward, backward, clipping, AdamW. An element is a token of the examples, counted without sharing.

mod common;

use std::time::Duration;

use burn::tensor::Tensor;
use common::model::smollm2_of_four_layers;
use common::{device, time, vakog_samples};
use criterion::{Criterion, Throughput};
use foehn_finetune::{AdamW, Noise, TrainingConfig, clip_global_norm, gradients};
use foehn_lora::{Adapter, attach_trainable, parameters, set_parameters};
use foehn_mistral::{Base, Mistral};
use foehn_tokens::Sample;

fn main() {
    common::run(train_step);
}

fn train_step(criterion: &mut Criterion) {
    let config = TrainingConfig::default();
    let samples = vakog_samples(config.batch_size);
    let tokens = samples.iter().map(|sample| sample.len() as u64).sum();
    let samples: Vec<&Sample> = samples.iter().collect();
    let device = device();
    let mut model = smollm2_of_four_layers(Base::F32, &device);
    let adapter = Adapter::new(&config.lora, &model, config.seed).unwrap();
    attach_trainable(&mut model, &adapter).unwrap();
    let mut optimizer = AdamW::new(config.optimizer, &matrices(&model));
    let rates = vec![config.learning_rate; matrices(&model).len()];

    let mut group = criterion.benchmark_group("train_step");
    // A step takes a second or two on two cores.
    group.measurement_time(Duration::from_secs(20)).throughput(Throughput::Elements(tokens));
    group.bench_function("step", |bencher| {
        time(bencher, &device, || {
            let computed = gradients(&mut model, &samples, config.micro_batch_rows, Noise::default(), config.loss_mean);
            let (clipped, norm) = clip_global_norm(computed.gradients, Some(config.max_grad_norm));
            let updated = optimizer.step(matrices(&model), clipped, &rates);
            set_parameters(&mut model, updated);
            (computed.loss, norm)
        });
    });
}

fn matrices(model: &Mistral) -> Vec<Tensor<2>> {
    parameters(model).into_iter().map(|parameter| parameter.tensor).collect()
}
