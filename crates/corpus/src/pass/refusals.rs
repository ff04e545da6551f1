//! Answers that refuse, or in which the model talks about itself.

use std::sync::LazyLock;

use regex::Regex;
use serde::Deserialize;

use super::Pass;
use foehn_record::Record;

/// Rejects a record with a trained answer that refuses, or in which the model talks about itself as a language model.
///
/// A refusal counts if it is in the opening of the answer, its first two sentences within its first 300 characters. It
/// needs a verb for something that a model is asked to do (`I can't help with that`, `I'm sorry, but I cannot provide
/// …`), so that `I can't believe it` and `Sorry I'm late` are kept. A statement of the model about itself counts in any
/// sentence: `As an AI language model`, `my knowledge cutoff`, `my training data`. Only English is supported;
/// [`phrases`](Self::phrases) adds others.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Refusals {
    /// Additional phrases that count as a refusal in the opening of an answer, ignoring case.
    pub phrases: Vec<String>,
    /// Whether refusals are kept, because they are wanted. Answers in which the model talks about itself are rejected
    /// anyway.
    pub keep_refusals: bool,
}

/// The number of characters in the opening of an answer.
const OPENING: usize = 300;

/// `I can't` and similar words, then the verb for what is refused.
static REFUSAL: LazyLock<Regex> = LazyLock::new(|| {
    let cannot = r"(?:can(?:no|')t|can not|could not|couldn't|won't|will not|am (?:not able|unable) to|'m (?:not able|unable) to|(?:am|'m) not (?:allowed|permitted|programmed|designed|comfortable|going) to)";
    let verb = r"(?:help|assist|provide|fulfil+|comply|answer|continue|engage|create|generate|write|produce|discuss|support|share|access|browse|recommend|offer|complete|process|participate|respond|do that|do this|give you|condone|promote|facilitate|satisfy|accommodate|open (?:links?|urls?)|view (?:images?|files?))";
    let adverb =
        r"(?:(?:really|simply|just|directly|currently|unfortunately|in good conscience|personally|actually) )?";
    new(&format!(
        r"(?i)^\W*(?:(?:oh|hello|hi|hmm|well|thank you[^.!?]*|thanks[^.!?]*)[,.!]? )?(?:(?:i'm|i am|we're|we are|my apologies|i apologi[sz]e|apologies|sorry|unfortunately|regrettably)[^.!?\n]{{0,60}}[,.;:!—-]+ ?(?:but |that |however,? )?)?(?:i|we) ?{adverb}{cannot} {adverb}(?:be able to )?{verb}\b"
    ))
});

/// An apology to the user for the request, as a sentence of its own.
static APOLOGY: LazyLock<Regex> = LazyLock::new(|| {
    new(
        r"(?i)^\W*(?:(?:i'm|i am|we're|we are) )?(?:very |so |truly )?sorry,? (?:but )?(?:i|we) ?(?:can(?:no|')t|can not|'m unable|am unable|'m not able|am not able|do not|don't) (?:help|assist|provide|fulfil+|comply|answer|do that|do this|understand (?:the|your) (?:question|request|input|prompt)|have (?:access|enough information|the ability))\b",
    )
});

/// `That goes against my guidelines`.
static POLICY: LazyLock<Regex> = LazyLock::new(|| {
    new(
        r"(?i)\b(?:violates?|against|goes against|not in line with) (?:my|our|openai's|anthropic's|google's|the) (?:[a-z]+ )?(?:content polic(?:y|ies)|usage polic(?:y|ies)|use case policy|guidelines|programming|ethical (?:guidelines|principles))\b",
    )
});

/// Statements of a model about itself, anywhere in a text.
static SELF: LazyLock<Regex> = LazyLock::new(|| {
    let model = r"(?:(?:large |artificial intelligence |ai |text-based |virtual |digital )*(?:language model|ai assistant|artificial intelligence|chatbot|conversational ai|virtual assistant)|ai)";
    new(&format!(
        r"(?i)\bas an? (?:\w+ )?{model}\b(?: (?:developed|created|trained|made) by \w+)?,? (?:i|my|it is not|it's not)\b|\bi(?:'m| am) (?:just |only |merely |actually )?an? (?:\w+ )?{model}\b|\bmy (?:knowledge|training)(?: data)? cut-?off\b|\bmy (?:last|latest) (?:knowledge|training) update\b|\bi (?:was|am|have been) (?:trained|created|developed) by (?:openai|anthropic|google|meta|mistral|alibaba|deepseek)\b|\bi (?:do not|don't) have (?:personal )?(?:feelings|emotions|opinions|beliefs|experiences)(?: [a-z, ]{{0,30}})? (?:as|because i(?:'m| am)|since i(?:'m| am)) an? (?:\w+ )?{model}\b"
    ))
});

