//! A map from fields of a record to the columns or keys of a file.

mod apply;

use std::str::FromStr;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::Error;

pub(super) use apply::Mapping;

/// Says which columns of a table, or which keys of an object, become the fields of a record.
///
/// Each field (`prompt`, `completion`, `system`, `instruction`, `output`, `messages`, `text`, `id`, `group`, `label`, or
/// any metadata) is made from the name of a column, or from a template such as `{label}\n{reply}`. In a template `{{` and
/// `}}` are braces, and `\n`, `\t`, `\,` and `\\` are a line break, a tab, a comma and a backslash. `data.ticket.text`
/// is a key inside of objects. What is not used stays metadata.
///
/// ```
/// use foehn_corpus::FieldMap;
///
/// let map: FieldMap = r"prompt=ticket,completion={label}\n{reply}".parse()?;
/// assert_eq!(map.fields().collect::<Vec<_>>(), ["prompt", "completion"]);
/// # Ok::<(), foehn_corpus::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldMap {
    entries: Vec<(String, Source)>,
}

/// What a field is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// The value of a column, as it is.
    Column(String),
    /// A text with the values of columns.
    Template(Vec<Piece>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Column(String),
}

impl FieldMap {
    /// Makes a map from fields and their columns or templates.
    ///
    /// # Errors
    /// [`Error::FieldMap`] for a field that occurs twice or has no name, and for a template that cannot be read.
    pub fn new<K: Into<String>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self, Error> {
        let mut entries: Vec<(String, Source)> = Vec::new();
        for (field, source) in pairs {
            let field = field.into();
            let fault = |problem| Error::FieldMap { field: field.clone(), problem };
            if field.trim().is_empty() {
                return Err(fault("a field has no name"));
            }
            if entries.iter().any(|(known, _)| *known == field) {
                return Err(fault("the field is mapped twice"));
            }
            let source = Source::parse(source.as_ref()).map_err(fault)?;
            entries.push((field, source));
        }
        Ok(Self { entries })
    }

    /// The fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(field, _)| field.as_str())
    }

    /// Whether no field is mapped.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The columns that are used, each once.
    fn columns(&self) -> Vec<&str> {
        let mut columns = Vec::new();
        for column in self.entries.iter().flat_map(|(_, source)| source.columns()) {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        columns
    }
}

impl Source {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if !text.contains(['{', '}']) {
            return if text.is_empty() { Err("no column is named") } else { Ok(Self::Column(text.to_owned())) };
        }
        let (mut pieces, mut plain, mut chars) = (Vec::new(), String::new(), text.chars().peekable());
        while let Some(c) = chars.next() {
            match c {
                '{' | '}' if chars.next_if_eq(&c).is_some() => plain.push(c),
                '{' => {
                    let name: String = std::iter::from_fn(|| chars.next_if(|c| *c != '}')).collect();
                    if chars.next().is_none() || name.is_empty() {
                        return Err("a brace is not closed, or names no column");
                    }
                    pieces.extend((!plain.is_empty()).then(|| Piece::Text(std::mem::take(&mut plain))));
                    pieces.push(Piece::Column(name));
                }
                '}' => return Err("a closing brace has no opening one: write two for a brace"),
                '\\' => plain.push(match chars.next() {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some(c @ ('\\' | ',')) => c,
                    _ => return Err(r"a backslash is followed by something else than n, t, a comma or a backslash"),
                }),
                other => plain.push(other),
            }
        }
        pieces.extend((!plain.is_empty()).then_some(Piece::Text(plain)));
        Ok(Self::Template(pieces))
    }

    fn columns(&self) -> impl Iterator<Item = &str> {
        let (column, pieces) = match self {
            Self::Column(column) => (Some(column.as_str()), &[][..]),
            Self::Template(pieces) => (None, pieces.as_slice()),
        };
        let in_pieces = pieces.iter().filter_map(|piece| match piece {
            Piece::Column(column) => Some(column.as_str()),
            Piece::Text(_) => None,
        });
        column.into_iter().chain(in_pieces)
    }
}

impl FromStr for FieldMap {
    type Err = Error;

    /// Parses `field=column,field=template`. A comma begins a new field if a name and an equals sign follow; `\,` never
    /// does.
    fn from_str(text: &str) -> Result<Self, Error> {
        let mut starts = vec![0];
        starts.extend(text.match_indices(',').map(|(at, _)| at + 1).filter(|at| begins_field(text, *at)));
        let ends = starts.iter().skip(1).map(|start| start - 1).chain([text.len()]);
        let pairs = starts.iter().zip(ends).map(|(start, end)| {
            let pair = &text[*start..end];
            let no_pair = || Error::FieldMap { field: pair.to_owned(), problem: "there is no `=` and column after it" };
            pair.split_once('=').map(|(field, source)| (field.trim(), source)).ok_or_else(no_pair)
        });
        Self::new(pairs.collect::<Result<Vec<_>, _>>()?)
    }
}

/// Whether a name and an equals sign stand at this place, after a comma that is not escaped.
fn begins_field(text: &str, at: usize) -> bool {
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    let escapes = text[..at - 1].bytes().rev().take_while(|byte| *byte == b'\\').count();
    escapes % 2 == 0 && text[at..].split_once('=').is_some_and(|(name, _)| is_name(name.trim_start()))
}

impl<'de> Deserialize<'de> for FieldMap {
    /// Reads a table of fields, each with its column or template.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = FieldMap;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a table of fields, each with a column or a template as text")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FieldMap, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry::<String, String>()? {
                    pairs.push(pair);
                }
                FieldMap::new(pairs).map_err(serde::de::Error::custom)
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(text: &str) -> Vec<String> {
        let map: FieldMap = text.parse().expect("a sound map");
        map.columns().into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn fields_are_divided_at_commas_before_a_name() {
        let map: FieldMap = r"prompt=a, b,completion={c}, {d},id=e=f".parse().expect("a sound map");
        assert_eq!(map.fields().collect::<Vec<_>>(), ["prompt", "completion", "id"]);
        assert_eq!(map.columns(), ["a, b", "c", "d", "e=f"]);
        assert_eq!(columns(r"prompt={a}\,b={c}"), ["a", "c"]);
        assert_eq!(columns(r"prompt={a},b={c}, completion={c}"), ["a", "c"]);
    }

    #[test]
    fn what_is_no_map_is_named() {
        for (text, expected) in [
            ("", "no `=`"),
            ("prompt", "no `=`"),
            ("prompt=", "no column is named"),
            ("=a", "has no name"),
            ("prompt=a,prompt=b", "`prompt`: the field is mapped twice"),
            ("prompt={a", "not closed"),
            ("prompt={}", "names no column"),
            ("prompt=a}", "no opening one"),
            (r"prompt={a}\d", "a backslash"),
        ] {
            let error = text.parse::<FieldMap>().expect_err(text);
            assert!(error.to_string().contains(expected), "{text}: {error}");
        }
    }
}
