//! The rows of a Parquet file, as JSON objects.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parquet::basic::{ConvertedType, Repetition, Type as Physical};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Map, Number, Value};

use super::Fault;
use super::lines::LIMIT;
use super::map::Mapping;
use super::names::simple;
use super::shape::is_needed;

/// The first and last bytes of a Parquet file.
pub(super) const MAGIC: &[u8] = b"PAR1";

const DAY: i64 = 86_400;
/// 0001-01-01 and the day after 9999-12-31, in days from 1970-01-01: the range of years with four digits, as in ISO
/// 8601.
const DAYS: std::ops::Range<i64> = -719_162..2_932_897;

/// The rows of every row group, in order.
pub(super) struct Columnar {
    rows: RowIter<'static>,
    columns: Vec<String>,
    mapping: Option<Arc<Mapping>>,
    number: u64,
}

/// One row: its number from 1, its bytes as JSON for hashing, and its values by column.
pub(super) struct Cells {
    pub number: u64,
    pub raw: Vec<u8>,
    pub object: Result<Map<String, Value>, Fault>,
    /// The columns that were left out: they have no JSON value and are not needed.
    pub left_out: Vec<String>,
}

impl Columnar {
    /// Reads the footer, and checks that every column has a supported type.
    pub fn new(file: File, mapping: Option<Arc<Mapping>>) -> Result<Self, ParquetError> {
        unpanicked(|| {
            let reader = SerializedFileReader::new(file)?;
            let schema = reader.metadata().file_metadata().schema();
            for field in schema.get_fields() {
                check(field, field.name())?;
            }
            check_footer(reader.metadata())?;
            let columns = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
            Ok(Self { rows: RowIter::from_file_into(Box::new(reader)), columns, mapping, number: 0 })
        })
    }

    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The number of the last row that was read.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next row; `None` at the end. After an error the columns are not aligned any more, so no further row may be
    /// read.
    pub fn next(&mut self) -> Result<Option<Cells>, ParquetError> {
        let rows = &mut self.rows;
        let Some(row) = unpanicked(|| rows.next().transpose())? else {
            return Ok(None);
        };
        self.number += 1;
        let mut left_out = Vec::new();
        let is_needed = |column: &str| match &self.mapping {
            Some(mapping) => mapping.needs(column),
            None => is_needed(&simple(column)),
        };
        let (object, raw) = match object(&row, "", &is_needed, &mut left_out) {
            // If no object can be made from the row, its debug text is used as its bytes.
            Err(fault) => (Err(fault), format!("{row:?}").into_bytes()),
            Ok(object) => match serde_json::to_vec(&object) {
                Err(source) => (Err(Fault::Json { source }), Vec::new()),
                Ok(raw) if raw.len() > LIMIT => (Err(Fault::TooLong { limit: LIMIT }), raw),
                Ok(raw) => (Ok(object), raw),
            },
        };
        Ok(Some(Cells { number: self.number, raw, object, left_out }))
    }
}

/// Runs the decoder, and turns a panic into an error.
///
/// The decoder panics on some damaged files, deep inside a page, where nothing can be checked in advance. Its state is
/// not used after an error. The process's panic hook still prints a message.
fn unpanicked<T>(decode: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        Err(ParquetError::General(format!("the decoder gave up: {said}")))
    })
}

/// Refuses a footer whose row groups do not add up to the number of rows (some rows would be missing without an error),
/// or that places a column before the start of the file.
fn check_footer(footer: &ParquetMetaData) -> Result<(), ParquetError> {
    let expected = footer.file_metadata().num_rows();
    let counts = footer.row_groups().iter().map(RowGroupMetaData::num_rows);
    let found = counts.into_iter().try_fold(0i64, |sum, count| sum.checked_add(count).filter(|_| count >= 0));
    if found != Some(expected) {
        return Err(ParquetError::General(format!("the footer counts {expected} rows, its row groups {found:?}")));
    }
    for column in footer.row_groups().iter().flat_map(RowGroupMetaData::columns) {
        let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
        if start < 0 || column.compressed_size() < 0 {
            let path = column.column_path().string();
            return Err(ParquetError::General(format!("the footer places the column `{path}` before the file")));
        }
    }
    Ok(())
}

