//! Stop strings in a stream of text.

/// Finds stop strings in text that comes in pieces. Holds back text that could be the beginning of one.
///
/// The text is cut where the stop string begins. If several match, the one that is complete first counts (of two that
/// end at the same place, the longer one). How the text is split into pieces does not affect the joined result.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    stops: Vec<String>,
    /// The longest end of the text so far that is a beginning of a stop string.
    held: String,
}

impl StopMatcher {
    /// A matcher at the start of a text. Empty stop strings are ignored.
    pub fn new(stops: &[String]) -> Self {
        Self { stops: stops.iter().filter(|stop| !stop.is_empty()).cloned().collect(), held: String::new() }
    }

    /// Takes a piece of text. Returns the text that is certainly not part of a stop string, and whether a stop string
    /// was found. After that, nothing more may be pushed.
    pub fn push(&mut self, piece: &str) -> (String, bool) {
        let mut text = std::mem::take(&mut self.held);
        text.push_str(piece);
        // A stop string that is complete now cannot begin before the text that was held back.
        let ends =
            self.stops.iter().filter_map(|stop| text.find(stop.as_str()).map(|start| (start + stop.len(), start)));
        if let Some((_, start)) = ends.min() {
            text.truncate(start);
            return (text, true);
        }
        let begins = |start: &usize| {
            let rest = text.get(*start..).unwrap_or_default();
            self.stops.iter().any(|stop| stop.starts_with(rest))
        };
        let certain = text.char_indices().map(|(start, _)| start).find(begins).unwrap_or(text.len());
        self.held = text.split_off(certain);
        (text, false)
    }

    /// Returns the text that was held back, when no more text follows, and resets the matcher.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The expected result, computed character by character from the whole text.
    fn cut(text: &str, stops: &[String]) -> (String, bool) {
        let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
        for end in ends {
            let read = &text[..end];
            let starts = stops.iter().filter_map(|stop| read.strip_suffix(stop.as_str()));
            if let Some(before) = starts.min_by_key(|before| before.len()) {
                return (before.to_owned(), true);
            }
        }
        (text.to_owned(), false)
    }

    fn stream<'a>(pieces: impl Iterator<Item = &'a str>, stops: &[String]) -> (String, bool) {
        let mut matcher = StopMatcher::new(stops);
        let mut shown = String::new();
        for piece in pieces {
            let (text, stopped) = matcher.push(piece);
            shown += &text;
            if stopped {
                return (shown, true);
            }
        }
        shown += &matcher.finish();
        (shown, false)
    }

    proptest! {
        /// Two letters and a two-byte character, so that stop strings are frequent and overlap.
        #[test]
        fn pieces_joined_are_the_text_up_to_its_stop(pieces in vec("[abé]{0,6}", 0..8), stops in vec("[abé]{1,4}", 0..4)) {
            let text = pieces.concat();
            let expected = cut(&text, &stops);
            prop_assert_eq!(stream(pieces.iter().map(String::as_str), &stops), expected.clone());
            prop_assert_eq!(stream(std::iter::once(text.as_str()), &stops), expected);
        }

        /// Text is held back only if some stop string begins with it.
        #[test]
        fn no_more_is_held_than_needed(text in "[abé]{0,12}", stop in "[abé]{1,4}") {
            let stops = [stop.clone()];
            let (shown, stopped) = StopMatcher::new(&stops).push(&text);
            if !stopped {
                let held = text.strip_prefix(&shown).unwrap();
                prop_assert!(stop.starts_with(held));
                prop_assert!(held.len() < stop.len());
            }
        }
    }

    #[test]
    fn without_stop_strings_nothing_is_held() {
        let mut matcher = StopMatcher::new(&[String::new()]);
        assert_eq!(matcher.push("abc"), ("abc".to_owned(), false));
        assert_eq!(matcher.finish(), "");
    }
}
