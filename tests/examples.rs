//! Runs the examples like a user, on a tiny random model with SmolLM2's tokenizer, and checks their output, their files
//! and their errors.

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use common::Golden;
use common::scene::{ROOT, Scene, example, fails, run, stdout_of};
use foehn_mistral::{Base, Mistral, MistralConfig};
use serde_json::Value;

#[test]
fn from_messy_data_to_an_adapter_that_answers() {
    let scene = Scene::new();
    let told = stdout_of(scene.finetune("run").arg("--max-steps").arg("6"));
    assert!(told.contains("13 records read, 12 kept, 1 rejected"), "{told}");
    assert!(
        told.lines().all(|line| line.chars().count() <= 100 || line.contains(scene.folder.path().to_str().unwrap())),
        "{told}"
    );
    let adapter = scene.path("run/adapter");
    for file in ["adapter_config.json", "adapter_model.safetensors", "foehn.json", "../metrics.jsonl", "../loss.svg"] {
        assert!(adapter.join(file).exists(), "{file}");
    }
    let manifest: Value = serde_json::from_str(&fs::read_to_string(adapter.join("foehn.json")).unwrap()).unwrap();
    for hash in ["base_sha256", "tokenizer_sha256", "template_sha256", "data_sha256"] {
        assert_eq!(manifest[hash].as_str().unwrap().len(), 64, "{hash}");
    }
    assert_eq!(manifest["recipe"]["max_steps"], 6);

    let chat = |more: &[&str]| {
        let mut command = example("chat");
        command.arg("--model").arg(&scene.model).args(["--prompt", "Which sense is bell?", "--max-new-tokens", "8"]);
        stdout_of(command.args(more))
    };
    let folder = adapter.to_str().unwrap();
    assert_eq!(chat(&["--adapter", folder]), chat(&["--adapter", folder]));
    let drawn = ["--temperature", "1.5", "--top-k", "50", "--seed", "4"];
    assert_eq!(chat(&drawn), chat(&drawn));

    // The merged checkpoint gives the same scores as base and adapter together, and it can be used as a model.
    let merged = scene.path("merged");
    let mut export = example("export");
    stdout_of(export.arg("--model").arg(&scene.model).arg("--adapter").arg(&adapter).arg("--out").arg(&merged));
    let score = |model: &Path, more: &[&str]| -> Vec<f64> {
        let mut command = example("score");
        command.arg("--model").arg(model).args(more).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"{\"input_ids\": [1, 4093, 198, 2683, 2]}\n").unwrap();
        serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap()
    };
    let (together, alone) = (score(&scene.model, &["--adapter", folder]), score(&merged, &[]));
    assert_eq!(together.len(), 4);
    assert!(together.iter().zip(&alone).all(|(a, b)| (a - b).abs() < 1e-4), "{together:?} {alone:?}");
    assert_ne!(together, score(&scene.model, &[]));

    // It has its own tokenizer and template, so it answers like base and adapter without them.
    let mut command = example("chat");
    command.arg("--model").arg(&merged).args(["--prompt", "Which sense is bell?", "--max-new-tokens", "8"]);
    assert_eq!(stdout_of(&mut command), chat(&["--adapter", folder]));
}

/// Kills a run when it has a checkpoint. Returns whether the run was killed before it ended.
fn killed_in_the_midst(scene: &Scene, name: &str) -> bool {
    let mut run = scene.finetune(name).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let checkpoints = scene.path(name).join("checkpoints");
    let is_checkpoint = |entry: std::io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("step-"))
    };
    while run.try_wait().unwrap().is_none() && !fs::read_dir(&checkpoints).is_ok_and(|mut all| all.any(is_checkpoint)) {
        std::thread::yield_now();
    }
    let _ = run.kill();
    let ended = run.wait().unwrap().success();
    !ended && !scene.path(name).join("adapter").exists()
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let scene = Scene::new();
    stdout_of(&mut scene.finetune("whole"));
    // A run can end before it is killed. Such a try proves nothing, so it is repeated.
    let killed = (0..20).map(|number| format!("killed-{number}")).find(|name| killed_in_the_midst(&scene, name));
    let killed = killed.expect("every run ended before it could be killed");
    stdout_of(scene.finetune(&killed).arg("--resume"));
    let adapter = |run: &str| fs::read(scene.path(run).join("adapter/adapter_model.safetensors")).unwrap();
    assert!(adapter("whole") == adapter(&killed));
    fails(&mut scene.finetune("whole"), &["already holds a run", "resume"]);
}

