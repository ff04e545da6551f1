//! Reads SentencePiece's `tokenizer.model`, a protocol buffer. About a dozen of its fields are used.
//!
//! Source: `sentencepiece_model.proto` of <https://github.com/google/sentencepiece>, and
//! <https://protobuf.dev/programming-guides/encoding/>.

use std::path::Path;

use serde::Deserialize;

use crate::{Error, Result};

use super::bpe::bad;
use super::extras::Extras;
use super::files::{OneOrMore, sibling};
use super::sentencepiece::{Kind, Piece, SentencePieceFile};
use super::{Specials, Tokenizer};

/// The settings of the model besides its pieces, with the defaults of the `.proto` file.
struct Spec {
    model_type: u64,
    unknown: i32,
    bos: i32,
    eos: i32,
    padding: i32,
    charsmap: bool,
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool,
    escape_whitespaces: bool,
    whitespace_as_suffix: bool,
}

/// The settings of `tokenizer_config.json` that are used.
#[derive(Default, Deserialize)]
struct Config {
    add_bos_token: Option<bool>,
}

/// The stop tokens in `generation_config.json`.
#[derive(Default, Deserialize)]
struct Stops {
    eos_token_id: Option<OneOrMore>,
}

/// Loads a `tokenizer.model`. Whether a bos is added, and further stop tokens, are in the files beside it.
pub(crate) fn load(path: &Path) -> Result<Tokenizer> {
    let bytes = foehn_files::read(path, foehn_files::MAX_TEXT)
        .map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let mut pieces = Vec::new();
    let mut spec = Spec {
        model_type: 1,
        unknown: 0,
        bos: 1,
        eos: 2,
        padding: -1,
        charsmap: false,
        add_dummy_prefix: true,
        remove_extra_whitespaces: true,
        escape_whitespaces: true,
        whitespace_as_suffix: false,
    };
    let mut model = Reader { path, bytes: &bytes, offset: 0 };
    while let Some((field, value)) = model.field()? {
        match field {
            1 => pieces.push(piece(value.message(&model)?)?),
            2 => trainer(value.message(&model)?, &mut spec)?,
            3 => normalizer(value.message(&model)?, &mut spec)?,
            _ => {}
        }
    }
    check(path, &spec)?;
    if pieces.is_empty() {
        return Err(bad(path, "pieces", "the model has none".to_owned()));
    }
    let config: Config = sibling(path, "tokenizer_config.json")?.unwrap_or_default();
    let stops: Stops = sibling(path, "generation_config.json")?.unwrap_or_default();
    let more = stops.eos_token_id.map(OneOrMore::into_vec).unwrap_or_default();
    let id = |number: i32| u32::try_from(number).ok().filter(|id| (*id as usize) < pieces.len());
    let specials = Specials {
        bos: u32::try_from(spec.bos).ok(),
        eos: u32::try_from(spec.eos).ok().into_iter().chain(more).collect(),
        add_bos: config.add_bos_token.unwrap_or(true),
        extras: Extras { unknown: id(spec.unknown), padding: id(spec.padding), ..Extras::default() },
    };
    SentencePieceFile { path: path.to_owned(), pieces, add_dummy_prefix: spec.add_dummy_prefix, specials }.build()
}

fn check(path: &Path, spec: &Spec) -> Result<()> {
    let refused = [
        (spec.model_type != 2, "model_type", "not BPE", "BPE"),
        (spec.charsmap, "precompiled_charsmap", "present", "identity normalisation"),
        (spec.remove_extra_whitespaces, "remove_extra_whitespaces", "true", "false"),
        (!spec.escape_whitespaces, "escape_whitespaces", "false", "true"),
        (spec.whitespace_as_suffix, "treat_whitespace_as_suffix", "true", "false"),
    ];
    match refused.into_iter().find(|(refused, ..)| *refused) {
        None => Ok(()),
        Some((_, place, found, supported)) => Err(Error::Unsupported {
            path: path.to_owned(),
            place: place.to_owned(),
            found: found.to_owned(),
            supported,
        }),
    }
}

