//! The order of roles in a conversation.

mod turns;

use serde::Deserialize;

use super::Pass;
use crate::meaning::folded_form;
use foehn_record::{Message, Record, Role, ToolCall};

pub use turns::{LeadingAssistant, SameSpeaker, SystemPrompt, TrailingUser};

/// Repairs the order of turns as the settings say, and rejects a conversation that no chat template can train on.
///
/// It must have an optional system message, then user and assistant alternately, ending with the assistant. A message of
/// the assistant that calls tools is followed by their results, and by another of the assistant, or ends the
/// conversation. No message may be empty but the result of a tool, and one that calls tools; and at least one turn must
/// be trained. In a pair, the last turn is trained, and the two answers must say different things.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Structure {
    /// Whether a record with a single assistant message is kept: plain text, for continued pre-training.
    pub plain_text: bool,
    /// Two turns in a row of one speaker.
    pub same_speaker: SameSpeaker,
    /// Turns of the user after the last answer. In a pair they are always rejected.
    pub trailing_user: TrailingUser,
    /// Turns of the assistant before the first of the user.
    pub leading_assistant: LeadingAssistant,
    /// The system's message.
    pub system: SystemPrompt,
}

impl Pass for Structure {
    fn name(&self) -> &'static str {
        "structure"
    }

    fn repair(&self, record: &mut Record) -> bool {
        let mut changed = self.same_speaker == SameSpeaker::Merge && turns::merge(record);
        let is_pair = record.rejected.is_some();
        let messages = &mut record.messages;
        changed |= self.leading_assistant == LeadingAssistant::Drop && turns::drop_leading(messages);
        changed |= self.trailing_user == TrailingUser::Drop && !is_pair && turns::drop_trailing(messages);
        changed | (self.system == SystemPrompt::Fold && turns::fold_system(messages))
    }

    fn check(&self, record: &Record) -> Option<String> {
        let messages = &record.messages;
        if let Some(at) = messages.iter().position(is_empty) {
            return Some(format!("message {} is empty", at + 1));
        }
        if record.plain_text().is_some() {
            return (!self.plain_text)
                .then(|| "plain text without a user's turn; the pass's setting `plain_text` keeps it".to_owned());
        }
        if let Some(reason) = self.order(messages) {
            return Some(reason);
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

impl Structure {
    /// What is wrong with the order of the messages, but for the last one.
    fn order(&self, messages: &[Message]) -> Option<String> {
        let start = turns::after_system(messages);
        let mut open = Open::default();
        let mut before = None;
        for (at, message) in messages.iter().enumerate().skip(start) {
            let expected = match before {
                None if self.leading_assistant == LeadingAssistant::Keep && message.role == Role::Assistant => {
                    Role::Assistant
                }
                None => Role::User,
                Some(Role::Tool) if message.role == Role::Tool => Role::Tool,
                Some(Role::Assistant) if open.is_called => Role::Tool,
                Some(Role::Assistant) => Role::User,
                _ => Role::Assistant,
            };
            let (found, number) = (message.role, at + 1);
            if found != expected {
                return Some(format!("message {number} is the {}'s, expected the {}'s", found.name(), expected.name()));
            }
            let wrong = if found == Role::Tool { open.close(message) } else { open.check_closed() };
            if let Some(reason) = wrong {
                return Some(format!("{reason} (message {number})"));
            }
            if found == Role::Assistant {
                open = Open::of(&message.tool_calls);
            }
            before = Some(found);
        }
        None
    }
}

/// The calls of the last message of the assistant that have no result yet.
#[derive(Default)]
struct Open<'a> {
    /// Whether the message calls anything, and nothing has followed it.
    is_called: bool,
    calls: Vec<&'a ToolCall>,
    answered: usize,
}

impl<'a> Open<'a> {
    fn of(calls: &'a [ToolCall]) -> Self {
        Self { is_called: !calls.is_empty(), calls: calls.iter().collect(), answered: 0 }
    }

    /// Takes a result. It belongs to the call with its id; without an id, to the next call.
    fn close(&mut self, result: &Message) -> Option<String> {
        self.is_called = false;
        self.answered += 1;
        let fits =
            |call: &&ToolCall| call.id.is_none() || result.tool_call_id.is_none() || call.id == result.tool_call_id;
        match self.calls.iter().position(fits) {
            Some(at) => {
                self.calls.remove(at);
                None
            }
            None => Some(match &result.tool_call_id {
                Some(id) => format!("the tool answers a call `{id}` that is not open"),
                None => "there are more results of tools than calls".to_owned(),
            }),
        }
    }

    /// Every call with an id has its own result. Without ids, one result may stand for several calls.
    fn check_closed(&self) -> Option<String> {
        let left = self.calls.iter().find_map(|call| call.id.as_ref())?;
        (self.answered > 0).then(|| format!("the call `{left}` has no result before the next turn"))
    }
}

/// Whether a message says nothing. A tool may have nothing to say, and a call needs no words.
fn is_empty(message: &Message) -> bool {
    message.role != Role::Tool && message.tool_calls.is_empty() && message.content.trim().is_empty()
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
    (chosen.tool_calls.is_empty() && folded_form(&chosen.content) == folded_form(rejected))
        .then(|| "the chosen and the rejected answer say the same".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use foehn_record::{FunctionCall, ToolKind};

    /// The roles by their first letters. `0` is the assistant's with the weight 0, `c` and `d` are calls of it with one
    /// and with two ids, `k` is one without an id, `t`, `1` and `2` are results without and with these ids.
    fn record(turns: &str) -> Record {
        let call = |id: Option<&str>| ToolCall {
            id: id.map(str::to_owned),
            kind: ToolKind::Function,
            function: FunctionCall { name: "f".to_owned(), arguments: "{}".to_owned() },
        };
        let message = |(at, turn): (usize, char)| {
            let text = format!("{turn}{at}");
            let calls = |ids: &[Option<&str>]| Message {
                tool_calls: ids.iter().map(|id| call(*id)).collect(),
                ..Message::assistant("")
            };
            let result = |id: &str| Message { tool_call_id: Some(id.to_owned()), ..Message::new(Role::Tool, "") };
            match turn {
                's' => Message::system(text),
                'u' => Message::user(text),
                'a' => Message::assistant(text),
                '0' => Message { weight: Some(0), ..Message::assistant(text) },
                'c' => calls(&[Some("1")]),
                'd' => calls(&[Some("1"), Some("2")]),
                'k' => calls(&[None]),
                't' => Message::new(Role::Tool, text),
                '1' | '2' => result(&turn.to_string()),
                _ => Message::user(" \n"),
            }
        };
        Record::new(turns.chars().enumerate().map(message).collect())
    }

    #[track_caller]
    fn check(turns: &str, expected: Option<&str>) {
        assert_eq!(Structure::default().check(&record(turns)).as_deref(), expected, "{turns}");
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
    fn results_follow_their_calls() {
        for sound in ["uc", "uc1a", "ud12a", "ud21aua", "uctcta", "ukta", "uk1a", "ud12c1aua", "sud"] {
            check(sound, None);
        }
        check("uta", Some("message 2 is the tool's, expected the assistant's"));
        check("uata", Some("message 3 is the tool's, expected the user's"));
        check("uca", Some("message 3 is the assistant's, expected the tool's"));
        check("ucua", Some("message 3 is the user's, expected the tool's"));
        check("uc1ua", Some("message 4 is the user's, expected the assistant's"));
        check("uc1", Some("the last message is the tool's, expected the assistant's"));
        check("uc2a", Some("the tool answers a call `2` that is not open (message 3)"));
        check("uc11a", Some("the tool answers a call `1` that is not open (message 4)"));
        check("ukta", None);
        check("uktta", Some("there are more results of tools than calls (message 4)"));
        check("ud1a", Some("the call `2` has no result before the next turn (message 4)"));
    }

    #[track_caller]
    fn check_repair(pass: Structure, turns: &str, expected: &str) {
        let mut found = record(turns);
        let changed = pass.repair(&mut found);
        let said: Vec<&str> = found.messages.iter().map(|message| message.content.as_str()).collect();
        assert_eq!((said.join("|").as_str(), changed), (expected, said.join("") != record_text(turns)), "{turns}");
        assert!(!pass.repair(&mut found), "{turns} settles");
    }

    fn record_text(turns: &str) -> String {
        record(turns).messages.iter().map(|message| message.content.as_str()).collect()
    }

    #[test]
    fn turns_are_put_in_order_as_trainers_do() {
        let pass = Structure::default();
        for (turns, expected) in [
            ("ua", "u0|a1"),
            ("uua", "u0\n\nu1|a2"),
            ("ssuaa", "s0\n\ns1|u2|a3\n\na4"),
            ("uau", "u0|a1"),
            ("uauu", "u0|a1"),
            ("aua", "u1|a2"),
            ("saua", "s0|u2|a3"),
            ("a", "a0"),
            ("u", "u0"),
            ("au", "u1"),
            ("sa", "s0|a1"),
            ("uas", "u0|a1|s2"),
            // Only one of them is trained.
            ("u0a", "u0|01|a2"),
            // An empty turn is a fault of its own.
            ("u ua", "u0| \n|u2|a3"),
            ("uctta", "u0||t2|t3|a4"),
            ("ucau", "u0||a2"),
        ] {
            check_repair(pass, turns, expected);
        }
        let mut called = record("uacc1");
        assert!(pass.repair(&mut called));
        let [_, answer] = called.messages.as_slice() else { panic!("{called:?}") };
        assert_eq!((answer.content.as_str(), answer.tool_calls.len()), ("a1", 2));
    }

    #[test]
    fn the_order_of_turns_is_a_setting() {
        let merge = Structure { same_speaker: SameSpeaker::Reject, ..Structure::default() };
        check_repair(merge, "uua", "u0|u1|a2");
        let trailing = Structure { trailing_user: TrailingUser::Reject, ..Structure::default() };
        check_repair(trailing, "uau", "u0|a1|u2");
        let reject = Structure { leading_assistant: LeadingAssistant::Reject, ..Structure::default() };
        check_repair(reject, "aua", "a0|u1|a2");
        assert!(reject.check(&record("aua")).is_some());
        let keep = Structure { leading_assistant: LeadingAssistant::Keep, ..Structure::default() };
        check_repair(keep, "aua", "a0|u1|a2");
        assert_eq!(keep.check(&record("aua")), None);
        let fold = Structure { system: SystemPrompt::Fold, ..Structure::default() };
        check_repair(fold, "sua", "s0\n\nu1|a2");
        check_repair(fold, "saua", "s0\n\nu2|a3");
        check_repair(fold, "ssuua", "s0\n\ns1\n\nu2\n\nu3|a4");
    }

    /// Without the user's last turn, another answer would be the chosen one.
    #[test]
    fn the_answers_of_a_pair_stay() {
        for turns in ["uau", "uaa"] {
            let mut pair = Record { rejected: Some("other".to_owned()), ..record(turns) };
            assert!(!Structure::default().repair(&mut pair), "{turns}");
            assert!(Structure::default().check(&pair).is_some(), "{turns}");
        }
    }

    #[test]
    fn plain_text_is_kept_on_request() {
        let pass = Structure { plain_text: true, ..Structure::default() };
        assert_eq!(pass.check(&record("a")), None);
    }
}
