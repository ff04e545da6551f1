//! The CPU's kernels: plain slices, no tensor.

// The vector instructions, the pool and the parts of a buffer that its threads write are what `unsafe` is for here.
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
