//! OpenAI's HTTP interface over a batching engine. It knows no tensor.
//!
//! A [`Server`] owns an engine (a [`Batch`]), which runs in a thread of its own, and answers with the shapes of OpenAI's
//! interface. [`Server::router`] is the whole of it as a router, for tests and for other programs; [`Server::serve`]
//! listens, and drains when it is told to stop.
//!
//! Text in any field of a request stays text: only a chat template writes control tokens. A field that would change the
//! answer and is not known is refused by name.
//!
//! ```
//! # use std::sync::Arc;
//! # use foehn_serve::{Batch, Config, ModelInfo, Server};
//! # use foehn_tokens::Tokenizer;
//! async fn run<B: Batch>(engine: B, tokenizer: Arc<Tokenizer>, model: ModelInfo) -> Result<(), foehn_serve::Error> {
//!     let config = Config { api_key: Some("a long secret".to_owned()), ..Config::default() };
//!     let server = Server::new(engine, tokenizer, vec![model], None, config)?;
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:8000").await.unwrap();
//!     server.serve(listener, foehn_serve::terminated()).await
//! }
//! ```

mod adapters;
mod api_error;
mod app;
mod batch;
mod chat;
mod completions;
mod config;
mod driver;
mod engine;
mod error;
#[cfg(test)]
mod fake;
mod fields;
mod generation;
mod grammar;
mod guard;
mod info;
mod metrics;
mod models;
mod page;
mod random;
mod routes;
mod server;
mod settings;
mod sse;
#[cfg(test)]
mod tests;
mod text;
mod tools;
mod usage;
mod vocabulary;

pub use batch::Batch;
pub use config::{Config, Lexicon, Loader, ModelInfo};
pub use error::{Error, Result};
pub use server::{Server, terminated};
