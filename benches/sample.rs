//! Choosing a token from 49,152 logits, peaked as those of a model, and nearly flat. An element is a token.

mod common;

use common::noise;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use foehn_generate::{Sampler, SamplingConfig};

const VOCAB: usize = 49_152;

fn main() {
    common::run(sample);
}

fn sample(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sample");
    group.throughput(Throughput::Elements(1));
    let draws = SamplingConfig { temperature: 0.8, ..SamplingConfig::default() };
    let ways = [
        ("plain", draws.clone()),
        ("top_k", SamplingConfig { top_k: Some(40), ..draws.clone() }),
        ("top_p", SamplingConfig { top_p: Some(0.95), ..draws }),
    ];
    // The cube of a uniform number: few logits are large, as in a model.
    for (shape, scale) in [("peaked", 20.0), ("flat", 0.1)] {
        let logits: Vec<f32> = noise(1, VOCAB).into_iter().map(|x| scale * x * x * x).collect();
        for (way, config) in &ways {
            let mut sampler = Sampler::new(config, 0);
            group.bench_function(BenchmarkId::new(*way, shape), |bencher| {
                bencher.iter_batched_ref(|| logits.clone(), |logits| sampler.next(logits, &[]), BatchSize::SmallInput);
            });
        }
    }
}
