//! Splits text into pieces, which are then merged.

use super::SentencePieceFile;
use crate::tokenizer::Position;
use crate::tokenizer::merge::{Merger, Pieces, Symbols};

/// The character that marks a space.
const SPACE: char = '▁';

/// The encoder.
#[derive(Debug)]
pub(crate) struct SentencePiece {
    /// The contents of the file, for writing it again.
    pub(crate) file: SentencePieceFile,
    pub(super) pieces: Pieces,
    /// Pieces that are matched as a whole, the longest first.
    pub(super) user_defined: Vec<String>,
    /// The ids of `<0x00>` to `<0xFF>`.
    pub(super) bytes: Vec<u32>,
}

impl SentencePiece {
    pub fn encode(&self, text: &str, position: Position) -> Vec<u32> {
        if text.is_empty() {
            return Vec::new();
        }
        let (text, mut symbols) = self.normalize(text, position != Position::Within && self.file.add_dummy_prefix);
        let mut ids = Vec::with_capacity(text.len() / 3);
        Merger::new(&self.pieces, &self.bytes, text.as_bytes()).run(&mut symbols, &mut ids);
        ids
    }

    /// Marks spaces, and splits the text into characters and user-defined pieces. User-defined pieces are not changed.
    fn normalize(&self, text: &str, prefix: bool) -> (String, Symbols) {
        let mut marked = String::with_capacity(text.len() + text.len() / 4);
        let mut symbols = Symbols::with_capacity(text.len());
        let mut push = |marked: &mut String, piece: &str, frozen| {
            let start = marked.len();
            marked.push_str(piece);
            symbols.push(start..marked.len(), frozen);
        };
        let mut letter = [0; 4];
        if prefix {
            push(&mut marked, SPACE.encode_utf8(&mut letter), false);
        }
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let whole = self.user_defined.iter().find(|piece| rest.starts_with(piece.as_str()));
            let piece = match (whole, first) {
                (Some(piece), _) => piece.as_str(),
                (None, ' ') => SPACE.encode_utf8(&mut letter),
                (None, _) => first.encode_utf8(&mut letter),
            };
            push(&mut marked, piece, whole.is_some());
            rest = rest.get(whole.map_or(first.len_utf8(), String::len)..).unwrap_or_default();
        }
        (marked, symbols)
    }
}
