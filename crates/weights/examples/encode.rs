//! Encodes a file of little-endian `f32` as a type of GGML's, and prints how many seconds that took.
//!
//! `cargo run --release -p foehn-weights --example encode -- VALUES Q4_K OUT`

use std::time::Instant;

use foehn_weights::DType;

const TYPES: [DType; 11] = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::Q8_0,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q4K,
    DType::Q5K,
    DType::Q6K,
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [values, name, out] = &arguments[..] else { return Err("usage: encode VALUES TYPE OUT".into()) };
    let dtype = TYPES.into_iter().find(|dtype| dtype.name() == name).ok_or("no such type")?;
    let bytes = std::fs::read(values)?;
    let values: Vec<f32> = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let start = Instant::now();
    let encoded = dtype.encode(&values, dtype.block_elements())?;
    println!("{:.3}", start.elapsed().as_secs_f64());
    std::fs::write(out, encoded)?;
    Ok(())
}
