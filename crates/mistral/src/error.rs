//! Errors between a checkpoint and a model.

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The config is not a JSON object.
    #[error("the model's config is not valid JSON")]
    ConfigSyntax {
        /// The parser's error.
        #[source]
        source: serde_json::Error,
    },
    /// A field of the config is absent or has a value that is not supported.
    #[error("the model's config has `{field}` = {found}, expected {expected}")]
    ConfigField {
        /// The field's name in `config.json` or in the GGUF's metadata.
        field: String,
        /// Its value, or `nothing` if it is absent.
        found: String,
        /// The accepted values.
        expected: String,
    },
    /// A tensor's shape is not the one that the config implies.
    #[error("tensor `{name}` has shape {found:?}, the config asks for {expected:?}")]
    Shape {
        /// The tensor's name in its file.
        name: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape that the config implies.
        expected: Vec<usize>,
    },
    /// The checkpoint has tensors that the network does not use: it belongs to another architecture.
    #[error("the checkpoint has {} tensors that this network does not use, which would change what it computes: {}", names.len(), some_of(names))]
    UnusedTensors {
        /// Their names in the file.
        names: Vec<String>,
    },
    /// A half-precision tensor holds NaN or infinity.
    #[error("tensor {name:?} is not finite at element {index}: the file is damaged, or its training diverged")]
    NotFinite {
        /// The tensor's name in its file.
        name: String,
        /// The first such element, row-major.
        index: usize,
    },
    /// There is no storage format of this name.
    #[error("there is no base `{found}`; use one of: {known}")]
    UnknownBase {
        /// The requested name.
        found: String,
        /// All known names.
        known: String,
    },
    /// A file that is not a tensor file could not be written.
    #[error("cannot write {path}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A tensor could not be read or written.
    #[error("cannot use the weights")]
    Weights {
        /// The error of the file's reader or writer.
        #[from]
        source: foehn_weights::Error,
    },
}

/// The first names, with control characters escaped.
fn some_of(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(4).map(|name| format!("{name:?}")).collect();
    shown.join(", ") + if names.len() > shown.len() { ", …" } else { "" }
}