#[test]
fn a_run_is_planned_before_it_begins() {
    let scene = Scene::new();
    let told = stdout_of(scene.finetune("planned").args(["--plan", "--max-steps", "2"]));
    for part in ["steps      2 ", "at the peak", "activations", "of steps"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!scene.path("planned").exists(), "a plan leaves nothing behind");
    for (room, expected) in [("8X", "such as 8G"), ("0", "above 0"), ("1M", "the smallest run needs")] {
        let output = run(scene.finetune("none").args(["--memory", room]));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{room}: {said}");
    }
    let output = run(scene.finetune("fits").args(["--memory", "4G", "--max-steps", "1"]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("with the given settings"), "{said}");

    let mut command = example("plan");
    let command = command.arg("--model").arg(&scene.model).arg("--data").arg(scene.path("data.jsonl"));
    let plan: Value = serde_json::from_str(&stdout_of(command.args(["--json", "--no-time"]))).unwrap();
    let parts = plan["memory"]["parts"].as_array().unwrap();
    let sum: u64 = parts.iter().map(|part| part[1].as_u64().unwrap()).sum();
    assert_eq!(plan["memory"]["peak"].as_u64(), Some(sum));
    assert!(plan["time"].is_null() && plan["data"]["steps"].as_u64() > Some(0), "{plan}");
}

/// From TRL's pairs to an adapter: cleaned, planned, trained on preferences, resumed, asked.
#[test]
fn preferences_are_cleaned_planned_and_trained() {
    let scene = Scene::new();
    let words = ["bell", "drum", "rose", "salt", "silk", "smoke", "flute", "lemon", "marble", "amber", "cedar", "pine"];
    let pair = |word: &&str| {
        let [question, chosen, rejected] =
            [format!("Which sense is {word}?"), format!("{word} sense"), format!("It is {word}, and {word} again.")];
        format!("{}\n", serde_json::json!({ "prompt": question, "chosen": chosen, "rejected": rejected }))
    };
    fs::write(&scene.data, words.iter().map(pair).collect::<String>()).unwrap();
    let objective = |out: &str, objective: &str| {
        let mut command = scene.finetune(out);
        let recipe = scene.path("recipe.toml");
        let text = fs::read_to_string(&recipe).unwrap();
        fs::write(&recipe, format!("objective = \"{objective}\"\nlearning_rate = 1e-2\n{text}")).unwrap();
        command.args(["--max-steps", "6"]);
        command
    };
    fails(&mut objective("sft", "sft"), &["has a rejected answer", "objective = \"dpo\""]);
    let told = stdout_of(objective("planned", "dpo").arg("--plan"));
    assert!(told.contains("at the peak"), "{told}");
    let told = stdout_of(&mut objective("run", "dpo"));
    assert!(told.contains("loss 0.6931  margin 0.000") && told.contains("chosen ahead in"), "{told}");
    let metrics = fs::read_to_string(scene.path("run/metrics.jsonl")).unwrap();
    let last: Value = metrics
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .rfind(|line: &Value| line["loss"].is_f64())
        .unwrap();
    assert!(last["reward_margin"].as_f64() > Some(0.0) && last["loss"].as_f64() < Some(0.69), "{last}");
    assert!(scene.path("run/adapter/adapter_model.safetensors").exists());
}

/// Two files are trained on, the model's own answers become pairs, and it is tuned with them.
#[test]
fn a_model_s_own_answers_become_pairs_that_it_is_tuned_with() {
    let scene = Scene::new();
    let more = scene.path("more.jsonl");
    let [known, fresh] = ["bell", "gong"].map(|word| {
        format!("{{\"prompt\": \"Which sense is {word}?\", \"completion\": \"{word} sense\", \"task\": \"x\"}}\n")
    });
    fs::write(&more, known + &fresh).unwrap();
    let told = stdout_of(scene.finetune("first").arg("--data").arg(&more).args(["--max-steps", "4"]));
    assert!(told.contains("15 records read, 13 kept, 2 rejected"), "{told}");

    let pairs = |out: &str| {
        let mut command = example("pairs");
        command.arg("--model").arg(&scene.model).arg("--adapter").arg(scene.path("first/adapter"));
        command.arg("--data").arg(scene.path("first/clean.jsonl")).arg("--out").arg(scene.path(out));
        command.args(["--samples", "3", "--temperature", "1.5", "--max-new-tokens", "6", "--seed", "3"]);
        command
    };
    let told = stdout_of(&mut pairs("pairs.jsonl"));
    assert!(told.contains("13 prompts, 39 answers") && told.contains("another answer"), "{told}");
    stdout_of(&mut pairs("again.jsonl"));
    let read = |name: &str| fs::read_to_string(scene.path(name)).unwrap();
    assert_eq!(read("pairs.jsonl"), read("again.jsonl"));
    for line in read("pairs.jsonl").lines() {
        let pair: Value = serde_json::from_str(line).unwrap();
        assert!(pair["chosen_score"].as_f64() >= pair["rejected_score"].as_f64().map(|score| score + 0.5), "{pair}");
        assert_ne!(pair["messages"][1]["content"], pair["rejected"]);
    }
    let told = stdout_of(pairs("few.jsonl").args(["--scorer", "while read -r l; do echo '[1,2,3,4]'; done", "--json"]));
    assert_eq!(serde_json::from_str::<Value>(&told).unwrap()["prompts"], 13);
    fails(pairs("first/clean.jsonl").args(["--prompts", "2"]), &["clean.jsonl"]);
    fails(pairs("none.jsonl").args(["--task", "y"]), &["has no record of these tasks"]);

    let mut tune = scene.finetune("tuned");
    let text =
        format!("objective = \"dpo\"\ninit_adapter = {:?}\n{}", scene.path("first/adapter"), read("recipe.toml"));
    fs::write(scene.path("recipe.toml"), text).unwrap();
    fs::write(&scene.data, read("pairs.jsonl")).unwrap();
    let told = stdout_of(tune.args(["--max-steps", "2"]));
    assert!(told.contains("margin 0.000"), "{told}");
    assert!(scene.path("tuned/adapter/adapter_model.safetensors").exists());
}

/// A checkpoint of 3 TiB, almost all of it a hole in its file: no machine that runs this test has so much memory.
fn huge_model(scene: &Scene) {
    let (inner, layers) = (1u64 << 30, 8);
    let path = scene.model.join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    (config["intermediate_size"], config["num_hidden_layers"]) = (inner.into(), layers.into());
    fs::write(path, config.to_string()).unwrap();
    let path = scene.model.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let tensors = header.as_object_mut().unwrap();
    for (name, tensor) in tensors.clone().into_iter().filter(|(name, _)| name.contains("layers.0")) {
        tensors.extend((1..layers).map(|layer| (name.replace("layers.0", &format!("layers.{layer}")), tensor.clone())));
    }
    let mut end = 0;
    for (name, tensor) in tensors.iter_mut().filter(|(name, _)| *name != "__metadata__") {
        for (part, shape) in [("gate_proj", [inner, 32]), ("up_proj", [inner, 32]), ("down_proj", [32, inner])] {
            if name.contains(part) {
                tensor["shape"] = shape.to_vec().into();
            }
        }
        let elements: u64 = tensor["shape"].as_array().unwrap().iter().map(|size| size.as_u64().unwrap()).product();
        tensor["data_offsets"] = vec![end, end + 4 * elements].into();
        end += 4 * elements;
    }
    let header = header.to_string();
    let mut file = fs::File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len(8 + header.len() as u64 + end).unwrap();
}

#[test]
fn a_run_that_does_not_fit_what_is_free_is_refused_before_a_weight_is_read() {
    let scene = Scene::new();
    huge_model(&scene);
    fails(&mut scene.finetune("huge"), &["the run needs", "at its peak", "the smallest run needs"]);
    assert!(!scene.path("huge/adapter").exists() && !scene.path("huge/checkpoints/step-00000002").exists());
}

#[test]
fn speed_and_memory_can_be_tried_with_and_without_weights() {
    let scene = Scene::new();
    let config = scene.model.join("config.json");
    let quick = ["--prefill", "16", "--decode", "3", "--rounds", "1"];
    for more in [&["--base", "q8_0", "--batch", "2"][..], &["--exact"]] {
        for synthetic in [false, true] {
            let mut command = example("speed");
            match synthetic {
                true => command.arg("--synthetic").arg(&config),
                false => command.arg("--model").arg(&scene.model),
            };
            let report: Value = serde_json::from_str(&stdout_of(command.args(quick).args(more))).unwrap();
            assert!(
                ["prefill_tok_s", "decode_tok_s"].iter().all(|key| report[key].as_f64().unwrap() > 0.0),
                "{report}"
            );
        }
    }
    let mut command = example("steps");
    command.arg("--synthetic").arg(&config).args(["--base", "q8_0", "--random", "2", "8", "--steps", "2", "--r", "2"]);
    let report: Value = serde_json::from_str(&stdout_of(&mut command)).unwrap();
    assert!(report["losses"].as_array().unwrap().iter().all(|loss| loss.as_f64().unwrap() > 0.0), "{report}");

    // If nothing is quantised, computing token by token differs only by keys and values in half precision: eleven bits
    // of numbers up to 15.
    let score = |more: &[&str]| -> Vec<f64> {
        let mut command = example("score");
        command.arg("--model").arg(&scene.model).args(more).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"{\"input_ids\": [1, 4093, 198, 2683, 2]}\n").unwrap();
        serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap()
    };
    let (together, decoded, rounded) = (score(&[]), score(&["--decode"]), score(&["--decode", "--base", "q8_0"]));
    assert!(together.iter().zip(&decoded).all(|(a, b)| (a - b).abs() < 7e-3), "{together:?} {decoded:?}");
    assert!(together.iter().zip(&rounded).all(|(a, b)| (a - b).abs() < 0.2), "{together:?} {rounded:?}");
}

