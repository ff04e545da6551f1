//! The error type of this crate.

use std::path::PathBuf;

use foehn_files::{printable, printable_text};
use foehn_record::Role;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// Any error between a tokenizer's files and a packed batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or its folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A tokenizer or its template cannot be written in a form that would be read back as the same.
    #[error("the tokenizer of {} cannot be written: {reason}", path.display(), reason = printable_text(reason))]
    Unsaveable {
        /// The file that it was read from.
        path: PathBuf,
        /// The reason, and what to do.
        reason: String,
    },
    /// A folder into which a tokenizer was written is read back as a different one.
    #[error(
        "{} opens as another tokenizer or template than the one that was written into it: \
         it holds files of another, choose an empty folder",
        path.display()
    )]
    SavedDiffers {
        /// The folder.
        path: PathBuf,
    },
    /// A file is not valid JSON of the expected form.
    #[error("{}:{line}:{column}: not the JSON that is expected here", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// A GGUF file cannot be read, or a key of its metadata is missing or has another type.
    #[error("the GGUF file cannot be read")]
    Gguf {
        /// The reader's error.
        #[from]
        source: foehn_weights::Error,
    },
    /// A SentencePiece model is damaged.
    #[error("{}: byte {offset}: {reason}", path.display())]
    Protobuf {
        /// The file.
        path: PathBuf,
        /// The offset at which reading stopped.
        offset: usize,
        /// The reason.
        reason: &'static str,
    },
    /// A field of a tokenizer's file contradicts another field or cannot be used.
    #[error("{}: {place}: {reason}", path.display(), place = printable(place), reason = printable_text(reason))]
    BadTokenizer {
        /// The file.
        path: PathBuf,
        /// The field.
        place: String,
        /// The reason.
        reason: String,
    },
    /// A tokenizer needs something that is not supported.
    #[error(
        "{}: {place} is {found}, which is not supported (supported: {supported})",
        path.display(),
        place = printable(place),
        found = printable(found)
    )]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field.
        place: String,
        /// Its value.
        found: String,
        /// The supported values.
        supported: &'static str,
    },
    /// A pattern of a tokenizer fails on a text: it takes too many steps, or the text is too long.
    #[error(
        "the tokenizer of {} cannot cut a text of {bytes} bytes into tokens: shorten the text or leave it out",
        path.display()
    )]
    Encode {
        /// The tokenizer's file.
        path: PathBuf,
        /// The length of the text.
        bytes: usize,
        /// The error of the pattern.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A folder has no tokenizer.
    #[error(
        "{} holds no tokenizer: expected tokenizer.json, tekken.json, tokenizer.model or a GGUF file",
        path.display()
    )]
    NoTokenizer {
        /// The folder or file.
        path: PathBuf,
    },
    /// A model has no chat template.
    #[error(
        "{} has no chat template: choose one (mistral-v1, -v2, -v3, -v7, -v11, -v13, chatml or a .jinja file)",
        path.display()
    )]
    NoTemplate {
        /// The folder or file.
        path: PathBuf,
    },
    /// A chat template can't be written in the language of Go.
    #[error("the chat template has no form that Ollama reads: {reason}")]
    NoGoTemplate {
        /// The reason.
        reason: &'static str,
    },
    /// A template needs a control token that the tokenizer does not have.
    #[error("the {template} template needs the control token {name}, which this tokenizer does not have")]
    MissingControl {
        /// The template.
        template: &'static str,
        /// The token's text.
        name: &'static str,
    },
    /// A template has no form for a part of a conversation.
    #[error(
        "{}the {template} template cannot render {part}: choose {other}",
        message.map_or(String::new(), |message| format!("message {message}: "))
    )]
    Inexpressible {
        /// The template.
        template: &'static str,
        /// The part.
        part: &'static str,
        /// The message, from 0; `None` for the tools.
        message: Option<usize>,
        /// The templates that can.
        other: String,
    },
    /// The definition of a tool is not of the form that the template needs.
    #[error("tool {index}: {reason}", reason = printable_text(reason))]
    Tool {
        /// The tool, from 0.
        index: usize,
        /// The reason.
        reason: String,
    },
    /// The call of a tool, or its result, is not of the form that the template needs.
    #[error("message {index}: {reason}", reason = printable_text(reason))]
    ToolCall {
        /// The message, from 0.
        index: usize,
        /// The reason.
        reason: String,
    },
    /// A chat template is not valid Jinja.
    #[error("the chat template is not valid at line {line}")]
    TemplateSyntax {
        /// The line, from 1; 0 if it is not known.
        line: usize,
        /// The engine's error.
        source: minijinja::Error,
    },
    /// A chat template failed on a conversation, or refused it with `raise_exception`.
    #[error("the chat template failed at line {line}")]
    TemplateRender {
        /// The line, from 1; 0 if it is not known.
        line: usize,
        /// The error of the engine, or the template's own message.
        source: minijinja::Error,
    },
    /// A chat template truncated, repeated or reordered the text of a message.
    #[error(
        "the chat template does not render message {index} ({role:?}) exactly once and whole: \
         its loss mask cannot be known"
    )]
    ContentAltered {
        /// The message, from 0.
        index: usize,
        /// The role of the message.
        role: Role,
    },
    /// A sample does not begin with the prompt that is used for generation.
    #[error(
        "the generation prompt is not a prefix of the training sample: \
         token {at} is {prompt} in the prompt and {sample:?} in the sample"
    )]
    PromptNotPrefix {
        /// The first position that differs.
        at: usize,
        /// The prompt's token there.
        prompt: u32,
        /// The sample's token there, if the sample is long enough.
        sample: Option<u32>,
    },
    /// A trained turn does not end with a stop token, so the model would never learn to stop.
    #[error(
        "message {index} is trained but does not end in a stop token of the tokenizer \
         ({stop_tokens:?}): the template and the tokenizer do not belong together"
    )]
    StopTokenUntrained {
        /// The message, from 0.
        index: usize,
        /// The tokens that stop generation.
        stop_tokens: Vec<u32>,
    },
    /// A message is at a place where its role is not allowed.
    #[error("message {index} ({role:?}) is out of place: {rule}")]
    RoleOrder {
        /// The message, from 0.
        index: usize,
        /// Its role.
        role: Role,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// An assistant turn is empty.
    #[error("message {index} (Assistant) is blank: there is nothing to learn but to stop")]
    EmptyAnswer {
        /// The message, from 0.
        index: usize,
    },
    /// A template is used with another tokenizer than the one that it was made for.
    #[error(
        "the template was made for tokenizer {expected}, not {found}: make it anew for this one",
        expected = printable(expected),
        found = printable(found)
    )]
    WrongTokenizer {
        /// The fingerprint of the tokenizer that it was made for.
        expected: String,
        /// The fingerprint of the tokenizer that was given.
        found: String,
    },
    /// A conversation has more messages than there are characters to mark them.
    #[error(
        "a conversation of {messages} messages is too long for a Jinja template: at most {limit} can be told apart"
    )]
    TooManyMessages {
        /// The number of messages.
        messages: usize,
        /// The largest number of messages.
        limit: usize,
    },
    /// A conversation has no messages.
    #[error("the conversation has no message")]
    EmptyConversation,
    /// Token ids and loss mask differ in length.
    #[error("{ids} token ids but {mask} loss mask entries")]
    MaskLength {
        /// The number of ids.
        ids: usize,
        /// The number of mask entries.
        mask: usize,
    },
    /// No token of a sample is trained on.
    #[error("no token of the sample is in the loss mask: nothing would be learnt from it")]
    NothingSupervised,
    /// A plain text cannot be ended: the tokenizer has no token for it.
    #[error("the tokenizer has no end token (`eos_token`): a model would never learn where a text ends")]
    NoEndToken,
    /// The first token of a sample is in the loss mask, but nothing precedes it.
    #[error("the first token is in the loss mask: there is no token before it that could predict it")]
    FirstTokenSupervised,
    /// A sample is too long.
    #[error("a sample of {length} tokens does not fit a context of {context}: split it or raise the limit")]
    TooLong {
        /// The number of tokens of the sample.
        length: usize,
        /// The number of tokens that fit.
        context: usize,
    },
    /// A sample begins with two bos tokens.
    #[error("the sample begins with two bos tokens: the template and the tokenizer, or the template twice, add one")]
    DoubledBos,
    /// The loss mask covers a sample's prompt.
    #[error("every token of the sample is in the loss mask, the prompt's too, or the template leaves the prompt out")]
    PromptSupervised,
    /// The trained tokens of a turn do not end with a stop token.
    #[error("token {token} ends a trained turn and is not a stop token ({stop_tokens:?}): answers would never end")]
    EndUntrained {
        /// The position of the token, from 0.
        token: usize,
        /// The tokens that stop generation.
        stop_tokens: Vec<u32>,
    },
    /// There are fewer trained stop tokens than trained turns.
    #[error("{turns} turns are trained, but only {stops} stop tokens: an answer would go on into the next turn")]
    StopsMissing {
        /// The number of trained turns.
        turns: usize,
        /// The number of trained stop tokens.
        stops: usize,
    },
}
