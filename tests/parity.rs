//! One step's arithmetic, compared with PyTorch, PEFT, transformers and TRL; packing and micro-batches compared with
//! single samples.

mod common;

use burn::tensor::Tensor;
use common::{Golden, devices, ids, values};
use foehn_finetune::{
    AdamW, AdamWConfig, DpoConfig, LossMean, Noise, Schedule, StepGradients, clip_global_norm, gradients,
    preference_gradients, preference_loss, validation_loss,
};
use foehn_kernels::Compute;
use foehn_lora::{Adapter, Factor, LoraConfig, attach_trainable, parameters, set_parameters};
use foehn_mistral::Mistral;
use foehn_tokens::{Sample, Tokenizer};
use proptest::prelude::*;
use serde_json::Value;

const EOS: u32 = 2;

fn golden_samples(golden: &Golden) -> Vec<Sample> {
    (0..3)
        .map(|index| {
            let (ids, mask) = golden.sample(index);
            Sample::new(ids, mask).unwrap()
        })
        .collect()
}

fn tensors(model: &Mistral) -> Vec<Tensor<2>> {
    parameters(model).into_iter().map(|parameter| parameter.tensor).collect()
}

/// Losses, learning rates and gradient norms of ten AdamW steps, and the adapter after them, equal those of PyTorch and
/// PEFT on every device.
#[test]
fn ten_steps_equal_pytorch() {
    for (device_name, device) in devices() {
        for name in ["gqa", "window"] {
            let golden = Golden::on(name, device.clone());
            let samples = golden_samples(&golden);
            let samples: Vec<&Sample> = samples.iter().collect();
            for run_name in ["plain", "scheduled"] {
                let run = &golden.json["runs"][run_name];
                let list = |key: &str| -> Vec<f64> {
                    run[key].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
                };
                let (losses, rates, norms) = (list("losses"), list("learning_rates"), list("grad_norms"));
                let config = AdamWConfig { weight_decay: run["decay"].as_f64().unwrap(), ..AdamWConfig::default() };
                let mut model = golden.model();
                attach_trainable(&mut model, &Adapter::load(&golden.folder.join("adapter_init")).unwrap()).unwrap();
                let mut optimizer = AdamW::new(config, &tensors(&model));
                for step in 0..10 {
                    let at = format!("{device_name} {name} {run_name} step {step}");
                    let computed = gradients(&mut model, &samples, 1024, Noise::default(), LossMean::Tokens);
                    assert!((computed.loss - losses[step]).abs() < 1e-4, "{at}: {} {}", computed.loss, losses[step]);
                    let (clipped, norm) = clip_global_norm(computed.gradients, run["clip"].as_f64());
                    assert!((norm - norms[step]).abs() < 1e-3 * norms[step], "{at}: norm {norm} {}", norms[step]);
                    let rate = match run["warmup"].as_u64() {
                        Some(warmup) => Schedule::Cosine.learning_rate(step, warmup as usize, 10, 1e-2, 0.0),
                        None => 1e-2,
                    };
                    assert!((rate - rates[step]).abs() < 1e-12, "{at}: rate {rate} {}", rates[step]);
                    let updated = optimizer.step(tensors(&model), clipped, &vec![rate; tensors(&model).len()]);
                    set_parameters(&mut model, updated);
                }
                if run_name == "plain" {
                    let end = Adapter::load(&golden.folder.join("adapter_end")).unwrap();
                    let found = foehn_lora::detach(&mut model, &end.config).unwrap();
                    for (module, expected) in &end.modules {
                        for (a, b) in [(&found.modules[module].a, &expected.a), (&found.modules[module].b, &expected.b)]
                        {
                            // After ten steps of 1e-2, an element whose gradient is noise can have changed its
                            // direction once.
                            let far = a.iter().zip(b).filter(|(a, b)| (**a - **b).abs() > 1e-3).count();
                            assert!(far * 200 <= a.len(), "{device_name} {name} {module}: {far} of {} differ", a.len());
                        }
                    }
                }
            }
        }
    }
}

