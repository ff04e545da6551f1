//! Whole evaluations of tiny random models.

#[path = "../../generate/tests/common/mod.rs"]
mod model;

mod common;

use std::collections::BTreeSet;

use common::{Folder, small};
use foehn_evaluate::{
    Better, DataConfig, Decoding, Error, EvaluateConfig, Evaluation, Gate, Item, ItemRun, Judge, Measure, Outcome,
    Report, Subject, Suite, TaskRun, evaluate,
};
use foehn_generate::{SamplingConfig, StopReason};
use foehn_mistral::Packed;
use foehn_record::{Message, Record};
use model::Tiny;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

impl Tiny {
    fn subject(&self) -> Subject<'_> {
        Subject { model: &self.model, tokenizer: &self.tokenizer, template: &self.template, base: None }
    }

    fn run(&self, name: &str, suite: &Suite) -> Evaluation {
        let config = EvaluateConfig { batch: 3, ..EvaluateConfig::default() };
        evaluate(name, self.subject(), suite, &config, &mut |_, _| {}).unwrap()
    }
}

fn report(suite: &Suite, runs: Vec<Evaluation>) -> Report {
    Report::new(suite, &EvaluateConfig::default(), runs, 1).unwrap()
}

fn data(text: &str, config: &DataConfig) -> Result<Suite, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("held.jsonl");
    std::fs::write(&path, text).unwrap();
    Suite::from_data(&path, config)
}

/// The log-likelihoods of an answer's tokens and its stop token, computed from the logits in f64, and the answer's text
/// up to each of them.
fn log_likelihoods(tiny: &Tiny, prompt: &[Message], answer: &str) -> Vec<(f64, String)> {
    let prompt = prompt.iter().map(|message| Message { weight: Some(0), ..message.clone() });
    let messages: Vec<Message> = prompt.chain([Message::assistant(answer)]).collect();
    let sample = tiny.template.sample(&tiny.tokenizer, &messages).unwrap();
    let ids = sample.input_ids();
    let positions: Vec<u32> = (0..ids.len() as u32).collect();
    let ends = vec![ids.len() as u32; ids.len()];
    let packed = Packed { input_ids: ids, position_ids: &positions, subtree_ends: &ends };
    let logits: Vec<f32> = tiny.model.logits(tiny.model.forward(packed)).into_data().try_into_vec().unwrap();
    let rows: Vec<&[f32]> = logits.chunks_exact(tiny.model.config().vocab_size).collect();
    let targets: Vec<usize> = (1..ids.len()).filter(|at| sample.loss_mask()[*at]).collect();
    let one = |at: usize| {
        let sum: f64 = rows[at - 1].iter().map(|logit| f64::from(*logit).exp()).sum();
        let value = f64::from(rows[at - 1][ids[at] as usize]) - sum.ln();
        (value, tiny.tokenizer.decode(&ids[targets[0]..=at], true))
    };
    targets.iter().map(|at| one(*at)).collect()
}

fn sum(parts: impl IntoIterator<Item = (f64, String)>) -> f64 {
    parts.into_iter().map(|(value, _)| value).sum()
}

#[test]
fn whole_answers_are_scored_with_their_stop_token() {
    let tiny = Tiny::new(7, 1.0);
    // Labels with the same beginning, one of them the beginning of another: only the stop token distinguishes those.
    let labels = ["Vis", "Visual", "Vista", "Auditory"];
    let lines: String = labels.iter().cycle().take(8).enumerate().map(|(at, label)| {
        format!("{{\"messages\": [{{\"role\": \"system\", \"content\": \"Say it.\"}}, {{\"role\": \"user\", \"content\": \"Which is {at}?\"}}, {{\"role\": \"assistant\", \"content\": \"{label}\"}}]}}\n")
    }).collect();
    let suite = data(&lines, &DataConfig::default()).unwrap();
    assert_eq!(suite.tasks[0].labels(), ["Auditory", "Vis", "Vista", "Visual"]);
    for max_rows in [1, 90, 512] {
        let config = EvaluateConfig { max_rows, answers: Some(1), ..EvaluateConfig::default() };
        let run = evaluate("tiny", tiny.subject(), &suite, &config, &mut |_, _| {}).unwrap();
        for (item, found) in suite.tasks[0].items.iter().zip(&run.tasks[0].items) {
            for (prompt, found) in [(&item.prompts[0], &found.scores[0]), (&item.content_free[0], &found.prior[0])] {
                for (label, found) in suite.tasks[0].labels().iter().zip(found) {
                    let expected = sum(log_likelihoods(&tiny, prompt, label));
                    assert!((found - expected).abs() < 1e-3, "{found}, expected {expected}");
                }
            }
        }
    }
}

