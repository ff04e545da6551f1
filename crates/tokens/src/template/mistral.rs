//! Mistral's own templates. They are rendered with control tokens, not as text.
//!
//! As `mistral-common` 1.13.1 renders them (`tokens/tokenizers/instruct.py`, `protocol/instruct/normalize.py`), without tools:
//!
//! ```text
//! V1   <s>▁[INST]▁SYS\n\nHi▁there▁[/INST]▁Hello.</s>▁[INST]▁Bye▁[/INST]▁See▁you.</s>
//! V3   <s>[INST]▁Hi▁there[/INST]▁Hello.</s>[INST]▁SYS\n\nBye[/INST]▁See▁you.</s>
//! V7   <s>[SYSTEM_PROMPT]▁SYS[/SYSTEM_PROMPT][INST]▁Hi▁there[/INST]▁Hello.</s>[INST]▁Bye[/INST]▁See▁you.</s>
//! ```
//!
//! The `▁` after a control token comes from the tokenizer. With a Tekken tokenizer the same template gives V3-Tekken
//! and V7-Tekken.

use foehn_record::{Message, Role};

use crate::{Error, Result, Tokenizer};

use super::Rendered;

/// The versions of Mistral's templates. With a Tekken tokenizer, [`MistralVersion::V3`] and [`MistralVersion::V7`] give
/// V3-Tekken and V7-Tekken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MistralVersion {
    /// Mistral 7B Instruct v0.1 and v0.2, Mixtral 8x7B. `[INST]` is plain text, so a user can write it. The system
    /// prompt is in the first user turn.
    V1,
    /// Mistral Large 2402, Mistral Small 2402. The system prompt is in the last user turn. It differs from V3 in tools
    /// only: calls before the last user turn, and their results, are left out.
    V2,
    /// Mistral 7B Instruct v0.3, Nemo, Ministral 8B. The system prompt is in the last user turn.
    V3,
    /// Mistral Large 2411, Mistral Small 2501. The system prompt has its own control tokens.
    V7,
    /// As V7, but each call of a tool has its own control tokens.
    V11,
    /// Ministral 3, Devstral Small 2. The tools are in the first user turn, calls have no ids, and
    /// reasoning has control tokens.
    V13,
}

/// A template and its control tokens.
#[derive(Debug)]
pub(super) struct Mistral {
    version: MistralVersion,
    bos: u32,
    eos: u32,
    /// `[INST]` and `[/INST]`, from V2 on.
    inst: Option<(u32, u32)>,
    /// `[SYSTEM_PROMPT]` and `[/SYSTEM_PROMPT]`, from V7 on.
    system: Option<(u32, u32)>,
}

