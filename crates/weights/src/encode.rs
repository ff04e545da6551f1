//! temporary
use half::{bf16, f16};
use crate::DType;
/// E
#[derive(Debug, thiserror::Error)]
pub enum EncodeError { /// t
 #[error("t")] Type, /// r
 #[error("r")] Row, /// v
 #[error("v")] Value { /// i
 index: usize, /// v
 value: f32 } }
impl DType { /// e
 pub fn encode(self, values: &[f32], _row: usize) -> Result<Vec<u8>, EncodeError> {
    let bad = |f: &dyn Fn(f32) -> bool| values.iter().position(|v| !f(*v)).map_or(Ok(()), |index| Err(EncodeError::Value { index, value: values[index] }));
    Ok(match self {
        DType::F32 => { bad(&|v| v.is_finite())?; values.iter().flat_map(|v| v.to_le_bytes()).collect() }
        DType::F16 => { bad(&|v| f16::from_f32(v).is_finite())?; values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect() }
        DType::BF16 => { bad(&|v| bf16::from_f32(v).is_finite())?; values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect() }
        _ => return Err(EncodeError::Type),
    })
 } }
