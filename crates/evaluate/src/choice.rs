//! Measures which label is most likely as the answer.

use std::collections::HashMap;

use foehn_record::Message;
use foehn_tokens::Sample;

use crate::calibration::Reliability;
use crate::measure::{Better, Classified, Measure, share};
use crate::metrics::{argmax, softmax};
use crate::run::{Subject, rendered, score};
use crate::{Choice, Error, Item, Result};

/// The characters of an answer after its label that are rendered behind each label, so that the label's tokens are
/// those that it has there.
const AFTER: usize = 8;

/// The scores of one item's labels or options.
pub(crate) struct Scores {
    /// `given[prompt][option]`: summed log-likelihoods of the option's tokens as the answer.
    pub given: Vec<Vec<f64>>,
    /// The same after the questions without their content.
    pub prior: Vec<Vec<f64>>,
}

/// The options as answers to one prompt.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Request<'a> {
    prompt: &'a [Message],
    tools: &'a [serde_json::Value],
    before: &'a str,
    after: String,
    options: &'a [String],
}

/// Scores every option of every item.
///
/// The score of an option is the sum of the log-likelihoods of its tokens. The stop token belongs to it if the answer
/// ends with its label. If one option's tokens are the beginning of another's, the token that follows belongs to each.
pub(crate) fn score_options(
    subject: Subject<'_>,
    choice: &Choice,
    items: &[Item],
    max_rows: usize,
    on_progress: &mut dyn FnMut(usize),
) -> Result<Vec<Scores>> {
    let written: Vec<String> = choice.labels.iter().map(|label| choice.rule.written(label)).collect();
    let mut requests: Vec<(Request<'_>, &Item)> = Vec::new();
    let mut number: HashMap<Request<'_>, usize> = HashMap::new();
    let mut request = |prompt, item, before, after: &str| {
        let options = Item::options(item, &written);
        let request = Request { prompt, tools: &item.tools, before, after: after.to_owned(), options };
        *number.entry(request.clone()).or_insert_with(|| {
            requests.push((request, item));
            requests.len() - 1
        })
    };
    let prompts = items.iter().map(|item| item.prompts.len()).max().unwrap_or(0);
    let mut wanted: Vec<Vec<[usize; 2]>> = vec![Vec::new(); items.len()];
    for at in 0..prompts {
        for (item, wanted) in items.iter().zip(&mut wanted) {
            let (Some(prompt), Some(free)) = (item.prompts.get(at), item.content_free.get(at)) else { continue };
            let (before, after) = around(choice, item);
            wanted.push([request(prompt, item, before, after), request(free, item, before, after)]);
        }
    }
    let mut samples = Vec::new();
    for (request, item) in &requests {
        samples.extend(candidates(subject, request, item)?);
    }
    let places: Vec<(&Item, &str)> = requests
        .iter()
        .flat_map(|(request, item)| request.options.iter().map(|option| (*item, option.as_str())))
        .collect();
    let sums = score(subject, &samples, &places, max_rows, on_progress)?;
    let mut rest = sums.iter().map(|log_probs| log_probs.iter().copied().map(f64::from).sum::<f64>());
    let scores: Vec<Vec<f64>> =
        requests.iter().map(|(request, _)| rest.by_ref().take(request.options.len()).collect()).collect();
    let of = |wanted: &[[usize; 2]], which: usize| wanted.iter().map(|pair| scores[pair[which]].clone()).collect();
    Ok(wanted.iter().map(|wanted| Scores { given: of(wanted, 0), prior: of(wanted, 1) }).collect())
}

/// The number of samples that [`score_options`] scores, at most.
pub(crate) fn count(choice: &Choice, items: &[Item]) -> usize {
    items.iter().map(|item| 2 * item.prompts.len() * Item::options(item, &choice.labels).len()).sum()
}

/// The answer before and after its label; nothing after it if the answer ends there.
fn around<'a>(choice: &Choice, item: &'a Item) -> (&'a str, &'a str) {
    let answer = item.reference.as_str();
    let label = choice.labels.get(item.truth).map_or(&[][..], std::slice::from_ref);
    let Some(place) = choice.rule.find(answer, label).filter(|_| item.options.is_empty()) else { return ("", "") };
    let after = &answer[place.end..];
    let after = if after.trim().is_empty() { "" } else { after };
    let end = after.char_indices().nth(AFTER).map_or(after.len(), |(at, _)| at);
    (answer[..place.start].trim_start(), &after[..end])
}

