//! Compares the cached path with the packed one, and a batch with its sequences alone.

mod common;

use std::ops::ControlFlow;

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use foehn_generate::{Continuation, Error, Limits, SamplingConfig, StopReason, continue_ids};
use foehn_kernels::LowRank;
use foehn_mistral::{Base, KvCache, Mistral, MistralConfig, Packed};

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
        // Prefills about half of each sequence, then adds one token at a time. Shorter sequences continue with
        // arbitrary tokens.
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
            // With a third of the ids as stop tokens, the sequences end at different times.
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
    // A later call continues from there.
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

/// A model that is large enough for every storage format, with an adapter.
fn packed(base: Base) -> Mistral {
    let config = MistralConfig::from_json(
        r#"{"model_type": "mistral", "vocab_size": 300, "hidden_size": 256, "intermediate_size": 512,
            "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "max_position_embeddings": 512, "sliding_window": null,
            "tie_word_embeddings": false}"#,
    );
    let device = Device::flex();
    let mut model = Mistral::synthetic(&config.unwrap(), base, &device, &mut |_, _| {});
    for (at, (_, projection)) in model.projections_mut().into_iter().enumerate() {
        let [out, input] = projection.weight().dims();
        let matrix = |rows: usize, columns: usize| {
            let values = (0..rows * columns).map(|i| ((i * 37 + at) % 41) as f32 / 400.0 - 0.05).collect::<Vec<_>>();
            Param::from_tensor(Tensor::<2>::from_data(TensorData::new(values, [rows, columns]), &device))
        };
        projection.attach(Some(LowRank { a: matrix(4, input), b: matrix(out, 4), scale: 0.5, dropout: None }));
    }
    model
}

/// The tokens that continue the prompts, and the bits of the log-probabilities of the next token.
fn continued(model: &Mistral, prompts: &[Vec<u32>], exact: bool) -> Vec<(Vec<u32>, Vec<u32>)> {
    let mut cache = KvCache::new(model.config(), prompts.len(), 300, &model.device());
    cache.set_exact(exact);
    let limits = Limits { max_new_tokens: 6, eos_ids: &[] };
    let mut go_on = |_, _| ControlFlow::Continue(());
    let found = continue_ids(model, &mut cache, prompts, limits, &SamplingConfig::default(), &mut go_on).unwrap();
    let last: Vec<u32> = found.iter().filter_map(|found| found.output_ids.last().copied()).collect();
    let mut logits = Vec::new();
    model.decoder().next_logits(&last, &vec![1; last.len()], &mut cache, &mut logits);
    let log_probs = |logits: &[f32]| {
        let sum = logits.iter().map(|logit| logit.exp()).sum::<f32>().ln();
        logits.iter().map(|logit| (logit - sum).to_bits()).collect()
    };
    let rows = logits.chunks_exact(model.config().vocab_size).map(log_probs);
    found.into_iter().map(|found| found.output_ids).zip(rows).collect()
}

#[test]
fn a_batch_is_its_prompts_alone_where_decoding_rounds() {
    let ids = |length: usize, step: usize| (0..length).map(|at| ((5 + at * step) % 300) as u32).collect::<Vec<_>>();
    let long = ids(200, 7);
    let batches = [
        vec![ids(20, 3); 3],
        vec![ids(1, 1); 2],
        vec![long[..131].to_vec(), long.clone(), long[..130].to_vec(), long[..199].to_vec()],
        vec![ids(9, 5), ids(1, 1), ids(20, 11), ids(160, 13), ids(2, 17)],
        vec![ids(3, 5); 40],
        // Equal prompts among others.
        vec![ids(20, 3), ids(9, 5), ids(20, 3), ids(160, 13), ids(9, 5), ids(1, 1), ids(20, 3), ids(1, 1)],
    ];
    for base in [Base::Q8_0, Base::Q4K, Base::Nf4, Base::Bf16, Base::F32] {
        let model = packed(base);
        for exact in [false, true] {
            for prompts in &batches {
                let together = continued(&model, prompts, exact);
                for (prompt, together) in prompts.iter().zip(&together) {
                    let alone = continued(&model, std::slice::from_ref(prompt), exact).remove(0);
                    let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
                    assert_eq!(alone.0, together.0, "{base}, exact: {exact}, {} of {lengths:?}", prompt.len());
                    assert!(alone.1 == together.1, "{base}, exact: {exact}, {} of {lengths:?}", prompt.len());
                }
                // The test is only meaningful if there is rounding, so this checks that there is.
                let other = continued(&model, prompts, !exact);
                assert!(together.iter().zip(&other).all(|(one, other)| one.1 != other.1), "{base}: nothing is rounded");
            }
        }
    }
}

#[test]
fn prompts_are_exact_and_what_follows_is_rounded_whatever_comes_beside_it() {
    let model = packed(Base::Q8_0);
    let decoder = model.decoder();
    let logits = |lengths: &[usize], as_prompt: bool| {
        let mut cache = KvCache::new(model.config(), lengths.len(), 300, &model.device());
        cache.set_exact(false);
        let ids: Vec<u32> = lengths.iter().flat_map(|&length| (0..length as u32).map(|at| 7 + at)).collect();
        let mut logits = Vec::new();
        match as_prompt {
            true => decoder.prompt_logits(&ids, lengths, &mut cache, &mut logits),
            false => decoder.next_logits(&ids, lengths, &mut cache, &mut logits),
        }
        logits.truncate(model.config().vocab_size);
        logits.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    for as_prompt in [true, false] {
        for beside in [1, 2, 9, 64] {
            assert!(logits(&[1], as_prompt) == logits(&[1, beside], as_prompt), "{beside}, as a prompt: {as_prompt}");
        }
    }
    assert!(logits(&[1], true) != logits(&[1], false));
}
