//! Servers over the fake engine, and how the tests talk to them.

mod adapters;
mod chat;
mod completions;
mod guard;
mod json_mode;
mod lifecycle;
mod limits;
mod routes;
mod text;
mod tools;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use foehn_generate::GenerateConfig;
use foehn_tokens::{ChatTemplate, Tokenizer};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tower::ServiceExt;

use crate::fake::{Fake, Plan, Seen};
use crate::{Config, ModelInfo, Server};

fn golden(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden")).join(path)
}

/// A tokenizer of tests/golden.
pub(crate) fn fixture(name: &str) -> Option<Arc<Tokenizer>> {
    Tokenizer::open(golden("tokenizers").join(name)).ok().map(Arc::new)
}

/// SmolLM2's tokenizer, opened once: it has 49,152 tokens.
fn tokenizer() -> Arc<Tokenizer> {
    static SMOLLM2: std::sync::OnceLock<Arc<Tokenizer>> = std::sync::OnceLock::new();
    Arc::clone(SMOLLM2.get_or_init(|| fixture("smollm2").unwrap()))
}

fn model(name: &str, tokenizer: &Tokenizer) -> ModelInfo {
    let template = ChatTemplate::open(golden("tokenizers/smollm2"), tokenizer).unwrap();
    let created = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    let (template, defaults) = (Arc::new(template), GenerateConfig::default());
    ModelInfo { name: name.to_owned(), is_adapter: false, template, defaults, created, run_folder: None }
}

/// A model whose template renders tools.
fn tool_model(name: &str, tokenizer: &Tokenizer) -> ModelInfo {
    let source = std::fs::read_to_string(golden("chat_templates/qwen3.jinja")).unwrap();
    let template = Arc::new(ChatTemplate::jinja(&source, tokenizer).unwrap());
    ModelInfo { template, ..model(name, tokenizer) }
}

/// A server, and what its engine is asked.
struct Running {
    server: Server,
    router: Router,
    seen: UnboundedReceiver<Seen>,
}

/// A server with the models `base` and `tools`.
fn start(plan: Plan) -> Running {
    start_with(plan, Config::default())
}

fn start_with(plan: Plan, config: Config) -> Running {
    let tokenizer = tokenizer();
    let models = vec![model("base", &tokenizer), tool_model("tools", &tokenizer)];
    start_models(plan, config, models, None)
}

fn start_models(plan: Plan, config: Config, models: Vec<ModelInfo>, loader: Option<crate::Loader<()>>) -> Running {
    let (sender, seen) = unbounded_channel();
    let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
    let engine = Fake::new(tokenizer(), &names, Plan { seen: Some(sender), ..plan });
    let server = Server::new(engine, tokenizer(), models, loader, config).unwrap();
    let router = server.router();
    Running { server, router, seen }
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).header(header::HOST, "localhost").body(Body::empty()).unwrap()
}

fn post(path: &str, body: &Value) -> Request<Body> {
    let request = Request::post(path).header(header::HOST, "127.0.0.1:8000");
    request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string())).unwrap()
}

/// A question to `base`, with other fields added or replaced.
fn question(fields: Value) -> Value {
    with(
        json!({"model": "base", "messages": [{"role": "user", "content": "What modality is: 'A bell rang'?"}]}),
        fields,
    )
}

fn with(mut body: Value, fields: Value) -> Value {
    let Value::Object(fields) = fields else { panic!("not an object") };
    body.as_object_mut().unwrap().extend(fields);
    body
}

impl Running {
    async fn send(&self, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, String::from_utf8(bytes.to_vec()).unwrap())
    }

    /// The JSON of an answer that has to succeed.
    async fn ask(&self, path: &str, body: Value) -> Value {
        let (status, _, text) = self.send(post(path, &body)).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn chat(&self, fields: Value) -> Value {
        self.ask("/v1/chat/completions", question(fields)).await
    }

    /// Status and error of a request that has to fail.
    async fn refused(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, headers, text) = self.send(post(path, body)).await;
        assert_eq!(headers[header::CONTENT_TYPE], "application/json", "{text}");
        let body: Value = serde_json::from_str(&text).unwrap();
        let error = body["error"].clone();
        assert!(error["message"].is_string() && error["type"].is_string(), "{text}");
        assert!(error.get("param").is_some() && error.get("code").is_some(), "{text}");
        (status.as_u16(), error)
    }

    /// The events of a stream, without the `[DONE]` that has to be the last.
    async fn events(&self, path: &str, body: Value) -> Vec<Value> {
        let (status, headers, text) = self.send(post(path, &with(body, json!({"stream": true})))).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        assert!(headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/event-stream"));
        events(&text)
    }

    /// The next request that the engine takes.
    async fn added(&mut self) -> (Vec<u32>, GenerateConfig) {
        match self.seen.recv().await {
            Some(Seen::Added { prompt, config, .. }) => (prompt, config),
            other => panic!("{other:?}"),
        }
    }

    /// Waits for a request to be cancelled.
    async fn cancelled(&mut self) {
        loop {
            match self.seen.recv().await {
                Some(Seen::Cancelled) => return,
                Some(Seen::Added { .. }) => {}
                None => panic!("the engine has gone"),
            }
        }
    }
}

fn events(text: &str) -> Vec<Value> {
    let mut events: Vec<&str> =
        text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap()).collect();
    assert_eq!(events.pop(), Some("[DONE]"));
    events.into_iter().map(|event| serde_json::from_str(event).unwrap()).collect()
}
