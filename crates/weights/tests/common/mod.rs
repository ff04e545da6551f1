//! Files built by hand, byte by byte, so that any field can be wrong.
#![allow(dead_code, reason = "each test binary uses its own half")]

use std::fs;
use std::path::{Path, PathBuf};

use foehn_weights::{Error, Weights};
use tempfile::TempDir;

/// A folder and a path in it.
pub fn scratch(name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    (folder, path)
}

/// Opens `bytes` as the file `name` and returns the error. Its message must contain the file's name and `place`.
pub fn refused(name: &str, bytes: &[u8], place: &str) -> Error {
    let (_folder, path) = scratch(name);
    fs::write(&path, bytes).unwrap();
    let error = Weights::open(&path).expect_err(place);
    assert_says(&error, &path, place);
    error
}

pub fn assert_says(error: &Error, path: &Path, place: &str) {
    let message = error.to_string();
    assert!(message.contains(path.to_str().unwrap()), "{message:?} does not name {path:?}");
    assert!(message.contains(place), "{message:?} does not say {place:?}");
}

/// A safetensors file: the given JSON, then the data.
pub fn safetensors(json: &str, data: &[u8]) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), data].concat()
}

/// A GGUF tensor: name, dimensions as the file has them (fastest first), type number, offset.
pub struct GgufTensor<'a>(pub &'a str, pub &'a [u64], pub u32, pub u64);

/// A GGUF file from ready-made key-values (see [`pair`]), tensors and data.
pub fn gguf(pairs: &[Vec<u8>], tensors: &[GgufTensor], data: &[u8]) -> Vec<u8> {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((pairs.len() as u64).to_le_bytes());
    file.extend(pairs.concat());
    for GgufTensor(name, dims, kind, offset) in tensors {
        file.extend(string(name));
        file.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|dim| file.extend(dim.to_le_bytes()));
        file.extend(kind.to_le_bytes());
        file.extend(offset.to_le_bytes());
    }
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend(data);
    file
}

/// A GGUF key-value: key, type number, the value's bytes.
pub fn pair(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&string(key)[..], &kind.to_le_bytes(), value].concat()
}

pub fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// `tests/golden/gguf_blocks.json`, written by `gguf_blocks.py`.
pub fn golden() -> serde_json::Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/gguf_blocks.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

pub fn unhex(value: &serde_json::Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Little-endian bytes, for comparing floats bit by bit.
pub fn le_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// ESC, CR, BEL, a right-to-left override, and CSI as one character.
pub const STEERING: &str = "a\u{1b}[2J\r\u{7}\u{202e}\u{9b}b";

/// The message holds all of [`STEERING`], escaped.
#[track_caller]
pub fn assert_printable(message: &str) {
    assert!(!message.chars().any(|c| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}')), "{message:?}");
    assert!(message.contains(r"a\u{1b}[2J\r\u{7}\u{202e}\u{9b}b"), "{message:?}");
}
