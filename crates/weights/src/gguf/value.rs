//! Values of a GGUF file's metadata, to be written.

use super::Kind;

/// A value to be written into a GGUF file's metadata: its type and its bytes, as they stand in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufValue(pub(crate) Vec<u8>);

impl GgufValue {
    fn new(kind: Kind, bytes: impl IntoIterator<Item = u8>) -> Self {
        Self((kind as u32).to_le_bytes().into_iter().chain(bytes).collect())
    }

    fn array<const N: usize>(kind: Kind, items: impl ExactSizeIterator<Item = [u8; N]>) -> Self {
        let head = [(kind as u32).to_le_bytes().as_slice(), &(items.len() as u64).to_le_bytes()].concat();
        Self::new(Kind::Array, head.into_iter().chain(items.flatten()))
    }
}

/// The length, then the text.
pub(super) fn string(text: &str) -> impl Iterator<Item = u8> {
    (text.len() as u64).to_le_bytes().into_iter().chain(text.bytes())
}

impl From<u32> for GgufValue {
    fn from(value: u32) -> Self {
        Self::new(Kind::U32, value.to_le_bytes())
    }
}

impl From<f32> for GgufValue {
    fn from(value: f32) -> Self {
        Self::new(Kind::F32, value.to_le_bytes())
    }
}

impl From<bool> for GgufValue {
    fn from(value: bool) -> Self {
        Self::new(Kind::Bool, [u8::from(value)])
    }
}

impl From<&str> for GgufValue {
    fn from(value: &str) -> Self {
        Self::new(Kind::Str, string(value))
    }
}

impl From<&[i32]> for GgufValue {
    fn from(values: &[i32]) -> Self {
        Self::array(Kind::I32, values.iter().map(|value| value.to_le_bytes()))
    }
}

impl From<&[f32]> for GgufValue {
    fn from(values: &[f32]) -> Self {
        Self::array(Kind::F32, values.iter().map(|value| value.to_le_bytes()))
    }
}

impl From<&[bool]> for GgufValue {
    fn from(values: &[bool]) -> Self {
        Self::array(Kind::Bool, values.iter().map(|&value| [u8::from(value)]))
    }
}

impl From<&[&str]> for GgufValue {
    fn from(values: &[&str]) -> Self {
        let head = [(Kind::Str as u32).to_le_bytes().as_slice(), &(values.len() as u64).to_le_bytes()].concat();
        Self::new(Kind::Array, head.into_iter().chain(values.iter().flat_map(|text| string(text))))
    }
}
