//! Records as rows of a Parquet file, without Arrow.
//!
//! A row has the columns `id`, `messages` (a list of `role`, `content`, `weight`, `reasoning_content`, `tool_calls`,
//! `tool_call_id` and `name`), `tools`, `rejected`, one column for each metadata key in the order of its first
//! appearance, and `group`. Of all these but `messages`, `role` and `content`, a file has those that a record needs.
//! Tools and calls are stored as JSON text, because an element of a list can't have a shape of its own.
//! A metadata column has the type that holds all its values: boolean, 64-bit integer, double or text. Values of several
//! types, lists and objects are stored as JSON text, and marked as JSON.

use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use foehn_record::{Message, Record};

/// A row group is closed when its records have this number of bytes as JSON. This limits the memory.
const GROUP_BYTES: usize = 16 << 20;

/// A double holds all integers below this exactly.
const EXACT: u64 = 1 << 53;

/// The columns that at least one record needs.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Columns {
    has_id: bool,
    has_weight: bool,
    /// Whether a message has each of the [`EXTRAS`].
    has_extra: [bool; EXTRAS.len()],
    has_tools: bool,
    has_rejected: bool,
    has_group: bool,
    metadata: Vec<(String, Option<Kind>)>,
    #[serde(skip)]
    places: std::collections::HashMap<String, usize>,
}

/// A text of a message that most messages don't have: its name, whether it is JSON, and its value.
type Extra = (&'static str, bool, fn(&Message) -> Option<String>);

const EXTRAS: [Extra; 4] = [
    ("reasoning_content", false, |message| message.reasoning_content.clone()),
    ("tool_calls", true, |message| {
        let calls = Some(&message.tool_calls).filter(|calls| !calls.is_empty())?;
        serde_json::to_string(calls).ok()
    }),
    ("tool_call_id", false, |message| message.tool_call_id.clone()),
    ("name", false, |message| message.name.clone()),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Bool,
    /// An integer that a double holds exactly.
    SmallInt,
    Int,
    Double,
    Text,
    Json,
}

impl Columns {
    /// Adds the columns that a record needs.
    pub fn add(&mut self, record: &Record) {
        self.has_id |= record.id.is_some();
        self.has_group |= record.group.is_some();
        self.has_weight |= record.messages.iter().any(|message| message.weight.is_some());
        for (has, (_, _, value)) in self.has_extra.iter_mut().zip(EXTRAS) {
            *has |= record.messages.iter().any(|message| value(message).is_some());
        }
        self.has_tools |= !record.tools.is_empty();
        self.has_rejected |= record.rejected.is_some();
        for (key, value) in &record.metadata {
            self.add_key(key, Kind::of(value));
        }
    }

    /// Adds the columns that other records need, which come after those that were added before.
    pub fn merge(&mut self, other: &Self) {
        let Self { has_id, has_weight, has_extra, has_tools, has_rejected, has_group, metadata, places: _ } = other;
        self.has_id |= has_id;
        self.has_weight |= has_weight;
        self.has_extra.iter_mut().zip(has_extra).for_each(|(has, other)| *has |= other);
        self.has_tools |= has_tools;
        self.has_rejected |= has_rejected;
        self.has_group |= has_group;
        metadata.iter().for_each(|(key, kind)| self.add_key(key, *kind));
    }

    /// The columns as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The columns that [`to_json`](Self::to_json) has written.
    pub fn from_json(json: &[u8]) -> Option<Self> {
        let written: Self = serde_json::from_slice(json).ok()?;
        let mut columns = Self::default();
        columns.merge(&written);
        Some(columns)
    }

    fn add_key(&mut self, key: &str, kind: Option<Kind>) {
        let at = self.places.get(key).copied().unwrap_or_else(|| {
            self.metadata.push((key.to_owned(), None));
            self.places.insert(key.to_owned(), self.metadata.len() - 1);
            self.metadata.len() - 1
        });
        if let Some(kind) = kind {
            let known = &mut self.metadata[at].1;
            *known = Some(known.map_or(kind, |known| known.with(kind)));
        }
    }

    fn schema(&self) -> Result<TypePtr> {
        let text = |name: &str, repetition| leaf(name, Physical::BYTE_ARRAY, repetition, Some(LogicalType::String));
        let json = |name: &str| leaf(name, Physical::BYTE_ARRAY, Repetition::OPTIONAL, Some(LogicalType::Json));
        let mut message = vec![text("role", Repetition::REQUIRED)?, text("content", Repetition::REQUIRED)?];
        if self.has_weight {
            message.push(leaf("weight", Physical::INT32, Repetition::OPTIONAL, None)?);
        }
        for (name, is_json, _) in self.extras() {
            message.push(if is_json { json(name)? } else { text(name, Repetition::OPTIONAL)? });
        }
        let element = group("element", Repetition::REQUIRED, None, message)?;
        let list = group("list", Repetition::REPEATED, None, vec![element])?;
        let messages = group("messages", Repetition::REQUIRED, Some(LogicalType::List), vec![list])?;
        let mut fields = Vec::new();
        if self.has_id {
            fields.push(text("id", Repetition::OPTIONAL)?);
        }
        fields.push(messages);
        if self.has_tools {
            fields.push(json("tools")?);
        }
        if self.has_rejected {
            fields.push(text("rejected", Repetition::OPTIONAL)?);
        }
        for (key, kind) in &self.metadata {
            let (physical, logical) = match kind {
                Some(Kind::Bool) => (Physical::BOOLEAN, None),
                Some(Kind::SmallInt | Kind::Int) => (Physical::INT64, None),
                Some(Kind::Double) => (Physical::DOUBLE, None),
                Some(Kind::Text) | None => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
                Some(Kind::Json) => (Physical::BYTE_ARRAY, Some(LogicalType::Json)),
            };
            fields.push(leaf(key, physical, Repetition::OPTIONAL, logical)?);
        }
        if self.has_group {
            fields.push(text("group", Repetition::OPTIONAL)?);
        }
        Ok(Arc::new(Type::group_type_builder("record").with_fields(fields).build()?))
    }

    /// The texts that a message has, besides its content.
    fn extras(&self) -> impl Iterator<Item = Extra> {
        EXTRAS.into_iter().zip(self.has_extra).filter_map(|(extra, has)| has.then_some(extra))
    }
}

impl Kind {
    fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Null => return None,
            Value::Bool(_) => Self::Bool,
            Value::String(_) => Self::Text,
            Value::Array(_) | Value::Object(_) => Self::Json,
            Value::Number(number) => match number.as_i64() {
                Some(integer) if integer.unsigned_abs() <= EXACT => Self::SmallInt,
                Some(_) => Self::Int,
                None if number.is_f64() => Self::Double,
                None => Self::Json,
            },
        })
    }

    /// The type that holds the values of both.
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (one, two) if one == two => one,
            (Self::SmallInt, Self::Int) | (Self::Int, Self::SmallInt) => Self::Int,
            (Self::SmallInt, Self::Double) | (Self::Double, Self::SmallInt) => Self::Double,
            _ => Self::Json,
        }
    }
}

