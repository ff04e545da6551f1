//! The examples with a terminal and with pipes: outputs that are inputs, closed pipes, signals, invalid lines.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use common::scene::{Scene, example, fails, run, stdout_of};

#[test]
fn an_output_is_never_an_input() {
    let scene = Scene::new();
    let data = fs::read(&scene.data).unwrap();
    let spelled = scene.path("model/../data.jsonl");
    let clean = |more: &[(&str, &Path)]| {
        let mut command = example("clean");
        command.arg(&scene.data);
        more.iter().for_each(|(option, path)| _ = command.arg(option).arg(path));
        command
    };
    let out = scene.path("clean.jsonl");
    fails(&mut clean(&[("--out", &spelled)]), &["is the input", "data.jsonl"]);
    fails(&mut clean(&[("--out", &out), ("--report", &spelled)]), &["is the input"]);
    fails(&mut clean(&[("--out", &out), ("--html", &scene.data)]), &["is the input"]);
    fails(clean(&[("--report", &spelled)]).arg("--dry-run"), &["is the input"]);
    fails(&mut clean(&[("--out", &out), ("--report", &scene.path("model/../clean.jsonl"))]), &["same file"]);
    fails(&mut clean(&[("--out", &scene.path("none/clean.jsonl"))]), &["no folder"]);
    assert_eq!(fs::read(&scene.data).unwrap(), data);

    stdout_of(&mut clean(&[("--out", &out)]));
    let kept = fs::read(&out).unwrap();
    let mut split = example("split");
    split.arg(&out).arg("--training").arg(scene.path("model/../clean.jsonl"));
    fails(split.arg("--validation").arg(scene.path("valid.jsonl")), &["is the input"]);
    assert_eq!(fs::read(&out).unwrap(), kept);

    stdout_of(scene.finetune("run").args(["--max-steps", "1"]));
    let weights = fs::read(scene.model.join("model.safetensors")).unwrap();
    let export = |out: &Path| {
        let mut command = example("export");
        command.arg("--model").arg(&scene.model).arg("--adapter").arg(scene.path("run/adapter")).arg("--out").arg(out);
        command
    };
    fails(export(&scene.model).arg("--overwrite"), &["is read"]);
    fails(export(&scene.path("run/adapter")).arg("--overwrite"), &["is read"]);
    fails(&mut export(&scene.path("run")), &["not empty", "--overwrite"]);
    assert_eq!(fs::read(scene.model.join("model.safetensors")).unwrap(), weights);

    // An index of shards from an earlier model would be preferred to the new file.
    let merged = scene.path("merged");
    fs::create_dir(&merged).unwrap();
    fs::write(merged.join("model.safetensors.index.json"), "{}").unwrap();
    stdout_of(export(&merged).arg("--overwrite"));
    assert!(!merged.join("model.safetensors.index.json").exists());
}

#[test]
fn a_run_does_not_read_what_it_writes_and_a_refusal_changes_nothing() {
    let scene = Scene::new();
    let finetune = |data: &Path, out: &str| {
        let mut command = example("finetune");
        let recipe = scene.path("recipe.toml");
        fs::write(&recipe, "batch_size = 4\ncheckpoint_steps = 1\nmax_steps = 2\n").unwrap();
        command.arg("--config").arg(recipe).arg("--model").arg(&scene.model).arg("--data").arg(data);
        command.arg("--no-evaluation").arg("--out").arg(scene.path(out));
        command
    };
    stdout_of(&mut finetune(&scene.data, "run"));
    let clean = scene.path("run/clean.jsonl");
    let files = || ["run/clean.jsonl", "run/clean.report.json"].map(|name| fs::read(scene.path(name)).unwrap());
    let before = files();
    fails(finetune(&clean, "run").arg("--resume"), &["is the input", "clean.jsonl"]);
    let other = scene.path("other.jsonl");
    fs::write(&other, "{\"prompt\": \"Which sense is jazz?\", \"completion\": \"jazz sense\"}\n").unwrap();
    fails(finetune(&other, "run").arg("--resume"), &["other.jsonl", "cannot go on"]);
    assert_eq!(files(), before);

    // Data that a run has cleaned is marked, and another run uses it unchanged.
    let told = stdout_of(&mut finetune(&clean, "again"));
    assert!(told.contains("clean already: 12 records, used as they are"), "{told}");
    assert_eq!(fs::read(scene.path("again/clean.jsonl")).unwrap(), before[0]);
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let scene = Scene::new();
    let without_reader = |command: &mut Command| {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !said.contains("panicked"), "{command:?}: {:?} {said}", output.status);
    };
    without_reader(example("clean").arg("--passes"));
    without_reader(example("clean").arg(&scene.data).arg("--out").arg(scene.path("clean.jsonl")));
    let mut tokenize = example("tokenize");
    without_reader(
        tokenize.arg("--model").arg(&scene.model).arg("--data").arg(scene.path("clean.jsonl")).arg("--json"),
    );
    let mut chat = example("chat");
    without_reader(chat.arg("--model").arg(&scene.model).args(["--prompt", "Which sense is bell?"]));
    without_reader(scene.finetune("run").args(["--max-steps", "2"]));
    assert!(scene.path("run/adapter/adapter_model.safetensors").exists());
}

