//! SentencePiece's BPE, reproduced exactly: the merge whose piece has the best score comes first, and among equal
//! scores the leftmost one.
//!
//! Source: `bpe_model.cc` and `normalizer.cc` of <https://github.com/google/sentencepiece>. Spaces become `▁`, one `▁`
//! is added before a text, and a character without a piece becomes its bytes. Control, unknown and byte pieces are not
//! in the table in which text is looked up, so no text can produce one.

mod encode;

use std::cmp::Reverse;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::{Error, Result};

use super::bpe::bad;
use super::merge::{Entry, Pieces};
use super::vocab::{Strips, Token, Vocab, digest_bytes, fallback_byte, metaspace_bytes};
use super::{Encoder, Specials, Tokenizer};

pub(crate) use encode::SentencePiece;

/// The contents of a file.
#[derive(Debug)]
pub(crate) struct SentencePieceFile {
    pub path: PathBuf,
    /// The pieces by id.
    pub pieces: Vec<Piece>,
    /// Whether a space is added before every text.
    pub add_dummy_prefix: bool,
    pub specials: Specials,
}

/// One piece.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Piece {
    pub text: String,
    pub score: f32,
    pub kind: Kind,
}

/// SentencePiece's types, with their numbers in the file. GGUF's `token_type` is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    /// Text that is matched as a whole before anything else.
    UserDefined = 4,
    /// Merges may form it as an intermediate step, but it is not used as a result.
    Unused = 5,
    Byte = 6,
}

impl Kind {
    pub fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}

impl SentencePieceFile {
    /// Builds the tokenizer.
    pub fn build(mut self) -> Result<Tokenizer> {
        for id in self.specials.eos.iter().chain(&self.specials.bos) {
            let Some(piece) = self.pieces.get_mut(*id as usize) else {
                return Err(bad(&self.path, "bos and eos", format!("there is no piece {id}")));
            };
            piece.kind = Kind::Control;
        }
        let mut hash = Sha256::new();
        hash.update(format!("sentencepiece {}", self.add_dummy_prefix));
        for piece in &self.pieces {
            digest_bytes(&mut hash, piece.text.as_bytes());
            hash.update(piece.score.to_le_bytes());
            hash.update([piece.kind as u8]);
        }
        let vocab = self.vocab()?;
        let specials = self.specials.clone();
        let encoder = self.encoder()?;
        Ok(Tokenizer::assemble(Encoder::SentencePiece(Box::new(encoder)), vocab, specials, hash))
    }

    fn vocab(&self) -> Result<Vocab> {
        let tokens = (0..).zip(&self.pieces).map(|(id, piece)| {
            let bytes = match piece.kind {
                Kind::Byte => fallback_byte(&piece.text).into_iter().collect(),
                _ => metaspace_bytes(&piece.text),
            };
            let control = matches!(piece.kind, Kind::Control | Kind::Unknown);
            (id, Token { text: piece.text.clone(), bytes, control, strips: Strips::default() })
        });
        Vocab::new(&self.path, tokens, self.add_dummy_prefix)
    }

    fn encoder(self) -> Result<SentencePiece> {
        let mut pieces = Pieces::default();
        let mut bytes = vec![None; 256];
        for (id, piece) in (0..).zip(&self.pieces) {
            let place = || format!("piece {id} ({:?})", piece.text);
            if piece.text.is_empty() || !piece.score.is_finite() {
                let reason = format!("a piece needs a text and a finite score, not {}", piece.score);
                return Err(bad(&self.path, &place(), reason));
            }
            match piece.kind {
                Kind::Control | Kind::Unknown => {}
                Kind::Byte => {
                    let slot = fallback_byte(&piece.text).and_then(|byte| bytes.get_mut(usize::from(byte)));
                    let reason = || "a byte piece is written <0x00> to <0xFF>".to_owned();
                    *slot.ok_or_else(|| bad(&self.path, &place(), reason()))? = Some(id);
                }
                Kind::Normal | Kind::UserDefined | Kind::Unused => {
                    let entry = Entry { id, score: piece.score, unused: piece.kind == Kind::Unused };
                    if let Some(other) = pieces.insert(piece.text.as_bytes().into(), entry) {
                        return Err(bad(&self.path, &place(), format!("piece {} has the same text", other.id)));
                    }
                }
            }
        }
        let bytes = bytes.into_iter().collect::<Option<Vec<u32>>>().ok_or_else(|| Error::Unsupported {
            path: self.path.clone(),
            place: "byte fallback".to_owned(),
            found: "incomplete".to_owned(),
            supported: "a model with all 256 byte pieces",
        })?;
        let is_user_defined = |piece: &&Piece| piece.kind == Kind::UserDefined;
        let mut user_defined: Vec<String> =
            self.pieces.iter().filter(is_user_defined).map(|piece| piece.text.clone()).collect();
        user_defined.sort_by_key(|text| Reverse(text.len()));
        Ok(SentencePiece { file: self, pieces, user_defined, bytes })
    }
}
