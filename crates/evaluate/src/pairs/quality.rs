//! The scorer that needs no judge but a model: faults that rules can see, and fluency.

use foehn_corpus::{OffTarget, Pass};
use foehn_generate::StopReason;
use foehn_mistral::Mistral;
use foehn_record::{Conversation, Message, Record};

use super::{AnswerScorer, Score, name, question_text, reference};
use crate::fluency::fluency;
use crate::text::{contains, normalised, quotes, repeats, words};
use crate::{Answer, Result, Subject};

/// Scores an answer by its mean log-likelihood a token under a model, in nats, less a cost for each fault.
///
/// The faults:
///
/// - it does not end with the stop token, goes on with a further question, or has control text;
/// - a run of three words stands twice in it;
/// - it has more than twice or less than half of the words of the record's own answer, if that has six words or more;
/// - it quotes what the question does not say, although the record's own answer does not;
/// - if the record's own answer is a label (at most five words) or stands in the question, it is another answer;
/// - with [`off_target`](Self::off_target), it has words of another class than the record's, or none of it.
#[derive(Clone, Debug)]
pub struct Quality<'a> {
    /// Its tokenizer and template render the answers.
    pub subject: Subject<'a>,
    /// The model that says how fluent an answer is: the base without an adapter, for the adapter's own likelihood is
    /// largest for what it repeats.
    pub judge: &'a Mistral,
    /// The classes of words, for records of the pass's tasks.
    pub off_target: Option<OffTarget>,
    /// What a fault costs, in nats.
    pub fault_cost: f64,
}

impl AnswerScorer for Quality<'_> {
    fn score(&mut self, record: &Record, answers: &[Answer]) -> Result<Vec<Score>> {
        let fluency = self.fluency(record, answers)?;
        let scored = answers.iter().zip(fluency).map(|(answer, fluency)| {
            let faults = self.faults(record, answer);
            Score { value: fluency - self.fault_cost * faults.len() as f64, faults }
        });
        Ok(scored.collect())
    }
}

/// Below this number of words an answer is a label.
const LABEL_WORDS: usize = 5;

/// The fluency of an answer without a token: as improbable as a token can well be.
const NOTHING_SAID: f64 = -20.0;

impl Quality<'_> {
    fn faults(&self, record: &Record, answer: &Answer) -> Vec<String> {
        let (question, own, said) = (question_text(record), reference(record), answer.text.as_str());
        let (own_words, said_words) = (words(own).len(), words(said).len());
        let is_given = |quote: &&str| contains(question, [*quote]);
        let is_closed = own_words <= LABEL_WORDS || contains(question, [own]);
        let off_target = self.off_target.as_ref();
        let found = [
            ("does not end", answer.stop != StopReason::Eos),
            ("goes on", answer.goes_on.is_some()),
            ("control text", answer.control_text.is_some()),
            ("repeats three words", repeats(said, 3)),
            ("too long", !is_closed && said_words > 2 * own_words),
            ("too short", !is_closed && 2 * said_words < own_words),
            ("quotes what is not said", quotes(own).iter().all(is_given) && !quotes(said).iter().all(is_given)),
            ("another answer", is_closed && normalised(said) != normalised(own)),
            ("words of another class", off_target.is_some_and(|pass| pass.check(&answered(record, said)).is_some())),
            ("no word of its class", off_target.is_some_and(|pass| lacks_class(pass, record, said))),
        ];
        found.into_iter().filter(|(_, holds)| *holds).map(|(fault, _)| fault.to_owned()).collect()
    }

    /// The mean log-likelihood of each answer's tokens.
    fn fluency(&self, record: &Record, answers: &[Answer]) -> Result<Vec<f64>> {
        let before = record.messages.split_last().map_or(&[][..], |(_, before)| before);
        let question = Conversation::from(record).with_messages(before);
        let asked: Vec<_> = answers.iter().map(|answer| (question, answer.text.as_str())).collect();
        let found = fluency(self.subject, self.judge, &asked, usize::MAX, |_| name(record))?;
        Ok(found.into_iter().map(|found| found.map_or(NOTHING_SAID, |(sum, tokens)| sum / tokens as f64)).collect())
    }
}

/// The record with another last answer.
fn answered(record: &Record, answer: &str) -> Record {
    let mut other = record.clone();
    other.messages.pop();
    other.messages.push(Message::assistant(answer.trim()));
    other
}

/// Whether a record of the pass's tasks has an answer without a word of its class.
fn lacks_class(pass: &OffTarget, record: &Record, said: &str) -> bool {
    let is_task = record.text("task").is_some_and(|task| pass.tasks.iter().any(|kept| kept == task));
    let class = pass.class_of(record).ok().filter(|_| is_task);
    class.is_some_and(|class| !pass.lexicon.classified(said).iter().any(|(_, found)| *found == class))
}
