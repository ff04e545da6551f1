//! A server: made of an engine, listening, and stopping.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

use axum::Router;
use foehn_tokens::Tokenizer;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use crate::app::App;
use crate::generation::Handle;
use crate::metrics::Metrics;
use crate::page::Page;
use crate::{Batch, Config, Error, Loader, ModelInfo, Result, adapters, driver, routes};

/// How long the last bytes of answers have to reach their clients after the requests have ended.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// OpenAI's interface over an engine.
#[derive(Clone)]
pub struct Server {
    app: Arc<App>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Server").field("config", &self.app.config).finish_non_exhaustive()
    }
}

impl Server {
    /// Starts the engine's thread. The engine has the models already; of all of them, `models` says what requests need to
    /// know. `loader` opens the adapters that are added later.
    ///
    /// # Errors
    /// [`Error::NoModel`], [`Error::SameName`], [`Error::Defaults`], [`Error::AdaptersFolder`] and [`Error::Thread`].
    pub fn new<B: Batch>(
        engine: B,
        tokenizer: Arc<Tokenizer>,
        models: Vec<ModelInfo>,
        loader: Option<Loader<B::Model>>,
        config: Config,
    ) -> Result<Self> {
        check(&models)?;
        let resolve = |path: &std::path::PathBuf| {
            path.canonicalize().map_err(|source| Error::AdaptersFolder { path: path.clone(), source })
        };
        let adapters_folder = config.adapters_folder.as_ref().map(resolve).transpose()?;
        let (metrics, gone) = (Arc::new(Metrics::new()), Arc::new(AtomicBool::new(false)));
        let context = engine.context();
        let commands = driver::start(engine, Arc::clone(&metrics), Arc::clone(&gone))
            .map_err(|source| Error::Thread { source })?;
        let app = App {
            config,
            adapters_folder,
            tokenizer,
            engine: Handle::new(commands, gone),
            context,
            metrics,
            page: Page::new(),
            loader: loader.map(adapters::any),
            adapters: Mutex::new(()),
            models: RwLock::new(models.into_iter().map(Arc::new).collect()),
            draining: AtomicBool::new(false),
            grammars: OnceLock::new(),
            renderers: Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)),
        };
        Ok(Self { app: Arc::new(app) })
    }

    /// All routes, for tests and for programs with a server of their own.
    pub fn router(&self) -> Router {
        routes::router(Arc::clone(&self.app))
    }

    /// Answers until `shutdown` completes. Then new requests get 503, while running ones go on for up to
    /// [`Config::grace`]; what is left is cut off.
    ///
    /// # Errors
    /// [`Error::Listen`] if the system no longer lets it listen.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) -> Result<()> {
        let (stop, stopped) = oneshot::channel::<()>();
        let server = axum::serve(listener, self.router()).with_graceful_shutdown(async {
            let _ = stopped.await;
        });
        let drained = async {
            shutdown.await;
            self.drain().await;
            let _ = stop.send(());
            sleep(LAST_BYTES).await;
        };
        tokio::select! {
            result = server => result.map_err(|source| Error::Listen { source }),
            () = drained => Ok(()),
        }
    }

    #[cfg(test)]
    pub(crate) fn app_is_draining(&self) -> bool {
        self.app.is_draining()
    }

    /// Takes no new requests, and returns when the running ones have ended or the time of grace is over.
    async fn drain(&self) {
        self.app.draining.store(true, Ordering::Release);
        if timeout(self.app.config.grace, self.app.engine.idle()).await.is_err() {
            self.app.engine.cancel_all();
        }
    }
}

fn check(models: &[ModelInfo]) -> Result<()> {
    if models.is_empty() {
        return Err(Error::NoModel);
    }
    for (at, model) in models.iter().enumerate() {
        let name = || model.name.clone();
        if models.iter().take(at).any(|other| other.name == model.name) {
            return Err(Error::SameName { name: name() });
        }
        model.defaults.check().map_err(|source| Error::Defaults { name: name(), source })?;
    }
    Ok(())
}

/// Completes when the process is told to end: by Ctrl-C, or by SIGTERM where there is one.
pub async fn terminated() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a handler, the signal ends the process by itself.
        std::future::pending::<()>().await;
    }
}
