//! Converting rows of single precision to the formats of `--base`, on one core. An element is a weight.

mod common;

use common::noise;
use criterion::{Criterion, Throughput};
use foehn_kernels::NF4_LEVELS;
use foehn_weights::{Planes, Quantization};

const ROW: usize = 4096;

fn main() {
    common::run(quantize);
}

fn quantize(criterion: &mut Criterion) {
    let values = noise(1, ROW);
    let mut group = criterion.benchmark_group("quantize");
    group.throughput(Throughput::Elements(ROW as u64));
    for form in [Quantization::Q8_0, Quantization::Q4K, Quantization::Nf4] {
        let (mut numbers, mut scales, mut minima) = (vec![0; ROW], vec![0; ROW / 32], vec![0; ROW / 32]);
        let (mut sub_scales, mut sub_minima) = (vec![0; ROW / 32], vec![0; ROW / 32]);
        let mut planes = Planes {
            numbers: &mut numbers,
            scales: &mut scales,
            minima: &mut minima,
            sub_scales: &mut sub_scales,
            sub_minima: &mut sub_minima,
        };
        group.bench_function(format!("{form:?}").to_lowercase(), |bencher| {
            bencher.iter(|| form.quantize(&values, &NF4_LEVELS, &mut planes));
        });
    }
}
