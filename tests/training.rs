//! Whole runs: resumed ones compared with uninterrupted ones, what is refused, and what is left behind.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use common::{Golden, devices};
use foehn_finetune::{
    Dataset, DpoConfig, Error, Event, Folder, LossMean, Objective, Outcome, Run, Schedule, TooLong, Trainer,
    TrainingConfig, train, validation_loss,
};
use foehn_kernels::Compute;
use foehn_lora::{Adapter, LoraConfig, Manifest};
use foehn_mistral::MistralConfig;
use foehn_record::{Message, Record};
use foehn_tokens::{ChatTemplate, Sample, Tokenizer};

const EOS: u32 = 2;

/// Twenty different samples, each ending with the stop token.
fn dataset() -> Dataset {
    let named = (0..20u32).map(|n| {
        let ids = vec![1, 3 + n % 4, 10 + n, 40 + (n * n) % 30, 5 + n % 7, EOS];
        (format!("sample-{n}"), Sample::new(ids, vec![false, false, false, true, true, true]).unwrap())
    });
    Dataset::from_samples(named.collect(), &[EOS], 97).unwrap()
}

/// Twenty pairs: the samples of [`dataset`], and as many rejected answers.
fn pairs() -> Dataset {
    let pair = |n: u32| {
        let chosen = vec![1, 3 + n % 4, 10 + n, 40 + (n * n) % 30, 5 + n % 7, EOS];
        let rejected = vec![1, 3 + n % 4, 10 + n, 71 + n % 9, EOS];
        let sample = |ids: Vec<u32>| Sample::from_prompt(&ids[..3], &ids[3..]).unwrap();
        (format!("pair-{n}"), [sample(chosen), sample(rejected)])
    };
    Dataset::from_pairs((0..20).map(pair).collect(), &[EOS], 97).unwrap()
}

fn settings() -> TrainingConfig {
    let mut config =
        TrainingConfig { batch_size: 6, epochs: 3, checkpoint_steps: 3, seed: 7, ..TrainingConfig::default() };
    config.lora.r = 2;
    config.lora.lora_dropout = 0.1;
    config.validation.steps = 4;
    config.validation.patience = 9;
    config
}

fn run(out: &Path, config: &TrainingConfig, resume: bool, stop_after: usize) -> Result<Outcome, Error> {
    run_warned(out, config, resume, stop_after).map(|(outcome, _)| outcome)
}

/// The outcome of a run, and its warnings.
fn run_warned(
    out: &Path,
    config: &TrainingConfig,
    resume: bool,
    stop_after: usize,
) -> Result<(Outcome, Vec<String>), Error> {
    let data = || if config.objective == Objective::Dpo { pairs() } else { dataset() };
    let (training, validation) = (data(), data());
    let mut model = Golden::open("gqa").model();
    let run = job(out, config, resume, &training, &validation)?;
    let mut warnings = Vec::new();
    let outcome = train(&mut model, run, &mut |event| match event {
        Event::Step(metrics) if metrics.step == stop_after => ControlFlow::Break(()),
        Event::Warning(warning) => {
            warnings.push(warning.to_string());
            ControlFlow::Continue(())
        }
        _ => ControlFlow::Continue(()),
    })?;
    Ok((outcome, warnings))
}

fn job<'a>(
    out: &Path,
    config: &'a TrainingConfig,
    resume: bool,
    training: &'a Dataset,
    validation: &'a Dataset,
) -> Result<Run<'a>, Error> {
    // With another `checkpoint_steps` the model and the data have moved too.
    let place = |name: &str| format!("{}/{name}", config.checkpoint_steps);
    let recipe = serde_json::json!({ "model": place("model"), "data": place("data.jsonl") });
    let manifest = Manifest { data_sha256: "data".into(), recipe, ..Manifest::default() };
    let out = if resume { Folder::resume(out)? } else { Folder::begin(out)? };
    Ok(Run { config, training, validation: Some(validation), manifest, out })
}

