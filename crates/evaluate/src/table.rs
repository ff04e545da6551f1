//! Prints a report as tables for a terminal.

use crate::{Evaluation, Interval, McNemar, Paired, ProductionFigures, Report, StopFigures};

/// The width of a row's name.
const NAME: usize = 31;

/// The width of a run's column.
const COLUMN: usize = 15;

/// The width of a matrix's column, and of the label in front of a row.
const CELL: usize = 8;

/// The whole report.
pub(crate) fn render(report: &Report) -> String {
    let mut page = Page { report, text: String::new() };
    page.head();
    page.recognition();
    page.production();
    page.stopping();
    page.matrices("confusion: rows are true, columns predicted", |run| {
        let confusion = &run.recognition.likelihood.classification.confusion;
        confusion.iter().map(|row| row.iter().map(u64::to_string).collect()).collect()
    });
    page.matrices("leakage: rows are asked, columns the share of each label's words", |run| {
        let leakage = &run.production.all.leakage;
        leakage.iter().map(|row| row.iter().map(|share| format!("{share:.2}")).collect()).collect()
    });
    page.text
}

struct Page<'a> {
    report: &'a Report,
    text: String,
}

impl Page<'_> {
    fn runs(&self) -> impl Iterator<Item = &Evaluation> {
        [&self.report.base].into_iter().chain(&self.report.adapter)
    }

    fn line(&mut self, text: &str) {
        self.text.push_str(text.trim_end());
        self.text.push('\n');
    }

    /// A metric of each run, and a remark.
    fn row(&mut self, name: &str, value: impl Fn(&Evaluation) -> String, remark: &str) {
        let values: String = self.runs().map(|run| format!("{:>COLUMN$}", value(run))).collect();
        self.line(&format!("  {:<NAME$}{values}   {remark}", cut(name, NAME)));
    }

    fn share(&mut self, name: &str, value: impl Fn(&Evaluation) -> f64) {
        self.row(name, |run| format!("{:.3}", value(run)), "");
    }

    /// A share of each run, with the confidence interval and test of their difference.
    fn compared(&mut self, name: &str, value: impl Fn(&Evaluation) -> f64, paired: Option<Paired>) {
        let remark = paired.map(|paired| format!("{}; {}", interval(paired.difference), test(paired.test)));
        self.row(name, |run| format!("{:.3}", value(run)), &remark.unwrap_or_default());
    }

    fn head(&mut self) {
        let Report { suite, hashes, base, .. } = self.report;
        let hash = |hash: &str| hash.chars().take(12).collect::<String>();
        self.line(&format!("suite {}", cut(suite, 90)));
        self.line(&format!(
            "  {:<12}{} probes, sha256 {}…",
            "recognition",
            base.recognition.items.len(),
            hash(&hashes.recognition)
        ));
        self.line(&format!(
            "  {:<12}{} descriptions, sha256 {}…",
            "production",
            base.production.items.len(),
            hash(&hashes.production)
        ));
        self.line("");
        let names: String = self.runs().map(|run| format!("{:>COLUMN$}", cut(&run.name, COLUMN - 1))).collect();
        let remark = if self.report.comparison.is_some() { "difference [95%]; exact McNemar" } else { "" };
        self.line(&format!("  {:<NAME$}{names}   {remark}", ""));
    }

    fn recognition(&mut self) {
        let compared = self.report.comparison.as_ref().map(|comparison| comparison.recognition);
        self.line("recognition, from log-likelihoods");
        self.compared("accuracy", |run| run.recognition.likelihood.classification.accuracy, compared);
        self.share("macro-F1", |run| run.recognition.likelihood.classification.macro_f1);
        self.share("MCC (R_K)", |run| run.recognition.likelihood.classification.mcc);
        self.share("Brier score (0 to 2, 0 is best)", |run| run.recognition.likelihood.brier);
        self.share("consistency over paraphrases", |run| run.recognition.likelihood.consistency);
        for (question, text) in self.report.questions.iter().enumerate() {
            let name = format!("  accuracy, {text}");
            self.share(&name, |run| run.recognition.likelihood.per_question.get(question).copied().unwrap_or(0.0));
        }
        for (kind, slice) in &self.report.base.recognition.likelihood.slices {
            let accuracy =
                |run: &Evaluation| run.recognition.likelihood.slices.get(kind).map_or(0.0, |slice| slice.accuracy);
            self.share(&format!("  accuracy, {kind} ({})", slice.probes), accuracy);
        }
        for (index, label) in self.report.labels.iter().enumerate() {
            let class = |run: &Evaluation| run.recognition.likelihood.classification.per_class.get(index).copied();
            let shown = |run: &Evaluation| {
                class(run).map_or_else(String::new, |class| {
                    format!("{:.2} {:.2} {:.2}", class.precision, class.recall, class.f1)
                })
            };
            let tests = self.report.comparison.as_ref().and_then(|comparison| comparison.per_class.get(index));
            let remark = tests.map(|class| format!("recall {:+.3}; p {} (Holm)", class.difference, p(class.p_holm)));
            self.row(&format!("  {label}: P, R, F1"), shown, &remark.unwrap_or_default());
        }
        self.line("recognition, from domain-conditional PMI");
        self.share("accuracy", |run| run.recognition.pmi.classification.accuracy);
        self.share("macro-F1", |run| run.recognition.pmi.classification.macro_f1);
        self.share("MCC (R_K)", |run| run.recognition.pmi.classification.mcc);
    }

    fn production(&mut self) {
        let compared = self.report.comparison.as_ref().map(|comparison| comparison.production);
        self.line("production, greedy, by the lexicon");
        self.compared("in the asked sense alone", |run| run.production.all.pure, compared);
        for (index, label) in self.report.labels.iter().enumerate() {
            let pure = |run: &Evaluation| run.production.all.pure_per_label.get(index).copied().unwrap_or(0.0);
            self.share(&format!("  {label}"), pure);
        }
        self.share("sense words off target", |run| run.production.all.off_target);
        self.share("answers with a sense word", |run| run.production.all.coverage);
        self.row("mean length in words", |run| format!("{:.1}", mean_words(&run.production.all)), "");
        if self.report.base.production.unseen.is_some() {
            self.share("off target, words seen in data", |run| run.production.seen.off_target);
            let unseen = |run: &Evaluation| run.production.unseen.as_ref().map_or(0.0, |unseen| unseen.off_target);
            self.share("off target, words held out", unseen);
        }
    }

    fn stopping(&mut self) {
        self.line("stopping, after recognition questions");
        self.ends(|run| run.stopping.recognition);
        self.line("stopping, after descriptions");
        self.ends(|run| run.stopping.production);
    }

    fn ends(&mut self, figures: impl Fn(&Evaluation) -> StopFigures) {
        self.share("end in the stop token", |run| figures(run).stopped);
        self.share("go on to a further question", |run| figures(run).goes_on);
        self.share("control text", |run| figures(run).control_text);
    }

    /// A matrix for each run.
    fn matrices(&mut self, title: &str, cells: impl Fn(&Evaluation) -> Vec<Vec<String>>) {
        let labels = self.report.labels.clone();
        let blocks: Vec<(String, Vec<Vec<String>>)> = self.runs().map(|run| (run.name.clone(), cells(run))).collect();
        for (name, rows) in blocks {
            self.line("");
            self.line(&format!("{title} ({})", cut(&name, 20)));
            let head: String = labels.iter().map(|label| format!("{:>CELL$}", cut(label, CELL - 1))).collect();
            self.line(&format!("  {:<CELL$}{head}", ""));
            for (label, row) in labels.iter().zip(rows) {
                let row: String = row.iter().map(|cell| format!("{cell:>CELL$}")).collect();
                self.line(&format!("  {:<CELL$}{row}", cut(label, CELL - 1)));
            }
        }
    }
}

fn mean_words(figures: &ProductionFigures) -> f64 {
    crate::metrics::mean(figures.mean_words.iter().copied())
}

fn interval(Interval { estimate, low, high }: Interval) -> String {
    format!("{estimate:+.3} [{low:+.2}, {high:+.2}]")
}

fn test(test: McNemar) -> String {
    format!("p {}", p(test.p_value))
}

fn p(value: f64) -> String {
    if value < 0.001 { "<0.001".to_owned() } else { format!("{value:.3}") }
}

/// The first `width` characters.
fn cut(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        None => text.to_owned(),
        Some(_) => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
    }
}
