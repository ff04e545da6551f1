//! Repairs the order of turns, as programs that train do.

use serde::Deserialize;

use foehn_record::{Message, Record, Role};

/// What happens to two turns in a row of one speaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SameSpeaker {
    /// They become one turn, joined by an empty line, as mistral-common does.
    #[default]
    Merge,
    /// The record is rejected, as by LLaMA-Factory.
    Reject,
}

/// What happens to turns of the user, or results of tools, after the last answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrailingUser {
    /// They are removed: nothing is trained after the last answer.
    #[default]
    Drop,
    /// The record is rejected.
    Reject,
}

/// What happens to turns of the assistant before the first of the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeadingAssistant {
    /// They are removed, as by FastChat: most templates have no place for them.
    #[default]
    Drop,
    /// They stay, and are trained, as by TRL. Only some templates render them.
    Keep,
    /// The record is rejected, as by LLaMA-Factory.
    Reject,
}

/// What happens to the system's message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SystemPrompt {
    /// It stays.
    #[default]
    Keep,
    /// It becomes the beginning of the first user's turn, before an empty line: for templates without a system's role.
    Fold,
}

/// Merges the neighbours that are of one speaker. Returns whether there were any.
///
/// Results of tools are never merged, and neither are answers of which only one is trained. An empty message and the
/// chosen answer of a pair stay as they are, so that the record is rejected.
pub(super) fn merge(record: &mut Record) -> bool {
    let before = record.messages.len();
    let mut merged: Vec<Message> = Vec::with_capacity(before);
    for (at, message) in std::mem::take(&mut record.messages).into_iter().enumerate() {
        let is_chosen = record.rejected.is_some() && at + 1 == before;
        match merged.last_mut() {
            Some(last) if !is_chosen && can_follow(last, &message) => join(last, message),
            _ => merged.push(message),
        }
    }
    record.messages = merged;
    record.messages.len() < before
}

/// Whether two messages say in one what they say in turn: reasoning comes first, and calls come last.
fn can_follow(first: &Message, second: &Message) -> bool {
    let is_same = first.role == second.role && first.role != Role::Tool;
    let is_empty = |message: &Message| message.content.trim().is_empty();
    let says_nothing = |message: &Message| is_empty(message) && message.tool_calls.is_empty();
    let is_in_order = second.reasoning_content.is_none() && (first.tool_calls.is_empty() || is_empty(second));
    is_same && first.is_trained() == second.is_trained() && is_in_order && !says_nothing(first) && !says_nothing(second)
}

fn join(first: &mut Message, second: Message) {
    if first.content.trim().is_empty() {
        first.content = second.content;
    } else if !second.content.trim().is_empty() {
        first.content.push_str("\n\n");
        first.content.push_str(&second.content);
    }
    first.tool_calls.extend(second.tool_calls);
}

/// Removes what stands before the first user's turn, if it begins with the assistant.
pub(super) fn drop_leading(messages: &mut Vec<Message>) -> bool {
    let start = after_system(messages);
    let is_led = messages.get(start).is_some_and(|first| first.role == Role::Assistant);
    match messages.iter().position(|message| message.role == Role::User) {
        Some(user) if is_led && user > start => {
            messages.drain(start..user);
            true
        }
        _ => false,
    }
}

/// Removes what the user and the tools say after the last answer, if there is one.
pub(super) fn drop_trailing(messages: &mut Vec<Message>) -> bool {
    let Some(answer) = messages.iter().rposition(|message| message.role == Role::Assistant) else { return false };
    let rest = &messages[answer + 1..];
    let goes = !rest.is_empty() && rest.iter().all(|message| matches!(message.role, Role::User | Role::Tool));
    if goes {
        messages.truncate(answer + 1);
    }
    goes
}

/// Puts the system's text before that of the first user.
pub(super) fn fold_system(messages: &mut Vec<Message>) -> bool {
    let [system, user, ..] = messages.as_slice() else { return false };
    let folds = system.role == Role::System && user.role == Role::User;
    if !folds || [system, user].iter().any(|message| message.content.trim().is_empty()) {
        return false;
    }
    let system = messages.remove(0);
    if let Some(user) = messages.first_mut() {
        user.content = format!("{}\n\n{}", system.content, user.content);
    }
    true
}

/// The index of the first message after the system's.
pub(super) fn after_system(messages: &[Message]) -> usize {
    messages.iter().take(1).filter(|message| message.role == Role::System).count()
}
