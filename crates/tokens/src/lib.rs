//! Tokenizer and chat template: conversations to masked samples to packed batches.
mod batch;
mod error;
mod sample;
mod template;
mod tokenizer;

pub use batch::{Batch, Segment, Target};
pub use error::{Error, Result};
pub use sample::Sample;
pub use template::{ChatTemplate, MistralVersion};
pub use tokenizer::{TextStream, Tokenizer};
