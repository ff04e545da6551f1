//! The fields that chat and plain completions have in common.

use std::sync::Arc;

use foehn_generate::{Constraint, GenerateConfig, Request};
use serde_json::Value;

use crate::api_error::{ApiError, ApiResult};
use crate::app::App;
use crate::fields::{Fields, wrong};
use crate::{ModelInfo, random};

/// The most choices of a prompt.
pub(crate) const MAX_N: usize = 16;
/// The most stop strings, and the most bytes of one.
const MAX_STOPS: usize = 16;
const MAX_STOP: usize = 1024;
/// The most alternatives of a token.
pub(crate) const MAX_LOGPROBS: usize = 20;
/// The most requests of one call: prompts times choices.
const MAX_REQUESTS: usize = 256;

/// Fields that change nothing here.
pub(crate) const WITHOUT_EFFECT: [&str; 12] = [
    "metadata",
    "modalities",
    "parallel_tool_calls",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
    "verbosity",
];

/// How a prompt is continued.
#[derive(Debug)]
pub(crate) struct Settings {
    pub model: Arc<ModelInfo>,
    pub config: GenerateConfig,
    /// The longest output; `None` for what the context leaves.
    pub max_tokens: Option<usize>,
    pub n: usize,
    pub stream: bool,
    pub include_usage: bool,
}

impl Settings {
    /// Takes the fields out of a request. `max_tokens` is the caller's.
    pub fn take(app: &App, fields: &mut Fields) -> ApiResult<Self> {
        let model = app.model(&fields.required_text("model")?)?;
        let mut config = GenerateConfig { max_new_tokens: 1, stop: stops(fields)?, ..model.defaults.clone() };
        let sampling = &mut config.sampling;
        if let Some(temperature) = fields.number("temperature")? {
            sampling.temperature = temperature;
        }
        if let Some(top_p) = fields.number("top_p")? {
            sampling.top_p = Some(top_p);
        }
        if let Some(min_p) = fields.number("min_p")? {
            sampling.min_p = Some(min_p);
        }
        if let Some(top_k) = fields.integer("top_k")? {
            // vLLM and llama.cpp write -1 and 0 for no limit.
            sampling.top_k = usize::try_from(top_k).ok().filter(|top_k| *top_k > 0);
        }
        if let Some(penalty) = fields.number("repetition_penalty")? {
            sampling.repetition_penalty = penalty;
        }
        sampling.seed = match fields.integer("seed")? {
            Some(seed) => seed.cast_unsigned(),
            None => random::number(),
        };
        config.check()?;
        for penalty in ["frequency_penalty", "presence_penalty"] {
            fields.neutral(penalty, |value| value.as_f64() == Some(0.0))?;
        }
        fields.neutral("logit_bias", |value| value.as_object().is_some_and(serde_json::Map::is_empty))?;
        let n = fields.within("n", 1, MAX_N)?.unwrap_or(1);
        let stream = fields.boolean("stream")?;
        let include_usage = stream_options(fields, stream)?;
        Ok(Self { model, config, max_tokens: None, n, stream, include_usage })
    }

    /// The requests for the choices of each prompt. Choice `i` of a prompt draws from the seed's stream `i`.
    pub fn requests<C: Constraint + Clone + 'static>(
        &self,
        context: usize,
        prompts: Vec<Vec<u32>>,
        logprobs: Option<usize>,
        prompt_logprobs: bool,
        constraint: Option<&C>,
    ) -> ApiResult<Vec<Request>> {
        if prompts.len() * self.n > MAX_REQUESTS {
            let message = format!("{} prompts with n = {} are more than {MAX_REQUESTS}", prompts.len(), self.n);
            return Err(ApiError::invalid("prompt", message));
        }
        let mut requests = Vec::with_capacity(prompts.len() * self.n);
        for prompt in prompts {
            let left = context.saturating_sub(prompt.len()).max(1);
            for choice in 0..self.n {
                let mut config = self.config.clone();
                config.max_new_tokens = self.max_tokens.unwrap_or(left).max(1);
                config.sampling.stream = config.sampling.stream.wrapping_add(choice as u64);
                let constraint = constraint.map(|constraint| Box::new(constraint.clone()) as Box<dyn Constraint>);
                let request = Request::new(self.model.name.clone(), prompt.clone(), config);
                requests.push(Request { logprobs, prompt_logprobs, constraint, ..request });
            }
        }
        Ok(requests)
    }
}

/// `stop`: a string or a list of them.
fn stops(fields: &mut Fields) -> ApiResult<Vec<String>> {
    let path = fields.path("stop");
    let refused = |message: String| Err(ApiError::invalid(&path, message));
    let stops = match fields.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::String(stop)) => vec![stop],
        Some(Value::Array(values)) => {
            let texts = values.iter().map(|value| value.as_str().map(str::to_owned));
            let expected = || wrong(&path, &Value::Array(Vec::new()), "a string or a list of strings");
            texts.collect::<Option<Vec<_>>>().ok_or_else(expected)?
        }
        Some(other) => return Err(wrong(&path, &other, "a string or a list of strings")),
    };
    if stops.len() > MAX_STOPS {
        return refused(format!("`{path}` has {} strings, expected up to {MAX_STOPS}", stops.len()));
    }
    match stops.iter().find(|stop| stop.is_empty() || stop.len() > MAX_STOP) {
        Some(stop) => refused(format!("a string of `{path}` has {} bytes, expected 1 to {MAX_STOP}", stop.len())),
        None => Ok(stops),
    }
}

/// Whether a stream ends with the usage.
fn stream_options(fields: &mut Fields, stream: bool) -> ApiResult<bool> {
    let path = fields.path("stream_options");
    let Some(options) = fields.take("stream_options") else { return Ok(false) };
    if !stream {
        return Err(ApiError::invalid(&path, "`stream_options` is only allowed with `stream`"));
    }
    let mut options = Fields::new(&path, options)?;
    let include_usage = options.boolean("include_usage")?;
    options.finish(&["include_obfuscation"])?;
    Ok(include_usage)
}
