//! Mistral's `tekken.json`: byte-level BPE by ranks, as in tiktoken.
//!
//! Source: `tokens/tokenizers/tekken.py` of <https://github.com/mistralai/mistral-common>, version 1.13.1, and
//! `_byte_pair_merge` of <https://github.com/openai/tiktoken>. A pattern cuts the text. A cut that is a token is this
//! token; otherwise its bytes are merged, the pair that forms the token of the lowest rank first. Control tokens are
//! not among the ranks, so no text can produce one.

mod file;

use std::path::PathBuf;

use tokenizers::pattern::Pattern as _;

use crate::{Error, Result};

use super::merge::{Merger, Pieces, Symbols};
use super::rules::Pattern;

pub(crate) use file::{load, version, with_version};

/// The name in a model's folder.
pub(crate) const FILE: &str = "tekken.json";

/// The encoder.
#[derive(Debug)]
pub(crate) struct Tekken {
    /// The path of the file.
    pub(crate) path: PathBuf,
    pattern: Pattern,
    pieces: Pieces,
    /// The ids of the bytes.
    bytes: Vec<u32>,
}

impl Tekken {
    /// The ids of a text. Returns an error if the pattern takes too many steps.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let failed = |source| Error::Encode { path: self.path.clone(), bytes: text.len(), source };
        let cuts = (&self.pattern.bounded()).find_matches(text).map_err(failed)?;
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut merger = Merger::new(&self.pieces, &self.bytes, text.as_bytes());
        let mut symbols = Symbols::default();
        for ((start, end), _) in cuts {
            match text.as_bytes().get(start..end).and_then(|piece| self.pieces.get(piece)) {
                Some(whole) => ids.push(whole.id),
                None => {
                    (start..end).for_each(|at| symbols.push(at..at + 1, false));
                    merger.run(&mut symbols, &mut ids);
                }
            }
        }
        Ok(ids)
    }
}
