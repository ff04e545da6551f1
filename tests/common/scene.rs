//! The built example programs, and files for them to work on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use foehn_weights::{Tensor, save_safetensors};
use tempfile::TempDir;

pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The place where cargo puts the examples that it builds with the tests.
pub fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let built = test.parent().unwrap().parent().unwrap().join("examples").join(name);
    let mut command = Command::new(built);
    command.current_dir(ROOT).env("FOEHN_OFFLINE", "1").stdin(Stdio::null());
    command
}

pub fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

pub fn stdout_of(command: &mut Command) -> String {
    let output = run(command);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must fail with exit status 1 and a message that contains all parts.
pub fn fails(command: &mut Command, parts: &[&str]) {
    let output = run(command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
    assert!(said.contains("error: ") && !said.contains("panicked"), "{said}");
    for part in parts {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
}

/// A one-layer model with random weights, SmolLM2's tokenizer and its template.
fn tiny_model(folder: &Path) {
    let config = serde_json::json!({
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 49152, "tie_word_embeddings": true,
        "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2,
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut state = 9u64;
    let mut tensor = |name: &str, shape: &[usize]| {
        let values = (0..shape.iter().product()).map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            if shape.len() == 1 { 1.0 } else { (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5 }
        });
        Tensor::f32(name, shape.to_vec(), values.collect::<Vec<f32>>())
    };
    let layer = |part: &str| format!("model.layers.0.{part}.weight");
    let tensors = [
        tensor("model.embed_tokens.weight", &[49152, 32]),
        tensor("model.norm.weight", &[32]),
        tensor(&layer("input_layernorm"), &[32]),
        tensor(&layer("post_attention_layernorm"), &[32]),
        tensor(&layer("self_attn.q_proj"), &[32, 32]),
        tensor(&layer("self_attn.k_proj"), &[16, 32]),
        tensor(&layer("self_attn.v_proj"), &[16, 32]),
        tensor(&layer("self_attn.o_proj"), &[32, 32]),
        tensor(&layer("mlp.gate_proj"), &[48, 32]),
        tensor(&layer("mlp.up_proj"), &[48, 32]),
        tensor(&layer("mlp.down_proj"), &[32, 48]),
    ];
    save_safetensors(&folder.join("model.safetensors"), &tensors, &Default::default()).unwrap();
    let tokenizer = Path::new(ROOT).join("tests/golden/tokenizers/smollm2");
    for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"] {
        fs::copy(tokenizer.join(file), folder.join(file)).unwrap();
    }
}

/// A folder with a tiny model and a small messy dataset.
pub struct Scene {
    pub folder: TempDir,
    pub model: PathBuf,
    pub data: PathBuf,
}

impl Scene {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (model, data) = (folder.path().join("model"), folder.path().join("data.jsonl"));
        fs::create_dir(&model).unwrap();
        tiny_model(&model);
        let words =
            ["bell", "drum", "rose", "salt", "silk", "smoke", "flute", "lemon", "marble", "amber", "cedar", "thunder"];
        let lines: String = words
            .iter()
            .map(|word| {
                format!(
                    "{{\"prompt\": \"Which sense is {word}?\", \"completion\": \"{word} sense\", \"task\": \"x\"}}\n"
                )
            })
            .collect();
        fs::write(&data, lines + "not json\n").unwrap();
        Self { folder, model, data }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn finetune(&self, out: &str) -> Command {
        let recipe = self.path("recipe.toml");
        fs::write(
            &recipe,
            "epochs = 2\nbatch_size = 4\ncheckpoint_steps = 2\n[validation]\nfraction = 0.2\nsteps = 2\n",
        )
        .unwrap();
        let mut command = example("finetune");
        command.arg("--config").arg(recipe).arg("--model").arg(&self.model).arg("--data").arg(&self.data);
        command.arg("--out").arg(self.path(out)).arg("--no-evaluation");
        command
    }
}
