//! Generates answers, and sees how they end.

use foehn_corpus::{ControlText, Pass, RunsOn};
use foehn_generate::{GenerateConfig, Generation, SamplingConfig, StopReason, generate};
use foehn_record::{Conversation, Message, Record};
use serde::{Deserialize, Serialize};

use crate::measure::{Better, Measure, share};
use crate::run::rendered;
use crate::text::{distinct, repeats, words};
use crate::{EvaluateConfig, Judge, Result, Scorer, Subject, Task};

/// How answers are generated where the text is judged, not a label.
///
/// Labels, and answers that [`Scorer::Contains`] checks, are generated greedily: one is right or not. Descriptions and
/// texts are generated as a user gets them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Decoding {
    /// How tokens are chosen. The seed and the stream are not used.
    pub sampling: SamplingConfig,
    /// Every question is answered once with each of these seeds; with the greedy choice, only once.
    pub seeds: Vec<u64>,
}

impl Default for Decoding {
    /// Greedy; if sampling is set, three seeds.
    fn default() -> Self {
        Self { sampling: SamplingConfig::default(), seeds: vec![0, 1, 2] }
    }
}

impl Decoding {
    /// How the answers of a task are generated.
    pub(crate) fn of(&self, task: &Task) -> Self {
        let is_closed = match &task.judge {
            Judge::Choice(_) => true,
            Judge::Text(scorers) => scorers.contains(&Scorer::Contains),
            Judge::Describe(_) | Judge::Likelihood => false,
        };
        let greedy = SamplingConfig::default();
        match is_closed || self.sampling.temperature == 0.0 && self.sampling.repetition_penalty == 1.0 {
            true => Self { sampling: greedy, seeds: vec![0] },
            false if self.sampling.temperature == 0.0 => Self { seeds: vec![0], ..self.clone() },
            false => self.clone(),
        }
    }
}

impl std::fmt::Display for Decoding {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let SamplingConfig { temperature, top_k, top_p, min_p, repetition_penalty, .. } = &self.sampling;
        match *temperature > 0.0 {
            true => write!(formatter, "temperature {temperature}")?,
            false => write!(formatter, "greedy")?,
        }
        if let Some(top_k) = top_k {
            write!(formatter, ", top-k {top_k}")?;
        }
        if let Some(top_p) = top_p {
            write!(formatter, ", top-p {top_p}")?;
        }
        if let Some(min_p) = min_p {
            write!(formatter, ", min-p {min_p}")?;
        }
        if *repetition_penalty != 1.0 {
            write!(formatter, ", repetition penalty {repetition_penalty}")?;
        }
        match self.seeds.len() {
            1 => Ok(()),
            seeds => write!(formatter, ", {seeds} seeds"),
        }
    }
}

/// A generated answer, and the problems found in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
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

impl Answer {
    /// A generation as the answer to a question; `patterns` and `labels` as for [`goes_on`].
    pub(crate) fn of(
        subject: Subject<'_>,
        patterns: &[String],
        labels: &[String],
        question: &str,
        generation: Generation,
    ) -> Self {
        Self {
            tokens: generation.output_ids.len(),
            stop: generation.stop,
            goes_on: goes_on(patterns, labels, question, &generation.text),
            control_text: control_text(subject, &generation),
            text: generation.text,
        }
    }

    /// A text that a person wrote as an answer: nothing is wrong with how it ends.
    pub(crate) fn whole(text: &str) -> Self {
        Self { text: text.to_owned(), tokens: 0, stop: StopReason::Eos, goes_on: None, control_text: None }
    }
}

