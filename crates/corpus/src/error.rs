//! Errors of files and parameters. A problem of a single record is a [`Fault`], and goes into the report.

use std::path::PathBuf;

use foehn_files::printable;

use crate::read::Fault;

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// A file or a parameter cannot be used.
///
/// A record that cannot be used is never an error of [`clean`](crate::clean). It becomes a
/// [`Rejection`](crate::Rejection) in the [`CleanReport`](crate::CleanReport).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file does not exist or cannot be read.
    #[error("cannot open {path}: check that it exists and that you may read it")]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The path is a folder.
    #[error("{path} is a folder: name the dataset file inside it")]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// The file has no records.
    #[error("{path} has no records: it is empty or blank, or has only a header")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// There is no reader for the file's extension.
    #[error(
        "{path} has an unknown format `{extension}`: use .jsonl, .ndjson, .json, .csv, .tsv or .parquet, all but the last also with .gz or .zst",
        extension = printable(extension)
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// The extension; it may be empty.
        extension: String,
    },
    /// Reading failed.
    #[error("cannot read {path} after line {line}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The last line that was read.
        line: u64,
        /// The system's error.
        source: std::io::Error,
    },
    /// Compressed data is truncated or damaged.
    #[error("cannot unpack {path} after line {line}: its {format} data is cut off or damaged; fetch or pack it again")]
    Compressed {
        /// The file.
        path: PathBuf,
        /// The last line that was read.
        line: u64,
        /// `gzip` or `Zstandard`.
        format: &'static str,
        /// The decoder's error.
        source: std::io::Error,
    },
    /// A Parquet file inside a compressed file. Parquet is read from its end, which a stream reaches last.
    #[error("{path} is a Parquet file packed with {format}: unpack it first, since Parquet packs its own pages")]
    PackedParquet {
        /// The file.
        path: PathBuf,
        /// `gzip` or `Zstandard`.
        format: &'static str,
    },
    /// A table has no pair of columns that makes a conversation.
    #[error(
        "{path} has the columns {found}: name them prompt and completion, instruction and output, or text, or map them, for example `{example}`",
        found = printable(found),
        example = printable(example)
    )]
    Columns {
        /// The file.
        path: PathBuf,
        /// The columns, separated by commas.
        found: String,
        /// A map of some of these columns.
        example: String,
    },
    /// No record has a column that a field should be made of.
    #[error(
        "{path} has no column `{column}`, which the map names: its columns are {found}",
        column = printable(column),
        found = printable(found)
    )]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// The column, or the path of the key.
        column: String,
        /// The columns of the file, or the keys of its first record, separated by commas.
        found: String,
    },
    /// A map of fields cannot be read.
    #[error(
        "the map of the field `{field}`: {problem}: write a column's name, or a template such as `{{label}}: {{reply}}`",
        field = printable(field)
    )]
    FieldMap {
        /// The field.
        field: String,
        /// The problem.
        problem: &'static str,
    },
    /// There is no encoding of this name.
    #[error(
        "no encoding is called `{name}`: use utf-8, utf-16le, windows-1252, macintosh or another name of the WHATWG Encoding Standard",
        name = printable(name)
    )]
    UnknownEncoding {
        /// The name.
        name: String,
    },
    /// A text cannot be the character between columns.
    #[error(
        "columns cannot be divided by `{found}`: give one ASCII character such as `,` `;` `|`, or `tab`",
        found = printable(found)
    )]
    Delimiter {
        /// The text.
        found: String,
    },
    /// The file is UTF-32.
    #[error("{path} is UTF-32: save it as UTF-8")]
    Utf32 {
        /// The file.
        path: PathBuf,
    },
    /// The first part of a file is in another encoding than UTF-8, and the rest is UTF-8.
    #[error(
        "{path} begins in {encoding}, but after line {line} it is UTF-8: save it in one encoding, or say which one to read"
    )]
    MixedEncodings {
        /// The file.
        path: PathBuf,
        /// The last line that was read.
        line: u64,
        /// The encoding that the first part looks like.
        encoding: crate::read::Encoding,
    },
    /// A record of a table is longer than the limit, so the records after it cannot be found.
    #[error("{path}, line {line}: a table record is longer than {limit} bytes: close its quotation mark")]
    UnclosedQuote {
        /// The file.
        path: PathBuf,
        /// The line on which the record begins.
        line: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// A Parquet file is truncated or damaged, is not a Parquet file, or has a column of an unsupported type.
    #[error("cannot read {path} as Parquet after row {row}: check that it is complete, or write it again")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The last row that was read; 0 if the file cannot be opened.
        row: u64,
        /// The decoder's error.
        source: parquet::errors::ParquetError,
    },
    /// A record of a file that should be clean cannot be read.
    #[error("{path}, line {line}: this record cannot be read: run `clean` on the file first")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, or the position in an array or a Parquet file, from 1.
        line: u64,
        /// The reason.
        source: Fault,
    },
    /// A file could not be written.
    #[error("cannot write {path}: check that its folder exists and has room")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// An output is an input or another output, or cannot be written.
    #[error(transparent)]
    Outputs(#[from] foehn_files::Conflict),
    /// There is no writer for the output's extension.
    #[error("cannot write the format of {path}: use .jsonl, .jsonl.gz, .jsonl.zst or .parquet")]
    OutputFormat {
        /// The file.
        path: PathBuf,
    },
    /// No readable record has the id that should be kept.
    #[error(
        "no readable record is called `{id}`, so it cannot be kept: take the id from the report",
        id = printable(id)
    )]
    Keep {
        /// The id.
        id: String,
    },
    /// A pipeline file is not a TOML list of passes.
    #[error("{path} is not a list of passes: write `[[pass]]` and `name = \"…\"` for each")]
    PipelineFile {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        source: Box<toml::de::Error>,
    },
    /// A pipeline file has an unknown pass.
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
        /// The name of the pass.
        name: String,
        /// The known names, separated by commas.
        known: String,
    },
    /// A pass in a pipeline file has an unknown setting, or misses a required one.
    #[error("{path}, line {line}: the settings of `{pass}` cannot be used", pass = printable(pass))]
    PassSettings {
        /// The file.
        path: PathBuf,
        /// The line on which the pass begins.
        line: usize,
        /// The pass.
        pass: String,
        /// The error, with the known settings.
        source: Box<toml::de::Error>,
    },
    /// In a pipeline file, a pass over single records comes after a pass over the set.
    #[error(
        "{path}, line {line}: `{pass}` checks single records, but stands after `{after}`, which compares records: move it before that pass",
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
        /// The pass over the set that comes before it.
        after: String,
    },
    /// A pipeline file sets a verdict for a pass that does not judge records.
    #[error("{path}, line {line}: `{pass}` does not judge records, so it has no `verdict`: remove that setting", pass = printable(pass))]
    NoVerdict {
        /// The file.
        path: PathBuf,
        /// The line on which the pass begins.
        line: usize,
        /// The pass.
        pass: String,
    },
    /// A pass limits tokens, but there is no token counter.
    #[error(
        "the pass `{pass}` limits tokens, but there is no tokenizer to count them: give the pipeline a tokenizer, or remove the limit",
        pass = printable(pass)
    )]
    NoTokenCounter {
        /// The pass.
        pass: String,
    },
    /// A file is not a report of a cleaning.
    #[error("{path} is not a report of a cleaning")]
    Report {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        #[source]
        source: serde_json::Error,
    },
    /// A limit names a pass that did not run.
    #[error("there is a limit for the pass `{}`, which did not run; these did: {}", printable(pass), passes.join(", "))]
    NoSuchPass {
        /// The pass.
        pass: String,
        /// The passes that ran.
        passes: Vec<String>,
    },
    /// A pass found fault with more records than its limit allows.
    #[error("the pass `{}` rejected or flagged {found} records; the limit is {most}", printable(pass))]
    Limit {
        /// The pass.
        pass: String,
        /// How many.
        found: u64,
        /// How many the limit allows.
        most: u64,
    },
    /// Every record was rejected.
    #[error("all {read} records are rejected, so nothing is left to use: {reasons}", reasons = printable(reasons))]
    NothingKept {
        /// The number of records read.
        read: u64,
        /// The most frequent reasons, each with its pass and the number of records.
        reasons: String,
    },
    /// A lexicon is not a JSON object of lists of words.
    #[error("{path} is not a lexicon: expected an object of word lists, one for each class")]
    LexiconFormat {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// An entry of a lexicon can never match a word of a text.
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
    /// A word of a lexicon is in two classes.
    #[error(
        "`{word}` is in the classes {first} and {second} of the lexicon: keep it in one",
        word = printable(word),
        first = printable(first),
        second = printable(second)
    )]
    LexiconOverlap {
        /// The word.
        word: String,
        /// The first class with the word.
        first: String,
        /// The second class with the word.
        second: String,
    },
    /// A line of an evaluation file is not JSON, although the first line is.
    #[error(
        "{path}, line {line}: this line of the evaluation file is not JSON: correct it, or write one plain text per line in the whole file"
    )]
    Evaluation {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// A folder cannot be used as a part of a cleaning.
    #[error("{path} cannot be used as a part of a cleaning")]
    Part {
        /// The folder.
        path: PathBuf,
        /// The reason.
        source: crate::clean::PartFault,
    },
    /// The fraction of a split is out of range.
    #[error("the validation fraction is {found}: give one above 0 and below 1")]
    Fraction {
        /// The fraction.
        found: f64,
    },
}