/// The content between two answers: the joined texts of the user, and V7's system prompts.
#[derive(Debug)]
enum Turn<'a> {
    System(&'a str),
    User(String),
    Assistant(usize, &'a Message),
}

impl Mistral {
    pub fn new(version: MistralVersion, tokenizer: &Tokenizer) -> Result<Self> {
        let template = version.name();
        let find = |name| tokenizer.control(name).ok_or(Error::MissingControl { template, name });
        let from = |first, begin, end| -> Result<Option<(u32, u32)>> {
            if version < first { Ok(None) } else { Ok(Some((find(begin)?, find(end)?))) }
        };
        Ok(Self {
            version,
            bos: find("<s>")?,
            eos: find("</s>")?,
            inst: from(MistralVersion::V2, "[INST]", "[/INST]")?,
            system: from(MistralVersion::V7, "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")?,
        })
    }

    pub fn name(&self) -> &'static str {
        self.version.name()
    }

    pub fn version(&self) -> MistralVersion {
        self.version
    }

    pub fn render(&self, tokenizer: &Tokenizer, messages: &[Message]) -> Result<Rendered> {
        let mut rendered = Rendered { input_ids: vec![self.bos], trained: Vec::new() };
        let ids = &mut rendered.input_ids;
        for turn in self.turns(messages)? {
            match turn {
                Turn::System(text) => bracketed(ids, self.system, tokenizer.encode_text(text)?),
                Turn::User(text) => bracketed(ids, self.inst, tokenizer.encode_text(&text)?),
                Turn::Assistant(index, message) => {
                    let start = ids.len();
                    ids.extend(tokenizer.encode_text(&message.content)?);
                    ids.push(self.eos);
                    if message.is_trained() {
                        rendered.trained.push((index, start..ids.len()));
                    }
                }
            }
        }
        Ok(rendered)
    }

    pub fn prompt(&self, tokenizer: &Tokenizer, messages: &[Message]) -> Result<Vec<u32>> {
        if !messages.iter().rev().take_while(|last| last.role != Role::Assistant).any(|last| last.role == Role::User) {
            return Err(super::misplaced(messages, "a prompt has a user turn to answer"));
        }
        Ok(self.render(tokenizer, messages)?.input_ids)
    }

    /// Joins consecutive messages of one role with an empty line, and puts the system prompts where the version has
    /// them.
    fn turns<'a>(&self, messages: &'a [Message]) -> Result<Vec<Turn<'a>>> {
        check_order(messages)?;
        let mut turns: Vec<Turn<'a>> = Vec::new();
        let mut previous = None;
        for (index, message) in messages.iter().enumerate() {
            match (message.role, turns.last_mut()) {
                (Role::System, _) if self.system.is_some() => turns.push(Turn::System(&message.content)),
                (Role::System, _) => {}
                (Role::User, Some(Turn::User(text))) if previous == Some(Role::User) => join(text, &message.content),
                (Role::User, _) => turns.push(Turn::User(message.content.clone())),
                (Role::Assistant | Role::Tool, _) => turns.push(Turn::Assistant(index, message)),
            }
            previous = Some(message.role);
        }
        if self.system.is_none() {
            self.place_system_prompt(messages, &mut turns);
        }
        if self.inst.is_none() {
            for turn in &mut turns {
                if let Turn::User(text) = turn {
                    *text = format!("[INST] {text} [/INST]");
                }
            }
        }
        Ok(turns)
    }

    fn place_system_prompt(&self, messages: &[Message], turns: &mut [Turn<'_>]) {
        let mut prompt = String::new();
        for message in messages.iter().filter(|message| message.role == Role::System) {
            join(&mut prompt, &message.content);
        }
        let mut users = turns.iter_mut().filter_map(|turn| match turn {
            Turn::User(text) => Some(text),
            _ => None,
        });
        let user = if self.version == MistralVersion::V1 { users.next() } else { users.next_back() };
        if let Some(text) = user.filter(|_| !prompt.is_empty()) {
            *text = format!("{prompt}\n\n{text}");
        }
    }
}

impl MistralVersion {
    /// The template of a version of `tokenizer.model.vN`.
    pub(crate) fn of_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            3 => Some(Self::V3),
            7 => Some(Self::V7),
            11 => Some(Self::V11),
            13 => Some(Self::V13),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V1 => "mistral-v1",
            Self::V2 => "mistral-v2",
            Self::V3 => "mistral-v3",
            Self::V7 => "mistral-v7",
            Self::V11 => "mistral-v11",
            Self::V13 => "mistral-v13",
        }
    }
}

/// Checks that every answer has a question, and that no system prompt comes between an answer and the next question.
fn check_order(messages: &[Message]) -> Result<()> {
    let mut asked = false;
    let mut previous = None;
    for (index, &Message { role, .. }) in messages.iter().enumerate() {
        let rule = match role {
            Role::Assistant if !asked => Some("an assistant turn follows a user turn"),
            Role::System if previous == Some(Role::Assistant) => Some("a system prompt does not follow an answer"),
            _ => None,
        };
        if let Some(rule) = rule {
            return Err(Error::RoleOrder { index, role, rule });
        }
        asked = role == Role::User || (asked && role == Role::System);
        previous = Some(role);
    }
    Ok(())
}

/// Appends a text after an empty line. An empty text adds nothing.
fn join(text: &mut String, more: &str) {
    if !text.is_empty() && !more.is_empty() {
        text.push_str("\n\n");
    }
    text.push_str(more);
}

fn bracketed(ids: &mut Vec<u32>, brackets: Option<(u32, u32)>, text: Vec<u32>) {
    ids.extend(brackets.map(|(begin, _)| begin));
    ids.extend(text);
    ids.extend(brackets.map(|(_, end)| end));
}