/// Every file of the adapter and of the checkpoints, and the metrics without times.
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
    resumes_to_the_same_bytes(&TrainingConfig { neftune_noise_alpha: 5.0, loraplus_lr_ratio: 4.0, ..settings() });
}

#[test]
fn rounded_products_resume_to_the_same_bytes_and_not_as_exact_ones() {
    let config = TrainingConfig { compute: Compute::Bf16, ..settings() };
    resumes_to_the_same_bytes(&config);
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &config, false, 5).unwrap();
    let refused = run(folder.path(), &settings(), true, 0);
    assert!(matches!(&refused, Err(Error::ResumeMismatch { key, .. }) if key == "compute"), "{refused:?}");
    // The recipe of an exact run does not name it, so older runs can be resumed.
    let exact = serde_json::to_value(settings()).unwrap();
    assert_eq!(exact.get("compute"), None);
    assert_eq!(serde_json::to_value(&config).unwrap()["compute"], "bf16");
}

fn resumes_to_the_same_bytes(config: &TrainingConfig) {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let outcome = run(&whole, config, false, 0).unwrap();
    assert_eq!(outcome.steps, 12);
    let expected = artefacts(&whole);
    assert!(expected.contains_key("adapter/adapter_model.safetensors") && expected.contains_key("loss.svg"));
    // After 4 steps, a validation is due that the interrupted run did not reach.
    for stop_after in [1, 3, 4, 5, 11] {
        let out = folder.path().join(format!("cut-{stop_after}"));
        assert_eq!(run(&out, config, false, stop_after).unwrap().adapter, None);
        assert!(newest(&out).ends_with(format!("step-{stop_after:08}")), "the step is not lost");
        run(&out, config, true, 0).unwrap();
        let found = artefacts(&out);
        // The interruption wrote an additional checkpoint; the results of the run are the same.
        let is_result = |name: &str| !name.starts_with("checkpoints/") || name.contains("step-00000012");
        let names =
            |of: &BTreeMap<String, Vec<u8>>| of.keys().filter(|name| is_result(name)).cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected));
        for name in names(&expected) {
            assert!(found[&name] == expected[&name], "{name} differs after an interruption at step {stop_after}");
        }
    }
}

/// The reference is that of the beginning, also in a resumed run: the base, or the adapter that the run began from.
#[test]
fn dpo_resumes_to_the_same_bytes_and_only_with_the_same_reference() {
    let folder = tempfile::tempdir().unwrap();
    let begin = folder.path().join("begin");
    run(&begin, &TrainingConfig { seed: 3, ..settings() }, false, 0).unwrap();
    let fresh = TrainingConfig { objective: Objective::Dpo, ..settings() };
    let init = folder.path().join("init");
    fs::rename(begin.join("adapter"), &init).unwrap();
    let continued = TrainingConfig { init_adapter: Some(init.clone()), ..fresh.clone() };
    for (name, config) in [("fresh", &fresh), ("continued", &continued)] {
        let (whole, cut) = (folder.path().join(name), folder.path().join(format!("{name}-cut")));
        let outcome = run(&whole, config, false, 0).unwrap();
        assert!(outcome.best_validation_loss.unwrap() < 0.6, "better than a toss-up, ln 2: {outcome:?}");
        run(&cut, config, false, 5).unwrap();
        run(&cut, config, true, 0).unwrap();
        let (whole, cut) = (artefacts(&whole), artefacts(&cut));
        for name in ["metrics.jsonl", "adapter/adapter_model.safetensors"] {
            assert!(whole[name] == cut[name], "{name} differs");
        }
        assert!(String::from_utf8_lossy(&whole["metrics.jsonl"]).contains("\"reward_margin\""));
    }
    let out = folder.path().join("changed");
    run(&out, &continued, false, 5).unwrap();
    let mut other = Adapter::load(&init).unwrap();
    other.modules.values_mut().for_each(|pair| pair.b[0] += 1.0);
    other.save(&init).unwrap();
    match run(&out, &continued, true, 0) {
        Err(Error::ResumeMismatch { key, .. }) => assert_eq!(key, "reference_sha256"),
        found => panic!("{found:?}"),
    }
}

