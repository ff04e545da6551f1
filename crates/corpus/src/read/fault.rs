//! Why one record cannot be read.

use foehn_files::{printable, printable_json};

/// The reason that a line, an array element or a table row gives no [`Record`](crate::Record).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The bytes are not UTF-8.
    #[error("invalid UTF-8 after byte {valid_up_to}")]
    NotUtf8 {
        /// How many bytes are valid before the first that is not.
        valid_up_to: usize,
    },
    /// The record is longer than a record may be.
    #[error("longer than {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// The text is not JSON, or nests too deeply.
    #[error("not JSON: {source}", source = printable(source))]
    Json {
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The array's closing bracket is missing after this element.
    #[error("the array is not closed after this element")]
    Unclosed,
    /// Something follows the array's closing bracket.
    #[error("text after the end of the array")]
    TrailingText,
    /// The value is JSON, but no object.
    #[error("expected an object, found {found}")]
    NotAnObject {
        /// The kind of the value.
        found: &'static str,
    },
    /// No known set of keys makes a conversation of the object.
    #[error(
        "no messages, conversations, instruction and output, prompt and completion, or text among the keys {keys}",
        keys = printable(keys)
    )]
    UnknownShape {
        /// The keys found, joined by commas.
        keys: String,
    },
    /// A field is missing.
    #[error("the field `{field}` is missing", field = printable(field))]
    MissingField {
        /// The field, as a path from the record.
        field: String,
    },
    /// A field has a value of another kind.
    #[error("the field `{field}` should be {expected}, found {found}", field = printable(field))]
    WrongKind {
        /// The field, as a path from the record.
        field: String,
        /// The kind expected.
        expected: &'static str,
        /// The kind found.
        found: &'static str,
    },
    /// A field holds what a text can't say: tool calls, reasoning beside the answer, an image, an answer that is not wanted.
    #[error("the field `{field}` holds {what}, which can't be trained on here", field = printable(field))]
    Unsupported {
        /// The field, as a path from the record.
        field: String,
        /// What it holds.
        what: &'static str,
    },
    /// A message is spoken by nobody known.
    #[error("message {message} has the unknown role `{role}`", role = printable(role))]
    UnknownRole {
        /// The message, from 1.
        message: usize,
        /// The role found.
        role: String,
    },
    /// A message's weight is neither 0 nor 1.
    #[error("message {message} has the weight {found}, expected 0 or 1", found = printable_json(found))]
    Weight {
        /// The message, from 1.
        message: usize,
        /// The value found, as JSON.
        found: String,
    },
    /// A table row has more or fewer cells than the header.
    #[error("expected {expected} columns, found {found}")]
    Cells {
        /// The header's columns.
        expected: usize,
        /// The row's cells.
        found: usize,
    },
    /// A Parquet cell holds what JSON and text have nothing for.
    #[error("the column `{column}` holds {found}", column = printable(column))]
    Column {
        /// The column, as a path from the row.
        column: String,
        /// What it holds.
        found: &'static str,
    },
}
