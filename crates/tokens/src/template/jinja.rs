//! Hugging Face's chat templates: Jinja renders text, and the text is tokenised.
//!
//! The rendered text is split at the template's control tokens and at the start of generation. Each piece between them
//! is tokenised as a whole. If no message contains the text of a control token, the ids equal those of transformers'
//! `apply_chat_template`.

use std::collections::BTreeMap;
use std::ops::Range;

use foehn_files::printable_text;
use foehn_record::{Conversation, Message, Role};
use minijinja::context;

use crate::tokenizer::{Position, Strips};
use crate::{Error, Result, Tokenizer};

use super::Rendered;
use super::marked::{Marked, mark};
use super::marks::{Marks, Unmarked};
use super::program::Program;
use super::whole::{self, spans};

/// A compiled template.
#[derive(Debug)]
pub(super) struct Jinja {
    source: String,
    program: Program,
    bos_token: Option<String>,
    eos_token: Option<String>,
    /// The control tokens by their first byte, the longest first.
    controls: Vec<Vec<Control>>,
}

#[derive(Debug)]
struct Control {
    text: String,
    id: u32,
    strips: Strips,
}

/// A piece of rendered text.
#[derive(Debug)]
struct Piece {
    range: Range<usize>,
    /// The control token; `None` for text.
    control: Option<(u32, Strips)>,
}

impl Jinja {
    pub fn new(source: &str, tokenizer: &Tokenizer) -> Result<Self> {
        let program = Program::new(source)
            .map_err(|source| Error::TemplateSyntax { line: source.line().unwrap_or(0), source: escaped(source) })?;
        let mut controls: Vec<Vec<Control>> = (0..256).map(|_| Vec::new()).collect();
        for (text, id, strips) in tokenizer.controls() {
            // White space next to a message may belong to the message, so a control token with white space at its ends
            // is not recognised.
            let slot = text.bytes().next().and_then(|first| controls.get_mut(usize::from(first)));
            if let Some(slot) = slot.filter(|_| text.trim() == text) {
                slot.push(Control { text: text.to_owned(), id, strips });
            }
        }
        for slot in &mut controls {
            slot.sort_by_key(|control| std::cmp::Reverse(control.text.len()));
        }
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).map(str::to_owned);
        Ok(Self {
            source: source.to_owned(),
            program,
            bos_token: text(tokenizer.bos_id()),
            eos_token: text(tokenizer.eos_token()),
            controls,
        })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    pub fn render(&self, tokenizer: &Tokenizer, conversation: Conversation<'_>) -> Result<Rendered> {
        let unmarked = self.text(tokenizer, conversation, false)?;
        let pieces = self.pieces(&unmarked);
        let (input_ids, starts) = tokenize(tokenizer, &unmarked.text, &pieces)?;
        let mut trained = Vec::new();
        let spans = spans(&unmarked, conversation.messages.len());
        for (index, (message, span)) in conversation.messages.iter().zip(spans).enumerate() {
            if let Some(span) = span.filter(|_| message.is_trained()) {
                trained.push((index, turn(tokenizer, &unmarked, &pieces, &starts, (index, span))?));
            }
        }
        Ok(Rendered { input_ids, trained })
    }

    pub fn prompt(&self, tokenizer: &Tokenizer, conversation: Conversation<'_>) -> Result<Vec<u32>> {
        let unmarked = self.text(tokenizer, conversation, true)?;
        Ok(tokenize(tokenizer, &unmarked.text, &self.pieces(&unmarked))?.0)
    }

    /// The text of plain messages, as other programs render it.
    pub fn plain(&self, messages: &[(Role, &str)], prompt: bool) -> Result<String> {
        let bytes = messages.iter().map(|(_, text)| text.len()).sum();
        let shown = messages.iter().map(|(role, content)| context! { role => role.name(), content => *content });
        let nothing = minijinja::Value::from(());
        let variables = context! {
            messages => shown.collect::<Vec<_>>(),
            add_generation_prompt => prompt,
            tools => &nothing,
            documents => &nothing,
            ..self.token_names()
        };
        self.program
            .render(variables, messages.len(), bytes)
            .map_err(|source| Error::TemplateRender { line: source.line().unwrap_or(0), source: escaped(source) })
    }