#[test]
fn an_objective_refuses_the_other_ones_data() {
    let folder = tempfile::tempdir().unwrap();
    let (samples, pairs, mut model) = (dataset(), pairs(), Golden::open("gqa").model());
    let sft = settings();
    let dpo = TrainingConfig { objective: Objective::Dpo, ..settings() };
    for (number, (config, data)) in [(&sft, &pairs), (&dpo, &samples)].into_iter().enumerate() {
        let run = job(&folder.path().join(number.to_string()), config, false, data, data).unwrap();
        let error = train(&mut model, run, &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(error, Error::Setting { field: "objective", .. }), "{error:?}");
    }
    let stray = TrainingConfig { dpo: Some(DpoConfig::default()), ..sft };
    assert!(stray.check().unwrap_err().to_string().contains("[dpo]"));
}

#[test]
fn the_same_config_twice_gives_the_same_bytes_and_another_seed_others() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second, third] = ["a", "b", "c"].map(|name| folder.path().join(name));
    run(&first, &settings(), false, 0).unwrap();
    run(&second, &settings(), false, 0).unwrap();
    assert!(artefacts(&first) == artefacts(&second));
    run(&third, &TrainingConfig { seed: 8, ..settings() }, false, 0).unwrap();
    let name = "adapter/adapter_model.safetensors";
    assert_ne!(artefacts(&first)[name], artefacts(&third)[name]);
}

#[test]
fn a_folder_is_never_overwritten_and_another_run_never_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    run(&out, &settings(), false, 7).unwrap();
    assert!(matches!(run(&out, &settings(), false, 0), Err(Error::AlreadyThere { .. })));
    let other = TrainingConfig { learning_rate: 5e-4, ..settings() };
    let before = artefacts(&out);
    match run(&out, &other, true, 0) {
        Err(Error::ResumeMismatch { key, old, new, .. }) => {
            assert_eq!((key.as_str(), old.as_str(), new.as_str()), ("learning_rate", "0.001", "0.0005"));
        }
        other => panic!("{other:?}"),
    }
    assert!(artefacts(&out) == before, "a refusal has changed nothing");
    let shorter = TrainingConfig { max_steps: 6, ..settings() };
    assert!(matches!(run(&out, &shorter, true, 0), Err(Error::ResumeMismatch { .. })));
}

fn newest(out: &Path) -> std::path::PathBuf {
    fs::read_dir(out.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path()).max().unwrap()
}

/// A much too large learning rate never replaces a good checkpoint and never results in a saved adapter: a loss that is
/// not finite is detected after the update that causes it, not one step later.
#[test]
fn a_loss_that_explodes_names_step_samples_and_checkpoint_and_saves_nothing() {
    for (rate, with_validation) in [(1e30, true), (1e38, true), (1e38, false)] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        let mut config = TrainingConfig { learning_rate: rate, max_grad_norm: 0.0, epochs: 1, ..settings() };
        // Without warm-up, the rates of the first steps are as harmful as those of the last.
        config.warmup_ratio = 0.0;
        config.checkpoint_steps = 1;
        config.max_steps = 1;
        config.validation.steps = if with_validation { 1 } else { 0 };
        match run(&out, &config, false, 0) {
            Err(Error::NotFinite { step, value, samples, last_checkpoint, .. }) => {
                assert!(step == 1 && !value.is_finite() && last_checkpoint.is_none(), "{step} {value}");
                assert!(samples.len() == 6 && samples.iter().all(|name| name.starts_with("sample-")));
            }
            other => panic!("{other:?}"),
        }
        assert!(!out.join("adapter").exists() && !out.join("checkpoints").exists(), "nothing is called good");
    }
}

