//! Chat templates. The same template renders training samples and generation prompts.

mod budget;
mod calls;
mod choice;
mod functions;
mod guarded;
mod jinja;
mod json;
mod marked;
mod marks;
mod mistral;
mod ollama;
mod program;
mod source;
mod whole;

use std::ops::Range;
use std::path::Path;

use foehn_record::{Conversation, Message, Role};
use sha2::{Digest, Sha256};

use crate::tokenizer::Marking;
use crate::{Error, Result, Sample, Tokenizer};

pub use choice::TemplateChoice;
use jinja::Jinja;
use mistral::Mistral;
pub use mistral::MistralVersion;

/// A chat template: either Jinja, as in Hugging Face's models, or one of Mistral's own, whose models have no Jinja
/// template.
///
/// For every conversation that it renders:
///
/// - the ids of [`ChatTemplate::prompt`] are a prefix of those of [`ChatTemplate::sample`];
/// - text in a message is plain text: control tokens come only from the template;
/// - a trained turn ends with one of [`Tokenizer::eos_ids`], and the loss mask covers the turn from the start of
///   generation to this token.
///
/// Text in definitions, calls and results of tools, and in reasoning, is a message's text too. The assistant's calls and
/// reasoning are trained as its answers are; a tool's result never is.
///
/// If a template cannot guarantee this, the result is an error, never a sample. What a template has no form for is
/// refused too. From assistant texts, blank lines at the start and white space at the end are removed; the indent of the
/// first line is kept. Reasoning loses all white space at its ends. Other texts are not changed.
/// A sequence begins with one bos if the template or the tokenizer asks for it, and never with two.
#[derive(Debug)]
pub struct ChatTemplate {
    kind: Kind,
    /// The fingerprint of the tokenizer that the template was made for.
    tokenizer: String,
}

#[derive(Debug)]
enum Kind {
    Jinja(Box<Jinja>),
    Mistral(Mistral),
}

/// A rendered conversation.
#[derive(Debug, Default)]
struct Rendered {
    input_ids: Vec<u32>,
    /// The trained turns: the message, and the range of ids from the start of generation to the stop token.
    trained: Vec<(usize, Range<usize>)>,
}

impl ChatTemplate {
    /// A Jinja template, as in `chat_template.jinja`.
    ///
    /// It has the same variables and functions as in transformers: `messages`, `add_generation_prompt`, `bos_token`,
    /// `eos_token`, `tools`, `documents` (none), `raise_exception`, `strftime_now`, `tojson` and Python's string
    /// methods. A message has a `content` even if it is empty, and the arguments of a call are an object. `strftime_now` always returns midnight of 2024-07-26, the day that Llama 3.1's template uses as a
    /// default. With the real time, samples would not be reproducible.
    ///
    /// The source that [`ChatTemplate::jinja_source`] gives for one of Mistral's own templates is recognised, and becomes
    /// that template.
    ///
    /// # Errors
    /// [`Error::TemplateSyntax`].
    pub fn jinja(source: &str, tokenizer: &Tokenizer) -> Result<Self> {
        let kind = match Mistral::of_jinja(source, tokenizer) {
            Some(mistral) => Kind::Mistral(mistral),
            None => Kind::Jinja(Box::new(Jinja::new(source, tokenizer)?)),
        };
        Ok(Self { kind, tokenizer: tokenizer.fingerprint().to_owned() })
    }

    /// One of Mistral's own templates, as `mistral-common` renders them.
    ///
    /// # Errors
    /// [`Error::MissingControl`] if the tokenizer belongs to another version.
    pub fn mistral(version: MistralVersion, tokenizer: &Tokenizer) -> Result<Self> {
        let kind = Kind::Mistral(Mistral::new(version, tokenizer)?);
        Ok(Self { kind, tokenizer: tokenizer.fingerprint().to_owned() })
    }

    /// The template of a model, from its folder, its GGUF file or its tokenizer's file. The sources are
    /// `chat_template.jinja`; `chat_template` in `tokenizer_config.json` (the one called `default`, if there are
    /// several); `tokenizer.chat_template` in a GGUF; or Mistral's own template of the version in the name
    /// `tokenizer.model.vN` or in `tekken.json`.
    ///
    /// # Errors
    /// [`Error::NoTemplate`] if there is none, and otherwise the error of the file.
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

