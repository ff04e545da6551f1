//! The budget of a render: the steps and bytes that a template may still use. Each render has its own thread, and so
//! its own budget.

use std::cell::Cell;

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// The largest nesting depth of lists and maps. Printing, comparing and dropping them need one stack frame per level.
const DEPTH: usize = 64;

/// The remaining budget.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budget {
    /// Values that are visited outside of the engine's own instructions, which are limited by fuel.
    pub steps: u64,
    /// Bytes of text and lists that were created, whether or not they still exist.
    pub bytes: u64,
}

thread_local! {
    static LEFT: Cell<Budget> = const { Cell::new(Budget { steps: 0, bytes: 0 }) };
}

/// Sets this thread's budget.
pub(super) fn set(budget: Budget) {
    LEFT.set(budget);
}

/// Subtracts steps.
pub(super) fn steps(count: u64) -> Result<(), Error> {
    let left = LEFT.get();
    let steps = left.steps.checked_sub(count);
    LEFT.set(Budget { steps: steps.unwrap_or(0), ..left });
    steps.map(|_| ()).ok_or_else(|| exceeded("the template takes more steps than a render may"))
}

/// Subtracts bytes.
pub(super) fn bytes(count: u64) -> Result<(), Error> {
    let left = LEFT.get();
    let bytes = left.bytes.checked_sub(count);
    LEFT.set(Budget { bytes: bytes.unwrap_or(0), ..left });
    bytes.map(|_| ()).ok_or_else(|| exceeded("the template makes more text than a render may"))
}

fn exceeded(message: &'static str) -> Error {
    Error::new(ErrorKind::OutOfFuel, message)
}

/// Walks through a value and returns about the number of bytes that it would print. Every value in it costs a step.
pub(super) fn weigh(value: &Value) -> Result<u64, Error> {
    weigh_at(value, 0)
}

fn weigh_at(value: &Value, depth: usize) -> Result<u64, Error> {
    steps(1)?;
    if depth > DEPTH {
        return Err(Error::new(ErrorKind::InvalidOperation, format!("lists and maps nest deeper than {DEPTH}")));
    }
    let mut weight = 0_u64;
    match value.kind() {
        ValueKind::String => {
            weight = value.as_str().map_or(0, str::len) as u64;
            steps(weight / 256)?;
        }
        ValueKind::Bytes => weight = value.len().unwrap_or(0) as u64,
        ValueKind::Seq | ValueKind::Iterable => {
            for item in value.try_iter()? {
                weight = weight.saturating_add(weigh_at(&item, depth + 1)?);
            }
        }
        ValueKind::Map => {
            for key in value.try_iter()? {
                let item = weigh_at(&value.get_item(&key)?, depth + 1)?;
                weight = weight.saturating_add(weigh_at(&key, depth + 1)?).saturating_add(item);
            }
        }
        // A list that contains a namespace could come to contain itself.
        ValueKind::Plain if depth > 0 => return Err(held()),
        _ => {}
    }
    Ok(weight.saturating_add(24))
}

/// The error for a namespace, macro or loop where only data is allowed.
pub(super) fn held() -> Error {
    Error::new(ErrorKind::InvalidOperation, "a namespace or macro cannot be held by another value")
}

/// The bytes of a string itself, or of the list of a sequence; 0 for other values.
pub(super) fn own_bytes(value: &Value) -> u64 {
    match value.kind() {
        ValueKind::String => value.as_str().map_or(0, str::len) as u64,
        ValueKind::Bytes => value.len().unwrap_or(0) as u64,
        ValueKind::Seq | ValueKind::Iterable => 24 * value.len().unwrap_or(0) as u64,
        _ => 0,
    }
}

/// Turns a lazy sequence into a list, so that lazy sequences cannot be nested into a deep chain.
pub(super) fn settle(value: Value) -> Result<Value, Error> {
    if value.kind() != ValueKind::Iterable {
        return Ok(value);
    }
    let mut items = Vec::new();
    for item in value.try_iter()? {
        steps(1)?;
        bytes(24)?;
        items.push(item);
    }
    Ok(Value::from(items))
}

/// A writer that subtracts bytes from the budget before it passes them on.
pub(super) struct Metered<W>(pub W);

impl<W: std::fmt::Write> std::fmt::Write for Metered<W> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        bytes(text.len() as u64).map_err(|_| std::fmt::Error)?;
        self.0.write_str(text)
    }
}

impl<W: std::io::Write> std::io::Write for Metered<W> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        bytes(buffer.len() as u64).map_err(std::io::Error::other)?;
        self.0.write(buffer)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}
