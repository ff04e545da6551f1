//! The engine's own filters, tests and methods. Their arguments are charged to the budget before the call, and the
//! result after it.

use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Kwargs, Object, ObjectRepr, Rest, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, filters, functions, tests};

use super::budget::{bytes, held, own_bytes, settle, steps, weigh};

/// The largest width, count or size that a filter accepts.
const MAX_SIZE: u64 = 1_000;

/// The check before a filter runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// No check: the filter is fast for all arguments.
    Free,
    /// The filter visits all of its arguments, and its result is at most a few times as large.
    Weigh,
    /// As [`Rule::Weigh`], and the arguments after the first may have a size.
    Sized,
    /// `replace(text, from, to)`.
    Replace,
    /// `join(items, between)`.
    Join,
    /// `format(text, values…)`.
    Format,
}

/// Registers everything that templates may call.
pub(super) fn add(environment: &mut Environment<'static>) {
    macro_rules! add {
        ($rule:expr; $($name:ident)*) => {$(
            add_filter(environment, stringify!($name), $rule, Value::from_function(filters::$name));
        )*};
    }
    add!(Rule::Free; length default abs int float bool first last round attr);
    add!(Rule::Weigh; safe upper lower title capitalize dictsort items reverse trim split lines sum min max sort list
        string select selectattr reject rejectattr map groupby unique chain zip);
    add!(Rule::Sized; slice batch indent);
    add!(Rule::Replace; replace);
    add!(Rule::Join; join);
    add!(Rule::Format; format);
    add_filter(environment, "d", Rule::Free, Value::from_function(filters::default));
    add_filter(environment, "count", Rule::Free, Value::from_function(filters::length));
    add_tests(environment);
    environment.add_function("range", functions::range);
    environment.add_function("dict", |value: Option<Value>, update: Kwargs| -> Result<Value, Error> {
        made(functions::dict(value, update)?)
    });
    environment.add_function("namespace", namespace);
    environment.set_unknown_method_callback(|state, value, method, args| {
        let rule = match method {
            "replace" => Rule::Replace,
            "join" => Rule::Join,
            "format" => Rule::Format,
            "get" | "keys" | "startswith" | "endswith" => Rule::Free,
            _ => Rule::Weigh,
        };
        let mut all = vec![value.clone()];
        all.extend_from_slice(args);
        if rule == Rule::Join {
            all.swap(0, 1.min(args.len()));
        }
        before(rule, &all)?;
        after(rule, minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)?)
    });
    add_checks(environment);
}

fn add_filter(environment: &mut Environment<'static>, name: &'static str, rule: Rule, plain: Value) {
    environment.add_filter(name, move |state: &mut State, args: Rest<Value>| -> Result<Value, Error> {
        before(rule, &args)?;
        after(rule, plain.call(state, &args)?)
    });
}

fn add_tests(environment: &mut Environment<'static>) {
    macro_rules! add {
        ($rule:expr; $($names:literal $test:ident)*) => {$(
            let plain = Value::from_function(tests::$test);
            environment.add_test($names, move |state: &mut State, args: Rest<Value>| -> Result<bool, Error> {
                before($rule, &args)?;
                Ok(plain.call(state, &args)?.is_true())
            });
        )*};
    }
    add!(Rule::Free; "undefined" is_undefined "defined" is_defined "none" is_none "safe" is_safe "escaped" is_safe
        "boolean" is_boolean "odd" is_odd "even" is_even "divisibleby" is_divisibleby "number" is_number
        "integer" is_integer "int" is_integer "float" is_float "string" is_string "sequence" is_sequence
        "iterable" is_iterable "mapping" is_mapping "true" is_true "false" is_false "filter" is_filter
        "test" is_test "sameas" is_sameas);
    add!(Rule::Weigh; "startingwith" is_startingwith "endingwith" is_endingwith "lower" is_lower "upper" is_upper
        "eq" is_eq "equalto" is_eq "==" is_eq "ne" is_ne "!=" is_ne "lt" is_lt "lessthan" is_lt "<" is_lt
        "le" is_le "<=" is_le "gt" is_gt "greaterthan" is_gt ">" is_gt "ge" is_ge ">=" is_ge "in" is_in);
}

