//! Attention of one of SmolLM2's layers (9 query heads over 3 key heads): packed segments as in training, and one new
//! token over a cache as in decoding. An element is a query row, which is a token.

mod common;

use burn::tensor::{Device, Tensor};
use common::model::{HEAD_DIM, HEADS, KV_HEADS};
use common::{device, random, time, tracked};
use criterion::{BenchmarkId, Criterion, Throughput};
use foehn_kernels::{Visibility, attention};

fn main() {
    common::run(|criterion| {
        segments(criterion);
        cached(criterion);
    });
}

fn segments(criterion: &mut Criterion) {
    let device = device();
    let mut group = criterion.benchmark_group("attention_segments");
    for (prompt, leaves, answer) in [(16, 4, 12), (32, 16, 30)] {
        let (positions, ends) = trie(prompt, leaves, answer);
        let rows = positions.len();
        let visibility = || Visibility::segments(&positions, &ends, None, &device);
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(BenchmarkId::new("visibility", rows), |bencher| time(bencher, &device, visibility));

        let visibility = visibility();
        let [query, key, value] = heads(1, rows, rows, &device);
        group.bench_function(BenchmarkId::new("forward", rows), |bencher| {
            time(bencher, &device, || attention(query.clone(), key.clone(), value.clone(), &visibility));
        });
        let [query, key, value] = [query, key, value].map(|tensor| tracked(&tensor));
        group.bench_function(BenchmarkId::new("forward_backward", rows), |bencher| {
            time(bencher, &device, || attention(query.clone(), key.clone(), value.clone(), &visibility).backward());
        });
    }
}

fn cached(criterion: &mut Criterion) {
    let device = device();
    let mut group = criterion.benchmark_group("attention_cached");
    for (batch, past) in [(1, 128), (1, 1024), (16, 128)] {
        let keys = past + 1;
        let visibility = Visibility::cached(&vec![past; batch], 1, keys, None, &device);
        let [query, key, value] = heads(batch, 1, keys, &device);
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new("forward", format!("{batch}x{past}")), |bencher| {
            time(bencher, &device, || attention(query.clone(), key.clone(), value.clone(), &visibility));
        });
    }
}

/// Query, key and value.
fn heads(batch: usize, queries: usize, keys: usize, device: &Device) -> [Tensor<4>; 3] {
    [
        random(1, [batch, HEADS, queries, HEAD_DIM], device),
        random(2, [batch, KV_HEADS, keys, HEAD_DIM], device),
        random(3, [batch, KV_HEADS, keys, HEAD_DIM], device),
    ]
}

/// Positions and subtree ends of a prompt that is shared by `leaves` answers of the same length.
fn trie(prompt: u32, leaves: u32, answer: u32) -> (Vec<u32>, Vec<u32>) {
    let rows = prompt + leaves * answer;
    let place = |row: u32| match row.checked_sub(prompt) {
        None => (row, rows),
        Some(below) => (prompt + below % answer, prompt + (below / answer + 1) * answer),
    };
    (0..rows).map(place).unzip()
}
