//! The CPU kernels. They work on plain slices, not on tensors.

// `unsafe` is used for three things: vector instructions, the thread pool, and buffers that several threads write.
#![allow(unsafe_code)]

pub mod attention;
pub mod block;
pub mod buffer;
pub mod cached;
pub mod cross_entropy;
pub mod few;
pub mod integer;
pub mod linear;
pub mod matrix;
pub mod number;
pub mod pool;
pub mod product;
pub mod rows;
pub mod simd;

#[cfg(test)]
mod tests;
