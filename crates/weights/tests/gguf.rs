//! Compares GGUF files with the Python package `gguf`, and tests files with wrong contents.

mod common;

use std::fs;

use common::{
    GgufTensor, STEERING, assert_printable, assert_says, gguf, golden, le_bytes, pair, refused, scratch, unhex,
};
use foehn_weights::{Error, Weights};

const U32: u32 = 4;
const ARRAY: u32 = 9;
const STRING: u32 = 8;

#[test]
fn blocks_dequantise_bit_for_bit_as_in_python() {
    let ids = [
        ("F16", 1),
        ("Q4_0", 2),
        ("Q4_1", 3),
        ("Q5_0", 6),
        ("Q5_1", 7),
        ("Q8_0", 8),
        ("Q4_K", 12),
        ("Q5_K", 13),
        ("Q6_K", 14),
        ("Q2_K", 10),
        ("Q3_K", 11),
        ("IQ4_NL", 20),
        ("IQ4_XS", 23),
        ("BF16", 30),
    ];
    let golden = golden();
    let cases = golden["blocks"].as_array().unwrap();
    assert_eq!(cases.len(), ids.len());
    for case in cases {
        let dtype = case["dtype"].as_str().unwrap();
        let id = ids.iter().find(|(name, _)| *name == dtype).unwrap().1;
        let (mut bytes, mut values) = (unhex(&case["bytes"]), unhex(&case["values"]));
        without_infinities(&mut bytes, &mut values);
        let (_folder, path) = scratch("blocks.gguf");
        let elements = values.len() as u64 / 4;
        fs::write(&path, gguf(&[], &[GgufTensor("t", &[elements], id, 0)], &bytes)).unwrap();

        let weights = Weights::open(&path).unwrap();
        assert_eq!(weights.info("t").unwrap().dtype.name(), dtype);
        assert_eq!(weights.bytes("t").unwrap(), bytes, "{dtype}");
        let (found, shape) = weights.load_f32("t").unwrap();
        assert_eq!(shape, [elements as usize]);
        assert_eq!(le_bytes(&found), values, "{dtype}");
    }
}

/// Values that are not finite are refused, so those of the fixture are replaced by zeros in both forms. Only the plain
/// types have any.
fn without_infinities(bytes: &mut [u8], values: &mut [u8]) {
    let size = bytes.len() / (values.len() / 4);
    for (at, value) in values.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        if !f32::from_le_bytes(*value).is_finite() {
            *value = [0; 4];
            bytes[at * size..][..size].fill(0);
        }
    }
}

#[test]
fn a_block_without_a_finite_scale_is_an_error_with_its_place() {
    // Three blocks of Q8_0; the second one's scale is NaN, then infinite.
    for scale in [0x7e00u16, 0xfc00] {
        let mut bytes = vec![1; 3 * 34];
        bytes[34..36].copy_from_slice(&scale.to_le_bytes());
        let (_folder, path) = scratch("broken.gguf");
        fs::write(&path, gguf(&[], &[GgufTensor("t", &[96], 8, 0)], &bytes)).unwrap();
        let error = Weights::open(&path).unwrap().load_f32("t").unwrap_err();
        assert!(matches!(&error, Error::BrokenBlock { name, block: 1, .. } if name == "t"), "{error}");
        assert_says(&error, &path, "block 1 of tensor \"t\" (Q8_0)");
    }
}

/// The scales of every quantised type are checked, each in its place: in the second of three blocks.
#[test]
fn every_scale_of_every_block_type_is_checked() {
    let types: [(u32, u64, usize, &[usize]); 12] = [
        (2, 32, 18, &[0]),
        (3, 32, 20, &[0, 2]),
        (6, 32, 22, &[0]),
        (7, 32, 24, &[0, 2]),
        (8, 32, 34, &[0]),
        (10, 256, 84, &[80, 82]),
        (11, 256, 110, &[108]),
        (12, 256, 144, &[0, 2]),
        (13, 256, 176, &[0, 2]),
        (14, 256, 210, &[208]),
        (20, 32, 18, &[0]),
        (23, 256, 136, &[0]),
    ];
    for (kind, elements, size, scales) in types {
        for at in scales {
            let mut bytes = vec![0; 3 * size];
            bytes[size + at..][..2].copy_from_slice(&0x7e00u16.to_le_bytes());
            let (_folder, path) = scratch("broken.gguf");
            fs::write(&path, gguf(&[], &[GgufTensor("t", &[3 * elements], kind, 0)], &bytes)).unwrap();
            let error = Weights::open(&path).unwrap().load_f32("t").unwrap_err();
            assert!(matches!(&error, Error::BrokenBlock { block: 1, .. }), "type {kind}, byte {at}: {error}");
        }
    }
}

