//! Marks around the texts of messages, by which the texts are found in the output of a template.
//!
//! A mark is a private-use character that does not occur in any message or in the template. Each message has two marks.
//! For most messages they are inside the outer white space, so that the template's `trim` still works; for an answer
//! they are around the whole text, including the indent. Control tokens spelled inside a message are broken up by a
//! third mark. Text between the marks of a message was written by people; all other text comes from the template.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{Range, RangeInclusive};

use foehn_record::{Message, Role};

use crate::{Error, Result, Tokenizer};

/// Unicode's private-use characters.
const PRIVATE: [RangeInclusive<char>; 3] =
    ['\u{e000}'..='\u{f8ff}', '\u{f0000}'..='\u{ffffd}', '\u{100000}'..='\u{10fffd}'];

/// The marks of one conversation.
#[derive(Debug)]
pub(super) struct Marks {
    /// Breaks up control tokens that are spelled inside messages.
    break_mark: char,
    /// Marks the position where generation begins.
    cut_mark: char,
    /// Two marks for each message.
    ends: Vec<(char, char)>,
}

/// A rendered conversation after its marks were removed.
#[derive(Debug, Default)]
pub(super) struct Unmarked {
    pub text: String,
    /// The places of the messages' texts, in order. A message may have several, or none.
    pub regions: Vec<Region>,
}

/// The place of a message.
#[derive(Debug, Clone)]
pub(super) struct Region {
    pub message: usize,
    /// The position where generation begins; only for answers.
    pub cut: Option<usize>,
    pub range: Range<usize>,
}

impl Marks {
    /// Chooses marks for messages that are rendered by a template with this source.
    pub fn new(source: &str, messages: &[Message]) -> Result<Self> {
        let texts = messages.iter().map(|message| message.content.as_str()).chain([source]);
        let used: BTreeSet<char> = texts.flat_map(str::chars).filter(|letter| is_private(*letter)).collect();
        let mut free = PRIVATE.into_iter().flatten().filter(|letter| !used.contains(letter));
        let mut two = || Some((free.next()?, free.next()?));
        let marks = two().zip((0..messages.len()).map(|_| two()).collect());
        let ((break_mark, cut_mark), ends) = marks.ok_or_else(|| {
            let free = PRIVATE.into_iter().flatten().count() - used.len();
            Error::TooManyMessages { messages: messages.len(), limit: (free / 2).saturating_sub(1) }
        })?;
        Ok(Self { break_mark, cut_mark, ends })
    }

    /// The texts of the messages with their marks.
    pub fn mark(&self, tokenizer: &Tokenizer, messages: &[Message]) -> Vec<String> {
        let mark = |(message, (start, end)): (&Message, &(char, char))| {
            let text = &message.content;
            // An answer's indent belongs to it, so the template's `trim` must not remove it.
            let inner = if message.role == Role::Assistant { text } else { text.trim() };
            let before = if message.role == Role::Assistant { 0 } else { text.len() - text.trim_start().len() };
            let (before, after) = match inner.is_empty() {
                true => (text.as_str(), ""),
                false => (text.get(..before).unwrap_or(""), text.get(before + inner.len()..).unwrap_or("")),
            };
            format!("{before}{start}{}{end}{after}", self.broken(tokenizer, inner))
        };
        messages.iter().zip(&self.ends).map(mark).collect()
    }

    /// The text with which the template opens the answer with this index: the text of the generation prompt after the
    /// previous message.
    pub fn opening(&self, message: usize, prompt: &str) -> Option<String> {
        let from = match self.end_before(message) {
            Some(end) => prompt.rfind(end)? + end.len_utf8(),
            None => 0,
        };
        prompt.get(from..).map(str::to_owned)
    }