/// A checkpoint of 192 MB in single precision is quantised while it is loaded. The process gets only 28 MB of packed
/// weights and the memory for the largest matrix (twice 4 MB). If the system does not report memory, this is not
/// checked.
#[test]
fn a_checkpoint_that_is_packed_on_loading_is_never_in_memory_whole() {
    let config = r#"{"model_type": "mistral", "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
        "num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 512, "sliding_window": null}"#;
    let config = MistralConfig::from_json(config).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let device = foehn::device("flex").unwrap();
    Mistral::synthetic(&config, Base::F32, &device, &mut |_, _| ()).save(folder.path()).unwrap();
    let peak = |base: &str| {
        let mut command = example("speed");
        command
            .args(["--prefill", "16", "--decode", "1", "--rounds", "1", "--base", base])
            .arg("--model")
            .arg(folder.path());
        serde_json::from_str::<Value>(&stdout_of(&mut command)).unwrap()["peak_rss_mib"].as_f64()
    };
    let Some(whole) = peak("f32") else { return };
    for base in ["q4_k", "nf4"] {
        let packed = peak(base).unwrap();
        assert!(packed + 140.0 < whole, "{base}: {packed} MiB beside {whole}");
    }
}

#[test]
fn tokenize_prints_what_the_trainer_reads() {
    let scene = Scene::new();
    let clean = scene.path("clean.jsonl");
    let mut command = example("clean");
    let told = stdout_of(command.arg(&scene.data).arg("--out").arg(&clean));
    assert!(told.contains("12") && clean.exists() && scene.path("clean.report.json").exists(), "{told}");
    let mut command = example("tokenize");
    command.arg("--model").arg(&scene.model).arg("--data").arg(&clean).args(["--json", "--limit", "0"]);
    let rows: Vec<Value> = stdout_of(&mut command).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 12);
    for row in &rows {
        let (ids, mask) = (row["input_ids"].as_array().unwrap(), row["loss_mask"].as_array().unwrap());
        assert_eq!(ids.len(), mask.len());
        // The last trained token is the stop token.
        let last = mask.iter().rposition(|mask| mask == 1).unwrap();
        assert_eq!(ids[last], 2);
        assert!(row["text"].as_str().unwrap().contains("<|im_start|>assistant\n"));
    }
    let rows_path = scene.path("rows.jsonl");
    fs::write(&rows_path, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    let mut command = example("steps");
    command.arg("--model").arg(&scene.model).arg("--rows").arg(&rows_path).args([
        "--steps",
        "3",
        "--learning-rate",
        "1e-2",
    ]);
    let report: Value = serde_json::from_str(&stdout_of(&mut command)).unwrap();
    let losses: Vec<f64> = report["losses"].as_array().unwrap().iter().map(|loss| loss.as_f64().unwrap()).collect();
    assert!(losses.len() == 3 && losses[2] < losses[0], "{losses:?}");
}

