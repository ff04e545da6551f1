//! Records that are too short or too long.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

use super::Pass;
use crate::said::texts;
use foehn_record::{Record, Role};

/// Counts tokens. This crate has no tokenizer, so the caller provides a counter: a fingerprint and a closure over a text
/// are one.
pub trait TokenCounter: Send + Sync {
    /// The number of tokens of a text.
    fn count(&self, text: &str) -> usize;

    /// What tells this counter from others: its tokenizer's hash. It is a part of the pipeline's
    /// [hash](crate::Pipeline::hash), since another tokenizer keeps other records.
    fn fingerprint(&self) -> &str;
}

impl<S: AsRef<str> + Send + Sync, F: Fn(&str) -> usize + Send + Sync> TokenCounter for (S, F) {
    fn count(&self, text: &str) -> usize {
        (self.1)(text)
    }

    fn fingerprint(&self) -> &str {
        self.0.as_ref()
    }
}

/// Rejects a record whose prompt, answer or whole conversation is outside the limits. By default there are no limits.
///
/// A prompt is one message of the user. An answer is one trained message of the assistant. Tokens are counted over all
/// messages of the record, with their reasoning and the arguments of calls, without the tokens of a template. An answer
/// that calls a tool may be of any shortness. If tokens are limited but there is no counter
/// ([`counting`](Self::counting), [`Pipeline::counting`](crate::Pipeline::counting)), cleaning returns an error before
/// it begins.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Length {
    /// The smallest number of characters of a prompt.
    pub min_prompt: Option<usize>,
    /// The largest number of characters of a prompt.
    pub max_prompt: Option<usize>,
    /// The smallest number of characters of an answer.
    pub min_answer: Option<usize>,
    /// The largest number of characters of an answer.
    pub max_answer: Option<usize>,
    /// The smallest number of tokens of a record.
    pub min_tokens: Option<usize>,
    /// The largest number of tokens of a record.
    pub max_tokens: Option<usize>,
    /// The token counter.
    #[serde(skip)]
    pub counter: Option<Arc<dyn TokenCounter>>,
}

impl Length {
    /// The same limits, with a token counter.
    #[must_use]
    pub fn counting(self, counter: impl TokenCounter + 'static) -> Self {
        Self { counter: Some(Arc::new(counter)), ..self }
    }
}

impl fmt::Debug for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { min_prompt, max_prompt, min_answer, max_answer, min_tokens, max_tokens, counter } = self;
        f.debug_struct("Length")
            .field("prompt", &(min_prompt, max_prompt))
            .field("answer", &(min_answer, max_answer))
            .field("tokens", &(min_tokens, max_tokens))
            .field("counter", &counter.as_ref().map(|counter| counter.fingerprint()))
            .finish()
    }
}

impl Pass for Length {
    fn name(&self) -> &'static str {
        "length"
    }

    fn count_with(&mut self, counter: &Arc<dyn TokenCounter>) {
        self.counter.get_or_insert_with(|| Arc::clone(counter));
    }

    fn lacks_counter(&self) -> bool {
        (self.min_tokens.is_some() || self.max_tokens.is_some()) && self.counter.is_none()
    }

    fn check(&self, record: &Record) -> Option<String> {
        let of_messages = record.messages.iter().enumerate().find_map(|(at, message)| {
            let (what, min, max) = match message.role {
                Role::User => ("prompt", self.min_prompt, self.max_prompt),
                Role::Assistant if message.is_trained() => ("answer", self.min_answer, self.max_answer),
                _ => return None,
            };
            // A call needs no words.
            let min = min.filter(|_| message.tool_calls.is_empty());
            let wrong = outside(|| message.content.chars().count(), min, max)?;
            Some(format!("the {what} has {} (message {})", wrong.of("characters"), at + 1))
        });
        of_messages.or_else(|| {
            self.min_tokens.or(self.max_tokens)?;
            let Some(counter) = &self.counter else {
                return Some(
                    "there is a limit on tokens, but no tokenizer to count them: give the pipeline a tokenizer"
                        .to_owned(),
                );
            };
            let count = || record.messages.iter().flat_map(texts).map(|text| counter.count(text)).sum();
            let wrong = outside(count, self.min_tokens, self.max_tokens)?;
            Some(format!("the record has {}", wrong.of("tokens")))
        })
    }
}

/// A count, and the limit that it violates.
struct Wrong {
    found: usize,
    how: &'static str,
    limit: usize,
}

impl Wrong {
    fn of(&self, unit: &str) -> String {
        format!("{} {unit}, expected at {} {}", self.found, self.how, self.limit)
    }
}

/// Counts only if there is a limit.
fn outside(count: impl Fn() -> usize, min: Option<usize>, max: Option<usize>) -> Option<Wrong> {
    min.or(max)?;
    let found = count();
    let under = min.filter(|min| found < *min).map(|limit| Wrong { found, how: "least", limit });
    under.or_else(|| max.filter(|max| found > *max).map(|limit| Wrong { found, how: "most", limit }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use foehn_record::Message;

    #[track_caller]
    fn check(pass: &Length, prompt: &str, answer: &str, expected: Option<&str>) {
        let record = Record::new(vec![
            Message::new(Role::System, "Be brief."),
            Message::new(Role::User, prompt),
            Message::new(Role::Assistant, answer),
        ]);
        assert_eq!(pass.check(&record).as_deref(), expected);
    }

    #[test]
    fn characters_are_counted_not_bytes() {
        check(&Length::default(), "", "", None);
        let pass = Length { min_prompt: Some(3), max_answer: Some(4), ..Length::default() };
        check(&pass, "été", "Zoë!", None);
        check(&pass, "né", "Yes", Some("the prompt has 2 characters, expected at least 3 (message 2)"));
        check(&pass, "What?", "Hello", Some("the answer has 5 characters, expected at most 4 (message 3)"));
    }

    #[test]
    fn tokens_are_the_callers() {
        let limits = Length { max_tokens: Some(5), ..Length::default() };
        check(
            &limits,
            "a",
            "b",
            Some("there is a limit on tokens, but no tokenizer to count them: give the pipeline a tokenizer"),
        );
        let pass = limits.counting(("words", |text: &str| text.split(' ').count()));
        check(&pass, "a b", "c", None);
        check(&pass, "a b c", "d", Some("the record has 6 tokens, expected at most 5"));
    }
}