/// GGML's names, from `gguf.GGMLQuantizationType` and `ggml.h`.
#[test]
fn types_that_are_not_read_are_refused_by_name() {
    let types = [
        (9, "Q8_1"),
        (15, "Q8_K"),
        (16, "IQ2_XXS"),
        (17, "IQ2_XS"),
        (18, "IQ3_XXS"),
        (19, "IQ1_S"),
        (21, "IQ3_S"),
        (22, "IQ2_S"),
        (29, "IQ1_M"),
        (34, "TQ1_0"),
        (35, "TQ2_0"),
        (39, "MXFP4"),
        (40, "NVFP4"),
        (41, "Q1_0"),
        (31, "Q4_0_4_4"),
        (38, "IQ4_NL_8_8"),
    ];
    for (kind, name) in types {
        let file = gguf(&[], &[GgufTensor("blk.0.attn_q.weight", &[256], kind, 0)], &[0; 512]);
        let error = refused("m.gguf", &file, "\"blk.0.attn_q.weight\" of");
        assert!(matches!(&error, Error::UnknownDType { dtype, .. } if dtype == name), "{error}");
        assert!(
            error.to_string().contains(&format!("stored as {name}, which is not read here: take a file of")),
            "{error}"
        );
    }
    for (kind, name) in [(24, "I8"), (25, "I16"), (26, "I32"), (27, "I64"), (28, "F64")] {
        let (_folder, path) = scratch("m.gguf");
        fs::write(&path, gguf(&[], &[GgufTensor("t", &[32], kind, 0)], &[0; 256])).unwrap();
        let said = Weights::open(&path).unwrap().load_f32("t").unwrap_err().to_string();
        assert!(said.contains(&format!("stored as {name}, which has no f32 form here: convert the file")), "{said}");
    }
}

#[test]
fn a_file_written_by_python_reads_back() {
    let golden = golden();
    let (_folder, path) = scratch("small.gguf");
    fs::write(&path, unhex(&golden["file"]["bytes"])).unwrap();
    let weights = Weights::open(&path).unwrap();

    let tensors = golden["file"]["tensors"].as_object().unwrap();
    let mut names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(weights.names().collect::<Vec<_>>(), names);
    for (name, tensor) in tensors {
        let (values, shape) = weights.load_f32(name).unwrap();
        assert_eq!(serde_json::json!(shape), tensor["shape"], "{name}");
        assert_eq!(le_bytes(&values), unhex(&tensor["values"]), "{name}");
    }

    let gguf = weights.gguf().unwrap();
    assert_eq!(gguf.version(), 3);
    assert_eq!(gguf.get_str("general.architecture").unwrap(), Some("llama"));
    assert_eq!(gguf.get_str("tokenizer.chat_template").unwrap(), Some("{{ messages }}"));
    assert_eq!(gguf.get_u32("llama.block_count").unwrap(), Some(2));
    assert_eq!(gguf.get_f32("llama.rope.freq_base").unwrap(), Some(100_000.0));
    assert_eq!(gguf.get_f32("test.double").unwrap(), Some(0.1));
    assert_eq!(gguf.get_bool("tokenizer.ggml.add_bos_token").unwrap(), Some(false));
    assert_eq!(gguf.get_strings("tokenizer.ggml.tokens").unwrap().unwrap(), ["<s>", "▁héllo", ""]);
    assert_eq!(gguf.get_f32s("tokenizer.ggml.scores").unwrap().unwrap(), [0.0, -1.5, 2.25]);
    assert_eq!(gguf.get_i32s("tokenizer.ggml.token_type").unwrap().unwrap(), [3, 1, -1]);
    assert_eq!(gguf.keys().len(), 11);
}

