//! What a server is told at its start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use foehn_generate::GenerateConfig;
use foehn_tokens::ChatTemplate;

/// The settings of a server. The most requests that wait are the engine's to say.
#[derive(Clone)]
pub struct Config {
    /// The key that requests have to bring as `Authorization: Bearer …`. Without one, requests whose `Host` is neither
    /// `localhost` nor an IP address are refused, so that no web page reaches the server under a name of its own.
    pub api_key: Option<String>,
    /// The largest body of a request, in bytes.
    pub max_body: usize,
    /// The longest time that a request takes, from its arrival to its last token.
    pub request_timeout: Option<Duration>,
    /// How long running requests may go on after the server is told to stop.
    pub grace: Duration,
    /// The folder in which adapters lie that are added at run time. Without it, none can be added or removed.
    pub adapters_folder: Option<PathBuf>,
    /// Whether `/` shows the page.
    pub page: bool,
    /// Lists of words that the page marks in texts.
    pub lexicon: Vec<Lexicon>,
}

impl Default for Config {
    /// No key, bodies of up to 4 MiB, no limit of time, 30 seconds of grace, no adapters at run time, and the page.
    fn default() -> Self {
        Self {
            api_key: None,
            max_body: 4 << 20,
            request_timeout: None,
            grace: Duration::from_secs(30),
            adapters_folder: None,
            page: true,
            lexicon: Vec::new(),
        }
    }
}

impl std::fmt::Debug for Config {
    /// Without the key.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Config")
            .field("api_key", &self.api_key.as_ref().map(|_| "…"))
            .field("max_body", &self.max_body)
            .field("request_timeout", &self.request_timeout)
            .field("grace", &self.grace)
            .field("adapters_folder", &self.adapters_folder)
            .field("page", &self.page)
            .field("lexicon", &self.lexicon.len())
            .finish()
    }
}

/// A list of words that belong together.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Lexicon {
    /// What they have in common.
    pub name: String,
    /// The words.
    pub words: Vec<String>,
}

/// A model that requests can name.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// The name in requests. It has to be the engine's name for the model too.
    pub name: String,
    /// Whether it is an adapter on the engine's base.
    pub is_adapter: bool,
    /// The template of its conversations.
    pub template: Arc<ChatTemplate>,
    /// How its answers are decoded where a request does not say: its `generation_config.json`.
    pub defaults: GenerateConfig,
    /// When it was made.
    pub created: SystemTime,
    /// The folder of the run that it comes from, for the page: `metrics.jsonl` and `report.html`.
    pub run_folder: Option<PathBuf>,
}

/// Opens an adapter: its name and its folder in, what the engine adds and what requests see out. An error is shown to the
/// client.
pub type Loader<M> = Box<dyn Fn(&str, &Path) -> std::result::Result<(M, ModelInfo), String> + Send + Sync>;