#[cfg(unix)]
#[test]
fn a_signal_ends_a_run_after_a_step_with_a_checkpoint() {
    let scene = Scene::new();
    for (index, (signal, status)) in [("TERM", 143), ("INT", 130), ("HUP", 129)].into_iter().enumerate() {
        let recipe = scene.path("long.toml");
        fs::write(&recipe, "epochs = 100000\nbatch_size = 4\ncheckpoint_steps = 0\n").unwrap();
        let mut command = example("finetune");
        command.arg("--config").arg(recipe).arg("--model").arg(&scene.model).arg("--data").arg(&scene.data);
        command.arg("--no-evaluation").arg("--out").arg(scene.path("run"));
        if index > 0 {
            command.arg("--resume");
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines.find(|line| line.as_ref().unwrap().contains("  step ")).unwrap().unwrap();
        let killed = Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status().unwrap();
        assert!(killed.success());
        lines.for_each(drop);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{signal}: {said}");
        assert!(said.contains(signal) && said.contains("--resume"), "{said}");
        assert!(fs::read_dir(scene.path("run/checkpoints")).unwrap().count() > 0);
    }
}

#[test]
fn a_bad_line_does_not_end_a_conversation() {
    let scene = Scene::new();
    let mut chat = example("chat");
    chat.arg("--model").arg(&scene.model).args(["--max-new-tokens", "4", "--context", "64"]);
    let mut child = chat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let long = "a word ".repeat(200);
    let lines = [b"\xff\xfe\n".as_slice(), long.as_bytes(), b"\nWhich sense is bell?\n"].concat();
    child.stdin.take().unwrap().write_all(&lines).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("not UTF-8"), "{said}");
    assert_eq!(said.matches("error: ").count(), 2, "{said}");
    let alone = {
        let mut command = example("chat");
        command.arg("--model").arg(&scene.model).args(["--max-new-tokens", "4", "--prompt", "Which sense is bell?"]);
        run(&mut command).stdout
    };
    assert_eq!(output.stdout, alone);
}

#[test]
fn what_is_odd_about_an_adapter_is_said() {
    let scene = Scene::new();
    stdout_of(scene.finetune("run").args(["--max-steps", "1"]));
    let adapter = scene.path("run/adapter");
    let said = || {
        let mut chat = example("chat");
        chat.arg("--model").arg(&scene.model).arg("--adapter").arg(&adapter);
        let output = run(chat.args(["--max-new-tokens", "1", "--prompt", "Which sense is bell?"]));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        said
    };
    let unmodified = said();
    assert!(!unmodified.contains("note: "), "{unmodified}");
    fs::copy(scene.model.join("chat_template.jinja"), adapter.join("chat_template.jinja")).unwrap();
    let same = said();
    assert!(!same.contains("note: "), "{same}");
    let template = fs::read_to_string(scene.model.join("chat_template.jinja")).unwrap();
    fs::write(adapter.join("chat_template.jinja"), template.replace("assistant", "helper")).unwrap();
    assert!(said().contains("note: the adapter's folder has another chat template"));
    fs::remove_file(adapter.join("foehn.json")).unwrap();
    assert!(said().contains("base, tokenizer, template was not checked"));
}

#[test]
fn a_pad_token_without_an_embedding_is_fine() {
    let scene = Scene::new();
    let path = scene.model.join("tokenizer.json");
    let mut tokenizer: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let mut pad = tokenizer["added_tokens"][0].clone();
    (pad["id"], pad["content"]) = (49152.into(), "<|added_pad|>".into());
    tokenizer["added_tokens"].as_array_mut().unwrap().push(pad);
    fs::write(&path, tokenizer.to_string()).unwrap();
    let mut chat = example("chat");
    stdout_of(chat.arg("--model").arg(&scene.model).args(["--max-new-tokens", "1", "--prompt", "Which sense?"]));
}

/// ESC, BEL, CR, CSI as one character, and a right-to-left override.
const STEERING: &str = "a\u{1b}[2J\u{7}\r\u{9b}1m\u{202e}b";

