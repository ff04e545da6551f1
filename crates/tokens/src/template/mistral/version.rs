//! The versions of Mistral's templates.

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

impl MistralVersion {
    pub(super) const ALL: [Self; 6] = [Self::V1, Self::V2, Self::V3, Self::V7, Self::V11, Self::V13];

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

    /// The number that [`Self::of_number`] takes.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
            Self::V3 => 3,
            Self::V7 => 7,
            Self::V11 => 11,
            Self::V13 => 13,
        }
    }

    pub(crate) fn name(self) -> &'static str {
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
