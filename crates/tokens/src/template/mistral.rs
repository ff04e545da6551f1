//! Mistral's own templates. They are rendered with control tokens, not as text.
//!
//! As `mistral-common` 1.13.1 renders them (`tokens/tokenizers/instruct.py`, `protocol/instruct/normalize.py`):
//!
//! ```text
//! V1   <s>▁[INST]▁SYS\n\nHi▁there▁[/INST]▁Hello.</s>▁[INST]▁Bye▁[/INST]▁See▁you.</s>
//! V3   <s>[INST]▁Hi▁there[/INST]▁Hello.</s>[INST]▁SYS\n\nBye[/INST]▁See▁you.</s>
//! V7   <s>[SYSTEM_PROMPT]▁SYS[/SYSTEM_PROMPT][INST]▁Hi▁there[/INST]▁Hello.</s>[INST]▁Bye[/INST]▁See▁you.</s>
//! ```
//!
//! and with tools, from the turn where they are defined (the last user turn up to V11, the first in V13):
//!
//! ```text
//! V2   [AVAILABLE_TOOLS]TOOLS[/AVAILABLE_TOOLS][INST]Hi[/INST][TOOL_CALLS][{"name": …, "arguments": …}]</s>
//!      [TOOL_RESULTS][{"name": …, "content": …}][/TOOL_RESULTS]
//! V3   …[TOOL_CALLS][{"name": …, "arguments": …, "id": …}]</s>[TOOL_RESULTS]{"content": …, "call_id": …}[/TOOL_RESULTS]
//! V7   …as V3, but                                            [TOOL_RESULTS]ID[TOOL_CONTENT]RESULT[/TOOL_RESULTS]
//! V11  …[TOOL_CALLS]NAME[CALL_ID]ID[ARGS]{…}</s>              [TOOL_RESULTS]ID[TOOL_CONTENT]RESULT[/TOOL_RESULTS]
//! V13  …[THINK]REASONING[/THINK]TEXT[TOOL_CALLS]NAME[ARGS]{…}</s>[TOOL_RESULTS]RESULT[/TOOL_RESULTS]
//! ```
//!
//! The `▁` after a control token comes from the tokenizer. With a Tekken tokenizer the same templates give V3-Tekken
//! and V7-Tekken.

mod jinja;
mod tools;
mod turns;
mod version;

use foehn_record::{Conversation, Role};

use crate::tokenizer::Marking;
use crate::{Error, Result, Tokenizer};

use super::Rendered;
use tools::{Writer, check_parts};
use turns::{Turn, turns};
pub use version::MistralVersion;

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
    marking: Marking,
    /// The same template as Jinja, for transformers.
    jinja: Option<String>,
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
            marking: tokenizer.marking(),
            jinja: jinja(version, tokenizer, tokenizer.marking() == Marking::StartOnly),
        })
    }

    /// The template whose Jinja source this is, for transformers or for llama.cpp.
    pub fn of_jinja(source: &str, tokenizer: &Tokenizer) -> Option<Self> {
        let marking = tokenizer.marking();
        let spaced = [false, true].into_iter().filter(|spaced| !spaced || marking == Marking::StartOnly);
        let same = |version: &MistralVersion| {
            source.contains(version.name())
                && spaced.clone().any(|spaced| jinja(*version, tokenizer, spaced).is_some_and(|made| made == source))
        };
        let version = MistralVersion::ALL.into_iter().find(same)?;
        Self::new(version, tokenizer).ok()
    }

    pub fn jinja(&self) -> Option<&str> {
        self.jinja.as_deref()
    }

    /// The source for llama.cpp, where the tokenizer adds a space after each control token or never does.
    pub fn gguf_source(&self, tokenizer: &Tokenizer, adds_prefix: bool) -> Option<String> {
        jinja(self.version, tokenizer, self.marking == Marking::StartOnly && !adds_prefix)
    }

    pub fn name(&self) -> &'static str {
        self.version.name()
    }

    /// Whether the tokenizer is one that adds spaces.
    pub fn marks(&self) -> bool {
        self.marking != Marking::Never
    }

    pub fn version(&self) -> MistralVersion {
        self.version
    }

    /// If it is for training, a trained turn that the version leaves out is refused.
    pub fn render(&self, tokenizer: &Tokenizer, conversation: Conversation<'_>, training: bool) -> Result<Rendered> {
        check_parts(self.version, conversation)?;
        let turns = turns(self.version, conversation.messages)?;
        let is_user = |turn: &Turn<'_>| matches!(turn, Turn::User(_));
        let last_user = turns.iter().rposition(is_user);
        let first = self.version >= MistralVersion::V13;
        let place = if first { turns.iter().position(is_user) } else { last_user };
        let mut writer = Writer { version: self.version, tokenizer, ids: vec![self.bos] };
        let mut trained = Vec::new();
        for (at, turn) in turns.iter().enumerate() {
            let left_out = self.version == MistralVersion::V2 && Some(at) < last_user;
            match turn {
                Turn::System(text) => writer.bracketed(self.system, text)?,
                Turn::User(text) => {
                    if Some(at) == place {
                        writer.tools(conversation.tools)?;
                    }
                    writer.bracketed(self.inst, text)?;
                }
                Turn::Assistant(index, message) if !message.tool_calls.is_empty() && left_out => {
                    if training && message.is_trained() {
                        let part = "a trained call before the last question";
                        return Err(self.version.cannot(part, Some(*index), MistralVersion::V3));
                    }
                }
                Turn::Assistant(index, message) => {
                    let start = writer.ids.len();
                    writer.answer(*index, message, *index + 1 == conversation.messages.len())?;
                    writer.ids.push(self.eos);
                    if message.is_trained() {
                        trained.push((*index, start..writer.ids.len()));
                    }
                }
                Turn::Result(..) if left_out => {}
                Turn::Result(index, message) => writer.result(*index, message)?,
            }
        }
        Ok(Rendered { input_ids: writer.ids, trained })
    }

    pub fn prompt(&self, tokenizer: &Tokenizer, conversation: Conversation<'_>) -> Result<Vec<u32>> {
        let messages = conversation.messages;
        let mut after = messages.iter().rev().take_while(|last| last.role != Role::Assistant);
        if !after.any(|last| matches!(last.role, Role::User | Role::Tool)) {
            return Err(super::misplaced(messages, "a prompt has a user turn to answer"));
        }
        Ok(self.render(tokenizer, conversation, false)?.input_ids)
    }
}

/// The Jinja source of a version. V1 has none for two kinds of tokenizers: where `[INST]` is a control token, which it is not
/// in V1; and without spaces of the tokenizer's own, where the text alone can't say that a question and its answer are taken
/// apart.
fn jinja(version: MistralVersion, tokenizer: &Tokenizer, spaced: bool) -> Option<String> {
    let is_control = ["[INST]", "[/INST]"].into_iter().any(|text| tokenizer.control(text).is_some());
    let has_none = version == MistralVersion::V1 && (is_control || tokenizer.marking() == Marking::Never);
    (!has_none).then(|| jinja::source(version, tokenizer, spaced))
}