/// A weight decay that multiplies the weights at every step until the computation overflows. The one checkpoint that is
/// kept was written before that, and is complete and finite.
#[test]
fn a_ruined_update_leaves_the_good_checkpoint_as_it_was() {
    let (training, validation) = (dataset(), dataset());
    let mut ruined = 0;
    for weight_decay in [1e9, 1e12, 1e15] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        let mut config = TrainingConfig { schedule: Schedule::Constant, warmup_ratio: 0.0, ..settings() };
        config.optimizer.weight_decay = weight_decay;
        (config.checkpoint_steps, config.keep_checkpoints, config.validation.steps) = (1, 1, 0);
        let Err(error) = run(&out, &config, false, 0) else { continue };
        let Error::NotFinite { last_checkpoint, .. } = error else { panic!("{error:?}") };
        let Some(last_checkpoint) = last_checkpoint else { continue };
        assert!(!out.join("adapter").exists() && last_checkpoint == newest(&out));
        let mut model = Golden::open("gqa").model();
        let mut trainer =
            Trainer::resume(&mut model, job(&out, &config, true, &training, &validation).unwrap()).unwrap();
        assert!(trainer.take_warnings().is_empty());
        assert!(trainer.validate().unwrap().unwrap().validation_loss.is_finite());
        ruined += 1;
    }
    assert!(ruined > 0, "no decay ruined a run that had a checkpoint");
}

/// A setting is refused on a device or for a run that does not support it.
#[test]
fn settings_do_what_they_say_or_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut never = TrainingConfig { max_steps: 2, ..settings() };
    never.validation = foehn_finetune::Validation { steps: 0, patience: 0, ..never.validation };
    assert_eq!(run(&folder.path().join("never"), &never, false, 0).unwrap().best_validation_loss, None);
    let endless = TrainingConfig { epochs: 1_000_000, batch_size: 1, ..settings() };
    let (training, validation) = (dataset(), dataset());
    let named = (0..200).map(|n| (n.to_string(), Sample::new(vec![1, 5, EOS], vec![false, true, true]).unwrap()));
    let many = Dataset::from_samples(named.collect(), &[EOS], 97).unwrap();
    let mut model = Golden::open("gqa").model();
    let run = job(&folder.path().join("endless"), &endless, false, &many, &validation).unwrap();
    assert!(matches!(Trainer::new(&mut model, run), Err(Error::Setting { field: "epochs", .. })));
    for (name, device) in devices().into_iter().filter(|(name, _)| *name != "flex") {
        let mut model = Golden::on("gqa", device).model();
        let recompute = TrainingConfig { recompute: true, ..settings() };
        let run = job(&folder.path().join(name), &recompute, false, &training, &validation).unwrap();
        assert!(matches!(Trainer::new(&mut model, run), Err(Error::Setting { field: "recompute", .. })), "{name}");
        let rounded = TrainingConfig { compute: Compute::Bf16, ..settings() };
        let run = job(&folder.path().join(format!("{name}-bf16")), &rounded, false, &training, &validation).unwrap();
        assert!(matches!(Trainer::new(&mut model, run), Err(Error::Setting { field: "compute", .. })), "{name}");
    }
}

