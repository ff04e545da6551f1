//! Decodes token ids to text, one at a time.

use super::Tokenizer;

/// Decodes ids as they come. It never splits a character.
///
/// The texts that [`TextStream::push`] and [`TextStream::finish`] return, joined, equal the result of
/// [`Tokenizer::decode`] for all ids at once. Use one stream with one tokenizer only.
///
/// ```
/// # use foehn_tokens::{TextStream, Tokenizer};
/// # fn show(tokenizer: &Tokenizer, generated: &[u32]) -> String {
/// let mut stream = TextStream::new(true);
/// let mut shown = String::new();
/// for id in generated {
///     shown += &stream.push(tokenizer, *id);
/// }
/// shown += &stream.finish();
/// assert_eq!(shown, tokenizer.decode(generated, true));
/// # shown
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TextStream {
    /// The first bytes of an incomplete character.
    pending: Vec<u8>,
    begun: bool,
    skip_control: bool,
}

impl TextStream {
    /// A stream at the start of a text; see [`Tokenizer::decode`] for `skip_control`.
    pub fn new(skip_control: bool) -> Self {
        Self { pending: Vec::new(), begun: false, skip_control }
    }

    /// The text that is complete with this token: often a word, sometimes empty.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        let Some(token) = tokenizer.vocab.get(id) else {
            self.begun = true;
            self.pending.extend_from_slice("\u{fffd}".as_bytes());
            return self.take();
        };
        if token.control && self.skip_control {
            return String::new();
        }
        let mut bytes = tokenizer.vocab.bytes(id);
        if bytes.is_empty() {
            return String::new();
        }
        if !self.begun && tokenizer.vocab.drops_first_space() {
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        self.begun = true;
        self.pending.extend_from_slice(bytes);
        self.take()
    }

    /// The rest of the text: U+FFFD if the last character is incomplete, otherwise nothing. Resets the stream.
    pub fn finish(&mut self) -> String {
        self.begun = false;
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }

    /// Removes and returns the complete text, with U+FFFD for invalid bytes, as in `from_utf8_lossy`.
    fn take(&mut self) -> String {
        let mut text = String::new();
        let mut consumed = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            consumed += chunk.valid().len();
            let invalid = chunk.invalid();
            if invalid.is_empty() {
                continue;
            }
            let at_end = consumed + invalid.len() == self.pending.len();
            if at_end && std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none()) {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            consumed += invalid.len();
        }
        self.pending.drain(..consumed);
        text
    }
}
