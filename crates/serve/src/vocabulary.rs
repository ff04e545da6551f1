//! The bytes of each token, for log-probabilities and grammars.

use foehn_tokens::{TextStream, Tokenizer};

/// The bytes of all tokens.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    tokens: Vec<Box<[u8]>>,
}

impl Vocabulary {
    pub fn new(tokenizer: &Tokenizer) -> Self {
        // A text of the tokenizer may begin with a space of its own, which is left out at the start.
        let begun = tokenizer.encode_text("a").unwrap_or_default();
        let size = u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX);
        let tokens = (0..size).map(|id| bytes(tokenizer, &begun, id).into_boxed_slice()).collect();
        Self { tokens }
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The bytes that a token stands for; those of its name if it is a control token, and none if there is no such token.
    pub fn bytes(&self, id: u32) -> &[u8] {
        self.tokens.get(id as usize).map_or(&[], |bytes| bytes)
    }

    /// The text of a token. Bytes that are not UTF-8 become U+FFFD.
    pub fn text(&self, id: u32) -> String {
        String::from_utf8_lossy(self.bytes(id)).into_owned()
    }

    /// The text of a token as OpenAI's older interface shows it: `bytes:\xe2\x80` for what is not UTF-8.
    pub fn legacy(&self, id: u32) -> String {
        let bytes = self.bytes(id);
        match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().fold("bytes:".to_owned(), |text, byte| format!("{text}\\x{byte:02x}")),
        }
    }
}

fn bytes(tokenizer: &Tokenizer, begun: &[u32], id: u32) -> Vec<u8> {
    let Some(name) = tokenizer.token_text(id) else { return Vec::new() };
    if tokenizer.is_control(id) {
        return name.as_bytes().to_vec();
    }
    let mut stream = TextStream::new(true);
    for id in begun {
        stream.push(tokenizer, *id);
    }
    let text = stream.push(tokenizer, id);
    if stream.finish().is_empty() && !text.contains(char::REPLACEMENT_CHARACTER) {
        return text.into_bytes();
    }
    // A part of a character. Its name has the bytes: `<0xE2>`, or a letter of GPT-2's alphabet for each.
    fallback_byte(name)
        .map(|byte| vec![byte])
        .or_else(|| name.chars().map(byte_of).collect())
        .unwrap_or_else(|| text.into_bytes())
}

/// The byte of a token such as `<0x0A>`.
fn fallback_byte(name: &str) -> Option<u8> {
    let digits = name.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// The byte of a letter of GPT-2's alphabet: `bytes_to_unicode` in
/// <https://github.com/openai/gpt-2/blob/master/src/encoder.py>.
fn byte_of(letter: char) -> Option<u8> {
    let code = u32::from(letter);
    let byte = match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fixture;

    /// Texts of one to four bytes a character, some of which no token has whole.
    #[test]
    fn the_bytes_of_tokens_joined_are_the_text() {
        for name in ["smollm2", "mini-legacy", "mini-first", "mini-tekken", "tekken-v3", "tokenizer.model.v3"] {
            let Some(tokenizer) = fixture(name) else { continue };
            let vocabulary = Vocabulary::new(&tokenizer);
            for text in ["A bell rang.", "naïve – 日本語 🏴\u{200d}👩‍👩‍👧", "\u{1F9FF} \t\n x"] {
                let ids = tokenizer.encode_text(text).unwrap();
                let joined: Vec<u8> = ids.iter().flat_map(|id| vocabulary.bytes(*id).to_vec()).collect();
                let joined = String::from_utf8(joined).unwrap();
                assert_eq!(joined.trim_start(), text.trim_start(), "{name}");
            }
        }
    }

    #[test]
    fn parts_of_a_character_keep_their_bytes() {
        let tokenizer = fixture("smollm2").unwrap();
        let vocabulary = Vocabulary::new(&tokenizer);
        let ids = tokenizer.encode_text("\u{1F9FF}").unwrap();
        assert!(ids.len() > 1);
        assert!(vocabulary.legacy(ids[0]).starts_with("bytes:\\xf0"), "{}", vocabulary.legacy(ids[0]));
        assert_eq!(vocabulary.legacy(2), "<|im_end|>");
        assert_eq!(vocabulary.bytes(u32::MAX), b"");
    }
}
