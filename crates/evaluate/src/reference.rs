//! Compares generated texts with their references.

use serde_json::Value;

use crate::answer::mean_of;
use crate::measure::{Better, Measure, share};
use crate::text::{JsonMatch, chrf, contains, normalised, quotes};
use crate::{Answer, Item, Scorer};

/// The figures of answers by the task's scorers, without [`Scorer::Likelihood`].
pub(crate) fn figures(scorers: &[Scorer], items: &[Item], answers: &[Vec<Answer>]) -> Vec<Measure> {
    let each = |name: &str, value: &dyn Fn(&Item, &Answer) -> f64| {
        let values = items.iter().zip(answers);
        let values = values.map(|(item, answers)| mean_of(answers, |answer| value(item, answer)));
        Measure::mean(&format!("text/{name}"), Better::Higher, values)
    };
    let mut measures = Vec::new();
    for scorer in scorers {
        match scorer {
            Scorer::Likelihood => {}
            Scorer::Exact => {
                measures.push(each("exact match", &|item, answer| share(answer.text.trim() == item.reference.trim())))
            }
            Scorer::Normalised => measures.push(each("match, normalised", &|item, answer| {
                share(normalised(&answer.text) == normalised(&item.reference))
            })),
            Scorer::Chrf => measures.push(each("chrF", &|item, answer| chrf(&answer.text, &item.reference))),
            Scorer::Contains => measures.push(each("contains an accepted answer", &|item, answer| {
                share(contains(&answer.text, &item.accepted))
            })),
            Scorer::Needs => measures.push(each("has all that is needed", &|item, answer| {
                share(item.needs.iter().all(|texts| contains(&answer.text, texts)))
            })),
            Scorer::Quotes => measures.push(each("quotes the question", &|item, answer| {
                let quotes = quotes(&answer.text);
                share(!quotes.is_empty() && quotes.iter().all(|quote| contains(item.question(), [quote])))
            })),
            Scorer::Json => measures.extend(json(items, answers)),
        }
    }
    if scorers.contains(&Scorer::Chrf) {
        let words = |text: &str| text.split_whitespace().count() as f64;
        let reference = items.iter().zip(answers);
        let reference = reference.map(|(item, answers)| (!answers.is_empty()).then(|| words(&item.reference)));
        measures.push(Measure::mean("text/words of the reference", Better::Neither, reference));
    }
    measures
}

/// Whether answers are JSON, and the share of the references' values that they have.
fn json(items: &[Item], answers: &[Vec<Answer>]) -> Vec<Measure> {
    let matches: Vec<Vec<JsonMatch>> = items
        .iter()
        .zip(answers)
        .map(|(item, answers)| {
            let reference: Value = serde_json::from_str(&item.reference).unwrap_or(Value::Null);
            answers.iter().map(|answer| JsonMatch::new(&answer.text, &reference)).collect()
        })
        .collect();
    let mean = |value: fn(&JsonMatch) -> f64| {
        matches.iter().map(move |of| (!of.is_empty()).then(|| of.iter().map(value).sum::<f64>() / of.len() as f64))
    };
    let right = matches.iter().map(|of| {
        let sum =
            of.iter().fold((0.0, 0.0), |(right, all), found| (right + found.right as f64, all + found.fields as f64));
        (!of.is_empty()).then_some(sum)
    });
    let all_right = |found: &JsonMatch| share(found.valid && found.right == found.fields && found.extra == 0);
    vec![
        Measure::mean("text/valid JSON", Better::Higher, mean(|found| share(found.valid))),
        Measure::new("text/JSON values right", Better::Higher, right),
        Measure::mean("text/all JSON values right", Better::Higher, mean(all_right)),
    ]
}
