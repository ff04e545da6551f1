//! Conversations to token ids: one template renders what is trained on and what generation begins with.

mod budget;
mod functions;
mod guarded;
mod jinja;
mod marks;
mod mistral;
mod program;
mod source;

use std::ops::Range;
use std::path::Path;

use foehn_record::{Message, Role};
use sha2::{Digest, Sha256};

use crate::{Error, Result, Sample, Tokenizer};

use jinja::Jinja;
use mistral::Mistral;
pub use mistral::MistralVersion;

/// A chat template: either Jinja, as Hugging Face's models bring it, or one of Mistral's own, which have none.
///
/// For every conversation that it renders:
///
/// - the ids of [`ChatTemplate::prompt`] are a prefix of those of [`ChatTemplate::sample`];
/// - text in a message is plain text: control tokens come from the template alone;
/// - a trained turn ends in one of [`Tokenizer::eos_ids`], and the loss mask covers it, from the place where generation
///   begins on.
///
/// A template that can't keep these promises gives an error, never a sample. Assistant texts lose blank lines before
/// them and white space after them, and keep the indent of their first line; others are passed as they are. A sequence begins with one bos where the template or the tokenizer says so, never two.
#[derive(Debug)]
pub struct ChatTemplate {
    kind: Kind,
    /// The fingerprint of the tokenizer that it was made for.
    tokenizer: String,
}

#[derive(Debug)]
enum Kind {
    Jinja(Box<Jinja>),
    Mistral(Mistral),
}

/// What a template makes of a conversation.
#[derive(Debug, Default)]
struct Rendered {
    input_ids: Vec<u32>,
    /// The trained turns: the message, and the ids from where generation begins to the stop token.
    trained: Vec<(usize, Range<usize>)>,
}

impl ChatTemplate {
    /// A template in Jinja's language, as in `chat_template.jinja`.
    ///
    /// It sees what transformers shows it: `messages`, `add_generation_prompt`, `bos_token`, `eos_token`, `tools` and
    /// `documents` (none), `raise_exception`, `strftime_now`, `tojson` and Python's string methods. `strftime_now` gives
    /// midnight of the day that Llama 3.1's template falls back to, 2024-07-26: the clock would make samples irreproducible.
    ///
    /// # Errors
    /// [`Error::TemplateSyntax`].
    pub fn jinja(source: &str, tokenizer: &Tokenizer) -> Result<Self> {
        let kind = Kind::Jinja(Box::new(Jinja::new(source, tokenizer)?));
        Ok(Self { kind, tokenizer: tokenizer.fingerprint().to_owned() })
    }

    /// One of Mistral's own templates, as `mistral-common` renders them.
    ///
    /// # Errors
    /// [`Error::MissingControl`] if the tokenizer is of another version.
    pub fn mistral(version: MistralVersion, tokenizer: &Tokenizer) -> Result<Self> {
        let kind = Kind::Mistral(Mistral::new(version, tokenizer)?);
        Ok(Self { kind, tokenizer: tokenizer.fingerprint().to_owned() })
    }

    /// The template of a model, from its folder, its GGUF file or its tokenizer's file: `chat_template.jinja`, the
    /// `chat_template` of `tokenizer_config.json` (the one called `default`, where there are several), a GGUF's
    /// `tokenizer.chat_template`, or Mistral's own of the version that `tokenizer.model.vN` names.
    ///
    /// # Errors
    /// [`Error::NoTemplate`] if there is none, and otherwise whatever is wrong with the file.
    pub fn open(path: impl AsRef<Path>, tokenizer: &Tokenizer) -> Result<Self> {
        source::open(path.as_ref(), tokenizer)
    }

    /// The template in the metadata of a GGUF file.
    ///
    /// # Errors
    /// [`Error::NoTemplate`] if there is none, [`Error::TemplateSyntax`] if it is damaged.
    pub fn from_gguf(gguf: &foehn_weights::Gguf, tokenizer: &Tokenizer) -> Result<Self> {
        source::from_gguf(gguf, tokenizer)
    }

