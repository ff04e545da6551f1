//! Splits text into pieces: neighbouring characters are merged, the pair with the best score first.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;
use std::path::PathBuf;

use crate::tokenizer::Position;

/// The character that marks a space.
const SPACE: char = '▁';

/// The encoder.
#[derive(Debug)]
pub(crate) struct SentencePiece {
    /// The path of the file.
    pub(crate) path: PathBuf,
    pub(super) pieces: HashMap<String, Entry>,
    /// Pieces that are matched as a whole, the longest first.
    pub(super) user_defined: Vec<String>,
    /// The ids of `<0x00>` to `<0xFF>`.
    pub(super) bytes: Vec<u32>,
    pub(super) add_dummy_prefix: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) id: u32,
    pub(super) score: f32,
    pub(super) unused: bool,
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

    /// Marks spaces, and splits the text into characters and user-defined pieces. User-defined pieces are not changed.
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

/// A piece of text in a doubly linked list. It is empty after it was merged into the previous one.
#[derive(Debug)]
struct Symbol {
    range: Range<usize>,
    previous: Option<usize>,
    next: Option<usize>,
    frozen: bool,
}

/// Two neighbours that can be merged into a piece.
#[derive(Debug)]
struct Candidate {
    score: f32,
    left: usize,
    right: usize,
    /// The length of both. If it has changed, one of them has been merged with another neighbour meanwhile.
    length: usize,
}

struct Merger<'a> {
    model: &'a SentencePiece,
    text: &'a str,
    symbols: Vec<Symbol>,
    agenda: BinaryHeap<Candidate>,
    /// For unused pieces that were formed by merges: the position between their two parts.
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

    /// Adds two neighbours to the queue if they form a piece.
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

    /// Appends the id of a symbol. If it is not a piece, its bytes; if its piece is unused, the ids of its two parts.
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
