//! Whole evaluations of tiny random models.

#[path = "../../generate/tests/common/mod.rs"]
mod model;

mod common;

use std::collections::BTreeSet;

use common::{Folder, small};
use foehn_evaluate::{Error, EvaluateConfig, Evaluation, Report, Subject, compare, evaluate, score_labels};
use foehn_generate::StopReason;
use foehn_mistral::Packed;
use foehn_record::{Message, Role};
use model::Tiny;

impl Tiny {
    fn subject(&self) -> Subject<'_> {
        Subject { model: &self.model, tokenizer: &self.tokenizer, template: &self.template }
    }

    fn run(&self, name: &str) -> Evaluation {
        let config =
            EvaluateConfig { recognition_tokens: 12, production_tokens: 20, batch: 3, ..EvaluateConfig::default() };
        evaluate(name, self.subject(), &small(), &config, &mut |_, _| {}).unwrap()
    }
}

/// The log-likelihood of one answer, computed from the logits in f64.
fn log_likelihood(tiny: &Tiny, prompt: &str, label: &str) -> f64 {
    let messages = [Message::new(Role::User, prompt), Message::new(Role::Assistant, label)];
    let sample = tiny.template.sample(&tiny.tokenizer, &messages).unwrap();
    let ids = sample.input_ids();
    let positions: Vec<u32> = (0..ids.len() as u32).collect();
    let ends = vec![ids.len() as u32; ids.len()];
    let packed = Packed { input_ids: ids, position_ids: &positions, subtree_ends: &ends };
    let logits: Vec<f32> = tiny.model.logits(tiny.model.forward(packed)).into_data().try_into_vec().unwrap();
    let rows: Vec<&[f32]> = logits.chunks_exact(tiny.model.config().vocab_size).collect();
    let targets = (1..ids.len()).filter(|at| sample.loss_mask()[*at]);
    targets
        .map(|at| {
            let sum: f64 = rows[at - 1].iter().map(|logit| f64::from(*logit).exp()).sum();
            f64::from(rows[at - 1][ids[at] as usize]) - sum.ln()
        })
        .sum()
}

#[test]
fn scores_are_the_likelihoods_of_answer_and_stop_token() {
    let tiny = Tiny::new(7, 1.0);
    let prompts = ["What modality is: 'a bell'?", "Which?", "What modality is: 'a glow'?"].map(str::to_owned);
    // Labels with the same beginning, one of them the beginning of another: only the stop token distinguishes those.
    let labels = ["Vis", "Visual", "Vista", "Auditory"].map(str::to_owned);
    let expected: Vec<Vec<f64>> = prompts
        .iter()
        .map(|prompt| labels.iter().map(|label| log_likelihood(&tiny, prompt, label)).collect())
        .collect();
    for max_rows in [1, 90, 512] {
        let mut scored = 0;
        let found = score_labels(tiny.subject(), &prompts, &labels, max_rows, &mut |more| scored += more).unwrap();
        assert_eq!(scored, prompts.len());
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!((found - expected).abs() < 1e-3, "{found}, expected {expected}");
        }
    }
}

#[test]
fn a_run_counts_everything_once() {
    let tiny = Tiny::new(8, 1.0);
    let suite = small();
    let config =
        EvaluateConfig { recognition_tokens: 4, production_tokens: 6, scenes: Some(1), ..EvaluateConfig::default() };
    let mut steps = Vec::new();
    let run = evaluate("tiny", tiny.subject(), &suite, &config, &mut |done, total| steps.push((done, total))).unwrap();
    // Two questions about three probes and the content-free one, three answers, one scene with two labels.
    assert_eq!(steps.last(), Some(&(13, 13)));
    assert!(steps.is_sorted() && steps.iter().all(|(_, total)| *total == 13));
    assert_eq!(run.recognition.items.len(), 3);
    assert_eq!(run.stopping.recognition.answers, 3);
    let scenes: Vec<(&str, usize)> = run.production.items.iter().map(|item| (item.id.as_str(), item.asked)).collect();
    assert_eq!(scenes, [("s1", 0), ("s1", 1)]);
    assert_eq!(run.answers[1].question, "What modality is: 'That rings a bell, my friend.'?");
    let stopped = run.answers.iter().filter(|answer| answer.stop == StopReason::Eos).count();
    assert_eq!(run.stopping.recognition.stopped, stopped as f64 / 3.0);
    assert!(run.answers.iter().all(|answer| answer.tokens <= 4));
    assert_eq!(run, evaluate("tiny", tiny.subject(), &suite, &config, &mut |_, _| {}).unwrap());
}

#[test]
fn a_report_is_read_back_and_fits_a_terminal() {
    let (base, adapter) = (Tiny::new(8, 1.0).run("the base model"), Tiny::new(9, 1.0).run("an adapter of a long name"));
    let report = Report::new(&small(), base, Some(adapter), 1).unwrap();
    let folder = Folder::new(|_, text| text.to_owned());
    let path = folder.path("report.json");
    report.save(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    report.save(&path).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);

    let shown = report.to_string();
    let widths: BTreeSet<usize> = shown.lines().map(|line| line.chars().count()).collect();
    assert!(widths.last().is_some_and(|widest| *widest <= 100), "{shown}");
    for part in ["accuracy, idiom (1)", "Auditory: P, R, F1", "control text", "leakage", "off target, words held out"] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
}

#[test]
fn runs_over_different_items_are_not_compared() {
    let run = Tiny::new(8, 1.0).run("base");
    let same = compare(&run, &run, 3).unwrap();
    assert_eq!((same.recognition.test.p_value, same.recognition.difference.estimate), (1.0, 0.0));
    assert_eq!((same.recognition.items, same.production.items, same.per_class.len()), (3, 4, 2));
    let mut other = run.clone();
    other.recognition.items.pop();
    assert!(matches!(compare(&run, &other, 3), Err(Error::DifferentItems { what: "the probes", .. })));
    let mut other = run.clone();
    other.production.items.swap(0, 1);
    assert!(matches!(compare(&run, &other, 3), Err(Error::DifferentItems { what: "the scenes", .. })));
}

#[test]
fn settings_of_nothing_are_refused() {
    let tiny = Tiny::new(8, 1.0);
    let config = EvaluateConfig { batch: 0, ..EvaluateConfig::default() };
    let error = evaluate("tiny", tiny.subject(), &small(), &config, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, Error::Setting { field: "batch", found: 0, .. }));
}

#[test]
fn broken_weights_are_an_error() {
    // Sums over such a head overflow. A file with NaN could not be loaded.
    let tiny = Tiny::with_head(8, 1.0, f32::MAX);
    let error = evaluate("tiny", tiny.subject(), &small(), &EvaluateConfig::default(), &mut |_, _| {}).unwrap_err();
    assert!(matches!(&error, Error::NonFiniteScore { label, .. } if label == "Visual"), "{error}");
}
