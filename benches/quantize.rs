//! Converting rows of single precision to the formats of `--base`, and unpacking the blocks of files, on one core; encoding a
//! matrix as the types of files, on all cores. An element is a weight.

mod common;

use common::noise;
use criterion::{Criterion, Throughput};
use foehn_kernels::NF4_LEVELS;
use foehn_weights::{DType, Planes, Quantization, unpack};

const ROW: usize = 4096;

const BLOCKS: [DType; 12] = [
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q8_0,
    DType::Q2K,
    DType::Q3K,
    DType::Q4K,
    DType::Q5K,
    DType::Q6K,
    DType::Iq4Nl,
    DType::Iq4Xs,
];

/// The types that [`DType::encode`] makes.
const ENCODED: [DType; 11] = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q8_0,
    DType::Q4K,
    DType::Q5K,
    DType::Q6K,
];

/// Room for the parts of a row in any format.
struct Parts {
    numbers: Vec<u8>,
    halves: [Vec<u16>; 2],
    bytes: [Vec<i8>; 2],
}

impl Parts {
    fn new() -> Self {
        let (halves, bytes) = (|| vec![0; ROW / 32], || vec![0; ROW / 16]);
        Self { numbers: vec![0; ROW], halves: [halves(), halves()], bytes: [bytes(), bytes()] }
    }

    fn planes(&mut self) -> Planes<'_> {
        let ([scales, minima], [sub_scales, sub_minima]) = (&mut self.halves, &mut self.bytes);
        Planes { numbers: &mut self.numbers, scales, minima, sub_scales, sub_minima }
    }
}

fn main() {
    common::run(|criterion| {
        quantize(criterion);
        encode(criterion);
    });
}

fn quantize(criterion: &mut Criterion) {
    let values = noise(1, ROW);
    let mut group = criterion.benchmark_group("quantize");
    group.throughput(Throughput::Elements(ROW as u64));
    for form in [Quantization::Q8_0, Quantization::Q4K, Quantization::Nf4] {
        let mut parts = Parts::new();
        group.bench_function(format!("{form:?}").to_lowercase(), |bencher| {
            bencher.iter(|| form.quantize(&values, &NF4_LEVELS, &mut parts.planes()));
        });
    }
    for dtype in BLOCKS {
        let size = ROW / dtype.block_elements() * dtype.block_bytes();
        let bytes: Vec<u8> = (0..size).map(|at| (at * 37) as u8).collect();
        let mut parts = Parts::new();
        group.bench_function(format!("unpack_{dtype}").to_lowercase(), |bencher| {
            bencher.iter(|| unpack(dtype, &bytes, &mut parts.planes()));
        });
    }
}

/// A matrix of 1,536 rows. Their length, 576, is not a whole number of super-blocks, so that K types get rows of 256.
fn encode(criterion: &mut Criterion) {
    let values = noise(2, 1536 * 576);
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(values.len() as u64));
    for dtype in ENCODED {
        let row = if dtype.block_elements() == 256 { 256 } else { 576 };
        group.bench_function(format!("{dtype}").to_lowercase(), |bencher| {
            bencher.iter(|| dtype.encode(&values, row));
        });
    }
}
