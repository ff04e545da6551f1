//! A template as a Go template, for Ollama's Modelfile.
//!
//! Source: <https://docs.ollama.com/template>, and `template/template.go` of <https://github.com/ollama/ollama>. Texts stand in
//! Go's quotes, so that the white space between the actions means nothing.

use foehn_record::Role::{self, Assistant, System, User};

use super::jinja::Jinja;
use crate::{Error, Result, Tokenizer};

/// The texts of the messages that are rendered: letters, which no template changes and none has.
const TEXTS: [&str; 6] =
    ["Zqsystemqz", "Zqaskedqz", "Zqansweredqz", "Zqaskedagainqz", "Zqansweredagainqz", "Zqaskedlastqz"];

/// What a template puts around messages.
#[derive(Debug)]
struct Shape {
    /// Before a conversation without a system prompt: nothing, or a default one.
    alone: String,
    system: Place,
    user: Around,
    assistant: Around,
    /// After the last question.
    opening: String,
}

#[derive(Debug)]
struct Around {
    before: String,
    after: String,
}

/// Where the system prompt is.
#[derive(Debug)]
enum Place {
    Turn(Around),
    /// In the first question, with this text behind it.
    First(String),
    Last(String),
}

/// The Go template.
pub(super) fn template(jinja: &Jinja, tokenizer: &Tokenizer) -> Result<String> {
    let shape = Shape::of(jinja, tokenizer)?;
    for system in [false, true] {
        for turns in [1, 3, 5] {
            let messages = conversation(system, turns);
            if shape.render(&messages) != rendered(jinja, tokenizer, &messages, true)? {
                return Err(no("it renders longer conversations in another way"));
            }
        }
    }
    Ok(shape.go())
}

impl Shape {
    fn of(jinja: &Jinja, tokenizer: &Tokenizer) -> Result<Self> {
        let parts = |system: bool, turns: usize, prompt: bool| {
            let messages = conversation(system, turns);
            let text = rendered(jinja, tokenizer, &messages, prompt)?;
            between(&text, &messages).ok_or_else(|| no("it leaves a message out, or changes the order"))
        };
        let [_, after_question] = exactly(parts(false, 1, false)?)?;
        let [_, _, after_answer] = exactly(parts(false, 2, false)?)?;
        let [start, to_answer, to_question, end] = exactly(parts(false, 3, true)?)?;
        let rest = |text: &str, known: &str| text.strip_prefix(known).map(str::to_owned);
        let mixed = || no("the text between two messages depends on more than their roles");
        let before_question = rest(&to_question, &after_answer).ok_or_else(mixed)?;
        let shape = Self {
            alone: start.strip_suffix(before_question.as_str()).ok_or_else(mixed)?.to_owned(),
            system: place(jinja, tokenizer, &before_question)?,
            assistant: Around { before: rest(&to_answer, &after_question).ok_or_else(mixed)?, after: after_answer },
            opening: rest(&end, &after_question).ok_or_else(mixed)?,
            user: Around { before: before_question, after: after_question },
        };
        Ok(shape)
    }

    /// What [`Self::go`] renders.
    fn render(&self, messages: &[(Role, &str)]) -> String {
        let system: String = messages.iter().filter(|(role, _)| *role == System).map(|(_, text)| *text).collect();
        let mut text = if system.is_empty() { self.alone.clone() } else { String::new() };
        for (at, (role, content)) in messages.iter().enumerate() {
            let is_last = at + 1 == messages.len();
            match role {
                System => {
                    if let Place::Turn(Around { before, after }) = &self.system {
                        text += &format!("{before}{content}{after}");
                    }
                }
                Assistant => text += &format!("{}{content}{}", self.assistant.before, self.assistant.after),
                _ => {
                    text += &self.user.before;
                    match &self.system {
                        Place::First(behind) if at < 2 && !system.is_empty() => text += &format!("{system}{behind}"),
                        Place::Last(behind) if is_last && !system.is_empty() => text += &format!("{system}{behind}"),
                        _ => {}
                    }
                    text += &format!("{content}{}", self.user.after);
                    text += if is_last { &self.opening } else { "" };
                }
            }
        }
        text
    }

