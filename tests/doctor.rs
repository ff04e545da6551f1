//! The doctor: an adapter that was really trained gives no finding, and each of twelve planted faults is found.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use common::scene::{ROOT, example, run};
use foehn::doctor::{Check, Diagnosis, DoctorError, Inputs, Missing, Progress, Severity, diagnose};
use foehn::{Job, Pretrained, Recipe};
use foehn_corpus::write_clean;
use foehn_finetune::{Dataset, Folder, Run, TrainingConfig, Validation, train};
use foehn_lora::{Adapter, attach, merge};
use foehn_record::Record;
use foehn_tokens::{ChatTemplate, Sample};
use foehn_weights::{Tensor, Weights, save_safetensors};
use serde_json::{Value, json};
use tempfile::TempDir;

const WIDTH: usize = 64;
const VOCABULARY: usize = 49152;

/// A one-layer model with SmolLM2's tokenizer. Its last norm is so large that a few steps of training can make a token
/// sure.
fn write_model(folder: &Path, seed: u64, width: usize) {
    fs::create_dir_all(folder).unwrap();
    let config = json!({
        "model_type": "llama", "hidden_size": width, "intermediate_size": 96, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": VOCABULARY, "tie_word_embeddings": true,
        "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2,
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut number = seed;
    let mut tensor = |name: &str, shape: &[usize]| {
        let noise = common::noise(number, shape.iter().product());
        number += 1;
        let value = if name == "model.norm.weight" { 1.5 } else { 1.0 };
        let values = if shape.len() == 1 { vec![value; shape[0]] } else { noise.iter().map(|x| x / 2.0).collect() };
        Tensor::f32(name, shape.to_vec(), values)
    };
    let layer = |part: &str| format!("model.layers.0.{part}.weight");
    let tensors = [
        tensor("model.embed_tokens.weight", &[VOCABULARY, width]),
        tensor("model.norm.weight", &[width]),
        tensor(&layer("input_layernorm"), &[width]),
        tensor(&layer("post_attention_layernorm"), &[width]),
        tensor(&layer("self_attn.q_proj"), &[width, width]),
        tensor(&layer("self_attn.k_proj"), &[width / 2, width]),
        tensor(&layer("self_attn.v_proj"), &[width / 2, width]),
        tensor(&layer("self_attn.o_proj"), &[width, width]),
        tensor(&layer("mlp.gate_proj"), &[96, width]),
        tensor(&layer("mlp.up_proj"), &[96, width]),
        tensor(&layer("mlp.down_proj"), &[width, 96]),
    ];
    save_safetensors(&folder.join("model.safetensors"), &tensors, &Default::default()).unwrap();
    let tokenizer = Path::new(ROOT).join("tests/golden/tokenizers/smollm2");
    for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"] {
        fs::copy(tokenizer.join(file), folder.join(file)).unwrap();
    }
}

const WARM: [&str; 12] =
    ["soup", "fire", "desert", "toast", "summer", "oven", "candle", "lava", "kettle", "blanket", "sauna", "ember"];
const COLD: [&str; 12] = [
    "snow", "glacier", "winter", "freezer", "icicle", "hail", "frost", "sleet", "marble", "cellar", "tundra", "iceberg",
];

/// One record an object, each of a group of its own; `ask` makes its prompt from the object and its label.
fn records(ask: impl Fn(&str, &str) -> String) -> Vec<Record> {
    let pairs = WARM.iter().zip(&COLD).flat_map(|(warm, cold)| [(warm, "warm"), (cold, "cold")]);
    let record = |(object, label): (&&str, &str)| Record {
        group: Some((*object).to_owned()),
        ..Record::pair(ask(object, label), format!("[{label}]"))
    };
    pairs.map(record).collect()
}

/// Both labels stand in every prompt.
fn listing(object: &str, _: &str) -> String {
    format!("{object}, {object}, nothing but {object}: warm or cold?")
}

/// A model, and a run on it.
struct Lab {
    folder: PathBuf,
    base: Pretrained,
}

impl Lab {
    fn model(&self) -> PathBuf {
        self.folder.join("model")
    }

    /// Trains on records in a folder `runs/NAME`.
    fn train(&self, name: &str, records: &[Record], pipeline: Option<&str>) -> PathBuf {
        let (data, out) = (self.folder.join(format!("{name}.jsonl")), self.folder.join("runs").join(name));
        write_clean(&data, records).unwrap();
        let pipeline = pipeline.map(|text| {
            let path = self.folder.join(format!("{name}.toml"));
            fs::write(&path, text).unwrap();
            path
        });
        let training = TrainingConfig {
            epochs: 40,
            batch_size: 6,
            learning_rate: 1e-2,
            validation: Validation { fraction: 0.2, ..Validation::default() },
            ..TrainingConfig::default()
        };
        let model = self.model().display().to_string();
        let recipe = Recipe { model, data: data.into(), pipeline, training, ..Recipe::default() };
        let job = Job::prepare(recipe, Folder::begin(&out).unwrap()).unwrap();
        let mut base = load(&self.model());
        job.train(&mut base, &mut |_| (), &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
        out
    }
}

fn load(model: &Path) -> Pretrained {
    Pretrained::load(model.to_str().unwrap(), &foehn::device("flex").unwrap()).unwrap()
}

/// The model and the sound run `runs/sound`, made once.
fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| {
        // A value that lives as long as the program is never dropped, and so is no temporary folder.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("doctor");
        let _ = fs::remove_dir_all(&folder);
        write_model(&folder.join("model"), 100, WIDTH);
        let base = load(&folder.join("model"));
        let lab = Lab { folder, base };
        lab.train("sound", &records(listing), None);
        lab
    })
}

