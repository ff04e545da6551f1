//! A damaged file gives an error or other numbers. It never causes a panic or a tensor outside the file.

mod common;

use std::fs;
use std::sync::LazyLock;

use common::{GgufTensor, gguf, golden, pair, safetensors, scratch, unhex};
use foehn_weights::Weights;
use proptest::prelude::*;

static SAFETENSORS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let json = concat!(
        r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"#,
        r#""b":{"dtype":"BF16","shape":[2],"data_offsets":[16,20]},"#,
        r#""c":{"dtype":"F8_E4M3","shape":[2,4],"data_offsets":[20,28]},"#,
        r#""c_scale_inv":{"dtype":"F32","shape":[1,2],"data_offsets":[28,36]}}"#
    );
    safetensors(json, &[1; 36])
});
static GGUF: LazyLock<Vec<u8>> = LazyLock::new(|| unhex(&golden()["file"]["bytes"]));

/// Opens the file and reads everything in it.
fn read_all(name: &str, bytes: &[u8]) {
    let (_folder, path) = scratch(name);
    fs::write(&path, bytes).unwrap();
    let Ok(weights) = Weights::open(&path) else { return };
    for name in weights.names() {
        assert!(weights.bytes(name).unwrap().len() <= bytes.len());
        if let Ok((values, shape)) = weights.load_f32(name) {
            assert_eq!(values.len(), shape.iter().product::<usize>());
        }
    }
    let Some(gguf) = weights.gguf() else { return };
    for key in gguf.keys() {
        let _ = (gguf.get_str(key), gguf.get_u32(key), gguf.get_f32(key), gguf.get_bool(key));
        let _ = (gguf.get_strings(key), gguf.get_f32s(key), gguf.get_i32s(key));
    }
}

/// The bytes with some of them overwritten and the end cut off.
fn damage(whole: &[u8], edits: &[(prop::sample::Index, u8)], keep: Option<prop::sample::Index>) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for (at, byte) in edits {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
    }
    bytes.truncate(keep.map_or(bytes.len(), |keep| keep.index(whole.len() + 1)));
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damage_never_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        keep in proptest::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        read_all("m.safetensors", &damage(&SAFETENSORS, &edits, keep));
        read_all("m.gguf", &damage(&GGUF, &edits, keep));
    }

    #[test]
    fn any_number_in_a_gguf_tensor_is_survived(
        dims in prop::collection::vec(prop_oneof![any::<u64>(), 0u64..600], 0..6),
        kind in 0u32..44,
        offset in prop_oneof![any::<u64>(), 0u64..600],
        value in any::<[u8; 16]>(),
        value_kind in 0u32..14,
    ) {
        let tensor = GgufTensor("t", &dims, kind, offset);
        read_all("m.gguf", &gguf(&[pair("general.alignment", value_kind, &value)], &[tensor], &[0; 600]));
    }

    /// Any bytes are blocks or a typed error, and so is a shape that the bytes are too few for.
    #[test]
    fn any_blocks_are_survived(
        kind in prop::sample::select(vec![2u32, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 23]),
        dims in prop::collection::vec(prop_oneof![Just(256u64), Just(32), 0u64..4], 1..4),
        data in prop::collection::vec(any::<u8>(), 0..1200),
    ) {
        read_all("m.gguf", &gguf(&[], &[GgufTensor("t", &dims, kind, 0)], &data));
    }

    #[test]
    fn any_scale_of_eight_bit_floats_is_survived(
        shape in prop::collection::vec(0usize..12, 0..4),
        scale in prop::collection::vec(0usize..5, 0..4),
        dtype in prop::sample::select(vec![("F32", 4), ("BF16", 2), ("U8", 1), ("F8_E4M3", 1)]),
        byte in any::<u8>(),
    ) {
        let [end, more] = [&shape, &scale].map(|shape| shape.iter().product::<usize>());
        let all = end + more * dtype.1;
        let json = format!(
            r#"{{"w":{{"dtype":"F8_E4M3","shape":{shape:?},"data_offsets":[0,{end}]}},"w_scale_inv":{{"dtype":"{}","shape":{scale:?},"data_offsets":[{end},{all}]}}}}"#,
            dtype.0
        );
        read_all("m.safetensors", &safetensors(&json, &vec![byte; all]));
    }

    #[test]
    fn any_header_is_survived(json in "[\\[\\]{}:,\"0-9a-z_]{0,80}", data in prop::collection::vec(any::<u8>(), 0..20)) {
        read_all("m.safetensors", &safetensors(&json, &data));
    }
}