/// Charges a filter's work to the budget, based on its arguments.
fn before(rule: Rule, args: &[Value]) -> Result<(), Error> {
    if rule == Rule::Free {
        return touch(args.first().unwrap_or(&Value::UNDEFINED));
    }
    let mut weight = 0_u64;
    for value in args {
        if value.kind() == ValueKind::Plain {
            return Err(held());
        }
        weight = weight.saturating_add(weigh(value)?);
    }
    // Sorting visits each value several times.
    steps(weight / 8)?;
    let text = |at: usize| args.get(at).and_then(Value::as_str);
    let made = match rule {
        Rule::Replace => {
            let (Some(all), Some(from), Some(to)) = (text(0), text(1), text(2)) else { return bytes(weight) };
            let count = if from.is_empty() { all.chars().count() + 1 } else { all.matches(from).count() };
            (count as u64).saturating_mul(to.len() as u64)
        }
        Rule::Join => {
            let between = text(1).map_or(0, str::len) as u64;
            args.first().and_then(Value::len).unwrap_or(0) as u64 * between
        }
        Rule::Format => {
            let sizes = text(0).map_or(Ok(0), sizes)?;
            let fields = text(0).map_or(0, |text| text.matches(['%', '{']).count()) as u64;
            fields.saturating_mul(weight).saturating_add(sizes)
        }
        Rule::Sized => {
            let lines = text(0).map_or(1, |text| text.matches('\n').count() + 1) as u64;
            lines.saturating_mul(args.iter().skip(1).map(size).sum::<Result<u64, Error>>()?)
        }
        Rule::Free | Rule::Weigh => 0,
    };
    bytes(weight.saturating_add(made))
}

fn after(rule: Rule, value: Value) -> Result<Value, Error> {
    if rule == Rule::Free { Ok(value) } else { made(settle(value)?) }
}

/// The size in an argument: a number, or the numbers among named arguments.
fn size(value: &Value) -> Result<u64, Error> {
    let mut size = value.as_i64().map_or(0, i64::unsigned_abs);
    if value.is_kwargs() {
        for key in value.try_iter()? {
            size = size.max(value.get_item(&key)?.as_i64().map_or(0, i64::unsigned_abs));
        }
    } else if value.is_number() && value.as_i64().is_none() {
        size = u64::MAX;
    }
    match size {
        0..=MAX_SIZE => Ok(size.max(value.as_str().map_or(0, str::len) as u64)),
        _ => Err(Error::new(ErrorKind::InvalidOperation, format!("a size is beyond {MAX_SIZE}"))),
    }
}

/// The sum of all numbers in a format string, which are its widths and precisions.
fn sizes(text: &str) -> Result<u64, Error> {
    let mut sum = 0_u64;
    for digits in text.split(|letter: char| !letter.is_ascii_digit()).filter(|digits| !digits.is_empty()) {
        sum = sum.saturating_add(digits.parse().unwrap_or(u64::MAX));
    }
    if sum > 100 * MAX_SIZE || text.contains(".*") || text.contains("%*") || text.contains(":{") {
        return Err(Error::new(ErrorKind::InvalidOperation, "a format asks for too large a width"));
    }
    Ok(sum)
}

/// Charges a new list or map to the budget.
fn made(value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => bytes(weigh(&value)?)?,
        _ => bytes(own_bytes(&value))?,
    }
    Ok(value)
}

/// Charges the search in a string; it takes time proportional to its length.
fn touch(value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => steps(1 + text.len() as u64 / 64),
        None => steps(1),
    }
}