/// A run of a recipe, without what the recipe's own lines say.
fn of_recipe(scene: &Scene, name: &str, recipe: &str) -> Command {
    let path = scene.path("own.toml");
    fs::write(&path, format!("batch_size = 4\nmax_steps = 4\n{recipe}")).unwrap();
    let mut command = example(name);
    command.arg("--config").arg(path).arg("--model").arg(&scene.model);
    if name == "finetune" {
        command.arg("--no-evaluation");
    }
    command
}

fn manifest(adapter: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(adapter.join("foehn.json")).unwrap()).unwrap()
}

#[test]
fn long_records_are_left_out_or_truncated_and_it_is_said() {
    let scene = Scene::new();
    let turn = |n: usize| {
        [("user", format!("Which word is number {n}?")), ("assistant", format!("Word {n} is {}.", "amber ".repeat(20)))]
    };
    let turns = (0..9).flat_map(turn).map(|(role, content)| serde_json::json!({"role": role, "content": content}));
    let long = serde_json::json!({"id": "long", "messages": turns.collect::<Vec<_>>()});
    let short = fs::read_to_string(&scene.data).unwrap();
    fs::write(&scene.data, format!("{short}{long}\n")).unwrap();
    let data = format!("data = '{}'\n", scene.data.display());
    fails(of_recipe(&scene, "finetune", &data).arg("--out").arg(scene.path("e")), &["record long", "too_long", "256"]);
    for (too_long, said) in [("drop", "left out (long)"), ("truncate", "truncated at a turn (long)")] {
        let recipe = format!("too_long = '{too_long}'\n{data}[validation]\nfraction = 0\n");
        let plan = stdout_of(of_recipe(&scene, "plan", &recipe).arg("--no-time"));
        assert!(plan.contains(&format!("1 record of more than 256 tokens {said}")), "{plan}");
        let out = scene.path(too_long);
        let output = run(of_recipe(&scene, "finetune", &recipe).arg("--out").arg(&out));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && told.contains("of the training records: 1 record"), "{told}");
        assert!(told.contains(said) && manifest(&out.join("adapter"))["recipe"]["too_long"] == too_long, "{told}");
        let mut command = example("tokenize");
        command.arg("--model").arg(&scene.model).arg("--data").arg(out.join("clean.jsonl")).args(["--limit", "0"]);
        let output = run(command.args(["--json", "--max-length", "256", "--too-long", too_long]));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && told.contains(said), "{told}");
        let samples = String::from_utf8_lossy(&output.stdout).lines().count();
        assert_eq!(samples, if too_long == "drop" { 12 } else { 13 });
    }
}

