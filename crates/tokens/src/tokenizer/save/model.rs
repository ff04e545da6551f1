//! Writes SentencePiece's `tokenizer.model` from pieces that came from another kind of file.
//!
//! Source: `sentencepiece_model.proto` of <https://github.com/google/sentencepiece>, and
//! <https://protobuf.dev/programming-guides/encoding/>.

use crate::tokenizer::sentencepiece::{Kind, SentencePieceFile};
use crate::tokenizer::{Error, Result};

/// `TrainerSpec.ModelType.BPE`.
const BPE: i64 = 2;

/// The file's bytes.
///
/// # Errors
/// [`Error::Unsaveable`] if there is not exactly one unknown piece, without which sentencepiece opens no model.
pub(super) fn tokenizer_model(file: &SentencePieceFile) -> Result<Vec<u8>> {
    let mut unknown = (0..).zip(&file.pieces).filter(|(_, piece)| piece.kind == Kind::Unknown);
    let (Some((unknown, _)), None) = (unknown.next(), unknown.next()) else {
        let reason = "sentencepiece wants one unknown token, and there is none or a second one".to_owned();
        return Err(Error::Unsaveable { path: file.path.clone(), reason });
    };
    let mut model = Vec::new();
    for piece in &file.pieces {
        let mut message = Vec::new();
        bytes(&mut message, 1, piece.text.as_bytes());
        message.push(2 << 3 | 5);
        message.extend(piece.score.to_le_bytes());
        number(&mut message, 3, piece.kind as i64);
        bytes(&mut model, 1, &message);
    }
    bytes(&mut model, 2, &trainer(file, unknown));
    bytes(&mut model, 3, &normalizer(file));
    Ok(model)
}

/// The kind of the model, and the tokens with a role by id and by text.
fn trainer(file: &SentencePieceFile, unknown: u32) -> Vec<u8> {
    let mut trainer = Vec::new();
    number(&mut trainer, 3, BPE);
    number(&mut trainer, 4, file.pieces.len() as i64);
    number(&mut trainer, 35, 1);
    let specials = &file.specials;
    let padding = specials.extras.padding;
    let roles = [(40, Some(unknown)), (41, specials.bos), (42, specials.eos.first().copied()), (43, padding)];
    for (field, id) in roles {
        number(&mut trainer, field, id.map_or(-1, i64::from));
    }
    for ((_, id), field) in roles.into_iter().zip(45..) {
        if let Some(piece) = id.and_then(|id| file.pieces.get(id as usize)) {
            bytes(&mut trainer, field, piece.text.as_bytes());
        }
    }
    trainer
}

/// No change of the text but for the marks of spaces.
fn normalizer(file: &SentencePieceFile) -> Vec<u8> {
    let mut normalizer = Vec::new();
    bytes(&mut normalizer, 1, b"identity");
    bytes(&mut normalizer, 2, b"");
    number(&mut normalizer, 3, i64::from(file.add_dummy_prefix));
    number(&mut normalizer, 4, 0);
    number(&mut normalizer, 5, 1);
    normalizer
}

/// A field of wire type 0. A negative number takes ten bytes.
fn number(message: &mut Vec<u8>, field: u64, value: i64) {
    varint(message, field << 3);
    varint(message, value.cast_unsigned());
}

/// A field of wire type 2.
fn bytes(message: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(message, field << 3 | 2);
    varint(message, value.len() as u64);
    message.extend(value);
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 & 0x7f | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}