/// A label inside an answer is scored by its own tokens, after what stands before it, and without the stop token.
#[test]
fn a_label_inside_an_answer_is_scored_by_its_own_tokens() {
    let tiny = Tiny::new(11, 1.0);
    let check = |answers: &[(&str, &str)], rule: &str, labels: &[&str]| {
        let line = |(at, (before, after)): (usize, &(&str, &str))| {
            let answer = format!("{before}{}{after}", labels[at % labels.len()]);
            let record = Record::pair(format!("Which queue has ticket {at}?"), answer);
            serde_json::to_string(&record).unwrap() + "\n"
        };
        let text: String = answers.iter().enumerate().map(line).collect();
        let suite = data(&text, &DataConfig::default()).unwrap();
        let task = &suite.tasks[0];
        let Judge::Choice(choice) = &task.judge else { panic!("labels") };
        assert_eq!(choice.rule.to_string(), rule);
        let config = EvaluateConfig { answers: Some(1), ..EvaluateConfig::default() };
        let run = evaluate("tiny", tiny.subject(), &suite, &config, &mut |_, _| {}).unwrap();
        for ((item, found), (before, after)) in task.items.iter().zip(&run.tasks[0].items).zip(answers) {
            for (label, found) in task.labels().iter().zip(&found.scores[0]) {
                // The tokens that overlap the label, wherever their borders are.
                let said = format!("{before}{label}");
                let all = log_likelihoods(&tiny, &item.prompts[0], &format!("{said}{after}"));
                let starts: Vec<usize> = [0].into_iter().chain(all.iter().map(|(_, text)| text.len())).collect();
                let own = all
                    .into_iter()
                    .zip(starts)
                    .filter(|((_, text), start)| text.len() > before.len() && *start < said.len());
                let expected = sum(own.map(|(part, _)| part));
                assert!((found - expected).abs() < 1e-3, "{rule}, {label}: {found}, expected {expected}");
            }
        }
    };
    let replies = [("", "\nWe will look."), ("", "\nThank you."), ("", "\nIt is on its way."), ("", "\nSoon.")];
    check(&replies, "first-line", &["billing", "shipping"]);
    let json = [("{\"queue\": \"", "\", \"n\": 1}"), ("{\"queue\": \"", "\", \"n\": 25}")];
    check(&[json, json].concat(), "json:queue", &["billing", "shipping"]);
}

#[test]
fn what_answers_are_decides_how_they_are_judged() {
    let kinds = |lines: &[(&str, &str)], config: &DataConfig| -> Result<String, Error> {
        let line = |(at, (question, answer)): (usize, &(&str, &str))| {
            serde_json::to_string(&Record::pair(format!("{question} {at}?"), *answer)).unwrap() + "\n"
        };
        let text: String = lines.iter().enumerate().map(line).collect();
        let task = data(&text, config)?.tasks.remove(0);
        Ok(match task.judge {
            Judge::Choice(choice) => format!("{} {:?}", choice.rule, choice.labels),
            Judge::Text(scorers) => format!("{scorers:?}"),
            Judge::Describe(_) | Judge::Likelihood => String::new(),
        })
    };
    let any = DataConfig::default();
    let told = |rule: &str| DataConfig { rule: Some(rule.parse().unwrap()), ..DataConfig::default() };
    let same = [("a", "yes"), ("b", "no"), ("c", "yes"), ("d", "no")];
    assert_eq!(kinds(&same, &any).unwrap(), "whole [\"no\", \"yes\"]");
    assert_eq!(
        kinds(&same, &DataConfig { is_text: true, ..any.clone() }).unwrap(),
        "[Likelihood, Exact, Normalised, Chrf]"
    );
    let texts = [("a", "A dog."), ("b", "Cats sleep all day long."), ("c", "No idea.")];
    assert_eq!(kinds(&texts, &any).unwrap(), "[Likelihood, Exact, Normalised, Chrf]");
    let json = [("a", "{\"x\": 1}"), ("b", "{\"x\": 2}")];
    assert_eq!(kinds(&json, &any).unwrap(), "[Likelihood, Exact, Json]");
    let queue = [("a", "Queue: x\nHello"), ("b", "Queue: y\nBye"), ("c", "Queue: x\nNo"), ("d", "Queue: y\nYes")];
    assert_eq!(kinds(&queue, &told("regex:Queue: (\\w)")).unwrap(), "regex:Queue: (\\w) [\"x\", \"y\"]");

    let one = kinds(&[("a", "yes"), ("b", "yes")], &any).unwrap_err();
    assert!(matches!(&one, Error::OneLabel { place, .. } if place.ends_with("held.jsonl:1")), "{one}");
    let none = kinds(&[("a", "Queue: x"), ("b", "no queue")], &told("regex:Queue: (\\w)")).unwrap_err();
    assert!(matches!(&none, Error::NoLabel { place, .. } if place.ends_with("held.jsonl:2")), "{none}");
    let labels = DataConfig { labels: ["yes", "maybe"].map(str::to_owned).to_vec(), ..any };
    let unseen = kinds(&same, &labels).unwrap_err();
    assert!(unseen.to_string().contains("held.jsonl:2") && unseen.to_string().contains("no"), "{unseen}");
}

