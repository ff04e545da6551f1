//! Messages, roles and records: the types that Foehn's crates exchange.
//!
//! Parsers, cleaning, templates and models live in other crates.
//!
//! ```
//! use foehn_record::{Record, Role};
//!
//! let record = Record::pair("What modality is: 'A bell rang'?", "Auditory");
//! assert_eq!(record.messages[1].role, Role::Assistant);
//! assert!(record.messages[1].is_trained());
//! ```

mod conversation;
mod record;

pub use conversation::Conversation;
pub use record::{FunctionCall, Message, Record, Role, ToolCall, ToolKind};
