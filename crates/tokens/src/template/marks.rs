//! Marks around the texts of messages, by which the texts are found in the output of a template.
//!
//! A mark is a private-use character that does not occur in any message or in the template. Each [`Place`] has two
//! marks: each content, each reasoning, and each name and each string in the calls of tools. For most messages they are
//! inside the outer white space, so that the template's `trim` still works; for an answer they are around the whole text,
//! including the indent. Control tokens spelled inside a text are broken up by a third mark. Text between the marks of a
//! place was written by people; all other text comes from the template, or from the definitions of tools.
//!
//! Templates compare the texts of definitions, so these have no marks at their ends. Only where such a text could become
//! a part of a control token, the mark that breaks control tokens is put there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::{Range, RangeInclusive};

use foehn_record::{Conversation, Message, Role};

use super::marked::{Part, Place, places};
use crate::{Error, Result, Tokenizer};

/// Unicode's private-use characters.
const PRIVATE: [RangeInclusive<char>; 3] =
    ['\u{e000}'..='\u{f8ff}', '\u{f0000}'..='\u{ffffd}', '\u{100000}'..='\u{10fffd}'];

/// The words of JSON Schema that templates compare: they have no marks in definitions.
const SCHEMA: [&str; 24] = [
    "function",
    "type",
    "name",
    "description",
    "parameters",
    "properties",
    "required",
    "items",
    "enum",
    "default",
    "string",
    "integer",
    "number",
    "boolean",
    "object",
    "array",
    "null",
    "anyOf",
    "oneOf",
    "allOf",
    "format",
    "title",
    "additionalProperties",
    "strict",
];

/// The marks of one conversation.
#[derive(Debug)]
pub(super) struct Marks {
    /// Breaks up control tokens that are spelled inside texts.
    break_mark: char,
    /// Marks the position where generation begins.
    cut_mark: char,
    /// The texts that have marks.
    pub places: Vec<Place>,
    /// Two marks for each place.
    ends: Vec<(char, char)>,
}

/// A rendered conversation after its marks were removed.
#[derive(Debug, Default)]
pub(super) struct Unmarked {
    pub text: String,
    /// The places, in the order of the text. A place may occur several times, or not at all.
    pub regions: Vec<Region>,
    /// Where the text had marks that break up control tokens, in order.
    pub breaks: Vec<usize>,
}

/// An occurrence of a place.
#[derive(Debug, Clone)]
pub(super) struct Region {
    pub message: usize,
    /// The place, from 0.
    pub place: usize,
    /// Whether it is the text of an answer.
    pub answer: bool,
    /// The position where generation begins; only for the first region of an assistant turn.
    pub cut: Option<usize>,
    pub range: Range<usize>,
}

impl Unmarked {
    /// Whether a control token at this range is broken up, so that it is text.
    pub fn is_broken(&self, range: Range<usize>) -> bool {
        let next = self.breaks.partition_point(|place| *place <= range.start);
        self.breaks.get(next).is_some_and(|place| *place < range.end)
    }
}

impl Marks {
    /// Chooses marks for a conversation that is rendered by a template with this source.
    pub fn new(source: &str, conversation: Conversation<'_>) -> Result<Self> {
        let places = places(conversation.messages)?;
        let mut used: BTreeSet<char> = BTreeSet::new();
        let mut note = |text: &str| used.extend(text.chars().filter(|letter| is_private(*letter)));
        note(source);
        places.iter().for_each(|place| note(&place.text));
        for message in conversation.messages {
            let ids = message.tool_calls.iter().filter_map(|call| call.id.as_deref());
            ids.chain(message.tool_call_id.as_deref()).chain(message.name.as_deref()).for_each(&mut note);
        }
        for tool in conversation.tools {
            super::json::Json::of(tool).with_texts(&mut |text| {
                note(text);
                String::new()
            });
        }
        let mut free = PRIVATE.into_iter().flatten().filter(|letter| !used.contains(letter));
        let mut two = || Some((free.next()?, free.next()?));
        let marks = two().zip((0..places.len()).map(|_| two()).collect());
        let ((break_mark, cut_mark), ends) = marks.ok_or_else(|| {
            let free = PRIVATE.into_iter().flatten().count() - used.len();
            Error::TooManyMessages { messages: places.len(), limit: (free / 2).saturating_sub(1) }
        })?;
        Ok(Self { break_mark, cut_mark, places, ends })
    }

    /// A text between the marks of a place.
    pub fn fence(&self, tokenizer: &Tokenizer, place: usize, text: &str) -> String {
        let text = self.broken(tokenizer, text);
        match self.ends.get(place) {
            Some((start, end)) => format!("{start}{text}{end}"),
            None => text,
        }
    }