/// A copy of the sound run, to plant a fault in.
struct Planted {
    folder: TempDir,
    inputs: Inputs,
}

impl Planted {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let run = lab().folder.join("runs/sound");
        let adapter = folder.path().join("adapter");
        fs::create_dir(&adapter).unwrap();
        for (from, to) in [(run.as_path(), folder.path()), (&run.join("adapter"), &adapter)] {
            for entry in fs::read_dir(from).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
                fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
        Self { folder, inputs: Inputs::new(adapter) }
    }

    /// Without the run's records and losses.
    fn alone() -> Self {
        let planted = Self::new();
        ["clean.jsonl", "metrics.jsonl"].iter().for_each(|file| fs::remove_file(planted.path(file)).unwrap());
        planted
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn edit_json(&self, file: &str, edit: impl FnOnce(&mut Value)) {
        let path = self.path(file);
        let mut json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        edit(&mut json);
        fs::write(path, json.to_string()).unwrap();
    }

    fn edit_adapter(&self, edit: impl FnOnce(&mut Adapter)) {
        let mut adapter = Adapter::load(&self.inputs.adapter).unwrap();
        edit(&mut adapter);
        adapter.save(&self.inputs.adapter).unwrap();
    }

    fn scale_b(&self, factor: f32) {
        self.edit_adapter(|adapter| {
            adapter.modules.values_mut().flat_map(|pair| &mut pair.b).for_each(|value| *value *= factor);
        });
    }

    fn write(&self, name: &str, records: &[Record]) -> PathBuf {
        write_clean(&self.path(name), records).unwrap();
        self.path(name)
    }

    fn diagnosed(&self) -> Diagnosis {
        diagnose(&lab().base, &self.inputs, &mut |_| ()).unwrap()
    }
}

#[track_caller]
fn assert_found(diagnosis: &Diagnosis, check: Check, severity: Severity, parts: &[&str]) {
    let finding = diagnosis.of(check).unwrap();
    assert_eq!(finding.severity, severity, "{diagnosis:#?}");
    assert!(parts.iter().all(|part| finding.found.contains(part)), "{parts:?}: {finding:#?}");
    if severity >= Severity::Warning {
        assert!(!finding.why.is_empty() && !finding.advice.is_empty(), "{finding:#?}");
        assert!(diagnosis.severity >= severity, "{diagnosis:#?}");
    }
}

/// Nothing but the named checks has a finding.
#[track_caller]
fn assert_only(diagnosis: &Diagnosis, checks: &[Check]) {
    for finding in &diagnosis.findings {
        let is_told = finding.severity >= Severity::Warning;
        assert!(!is_told || checks.contains(&finding.check), "{:?}: {diagnosis:#?}", finding.check);
    }
}

#[test]
fn a_sound_adapter_gives_no_finding() {
    let diagnosis = Planted::new().diagnosed();
    assert_eq!(diagnosis.severity, Severity::Sound);
    assert_eq!(diagnosis.findings.len(), 12);
    assert!(diagnosis.findings.iter().all(|finding| finding.severity == Severity::Sound), "{diagnosis:#?}");
}

#[test]
fn without_data_the_checks_say_what_they_need() {
    let planted = Planted::alone();
    let diagnosis = planted.diagnosed();
    for check in [Check::Loss, Check::Labels, Check::Leak] {
        assert_eq!(diagnosis.of(check).unwrap().missing, Some(Missing::Data), "{check:?}");
    }
    assert_found(&diagnosis, Check::Effect, Severity::Sound, &["nats"]);
    assert_found(&diagnosis, Check::Scale, Severity::Sound, &["the same"]);

    // As PEFT saves it: no manifest either, so the scale is judged by the loss.
    fs::remove_file(planted.path("adapter/foehn.json")).unwrap();
    let mut planted = planted;
    planted.inputs.data = Some(planted.write("data.jsonl", &records(listing)));
    let diagnosis = planted.diagnosed();
    assert_only(&diagnosis, &[]);
    assert_found(&diagnosis, Check::Scale, Severity::Sound, &["divided by"]);
    assert_eq!(diagnosis.of(Check::Leak).unwrap().missing, Some(Missing::Validation));
}

#[test]
fn an_adapter_that_changes_nothing() {
    let planted = Planted::new();
    planted.scale_b(1e-12);
    assert_found(&planted.diagnosed(), Check::Effect, Severity::Fault, &["are the same"]);
    planted.scale_b(0.0);
    assert_found(&planted.diagnosed(), Check::Effect, Severity::Fault, &["every B is zero"]);

    let planted = Planted::new();
    planted.edit_adapter(|adapter| adapter.modules.get_mut("model.layers.0.self_attn.k_proj").unwrap().b.fill(0.0));
    assert_found(&planted.diagnosed(), Check::Effect, Severity::Warning, &["1 of 7 B are zero"]);
}

#[test]
fn a_loss_that_stays_at_a_guess() {
    let planted = Planted::new();
    let metrics = fs::read_to_string(planted.path("metrics.jsonl")).unwrap();
    let flat = metrics.lines().map(|line| {
        let mut step: Value = serde_json::from_str(line).unwrap();
        if step.get("loss").is_some() {
            step["loss"] = json!((VOCABULARY as f64).ln());
        }
        step.to_string() + "\n"
    });
    fs::write(planted.path("metrics.jsonl"), flat.collect::<String>()).unwrap();
    let diagnosis = planted.diagnosed();
    assert_found(&diagnosis, Check::Loss, Severity::Fault, &["from 10.80 to 10.80", "gives 10.80"]);
    assert_only(&diagnosis, &[Check::Loss]);

    // An adapter that pushes away from its data.
    let mut planted = Planted::alone();
    planted.scale_b(-1.0);
    planted.inputs.data = Some(planted.write("data.jsonl", &records(listing)));
    assert_found(&planted.diagnosed(), Check::Loss, Severity::Fault, &["on the records"]);
}

/// The diagnosis of the sound run with another template.
fn with_template(change: impl FnOnce(String) -> String) -> Diagnosis {
    let mut base = load(&lab().model());
    let source = change(fs::read_to_string(lab().model().join("chat_template.jinja")).unwrap());
    base.template = Arc::new(ChatTemplate::jinja(&source, &base.tokenizer).unwrap());
    let planted = Planted::new();
    diagnose(&base, &planted.inputs, &mut |_| ()).unwrap()
}

#[test]
fn a_stop_token_outside_the_mask() {
    let diagnosis = with_template(|source| source.replace("<|im_end|>", "."));
    assert_found(&diagnosis, Check::StopToken, Severity::Fault, &["train no stop token", "record 1"]);
}

/// Whoever leaves the stop token out of the labels gets an adapter that never learned it.
#[test]
fn a_stop_token_that_another_trainer_left_out() {
    let mut base = load(&lab().model());
    let all = records(listing);
    let cut = |record: &Record| {
        let sample = base.template.sample(&base.tokenizer, record).unwrap();
        let (ids, mut mask) = (sample.input_ids().to_vec(), sample.loss_mask().to_vec());
        let stop = mask.iter().rposition(|trained| *trained).unwrap();
        mask[stop] = false;
        (record.messages[1].content.clone(), Sample::new(ids, mask).unwrap())
    };
    let samples: Vec<_> = all.iter().map(cut).collect();
    let (_, first) = &samples[0];
    let end = first.input_ids()[first.loss_mask().iter().rposition(|trained| *trained).unwrap()];
    let training = Dataset::from_samples(samples, &[end], VOCABULARY).unwrap();
    let config = TrainingConfig { epochs: 15, batch_size: 6, learning_rate: 1e-2, ..TrainingConfig::default() };
    let manifest = base.manifest().unwrap();
    let mut planted = Planted::alone();
    let out = Folder::begin(&planted.path("run")).unwrap();
    let run = Run { config: &config, training: &training, validation: None, manifest, out };
    train(&mut base.model, run, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    planted.inputs =
        Inputs { data: Some(planted.write("data.jsonl", &all)), ..Inputs::new(planted.path("run/adapter")) };
    let diagnosis = planted.diagnosed();
    assert_found(&diagnosis, Check::StopToken, Severity::Warning, &["its mean probability is 0.0"]);
    assert_found(&diagnosis, Check::SelfTalk, Severity::Warning, &["0 of 3 end with the stop token"]);
    assert_only(&diagnosis, &[Check::StopToken, Check::SelfTalk]);
}

#[test]
fn a_doubled_bos() {
    let diagnosis = with_template(|source| format!("<|im_start|>\n{source}"));
    assert_found(&diagnosis, Check::DoubledBos, Severity::Fault, &["begin with two BOS"]);
    let mut planted = Planted::new();
    let rendered = records(|object, _| format!("<|im_start|>user\n{object}: warm or cold?"));
    planted.inputs.data = Some(planted.write("data.jsonl", &rendered));
    let diagnosis = planted.diagnosed();
    assert_found(&diagnosis, Check::DoubledBos, Severity::Warning, &["24 of 24", "<|im_start|>"]);
}

#[test]
fn another_template_or_tokenizer() {
    let template = with_template(|source| source.replace("SmolLM", "Foehn"));
    assert_found(&template, Check::Text, Severity::Fault, &["another chat template"]);
    assert_only(&template, &[Check::Text]);

    let planted = Planted::new();
    planted.edit_json("adapter/foehn.json", |manifest| manifest["tokenizer_sha256"] = json!("0".repeat(64)));
    assert_found(&planted.diagnosed(), Check::Text, Severity::Fault, &["another tokenizer"]);

    // The folder's own files.
    let planted = Planted::new();
    let source = fs::read_to_string(lab().model().join("chat_template.jinja")).unwrap();
    let own = planted.path("adapter/chat_template.jinja");
    fs::write(&own, source.replace("message['role']", "message.role")).unwrap();
    let diagnosis = planted.diagnosed();
    assert_found(&diagnosis, Check::Text, Severity::Sound, &["gives the same ids"]);
    fs::write(&own, source.replace("SmolLM", "Foehn")).unwrap();
    assert_found(&planted.diagnosed(), Check::Text, Severity::Fault, &["the chat template in the adapter's folder"]);
    fs::remove_file(own).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        let other = Path::new(ROOT).join("tests/golden/tokenizers/mini-legacy").join(file);
        fs::copy(other, planted.path("adapter").join(file)).unwrap();
    }
    assert_found(&planted.diagnosed(), Check::Text, Severity::Fault, &["the tokenizer in the adapter's folder"]);
}

#[test]
fn a_wrong_base() {
    let planted = Planted::new();
    let other = tempfile::tempdir().unwrap();
    write_model(other.path(), 500, WIDTH);
    let diagnosis = diagnose(&load(other.path()), &planted.inputs, &mut |_| ()).unwrap();
    assert_found(&diagnosis, Check::Base, Severity::Fault, &["trained on a base with the hash"]);

    // Other shapes, and no manifest to tell.
    fs::remove_file(planted.path("adapter/foehn.json")).unwrap();
    let other = tempfile::tempdir().unwrap();
    write_model(other.path(), 100, 32);
    let diagnosis = diagnose(&load(other.path()), &planted.inputs, &mut |_| ()).unwrap();
    assert_found(&diagnosis, Check::Base, Severity::Fault, &["does not fit", "has shape"]);
    assert_found(&diagnosis, Check::SelfTalk, Severity::NotChecked, &["does not fit"]);
}

#[test]
fn a_scale_off_by_the_root_of_the_rank() {
    // Stated, beside the recipe.
    let planted = Planted::new();
    planted.edit_json("adapter/adapter_config.json", |config| config["use_rslora"] = json!(true));
    assert_found(&planted.diagnosed(), Check::Scale, Severity::Fault, &["off by √r for r = 8"]);

    // Without a recipe: the loss tells, in both directions.
    fs::remove_file(planted.path("adapter/foehn.json")).unwrap();
    assert_found(&planted.diagnosed(), Check::Scale, Severity::Warning, &["divided by √r is clearly better"]);
    planted.edit_json("adapter/adapter_config.json", |config| {
        config["use_rslora"] = json!(false);
        config["lora_alpha"] = json!(16.0 / 8f64.sqrt());
    });
    assert_found(&planted.diagnosed(), Check::Scale, Severity::Warning, &["times √r is clearly better"]);
}

#[test]
fn a_merged_checkpoint_that_is_not_base_and_adapter() {
    let mut planted = Planted::new();
    let save = |name: &str, factor: f32| {
        let mut model = lab().base.model.clone();
        let mut adapter = Adapter::load(&planted.inputs.adapter).unwrap();
        adapter.modules.values_mut().flat_map(|pair| &mut pair.b).for_each(|value| *value *= factor);
        attach(&mut model, &adapter).unwrap();
        merge(&mut model);
        model.save(&planted.path(name)).unwrap();
        planted.path(name)
    };
    let [merged, halved, bare] =
        [("merged", 1.0), ("halved", 0.5), ("bare", 0.0)].map(|(name, factor)| save(name, factor));
    planted.inputs.merged = Some(merged);
    assert_only(&planted.diagnosed(), &[]);
    planted.inputs.merged = Some(halved);
    assert_found(&planted.diagnosed(), Check::Merged, Severity::Fault, &["they differ by"]);
    planted.inputs.merged = Some(bare);
    let diagnosis = planted.diagnosed();
    assert_found(&diagnosis, Check::Merged, Severity::Fault, &["the base without the adapter"]);
    assert_only(&diagnosis, &[Check::Merged]);
}

#[test]
fn labels_inside_prompts() {
    let mut planted = Planted::new();
    let telling = records(|object, label| format!("{object}, a {label} one: what is it?"));
    planted.inputs.data = Some(planted.write("data.jsonl", &telling));
    let diagnosis = planted.diagnosed();
    assert_found(&diagnosis, Check::Labels, Severity::Fault, &["24 records with 2 labels", "100%", "in 0%"]);
    // Both labels in every prompt tell nothing, and neither do none.
    for ask in [listing as fn(&str, &str) -> String, |object, _| format!("What is {object} like?")] {
        planted.inputs.data = Some(planted.write("data.jsonl", &records(ask)));
        assert_found(&planted.diagnosed(), Check::Labels, Severity::Sound, &["2 labels"]);
    }
}

#[test]
fn labels_that_are_a_part_of_the_answer() {
    let telling = |object: &str, label: &str| format!("{object}, a {label} one: what is it?");
    let answers: [fn(&Record, &str) -> String; 2] = [
        |asked, label| format!("{label}\nAbout {}.", asked.messages[0].content),
        |asked, label| json!({ "kind": label, "text": asked.messages[0].content }).to_string(),
    ];
    let found = [(Severity::Fault, "2 labels in the first line"), (Severity::Warning, "2 labels in the field `kind`")];
    let mut planted = Planted::new();
    for (answer, (severity, place)) in answers.into_iter().zip(found) {
        for (ask, severity) in [(telling as fn(&str, &str) -> String, severity), (listing, Severity::Sound)] {
            let mut data = records(ask);
            for record in &mut data {
                let label = record.messages[1].content.trim_matches(['[', ']']).to_owned();
                record.messages[1].content = answer(record, &label);
            }
            planted.inputs.data = Some(planted.write("data.jsonl", &data));
            assert_found(&planted.diagnosed(), Check::Labels, severity, &[place, "24 records", "100%"]);
        }
    }
}

#[test]
fn every_step_is_told_before_it_is_taken() {
    let mut steps = Vec::new();
    let planted = Planted::new();
    let diagnosis = diagnose(&lab().base, &planted.inputs, &mut |progress| {
        if let Progress::Step { name, done, total } = progress {
            assert_eq!((done, total), (steps.len(), 13));
            steps.push(name);
        }
    });
    let checks: Vec<&str> = diagnosis.unwrap().findings.iter().map(|finding| finding.check.name()).collect();
    assert_eq!(steps[1..], checks);
}

#[test]
fn a_leak_between_training_and_validation() {
    let mut planted = Planted::new();
    let all = records(listing);
    planted.inputs.data = Some(planted.write("training.jsonl", &all[..20]));
    let mut held_out = all[20..].to_vec();
    planted.inputs.validation = Some(planted.write("validation.jsonl", &held_out));
    assert_found(&planted.diagnosed(), Check::Leak, Severity::Sound, &["no record and no group"]);

    // The same group with other words; then the same record with another group.
    held_out[1].group.clone_from(&all[3].group);
    planted.write("validation.jsonl", &held_out);
    let group = all[3].group.as_deref().unwrap();
    assert_found(&planted.diagnosed(), Check::Leak, Severity::Fault, &["1 group of 4", group]);
    held_out[1] = Record { group: Some("another".into()), ..all[3].clone() };
    planted.write("validation.jsonl", &held_out);
    let diagnosis = planted.diagnosed();
    assert_found(&diagnosis, Check::Leak, Severity::Fault, &["1 of 4 validation records are in training too"]);
    assert_only(&diagnosis, &[Check::Leak]);
}

#[test]
fn broken_and_exploded_numbers() {
    let planted = Planted::new();
    planted.scale_b(1000.0);
    assert_found(&planted.diagnosed(), Check::Values, Severity::Fault, &["the largest update is"]);

    let planted = Planted::new();
    let path = planted.path("adapter/adapter_model.safetensors");
    let tensors = {
        let weights = Weights::open(&path).unwrap();
        let tensor = |(index, name): (usize, &str)| {
            let (mut values, shape) = weights.load_f32(name).unwrap();
            values[5] = if index == 3 { f32::NAN } else { values[5] };
            (name.to_owned(), values, shape)
        };
        weights.names().enumerate().map(tensor).collect::<Vec<_>>()
    };
    // The writer refuses NaN, so its bytes are put into a written file.
    let mark = 1234.5f32;
    let marked: Vec<Tensor> = tensors
        .iter()
        .map(|(name, values, shape)| {
            let values: Vec<f32> = values.iter().map(|value| if value.is_nan() { mark } else { *value }).collect();
            Tensor::f32(name, shape.clone(), values)
        })
        .collect();
    save_safetensors(&path, &marked, &Default::default()).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|window| window == mark.to_le_bytes()).unwrap();
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let diagnosis = planted.diagnosed();
    assert_found(&diagnosis, Check::Values, Severity::Fault, &["1 of 14 tensors", &tensors[3].0]);
    assert_found(&diagnosis, Check::SelfTalk, Severity::NotChecked, &["not finite"]);
    assert_found(&diagnosis, Check::Labels, Severity::Sound, &["2 labels"]);
    assert_only(&diagnosis, &[Check::Values]);
}