/// The checks that compiled templates call between their instructions. Their names are not valid in Jinja.
fn add_checks(environment: &mut Environment<'static>) {
    environment.add_filter("@touch", |value: Value| touch(&value).map(|()| value));
    environment.add_filter("@charge", |value: Value| weigh(&value).map(|_| value));
    environment.add_filter("@made", made);
    environment.add_filter("@settle", settle);
    // This check stores the first operand. Then the operator's check follows with the second operand.
    environment.add_filter("@note", |value: Value| -> Value {
        NOTED.set(value.clone());
        value
    });
    environment.add_filter("@add", |value: Value| -> Result<Value, Error> {
        bytes(own_bytes(&NOTED.take()).saturating_add(own_bytes(&value)))?;
        Ok(value)
    });
    environment.add_filter("@mul", |value: Value| -> Result<Value, Error> {
        let left = NOTED.take();
        let count = |value: &Value| value.as_i64().map_or(0, |count| u64::try_from(count).unwrap_or(0));
        bytes(own_bytes(&left).saturating_mul(count(&value)))?;
        bytes(own_bytes(&value).saturating_mul(count(&left)))?;
        Ok(value)
    });
    environment.add_filter("@concat", |value: Value| -> Result<Value, Error> {
        for operand in [&NOTED.take(), &value] {
            match operand.as_str() {
                Some(text) => bytes(text.len() as u64)?,
                // An operand that is not text is printed, with escapes.
                None => bytes(weigh(operand)?.saturating_mul(8))?,
            }
        }
        Ok(value)
    });
    environment.add_filter("@slice", slice);
    environment.add_filter("@set", |value: Value, target: Value, name: String| -> Result<(), Error> {
        let Some(namespace) = target.downcast_object_ref::<Namespace>() else {
            let message = format!("can only assign to namespaces, not {}", target.kind());
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        };
        namespace.set(name, value)
    });
}

thread_local! {
    static NOTED: std::cell::Cell<Value> = const { std::cell::Cell::new(Value::UNDEFINED) };
}

/// `value[start:stop:step]`, as in Python.
fn slice(value: Value, start: Value, stop: Value, step: Value) -> Result<Value, Error> {
    let number = |value: &Value| if value.is_none() { Ok(None) } else { i64::try_from(value.clone()).map(Some) };
    let (start, stop, step) = (number(&start)?, number(&stop)?, number(&step)?.unwrap_or(1));
    if step == 0 {
        return Err(Error::new(ErrorKind::InvalidOperation, "cannot slice by step size of 0"));
    }
    if let Some(text) = value.as_str() {
        bytes(5 * text.len() as u64)?;
        return Ok(Value::from(pick(text.chars().collect(), start, stop, step).into_iter().collect::<String>()));
    }
    let items: Vec<Value> = match value.kind() {
        ValueKind::Undefined | ValueKind::None => Vec::new(),
        ValueKind::Seq | ValueKind::Iterable => {
            bytes(2 * own_bytes(&value))?;
            value.try_iter()?.collect()
        }
        kind => {
            return Err(Error::new(ErrorKind::InvalidOperation, format!("value of type {kind} cannot be sliced")));
        }
    };
    steps(items.len() as u64 / 8)?;
    let picked = pick(items, start, stop, step);
    Ok(if value.is_tuple() { Value::from(minijinja::value::Tuple::from(picked)) } else { Value::from(picked) })
}

fn pick<T: Clone>(items: Vec<T>, start: Option<i64>, stop: Option<i64>, step: i64) -> Vec<T> {
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let place = |at: i64| (if at < 0 { at.saturating_add(length) } else { at }).clamp(low, high);
    let (first, last) = if step > 0 { (low, high) } else { (high, low) };
    let (mut at, end) = (start.map_or(first, place), stop.map_or(last, place));
    let mut picked = Vec::new();
    while if step > 0 { at < end } else { at > end } {
        picked.extend(usize::try_from(at).ok().and_then(|at| items.get(at)).cloned());
        at = at.saturating_add(step);
    }
    picked
}

/// Jinja's `namespace`. Unlike the engine's own, it can contain only data, so it cannot contain itself.
#[derive(Debug, Default)]
struct Namespace {
    names: Mutex<std::collections::BTreeMap<String, Value>>,
}

impl Namespace {
    fn set(&self, name: String, value: Value) -> Result<(), Error> {
        if value.kind() == ValueKind::Plain {
            return Err(held());
        }
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(name, value);
        Ok(())
    }
}

impl Object for Namespace {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).get(key.as_str()?).cloned()
    }

    fn render(self: &Arc<Self>, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("<Namespace>")
    }
}

fn namespace(start: Option<Value>, names: Kwargs) -> Result<Value, Error> {
    let namespace = Namespace::default();
    if let Some(start) = start {
        for key in start.try_iter()? {
            namespace.set(key.to_string(), start.get_item(&key)?)?;
        }
    }
    for name in names.args() {
        let value: Value = names.peek(name)?;
        namespace.set(name.to_owned(), value)?;
    }
    names.assert_all_used().ok();
    Ok(Value::from_object(namespace))
}
