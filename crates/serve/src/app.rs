//! What all handlers share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use foehn_tokens::Tokenizer;
use serde_json::Value;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::adapters::AnyLoader;
use crate::api_error::{ApiError, ApiResult};
use crate::fields::Fields;
use crate::generation::Handle;
use crate::grammar::Grammars;
use crate::metrics::Metrics;
use crate::page::Page;
use crate::{Config, ModelInfo};

/// The state of a server.
pub(crate) struct App {
    pub config: Config,
    /// [`Config::adapters_folder`], with every link resolved.
    pub adapters_folder: Option<PathBuf>,
    pub tokenizer: Arc<Tokenizer>,
    pub engine: Handle,
    pub context: usize,
    pub metrics: Arc<Metrics>,
    pub page: Page,
    pub loader: Option<AnyLoader>,
    /// Held while an adapter is added or removed.
    pub adapters: Mutex<()>,
    pub models: RwLock<Vec<Arc<ModelInfo>>>,
    pub draining: AtomicBool,
    pub grammars: OnceLock<Grammars>,
    /// As many prompts are rendered at once as there are cores.
    pub renderers: Semaphore,
}

impl App {
    /// All models, in the order in which they were added.
    pub fn models(&self) -> Vec<Arc<ModelInfo>> {
        self.models.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn model(&self, name: &str) -> ApiResult<Arc<ModelInfo>> {
        self.models().into_iter().find(|model| model.name == name).ok_or_else(|| ApiError::no_model(name))
    }

    /// Changes the list of models.
    pub fn change_models(&self, change: impl FnOnce(&mut Vec<Arc<ModelInfo>>)) {
        change(&mut self.models.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// The grammars over this tokenizer, which are prepared when the first one is asked for.
    pub fn grammars(&self) -> &Grammars {
        self.grammars.get_or_init(|| Grammars::new(&self.tokenizer))
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// When a request that arrives now has to be done.
    pub fn deadline(&self) -> Option<Instant> {
        self.config.request_timeout.map(|limit| Instant::now() + limit)
    }

    /// The JSON object in a body.
    pub async fn read(&self, request: Request<Body>, deadline: Option<Instant>) -> ApiResult<Fields> {
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media = content_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
        if !media.eq_ignore_ascii_case("application/json") {
            let message = "the content type has to be application/json";
            return Err(ApiError::refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
        }
        let limit = self.config.max_body;
        let read = to_bytes(request.into_body(), limit);
        let bytes = match deadline {
            Some(deadline) => timeout_at(deadline, read).await.map_err(|_| ApiError::timeout())?,
            None => read.await,
        };
        let bytes = bytes.map_err(|_| {
            let message = format!("the body can't be read, or it has more than {limit} bytes");
            ApiError::refused(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
        })?;
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| ApiError::invalid("", format!("the body is not JSON: {error}")))?;
        Fields::new("", value)
    }

    /// Runs what takes a processor's time beside the threads that serve connections.
    pub async fn compute<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&App) -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<T> {
        // The semaphore is never closed.
        let _permit = self.renderers.acquire().await;
        let app = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&app)).await;
        done.map_err(|_| ApiError::server("the request could not be prepared"))?
    }
}
