//! Output that follows a grammar: JSON, or JSON of a schema.

use std::fmt;
use std::sync::Arc;

use foehn_generate::Constraint;
use foehn_tokens::Tokenizer;
use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};

use crate::api_error::{ApiError, ApiResult};

/// White space between the parts of JSON. Without a limit, a small model can go on with blanks for ever.
const WHITE_SPACE: &str = r"[ \n\r\t]{1,40}";
/// The key with which a schema would give options to the grammar's compiler. It could ask for other output than JSON.
const OPTIONS: &str = "x-guidance";

/// Makes grammars over the tokens of a tokenizer.
pub(crate) struct Grammars {
    /// Why there are none, if so.
    factory: Result<ParserFactory, String>,
}

impl Grammars {
    pub fn new(tokenizer: &Tokenizer) -> Self {
        Self { factory: factory(tokenizer) }
    }

    /// Any JSON object.
    pub fn json_object(&self) -> ApiResult<Json> {
        self.json_schema(json!({"type": "object"}))
    }

    /// JSON of a schema.
    pub fn json_schema(&self, mut schema: Value) -> ApiResult<Json> {
        let failed = |why: String| ApiError::invalid("response_format", why);
        let factory = self.factory.as_ref().map_err(|why| failed(why.clone()))?;
        if schema.get(OPTIONS).is_some() {
            return Err(failed(format!("`{OPTIONS}` is not supported in a schema")));
        }
        match &mut schema {
            Value::Object(keys) => {
                keys.insert(OPTIONS.to_owned(), json!({"whitespace_pattern": WHITE_SPACE}));
            }
            Value::Bool(true) => schema = json!({OPTIONS: {"whitespace_pattern": WHITE_SPACE}}),
            _ => return Err(failed("a schema is an object".to_owned())),
        }
        let parser = factory.create_parser(TopLevelGrammar::from_json_schema(schema));
        let parser = parser.map_err(|error| failed(format!("the schema can't be used: {error:#}")))?;
        Ok(Json(Matcher::new(Ok(parser))))
    }
}

fn factory(tokenizer: &Tokenizer) -> Result<ParserFactory, String> {
    let &[eos, ..] = tokenizer.eos_ids() else { return Err("the tokenizer has no stop token".to_owned()) };
    // Control tokens are no text: a byte that no UTF-8 has stands before their names.
    let word = |id: u32| match tokenizer.is_control(id) {
        true => [&[TokTrie::SPECIAL_TOKEN_MARKER], tokenizer.token_bytes(id)].concat(),
        false => tokenizer.token_bytes(id).to_vec(),
    };
    let size = u32::try_from(tokenizer.vocab_size()).map_err(|error| error.to_string())?;
    let words: Vec<Vec<u8>> = (0..size).map(word).collect();
    let trie = TokTrie::from(&TokRxInfo::new(size, eos), &words).with_eos_tokens(tokenizer.eos_ids());
    let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    let slices = llguidance::earley::SlicedBiasComputer::general_slices();
    let mut factory = ParserFactory::new(&env, InferenceCapabilities::default(), &slices)
        .map_err(|error| format!("the tokenizer can't be used for grammars: {error:#}"))?;
    factory.quiet();
    factory.limits_mut().verbose_errors = false;
    Ok(factory)
}

/// A place in JSON that is being written.
pub(crate) struct Json(Matcher);

impl Clone for Json {
    /// With caches of its own, for another request.
    fn clone(&self) -> Self {
        Self(self.0.deep_clone())
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Json").field("is_complete", &self.0.is_stopped()).finish_non_exhaustive()
    }
}

impl Constraint for Json {
    fn mask(&mut self, logits: &mut [f32]) -> Result<(), String> {
        let allowed = self.0.compute_mask_or_eos().map_err(|error| format!("{error:#}"))?;
        // An embedding may have more rows than there are tokens.
        let mut left = false;
        for (id, logit) in (0..).zip(logits) {
            if (id as usize) < allowed.len() && allowed.is_allowed(id) {
                left = true;
            } else {
                *logit = f32::NEG_INFINITY;
            }
        }
        if left { Ok(()) } else { Err("no token can follow".to_owned()) }
    }

    fn accept(&mut self, id: u32) -> Result<(), String> {
        if self.0.is_stopped() && !self.0.is_error() {
            return Ok(());
        }
        self.0.consume_token(id).map_err(|error| format!("{error:#}"))
    }
}