/// A Parquet file while it is written.
pub(super) struct Table<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    columns: Columns,
    rows: Vec<Record>,
    bytes: usize,
}

impl<W: Write + Send> Table<W> {
    pub fn new(sink: W, columns: Columns) -> io::Result<Self> {
        let schema = columns.schema().map_err(io_error)?;
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        let writer = SerializedFileWriter::new(sink, schema, Arc::new(properties)).map_err(io_error)?;
        Ok(Self { writer, columns, rows: Vec::new(), bytes: 0 })
    }

    /// Appends a row of about the given number of bytes.
    pub fn write(&mut self, record: Record, bytes: usize) -> io::Result<()> {
        self.rows.push(record);
        self.bytes += bytes;
        if self.bytes >= GROUP_BYTES { self.flush().map_err(io_error) } else { Ok(()) }
    }

    pub fn finish(mut self) -> io::Result<W> {
        self.flush().map_err(io_error)?;
        self.writer.into_inner().map_err(io_error)
    }

    /// Writes the buffered rows as one row group, column by column, in the order of the schema.
    fn flush(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        if rows.is_empty() {
            return Ok(());
        }
        let columns = &self.columns;
        let mut group = self.writer.next_row_group()?;
        if columns.has_id {
            let ids = rows.iter().map(|row| row.id.as_deref().map(ByteArray::from));
            write_optional::<ByteArrayType, _>(&mut group, ids)?;
        }
        write_messages(&mut group, &rows, columns.has_weight)?;
        for (_, _, value) in columns.extras() {
            write_extra(&mut group, &rows, value)?;
        }
        if columns.has_tools {
            let texts = rows.iter().map(|row| {
                (!row.tools.is_empty())
                    .then(|| ByteArray::from(Value::from(row.tools.clone()).to_string().into_bytes()))
            });
            write_optional::<ByteArrayType, _>(&mut group, texts)?;
        }
        if columns.has_rejected {
            let texts = rows.iter().map(|row| row.rejected.as_deref().map(ByteArray::from));
            write_optional::<ByteArrayType, _>(&mut group, texts)?;
        }
        for (key, kind) in &columns.metadata {
            let cells = rows.iter().map(|row| row.metadata.get(key).filter(|value| !value.is_null()));
            match kind {
                Some(Kind::Bool) => write_optional::<BoolType, _>(&mut group, cells.map(|cell| cell?.as_bool()))?,
                Some(Kind::SmallInt | Kind::Int) => {
                    write_optional::<Int64Type, _>(&mut group, cells.map(|cell| cell?.as_i64()))?;
                }
                Some(Kind::Double) => write_optional::<DoubleType, _>(&mut group, cells.map(|cell| cell?.as_f64()))?,
                Some(Kind::Text) | None => {
                    let texts = cells.map(|cell| cell?.as_str().map(ByteArray::from));
                    write_optional::<ByteArrayType, _>(&mut group, texts)?;
                }
                Some(Kind::Json) => {
                    let texts = cells.map(|cell| Some(ByteArray::from(cell?.to_string().into_bytes())));
                    write_optional::<ByteArrayType, _>(&mut group, texts)?;
                }
            }
        }
        if columns.has_group {
            let groups = rows.iter().map(|row| row.group.as_deref().map(ByteArray::from));
            write_optional::<ByteArrayType, _>(&mut group, groups)?;
        }
        group.close()?;
        Ok(())
    }
}

