//! Sampling, streaming, stopping, sessions.
//!
//! [`generate`] continues a batch of prompts, and [`stream`] also sends the text as it is generated. Both use
//! [`continue_ids`], the loop over token ids. A [`Session`] keeps a conversation and its cache. All of them work the
//! same with and without an adapter.
//!
//! A model with a trainable adapter must not generate: autodiff would record every pass. Attach the adapter without
//! tracking first.
//!
//! ```
//! use foehn_generate::{GenerateConfig, SamplingConfig, StopMatcher};
//!
//! let config = GenerateConfig {
//!     max_new_tokens: 64,
//!     stop: vec!["\nUser:".to_owned()],
//!     sampling: SamplingConfig { temperature: 0.8, top_p: Some(0.95), ..SamplingConfig::default() },
//!     ..GenerateConfig::default()
//! };
//! config.check()?;
//!
//! // What a stream may show at once: text that could begin a stop string is held back.
//! let mut matcher = StopMatcher::new(&config.stop);
//! assert_eq!(matcher.push("Visual\nUs"), ("Visual".to_owned(), false));
//! assert_eq!(matcher.push("ed to it"), ("\nUsed to it".to_owned(), false));
//! assert_eq!(matcher.push("\nUser: and"), (String::new(), true));
//! # Ok::<(), foehn_generate::Error>(())
//! ```

mod config;
mod decode;
mod engine;
mod error;
mod generate;
mod generation_config;
mod sample;
mod session;
mod stop;

pub use config::{GenerateConfig, SamplingConfig};
pub use decode::{Continuation, Limits, StopReason, continue_ids};
pub use engine::{Constraint, Engine, EngineConfig, EngineStats, Event, Request, RequestId, TokenLogprob};
pub use error::{Error, Result};
pub use generate::{Generation, generate, stream};
pub use generation_config::FILE as GENERATION_CONFIG;
pub use sample::{
    Sampler, apply_repetition_penalty, apply_temperature, argmax, draw, keep_min_p, keep_top_k, keep_top_p,
};
pub use session::{Session, SessionConfig};
pub use stop::StopMatcher;