/// An option as the answer: the sample, and the rows of its tokens.
struct Candidate {
    sample: Sample,
    from: usize,
    to: usize,
}

fn candidates(subject: Subject<'_>, request: &Request<'_>, item: &Item) -> Result<Vec<Sample>> {
    let made = request.options.iter().map(|option| candidate(subject, request, item, option));
    let made: Vec<Candidate> = made.collect::<Result<_>>()?;
    let tokens = |candidate: &Candidate| candidate.sample.input_ids()[candidate.from..candidate.to].to_vec();
    let all: Vec<Vec<u32>> = made.iter().map(tokens).collect();
    let is_start = |short: &Vec<u32>| all.iter().any(|long| long.len() > short.len() && long.starts_with(short));
    let more = usize::from(all.iter().any(is_start));
    let cut = |Candidate { sample, from, to }: Candidate| {
        let to = (to + more).min(sample.len());
        let mask = (0..to).map(|at| at >= from).collect();
        let ids = sample.input_ids()[..to].to_vec();
        Sample::new(ids, mask).map_err(|source| rendered(item, source))
    };
    made.into_iter().map(cut).collect()
}

fn candidate(subject: Subject<'_>, request: &Request<'_>, item: &Item, option: &str) -> Result<Candidate> {
    let said = format!("{}{option}", request.before);
    let answer = Message::assistant(format!("{said}{}", request.after));
    let messages: Vec<Message> = request.prompt.iter().cloned().chain([answer]).collect();
    let sample = subject.sample(item, &messages)?;
    let first = sample.loss_mask().iter().position(|trained| *trained).unwrap_or(sample.len());
    // A template may write more after the stop token.
    let end = sample.loss_mask().iter().rposition(|trained| *trained).map_or(first, |last| last + 1);
    let trained = &sample.input_ids()[first..end];
    let text = |tokens: usize| subject.tokenizer.decode(&trained[..tokens], true);
    // Decoding may drop a space at the start, which a template can have put there.
    let begins = |long: &str, short: &str| long.trim_start().starts_with(short.trim_start());
    let before = first_token(trained.len(), |tokens| !begins(request.before, &text(tokens))) - 1;
    let to = match request.after.is_empty() {
        true => trained.len(),
        false => first_token(trained.len(), |tokens| begins(&text(tokens), &said)),
    };
    if to > trained.len() || before >= to {
        return Err(Error::LabelNotRendered { place: item.place.clone(), label: option.to_owned() });
    }
    let from = if request.before.is_empty() { first } else { first + before };
    Ok(Candidate { from, to: first + to, sample })
}

