//! Writes a model's tokenizer and template as other programs read them, for comparison with these programs.
//!
//!     cargo run --release -p foehn-tokens --example tokenizer_files -- MODEL OUT [TEMPLATE] < conversations.jsonl
//!
//! OUT gets `model.gguf` (the vocabulary without a model), the folder `hf`, and `prompts.json`: the ids of each prompt,
//! null where the template refuses the conversation. MODEL is what `Tokenizer::open` takes, TEMPLATE the name of a
//! template. Each line of the input is a record.

use std::io::stdin;
use std::path::Path;

use foehn_record::Record;
use foehn_tokens::{ChatTemplate, TemplateChoice, Tokenizer};
use foehn_weights::GgufValue;

#[path = "../tests/common/gguf.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod gguf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, out, rest @ ..] = arguments.as_slice() else { return Err("expected MODEL OUT [TEMPLATE]".into()) };
    let mut tokenizer = Tokenizer::open(model)?;
    let template = match rest.first() {
        Some(name) => name.parse::<TemplateChoice>()?.open(&mut tokenizer)?,
        None => ChatTemplate::open(model, &tokenizer)?,
    };
    let out = Path::new(out);
    std::fs::create_dir_all(out)?;
    tokenizer.save(&template, out.join("hf"))?;

    // llama.cpp wants these of any model.
    let sizes = ["context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count"];
    let mut keys: Vec<(String, GgufValue)> = vec![("general.architecture".to_owned(), "llama".into())];
    keys.extend(sizes.map(|size| (format!("llama.{size}"), 64_u32.into())));
    keys.push(("llama.attention.layer_norm_rms_epsilon".to_owned(), 1e-5_f32.into()));
    keys.extend(tokenizer.gguf_metadata(&template, tokenizer.vocab_size())?);
    gguf::write_keys(&out.join("model.gguf"), &keys);

    let mut prompts: Vec<Option<Vec<u32>>> = Vec::new();
    for line in stdin().lines() {
        let record: Record = serde_json::from_str(&line?)?;
        prompts.push(template.prompt(&tokenizer, &record).ok());
    }
    std::fs::write(out.join("prompts.json"), serde_json::to_string(&prompts)?)?;
    Ok(())
}
