//! Why a part cannot be used.

use foehn_files::printable;

/// Why a folder cannot be used as a part of a cleaning.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartFault {
    /// There is no such folder.
    #[error("there is no such folder: map the part first")]
    Missing,
    /// The folder has no manifest, which is written last.
    #[error("it has no manifest, so its mapping did not end: map the part again")]
    Unfinished,
    /// The manifest cannot be read.
    #[error("its manifest is not that of a part: {}", printable(source))]
    Manifest {
        /// The parser's error.
        source: serde_json::Error,
    },
    /// The part was made by another version of this crate.
    #[error("its files have the format {found}, and this version reads {expected}: map the part again")]
    Format {
        /// The format of the part.
        found: u32,
        /// The format that is read.
        expected: u32,
    },
    /// The part was made by another pipeline.
    #[error(
        "it was mapped by the pipeline {}, not by {}: map it again with the same passes and settings",
        printable(found),
        printable(expected)
    )]
    Pipeline {
        /// The hash of the part's pipeline.
        found: String,
        /// The hash of the pipeline that judges.
        expected: String,
    },
    /// The part was made with other ids of records to keep.
    #[error("it was mapped with other ids of records to keep: give each stage the same ones, or map the part again")]
    Keep,
    /// A file of the part cannot be read.
    #[error("its file `{}` cannot be read", printable(file))]
    File {
        /// The file.
        file: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file of the part is not as it was written.
    #[error("its file `{}` is cut off or damaged: map the part and judge it again", printable(file))]
    Damaged {
        /// The file.
        file: String,
    },
    /// The folder is given twice.
    #[error("it is given twice")]
    Twice,
    /// The part is not made of the files that come next.
    #[error(
        "it is made of {}, where {} comes next: give all parts, in the order of their files",
        shown(found),
        shown(expected)
    )]
    Inputs {
        /// The file that the part is made of; `None` if there is no part left.
        found: Option<String>,
        /// The file that comes next; `None` if there is none left.
        expected: Option<String>,
    },
    /// A file has changed since the part was made of it.
    #[error("{} has changed since: map the part again", printable(input))]
    Changed {
        /// The file.
        input: String,
    },
    /// The part has not been judged.
    #[error("it has no verdict: judge all parts first")]
    NotJudged,
    /// The verdict is that of another part.
    #[error("it was mapped again after its verdict: judge all parts again")]
    Stale,
    /// The part was judged together with other parts than those before it.
    #[error("it was judged with other parts than those before it: judge all parts again, together")]
    Apart,
    /// Parts are missing, or in another order than when they were judged.
    #[error(
        "it is part {found} of {of}, where part {expected} comes next: give the parts in the order of their judging"
    )]
    Order {
        /// The number of the part, from 1.
        found: usize,
        /// The number that comes next.
        expected: usize,
        /// The number of parts.
        of: usize,
    },
    /// The folder holds something else, so no part is written in its place.
    #[error("it holds `{}`, which is no file of a part: name a new folder", printable(entry))]
    Taken {
        /// A file in it.
        entry: String,
    },
}

fn shown(file: &Option<String>) -> String {
    file.as_ref().map_or_else(|| "nothing".to_owned(), |file| printable(file).to_string())
}
