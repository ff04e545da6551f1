//! Models with random weights, for measuring without a checkpoint.

use burn::module::Param;
use burn::tensor::{Device, Tensor};
use foehn_kernels::{Encoding, HalfKind, Row, Weight};
use foehn_weights::DType;

use crate::base::Form;
use crate::load::{Tensors, build};
use crate::projection::frozen;
use crate::{Base, Error, Mistral, MistralConfig};

impl Mistral {
    /// A model of the config's shape with random weights around zero, for measuring the memory and time that a shape
    /// takes. [`Base::Stored`] means bfloat16 here. `progress` is called as in [`load_as`](Self::load_as).
    pub fn synthetic(
        config: &MistralConfig,
        base: Base,
        device: &Device,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Self {
        let made: Result<Self, Error> = build(config, &Noise { base, device }, progress);
        made.expect("noise has every tensor")
    }
}

struct Noise<'a> {
    base: Base,
    device: &'a Device,
}

/// The standard deviation of the weights, as in Mistral's initialisation.
const SPREAD: f32 = 0.02;

impl Tensors for Noise<'_> {
    fn matrix(&self, name: &str, shape: [usize; 2], _rotated: Option<usize>) -> Result<Weight, Error> {
        let seed = name.bytes().fold(0, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let bits = |row: usize| Bits(mix(seed ^ (row as u64) << 20));
        Ok(match self.base.form(name, DType::BF16, shape[1]) {
            Form::Made(_, encoding) | Form::Same(encoding) => {
                Weight::quantised(encoding, shape, self.device, |row, to| blocks(encoding, bits(row), to))
            }
            Form::Half(kind) => Weight::half(kind, shape, self.device, |row, to| {
                for (to, value) in to.as_chunks_mut().0.iter_mut().zip(bits(row).values()) {
                    *to = match kind {
                        HalfKind::F16 => half::f16::from_f32(value).to_le_bytes(),
                        HalfKind::Bf16 => half::bf16::from_f32(value).to_le_bytes(),
                    };
                }
            }),
            Form::Full => {
                // A checkpoint's values are read into a vector of this size, too: the peak of loading is the same.
                let mut values = Vec::with_capacity(shape[0] * shape[1]);
                (0..shape[0]).for_each(|row| values.extend(bits(row).values().take(shape[1])));
                Weight::new(values, shape, self.device)
            }
        })
    }

    fn vector(&self, name: &str, width: usize, _rotated: Option<usize>) -> Result<Param<Tensor<1>>, Error> {
        Ok(frozen(match name.ends_with(".bias") {
            true => Tensor::zeros([width], self.device),
            false => Tensor::ones([width], self.device),
        }))
    }
}

/// Fills a row with random numbers, and with scales that give the weights a realistic spread.
fn blocks(encoding: Encoding, bits: Bits, to: Row<'_>) {
    let half = |value: f32| half::f16::from_f32(value).to_bits();
    let (most, scale, minimum, sub_scale, sub_minimum) = match encoding {
        Encoding::Q8_0 => (255, SPREAD / 74.0, 0.0, 1, 1),
        Encoding::Nf4 => (15, 0.0, 2.0 * SPREAD, 0, 0),
        _ => (15, SPREAD / 4.6 / 32.0, -SPREAD / 4.6 / 32.0 * 7.5, 32, 32),
    };
    for (to, number) in to.numbers.iter_mut().zip(bits.bytes()) {
        *to = number & most;
    }
    to.scales.fill(half(scale));
    to.minima.fill(half(minimum));
    to.sub_scales.fill(sub_scale);
    to.sub_minima.fill(sub_minimum);
}

/// A stream of random bits: SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Clone, Copy)]
struct Bits(u64);

impl Bits {
    fn words(mut self) -> impl Iterator<Item = u64> {
        std::iter::repeat_with(move || {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            mix(self.0)
        })
    }

    fn bytes(self) -> impl Iterator<Item = u8> {
        self.words().flat_map(u64::to_le_bytes)
    }

    /// Uniformly distributed numbers with the standard deviation [`SPREAD`].
    fn values(self) -> impl Iterator<Item = f32> {
        self.words().map(|word| ((word >> 40) as f32 / (1 << 23) as f32 - 1.0) * SPREAD * 3f32.sqrt())
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
