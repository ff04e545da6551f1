//! Training: ten steps against PyTorch, packing and micro-batches against one by one, resume against uninterrupted.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::Tensor;
use common::{Golden, devices, values};
use foehn_finetune::{
    AdamW, AdamWConfig, Dataset, Error, Event, LossMean, Outcome, Recipe, Run, Schedule, StepGradients,
    clip_global_norm, gradients, train, validation_loss,
};
use foehn_lora::{Adapter, LoraConfig, Manifest, attach_trainable, parameters, set_parameters};
use foehn_mistral::Mistral;
use foehn_tokens::Sample;
use proptest::prelude::*;

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

/// Losses, learning rates and gradient norms of ten AdamW steps, and the adapter after them, equal PyTorch's and PEFT's,
/// on every device.
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
                    let computed = gradients(&mut model, &samples, 1024, (0.0, 0), LossMean::Tokens);
                    assert!((computed.loss - losses[step]).abs() < 1e-4, "{at}: {} {}", computed.loss, losses[step]);
                    let (clipped, norm) = clip_global_norm(computed.gradients, run["clip"].as_f64());
                    assert!((norm - norms[step]).abs() < 1e-3 * norms[step], "{at}: norm {norm} {}", norms[step]);
                    let rate = match run["warmup"].as_u64() {
                        Some(warmup) => Schedule::Cosine.learning_rate(step, warmup as usize, 10, 1e-2, 0.0),
                        None => 1e-2,
                    };
                    assert!((rate - rates[step]).abs() < 1e-12, "{at}: rate {rate} {}", rates[step]);
                    let updated = optimizer.step(tensors(&model), clipped, rate);
                    set_parameters(&mut model, updated);
                }
                if run_name == "plain" {
                    let end = Adapter::load(&golden.folder.join("adapter_end")).unwrap();
                    let found = foehn_lora::detach(&mut model, &end.config).unwrap();
                    for (module, expected) in &end.modules {
                        for (a, b) in [(&found.modules[module].a, &expected.a), (&found.modules[module].b, &expected.b)]
                        {
                            // Ten steps of 1e-2: an element whose gradient is noise can turn round once.
                            let far = a.iter().zip(b).filter(|(a, b)| (**a - **b).abs() > 1e-3).count();
                            assert!(far * 200 <= a.len(), "{device_name} {name} {module}: {far} of {} differ", a.len());
                        }
                    }
                }
            }
        }
    }
}

fn adapted(golden: &Golden, seed: u64) -> Mistral {
    let mut model = golden.model();
    let mut adapter = Adapter::new(&LoraConfig { r: 2, ..LoraConfig::default() }, &model, seed).unwrap();
    // B is not zero, so that every gradient counts.
    for (index, pair) in adapter.modules.values_mut().enumerate() {
        for (place, b) in pair.b.iter_mut().enumerate() {
            *b = (((index * 31 + place * 17) % 13) as f32 - 6.0) / 40.0;
        }
    }
    attach_trainable(&mut model, &adapter).unwrap();
    model
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

/// Samples over few ids, so that prefixes are shared to any depth, supervised or not.
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
            let alone = gradients(&mut model, &[*sample], usize::MAX, (0.0, 0), mean);
            let share = match mean {
                LossMean::Tokens => sample.supervised() as f64 / supervised as f64,
                LossMean::Samples => 1.0 / all.len() as f64,
            };
            loss += alone.loss * share;
            let scaled = flat(alone).into_iter().map(|x| x * share as f32);
            expected = if expected.is_empty() { scaled.collect() } else { expected.iter().zip(scaled).map(|(a, b)| a + b).collect() };
        }
        for limit in [usize::MAX, max_rows] {
            let packed = gradients(&mut model, &all, limit, (0.0, 0), mean);
            prop_assert!((packed.loss - loss).abs() < 1e-5 * loss.max(1.0), "{} {loss}", packed.loss);
            let held_out = validation_loss(&model, &all, limit, mean);
            prop_assert!((held_out - loss).abs() < 1e-5 * loss.max(1.0), "{held_out} {loss}");
            assert_relative("gradient", &flat(packed), &expected, 1e-5)?;
        }
    }
}

/// Twenty samples that differ, each ending in the stop token.
fn dataset() -> Dataset {
    let named = (0..20u32).map(|n| {
        let ids = vec![1, 3 + n % 4, 10 + n, 40 + (n * n) % 30, 5 + n % 7, EOS];
        (format!("sample-{n}"), Sample::new(ids, vec![false, false, false, true, true, true]).unwrap())
    });
    Dataset::from_samples(named.collect(), &[EOS], 97).unwrap()
}

fn recipe() -> Recipe {
    let mut recipe = Recipe { batch_size: 6, epochs: 3, checkpoint_steps: 3, seed: 7, ..Recipe::default() };
    recipe.lora.r = 2;
    recipe.lora.lora_dropout = 0.1;
    recipe.validation.steps = 4;
    recipe.validation.patience = 9;
    recipe
}

