//! RMSNorm at SmolLM2's width. An element is a number of the input.

mod common;

use common::model::{EPS, HIDDEN};
use common::{ROWS, device, random, time, tracked};
use criterion::{BenchmarkId, Criterion, Throughput};
use foehn_kernels::rms_norm;

fn main() {
    common::run(rms_norms);
}

fn rms_norms(criterion: &mut Criterion) {
    let device = device();
    let weight = random(2, [HIDDEN], &device);
    let mut group = criterion.benchmark_group("rms_norm");
    for rows in ROWS {
        let x = random(1, [rows, HIDDEN], &device);
        let leaf = tracked(&x);
        let shape = format!("{rows}x{HIDDEN}");
        group.throughput(Throughput::Elements((rows * HIDDEN) as u64));
        group.bench_function(BenchmarkId::new("forward", &shape), |bencher| {
            time(bencher, &device, || rms_norm(x.clone(), weight.clone(), EPS));
        });
        group.bench_function(BenchmarkId::new("forward_backward", &shape), |bencher| {
            time(bencher, &device, || rms_norm(leaf.clone(), weight.clone(), EPS).backward());
        });
    }
}
