//! Tokens as log-probabilities show them.

use foehn_tokens::Tokenizer;

/// The text of a token. Bytes that are not UTF-8 become U+FFFD.
pub(crate) fn text(tokenizer: &Tokenizer, id: u32) -> String {
    String::from_utf8_lossy(tokenizer.token_bytes(id)).into_owned()
}

/// The text of a token as OpenAI's older interface shows it: `bytes:\xe2\x80` for what is not UTF-8.
pub(crate) fn legacy(tokenizer: &Tokenizer, id: u32) -> String {
    let bytes = tokenizer.token_bytes(id);
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |text, byte| format!("{text}\\x{byte:02x}")),
    }
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
            for text in ["A bell rang.", "naïve – 日本語 🏴\u{200d}👩‍👩‍👧", "\u{1F9FF} \t\n x"] {
                let ids = tokenizer.encode_text(text).unwrap();
                let joined: Vec<u8> = ids.iter().flat_map(|id| tokenizer.token_bytes(*id).to_vec()).collect();
                let joined = String::from_utf8(joined).unwrap();
                assert_eq!(joined.trim_start(), text.trim_start(), "{name}");
            }
        }
    }

    #[test]
    fn parts_of_a_character_keep_their_bytes() {
        let tokenizer = fixture("smollm2").unwrap();
        let ids = tokenizer.encode_text("\u{1F9FF}").unwrap();
        assert!(ids.len() > 1);
        assert!(legacy(&tokenizer, ids[0]).starts_with("bytes:\\xf0"), "{}", legacy(&tokenizer, ids[0]));
        assert_eq!((legacy(&tokenizer, 2), text(&tokenizer, 2)), ("<|im_end|>".to_owned(), "<|im_end|>".to_owned()));
        assert_eq!(tokenizer.token_bytes(u32::MAX), b"");
    }
}
