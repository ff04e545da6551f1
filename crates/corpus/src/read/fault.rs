//! The reasons why a record cannot be read.

use foehn_files::{printable, printable_json};

/// Why a line, an array element or a table row cannot be read as a [`Record`](crate::Record).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The bytes are not UTF-8.
    #[error("invalid UTF-8 after byte {valid_up_to}")]
    NotUtf8 {
        /// The number of valid bytes before the first invalid one.
        valid_up_to: usize,
    },
    /// The bytes are not text in the encoding of the file.
    #[error("invalid {encoding}: it decodes to {valid_up_to} bytes of UTF-8 before the first fault")]
    NotEncoded {
        /// The encoding.
        encoding: &'static str,
        /// The number of bytes of UTF-8 that come before the first fault.
        valid_up_to: usize,
    },
    /// The record is longer than the limit.
    #[error("longer than {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// The text is not JSON, or is nested too deeply.
    #[error("not JSON: {source}", source = printable(source))]
    Json {
        /// The parser's error.
        source: serde_json::Error,
    },
    /// The closing bracket of the array is missing after this element.
    #[error("the array is not closed after this element")]
    Unclosed,
    /// There is text after the closing bracket of the array.
    #[error("text after the end of the array")]
    TrailingText,
    /// The value is JSON, but not an object.
    #[error("expected an object, found {found}")]
    NotAnObject {
        /// The kind of the value.
        found: &'static str,
    },
    /// The object has no known set of keys that makes a conversation.
    #[error(
        "no messages, conversations, instruction and output, prompt and completion, question and answer, or text among the keys {keys}: map them to a prompt and a completion",
        keys = printable(keys)
    )]
    UnknownShape {
        /// The keys of the object, separated by commas.
        keys: String,
    },
    /// Several keys may hold the question or the answer.
    #[error(
        "{keys} may each be the question or the answer: map one to the prompt and one to the completion",
        keys = printable(keys)
    )]
    Ambiguous {
        /// The keys, separated by commas.
        keys: String,
    },
    /// A key beside a question may belong to it, and it is not known how.
    #[error("the field `{field}` may belong to the question: map it into the prompt, or remove it", field = printable(field))]
    Beside {
        /// The field.
        field: String,
    },
    /// A field is missing.
    #[error("the field `{field}` is missing", field = printable(field))]
    MissingField {
        /// The field, as a path from the record.
        field: String,
    },
    /// A field has a value of another type.
    #[error("the field `{field}` should be {expected}, found {found}", field = printable(field))]
    WrongKind {
        /// The field, as a path from the record.
        field: String,
        /// The expected type.
        expected: &'static str,
        /// The type that was found.
        found: &'static str,
    },
    /// A text that should be JSON is not: the arguments of a call, or a list of tools.
    #[error("the field `{field}` is not JSON: {source}", field = printable(field), source = printable(source))]
    NotJson {
        /// The field, as a path from the record.
        field: String,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// A field has content that has no place in a conversation: an image, an unwanted answer, a tool that is no
    /// function.
    #[error("the field `{field}` holds {what}, which can't be trained on here", field = printable(field))]
    Unsupported {
        /// The field, as a path from the record.
        field: String,
        /// The kind of content.
        what: &'static str,
    },
    /// A message has an unknown role.
    #[error("message {message} has the unknown role `{role}`", role = printable(role))]
    UnknownRole {
        /// The message, from 1.
        message: usize,
        /// The role.
        role: String,
    },
    /// A message's weight is neither 0 nor 1.
    #[error("message {message} has the weight {found}, expected 0 or 1", found = printable_json(found))]
    Weight {
        /// The message, from 1.
        message: usize,
        /// The value, as JSON.
        found: String,
    },
    /// A column that a field is made of is missing in this record, or empty where it is a part of a text.
    #[error(
        "the column `{column}`, which `{field}` is made of, is missing or empty",
        column = printable(column),
        field = printable(field)
    )]
    Unmapped {
        /// The column, or the path of the key.
        column: String,
        /// The field.
        field: String,
    },
    /// A table row has more or fewer cells than the header.
    #[error("expected {expected} columns, found {found}")]
    Cells {
        /// The number of columns in the header.
        expected: usize,
        /// The number of cells in the row.
        found: usize,
    },
    /// A Parquet cell has a value that neither JSON nor text can express.
    #[error("the column `{column}` holds {found}", column = printable(column))]
    Column {
        /// The column, as a path from the row.
        column: String,
        /// The kind of value.
        found: &'static str,
    },
}
