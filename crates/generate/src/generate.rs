//! Generating text from prompts.

use std::ops::ControlFlow;

use foehn_mistral::{KvCache, Mistral};
use foehn_tokens::{TextStream, Tokenizer};

use crate::{GenerateConfig, Limits, Result, StopMatcher, StopReason, continue_ids};

/// The result of one prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The prompt.
    pub input_ids: Vec<u32>,
    /// The generated tokens, including stop token and stop string.
    pub output_ids: Vec<u32>,
    /// Their text without control tokens, up to the stop string.
    pub text: String,
    /// Why it ended.
    pub stop: StopReason,
}

/// Continues all prompts in one batch. Each gives the same result as if it were alone.
///
/// A sequence ends at a stop token of the tokenizer or of the model's config, at a stop string, or at a limit. The
/// common beginning of all prompts is computed once.
///
/// # Errors
/// As [`continue_ids`].
pub fn generate(
    model: &Mistral,
    tokenizer: &Tokenizer,
    prompts: &[Vec<u32>],
    config: &GenerateConfig,
) -> Result<Vec<Generation>> {
    stream(model, tokenizer, prompts, config, &mut |_, _| ControlFlow::Continue(()))
}

/// As [`generate`], but `on_text` gets the text of each sequence as soon as it is certain, with the sequence's index in
/// `prompts`. Only whole characters are sent, and text that could be the beginning of a stop string is held back. All
/// pieces joined are [`Generation::text`]. If `on_text` breaks, that sequence ends with [`StopReason::Cancelled`].
///
/// # Errors
/// As [`continue_ids`].
pub fn stream(
    model: &Mistral,
    tokenizer: &Tokenizer,
    prompts: &[Vec<u32>],
    config: &GenerateConfig,
    on_text: &mut dyn FnMut(usize, &str) -> ControlFlow<()>,
) -> Result<Vec<Generation>> {
    config.check()?;
    let Some(longest) = prompts.iter().map(Vec::len).max() else {
        return Ok(Vec::new());
    };
    let capacity = longest.saturating_add(config.max_new_tokens).min(model.config().max_position_embeddings);
    let mut cache = KvCache::new(model.config(), prompts.len(), capacity, &model.device());
    stream_cached(model, tokenizer, &mut cache, prompts, config, on_text)
}

/// As [`stream`], with a cache that may already hold the beginnings of the prompts.
pub(crate) fn stream_cached(
    model: &Mistral,
    tokenizer: &Tokenizer,
    cache: &mut KvCache,
    prompts: &[Vec<u32>],
    config: &GenerateConfig,
    on_text: &mut dyn FnMut(usize, &str) -> ControlFlow<()>,
) -> Result<Vec<Generation>> {
    config.check()?;
    cache.set_exact(config.exact);
    let eos_ids = eos_ids(model, tokenizer);
    let limits = Limits { max_new_tokens: config.max_new_tokens, eos_ids: &eos_ids };
    let mut writers: Vec<(Writer, String)> =
        prompts.iter().map(|_| (Writer::new(&config.stop), String::new())).collect();
    let mut on_token = |sequence: usize, id: u32| {
        let Some((writer, all)) = writers.get_mut(sequence) else {
            return ControlFlow::Break(StopReason::Cancelled);
        };
        let (text, stopped) = writer.push(tokenizer, id);
        show(&text, all, sequence, on_text)?;
        if stopped { ControlFlow::Break(StopReason::StopString) } else { ControlFlow::Continue(()) }
    };
    let continuations = continue_ids(model, cache, prompts, limits, &config.sampling, &mut on_token)?;
    let mut generations = Vec::with_capacity(prompts.len());
    for (sequence, (continuation, (mut writer, mut text))) in continuations.into_iter().zip(writers).enumerate() {
        let (rest, mut stop) = writer.end(continuation.stop);
        if let ControlFlow::Break(reason) = show(&rest, &mut text, sequence, on_text) {
            stop = reason;
        }
        let input_ids = prompts.get(sequence).cloned().unwrap_or_default();
        generations.push(Generation { input_ids, output_ids: continuation.output_ids, text, stop });
    }
    Ok(generations)
}

/// Adds the text to all of a sequence, and sends it.
fn show(
    text: &str,
    all: &mut String,
    sequence: usize,
    on_text: &mut dyn FnMut(usize, &str) -> ControlFlow<()>,
) -> ControlFlow<StopReason> {
    if text.is_empty() {
        return ControlFlow::Continue(());
    }
    all.push_str(text);
    on_text(sequence, text).map_break(|()| StopReason::Cancelled)
}

/// Every token that ends an answer: the tokenizer's, and those of the model's config.
pub(crate) fn eos_ids(model: &Mistral, tokenizer: &Tokenizer) -> Vec<u32> {
    let mut eos_ids = [tokenizer.eos_ids(), &model.config().eos_token_id].concat();
    eos_ids.sort_unstable();
    eos_ids.dedup();
    eos_ids
}

/// Turns the tokens of one sequence into text.
#[derive(Debug)]
pub(crate) struct Writer {
    stream: TextStream,
    matcher: StopMatcher,
}

impl Writer {
    pub fn new(stops: &[String]) -> Self {
        Self { stream: TextStream::new(true), matcher: StopMatcher::new(stops) }
    }

    /// The text that has become certain with this token, and whether a stop string follows it.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> (String, bool) {
        let piece = self.stream.push(tokenizer, id);
        self.matcher.push(&piece)
    }

    /// The rest of the text of a sequence that ended for this reason. An unfinished character at the end can still complete
    /// a stop string, which then is the reason.
    pub fn end(&mut self, stop: StopReason) -> (String, StopReason) {
        if matches!(stop, StopReason::StopString | StopReason::Cancelled) {
            return (String::new(), stop);
        }
        let rest = self.stream.finish();
        let (mut text, stopped) = self.matcher.push(&rest);
        if stopped {
            return (text, StopReason::StopString);
        }
        text += &self.matcher.finish();
        (text, stop)
    }
}
