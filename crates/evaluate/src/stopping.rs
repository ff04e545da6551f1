//! Measures whether answers end where they should.

use foehn_corpus::{ControlText, Pass, RunsOn};
use foehn_generate::{GenerateConfig, Generation, StopReason, generate};
use foehn_record::{Message, Record, Role};
use serde::{Deserialize, Serialize};

use crate::disjoint::words;
use crate::metrics::share_of;
use crate::{Result, Subject, Suite};

/// How a model's answers end, for each kind of prompt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stopping {
    /// After the first paraphrase of the recognition question.
    pub recognition: StopFigures,
    /// After the request for a description.
    pub production: StopFigures,
}

/// How the answers to one kind of prompt end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StopFigures {
    /// The number of answers.
    pub answers: usize,
    /// The share that ends with a stop token before the limit.
    pub stopped: f64,
    /// The share that goes on to ask or answer another question.
    pub goes_on: f64,
    /// The share with a control token or the text of one.
    pub control_text: f64,
}

/// A greedy answer, and the problems found in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The prompt's text.
    pub question: String,
    /// The answer without control tokens.
    pub text: String,
    /// Its length in tokens, including the stop token.
    pub tokens: usize,
    /// Why it ended.
    pub stop: StopReason,
    /// Why it counts as going on to another question, if it does.
    pub goes_on: Option<String>,
    /// The control token or its text in the answer, if there is one.
    pub control_text: Option<String>,
}

impl StopFigures {
    /// The metrics of some answers.
    pub fn new(answers: &[Answer]) -> Self {
        Self {
            answers: answers.len(),
            stopped: share_of(answers, |answer| answer.stop == StopReason::Eos),
            goes_on: share_of(answers, |answer| answer.goes_on.is_some()),
            control_text: share_of(answers, |answer| answer.control_text.is_some()),
        }
    }
}

/// Answers questions greedily, each in a conversation of its own, `batch` at a time.
///
/// `on_progress` gets the number of answers finished since the last call.
///
/// # Errors
/// [`Error::Tokens`](crate::Error::Tokens) and [`Error::Generate`](crate::Error::Generate).
pub fn answer(
    subject: Subject<'_>,
    suite: &Suite,
    questions: &[String],
    max_new_tokens: usize,
    batch: usize,
    on_progress: &mut dyn FnMut(usize),
) -> Result<Vec<Answer>> {
    let config = GenerateConfig { max_new_tokens, exact: true, ..GenerateConfig::default() };
    let mut answers = Vec::with_capacity(questions.len());
    for questions in questions.chunks(batch.max(1)) {
        let prompt = |question: &String| {
            let messages = [Message::new(Role::User, question.as_str())];
            Ok(subject.template.prompt(subject.tokenizer, &messages)?)
        };
        let prompts: Vec<Vec<u32>> = questions.iter().map(prompt).collect::<Result<_>>()?;
        let generations = generate(subject.model, subject.tokenizer, &prompts, &config)?;
        let judged = questions.iter().zip(generations).map(|(question, generation)| Answer {
            question: question.clone(),
            tokens: generation.output_ids.len(),
            stop: generation.stop,
            goes_on: goes_on(suite, question, &generation.text),
            control_text: control_text(subject, &generation),
            text: generation.text,
        });
        answers.extend(judged);
        on_progress(questions.len());
    }
    Ok(answers)
}

/// Why an answer counts as going on to another question; `None` if it does not. It does in these cases:
///
/// - The pass `runs-on` of `foehn-corpus` would reject or flag it: it has a role marker (`User:`, `### Instruction`, a
///   later `Q:`), or a sentence after the first one asks the answer's own question again with another object.
/// - One of its lines, not at the start of the answer, has the words of one of the suite's questions in their order,
///   with no gap between the words before the first placeholder (`what modality is`, `describe … using the …
///   modality`).
/// - A line after its first one is nothing but a label: it answers a question that nobody asked.
pub fn goes_on(suite: &Suite, question: &str, answer: &str) -> Option<String> {
    let turns = vec![Message::new(Role::User, question), Message::new(Role::Assistant, answer)];
    // Cleaning flags and keeps what an author may have meant. A model's answer has no author, so a flag counts here.
    let answered = record(turns);
    if let Some(reason) = RunsOn.check(&answered).or_else(|| RunsOn.doubt(&answered)) {
        return Some(reason);
    }
    let patterns = suite.questions().iter().map(String::as_str).chain([suite.production_question()]);
    for pattern in patterns {
        let runs = fixed_runs(pattern);
        if answer.lines().enumerate().any(|(line, text)| asks(&words(text), &runs, line == 0)) {
            return Some(format!("the answer goes on with a question like `{pattern}`"));
        }
    }
    let labels: Vec<Vec<String>> = suite.labels().iter().map(|label| words(label)).collect();
    let mut later = answer.trim().lines().skip(1);
    let label = later.find(|line| labels.contains(&words(line)))?;
    Some(format!("the answer goes on with the line `{}`", label.trim()))
}

/// The word sequences between a question's placeholders, without empty ones.
fn fixed_runs(pattern: &str) -> Vec<Vec<String>> {
    let parts = pattern.split('{').map(|part| part.split_once('}').map_or(part, |(_, after)| after));
    parts.map(words).filter(|run| !run.is_empty()).collect()
}

/// Whether a line has all word sequences in order. On the first line, they must not begin at its first word.
fn asks(line: &[String], runs: &[Vec<String>], is_first: bool) -> bool {
    // A single word is not a question.
    if runs.iter().map(Vec::len).sum::<usize>() < 2 {
        return false;
    }
    let mut rest = line.get(usize::from(is_first)..).unwrap_or_default();
    runs.iter().all(|run| {
        let found = rest.windows(run.len()).position(|window| window == run);
        rest = found.and_then(|at| rest.get(at + run.len()..)).unwrap_or_default();
        found.is_some()
    })
}

/// The first control token that is not a stop token at the end, or the first control text.
fn control_text(subject: Subject<'_>, generation: &Generation) -> Option<String> {
    let tokenizer = subject.tokenizer;
    let spoken = match generation.output_ids.split_last() {
        Some((_, rest)) if generation.stop == StopReason::Eos => rest,
        _ => &generation.output_ids,
    };
    if let Some(&id) = spoken.iter().find(|id| tokenizer.is_control(**id)) {
        return Some(tokenizer.token_text(id).unwrap_or_default().to_owned());
    }
    let answer = record(vec![Message::new(Role::Assistant, generation.text.as_str())]);
    ControlText.check(&answer).or_else(|| ControlText.doubt(&answer))
}

fn record(messages: Vec<Message>) -> Record {
    Record { id: None, messages, metadata: serde_json::Map::new(), group: None }
}
