//! Compares products of block-quantised weights with plain loops in f64 over the weights of their encodings'
//! definitions, on every device of this build and machine.

mod common;

use burn::module::Param;
use burn::tensor::{Device, Tensor};
use common::{devices, noise, relative_error, tensor, values};
use foehn_kernels::{
    Encoding, IQ4_LEVELS, Linear, LowRank, NF4_LEVELS, Row, Targets, Weight, linear_cross_entropy, projection,
    token_log_probs,
};
use proptest::prelude::*;

/// The planes of a row.
struct Planes {
    numbers: Vec<u8>,
    scales: Vec<u16>,
    minima: Vec<u16>,
    sub_scales: Vec<i8>,
    sub_minima: Vec<i8>,
}

impl Planes {
    /// Random planes. `special` has scales and minima at the ends of half precision's range.
    fn new(encoding: Encoding, input: usize, seed: u64, special: &[u16]) -> Self {
        let bits: Vec<u32> = noise(seed, 4 * input).iter().map(|x| ((x + 1.0) * (1 << 23) as f32) as u32).collect();
        let levels = match encoding {
            Encoding::Q8_0 => 256,
            Encoding::Q6K => 64,
            Encoding::Q2K => 4,
            Encoding::Q3K => 8,
            Encoding::Q5_0 | Encoding::Q5_1 | Encoding::Q5K => 32,
            _ => 16,
        };
        // An exponent from 2⁻¹⁴ on, or a subnormal number: every fourth is subnormal.
        let half = |bits: u32| {
            let exponent = if bits.is_multiple_of(4) { 0 } else { 1 + bits / 4 % 11 };
            (bits & 0x83ff | exponent << 10) as u16
        };
        let plane = |from: usize| bits[from * input..][..input].iter();
        let mut planes = Self {
            numbers: plane(0).map(|bits| (bits / 7 % levels) as u8).collect(),
            scales: plane(1).map(|&bits| half(bits)).collect(),
            minima: plane(2).map(|&bits| half(bits)).collect(),
            sub_scales: plane(3).map(|bits| (bits % 256) as u8 as i8).collect(),
            sub_minima: plane(3).map(|bits| (bits / 256 % 256) as u8 as i8).collect(),
        };
        for (at, &bits) in special.iter().enumerate() {
            let plane = if at % 2 == 0 { &mut planes.scales } else { &mut planes.minima };
            plane[0] = bits;
        }
        planes
    }

    fn fill(&self, row: Row<'_>) {
        row.numbers.copy_from_slice(&self.numbers);
        row.scales.copy_from_slice(&self.scales[..row.scales.len()]);
        row.minima.copy_from_slice(&self.minima[..row.minima.len()]);
        row.sub_scales.copy_from_slice(&self.sub_scales[..row.sub_scales.len()]);
        row.sub_minima.copy_from_slice(&self.sub_minima[..row.sub_minima.len()]);
    }

    /// The weights by the definition of [`Encoding`]. None has more bits than an f64, so rounding them to single
    /// precision gives the same as arithmetic in single precision.
    fn weights(&self, encoding: Encoding) -> Vec<f64> {
        let input = self.numbers.len();
        let shared = match encoding {
            Encoding::Q2K | Encoding::Q3K | Encoding::Q4K | Encoding::Q5K | Encoding::Q6K | Encoding::Iq4Xs => 256,
            Encoding::Nf4 => input,
            _ => 32,
        };
        let weight = |k: usize| {
            let (number, group) = (f64::from(self.numbers[k]), k / encoding.group());
            let (scale, minimum) = (half(self.scales[k / shared]), half(self.minima[k / shared]));
            let (sub_scale, sub_minimum) = (f64::from(self.sub_scales[group]), f64::from(self.sub_minima[group]));
            match encoding {
                Encoding::Q4_0 => scale * (number - 8.0),
                Encoding::Q5_0 => scale * (number - 16.0),
                Encoding::Q8_0 => scale * (number - 128.0),
                Encoding::Q4_1 | Encoding::Q5_1 => scale * number + minimum,
                Encoding::Q2K | Encoding::Q4K | Encoding::Q5K => scale * sub_scale * number + minimum * sub_minimum,
                Encoding::Q3K => scale * sub_scale * (number - 4.0),
                Encoding::Q6K => scale * sub_scale * (number - 32.0),
                Encoding::Iq4Nl => scale * f64::from(IQ4_LEVELS[usize::from(self.numbers[k])]),
                Encoding::Iq4Xs => scale * sub_scale * f64::from(IQ4_LEVELS[usize::from(self.numbers[k])]),
                // The scale itself is a number in single precision.
                Encoding::Nf4 => {
                    f64::from(NF4_LEVELS[usize::from(self.numbers[k])])
                        * f64::from((scale * sub_scale + minimum) as f32)
                }
                _ => unreachable!("not among the encodings tested"),
            }
        };
        (0..input).map(weight).collect()
    }
}

