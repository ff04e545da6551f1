//! Errors of a server, not of its requests.

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of this crate. What is wrong with a request is answered to its client instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no model to serve.
    #[error("a server needs at least one model")]
    NoModel,
    /// Two models have the same name.
    #[error("two models are called {}", foehn_files::printable(name))]
    SameName {
        /// The name.
        name: String,
    },
    /// The defaults of a model are out of range.
    #[error("the defaults of {} can't be used", foehn_files::printable(name))]
    Defaults {
        /// The model's name.
        name: String,
        /// What is wrong with them.
        source: foehn_generate::Error,
    },
    /// The folder of adapters can't be used.
    #[error("the folder of adapters {} can't be opened", path.display())]
    AdaptersFolder {
        /// The folder.
        path: std::path::PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The engine's thread could not be started.
    #[error("the engine's thread can't be started")]
    Thread {
        /// The system's error.
        source: std::io::Error,
    },
    /// Listening failed.
    #[error("the server can't go on listening")]
    Listen {
        /// The system's error.
        source: std::io::Error,
    },
}
