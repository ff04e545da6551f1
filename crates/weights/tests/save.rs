//! Saved files are read back by the reference implementation. Saving is atomic, and gives the same bytes each time.

mod common;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use common::scratch;
use foehn_weights::{DType, Error, Tensor, TensorData, TensorSpec, Weights, save_safetensors, save_safetensors_with};
use proptest::prelude::*;
use safetensors::SafeTensors;

fn spec(name: &str, shape: &[usize], dtype: DType) -> TensorSpec {
    TensorSpec { name: name.to_owned(), shape: shape.to_vec(), dtype }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_reference_implementation_reads_what_is_saved() {
    let (_folder, path) = scratch("adapter_model.safetensors");
    let values = [1.0, -2.5, 65504.0, 0.1];
    let tensors = [
        Tensor { spec: spec("b16", &[4], DType::BF16), data: Cow::Borrowed(&values) },
        Tensor { spec: spec("h16", &[2, 2], DType::F16), data: Cow::Borrowed(&values) },
        Tensor::f32("z", vec![4, 1], values.to_vec()),
        Tensor::f32("a \"quoted\" é", vec![], vec![7.0]),
    ];
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned()), ("base".to_owned(), "x".to_owned())]);
    save_safetensors(&path, &tensors, &metadata).unwrap();

    let bytes = fs::read(&path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap().len(), 2);
    // Widest type first, then by name: then no padding is needed for alignment.
    assert_eq!(header.offset_keys(), ["a \"quoted\" é", "z", "b16", "h16"]);
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("z").unwrap().shape(), [4, 1]);
    assert_eq!(file.tensor("z").unwrap().data()[12..], 0.1f32.to_le_bytes());
    // Rounded to the nearest, ties to even: 0.1 is 0x3dcd in bfloat16 and 0x2e66 in half precision; 65504 is the
    // largest half.
    let half = |name: &str, at: usize| {
        u16::from_le_bytes(file.tensor(name).unwrap().data()[2 * at..][..2].try_into().unwrap())
    };
    assert_eq!([half("b16", 2), half("b16", 3)], [0x4780, 0x3dcd]);
    assert_eq!([half("h16", 2), half("h16", 3)], [0x7bff, 0x2e66]);
}

#[test]
fn order_of_the_arguments_does_not_show() {
    let (_folder, path) = scratch("m.safetensors");
    let mut tensors = [Tensor::f32("a", vec![1], vec![1.0]), Tensor::f32("b", vec![1], vec![2.0])];
    let metadata = (0..20).map(|key| (key.to_string(), String::new())).collect();
    save_safetensors(&path, &tensors, &metadata).unwrap();
    let first = fs::read(&path).unwrap();
    tensors.reverse();
    save_safetensors(&path, &tensors, &metadata).unwrap();
    assert_eq!(fs::read(&path).unwrap(), first);
}

#[test]
fn an_impossible_request_leaves_the_old_file_and_nothing_else() {
    let (folder, path) = scratch("m.safetensors");
    let no_metadata = BTreeMap::new();
    save_safetensors(&path, &[Tensor::f32("a", vec![1], vec![1.0])], &no_metadata).unwrap();
    let old = fs::read(&path).unwrap();

    type Is = fn(&Error) -> bool;
    let cases: [(Vec<Tensor>, Is); 4] = [
        (vec![Tensor::f32("a", vec![2], vec![1.0])], |error| matches!(error, Error::ShapeMismatch { found: 1, .. })),
        (vec![Tensor::f32("a", vec![1], vec![1.0]); 2], |error| matches!(error, Error::Duplicate { .. })),
        (vec![Tensor::f32("__metadata__", vec![1], vec![1.0])], |error| matches!(error, Error::ReservedName { .. })),
        (vec![Tensor::f32("a", vec![usize::MAX, 2], vec![1.0])], |error| matches!(error, Error::ShapeOverflow { .. })),
    ];
    for (tensors, is) in cases {
        let error = save_safetensors(&path, &tensors, &no_metadata).unwrap_err();
        common::assert_says(&error, &path, &tensors[0].spec.name);
        assert!(is(&error), "{error:?}");
        assert_eq!(fs::read(&path).unwrap(), old);
        assert_eq!(names_in(folder.path()), ["m.safetensors"]);
    }
}

#[test]
fn what_is_not_finite_as_it_is_stored_is_not_saved() {
    let (folder, path) = scratch("m.safetensors");
    // f32::MAX rounds to infinity in both 16-bit types, 65520 in half precision.
    let cases = [
        (f32::NAN, DType::F32),
        (f32::INFINITY, DType::F32),
        (f32::NEG_INFINITY, DType::BF16),
        (f32::MAX, DType::BF16),
        (f32::MAX, DType::F16),
        (-65520.0, DType::F16),
    ];
    for (value, dtype) in cases {
        let mut values = vec![0.5; 5000];
        values[4321] = value;
        let tensor = Tensor { spec: spec("some.tensor", &[5000], dtype), data: Cow::Owned(values) };
        let error = save_safetensors(&path, &[tensor], &BTreeMap::new()).unwrap_err();
        common::assert_says(&error, &path, "element 4321 of tensor \"some.tensor\"");
        assert!(matches!(error, Error::Unsaveable { index: 4321, .. }), "{error:?}");
        assert_eq!(names_in(folder.path()), [""; 0]);
    }
}

#[test]
fn a_failure_half_way_leaves_nothing() {
    let (folder, path) = scratch("m.safetensors");
    let specs = [spec("a", &[100_000], DType::F32), spec("b", &[1], DType::F32)];
    let full =
        |path: &Path| Error::Io { action: "write", path: path.to_owned(), source: io::ErrorKind::StorageFull.into() };
    let error = save_safetensors_with(&path, &specs, &BTreeMap::new(), |spec| match &*spec.name {
        "a" => Ok(TensorData::Values(vec![0.5; 100_000].into())),
        _ => Err(full(&path)),
    });
    assert!(matches!(error.unwrap_err(), Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull));
    assert_eq!(names_in(folder.path()), [""; 0]);
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let (_folder, path) = scratch("no/such/m.safetensors");
    let error = save_safetensors(&path, &[], &BTreeMap::new()).unwrap_err();
    assert!(matches!(error, Error::Io { action: "create", .. }));
}

proptest! {
    #[test]
    fn saved_tensors_read_back_bit_for_bit(
        tensors in prop::collection::btree_map(
            "[a-z.\u{e9}\"\\\\]{0,12}",
            prop::collection::vec(any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |x| x.is_finite()), 0..40),
            0..8,
        ),
        metadata in prop::collection::btree_map(".{0,6}", ".{0,6}", 0..4),
    ) {
        let (_folder, path) = scratch("m.safetensors");
        let list: Vec<Tensor> =
            tensors.iter().map(|(name, values)| Tensor::f32(name, vec![1, values.len()], values)).collect();
        save_safetensors(&path, &list, &metadata).unwrap();
        let weights = Weights::open(&path).unwrap();
        prop_assert_eq!(weights.names().collect::<Vec<_>>(), tensors.keys().collect::<Vec<_>>());
        prop_assert_eq!(weights.metadata(), &metadata);
        for (name, values) in &tensors {
            let (found, shape) = weights.load_f32(name).unwrap();
            prop_assert_eq!(shape, vec![1, values.len()]);
            prop_assert_eq!(common::le_bytes(&found), common::le_bytes(values));
        }
    }
}