/// A base without a chat template learns plain text, is measured on it, and refuses conversations by name, unless a
/// template is chosen.
#[test]
fn plain_text_trains_on_a_base_without_a_template() {
    let scene = Scene::new();
    fs::remove_file(scene.model.join("chat_template.jinja")).unwrap();
    let [texts, held] = ["texts.jsonl", "held.jsonl"].map(|name| scene.path(name));
    let pipeline = Path::new("examples/recipes/clean-text.toml");
    let line = |text: String| format!("{}\n", serde_json::json!({ "text": text }));
    let words = ["bell", "drum", "rose", "salt", "silk", "smoke", "flute", "lemon"];
    let text = |word: &&str| line(format!("The {word} stood on the table, and nobody asked about the {word}."));
    let book = (0..60).map(|n| format!("Chapter {n} tells of {}.", words[n % 8])).collect::<Vec<_>>().join(" ");
    fs::write(&texts, words.iter().map(text).collect::<String>() + &line(book)).unwrap();
    fs::write(&held, line("A gong was struck in the evening.".into()) + &line("Then all was quiet.".into())).unwrap();
    let recipe = format!(
        "pipeline = '{}'\ndata = '{}'\nvalidation_data = '{}'\nlearning_rate = 1e-2\nmax_length = 100\n",
        pipeline.display(),
        texts.display(),
        held.display()
    );
    let out = scene.path("run");
    let output = run(of_recipe(&scene, "finetune", &recipe).arg("--out").arg(&out));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && told.contains("1 record of more than 100 tokens cut into"), "{told}");
    let metrics = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let losses: Vec<f64> =
        metrics.lines().filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64()).collect();
    assert!(losses.len() == 4 && losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
    let hash = manifest(&out.join("adapter"))["validation_sha256"].clone();
    assert_eq!(hash.as_str().map(str::len), Some(64));

    let evaluate = |data: &Path, more: &[&str]| {
        let mut command = example("evaluate");
        command.arg("--model").arg(&scene.model).arg("--data").arg(data).arg("--no-general").args(more);
        command
    };
    let adapter = out.join("adapter");
    let report = stdout_of(&mut evaluate(&held, &["--json", "--adapter", adapter.to_str().unwrap()]));
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["tasks"][0]["kind"], "likelihood", "{report}");
    assert!(report.to_string().contains("likelihood/log-likelihood per token"), "{report}");
    fails(&mut evaluate(&held, &["--labels", "a,b"]), &["held.jsonl:1", "plain text"]);

    let asked = scene.path("asked.jsonl");
    fs::write(&asked, "{\"prompt\": \"Which sense is gong?\", \"completion\": \"gong sense\"}\n").unwrap();
    fails(&mut evaluate(&asked, &[]), &["no chat template", "chatml"]);
    let finetune = |more: &str| {
        let recipe = format!("data = '{}'\n{more}", scene.data.display());
        let mut command = of_recipe(&scene, "finetune", &recipe);
        command.arg("--out").arg(scene.path("chat"));
        command
    };
    fails(&mut finetune(""), &["no chat template", "chatml"]);
    stdout_of(&mut finetune("template = 'chatml'\n"));
    // Conversations and texts in one set need a template.
    let both = format!("{}data = ['{}', '{}']\n", "template = 'chatml'\n", texts.display(), scene.data.display());
    let both = format!("pipeline = '{}'\n{both}", pipeline.display());
    stdout_of(of_recipe(&scene, "finetune", &both).arg("--out").arg(scene.path("both")));

    let check = |more: &[&str]| {
        let mut command = example("clean");
        command.arg(&scene.data).args(["--dry-run", "--check"]).arg(&scene.model).args(more);
        command
    };
    fails(&mut check(&[]), &["cannot be trained on", "no chat template"]);
    stdout_of(&mut check(&["--template", "chatml"]));
}

