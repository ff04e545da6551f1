//! The kernels' own tests under tools that watch memory.
#![allow(dead_code, missing_docs)]

#[path = "../../crates/kernels/src/cpu/mod.rs"]
mod cpu;
#[path = "../../crates/kernels/src/encoding.rs"]
mod encoding;
