//! Marks around message texts, by which they are found again in what a template renders.
//!
//! A mark is a private-use character that occurs in no message and not in the template. A message's text stands between two
//! of its own, inside its outer white space, so that a template's `trim` still trims. Control tokens spelt inside it are
//! broken by a third. What lies between a message's marks was written by people, all else by the template.

use std::collections::BTreeSet;
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
            let inner = text.trim();
            let before = text.len() - text.trim_start().len();
            let (before, after) = match inner.is_empty() {
                true => (text.as_str(), ""),
                false => (text.get(..before).unwrap_or(""), text.get(before + inner.len()..).unwrap_or("")),
            };
            format!("{before}{start}{}{end}{after}", self.broken(tokenizer, inner))
        };
        messages.iter().zip(&self.ends).map(mark).collect()
    }

    /// Puts a mark where generation begins in what was rendered, for the answer of this index. It begins where the generation
    /// prompt ends; where that can't be told, at the answer's text.
    pub fn cut(&self, rendered: &mut String, message: usize, prompt: Option<&str>) {
        let Some(&(start, _)) = self.ends.get(message) else { return };
        let Some(text) = rendered.find(start) else { return };
        let at = prompt.and_then(|prompt| self.opening_end(rendered.get(..text)?, message, prompt));
        rendered.insert(at.unwrap_or(text), self.cut_mark);
    }

    /// Takes the marks out again.
    ///
    /// # Errors
    /// [`Error::ContentAltered`] if one is missing or out of place, or an answer doesn't occur exactly once.
    pub fn unmark(&self, rendered: &str, messages: &[Message]) -> Result<Unmarked> {
        let mut unmarked = Unmarked::default();
        let mut open: Option<Region> = None;
        let mut cut = None;
        for letter in rendered.chars() {
            let here = unmarked.text.len();
            if !is_private(letter) {
                unmarked.text.push(letter);
            } else if letter == self.break_mark {
            } else if letter == self.cut_mark {
                cut = Some(here);
            } else if let Some(message) = self.ends.iter().position(|(start, _)| *start == letter) {
                if let Some(outer) = open.replace(Region { message, cut: cut.take(), range: here..here }) {
                    return Err(altered(messages, outer.message));
                }
            } else if let Some(message) = self.ends.iter().position(|(_, end)| *end == letter) {
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

    /// Where, in what was rendered before an answer, the template's opening of the answer ends: what the generation prompt has
    /// after the message before.
    fn opening_end(&self, before: &str, message: usize, prompt: &str) -> Option<usize> {
        let previous = message.checked_sub(1).and_then(|previous| self.ends.get(previous));
        let after = |text: &str| match previous {
            Some((_, end)) => text.rfind(*end).map(|at| at + end.len_utf8()),
            None => Some(0),
        };
        let opening = prompt.get(after(prompt)?..)?;
        let from = after(before)?;
        before.get(from..)?.starts_with(opening).then_some(from + opening.len())
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
    let answers = messages.iter().enumerate().filter(|(_, message)| message.role == Role::Assistant);
    for (index, message) in answers {
        let mut regions = unmarked.regions.iter().filter(|region| region.message == index);
        let whole = match (regions.next(), regions.next()) {
            (Some(Region { cut: Some(_), range, .. }), None) => {
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