/// Refuses types on which the row reader would panic.
fn check(node: &Type, path: &str) -> Result<(), ParquetError> {
    let refuse = |what: &str| Err(ParquetError::NYI(format!("the column `{path}` {what}")));
    let info = node.get_basic_info();
    if !info.has_repetition() {
        return refuse("is neither required nor optional nor repeated");
    }
    let converted = info.converted_type();
    if node.is_primitive() {
        return if is_readable(node.get_physical_type(), converted) {
            Ok(())
        } else {
            refuse(&format!("is of the kind {converted}, which has no text"))
        };
    }
    let mut children = node.get_fields();
    if matches!(converted, ConvertedType::LIST | ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE) {
        let [inner] = children else { return refuse("is a list or map of no single element") };
        let inner_info = inner.get_basic_info();
        if !inner_info.has_repetition() || inner_info.repetition() != Repetition::REPEATED {
            return refuse("is a list or map whose element is not repeated");
        }
        let is_list = converted == ConvertedType::LIST;
        if inner.is_primitive() {
            return if is_list { check(inner, path) } else { refuse("is a map without keys") };
        }
        children = inner.get_fields();
        if !is_list && children.len() > 2 {
            return refuse("is a map of more than keys and values");
        }
    }
    if children.is_empty() {
        return refuse("is a group of nothing");
    }
    children.iter().try_for_each(|child| check(child, &format!("{path}.{}", child.name())))
}

/// Whether the row reader supports this type of leaf column.
fn is_readable(physical: Physical, converted: ConvertedType) -> bool {
    use ConvertedType as C;
    match physical {
        Physical::BOOLEAN | Physical::INT96 | Physical::FLOAT | Physical::DOUBLE => true,
        Physical::INT32 => matches!(
            converted,
            C::NONE
                | C::INT_8
                | C::INT_16
                | C::INT_32
                | C::UINT_8
                | C::UINT_16
                | C::UINT_32
                | C::DATE
                | C::TIME_MILLIS
                | C::DECIMAL
        ),
        Physical::INT64 => matches!(
            converted,
            C::NONE | C::INT_64 | C::UINT_64 | C::TIME_MICROS | C::TIMESTAMP_MILLIS | C::TIMESTAMP_MICROS | C::DECIMAL
        ),
        Physical::BYTE_ARRAY => {
            matches!(converted, C::NONE | C::UTF8 | C::ENUM | C::JSON | C::BSON | C::DECIMAL)
        }
        Physical::FIXED_LEN_BYTE_ARRAY => matches!(converted, C::NONE | C::DECIMAL),
    }
}

/// The values of a row, or of a group inside a row. A value that has no JSON form is left out, unless the conversation
/// needs it.
fn object(
    row: &Row,
    path: &str,
    is_needed: &dyn Fn(&str) -> bool,
    left_out: &mut Vec<String>,
) -> Result<Map<String, Value>, Fault> {
    let mut object = Map::new();
    for (name, field) in row.get_column_iter() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match value(field, &path, is_needed, left_out) {
            Ok(value) => {
                object.insert(name.clone(), value);
            }
            Err(_) if !is_needed(path.split(['.', '[']).next().unwrap_or(&path)) => left_out.push(path),
            Err(fault) => return Err(fault),
        }
    }
    Ok(object)
}

/// A value as JSON. Dates, times and decimals become text, and so do bytes that are UTF-8.
fn value(
    field: &Field,
    path: &str,
    is_needed: &dyn Fn(&str) -> bool,
    left_out: &mut Vec<String>,
) -> Result<Value, Fault> {
    let fault = |found| Err(Fault::Column { column: path.into(), found });
    let text_within = |is_within: bool, found| if is_within { Ok(field.to_string().into()) } else { fault(found) };
    let within_days = |ticks: i64, second: i64| DAYS.contains(&ticks.div_euclid(DAY * second));
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => (*value).into(),
        Field::Byte(value) => (*value).into(),
        Field::Short(value) => (*value).into(),
        Field::Int(value) => (*value).into(),
        Field::Long(value) => (*value).into(),
        Field::UByte(value) => (*value).into(),
        Field::UShort(value) => (*value).into(),
        Field::UInt(value) => (*value).into(),
        Field::ULong(value) => (*value).into(),
        Field::Float16(value) => return number(f64::from(*value), path),
        Field::Float(value) => return number(f64::from(*value), path),
        Field::Double(value) => return number(*value, path),
        Field::Str(text) => text.as_str().into(),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => text.into(),
            Err(_) => return fault("bytes that are not UTF-8"),
        },
        Field::Decimal(decimal) => {
            let is_sound = (0..=decimal.precision()).contains(&decimal.scale());
            return text_within(is_sound, "a decimal of a scale above its precision");
        }
        Field::Date(days) => return text_within(DAYS.contains(&i64::from(*days)), OUT_OF_CALENDAR),
        Field::TimeMillis(time) => return text_within((0..DAY * 1000).contains(&i64::from(*time)), OUT_OF_DAY),
        Field::TimeMicros(time) => return text_within((0..DAY * 1_000_000).contains(time), OUT_OF_DAY),
        Field::TimestampMillis(time) => return text_within(within_days(*time, 1000), OUT_OF_CALENDAR),
        Field::TimestampMicros(time) => return text_within(within_days(*time, 1_000_000), OUT_OF_CALENDAR),
        Field::Group(row) => object(row, path, is_needed, left_out)?.into(),
        Field::ListInternal(list) => {
            let elements = list.elements().iter().enumerate();
            let cell = |(at, element)| value(element, &format!("{path}[{}]", at + 1), is_needed, left_out);
            elements.map(cell).collect::<Result<_, _>>()?
        }
        Field::MapInternal(map) => {
            let entry = |(key, entry): &(Field, Field)| {
                let key = match value(key, path, is_needed, left_out)? {
                    Value::String(key) => key,
                    key => key.to_string(),
                };
                let entry = value(entry, &format!("{path}.{key}"), is_needed, left_out)?;
                Ok((key, entry))
            };
            Value::Object(map.entries().iter().map(entry).collect::<Result<_, _>>()?)
        }
    })
}