/// Files have weights, the plan and the manifest know them, and validation records of a file must not be trained on.
#[test]
fn files_are_weighted_and_validated_on_another() {
    let scene = Scene::new();
    let [often, held, leak] = ["often.jsonl", "held.jsonl", "leak.jsonl"].map(|name| scene.path(name));
    let line = |word: &str| format!("{{\"prompt\": \"What is {word}?\", \"completion\": \"{word} is that.\"}}\n");
    fs::write(&often, ["opal", "jade", "onyx", "ruby"].map(line).concat()).unwrap();
    fs::write(&held, ["quartz", "beryl"].map(|word| line(word).replace("What is", "Name it")).concat()).unwrap();
    fs::write(&leak, line("opal")).unwrap();
    let recipe = |more: &str, held: &Path| {
        let data = format!("[{{ path = '{}', weight = 2 }}, {more}]", often.display());
        format!("epochs = 2\ndata = {data}\nvalidation_data = '{}'\n", held.display())
    };
    let half = format!("{{ path = '{}', weight = 0.5 }}", scene.data.display());
    let plan = stdout_of(of_recipe(&scene, "plan", &recipe(&half, &held)).args(["--no-time", "--json"]));
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["data"]["samples"], 16);
    let weights = serde_json::json!([{ "examples": 4, "weight": 2.0 }, { "examples": 12, "weight": 0.5 }]);
    assert_eq!(plan["data"]["weights"], weights);
    let out = scene.path("run");
    stdout_of(of_recipe(&scene, "finetune", &recipe(&half, &held)).arg("--out").arg(&out));
    assert_eq!(manifest(&out.join("adapter"))["data_weights"], serde_json::json!([[4, 2.0], [12, 0.5]]));
    let mut leaking = of_recipe(&scene, "finetune", &recipe(&half, &leak));
    fails(leaking.arg("--out").arg(scene.path("leaking")), &["leak.jsonl", "what is opal", "share"]);
    let wrong = half.replace("weight", "weigth");
    let mut wrong = of_recipe(&scene, "finetune", &recipe(&wrong, &held));
    fails(wrong.arg("--out").arg(scene.path("wrong")), &["own.toml", "`weight`"]);
}

