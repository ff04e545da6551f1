//! GGUF files made from the other fixtures, so that the same tokenizer can be read from two kinds of file.

use std::io::Write;
use std::path::{Path, PathBuf};

use foehn_weights::GgufValue;
use tempfile::TempDir;

/// A value of the metadata.
#[derive(Clone)]
pub enum Value {
    U32(u32),
    Bool(bool),
    Str(String),
    Strings(Vec<String>),
    F32s(Vec<f32>),
    I32s(Vec<i32>),
}

/// One piece of a SentencePiece model: text, score, type.
pub type Piece = (String, f32, i32);

/// Writes a GGUF file of version 3 that holds metadata and no tensors.
pub fn write(pairs: &[(&str, Value)]) -> (TempDir, PathBuf) {
    let mut bytes = head(pairs.len());
    for (key, value) in pairs {
        string(&mut bytes, key);
        match value {
            Value::U32(number) => {
                bytes.extend(4_u32.to_le_bytes());
                bytes.extend(number.to_le_bytes());
            }
            Value::Bool(truth) => {
                bytes.extend(7_u32.to_le_bytes());
                bytes.push(u8::from(*truth));
            }
            Value::Str(text) => {
                bytes.extend(8_u32.to_le_bytes());
                string(&mut bytes, text);
            }
            Value::Strings(texts) => {
                array(&mut bytes, 8, texts.len());
                texts.iter().for_each(|text| string(&mut bytes, text));
            }
            Value::F32s(numbers) => {
                array(&mut bytes, 6, numbers.len());
                numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
            }
            Value::I32s(numbers) => {
                array(&mut bytes, 5, numbers.len());
                numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
            }
        }
    }
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::File::create(&path).unwrap().write_all(&bytes).unwrap();
    (folder, path)
}

/// Writes a GGUF file that holds these keys and no tensors.
pub fn write_keys(path: &Path, keys: &[(String, GgufValue)]) {
    foehn_weights::save_gguf(path, keys, &[]).unwrap();
}

fn head(keys: usize) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend((keys as u64).to_le_bytes());
    bytes
}

/// The pieces of a SentencePiece model, read by separate code.
pub fn pieces(model: &[u8]) -> Vec<Piece> {
    let piece = |message: &[u8]| {
        let mut piece = (String::new(), 0.0, 1);
        for (field, number, bytes) in fields(message) {
            match field {
                1 => piece.0 = String::from_utf8(bytes.to_vec()).unwrap(),
                2 => piece.1 = f32::from_bits(number as u32),
                3 => piece.2 = number as i32,
                _ => {}
            }
        }
        piece
    };
    fields(model).into_iter().filter(|(field, ..)| *field == 1).map(|(_, _, message)| piece(message)).collect()
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let length = bytes.iter().position(|byte| *byte < 0x80).unwrap() + 1;
        let (number, rest) = bytes.split_at(length);
        *bytes = rest;
        number.iter().rev().fold(0, |sum, byte| sum << 7 | u64::from(byte & 0x7f))
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let (number, length) = match key & 7 {
            0 => (varint(&mut bytes), 0),
            2 => (0, varint(&mut bytes) as usize),
            5 => (u64::from(u32::from_le_bytes(bytes[..4].try_into().unwrap())), 4),
            other => panic!("wire type {other}"),
        };
        let (value, rest) = bytes.split_at(length);
        fields.push((key >> 3, number, value));
        bytes = rest;
    }
    fields
}

fn array(bytes: &mut Vec<u8>, kind: u32, count: usize) {
    bytes.extend(9_u32.to_le_bytes());
    bytes.extend(kind.to_le_bytes());
    bytes.extend((count as u64).to_le_bytes());
}

fn string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