/// The answers to some of a task's items, one for each seed; none to the other items.
pub(crate) fn answer(
    subject: Subject<'_>,
    task: &Task,
    asked: &[usize],
    config: &EvaluateConfig,
    on_progress: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<Answer>>> {
    let decoding = config.decoding.of(task);
    let mut answers = vec![Vec::new(); task.items.len()];
    for &seed in &decoding.seeds {
        for (chunk, asked) in asked.chunks(config.batch).enumerate() {
            let prompt = |at: &usize| {
                let item = &task.items[*at];
                let prompt = item.prompts.first().map_or(&[][..], Vec::as_slice);
                let prompt = Conversation { messages: prompt, tools: &item.tools };
                subject.template.prompt(subject.tokenizer, prompt).map_err(|source| rendered(item, source))
            };
            let prompts = asked.iter().map(prompt).collect::<Result<Vec<_>>>()?;
            // The random stream of an answer is its item's, whatever the batch.
            let sampling = SamplingConfig { seed, stream: (chunk * config.batch) as u64, ..decoding.sampling.clone() };
            let generate_config = GenerateConfig {
                max_new_tokens: task.max_new_tokens,
                sampling,
                exact: true,
                ..GenerateConfig::default()
            };
            let generations = generate(subject.model, subject.tokenizer, &prompts, &generate_config)?;
            for (&at, generation) in asked.iter().zip(generations) {
                let question = task.items[at].question();
                answers[at].push(Answer::of(subject, &task.patterns, task.labels(), question, generation));
            }
            on_progress(asked.len());
        }
    }
    Ok(answers)
}

/// How answers end, and whether they repeat themselves.
pub(crate) fn figures(answers: &[Vec<Answer>]) -> Vec<Measure> {
    use Better::{Higher, Lower, Neither};
    let each = |name: &str, better, value: &dyn Fn(&Answer) -> f64| {
        Measure::mean(&format!("answers/{name}"), better, answers.iter().map(|answers| mean_of(answers, value)))
    };
    vec![
        each("end in the stop token", Higher, &|answer| share(answer.stop == StopReason::Eos)),
        each("go on to a further question", Lower, &|answer| share(answer.goes_on.is_some())),
        each("control text", Lower, &|answer| share(answer.control_text.is_some())),
        each("repeat three words", Lower, &|answer| share(repeats(&answer.text, 3))),
        each("distinct-2", Higher, &|answer| distinct(&answer.text, 2)),
        each("words", Neither, &|answer| answer.text.split_whitespace().count() as f64),
    ]
}

/// The mean over an item's answers; `None` if there is none.
pub(crate) fn mean_of(answers: &[Answer], value: impl Fn(&Answer) -> f64) -> Option<f64> {
    let sum: f64 = answers.iter().map(value).sum();
    (!answers.is_empty()).then(|| sum / answers.len() as f64)
}

/// Why an answer counts as going on to another question; `None` if it does not. It does in these cases:
///
/// - The pass `runs-on` of `foehn-corpus` would reject or flag it: it has a role marker (`User:`, `### Instruction`, a
///   later `Q:`), or a sentence after the first one asks the answer's own question again with another object.
/// - One of its lines, not at the start of the answer, has the words of one of the task's `patterns` in their order,
///   with no gap between the words before the first placeholder (`what queue is`, `describe … using the … sense`).
/// - A line after its first one is nothing but a label: it answers a question that nobody asked.
pub fn goes_on(patterns: &[String], labels: &[String], question: &str, answer: &str) -> Option<String> {
    // Cleaning flags and keeps what an author may have meant. A model's answer has no author, so a flag counts here.
    let answered = Record::pair(question, answer);
    if let Some(reason) = RunsOn.check(&answered).or_else(|| RunsOn.doubt(&answered)) {
        return Some(reason);
    }
    for pattern in patterns {
        let runs = fixed_runs(pattern);
        if answer.lines().enumerate().any(|(line, text)| asks(&words(text), &runs, line == 0)) {
            return Some(format!("the answer goes on with a question like `{pattern}`"));
        }
    }
    let labels: Vec<Vec<String>> = labels.iter().map(|label| words(label)).collect();
    let mut later = answer.trim().lines().skip(1);
    let label = later.find(|line| labels.contains(&words(line)))?;
    Some(format!("the answer goes on with the line `{}`", label.trim()))
}

/// The word sequences between a pattern's placeholders, without empty ones.
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
    let answer = Record::new(vec![Message::assistant(generation.text.as_str())]);
    ControlText.check(&answer).or_else(|| ControlText.doubt(&answer))
}