    /// Whether a space at the start and after each control token gives the ids of this template, rather than none. Both are
    /// tried on short conversations.
    pub fn wants_prefix(&self, tokenizer: &Tokenizer) -> Result<bool> {
        let turns = [(Role::System, "Aa"), (Role::User, "Bb"), (Role::Assistant, "Cc"), (Role::User, "Dd")];
        let messages = turns.map(|(role, text)| Message::new(role, text));
        let (mut with, mut without, mut rendered) = (true, true, false);
        let mut refused = None;
        // Some templates have no place for a system prompt.
        for first in [0, 1] {
            let conversation = Conversation::from(messages.get(first..).unwrap_or_default());
            let unmarked = match self.text(tokenizer, conversation, true) {
                Ok(unmarked) => unmarked,
                Err(error) => {
                    refused = Some(error);
                    continue;
                }
            };
            let pieces = self.pieces(&unmarked);
            let expected = tokenize(tokenizer, &unmarked.text, &pieces)?.0;
            let same = |adds| Ok::<_, Error>(as_in_llama(tokenizer, &unmarked.text, &pieces, adds)? == expected);
            (with, without) = (with && same(true)?, without && same(false)?);
            rendered = true;
        }
        match (refused, with, without) {
            (Some(error), ..) if !rendered => Err(error),
            (_, true, _) => Ok(true),
            (_, false, true) => Ok(false),
            (_, false, false) => {
                let reason = "llama.cpp adds a space after every control token or after none, and the template needs \
                              both";
                Err(Error::Unsaveable { path: tokenizer.path().to_owned(), reason: reason.to_owned() })
            }
        }
    }

    /// Renders to text, and finds the messages and the positions where generation begins.
    fn text(&self, tokenizer: &Tokenizer, conversation: Conversation<'_>, prompt: bool) -> Result<Unmarked> {
        let messages = conversation.messages;
        let marks = Marks::new(&self.source, conversation)?;
        let marked = mark(&marks, tokenizer, conversation)?;
        let rendered = self.run(&marked, messages.len(), true, prompt)?;
        if !conversation.tools.is_empty() {
            // A template may refuse calls without tools. Then it reads the tools.
            let without = self.run(&marked, messages.len(), false, prompt).unwrap_or_default();
            whole::check_tools(&marked.tool_names, &rendered, &without)?;
        }
        let answers: Vec<usize> = (0..)
            .zip(messages)
            .filter(|(_, message)| message.role == Role::Assistant)
            .map(|(index, _)| index)
            .collect();
        let mut openings = BTreeMap::new();
        for index in rendered_alone(&answers) {
            // Some templates refuse a conversation that begins with an answer. Then there is no prompt to compare with.
            let prompt = self.run(&marked, index, true, true).ok();
            openings.insert(index, prompt.and_then(|prompt| marks.opening(index, &prompt)));
        }
        let unmarked = marks.unmark(&marks.cut(&rendered, &answers, &openings), messages)?;
        whole::check(&unmarked, &marks.places, messages, prompt)?;
        Ok(unmarked)
    }

    /// Renders the first messages of a conversation, with or without its tools.
    fn run(&self, marked: &Marked, messages: usize, tools: bool, prompt: bool) -> Result<String> {
        let failed = |source: minijinja::Error| Error::TemplateRender {
            line: source.line().unwrap_or(0),
            source: escaped(source),
        };
        let nothing = minijinja::Value::from(());
        let variables = context! {
            messages => marked.messages.get(..messages).unwrap_or_default(),
            add_generation_prompt => prompt,
            tools => if tools { &marked.tools } else { &nothing },
            documents => &nothing,
            ..self.token_names()
        };
        self.program.render(variables, marked.count, marked.bytes).map_err(failed)
    }

    /// `bos_token` and `eos_token`; undefined if the tokenizer does not have them.
    fn token_names(&self) -> minijinja::Value {
        let names = [("bos_token", &self.bos_token), ("eos_token", &self.eos_token)];
        let known = names.into_iter().filter_map(|(name, text)| Some((name, text.clone()?)));
        known.collect::<BTreeMap<_, _>>().into()
    }

