//! What is counted, and the text that Prometheus reads.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use foehn_generate::{EngineStats, Event};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

type Labels = [(&'static str, String); 2];

/// All counters of a server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    generated: Counter,
    prompt: Counter,
    reused: Counter,
    running: Gauge,
    waiting: Gauge,
    cached: Gauge<u64, AtomicU64>,
    first_token: Histogram,
    each_token: Histogram,
}

impl Metrics {
    pub fn new() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let made = Self {
            registry: Registry::default(),
            requests: Family::default(),
            generated: Counter::default(),
            prompt: Counter::default(),
            reused: Counter::default(),
            running: Gauge::default(),
            waiting: Gauge::default(),
            cached: Gauge::default(),
            first_token: seconds(),
            each_token: seconds(),
        };
        let mut registry = Registry::with_prefix("foehn");
        registry.register("requests", "Requests by endpoint and status", made.requests.clone());
        registry.register("generated_tokens", "Tokens that were chosen", made.generated.clone());
        registry.register("prompt_tokens", "Tokens of prompts", made.prompt.clone());
        registry.register("reused_tokens", "Tokens of prompts that were not computed again", made.reused.clone());
        registry.register("running", "Requests in the batch", made.running.clone());
        registry.register("waiting", "Requests that wait for a place", made.waiting.clone());
        registry.register("cached_tokens", "Tokens whose keys and values are kept", made.cached.clone());
        let help = "Seconds from a request to its first token";
        registry.register("time_to_first_token_seconds", help, made.first_token.clone());
        registry.register("time_per_token_seconds", "Seconds from token to token", made.each_token.clone());
        Self { registry, ..made }
    }

    /// Counts an answer.
    pub fn answered(&self, endpoint: String, status: u16) {
        self.requests.get_or_create(&[("endpoint", endpoint), ("status", status.to_string())]).inc();
    }

    /// Counts an event of a request. `prompt` is its prompt's length, `clock` the time of the token before.
    pub fn happened(&self, event: &Event, prompt: usize, clock: &mut Clock) {
        match event {
            Event::Started { reused, .. } => {
                self.prompt.inc_by(prompt as u64);
                self.reused.inc_by(*reused as u64);
            }
            Event::Token { .. } => {
                self.generated.inc();
                let (is_first, took) = clock.tick();
                let histogram = if is_first { &self.first_token } else { &self.each_token };
                histogram.observe(took.as_secs_f64());
            }
            Event::Finished { .. } | Event::Failed(_) => {}
        }
    }

    /// Takes over what the engine says of itself.
    pub fn busy(&self, stats: EngineStats) {
        self.running.set(i64::try_from(stats.running).unwrap_or(i64::MAX));
        self.waiting.set(i64::try_from(stats.waiting).unwrap_or(i64::MAX));
        self.cached.set(stats.cached_tokens as u64);
    }

    /// In the text format of OpenMetrics, which Prometheus reads.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a text cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// The time of a request's last token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    last: Instant,
    begun: bool,
}

impl Clock {
    pub fn new() -> Self {
        Self { last: Instant::now(), begun: false }
    }

    /// Whether it is the first token, and the time since the one before or since the start.
    fn tick(&mut self) -> (bool, Duration) {
        let now = Instant::now();
        let took = now - std::mem::replace(&mut self.last, now);
        (!std::mem::replace(&mut self.begun, true), took)
    }
}
