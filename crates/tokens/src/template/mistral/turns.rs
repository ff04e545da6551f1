//! A conversation as the turns that Mistral's templates render, and the checks of their order.
//!
//! Source: `mistral-common` 1.13.1, `protocol/instruct/normalize.py` and `validator.py`.

use foehn_record::{Message, Role};

use super::MistralVersion;
use crate::{Error, Result};

/// The content between two answers: the joined texts of the user, system prompts from V7 on, and the results of tools.
#[derive(Debug)]
pub(super) enum Turn<'a> {
    System(&'a str),
    User(String),
    Assistant(usize, &'a Message),
    Result(usize, &'a Message),
}

/// Joins consecutive messages of the user with an empty line, and puts the system prompts where the version has them.
pub(super) fn turns(version: MistralVersion, messages: &[Message]) -> Result<Vec<Turn<'_>>> {
    check_order(messages)?;
    let mut turns: Vec<Turn<'_>> = Vec::new();
    let mut previous = None;
    for (index, message) in messages.iter().enumerate() {
        match (message.role, turns.last_mut()) {
            (Role::System, _) if version >= MistralVersion::V7 => turns.push(Turn::System(&message.content)),
            (Role::System, _) => {}
            (Role::User, Some(Turn::User(text))) if previous == Some(Role::User) => join(text, &message.content),
            (Role::User, _) => turns.push(Turn::User(message.content.clone())),
            (Role::Assistant, _) => turns.push(Turn::Assistant(index, message)),
            (Role::Tool, _) => turns.push(Turn::Result(index, message)),
        }
        previous = Some(message.role);
    }
    if version < MistralVersion::V7 {
        place_system_prompt(version, messages, &mut turns);
    }
    if version == MistralVersion::V1 {
        for turn in &mut turns {
            if let Turn::User(text) = turn {
                *text = format!("[INST] {text} [/INST]");
            }
        }
    }
    if version >= MistralVersion::V11 {
        sort_results(&mut turns);
    }
    Ok(turns)
}

fn place_system_prompt(version: MistralVersion, messages: &[Message], turns: &mut [Turn<'_>]) {
    let mut prompt = String::new();
    for message in messages.iter().filter(|message| message.role == Role::System) {
        join(&mut prompt, &message.content);
    }
    let mut users = turns.iter_mut().filter_map(|turn| match turn {
        Turn::User(text) => Some(text),
        _ => None,
    });
    let user = if version == MistralVersion::V1 { users.next() } else { users.next_back() };
    if let Some(text) = user.filter(|_| !prompt.is_empty()) {
        *text = format!("{prompt}\n\n{text}");
    }
}

/// Puts the results that follow an answer into the order of its calls.
fn sort_results(turns: &mut [Turn<'_>]) {
    let mut rest = turns;
    while let Some((turn, behind)) = rest.split_first_mut() {
        let results = behind.iter().take_while(|turn| matches!(turn, Turn::Result(..))).count();
        let (results, behind) = behind.split_at_mut(results);
        if let Turn::Assistant(_, answer) = turn {
            results.sort_by_key(|result| match result {
                Turn::Result(_, result) => answer.tool_calls.iter().position(|call| call.id == result.tool_call_id),
                _ => None,
            });
        }
        rest = behind;
    }
}

/// Checks that every answer has a question or the results of its calls, that every result has a call, and that no
/// system prompt comes between an answer and the next question.
fn check_order(messages: &[Message]) -> Result<()> {
    let mut asked = false;
    let mut previous = None;
    let mut pending: Vec<Option<&str>> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let role = message.role;
        let rule = match role {
            Role::Assistant if !asked => Some("an assistant turn follows a user turn or the results of its calls"),
            Role::User | Role::System if !pending.is_empty() => Some(UNANSWERED),
            Role::System if matches!(previous, Some(Role::Assistant | Role::Tool)) => {
                Some("a system prompt does not follow an answer")
            }
            Role::Tool => answer(&mut pending, message),
            _ => None,
        };
        if let Some(rule) = rule {
            return Err(Error::RoleOrder { index, role, rule });
        }
        asked = match role {
            Role::User => true,
            Role::System => asked,
            Role::Assistant => false,
            Role::Tool => pending.is_empty(),
        };
        if role == Role::Assistant {
            pending = message.tool_calls.iter().map(|call| call.id.as_deref()).collect();
        }
        previous = Some(role);
    }
    match messages.last() {
        Some(last) if last.role == Role::Tool && !pending.is_empty() => {
            Err(super::super::misplaced(messages, UNANSWERED))
        }
        _ => Ok(()),
    }
}

const UNANSWERED: &str = "every call of a tool has its result before the next turn";

/// Takes the call of a result from those without one.
fn answer(pending: &mut Vec<Option<&str>>, result: &Message) -> Option<&'static str> {
    let id = result.tool_call_id.as_deref();
    let place = pending.iter().position(|call| id.is_none() || call.is_none() || *call == id);
    match place {
        Some(place) => {
            pending.remove(place);
            None
        }
        None if pending.is_empty() => Some("a tool's result follows the call of the tool"),
        None => Some("a tool's result has the id of a call before it"),
    }
}

/// Appends a text after an empty line. An empty text adds nothing.
fn join(text: &mut String, more: &str) {
    if !text.is_empty() && !more.is_empty() {
        text.push_str("\n\n");
    }
    text.push_str(more);
}
