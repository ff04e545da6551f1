//! The loss over 64 supervised rows of 512 and SmolLM2's vocabulary, for training and for scoring. An element is a
//! supervised token.

mod common;

use common::model::{HIDDEN, VOCAB};
use common::{device, noise, random, time, tracked};
use criterion::{Criterion, Throughput};
use foehn_kernels::{Targets, Weight, linear_cross_entropy, token_log_probs};

const ROWS: usize = 512;
const SUPERVISED: usize = 64;

fn main() {
    common::run(cross_entropy);
}

fn cross_entropy(criterion: &mut Criterion) {
    let device = device();
    let hidden = random(1, [ROWS, HIDDEN], &device);
    let leaf = tracked(&hidden);
    let weight = noise(2, VOCAB * HIDDEN).into_iter().map(|x| 0.07 * x).collect();
    let weight = Weight::new(weight, [VOCAB, HIDDEN], &device);
    // The last rows of each of eight examples, with ids from the whole vocabulary.
    let target = |index: usize| {
        let row = (index / 8) * (ROWS / 8) + ROWS / 8 - 8 + index % 8;
        (row as u32, (index * 7919 % VOCAB) as u32, 1.0)
    };
    let targets = Targets::new((0..SUPERVISED).map(target));
    let mut group = criterion.benchmark_group("cross_entropy");
    group.throughput(Throughput::Elements(SUPERVISED as u64));
    group.bench_function("forward", |bencher| {
        time(bencher, &device, || linear_cross_entropy(hidden.clone(), &weight, &targets));
    });
    group.bench_function("forward_backward", |bencher| {
        time(bencher, &device, || linear_cross_entropy(leaf.clone(), &weight, &targets).backward());
    });
    group.bench_function("token_log_probs", |bencher| {
        time(bencher, &device, || token_log_probs(hidden.clone(), &weight, &targets));
    });
}
