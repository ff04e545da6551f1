//! One record's bytes or cells, and how they become a record.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::lines::Chunk;
use super::map::Mapping;
use super::{EXCERPT, Encoding, Fault, Line, Place, Unreadable, names, numbers, shape};
use crate::text::content_id;
use foehn_record::Record;

/// The bytes or cells of one record. Any thread can parse it, because nothing else is needed.
pub(crate) struct Raw {
    place: Place,
    content: Content,
    encoding: Encoding,
    mapping: Option<Arc<Mapping>>,
}

/// A record as its file has it.
pub(super) enum Content {
    Text(Chunk),
    Cells { object: std::result::Result<Map<String, Value>, Fault>, raw: Vec<u8>, left_out: Vec<String> },
}

impl Raw {
    pub(super) fn new(place: Place, content: Content, encoding: Encoding, mapping: Option<Arc<Mapping>>) -> Self {
        Self { place, content, encoding, mapping }
    }

    /// About how many bytes it holds.
    pub fn size(&self) -> usize {
        match &self.content {
            Content::Text(chunk) => chunk.bytes.len(),
            Content::Cells { raw, .. } => 2 * raw.len(),
        }
    }

    pub fn parse(self) -> Line {
        let mapping = self.mapping.as_deref();
        let mut left_out = Vec::new();
        let mut record = match self.content {
            Content::Text(chunk) => parse(chunk, mapping, &mut left_out),
            Content::Cells { object, raw, left_out: cells } => {
                left_out = cells;
                shaped(object.map(Value::Object), &raw, true, mapping, &mut left_out)
            }
        };
        if let Err(Unreadable { fault: fault @ Fault::NotUtf8 { .. }, .. }) = &mut record
            && self.encoding != Encoding::UTF_8
            && let Fault::NotUtf8 { valid_up_to } = *fault
        {
            *fault = Fault::NotEncoded { encoding: self.encoding.name(), valid_up_to };
        }
        left_out.sort_unstable();
        left_out.dedup();
        Line { place: self.place, record, left_out }
    }
}

fn parse(
    chunk: Chunk,
    mapping: Option<&Mapping>,
    left_out: &mut Vec<String>,
) -> std::result::Result<Record, Unreadable> {
    let value = match chunk.fault {
        Some(fault) => Err(fault),
        None => std::str::from_utf8(&chunk.bytes)
            .map_err(|error| Fault::NotUtf8 { valid_up_to: error.valid_up_to() })
            .and_then(|text| numbers::parse(text, left_out).map_err(|source| Fault::Json { source })),
    };
    shaped(value, &chunk.bytes, false, mapping, left_out)
}

fn shaped(
    value: std::result::Result<Value, Fault>,
    raw: &[u8],
    is_table: bool,
    mapping: Option<&Mapping>,
    left_out: &mut Vec<String>,
) -> std::result::Result<Record, Unreadable> {
    let mut own_id = None;
    let record = value.and_then(|value| match value {
        Value::Object(object) => {
            own_id = shape::id(&object);
            let object = match mapping {
                Some(mapping) => mapping.apply(object, left_out)?,
                None => object,
            };
            let object = names::canonical(object, is_table);
            own_id = shape::id(&object).or(own_id.take());
            shape::record(object, left_out)
        }
        other => Err(Fault::NotAnObject { found: shape::kind(&other) }),
    });
    let unreadable =
        |fault| Unreadable { id: own_id.unwrap_or_else(|| content_id(raw)), fault, excerpt: excerpt(raw, is_table) };
    record.map_err(unreadable)
}

/// The beginning of a record; the cells of a table, between which is a zero byte, are divided by tabs.
fn excerpt(raw: &[u8], is_table: bool) -> String {
    // A character has at most four bytes.
    let head = &raw[..raw.len().min(4 * EXCERPT)];
    let shown = |character| if is_table && character == '\0' { '\t' } else { character };
    String::from_utf8_lossy(head).chars().take(EXCERPT).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_shows_the_cells_of_a_row() {
        assert_eq!(excerpt("Wo?\0\0Ö".as_bytes(), true), "Wo?\t\tÖ");
        assert_eq!(excerpt(b"a\0b", false), "a\0b");
        assert_eq!(excerpt(&[b'x'; 5 * EXCERPT], true).len(), EXCERPT);
    }
}