#[test]
fn multiple_choice_questions_of_other_projects_are_read() {
    let tiny = Tiny::new(5, 1.0);
    let text = r#"{"query": "2 + 2", "choices": ["three", "four", "five"], "gold": 1}
{"question": "Capital of France?", "choices": {"text": ["Rome", "Paris"], "label": ["1", "2"]}, "answerKey": "2"}
{"question": "Which?", "choices": ["it", "that"], "answer": "B"}
"#;
    let suite = data(text, &DataConfig::default()).unwrap();
    assert_eq!(suite.tasks[0].items.iter().map(|item| item.truth).collect::<Vec<_>>(), [1, 1, 1]);
    let run = tiny.run("tiny", &suite);
    for (item, found) in suite.tasks[0].items.iter().zip(&run.tasks[0].items) {
        for (option, found) in item.options.iter().zip(&found.scores[0]) {
            let expected = sum(log_likelihoods(&tiny, &item.prompts[0], option));
            assert!((found - expected).abs() < 1e-3, "{option}: {found}, expected {expected}");
        }
    }
    let wrong = text.replace("\"gold\": 1", "\"gold\": 3");
    let error = data(&wrong, &DataConfig::default()).unwrap_err();
    assert!(error.to_string().contains("held.jsonl:1") && error.to_string().contains("gold"), "{error}");
}

#[test]
fn a_run_asks_what_it_is_told_to() {
    let tiny = Tiny::new(8, 1.0);
    let suite = small();
    let config = EvaluateConfig { answers: Some(2), ..EvaluateConfig::default() };
    let mut steps = Vec::new();
    let run = evaluate("tiny", tiny.subject(), &suite, &config, &mut |done, total| steps.push((done, total))).unwrap();
    assert!(steps.is_sorted() && steps.last().is_some_and(|(done, total)| done == total));
    let answered = |task: usize| {
        let items = suite.tasks[task].items.iter().zip(&run.tasks[task].items);
        items.filter(|(_, run)| !run.answers.is_empty()).map(|(item, _)| item.id.as_str()).collect::<Vec<_>>()
    };
    // Two of three sentences, and both scenes, each for another label.
    assert_eq!(answered(0), ["p1", "p2"]);
    assert_eq!(answered(1), ["s1 Visual", "s2 Auditory"]);
    let figure = |task: usize, name: &str| {
        run.tasks[task].measures.iter().find(|measure| measure.name == name).unwrap_or_else(|| panic!("{name}"))
    };
    let answers: Vec<_> = run.tasks[0].items.iter().flat_map(|item| &item.answers).collect();
    let stopped = answers.iter().filter(|answer| answer.stop == StopReason::Eos).count();
    assert_eq!(figure(0, "answers/end in the stop token").value(), stopped as f64 / 2.0);
    assert!(answers.iter().all(|answer| answer.tokens <= 12));
    let right = |(item, run): (&Item, &ItemRun)| run.predicted.as_ref() == Some(&suite.tasks[0].labels()[item.truth]);
    let right = suite.tasks[0].items.iter().zip(&run.tasks[0].items).filter(|pair| right(*pair)).count();
    assert_eq!(figure(0, "likelihood/accuracy").value(), right as f64 / 3.0);
    assert_eq!(run, evaluate("tiny", tiny.subject(), &suite, &config, &mut |_, _| {}).unwrap());
}

