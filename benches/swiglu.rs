//! SwiGLU at SmolLM2's feed-forward width. An element is a number of the output.

mod common;

use common::model::INTERMEDIATE;
use common::{ROWS, device, random, time, tracked};
use criterion::{BenchmarkId, Criterion, Throughput};
use foehn_kernels::swiglu;

fn main() {
    common::run(swiglus);
}

fn swiglus(criterion: &mut Criterion) {
    let device = device();
    let mut group = criterion.benchmark_group("swiglu");
    for rows in ROWS {
        let [gate, up] = [1, 2].map(|seed| random(seed, [rows, INTERMEDIATE], &device));
        let [tracked_gate, tracked_up] = [&gate, &up].map(tracked);
        let shape = format!("{rows}x{INTERMEDIATE}");
        group.throughput(Throughput::Elements((rows * INTERMEDIATE) as u64));
        group.bench_function(BenchmarkId::new("forward", &shape), |bencher| {
            time(bencher, &device, || swiglu(gate.clone(), up.clone()));
        });
        group.bench_function(BenchmarkId::new("forward_backward", &shape), |bencher| {
            time(bencher, &device, || swiglu(tracked_gate.clone(), tracked_up.clone()).backward());
        });
    }
}