/// For every flipped bit of the newest checkpoint, and for a missing and a truncated file, the previous checkpoint is
/// used, with a warning.
#[test]
fn a_damaged_checkpoint_is_passed_over_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, out) = (folder.path().join("whole"), folder.path().join("run"));
    run(&whole, &settings(), false, 0).unwrap();
    run(&out, &settings(), false, 7).unwrap();
    let expected = artefacts(&whole)["adapter/adapter_model.safetensors"].clone();
    let (training, validation, config) = (dataset(), dataset(), settings());
    let last = newest(&out);
    assert!(last.ends_with("step-00000007"));
    let files: Vec<_> = artefacts(&last).into_iter().collect();
    assert!(files.len() >= 5, "adapter, config, manifest, moments, state");
    let mut model = Golden::open("gqa").model();
    let mut starts_at_six = |what: &str| {
        let job = job(&out, &config, true, &training, &validation).unwrap();
        let mut trainer = Trainer::resume(&mut model, job).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(trainer.steps(), 6, "{what}");
        let said = trainer.take_warnings().iter().map(ToString::to_string).collect::<String>();
        assert!(said.contains("step-00000007") && said.contains("damaged"), "{what}: {said}");
    };
    for (index, (name, bytes)) in files.iter().enumerate() {
        let path = last.join(name);
        for round in 0..12 {
            let mut flipped = bytes.clone();
            let place = (index * 7919 + round * 104_729) % flipped.len();
            flipped[place] ^= 1 << (round % 8);
            fs::write(&path, &flipped).unwrap();
            starts_at_six(&format!("{name}, byte {place}"));
        }
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        starts_at_six(&format!("{name}, cut"));
        fs::remove_file(&path).unwrap();
        starts_at_six(&format!("{name}, missing"));
        fs::write(&path, bytes).unwrap();
    }
    fs::rename(&last, last.with_file_name("step-00000008")).unwrap();
    let job = job(&out, &config, true, &training, &validation).unwrap();
    let mut trainer = Trainer::resume(&mut model, job).unwrap();
    assert!(trainer.steps() == 6 && trainer.take_warnings()[0].to_string().contains("step-00000008"));
    drop(trainer);
    run(&out, &config, true, 0).unwrap();
    assert!(artefacts(&out)["adapter/adapter_model.safetensors"] == expected);
}

/// The last two checkpoints are kept. Nothing that is not a checkpoint's folder is changed or used as one.
#[test]
fn only_checkpoints_are_removed_and_resumed_from() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    run(&out, &settings(), false, 4).unwrap();
    let foreign = ["step-00000099x", "step-9", "step-notes", "step-000000005"];
    for name in foreign {
        fs::create_dir(out.join("checkpoints").join(name)).unwrap();
    }
    fs::write(out.join("checkpoints/step-99999998"), "a file").unwrap();
    fs::create_dir(out.join("checkpoints/.partial-abc")).unwrap();
    fs::write(out.join(".tmpabc"), "left over").unwrap();
    run(&out, &TrainingConfig { keep_checkpoints: 3, validation: settings().validation, ..settings() }, true, 0)
        .unwrap();
    let mut found: Vec<String> = fs::read_dir(out.join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !foreign.contains(&name.as_str()) && name != "step-99999998")
        .collect();
    found.sort();
    assert!(found.ends_with(&["step-00000006".into(), "step-00000009".into(), "step-00000012".into()]), "{found:?}");
    assert!(!found.iter().any(|name| name.starts_with(".partial-") || name == "step-00000003"), "{found:?}");
    assert!(foreign.iter().all(|name| out.join("checkpoints").join(name).exists()));
    assert!(out.join("checkpoints/step-99999998").exists() && !out.join(".tmpabc").exists());
}

#[test]
fn one_run_at_a_time_works_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let first = Folder::begin(&out).unwrap();
    match Folder::begin(&out) {
        Err(Error::Locked { path }) => assert_eq!(path, out),
        other => panic!("{other:?}"),
    }
    drop(first);
    Folder::begin(&out).unwrap();
    let absent = folder.path().join("absent");
    assert!(matches!(Folder::resume(&absent), Err(Error::NoCheckpoint { .. })) && !absent.exists());
}

