//! What can go wrong with a file. What can go wrong with one record is a [`Fault`], and goes into the report.

use std::path::PathBuf;

use foehn_files::printable;

use crate::read::Fault;

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// A file or a parameter that cannot be used.
///
/// A record that cannot be used is never an error of [`clean`](crate::clean): it is a
/// [`Rejection`](crate::Rejection) in the [`Report`](crate::Report).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file does not exist or may not be read.
    #[error("cannot open {path}: check that it exists and that you may read it")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The path is a folder.
    #[error("{path} is a folder: name the dataset file inside it")]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// The file holds no record at all.
    #[error("{path} holds no record: it is empty, blank, or has a header alone")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// No reader is known for the file's extension.
    #[error(
        "{path} has an unknown format `{extension}`: use .jsonl, .ndjson, .json, .csv or .parquet, the first four also with .gz or .zst",
        extension = printable(extension)
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// The extension found, possibly empty.
        extension: String,
    },
    /// The system failed while the file was read.
    #[error("cannot read {path} after line {line}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The last line that was read.
        line: u64,
        /// What the system said.
        source: std::io::Error,
    },
    /// Compressed data ends too early, or is damaged.
    #[error("cannot unpack {path} after line {line}: its {format} data is cut off or damaged; fetch or pack it again")]
    Compressed {
        /// The file.
        path: PathBuf,
        /// The last line that was read.
        line: u64,
        /// `gzip` or `Zstandard`.
        format: &'static str,
        /// What the decoder said.
        source: std::io::Error,
    },
    /// A Parquet file inside a compressed one. Parquet is read from its end, which a stream has last.
    #[error("{path} is a Parquet file packed with {format}: unpack it first, since Parquet packs its own pages")]
    PackedParquet {
        /// The file.
        path: PathBuf,
        /// `gzip` or `Zstandard`.
        format: &'static str,
    },
    /// A table has no column pair that makes a conversation.
    #[error(
        "{path} has the columns {found}: name them prompt and completion, instruction and output, or text",
        found = printable(found)
    )]
    Columns {
        /// The file.
        path: PathBuf,
        /// The columns found, joined by commas.
        found: String,
    },
    /// A table's record runs on past the limit, so that nothing after it can be told apart.
    #[error("{path}, line {line}: a table record is longer than {limit} bytes: close its quotation mark")]
    UnclosedQuote {
        /// The file.
        path: PathBuf,
        /// The line on which the record begins.
        line: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// A Parquet file is truncated or damaged, is none, or has a column of a kind that cannot be read.
    #[error("cannot read {path} as Parquet after row {row}: check that it is whole, or write it anew")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The last row that was read, 0 where the file cannot be opened.
        row: u64,
        /// What the decoder said.
        source: parquet::errors::ParquetError,
    },
    /// A line of a file that was expected to be clean is not.
    #[error("{path}, line {line}: this record cannot be read: run `clean` on the file first")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, or the position in an array or a Parquet file, from 1.
        line: u64,
        /// What is wrong with it.
        source: Fault,
    },
    /// A file could not be written.
    #[error("cannot write {path}: check that its folder exists and has room")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An output is an input or another output, or its place cannot be written.
    #[error(transparent)]
    Outputs(#[from] foehn_files::Conflict),
    /// No writer is known for the output's extension.
    #[error("{path} has no format that can be written: use .jsonl, .jsonl.gz, .jsonl.zst or .parquet")]
    OutputFormat {
        /// The file.
        path: PathBuf,
    },
    /// A record that should be put back was not read.
    #[error(
        "no readable record is called `{id}`, so it cannot be kept: take the id from the report",
        id = printable(id)
    )]
    Keep {
        /// The name asked for.
        id: String,
    },
    /// A pipeline file is no TOML list of passes.
    #[error("{path} is no list of passes: write `[[pass]]` and `name = \"…\"` for each")]
    PipelineFile {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: Box<toml::de::Error>,
    },
    /// A pipeline file names a pass that nobody knows.
    #[error(
        "{path}, line {line}: no pass is called `{name}`: use one of {known}",
        name = printable(name),
        known = printable(known)
    )]
    UnknownPass {
        /// The file.
        path: PathBuf,
        /// The line on which the pass begins.
        line: usize,
        /// The name found.
        name: String,
        /// The names that there are, joined by commas.
        known: String,
    },
    /// A pass in a pipeline file has a setting that it does not know, or lacks one.
    #[error("{path}, line {line}: the settings of `{pass}` cannot be used", pass = printable(pass))]
    PassSettings {
        /// The file.
        path: PathBuf,
        /// The line on which the pass begins.
        line: usize,
        /// The pass.
        pass: String,
        /// What is wrong, and what there is.
        source: Box<toml::de::Error>,
    },
    /// A pipeline file puts a pass over single records after one over the set.
    #[error(
        "{path}, line {line}: `{pass}` looks at single records and stands after `{after}`, which compares them: put it before",
        pass = printable(pass),
        after = printable(after)
    )]
    PassOrder {
        /// The file.
        path: PathBuf,
        /// The line on which the pass begins.
        line: usize,
        /// The pass.
        pass: String,
        /// The pass over the set that stands before it.
        after: String,
    },
    /// A pipeline file sets a verdict for a pass that judges nothing.
    #[error("{path}, line {line}: `{pass}` judges no record: take its `verdict` out", pass = printable(pass))]
    NoVerdict {
        /// The file.
        path: PathBuf,
        /// The line on which the pass begins.
        line: usize,
        /// The pass.
        pass: String,
    },
    /// A pass limits tokens, and nobody counts them.
    #[error(
        "the pass `{pass}` limits tokens and nobody counts them: give the pipeline a tokenizer, or take the limit out",
        pass = printable(pass)
    )]
    NoTokenCounter {
        /// The pass.
        pass: String,
    },
    /// Every record was rejected.
    #[error("all {read} records are rejected, so nothing is left to use: {reasons}", reasons = printable(reasons))]
    NothingKept {
        /// The records read.
        read: u64,
        /// The most frequent reasons, each with its pass and its count.
        reasons: String,
    },
    /// A lexicon is not a JSON object of lists of words.
    #[error("{path} is no lexicon: expected an object of word lists, one a class")]
    LexiconFormat {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A lexicon's entry could never match a word of a text.
    #[error(
        "`{word}` in the class {class} of the lexicon is not a single word of letters",
        word = printable(word),
        class = printable(class)
    )]
    LexiconWord {
        /// The class.
        class: String,
        /// The entry.
        word: String,
    },
    /// A lexicon puts one word into two classes.
    #[error(
        "`{word}` is in the classes {first} and {second} of the lexicon: keep it in one",
        word = printable(word),
        first = printable(first),
        second = printable(second)
    )]
    LexiconOverlap {
        /// The word.
        word: String,
        /// The class that has it.
        first: String,
        /// The class that claims it too.
        second: String,
    },
    /// A line of an evaluation file is no JSON, where the first one is.
    #[error(
        "{path}, line {line}: this line of the evaluation file is no JSON: mend it, or write one text a line in all of it"
    )]
    Evaluation {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A split was asked for that is no split.
    #[error("a validation fraction of {found} splits nothing: give one above 0 and below 1")]
    Fraction {
        /// The fraction given.
        found: f64,
    },
}