/// With products in bfloat16, gradients and losses are no further from float64 than those of PyTorch and PEFT in bfloat16
/// are, and are not those of single precision either.
#[test]
fn rounded_products_are_nearer_to_exact_ones_than_pytorchs() {
    let bounds: Value = serde_json::from_str(include_str!("golden/bf16.json")).unwrap();
    for name in ["gqa", "window"] {
        let bound = |key: &str| bounds[name][key].as_f64().unwrap();
        let golden = Golden::open(name);
        let samples = golden_samples(&golden);
        let samples: Vec<&Sample> = samples.iter().collect();
        let mut model = golden.model();
        model.set_compute(Compute::Bf16);
        attach_trainable(&mut model, &Adapter::load(&golden.folder.join("adapter_init")).unwrap()).unwrap();
        let exact: Vec<Vec<f32>> =
            parameters(&model).iter().map(|parameter| golden.expected(&format!("grad.{}", parameter.name))).collect();
        let mut optimizer = AdamW::new(AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() }, &tensors(&model));
        for step in 0..10 {
            let computed = gradients(&mut model, &samples, 1024, Noise::default(), LossMean::Tokens);
            let loss = bounds[name]["exact_losses"][step].as_f64().unwrap();
            assert!((computed.loss - loss).abs() <= bound("losses"), "{name}, step {step}: {} {loss}", computed.loss);
            if step == 0 {
                let found = computed.gradients.iter().flat_map(|gradient| values(gradient.clone()));
                let found: Vec<f32> = found.collect();
                let exact: Vec<f64> = exact.concat().into_iter().map(f64::from).collect();
                let error = common::relative_error(&found, &exact);
                assert!(error <= bound("gradients"), "{name}: {error}, PyTorch {}", bound("gradients"));
                assert!(error > 1e-4, "{name}: nothing was rounded");
            }
            let updated = optimizer.step(tensors(&model), computed.gradients, &vec![1e-2; tensors(&model).len()]);
            set_parameters(&mut model, updated);
        }
    }
}

fn adapted(golden: &Golden, seed: u64) -> Mistral {
    let mut model = golden.model();
    let mut adapter = Adapter::new(&LoraConfig { r: 2, ..LoraConfig::default() }, &model, seed).unwrap();
    // B is not zero, so that every gradient is tested.
    for (index, pair) in adapter.modules.values_mut().enumerate() {
        for (place, b) in pair.b.iter_mut().enumerate() {
            *b = (((index * 31 + place * 17) % 13) as f32 - 6.0) / 40.0;
        }
    }
    attach_trainable(&mut model, &adapter).unwrap();
    model
}

/// Losses, rewards and gradient norms of ten DPO steps equal those of TRL on every device: from a fresh adapter and from
/// a trained one, with the chosen answers' likelihood and with smoothed labels.
#[test]
fn ten_dpo_steps_equal_trl() {
    let golden: Value = serde_json::from_str(include_str!("golden/dpo.json")).unwrap();
    let samples: Vec<Sample> = golden["pairs"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|pair| {
            ["chosen_ids", "rejected_ids"]
                .map(|answer| Sample::from_prompt(&ids(&pair["prompt_ids"]), &ids(&pair[answer])).unwrap())
        })
        .collect();
    let samples: Vec<&Sample> = samples.iter().collect();
    let rate = golden["learning_rate"].as_f64().unwrap();
    for (device_name, device) in devices() {
        let tiny = Golden::on("gqa", device);
        let first = Adapter::load(&tiny.folder.join("adapter_init")).unwrap();
        for (name, run) in golden["runs"].as_object().unwrap() {
            let number = |key: &str| run[key].as_f64().unwrap();
            let dpo = DpoConfig {
                beta: number("beta"),
                label_smoothing: number("label_smoothing"),
                sft_weight: number("sft_weight"),
            };
            let (mut model, mut reference, mut adapter) = (tiny.model(), tiny.model(), first.clone());
            match run["init"].as_bool().unwrap() {
                true => foehn_lora::attach(&mut reference, &first).unwrap(),
                false => adapter.modules.values_mut().for_each(|pair| pair.b.fill(0.0)),
            }
            attach_trainable(&mut model, &adapter).unwrap();
            let config = AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() };
            let mut optimizer = AdamW::new(config, &tensors(&model));
            for step in 0..10 {
                // A pair is in one micro-batch, however small that is.
                let rows = if step % 2 == 0 { usize::MAX } else { 20 };
                let (loss, held_out) = preference_loss(&model, &reference, &samples, rows, LossMean::Tokens, &dpo);
                let computed = preference_gradients(
                    &mut model,
                    &reference,
                    &samples,
                    rows,
                    Noise::default(),
                    LossMean::Tokens,
                    &dpo,
                );
                let rewards = computed.rewards.unwrap();
                let (clipped, norm) = clip_global_norm(computed.gradients, None);
                let all = [
                    ("losses", computed.loss),
                    ("losses", loss),
                    ("chosen_rewards", rewards.chosen_reward),
                    ("rejected_rewards", rewards.rejected_reward),
                    ("margins", rewards.reward_margin),
                    ("margins", held_out.reward_margin),
                    ("accuracies", rewards.reward_accuracy),
                    ("grad_norms", norm),
                ];
                for (key, found) in all {
                    let expected = run[key][step].as_f64().unwrap();
                    let close = (found - expected).abs() < 1e-4 * expected.abs().max(1.0);
                    assert!(close, "{device_name} {name} step {step}: {key} is {found}, TRL's {expected}");
                }
                let updated = optimizer.step(tensors(&model), clipped, &vec![rate; tensors(&model).len()]);
                set_parameters(&mut model, updated);
            }
        }
    }
}