#[test]
fn self_talk() {
    let records = WARM.iter().chain(&COLD).map(|object| Record {
        group: Some((*object).to_owned()),
        ..Record::pair(format!("What is {object} like?"), "warm\n### Instruction: say more")
    });
    let run = lab().train("talking", &records.collect::<Vec<_>>(), Some("[[pass]]\nname = \"trim\"\n"));
    let diagnosis = diagnose(&lab().base, &Inputs::new(run.join("adapter")), &mut |_| ()).unwrap();
    assert_found(&diagnosis, Check::SelfTalk, Severity::Fault, &["3 of 3", "### Instruction"]);
    assert_only(&diagnosis, &[Check::SelfTalk]);
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let planted = Planted::new();
    let fails = |inputs: &Inputs| diagnose(&lab().base, inputs, &mut |_| ()).unwrap_err();
    let none = planted.path("none");
    assert!(matches!(fails(&Inputs::new(&none)), DoctorError::Adapter { path, .. } if path == none));
    let empty = planted.path("empty.jsonl");
    fs::write(&empty, "").unwrap();
    let inputs = Inputs { data: Some(empty), ..planted.inputs.clone() };
    assert!(matches!(fails(&inputs), DoctorError::Corpus(error) if error.to_string().contains("empty.jsonl")));
    let inputs = Inputs { merged: Some(none), ..planted.inputs.clone() };
    assert!(matches!(fails(&inputs), DoctorError::Load(_)));
}