/// Settings that do not affect the result may change. A change that affects it is reported and recorded in the
/// manifest.
#[test]
fn a_resume_asks_for_the_same_trajectory_not_the_same_text() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, out) = (folder.path().join("whole"), folder.path().join("run"));
    run(&whole, &settings(), false, 0).unwrap();
    run(&out, &settings(), false, 5).unwrap();
    let renamed = TrainingConfig { checkpoint_steps: 5, ..settings() };
    let (_, warnings) = run_warned(&out, &renamed, true, 8).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    let (_, warnings) = run_warned(&out, &TrainingConfig { recompute: true, ..settings() }, true, 0).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    let name = "adapter/adapter_model.safetensors";
    assert!(artefacts(&out)[name] == artefacts(&whole)[name]);

    let longer = TrainingConfig { epochs: 4, micro_batch_rows: 20, ..settings() };
    let (outcome, warnings) = run_warned(&out, &longer, true, 0).unwrap();
    assert_eq!(outcome.steps, 16);
    let said = warnings.join("\n");
    assert!(said.contains("`epochs` 3 to 4") && said.contains("`micro_batch_rows` 1024 to 20"), "{said}");
    let changes = Adapter::load(&outcome.adapter.unwrap()).unwrap().manifest.unwrap().changes;
    assert!(changes.len() == 2 && changes.iter().all(|change| change.starts_with("from step 13: ")), "{changes:?}");
}

/// Before its first update, a run that starts from an adapter has the loss of that adapter.
#[test]
fn a_run_starts_from_an_adapter_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let first = run(&folder.path().join("first"), &settings(), false, 0).unwrap().adapter.unwrap();
    let (training, validation) = (dataset(), dataset());
    let given = Adapter::load(&first).unwrap();
    let mut config = TrainingConfig { init_adapter: Some(first), lora: LoraConfig::default(), ..settings() };
    let mut model = Golden::open("gqa").model();
    let out = folder.path().join("second");
    let trainer = Trainer::new(&mut model, job(&out, &config, false, &training, &validation).unwrap()).unwrap();
    let taken = foehn_lora::detach(&mut trainer.model().clone(), &given.config).unwrap();
    assert!(taken.modules == given.modules && trainer.steps() == 0);
    drop(trainer);
    run(&out, &config, false, 5).unwrap();
    let outcome = run(&out, &config, true, 0).unwrap();
    assert_eq!(Adapter::load(&outcome.adapter.unwrap()).unwrap().config.r, 2);
    config.lora.r = 3;
    let refused = run(&folder.path().join("third"), &config, false, 0);
    assert!(
        matches!(&refused, Err(Error::InitAdapter { found, expected, .. }) if (found.as_str(), expected.as_str()) == ("2", "3")),
        "{refused:?}"
    );
}

/// The run does not depend on the metrics: lines that cannot be read and a file that cannot be written give only
/// warnings.
#[cfg(target_os = "linux")]
#[test]
fn metrics_that_cannot_be_written_are_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    run(&out, &settings(), false, 5).unwrap();
    let path = out.join("metrics.jsonl");
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend(b"\xff\xfe no line of ours\n{\"step\":");
    fs::write(&path, bytes).unwrap();
    run(&out, &settings(), true, 7).unwrap();
    let lines = fs::read_to_string(&path).unwrap();
    assert!(lines.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{lines}");

    let full = folder.path().join("full");
    fs::create_dir(&full).unwrap();
    std::os::unix::fs::symlink("/dev/full", full.join("metrics.jsonl")).unwrap();
    let (outcome, warnings) = run_warned(&full, &settings(), false, 0).unwrap();
    assert!(
        outcome.adapter.is_some() && warnings.iter().any(|warning| warning.contains("metrics.jsonl")),
        "{warnings:?}"
    );
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
    let mut config = TrainingConfig { learning_rate: 0.5, epochs: 12, ..settings() };
    config.validation.steps = 1;
    config.validation.patience = 2;
    let out = folder.path().join("run");
    let outcome = run(&out, &config, false, 0).unwrap();
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

/// SmolLM2's tokenizer and template, and a model with its vocabulary.
fn text_side() -> (Tokenizer, ChatTemplate, MistralConfig) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizers/smollm2");
    let tokenizer = Tokenizer::open(&folder).unwrap();
    let template = ChatTemplate::open(&folder, &tokenizer).unwrap();
    let config = serde_json::json!({
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 49152, "tie_word_embeddings": true,
        "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2,
    });
    let config = MistralConfig::from_json(&config.to_string()).unwrap();
    (tokenizer, template, config)
}

