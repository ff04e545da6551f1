//! Answers that continue with further turns or questions.

use super::skeleton::{Skeleton, asks_for_turns, later_requests, leads_in, led_requests, requests};
use super::{Pass, Verdict};
use crate::text::{mask_quotes, sentences};
use foehn_record::{Record, Role};

/// Rejects a record whose answer does not stop: it has the role marker of another turn (`User:`, `[User]`, `###
/// Instruction`, a `Q:` after its first line), or asks the user's question again with another object.
///
/// The question is asked again if a sentence after the first one has 60% of the prompt's words in order, with quoted
/// spans and capitalised words masked, and if it is a question or, like the prompt, begins with the same verb. If the
/// prompt has a list, the text beside the list is compared, and each question in it. If there is no mark between the
/// question and an answer of one to three words before it, the question must be of the prompt's kind, as in
/// [`AsksAgain`](super::AsksAgain).
///
/// A role marker alone may be intended: in a dialogue that was asked for, a table of fields, a quiz. Then the record is
/// flagged.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunsOn;

impl Pass for RunsOn {
    fn name(&self) -> &'static str {
        "runs-on"
    }

    fn check(&self, record: &Record) -> Option<String> {
        find(record, Verdict::Reject)
    }

    fn doubt(&self, record: &Record) -> Option<String> {
        find(record, Verdict::Flag)
    }
}

/// What the user has asked for so far.
#[derive(Default)]
struct Asked {
    requests: Vec<Skeleton>,
    /// Whether the user asked for questions, turns, or a text that shows them.
    turns: bool,
}

/// The first answer that runs on, if it has the given verdict.
fn find(record: &Record, verdict: Verdict) -> Option<String> {
    let mut asked = Asked::default();
    for (at, message) in record.messages.iter().enumerate() {
        match message.role {
            Role::System | Role::Tool => {}
            Role::User => {
                let masked = mask_quotes(&message.content);
                asked = Asked { requests: requests(&masked), turns: asked.turns || asks_for_turns(&masked) };
            }
            Role::Assistant => {
                if let Some((found, marker)) = role_marker(&message.content, &asked)
                    && found == verdict
                {
                    return Some(format!("the answer goes on with `{marker}` (message {})", at + 1));
                }
                if asks_again(&mask_quotes(&message.content), &asked) == Some(verdict) {
                    return Some(format!("the answer asks the question again (message {})", at + 1));
                }
            }
        }
    }
    None
}

/// Whether the masked answer makes one of the prompt's requests again. It is rejected if it also answers the request,
/// and nothing shows that this was intended.
fn asks_again(masked: &str, asked: &Asked) -> Option<Verdict> {
    let leads = leads_in(masked);
    let again = later_requests(masked).filter_map(|request| {
        let prompt = asked.requests.iter().find(|prompt| request.resembles(prompt))?;
        let has_own_object = request.quotes() || (!leads && request.exact() != prompt.exact());
        Some(request.is_answered() && has_own_object)
    });
    let led = led_requests(masked);
    let led = led.iter().any(|request| asked.requests.iter().any(|prompt| request.is_of_kind(prompt)));
    let sure = again.chain(led.then_some(true)).max()?;
    Some(if sure && !asked.turns { Verdict::Reject } else { Verdict::Flag })
}

/// The role whose turn a marker begins.
#[derive(Clone, Copy, PartialEq)]
enum Speaker {
    User,
    Assistant,
}

/// The first role marker at the start of a line or a sentence, and its verdict.
///
/// The answer is rejected in three cases: if, after some text, a marker of the user is followed by one of the
/// assistant, and the user has not asked for turns; if the text after the user's marker is the prompt with another
/// object; and if the answer begins with the assistant's own marker.
fn role_marker<'a>(answer: &'a str, asked: &Asked) -> Option<(Verdict, &'a str)> {
    let sentences = sentences(answer);
    let markers: Vec<(usize, Speaker, &str, &str)> = sentences
        .iter()
        .enumerate()
        .filter_map(|(at, sentence)| {
            let bare = sentence.trim_start_matches(['*', '_', '>', ' ']);
            let end = heading(bare).or_else(|| bracketed(bare)).or_else(|| speaker(bare, at == 0))?;
            Some((at, whose(&bare[..end]), &bare[..end], &bare[end..]))
        })
        .collect();
    let &(first, who, marker, _) = markers.first()?;
    let is_prompt = |rest: &str| {
        let masked = mask_quotes(rest.trim_start_matches([':', '*', '_', ' ']));
        asked.requests.iter().any(|prompt| Skeleton::new(&masked).resembles(prompt))
    };
    let repeats = markers.iter().any(|(at, who, _, rest)| {
        *who == Speaker::User && (is_prompt(rest) || sentences.get(at + 1).is_some_and(|next| is_prompt(next)))
    });
    let is_table = fields(answer) > 1;
    let after_answer = first > 0 && !sentences[first - 1].ends_with(':');
    let is_exchange = who == Speaker::User && sentences[first..].iter().any(|sentence| is_reply(sentence));
    let own_name = first == 0 && who == Speaker::Assistant && markers.len() == 1;
    let sure = repeats || (!asked.turns && !is_table && (own_name || (after_answer && is_exchange)));
    Some((if sure { Verdict::Reject } else { Verdict::Flag }, marker))
}