#[test]
fn evaluate_reports_base_and_adapter_as_json() {
    let scene = Scene::new();
    stdout_of(scene.finetune("run").args(["--max-steps", "2"]));
    let mut command = example("evaluate");
    command.arg("--model").arg(&scene.model).arg("--adapter").arg(scene.path("run/adapter"));
    let (page, gate) = (scene.path("report.html"), scene.path("gate.toml"));
    let floor = "[[floor]]\ntask = \"recognition\"\nfigure = \"likelihood/accuracy\"\nat_least = ";
    fs::write(&gate, format!("{floor}0.0\n")).unwrap();
    command.args(["--suite", "datasets/vakog/probes/suite.toml", "--no-general", "--json", "--answers", "5"]);
    command.arg("--html").arg(&page).arg("--gate").arg(&gate);
    let report: Value = serde_json::from_str(&stdout_of(&mut command)).unwrap();
    assert_eq!(report["runs"], serde_json::json!(["base", "adapter"]));
    let [recognition, production, ..] = report["tasks"].as_array().unwrap().as_slice() else { panic!("two tasks") };
    assert_eq!(recognition["labels"].as_array().unwrap().len(), 5);
    for run in 0..2 {
        let answered = |task: &Value| {
            let items = task["runs"][run]["items"].as_array().unwrap();
            (items.len(), items.iter().filter(|item| item["answers"].is_array()).count())
        };
        assert_eq!((answered(recognition), answered(production)), ((100, 5), (100, 5)));
    }
    assert!(fs::read_to_string(&page).unwrap().contains("recognition"));
    fs::write(&gate, format!("{floor}1.1\n")).unwrap();
    fails(&mut command, &["FAILS", "1 of 1 floors"]);
}

/// A person's own records are judged without a suite.
#[test]
fn evaluate_judges_records_without_a_suite() {
    let scene = Scene::new();
    let held = scene.path("held.jsonl");
    let line = |at: usize| {
        let sense = ["sound", "sight"][at % 2];
        format!("{{\"prompt\": \"Which sense is number {at}?\", \"completion\": \"{sense}\\nIt is so.\"}}\n")
    };
    fs::write(&held, (0..8).map(line).collect::<String>()).unwrap();
    let evaluate = |more: &[&str]| {
        let mut command = example("evaluate");
        command
            .arg("--model")
            .arg(&scene.model)
            .arg("--data")
            .arg(&held)
            .args(["--no-general", "--answers", "2"])
            .args(more);
        command
    };
    let told = stdout_of(&mut evaluate(&[]));
    assert!(told.contains("judged by its label (first-line): sight, sound"), "{told}");
    fails(&mut evaluate(&["--labels", "sight,taste"]), &["held.jsonl:1"]);
    fails(&mut evaluate(&["--label", "json:sense"]), &["held.jsonl:1", "json:sense"]);
    fs::write(&held, "").unwrap();
    fails(&mut evaluate(&[]), &["held.jsonl", "empty"]);
}