fn piece(mut message: Reader<'_>) -> Result<Piece> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: Kind::Normal };
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (1, Value::Bytes(start, bytes)) => {
                let text = std::str::from_utf8(bytes);
                text.map_err(|_| message.damaged_at(start, "a piece is not UTF-8"))?.clone_into(&mut piece.text);
            }
            (2, Value::Fixed32(bytes)) => piece.score = f32::from_le_bytes(bytes),
            (3, Value::Varint(number)) => {
                piece.kind = Kind::from_number(number).ok_or_else(|| message.damaged("a piece has an unknown type"))?;
            }
            (1..=3, _) => return Err(message.damaged("a piece's field has the wrong wire type")),
            _ => {}
        }
    }
    Ok(piece)
}

fn trainer(mut message: Reader<'_>, spec: &mut Spec) -> Result<()> {
    while let Some((field, value)) = message.field()? {
        let Value::Varint(number) = value else { continue };
        match field {
            3 => spec.model_type = number,
            24 => spec.whitespace_as_suffix = number != 0,
            // An absent token is -1, which is encoded as 64 bits in ten bytes.
            40 => spec.unknown = number.cast_signed().try_into().unwrap_or(-1),
            41 => spec.bos = number.cast_signed().try_into().unwrap_or(-1),
            42 => spec.eos = number.cast_signed().try_into().unwrap_or(-1),
            43 => spec.padding = number.cast_signed().try_into().unwrap_or(-1),
            _ => {}
        }
    }
    Ok(())
}

fn normalizer(mut message: Reader<'_>, spec: &mut Spec) -> Result<()> {
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (2, Value::Bytes(_, bytes)) => spec.charsmap = !bytes.is_empty(),
            (3, Value::Varint(number)) => spec.add_dummy_prefix = number != 0,
            (4, Value::Varint(number)) => spec.remove_extra_whitespaces = number != 0,
            (5, Value::Varint(number)) => spec.escape_whitespaces = number != 0,
            _ => {}
        }
    }
    Ok(())
}

/// A message, read from front to back. Every length is checked against the remaining bytes.
struct Reader<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    /// The offset of `bytes` in the file.
    offset: usize,
}

/// A field's value, by wire type.
enum Value<'a> {
    Varint(u64),
    Fixed64,
    /// With the offset in the file.
    Bytes(usize, &'a [u8]),
    Fixed32([u8; 4]),
}

impl<'a> Value<'a> {
    /// The value as a nested message.
    fn message(self, parent: &Reader<'a>) -> Result<Reader<'a>> {
        match self {
            Self::Bytes(offset, bytes) => Ok(Reader { path: parent.path, bytes, offset }),
            _ => Err(parent.damaged("a message was expected")),
        }
    }
}

impl<'a> Reader<'a> {
    /// The next field's number and value, or `None` at the end.
    fn field(&mut self) -> Result<Option<(u64, Value<'a>)>> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Fixed64
            }
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| self.damaged("a length is beyond all bounds"))?;
                let start = self.offset;
                Value::Bytes(start, self.take(length)?)
            }
            5 => {
                let mut number = [0; 4];
                number.copy_from_slice(self.take(4)?);
                Value::Fixed32(number)
            }
            _ => return Err(self.damaged("an unknown wire type: this is no SentencePiece model")),
        };
        Ok(Some((key >> 3, value)))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let &[byte] = self.take(1)? else { break };
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(self.damaged("an integer of more than ten bytes"))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.bytes.split_at_checked(length) else {
            return Err(self.damaged("the file ends within a field"));
        };
        self.bytes = rest;
        self.offset += length;
        Ok(taken)
    }

    fn damaged(&self, reason: &'static str) -> Error {
        self.damaged_at(self.offset, reason)
    }

    fn damaged_at(&self, offset: usize, reason: &'static str) -> Error {
        Error::Protobuf { path: self.path.to_owned(), offset, reason }
    }
}
