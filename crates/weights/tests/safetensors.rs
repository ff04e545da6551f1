//! Compares safetensors with the reference implementation, also in shards, and tests files with wrong contents.

mod common;

use std::collections::HashMap;
use std::fs;

use common::{STEERING, assert_printable, assert_says, le_bytes, refused, safetensors, scratch};
use foehn_weights::{DType, Error, Weights};
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::json;

fn one(name: &str, values: &[f32]) -> Vec<u8> {
    let bytes = le_bytes(values);
    let view = TensorView::new(Dtype::F32, vec![values.len()], &bytes).unwrap();
    serialize([(name, view)], None).unwrap()
}

#[test]
fn a_file_of_the_reference_implementation_reads_back() {
    let halves: Vec<u8> = [0x3c00u16, 0xc000, 0x0001, 0x7bff].iter().flat_map(|bits| bits.to_le_bytes()).collect();
    let brains: Vec<u8> = [0x3f80u16, 0xc049].iter().flat_map(|bits| bits.to_le_bytes()).collect();
    let singles = le_bytes(&[1.5, -2.5, 3.25, 0.0, f32::MIN_POSITIVE, f32::MAX]);
    let view = |dtype, shape: &[usize], bytes| TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
    let tensors = [
        ("f16", view(Dtype::F16, &[2, 2], &halves)),
        ("bf16", view(Dtype::BF16, &[2], &brains)),
        ("f32", view(Dtype::F32, &[3, 2], &singles)),
        ("ids", view(Dtype::I64, &[1], &[7, 0, 0, 0, 0, 0, 0, 0])),
        ("empty", view(Dtype::F32, &[0, 4], &[])),
        ("fp4", view(Dtype::F4, &[4], &[0, 1])),
    ];
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let (_folder, path) = scratch("model.safetensors");
    fs::write(&path, serialize(tensors, Some(metadata)).unwrap()).unwrap();

    let weights = Weights::open(&path).unwrap();
    assert_eq!(weights.names().collect::<Vec<_>>(), ["bf16", "empty", "f16", "f32", "fp4", "ids"]);
    assert_eq!(weights.metadata()["format"], "pt");
    assert!(weights.gguf().is_none());
    assert_eq!(weights.info("f32").unwrap().shape, [3, 2]);
    assert_eq!(weights.info("ids").unwrap().dtype, DType::Other("I64"));
    // The half 0x0001 is 2^-24 and 0x7bff is 65504; the bfloat16 0xc049 is -3.140625.
    assert_eq!(weights.load_f32("f16").unwrap(), (vec![1.0, -2.0, (-24f32).exp2(), 65504.0], vec![2, 2]));
    assert_eq!(weights.load_f32("bf16").unwrap().0, [1.0, -3.140_625]);
    assert_eq!(le_bytes(&weights.load_f32("f32").unwrap().0), singles);
    assert_eq!(weights.load_f32("empty").unwrap(), (vec![], vec![0, 4]));
    assert_eq!(weights.bytes("ids").unwrap()[0], 7);
    assert!(matches!(weights.load_f32("ids").unwrap_err(), Error::NotFloat { .. }));
    assert!(matches!(weights.load_f32("no").unwrap_err(), Error::NoSuchTensor { .. }));
}

#[test]
fn shards_are_found_by_the_index_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    file("model-00001-of-00002.safetensors", &one("a", &[1.0]));
    file("model-00002-of-00002.safetensors", &one("b", &[2.0]));
    // Mistral's repositories have a second copy in another layout, and an old single file may also be there.
    file("consolidated.safetensors", &one("layers.0", &[3.0]));
    file("model.safetensors", &one("a", &[4.0]));
    let index = r#"{"metadata": {"total_size": 8}, "weight_map":
        {"b": "model-00002-of-00002.safetensors", "a": "model-00001-of-00002.safetensors"}}"#;
    file("model.safetensors.index.json", index.as_bytes());

    let weights = Weights::open(folder.path()).unwrap();
    assert_eq!(weights.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(weights.load_f32("a").unwrap().0, [1.0]);
    assert_eq!(weights.load_f32("b").unwrap().0, [2.0]);

    fs::remove_file(folder.path().join("model.safetensors.index.json")).unwrap();
    assert_eq!(Weights::open(folder.path()).unwrap().load_f32("a").unwrap().0, [4.0]);
}

