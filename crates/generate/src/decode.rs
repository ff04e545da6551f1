//! The loop that continues token ids. It does not depend on text.

use std::collections::HashMap;
use std::ops::ControlFlow;

use foehn_mistral::{Decoder, KvCache, Mistral};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, Sampler, SamplingConfig};

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model generated a stop token.
    Eos,
    /// The text reached a stop string.
    StopString,
    /// The caller's callback cancelled it.
    Cancelled,
    /// The output has reached the maximum number of tokens.
    MaxTokens,
    /// Prompt and output together fill the context.
    ContextFull,
}

/// The conditions that end a sequence.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    /// The longest output, in tokens, the stop token included.
    pub max_new_tokens: usize,
    /// Every token that ends a sequence.
    pub eos_ids: &'a [u32],
}

/// The tokens that were generated for a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// The tokens, the stop token included.
    pub output_ids: Vec<u32>,
    /// Why it ended.
    pub stop: StopReason,
}

/// Continues a batch of prompts. Each sequence gives the same result as if it were alone.
///
/// `prompts[b]` is the whole of sequence `b`; the cache may already hold its beginning. Prompt and output together are
/// never longer than the cache's capacity or the model's `max_position_embeddings`. `on_token` gets each token except
/// stop tokens, with the index of its sequence. It can end that sequence by returning the reason.
///
/// The common beginning of all prompts is computed once, and equal prompts are computed once. A sequence that has ended is not computed further. At the end,
/// the cache holds all of each sequence except the last token of its output.
///
/// # Errors
/// Before anything is computed: [`Error::Setting`], [`Error::EmptyPrompt`], [`Error::PromptTooLong`],
/// [`Error::UnknownToken`] and [`Error::CacheMismatch`]. Later: [`Error::NonFiniteLogit`], for broken weights.
pub fn continue_ids(
    model: &Mistral,
    cache: &mut KvCache,
    prompts: &[Vec<u32>],
    limits: Limits<'_>,
    sampling: &SamplingConfig,
    on_token: &mut dyn FnMut(usize, u32) -> ControlFlow<StopReason>,
) -> Result<Vec<Continuation>> {
    sampling.check()?;
    let context = cache.capacity().min(model.config().max_position_embeddings);
    check_prompts(model, cache, prompts, context)?;
    let begin = |(index, prompt): (usize, &Vec<u32>)| Sequence {
        ids: prompt.clone(),
        prompt: prompt.len(),
        stop: limits.reached(0, context - prompt.len()),
        sampler: Sampler::new(sampling, index),
    };
    let decoder = model.decoder();
    let mut sequences: Vec<Sequence> = prompts.iter().enumerate().map(begin).collect();
    if sequences.iter().any(|sequence| sequence.stop.is_none()) {
        share_beginnings(&decoder, cache, prompts);
    }
    let (mut input_ids, mut new, mut logits) = (Vec::new(), Vec::new(), Vec::new());
    let mut prompts_are_read = false;
    while sequences.iter().any(|sequence| sequence.stop.is_none()) {
        lacking(cache, &sequences, &mut input_ids, &mut new);
        if prompts_are_read {
            decoder.next_logits(&input_ids, &new, cache, &mut logits);
        } else {
            // The tokens of a prompt are computed as a prompt's, however few are left after the shared beginning: the
            // result must not depend on their number.
            decoder.prompt_logits(&input_ids, &new, cache, &mut logits);
            prompts_are_read = true;
        }
        let rows = logits.chunks_exact_mut(model.config().vocab_size);
        let live = sequences.iter_mut().enumerate().filter(|(_, sequence)| sequence.stop.is_none());
        for ((index, sequence), logits) in live.zip(rows) {
            check_finite(logits, index, sequence.ids.len())?;
            let id = sequence.sampler.next(logits, &sequence.ids);
            sequence.ids.push(id);
            sequence.stop = if limits.eos_ids.contains(&id) {
                Some(StopReason::Eos)
            } else if let ControlFlow::Break(reason) = on_token(index, id) {
                Some(reason)
            } else {
                limits.reached(sequence.ids.len() - sequence.prompt, context - sequence.ids.len())
            };
        }
    }
    Ok(sequences.into_iter().filter_map(Sequence::finish).collect())
}

struct Sequence {
    /// Prompt and output.
    ids: Vec<u32>,
    /// The prompt's length.
    prompt: usize,
    stop: Option<StopReason>,
    sampler: Sampler,
}

impl Sequence {
    fn finish(mut self) -> Option<Continuation> {
        Some(Continuation { output_ids: self.ids.split_off(self.prompt), stop: self.stop? })
    }
}