/// Losses and gradient norms of ten steps with LoRA+ equal PEFT's, and with NEFTune those of transformers' hook, on every
/// device.
#[test]
fn ten_steps_with_techniques_equal_peft() {
    let golden: Value = serde_json::from_str(include_str!("golden/techniques.json")).unwrap();
    let samples: Vec<Sample> = golden["samples"]
        .as_array()
        .unwrap()
        .iter()
        .map(|sample| Sample::from_prompt(&ids(&sample["prompt"]), &ids(&sample["answer"])).unwrap())
        .collect();
    let samples: Vec<&Sample> = samples.iter().collect();
    for (device_name, device) in devices() {
        let tiny = Golden::on("gqa", device);
        for (name, run) in golden["runs"].as_object().unwrap() {
            let number = |key: &str| run[key].as_f64().unwrap();
            let mut model = tiny.model();
            attach_trainable(&mut model, &Adapter::load(&tiny.folder.join("adapter_init")).unwrap()).unwrap();
            let config = AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() };
            let mut optimizer = AdamW::new(config, &tensors(&model));
            let rate = |factor| match factor {
                Factor::A => number("learning_rate"),
                Factor::B => number("learning_rate") * number("loraplus_lr_ratio"),
            };
            let rates: Vec<f64> = parameters(&model).iter().map(|parameter| rate(parameter.factor)).collect();
            for step in 0..10 {
                // Each sample is a micro-batch of its own, so that it has the rows that PEFT has.
                let neftune_alpha = number("neftune_noise_alpha") as f32;
                let noise = Noise { dropout: 0.0, neftune_alpha, seed: 1000 * step as u64 };
                let computed = gradients(&mut model, &samples, 1, noise, LossMean::Tokens);
                let (clipped, norm) = clip_global_norm(computed.gradients, None);
                for (key, found) in [("losses", computed.loss), ("grad_norms", norm)] {
                    let expected = run[key][step].as_f64().unwrap();
                    let close = (found - expected).abs() < 1e-4 * expected.abs().max(1.0);
                    assert!(close, "{device_name} {name} step {step}: {key} is {found}, expected {expected}");
                }
                let updated = optimizer.step(tensors(&model), clipped, &rates);
                set_parameters(&mut model, updated);
            }
        }
    }
}

