//! Whether answers end, or go on to ask and answer by themselves.

use foehn_corpus::{Message, Pass, Record, Role, RunsOn};
use foehn_files::printable;
use foehn_generate::{GenerateConfig, StopReason, generate};

use super::case::{Case, Probes, spread};
use super::{Check, DoctorError, Finding, Severity};

const PROMPTS: usize = 3;

/// The longest answers, in tokens. Answers to the records' prompts get three times the record's length.
const SHORTEST_LIMIT: usize = 48;
const LONGEST_LIMIT: usize = 160;

/// Answers three prompts greedily, and looks how the answers end.
pub(super) fn self_talk(case: &Case<'_>) -> Result<Finding, DoctorError> {
    let what = if case.probes.are_data { "prompts of the records" } else { "general questions" };
    let looked_at = format!("greedy answers to three {what}");
    let measured = match &case.measured {
        Ok(measured) => measured,
        Err(reason) => return Ok(Finding::not_checked(Check::SelfTalk, looked_at, reason.to_string())),
    };
    let prompts = prompts(&case.probes);
    let (template, tokenizer) = (&case.base.template, &case.base.tokenizer);
    let rendered = prompts.iter().map(|prompt| template.prompt(tokenizer, prompt)).collect::<Result<Vec<_>, _>>();
    let rendered = rendered.map_err(foehn_generate::Error::from)?;
    let longest = case.probes.samples.iter().map(|sample| 3 * sample.supervised()).max().unwrap_or(0);
    let limit = if case.probes.are_data { longest.clamp(SHORTEST_LIMIT, LONGEST_LIMIT) } else { LONGEST_LIMIT };
    let config = GenerateConfig { max_new_tokens: limit, ..GenerateConfig::default() };
    let answers = generate(&measured.attached, tokenizer, &rendered, &config)?;
    let (mut goes_on, mut unstopped) = (Vec::new(), 0);
    for (prompt, answer) in prompts.into_iter().zip(&answers) {
        let prompt = prompt.messages;
        let question = prompt.last().map_or_else(String::new, |message| message.content.clone());
        let record = Record::new([prompt, vec![Message::assistant(answer.text.as_str())]].concat());
        if let Some(reason) = RunsOn.check(&record).or_else(|| RunsOn.doubt(&record)) {
            let (question, answer) = (excerpt(&question, 40), excerpt(&answer.text, 80));
            goes_on.push(format!("{}; asked `{question}`, it says `{answer}`", printable(reason)));
        }
        unstopped += usize::from(answer.stop != StopReason::Eos);
    }
    let all = answers.len();
    let mut stopped = format!("{} of {all} end with the stop token within {limit} tokens", all - unstopped);
    // To questions that it was not trained on, the base may not end its answers either.
    if unstopped > 1 && !case.probes.are_data {
        let answers = generate(&case.base.model, tokenizer, &rendered, &config)?;
        let of_base = answers.iter().filter(|answer| answer.stop != StopReason::Eos).count();
        stopped += &format!(", of the base's {}", all - of_base);
        unstopped = unstopped.saturating_sub(of_base);
    }
    let (severity, found) = match goes_on.first() {
        Some(first) => {
            let severity = if goes_on.len() > 1 { Severity::Fault } else { Severity::Warning };
            (severity, format!("{} of {all} go on to another turn: {first}; {stopped}", goes_on.len()))
        }
        None if unstopped > 1 => (Severity::Warning, stopped),
        None => (Severity::Sound, format!("none goes on to another turn; {stopped}")),
    };
    let finding = Finding::new(Check::SelfTalk, severity, looked_at, found);
    Ok(match severity {
        Severity::Sound => finding,
        _ => finding.advising("clean the data (answers that run on), and check that the stop token is trained"),
    })
}

/// Conversations that end with a message to answer, all different.
fn prompts(probes: &Probes) -> Vec<Record> {
    let mut prompts: Vec<Record> = Vec::new();
    for record in &probes.records {
        let before = record.messages.split_last().filter(|(last, _)| last.role == Role::Assistant);
        let Some((_, before)) = before else { continue };
        if !prompts.iter().any(|prompt| prompt.messages == before) {
            prompts.push(Record { tools: record.tools.clone(), ..Record::new(before.to_vec()) });
        }
    }
    spread(&prompts, PROMPTS).cloned().collect()
}

/// The beginning of a text, on one line.
fn excerpt(text: &str, length: usize) -> String {
    let cut: String = text.chars().take(length).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    format!("{}{dots}", printable(cut))
}
