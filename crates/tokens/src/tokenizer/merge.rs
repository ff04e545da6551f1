//! BPE by the score of each piece, as in SentencePiece and tiktoken: of all neighbours that form a piece, those with
//! the best score are merged first, and among equal scores the leftmost.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;

use foldhash::fast::RandomState;

/// The pieces by their bytes.
pub(super) type Pieces = HashMap<Box<[u8]>, Entry, RandomState>;

#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub id: u32,
    pub score: f32,
    /// Merges may form it as an intermediate step, but it is not used as a result.
    pub unused: bool,
}

/// The pieces of a text before merging, in a doubly linked list.
#[derive(Debug, Default)]
pub(super) struct Symbols(Vec<Symbol>);

/// It is empty after it was merged into the previous one.
#[derive(Debug)]
struct Symbol {
    range: Range<usize>,
    previous: Option<usize>,
    next: Option<usize>,
    frozen: bool,
}

impl Symbols {
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Appends a piece of the text. A frozen one is not merged with its neighbours.
    pub fn push(&mut self, range: Range<usize>, frozen: bool) {
        let index = self.0.len();
        if let Some(last) = self.0.last_mut() {
            last.next = Some(index);
        }
        self.0.push(Symbol { range, previous: index.checked_sub(1), next: None, frozen });
    }
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

/// Merges the symbols of one text. Its buffers are reused between runs.
pub(super) struct Merger<'a> {
    pieces: &'a Pieces,
    /// The ids of the bytes, for a symbol that is not a piece.
    bytes: &'a [u32],
    text: &'a [u8],
    agenda: BinaryHeap<Candidate>,
    /// For unused pieces that were formed by merges: the position between their two parts.
    seams: HashMap<&'a [u8], usize, RandomState>,
}

impl<'a> Merger<'a> {
    pub fn new(pieces: &'a Pieces, bytes: &'a [u32], text: &'a [u8]) -> Self {
        Self { pieces, bytes, text, agenda: BinaryHeap::new(), seams: HashMap::default() }
    }

    /// Merges the symbols, appends the ids of what remains, and removes all symbols.
    pub fn run(&mut self, symbols: &mut Symbols, ids: &mut Vec<u32>) {
        let Symbols(symbols) = symbols;
        for right in 1..symbols.len() {
            self.consider(symbols, Some(right - 1), Some(right));
        }
        while let Some(Candidate { left, right, length, .. }) = self.agenda.pop() {
            let (Some(first), Some(second)) = (symbols.get(left), symbols.get(right)) else { continue };
            if first.range.is_empty() || second.range.is_empty() || first.range.len() + second.range.len() != length {
                continue;
            }
            let (end, next) = (second.range.end, second.next);
            if let Some(symbol) = symbols.get_mut(right) {
                symbol.range = end..end;
            }
            if let Some(symbol) = next.and_then(|next| symbols.get_mut(next)) {
                symbol.previous = Some(left);
            }
            let Some(symbol) = symbols.get_mut(left) else { continue };
            symbol.range.end = end;
            symbol.next = next;
            let previous = symbol.previous;
            self.consider(symbols, previous, Some(left));
            self.consider(symbols, Some(left), next);
        }
        let mut at = Some(0);
        while let Some(symbol) = at.and_then(|index| symbols.get(index)) {
            self.emit(symbol.range.clone(), ids);
            at = symbol.next;
        }
        symbols.clear();
    }

    /// Adds two neighbours to the queue if they form a piece.
    fn consider(&mut self, symbols: &[Symbol], left: Option<usize>, right: Option<usize>) {
        let (Some(left), Some(right)) = (left, right) else { return };
        let (Some(first), Some(second)) = (symbols.get(left), symbols.get(right)) else { return };
        if first.frozen || second.frozen {
            return;
        }
        let seam = first.range.len();
        let Some(text) = self.text.get(first.range.start..second.range.end) else { return };
        let Some(entry) = self.pieces.get(text) else { return };
        if entry.unused {
            self.seams.insert(text, seam);
        }
        self.agenda.push(Candidate { score: entry.score, left, right, length: text.len() });
    }

    /// Appends the id of a symbol. If it is not a piece, its bytes; if its piece is unused, the ids of its two parts.
    fn emit(&self, range: Range<usize>, ids: &mut Vec<u32>) {
        let Some(text) = self.text.get(range.clone()) else { return };
        match (self.pieces.get(text), self.seams.get(text)) {
            (Some(Entry { unused: true, .. }), Some(seam)) => {
                self.emit(range.start..range.start + seam, ids);
                self.emit(range.start + seam..range.end, ids);
            }
            (Some(entry), _) => ids.push(entry.id),
            (None, _) => ids.extend(text.iter().filter_map(|byte| self.bytes.get(usize::from(*byte)).copied())),
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
