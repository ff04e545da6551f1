//! SentencePiece's BPE, exactly: merges by the score of the piece that they make, the leftmost of equals first.
//!
//! Source: `bpe_model.cc` and `normalizer.cc` of <https://github.com/google/sentencepiece>. Spaces become `▁`, one `▁` stands
//! before a text, and characters without a piece become their bytes. Control, unknown and byte pieces are no part of the
//! table that text is looked up in, so no text can spell one.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::{Error, Result};

use super::bpe::bad;
use super::vocab::{Strips, Token, Vocab, digest_bytes, fallback_byte, metaspace_bytes};
use super::{Encoder, Position, Specials, Tokenizer};

/// The mark of a space.
const SPACE: char = '▁';

/// What a file says.
#[derive(Debug)]
pub(crate) struct Parts {
    pub path: PathBuf,
    /// By id.
    pub pieces: Vec<Piece>,
    /// Whether a space is put before every text.
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

/// SentencePiece's types, by their numbers in the file. GGUF's `token_type` has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    /// Text that is matched whole before anything else.
    UserDefined = 4,
    /// Merges may pass through it but not end in it.
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

/// The encoder.
#[derive(Debug)]
pub(crate) struct SentencePiece {
    pieces: HashMap<String, Entry>,
    /// Pieces that are matched whole, the longest first.
    user_defined: Vec<String>,
    /// The ids of `<0x00>` to `<0xFF>`.
    bytes: Vec<u32>,
    add_dummy_prefix: bool,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    id: u32,
    score: f32,
    unused: bool,
}

impl Parts {
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
        let encoder = self.encoder()?;
        Ok(Tokenizer::assemble(Encoder::SentencePiece(encoder), vocab, self.specials, hash))
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

    fn encoder(&self) -> Result<SentencePiece> {
        let mut pieces = HashMap::new();
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
                    if let Some(other) = pieces.insert(piece.text.clone(), entry) {
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
        Ok(SentencePiece { pieces, user_defined, bytes, add_dummy_prefix: self.add_dummy_prefix })
    }
}

impl SentencePiece {
    pub fn encode(&self, text: &str, position: Position) -> Vec<u32> {
        if text.is_empty() {
            return Vec::new();
        }
        let (text, symbols) = self.normalize(text, position != Position::Within && self.add_dummy_prefix);
        let mut merger = Merger::new(self, &text, symbols);
        merger.run();
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut at = Some(0);
        while let Some(symbol) = at.and_then(|index| merger.symbols.get(index)) {
            merger.emit(symbol.range.clone(), &mut ids);
            at = symbol.next;
        }
        ids
    }

    /// Marks spaces, and cuts into characters and user-defined pieces. Those are copied as they are, spaces and all.
    fn normalize(&self, text: &str, prefix: bool) -> (String, Vec<Symbol>) {
        let mut marked = String::with_capacity(text.len() + text.len() / 4);
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        let mut push = |marked: &mut String, piece: &str, frozen| {
            let start = marked.len();
            marked.push_str(piece);
            let index = symbols.len();
            symbols.push(Symbol {
                range: start..marked.len(),
                previous: index.checked_sub(1),
                next: Some(index + 1),
                frozen,
            });
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
        if let Some(last) = symbols.last_mut() {
            last.next = None;
        }
        (marked, symbols)
    }
}

/// A stretch of text, in a doubly linked list; empty once it was merged into the one before it.
#[derive(Debug)]
struct Symbol {
    range: Range<usize>,
    previous: Option<usize>,
    next: Option<usize>,
    frozen: bool,
}

/// Two neighbours that would make a piece.
#[derive(Debug)]
struct Candidate {
    score: f32,
    left: usize,
    right: usize,
    /// The length of both: if it is another by now, one of them has been merged elsewhere.
    length: usize,
}

struct Merger<'a> {
    model: &'a SentencePiece,
    text: &'a str,
    symbols: Vec<Symbol>,
    agenda: BinaryHeap<Candidate>,
    /// Where the unused pieces that merges passed through had their seam.
    seams: HashMap<&'a str, usize>,
}

impl<'a> Merger<'a> {
    fn new(model: &'a SentencePiece, text: &'a str, symbols: Vec<Symbol>) -> Self {
        let mut merger = Self { model, text, symbols, agenda: BinaryHeap::new(), seams: HashMap::new() };
        for right in 1..merger.symbols.len() {
            merger.consider(Some(right - 1), Some(right));
        }
        merger
    }

    fn run(&mut self) {
        while let Some(Candidate { left, right, length, .. }) = self.agenda.pop() {
            let (Some(first), Some(second)) = (self.symbols.get(left), self.symbols.get(right)) else { continue };
            if first.range.is_empty() || second.range.is_empty() || first.range.len() + second.range.len() != length {
                continue;
            }
            let (end, next) = (second.range.end, second.next);
            if let Some(symbol) = self.symbols.get_mut(right) {
                symbol.range = end..end;
            }
            if let Some(symbol) = next.and_then(|next| self.symbols.get_mut(next)) {
                symbol.previous = Some(left);
            }
            let Some(symbol) = self.symbols.get_mut(left) else { continue };
            symbol.range.end = end;
            symbol.next = next;
            let previous = symbol.previous;
            self.consider(previous, Some(left));
            self.consider(Some(left), next);
        }
    }

    /// Puts two neighbours on the agenda if they make a piece.
    fn consider(&mut self, left: Option<usize>, right: Option<usize>) {
        let (Some(left), Some(right)) = (left, right) else { return };
        let (Some(first), Some(second)) = (self.symbols.get(left), self.symbols.get(right)) else { return };
        if first.frozen || second.frozen {
            return;
        }
        let seam = first.range.len();
        let Some(text) = self.text.get(first.range.start..second.range.end) else { return };
        let Some(entry) = self.model.pieces.get(text) else { return };
        if entry.unused {
            self.seams.insert(text, seam);
        }
        self.agenda.push(Candidate { score: entry.score, left, right, length: text.len() });
    }

    /// Appends a symbol's id; its bytes if it is no piece; its halves' if its piece is not to be used.
    fn emit(&self, range: Range<usize>, ids: &mut Vec<u32>) {
        let Some(text) = self.text.get(range.clone()) else { return };
        match (self.model.pieces.get(text), self.seams.get(text)) {
            (Some(Entry { unused: true, .. }), Some(seam)) => {
                self.emit(range.start..range.start + seam, ids);
                self.emit(range.start + seam..range.end, ids);
            }
            (Some(entry), _) => ids.push(entry.id),
            (None, _) => {
                ids.extend(text.bytes().filter_map(|byte| self.model.bytes.get(usize::from(byte)).copied()));
            }
        }
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left)).then(other.length.cmp(&self.length))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}
