//! Compares the error of encoded rows with that of the Python package `gguf` and of llama.cpp, and checks what is refused.

mod common;

use std::fs;
use std::path::Path;

use common::{GgufTensor, gguf, scratch, unhex};
use foehn_weights::{DType, EncodeError, Weights};
use half::f16;
use proptest::prelude::*;

/// The types that are made, with GGML's numbers for them.
const TYPES: [(DType, u32); 11] = [
    (DType::F32, 0),
    (DType::F16, 1),
    (DType::BF16, 30),
    (DType::Q8_0, 8),
    (DType::Q4_0, 2),
    (DType::Q4_1, 3),
    (DType::Q5_0, 6),
    (DType::Q5_1, 7),
    (DType::Q4K, 12),
    (DType::Q5K, 13),
    (DType::Q6K, 14),
];

const ROW: usize = 256;

fn kinds() -> Vec<(String, Vec<f32>)> {
    let values = golden()["values"].as_object().unwrap().clone();
    values
        .into_iter()
        .map(|(kind, values)| {
            (kind, unhex(&values).as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
        })
        .collect()
}

/// `tests/golden/gguf_quantize.json`, written by `gguf_quantize.py`.
fn golden() -> serde_json::Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/gguf_quantize.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// What this crate reads back from a file with the encoded values.
fn decoded(dtype: DType, id: u32, values: &[f32]) -> Vec<f32> {
    let bytes = dtype.encode(values, ROW).unwrap();
    assert_eq!(bytes.len(), values.len() / dtype.block_elements() * dtype.block_bytes(), "{dtype}");
    let (_folder, path) = scratch("encoded.gguf");
    fs::write(&path, gguf(&[], &[GgufTensor("t", &[values.len() as u64], id, 0)], &bytes)).unwrap();
    Weights::open(&path).unwrap().load_f32("t").unwrap().0
}

fn squared_error(values: &[f32], found: &[f32]) -> f64 {
    values.iter().zip(found).map(|(value, found)| (f64::from(*found) - f64::from(*value)).powi(2)).sum()
}

#[test]
fn no_type_loses_more_than_the_references() {
    let golden = golden();
    let mut worse = Vec::new();
    for (kind, values) in kinds() {
        for (dtype, id) in TYPES {
            let error = squared_error(&values, &decoded(dtype, id, &values));
            for reference in ["gguf", "llama.cpp"] {
                // Neither reference is asked about F32, and the package does not make K types.
                let Some(limit) = golden["errors"][dtype.name()][&kind][reference].as_f64() else { continue };
                if error > limit * (1.0 + 1e-6) {
                    worse.push(format!("{kind}, {dtype}: {error:e}, {reference} {limit:e}"));
                }
            }
        }
    }
    assert!(worse.is_empty(), "{worse:#?}");
}

#[test]
fn single_precision_is_kept_bit_for_bit() {
    for (_, values) in kinds() {
        assert_eq!(DType::F32.encode(&values, ROW).unwrap(), common::le_bytes(&values));
    }
}

#[test]
fn what_cannot_be_encoded_is_refused() {
    let made = |dtype: DType| TYPES.iter().any(|(made, _)| *made == dtype);
    for dtype in [DType::Q2K, DType::Q3K, DType::Iq4Nl, DType::Iq4Xs, DType::F8E4M3, DType::Other("I8")] {
        assert!(!made(dtype) && !dtype.is_encodable());
        assert_eq!(dtype.encode(&[0.0; 256], 256), Err(EncodeError::Type { dtype }));
    }
    for (dtype, _) in TYPES {
        assert!(dtype.is_encodable());
        assert_eq!(dtype.encode(&[], 0), Ok(Vec::new()));
        // Values that are not whole rows, rows of nothing, and rows that are not whole blocks.
        let block = dtype.block_elements();
        for (count, row) in [(block * 3, block * 2), (block, 0), (48, 24)] {
            if row != 24 || block > 1 {
                let refused = EncodeError::Row { values: count, row, block };
                assert_eq!(dtype.encode(&vec![0.0; count], row), Err(refused), "{dtype}");
            }
        }
    }
}

#[test]
fn values_without_a_finite_form_are_named() {
    for (dtype, id) in TYPES {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = [0.5; 1024];
            (values[700], values[701]) = (value, f32::NAN);
            let Err(EncodeError::Value { index: 700, value: found }) = dtype.encode(&values, ROW) else {
                panic!("{dtype} of {value}");
            };
            assert_eq!(found.to_bits(), value.to_bits());
        }
        // Of the powers of two, the last that is not refused is read back as a finite number.
        for sign in [1.0f32, -1.0] {
            let with = |exponent| {
                let mut values = [0.5; 256];
                values[100] = sign * f32::powi(2.0, exponent);
                values
            };
            let last = (0..128).take_while(|exponent| dtype.encode(&with(*exponent), ROW).is_ok()).last().unwrap();
            assert!(last >= 15 && decoded(dtype, id, &with(last)).iter().all(|value| value.is_finite()), "{dtype}");
            if last < 127 {
                let value = with(last + 1)[100];
                assert_eq!(
                    dtype.encode(&with(last + 1), ROW),
                    Err(EncodeError::Value { index: 100, value }),
                    "{dtype}"
                );
            }
        }
    }
}

#[test]
fn halves_end_where_rounding_makes_infinity() {
    let last = 65_520.0f32.next_down();
    assert_eq!(DType::F16.encode(&[last], 1).unwrap(), f16::MAX.to_le_bytes());
    assert_eq!(DType::F16.encode(&[1.0, 65_520.0], 2), Err(EncodeError::Value { index: 1, value: 65_520.0 }));
    let last = f32::from_bits(0x7f7f_7fff);
    assert_eq!(DType::BF16.encode(&[-last], 1).unwrap(), [0x7f, 0xff]);
    assert_eq!(DType::BF16.encode(&[-f32::MAX], 1), Err(EncodeError::Value { index: 0, value: -f32::MAX }));
}

proptest! {
    /// Values of any size and sign that the type takes are read back as finite numbers, and lose no more than zeros would.
    #[test]
    fn blocks_are_better_than_zeros(kind in 0..TYPES.len(), size in -40.0f32..5.0, shift in -2.0f32..2.0, found in any::<[i8; 32]>()) {
        let (dtype, id) = TYPES[kind];
        let values: Vec<f32> = (0..ROW)
            .map(|i| (f32::from(found[i % 32].rotate_left(i as u32 / 32)) / 128.0 + shift) * 10f32.powf(size) / 10.0)
            .collect();
        let decoded = decoded(dtype, id, &values);
        prop_assert!(decoded.iter().all(|value| value.is_finite()));
        let (error, of_zeros) = (squared_error(&values, &decoded), squared_error(&values, &[0.0; ROW]));
        prop_assert!(error <= of_zeros * (1.0 + 1e-6), "{dtype}: {error:e}, zeros {of_zeros:e}");
    }
}
