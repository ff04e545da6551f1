//! A scorer that is another program.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use foehn_record::Record;
use serde::Serialize;

use super::{AnswerScorer, Score, name, reference};
use crate::{Answer, Error, Result};

/// Scores answers with a program of the user's own, which a shell runs once.
///
/// For each record the program reads one line of JSON, `{"id": …, "messages": […], "reference": "…", "answers": ["…",
/// …]}`: the conversation up to the question, the record's own answer and the answers to judge. It writes one line with
/// a list of as many numbers; larger is better.
#[derive(Debug)]
pub struct CommandScorer {
    command: String,
    program: Child,
    questions: ChildStdin,
    scores: BufReader<ChildStdout>,
}

#[derive(Serialize)]
struct Request<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    messages: &'a [foehn_record::Message],
    reference: &'a str,
    answers: Vec<&'a str>,
}

impl CommandScorer {
    /// Starts the program.
    ///
    /// # Errors
    /// [`Error::Scorer`] if it cannot be started.
    pub fn new(command: &str) -> Result<Self> {
        let failed = |reason: String| Error::Scorer { command: command.to_owned(), reason };
        let started = Command::new("sh").arg("-c").arg(command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut program = started.map_err(|error| failed(error.to_string()))?;
        let (questions, scores) = (program.stdin.take(), program.stdout.take());
        let (Some(questions), Some(scores)) = (questions, scores) else {
            return Err(failed("its input or output is closed".to_owned()));
        };
        Ok(Self { command: command.to_owned(), program, questions, scores: BufReader::new(scores) })
    }

    fn failed(&self, reason: impl ToString) -> Error {
        Error::Scorer { command: self.command.clone(), reason: reason.to_string() }
    }
}

impl AnswerScorer for CommandScorer {
    fn score(&mut self, record: &Record, answers: &[Answer]) -> Result<Vec<Score>> {
        let messages = record.messages.split_last().map_or(&[][..], |(_, before)| before);
        let answers: Vec<&str> = answers.iter().map(|answer| answer.text.as_str()).collect();
        let request = Request { id: record.id.as_deref(), messages, reference: reference(record), answers };
        let mut line = serde_json::to_vec(&request).map_err(|error| self.failed(error))?;
        line.push(b'\n');
        let ended = || format!("it ended before it scored the answers to {}", name(record));
        let written = self.questions.write_all(&line).and_then(|()| self.questions.flush());
        written.map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => self.failed(ended()),
            _ => self.failed(error),
        })?;
        let mut said = String::new();
        self.scores.read_line(&mut said).map_err(|error| self.failed(error))?;
        if said.is_empty() {
            return Err(self.failed(ended()));
        }
        let values: Vec<f64> = serde_json::from_str(said.trim())
            .map_err(|_| self.failed(format!("it wrote `{}`, expected a list of numbers", said.trim())))?;
        Ok(values.into_iter().map(|value| Score { value, faults: Vec::new() }).collect())
    }
}

impl Drop for CommandScorer {
    fn drop(&mut self) {
        // A program that still runs waits for a line that does not come.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