/// What answers need and quote, and how fluent they are by the base, recomputed from the answers.
#[test]
fn texts_are_judged_by_what_they_need_and_quote_and_by_the_base() {
    let folder = Folder::new(|_, text| text.to_owned());
    let suite = r#"
        name = "why"
        [[task]]
        name = "why"
        kind = "text"
        file = "why.jsonl"
        prompts = ["Why {word}?"]
        scorers = ["needs", "quotes"]
        max_new_tokens = 30
    "#;
    let (tiny, base) = (Tiny::new(5, 1.0), Tiny::new(6, 1.0));
    folder.write("why.toml", suite);
    let line = |n: usize| format!(r#"{{"word": "w{n}", "needs": [["none of these", "{n}"]]}}"#);
    folder.write("why.jsonl", &(0..6).map(line).collect::<Vec<_>>().join("\n"));
    let suite = Suite::open(folder.path("why.toml")).unwrap();
    let config = EvaluateConfig { max_rows: 50, ..EvaluateConfig::default() };
    let subject = Subject { base: Some(&base.model), ..tiny.subject() };
    let found = evaluate("tiny", subject, &suite, &config, &mut |_, _| {}).unwrap();
    let value = |name: &str| {
        let measures = &found.tasks[0].measures;
        measures.iter().find(|measure| measure.name == name).unwrap_or_else(|| panic!("{name}")).value()
    };
    let (mut needed, mut quoted, mut fluency) = (0, 0, Vec::new());
    for (item, run) in suite.tasks[0].items.iter().zip(&found.tasks[0].items) {
        let text = run.answers[0].text.as_str();
        needed += usize::from(foehn_evaluate::contains(text, &item.needs[0]));
        let quotes = foehn_evaluate::quotes(text);
        let is_given = |quote: &&str| foehn_evaluate::contains(item.question(), [*quote]);
        quoted += usize::from(!quotes.is_empty() && quotes.iter().all(is_given));
        if !text.trim().is_empty() {
            fluency.extend(log_likelihoods(&base, &item.prompts[0], text.trim()).into_iter().map(|(value, _)| value));
        }
    }
    assert!((value("text/has all that is needed") - needed as f64 / 6.0).abs() < 1e-12);
    assert!((value("text/quotes the question") - quoted as f64 / 6.0).abs() < 1e-12);
    let mean = fluency.iter().sum::<f64>() / fluency.len() as f64;
    assert!((value("answers/log-likelihood per token by the base") - mean).abs() < 1e-4, "{mean}");
}

#[test]
fn an_answer_does_not_depend_on_its_batch() {
    let tiny = Tiny::new(13, 1.0);
    let suite = small();
    let decoding =
        Decoding { sampling: SamplingConfig { temperature: 0.8, ..SamplingConfig::default() }, seeds: vec![4, 5] };
    let run = |batch| {
        let config = EvaluateConfig { batch, decoding: decoding.clone(), ..EvaluateConfig::default() };
        evaluate("tiny", tiny.subject(), &suite, &config, &mut |_, _| {}).unwrap()
    };
    let (one, all) = (run(1), run(16));
    let texts = |run: &Evaluation| -> Vec<Vec<String>> {
        let items = run.tasks.iter().flat_map(|task| &task.items);
        items.map(|item| item.answers.iter().map(|answer| answer.text.clone()).collect()).collect()
    };
    assert_eq!(texts(&one), texts(&all));
    // Labels are answered once and greedily, descriptions once for each seed.
    assert_eq!(texts(&one).iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1, 2, 2, 2, 2]);
    assert_ne!(texts(&one)[3][0], texts(&one)[3][1]);
}

#[test]
fn a_report_is_read_back_and_fits_a_terminal() {
    let suite = small();
    let names = ["the base model", "an adapter of a long name", "another"];
    let runs: Vec<Evaluation> = (8..).zip(names).map(|(seed, name)| Tiny::new(seed, 1.0).run(name, &suite)).collect();
    for runs in [&runs[..1], &runs[..2], &runs[..]] {
        let report = report(&suite, runs.to_vec());
        let folder = Folder::new(|_, text| text.to_owned());
        let path = folder.path("report.json");
        report.save(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);

        let shown = report.to_string();
        let widths: BTreeSet<usize> = shown.lines().map(|line| line.chars().count()).collect();
        assert!(widths.last().is_some_and(|widest| *widest <= 100), "{shown}");
        for part in ["idiom (1)", "precision, recall, F1", "control text", "class words", "off target, words held out"]
        {
            assert!(shown.contains(part), "{part} is not in\n{shown}");
        }
    }
}