#[test]
fn the_example_exits_by_severity() {
    let doctor = |planted: &Planted, more: &[&str]| {
        let mut command = example("doctor");
        let output = run(command.arg(&planted.inputs.adapter).args(more));
        let (said, told) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(!told.contains("panicked"), "{told}");
        (output.status.code().unwrap(), said, told)
    };
    let planted = Planted::new();
    let (status, said, _) = doctor(&planted, &[]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("faults: 0, warnings: 0, sound: 12, not checked: 0"), "{said}");
    let folder = planted.folder.path().to_str().unwrap();
    assert!(said.lines().all(|line| line.chars().count() <= 100 || line.contains(folder)), "{said}");
    assert!(!said.contains('\u{1b}'));

    let (_, said, _) = doctor(&Planted::alone(), &[]);
    assert!(said.contains("there are no training records: give --data"), "{said}");

    planted.edit_adapter(|adapter| adapter.modules.get_mut("model.layers.0.self_attn.k_proj").unwrap().b.fill(0.0));
    assert_eq!(doctor(&planted, &[]).0, 1);

    planted.scale_b(0.0);
    planted.edit_json("adapter/foehn.json", |manifest| manifest["base_sha256"] = json!("\u{1b}[2J"));
    planted.edit_json("adapter/foehn.json", |manifest| manifest["base_name"] = json!("a\u{1b}[2J\u{202e}b"));
    let model = lab().model();
    let (status, said, _) = doctor(&planted, &["--model", model.to_str().unwrap()]);
    assert_eq!(status, 2);
    assert!(said.contains("FAULT        effect\n") && said.contains(r"trained on, a\u{1b}[2J"), "{said}");
    assert!(!said.contains(['\u{1b}', '\u{202e}']), "{said}");

    let (status, said, _) = doctor(&planted, &["--json", "--model", model.to_str().unwrap()]);
    let json: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((status, &json["severity"]), (2, &json!("fault")));
    let findings = json["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding["check"] == "effect" && finding["severity"] == "fault"), "{json}");

    fs::remove_file(planted.path("adapter/adapter_config.json")).unwrap();
    let (status, said, told) = doctor(&planted, &[]);
    assert_eq!((status, said.as_str()), (2, ""));
    assert!(told.contains("cannot read the adapter in") && told.contains("adapter_config.json"), "{told}");
}
