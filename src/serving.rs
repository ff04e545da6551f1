//! A base with any number of adapters behind an HTTP server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use foehn_generate::{Engine, EngineConfig, GenerateConfig, SamplingConfig};
use foehn_mistral::Mistral;
use foehn_serve::{Config, Lexicon, ModelInfo, Server};

use crate::{LoadError, Loading, Pretrained};

/// A model cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// An adapter cannot be loaded.
    #[error(transparent)]
    Load(Box<LoadError>),
    /// The engine refuses a setting or a model.
    #[error(transparent)]
    Engine(#[from] foehn_generate::Error),
    /// The server cannot be started.
    #[error(transparent)]
    Server(#[from] foehn_serve::Error),
    /// The words that the page marks cannot be read.
    #[error("cannot read the lexicon {}", path.display())]
    Lexicon {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<foehn_corpus::Error>,
    },
}

impl From<LoadError> for ServeError {
    fn from(error: LoadError) -> Self {
        Self::Load(Box::new(error))
    }
}

/// A base and its adapters, about to be served.
///
/// ```no_run
/// use foehn::generate::EngineConfig;
/// use foehn::{Pretrained, Serving};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let base = Pretrained::load("smollm2-135m-instruct", &foehn::device("flex")?)?;
/// let mut serving = Serving::new(base, EngineConfig::default())?;
/// serving.add_adapter("vakog", "runs/vakog/adapter".as_ref(), false, &mut |_| ())?;
/// let server = serving.into_server(Default::default())?;
/// server.serve(tokio::net::TcpListener::bind("127.0.0.1:8080").await?, foehn::serve::terminated()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Serving {
    base: Arc<Pretrained>,
    engine: Engine,
    models: Vec<ModelInfo>,
    exact: bool,
}

impl Serving {
    /// A base, under its own name: that of a file or folder is its last part.
    ///
    /// # Errors
    /// [`ServeError::Engine`].
    pub fn new(base: Pretrained, config: EngineConfig) -> Result<Self, ServeError> {
        let name = name_of(Path::new(&base.name)).unwrap_or_else(|| base.name.clone());
        let exact = config.exact;
        let engine = Engine::new(name.clone(), base.model.clone(), Arc::clone(&base.tokenizer), config)?;
        let base = Arc::new(base);
        let models = vec![info(&base, name, None, exact)?];
        Ok(Self { base, engine, models, exact })
    }

    /// Adds an adapter, which requests ask for by this name. What its folder's `generation_config.json` says counts where a
    /// request says nothing.
    ///
    /// # Errors
    /// [`ServeError::Load`] for an adapter that cannot be used, or that was trained on another base, tokenizer or template
    /// without `allow_mismatch`; [`ServeError::Engine`] for a name that is taken.
    pub fn add_adapter(
        &mut self,
        name: &str,
        folder: &Path,
        allow_mismatch: bool,
        progress: &mut dyn FnMut(Loading<'_>),
    ) -> Result<(), ServeError> {
        let info = info(&self.base, name.to_owned(), Some(folder), self.exact)?;
        let (model, _) = self.base.adapted(folder, allow_mismatch, progress)?;
        self.engine.add_model(name, model)?;
        self.models.push(info);
        Ok(())
    }

    /// The names of the models, that of the base first.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.models.iter().map(|model| model.name.as_str())
    }

    /// The server. It can load further adapters, if the config names their folder.
    ///
    /// # Errors
    /// [`ServeError::Server`].
    pub fn into_server(self, config: Config) -> Result<Server, ServeError> {
        let Self { base, engine, models, exact } = self;
        let tokenizer = Arc::clone(&base.tokenizer);
        let load = move |name: &str, folder: &Path| -> Result<(Mistral, ModelInfo), String> {
            let loaded = || -> Result<_, ServeError> {
                let (model, _) = base.adapted(folder, false, &mut |_| ())?;
                Ok((model, info(&base, name.to_owned(), Some(folder), exact)?))
            };
            loaded().map_err(|error| foehn_files::printable(with_causes(&error)).to_string())
        };
        Ok(Server::new(engine, tokenizer, models, Some(Box::new(load)), config)?)
    }
}

/// The words of each class of a lexicon file, for the page to mark.
///
/// # Errors
/// [`ServeError::Lexicon`].
pub fn lexicon_of(path: &Path) -> Result<Vec<Lexicon>, ServeError> {
    let failed = |source| ServeError::Lexicon { path: path.to_owned(), source: Box::new(source) };
    let lexicon = foehn_corpus::Lexicon::load(path).map_err(failed)?;
    let owned = |(name, words): (&str, Vec<&str>)| {
        let words = words.into_iter().map(str::to_owned).collect();
        Lexicon { name: name.to_owned(), words }
    };
    Ok(lexicon.lists().map(owned).collect())
}

/// What requests see of a model; with a folder, of the adapter in it.
fn info(base: &Pretrained, name: String, folder: Option<&Path>, exact: bool) -> Result<ModelInfo, ServeError> {
    let sampling = folder.map(SamplingConfig::of_folder).transpose()?.flatten().unwrap_or_default();
    let created = folder.and_then(|folder| folder.metadata().and_then(|metadata| metadata.modified()).ok());
    let run_folder = folder.and_then(Path::parent).filter(|run| run.join("metrics.jsonl").is_file());
    Ok(ModelInfo {
        name,
        is_adapter: folder.is_some(),
        template: Arc::clone(&base.template),
        defaults: GenerateConfig { sampling, exact, ..GenerateConfig::default() },
        created: created.unwrap_or_else(SystemTime::now),
        run_folder: run_folder.map(Path::to_owned),
    })
}

/// The last part of a path, without the ending of a file of weights.
fn name_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy();
    Some(name.strip_suffix(".gguf").unwrap_or(&name).to_owned())
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
