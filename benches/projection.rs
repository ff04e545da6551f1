//! The projection with and without an adapter of rank 8, at SmolLM2's shapes and at one of a 7B model; and the product alone
//! with a weight in every block-quantised encoding.
//!
//! An element is a floating-point operation; a multiplication with its addition counts as two. So `Gelem/s` means
//! GFLOP/s. Counted are the products of the definition: one with the weight forward and one backward (the weight is
//! frozen), and two with the adapter's matrices forward and four backward.

mod common;

use burn::module::Param;
use burn::tensor::{Device, Tensor};
use common::model::{HEAD_DIM, HIDDEN, INTERMEDIATE, KV_HEADS};
use common::{ROWS, device, noise, random, time, tracked};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use foehn_kernels::{Encoding, Linear, LowRank, Weight, projection};

const RANK: usize = 8;

fn main() {
    common::run(projections);
}

fn projections(criterion: &mut Criterion) {
    let device = device();
    let mut group = criterion.benchmark_group("projection");
    let smollm2 = [(HIDDEN, HIDDEN), (HIDDEN, KV_HEADS * HEAD_DIM), (HIDDEN, INTERMEDIATE), (INTERMEDIATE, HIDDEN)];
    for rows in ROWS {
        for (input, out) in smollm2 {
            shape(&mut group, rows, input, out, &device);
        }
    }
    shape(&mut group, 64, 4096, 4096, &device);
    for encoding in Encoding::ALL {
        quantised(&mut group, encoding, &device);
    }
}

/// The product with a quantised weight, of the few rows of a decoding step and of a micro-batch.
fn quantised(group: &mut BenchmarkGroup<'_, WallTime>, encoding: Encoding, device: &Device) {
    let (input, out) = (4096, 4096);
    let weight = Weight::quantised(encoding, [out, input], device, |row, to| {
        to.numbers.iter_mut().enumerate().for_each(|(at, number)| *number = ((row + at * 7) % 4) as u8);
        to.scales.fill(0x1c00);
        to.minima.fill(0x9c00);
        to.sub_scales.fill(5);
        to.sub_minima.fill(3);
    });
    for rows in [1, 64] {
        let x = random(1, [rows, input], device);
        group.throughput(Throughput::Elements((2 * rows * input * out) as u64));
        let name = format!("{rows}x{input}x{out}_{}", format!("{encoding:?}").to_lowercase());
        group.bench_function(BenchmarkId::new("quantised_forward", name), |bencher| {
            time(bencher, device, || projection(x.clone(), Linear { weight: &weight, bias: None, adapter: None }));
        });
    }
}

fn shape(group: &mut BenchmarkGroup<'_, WallTime>, rows: usize, input: usize, out: usize, device: &Device) {
    let name = format!("{rows}x{input}x{out}");
    let x = random(1, [rows, input], device);
    let weight = Weight::new(noise(2, out * input), [out, input], device);
    let [a, b] = [random(3, [RANK, input], device), random(4, [out, RANK], device)];
    let frozen = adapter(a.clone(), b.clone());
    let trained = adapter(tracked(&a), tracked(&b));
    let leaf = tracked(&x);
    let base = 2 * rows * input * out;
    let low = 2 * rows * RANK * (input + out);

    group.throughput(Throughput::Elements(base as u64));
    group.bench_function(BenchmarkId::new("base_forward", &name), |bencher| {
        time(bencher, device, || projection(x.clone(), Linear { weight: &weight, bias: None, adapter: None }));
    });
    group.throughput(Throughput::Elements((base + low) as u64));
    group.bench_function(BenchmarkId::new("forward", &name), |bencher| {
        time(bencher, device, || projection(x.clone(), Linear { weight: &weight, bias: None, adapter: Some(&frozen) }));
    });
    group.throughput(Throughput::Elements((2 * base + 3 * low) as u64));
    group.bench_function(BenchmarkId::new("forward_backward", &name), |bencher| {
        time(bencher, device, || {
            projection(leaf.clone(), Linear { weight: &weight, bias: None, adapter: Some(&trained) }).backward()
        });
    });
}

fn adapter(a: Tensor<2>, b: Tensor<2>) -> LowRank {
    LowRank { a: Param::from_tensor(a), b: Param::from_tensor(b), scale: 2.0, dropout: None }
}