const OUT_OF_CALENDAR: &str = "a date outside the years 1 to 9999";
const OUT_OF_DAY: &str = "a time outside the day";

fn number(number: f64, path: &str) -> Result<Value, Fault> {
    let found = if number.is_nan() { "NaN" } else { "an infinite number" };
    Number::from_f64(number).map(Value::from).ok_or_else(|| Fault::Column { column: path.into(), found })
}

#[cfg(test)]
mod tests {
    use parquet::data_type::{ByteArray, Decimal};
    use parquet::schema::parser::parse_message_type;

    use super::*;

    #[test]
    fn every_cell_is_json_or_a_fault_that_names_its_column() {
        let checks = [
            (Field::Float(0.5), "0.5"),
            (Field::Double(f64::NAN), "the column `c` holds NaN"),
            (Field::Double(f64::INFINITY), "the column `c` holds an infinite number"),
            (Field::ULong(u64::MAX), "18446744073709551615"),
            (Field::Bytes(ByteArray::from("é")), "\"é\""),
            (Field::Bytes(ByteArray::from(vec![0xFF])), "the column `c` holds bytes that are not UTF-8"),
            (Field::Decimal(Decimal::from_i32(-5, 9, 2)), "\"-0.05\""),
            (
                Field::Decimal(Decimal::from_i32(5, 1, 2)),
                "the column `c` holds a decimal of a scale above its precision",
            ),
            (Field::Date(0), "\"1970-01-01\""),
            (Field::Date(-719_162), "\"0001-01-01\""),
            (Field::Date(2_932_896), "\"9999-12-31\""),
            (Field::Date(i32::MIN), "the column `c` holds a date outside the years 1 to 9999"),
            (Field::TimestampMillis(i64::MAX), "the column `c` holds a date outside the years 1 to 9999"),
            (Field::TimestampMicros(-1), "\"1969-12-31 23:59:59.999999 +00:00\""),
            (Field::TimestampMicros(i64::MIN), "the column `c` holds a date outside the years 1 to 9999"),
            (Field::TimeMillis(86_399_999), "\"23:59:59.999\""),
            (Field::TimeMillis(-1), "the column `c` holds a time outside the day"),
            (Field::TimeMicros(86_400_000_000), "the column `c` holds a time outside the day"),
        ];
        for (field, expected) in checks {
            let found = value(&field, "c", &is_needed, &mut Vec::new());
            let found = found.map_or_else(|fault| fault.to_string(), |value| value.to_string());
            assert_eq!(found, expected, "{field:?}");
        }
    }

    #[test]
    fn a_column_that_the_row_reader_cannot_read_is_refused_by_name() {
        for (column, refused) in [
            ("optional binary c (STRING)", false),
            ("required int64 c (TIMESTAMP(NANOS,true))", false),
            ("optional group c (LIST) { repeated group list { optional binary element; } }", false),
            ("optional group c (LIST) { repeated int32 element; }", false),
            (
                "optional group c (MAP) { repeated group m (MAP_KEY_VALUE) { required binary k; optional int32 v; } }",
                false,
            ),
            ("required fixed_len_byte_array(12) c (INTERVAL)", true),
            ("optional group c (LIST) { optional group list { optional binary element; } }", true),
            ("optional group c (LIST) { repeated int32 a; repeated int32 b; }", true),
            ("optional group c (MAP) { repeated binary m; }", true),
        ] {
            let schema = parse_message_type(&format!(
                "message m {{ {column}{} }}",
                if column.ends_with('}') { "" } else { ";" }
            ));
            let schema = schema.expect("the test's own schema");
            let found = check(&schema.get_fields()[0], "c");
            assert_eq!(found.is_err(), refused, "{column}: {found:?}");
            assert!(found.err().is_none_or(|error| error.to_string().contains("the column `c")));
        }
    }

    #[test]
    fn a_panic_of_the_decoder_is_an_error_with_its_words() {
        let error = unpanicked(|| -> Result<(), _> { panic!("level {}", 7) }).expect_err("it panicked");
        assert!(error.to_string().ends_with("the decoder gave up: level 7"), "{error}");
    }
}
