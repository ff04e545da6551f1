//! The choice of a chat template other than the model's own.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{ChatTemplate, MistralVersion};
use crate::tokenizer::read_to_string;
use crate::{Error, Result, Tokenizer};

/// A chat template by name: for a model that has none, or whose own is not suited to training.
///
/// As a text: `mistral-v1`, `mistral-v2`, `mistral-v3` (also `mistral-v3-tekken`), `mistral-v7` (also
/// `mistral-v7-tekken`), `mistral-v11`, `mistral-v13`, `chatml`, or the path of a Jinja file that ends with `.jinja`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TemplateChoice {
    /// One of Mistral's own.
    Mistral(MistralVersion),
    /// `<|im_start|>role\n…<|im_end|>\n` for each message, without a system prompt of its own.
    ChatMl,
    /// A Jinja file.
    File(PathBuf),
}

const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n\
    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

impl TemplateChoice {
    /// The chosen template, for a tokenizer. ChatML ends its turns with `<|im_end|>`, which becomes a stop token of the
    /// tokenizer if it is none.
    ///
    /// # Errors
    /// [`Error::MissingControl`] if the tokenizer lacks a control token of the template; the errors of the file and of
    /// [`ChatTemplate::jinja`].
    pub fn open(&self, tokenizer: &mut Tokenizer) -> Result<ChatTemplate> {
        match self {
            Self::Mistral(version) => ChatTemplate::mistral(*version, tokenizer),
            Self::File(path) => ChatTemplate::jinja(&read_to_string(path)?, tokenizer),
            Self::ChatMl => {
                let control = |name| tokenizer.control(name).ok_or(Error::MissingControl { template: "chatml", name });
                control("<|im_start|>")?;
                let end = control("<|im_end|>")?;
                tokenizer.also_stops_at(end);
                ChatTemplate::jinja(CHATML, tokenizer)
            }
        }
    }
}

impl FromStr for TemplateChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "mistral-v1" => Ok(Self::Mistral(MistralVersion::V1)),
            "mistral-v2" => Ok(Self::Mistral(MistralVersion::V2)),
            "mistral-v3" | "mistral-v3-tekken" => Ok(Self::Mistral(MistralVersion::V3)),
            "mistral-v7" | "mistral-v7-tekken" => Ok(Self::Mistral(MistralVersion::V7)),
            "mistral-v11" => Ok(Self::Mistral(MistralVersion::V11)),
            "mistral-v13" => Ok(Self::Mistral(MistralVersion::V13)),
            "chatml" => Ok(Self::ChatMl),
            path if path.ends_with(".jinja") => Ok(Self::File(path.into())),
            _ => Err(format!(
                "`{text}` is no template: expected mistral-v1, mistral-v2, mistral-v3, mistral-v7, mistral-v11, \
                 mistral-v13, chatml or a file that ends with .jinja"
            )),
        }
    }
}

impl TryFrom<String> for TemplateChoice {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<TemplateChoice> for String {
    fn from(choice: TemplateChoice) -> Self {
        choice.to_string()
    }
}

impl fmt::Display for TemplateChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mistral(version) => formatter.write_str(version.name()),
            Self::ChatMl => formatter.write_str("chatml"),
            Self::File(path) => write!(formatter, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_read_and_written() {
        for text in [
            "mistral-v1",
            "mistral-v2",
            "mistral-v3",
            "mistral-v7",
            "mistral-v11",
            "mistral-v13",
            "chatml",
            "my/own.jinja",
        ] {
            assert_eq!(text.parse::<TemplateChoice>().unwrap().to_string(), text);
        }
        for (text, same) in [("mistral-v3-tekken", "mistral-v3"), ("mistral-v7-tekken", "mistral-v7")] {
            assert_eq!(text.parse::<TemplateChoice>(), same.parse());
        }
        for bad in ["", "mistral", "ChatML", "template.txt"] {
            assert!(bad.parse::<TemplateChoice>().unwrap_err().contains("chatml"), "{bad}");
        }
    }
}