fn run(out: &Path, recipe: &Recipe, resume: bool, stop_after: usize) -> Result<Outcome, Error> {
    let (training, validation) = (dataset(), dataset());
    let mut model = Golden::open("gqa").model();
    let manifest = Manifest { data_sha256: "data".into(), ..Manifest::default() };
    let run = Run { recipe, training: &training, validation: Some(&validation), manifest, out, resume };
    train(&mut model, run, &mut |event| match event {
        Event::Step(metrics) if metrics.step == stop_after => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
}

/// Every file of the adapter and of the checkpoint, and the metrics without their times.
fn artefacts(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![out.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(out).unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name == "metrics.jsonl" {
                let timeless = fs::read_to_string(path)
                    .unwrap()
                    .lines()
                    .map(|line| {
                        let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
                        value.as_object_mut().unwrap().remove("seconds");
                        format!("{value}\n")
                    })
                    .collect::<String>();
                found.insert(name, timeless.into_bytes());
            } else {
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

#[test]
fn interrupted_and_resumed_equals_uninterrupted_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe();
    let whole = folder.path().join("whole");
    let outcome = run(&whole, &recipe, false, 0).unwrap();
    assert_eq!(outcome.steps, 12);
    let expected = artefacts(&whole);
    assert!(expected.contains_key("adapter/adapter_model.safetensors") && expected.contains_key("loss.svg"));
    for stop_after in [3, 5, 11] {
        let out = folder.path().join(format!("cut-{stop_after}"));
        assert_eq!(run(&out, &recipe, false, stop_after).unwrap().adapter, None);
        let resumed = run(&out, &recipe, true, 0);
        if stop_after == 3 {
            // The run was interrupted before the checkpoint of step 3 was written.
            assert!(matches!(resumed, Err(Error::NoCheckpoint { .. })), "{resumed:?}");
            continue;
        }
        resumed.unwrap();
        let found = artefacts(&out);
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (name, bytes) in &expected {
            assert!(&found[name] == bytes, "{name} differs after an interruption at step {stop_after}");
        }
    }
}

#[test]
fn the_same_recipe_twice_gives_the_same_bytes_and_another_seed_others() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second, third] = ["a", "b", "c"].map(|name| folder.path().join(name));
    run(&first, &recipe(), false, 0).unwrap();
    run(&second, &recipe(), false, 0).unwrap();
    assert!(artefacts(&first) == artefacts(&second));
    run(&third, &Recipe { seed: 8, ..recipe() }, false, 0).unwrap();
    let name = "adapter/adapter_model.safetensors";
    assert_ne!(artefacts(&first)[name], artefacts(&third)[name]);
}

#[test]
fn a_folder_is_never_overwritten_and_another_run_never_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    run(&out, &recipe(), false, 7).unwrap();
    assert!(matches!(run(&out, &recipe(), false, 0), Err(Error::AlreadyThere { .. })));
    let other = Recipe { learning_rate: 5e-4, ..recipe() };
    assert!(matches!(run(&out, &other, true, 0), Err(Error::ResumeMismatch { what: "recipe", .. })));
    let state = foehn_finetune_newest(&out).join("state.json");
    fs::write(&state, "{").unwrap();
    assert!(matches!(run(&out, &recipe(), true, 0), Err(Error::Checkpoint { .. })));
}

fn foehn_finetune_newest(out: &Path) -> std::path::PathBuf {
    fs::read_dir(out.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path()).max().unwrap()
}

#[test]
fn a_loss_that_explodes_names_step_samples_and_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = Recipe { learning_rate: 1e30, warmup_ratio: 0.0, max_grad_norm: 0.0, ..recipe() };
    recipe.checkpoint_steps = 1;
    match run(&folder.path().join("run"), &recipe, false, 0) {
        Err(Error::NotFinite { step, samples, last_checkpoint, .. }) => {
            assert!(step > 1 && samples.len() == 6 && samples[0].starts_with("sample-"));
            assert!(last_checkpoint.unwrap().join("adapter_model.safetensors").exists());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_dataset_that_does_not_train_its_stop_token_is_refused() {
    let sample = |ids: Vec<u32>, mask: Vec<bool>| vec![("x".to_owned(), Sample::new(ids, mask).unwrap())];
    let untrained = sample(vec![1, 5, EOS], vec![false, true, false]);
    let refused = Dataset::from_samples(untrained, &[EOS], 97);
    assert!(matches!(refused, Err(Error::StopTokenUntrained { found: 5, .. })), "{refused:?}");
    let foreign = Dataset::from_samples(sample(vec![1, 97, EOS], vec![false, true, true]), &[EOS], 97);
    assert!(matches!(foreign, Err(Error::TokenOutOfVocabulary { id: 97, .. })), "{foreign:?}");
    assert!(matches!(Dataset::from_samples(Vec::new(), &[EOS], 97), Err(Error::NoData { .. })));
}

#[test]
fn early_stopping_keeps_the_best_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = Recipe { learning_rate: 0.5, epochs: 12, ..recipe() };
    recipe.validation.steps = 1;
    recipe.validation.patience = 2;
    let out = folder.path().join("run");
    let outcome = run(&out, &recipe, false, 0).unwrap();
    let lines: Vec<serde_json::Value> = fs::read_to_string(out.join("metrics.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let losses: Vec<f64> = lines.iter().filter_map(|line| line["validation_loss"].as_f64()).collect();
    let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(outcome.best_validation_loss, Some(best));
    assert!(outcome.steps < 48, "a rate of 0.5 must stop improving");
    let mut model = Golden::open("gqa").model();
    foehn_lora::attach(&mut model, &Adapter::load(&outcome.adapter.unwrap()).unwrap()).unwrap();
    let dataset = dataset();
    let samples: Vec<&Sample> = dataset.samples().iter().collect();
    let kept = validation_loss(&model, &samples, 1024, LossMean::Tokens);
    assert!((kept - best).abs() < 1e-6 * best.max(1.0), "{kept} {best}");
}
