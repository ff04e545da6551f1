//! Reads a JSON object field by field, so that what nothing has read can be refused by name.

use serde_json::{Map, Value};

use crate::api_error::{ApiError, ApiResult};

/// An object whose fields are taken out one by one. `null` is the same as no field.
#[derive(Debug)]
pub(crate) struct Fields {
    /// Where the object is in the request: empty, or `messages[0].`.
    place: String,
    map: Map<String, Value>,
}

impl Fields {
    /// An object at a place such as `messages[0]`; the place of the body itself is empty.
    pub fn new(place: &str, value: Value) -> ApiResult<Self> {
        match value {
            Value::Object(map) => {
                let place = if place.is_empty() { String::new() } else { format!("{place}.") };
                Ok(Self { place, map })
            }
            other => Err(wrong(place, &other, "an object")),
        }
    }

    /// The whole name of a field.
    pub fn path(&self, name: &str) -> String {
        format!("{}{name}", self.place)
    }

    /// Takes a field of any type.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    fn typed<T>(&mut self, name: &str, expected: &str, read: impl FnOnce(&Value) -> Option<T>) -> ApiResult<Option<T>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        read(&value).map(Some).ok_or_else(|| wrong(&self.path(name), &value, expected))
    }

    pub fn text(&mut self, name: &str) -> ApiResult<Option<String>> {
        self.typed(name, "a string", |value| value.as_str().map(str::to_owned))
    }

    pub fn required_text(&mut self, name: &str) -> ApiResult<String> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    pub fn number(&mut self, name: &str) -> ApiResult<Option<f32>> {
        self.typed(name, "a number", |value| value.as_f64().map(|number| number as f32))
    }

    pub fn integer(&mut self, name: &str) -> ApiResult<Option<i64>> {
        self.typed(name, "a whole number", Value::as_i64)
    }

    pub fn boolean(&mut self, name: &str) -> ApiResult<bool> {
        Ok(self.typed(name, "true or false", Value::as_bool)?.unwrap_or(false))
    }

    pub fn list(&mut self, name: &str) -> ApiResult<Option<Vec<Value>>> {
        self.typed(name, "a list", |value| value.as_array().cloned())
    }

    /// A whole number within limits.
    pub fn within(&mut self, name: &str, least: usize, most: usize) -> ApiResult<Option<usize>> {
        let Some(found) = self.integer(name)? else { return Ok(None) };
        let fits = usize::try_from(found).ok().filter(|number| (least..=most).contains(number));
        fits.map(Some).ok_or_else(|| {
            let path = self.path(name);
            ApiError::invalid(&path, format!("`{path}` is {found}, expected {least} to {most}"))
        })
    }

    pub fn missing(&self, name: &str) -> ApiError {
        let path = self.path(name);
        ApiError::invalid(&path, format!("Missing required parameter: `{path}`"))
    }

    /// Takes a field that has no effect with this value, and is refused with any other.
    pub fn neutral(&mut self, name: &str, is_neutral: impl FnOnce(&Value) -> bool) -> ApiResult<()> {
        match self.take(name) {
            Some(value) if !is_neutral(&value) => Err(self.unsupported(name)),
            _ => Ok(()),
        }
    }

    fn unsupported(&self, name: &str) -> ApiError {
        let path = self.path(name);
        let mut error = ApiError::invalid(&path, format!("`{path}` is not supported by this server: leave it out"));
        error.code = Some("unsupported_parameter");
        error
    }

    /// Refuses what was not taken, but for fields without effect.
    pub fn finish(self, without_effect: &[&str]) -> ApiResult<()> {
        let left = self.map.iter().find(|(name, value)| !value.is_null() && !without_effect.contains(&name.as_str()));
        match left {
            Some((name, _)) => Err(self.unsupported(name)),
            None => Ok(()),
        }
    }
}

/// The error for a value of another type.
pub(crate) fn wrong(path: &str, found: &Value, expected: &str) -> ApiError {
    let kind = match found {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    let shown = if path.is_empty() { "the body" } else { path };
    ApiError::invalid(path, format!("`{shown}` is {kind}, expected {expected}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_nothing_reads_is_refused_by_name() {
        let mut fields = Fields::new("messages[0]", json!({"a": 1, "b": null, "user": "x", "c": true})).unwrap();
        assert_eq!(fields.integer("a").unwrap(), Some(1));
        let error = fields.finish(&["user"]).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("messages[0].c"));
        assert!(Fields::new("", json!({"b": null, "user": 1})).unwrap().finish(&["user"]).is_ok());
    }

    #[test]
    fn types_and_ranges_are_checked() {
        let fields = || Fields::new("", json!({"n": 17, "t": "x", "f": 1.5, "big": 1e300})).unwrap();
        assert!(fields().within("n", 1, 16).unwrap_err().message.contains("expected 1 to 16"));
        assert!(fields().number("t").unwrap_err().message.contains("is a string, expected a number"));
        assert!(fields().integer("f").is_err());
        assert_eq!(fields().number("big").unwrap(), Some(f32::INFINITY));
        assert!(fields().required_text("none").unwrap_err().message.contains("none"));
        assert!(Fields::new("", json!([])).is_err());
    }
}