#[test]
fn a_tensor_that_the_index_forgets_is_a_tensor_of_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    let two = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"q":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    file("1.safetensors", &safetensors(two, &le_bytes(&[1.0, 3.0])));
    file("2.safetensors", &one("b", &[2.0]));
    let index = folder.path().join("model.safetensors.index.json");
    fs::write(&index, r#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#).unwrap();
    let weights = Weights::open(folder.path()).unwrap();
    assert_eq!(weights.names().collect::<Vec<_>>(), ["a", "b", "q"]);
    assert_eq!(weights.load_f32("q").unwrap().0, [3.0]);
    // If two shards have a tensor of the same name, it is not clear which one the model uses.
    file("2.safetensors", &safetensors(&two.replace("\"q\"", "\"b\""), &le_bytes(&[1.0, 3.0])));
    let error = Weights::open(folder.path()).unwrap_err();
    assert_says(&error, &index, "tensor \"a\"");
    assert!(matches!(error, Error::ElsewhereInIndex { .. }), "{error:?}");
}

#[test]
fn what_is_not_finite_is_refused_by_name() {
    for (dtype, bytes, value) in [
        ("F32", f32::NAN.to_le_bytes().to_vec(), "NaN"),
        ("F32", f32::NEG_INFINITY.to_le_bytes().to_vec(), "-inf"),
        ("F16", 0x7c00u16.to_le_bytes().to_vec(), "inf"),
        ("BF16", 0xff80u16.to_le_bytes().to_vec(), "-inf"),
    ] {
        let (_folder, path) = scratch("m.safetensors");
        let (size, at) = (bytes.len(), 5000);
        let json = format!(r#"{{"t.weight":{{"dtype":"{dtype}","shape":[6000],"data_offsets":[0,{}]}}}}"#, 6000 * size);
        let mut data = vec![0; 6000 * size];
        data[at * size..][..size].copy_from_slice(&bytes);
        fs::write(&path, safetensors(&json, &data)).unwrap();
        let error = Weights::open(&path).unwrap().load_f32("t.weight").unwrap_err();
        assert_says(&error, &path, "element 5000 of tensor \"t.weight\"");
        assert!(error.to_string().contains(value), "{error}");
    }
}

#[test]
fn an_index_is_read_within_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors.index.json");
    // A sparse file: it takes no space on the disk.
    fs::File::create(&path).unwrap().set_len(foehn_files::MAX_TEXT + 1).unwrap();
    let error = Weights::open(folder.path()).unwrap_err();
    assert_says(&error, &path, "268435457 bytes");
    assert!(matches!(error, Error::TextTooLarge { limit: 268_435_456, .. }), "{error:?}");
}

#[test]
fn tensors_are_the_same_by_shape_type_and_bytes() {
    let (_folder, path) = scratch("m.safetensors");
    let count = 300_000;
    let size = 4 * count;
    let entry = |name: &str, shape: &str, place: usize| {
        format!(
            r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[{},{}]}}"#,
            place * size,
            (place + 1) * size
        )
    };
    let shape = format!("[{count}]");
    let entries =
        [entry("a", &shape, 0), entry("b", &shape, 1), entry("c", &shape, 2), entry("d", &format!("[1,{count}]"), 3)];
    let mut values = vec![0.25f32; 4 * count];
    // The last element of `c` is in the second piece that is compared.
    values[3 * count - 1] = 0.5;
    fs::write(&path, safetensors(&format!("{{{}}}", entries.join(",")), &le_bytes(&values))).unwrap();
    let weights = Weights::open(&path).unwrap();
    assert!(weights.same("a", "b").unwrap());
    assert!(!weights.same("a", "c").unwrap());
    assert!(!weights.same("a", "d").unwrap());
    assert!(matches!(weights.same("a", "e").unwrap_err(), Error::NoSuchTensor { .. }));
}

#[test]
fn a_broken_index_is_refused() {
    type Is = fn(&Error) -> bool;
    let cases: [(&str, &str, Is); 5] = [
        ("{", "line 1", |error| matches!(error, Error::Json { .. })),
        (r#"{"metadata": {}}"#, "weight_map", |error| matches!(error, Error::Json { .. })),
        (r#"{"weight_map": {"a": "gone.safetensors"}}"#, "gone.safetensors", |error| {
            matches!(error, Error::MissingShard { .. })
        }),
        (r#"{"weight_map": {"z": "s.safetensors"}}"#, "\"z\"", |error| matches!(error, Error::NotInShard { .. })),
        (r#"{"weight_map": {"a": "../s.safetensors"}}"#, "../s", |error| matches!(error, Error::ShardName { .. })),
    ];
    for (index, place, is) in cases {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("s.safetensors"), one("a", &[1.0])).unwrap();
        let path = folder.path().join("model.safetensors.index.json");
        fs::write(&path, index).unwrap();
        let error = Weights::open(folder.path()).unwrap_err();
        assert_says(&error, &path, place);
        assert!(is(&error), "{error:?}");
    }
}

#[test]
fn what_is_no_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Weights::open(folder.path()).unwrap_err(), Error::NoWeights { .. }));
    let absent = folder.path().join("absent.safetensors");
    assert!(matches!(Weights::open(&absent).unwrap_err(), Error::Io { action: "open", .. }));
    let error = refused("pytorch_model.bin", b"PK\x03\x04", "convert it first");
    assert!(matches!(error, Error::UnknownFormat { .. }));
}