#[test]
fn an_absent_key_is_none_and_a_wrong_type_an_error() {
    let golden = golden();
    let (_folder, path) = scratch("small.gguf");
    fs::write(&path, unhex(&golden["file"]["bytes"])).unwrap();
    let weights = Weights::open(&path).unwrap();
    let gguf = weights.gguf().unwrap();

    assert_eq!(gguf.get_str("absent").unwrap(), None);
    assert_eq!(gguf.get_u32("absent").unwrap(), None);
    assert_eq!(gguf.get_f32("absent").unwrap(), None);
    assert_eq!(gguf.get_bool("absent").unwrap(), None);
    assert!(gguf.get_strings("absent").unwrap().is_none());
    assert!(gguf.get_f32s("absent").unwrap().is_none());
    assert!(gguf.get_i32s("absent").unwrap().is_none());
    let wrong = [
        (gguf.get_u32("test.negative").unwrap_err(), "-7"),
        (gguf.get_u32("test.large").unwrap_err(), "1099511627776"),
        (gguf.get_u32("general.architecture").unwrap_err(), "a string"),
        (gguf.get_f32("llama.block_count").unwrap_err(), "the integer 2"),
        (gguf.get_str("tokenizer.ggml.tokens").unwrap_err(), "an array of strings"),
        (gguf.get_bool("llama.block_count").unwrap_err(), "a truth value is needed"),
        (gguf.get_strings("tokenizer.ggml.scores").unwrap_err(), "an array of 32-bit floats"),
        (gguf.get_i32s("tokenizer.ggml.scores").unwrap_err(), "an array of 32-bit integers"),
    ];
    for (error, place) in wrong {
        assert_says(&error, &path, place);
        assert!(matches!(error, Error::MetadataType { .. }));
    }
}

#[test]
fn a_tensor_can_be_asked_for_by_its_name_alone() {
    let (_folder, path) = scratch("m.gguf");
    let tensors = [GgufTensor("f", &[1], 0, 0), GgufTensor("i", &[1], 26, 32)];
    fs::write(&path, gguf(&[], &tensors, &[0; 36])).unwrap();
    let weights = Weights::open(&path).unwrap();
    assert!(matches!(weights.load_f32("g").unwrap_err(), Error::NoSuchTensor { name, .. } if name == "g"));
    assert!(matches!(weights.load_f32("i").unwrap_err(), Error::NotFloat { name, .. } if name == "i"));
    assert_eq!(weights.bytes("i").unwrap(), [0; 4]);
    assert_eq!(weights.info("g"), None);
}

