//! Rotary embedding of SmolLM2's queries. An element is a number of the queries, or of the two tables.

mod common;

use common::model::{HEAD_DIM, HEADS, THETA};
use common::{ROWS, device, random, time, tracked};
use criterion::{BenchmarkId, Criterion, Throughput};
use foehn_kernels::{Rope, Rotary};

fn main() {
    common::run(rotary);
}

fn rotary(criterion: &mut Criterion) {
    let device = device();
    let mut group = criterion.benchmark_group("rotary");
    for rows in ROWS {
        let positions: Vec<u32> = (0..rows as u32).collect();
        let tables = || Rotary::new(&positions, 1, &Rope::new(HEAD_DIM, THETA), &device);
        group.throughput(Throughput::Elements((rows * HEAD_DIM) as u64));
        group.bench_function(BenchmarkId::new("tables", rows), |bencher| time(bencher, &device, tables));

        let rotary = tables();
        let query = random(1, [1, HEADS, rows, HEAD_DIM], &device);
        let leaf = tracked(&query);
        let shape = format!("{HEADS}x{rows}x{HEAD_DIM}");
        group.throughput(Throughput::Elements((HEADS * rows * HEAD_DIM) as u64));
        group.bench_function(BenchmarkId::new("forward", &shape), |bencher| {
            time(bencher, &device, || rotary.rotate_queries(query.clone()));
        });
        group.bench_function(BenchmarkId::new("forward_backward", &shape), |bencher| {
            time(bencher, &device, || rotary.rotate_queries(leaf.clone()).backward());
        });
    }
}