    /// Renders a conversation for training. It must end with an assistant turn. Every [trained](Message::is_trained)
    /// turn is in the mask.
    ///
    /// # Errors
    /// For a conversation that cannot be trained on: [`Error::RoleOrder`], [`Error::EmptyAnswer`],
    /// [`Error::NothingSupervised`], [`Error::Tool`] or [`Error::ToolCall`]. For a conversation that the template refuses
    /// or has no form for: [`Error::TemplateRender`], [`Error::Inexpressible`]. For a template without the properties
    /// above: [`Error::ContentAltered`], [`Error::PromptNotPrefix`] or [`Error::StopTokenUntrained`].
    pub fn sample<'a>(&self, tokenizer: &Tokenizer, conversation: impl Into<Conversation<'a>>) -> Result<Sample> {
        self.check_tokenizer(tokenizer)?;
        let conversation = conversation.into();
        let messages = prepare(conversation.messages)?;
        let Some((Message { role: Role::Assistant, .. }, before)) = messages.split_last() else {
            return Err(misplaced(&messages, "a conversation to train on ends with an assistant turn"));
        };
        let rendered = self.render(tokenizer, conversation.with_messages(&messages))?;
        let prompt = self.render_prompt(tokenizer, conversation.with_messages(before))?;
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

    /// Renders the prompt for generation: a conversation that ends with a message to answer, up to the start of the
    /// answer.
    ///
    /// # Errors
    /// As [`ChatTemplate::sample`], and [`Error::RoleOrder`] if the last turn is the assistant's.
    pub fn prompt<'a>(&self, tokenizer: &Tokenizer, conversation: impl Into<Conversation<'a>>) -> Result<Vec<u32>> {
        self.check_tokenizer(tokenizer)?;
        let conversation = conversation.into();
        let messages = prepare(conversation.messages)?;
        if messages.last().is_some_and(|last| last.role == Role::Assistant) {
            return Err(misplaced(&messages, "a prompt ends with a turn to answer"));
        }
        self.render_prompt(tokenizer, conversation.with_messages(&messages))
    }

    /// The Jinja source, or the name of one of Mistral's templates (`mistral-v3`).
    pub fn source(&self) -> &str {
        match &self.kind {
            Kind::Jinja(jinja) => jinja.source(),
            Kind::Mistral(mistral) => mistral.name(),
        }
    }

    /// The template as Jinja, for programs that know no others: the template's own source, or for one of Mistral's the
    /// source of one that renders the same in transformers. That one refuses, with `raise_exception`, what
    /// [`ChatTemplate::sample`] refuses, arguments of calls that are not objects, and in V2 and V3 results of tools that
    /// may be JSON in a text, which Jinja can't read. As any template that is text, it can't tell a control token from a
    /// message that spells one.
    ///
    /// `None` for V1 with a tokenizer that adds no spaces, or to which `[INST]` is a control token.
    pub fn jinja_source(&self) -> Option<&str> {
        match &self.kind {
            Kind::Jinja(jinja) => Some(jinja.source()),
            Kind::Mistral(mistral) => mistral.jinja(),
        }
    }

    /// The template in the language of Go, as a Modelfile of Ollama has it in `TEMPLATE`; [`Tokenizer::stop_texts`] are its
    /// `PARAMETER stop`. It is derived from the texts that this template puts around the parts of short conversations, and
    /// checked with longer ones. It is for a GGUF file with [`Tokenizer::gguf_metadata`]: a bos that the tokenizer adds is
    /// left out.
    ///
    /// It has no tools and no reasoning. Ollama joins consecutive messages of one role before it renders them, and where
    /// this template trims a message, Go's template language does not.
    ///
    /// # Errors
    /// [`Error::NoGoTemplate`] if this template is not made of a text before and after each message, with the system prompt in a
    /// turn of its own or in the first or last question. [`Error::WrongTokenizer`] for another tokenizer.
    pub fn ollama(&self, tokenizer: &Tokenizer) -> Result<String> {
        self.check_tokenizer(tokenizer)?;
        match &self.kind {
            Kind::Jinja(jinja) => ollama::template(jinja, tokenizer),
            Kind::Mistral(mistral) => {
                let none = || Error::NoGoTemplate { reason: "it has no Jinja source for this tokenizer" };
                let source = mistral.gguf_source(tokenizer, mistral.marks()).ok_or_else(none)?;
                ollama::template(&Jinja::new(&source, tokenizer)?, tokenizer)
            }
        }
    }

    /// SHA-256, in hexadecimal, of [`ChatTemplate::source`].
    pub fn fingerprint(&self) -> String {
        Sha256::digest(self.source()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The version, if it is one of Mistral's own templates.
    pub(crate) fn mistral_version(&self) -> Option<MistralVersion> {
        match &self.kind {
            Kind::Jinja(_) => None,
            Kind::Mistral(mistral) => Some(mistral.version()),
        }
    }

    /// The Jinja source for a GGUF whose tokenizer adds a space at the start and after each control token, or never does.
    pub(crate) fn gguf_source(&self, tokenizer: &Tokenizer, adds_prefix: bool) -> Option<String> {
        match &self.kind {
            Kind::Jinja(jinja) => Some(jinja.source().to_owned()),
            Kind::Mistral(mistral) => mistral.gguf_source(tokenizer, adds_prefix),
        }
    }

    /// Whether llama.cpp has to add that space, so that conversations have the same ids there.
    pub(crate) fn wants_prefix(&self, tokenizer: &Tokenizer) -> Result<bool> {
        match &self.kind {
            Kind::Mistral(mistral) => Ok(mistral.marks()),
            Kind::Jinja(_) if tokenizer.marking() == Marking::Never => Ok(false),
            Kind::Jinja(jinja) => jinja.wants_prefix(tokenizer),
        }
    }

    pub(crate) fn check_tokenizer(&self, tokenizer: &Tokenizer) -> Result<()> {
        if self.tokenizer == tokenizer.fingerprint() {
            return Ok(());
        }
        let found = tokenizer.fingerprint().to_owned();
        Err(Error::WrongTokenizer { expected: self.tokenizer.clone(), found })
    }

    fn render(&self, tokenizer: &Tokenizer, conversation: Conversation<'_>) -> Result<Rendered> {
        match &self.kind {
            Kind::Jinja(jinja) => jinja.render(tokenizer, conversation),
            Kind::Mistral(mistral) => mistral.render(tokenizer, conversation, true),
        }
    }

    fn render_prompt(&self, tokenizer: &Tokenizer, conversation: Conversation<'_>) -> Result<Vec<u32>> {
        match &self.kind {
            Kind::Jinja(jinja) => jinja.prompt(tokenizer, conversation),
            Kind::Mistral(mistral) => mistral.prompt(tokenizer, conversation),
        }
    }
}

/// The checked conversation, with the blank ends of assistant texts and of reasoning removed.
fn prepare(messages: &[Message]) -> Result<Vec<Message>> {
    if messages.is_empty() {
        return Err(Error::EmptyConversation);
    }
    calls::check(messages)?;
    let trim = |(index, message): (usize, &Message)| {
        let mut message = message.clone();
        if message.role == Role::Assistant {
            message.content = without_blank_ends(&message.content).to_owned();
            let reasoning = message.reasoning_content.take();
            message.reasoning_content =
                reasoning.map(|text| text.trim().to_owned()).filter(|reasoning| !reasoning.is_empty());
            if message.content.is_empty() && message.tool_calls.is_empty() {
                return Err(Error::EmptyAnswer { index });
            }
        }
        Ok(message)
    };
    messages.iter().enumerate().map(trim).collect()
}

/// A text without the blank lines before it and the white space after it. The indent of its first line is kept.
fn without_blank_ends(text: &str) -> &str {
    let text = text.trim_end();
    let blank = text.len() - text.trim_start().len();
    let line = text.get(..blank).and_then(|blank| blank.rfind(['\n', '\r'])).map_or(0, |end| end + 1);
    text.get(line..).unwrap_or_default()
}

/// The error for a last message with a wrong role.
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