/// IEEE 754 half precision.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 0x3ff) / 1024.0);
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction) * 2f64.powi(exponent - 15),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

/// A quantised matrix: its planes, and its weights in f64.
struct Matrix {
    encoding: Encoding,
    shape: [usize; 2],
    rows: Vec<Planes>,
    weights: Vec<f64>,
}

impl Matrix {
    fn new(encoding: Encoding, [out, input]: [usize; 2], seed: u64, special: &[u16]) -> Self {
        let planes = |row: usize| Planes::new(encoding, input, seed.wrapping_add(row as u64), special);
        let rows: Vec<Planes> = (0..out).map(planes).collect();
        let weights = rows.iter().flat_map(|row| row.weights(encoding)).collect();
        Self { encoding, shape: [out, input], rows, weights }
    }

    fn weight(&self, device: &Device) -> Weight {
        Weight::quantised(self.encoding, self.shape, device, |index, row| self.rows[index].fill(row))
    }

    /// In single precision.
    fn rounded(&self) -> Vec<f32> {
        self.weights.iter().map(|&weight| weight as f32).collect()
    }
}

/// `a·b`, optionally with either matrix transposed.
fn times(a: &[f64], b: &[f64], [rows, inner, columns]: [usize; 3], [flip_a, flip_b]: [bool; 2]) -> Vec<f64> {
    let a = |row: usize, at: usize| a[if flip_a { at * rows + row } else { row * inner + at }];
    let b = |at: usize, column: usize| b[if flip_b { column * inner + at } else { at * columns + column }];
    let element = |row: usize, column: usize| (0..inner).map(|at| a(row, at) * b(at, column)).sum::<f64>();
    (0..rows * columns).map(|place| element(place / columns, place % columns)).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

fn sum(a: &[f64], b: &[f64], scale: f64) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + scale * b).collect()
}

/// A product of `rows` rows with an adapter of rank `r`: its inputs and its expected results.
struct Product {
    matrix: Matrix,
    rows: usize,
    r: Option<usize>,
    x: Vec<f32>,
    a: Vec<f32>,
    b: Vec<f32>,
    dy: Vec<f32>,
}

const SCALE: f64 = 0.3;

impl Product {
    fn new(matrix: Matrix, rows: usize, r: Option<usize>, seed: u64) -> Self {
        let ([out, input], rank) = (matrix.shape, r.unwrap_or(0));
        let [x, a, b, dy] = [rows * input, rank * input, out * rank, rows * out];
        let given = |seed_of: u64, count| noise(seed ^ seed_of, count);
        // If the scales of a matrix are large, its weights are large, and the adapter's are scaled to match.
        let size = (matrix.weights.iter().map(|w| w * w).sum::<f64>() / matrix.weights.len() as f64).sqrt() as f32;
        let b = given(3, b).iter().map(|b| b * size).collect();
        Self { x: given(1, x), a: given(2, a), b, dy: given(4, dy), matrix, rows, r }
    }

