//! The cached path against the packed one, and a batch against its sequences alone.

mod common;

use std::ops::ControlFlow;

use burn::tensor::Tensor;
use foehn_generate::{Continuation, Error, Limits, SamplingConfig, StopReason, continue_ids};
use foehn_mistral::{KvCache, Mistral, Packed};

const MODELS: [&str; 2] = ["gqa", "window"];

fn prompts() -> Vec<Vec<u32>> {
    let ids = |length: u32, step: u32| (0..length).map(|at| (7 + at * step) % 97).collect();
    vec![ids(9, 5), ids(1, 1), ids(20, 11), ids(4, 31)]
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

/// The logits of every position of a sequence, from one packed pass.
fn packed_logits(model: &Mistral, ids: &[u32]) -> Vec<Vec<f32>> {
    let positions: Vec<u32> = (0..ids.len() as u32).collect();
    let ends = vec![ids.len() as u32; ids.len()];
    let packed = Packed { input_ids: ids, position_ids: &positions, subtree_ends: &ends };
    let logits = values(model.logits(model.forward(packed)));
    logits.chunks_exact(model.config().vocab_size).map(<[f32]>::to_vec).collect()
}

fn run(
    model: &Mistral,
    prompts: &[Vec<u32>],
    sampling: &SamplingConfig,
    eos_ids: &[u32],
    max: usize,
) -> Vec<Continuation> {
    let mut cache = KvCache::new(model.config(), prompts.len(), 64, &model.device());
    let limits = Limits { max_new_tokens: max, eos_ids };
    continue_ids(model, &mut cache, prompts, limits, sampling, &mut |_, _| ControlFlow::Continue(())).unwrap()
}

#[test]
fn prefill_and_decode_are_the_packed_pass() {
    for name in MODELS {
        let model = common::golden(name);
        let sequences = prompts();
        let expected: Vec<_> = sequences.iter().map(|ids| packed_logits(&model, ids)).collect();
        // A ragged prefill of about half of each, then one token at a time; the shortest go on with tokens of no matter.
        let mut cache = KvCache::new(model.config(), sequences.len(), 64, &model.device());
        let mut held: Vec<usize> = sequences.iter().map(|ids| ids.len().div_ceil(2)).collect();
        let halves: Vec<u32> = sequences.iter().zip(&held).flat_map(|(ids, &half)| ids[..half].to_vec()).collect();
        let decoder = model.decoder();
        let mut logits = Vec::new();
        decoder.next_logits(&halves, &held, &mut cache, &mut logits);
        loop {
            for (sequence, found) in logits.chunks_exact(model.config().vocab_size).enumerate() {
                let Some(expected) = expected[sequence].get(held[sequence] - 1) else { continue };
                for (found, expected) in found.iter().zip(expected) {
                    assert!((found - expected).abs() <= 1e-4, "{name}, sequence {sequence}, after {}", held[sequence]);
                }
            }
            if sequences.iter().zip(&held).all(|(ids, &held)| held >= ids.len()) {
                break;
            }
            let next: Vec<u32> = sequences.iter().zip(&held).map(|(ids, &at)| *ids.get(at).unwrap_or(&3)).collect();
            decoder.next_logits(&next, &vec![1; next.len()], &mut cache, &mut logits);
            held.iter_mut().for_each(|held| *held += 1);
        }
    }
}

#[test]
fn greedy_is_the_argmax_of_the_packed_pass() {
    for name in MODELS {
        let model = common::golden(name);
        for prompt in prompts() {
            let found = run(&model, std::slice::from_ref(&prompt), &SamplingConfig::default(), &[], 12).remove(0);
            assert_eq!(found.stop, StopReason::MaxTokens);
            let mut ids = prompt;
            for &id in &found.output_ids {
                let logits = packed_logits(&model, &ids).pop().unwrap();
                let best = logits[id as usize];
                assert!(logits.iter().all(|logit| *logit <= best + 1e-4), "{name}: {id} after {ids:?}");
                ids.push(id);
            }
        }
    }
}

#[test]
fn a_batch_is_its_sequences_alone() {
    let sampled = SamplingConfig {
        temperature: 1.0,
        top_p: Some(0.9),
        repetition_penalty: 1.1,
        seed: 3,
        ..SamplingConfig::default()
    };
    for name in MODELS {
        let model = common::golden(name);
        for sampling in [SamplingConfig::default(), sampled.clone()] {
            // With a third of the ids as stop tokens, sequences end at different times.
            for eos_ids in [Vec::new(), (0..97).step_by(3).collect()] {
                let batch = run(&model, &prompts(), &sampling, &eos_ids, 40);
                for (index, (prompt, found)) in prompts().into_iter().zip(batch).enumerate() {
                    let stream = index as u64;
                    let alone = run(&model, &[prompt], &SamplingConfig { stream, ..sampling.clone() }, &eos_ids, 40);
                    assert_eq!([found], alone[..], "{name}, sequence {index}");
                }
            }
        }
    }
}

#[test]
fn limits_end_a_sequence() {
    let model = common::golden("gqa");
    let greedy = SamplingConfig::default();
    let prompt = prompts().remove(0);
    let free = run(&model, std::slice::from_ref(&prompt), &greedy, &[], 64).remove(0);
    // The context is 64 tokens.
    assert_eq!((free.output_ids.len(), free.stop), (64 - prompt.len(), StopReason::ContextFull));
    let full: Vec<u32> = vec![1; 64];
    let found = run(&model, &[full, prompt.clone()], &greedy, &[], 3);
    assert_eq!(found[0], Continuation { output_ids: Vec::new(), stop: StopReason::ContextFull });
    assert_eq!(found[1], Continuation { output_ids: free.output_ids[..3].to_vec(), stop: StopReason::MaxTokens });

    let eos = free.output_ids[5];
    let until = free.output_ids.iter().position(|id| *id == eos).unwrap();
    let found = run(&model, std::slice::from_ref(&prompt), &greedy, &[eos], 64).remove(0);
    assert_eq!(found, Continuation { output_ids: free.output_ids[..=until].to_vec(), stop: StopReason::Eos });

    let mut cache = KvCache::new(model.config(), 1, 64, &model.device());
    let mut left = 2;
    let mut break_off = |_, _| {
        left -= 1;
        if left == 0 { ControlFlow::Break(StopReason::Cancelled) } else { ControlFlow::Continue(()) }
    };
    let limits = Limits { max_new_tokens: 9, eos_ids: &[] };
    let prompts = [prompt];
    let found = continue_ids(&model, &mut cache, &prompts, limits, &greedy, &mut break_off).unwrap().remove(0);
    assert_eq!(found, Continuation { output_ids: free.output_ids[..2].to_vec(), stop: StopReason::Cancelled });
    // The cache goes on from there.
    assert_eq!(cache.lengths(), [prompts[0].len() + 1]);
    let further = [[&prompts[0][..], &found.output_ids].concat()];
    let limits = Limits { max_new_tokens: 4, eos_ids: &[] };
    let found =
        continue_ids(&model, &mut cache, &further, limits, &greedy, &mut |_, _| ControlFlow::Continue(())).unwrap();
    assert_eq!(found[0].output_ids, free.output_ids[2..6]);
}

#[test]
fn prompts_that_do_not_fit_are_refused() {
    let model = common::golden("gqa");
    let attempt = |prompts: &[Vec<u32>], held: &[usize]| {
        let mut cache = KvCache::new(model.config(), held.len(), 20, &model.device());
        let longest = held.iter().max().map_or(1, |longest| longest + 1);
        model.decoder().append(&vec![1; longest * held.len()], &vec![longest; held.len()], &mut cache);
        cache.truncate(held);
        let limits = Limits { max_new_tokens: 2, eos_ids: &[] };
        let sampling = SamplingConfig::default();
        continue_ids(&model, &mut cache, prompts, limits, &sampling, &mut |_, _| ControlFlow::Continue(())).unwrap_err()
    };
    assert!(matches!(attempt(&[vec![1], vec![]], &[0, 0]), Error::EmptyPrompt { sequence: 1 }));
    assert!(matches!(attempt(&[vec![1; 21]], &[0]), Error::PromptTooLong { sequence: 0, tokens: 21, context: 20 }));
    assert!(matches!(attempt(&[vec![1, 97]], &[0]), Error::UnknownToken { sequence: 0, id: 97, vocab_size: 97 }));
    assert!(matches!(attempt(&[vec![1; 2]], &[0, 0]), Error::CacheMismatch { .. }));
    assert!(matches!(attempt(&[vec![1; 2]], &[2]), Error::CacheMismatch { .. }));
}
