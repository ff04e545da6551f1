//! The skeleton of a question: the question without the parts that differ between questions of the same kind.

use std::sync::LazyLock;

use regex::Regex;

use crate::text::{QUOTED, hash, sentences};

/// Recognises prompts that ask for questions, for several speakers, or for an example of such a text.
static ASKS_FOR_TURNS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)\b(?:dialog(?:ue)?s?|conversations?|chats?|transcripts?|scripts?|interview\w*|quiz\w*|questions?|ask(?:s|ing|ed)?|faqs?|q ?& ?a|q and a|flash ?-?cards?|cards?|trivia|exams?|surveys?|questionnaires?|riddles?|role-?play\w*|play (?:an?|the|my)|pretend|act (?:as|like|out)|be (?:a|an|my|the) \w+|examples?|samples?|templates?|formats?|prompts?|config\w*|headings?|instruct\w*|alpaca|vicuna|chatml|few-shot|forms?|logs?|translate|translation|summari[sz]e|summary|tutor\w*|teach\w*|quizz\w*|clarif\w*|follow-?ups?|checklists?|greet(?:s|ing)?|poems?|stor(?:y|ies)|jokes?|plays?)\b",
    )
});

/// Recognises beginnings of answers that introduce a question of their own.
static LEADS_IN: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)^\W*(?:(?:good|great|nice|excellent|fair|interesting) (?:\w+)|well|gladly|sure\w*|of course|certainly|happily|ok(?:ay)?|let'?s|let us|let me|first\w*|before|think|hm+|not quite|almost|close|try|to help|happy to|glad to|i (?:need|can|would|will|have|'d)|i'd|i'll|we need|hello|hi|hey|welcome|thanks|thank you|sorry|absolutely|right|here|now|start|begin|imagine|suppose|consider)\b",
    )
});

/// Recognises sentences after a question that do not answer it.
static WAITS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)^\W*(?:think|take|try|tell|look|remember|hint|let|please|once|if|then|with|when|after|i (?:can|will|need|would|ask)|i'll|we (?:can|will)|you (?:can|may|will)|knowing|your|give|send|write|share|that way|this (?:helps|will|way))\b",
    )
});

/// Whether a masked prompt asks for questions, for turns, or for an example of them. Items of a list are ignored.
pub(super) fn asks_for_turns(masked: &str) -> bool {
    masked.lines().filter(|line| !is_item(line)).any(|line| ASKS_FOR_TURNS.is_match(line))
}

/// Whether a masked answer begins by introducing a question of its own.
pub(super) fn leads_in(masked: &str) -> bool {
    sentences(masked).first().is_some_and(|first| LEADS_IN.is_match(first) || first.ends_with(':'))
}

/// Compiles one of this crate's own patterns. The tests compile all of them.
pub(super) fn pattern(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap_or_else(|error| unreachable!("{error}"))
}

/// The words of a masked text, case-folded.
pub(super) struct Skeleton {
    words: Vec<Word>,
    is_question: bool,
    /// Whether the text after it may be an answer: it is not another question, and makes no request.
    is_answered: bool,
}

/// A word in a skeleton: the word itself, or a mask.
#[derive(PartialEq)]
struct Word {
    text: String,
    mask: Option<&'static str>,
}

/// The longest prompt or sentence, in words, that is compared word by word.
const MAX_WORDS: usize = 64;

/// The smallest number of words of a request. Shorter ones may be equal by chance.
const MIN_WORDS: usize = 4;

/// The largest number of words before a request that has no mark in front of it.
const MAX_LEAD: usize = 3;

impl Skeleton {
    /// The skeleton of a text with masked quotations. A capitalised word after the first one, except `I`, counts as a
    /// name or a label.
    pub(super) fn new(masked: &str) -> Self {
        let mut words: Vec<Word> = Vec::new();
        for word in masked.split(|c: char| !(c.is_alphanumeric() || c == '\'' || c == QUOTED)) {
            let word = word.trim_matches('\'');
            let mask = match word.chars().next() {
                None => continue,
                Some(QUOTED) => Some("\u{1}"),
                Some(first) => {
                    let is_name = first.is_uppercase() && word.split('\'').next() != Some("I");
                    (is_name && !words.is_empty()).then_some("\u{2}")
                }
            };
            words.push(Word { text: word.to_lowercase(), mask });
        }
        Self { words, is_question: masked.trim_end().ends_with('?'), is_answered: false }
    }

    /// Whether it is a request with enough words: a question, or a sentence that begins with a verb instead of its
    /// subject.
    pub(super) fn is_request(&self) -> bool {
        const SUBJECTS: [&str; 16] = [
            "i", "it", "the", "this", "that", "these", "those", "my", "we", "you", "he", "she", "they", "there", "a",
            "an",
        ];
        let Some(first) = self.words.first() else {
            return false;
        };
        self.words.len() >= MIN_WORDS && (self.is_question || !SUBJECTS.contains(&first.text.as_str()))
    }