    /// The output, and the gradients of its product with `dy` with respect to x and the adapter's matrices.
    fn expected(&self) -> Vec<Vec<f64>> {
        let ([out, input], rows, w) = (self.matrix.shape, self.rows, &self.matrix.weights);
        let [x, a, b, dy] = [&self.x, &self.a, &self.b, &self.dy].map(|values| wide(values));
        let y = times(&x, w, [rows, input, out], [false, true]);
        let dx = times(&dy, w, [rows, out, input], [false, false]);
        let Some(r) = self.r else { return vec![y, dx] };
        let low = times(&x, &a, [rows, input, r], [false, true]);
        let d_low = times(&dy, &b, [rows, out, r], [false, false]);
        let y = sum(&y, &times(&low, &b, [rows, r, out], [false, true]), SCALE);
        let dx = sum(&dx, &times(&d_low, &a, [rows, r, input], [false, false]), SCALE);
        let da = times(&d_low, &x, [r, rows, input], [true, false]);
        let db = times(&dy, &low, [out, rows, r], [true, false]);
        let scaled = |values: Vec<f64>| values.iter().map(|value| SCALE * value).collect();
        vec![y, dx, scaled(da), scaled(db)]
    }

    fn found(&self, device: &Device) -> Vec<Vec<f32>> {
        let [out, input] = self.matrix.shape;
        let weight = self.matrix.weight(device);
        let leaf = |values: &[f32], shape| tensor(values, shape, device).autodiff().require_grad();
        let adapter = self.r.map(|r| LowRank {
            a: Param::from_tensor(leaf(&self.a, [r, input])),
            b: Param::from_tensor(leaf(&self.b, [out, r])),
            scale: SCALE,
            dropout: None,
        });
        let linear = Linear { weight: &weight, bias: None, adapter: adapter.as_ref() };
        let x = leaf(&self.x, [self.rows, input]);
        let y = projection(x.clone(), linear);
        let dy: Tensor<2> = tensor(&self.dy, [self.rows, out], device);
        let gradients = y.clone().mul(dy).sum().backward();
        let mut found = vec![values(y.inner()), values(x.grad(&gradients).unwrap())];
        if let Some(adapter) = &adapter {
            found.extend([&adapter.a, &adapter.b].map(|matrix| values(matrix.val().grad(&gradients).unwrap())));
        }
        found
    }
}

fn check(product: &Product) {
    let expected = product.expected();
    for (name, device) in devices() {
        let what = format!("{name} {:?} {:?}, {} rows", product.matrix.encoding, product.matrix.shape, product.rows);
        let found = product.found(&device);
        assert_eq!(found.len(), expected.len(), "{what}");
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let error = relative_error(found, expected);
            assert!(error < 1e-5, "{what}: {index}: {error}");
        }
        assert!(found == product.found(&device), "{what}: another run gives something else");
    }
}

/// Checks the expanded matrix: as a whole, by rows, and with another matrix added.
fn check_opened(matrix: &Matrix) {
    let ([out, input], expected) = (matrix.shape, matrix.rounded());
    for (name, device) in devices() {
        let what = format!("{name} {:?} {:?}", matrix.encoding, matrix.shape);
        let weight = matrix.weight(&device);
        assert_eq!((weight.dims(), weight.device()), (matrix.shape, device.clone()), "{what}");
        assert!(same(&values(weight.to_tensor()), &expected), "{what}: to_tensor");
        let rows: Vec<u32> = [out - 1, 0, out / 2, out - 1].map(|row| row as u32).to_vec();
        let selected: Vec<f32> =
            rows.iter().flat_map(|&row| &expected[row as usize * input..][..input]).copied().collect();
        assert!(same(&values(weight.select(&rows)), &selected), "{what}: select");
        let added = weight.plus(tensor(&noise(1, out * input), [out, input], &device));
        let sums: Vec<f32> = noise(1, out * input).iter().zip(&expected).map(|(a, b)| a + b).collect();
        assert!(same(&values(added.to_tensor()), &sums), "{what}: plus");
    }
}

/// Whether all values are equal. Values that are not finite may differ in kind, because a device may subtract the zero
/// after the multiplication.
fn same(found: &[f32], expected: &[f32]) -> bool {
    let same = |(a, b): (&f32, &f32)| a == b || !a.is_finite() && !b.is_finite();
    found.len() == expected.len() && found.iter().zip(expected).all(same)
}

