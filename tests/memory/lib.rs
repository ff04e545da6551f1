//! The kernels' own tests, run with tools that check memory accesses.
#![allow(dead_code, missing_docs, unused_imports)]

#[path = "../../crates/kernels/src/cpu/mod.rs"]
mod cpu;
#[path = "../../crates/kernels/src/encoding.rs"]
mod encoding;
#[path = "../../crates/kernels/src/rope.rs"]
mod rope;

pub use rope::{QueryScale, Rope};