#[test]
fn headers_that_lie_are_refused() {
    let tensor = |dtype: &str, shape: &str, begin: u64, end: u64| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
    };
    let file = |entries: &[(&str, String)], data: usize| {
        let entries: Vec<String> = entries.iter().map(|(name, entry)| format!("{name:?}:{entry}")).collect();
        safetensors(&format!("{{{}}}", entries.join(",")), &vec![0; data])
    };
    let good = tensor("F32", "[2]", 0, 8);

    type Is = fn(&Error) -> bool;
    let truncated: Is = |error| matches!(error, Error::Truncated { .. });
    let json: Is = |error| matches!(error, Error::Json { .. });
    let overflow: Is = |error| matches!(error, Error::ShapeOverflow { .. });
    let length: Is = |error| matches!(error, Error::TensorLength { .. });
    let offset: Is = |error| matches!(error, Error::TensorOffset { .. });
    let cases: Vec<(Vec<u8>, &str, Is)> = vec![
        (vec![], "the header's length at byte 0 needs 8 bytes and 0 are left", truncated),
        (vec![9, 0, 0, 0, 0, 0, 0, 0, b'{'], "the header at byte 8 needs 9 bytes and 1 are left", truncated),
        (vec![255; 16], "18446744073709551615", |error| matches!(error, Error::HeaderTooLarge { .. })),
        (safetensors("{\"a\":", &[]), "line 1", json),
        (safetensors("[]", &[]), "a map from tensor names", json),
        (safetensors("{\"a\":\"\u{fffd}\"}", &[]), "line 1", json),
        (file(&[("a", tensor("F31", "[2]", 0, 8))], 8), "F31", |error| matches!(error, Error::UnknownDType { .. })),
        (file(&[("a", tensor("F4", "[3]", 0, 2))], 2), "3 elements", |error| matches!(error, Error::BlockSize { .. })),
        (file(&[("a", tensor("F32", "[9223372036854775807,4]", 0, 8))], 8), "[9223372036854775807, 4]", overflow),
        (file(&[("a", tensor("F32", "[4611686018427387904]", 0, 8))], 8), "impossible shape", overflow),
        (file(&[("a", tensor("F32", "[-1]", 0, 8))], 8), "invalid value", json),
        (file(&[("a", tensor("F32", "[3]", 0, 8))], 8), "has 8 bytes where its shape needs 12", length),
        (file(&[("a", tensor("F32", "[2]", 8, 0))], 8), "\"a\"", offset),
        (file(&[("a", tensor("F32", "[0]", 0, 0)), ("b", tensor("F32", "[2]", 0, 4))], 8), "\"b\"", length),
        (file(&[("a", good.clone()), ("b", tensor("F32", "[2]", 4, 12))], 12), "byte 4 of the data; 8 was", offset),
        (file(&[("a", good.clone()), ("b", tensor("F32", "[1]", 12, 16))], 16), "byte 12 of the data; 8 was", offset),
        (file(&[("a", good.clone()), ("a", tensor("F32", "[1]", 8, 12))], 12), "\"a\" twice", |error| {
            matches!(error, Error::Duplicate { .. })
        }),
        (file(&[("a", good.clone())], 7), "tensor \"a\" at byte 62 needs 8 bytes and 7 are left", truncated),
        (file(&[("a", good)], 9), "9 bytes of data where its header describes 8", |error| {
            matches!(error, Error::DataLength { .. })
        }),
    ];
    for (bytes, place, is) in cases {
        let error = refused("m.safetensors", &bytes, place);
        assert!(is(&error), "{error:?}");
        // A stricter check than the reference's would refuse models that others can read.
        assert!(safetensors::SafeTensors::deserialize(&bytes).is_err(), "{place}");
    }
}

#[test]
fn a_name_cannot_steer_a_terminal() {
    let header = |json: serde_json::Value| {
        let (_folder, path) = scratch("a.safetensors");
        fs::write(&path, safetensors(&json.to_string(), &[0; 8])).unwrap();
        Weights::open(&path).unwrap_err().to_string()
    };
    let tensor = |dtype: &str, end: u64| json!({"dtype": dtype, "shape": [2], "data_offsets": [0, end]});
    assert_printable(&header(json!({STEERING: tensor("F32", 4)})));
    assert_printable(&header(json!({"a": tensor(STEERING, 8)})));

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("s.safetensors"), one("a", &[1.0])).unwrap();
    let index = |map: serde_json::Value| {
        let text = json!({"weight_map": map}).to_string();
        fs::write(folder.path().join("model.safetensors.index.json"), text).unwrap();
        Weights::open(folder.path()).unwrap_err().to_string()
    };
    assert_printable(&index(json!({"a": STEERING})));
    assert_printable(&index(json!({STEERING: "s.safetensors"})));
}