/// An encoding, and a shape that fits it.
fn encoded() -> impl Strategy<Value = (Encoding, [usize; 2])> {
    (prop::sample::select(Encoding::ALL.to_vec()), 1usize..70, 1usize..5).prop_map(|(encoding, out, blocks)| {
        let blocks = if encoding.divisor() == 256 { blocks.min(2) } else { 2 * blocks - 1 };
        (encoding, [out, blocks * encoding.divisor()])
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Tests few rows and many rows, for devices that treat them differently.
    #[test]
    fn products_and_their_gradients_equal_the_definition(
        seed in any::<u64>(), (encoding, shape) in encoded(), rows in prop_oneof![1usize..4, 5usize..12, 30usize..40],
        r in prop::option::of(1usize..5),
    ) {
        check(&Product::new(Matrix::new(encoding, shape, seed, &[]), rows, r, seed));
    }

    #[test]
    fn opened_weights_are_the_definitions_to_the_last_bit(seed in any::<u64>(), (encoding, shape) in encoded()) {
        check_opened(&Matrix::new(encoding, shape, seed, &[]));
    }

    /// A quantised vocabulary gives the same loss, gradient and probabilities as its expanded weights.
    #[test]
    fn a_quantised_head_is_its_opened_weights(seed in any::<u64>(), (encoding, [out, d_model]) in encoded(), rows in 1usize..20) {
        let (vocab, shape) = (out + 1, [out + 1, d_model]);
        let matrix = Matrix::new(encoding, shape, seed, &[]);
        let targets = Targets::new((0..2 * rows).map(|i| ((i * 7 % rows) as u32, (i * 5 % vocab) as u32, 1.0 + (i % 3) as f32)));
        let largest = matrix.weights.iter().fold(0.0, |a: f64, b| a.max(b.abs())) as f32;
        let hidden: Vec<f32> = noise(seed, rows * d_model).iter().map(|x| x / largest.max(1e-6)).collect();
        for (name, device) in devices() {
            let [found, expected] = [matrix.weight(&device), Weight::dense(tensor(&matrix.rounded(), shape, &device))].map(|weight| {
                let leaf = tensor(&hidden, [rows, d_model], &device).autodiff().require_grad();
                let loss = linear_cross_entropy(leaf.clone(), &weight, &targets);
                let gradient = values(leaf.grad(&loss.backward()).unwrap());
                [values(loss.inner()), gradient, token_log_probs(leaf.inner(), &weight, &targets)]
            });
            for (found, expected) in found.iter().zip(&expected) {
                let error = relative_error(found, &wide(expected));
                prop_assert!(error < 1e-5, "{name} {encoding:?}: {error}");
            }
        }
    }
}

/// Tests every number of rows around the limit at which a device may change its method, in every encoding.
#[test]
fn every_encoding_multiplies_any_number_of_rows() {
    for (index, encoding) in Encoding::ALL.into_iter().enumerate() {
        for rows in [1, 2 + index % 6, 8, 9] {
            let matrix = Matrix::new(encoding, [5, 2 * encoding.divisor()], 7, &[]);
            check(&Product::new(matrix, rows, None, 7));
        }
    }
}

/// Scales and minima at the ends of half precision's range. Values that are not finite must stay visible.
#[test]
fn special_scales_open_to_what_they_are() {
    let finite = [0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x0400, 0x83ff, 0x7bff, 0xfbff];
    let infinite = [0x7c00, 0xfc00, 0x7c01, 0x7e00, 0xffff];
    for encoding in Encoding::ALL {
        let shape @ [out, input] = [3, encoding.divisor()];
        for scale in finite.into_iter().chain(infinite) {
            check_opened(&Matrix::new(encoding, shape, 5, &[scale]));
            check_opened(&Matrix::new(encoding, shape, 5, &[0x3c00, scale]));
        }
        for scale in infinite {
            let matrix = Matrix::new(encoding, shape, 5, &[scale]);
            for (name, device) in devices() {
                let weight = matrix.weight(&device);
                for rows in [1, 9] {
                    let x = tensor(&vec![1.0; rows * input], [rows, input], &device);
                    let y = values(projection(x, Linear { weight: &weight, bias: None, adapter: None }));
                    assert_eq!(y.len(), rows * out);
                    assert!(y.iter().all(|y| !y.is_finite()), "{name} {encoding:?} {scale:#x}: {y:?}");
                }
            }
        }
    }
}