    /// Splits the text at control tokens outside of messages, and where generation begins.
    fn pieces(&self, unmarked: &Unmarked) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut text_start = 0;
        let mut cuts = unmarked.regions.iter().filter_map(|region| region.cut).peekable();
        let mut regions = unmarked.regions.iter().peekable();
        let mut at = 0;
        while at <= unmarked.text.len() {
            while cuts.next_if(|cut| *cut <= at).is_some() {
                pieces.push(Piece { range: text_start..at, control: None });
                text_start = at;
            }
            if let Some(region) = regions.next_if(|region| region.range.start <= at) {
                at = region.range.end.max(at);
                continue;
            }
            let limit = regions.peek().map_or(unmarked.text.len(), |region| region.range.start);
            let limit = cuts.peek().map_or(limit, |cut| limit.min(*cut));
            let rest = unmarked.text.get(at..limit).unwrap_or_default();
            let control = self.control_at(rest).filter(|control| !unmarked.is_broken(at..at + control.text.len()));
            if let Some(control) = control {
                let end = at + control.text.len();
                pieces.push(Piece { range: text_start..at, control: None });
                pieces.push(Piece { range: at..end, control: Some((control.id, control.strips)) });
                (text_start, at) = (end, end);
            } else {
                at += rest.chars().next().map_or(1, char::len_utf8);
            }
        }
        pieces.push(Piece { range: text_start..unmarked.text.len(), control: None });
        pieces.retain(|piece| !piece.range.is_empty());
        strip(unmarked, &mut pieces);
        pieces
    }

    fn control_at(&self, text: &str) -> Option<&Control> {
        let slot = self.controls.get(usize::from(*text.as_bytes().first()?))?;
        slot.iter().find(|control| text.starts_with(&control.text))
    }
}

/// The range of ids of an assistant turn: from where generation begins to the first stop token after its last text.
fn turn(
    tokenizer: &Tokenizer,
    unmarked: &Unmarked,
    pieces: &[Piece],
    starts: &[usize],
    (index, (first, last)): (usize, (usize, usize)),
) -> Result<Range<usize>> {
    let untrained = || Error::StopTokenUntrained { index, stop_tokens: tokenizer.eos_ids().to_vec() };
    let region = |at: usize| unmarked.regions.get(at);
    // Pieces are sorted, so a binary search finds the place of each turn.
    let from = |at: Option<usize>| pieces.partition_point(|piece| Some(piece.range.start) < at);
    let first = from(region(first).and_then(|region| region.cut));
    let limit = region(last + 1).map_or(usize::MAX, |next| next.range.start);
    let after = from(region(last).map(|region| region.range.end));
    let turn = pieces.iter().skip(after).take_while(|piece| piece.range.start < limit);
    let is_stop = |piece: &Piece| piece.control.is_some_and(|(id, _)| tokenizer.eos_ids().contains(&id));
    let stop = after + turn.map(is_stop).position(|stop| stop).ok_or_else(untrained)?;
    match (starts.get(first), starts.get(stop)) {
        (Some(first), Some(stop)) => Ok(*first..*stop + 1),
        _ => Err(untrained()),
    }
}

/// The answers whose generation prompts are rendered: all of a short conversation; the first and the last of a long
/// one, whose openings are then used for the others. Rendering a prompt for each answer would take time quadratic in
/// the length of the conversation.
fn rendered_alone(answers: &[usize]) -> Vec<usize> {
    const ALL: usize = 16;
    const FIRST: usize = 8;
    let mut alone: Vec<usize> = answers.iter().take(if answers.len() > ALL { FIRST } else { ALL }).copied().collect();
    alone.extend(answers.last().filter(|_| answers.len() > ALL));
    alone
}