    /// Whether it is the prompt with another object: 60% of the words in order, and it is a question, or it begins with
    /// the same verb as the prompt.
    pub(super) fn resembles(&self, prompt: &Skeleton) -> bool {
        let longest = self.words.len().max(prompt.words.len());
        let first = |skeleton: &Skeleton| skeleton.words.first().map(|word| word.text.clone());
        let same_kind = self.is_question == prompt.is_question && (self.is_question || first(self) == first(prompt));
        same_kind && longest <= MAX_WORDS && 10 * common_words(&self.words, &prompt.words) >= 6 * longest
    }

    /// Whether both are of the same kind.
    pub(super) fn is_of_kind(&self, prompt: &Skeleton) -> bool {
        let kinds = prompt.kinds();
        self.kinds().iter().any(|kind| kinds.contains(kind))
    }

    /// Whether the text after the sentence may answer it.
    pub(super) fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// Whether a new sentence follows the quotation without a mark between them: `Say it louder: 'a bell' A bell
    /// clangs.`
    fn holds_answer(&self) -> bool {
        let is_quote = |word: &Word| word.mask.is_some_and(|mask| mask.starts_with(QUOTED));
        let last = self.words.iter().rposition(is_quote);
        last.and_then(|at| self.words.get(at + 1)).is_some_and(|next| next.mask.is_some())
    }

    /// Whether it has a quotation.
    pub(super) fn quotes(&self) -> bool {
        self.words.iter().any(|word| word.mask.is_some_and(|mask| mask.starts_with(QUOTED)))
    }

    /// The hash of the request without its quotations.
    pub(super) fn exact(&self) -> u64 {
        let is_quote = |word: &Word| word.mask.is_some_and(|mask| mask.starts_with(QUOTED));
        let shown = |word| if is_quote(word) { "\u{1}" } else { word.text.as_str() };
        self.hash("=", self.words.iter().map(shown))
    }

    /// The hashes of the kinds of the request: its first four words, and its first word with its last three. Only word
    /// sequences with a mask form a kind; the others are common phrases.
    pub(super) fn kinds(&self) -> Vec<u64> {
        let beginning = self.words.iter().take(MIN_WORDS).collect::<Vec<_>>();
        let tail = self.words.len().saturating_sub(3).max(1);
        let ends = self.words.iter().take(1).chain(self.words.iter().skip(tail)).collect::<Vec<_>>();
        [("^", beginning), ("$", ends)]
            .into_iter()
            .filter(|(_, words)| words.iter().any(|word| word.mask.is_some()))
            .map(|(tag, words)| self.hash(tag, words.into_iter().map(Word::shown)))
            .collect()
    }

    fn hash<'a>(&self, tag: &'a str, words: impl Iterator<Item = &'a str>) -> u64 {
        let end = if self.is_question { "?" } else { "." };
        hash(&[tag, end].into_iter().chain(words).collect::<Vec<_>>())[0]
    }
}

impl Word {
    fn shown(&self) -> &str {
        self.mask.unwrap_or(&self.text)
    }
}

/// The requests of a masked prompt. Without a list, this is the whole prompt. With a list, it is the text beside the
/// list, and each question in that text. An item of the list is not a request, because an answer may repeat it.
pub(super) fn requests(masked: &str) -> Vec<Skeleton> {
    let (items, beside): (Vec<&str>, Vec<&str>) = masked.lines().partition(|line| is_item(line));
    let beside = beside.join("\n");
    let (whole, sentences) = if items.len() < 2 { (masked, Vec::new()) } else { (&*beside, sentences(&beside)) };
    let questions = sentences.iter().filter(|sentence| sentences.len() > 1 && sentence.ends_with('?'));
    let requests = std::iter::once(&whole).chain(questions).map(|text| Skeleton::new(text));
    requests.filter(Skeleton::is_request).collect()
}

/// The requests among the sentences of a masked answer after the first one. A heading of the answer is not a request.
pub(super) fn later_requests(masked: &str) -> impl Iterator<Item = Skeleton> {
    let sentences = sentences(masked);
    let answered = |next: &&str| !next.trim_end().ends_with('?') && !WAITS.is_match(next);
    let later = (1..sentences.len()).filter(|at| !sentences[*at].starts_with(['#', '*']));
    let found: Vec<Skeleton> = later
        .map(|at| Skeleton { is_answered: sentences.get(at + 1).is_some_and(answered), ..Skeleton::new(sentences[at]) })
        .map(|found| Skeleton { is_answered: found.is_answered || found.holds_answer(), ..found })
        .filter(Skeleton::is_request)
        .collect();
    found.into_iter()
}

