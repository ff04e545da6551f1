//! The functions that chat templates can call, as in transformers.
//!
//! Source: `render_jinja_template` in `utils/chat_template_utils.py` of <https://github.com/huggingface/transformers>.

use std::fmt::Write as _;

use foehn_files::printable_text;
use minijinja::value::{Kwargs, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output};
use serde::Serialize;

use super::budget::{self, Metered};
use super::guarded;
use super::json::repr;

/// The largest indent of `tojson`.
const MAX_INDENT: usize = 64;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// The date in every render: year, month, day, weekday counted from Sunday, day of the year.
const TODAY: (u32, usize, u32, usize, u32) = (2024, 7, 26, 5, 208);

/// An engine with only the functions that templates may call.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    // With debugging on, errors would print all variables.
    environment.set_debug(false);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_formatter(|output, _, value| {
        let written = if value.is_undefined() { Ok(()) } else { write!(Metered(Writer(output)), "{value}") };
        written.map_err(|_| budget::bytes(u64::MAX).err().unwrap_or_else(|| ErrorKind::WriteFailure.into()))
    });
    guarded::add(&mut environment);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", tojson);
    environment
}

/// A writer to the engine's output.
struct Writer<'a, 'b>(&'a mut Output<'b>);

impl std::fmt::Write for Writer<'_, '_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.write_str(text)
    }
}

/// The template's own words, which cannot steer the terminal that they are shown on.
fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, printable_text(message).to_string()))
}

/// Python's `strftime`, in English, at midnight of [`TODAY`].
fn strftime_now(format: &str) -> Result<String, Error> {
    let (year, month, day, weekday, day_of_year) = TODAY;
    let month_name = MONTHS.get(month - 1).copied().unwrap_or_default();
    let day_name = DAYS.get(weekday).copied().unwrap_or_default();
    let short = |name: &str| name.chars().take(3).collect::<String>();
    let mut text = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        text.push_str(&match letters.next() {
            Some('Y') => year.to_string(),
            Some('y') => format!("{:02}", year % 100),
            Some('m') => format!("{month:02}"),
            Some('B') => month_name.to_owned(),
            Some('b' | 'h') => short(month_name),
            Some('d') => format!("{day:02}"),
            Some('e') => format!("{day:2}"),
            Some('j') => format!("{day_of_year:03}"),
            Some('A') => day_name.to_owned(),
            Some('a') => short(day_name),
            Some('w') => weekday.to_string(),
            Some('H' | 'M' | 'S') => "00".to_owned(),
            Some('I') => "12".to_owned(),
            Some('p') => "AM".to_owned(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T') => "00:00:00".to_owned(),
            Some('%') => "%".to_owned(),
            other => {
                let message = format!("strftime_now does not know %{}", other.map_or(String::new(), String::from));
                return Err(Error::new(ErrorKind::InvalidOperation, printable_text(message).to_string()));
            }
        });
    }
    Ok(text)
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`. The engine's own filter escapes for HTML, so it is not used.
fn tojson(value: Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    if ascii == Some(true) {
        return Err(Error::new(ErrorKind::InvalidOperation, "tojson does not escape to ASCII here"));
    }
    let failed = |error: serde_json::Error| {
        Error::new(ErrorKind::BadSerialization, "the value has no JSON form").with_source(error)
    };
    budget::weigh(&value)?;
    let mut bytes = Vec::new();
    let mut writer = Metered(&mut bytes);
    match indent {
        Some(width) if width > MAX_INDENT => {
            let message = format!("tojson indents by {width}, at most {MAX_INDENT} are done");
            return Err(Error::new(ErrorKind::InvalidOperation, printable_text(message).to_string()));
        }
        Some(width) => {
            let spaces = " ".repeat(width);
            let formatter = Pretty(serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes()));
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut writer, formatter)).map_err(failed)?;
        }
        None => {
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut writer, Spaced)).map_err(failed)?;
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Python's separators: a space after a comma and after a colon.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_f64<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, value: f64) -> std::io::Result<()> {
        writer.write_all(repr(value).as_bytes())
    }
}

/// Lines and indents, with Python's floats.
struct Pretty<'a>(serde_json::ser::PrettyFormatter<'a>);

/// Functions that are passed on.
macro_rules! inner {
    ($($name:ident($($argument:ident: $kind:ty),*))*) => {$(
        fn $name<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, $($argument: $kind),*) -> std::io::Result<()> {
            self.0.$name(writer, $($argument),*)
        }
    )*};
}

impl serde_json::ser::Formatter for Pretty<'_> {
    inner!(begin_array() end_array() begin_array_value(first: bool) end_array_value() begin_object() end_object()
        begin_object_key(first: bool) begin_object_value() end_object_value());

    fn write_f64<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, value: f64) -> std::io::Result<()> {
        writer.write_all(repr(value).as_bytes())
    }
}

/// Replaces `{% generation %}` blocks, which mark answers for transformers, by blocks without effect.
pub(super) fn without_generation_tags(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, after)) = rest.split_once("{%") {
        text.push_str(before);
        text.push_str("{%");
        let Some((inside, behind)) = after.split_once("%}") else {
            rest = after;
            continue;
        };
        let word = inside.trim_matches(|letter: char| letter.is_whitespace() || matches!(letter, '-' | '+'));
        let replacement = match word {
            "generation" => Some("if true"),
            "endgeneration" => Some("endif"),
            _ => None,
        };
        match replacement {
            Some(replacement) => {
                text.push_str(&inside.replacen(word, replacement, 1));
                text.push_str("%}");
                rest = behind;
            }
            // A string inside the tag may contain "%}", so only the opening of the tag is skipped.
            None => rest = after,
        }
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::super::program::Program;
    use super::*;

    fn check(source: &str, expected: &str) {
        let program = Program::new(source).unwrap();
        let context = minijinja::context! {
            user => minijinja::context! { name => "<Zoë & 'co'>", tags => vec![1, 2] }
        };
        assert_eq!(program.render(context, 1, 0).unwrap(), expected, "{source}");
    }

    #[test]
    fn templates_render_as_in_jinja2() {
        check("{{ user | tojson }}", r#"{"name": "<Zoë & 'co'>", "tags": [1, 2]}"#);
        check("{{ user.tags | tojson(indent=2) }}", "[\n  1,\n  2\n]");
        check("{{ user.name }}", "<Zoë & 'co'>");
        check("{{ strftime_now('%d %b %Y, %A') }}", "26 Jul 2024, Friday");
        check("{% if true %}\n  yes\n{% endif %}\nend\n", "  yes\nend");
        check("{{ ' a '.strip() + 'b'.upper() }}", "aB");
        check("{% for x in user.tags %}{{ x }}{% if x == 1 %}{% break %}{% endif %}{% endfor %}", "1");
        check("{%- generation -%} a {%- endgeneration %}{{ '{% generation %}' }}", "a{% if true %}");
    }

    #[test]
    fn a_template_can_refuse() {
        let program = Program::new("{{ raise_exception('roles must alternate') }}").unwrap();
        let error = program.render(Value::UNDEFINED, 1, 0).unwrap_err();
        assert!(error.to_string().contains("roles must alternate"));
    }
}