#[test]
fn a_run_is_no_better_than_itself() {
    let suite = small();
    let run = Tiny::new(8, 1.0).run("base", &suite);
    let report = report(&suite, vec![run.clone(), run.clone()]);
    for task in &report.tasks {
        assert_eq!(task.verdicts[0].outcome, Outcome::NoDifference);
        assert!(task.verdicts[0].gained.is_empty() && task.verdicts[0].lost.is_empty());
        for compared in task.figures.iter().flat_map(|figure| &figure.compared) {
            assert_eq!((compared.p_value, compared.difference.estimate, compared.difference.high), (1.0, 0.0, 0.0));
        }
    }
    let mut other = run.clone();
    other.tasks[0].items.pop();
    let config = EvaluateConfig::default();
    assert!(matches!(Report::new(&suite, &config, vec![run, other], 3), Err(Error::DifferentItems { .. })));
}

/// Nothing is learned where labels are drawn by lot: the verdict says so in 95 of 100 cases or more. Beside a base that
/// names no label at all, whoever guesses is better, and the verdict says that it may be guessing.
#[test]
fn chance_is_no_difference() {
    let items = 40;
    let lines = |labels: &[bool]| -> String {
        let line = |(at, label): (usize, &bool)| {
            serde_json::to_string(&Record::pair(format!("Ticket {at}?"), if *label { "yes" } else { "no" })).unwrap()
                + "\n"
        };
        labels.iter().enumerate().map(line).collect()
    };
    let labels: Vec<bool> = (0..items).map(|at| at % 2 == 0).collect();
    let suite = data(&lines(&labels), &DataConfig::default()).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let run = |name: &str, sums: Vec<f64>| {
        let measure =
            Measure { name: "likelihood/accuracy".into(), better: Better::Higher, sums, counts: vec![1.0; items] };
        let task = TaskRun {
            measures: vec![measure],
            classified: Vec::new(),
            reliability: None,
            leakage: None,
            items: vec![ItemRun::default(); items],
        };
        Evaluation { name: name.into(), tasks: vec![task] }
    };
    let mut guesses = || (0..items).map(|_| f64::from(rng.next_u32() % 2)).collect::<Vec<f64>>();
    let verdict = |first: Vec<f64>, second: Vec<f64>| {
        let report = report(&suite, vec![run("base", first), run("adapter", second)]);
        (report.tasks[0].verdicts[0].outcome, report.tasks[0].verdicts[0].guess, report.to_string())
    };
    let shown = (0..100).filter(|_| verdict(guesses(), guesses()).0 != Outcome::NoDifference).count();
    assert!(shown <= 9, "{shown} of 100 comparisons of guesses show a difference");
    let silent = || vec![0.0; items];
    let told = (0..100).filter(|_| verdict(silent(), guesses()).1 == Some(0.5)).count();
    assert!(told >= 91, "{told} of 100 guessers are told");
    let (outcome, guess, said) = verdict(silent(), (0..items).map(|at| f64::from(u8::from(at % 10 > 0))).collect());
    assert!(outcome == Outcome::Better && guess.is_none() && !said.contains("guessing"), "{said}");
    let (_, _, said) = verdict(silent(), (0..items).map(|at| f64::from(u8::from(at % 2 > 0))).collect());
    assert!(said.contains("it may be guessing: one label for all 40 items gives 0.500"), "{said}");

    // Where each item has its own options, a guesser has one in three right, and in one of two.
    let line = |at: usize| {
        format!(
            r#"{{"query": "{at}?", "choices": {}, "gold": 0}}"#,
            ["[\"a\", \"b\"]", "[\"a\", \"b\", \"c\"]"][at % 2]
        )
    };
    let options = data(&(0..items).map(line).collect::<Vec<_>>().join("\n"), &DataConfig::default()).unwrap();
    let sums = (0..items).map(|at| f64::from(u8::from(at % 5 < 2))).collect();
    let report = report(&options, vec![run("base", silent()), run("adapter", sums)]);
    assert!((report.tasks[0].verdicts[0].guess.unwrap() - (0.5 + 1.0 / 3.0) / 2.0).abs() < 1e-12);
    assert!(report.to_string().contains("it may be guessing: any option gives 0.417"), "{report}");
}