#[test]
fn headers_that_lie_are_refused() {
    let f32s = |dims: &'static [u64], offset| GgufTensor("t", dims, 0, offset);
    let file = |tensors: &[GgufTensor], data: usize| gguf(&[], tensors, &vec![0; data]);
    let patched = |at: usize, number: u64| {
        let mut bytes = file(&[f32s(&[4], 0)], 16);
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        bytes
    };
    let array = |kind: u32, count: u64, rest: &[u8]| {
        let value = [&kind.to_le_bytes()[..], &count.to_le_bytes(), rest].concat();
        gguf(&[pair("k", ARRAY, &value)], &[], &[])
    };
    let nested = (0..6).fold(Vec::new(), |inner, _| [&ARRAY.to_le_bytes()[..], &1u64.to_le_bytes(), &inner].concat());
    let version = |version: u32| [b"GGUF", &version.to_le_bytes()[..], &[0; 16]].concat();

    type Is = fn(&Error) -> bool;
    let truncated: Is = |error| matches!(error, Error::Truncated { .. });
    let value: Is = |error| matches!(error, Error::GgufValue { .. });
    let offset: Is = |error| matches!(error, Error::TensorOffset { .. });
    let cases: Vec<(Vec<u8>, &str, Is)> = vec![
        (b"GGUF".to_vec(), "the version at byte 4 needs 4 bytes", truncated),
        (version(1), "version 1", |error| matches!(error, Error::GgufVersion { found: 1, .. })),
        (version(3 << 24), "little-endian", |error| matches!(error, Error::GgufVersion { .. })),
        (patched(8, 1 << 60), "a tensor count of 1152921504606846976", value),
        (patched(8, 1 << 40), "needs 26388279066624 bytes", truncated),
        (patched(16, 1 << 62), "a key count of", value),
        (patched(24, u64::MAX), "a string length of", value),
        (patched(24, 1 << 32), "a tensor's name", truncated),
        (file(&[f32s(&[4], 0)], 15), "tensor \"t\" at byte 64 needs 16 bytes and 15 are left", truncated),
        (file(&[f32s(&[4], 32)], 16), "tensor \"t\"", truncated),
        (file(&[f32s(&[4], u64::MAX - 31)], 16), "tensor \"t\"", truncated),
        (file(&[f32s(&[4], 4)], 64), "starts at byte 4 of the data; 32 was expected", offset),
        (file(&[f32s(&[16], 0), GgufTensor("u", &[4], 0, 32)], 64), "tensor \"u\"", offset),
        (file(&[f32s(&[4], 0), f32s(&[4], 32)], 64), "\"t\" twice", |error| matches!(error, Error::Duplicate { .. })),
        (file(&[GgufTensor("t", &[4], 99, 0)], 64), "GGML type 99", |error| {
            matches!(error, Error::UnknownDType { .. })
        }),
        (file(&[GgufTensor("t", &[33], 8, 0)], 64), "33 elements", |error| matches!(error, Error::BlockSize { .. })),
        (file(&[GgufTensor("t", &[128], 10, 0)], 64), "128 elements", |error| matches!(error, Error::BlockSize { .. })),
        (file(&[GgufTensor("t", &[32, 8], 11, 0)], 110), "Q3_K", |error| matches!(error, Error::BlockSize { .. })),
        (file(&[GgufTensor("t", &[256], 10, 0)], 83), "tensor \"t\" at byte 64 needs 84 bytes", truncated),
        (file(&[GgufTensor("t", &[256], 11, 0)], 109), "tensor \"t\" at byte 64 needs 110 bytes", truncated),
        (file(&[GgufTensor("t", &[32], 20, 0)], 17), "tensor \"t\" at byte 64 needs 18 bytes", truncated),
        (file(&[GgufTensor("t", &[256], 23, 0)], 135), "tensor \"t\" at byte 64 needs 136 bytes", truncated),
        (file(&[f32s(&[1 << 32, 1 << 32], 0)], 64), "[4294967296, 4294967296]", |error| {
            matches!(error, Error::ShapeOverflow { .. })
        }),
        (file(&[f32s(&[1, 1, 1, 1, 1], 0)], 64), "this many dimensions: 5", value),
        (gguf(&[pair("k", 13, &[0])], &[], &[]), "the value type 13", value),
        (gguf(&[pair("k", U32, &[0; 4]), pair("k", U32, &[0; 4])], &[], &[]), "\"k\" twice", |error| {
            matches!(error, Error::Duplicate { .. })
        }),
        (array(U32, 1 << 61, &[]), "an array length of", value),
        (array(STRING, 1, &100u64.to_le_bytes()), "k", truncated),
        (array(ARRAY, 1, &nested), "nested to the depth 5", value),
        (
            gguf(&[pair("\u{e9}", U32, &[0; 4])], &[], &[])
                .into_iter()
                .map(|b| if b == 0xc3 { 0xff } else { b })
                .collect(),
            "a key at byte 32",
            |error| matches!(error, Error::GgufUtf8 { .. }),
        ),
        (gguf(&[pair("general.alignment", U32, &33u32.to_le_bytes())], &[], &[]), "33 where a power of two", |error| {
            matches!(error, Error::MetadataType { .. })
        }),
        (gguf(&[pair("split.count", 2, &3u16.to_le_bytes())], &[], &[]), "one of 3 parts", |error| {
            matches!(error, Error::GgufSplit { parts: 3, .. })
        }),
    ];
    for (bytes, place, is) in cases {
        let error = refused("m.gguf", &bytes, place);
        assert!(is(&error), "{error:?}");
    }
}

#[test]
fn text_that_is_not_utf8_is_an_error_where_it_is_read() {
    let (_folder, path) = scratch("m.gguf");
    let text = [&1u64.to_le_bytes()[..], b"\xff"].concat();
    let list = [&STRING.to_le_bytes()[..], &1u64.to_le_bytes(), &text].concat();
    fs::write(&path, gguf(&[pair("list", ARRAY, &list), pair("text", STRING, &text)], &[], &[])).unwrap();
    let weights = Weights::open(&path).unwrap();
    let gguf = weights.gguf().unwrap();
    assert!(matches!(gguf.get_str("text").unwrap_err(), Error::GgufUtf8 { .. }));
    assert!(matches!(gguf.get_strings("list").unwrap_err(), Error::GgufUtf8 { .. }));
}

#[test]
fn a_name_cannot_steer_a_terminal() {
    let message = |file: Vec<u8>| refused("a.gguf", &file, "").to_string();
    let key = pair(STEERING, U32, &1u32.to_le_bytes());
    assert_printable(&message(gguf(&[key.clone(), key.clone()], &[], &[])));
    assert_printable(&message(gguf(&[pair(STEERING, STRING, &9u64.to_le_bytes())], &[], &[])));
    assert_printable(&message(gguf(&[], &[GgufTensor(STEERING, &[4], 99, 0)], &[0; 16])));

    let (_folder, path) = scratch("key.gguf");
    fs::write(&path, gguf(&[key], &[], &[])).unwrap();
    assert_printable(&Weights::open(&path).unwrap().gguf().unwrap().get_str(STEERING).unwrap_err().to_string());
}
