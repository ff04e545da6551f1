//! GGUF files and shards that are written are read back as they were.

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::scratch;
use foehn_weights::{
    DType, Error, GgufValue, Tensor, TensorData, TensorSpec, Weights, save_gguf, save_gguf_with, save_sharded,
};
use proptest::prelude::*;

fn spec(name: &str, shape: &[usize], dtype: DType) -> TensorSpec {
    TensorSpec { name: name.to_owned(), shape: shape.to_vec(), dtype }
}

#[test]
fn metadata_are_read_back_and_copied() {
    let (folder, path) = scratch("m.gguf");
    let metadata: Vec<(String, GgufValue)> = vec![
        ("general.architecture".into(), "llama".into()),
        ("a.count".into(), 7u32.into()),
        ("a.number".into(), 0.25f32.into()),
        ("a.flag".into(), true.into()),
        ("a.texts".into(), GgufValue::from(&["a", "", "é"][..])),
        ("a.scores".into(), GgufValue::from(&[-1.5f32, 2.0][..])),
        ("a.kinds".into(), GgufValue::from(&[-1i32, 3][..])),
        ("a.flags".into(), GgufValue::from(&[true, false][..])),
    ];
    save_gguf(&path, &metadata, &[Tensor::f32("t", vec![2, 3], vec![1., 2., 3., 4., 5., 6.])]).unwrap();
    let copied = |weights: &Weights| {
        let gguf = weights.gguf().unwrap();
        let of = |(key, _): &(String, GgufValue)| (key.clone(), gguf.value(key).unwrap().unwrap());
        metadata.iter().map(of).collect::<Vec<_>>()
    };
    let weights = Weights::open(&path).unwrap();
    assert_eq!(copied(&weights), metadata);
    assert!(weights.gguf().unwrap().value("no.such").unwrap().is_none());
    let gguf = weights.gguf().unwrap();
    assert_eq!(gguf.get_u32("a.count").unwrap(), Some(7));
    assert_eq!(gguf.get_f32("a.number").unwrap(), Some(0.25));
    assert_eq!(gguf.get_bool("a.flag").unwrap(), Some(true));
    assert_eq!(gguf.get_strings("a.texts").unwrap().unwrap(), ["a", "", "é"]);
    assert_eq!(gguf.get_f32s("a.scores").unwrap().unwrap(), [-1.5, 2.0]);
    assert_eq!(gguf.get_i32s("a.kinds").unwrap().unwrap(), [-1, 3]);
    assert_eq!(weights.load_f32("t").unwrap(), (vec![1., 2., 3., 4., 5., 6.], vec![2, 3]));
    // What was copied is what is written again.
    let again = folder.path().join("again.gguf");
    save_gguf(&again, &copied(&weights), &[Tensor::f32("t", vec![2, 3], vec![1., 2., 3., 4., 5., 6.])]).unwrap();
    assert_eq!(fs::read(&again).unwrap(), fs::read(&path).unwrap());
}