/// Whether the sentence begins like an assistant's turn.
fn is_reply(sentence: &str) -> bool {
    let bare = sentence.trim_start_matches(['*', '_', '>', '#', '[', ' ']);
    ["assistant", "response", "answer", "a"].iter().any(|name| {
        let start = bare
            .get(..name.len())
            .filter(|start| start.eq_ignore_ascii_case(name) && bare.starts_with(char::is_uppercase));
        start.is_some() && bare[name.len()..].starts_with([':', ']', '*'])
    })
}

/// The number of lines that are fields with a name that is not a role: `Port: 22`.
fn fields(text: &str) -> usize {
    let is_field = |line: &&str| {
        line.split_once(':').is_some_and(|(name, value)| {
            let is_name = name.starts_with(char::is_alphabetic) && name.split_whitespace().count() == 1;
            is_name && value.starts_with(' ') && !is_reply(line) && speaker(line, false).is_none() && !is_asking(value)
        })
    };
    text.lines().map(str::trim).filter(is_field).count()
}

fn is_asking(value: &str) -> bool {
    value.trim_end().ends_with('?')
}

fn whose(marker: &str) -> Speaker {
    let marker = marker.to_ascii_lowercase();
    if ["assistant", "response"].iter().any(|name| marker.contains(name)) { Speaker::Assistant } else { Speaker::User }
}

/// The end of `### Instruction`, the role marker of Alpaca's and Vicuna's prompts.
fn heading(line: &str) -> Option<usize> {
    let rest = line.strip_prefix("###")?.trim_start();
    let role =
        ["Instruction", "Response", "Human", "Assistant", "User"].into_iter().find(|role| rest.starts_with(role))?;
    let after = rest[role.len()..].trim_start();
    let is_marker = after.is_empty() || after.starts_with(':');
    is_marker.then_some(line.len() - rest.len() + role.len())
}

/// The end of `[User]`.
fn bracketed(line: &str) -> Option<usize> {
    let (name, _) = line.strip_prefix('[')?.split_once(']')?;
    is_role(name).then_some(name.len() + 2)
}

/// The end of `User:`, or of `Q:` in an answer that does not begin with one.
fn speaker(line: &str, is_first: bool) -> Option<usize> {
    let colon = line.char_indices().take(16).find(|(_, c)| *c == ':')?.0;
    let name = line[..colon].trim_end_matches(['*', '_', ' ']);
    let numbered = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let is_question = !is_first && ["Q", "Question"].contains(&numbered.trim_end());
    (is_role(name) || is_question).then_some(colon + 1)
}

/// Whether the name is a role with a capital, as in a marker.
fn is_role(name: &str) -> bool {
    name.starts_with(char::is_uppercase) && ["user", "human", "assistant"].contains(&name.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(prompt: &str, answer: &str) -> Record {
        Record::pair(prompt, answer)
    }

    #[track_caller]
    fn check(prompt: &str, answer: &str, runs_on: bool) {
        assert_eq!(RunsOn.check(&record(prompt, answer)).is_some(), runs_on, "{prompt} / {answer}");
    }

    const ASKED: &str = "What modality is: 'Her eyes sparkled'?";
    const CHOOSE: &str = "Which of these is Visual?\n1. Did you hear a bell?\n2. A lamp hung there.\nGive it in full.";

    #[test]
    fn another_turn_is_seen() {
        for answer in [
            "Visual\nUser: What modality is: 'a bell rang'?\nAssistant: Auditory",
            "Visual\n\n### Instruction:\nName it.\n\n### Response:\nVisual",
            "Visual. Q: and 'a bell'? A: Auditory",
            "Visual\n**Human:** thanks\n**Assistant:** Gladly.",
            "Visual. [HUMAN]: Thanks! [ASSISTANT]: Gladly.",
            "ASSISTANT: Visual",
            "Visual\n[User] What about 'a bell'?\n[Assistant] Auditory",
            "Visual\nWhat modality is: 'That's music to my ears'?\nAuditory",
            "Visual. What modality is: 'Stop! It hurts'? Kinesthetic.",
            "Visual What modality is: 'a bell'? Auditory.",
            "It's Visual Question: What modality is 'a bell'? Answer: Auditory.",
        ] {
            check(ASKED, answer, true);
        }
        check(CHOOSE, "2. A lamp hung there.\nWhich of these is Olfactory?\n1. Smoke.\n1. Smoke.", true);
        check("1. A bell.\n2. A lamp.\nPick the Visual sentence.", "2. A lamp.\nPick the Tactile sentence.\n1.", true);
        check(
            "Describe a storm using the Visual modality.",
            "Grey light flickers. Describe a beach using the Auditory modality. Gulls cry.",
            true,
        );
    }

    #[test]
    fn an_answer_is_not() {
        check(ASKED, "Visual", false);
        check(ASKED, "What modality is it? It is Visual.", false);
        check("Why is 'a bell rang' Auditory?", "Rang is heard. A bell speaks to the ear alone.", false);
        check("Write three questions.", "Q: One?\nWho is it? Where are they now?", false);
        check("Explain users.", "There are two kinds. User accounts: the first kind.", false);
        check("Explain forms.", "There are blanks.\n[user] and [Users online] are two.\n[1] User.", false);
        check(ASKED, "Question: What modality is: 'Her eyes sparkled'? Answer: Visual.", false);
        check(ASKED, "Visual What else? Nothing.", false);
        check(&CHOOSE.replace("Visual", "Auditory"), "1. Did you hear a bell?", false);
        check("I feel sad today, my friend.", "Sorry. I feel sad today too, my friend.", false);
        check("How do I write a good test?", "Be brief. How do I know that it is good? Run it.", false);
    }
}
