//! How probable answers are to a model that did not write them.

use foehn_mistral::Mistral;
use foehn_record::{Conversation, Message};

use crate::measure::{Better, Measure};
use crate::{Answer, Error, Result, Subject, Task};

/// The sum of the log-probabilities of an answer's tokens and their number.
pub(crate) type Fluency = (f64, usize);

/// The fluency of each answer to its conversation, by a model; `None` for an answer without a text. `place` is for
/// errors.
pub(crate) fn fluency(
    subject: Subject<'_>,
    judge: &Mistral,
    asked: &[(Conversation<'_>, &str)],
    max_rows: usize,
    place: impl Fn(usize) -> String,
) -> Result<Vec<Option<Fluency>>> {
    let spoken: Vec<usize> = (0..asked.len()).filter(|at| !asked[*at].1.trim().is_empty()).collect();
    let sample = |at: &usize| {
        let (question, answer) = asked[*at];
        let before = question.messages.iter().map(|message| Message { weight: Some(0), ..message.clone() });
        let messages: Vec<Message> = before.chain([Message::assistant(answer.trim())]).collect();
        Ok(subject.template.sample(subject.tokenizer, question.with_messages(&messages))?)
    };
    let samples = spoken.iter().map(sample).collect::<Result<Vec<_>>>()?;
    let found = foehn_score::log_probs(judge, &samples.iter().collect::<Vec<_>>(), max_rows);
    let found = found.map_err(|not_finite| {
        let at = spoken[not_finite.sample];
        Error::NonFiniteScore { place: place(at), text: asked[at].1.to_owned(), value: not_finite.value.into() }
    })?;
    let mut all = vec![None; asked.len()];
    for (at, log_probs) in spoken.into_iter().zip(found) {
        all[at] = Some((log_probs.iter().copied().map(f64::from).sum(), log_probs.len()));
    }
    Ok(all)
}

/// The mean log-likelihood of a token of the answers by the judge.
pub(crate) fn measure(
    subject: Subject<'_>,
    judge: &Mistral,
    task: &Task,
    answers: &[Vec<Answer>],
    max_rows: usize,
) -> Result<Measure> {
    let (mut items, mut asked) = (Vec::new(), Vec::new());
    for (at, (item, answers)) in task.items.iter().zip(answers).enumerate() {
        let messages = item.prompts.first().map_or(&[][..], Vec::as_slice);
        let prompt = Conversation { messages, tools: &item.tools };
        asked.extend(answers.iter().map(|answer| (prompt, answer.text.as_str())));
        items.resize(asked.len(), at);
    }
    let found = fluency(subject, judge, &asked, max_rows, |at| task.items[items[at]].place.clone())?;
    let mut parts: Vec<Option<(f64, f64)>> = vec![None; answers.len()];
    for (item, (sum, tokens)) in items.into_iter().zip(found).filter_map(|(item, found)| Some((item, found?))) {
        let part = parts[item].get_or_insert_default();
        *part = (part.0 + sum, part.1 + tokens as f64);
    }
    Ok(Measure::new("answers/log-likelihood per token by the base", Better::Higher, parts))
}
