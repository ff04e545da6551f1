//! Talks to a model, with or without an adapter.
//!
//!     cargo run --release --example chat -- --adapter runs/vakog/adapter --prompt "What modality is: 'A bell rang'?"

mod common;

use std::io::{BufRead, stdin};
use std::ops::ControlFlow;
use std::process::ExitCode;

use clap::Parser;
use common::terminal::{say, show, show_on_stderr, tell};
use foehn::corpus::{Message, Role};
use foehn::generate::{GenerateConfig, SamplingConfig, SessionConfig};

/// Streams answers. With --prompt it answers once; otherwise it reads lines from stdin until stdin ends.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    model: common::TextModelArgs,
    /// Answer this and exit
    #[arg(long)]
    prompt: Option<String>,
    /// A system message that replaces the template's default
    #[arg(long)]
    system: Option<String>,
    /// The largest length of an answer, in tokens
    #[arg(long, default_value_t = 256)]
    max_new_tokens: usize,
    /// The largest length of the whole conversation, in tokens; never more than the model supports
    #[arg(long, default_value_t = 4096)]
    context: usize,
    /// Where the conversation outgrows its room, leave out its oldest turns
    #[arg(long)]
    forget: bool,
    #[command(flatten)]
    sampling: common::SamplingArgs,
    /// The seed of the random draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Compute in single precision throughout: slower on a quantised base
    #[arg(long)]
    exact: bool,
    /// End an answer where this text appears; may be given several times
    #[arg(long)]
    stop: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::run(|| {
        let base = arguments.model.load()?;
        let sampling = arguments.sampling.config(arguments.model.model.adapter.as_deref())?;
        let config = GenerateConfig {
            max_new_tokens: arguments.max_new_tokens,
            stop: arguments.stop,
            sampling: SamplingConfig { seed: arguments.seed, ..sampling },
            exact: arguments.exact,
        };
        let system = arguments.system.map(|text| Message::new(Role::System, text));
        let messages = system.into_iter().collect();
        let config = SessionConfig { generate: config, context: arguments.context, forget: arguments.forget };
        let mut session = base.session(config, messages)?;
        let mut answer = |question: &str| -> anyhow::Result<()> {
            let forgotten = session.forgotten();
            session.say(question, &mut |piece| {
                show(format_args!("{piece}"));
                ControlFlow::Continue(())
            })?;
            say!("");
            if session.forgotten() > forgotten {
                eprintln!("note: the conversation outgrew its room; {} messages are left out", session.forgotten());
            }
            Ok(())
        };
        if let Some(question) = &arguments.prompt {
            return answer(question);
        }
        show_on_stderr(format_args!("> "));
        let (mut input, mut line) = (stdin().lock(), Vec::new());
        while input.read_until(b'\n', &mut line)? > 0 {
            // If a line cannot be answered, the conversation stays unchanged.
            let answered = match std::str::from_utf8(&line) {
                Ok(text) if text.trim().is_empty() => Ok(()),
                Ok(text) => answer(text.trim_end_matches(['\r', '\n'])),
                Err(error) => Err(anyhow::Error::new(error).context("this line is not UTF-8")),
            };
            answered.unwrap_or_else(|error| tell!("error: {error:#}"));
            line.clear();
            show_on_stderr(format_args!("> "));
        }
        tell!("");
        Ok(())
    })
}