#[track_caller]
fn assert_steers_nothing(text: &str) {
    let turns = |c: char| matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let found = text.chars().find(|&c| (c.is_control() && !matches!(c, '\n' | '\t')) || turns(c));
    assert_eq!(found, None, "{text:?}");
}

/// What a command writes to stdout and to stderr.
#[track_caller]
fn said_by(command: &mut Command, status: i32) -> [String; 2] {
    let output = run(command);
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(output.status.code(), Some(status), "{command:?}: {said:?}");
    said.iter().for_each(|text| assert_steers_nothing(text));
    said
}

/// The scene's records with names and texts that steer a terminal, and lines that cannot be read for such a name.
fn steering_data(scene: &Scene) {
    let lines = fs::read_to_string(&scene.data).unwrap();
    let mut data = String::new();
    for (number, line) in lines.lines().filter(|line| line.starts_with('{')).enumerate() {
        let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
        (record["id"], record["task"]) = (format!("{STEERING}{number}").into(), STEERING.into());
        record[STEERING] = STEERING.into();
        data += &format!("{record}\n");
    }
    let role = serde_json::json!({"messages": [{"role": STEERING, "content": "x"}]});
    data += &format!("{role}\n{}\nnot json {STEERING}\n", serde_json::json!({STEERING: STEERING}));
    fs::write(&scene.data, data).unwrap();
}

#[test]
fn what_files_say_does_not_steer_the_terminal() {
    let scene = Scene::new();
    steering_data(&scene);
    let (out, page, account) = (scene.path("clean.jsonl"), scene.path("clean.html"), scene.path("account.json"));
    let clean = || {
        let mut command = example("clean");
        command.arg(&scene.data).arg("--out").arg(&out).arg("--html").arg(&page).arg("--report").arg(&account);
        command
    };
    said_by(&mut clean(), 0);
    let [json, _] = said_by(clean().arg("--json"), 0);
    let written = fs::read_to_string(&account).unwrap();
    assert_steers_nothing(&written);
    assert_steers_nothing(&fs::read_to_string(&page).unwrap());
    let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(parsed(&json), parsed(&written));
    assert!(json.contains(r"\u001b[2J") && json.contains(r"\u009b1m\u202e"), "{json}");

    let pipeline = scene.path("pipeline.toml");
    fs::write(&pipeline, "[[pass]]\nname = \"a\\u001b[2J\\u0007\\r\\u009b1m\\u202eb\"\n").unwrap();
    let [_, refused] = said_by(clean().arg("--pipeline").arg(&pipeline), 1);
    assert!(refused.contains(r"no pass is called `a\u{1b}[2J\u{7}\r\u{9b}1m\u{202e}b`"), "{refused}");

    // Not cleaned: its texts are shown as they are.
    let raw = scene.path("raw.jsonl");
    let pair = serde_json::json!({"id": STEERING, "prompt": STEERING, "completion": STEERING});
    fs::write(&raw, format!("{pair}\n")).unwrap();
    let tokenize = || {
        let mut command = example("tokenize");
        command.arg("--model").arg(&scene.model).arg("--data").arg(&raw);
        command
    };
    let [marked, _] = said_by(&mut tokenize(), 0);
    assert!(marked.contains(r"\u{1b}") && marked.contains(r"\u{7}"), "{marked}");
    let [rows, _] = said_by(tokenize().arg("--json"), 0);
    assert!(parsed(&rows)["text"].as_str().unwrap().contains('\u{1b}'), "{rows}");
}

#[test]
fn what_a_run_says_does_not_steer_the_terminal() {
    let scene = Scene::new();
    steering_data(&scene);
    said_by(scene.finetune("run").args(["--max-steps", "2"]), 0);
    let chat = || {
        let mut command = example("chat");
        command.arg("--model").arg(&scene.model).arg("--adapter").arg(scene.path("run/adapter"));
        command.args(["--max-new-tokens", "32", "--temperature", "2", "--prompt", STEERING]);
        command
    };
    said_by(&mut chat(), 0);

    // What a template, a recipe and an adapter say is shown in errors.
    let shown = |said: [String; 2]| assert!(said[1].contains("[2J"), "{said:?}");
    let recipe = scene.path("key.toml");
    fs::write(&recipe, r#""a\u001b[2J\u009b" = 1"#).unwrap();
    shown(said_by(example("finetune").arg("--config").arg(recipe), 1));
    let config = scene.path("run/adapter/adapter_config.json");
    let mut changed: serde_json::Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    changed["bias"] = STEERING.into();
    fs::write(&config, changed.to_string()).unwrap();
    shown(said_by(&mut chat(), 1));
    fs::write(scene.model.join("chat_template.jinja"), format!("{{{{ raise_exception('{STEERING}') }}}}")).unwrap();
    shown(said_by(&mut scene.finetune("refused"), 1));
}
