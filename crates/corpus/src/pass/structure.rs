//! The order of roles in a conversation.

use serde::Deserialize;

use super::Pass;
use crate::meaning::folded_form;
use foehn_record::{Record, Role};

/// Rejects a conversation that no chat template can train on. It must have an optional system message, then user and
/// assistant alternately, ending with the assistant. No message may be empty, and at least one turn must be trained. In a
/// pair, the last turn is trained, and the two answers must say different things.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Structure {
    /// Whether a record with a single assistant message is kept: plain text, for continued pre-training.
    pub plain_text: bool,
}

impl Pass for Structure {
    fn name(&self) -> &'static str {
        "structure"
    }

    fn check(&self, record: &Record) -> Option<String> {
        let messages = &record.messages;
        if let Some(at) = messages.iter().position(|message| message.content.trim().is_empty()) {
            return Some(format!("message {} is empty", at + 1));
        }
        if record.plain_text().is_some() {
            return (!self.plain_text)
                .then(|| "plain text without a user's turn; the pass's setting `plain_text` keeps it".to_owned());
        }
        let start = messages.iter().take(1).filter(|message| message.role == Role::System).count();
        for (at, message) in messages.iter().enumerate().skip(start) {
            let expected = if (at - start).is_multiple_of(2) { Role::User } else { Role::Assistant };
            if message.role != expected {
                let (found, expected) = (message.role.name(), expected.name());
                return Some(format!("message {} is the {found}'s, expected the {expected}'s", at + 1));
            }
        }
        match messages.last().map(|message| message.role) {
            Some(Role::Assistant) if record.rejected.is_some() => pair(record),
            None => Some("no messages".to_owned()),
            Some(Role::Assistant) if !messages.iter().any(|message| message.is_trained()) => {
                Some("no assistant message has a weight other than 0".to_owned())
            }
            Some(Role::Assistant) => None,
            Some(last) => Some(format!("the last message is the {}'s, expected the assistant's", last.name())),
        }
    }
}

/// What is wrong with the two answers of a pair.
fn pair(record: &Record) -> Option<String> {
    let (chosen, rejected) = (record.messages.last()?, record.rejected.as_ref()?);
    if rejected.trim().is_empty() {
        return Some("the rejected answer is empty".to_owned());
    }
    if !chosen.is_trained() {
        return Some("the chosen answer has the weight 0".to_owned());
    }
    (folded_form(&chosen.content) == folded_form(rejected))
        .then(|| "the chosen and the rejected answer say the same".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use foehn_record::Message;

    #[track_caller]
    fn check(turns: &str, expected: Option<&str>) {
        let messages = turns
            .chars()
            .map(|turn| match turn {
                's' => Message::new(Role::System, "x"),
                'u' => Message::new(Role::User, "x"),
                'a' => Message::new(Role::Assistant, "x"),
                '0' => Message { weight: Some(0), ..Message::new(Role::Assistant, "x") },
                _ => Message::new(Role::User, " \n"),
            })
            .collect();
        let record = Record::new(messages);
        assert_eq!(Structure::default().check(&record).as_deref(), expected, "{turns}");
    }

    #[test]
    fn turns_alternate_and_end_with_the_assistant() {
        for sound in ["ua", "sua", "uaua", "u0ua"] {
            check(sound, None);
        }
        check("", Some("no messages"));
        check("a", Some("plain text without a user's turn; the pass's setting `plain_text` keeps it"));
        check("au", Some("message 1 is the assistant's, expected the user's"));
        check("uua", Some("message 2 is the user's, expected the assistant's"));
        check("usa", Some("message 2 is the system's, expected the assistant's"));
        check("uau", Some("the last message is the user's, expected the assistant's"));
        check("s", Some("the last message is the system's, expected the assistant's"));
        check("u ua", Some("message 2 is empty"));
        check("u0", Some("no assistant message has a weight other than 0"));
    }

    #[test]
    fn plain_text_is_kept_on_request() {
        let record = Record::new(vec![Message::new(Role::Assistant, "once")]);
        assert_eq!(Structure { plain_text: true }.check(&record), None);
    }
}