    fn go(&self) -> String {
        let around = |Around { before, after }: &Around, inner: &str| {
            format!("{{{{ {} }}}}{inner}{{{{ {} }}}}", quoted(before), quoted(after))
        };
        let with_system = |condition: &str, behind: &str| {
            format!(
                "{{{{ if and $.System ({condition}) }}}}{{{{ $.System }}}}{{{{ {} }}}}{{{{ end }}}}",
                quoted(behind)
            )
        };
        const CONTENT: &str = "{{ .Content }}";
        let question = match &self.system {
            Place::Turn(_) => CONTENT.to_owned(),
            Place::First(behind) => with_system("lt $i 2", behind) + CONTENT,
            Place::Last(behind) => with_system("eq (len (slice $.Messages $i)) 1", behind) + CONTENT,
        };
        let mut lines = Vec::new();
        if !self.alone.is_empty() {
            lines.push(format!("{{{{- if not .System }}}}{{{{ {} }}}}{{{{ end -}}}}", quoted(&self.alone)));
        }
        lines.push("{{- range $i, $_ := .Messages -}}".to_owned());
        lines.push(format!("{{{{- if eq .Role \"user\" }}}}{}", around(&self.user, &question)));
        lines.push(format!(
            "{{{{- if eq (len (slice $.Messages $i)) 1 }}}}{{{{ {} }}}}{{{{ end -}}}}",
            quoted(&self.opening)
        ));
        lines.push(format!("{{{{- else if eq .Role \"assistant\" }}}}{}", around(&self.assistant, CONTENT)));
        if let Place::Turn(turn) = &self.system {
            lines.push(format!("{{{{- else if eq .Role \"system\" }}}}{}", around(turn, CONTENT)));
        }
        lines.push("{{- end -}}".to_owned());
        lines.push("{{- end -}}".to_owned());
        lines.join("\n")
    }
}

/// Where the system prompt is in a conversation of two questions.
fn place(jinja: &Jinja, tokenizer: &Tokenizer, before_question: &str) -> Result<Place> {
    let messages = conversation(true, 3);
    let text = rendered(jinja, tokenizer, &messages, true)?;
    let mixed = || no("the text around the system prompt depends on more than its place");
    let [system, first, answer, last] = messages.as_slice() else { return Err(mixed()) };
    let order = |messages: [&(Role, &'static str); 4]| between(&text, &messages.map(|message| *message));
    if let Some(parts) = order([system, first, answer, last]) {
        let [before, after, ..] = exactly::<5>(parts)?;
        if let Some(after) = after.strip_suffix(before_question).filter(|_| !after.is_empty()) {
            return Ok(Place::Turn(Around { before, after: after.to_owned() }));
        }
        return if before.ends_with(before_question) { Ok(Place::First(after)) } else { Err(mixed()) };
    }
    let [_, _, before, behind, _] = exactly(order([first, answer, system, last]).ok_or_else(mixed)?)?;
    if before.ends_with(before_question) { Ok(Place::Last(behind)) } else { Err(mixed()) }
}

/// So many turns, the questions first, with or without a system prompt before them.
fn conversation(system: bool, turns: usize) -> Vec<(Role, &'static str)> {
    let roles = [System, User, Assistant, User, Assistant, User];
    roles.into_iter().zip(TEXTS).take(turns + 1).skip(usize::from(!system)).collect()
}

/// The text, without a bos that the tokenizer adds.
fn rendered(jinja: &Jinja, tokenizer: &Tokenizer, messages: &[(Role, &str)], prompt: bool) -> Result<String> {
    let text = jinja.plain(messages, prompt)?;
    let bos = tokenizer.bos_id().filter(|_| tokenizer.add_bos()).and_then(|bos| tokenizer.token_text(bos));
    Ok(bos.and_then(|bos| text.strip_prefix(bos)).map_or(text.clone(), str::to_owned))
}

/// The texts around messages; `None` if they are not there, each once and in this order.
fn between(text: &str, messages: &[(Role, &str)]) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = text;
    for (_, message) in messages {
        let (before, after) = rest.split_once(message)?;
        parts.push(before.to_owned());
        rest = after;
    }
    parts.push(rest.to_owned());
    let is_clean = parts.iter().all(|part| TEXTS.iter().all(|text| !part.contains(text)));
    is_clean.then_some(parts)
}

fn exactly<const N: usize>(parts: Vec<String>) -> Result<[String; N]> {
    parts.try_into().map_err(|_| no("it leaves a message out"))
}

/// A text in Go's double quotes.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            letter if letter.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted + "\""
}

fn no(reason: &'static str) -> Error {
    Error::NoGoTemplate { reason }
}
