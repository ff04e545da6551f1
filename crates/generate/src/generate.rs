//! Prompts in, text out.

use std::ops::ControlFlow;

use foehn_mistral::{KvCache, Mistral};
use foehn_tokens::{TextStream, Tokenizer};

use crate::{GenerateConfig, Limits, Result, StopMatcher, StopReason, continue_ids};

/// What was generated from one prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The prompt.
    pub input_ids: Vec<u32>,
    /// The model's tokens, stop token and stop string included.
    pub output_ids: Vec<u32>,
    /// Their text without control tokens, up to the stop string.
    pub text: String,
    /// Why it ended.
    pub stop: StopReason,
}

/// Continues each prompt as if it were alone, all in one batch.
///
/// A sequence ends at any stop token of the tokenizer or of the model's config, at a stop string, or at a limit. What all
/// prompts begin with is computed once.
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

/// As [`generate`], and `on_text` gets the text of each sequence, by its place in `prompts`, as soon as it is certain:
/// whole characters, and nothing that may yet turn out to begin a stop string. The pieces joined are
/// [`Generation::text`]. A break ends that sequence, as [`StopReason::Cancelled`].
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

/// As [`stream`], over a cache that may hold the beginnings of the prompts.
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
    let mut eos_ids = [tokenizer.eos_ids(), &model.config().eos_token_id].concat();
    eos_ids.sort_unstable();
    eos_ids.dedup();
    let limits = Limits { max_new_tokens: config.max_new_tokens, eos_ids: &eos_ids };
    let mut writers: Vec<Writer> = prompts.iter().map(|_| Writer::new(&config.stop)).collect();
    let mut on_token = |sequence: usize, id: u32| {
        let Some(writer) = writers.get_mut(sequence) else {
            return ControlFlow::Break(StopReason::Cancelled);
        };
        let piece = writer.stream.push(tokenizer, id);
        writer.write(sequence, &piece, on_text)
    };
    let continuations = continue_ids(model, cache, prompts, limits, &config.sampling, &mut on_token)?;
    let mut generations = Vec::with_capacity(prompts.len());
    for (sequence, (continuation, mut writer)) in continuations.into_iter().zip(writers).enumerate() {
        let mut stop = continuation.stop;
        let is_broken_off = matches!(stop, StopReason::StopString | StopReason::Cancelled);
        if !is_broken_off && let ControlFlow::Break(reason) = writer.finish(sequence, on_text) {
            stop = reason;
        }
        let input_ids = prompts.get(sequence).cloned().unwrap_or_default();
        generations.push(Generation { input_ids, output_ids: continuation.output_ids, text: writer.text, stop });
    }
    Ok(generations)
}

type OnText<'a> = &'a mut dyn FnMut(usize, &str) -> ControlFlow<()>;

/// Tokens of one sequence to text that can be shown.
struct Writer {
    stream: TextStream,
    matcher: StopMatcher,
    /// All that was shown.
    text: String,
}

impl Writer {
    fn new(stops: &[String]) -> Self {
        Self { stream: TextStream::new(true), matcher: StopMatcher::new(stops), text: String::new() }
    }

    /// Shows what is certain with this piece, and breaks at a stop string or where nobody wants more.
    fn write(&mut self, sequence: usize, piece: &str, on_text: OnText<'_>) -> ControlFlow<StopReason> {
        let (certain, stopped) = self.matcher.push(piece);
        self.show(sequence, &certain, on_text)?;
        if stopped { ControlFlow::Break(StopReason::StopString) } else { ControlFlow::Continue(()) }
    }

    /// Shows the rest, in which an unfinished character can still complete a stop string.
    fn finish(&mut self, sequence: usize, on_text: OnText<'_>) -> ControlFlow<StopReason> {
        let rest = self.stream.finish();
        self.write(sequence, &rest, on_text)?;
        let held = self.matcher.finish();
        self.show(sequence, &held, on_text)
    }

    fn show(&mut self, sequence: usize, text: &str, on_text: OnText<'_>) -> ControlFlow<StopReason> {
        if text.is_empty() {
            return ControlFlow::Continue(());
        }
        self.text.push_str(text);
        on_text(sequence, text).map_break(|()| StopReason::Cancelled)
    }
}