impl Pass for Refusals {
    fn name(&self) -> &'static str {
        "refusals"
    }

    fn check(&self, record: &Record) -> Option<String> {
        let trained = record.messages.iter().enumerate().filter(|(_, message)| message.is_trained());
        trained.into_iter().find_map(|(at, message)| {
            let text = message.content.replace(['’', '‘', '`'], "'");
            let (what, found) = self.find(&text)?;
            let found: String = found.trim().chars().take(60).collect();
            Some(format!("the answer {what} `{found}` (message {})", at + 1))
        })
    }
}

impl Refusals {
    fn find<'a>(&self, text: &'a str) -> Option<(&'static str, &'a str)> {
        if let Some(found) = SELF.find(text) {
            return Some(("speaks as a model:", found.as_str()));
        }
        let opening = opening(text);
        if !self.keep_refusals {
            let refusals = [&REFUSAL, &APOLOGY, &POLICY];
            if let Some(found) = refusals.into_iter().find_map(|refusal| refusal.find(opening)) {
                return Some(("refuses:", found.as_str()));
            }
        }
        let lower = opening.trim_start().to_lowercase();
        let known = self.phrases.iter().any(|phrase| !phrase.is_empty() && lower.starts_with(&phrase.to_lowercase()));
        known.then_some(("opens with a phrase that was ruled out:", opening))
    }
}

/// The first two sentences, at most [`OPENING`] characters.
fn opening(text: &str) -> &str {
    let limit = text.char_indices().nth(OPENING).map_or(text.len(), |(at, _)| at);
    let ends = text[..limit].match_indices(['.', '!', '?', '\n']).filter(|(at, _)| *at > 0);
    ends.map(|(at, _)| at + 1).nth(1).map_or(&text[..limit], |end| &text[..end])
}

/// Compiles one of this crate's own patterns. The tests compile all of them.
fn new(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap_or_else(|error| unreachable!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pass: &Refusals, text: &str, is_found: bool) {
        assert_eq!(pass.find(&text.replace('’', "'")).is_some(), is_found, "{text}");
    }

    #[test]
    fn refusals_and_models_are_found() {
        for text in [
            "As an AI language model, I do not have personal opinions.",
            "Well, as a large language model, I cannot feel pain.",
            "The answer is 4. However, as an AI, I cannot be sure.",
            "I'm sorry, but I can't assist with that request.",
            "I’m sorry, but I cannot provide medical advice.",
            "I am sorry, I cannot fulfill this request.",
            "Sorry, I can't help with that.",
            "I apologize, but I am not able to generate that content.",
            "Unfortunately, I am unable to browse the internet.",
            "I cannot comply with this request as it goes against my guidelines.",
            "I won't help with that.",
            "I'm just an AI and have no body.",
            "My knowledge cutoff is September 2021.",
            "I was trained by OpenAI to answer.",
            "I’m sorry, but I don't have access to your files.",
            "I can't help you with that one.",
            "This content violates OpenAI's usage policies.",
            "I'm unable to provide that information.",
        ] {
            check(&Refusals::default(), text, true);
        }
    }

    #[test]
    fn people_may_be_sorry_and_unable() {
        for text in [
            "I'm sorry to hear that. A lamp may help.",
            "I can't believe how bright it is.",
            "Sorry I'm late, the train stood in a tunnel.",
            "\"I'm sorry, but I can't come to dinner,\" she wrote.",
            "I cannot see the forest for the trees is a Visual idiom.",
            "An AI language model predicts the next token.",
            "Large language models such as GPT are trained on text.",
            "She said: I can't help feeling cold.\nThat is Kinesthetic.",
            "The knowledge cutoff of a model is the date of its newest data.",
            "Unfortunately, the file is missing. Write it anew.",
            "We can't hear the bell from here.",
            "I won't lie: it smells of diesel.",
            "Use `cannot provide` as the error's text. I cannot provide more.",
        ] {
            check(&Refusals::default(), text, false);
        }
    }

    #[test]
    fn refusals_may_be_taught_and_phrases_added() {
        let taught = Refusals { keep_refusals: true, ..Refusals::default() };
        check(&taught, "I'm sorry, but I can't assist with that request.", false);
        check(&taught, "As an AI language model, I can't.", true);
        let german = Refusals { phrases: vec!["Als KI-Sprachmodell".to_owned()], ..Refusals::default() };
        check(&german, "Als KI-Sprachmodell kann ich das nicht.", true);
        check(&german, "Kein Modell.", false);
    }
}
