//! Compares weights in eight-bit floats with PyTorch, and tests files whose scales are wrong.

mod common;

use std::fs;
use std::path::Path;

use common::{assert_says, le_bytes, safetensors, scratch, unhex};
use foehn_weights::{DType, Error, Weights};
use proptest::prelude::*;

/// `tests/golden/fp8.json`, written by `fp8.py`.
fn golden() -> serde_json::Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/fp8.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Every finite byte, under one scale and under scales for blocks of several shapes, some of them cut off by the edge.
#[test]
fn eight_bit_floats_are_those_of_pytorch_to_the_last_bit() {
    let golden = golden();
    let (_folder, path) = scratch("m.safetensors");
    fs::write(&path, unhex(&golden["file"]["bytes"])).unwrap();
    let weights = Weights::open(&path).unwrap();
    let values = golden["file"]["values"].as_object().unwrap();
    assert_eq!(values.len(), 4);
    for (name, expected) in values {
        assert_eq!(weights.info(name).unwrap().dtype, DType::F8E4M3);
        let (found, shape) = weights.load_f32(name).unwrap();
        assert_eq!((le_bytes(&found), shape), (unhex(expected), vec![12, 40]), "{name}");
        let scale = format!("{name}_scale_inv");
        assert_eq!(weights.scaled_by(&scale), Some(name.as_str()));
        assert_eq!(weights.scaled_by(name), None);
        // The numbers of all are the same, and their scales are not.
        assert!(weights.same(name, name).unwrap());
        assert_eq!(weights.same("one.weight", name).unwrap(), name == "one.weight");
    }
}

/// A matrix of eight-bit floats, and other tensors: name, type, shape, bytes.
fn file(shape: &[usize], numbers: &[u8], others: &[(&str, &str, &[usize], &[u8])]) -> Vec<u8> {
    let (mut json, mut data) = (Vec::new(), Vec::new());
    for (name, dtype, shape, bytes) in [("w.weight", "F8_E4M3", shape, numbers)].iter().chain(others) {
        let end = data.len() + bytes.len();
        let place = format!("[{},{end}]", data.len());
        json.push(format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":{place}}}"#));
        data.extend_from_slice(bytes);
    }
    safetensors(&format!("{{{}}}", json.join(",")), &data)
}

fn load(bytes: &[u8]) -> Result<(Vec<f32>, Vec<usize>), Error> {
    let (_folder, path) = scratch("m.safetensors");
    fs::write(&path, bytes).unwrap();
    let weights = Weights::open(&path).unwrap();
    weights.load_f32("w.weight").inspect_err(|error| assert_says(error, &path, "w.weight"))
}

const SCALE: &str = "w.weight_scale_inv";

#[test]
fn a_scale_that_is_missing_or_does_not_fit_is_refused_by_name() {
    let one = 2f32.to_le_bytes();
    assert_eq!(load(&file(&[2], &[0x38, 0xb8], &[(SCALE, "F32", &[], &one)])).unwrap().0, [2.0, -2.0]);

    let error = load(&file(&[2], &[0; 2], &[("w.activation_scale", "F32", &[], &one)])).unwrap_err();
    assert!(matches!(&error, Error::MissingScale { scale, .. } if scale == SCALE), "{error}");
    // Blocks of 1, 2, 4, 8 or 16 columns of nine are nine, five, three, two or one.
    for columns in 1..12 {
        let scales = vec![0; 4 * columns];
        let found = load(&file(&[4, 9], &[0; 36], &[(SCALE, "F32", &[1, columns], &scales)]));
        match [1, 2, 3, 5, 9].contains(&columns) {
            true => assert_eq!(found.unwrap().1, [4, 9]),
            false => assert!(matches!(found.unwrap_err(), Error::ScaleShape { found, .. } if found == [1, columns])),
        }
    }
    for (shape, scales) in [(&[36][..], &[2, 2][..]), (&[4, 9], &[4]), (&[4, 3, 3], &[2, 1, 1]), (&[4, 9], &[0, 0])] {
        let bytes = vec![0; 4 * scales.iter().product::<usize>()];
        let error = load(&file(shape, &[0; 36], &[(SCALE, "F32", scales, &bytes)])).unwrap_err();
        assert!(matches!(error, Error::ScaleShape { .. }), "{error}");
    }
    for (dtype, bytes) in [("I32", &[0; 4][..]), ("F8_E8M0", &[0]), ("F8_E4M3", &[0])] {
        let error = load(&file(&[2], &[0; 2], &[(SCALE, dtype, &[], bytes)])).unwrap_err();
        assert!(matches!(&error, Error::NotFloat { name, .. } if name == SCALE), "{error}");
    }
}

#[test]
fn values_that_are_not_finite_are_refused() {
    let scaled = |number: u8, scale: f32| {
        let mut numbers = [0x38; 12];
        numbers[7] = number;
        load(&file(&[3, 4], &numbers, &[(SCALE, "F32", &[1], &scale.to_le_bytes())]))
    };
    for (number, scale) in [(0x7f, 1.0), (0xff, 1.0), (0x7e, 1e37)] {
        let error = scaled(number, scale).unwrap_err();
        assert!(matches!(&error, Error::NotFinite { name, index: 7, .. } if name == "w.weight"), "{error}");
    }
    for scale in [f32::NAN, f32::INFINITY] {
        let error = scaled(0x38, scale).unwrap_err();
        assert!(matches!(&error, Error::NotFinite { name, index: 0, .. } if name == SCALE), "{error}");
    }
}

/// Only tensors beside one of eight-bit floats are its scales.
#[test]
fn a_scale_belongs_to_eight_bit_floats_alone() {
    let one = 2f32.to_le_bytes();
    let others: [(&str, &str, &[usize], &[u8]); 7] = [
        (SCALE, "F32", &[], &one),
        ("w.activation_scale", "F32", &[], &one),
        ("v.weight", "F32", &[], &one),
        ("v.weight_scale_inv", "F32", &[], &one),
        ("v.activation_scale", "F32", &[], &one),
        ("u.activation_scale", "F32", &[], &one),
        ("w.weight_scale", "F32", &[], &one),
    ];
    let (_folder, path) = scratch("m.safetensors");
    fs::write(&path, file(&[1], &[0x38], &others)).unwrap();
    let weights = Weights::open(&path).unwrap();
    let scales: Vec<&str> = weights.names().filter(|name| weights.scaled_by(name).is_some()).collect();
    assert_eq!(scales, ["w.activation_scale", SCALE]);
}

proptest! {
    /// The block of an element is found wherever a piece of the tensor begins.
    #[test]
    fn each_block_has_its_own_scale(out in 1usize..70, width in 1usize..300, powers in (0u32..7, 0u32..9)) {
        let (rows, columns) = (out.div_ceil(1 << powers.0), width.div_ceil(1 << powers.1));
        let scales: Vec<f32> = (0..rows * columns).map(|scale| scale as f32).collect();
        let one = vec![0x38; out * width];
        let found = load(&file(&[out, width], &one, &[(SCALE, "F32", &[rows, columns], &le_bytes(&scales))])).unwrap().0;
        for (at, found) in found.iter().enumerate() {
            let (row, column) = ((at / width) >> powers.0, (at % width) >> powers.1);
            prop_assert_eq!(*found, scales[row * columns + column]);
        }
    }
}