/// Writes the leaf columns of `messages`. The definition level of a value says how deep it is defined; the repetition
/// level says where a new list begins.
fn write_messages<W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    rows: &[Record],
    has_weight: bool,
) -> Result<()> {
    let (mut defined, mut weight_defined, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
    let (mut roles, mut contents, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        if row.messages.is_empty() {
            defined.push(0);
            weight_defined.push(0);
            repeated.push(0);
        }
        for (at, message) in row.messages.iter().enumerate() {
            repeated.push(i16::from(at > 0));
            defined.push(1);
            weight_defined.push(1 + i16::from(message.weight.is_some()));
            roles.push(ByteArray::from(message.role.name()));
            contents.push(ByteArray::from(message.content.as_str()));
            weights.extend(message.weight.map(i32::from));
        }
    }
    write::<ByteArrayType>(group, &roles, &defined, Some(&repeated))?;
    write::<ByteArrayType>(group, &contents, &defined, Some(&repeated))?;
    if has_weight {
        write::<Int32Type>(group, &weights, &weight_defined, Some(&repeated))?;
    }
    Ok(())
}

/// Writes a leaf column of `messages` that not every message has.
fn write_extra<W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    rows: &[Record],
    value: fn(&Message) -> Option<String>,
) -> Result<()> {
    let (mut values, mut defined, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        if row.messages.is_empty() {
            defined.push(0);
            repeated.push(0);
        }
        for (at, message) in row.messages.iter().enumerate() {
            let value = value(message);
            repeated.push(i16::from(at > 0));
            defined.push(1 + i16::from(value.is_some()));
            values.extend(value.map(|value| ByteArray::from(value.into_bytes())));
        }
    }
    write::<ByteArrayType>(group, &values, &defined, Some(&repeated))
}

fn write_optional<D: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    cells: impl Iterator<Item = Option<D::T>>,
) -> Result<()> {
    let (mut values, mut defined) = (Vec::new(), Vec::new());
    for cell in cells {
        defined.push(i16::from(cell.is_some()));
        values.extend(cell);
    }
    write::<D>(group, &values, &defined, None)
}

fn write<D: DataType>(
    group: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
    values: &[D::T],
    defined: &[i16],
    repeated: Option<&[i16]>,
) -> Result<()> {
    let Some(mut column) = group.next_column()? else {
        return Err(ParquetError::General("the schema has fewer columns than the rows".to_owned()));
    };
    column.typed::<D>().write_batch(values, Some(defined), repeated)?;
    column.close()
}

fn leaf(name: &str, physical: Physical, repetition: Repetition, logical: Option<LogicalType>) -> Result<TypePtr> {
    let builder = Type::primitive_type_builder(name, physical).with_repetition(repetition).with_logical_type(logical);
    Ok(Arc::new(builder.build()?))
}

fn group(name: &str, repetition: Repetition, logical: Option<LogicalType>, fields: Vec<TypePtr>) -> Result<TypePtr> {
    let builder = Type::group_type_builder(name).with_repetition(repetition).with_logical_type(logical);
    Ok(Arc::new(builder.with_fields(fields).build()?))
}

fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(source) => *source,
            Err(source) => io::Error::other(source),
        },
        other => io::Error::other(other),
    }
}
