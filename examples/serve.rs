//! Serves a model and its adapters with OpenAI's HTTP interface, and a page to chat and compare.
//!
//!     cargo run --release --example serve -- --adapter vakog=runs/vakog/adapter
//!     curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \
//!         -d '{"model": "vakog", "messages": [{"role": "user", "content": "What modality is: A bell rang"}]}'

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use common::terminal::{say, tell};
use foehn::generate::EngineConfig;
use foehn::mistral::Base;
use foehn::tokens::TemplateChoice;
use foehn::{Pretrained, Serving};

/// Answers many requests in one batch. The base and each adapter is a model that requests name. Open the address in a
/// browser to chat, and to compare two of them side by side. Ctrl-C lets the running answers end.
#[derive(Parser)]
struct Arguments {
    /// A folder, a .gguf file, a Hugging Face repository (org/name) or a short name
    #[arg(long, default_value = "smollm2-135m-instruct")]
    model: String,
    /// An adapter's folder, with the name that requests give; may be given several times
    #[arg(long = "adapter", value_name = "NAME=FOLDER", value_parser = named)]
    adapters: Vec<(String, PathBuf)>,
    /// Load adapters even if they were trained on another base, tokenizer or template
    #[arg(long)]
    allow_mismatch: bool,
    /// flex, ndarray, wgpu or cuda, if the build has it
    #[arg(long, default_value = "flex")]
    device: String,
    /// The storage format of the base in memory: stored, f32, bf16, q8_0, q4_k or nf4
    #[arg(long, default_value_t)]
    base: Base,
    /// Another chat template than the model's own: mistral-v1, -v2, -v3, -v7, -v11, -v13, chatml or a .jinja file. By
    /// default the one that the first adapter was trained with
    #[arg(long)]
    template: Option<TemplateChoice>,
    /// The address to listen on; 0.0.0.0 lets other machines in (then set an API key)
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// The port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// A secret that every request has to bring as `Authorization: Bearer …`
    #[arg(long, env = "FOEHN_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// The most requests that are answered at once
    #[arg(long, default_value_t = 8)]
    parallel: usize,
    /// The most requests that wait; further ones are told to try again
    #[arg(long, default_value_t = 64)]
    queue: usize,
    /// The most tokens of a question and its answer, with all turns before; never more than the model supports
    #[arg(long, default_value_t = 4096)]
    context: usize,
    /// The most tokens to keep in memory, of all requests together; by default enough for --parallel full contexts
    #[arg(long)]
    cache_tokens: Option<usize>,
    /// How long, in milliseconds, the reading of a long question may keep the other answers waiting
    #[arg(long, default_value_t = 100)]
    max_pause: u64,
    /// Adapters in this folder can be added and removed while it runs (POST and DELETE /v1/adapters)
    #[arg(long)]
    adapters_folder: Option<PathBuf>,
    /// A JSON file of word lists, {"Visual": ["bright", …], …}, which the page marks in answers
    #[arg(long)]
    lexicon: Option<PathBuf>,
    #[command(flatten)]
    compute: common::ComputeArgs,
    /// Compute in single precision throughout: slower on a quantised base
    #[arg(long)]
    exact: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::run(|| {
        let server = serving(&arguments)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(async {
            let (host, port) = (arguments.host, arguments.port);
            let listener = tokio::net::TcpListener::bind((host, port)).await;
            let listener = listener.with_context(|| format!("cannot listen on {host}:{port}"))?;
            say!("listening on http://{}", listener.local_addr()?);
            Ok(server.serve(listener, foehn::serve::terminated()).await?)
        })
    })
}

fn serving(arguments: &Arguments) -> Result<foehn::serve::Server> {
    let Arguments { model, adapters, base, parallel, context, .. } = arguments;
    let first = adapters.first().map(|(_, folder)| folder.as_path());
    let template = common::template(arguments.template.as_ref(), first)?;
    let device = foehn::device(&arguments.device)?;
    let mut base = Pretrained::load_with(model, *base, template.as_ref(), &device, &mut common::show_loading())?;
    arguments.compute.set(&mut base.model)?;
    let context = (*context).min(base.model.config().max_position_embeddings);
    let mut serving = Serving::new(
        base,
        EngineConfig {
            max_batch: *parallel,
            max_waiting: arguments.queue,
            context,
            cache_tokens: arguments.cache_tokens.unwrap_or(parallel.saturating_mul(context)),
            max_pause: Duration::from_millis(arguments.max_pause),
            exact: arguments.exact,
        },
    )?;
    for (name, folder) in adapters {
        serving.add_adapter(name, folder, arguments.allow_mismatch, &mut common::show_loading())?;
    }
    tell!("models: {}", serving.models().collect::<Vec<_>>().join(", "));
    let lexicon = arguments.lexicon.as_deref().map(foehn::lexicon_of).transpose()?.unwrap_or_default();
    Ok(serving.into_server(foehn::serve::Config {
        api_key: arguments.api_key.clone(),
        adapters_folder: arguments.adapters_folder.clone(),
        lexicon,
        ..foehn::serve::Config::default()
    })?)
}

/// `NAME=FOLDER`
fn named(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, folder)) if !name.is_empty() && !folder.is_empty() => Ok((name.to_owned(), folder.into())),
        _ => Err("expected NAME=FOLDER, for example vakog=runs/vakog/adapter".to_owned()),
    }
}