impl Limits<'_> {
    /// The limit that is reached by an output of the given length, if any. `room` is the number of tokens that still
    /// fit.
    pub(crate) fn reached(&self, output: usize, room: usize) -> Option<StopReason> {
        if output >= self.max_new_tokens {
            return Some(StopReason::MaxTokens);
        }
        (room == 0).then_some(StopReason::ContextFull)
    }
}

/// Collects the tokens that the cache does not have yet, for each sequence that continues, and their number per
/// sequence.
fn lacking(cache: &KvCache, sequences: &[Sequence], input_ids: &mut Vec<u32>, new: &mut Vec<usize>) {
    input_ids.clear();
    new.clear();
    for (sequence, &held) in sequences.iter().zip(cache.lengths()) {
        let lacking = if sequence.stop.is_none() { &sequence.ids[held..] } else { &[] };
        input_ids.extend(lacking);
        new.push(lacking.len());
    }
}

/// If the cache is empty, computes the common beginning of all prompts once, and then each of several equal prompts once.
fn share_beginnings(decoder: &Decoder<'_>, cache: &mut KvCache, prompts: &[Vec<u32>]) {
    if cache.lengths().iter().all(|&held| held == 0) {
        share_common(decoder, cache, prompts);
        share_equal(decoder, cache, prompts);
    }
}

/// The sequences with equal prompts get all but the last token of the prompt, whose logits are needed.
fn share_equal(decoder: &Decoder<'_>, cache: &mut KvCache, prompts: &[Vec<u32>]) {
    let (mut firsts, mut copies) = (HashMap::new(), Vec::new());
    for (sequence, prompt) in prompts.iter().enumerate() {
        let first = *firsts.entry(prompt.as_slice()).or_insert(sequence);
        if first != sequence {
            copies.push((first, sequence));
        }
    }
    let (mut input_ids, mut new) = (Vec::new(), vec![0; prompts.len()]);
    for (first, prompt) in prompts.iter().enumerate() {
        let held = cache.lengths()[first];
        if copies.iter().any(|(copied, _)| *copied == first) && held + 1 < prompt.len() {
            input_ids.extend(&prompt[held..prompt.len() - 1]);
            new[first] = prompt.len() - 1 - held;
        }
    }
    if !input_ids.is_empty() {
        decoder.append(&input_ids, &new, cache);
        copies.iter().for_each(|(first, copy)| cache.copy(*first, *copy, prompts[*first].len() - 1));
    }
}

fn share_common(decoder: &Decoder<'_>, cache: &mut KvCache, prompts: &[Vec<u32>]) {
    let [first, others @ ..] = prompts else { return };
    if others.is_empty() {
        return;
    }
    let common = |prompt: &Vec<u32>| first.iter().zip(prompt).take_while(|(a, b)| a == b).count();
    // The last token of a prompt is not shared, because its logits are needed.
    let shared = others.iter().map(common).chain(prompts.iter().map(|prompt| prompt.len() - 1)).min().unwrap_or(0);
    if shared == 0 {
        return;
    }
    let mut new = vec![0; prompts.len()];
    new[0] = shared;
    decoder.append(&first[..shared], &new, cache);
    for sequence in 1..prompts.len() {
        cache.copy(0, sequence, shared);
    }
}

fn check_prompts(model: &Mistral, cache: &KvCache, prompts: &[Vec<u32>], context: usize) -> Result<()> {
    let vocab_size = model.config().vocab_size;
    for (sequence, prompt) in prompts.iter().enumerate() {
        check_prompt(prompt, sequence, context, vocab_size)?;
    }
    let fits = prompts.len() == cache.lengths().len()
        && prompts.iter().zip(cache.lengths()).all(|(prompt, &held)| prompt.len() > held);
    if !fits {
        return Err(Error::CacheMismatch {
            cached: cache.lengths().to_vec(),
            capacity: cache.capacity(),
            prompts: prompts.iter().map(Vec::len).collect(),
        });
    }
    Ok(())
}

pub(crate) fn check_prompt(prompt: &[u32], sequence: usize, context: usize, vocab_size: usize) -> Result<()> {
    if prompt.is_empty() {
        return Err(Error::EmptyPrompt { sequence });
    }
    if prompt.len() > context {
        return Err(Error::PromptTooLong { sequence, tokens: prompt.len(), context });
    }
    match prompt.iter().find(|id| **id as usize >= vocab_size) {
        None => Ok(()),
        Some(&id) => Err(Error::UnknownToken { sequence, id, vocab_size }),
    }
}

pub(crate) fn check_finite(logits: &[f32], sequence: usize, length: usize) -> Result<()> {
    match (0..).zip(logits).find(|(_, logit)| !logit.is_finite()) {
        None => Ok(()),
        Some((id, &value)) => Err(Error::NonFiniteLogit { sequence, length, id, value }),
    }
}