#[test]
fn a_gate_holds_a_report_to_its_floors() {
    let suite = small();
    let report = report(&suite, vec![Tiny::new(8, 1.0).run("base", &suite), Tiny::new(9, 1.0).run("adapter", &suite)]);
    let value = report.tasks[0].figure("likelihood/accuracy", None).unwrap().values[1].estimate;
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str| -> Result<Vec<bool>, Error> {
        let path = folder.path().join("gate.toml");
        std::fs::write(&path, text).unwrap();
        Ok(Gate::open(&path)?.check(&report)?.iter().map(|floor| floor.holds).collect())
    };
    let floor = |rest: &str| format!("[[floor]]\ntask = \"recognition\"\nfigure = \"likelihood/accuracy\"\n{rest}\n");
    assert_eq!(check(&floor(&format!("at_least = {value}"))).unwrap(), [true]);
    assert_eq!(check(&floor(&format!("at_least = {}", value + 0.01))).unwrap(), [false]);
    assert_eq!(check(&floor(&format!("at_most = {}\nat_least = 0", value - 0.01))).unwrap(), [true, false]);
    assert_eq!(check(&floor("slice = \"idiom\"\nat_most = 1.0")).unwrap(), [true]);
    assert_eq!(check(&floor("difference_at_least = -1\ndifference_at_most = -1.1")).unwrap(), [true, false]);
    for (wrong, expected) in [
        (floor("slice = \"none\"\nat_least = 0"), "slice `none`"),
        (floor("run = \"b\"\nat_least = 0"), "the run `b`"),
        (floor("at_least = 0").replace("recognition", "regognition"), "regognition"),
        (floor("at_least = 0").replace("accuracy", "precision"), "likelihood/precision"),
    ] {
        let error = check(&wrong).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    for wrong in [floor(""), "floor = []".to_owned(), floor("at_lest = 0")] {
        assert!(matches!(check(&wrong), Err(Error::GateSyntax { .. })), "{wrong}");
    }
}

#[test]
fn settings_of_nothing_are_refused() {
    let tiny = Tiny::new(8, 1.0);
    let config = EvaluateConfig { batch: 0, ..EvaluateConfig::default() };
    let error = evaluate("tiny", tiny.subject(), &small(), &config, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, Error::Setting { field: "batch", found: 0, .. }));
}

#[test]
fn an_item_that_does_not_fit_is_named() {
    let tiny = Tiny::new(8, 1.0);
    let long = "word ".repeat(20_000);
    let lines: String = [("a", "yes"), (long.as_str(), "no"), ("c", "yes"), ("d", "no")]
        .iter()
        .map(|(question, answer)| serde_json::to_string(&Record::pair(*question, *answer)).unwrap() + "\n")
        .collect();
    let suite = data(&lines, &DataConfig::default()).unwrap();
    let error = evaluate("tiny", tiny.subject(), &suite, &EvaluateConfig::default(), &mut |_, _| {}).unwrap_err();
    assert!(matches!(&error, Error::Render { place, .. } if place.ends_with("held.jsonl:2")), "{error}");
}

#[test]
fn broken_weights_are_an_error() {
    // Sums over such a head overflow. A file with NaN could not be loaded.
    let tiny = Tiny::with_head(8, 1.0, f32::MAX);
    let error = evaluate("tiny", tiny.subject(), &small(), &EvaluateConfig::default(), &mut |_, _| {}).unwrap_err();
    assert!(matches!(&error, Error::NonFiniteScore { text, .. } if text == "Visual"), "{error}");
}

/// A held-out question that stands within a longer one is not trained on; the same question is.
#[test]
fn only_the_same_question_is_a_leak_of_a_record() {
    let records = [("Why?", "yes"), ("Who?", "no"), ("Why so?", "yes"), ("What?", "no")];
    let records = records.map(|(question, answer)| Record::pair(question, answer));
    let suite = Suite::from_records("held out", &records, &DataConfig::default()).unwrap();
    let check = |question: &str| foehn_evaluate::check_disjoint(&suite, [&Record::pair(question, "yes")]);
    assert!(check("Tell me: why? And who?").is_ok());
    assert!(matches!(check("why"), Err(Error::Leak { .. })));
}
