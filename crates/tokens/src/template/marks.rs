//! Marks around message texts, by which they are found again in what a template renders.
//!
//! A mark is a private-use character that occurs in no message and not in the template. A message's text stands between two
//! of its own, inside its outer white space, so that a template's `trim` still trims; an answer, indent and all, stands between its own. Control tokens spelt inside it are
//! broken by a third. What lies between a message's marks was written by people, all else by the template.

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
    /// Breaks control tokens inside of messages.
    break_mark: char,
    /// Stands where generation begins.
    cut_mark: char,
    /// Two a message.
    ends: Vec<(char, char)>,
}

/// A rendered conversation, without its marks.
#[derive(Debug, Default)]
pub(super) struct Unmarked {
    pub text: String,
    /// The messages' texts, in order. One message may have several, or none.
    pub regions: Vec<Region>,
}

/// Where a message stands.
#[derive(Debug, Clone)]
pub(super) struct Region {
    pub message: usize,
    /// Where generation begins: answers have one, others have none.
    pub cut: Option<usize>,
    pub range: Range<usize>,
}

impl Marks {
    /// Marks for messages that a template with this source will render.
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

    /// The messages' texts with their marks.
    pub fn mark(&self, tokenizer: &Tokenizer, messages: &[Message]) -> Vec<String> {
        let mark = |(message, (start, end)): (&Message, &(char, char))| {
            let text = &message.content;
            // An answer's indent is part of it, so that a template's `trim` must not reach it.
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

    /// How the template opens the answer of this index: what its generation prompt has after the message before.
    pub fn opening(&self, message: usize, prompt: &str) -> Option<String> {
        let from = match self.end_before(message) {
            Some(end) => prompt.rfind(end)? + end.len_utf8(),
            None => 0,
        };
        prompt.get(from..).map(str::to_owned)
    }

    /// Puts marks where generation begins in what was rendered. It begins where the answer's opening ends; where that can't be
    /// told, at the answer's text. An answer whose own opening is not known has one of the others'. One pass, however long
    /// the conversation.
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

    /// The mark after the message before this one.
    fn end_before(&self, message: usize) -> Option<char> {
        message.checked_sub(1).and_then(|previous| self.ends.get(previous)).map(|(_, end)| *end)
    }

    /// Takes the marks out again.
    ///
    /// # Errors
    /// [`Error::ContentAltered`] if one is missing or out of place, or an answer doesn't occur exactly once.
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

    /// A text with a mark inside of every control token that it spells.
    fn broken(&self, tokenizer: &Tokenizer, text: &str) -> String {
        let mut breaks = BTreeSet::new();
        for (control, ..) in tokenizer.controls() {
            let first = control.chars().next().map_or(0, char::len_utf8);
            // Overlapping occurrences count, so the search goes on one character further.
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

/// Every answer stands whole in one place, and has a place where generation begins.
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