/// Removes the white space around control tokens that strip it, but not the indent of an answer.
fn strip(unmarked: &Unmarked, pieces: &mut [Piece]) {
    let text = &unmarked.text;
    let mut answers = unmarked.regions.iter().filter(|region| region.answer).map(|region| region.range.start);
    let mut answer = answers.next();
    for index in 0..pieces.len() {
        let before = index.checked_sub(1).and_then(|before| pieces.get(before)?.control);
        let after = pieces.get(index + 1).and_then(|after| after.control);
        let Some(piece) = pieces.get_mut(index).filter(|piece| piece.control.is_none()) else { continue };
        let inner = text.get(piece.range.clone()).unwrap_or_default();
        if before.is_some_and(|(_, strips)| strips.after) {
            while answer.is_some_and(|answer| answer < piece.range.start) {
                answer = answers.next();
            }
            let blank = inner.len() - inner.trim_start().len();
            piece.range.start = (piece.range.start + blank).min(answer.unwrap_or(usize::MAX));
        }
        let inner = text.get(piece.range.clone()).unwrap_or_default();
        if after.is_some_and(|(_, strips)| strips.before) {
            piece.range.end -= inner.len() - inner.trim_end().len();
        }
    }
}

/// The ids of all pieces, and the index where each piece begins. Of several bos at the start only one is kept. A bos is
/// added if the tokenizer asks for one and the template has none.
fn tokenize(tokenizer: &Tokenizer, text: &str, pieces: &[Piece]) -> Result<(Vec<u32>, Vec<usize>)> {
    let bos = tokenizer.bos_id();
    let is_bos = |piece: &&Piece| bos.is_some() && piece.control.map(|(id, _)| id) == bos;
    let repeated = pieces.iter().take_while(is_bos).count().saturating_sub(1);
    let mut ids = Vec::new();
    if tokenizer.add_bos() && !pieces.first().is_some_and(|piece| is_bos(&piece)) {
        ids.extend(bos);
    }
    let mut starts = Vec::with_capacity(pieces.len());
    let mut position = Position::Start;
    for (index, piece) in pieces.iter().enumerate() {
        starts.push(ids.len());
        match piece.control {
            Some(_) if index < repeated => {}
            Some((id, _)) => ids.push(id),
            None => ids.extend(tokenizer.encode_rendered(text.get(piece.range.clone()).unwrap_or_default(), position)?),
        }
        position = if piece.control.is_some() { Position::AfterControl } else { Position::Within };
    }
    Ok((ids, starts))
}

/// The ids that llama.cpp gives: all text between two control tokens is one text, before which it adds a space or not.
fn as_in_llama(tokenizer: &Tokenizer, text: &str, pieces: &[Piece], adds_space: bool) -> Result<Vec<u32>> {
    let is_bos = |id: u32| Some(id) == tokenizer.bos_id();
    let mut ids: Vec<u32> = tokenizer.bos_id().filter(|_| tokenizer.add_bos()).into_iter().collect();
    for run in pieces.chunk_by(|left, right| left.control.is_none() && right.control.is_none()) {
        match run {
            [Piece { control: Some((id, _)), .. }] if is_bos(*id) && ids == [*id] => {}
            [Piece { control: Some((id, _)), .. }] => ids.push(*id),
            run => {
                let space = if adds_space { " " } else { "" };
                let run = run.iter().filter_map(|piece| text.get(piece.range.clone()));
                ids.extend(
                    tokenizer.encode_at(&run.fold(space.to_owned(), |all, piece| all + piece), Position::Within)?,
                );
            }
        }
    }
    Ok(ids)
}

/// An engine's error can quote the template and what it was given. Where that could steer a terminal, the error is made
/// anew with its text escaped and its causes in it.
fn escaped(error: minijinja::Error) -> minijinja::Error {
    let mut said = error.detail().unwrap_or_default().to_owned();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        said += &format!(": {inner}");
        cause = inner.source();
    }
    let printable = printable_text(&said).to_string();
    if printable == said { error } else { minijinja::Error::new(error.kind(), printable) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_conversation_is_rendered_no_more_often_than_a_short_one() {
        let renders = |answers: usize| rendered_alone(&(0..answers).map(|answer| 2 * answer + 1).collect::<Vec<_>>());
        assert_eq!(renders(0), [0; 0]);
        assert_eq!(renders(3), [1, 3, 5]);
        assert_eq!(renders(16).len(), 16);
        for many in [17, 2_000, 65_000] {
            assert_eq!(renders(many), [1, 3, 5, 7, 9, 11, 13, 15, 2 * many - 1]);
        }
    }
}
