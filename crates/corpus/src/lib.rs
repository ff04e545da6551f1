//! Records in, clean records and a report out.

mod record;

pub use record::{Message, Record, Role};