    /// The text with which the template opens the answer with this index: the text of the generation prompt after the
    /// previous message.
    pub fn opening(&self, message: usize, prompt: &str) -> Option<String> {
        let from = match self.ends_before(message) {
            [] => 0,
            ends => ends.iter().filter_map(|(_, end)| Some(prompt.rfind(*end)? + end.len_utf8())).max()?,
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
        let mut waiting: HashSet<usize> = answers.iter().copied().collect();
        let starts: HashMap<char, usize> = self.starts().map(|(start, place)| (start, place.message)).collect();
        let mut ended: HashMap<char, usize> = HashMap::new();
        let mut cuts = Vec::new();
        for (at, letter) in rendered.char_indices().filter(|(_, letter)| is_private(*letter)) {
            ended.insert(letter, at + letter.len_utf8());
            let Some(answer) = starts.get(&letter).copied().filter(|answer| waiting.remove(answer)) else { continue };
            let from = match self.ends_before(answer) {
                [] => Some(0),
                ends => ends.iter().filter_map(|(_, end)| ended.get(end).copied()).max(),
            };
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

    /// The start marks with their places.
    fn starts(&self) -> impl Iterator<Item = (char, &Place)> {
        self.ends.iter().map(|(start, _)| *start).zip(&self.places)
    }

    /// The marks of the message before this one.
    fn ends_before(&self, message: usize) -> &[(char, char)] {
        let Some(previous) = message.checked_sub(1) else { return &[] };
        let first = self.places.partition_point(|place| place.message < previous);
        let last = self.places.partition_point(|place| place.message <= previous);
        self.ends.get(first..last).unwrap_or_default()
    }

    /// Removes the marks.
    ///
    /// # Errors
    /// [`Error::ContentAltered`] if a mark is missing or in a wrong place; the caller checks that every place is whole.
    pub fn unmark(&self, rendered: &str, messages: &[Message]) -> Result<Unmarked> {
        let mut unmarked = Unmarked::default();
        let mut open: Option<Region> = None;
        let mut cut = None;
        let known = || (0..).zip(&self.ends);
        let starts: HashMap<char, usize> = known().map(|(place, (start, _))| (*start, place)).collect();
        let stops: HashMap<char, usize> = known().map(|(place, (_, end))| (*end, place)).collect();
        let message = |place: usize| self.places.get(place).map_or(0, |place| place.message);
        for letter in rendered.chars() {
            let here = unmarked.text.len();
            if !is_private(letter) {
                unmarked.text.push(letter);
            } else if letter == self.break_mark {
                unmarked.breaks.push(here);
            } else if letter == self.cut_mark {
                cut = Some(here);
            } else if let Some(&place) = starts.get(&letter) {
                let (message, is_content) = (message(place), self.part(place) == Some(Part::Content));
                let answers = messages.get(message).is_some_and(|message| message.role == Role::Assistant);
                let answer = answers && is_content;
                if let Some(outer) = open.replace(Region { message, place, answer, cut: cut.take(), range: here..here })
                {
                    return Err(altered(messages, outer.message));
                }
            } else if let Some(&place) = stops.get(&letter) {
                match open.take() {
                    Some(region) if region.place == place => {
                        unmarked.regions.push(Region { range: region.range.start..here, ..region });
                    }
                    _ => return Err(altered(messages, message(place))),
                }
            } else {
                unmarked.text.push(letter);
            }
        }
        match open {
            Some(region) => Err(altered(messages, region.message)),
            None => Ok(unmarked),
        }
    }

    fn part(&self, place: usize) -> Option<Part> {
        self.places.get(place).map(|place| place.part)
    }

    /// A text with a mark inside every control token that is spelled in it.
    pub fn broken(&self, tokenizer: &Tokenizer, text: &str) -> String {
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

    /// As [`Self::broken`], and a mark at each end if a template could make the text a part of a control token.
    pub fn guarded(&self, tokenizer: &Tokenizer, text: &str) -> String {
        let broken = self.broken(tokenizer, text);
        let could_join = |control: &str| {
            let cuts = || control.char_indices().map(|(at, _)| at).skip(1);
            control.contains(text)
                || cuts().any(|at| control.get(at..).is_some_and(|end| text.starts_with(end)))
                || cuts().any(|at| control.get(..at).is_some_and(|start| text.ends_with(start)))
        };
        let compared = SCHEMA.contains(&text) || text.is_empty();
        if compared || !tokenizer.controls().any(|(control, ..)| could_join(control)) {
            return broken;
        }
        format!("{0}{broken}{0}", self.break_mark)
    }
}

fn is_private(letter: char) -> bool {
    PRIVATE.iter().any(|range| range.contains(&letter))
}

pub(super) fn altered(messages: &[Message], index: usize) -> Error {
    let role = messages.get(index).map_or(Role::System, |message| message.role);
    Error::ContentAltered { index, role }
}