/// A long conversation is refused, left out, or shortened at a turn: what is left is what the template makes of the
/// instructions and the last turns, whole.
#[test]
fn a_long_conversation_is_refused_dropped_or_truncated_at_a_turn() {
    let (tokenizer, template, config) = text_side();
    let turns = |from: usize| {
        let turn = |n: usize| [Message::user(format!("Question {n}?")), Message::assistant(format!("Answer {n}."))];
        let mut messages = vec![Message::system("Be brief.")];
        messages.extend((from..5).flat_map(turn));
        messages
    };
    let render = |messages: &[Message]| template.sample(&tokenizer, messages).unwrap();
    let named = |id: &str, messages: Vec<Message>| Record { id: Some(id.into()), ..Record::new(messages) };
    let hopeless = Record::pair("word ".repeat(300), "Yes.");
    let records = [named("long", turns(0)), named("short", turns(3)), Record { id: Some("big".into()), ..hopeless }];
    let lengths: Vec<usize> = (0..5).map(|from| render(&turns(from)).len()).collect();
    // The limit is between that of the last three turns and that of the last two, and once just at the former.
    for (limit, from) in [(lengths[2], 2), (lengths[2] - 1, 3), (lengths[4], 4)] {
        let settings = |too_long| TrainingConfig { max_length: limit, too_long, ..TrainingConfig::default() };
        let dataset = |records: &[Record], too_long| {
            Dataset::for_training(&settings(too_long), records, &template, &tokenizer, &config)
        };
        let refused = dataset(&records, TooLong::Error).unwrap_err();
        assert!(matches!(&refused, Error::TooLong { record, limit: found, .. } if record == "long" && *found == limit));
        assert!(refused.to_string().contains("truncate"), "{refused}");
        let truncated = dataset(&records, TooLong::Truncate).unwrap();
        assert_eq!(truncated.samples()[0], render(&turns(from)), "{limit}");
        assert_eq!(truncated.len(), 2);
        let fitting = truncated.fitting();
        assert_eq!(fitting.dropped.first, ["big"]);
        assert!(fitting.truncated.first.contains(&"long".to_owned()), "{fitting:?}");
        assert!(fitting.to_string().contains(&format!("1 record of more than {limit} tokens left out (big)")));
        if limit >= lengths[3] {
            let dropped = dataset(&records, TooLong::Drop).unwrap();
            assert_eq!((dropped.samples(), dropped.fitting().dropped.count), (&[render(&turns(3))][..], 2));
        }
        let nothing = dataset(&records[2..], TooLong::Drop).unwrap_err();
        assert!(matches!(&nothing, Error::NoData { reason } if reason.contains("big")), "{nothing}");
    }
    // An answer with the weight 0 is no reason to keep a turn: nothing would be trained.
    let mut given = turns(0);
    given.last_mut().unwrap().weight = Some(0);
    let settings = TrainingConfig { max_length: lengths[4], too_long: TooLong::Truncate, ..TrainingConfig::default() };
    let records = [named("given", given), named("short", turns(4))];
    let found = Dataset::for_training(&settings, &records, &template, &tokenizer, &config).unwrap();
    assert_eq!((found.len(), found.fitting().dropped.first.as_slice()), (1, &["given".to_owned()][..]));

    // Of a pair, both answers must fit: they are shortened at the same turn.
    let pair = |rejected: &str| Record { rejected: Some(rejected.into()), ..Record::new(turns(0)) };
    let settings = TrainingConfig { objective: Objective::Dpo, max_length: lengths[3], ..settings };
    let records = [pair("Another answer, which is a little longer."), pair(&"word ".repeat(300))];
    let found = Dataset::for_training(&settings, &records, &template, &tokenizer, &config).unwrap();
    assert_eq!((found.len(), found.fitting().dropped.first.as_slice()), (1, &["2".to_owned()][..]));
    let [chosen, rejected] = found.of_record(0) else { panic!("two answers") };
    let prompt = template.prompt(&tokenizer, &turns(4)[..2]).unwrap();
    assert!([chosen, rejected].iter().all(|sample| sample.input_ids().starts_with(&prompt)));
}