    /// Inserts marks where generation begins. That is the end of the answer's opening or, if this cannot be determined,
    /// the start of the answer's text. If an answer's own opening is not known, one of the others is used. This takes
    /// one pass over the text, for a conversation of any length.
    pub fn cut(&self, rendered: &str, answers: &[usize], openings: &BTreeMap<usize, Option<String>>) -> String {
        let mut shared: Vec<&str> = openings.values().flatten().map(String::as_str).collect();
        shared.sort_by_key(|opening| std::cmp::Reverse(opening.len()));
        shared.dedup();
        let mut open: HashMap<char, usize> =
            answers.iter().filter_map(|answer| Some((self.ends.get(*answer)?.0, *answer))).collect();
        let mut ended: HashMap<char, usize> = HashMap::new();
        let mut cuts = Vec::new();
        for (at, letter) in rendered.char_indices().filter(|(_, letter)| is_private(*letter)) {
            ended.insert(letter, at + letter.len_utf8());
            let Some(answer) = open.remove(&letter) else { continue };
            let from = self.end_before(answer).map_or(Some(0), |end| ended.get(&end).copied());
            let before = from.and_then(|from| rendered.get(from..at)).unwrap_or_default();
            let opening = match openings.get(&answer) {
                Some(own) => own.as_deref().filter(|own| before.starts_with(own)),
                None => shared.iter().find(|opening| before.starts_with(**opening)).copied(),
            };
            cuts.push(from.zip(opening).map_or(at, |(from, opening)| from + opening.len()));
        }
        let mut text = String::with_capacity(rendered.len() + 4 * cuts.len());
        let mut copied = 0;
        for cut in cuts {
            text.push_str(rendered.get(copied..cut).unwrap_or_default());
            text.push(self.cut_mark);
            copied = cut.max(copied);
        }
        text.push_str(rendered.get(copied..).unwrap_or_default());
        text
    }

    /// The last mark of the message before this one.
    fn end_before(&self, message: usize) -> Option<char> {
        message.checked_sub(1).and_then(|previous| self.ends.get(previous)).map(|(_, end)| *end)
    }

    /// Removes the marks.
    ///
    /// # Errors
    /// [`Error::ContentAltered`] if a mark is missing or in a wrong place, or if an answer does not occur exactly once.
    pub fn unmark(&self, rendered: &str, messages: &[Message]) -> Result<Unmarked> {
        let mut unmarked = Unmarked::default();
        let mut open: Option<Region> = None;
        let mut cut = None;
        let known = || (0..).zip(&self.ends);
        let starts: HashMap<char, usize> = known().map(|(message, (start, _))| (*start, message)).collect();
        let stops: HashMap<char, usize> = known().map(|(message, (_, end))| (*end, message)).collect();
        for letter in rendered.chars() {
            let here = unmarked.text.len();
            if !is_private(letter) {
                unmarked.text.push(letter);
            } else if letter == self.break_mark {
            } else if letter == self.cut_mark {
                cut = Some(here);
            } else if let Some(&message) = starts.get(&letter) {
                if let Some(outer) = open.replace(Region { message, cut: cut.take(), range: here..here }) {
                    return Err(altered(messages, outer.message));
                }
            } else if let Some(&message) = stops.get(&letter) {
                match open.take() {
                    Some(region) if region.message == message => {
                        unmarked.regions.push(Region { range: region.range.start..here, ..region });
                    }
                    _ => return Err(altered(messages, message)),
                }
            } else {
                unmarked.text.push(letter);
            }
        }
        if let Some(region) = open {
            return Err(altered(messages, region.message));
        }
        check_answers(&unmarked, messages)?;
        Ok(unmarked)
    }

    /// A text with a mark inside every control token that is spelled in it.
    fn broken(&self, tokenizer: &Tokenizer, text: &str) -> String {
        let mut breaks = BTreeSet::new();
        for (control, ..) in tokenizer.controls() {
            let first = control.chars().next().map_or(0, char::len_utf8);
            // Occurrences may overlap, so the search continues at the next character.
            let mut from = 0;
            while let Some(at) = text.get(from..).and_then(|rest| rest.find(control)) {
                breaks.insert(from + at + first);
                from += at + first;
            }
        }
        let mut broken = text.to_owned();
        for at in breaks.into_iter().rev() {
            broken.insert(at, self.break_mark);
        }
        broken
    }
}

fn is_private(letter: char) -> bool {
    PRIVATE.iter().any(|range| range.contains(&letter))
}

fn altered(messages: &[Message], index: usize) -> Error {
    let role = messages.get(index).map_or(Role::System, |message| message.role);
    Error::ContentAltered { index, role }
}

/// Checks that every answer is complete and in one place, and that the position where its generation begins is known.
fn check_answers(unmarked: &Unmarked, messages: &[Message]) -> Result<()> {
    let mut regions: HashMap<usize, Vec<&Region>> = HashMap::new();
    for region in &unmarked.regions {
        regions.entry(region.message).or_default().push(region);
    }
    let answers = messages.iter().enumerate().filter(|(_, message)| message.role == Role::Assistant);
    for (index, message) in answers {
        let whole = match regions.get(&index).map(Vec::as_slice) {
            Some([Region { cut: Some(_), range, .. }]) => {
                unmarked.text.get(range.clone()) == Some(message.content.as_str())
            }
            _ => false,
        };
        if !whole {
            return Err(altered(messages, index));
        }
    }
    Ok(())
}
