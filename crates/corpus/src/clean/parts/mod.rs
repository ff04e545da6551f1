//! Cleaning in three stages, file to file, for sets that one machine is too slow for.

pub(super) mod code;
mod columns;
mod entry;
mod fault;
mod judge;
mod manifest;
mod map;
mod sealed;
mod sort;
mod verdict;
mod write;

pub use fault::PartFault;
pub use judge::{JudgeConfig, judge_parts};
pub use map::{MapConfig, Mapped, map_part};
pub use write::{write_part_rejects, write_parts};