/// The smallest number of tokens from 1 that has a property which stays once it holds; one more than there are if none
/// has it.
fn first_token(tokens: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (1, tokens + 1);
    while low < high {
        let middle = low.midpoint(high);
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

/// The figures of one run's scores.
pub(crate) struct ChoiceFigures {
    pub measures: Vec<Measure>,
    pub classified: Vec<Classified>,
    pub reliability: Reliability,
    pub predicted: Vec<usize>,
}

impl ChoiceFigures {
    /// An item has one prediction: the option with the best mean score over all prompts.
    pub fn new(items: &[Item], scores: &[Scores]) -> Self {
        let means: Vec<Vec<f64>> = scores.iter().map(|scores| mean_scores(&scores.given)).collect();
        let lifted: Vec<Vec<f64>> =
            scores.iter().map(|scores| mean_scores(&minus(&scores.given, &scores.prior))).collect();
        let best = |means: &[Vec<f64>]| -> Vec<usize> { means.iter().map(|mean| argmax(mean)).collect() };
        let (predicted, corrected) = (best(&means), best(&lifted));
        let probabilities: Vec<Vec<f64>> = means.iter().map(|mean| softmax(mean)).collect();
        let right = |predicted: &[usize]| -> Vec<Option<f64>> {
            items.iter().zip(predicted).map(|(item, predicted)| Some(share(item.truth == *predicted))).collect()
        };
        let brier = |(item, probabilities): (&Item, &Vec<f64>)| {
            let squares = probabilities.iter().enumerate();
            Some(squares.map(|(option, found)| (found - share(option == item.truth)).powi(2)).sum::<f64>())
        };
        let mut measures = vec![
            Measure::mean("likelihood/accuracy", Better::Higher, right(&predicted)),
            Measure::mean("likelihood/Brier score", Better::Lower, items.iter().zip(&probabilities).map(brier)),
        ];
        let prompts = items.iter().map(|item| item.prompts.len()).max().unwrap_or(0);
        if prompts > 1 {
            let agrees = |scores: &Scores| {
                let mut said = scores.given.iter().map(|scores| argmax(scores));
                Some(share(said.next().is_none_or(|first| said.all(|label| label == first))))
            };
            measures.push(Measure::mean(
                "likelihood/same label for all prompts",
                Better::Higher,
                scores.iter().map(agrees),
            ));
            for prompt in 0..prompts {
                let by = |(item, scores): (&Item, &Scores)| {
                    scores.given.get(prompt).map(|scores| share(argmax(scores) == item.truth))
                };
                let name = format!("likelihood/accuracy, prompt {}", prompt + 1);
                measures.push(Measure::mean(&name, Better::Higher, items.iter().zip(scores).map(by)));
            }
        }
        if items.iter().any(|item| !item.options.is_empty()) {
            // As lm-evaluation-harness: by the option's length in bytes.
            let by_length = |(item, mean): (&Item, &Vec<f64>)| {
                let scaled: Vec<f64> =
                    mean.iter().zip(&item.options).map(|(score, option)| score / option.len() as f64).collect();
                Some(share(argmax(&scaled) == item.truth))
            };
            let name = "likelihood/accuracy, by length";
            measures.push(Measure::mean(name, Better::Higher, items.iter().zip(&means).map(by_length)));
        }
        measures.push(Measure::mean("prior-corrected/accuracy", Better::Higher, right(&corrected)));
        let confidence = |(probabilities, at): (&Vec<f64>, &usize)| probabilities.get(*at).copied().unwrap_or(0.0);
        let sure: Vec<f64> = probabilities.iter().zip(&predicted).map(confidence).collect();
        let is_right: Vec<bool> =
            items.iter().zip(&predicted).map(|(item, predicted)| item.truth == *predicted).collect();
        let reliability = Reliability::new(&sure, &is_right);
        let classified = |by: &str, predicted: &[usize], confidence: Vec<f64>| Classified {
            by: by.to_owned(),
            predicted: predicted.iter().copied().map(Some).collect(),
            confidence,
        };
        let by_likelihood = classified("likelihood", &predicted, sure);
        Self {
            measures,
            classified: vec![by_likelihood, classified("prior-corrected", &corrected, Vec::new())],
            reliability,
            predicted,
        }
    }
}

/// The mean over the prompts.
fn mean_scores(scores: &[Vec<f64>]) -> Vec<f64> {
    let options = scores.first().map_or(0, Vec::len);
    let of = |option: usize| scores.iter().map(|scores| scores[option]).sum::<f64>() / scores.len() as f64;
    (0..options).map(of).collect()
}

/// The scores without their prior.
fn minus(scores: &[Vec<f64>], prior: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let pair = |(scores, prior): (&Vec<f64>, &Vec<f64>)| scores.iter().zip(prior).map(|(a, b)| a - b).collect();
    scores.iter().zip(prior).map(pair).collect()
}
