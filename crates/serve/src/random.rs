//! Names and seeds that nobody has used before. Nothing secret depends on them.

use std::hash::{BuildHasher, RandomState};

/// A number that the process has not drawn before, as good as certainly.
pub(crate) fn number() -> u64 {
    RandomState::new().hash_one(std::thread::current().id())
}

/// A name such as `chatcmpl-2f…`.
pub(crate) fn name(prefix: &str) -> String {
    format!("{prefix}{:016x}{:08x}", number(), number() >> 32)
}

/// The id of a call: nine letters and digits, which is what Mistral's templates ask for.
pub(crate) fn call_id() -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut rest = number();
    let mut letter = || {
        let index = (rest % LETTERS.len() as u64) as usize;
        rest /= LETTERS.len() as u64;
        LETTERS.get(index).copied().map_or('0', char::from)
    };
    (0..9).map(|_| letter()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ() {
        assert_ne!(name("a-"), name("a-"));
        let id = call_id();
        assert!(id.len() == 9 && id.bytes().all(|letter| letter.is_ascii_alphanumeric()), "{id}");
    }
}