/// The requests within the first sentence of a masked answer, after a few words without a mark, if text follows them:
/// `Auditory What modality is: 'smoke'? Olfactory`.
pub(super) fn led_requests(masked: &str) -> Vec<Skeleton> {
    let sentences = sentences(masked);
    let [first, _, ..] = sentences[..] else {
        return Vec::new();
    };
    let is_bare = |word: &str| word.chars().all(|c| c.is_alphanumeric() || matches!(c, '\'' | '’' | '-'));
    let (mut rest, mut found) = (first, Vec::new());
    for _ in 0..MAX_LEAD {
        match rest.split_once(char::is_whitespace) {
            Some((word, after)) if is_bare(word) => rest = after.trim_start(),
            _ => break,
        }
        let request = ["Question:", "Q:"].into_iter().find_map(|mark| rest.strip_prefix(mark)).unwrap_or(rest).trim();
        if request.starts_with(char::is_uppercase) {
            found.push(Skeleton { is_answered: true, ..Skeleton::new(request) });
        }
    }
    found.retain(Skeleton::is_request);
    found
}

/// Whether the line begins like a list item: `- `, `2. `, `(b) `.
fn is_item(line: &str) -> bool {
    let marker = line.split_whitespace().next().unwrap_or_default();
    let label = marker.trim_start_matches('(').strip_suffix(['.', ')', ':']).unwrap_or_default();
    let is_number = !label.is_empty() && label.bytes().all(|c| c.is_ascii_digit());
    let is_letter = label.len() == 1 && label.bytes().all(|c| c.is_ascii_alphabetic());
    is_number || is_letter || ["-", "*", "•", "–"].contains(&marker)
}

/// The length of the longest common subsequence.
fn common_words(left: &[Word], right: &[Word]) -> usize {
    let mut row = vec![0; right.len() + 1];
    for word in left {
        let mut diagonal = 0;
        for (at, other) in right.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if word.shown() == other.shown() { diagonal + 1 } else { above.max(row[at]) };
            diagonal = above;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::mask_quotes;

    fn skeleton(text: &str) -> Skeleton {
        Skeleton::new(&mask_quotes(text))
    }

    #[test]
    fn requests_are_told_from_statements() {
        for (text, is_request) in [
            ("What modality is: 'rain'?", true),
            ("Describe a forge in Visual language.", true),
            ("The forge is very bright.", false),
            ("Why?", false),
            ("", false),
        ] {
            assert_eq!(skeleton(text).is_request(), is_request, "{text}");
        }
    }

    #[test]
    fn kinds_forget_quotes_and_names() {
        let shares = |left: &str, right: &str| {
            let right = skeleton(right).kinds();
            skeleton(left).kinds().iter().any(|kind| right.contains(kind))
        };
        assert!(shares("Why is 'rain' Auditory?", "Why is 'smoke' Olfactory?"));
        assert!(shares("Describe a forge in the Visual modality.", "Describe dawn in the Auditory modality."));
        assert!(shares("Turn this into Visual language: 'a'", "Turn this into Auditory language: 'b c'"));
        assert!(!shares("Describe a forge in detail.", "Describe a forge in detail."));
        assert!(!shares("Why is 'rain' Auditory?", "How is 'rain' Auditory?"));
        assert!(!shares("How do I write tests?", "How do I write letters?"));
    }

    #[test]
    fn lists_are_not_asked() {
        let check = |prompt: &str, expected: &[&str]| {
            let found: Vec<_> = requests(&mask_quotes(prompt)).iter().map(Skeleton::exact).collect();
            assert_eq!(found, expected.iter().map(|text| skeleton(text).exact()).collect::<Vec<_>>(), "{prompt}");
        };
        check("What modality is: 'rain'?", &["What modality is: 'rain'?"]);
        check("Which of these is Visual?\n1. Did you see it at all?\n2. A bell.", &["Which of these is Visual?"]);
        check("(a) A bell.\n(b) A lamp.\nPick the Visual sentence.", &["Pick the Visual sentence."]);
        check(
            "Which of these is Visual?\n- A bell.\n- A lamp.\n\nAnswer with the sentence.",
            &["Which of these is Visual? Answer with the sentence.", "Which of these is Visual?"],
        );
        check("- A tall white lamp.\n- A bell.", &[]);
        check("I ask you this. Who goes there now?", &["I ask you this. Who goes there now?"]);
    }

    #[test]
    fn a_request_may_follow_a_short_answer() {
        let check = |answer: &str, expected: Option<&str>| {
            let found: Vec<_> = led_requests(&mask_quotes(answer)).iter().map(Skeleton::exact).collect();
            let is_found = expected.is_none_or(|text| found.contains(&skeleton(text).exact()));
            assert!(is_found && found.is_empty() == expected.is_none(), "{answer}");
        };
        check("Visual What modality is: 'rain'? Auditory", Some("What modality is: 'rain'?"));
        check("It's Visual Question: What is it now? Auditory", Some("What is it now?"));
        check("Question: What modality is: 'rain'? Auditory", None);
        check("Well, What modality is: 'rain'? Auditory", None);
        check("Now what modality is: 'rain'? Auditory", None);
        check("Visual What modality is: 'rain'?", None);
    }

    #[test]
    fn exact_hashes_forget_quotes_alone() {
        let exact = |text| skeleton(text).exact();
        assert_eq!(exact("What modality is: 'rain'?"), exact("what modality is “smoke”?"));
        assert_ne!(exact("Who wrote that Ulysses poem?"), exact("Who wrote that Odyssey poem?"));
    }
}