/// Ids and trained positions of plain text equal those of transformers' collator, a longer sequence is cut so that each id
/// is trained once, and losses and gradient norms of ten steps on the pieces equal PEFT's, on every device.
#[test]
fn ten_steps_on_plain_text_equal_peft() {
    let golden: Value = serde_json::from_str(include_str!("golden/text.json")).unwrap();
    for (name, rows) in golden["tokenized"].as_object().unwrap() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tokenizers/");
        let tokenizer = Tokenizer::open(format!("{folder}{name}")).unwrap();
        for row in rows.as_array().unwrap() {
            let found = Sample::of_text(&tokenizer, row["text"].as_str().unwrap(), 1000).unwrap();
            assert_eq!((found.len(), found[0].input_ids()), (1, ids(&row["input_ids"]).as_slice()), "{name}: {row}");
            let trained: Vec<u32> = found[0].loss_mask().iter().map(|trained| u32::from(*trained)).collect();
            assert_eq!(trained, ids(&row["trained"]), "{name}: {row}");
        }
    }
    let length = golden["length"].as_u64().unwrap() as usize;
    let sequences = golden["sequences"].as_array().unwrap().iter().zip(golden["pieces"].as_array().unwrap());
    let samples: Vec<Sample> = sequences
        .flat_map(|(sequence, pieces)| {
            let found = Sample::pieces(ids(sequence), length).unwrap();
            let expected: Vec<Vec<u32>> = pieces.as_array().unwrap().iter().map(ids).collect();
            assert!(found.iter().map(Sample::input_ids).eq(expected.iter().map(Vec::as_slice)), "{sequence}");
            found
        })
        .collect();
    let samples: Vec<&Sample> = samples.iter().collect();
    let rate = golden["learning_rate"].as_f64().unwrap();
    for (device_name, device) in devices() {
        let tiny = Golden::on("gqa", device);
        let mut model = tiny.model();
        attach_trainable(&mut model, &Adapter::load(&tiny.folder.join("adapter_init")).unwrap()).unwrap();
        let config = AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() };
        let mut optimizer = AdamW::new(config, &tensors(&model));
        for step in 0..10 {
            let computed = gradients(&mut model, &samples, 40, Noise::default(), LossMean::Tokens);
            let (clipped, norm) = clip_global_norm(computed.gradients, None);
            for (key, found) in [("losses", computed.loss), ("grad_norms", norm)] {
                let expected = golden[key][step].as_f64().unwrap();
                let close = (found - expected).abs() < 1e-4 * expected.abs().max(1.0);
                assert!(close, "{device_name} step {step}: {key} is {found}, expected {expected}");
            }
            let updated = optimizer.step(tensors(&model), clipped, &vec![rate; tensors(&model).len()]);
            set_parameters(&mut model, updated);
        }
    }
}

fn flat(step: StepGradients) -> Vec<f32> {
    step.gradients.into_iter().flat_map(values).collect()
}

fn assert_relative(what: &str, found: &[f32], expected: &[f32], limit: f64) -> Result<(), TestCaseError> {
    let difference: f64 = found.iter().zip(expected).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let norm: f64 = expected.iter().map(|b| f64::from(*b).powi(2)).sum();
    let error = (difference / norm.max(1e-30)).sqrt();
    prop_assert!(error < limit, "{what}: {error}");
    Ok(())
}

/// Samples over few ids, so that they share prefixes of any length, supervised or not.
fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let one = (prop::collection::vec(3u32..6, 1..10), any::<u16>()).prop_map(|(mut ids, bits)| {
        ids.insert(0, 1);
        ids.push(EOS);
        let mask = (0..ids.len()).map(|i| i > 0 && (bits >> (i % 16)) & 1 == 1 || i + 1 == ids.len()).collect();
        Sample::new(ids, mask).unwrap()
    });
    prop::collection::vec(one, 1..7)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_trie_and_micro_batches_equal_one_by_one(
        samples in samples(), window in any::<bool>(), max_rows in 4usize..40,
        mean in prop::sample::select(vec![LossMean::Tokens, LossMean::Samples]),
    ) {
        let golden = Golden::open(if window { "window" } else { "gqa" });
        let mut model = adapted(&golden, 5);
        let all: Vec<&Sample> = samples.iter().collect();
        let supervised: usize = samples.iter().map(Sample::supervised).sum();
        let (mut loss, mut expected) = (0.0, Vec::new());
        for sample in &all {
            let alone = gradients(&mut model, &[*sample], usize::MAX, Noise::default(), mean);
            let share = match mean {
                LossMean::Tokens => sample.supervised() as f64 / supervised as f64,
                LossMean::Samples => 1.0 / all.len() as f64,
            };
            loss += alone.loss * share;
            let scaled = flat(alone).into_iter().map(|x| x * share as f32);
            expected = if expected.is_empty() { scaled.collect() } else { expected.iter().zip(scaled).map(|(a, b)| a + b).collect() };
        }
        for limit in [usize::MAX, max_rows] {
            let packed = gradients(&mut model, &all, limit, Noise::default(), mean);
            prop_assert!((packed.loss - loss).abs() < 1e-5 * loss.max(1.0), "{} {loss}", packed.loss);
            let held_out = validation_loss(&model, &all, limit, mean);
            prop_assert!((held_out - loss).abs() < 1e-5 * loss.max(1.0), "{held_out} {loss}");
            assert_relative("gradient", &flat(packed), &expected, 1e-5)?;
        }
    }
}
