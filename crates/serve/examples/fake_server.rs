//! A server over the fake engine of the tests, for the clients of tests/interop/openai_clients.py.
//!
//!     cargo run -p foehn-serve --example fake_server -- 127.0.0.1:8000 [KEY]
//!
//! It has one model, `fake`, with SmolLM2's tokenizer and a template that renders tools. It answers with a sentence, or calls
//! the tool `weather` if there is one.

use std::path::Path;
use std::sync::Arc;

use foehn_generate::GenerateConfig;
use foehn_serve::{Batch, Config, ModelInfo, Server, terminated};
use foehn_tokens::{ChatTemplate, Tokenizer};

#[allow(dead_code, missing_docs)]
#[path = "../src/fake/mod.rs"]
mod fake;

const SENTENCE: &str = "The bell is heard, so it is auditory.\nNothing is seen.";
const CALL: &str = "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}\n</tool_call>";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8000".to_owned());
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let tokenizer = Arc::new(Tokenizer::open(golden.join("tokenizers/smollm2"))?);
    let source = std::fs::read_to_string(golden.join("chat_templates/qwen3.jinja"))?;
    let model = ModelInfo {
        name: "fake".to_owned(),
        is_adapter: false,
        template: Arc::new(ChatTemplate::jinja(&source, &tokenizer)?),
        defaults: GenerateConfig::default(),
        created: std::time::SystemTime::now(),
        run_folder: None,
    };
    let says = |prompt: &str| if prompt.contains("<tools>") { CALL.to_owned() } else { SENTENCE.to_owned() };
    let plan = fake::Plan::new(fake::Output::Says(Box::new(says)));
    let engine = fake::Fake::new(Arc::clone(&tokenizer), &["fake"], plan);
    let config = Config { api_key: arguments.next(), ..Config::default() };
    let server = Server::new(engine, tokenizer, vec![model], None, config)?;
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(server.serve(listener, terminated()).await?)
}
