//! A deterministic stand-in for an engine: for the unit tests, and for `examples/fake_server.rs`, which includes this
//! file.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use foehn_generate::{EngineStats, Error, Event, GenerateConfig, Request, StopMatcher};
use foehn_tokens::{TextStream, Tokenizer};
use tokio::sync::mpsc::UnboundedSender;

use crate::Batch;

mod sequence;

use sequence::Sequence;

/// What it answers.
pub enum Output {
    /// A text, made from the prompt's text, and a stop token.
    Says(Box<dyn Fn(&str) -> String + Send>),
    /// These tokens, and a stop token.
    Ids(Vec<u32>),
    /// What random logits give. So does every output with a constraint.
    Random,
    /// The same token for ever.
    Endless,
    /// The request fails after its first token.
    Fails,
    /// The first step panics.
    Panics,
}

/// How it behaves.
pub struct Plan {
    pub output: Output,
    pub context: usize,
    /// The number of sequences that run at once.
    pub places: usize,
    pub max_queue: usize,
    /// Each step waits for a permit, as long as the sender lives.
    pub permits: Option<Receiver<()>>,
    /// Is told what the engine is asked.
    pub seen: Option<UnboundedSender<Seen>>,
}

impl Plan {
    pub fn new(output: Output) -> Self {
        Self { output, context: 2048, places: 8, max_queue: 64, permits: None, seen: None }
    }

    pub fn says(text: &str) -> Self {
        let text = text.to_owned();
        Self::new(Output::Says(Box::new(move |_| text.clone())))
    }
}

/// What the engine was asked.
#[derive(Debug)]
pub enum Seen {
    Added { prompt: Vec<u32>, config: GenerateConfig },
    Cancelled,
}

pub struct Fake {
    tokenizer: Arc<Tokenizer>,
    plan: Plan,
    models: Vec<String>,
    sequences: Vec<Sequence>,
    /// The last prompt, whose tokens are not computed again.
    cached: Vec<u32>,
    next: u64,
}

impl Fake {
    pub fn new(tokenizer: Arc<Tokenizer>, models: &[&str], plan: Plan) -> Self {
        let models = models.iter().map(|name| (*name).to_owned()).collect();
        Self { tokenizer, plan, models, sequences: Vec::new(), cached: Vec::new(), next: 0 }
    }

    fn see(&self, seen: Seen) {
        if let Some(sender) = &self.plan.seen {
            let _ = sender.send(seen);
        }
    }

    fn script(&self, request: &Request) -> Option<Vec<u32>> {
        match &self.plan.output {
            _ if request.constraint.is_some() => None,
            Output::Says(says) => {
                let text = says(&self.tokenizer.decode(&request.prompt, false));
                self.tokenizer.encode_text(&text).ok()
            }
            Output::Ids(ids) => Some(ids.clone()),
            Output::Endless => Some(Vec::new()),
            Output::Random | Output::Fails | Output::Panics => None,
        }
    }
}

impl Batch for Fake {
    /// Its name is all there is to a model.
    type Model = ();
    type Id = u64;

    fn add(&mut self, request: Request) -> Result<u64, Error> {
        if !self.models.contains(&request.model) {
            return Err(Error::UnknownModel { name: request.model });
        }
        request.config.check()?;
        let (tokens, context) = (request.prompt.len(), self.plan.context);
        if tokens == 0 {
            return Err(Error::EmptyPrompt { sequence: 0 });
        }
        if tokens >= context {
            return Err(Error::PromptTooLong { sequence: 0, tokens, context });
        }
        let vocab_size = self.tokenizer.vocab_size();
        if let Some(id) = request.prompt.iter().find(|id| **id as usize >= vocab_size) {
            return Err(Error::UnknownToken { sequence: 0, id: *id, vocab_size });
        }
        let waiting = self.stats().waiting;
        if self.sequences.len() >= self.plan.places && waiting >= self.plan.max_queue {
            return Err(Error::QueueFull { waiting });
        }
        let id = self.next;
        self.next += 1;
        let (prompt, config) = (request.prompt.clone(), request.config.clone());
        let (script, stops) = (self.script(&request), StopMatcher::new(&config.stop));
        self.see(Seen::Added { prompt, config });
        let endless = matches!(self.plan.output, Output::Endless).then_some(500);
        let text = TextStream::new(true);
        self.sequences.push(Sequence { id, request, script, endless, written: 0, text, stops });
        Ok(id)
    }

    fn step(&mut self, on_event: &mut dyn FnMut(u64, Event)) {
        if let Some(permits) = &self.plan.permits {
            let _ = permits.recv();
        }
        assert!(!matches!(self.plan.output, Output::Panics), "the plan says so");
        let mut ended = Vec::new();
        for sequence in self.sequences.iter_mut().take(self.plan.places) {
            if sequence.written == 0 {
                let prompt = &sequence.request.prompt;
                let same = self.cached.iter().zip(prompt).take_while(|(old, new)| old == new).count();
                let reused = same.min(prompt.len() - 1);
                self.cached.clone_from(prompt);
                on_event(sequence.id, Event::Started { reused, logprobs: sequence.prompt_logprobs() });
            } else if matches!(self.plan.output, Output::Fails) {
                on_event(sequence.id, Event::Failed(Error::Constraint { why: "the plan says so".to_owned() }));
                ended.push(sequence.id);
                continue;
            }
            if sequence.write(&self.tokenizer, self.plan.context, on_event) {
                ended.push(sequence.id);
            }
        }
        self.sequences.retain(|sequence| !ended.contains(&sequence.id));
    }

    fn cancel(&mut self, id: u64) {
        self.sequences.retain(|sequence| sequence.id != id);
        self.see(Seen::Cancelled);
    }

    fn is_idle(&self) -> bool {
        self.sequences.is_empty()
    }

    fn context(&self) -> usize {
        self.plan.context
    }

    fn stats(&self) -> EngineStats {
        let running = self.sequences.len().min(self.plan.places);
        EngineStats { running, waiting: self.sequences.len() - running, cached_tokens: self.cached.len() }
    }

    fn add_model(&mut self, name: String, (): ()) -> Result<(), Error> {
        self.models.push(name);
        Ok(())
    }

    fn remove_model(&mut self, name: &str) -> bool {
        let before = self.models.len();
        self.models.retain(|model| model != name);
        self.models.len() < before
    }
}