/// A long text is cut, a short one is not; the last piece of each ends with the end token, and conversations stand beside
/// them.
#[test]
fn plain_text_is_cut_into_pieces_beside_conversations() {
    let (tokenizer, template, config) = text_side();
    let text = |text: &str| Record::new(vec![Message::assistant(text)]);
    let long = "The ship sailed on. ".repeat(20);
    let records = [text(&long), Record::pair("Why?", "Because."), text("Once.")];
    let chat = template.sample(&tokenizer, &records[1].messages).unwrap();
    let settings = TrainingConfig { max_length: chat.len(), ..TrainingConfig::default() };
    let found = Dataset::for_training(&settings, &records, &template, &tokenizer, &config).unwrap();
    let pieces = Sample::of_text(&tokenizer, &long, chat.len()).unwrap();
    let count = pieces.len();
    assert!(count > 2 && found.samples()[..count] == pieces && found.samples()[count] == chat);
    assert_eq!((found.len(), found.fitting().cut.count, found.fitting().pieces), (count + 2, 1, count));
    for last in [&pieces[count - 1], &found.samples()[count + 1]] {
        assert_eq!((last.input_ids().last(), last.loss_mask().last()), (Some(&EOS), Some(&true)));
    }
    // A text that is not to be trained teaches nothing.
    let mut given = text("Once.");
    given.messages[0].weight = Some(0);
    let refused = Dataset::for_training(&settings, &[given], &template, &tokenizer, &config).unwrap_err();
    assert!(matches!(refused, Error::Record { .. }), "{refused}");
}

/// A run over weighted records resumes to the same bytes, and only with the same weights.
#[test]
fn a_weighted_run_resumes_to_the_same_bytes_and_only_with_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let config = TrainingConfig { validation: Default::default(), ..settings() };
    let run = |out: &Path, weights: [f64; 2], resume: bool, stop_after: usize| {
        let of_records: Vec<f64> = (0..20).map(|n| if n < 8 { weights[0] } else { weights[1] }).collect();
        let (training, validation) = (dataset().weighted(&of_records).unwrap(), dataset());
        let data_weights = vec![(8, weights[0]), (12, weights[1])];
        let mut run = job(out, &config, resume, &training, &validation)?;
        run.manifest.data_weights = data_weights;
        train(&mut Golden::open("gqa").model(), run, &mut |event| match event {
            Event::Step(metrics) if metrics.step == stop_after => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
    };
    let [whole, cut] = ["whole", "cut"].map(|name| folder.path().join(name));
    // Epochs of 8 · 2 + 12 · 0.25 = 19 samples, in steps of 6.
    assert_eq!(run(&whole, [2.0, 0.25], false, 0).unwrap().steps, 3 * 4);
    run(&cut, [2.0, 0.25], false, 5).unwrap();
    let refused = run(&cut, [2.0, 0.5], true, 0).unwrap_err();
    assert!(matches!(&refused, Error::ResumeMismatch { key, .. } if key.contains("weights")), "{refused}");
    run(&cut, [2.0, 0.25], true, 0).unwrap();
    let adapter = |out: &Path| artefacts(out)["adapter/adapter_model.safetensors"].clone();
    assert!(adapter(&whole) == adapter(&cut));
    assert!(matches!(dataset().weighted(&[0.0; 20]), Err(Error::Setting { field: "data.weight", .. })));
}
