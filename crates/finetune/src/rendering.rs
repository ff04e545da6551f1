//! How records become samples: conversations through a template, plain text in pieces, and records that are too long.

use std::fmt;

use foehn_files::printable;
use foehn_record::{Conversation, Message, Record, Role};
use foehn_tokens::{ChatTemplate, Sample, Tokenizer};
use serde::{Deserialize, Serialize};

/// The number of records that are named.
const NAMED: usize = 5;

/// What is done with a conversation that has more tokens than a sample may have. Plain text is always cut into pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TooLong {
    /// The run is refused.
    #[default]
    Error,
    /// The record is left out.
    Drop,
    /// Its oldest turns are left out, each question with its answer, until it fits. The system prompt and the last
    /// answer stay whole. A record whose last question and answer alone are too long is left out.
    Truncate,
}

/// What renders records.
#[derive(Clone, Copy, Debug)]
pub struct Renderer<'a> {
    /// Renders conversations.
    pub template: &'a ChatTemplate,
    /// The tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The most tokens of a sample.
    pub limit: usize,
    /// What is done with longer conversations.
    pub too_long: TooLong,
}

/// Makes the samples of a conversation.
type Render<'a> = dyn Fn(Conversation<'_>) -> Result<Vec<Sample>, foehn_tokens::Error> + 'a;

/// The samples of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// One sample, or the pieces of a text, or the two answers of a pair; none if the record is too long.
    pub samples: Vec<Sample>,
    /// What became of the record.
    pub fate: Fate,
}

/// What became of a record when it was rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It fits.
    Whole,
    /// Its oldest turns are left out.
    Truncated,
    /// It is a text, in several pieces.
    Cut,
    /// It does not fit: it has this number of tokens.
    TooLong(usize),
}

impl Renderer<'_> {
    /// The samples of a record: a conversation, or plain text with its end token.
    ///
    /// # Errors
    /// Those of [`ChatTemplate::sample`] and [`Sample::of_text`].
    pub fn record(&self, record: &Record) -> Result<Rendered, foehn_tokens::Error> {
        let Some(text) = record.plain_text() else {
            let sample = |conversation: Conversation<'_>| self.template.sample(self.tokenizer, conversation);
            return self.conversation(record.into(), &|conversation| Ok(vec![sample(conversation)?]));
        };
        if record.messages.iter().all(|message| !message.is_trained()) {
            return Err(foehn_tokens::Error::NothingSupervised);
        }
        let samples = Sample::of_text(self.tokenizer, text, self.limit)?;
        let fate = if samples.len() > 1 { Fate::Cut } else { Fate::Whole };
        Ok(Rendered { samples, fate })
    }

    /// The two samples of a conversation, with its own last answer and with another one. Both must fit.
    pub(crate) fn pair(&self, pair: Conversation<'_>, rejected: &str) -> Result<Rendered, foehn_tokens::Error> {
        self.conversation(pair, &|conversation| {
            let messages = conversation.messages;
            let before = messages.split_last().map_or(messages, |(_, before)| before);
            let other: Vec<Message> = before.iter().cloned().chain([Message::assistant(rejected)]).collect();
            let sample = |messages| self.template.sample(self.tokenizer, conversation.with_messages(messages));
            [messages, &other].map(sample).into_iter().collect()
        })
    }

    fn conversation(&self, whole: Conversation<'_>, render: &Render<'_>) -> Result<Rendered, foehn_tokens::Error> {
        let messages = whole.messages;
        let fits = |samples: &[Sample]| samples.iter().all(|sample| sample.len() <= self.limit);
        let samples = render(whole)?;
        if fits(&samples) {
            return Ok(Rendered { samples, fate: Fate::Whole });
        }
        let too_long = Fate::TooLong(samples.iter().map(Sample::len).max().unwrap_or(0));
        let (instructions, turns) = messages.split_at(messages.iter().take_while(|m| m.role == Role::System).count());
        let later = (1..turns.len()).filter(|at| self.too_long == TooLong::Truncate && turns[*at].role == Role::User);
        for start in later {
            let shorter = [instructions, &turns[start..]].concat();
            match render(whole.with_messages(&shorter)) {
                Ok(samples) if fits(&samples) => return Ok(Rendered { samples, fate: Fate::Truncated }),
                Ok(_) => {}
                // The turns that are left have no trained answer.
                Err(foehn_tokens::Error::NothingSupervised) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Rendered { samples: Vec::new(), fate: too_long })
    }
}

/// What became of the records that have more tokens than a sample may have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fitting {
    /// The most tokens of a sample.
    pub limit: usize,
    /// The records that were left out.
    pub dropped: Affected,
    /// The conversations without their oldest turns.
    pub truncated: Affected,
    /// The texts that were cut into pieces.
    pub cut: Affected,
    /// The number of all their pieces.
    pub pieces: usize,
}

/// A number of records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Affected {
    /// How many.
    pub count: usize,
    /// The ids or the numbers of the first few.
    pub first: Vec<String>,
}

impl Fitting {
    /// Counts a record.
    pub fn add(&mut self, name: &str, rendered: &Rendered) {
        let affected = match rendered.fate {
            Fate::Whole => return,
            Fate::Truncated => &mut self.truncated,
            Fate::Cut => &mut self.cut,
            Fate::TooLong(_) => &mut self.dropped,
        };
        affected.count += 1;
        if affected.first.len() < NAMED {
            affected.first.push(name.to_owned());
        }
        if rendered.fate == Fate::Cut {
            self.pieces += rendered.samples.len();
        }
    }

    /// Whether every record fits.
    pub fn is_whole(&self) -> bool {
        [&self.dropped, &self.truncated, &self.cut].iter().all(|affected| affected.count == 0)
    }
}

/// What is done, with the names of the first records.
impl fmt::Display for Fitting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, dropped, truncated, cut, pieces } = self;
        let cut_into = format!("cut into {pieces} pieces");
        let all = [(dropped, "left out"), (truncated, "truncated at a turn"), (cut, cut_into.as_str())];
        let mut separator = "";
        for (Affected { count, first }, what) in all.into_iter().filter(|(affected, _)| affected.count > 0) {
            let names: Vec<String> = first.iter().map(|name| printable(name).to_string()).collect();
            let more = if *count > first.len() { ", …" } else { "" };
            let records = if *count == 1 { "record" } else { "records" };
            write!(f, "{separator}{count} {records} of more than {limit} tokens {what} ({}{more})", names.join(", "))?;
            separator = "; ";
        }
        Ok(())
    }
}