#[test]
fn what_a_gguf_cannot_hold_is_refused_and_leaves_nothing() {
    let check = |metadata: &[(String, GgufValue)], tensors: &[Tensor<'_>], expected: fn(&Error) -> bool| {
        let (folder, path) = scratch("m.gguf");
        let error = save_gguf(&path, metadata, tensors).unwrap_err();
        assert!(expected(&error), "{error:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{error:?}");
    };
    let one = || Tensor::f32("t", vec![32], vec![0.5; 32]);
    let of = |shape: &[usize], dtype, values: Vec<f32>| Tensor { spec: spec("t", shape, dtype), data: values.into() };
    check(&[("a".into(), 1u32.into()), ("a".into(), 2u32.into())], &[], |e| matches!(e, Error::Duplicate { .. }));
    check(&[], &[one(), one()], |e| matches!(e, Error::Duplicate { .. }));
    let long = Tensor::f32("n".repeat(64), vec![32], vec![0.5; 32]);
    check(&[], &[long], |e| matches!(e, Error::LongName { limit: 63, .. }));
    check(&[("general.alignment".into(), 64u32.into())], &[one()], |e| matches!(e, Error::MetadataType { .. }));
    check(&[], &[Tensor::f32("t", vec![3], vec![1.0])], |e| matches!(e, Error::ShapeMismatch { .. }));
    check(&[], &[of(&[2, 16], DType::Q8_0, vec![0.0; 32])], |e| matches!(e, Error::NotInFormat { .. }));
    check(&[], &[of(&[1, 256], DType::Q2K, vec![0.0; 256])], |e| matches!(e, Error::NotInFormat { .. }));
    check(&[], &[of(&[1], DType::F8E4M3, vec![0.0])], |e| matches!(e, Error::NotInFormat { .. }));
    let mut values = vec![0.5; 64];
    values[37] = f32::NAN;
    check(&[], &[of(&[2, 32], DType::Q8_0, values)], |e| matches!(e, Error::Unsaveable { index: 37, .. }));
    check(&[], &[of(&[2], DType::F16, vec![1.0, 7e4])], |e| matches!(e, Error::Unsaveable { index: 1, .. }));
    let (folder, path) = scratch("m.safetensors");
    let blocks = [of(&[1, 32], DType::Q8_0, vec![0.5; 32])];
    let error = foehn_weights::save_safetensors(&path, &blocks, &BTreeMap::new()).unwrap_err();
    assert!(matches!(error, Error::NotInFormat { .. }), "{error:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn stored_bytes_are_written_unchanged() {
    let (folder, path) = scratch("m.gguf");
    let values: Vec<f32> = (0..512).map(|at| (at as f32).sin()).collect();
    let specs = [spec("a", &[2, 256], DType::Q4K)];
    save_gguf_with::<Error>(&path, &[], &specs, |_| Ok(TensorData::Values(values.clone().into()))).unwrap();
    let bytes = Weights::open(&path).unwrap().read("a").unwrap();
    let again = folder.path().join("again.gguf");
    save_gguf_with::<Error>(&again, &[], &specs, |_| Ok(TensorData::Stored(bytes.clone().into()))).unwrap();
    assert_eq!(fs::read(&path).unwrap(), fs::read(&again).unwrap());
    let short = save_gguf_with::<Error>(&again, &[], &specs, |_| Ok(TensorData::Stored(bytes[1..].to_vec().into())));
    assert!(matches!(short, Err(Error::ShapeMismatch { .. })));
    // The first block's scale is infinite, or a float is.
    let stored = |dtype: DType, bytes: &[u8]| {
        let specs = [spec("a", &[bytes.len() / dtype.block_bytes() * dtype.block_elements()], dtype)];
        save_gguf_with::<Error>(&again, &[], &specs, |_| Ok(TensorData::Stored(bytes.to_vec().into())))
    };
    let mut broken = bytes[..144].to_vec();
    broken[..2].copy_from_slice(&0x7c00u16.to_le_bytes());
    assert!(matches!(stored(DType::Q4K, &broken), Err(Error::BrokenBlock { block: 0, .. })));
    let halves = [0x3c00u16, 0x7e00].map(u16::to_le_bytes).concat();
    assert!(matches!(stored(DType::F16, &halves), Err(Error::NotFinite { index: 1, .. })));
    assert!(matches!(stored(DType::BF16, &[0x80, 0x7f]), Err(Error::NotFinite { index: 0, .. })));
}

/// As `split_torch_state_dict_into_shards` of huggingface_hub 2.4 places tensors of 10, 20, 60 and 5 elements: the one that is larger
/// than a file first, by itself, and the others together.
#[test]
fn shards_hold_what_fits() {
    let folder = tempfile::tempdir().unwrap();
    let specs = [("c", 10), ("a", 20), ("d", 60), ("b", 5)].map(|(name, size)| spec(name, &[size], DType::F16));
    let save = |most: u64| {
        let values = |spec: &TensorSpec| Ok(TensorData::Values(vec![spec.shape[0] as f32; spec.shape[0]].into()));
        save_sharded::<Error>(folder.path(), &specs, &BTreeMap::new(), most, values).unwrap();
    };
    save(60);
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("model.safetensors.index.json")).unwrap()).unwrap();
    let file = |name: &str| index["weight_map"][name].as_str().unwrap().to_owned();
    let shard = |at: usize| format!("model-0000{at}-of-00003.safetensors");
    assert_eq!(["c", "a", "d", "b"].map(file), [shard(2), shard(2), shard(1), shard(3)]);
    assert_eq!((&index["metadata"]["total_size"], &index["metadata"]["total_parameters"]), (&190.into(), &95.into()));
    let weights = Weights::open(folder.path()).unwrap();
    assert_eq!(weights.load_f32("d").unwrap().0, [60.0; 60]);
    save(1000);
    assert!(!folder.path().join("model.safetensors.index.json").exists());
    assert_eq!(Weights::open(folder.path()).unwrap().load_f32("b").unwrap().0, [5.0; 5]);
}

proptest! {
    /// Any number of tensors of any shape and type: names, shapes and types are read back, and each value within the step of
    /// its type.
    #[test]
    fn tensors_are_read_back(
        tensors in proptest::collection::vec((1usize..4, 1usize..3, 0usize..11, any::<u32>()), 0..6),
    ) {
        const TYPES: [DType; 11] = [DType::F32, DType::F16, DType::BF16, DType::Q8_0, DType::Q4_0, DType::Q4_1,
            DType::Q5_0, DType::Q5_1, DType::Q4K, DType::Q5K, DType::Q6K];
        let (_folder, path) = scratch("m.gguf");
        let made: Vec<Tensor<'_>> = tensors.iter().enumerate().map(|(at, &(rows, blocks, dtype, seed))| {
            let width = blocks * TYPES[dtype].block_elements();
            let mut state = u64::from(seed);
            let mut next = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            };
            let data: Vec<f32> = (0..rows * width).map(|_| next()).collect();
            Tensor { spec: spec(&format!("t{at}"), &[rows, width], TYPES[dtype]), data: data.into() }
        }).collect();
        save_gguf(&path, &[], &made).unwrap();
        let weights = Weights::open(&path).unwrap();
        prop_assert_eq!(weights.names().len(), made.len());
        for tensor in &made {
            let info = weights.info(&tensor.spec.name).unwrap();
            prop_assert_eq!((&info.shape, info.dtype), (&tensor.spec.shape, tensor.spec.dtype));
            let found = weights.load_f32(&tensor.spec.name).unwrap().0;
            // Four bits over a range of 2 are steps of an eighth; a K type's scale of six bits adds a part to it.
            let step = if info.dtype == DType::F32 { 0.0 } else { 0.2 };
            for (found, value) in found.iter().zip(tensor.data.iter()) {
                prop_assert!((found - value).abs() <= step, "{:?}: {} for {}", info.dtype, found, value);
            }
        }
    }
}