    /// A conversation to train on. It ends with an assistant turn; every [trained](Message::is_trained) turn is in the mask.
    ///
    /// # Errors
    /// [`Error::RoleOrder`], [`Error::EmptyAnswer`], [`Error::NothingSupervised`] for a conversation that can't be trained
    /// on, [`Error::TemplateRender`] for one that the template refuses; [`Error::ContentAltered`],
    /// [`Error::PromptNotPrefix`], [`Error::StopTokenUntrained`] for a template that breaks a promise.
    pub fn sample(&self, tokenizer: &Tokenizer, messages: &[Message]) -> Result<Sample> {
        self.check_tokenizer(tokenizer)?;
        let messages = prepare(messages)?;
        let Some((Message { role: Role::Assistant, .. }, before)) = messages.split_last() else {
            return Err(misplaced(&messages, "a conversation to train on ends with an assistant turn"));
        };
        let rendered = self.render(tokenizer, &messages)?;
        let prompt = self.render_prompt(tokenizer, before)?;
        check_prefix(&prompt, &rendered.input_ids)?;
        let mut loss_mask = vec![false; rendered.input_ids.len()];
        for (index, range) in &rendered.trained {
            let turn = rendered.input_ids.get(range.clone()).unwrap_or_default();
            if !turn.last().is_some_and(|id| tokenizer.eos_ids().contains(id)) {
                let stop_tokens = tokenizer.eos_ids().to_vec();
                return Err(Error::StopTokenUntrained { index: *index, stop_tokens });
            }
            loss_mask.get_mut(range.clone()).unwrap_or_default().fill(true);
        }
        Sample::new(rendered.input_ids, loss_mask)
    }

    /// What generation begins with: a conversation that ends with a turn to answer, up to where the answer starts.
    ///
    /// # Errors
    /// As [`ChatTemplate::sample`], and [`Error::RoleOrder`] if the last turn is the assistant's.
    pub fn prompt(&self, tokenizer: &Tokenizer, messages: &[Message]) -> Result<Vec<u32>> {
        self.check_tokenizer(tokenizer)?;
        let messages = prepare(messages)?;
        if messages.last().is_some_and(|last| last.role == Role::Assistant) {
            return Err(misplaced(&messages, "a prompt ends with a turn to answer"));
        }
        self.render_prompt(tokenizer, &messages)
    }

    /// The template itself: Jinja's source, or the name of one of Mistral's (`mistral-v3`).
    pub fn source(&self) -> &str {
        match &self.kind {
            Kind::Jinja(jinja) => jinja.source(),
            Kind::Mistral(mistral) => mistral.name(),
        }
    }

    /// SHA-256, in hexadecimal, of [`ChatTemplate::source`].
    pub fn fingerprint(&self) -> String {
        Sha256::digest(self.source()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The version, where it is one of Mistral's own.
    pub(crate) fn mistral_version(&self) -> Option<MistralVersion> {
        match &self.kind {
            Kind::Jinja(_) => None,
            Kind::Mistral(mistral) => Some(mistral.version()),
        }
    }

    pub(crate) fn check_tokenizer(&self, tokenizer: &Tokenizer) -> Result<()> {
        if self.tokenizer == tokenizer.fingerprint() {
            return Ok(());
        }
        let found = tokenizer.fingerprint().to_owned();
        Err(Error::WrongTokenizer { expected: self.tokenizer.clone(), found })
    }

    fn render(&self, tokenizer: &Tokenizer, messages: &[Message]) -> Result<Rendered> {
        match &self.kind {
            Kind::Jinja(jinja) => jinja.render(tokenizer, messages),
            Kind::Mistral(mistral) => mistral.render(tokenizer, messages),
        }
    }

    fn render_prompt(&self, tokenizer: &Tokenizer, messages: &[Message]) -> Result<Vec<u32>> {
        match &self.kind {
            Kind::Jinja(jinja) => jinja.prompt(tokenizer, messages),
            Kind::Mistral(mistral) => mistral.prompt(tokenizer, messages),
        }
    }
}

/// The conversation with assistant texts without blank ends.
fn prepare(messages: &[Message]) -> Result<Vec<Message>> {
    if messages.is_empty() {
        return Err(Error::EmptyConversation);
    }
    let trim = |(index, message): (usize, &Message)| {
        let mut message = message.clone();
        if message.role == Role::Assistant {
            message.content = without_blank_ends(&message.content).to_owned();
            if message.content.is_empty() {
                return Err(Error::EmptyAnswer { index });
            }
        }
        Ok(message)
    };
    messages.iter().enumerate().map(trim).collect()
}

/// A text without the blank lines before it and the white space after it. The indent of its first line is part of it.
fn without_blank_ends(text: &str) -> &str {
    let text = text.trim_end();
    let blank = text.len() - text.trim_start().len();
    let line = text.get(..blank).and_then(|blank| blank.rfind(['\n', '\r'])).map_or(0, |end| end + 1);
    text.get(line..).unwrap_or_default()
}

/// The last message is out of place.
fn misplaced(messages: &[Message], rule: &'static str) -> Error {
    match messages.last() {
        None => Error::EmptyConversation,
        Some(last) => Error::RoleOrder { index: messages.len() - 1, role: last.role, rule },
    }
}

fn check_prefix(prompt: &[u32], sample: &[u32]) -> Result<()> {
    let differs = (0..).zip(prompt).find(|(at, id)| sample.get(*at) != Some(id));
    match differs {
        None => Ok(()),
        Some((at, id)) => Err(Error::PromptNotPrefix { at, prompt: *id, sample: sample.get(at).copied() }),
    }
}