#[test]
fn bad_input_is_an_error_that_says_what_to_do() {
    let scene = Scene::new();
    let nothing = scene.path("nothing.toml");
    fs::write(&nothing, "seed = 1\n").unwrap();
    fails(example("finetune").arg("--config").arg(&nothing).arg("--out").arg(scene.path("n")), &["names no data"]);
    let with = |name: &str, text: &str| {
        let path = scene.path(name);
        fs::write(&path, text).unwrap();
        path
    };
    let finetune = |option: &str, value: &Path| {
        let mut command = scene.finetune("bad");
        command.arg(option).arg(value);
        command
    };
    let given_twice = |option: &str, value: &Path| {
        // clap refuses an option that is given twice, so the scene's default is left out.
        let mut command = example("finetune");
        command.arg("--model").arg(&scene.model).arg("--out").arg(scene.path("bad")).arg("--no-evaluation");
        command.arg(option).arg(value);
        command
    };
    fails(&mut given_twice("--config", &with("r.toml", "epocs = 1\n")), &["r.toml", "epocs"]);
    fails(&mut given_twice("--config", &with("r.toml", "batch_size = 0\n")), &["batch_size"]);
    fails(&mut given_twice("--config", &scene.path("none.toml")), &["none.toml"]);
    fails(&mut given_twice("--data", &with("empty.jsonl", "")), &["empty.jsonl", "empty"]);
    fails(&mut given_twice("--data", &with("dirt.jsonl", "nothing\n")), &["all 1 records are rejected", "not JSON"]);
    fails(&mut given_twice("--data", &scene.path("none.jsonl")), &["none.jsonl"]);
    let long = format!("{{\"id\": \"long\", \"prompt\": \"{}\", \"completion\": \"Yes.\"}}\n", "a word ".repeat(300));
    fails(&mut given_twice("--data", &with("long.jsonl", &long)), &["record long", "256"]);
    fails(&mut finetune("--device", Path::new("abacus")), &["abacus", "flex"]);
    fails(finetune("--seed", Path::new("1")).arg("--resume"), &["no checkpoint"]);

    let mut command = example("score");
    let output = run(command.arg("--model").arg(&scene.model).args(["--base", "q5"]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("no base `q5`") && said.contains("q4_k"), "{said}");

    for name in ["clean", "split", "tokenize", "finetune", "chat", "evaluate", "score", "steps", "speed", "export"] {
        let mut command = example(name);
        let needed: &[&str] = match name {
            "clean" => &["data.jsonl", "--out", "clean.jsonl"],
            "split" => &["clean.jsonl", "--training", "training.jsonl", "--validation", "validation.jsonl"],
            "steps" => &["--rows", "rows.jsonl"],
            "export" => &["--out", "merged"],
            "evaluate" => &["--suite", "datasets/general/suite.toml"],
            "finetune" => &["--out", "target/never-made"],
            _ => &[],
        };
        fails(command.args(needed).args(["--device", "abacus"]), &["abacus", "flex"]);
    }

    let chat = |model: &Path, more: &[&str]| {
        let mut command = example("chat");
        command.arg("--model").arg(model).args(["--prompt", "Hello"]).args(more);
        command
    };
    fails(&mut chat(&scene.path("nothing-here/at.gguf"), &[]), &["at.gguf"]);
    let missing = scene.path("no-adapter");
    fails(&mut chat(&scene.model, &["--adapter", missing.to_str().unwrap()]), &["no-adapter", "adapter_config.json"]);
    fails(&mut chat(&scene.model, &["--temperature=-1"]), &["temperature"]);
    fails(&mut chat(&scene.model, &["--device", "cuda"]), &["cuda", "flex"]);

    // An adapter for another base is recognised by its manifest or, without one, by its shapes.
    stdout_of(scene.finetune("run").args(["--max-steps", "1"]));
    let other = Scene::new();
    let bytes = fs::read(other.model.join("model.safetensors")).unwrap();
    let mut changed = bytes;
    let last = changed.len() - 1;
    changed[last] ^= 1;
    fs::write(other.model.join("model.safetensors"), changed).unwrap();
    let adapter = scene.path("run/adapter");
    fails(&mut chat(&other.model, &["--adapter", adapter.to_str().unwrap()]), &["another base", "sha256"]);
    stdout_of(&mut chat(
        &other.model,
        &["--adapter", adapter.to_str().unwrap(), "--allow-mismatch", "--max-new-tokens", "2"],
    ));
    let foreign = Golden::open("gqa").folder.join("adapter_init");
    fails(&mut chat(&scene.model, &["--adapter", foreign.to_str().unwrap()]), &["lora_A", "another base"]);
}

/// A limit on the size of files simulates a full disk: no file may be left that looks complete.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_nothing_half_written() {
    let scene = Scene::new();
    let merged = scene.path("merged");
    let export = example("export");
    let mut limited = Command::new("sh");
    limited.current_dir(ROOT).env("FOEHN_OFFLINE", "1");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "sh"]);
    limited.arg(export.get_program()).arg("--model").arg(&scene.model).arg("--out").arg(&merged);
    fails(&mut limited, &["model.safetensors"]);
    let names = fs::read_dir(scene.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| name == "model" || name == "data.jsonl"), "something was left");
}
